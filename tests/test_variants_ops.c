/* The AVX2 operations between the products equal their scalar definitions bit for bit, faults
 * included: odd sizes, values of every magnitude, several sequences, 1 and 3 threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "kernels/fmath.h"
#include "tests/op_inputs.h"

/* The definition, the variant, and the variant on three threads. */
enum { N_BACKENDS = 3 };
static struct backend *backends[N_BACKENDS];

static int open_backends(void **state)
{
    (void)state;
    backends[0] = cpu_backend_open(cpu_kernels_scalar(), 1);
    backends[1] = cpu_backend_open(cpu_kernels_best(), 1);
    backends[2] = cpu_backend_open(cpu_kernels_best(), 3);
    for (int b = 0; b < N_BACKENDS; b++)
        if (backends[b] == NULL || !backends[b]->ops->reserve(backends[b], 512))
            return 1;
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    for (int b = 0; b < N_BACKENDS; b++)
        backends[b]->ops->close(backends[b]);
    return 0;
}

/* Copies of one array, an own one for each backend to write. */
struct copies {
    void *of[N_BACKENDS];
    size_t bytes;
};

static struct copies copies_of(const void *source, size_t bytes)
{
    struct copies copies = {.bytes = bytes};
    for (int b = 0; b < N_BACKENDS; b++) {
        copies.of[b] = need(bytes);
        if (source != NULL)
            memcpy(copies.of[b], source, bytes);
        else
            memset(copies.of[b], 0x5a, bytes);
    }
    return copies;
}

static void assert_copies_equal(struct copies *copies, const char *what, size_t n)
{
    for (int b = 1; b < N_BACKENDS; b++)
        for (size_t i = 0; i < copies->bytes; i += 4)
            if (memcmp((char *)copies->of[0] + i, (char *)copies->of[b] + i,
                       copies->bytes - i < 4 ? copies->bytes - i : 4) != 0)
                fail_msg("%s of %zu: word %zu differs in backend %d", what, n, i / 4, b);
    for (int b = 0; b < N_BACKENDS; b++)
        free(copies->of[b]);
}

static void assert_faults_equal(bool wanted, const char *operation, int32_t row)
{
    for (int b = 0; b < N_BACKENDS; b++) {
        struct numeric_fault fault = backends[b]->ops->fault(backends[b]);
        backends[b]->ops->clear_fault(backends[b]);
        assert_int_equal(fault.found, wanted);
        if (wanted) {
            assert_string_equal(fault.operation, operation);
            assert_int_equal(fault.row, row);
        }
    }
}

/* From ordinary values to subnormals and zeros of both signs, up to the largest. */
static float odd_float(struct numbers *numbers, float largest)
{
    switch (next_below(numbers, 9)) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return next_unit(numbers) * 0x1p-126f;
    case 3: return next_unit(numbers) * 0x1p-140f;
    case 4: return next_unit(numbers) * largest;
    case 5: return next_unit(numbers) * 100.0f;
    default: return next_float(numbers);
    }
}

static float *odd_floats(struct numbers *numbers, size_t n, float largest)
{
    float *x = need(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = odd_float(numbers, largest);
    return x;
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static void sums_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {1};
    for (size_t n = 1; n < 70; n++) {
        int32_t rows = n % 7 == 0 ? 1500 : 3;
        float *a = odd_floats(&numbers, n * (size_t)rows, 0x1p126f);
        float *b = odd_floats(&numbers, n * (size_t)rows, 0x1p126f);
        struct copies dst = copies_of(NULL, n * (size_t)rows * sizeof *a);
        for (int k = 0; k < N_BACKENDS; k++)
            backends[k]->ops->add(backends[k], &(struct add_args){a, b, dst.of[k], n, rows});
        assert_copies_equal(&dst, "add", n);
        dst = copies_of(a, n * (size_t)rows * sizeof *a);
        for (int k = 0; k < N_BACKENDS; k++)
            backends[k]->ops->add(backends[k],
                                  &(struct add_args){dst.of[k], b, dst.of[k], n, rows});
        assert_copies_equal(&dst, "add in place", n);
        free(a);
        free(b);
    }
}

static void gated_products_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {2};
    enum { ROWS = 13 };
    for (size_t n = 1; n < 150; n += n < 20 ? 1 : 13) {
        size_t stride = n + n % 3;
        float *a = odd_floats(&numbers, stride * ROWS, 0x1p100f);
        float *b = odd_floats(&numbers, stride * ROWS, 200.0f);
        struct copies apart = copies_of(NULL, stride * ROWS * sizeof *a);
        struct copies on_a = copies_of(a, stride * ROWS * sizeof *a);
        struct copies on_b = copies_of(b, stride * ROWS * sizeof *a);
        for (int k = 0; k < N_BACKENDS; k++) {
            struct mul_silu_args args = {a, b, apart.of[k], n, stride, stride, stride, ROWS};
            backends[k]->ops->mul_silu(backends[k], &args);
            args.a = args.dst = on_a.of[k];
            backends[k]->ops->mul_silu(backends[k], &args);
            args.a = a;
            args.b = args.dst = on_b.of[k];
            backends[k]->ops->mul_silu(backends[k], &args);
        }
        assert_copies_equal(&apart, "mul_silu", n);
        assert_copies_equal(&on_a, "mul_silu onto a", n);
        assert_copies_equal(&on_b, "mul_silu onto b", n);
        free(a);
        free(b);
    }
}

