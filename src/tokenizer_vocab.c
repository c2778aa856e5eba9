#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

#define KEY_TOKENS "tokenizer.ggml.tokens"
#define KEY_TYPES "tokenizer.ggml.token_type"
#define KEY_MERGES "tokenizer.ggml.merges"

static enum mtp_status load_texts(struct vocabulary *v, const struct gguf *file,
                                  struct mtp_error *error)
{
    uint64_t n = 0;
    bool found = false;
    enum mtp_status status = gguf_find_strings(file, KEY_TOKENS, &v->texts, &n, &found, error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: no vocabulary (key " KEY_TOKENS " is missing)",
                        gguf_path(file));
    if (n == 0)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: " KEY_TOKENS " is empty", gguf_path(file));
    if (n > INT32_MAX)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: " KEY_TOKENS " has %" PRIu64 " tokens, more than an id can number",
                        gguf_path(file), n);
    v->n_tokens = (uint32_t)n;
    size_t duplicate;
    status = name_table_build(&v->by_text, v->texts, sizeof *v->texts, v->n_tokens, &duplicate,
                              error);
    v->all_differ = duplicate == NAME_TABLE_NONE;
    return status;
}

static enum mtp_status load_types(struct vocabulary *v, const struct gguf *file,
                                  struct mtp_error *error)
{
    v->types = malloc(v->n_tokens);
    v->made_by_merge = calloc(v->n_tokens, 1);
    if (v->types == NULL || v->made_by_merge == NULL)
        return mtp_fail_memory(error, "the types of tokens", 2 * (uint64_t)v->n_tokens);
    memset(v->types, TOKEN_NORMAL, v->n_tokens);
    struct gguf_array array;
    bool found = false;
    enum mtp_status status = gguf_find_array(file, KEY_TYPES, &array, &found, error);
    if (status != MTP_OK || !found)
        return status;
    if (array.type != GGUF_INT32 && array.type != GGUF_UINT32)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: " KEY_TYPES " is not an array of int32",
                        gguf_path(file));
    if (array.length != v->n_tokens)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: " KEY_TYPES " has %" PRIu64 " elements for %" PRIu32 " tokens",
                        gguf_path(file), array.length, v->n_tokens);
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        uint32_t type;
        memcpy(&type, (const unsigned char *)array.data + 4 * (size_t)id, sizeof type);
        if (type >= TOKEN_NORMAL && type <= TOKEN_BYTE)
            v->types[id] = (uint8_t)type;
    }
    return MTP_OK;
}

/* Only tokens whose text is in the byte alphabet take part in BPE; so ordinary text never becomes a
 * control token, and what is decoded is what was encoded. */
static bool is_ordinary(const struct vocabulary *v, int32_t id)
{
    return id >= 0 && (v->types[id] == TOKEN_NORMAL || v->types[id] == TOKEN_BYTE);
}

static size_t write_piece(const struct vocabulary *v, uint32_t id, char *out)
{
    struct gguf_string text = v->texts[id];
    if (v->types[id] == TOKEN_UNUSED)
        return 0;
    if (is_ordinary(v, (int32_t)id))
        return token_text_to_bytes(text.data, text.length, out);
    memcpy(out, text.data, text.length);
    return text.length;
}

enum mtp_status vocabulary_load_pieces(struct vocabulary *v, const struct gguf *file,
                                       struct mtp_error *error)
{
    uint64_t total = 0; /* cannot overflow: the texts lie apart in a file */
    for (uint32_t id = 0; id < v->n_tokens; id++)
        total += v->texts[id].length;
    if (total > UINT32_MAX)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: the texts of " KEY_TOKENS " take %" PRIu64 " bytes, more than 4 GiB",
                        gguf_path(file), total);
    v->pieces = malloc(total > 0 ? (size_t)total : 1);
    v->piece_offsets = malloc(((size_t)v->n_tokens + 1) * sizeof *v->piece_offsets);
    if (v->pieces == NULL || v->piece_offsets == NULL)
        return mtp_fail_memory(error, "the texts of tokens", total + 4 * (uint64_t)v->n_tokens);
    uint32_t at = 0;
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        v->piece_offsets[id] = at;
        size_t n = v->texts[id].length > 0 ? write_piece(v, id, v->pieces + at) : 0;
        at += (uint32_t)n;
        if (n > v->longest_piece)
            v->longest_piece = n;
    }
    v->piece_offsets[v->n_tokens] = at;
    return MTP_OK;
}

