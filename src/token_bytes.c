#include <string.h>

#include "tokenizer_internal.h"
#include "utf8.h"

/* GPT-2's alphabet: the printable characters of Latin-1 stand for themselves; U+0100 and up stand
 * for the other 68 bytes in ascending order. */
static bool is_printable_latin1(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

/* How many bytes below this one are not printable. */
static unsigned unprintable_below(unsigned byte)
{
    if (byte <= 0x21)
        return byte;
    if (byte <= 0x7f)
        return 0x21;
    return byte <= 0xa1 ? 0x21 + byte - 0x7f : 0x21 + 0xa1 - 0x7f;
}

uint32_t token_byte_to_code_point(unsigned char byte)
{
    return is_printable_latin1(byte) ? byte : 0x100 + unprintable_below(byte);
}

size_t token_byte_to_text(unsigned char byte, char out[2])
{
    uint32_t code_point = token_byte_to_code_point(byte);
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    out[0] = (char)(0xc0 | code_point >> 6);
    out[1] = (char)(0x80 | (code_point & 0x3f));
    return 2;
}

/* The byte a code point stands for, or -1. */
static int code_point_to_byte(uint32_t code_point)
{
    if (code_point < 0x100)
        return is_printable_latin1(code_point) ? (int)code_point : -1;
    uint32_t place = code_point - 0x100;
    if (place < 0x21)
        return (int)place;
    if (place < 0x21 + 0xa1 - 0x7f)
        return (int)(place - 0x21 + 0x7f);
    return place == 0x21 + 0xa1 - 0x7f ? 0xad : -1;
}

size_t token_text_to_bytes(const char *text, size_t length, char *out)
{
    size_t n_out = 0;
    for (size_t at = 0; at < length;) {
        if ((unsigned char)text[at] < 0x80) { /* in the alphabet or not, it stands for itself */
            out[n_out++] = text[at++];
            continue;
        }
        size_t n = utf8_sequence_length(text + at, length - at);
        int byte = n > 0 ? code_point_to_byte(utf8_decode(text + at, n)) : -1;
        if (byte >= 0) {
            out[n_out++] = (char)byte;
        } else {
            n = n > 0 ? n : 1;
            memcpy(out + n_out, text + at, n);
            n_out += n;
        }
        at += n > 0 ? n : 1;
    }
    return n_out;
}