/* Every float from -110 to 100 in steps of about 2^-9, through a gate of attention-like size. */
static void silu_equals_the_definition_all_along_its_range(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    float *a = need(N * sizeof *a), *b = need(N * sizeof *b);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            a[i] = 1.0f;
            /* the second round walks through the bits, and so through every exponent */
            b[i] = round == 0 ? -110.0f + 210.0f * (float)i / N
                              : f32_from_bits((uint32_t)i << 16 | 0x1234);
            if (f32_not_finite(b[i]))
                b[i] = 0.0f;
        }
        struct copies dst = copies_of(NULL, N * sizeof *a);
        for (int k = 0; k < N_BACKENDS; k++)
            backends[k]->ops->mul_silu(backends[k],
                                       &(struct mul_silu_args){a, b, dst.of[k], N, N, N, N, 1});
        assert_copies_equal(&dst, "silu", N);
    }
    free(a);
    free(b);
}

static void norms_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {3};
    enum { ROWS = 5, GROUPS = 3 };
    for (size_t n = 1; n <= 600; n += n < 140 ? 1 : 23) {
        size_t group = n + 2, stride = GROUPS * group + 1, all = ROWS * stride;
        float largest = n % 2 == 0 ? 1.0f : 0x1p40f;
        float *src = odd_floats(&numbers, all, largest), *w = odd_floats(&numbers, n, 2.0f);
        struct copies dst = copies_of(NULL, all * sizeof *src);
        struct copies same = copies_of(src, all * sizeof *src);
        for (int k = 0; k < N_BACKENDS; k++) {
            struct rms_norm_args args = {src, dst.of[k], w, n, GROUPS, stride, group, stride, group,
                                         n % 3 == 0 ? 0x1p-140f : 1e-6f, ROWS};
            backends[k]->ops->rms_norm(backends[k], &args);
            args.src = args.dst = same.of[k];
            backends[k]->ops->rms_norm(backends[k], &args);
        }
        assert_copies_equal(&dst, "rms_norm", n);
        assert_copies_equal(&same, "rms_norm in place", n);
        assert_faults_equal(false, NULL, 0);
        src[3 * stride] = n % 2 == 0 ? 0x1p100f : NAN;
        for (int k = 0; k < N_BACKENDS; k++) {
            float *out = need(all * sizeof *out);
            struct rms_norm_args args = {src,   out,    w,     n,     GROUPS, stride,
                                         group, stride, group, 1e-6f, ROWS};
            backends[k]->ops->rms_norm(backends[k], &args);
            free(out);
        }
        assert_faults_equal(true, "rms_norm", 3);
        free(src);
        free(w);
    }
}

static void rotations_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {4};
    enum { ROWS = 9, HEADS = 11 };
    for (uint32_t pairs = 1; pairs < 70; pairs += pairs < 20 ? 1 : 7) {
        size_t head = 2 * pairs + 6, stride = HEADS * head + 3;
        float *x = odd_floats(&numbers, ROWS * stride, 0x1p100f);
        float *table = random_floats(&numbers, (size_t)ROWS * 2 * pairs);
        struct copies dst = copies_of(x, ROWS * stride * sizeof *x);
        for (int k = 0; k < N_BACKENDS; k++)
            backends[k]->ops->rope(backends[k], &(struct rope_args){dst.of[k], stride, head, HEADS,
                                                                    pairs, table, ROWS});
        assert_copies_equal(&dst, "rope", pairs);
        free(x);
        free(table);
    }
}

