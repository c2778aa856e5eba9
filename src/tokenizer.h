/* tokenizer.h - byte-level BPE as GGUF files carry it (tokenizer.ggml.*).
 *
 * Order: special tokens are cut from the text first (longest first), then the pre-tokenizer's
 * regular expression, then BPE by merge rank. Invalid UTF-8 is treated as bytes: nothing is
 * refused and decoding gives the same bytes back.
 */
#ifndef MTP_SRC_TOKENIZER_H
#define MTP_SRC_TOKENIZER_H

#include "error.h"
#include "gguf.h"

struct tokenizer;

/* Reads tokenizer.ggml.{model,pre,tokens,token_type,merges,*_token_id,add_bos_token}. Supported:
 * model "gpt2" with pre "qwen35", "qwen2", "gpt-2", "default"; anything else fails with
 * MTP_ERR_UNSUPPORTED and the supported list. The tokenizer keeps pointers into file's mapping. */
enum mtp_status tokenizer_open(struct tokenizer **out, const struct gguf *file,
                               struct mtp_error *error);
void tokenizer_close(struct tokenizer *tokenizer);

uint32_t tokenizer_n_vocab(const struct tokenizer *tokenizer);

/* flags: enum mtp_tokenize_flags. Appends nothing of its own except BOS when add_bos is set in the
 * file and flags has TOKENIZER_ADD_BOS. *ids is malloc'ed. */
enum { TOKENIZER_ADD_BOS = 2 };
enum mtp_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                                 size_t length, unsigned flags, int32_t **ids, size_t *n_ids,
                                 struct mtp_error *error);

/* Id of the token whose stored text is exactly this ("<|im_end|>"), or -1. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text);

/* Bytes the token stands for (control tokens: their own text, *is_control set). NULL for an id out
 * of range. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, size_t *length,
                            bool *is_control);

/* End of generation: eos_token_id, eot_token_id and every known end token by text. */
bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id);
/* Ids of all end tokens, ascending. */
const int32_t *tokenizer_end_ids(const struct tokenizer *tokenizer, size_t *n);

/* Streaming decoder: see mtp_decoder_* in mtp.h. Emits only whole well-formed characters; bytes
 * that cannot become one (invalid UTF-8 out of the model) are emitted as they are, as soon as that
 * is certain. */
struct text_decoder;
enum mtp_status text_decoder_open(struct text_decoder **out, const struct tokenizer *tokenizer,
                                  struct mtp_error *error);
void text_decoder_close(struct text_decoder *decoder);
const char *text_decoder_push(struct text_decoder *decoder, int32_t id, size_t *length);
const char *text_decoder_flush(struct text_decoder *decoder, size_t *length);

#endif
