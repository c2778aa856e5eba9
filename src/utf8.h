/* utf8.h - the one place that knows what a well-formed UTF-8 sequence is (RFC 3629). */
#ifndef MTP_SRC_UTF8_H
#define MTP_SRC_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length (1..4) of the well-formed sequence at text, or 0 when the bytes there are not one
 * (truncated, overlong, a surrogate, above U+10FFFF). */
size_t utf8_sequence_length(const char *text, size_t available);

/* True when the bytes at text are a proper prefix of some well-formed sequence. */
bool utf8_is_incomplete(const char *text, size_t available);

/* Code point of the well-formed sequence at text. */
uint32_t utf8_decode(const char *text, size_t length);

#endif