static void largest_elements_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {5};
    for (size_t n = 1; n < 300; n += n < 40 ? 1 : 19)
        for (int round = 0; round < 20; round++) {
            enum { ROWS = 4 };
            float *x = odd_floats(&numbers, ROWS * n, 0x1p120f);
            for (size_t i = 0; i < ROWS * n; i++) /* few values: ties everywhere */
                if (round % 4 == 1)
                    x[i] = (float)next_below(&numbers, 3);
                else if (round % 4 == 2)
                    x[i] = next_below(&numbers, 2) == 0 ? 0.0f : -0.0f;
                else if (round % 4 == 3)
                    x[i] = -1.0f - (float)next_below(&numbers, 2);
            bool spoilt = round >= 16;
            if (spoilt)
                x[2 * n + next_below(&numbers, (uint32_t)n)] = round == 16 ? NAN : INFINITY;
            struct copies dst = copies_of(NULL, ROWS * sizeof(int32_t));
            for (int k = 0; k < N_BACKENDS; k++)
                backends[k]->ops->argmax(backends[k], &(struct argmax_args){x, dst.of[k], n, ROWS});
            assert_copies_equal(&dst, "argmax", n);
            assert_faults_equal(spoilt, "argmax", 2);
            free(x);
        }
}

static void compare_routes(const float *logits, uint32_t n_experts, uint32_t n_used)
{
    enum { ROWS = 40 };
    size_t pairs = (size_t)ROWS * n_used;
    struct copies experts = copies_of(NULL, pairs * 4), weights = copies_of(NULL, pairs * 4);
    struct copies order = copies_of(NULL, pairs * 4), start = copies_of(NULL, n_experts * 4 + 4);
    for (int k = 0; k < N_BACKENDS; k++)
        backends[k]->ops->route(backends[k],
                                &(struct route_args){logits, experts.of[k], weights.of[k],
                                                     order.of[k], start.of[k], n_experts, n_used,
                                                     ROWS});
    assert_copies_equal(&experts, "route: experts", n_experts);
    assert_copies_equal(&weights, "route: weights", n_experts);
    assert_copies_equal(&order, "route: order", n_experts);
    assert_copies_equal(&start, "route: start", n_experts);
}

static void routes_equal_the_definition(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 7, 8, 9, 16, 63, 64, 65, 128, 255, 512, 1023, 1024};
    struct numbers numbers = {6};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int round = 0; round < 3; round++) {
            uint32_t n = counts[c], used = n < 8 ? n : 8;
            float *logits = random_floats(&numbers, 40 * (size_t)n);
            for (size_t i = 0; i < 40 * (size_t)n; i++)
                if (round == 1)
                    logits[i] = (float)next_below(&numbers, 3) - 0.0f;
                else if (round == 2)
                    logits[i] *= 300.0f;
            compare_routes(logits, n, used);
            assert_faults_equal(false, NULL, 0);
            logits[17 * n] = NAN;
            for (int k = 0; k < N_BACKENDS; k++) {
                int32_t experts[320], order[320], start[1025];
                float weights[320];
                backends[k]->ops->route(backends[k], &(struct route_args){logits, experts, weights,
                                                                          order, start, n, used,
                                                                          40});
            }
            assert_faults_equal(true, "route", 17);
            free(logits);
        }
}

static void sums_of_experts_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {7};
    enum { ROWS = 19 };
    for (size_t n = 1; n < 100; n += n < 20 ? 1 : 9)
        for (uint32_t used = 1; used <= 8; used += 7) {
            float *y = odd_floats(&numbers, ROWS * used * n, 0x1p100f);
            float *weights = odd_floats(&numbers, ROWS * used, 1.0f);
            float *shared = odd_floats(&numbers, ROWS * n, 0x1p100f);
            float *gates = odd_floats(&numbers, ROWS, 90.0f);
            struct copies with = copies_of(NULL, ROWS * n * 4);
            struct copies without = copies_of(NULL, ROWS * n * 4);
            for (int k = 0; k < N_BACKENDS; k++) {
                struct moe_combine_args args = {y, weights, shared, gates, with.of[k], n, used,
                                                ROWS};
                backends[k]->ops->moe_combine(backends[k], &args);
                args.shared = NULL;
                args.dst = without.of[k];
                backends[k]->ops->moe_combine(backends[k], &args);
            }
            assert_copies_equal(&with, "moe_combine", n);
            assert_copies_equal(&without, "moe_combine without a shared expert", n);
            free(y);
            free(weights);
            free(shared);
            free(gates);
        }
}

