/* chat.h - rendering a conversation the way the model file's chat template would.
 *
 * Templates are Jinja programs; we do not run Jinja. We recognise the ones we know by inspecting
 * the text of tokenizer.chat_template and render text turns exactly as they would (goldens made
 * with Jinja2 in tests/golden/chat). An unknown template is refused, naming --template chatml.
 */
#ifndef MTP_SRC_CHAT_H
#define MTP_SRC_CHAT_H

#include "error.h"
#include "gguf.h"
#include "tokenizer.h"

enum chat_template {
    CHAT_CHATML,         /* plain ChatML, no thinking */
    CHAT_QWEN3_THINK,    /* Qwen3: <think> blocks leave earlier turns, empty one for no thinking */
    CHAT_QWEN35,         /* Qwen3.5/3.6: texts are trimmed, the generation prompt opens <think> */
    CHAT_QWEN35_LENIENT, /* the same as re-published by quantisers: an empty system turn is left out
                          * and a second one joins the first */
    CHAT_QWEN38,         /* Qwen3.8: asks for effort in the system turn, keeps earlier thinking */
};

/* Recognises the text of a template; false when it is none of those above. */
bool chat_template_recognise(enum chat_template *out, const char *text, size_t length);

/* name: "chatml" or NULL to recognise the file's own template. */
enum mtp_status chat_template_choose(enum chat_template *out, const struct gguf *file,
                                     const char *name, struct mtp_error *error);

/* A rendering is a list of pieces: control pieces are texts of control tokens, plain pieces are
 * everything else and must not become control tokens, whoever wrote them. Texts point into the
 * turns given and into constants. */
struct chat_piece {
    bool control;
    const char *text;
    size_t length;
};
struct chat_rendering {
    struct chat_piece *pieces;
    size_t n_pieces;
    size_t capacity;
};
enum mtp_status chat_render(struct chat_rendering *out, enum chat_template template,
                            const struct mtp_chat_turn *turns, size_t n_turns,
                            const struct mtp_chat_options *options, struct mtp_error *error);
void chat_rendering_free(struct chat_rendering *rendering);

/* Renders and tokenises. Neighbouring plain pieces are tokenised as one text, since a template's
 * "user\n" and the turn's first characters may share a token. */
enum mtp_status chat_tokenize(const struct tokenizer *tokenizer, enum chat_template template,
                              const struct mtp_chat_turn *turns, size_t n_turns,
                              const struct mtp_chat_options *options, int32_t **ids, size_t *n_ids,
                              struct mtp_error *error);

#endif
