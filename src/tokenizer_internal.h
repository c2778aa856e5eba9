/* tokenizer_internal.h - shared by the sources of the tokenizer and their tests; nobody else.
 *
 * The way of a text: special_tokens.c cuts it, pretokenize.c splits what lies between into words,
 * bpe.c turns a word into ids. tokenizer_vocab.c holds the tables all of them read; after
 * tokenizer_open nothing here is written again, so any number of threads may encode at once.
 */
#ifndef MTP_SRC_TOKENIZER_INTERNAL_H
#define MTP_SRC_TOKENIZER_INTERNAL_H

#include "name_table.h"
#include "pretokenize.h"
#include "tokenizer.h"

/* Types of tokenizer.ggml.token_type. */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

/* Texts and offsets are indexed with 32 bits. */
#define TOKENIZER_MAX_TEXT ((size_t)INT32_MAX)
#define MERGE_NONE UINT32_MAX

/* What merging two neighbours gives. rank is MERGE_NONE in a free slot. */
struct merge_slot {
    uint32_t left, right, rank;
};

struct vocabulary {
    struct gguf_string *texts; /* as stored: bytes written as printable characters */
    uint8_t *types;            /* enum token_type */
    uint8_t *made_by_merge;    /* 1 when BPE can produce the token */
    uint32_t n_tokens;
    struct name_table by_text; /* of two tokens with one text, the lower id */
    bool all_differ;           /* no two have one text */
    int32_t byte_tokens[256];  /* id of the token for one byte, or -1 */

    char *pieces;            /* the bytes of every token, one after another */
    uint32_t *piece_offsets; /* n_tokens + 1 */
    size_t longest_piece;

    struct merge_slot *merges;
    uint32_t merge_mask;
    uint32_t *products; /* by rank: the id a merge gives */
    uint32_t n_merges;
};

/* Texts that are cut out before anything else, sorted by their bytes. */
struct special_token {
    struct gguf_string text;
    int32_t id;
};
struct special_set {
    struct special_token *tokens;
    size_t n;
    bool first_byte[256]; /* some text begins with it */
};

struct tokenizer {
    const char *path; /* for messages; the gguf's own */
    struct vocabulary vocabulary;
    struct special_set all;          /* with MTP_TEXT_SPECIAL */
    struct special_set user_defined; /* without it */
    int32_t *end_ids;                /* ascending */
    size_t n_end_ids;
    int32_t bos_id; /* -1 = none */
    bool add_bos;
    struct pretokenizer *pretokenizer;
};

struct id_list {
    int32_t *ids;
    size_t n, allocated;
};
/* Appends n ids; false when there is no memory. */
bool id_list_append(struct id_list *list, const int32_t *ids, size_t n);

/* tokenizer_vocab.c: tokens, types, merges. On failure what was made is freed. */
enum mtp_status vocabulary_load(struct vocabulary *vocabulary, const struct gguf *file,
                                struct mtp_error *error);
/* The bytes of every token, which depend on its type: to be called when types are final. */
enum mtp_status vocabulary_load_pieces(struct vocabulary *vocabulary, const struct gguf *file,
                                       struct mtp_error *error);
void vocabulary_free(struct vocabulary *vocabulary);
/* -1 when no token has this text. */
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, size_t length);
/* Rank of merging left with right, or MERGE_NONE. */
uint32_t vocabulary_merge_rank(const struct vocabulary *vocabulary, uint32_t left, uint32_t right);

/* token_bytes.c: the alphabet in which the texts of byte-level BPE are written. */
/* Code point that stands for a byte. */
uint32_t token_byte_to_code_point(unsigned char byte);
/* UTF-8 of that code point (1 or 2 bytes) into out; its length. */
size_t token_byte_to_text(unsigned char byte, char out[2]);
/* Bytes a stored text stands for; out has room for length bytes. Characters outside the alphabet
 * and malformed UTF-8 stand for themselves. */
size_t token_text_to_bytes(const char *text, size_t length, char *out);

/* special_tokens.c */
enum mtp_status special_set_build(struct special_set *set, const struct vocabulary *vocabulary,
                                  bool user_defined_only, struct mtp_error *error);
void special_set_free(struct special_set *set);
/* Id of the longest special token that text begins with (*matched its length), or -1. */
int32_t special_set_match(const struct special_set *set, const char *text, size_t length,
                          size_t *matched);

/* end_tokens.c: fills end_ids from the ids the metadata name and from the texts known to end
 * generation; the latter become control tokens whatever the file calls them. */
enum mtp_status end_tokens_collect(struct tokenizer *tokenizer, const int32_t *named,
                                   size_t n_named, struct mtp_error *error);

/* bpe.c */
struct bpe_symbol {
    uint32_t id, previous, next;
    uint32_t rank; /* of merging this symbol with the next, or MERGE_NONE */
};
struct bpe_bucket {
    uint32_t *positions; /* of pairs with this rank, ascending; some may be stale */
    size_t n, next, allocated;
    uint32_t rank;
};
struct bpe_workspace {
    struct bpe_symbol *symbols;
    size_t symbols_allocated;
    struct bpe_bucket *buckets;
    size_t n_buckets, buckets_allocated;
    uint32_t *bucket_by_rank; /* 1 + index into buckets, or 0 */
    uint32_t *heap;           /* ranks whose buckets are not empty; as many places as buckets */
    size_t n_heap;
};
void bpe_workspace_free(struct bpe_workspace *workspace);
/* Appends the ids of one word. */
enum mtp_status bpe_encode_word(const struct tokenizer *tokenizer, struct bpe_workspace *workspace,
                                const char *word, size_t length, struct id_list *out,
                                struct mtp_error *error);

#endif