static void embeddings_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {8};
    const struct batch_row rows[] = {{6, 0, 0}, {0, 1, 0}, {2, 0, 1}, {6, 9, 2}, {5, 1, 1}};
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        uint32_t n = whole_blocks(weight_types[t], 301);
        struct weight w = random_weight(&numbers, weight_types[t], n, 7, 1);
        struct copies dst = copies_of(NULL, 5 * n * sizeof(float));
        for (int k = 0; k < N_BACKENDS; k++)
            backends[k]->ops->embed(backends[k], &(struct embed_args){w, rows, dst.of[k], 5});
        assert_copies_equal(&dst, "embed", n);
        free((void *)w.data);
    }
}

/* ---- operations with state ------------------------------------------------------------------- */

/* Sequences interleaved, their positions ascending from 0. */
static void interleave(struct numbers *numbers, struct batch_row *rows, int32_t n_rows,
                       uint32_t n_sequences)
{
    int32_t next[8] = {0};
    for (int32_t r = 0; r < n_rows; r++) {
        uint32_t sequence = next_below(numbers, n_sequences);
        rows[r] = (struct batch_row){0, next[sequence]++, (int32_t)sequence};
    }
}

/* What rounding to half must get right: ties, carries, subnormals, the largest values. */
static float half_corner(struct numbers *numbers)
{
    uint32_t exponent = 100 + next_below(numbers, 43); /* 2^-27 .. 2^15 */
    uint32_t fraction = (uint32_t)next_bits(numbers) & 0x7fffff;
    if (next_below(numbers, 2) == 0)
        fraction = (fraction & ~0x1fffu) | 0x1000 << next_below(numbers, 2);
    if (exponent == 142 && fraction >= 0x7ff000)
        fraction = 0x7fefff;
    return f32_from_bits((uint32_t)(next_bits(numbers) & 1) << 31 | exponent << 23 | fraction);
}

static void cached_rows_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {9};
    enum { ROWS = 20, CONTEXT = 24, SEQUENCES = 3 };
    struct batch_row rows[ROWS];
    interleave(&numbers, rows, ROWS, SEQUENCES);
    for (uint32_t dim = 1; dim < 60; dim++)
        for (int type = KV_F16; type <= KV_F32; type++) {
            size_t n = 2 * (size_t)dim, bytes = SEQUENCES * CONTEXT * n * (type == KV_F16 ? 2 : 4);
            float *k = need(ROWS * n * 4), *v = need(ROWS * n * 4);
            for (size_t i = 0; i < ROWS * n; i++) {
                k[i] = half_corner(&numbers);
                v[i] = odd_float(&numbers, 65000.0f);
            }
            struct copies kc = copies_of(NULL, bytes), vc = copies_of(NULL, bytes);
            for (int b = 0; b < N_BACKENDS; b++) {
                struct kv_cache cache = {kc.of[b], vc.of[b], (enum kv_type)type, 2, dim, CONTEXT};
                backends[b]->ops->kv_store(backends[b],
                                           &(struct kv_store_args){cache, rows, k, v, ROWS});
            }
            assert_faults_equal(false, NULL, 0);
            assert_copies_equal(&kc, "kv_store: k", n);
            assert_copies_equal(&vc, "kv_store: v", n);
            k[13 * n + dim] = type == KV_F16 ? 65520.0f : INFINITY;
            for (int b = 0; b < N_BACKENDS; b++) {
                void *memory = need(2 * bytes);
                struct kv_cache cache = {memory, (char *)memory + bytes, (enum kv_type)type, 2, dim,
                                         CONTEXT};
                backends[b]->ops->kv_store(backends[b],
                                           &(struct kv_store_args){cache, rows, k, v, ROWS});
                free(memory);
            }
            assert_faults_equal(true, "kv_store", 13);
            free(k);
            free(v);
        }
}

enum { CONTEXT = 310, SEQUENCES = 2 };

