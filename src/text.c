/* text.c - the public text and chat functions, over tokenizer.h and chat.h. */
#include "model.h"

enum mtp_status mtp_tokenize(const mtp_model *model, const char *text, size_t length,
                             unsigned flags, int32_t **ids, size_t *n_ids, struct mtp_error *error)
{
    unsigned bos = flags & MTP_TEXT_SPECIAL ? TOKENIZER_ADD_BOS : 0;
    return tokenizer_encode(model->tokenizer, text, length, flags | bos, ids, n_ids, error);
}

bool mtp_token_is_end(const mtp_model *model, int32_t id)
{
    return tokenizer_is_end(model->tokenizer, id);
}

const char *mtp_token_bytes(const mtp_model *model, int32_t id, size_t *length, bool *control)
{
    bool is_control = false;
    *length = 0;
    const char *piece = tokenizer_piece(model->tokenizer, id, length, &is_control);
    if (control != NULL)
        *control = is_control;
    return piece;
}

/* A decoder is the tokenizer's own, under the public name. */
enum mtp_status mtp_decoder_open(mtp_decoder **out, const mtp_model *model, struct mtp_error *error)
{
    struct text_decoder *inner = NULL;
    enum mtp_status status = text_decoder_open(&inner, model->tokenizer, error);
    *out = (mtp_decoder *)(void *)inner;
    return status;
}

void mtp_decoder_close(mtp_decoder *decoder)
{
    text_decoder_close((struct text_decoder *)(void *)decoder);
}

const char *mtp_decoder_push(mtp_decoder *decoder, int32_t id, size_t *length)
{
    return text_decoder_push((struct text_decoder *)(void *)decoder, id, length);
}

const char *mtp_decoder_flush(mtp_decoder *decoder, size_t *length)
{
    return text_decoder_flush((struct text_decoder *)(void *)decoder, length);
}

enum mtp_status mtp_chat_tokenize(const mtp_model *model, const struct mtp_chat_turn *turns,
                                  size_t n_turns, const struct mtp_chat_options *options,
                                  int32_t **ids, size_t *n_ids, struct mtp_error *error)
{
    enum chat_template template;
    enum mtp_status status =
        chat_template_choose(&template, model->file, options->template_name, error);
    if (status != MTP_OK)
        return status;
    return chat_tokenize(model->tokenizer, template, turns, n_turns, options, ids, n_ids, error);
}
