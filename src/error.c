#include "error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "utf8.h"

static void escape_into(char *out, size_t size, const char *text)
{
    size_t used = 0;
    size_t length = strlen(text);
    for (size_t i = 0; i < length && used + 5 < size;) {
        size_t n = utf8_sequence_length(text + i, length - i);
        bool plain = n > 0 && (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
        if (plain && used + n < size) {
            memcpy(out + used, text + i, n);
            used += n;
            i += n;
        } else {
            used += (size_t)snprintf(out + used, size - used, "\\x%02x", (unsigned char)text[i]);
            i++;
        }
    }
    out[used] = '\0';
}

enum mtp_status mtp_fail(struct mtp_error *error, enum mtp_status status, const char *format, ...)
{
    if (error == NULL)
        return status;
    char raw[sizeof error->message];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    error->status = status;
    escape_into(error->message, sizeof error->message, raw);
    return status;
}

enum mtp_status mtp_fail_memory(struct mtp_error *error, const char *what, uint64_t bytes)
{
    return mtp_fail(error, MTP_ERR_MEMORY, "not enough memory for %s (%" PRIu64 " bytes)", what,
                    bytes);
}