/* Rows apart, or neighbours across the end of a chunk and of a sequence. */
static void compare_attention(struct numbers *numbers, uint32_t dim, uint32_t kv_heads,
                              uint32_t sharing, enum kv_type type, bool gated, bool neighbours)
{
    enum { ROWS = 12 };
    static const struct batch_row apart[ROWS] = {
        {0, 0, 1},   {0, 1, 0}, {0, 63, 0},  {0, 64, 1},  {0, 65, 0}, {0, 127, 1},
        {0, 128, 0}, {0, 7, 1}, {0, 300, 0}, {0, 191, 1}, {0, 2, 0},  {0, 192, 1}};
    static const struct batch_row close[ROWS] = {
        {0, 57, 0}, {0, 58, 0}, {0, 59, 0}, {0, 60, 0}, {0, 61, 0}, {0, 62, 0},
        {0, 63, 0}, {0, 64, 0}, {0, 65, 0}, {0, 66, 0}, {0, 66, 1}, {0, 67, 1}};
    const struct batch_row *rows = neighbours ? close : apart;
    size_t heads = kv_heads * sharing, cached = (size_t)SEQUENCES * CONTEXT * kv_heads * dim;
    size_t head = (gated ? 2 : 1) * dim, stride = heads * head + 5;
    float *k = random_floats(numbers, cached), *v = random_floats(numbers, cached);
    float *q = random_floats(numbers, ROWS * stride);
    uint16_t *half = need(2 * cached * sizeof *half);
    for (size_t i = 0; i < cached; i++) {
        half[i] = f32_to_f16(k[i]);
        half[cached + i] = i % 5 == 0 ? (uint16_t)(i & 0x83ff) : f32_to_f16(v[i]);
    }
    struct copies out = copies_of(NULL, ROWS * heads * dim * sizeof(float));
    for (int b = 0; b < N_BACKENDS; b++) {
        struct kv_cache cache = {k, v, type, kv_heads, dim, CONTEXT};
        if (type == KV_F16) {
            cache.k = half;
            cache.v = half + cached;
        }
        backends[b]->ops->attention(
            backends[b], &(struct attention_args){
                             .cache = cache, .rows = rows, .q = q, .gate = gated ? q + dim : NULL,
                             .q_stride = stride, .q_head_stride = head, .n_heads = (uint32_t)heads,
                             .scale = 0.0625f, .out = out.of[b], .n_rows = ROWS});
    }
    assert_copies_equal(&out, type == KV_F16 ? "attention, f16" : "attention, f32", dim);
    free(k);
    free(v);
    free(q);
    free(half);
}

static void attention_equals_the_definition(void **state)
{
    (void)state;
    static const uint32_t dims[] = {8, 36, 40, 64, 80, 128, 256};
    struct numbers numbers = {10};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (uint32_t sharing = 1; sharing <= 6; sharing += dims[d] > 100 ? 2 : 1)
            for (int close = 0; close < 2; close++) {
                bool gated = sharing % 3 != 0;
                compare_attention(&numbers, dims[d], 1 + sharing % 2, sharing, KV_F16, gated, close);
                compare_attention(&numbers, dims[d], 2 - sharing % 2, sharing, KV_F32, !gated, close);
            }
}

static void convolutions_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {11};
    enum { ROWS = 14 };
    static const uint32_t channels[] = {1, 7, 8, 63, 64, 65, 200, 1100};
    for (uint32_t taps = 1; taps <= 10; taps++)
        for (size_t c = 0; c < sizeof channels / sizeof *channels; c++) {
            size_t n = channels[c], state_size = SEQUENCES * (taps - 1) * n;
            struct batch_row rows[ROWS];
            interleave(&numbers, rows, ROWS, SEQUENCES);
            float *x = odd_floats(&numbers, ROWS * n, 0x1p50f);
            float *w = odd_floats(&numbers, n * taps, 2.0f);
            float *before = odd_floats(&numbers, state_size, 0x1p50f);
            struct copies kept = copies_of(before, state_size * 4);
            struct copies out = copies_of(NULL, ROWS * n * 4);
            for (int b = 0; b < N_BACKENDS; b++)
                backends[b]->ops->conv(
                    backends[b],
                    &(struct conv_args){.rows = rows, .x = x, .w = w, .state = kept.of[b],
                                        .out = out.of[b], .n_channels = channels[c],
                                        .n_taps = taps, .n_sequences = SEQUENCES, .n_rows = ROWS});
            assert_copies_equal(&out, "conv", n);
            assert_copies_equal(&kept, "conv: state", n);
            free(x);
            free(w);
            free(before);
        }
}

