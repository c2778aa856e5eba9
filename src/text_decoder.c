#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"
#include "utf8.h"

/* An unfinished character has at most three bytes. */
#define MAX_HELD 3

struct text_decoder {
    const struct tokenizer *tokenizer;
    char held[MAX_HELD];
    size_t n_held;
    char out[]; /* MAX_HELD and the longest piece */
};

enum mtp_status text_decoder_open(struct text_decoder **out, const struct tokenizer *tokenizer,
                                  struct mtp_error *error)
{
    size_t bytes = sizeof(struct text_decoder) + MAX_HELD + tokenizer->vocabulary.longest_piece;
    *out = calloc(1, bytes);
    if (*out == NULL)
        return mtp_fail_memory(error, "a text decoder", bytes);
    (*out)->tokenizer = tokenizer;
    return MTP_OK;
}

void text_decoder_close(struct text_decoder *decoder)
{
    free(decoder);
}

/* How many bytes at the end may yet become a character. A lead byte never lies inside another
 * character, so the end alone decides. */
static size_t unfinished(const char *text, size_t length)
{
    size_t most = length < MAX_HELD ? length : MAX_HELD;
    for (size_t n = most; n > 0; n--)
        if (utf8_is_incomplete(text + length - n, n))
            return n;
    return 0;
}

const char *text_decoder_push(struct text_decoder *decoder, int32_t id, size_t *length)
{
    size_t n_piece;
    bool is_control;
    const char *piece = tokenizer_piece(decoder->tokenizer, id, &n_piece, &is_control);
    *length = 0;
    if (piece == NULL || is_control)
        return decoder->out;
    size_t n = decoder->n_held;
    memcpy(decoder->out, decoder->held, n);
    memcpy(decoder->out + n, piece, n_piece);
    n += n_piece;
    decoder->n_held = unfinished(decoder->out, n);
    *length = n - decoder->n_held;
    memcpy(decoder->held, decoder->out + *length, decoder->n_held);
    return decoder->out;
}

const char *text_decoder_flush(struct text_decoder *decoder, size_t *length)
{
    *length = decoder->n_held;
    memcpy(decoder->out, decoder->held, decoder->n_held);
    decoder->n_held = 0;
    return decoder->out;
}
