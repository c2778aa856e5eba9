/* utf8.c against RFC 3629 written down another way: a sequence is well formed when encoding the
 * number in it gives the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "utf8.h"

static size_t encode(uint32_t code_point, unsigned char out[4])
{
    if (code_point < 0x80) {
        out[0] = (unsigned char)code_point;
        return 1;
    }
    size_t n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; code_point >>= 6)
        out[i] = (unsigned char)(0x80 | (code_point & 0x3f));
    out[0] = (unsigned char)((0xf00u >> n & 0xf0) | code_point);
    return n;
}

static bool is_scalar(uint32_t code_point)
{
    return code_point <= 0x10ffff && (code_point < 0xd800 || code_point > 0xdfff);
}

/* Length of the well-formed sequence at bytes by the other definition. */
static size_t expected_length(const unsigned char *bytes, size_t available)
{
    for (size_t n = 1; n <= 4 && n <= available; n++) {
        uint32_t number = n == 1 ? bytes[0] : bytes[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++)
            number = number << 6 | (bytes[i] & 0x3f);
        unsigned char again[4];
        if (is_scalar(number) && encode(number, again) == n && memcmp(again, bytes, n) == 0)
            return n;
    }
    return 0;
}

static void every_code_point_is_one_sequence_and_decodes_to_itself(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        unsigned char bytes[4];
        size_t n = encode(c, bytes);
        size_t got = utf8_sequence_length((const char *)bytes, n);
        if (got != (is_scalar(c) ? n : 0))
            fail_msg("U+%04X has length %zu", c, got);
        if (is_scalar(c) && utf8_decode((const char *)bytes, n) != c)
            fail_msg("U+%04X decodes to U+%04X", c, utf8_decode((const char *)bytes, n));
    }
}

/* The bytes at which the rules change. */
static const unsigned char borders[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f,
                                        0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xff};
enum { N_BORDERS = sizeof borders };

static void any_bytes_are_judged_as_the_standard_does(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        for (int i = 0; i < N_BORDERS * N_BORDERS * N_BORDERS; i++) {
            unsigned char bytes[4] = {(unsigned char)first, borders[i % N_BORDERS],
                                      borders[i / N_BORDERS % N_BORDERS],
                                      borders[i / (N_BORDERS * N_BORDERS)]};
            for (size_t available = 0; available <= 4; available++) {
                size_t got = utf8_sequence_length((const char *)bytes, available);
                size_t wanted = expected_length(bytes, available);
                if (got != wanted)
                    fail_msg("%02x %02x %02x %02x of %zu: %zu, not %zu", bytes[0], bytes[1],
                             bytes[2], bytes[3], available, got, wanted);
            }
        }
    }
}

/* Some continuation makes the bytes well formed. Trail bytes at the borders of their range are
 * enough to find one. */
static bool can_be_completed(const unsigned char *bytes, size_t available)
{
    unsigned char whole[4];
    memcpy(whole, bytes, available);
    for (size_t n = available + 1; n <= 4; n++) {
        for (int i = 0; i < 4 * 4 * 4; i++) {
            static const unsigned char trails[4] = {0x80, 0x8f, 0x90, 0xbf};
            for (size_t k = available, rest = (size_t)i; k < n; k++, rest /= 4)
                whole[k] = trails[rest % 4];
            if (expected_length(whole, n) == n)
                return true;
        }
    }
    return false;
}

static void a_prefix_is_incomplete_when_more_bytes_can_complete_it(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        for (int i = 0; i < N_BORDERS * N_BORDERS; i++) {
            unsigned char bytes[3] = {(unsigned char)first, borders[i % N_BORDERS],
                                      borders[i / N_BORDERS]};
            for (size_t available = 1; available <= 3; available++) {
                bool got = utf8_is_incomplete((const char *)bytes, available);
                if (got != can_be_completed(bytes, available))
                    fail_msg("%02x %02x %02x of %zu: %d", bytes[0], bytes[1], bytes[2], available,
                             got);
            }
        }
    }
    assert_false(utf8_is_incomplete("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_one_sequence_and_decodes_to_itself),
        cmocka_unit_test(any_bytes_are_judged_as_the_standard_does),
        cmocka_unit_test(a_prefix_is_incomplete_when_more_bytes_can_complete_it),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