/* With a journal, the state before the batch lies in a place of its own. */
static void compare_delta_net(struct numbers *numbers, uint32_t d, uint32_t k_heads,
                              uint32_t v_heads, int32_t n_rows, uint32_t n_sequences, bool journal)
{
    struct batch_row rows[80];
    interleave(numbers, rows, n_rows, n_sequences);
    size_t width = (size_t)(2 * k_heads + v_heads) * d, states = n_sequences * v_heads * d * d;
    size_t gates = (size_t)n_rows * v_heads;
    float *x = random_floats(numbers, (size_t)n_rows * width);
    float *before = random_floats(numbers, states);
    float *alpha = odd_floats(numbers, gates, 50.0f), *beta = odd_floats(numbers, gates, 50.0f);
    float *a = need(v_heads * 4), *dt = odd_floats(numbers, v_heads, 3.0f);
    for (size_t h = 0; h < v_heads; h++)
        a[h] = -fabsf(next_float(numbers));
    for (size_t i = 0; i < d && n_rows > 1; i++) /* a row of zeros, one of subnormals */
        x[i] = x[width + i] * 0x1p-130f;
    if (n_rows > 2)
        memset(x + 2 * width, 0, k_heads * d * sizeof *x);
    struct copies kept = copies_of(journal ? NULL : before, states * 4);
    struct copies out = copies_of(NULL, gates * d * 4), delta = copies_of(NULL, gates * d * 4);
    struct copies keys = copies_of(NULL, (size_t)n_rows * k_heads * d * 4);
    struct copies decay = copies_of(NULL, gates * 4);
    for (int round = 0; round < (n_rows > 4 ? 2 : 1); round++) { /* the second one spoilt */
        if (round == 1)
            x[4 * width + 1] = 0x1p120f;
        for (int b = 0; b < N_BACKENDS; b++) {
            struct delta_net_args args = {
                .rows = rows, .x = x, .alpha = alpha, .beta = beta, .a = a, .dt = dt,
                .state = kept.of[b], .out = out.of[b], .n_k_heads = k_heads, .n_v_heads = v_heads,
                .d = d, .n_sequences = n_sequences, .n_rows = n_rows};
            if (journal) {
                args.state_from = before;
                args.journal = (struct delta_net_journal){keys.of[b], delta.of[b], decay.of[b]};
            }
            backends[b]->ops->delta_net(backends[b], &args);
        }
        assert_faults_equal(round == 1, "delta_net", 4);
    }
    assert_copies_equal(&out, "delta_net", d);
    assert_copies_equal(&kept, "delta_net: state", d);
    assert_copies_equal(&keys, "delta_net: noted keys", d);
    assert_copies_equal(&delta, "delta_net: noted deltas", d);
    assert_copies_equal(&decay, "delta_net: noted decays", d);
    free(x);
    free(before);
    free(alpha);
    free(beta);
    free(a);
    free(dt);
}

static void delta_nets_equal_the_definition(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 7, 8, 12, 16, 40, 48, 64, 100, 128, 256};
    struct numbers numbers = {12};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (uint32_t heads = 2; heads <= 4; heads += 2) {
            compare_delta_net(&numbers, sizes[s], 2, heads, 7, SEQUENCES, false);
            compare_delta_net(&numbers, sizes[s], 2, heads, 5, 1, true);
        }
}

/* Around the number of rows that a variant takes together. */
static void delta_nets_of_any_number_of_rows_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {13};
    for (int32_t n_rows = 1; n_rows < 40; n_rows++)
        compare_delta_net(&numbers, 32, 1, 3, n_rows, 1, n_rows % 2 == 0);
    compare_delta_net(&numbers, 128, 2, 4, 70, 3, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_the_definition),
        cmocka_unit_test(gated_products_equal_the_definition),
        cmocka_unit_test(silu_equals_the_definition_all_along_its_range),
        cmocka_unit_test(norms_equal_the_definition),
        cmocka_unit_test(rotations_equal_the_definition),
        cmocka_unit_test(largest_elements_equal_the_definition),
        cmocka_unit_test(routes_equal_the_definition),
        cmocka_unit_test(sums_of_experts_equal_the_definition),
        cmocka_unit_test(embeddings_equal_the_definition),
        cmocka_unit_test(cached_rows_equal_the_definition),
        cmocka_unit_test(attention_equals_the_definition),
        cmocka_unit_test(convolutions_equal_the_definition),
        cmocka_unit_test(delta_nets_equal_the_definition),
        cmocka_unit_test(delta_nets_of_any_number_of_rows_equal_the_definition),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
