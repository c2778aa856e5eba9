/* Byte-pair encoding of one word: of all neighbours that may be merged, the pair with the lowest
 * rank is merged first, of equal pairs the leftmost, until nothing can be merged.
 *
 * Short words, which is nearly all, are searched for that pair anew after every merge; long ones
 * keep the pairs in buckets by rank, so that even ten million times one letter take a few steps for
 * each, and few of them wait for memory. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

#define SHORT_WORD 48
#define KEPT_POSITIONS 4096 /* a larger bucket gives its memory back as soon as it is empty */
#define NOWHERE UINT32_MAX

bool id_list_append(struct id_list *list, const int32_t *ids, size_t n)
{
    if (list->ids == NULL || n > list->allocated - list->n) {
        size_t wanted = 2 * list->allocated + n + 32;
        int32_t *grown = wanted > SIZE_MAX / sizeof *grown
                             ? NULL
                             : realloc(list->ids, wanted * sizeof *grown);
        if (grown == NULL)
            return false;
        list->ids = grown;
        list->allocated = wanted;
    }
    memcpy(list->ids + list->n, ids, n * sizeof *ids);
    list->n += n;
    return true;
}

void bpe_workspace_free(struct bpe_workspace *workspace)
{
    for (size_t i = 0; i < workspace->buckets_allocated; i++)
        free(workspace->buckets[i].positions);
    free(workspace->buckets);
    free(workspace->bucket_by_rank);
    free(workspace->symbols);
    free(workspace->heap);
    *workspace = (struct bpe_workspace){0};
}

static enum mtp_status byte_token(const struct tokenizer *tokenizer, char byte, int32_t *id,
                                  struct mtp_error *error)
{
    *id = tokenizer->vocabulary.byte_tokens[(unsigned char)byte];
    if (*id < 0)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s: the vocabulary has no token for byte 0x%02x of the text",
                        tokenizer->path, (unsigned char)byte);
    return MTP_OK;
}

static enum mtp_status encode_short(const struct tokenizer *tokenizer, const char *word, size_t n,
                                    struct id_list *out, struct mtp_error *error)
{
    const struct vocabulary *v = &tokenizer->vocabulary;
    int32_t ids[SHORT_WORD];
    uint32_t ranks[SHORT_WORD]; /* of merging ids[i] with ids[i + 1] */
    for (size_t i = 0; i < n; i++) {
        enum mtp_status status = byte_token(tokenizer, word[i], &ids[i], error);
        if (status != MTP_OK)
            return status;
    }
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = vocabulary_merge_rank(v, (uint32_t)ids[i], (uint32_t)ids[i + 1]);
    for (;;) {
        uint32_t lowest = MERGE_NONE;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            if (ranks[i] < lowest) {
                lowest = ranks[i];
                at = i;
            }
        }
        if (lowest == MERGE_NONE)
            break;
        ids[at] = (int32_t)v->products[lowest];
        n--;
        memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
        memmove(ranks + at, ranks + at + 1, (n - at - 1) * sizeof *ranks);
        if (at > 0)
            ranks[at - 1] = vocabulary_merge_rank(v, (uint32_t)ids[at - 1], (uint32_t)ids[at]);
        if (at + 1 < n)
            ranks[at] = vocabulary_merge_rank(v, (uint32_t)ids[at], (uint32_t)ids[at + 1]);
    }
    if (!id_list_append(out, ids, n))
        return mtp_fail_memory(error, "token ids", (out->n + n) * sizeof *ids);
    return MTP_OK;
}

/* ---- the queue of pairs: a bucket of positions for every rank, a heap of the ranks in use ---- */

