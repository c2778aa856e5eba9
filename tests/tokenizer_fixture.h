/* tokenizer_fixture.h - tokenizers for tests: the reference model's and small ones made to measure;
 * shared by the unit tests, the fuzzer and the benchmark. Running out of memory or a missing
 * reference model aborts: this is test code. */
#ifndef MTP_TESTS_TOKENIZER_FIXTURE_H
#define MTP_TESTS_TOKENIZER_FIXTURE_H

#include "gguf_internal.h"
#include "gguf_writer.h"
#include "tokenizer.h"

/* A tokenizer with the file it points into. */
struct fixture {
    unsigned char *bytes; /* NULL when the file is mapped */
    struct gguf *file;
    struct tokenizer *tokenizer;
};
void fixture_close(struct fixture *fixture);

/* What a file of the given writer opens as; the writer is freed. */
enum mtp_status fixture_from_writer(struct fixture *out, struct gguf_writer *w,
                                    struct mtp_error *error);

/* The reference model's vocabulary with another pre-tokenizer. */
struct fixture fixture_reference(const char *pre);

/* Tokens of a vocabulary made to measure. The first 256 are those of single bytes. */
struct token_list {
    char **texts;
    int32_t *types;
    size_t n, allocated;
};
struct token_list token_list_bytes(void);
/* Adds a token and returns its id. */
int32_t token_list_add(struct token_list *list, const char *text, int32_t type);
void token_list_free(struct token_list *list);

/* The keys of a tokenizer with these tokens; pre and merges may be NULL. */
struct gguf_writer *token_list_writer(const struct token_list *list, const char *pre,
                                      const char *const *merges, size_t n_merges);

/* A vocabulary of n_merges tokens that words of letters and spaces merge into, and n_special
 * control tokens behind them; merges[i] makes token 256 + i. The caller frees each and both. */
struct token_list token_list_grown(size_t n_merges, size_t n_special, char ***merges);

/* xorshift64*; *state is not 0. */
uint64_t fixture_random(uint64_t *state);

#endif