static void load_byte_tokens(struct vocabulary *v)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[2];
        size_t length = token_byte_to_text((unsigned char)byte, text);
        int32_t id = vocabulary_find(v, text, length);
        v->byte_tokens[byte] = is_ordinary(v, id) ? id : -1;
    }
}

static uint32_t merge_slot_of(const struct vocabulary *v, uint32_t left, uint32_t right)
{
    uint64_t mixed = ((uint64_t)left << 32 | right) ^ v->by_text.key[0];
    mixed *= 0x9e3779b97f4a7c15u;
    mixed ^= mixed >> 32;
    mixed *= 0xd6e8feb86659fd93u;
    return (uint32_t)(mixed >> 32) & v->merge_mask;
}

uint32_t vocabulary_merge_rank(const struct vocabulary *vocabulary, uint32_t left, uint32_t right)
{
    const struct merge_slot *slots = vocabulary->merges;
    uint32_t at = merge_slot_of(vocabulary, left, right);
    while (slots[at].rank != MERGE_NONE && (slots[at].left != left || slots[at].right != right))
        at = (at + 1) & vocabulary->merge_mask;
    return slots[at].rank;
}

/* A pair listed twice keeps its first rank. */
static void add_merge(struct vocabulary *v, uint32_t left, uint32_t right, uint32_t rank)
{
    uint32_t at = merge_slot_of(v, left, right);
    while (v->merges[at].rank != MERGE_NONE) {
        if (v->merges[at].left == left && v->merges[at].right == right)
            return;
        at = (at + 1) & v->merge_mask;
    }
    v->merges[at] = (struct merge_slot){left, right, rank};
}

static enum mtp_status allocate_merges(struct vocabulary *v, const struct gguf *file, uint64_t n,
                                       struct mtp_error *error)
{
    if (n > INT32_MAX / 2)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: " KEY_MERGES " has %" PRIu64 " merges, more than can be ranked",
                        gguf_path(file), n);
    size_t n_slots = 8;
    while (n_slots < 2 * n)
        n_slots *= 2;
    v->merges = malloc(n_slots * sizeof *v->merges);
    v->products = malloc((size_t)(n > 0 ? n : 1) * sizeof *v->products);
    if (v->merges == NULL || v->products == NULL)
        return mtp_fail_memory(error, "the merges", n_slots * sizeof *v->merges);
    memset(v->merges, 0xff, n_slots * sizeof *v->merges);
    v->merge_mask = (uint32_t)(n_slots - 1);
    v->n_merges = (uint32_t)n;
    return MTP_OK;
}

/* Token with this text. In most files every merge makes the token after the one before it made:
 * looking there first spares a search. */
static int32_t find_product(const struct vocabulary *v, uint32_t guess, const char *text,
                            size_t length)
{
    if (v->all_differ && guess < v->n_tokens && v->texts[guess].length == length &&
        memcmp(v->texts[guess].data, text, length) == 0)
        return (int32_t)guess;
    return vocabulary_find(v, text, length);
}

/* Enters merge `rank`, "left right". One that names a token the vocabulary lacks can never be
 * applied and is passed over. whole has room for the line. */