static void sift_ranks(uint32_t *heap, size_t n, size_t at)
{
    uint32_t moving = heap[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moving)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

/* The heap has room: no rank is in it twice, and every rank in it has a bucket. */
static void push_rank(struct bpe_workspace *w, uint32_t rank)
{
    size_t at = w->n_heap++;
    while (at > 0 && w->heap[(at - 1) / 2] > rank) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = rank;
}

/* Bucket numbers begin at 1 in the map; 0 is "none yet". NULL when there is no memory. */
static struct bpe_bucket *bucket_of(const struct vocabulary *v, struct bpe_workspace *w,
                                    uint32_t rank)
{
    if (w->bucket_by_rank == NULL)
        w->bucket_by_rank = calloc(v->n_merges, sizeof *w->bucket_by_rank);
    if (w->bucket_by_rank == NULL)
        return NULL;
    if (w->bucket_by_rank[rank] != 0)
        return &w->buckets[w->bucket_by_rank[rank] - 1];
    if (w->n_buckets == w->buckets_allocated) {
        size_t wanted = 2 * w->buckets_allocated + 64;
        struct bpe_bucket *buckets = realloc(w->buckets, wanted * sizeof *buckets);
        if (buckets == NULL)
            return NULL;
        w->buckets = buckets;
        uint32_t *heap = realloc(w->heap, wanted * sizeof *heap);
        if (heap == NULL)
            return NULL;
        w->heap = heap;
        memset(buckets + w->buckets_allocated, 0,
               (wanted - w->buckets_allocated) * sizeof *buckets);
        w->buckets_allocated = wanted;
    }
    struct bpe_bucket *bucket = &w->buckets[w->n_buckets++];
    w->bucket_by_rank[rank] = (uint32_t)w->n_buckets;
    bucket->rank = rank;
    return bucket;
}

static bool queue_push(const struct vocabulary *v, struct bpe_workspace *w, uint32_t rank,
                       uint32_t position)
{
    struct bpe_bucket *bucket = bucket_of(v, w, rank);
    if (bucket == NULL)
        return false;
    if (bucket->n == bucket->allocated) {
        size_t wanted = bucket->allocated + bucket->allocated / 2 + 16;
        uint32_t *grown = realloc(bucket->positions, wanted * sizeof *grown);
        if (grown == NULL)
            return false;
        bucket->positions = grown;
        bucket->allocated = wanted;
    }
    if (bucket->n == 0)
        push_rank(w, rank);
    bucket->positions[bucket->n++] = position;
    return true;
}

static void empty_bucket(struct bpe_bucket *bucket)
{
    bucket->n = bucket->next = 0;
    if (bucket->allocated <= KEPT_POSITIONS)
        return;
    free(bucket->positions);
    bucket->positions = NULL;
    bucket->allocated = 0;
}

/* The leftmost position of the lowest rank. No bucket needs sorting, because positions arrive in
 * ascending order: a token that has arisen had no merge across its borders, so that the merges
 * inside were those of its text alone, the same wherever it arises; of two places that are equally
 * far the left one goes first; hence of any pair the left occurrence is complete first. Nor does a
 * bucket grow while it is being emptied: what then arises contains the text of its pair. */
static bool queue_pop(struct bpe_workspace *w, uint32_t *rank, uint32_t *position)
{
    while (w->n_heap > 0) {
        *rank = w->heap[0];
        struct bpe_bucket *bucket = &w->buckets[w->bucket_by_rank[*rank] - 1];
        if (bucket->next < bucket->n) {
            *position = bucket->positions[bucket->next++];
            return true;
        }
        empty_bucket(bucket);
        w->heap[0] = w->heap[--w->n_heap];
        if (w->n_heap > 0)
            sift_ranks(w->heap, w->n_heap, 0);
    }
    return false;
}

/* Ready for the next word; the memory is kept. */
static void queue_reset(struct bpe_workspace *w)
{
    for (size_t i = 0; i < w->n_buckets; i++) {
        w->bucket_by_rank[w->buckets[i].rank] = 0;
        empty_bucket(&w->buckets[i]);
    }
    w->n_buckets = 0;
    w->n_heap = 0;
}

/* ---- long words ------------------------------------------------------------------------------ */

/* Looks up the merge of the symbol at `at` with its next and queues it. */
static bool offer_pair(const struct vocabulary *v, struct bpe_workspace *w, uint32_t at)
{
    struct bpe_symbol *symbol = &w->symbols[at];
    symbol->rank = symbol->next == NOWHERE ? MERGE_NONE
                                           : vocabulary_merge_rank(v, symbol->id,
                                                                   w->symbols[symbol->next].id);
    return symbol->rank == MERGE_NONE || queue_push(v, w, symbol->rank, at);
}

static enum mtp_status fill_symbols(const struct tokenizer *tokenizer, struct bpe_workspace *w,
                                    const char *word, size_t n, struct mtp_error *error)
{
    if (n > w->symbols_allocated) {
        free(w->symbols);
        w->symbols_allocated = 0;
        w->symbols = malloc(n * sizeof *w->symbols);
        if (w->symbols == NULL)
            return mtp_fail_memory(error, "the symbols of a long word", n * sizeof *w->symbols);
        w->symbols_allocated = n;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t id;
        enum mtp_status status = byte_token(tokenizer, word[i], &id, error);
        if (status != MTP_OK)
            return status;
        w->symbols[i] = (struct bpe_symbol){
            .id = (uint32_t)id,
            .previous = i == 0 ? NOWHERE : (uint32_t)(i - 1),
            .next = i + 1 == n ? NOWHERE : (uint32_t)(i + 1),
        };
    }
    queue_reset(w);
    for (size_t i = 0; i < n; i++)
        if (!offer_pair(&tokenizer->vocabulary, w, (uint32_t)i))
            return mtp_fail_memory(error, "the pairs of a long word", n * sizeof *w->heap);
    return MTP_OK;
}

static bool merge_all(const struct vocabulary *v, struct bpe_workspace *w)
{
    uint32_t rank, at;
    while (queue_pop(w, &rank, &at)) {
        struct bpe_symbol *left = &w->symbols[at];
        /* An entry is stale when the pair there has become another, or part of one. */
        if (left->rank != rank)
            continue;
        struct bpe_symbol *right = &w->symbols[left->next];
        left->id = v->products[rank];
        left->next = right->next;
        right->rank = MERGE_NONE;
        if (left->next != NOWHERE)
            w->symbols[left->next].previous = at;
        if (left->previous != NOWHERE && !offer_pair(v, w, left->previous))
            return false;
        if (!offer_pair(v, w, at))
            return false;
    }
    return true;
}

static enum mtp_status encode_long(const struct tokenizer *tokenizer, struct bpe_workspace *w,
                                   const char *word, size_t n, struct id_list *out,
                                   struct mtp_error *error)
{
    enum mtp_status status = fill_symbols(tokenizer, w, word, n, error);
    if (status != MTP_OK)
        return status;
    if (!merge_all(&tokenizer->vocabulary, w))
        return mtp_fail_memory(error, "the pairs of a long word", n * sizeof *w->heap);
    for (uint32_t at = 0; at != NOWHERE; at = w->symbols[at].next) {
        int32_t id = (int32_t)w->symbols[at].id;
        if (!id_list_append(out, &id, 1))
            return mtp_fail_memory(error, "token ids", (out->n + 1) * sizeof id);
    }
    return MTP_OK;
}

enum mtp_status bpe_encode_word(const struct tokenizer *tokenizer, struct bpe_workspace *workspace,
                                const char *word, size_t length, struct id_list *out,
                                struct mtp_error *error)
{
    if (length == 0)
        return MTP_OK;
    if (length <= SHORT_WORD)
        return encode_short(tokenizer, word, length, out, error);
    return encode_long(tokenizer, workspace, word, length, out, error);
}
