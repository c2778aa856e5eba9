#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

static int compare_strings(struct gguf_string a, struct gguf_string b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = memcmp(a.data, b.data, shorter);
    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}

static int compare_tokens(const void *a, const void *b)
{
    return compare_strings(((const struct special_token *)a)->text,
                           ((const struct special_token *)b)->text);
}

static bool belongs(const struct vocabulary *v, uint32_t id, bool user_defined_only)
{
    uint8_t type = v->types[id];
    bool wanted = type == TOKEN_USER_DEFINED ||
                  (!user_defined_only && (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN));
    /* Of several tokens with one text the lowest id is the one text becomes. */
    return wanted && v->texts[id].length > 0 &&
           vocabulary_find(v, v->texts[id].data, v->texts[id].length) == (int32_t)id;
}

enum mtp_status special_set_build(struct special_set *set, const struct vocabulary *vocabulary,
                                  bool user_defined_only, struct mtp_error *error)
{
    *set = (struct special_set){0};
    size_t n = 0;
    for (uint32_t id = 0; id < vocabulary->n_tokens; id++)
        n += belongs(vocabulary, id, user_defined_only);
    if (n == 0)
        return MTP_OK;
    set->tokens = calloc(n, sizeof *set->tokens);
    if (set->tokens == NULL)
        return mtp_fail_memory(error, "the special tokens", n * sizeof *set->tokens);
    for (uint32_t id = 0; id < vocabulary->n_tokens; id++) {
        if (!belongs(vocabulary, id, user_defined_only))
            continue;
        struct gguf_string text = vocabulary->texts[id];
        set->tokens[set->n++] = (struct special_token){text, (int32_t)id};
        set->first_byte[(unsigned char)text.data[0]] = true;
    }
    qsort(set->tokens, set->n, sizeof *set->tokens, compare_tokens);
    return MTP_OK;
}

void special_set_free(struct special_set *set)
{
    free(set->tokens);
    *set = (struct special_set){0};
}

/* First of tokens [low, high), all longer than depth, whose byte at depth is at least byte. */
static size_t lower_bound(const struct special_set *set, size_t low, size_t high, size_t depth,
                          unsigned byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((unsigned char)set->tokens[middle].text.data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t special_set_match(const struct special_set *set, const char *text, size_t length,
                          size_t *matched)
{
    int32_t best = -1;
    size_t low = 0, high = set->n;
    /* Tokens [low, high) begin with the first depth bytes of text; the shortest comes first. */
    for (size_t depth = 0; low < high; depth++) {
        if (set->tokens[low].text.length == depth) {
            best = set->tokens[low++].id;
            *matched = depth;
        }
        if (depth == length)
            break;
        unsigned byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return best;
}
