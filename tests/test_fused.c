/* test_fused.c - fused and place_heads of the CPU backends: what their operations give one by one, in that
 * order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "tests/numbers.h"

enum { N = 300, ROWS = 3, USED = 2, HEADS = 2, DIM = 24, PAIRS = 5, CONTEXT = 9 };

/* ---- order ---------------------------------------------------------------------------------- */

/* A backend that notes what it is asked for. */
struct witness {
    struct backend base;
    char calls[300];
};

static void note(struct backend *b, const char *operation)
{
    struct witness *w = (struct witness *)(void *)b;
    size_t used = strlen(w->calls);
    snprintf(w->calls + used, sizeof w->calls - used, "%s@%d ", operation, (int)b->layer);
}

#define WITNESS(op)                                                                                \
    static void w_##op(struct backend *b, const struct op##_args *args)                            \
    {                                                                                              \
        assert_non_null(args);                                                                     \
        note(b, #op);                                                                              \
    }
WITNESS(attention)
WITNESS(moe_combine)
WITNESS(add)
WITNESS(rms_norm)
WITNESS(mul_silu)
WITNESS(quantize)
WITNESS(matmul)
WITNESS(route)
WITNESS(rope)
WITNESS(kv_store)

static const struct ops witness_ops = {
    .attention = w_attention, .moe_combine = w_moe_combine, .add = w_add, .rms_norm = w_rms_norm,
    .mul_silu = w_mul_silu, .quantize = w_quantize, .matmul = w_matmul, .route = w_route,
    .rope = w_rope, .kv_store = w_kv_store,
    .fused = fused_one_by_one, .place_heads = place_heads_one_by_one,
};

static void what_is_given_runs_in_its_order_and_layers(void **state)
{
    (void)state;
    struct witness w = {.base = {&witness_ops, 7}};
    const struct attention_args attention = {0};
    const struct moe_combine_args combine = {0};
    const struct add_args add = {0};
    const struct rms_norm_args norm = {0};
    const struct mul_silu_args gate = {0};
    const struct quantize_args quantize = {0};
    const struct matmul_args product = {.n_rows = 1};
    const struct route_args route = {.n_rows = 1};
    const struct fused_args beside = {.gate = &gate, .quantize = &quantize};
    const struct fused_args all = {&attention, &combine, &add, &norm, &gate, &quantize, 6, &product, &route,
                                   &beside};
    fused_one_by_one(&w.base, &all);
    assert_string_equal(w.calls, "attention@7 moe_combine@6 add@6 rms_norm@7 mul_silu@7 quantize@7 matmul@7 "
                                 "route@7 mul_silu@7 quantize@7 ");
    assert_int_equal(w.base.layer, 7);
    w.calls[0] = '\0';
    const struct fused_args some = {.add = &add, .quantize = &quantize, .layer_of_add = 7};
    fused_one_by_one(&w.base, &some);
    fused_one_by_one(&w.base, &(struct fused_args){.norm = &norm});
    assert_string_equal(w.calls, "add@7 quantize@7 rms_norm@7 ");
}

static void heads_are_placed_keys_first_and_queries_if_there_are_any(void **state)
{
    (void)state;
    struct witness w = {.base = {&witness_ops, 0}};
    const struct rms_norm_args norm = {0};
    const struct rope_args rope = {0};
    const struct kv_store_args store = {0};
    place_heads_one_by_one(&w.base, &(struct place_heads_args){&norm, NULL, &rope, NULL, &store});
    assert_string_equal(w.calls, "rms_norm@0 rope@0 kv_store@0 ");
    place_heads_one_by_one(&w.base, &(struct place_heads_args){&norm, &norm, &rope, &rope, &store});
    assert_string_equal(w.calls, "rms_norm@0 rope@0 kv_store@0 "
                                 "rms_norm@0 rope@0 kv_store@0 rms_norm@0 rope@0 ");
}

/* ---- bits ----------------------------------------------------------------------------------- */

struct buffers {
    float x[ROWS * N], mixed[ROWS * N], y[ROWS * USED * N], normed[ROWS * N], z[ROWS * N], w[N];
    float weights[ROWS * USED], shared_gate[ROWS];
    float k[ROWS * HEADS * DIM], v[ROWS * HEADS * DIM], table[ROWS * 2 * PAIRS], kc[CONTEXT * HEADS * DIM];
    float vc[CONTEXT * HEADS * DIM];
    struct batch_row rows[ROWS];
    struct act_block act[ROWS * 2];
};

static struct buffers *filled(void)
{
    struct numbers numbers = {.state = 11};
    void *memory = aligned_alloc(64, (sizeof(struct buffers) + 63) / 64 * 64);
    assert_non_null(memory);
    struct buffers *b = memory;
    memset(b, 0, sizeof *b);
    fill_floats(&numbers, memory, offsetof(struct buffers, kc) / sizeof(float));
    for (int r = 0; r < ROWS; r++)
        b->rows[r] = (struct batch_row){0, r + 2, 0};
    return b;
}

static void run(struct backend *backend, struct buffers *b, bool together)
{
    const struct ops *ops = backend->ops;
    const struct moe_combine_args combine = {b->y, b->weights, b->z, b->shared_gate, b->mixed, N, USED, ROWS};
    const struct add_args add = {b->x, b->mixed, b->x, N, ROWS};
    const struct rms_norm_args norm = {b->x, b->normed, b->w, N, 1, N, 0, N, 0, 1e-6f, ROWS};
    const struct mul_silu_args gate = {b->normed, b->z, b->normed, N, N, N, N, ROWS};
    const struct quantize_args quantize = {b->normed, b->act, N, ROWS};
    const size_t width = HEADS * DIM;
    const struct rms_norm_args k_norm = {b->k, b->k, b->w, DIM, HEADS, width, DIM, width, DIM, 1e-6f, ROWS};
    const struct rope_args rope = {b->k, width, DIM, HEADS, PAIRS, b->table, ROWS, NULL};
    const struct kv_store_args store = {{b->kc, b->vc, KV_F32, HEADS, DIM, CONTEXT}, b->rows, b->k, b->v,
                                        ROWS};
    if (together) {
        ops->fused(backend, &(struct fused_args){.combine = &combine, .add = &add, .norm = &norm,
                                                  .gate = &gate, .quantize = &quantize});
        ops->place_heads(backend, &(struct place_heads_args){&k_norm, NULL, &rope, NULL, &store});
        return;
    }
    ops->moe_combine(backend, &combine);
    ops->add(backend, &add);
    ops->rms_norm(backend, &norm);
    ops->mul_silu(backend, &gate);
    ops->quantize(backend, &quantize);
    ops->rms_norm(backend, &k_norm);
    ops->rope(backend, &rope);
    ops->kv_store(backend, &store);
}

/* By every instruction set, and against the definition. */
static void together_and_one_by_one_give_the_same_bits(void **state)
{
    (void)state;
    const struct cpu_kernels *kernels[3] = {cpu_kernels_scalar(), cpu_kernels_best(), NULL};
#ifdef MTP_HAVE_AVX2
    if (cpu_has_avx2())
        kernels[2] = cpu_kernels_avx2();
#endif
    struct buffers *wanted = filled();
    struct backend *scalar = cpu_backend_open(kernels[0], 1);
    run(scalar, wanted, false);
    assert_false(scalar->ops->fault(scalar).found);
    scalar->ops->close(scalar);
    for (int i = 0; i < 3 && kernels[i] != NULL; i++) {
        struct buffers *got = filled();
        struct backend *backend = cpu_backend_open(kernels[i], 2);
        assert_true(memcmp(got, wanted, sizeof *got) != 0);
        run(backend, got, true);
        assert_memory_equal(got, wanted, sizeof *got);
        backend->ops->close(backend);
        free(got);
    }
    free(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_runs_in_its_order_and_layers),
        cmocka_unit_test(heads_are_placed_keys_first_and_queries_if_there_are_any),
        cmocka_unit_test(together_and_one_by_one_give_the_same_bits),
    };
    return cmocka_run_group_tests_name("fused", tests, NULL, NULL);
}
