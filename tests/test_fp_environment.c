/* A host program may have turned on flush-to-zero, or another rounding: the operations compute as
 * documented all the same, on every thread, and put back what they found. */
#include <fenv.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/fmath.h"
#include "kernels/rope.h"
#include "tests/backends.h"
#include "tests/op_inputs.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
/* Round up, flush results to zero, read subnormals as zero; exceptions masked. */
static const unsigned hostile_control = 0x1f80u | 0x4000u | 0x8000u | 0x0040u;
static unsigned get_control(void)
{
    return _mm_getcsr() & ~0x3fu; /* without the exception flags */
}
static void set_control(unsigned control)
{
    _mm_setcsr(control);
}
#else
static const unsigned hostile_control = FE_UPWARD;
static unsigned get_control(void)
{
    return (unsigned)fegetround();
}
static void set_control(unsigned control)
{
    fesetround((int)control);
}
#endif

enum { N = 256, OUT = 256, ROWS = 16, THREADS = 8, HEADS = 8, HEAD = 32, CTX = 16 };

/* What one pass over the operations reads and writes. */
struct pass {
    float x[ROWS * N], y[ROWS * OUT], normed[ROWS * N], attended[ROWS * HEADS * HEAD];
    float summed[ROWS * N], gated[ROWS * N], table[ROWS * 16], k[CTX * N], v[CTX * N];
    float convolved[ROWS * N], taps[3 * N], product[ROWS * OUT], read[ROWS * 64], s[2 * 32 * 32];
    double frequencies[8];
    struct act_block act[ROWS];
    struct batch_row rows[ROWS];
};

static struct weight quantised_weight, float_weight;
static float *taps, *norm;

static void run_pass(struct backend *backend, struct pass *p)
{
    const struct ops *ops = backend->ops;
    struct kv_cache cache = {p->k, p->v, KV_F32, HEADS, HEAD, CTX};
    static const float zeros[ROWS * 2];
    rope_frequencies(p->frequencies, 16, 1e7);
    rope_table(p->table, p->rows, ROWS, p->frequencies, 8);
    ops->rms_norm(backend, &(struct rms_norm_args){p->x, p->normed, norm, N / 8, 8, N, N / 8, N,
                                                   N / 8, 1e-6f, ROWS});
    ops->quantize(backend, &(struct quantize_args){p->normed, p->act, N, ROWS});
    ops->matmul(backend, &(struct matmul_args){quantised_weight, NULL, p->act, p->y, OUT, ROWS});
    ops->matmul(backend, &(struct matmul_args){float_weight, p->x, NULL, p->product, OUT, ROWS});
    ops->rope(backend, &(struct rope_args){p->normed, N, HEAD, HEADS, 8, p->table, ROWS});
    ops->kv_store(backend, &(struct kv_store_args){cache, p->rows, p->normed, p->x, ROWS});
    ops->attention(backend, &(struct attention_args){
        .cache = cache, .rows = p->rows, .q = p->normed, .q_stride = N, .q_head_stride = HEAD,
        .n_heads = HEADS, .scale = 0.3f, .out = p->attended, .n_rows = ROWS});
    ops->add(backend, &(struct add_args){p->x, p->attended, p->summed, N, ROWS});
    ops->mul_silu(backend, &(struct mul_silu_args){p->x, p->y, p->gated, N, N, N, N, ROWS});
    ops->conv(backend, &(struct conv_args){p->rows, p->x, taps, p->taps, p->convolved, N, 4, 1,
                                           ROWS});
    ops->delta_net(backend, &(struct delta_net_args){p->rows, p->convolved, zeros, zeros, zeros,
                                                     zeros, p->s, p->read, 3, 2, 32, 1, ROWS});
}

static struct pass *new_pass(void)
{
    struct pass *p = NULL;
    assert_int_equal(posix_memalign((void **)&p, 64, sizeof *p), 0);
    memset(p, 0, sizeof *p);
    struct numbers numbers = {70};
    fill_floats(&numbers, p->x, ROWS * N);
    for (int i = 0; i < ROWS * N; i += 7) /* subnormals, which a host may flush */
        p->x[i] = p->x[i] * 0x1p-130f;
    for (int r = 0; r < ROWS; r++)
        p->rows[r] = (struct batch_row){0, r, 0};
    return p;
}

/* A backend opened and used under the hostile control, whose threads are born with it. */
static void check_kernels(const struct cpu_kernels *kernels, uint32_t n_threads)
{
    struct pass *wanted = new_pass(), *got = new_pass();
    assert_true(backends[SCALAR][0]->ops->reserve(backends[SCALAR][0], CTX));
    run_pass(backends[SCALAR][0], wanted);
    unsigned saved = get_control();
    set_control(hostile_control);
    unsigned before = get_control();
    struct backend *backend = cpu_backend_open(kernels, n_threads);
    bool ready = backend != NULL && backend->ops->reserve(backend, CTX);
    if (ready)
        run_pass(backend, got);
    unsigned after = get_control();
    set_control(saved);
    assert_true(ready);
    backend->ops->close(backend);
    assert_int_equal(after, before);
    assert_int_not_equal(before, saved);
    assert_memory_equal(got, wanted, sizeof *got);
    free(wanted);
    free(got);
}

static void the_callers_control_word_changes_nothing_and_is_restored(void **state)
{
    (void)state;
    struct numbers numbers = {71};
    quantised_weight = random_weight(&numbers, MTP_TYPE_Q4_K, N, OUT, 1);
    float_weight = random_weight(&numbers, MTP_TYPE_F32, N, OUT, 1);
    taps = random_floats(&numbers, N * 4);
    norm = random_floats(&numbers, N);
    for (uint32_t n_threads = 1; n_threads <= THREADS; n_threads += THREADS - 1) {
        check_kernels(cpu_kernels_scalar(), n_threads);
        check_kernels(cpu_kernels_best(), n_threads);
    }
    free((void *)quantised_weight.data);
    free((void *)float_weight.data);
    free(taps);
    free(norm);
}

static void a_control_word_like_that_would_change_results(void **state)
{
    (void)state;
    /* The test above can fail: the same code outside the backend gives other bits. */
    volatile float third = 3.0f, small = 0x1p-130f;
    float nearest = 1.0f / third, kept = small * 0.5f;
    unsigned saved = get_control();
    set_control(hostile_control);
    volatile float up = 1.0f / third, flushed = small * 0.5f;
    set_control(saved);
    bool differs = f32_bits(up) != f32_bits(nearest) || f32_bits(flushed) != f32_bits(kept);
    assert_true(differs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_callers_control_word_changes_nothing_and_is_restored),
        cmocka_unit_test(a_control_word_like_that_would_change_results),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