static bool enter_merge(struct vocabulary *v, struct gguf_string line, uint32_t rank, char *whole)
{
    v->products[rank] = MERGE_NONE;
    /* The first character may be a space; the halves meet at the next one. */
    const char *space =
        line.length < 2 ? NULL : memchr(line.data + 1, ' ', line.length - 1);
    if (space == NULL)
        return false;
    size_t n_left = (size_t)(space - line.data);
    size_t n_right = line.length - n_left - 1;
    memcpy(whole, line.data, n_left);
    memcpy(whole + n_left, space + 1, n_right);
    int32_t left = vocabulary_find(v, whole, n_left);
    int32_t right = vocabulary_find(v, whole + n_left, n_right);
    uint32_t guess = rank > 0 ? v->products[rank - 1] + 1 : 0;
    int32_t product = find_product(v, guess, whole, n_left + n_right);
    if (!is_ordinary(v, left) || !is_ordinary(v, right) || !is_ordinary(v, product))
        return true;
    v->products[rank] = (uint32_t)product;
    v->made_by_merge[product] = 1;
    add_merge(v, (uint32_t)left, (uint32_t)right, rank);
    return true;
}

static enum mtp_status enter_merges(struct vocabulary *v, const struct gguf *file,
                                    const struct gguf_string *lines, struct mtp_error *error)
{
    size_t longest = 1;
    for (uint32_t rank = 0; rank < v->n_merges; rank++)
        if (lines[rank].length > longest)
            longest = lines[rank].length;
    char *whole = malloc(longest);
    if (whole == NULL)
        return mtp_fail_memory(error, "a merge", longest);
    enum mtp_status status = MTP_OK;
    for (uint32_t rank = 0; rank < v->n_merges && status == MTP_OK; rank++) {
        if (!enter_merge(v, lines[rank], rank, whole))
            status = mtp_fail(error, MTP_ERR_FORMAT,
                              "%s: merge %" PRIu32 " of " KEY_MERGES
                              " (\"%.*s\") has no space between its halves",
                              gguf_path(file), rank,
                              (int)(lines[rank].length < 64 ? lines[rank].length : 64),
                              lines[rank].length > 0 ? lines[rank].data : "");
    }
    free(whole);
    return status;
}

static enum mtp_status load_merges(struct vocabulary *v, const struct gguf *file,
                                   struct mtp_error *error)
{
    struct gguf_string *lines = NULL;
    uint64_t n = 0;
    bool found = false;
    enum mtp_status status = gguf_find_strings(file, KEY_MERGES, &lines, &n, &found, error);
    if (status == MTP_OK && !found)
        status = mtp_fail(error, MTP_ERR_FORMAT, "%s: key " KEY_MERGES " is missing",
                          gguf_path(file));
    if (status == MTP_OK)
        status = allocate_merges(v, file, n, error);
    if (status == MTP_OK)
        status = enter_merges(v, file, lines, error);
    free(lines);
    return status;
}

enum mtp_status vocabulary_load(struct vocabulary *vocabulary, const struct gguf *file,
                                struct mtp_error *error)
{
    *vocabulary = (struct vocabulary){0};
    enum mtp_status status = load_texts(vocabulary, file, error);
    if (status == MTP_OK)
        status = load_types(vocabulary, file, error);
    if (status == MTP_OK)
        load_byte_tokens(vocabulary);
    if (status == MTP_OK)
        status = load_merges(vocabulary, file, error);
    if (status != MTP_OK)
        vocabulary_free(vocabulary);
    return status;
}

void vocabulary_free(struct vocabulary *vocabulary)
{
    name_table_free(&vocabulary->by_text);
    free(vocabulary->texts);
    free(vocabulary->types);
    free(vocabulary->made_by_merge);
    free(vocabulary->pieces);
    free(vocabulary->piece_offsets);
    free(vocabulary->merges);
    free(vocabulary->products);
    *vocabulary = (struct vocabulary){0};
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, size_t length)
{
    size_t index = name_table_find(&vocabulary->by_text, text, length);
    return index == NAME_TABLE_NONE ? -1 : (int32_t)index;
}
