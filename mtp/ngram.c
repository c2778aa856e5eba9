/* ngram.c - see ngram.h. For every length an index by hash: the latest place behind which those tokens end,
 * and for each place the one before it with the same hash. Hashes only lead to places; tokens are
 * compared. */
#include "ngram.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NO_PLACE = -1, MOST_STEPS = 8 }; /* places looked at for one length */

struct index {
    int32_t *latest; /* [1 << bits] place + 1, 0 none */
    int32_t *before; /* [n_tokens] of the place that ends behind token i, the earlier one; as latest */
};

struct ngram {
    int32_t *text;
    uint32_t n, most;
    uint32_t bits;
    struct index indices[NGRAM_LENGTHS]; /* of the longest first */
};

static uint32_t bits_for(uint32_t n_tokens)
{
    uint32_t bits = 8;
    while (bits < 24 && (1u << bits) < n_tokens)
        bits++;
    return bits;
}

size_t ngram_bytes(uint32_t n_tokens)
{
    size_t places = (size_t)n_tokens + ((size_t)1 << bits_for(n_tokens));
    return sizeof(struct ngram) + sizeof(int32_t) * (n_tokens + NGRAM_LENGTHS * places);
}

struct ngram *ngram_open(uint32_t n_tokens)
{
    struct ngram *ngram = calloc(1, sizeof *ngram);
    if (ngram == NULL)
        return NULL;
    ngram->most = n_tokens;
    ngram->bits = bits_for(n_tokens);
    ngram->text = calloc((size_t)n_tokens + 1, sizeof *ngram->text);
    bool enough = ngram->text != NULL;
    for (int i = 0; i < NGRAM_LENGTHS; i++) {
        struct index *index = &ngram->indices[i];
        index->latest = calloc((size_t)1 << ngram->bits, sizeof *index->latest);
        index->before = calloc((size_t)n_tokens + 1, sizeof *index->before);
        enough = enough && index->latest != NULL && index->before != NULL;
    }
    if (enough)
        return ngram;
    ngram_close(ngram);
    return NULL;
}

void ngram_close(struct ngram *ngram)
{
    if (ngram == NULL)
        return;
    for (int i = 0; i < NGRAM_LENGTHS; i++) {
        free(ngram->indices[i].latest);
        free(ngram->indices[i].before);
    }
    free(ngram->text);
    free(ngram);
}

static uint32_t length_of(int i)
{
    return (uint32_t)(NGRAM_LONGEST - i);
}

/* Of the `length` tokens that end with tokens[-1]. */
static uint32_t hash(const struct ngram *ngram, const int32_t *end, uint32_t length)
{
    uint64_t h = length;
    for (uint32_t i = 0; i < length; i++)
        h = (h ^ (uint32_t)end[-1 - (int32_t)i]) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> (64 - ngram->bits));
}

void ngram_add(struct ngram *ngram, const int32_t *tokens, size_t n)
{
    for (size_t t = 0; t < n && ngram->n < ngram->most; t++) {
        ngram->text[ngram->n++] = tokens[t];
        for (int i = 0; i < NGRAM_LENGTHS; i++) {
            struct index *index = &ngram->indices[i];
            if (ngram->n < length_of(i))
                continue;
            int32_t *latest = &index->latest[hash(ngram, ngram->text + ngram->n, length_of(i))];
            index->before[ngram->n] = *latest;
            *latest = (int32_t)ngram->n + 1;
        }
    }
}

/* Places are unlinked from the last on, so that what was before them is found again. */
void ngram_cut(struct ngram *ngram, uint32_t n_tokens)
{
    for (; ngram->n > n_tokens; ngram->n--)
        for (int i = 0; i < NGRAM_LENGTHS; i++)
            if (ngram->n >= length_of(i)) {
                struct index *index = &ngram->indices[i];
                index->latest[hash(ngram, ngram->text + ngram->n, length_of(i))] = index->before[ngram->n];
            }
}

uint32_t ngram_length(const struct ngram *ngram)
{
    return ngram->n;
}

/* The latest place behind which the `length` tokens before `end` stood; NO_PLACE. */
static int32_t find(const struct ngram *ngram, int i, const int32_t *end)
{
    const struct index *index = &ngram->indices[i];
    uint32_t length = length_of(i);
    int32_t at = index->latest[hash(ngram, end, length)] - 1;
    for (int steps = 0; at != NO_PLACE && steps < MOST_STEPS; steps++) {
        if (memcmp(ngram->text + (uint32_t)at - length, end - length, length * sizeof *end) == 0)
            return at;
        at = index->before[at] - 1;
    }
    return NO_PLACE;
}

/* How many tokens stand both before `at` and before `next`, which is one of them; `length` do. */
static uint32_t compare_back(const struct ngram *ngram, uint32_t at, uint32_t length)
{
    while (length < at && length < NGRAM_COMPARED &&
           ngram->text[at - length - 1] == ngram->text[ngram->n - length])
        length++;
    return length;
}

/* The text from `at` on, then the token that is to follow it, then the drafts themselves. */
static uint32_t copy(const struct ngram *ngram, uint32_t at, int32_t next, uint32_t most, int32_t *drafts)
{
    for (uint32_t i = 0; i < most; i++) {
        uint32_t from = at + i;
        if (from < ngram->n)
            drafts[i] = ngram->text[from];
        else
            drafts[i] = from == ngram->n ? next : drafts[from - ngram->n - 1];
    }
    return most;
}

uint32_t ngram_draft(const struct ngram *ngram, int32_t next, uint32_t most, int32_t *drafts,
                     uint32_t *matched)
{
    int32_t end[NGRAM_LONGEST];
    uint32_t n = ngram->n < NGRAM_LONGEST - 1 ? ngram->n : NGRAM_LONGEST - 1;
    memcpy(end + NGRAM_LONGEST - 1 - n, ngram->text + ngram->n - n, n * sizeof *end);
    end[NGRAM_LONGEST - 1] = next;
    *matched = 0;
    for (int i = 0; i < NGRAM_LENGTHS && most > 0; i++) {
        int32_t at = length_of(i) <= n + 1 ? find(ngram, i, end + NGRAM_LONGEST) : NO_PLACE;
        if (at == NO_PLACE)
            continue;
        *matched = compare_back(ngram, (uint32_t)at, length_of(i));
        return copy(ngram, (uint32_t)at, next, most, drafts);
    }
    return 0;
}
