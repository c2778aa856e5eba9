#define _GNU_SOURCE /* memmem */
#include "mtpgen.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum mtp_status mtpgen_fail(struct mtp_error *error, enum mtp_status status,
                            const char *format, ...)
{
    if (error == NULL)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    for (char *c = error->message; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    error->status = status;
    return status;
}

/* ---- text that grows ------------------------------------------------------------------------- */

enum mtp_status mtpgen_text_add(struct mtpgen_text *text, const char *data, size_t length,
                                struct mtp_error *error)
{
    if (text->capacity - text->length <= length) {
        size_t capacity = 2 * text->capacity + length + 64;
        char *grown = realloc(text->data, capacity);
        if (grown == NULL)
            return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory for a text of %zu bytes",
                               capacity);
        text->data = grown;
        text->capacity = capacity;
    }
    if (length > 0)
        memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = '\0';
    return MTP_OK;
}

void mtpgen_text_free(struct mtpgen_text *text)
{
    free(text->data);
    memset(text, 0, sizeof *text);
}

/* ---- standard output ------------------------------------------------------------------------- */

enum mtp_status mtpgen_write(const char *text, size_t length, struct mtp_error *error)
{
    while (length > 0) {
        ssize_t n = write(STDOUT_FILENO, text, length);
        if (n >= 0) {
            text += n;
            length -= (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd wait = { STDOUT_FILENO, POLLOUT, 0 };
            poll(&wait, 1, -1);
        } else if (errno == EPIPE) {
            return mtpgen_fail(error, MTP_ERR_IO,
                               "standard output was closed before the text was complete");
        } else if (errno != EINTR) {
            return mtpgen_fail(error, MTP_ERR_IO, "cannot write to standard output: %s",
                               strerror(errno));
        }
    }
    return MTP_OK;
}

/* ---- stop texts ------------------------------------------------------------------------------ */

/* How many bytes at the end of text may be the beginning of stop. */
static size_t overlap(const char *text, size_t length, const char *stop)
{
    size_t most = strlen(stop) - 1;
    if (most > length)
        most = length;
    for (size_t n = most; n > 0; n--) {
        if (memcmp(text + length - n, stop, n) == 0)
            return n;
    }
    return 0;
}

enum mtp_status mtpgen_stopper_add(struct mtpgen_stopper *stopper, const char *text, size_t length,
                                   size_t *n_ready, bool *stopped, struct mtp_error *error)
{
    *stopped = false;
    *n_ready = 0;
    enum mtp_status status = mtpgen_text_add(&stopper->pending, text, length, error);
    if (status != MTP_OK)
        return status;
    const char *data = stopper->pending.data;
    size_t held = 0;
    size_t first = stopper->pending.length;
    for (size_t i = 0; i < stopper->n_stops; i++) {
        const char *stop = stopper->stops[i];
        const char *at = memmem(data, stopper->pending.length, stop, strlen(stop));
        if (at != NULL && (size_t)(at - data) < first) {
            first = (size_t)(at - data);
            *stopped = true;
        }
        size_t n = overlap(data, stopper->pending.length, stop);
        held = n > held ? n : held;
    }
    *n_ready = *stopped ? first : stopper->pending.length - held;
    return MTP_OK;
}

void mtpgen_stopper_drop(struct mtpgen_stopper *stopper, size_t n)
{
    struct mtpgen_text *pending = &stopper->pending;
    if (n == 0)
        return;
    memmove(pending->data, pending->data + n, pending->length - n);
    pending->length -= n;
}

void mtpgen_stopper_free(struct mtpgen_stopper *stopper)
{
    mtpgen_text_free(&stopper->pending);
}
