#include "utf8.h"

/* Bytes a lead byte announces and the range its second byte must lie in. */
static size_t announced(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef) {
        if (lead == 0xe0)
            *low = 0xa0;
        if (lead == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        if (lead == 0xf0)
            *low = 0x90;
        if (lead == 0xf4)
            *high = 0x8f;
        return 4;
    }
    return 0;
}

/* How many of the first `available` bytes agree with the announced sequence. */
static size_t agreeing(const char *text, size_t available, size_t wanted, unsigned char low,
                       unsigned char high)
{
    size_t n = 1;
    for (; n < wanted && n < available; n++) {
        unsigned char byte = (unsigned char)text[n];
        if (byte < (n == 1 ? low : 0x80) || byte > (n == 1 ? high : 0xbf))
            break;
    }
    return n;
}

size_t utf8_sequence_length(const char *text, size_t available)
{
    if (available == 0)
        return 0;
    unsigned char low, high;
    size_t wanted = announced((unsigned char)text[0], &low, &high);
    if (wanted == 0 || wanted > available)
        return 0;
    return agreeing(text, available, wanted, low, high) == wanted ? wanted : 0;
}

bool utf8_is_incomplete(const char *text, size_t available)
{
    if (available == 0)
        return false;
    unsigned char low, high;
    size_t wanted = announced((unsigned char)text[0], &low, &high);
    return wanted > available && agreeing(text, available, wanted, low, high) == available;
}

uint32_t utf8_decode(const char *text, size_t length)
{
    const unsigned char *b = (const unsigned char *)text;
    switch (length) {
    case 1:
        return b[0];
    case 2:
        return (uint32_t)(b[0] & 0x1f) << 6 | (b[1] & 0x3f);
    case 3:
        return (uint32_t)(b[0] & 0x0f) << 12 | (uint32_t)(b[1] & 0x3f) << 6 | (b[2] & 0x3f);
    default:
        return (uint32_t)(b[0] & 0x07) << 18 | (uint32_t)(b[1] & 0x3f) << 12 |
               (uint32_t)(b[2] & 0x3f) << 6 | (b[3] & 0x3f);
    }
}
