/* Byte-pair encoding of one word: of all neighbours that may be merged, the pair with the lowest
 * rank is merged first, of equal pairs the leftmost, until nothing can be merged.
 *
 * Short words, which is nearly all, are searched for that pair anew after every merge; long ones
 * keep the pairs in a heap, so that ten million times one letter take n log n steps. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

#define SHORT_WORD 32
#define HEAP_ARITY 4
#define NOWHERE UINT32_MAX

bool id_list_append(struct id_list *list, const int32_t *ids, size_t n)
{
    if (n > list->allocated - list->n) {
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

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t moving = heap[at];
    for (;;) {
        size_t first = HEAP_ARITY * at + 1;
        if (first >= n)
            break;
        size_t last = first + HEAP_ARITY < n ? first + HEAP_ARITY : n;
        size_t least = first;
        for (size_t child = first + 1; child < last; child++)
            if (heap[child] < heap[least])
                least = child;
        if (heap[least] >= moving)
            break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = moving;
}

static bool heap_push(struct bpe_workspace *w, uint64_t entry)
{
    if (w->n_heap == w->heap_allocated) {
        size_t wanted = w->heap_allocated + w->heap_allocated / 2 + 64;
        uint64_t *grown = realloc(w->heap, wanted * sizeof *grown);
        if (grown == NULL)
            return false;
        w->heap = grown;
        w->heap_allocated = wanted;
    }
    size_t at = w->n_heap++;
    while (at > 0 && w->heap[(at - 1) / HEAP_ARITY] > entry) {
        w->heap[at] = w->heap[(at - 1) / HEAP_ARITY];
        at = (at - 1) / HEAP_ARITY;
    }
    w->heap[at] = entry;
    return true;
}

static uint64_t heap_pop(struct bpe_workspace *w)
{
    uint64_t least = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap > 0)
        sift_down(w->heap, w->n_heap, 0);
    return least;
}

/* Looks up the merge of the symbol at `at` with its next and puts it on the heap. */
static bool offer_pair(const struct vocabulary *v, struct bpe_workspace *w, uint32_t at)
{
    struct bpe_symbol *symbol = &w->symbols[at];
    symbol->rank = symbol->next == NOWHERE ? MERGE_NONE
                                           : vocabulary_merge_rank(v, symbol->id,
                                                                   w->symbols[symbol->next].id);
    return symbol->rank == MERGE_NONE || heap_push(w, (uint64_t)symbol->rank << 32 | at);
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
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++)
        if (!offer_pair(&tokenizer->vocabulary, w, (uint32_t)i))
            return mtp_fail_memory(error, "the pairs of a long word", n * sizeof *w->heap);
    return MTP_OK;
}

static bool merge_all(const struct vocabulary *v, struct bpe_workspace *w)
{
    while (w->n_heap > 0) {
        uint64_t entry = heap_pop(w);
        uint32_t at = (uint32_t)entry;
        struct bpe_symbol *left = &w->symbols[at];
        /* An entry is stale when the pair there has become another, or part of one. */
        if (left->rank != (uint32_t)(entry >> 32))
            continue;
        struct bpe_symbol *right = &w->symbols[left->next];
        left->id = v->products[left->rank];
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
