/* test_digest.c - digests of rows as every variant and number of threads computes them: the sum that
 * verify/digest.h defines, of any bits, and another one for any other bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/fmath.h"
#include "tests/backends.h"
#include "tests/op_inputs.h"
#include "verify/digest.h"

enum { ROWS = 3 };

static float *any_bits(struct numbers *numbers, size_t n)
{
    float *x = need(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = f32_from_bits((uint32_t)next_bits(numbers));
    return x;
}

/* Also of rows that several threads share, and of places that hold something else before. */
static void every_variant_gives_the_sum(void **state)
{
    (void)state;
    struct numbers numbers = {15};
    for (size_t n = 1; n < 40000; n += n < 40 ? 1 : 9001) {
        float *x = any_bits(&numbers, ROWS * n);
        for (int isa = SCALAR; isa <= BEST; isa++)
            for (int t = 0; t < MOST_THREADS; t += 5) {
                struct backend *b = backends[isa][t];
                uint64_t got[ROWS] = {1, 2, 3};
                b->ops->digest(b, &(struct digest_args){x, got, n, ROWS});
                for (size_t r = 0; r < ROWS; r++)
                    assert_true(got[r] == digest_row(x + r * n, n));
            }
        free(x);
    }
}

#ifdef MTP_HAVE_AVX2
/* The best kernels may be those of AVX-512. */
static void the_avx2_variant_gives_the_sum(void **state)
{
    (void)state;
    struct numbers numbers = {16};
    struct backend *b = cpu_has_avx2() ? cpu_backend_open(cpu_kernels_avx2(), 2) : NULL;
    for (size_t n = 1; b != NULL && n < 30000; n += n < 20 ? 1 : 9001) {
        float *x = any_bits(&numbers, n);
        uint64_t got;
        b->ops->digest(b, &(struct digest_args){x, &got, n, 1});
        assert_true(got == digest_row(x, n));
        free(x);
    }
    if (b != NULL)
        b->ops->close(b);
}
#endif

static void every_bit_and_every_place_counts(void **state)
{
    (void)state;
    enum { N = 21 };
    struct numbers numbers = {17};
    struct backend *b = backends[BEST][0];
    float *x = any_bits(&numbers, N);
    uint64_t before = digest_row(x, N), got;
    for (size_t i = 0; i < N; i++)
        for (int bit = 0; bit < 32; bit++) {
            float kept = x[i];
            x[i] = f32_from_bits(f32_bits(kept) ^ 1u << bit);
            b->ops->digest(b, &(struct digest_args){x, &got, N, 1});
            assert_true(got != before);
            x[i] = kept;
        }
    float first = x[0];
    x[0] = x[1];
    x[1] = first;
    b->ops->digest(b, &(struct digest_args){x, &got, N, 1});
    assert_true(got != before);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_gives_the_sum),
#ifdef MTP_HAVE_AVX2
        cmocka_unit_test(the_avx2_variant_gives_the_sum),
#endif
        cmocka_unit_test(every_bit_and_every_place_counts),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
