/* pretokenize.h - splits text into the words that BPE works on, by the model's regular expression.
 *
 * PCRE2 with JIT; where JIT is not to be had (a hardened kernel, a foreign CPU) the interpreter
 * gives the same words more slowly. A byte that is not part of well-formed UTF-8 counts as one
 * character that is neither letter, mark, number nor space.
 */
#ifndef MTP_SRC_PRETOKENIZE_H
#define MTP_SRC_PRETOKENIZE_H

#include "error.h"

struct pretokenizer;

/* name: the value of tokenizer.ggml.pre. NULL for a name we do not know. */
const char *pretokenizer_known(const char *name, size_t length);
/* "qwen35, qwen2, gpt-2, default" */
const char *pretokenizer_names(void);

/* name: one that pretokenizer_known returned. use_jit false is for tests. */
enum mtp_status pretokenizer_open(struct pretokenizer **out, const char *name, bool use_jit,
                                  struct mtp_error *error);
void pretokenizer_close(struct pretokenizer *pretokenizer);

typedef enum mtp_status (*pretokenizer_word_fn)(void *user, const char *word, size_t length,
                                                struct mtp_error *error);
/* Calls word for every word, in order; the words laid end to end are the text. A status other than
 * MTP_OK stops and is returned. Safe from several threads at once. */
enum mtp_status pretokenizer_split(const struct pretokenizer *pretokenizer, const char *text,
                                   size_t length, pretokenizer_word_fn word, void *user,
                                   struct mtp_error *error);

#endif
