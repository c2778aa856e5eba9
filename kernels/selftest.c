/* selftest.c - see selftest.h. The constants come from the scalar definitions
 * (tests/test_selftest --print); docs/arithmetic.md says when they may change. */
#include "kernels/selftest.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/activation.h"
#include "kernels/cpu/backend.h"
#include "kernels/fmath.h"
#include "kernels/rope.h"

enum { ARENA = 32768, ACTS = 24, PRODUCT_BYTES = 8192, PACKED_BYTES = 65536, OUT = 2, ROWS = 2 };

/* What one operation may use; made anew for each from its own seed. */
struct selftest {
    struct backend *backend;
    const struct ops *ops;
    uint32_t type; /* of the products */
    uint64_t random, digest;
    size_t used;   /* of the arena */
    struct act_block *act;
    float *arena;
    uint8_t *weights, *packed;
};

static uint32_t next(struct selftest *t)
{
    t->random = t->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(t->random >> 32);
}

static float *zeros(struct selftest *t, size_t n)
{
    float *x = t->arena + t->used;
    t->used += (n + 15) / 16 * 16;
    memset(x, 0, n * sizeof *x);
    return x;
}

/* n floats in [-4, 4), integers times a power of two and so exact. */
static float *floats(struct selftest *t, size_t n)
{
    float *x = zeros(t, n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((int32_t)(next(t) >> 8) - (1 << 23)) * 0x1p-21f;
    return x;
}

static void digest_word(struct selftest *t, uint32_t word)
{
    t->digest = (t->digest ^ word) * 0x100000001b3u;
    t->digest ^= t->digest >> 29;
}

static void digest(struct selftest *t, const void *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, (const char *)words + 4 * i, sizeof word);
        digest_word(t, word);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

/* Any bits, but for the scales: halves of 2^-7 to 2^-6, or the exponents 118 to 125. */
static void random_block(struct selftest *t, uint8_t *block)
{
    const struct type_info *info = type_info(t->type);
    for (uint32_t i = 0; i < info->block_bytes; i++)
        block[i] = (uint8_t)(next(t) >> 24);
    size_t at = t->type == MTP_TYPE_Q2_K ? 80 : t->type == MTP_TYPE_Q3_K ? 108
              : t->type == MTP_TYPE_Q6_K ? 208 : 0;
    if (t->type == MTP_TYPE_MXFP4) {
        block[0] = (uint8_t)(118 + block[0] % 8);
        return;
    }
    for (int i = 0; i <= (int)info->has_min; i++)
        block[at + 2 * (size_t)i + 1] = (uint8_t)((block[at + 2 * (size_t)i + 1] & 0x83) | 0x20);
}

static struct weight random_matrix(struct selftest *t, uint32_t n_in, uint32_t n_out,
                                   uint32_t n_experts)
{
    const struct type_info *info = type_info(t->type);
    size_t row = n_in / info->block_elements * info->block_bytes, bytes = row * n_out * n_experts;
    for (size_t at = 0; at < bytes; at += info->block_bytes) {
        if (info->weight_class != WEIGHT_FLOAT) {
            random_block(t, t->weights + at);
            continue;
        }
        /* Exponents around 1, any sign and mantissa. */
        uint32_t bits = (next(t) & 0x81ffffffu) | 0x3e000000u;
        uint16_t high = (uint16_t)(bits >> 16);
        memcpy(t->weights + at, info->block_bytes == 4 ? (void *)&bits : (void *)&high,
               info->block_bytes);
    }
    return (struct weight){t->weights, t->type, n_in, n_out, n_experts, row, row * n_out};
}

/* The packed form must give what y holds; one digest word tells that it does not. */
static void test_packed(struct selftest *t, struct matmul_args args, const float *y)
{
    size_t bytes = t->ops->packed_bytes(t->backend, &args.w);
    if (bytes == 0)
        return;
    struct packed_weight packed = {t->packed};
    args.w.packed = &packed;
    args.y = zeros(t, ROWS * OUT);
    if (bytes <= PACKED_BYTES) {
        pack_whole(t->backend, &args.w, t->packed);
        t->ops->matmul(t->backend, &args);
    }
    if (bytes > PACKED_BYTES || memcmp(args.y, y, ROWS * OUT * sizeof *y) != 0)
        digest_word(t, 1);
}

static void test_matmul(struct selftest *t)
{
    /* Nine super-blocks, so that a segment has two; a short tenth where the type allows it. */
    enum weight_class class = type_info(t->type)->weight_class;
    uint32_t n_in = class == WEIGHT_K ? 2304 : class == WEIGHT_S ? 2400 : 200;
    struct weight w = random_matrix(t, n_in, OUT, 1);
    float *x = floats(t, ROWS * n_in), *y = zeros(t, ROWS * OUT);
    t->ops->quantize(t->backend, &(struct quantize_args){x, t->act, n_in, ROWS});
    const struct matmul_args args = {w, x, t->act, y, OUT, ROWS};
    t->ops->matmul(t->backend, &args);
    digest(t, y, ROWS * OUT);
    test_packed(t, args, y);
}

static void test_embed(struct selftest *t)
{
    const struct batch_row rows[ROWS] = {{2, 0, 0}, {0, 1, 0}};
    t->type = MTP_TYPE_Q4_K;
    struct weight w = random_matrix(t, 512, 3, 1);
    float *y = zeros(t, ROWS * 512);
    t->ops->embed(t->backend, &(struct embed_args){w, rows, y, ROWS});
    digest(t, y, ROWS * 512);
}

static void test_quantize(struct selftest *t)
{
    enum { N = 300 };
    float *x = floats(t, ROWS * N);
    x[7] = 300.0f;
    for (int i = 64; i < 96; i++)
        x[i] *= 0x1p-10f;
    t->ops->quantize(t->backend, &(struct quantize_args){x, t->act, N, ROWS});
    for (size_t b = 0; b < ROWS * act_blocks(N); b++) {
        for (int i = 0; i < SUPER_BLOCK; i++)
            digest_word(t, (uint8_t)t->act[b].q[i]);
        for (int i = 0; i < 16; i++)
            digest_word(t, (uint16_t)t->act[b].bsum[i]);
        for (int i = 0; i < 8; i++)
            digest_word(t, t->act[b].mul[i]);
        digest(t, &t->act[b].d, 1);
    }
}

/* ---- experts --------------------------------------------------------------------------------- */

enum { EXPERTS = 12, USED = 3, EXPERT_ROWS = 5, PAIRS = USED * EXPERT_ROWS };

struct routed {
    int32_t experts[PAIRS], order[PAIRS], start[EXPERTS + 1];
    float weights[PAIRS];
};

static void route(struct selftest *t, struct routed *routed)
{
    float *logits = floats(t, EXPERT_ROWS * EXPERTS);
    logits[5] = logits[3];
    t->ops->route(t->backend, &(struct route_args){logits, routed->experts, routed->weights,
                                                   routed->order, routed->start, EXPERTS, USED,
                                                   EXPERT_ROWS});
}

static void test_route(struct selftest *t)
{
    struct routed routed;
    route(t, &routed);
    digest(t, routed.experts, PAIRS);
    digest(t, routed.weights, PAIRS);
    digest(t, routed.order, PAIRS);
    digest(t, routed.start, EXPERTS + 1);
}

static void test_expert_matmul(struct selftest *t)
{
    struct routed routed;
    t->type = MTP_TYPE_Q4_K;
    struct weight w = random_matrix(t, 256, OUT, EXPERTS);
    float *x = floats(t, EXPERT_ROWS * 256), *y = zeros(t, PAIRS * OUT);
    route(t, &routed);
    t->ops->quantize(t->backend, &(struct quantize_args){x, t->act, 256, EXPERT_ROWS});
    for (int grouped = 0; grouped < 2; grouped++) {
        struct expert_matmul_args args = {w, NULL, t->act, y, OUT, PAIRS, USED, routed.order,
                                          routed.start, grouped != 0};
        t->ops->expert_matmul(t->backend, &args);
        digest(t, y, PAIRS * OUT);
    }
}

static void test_moe_combine(struct selftest *t)
{
    enum { N = 43 };
    float *y = floats(t, PAIRS * N), *weights = floats(t, PAIRS);
    float *shared = floats(t, EXPERT_ROWS * N), *gate = floats(t, EXPERT_ROWS);
    float *dst = zeros(t, EXPERT_ROWS * N);
    t->ops->moe_combine(t->backend, &(struct moe_combine_args){y, weights, shared, gate, dst, N,
                                                               USED, EXPERT_ROWS});
    digest(t, dst, EXPERT_ROWS * N);
}

/* ---- elements and rows ----------------------------------------------------------------------- */

static void test_rms_norm(struct selftest *t)
{
    enum { N = 139, GROUPS = 2, ALL = GROUPS * N };
    float *x = floats(t, ROWS * ALL), *w = floats(t, N), *y = zeros(t, ROWS * ALL);
    t->ops->rms_norm(t->backend, &(struct rms_norm_args){x, y, w, N, GROUPS, ALL, N, ALL, N,
                                                         1e-6f, ROWS});
    digest(t, y, ROWS * ALL);
}

static void test_add(struct selftest *t)
{
    enum { N = 101 };
    float *a = floats(t, N), *b = floats(t, N), *y = zeros(t, N);
    t->ops->add(t->backend, &(struct add_args){a, b, y, N, 1});
    digest(t, y, N);
}

static void test_mul_silu(struct selftest *t)
{
    enum { N = 203 };
    float *a = floats(t, N), *b = floats(t, N), *y = zeros(t, N);
    for (int i = 0; i < N; i++)
        b[i] *= 8.0f;
    t->ops->mul_silu(t->backend, &(struct mul_silu_args){a, b, y, N, N, N, N, 1});
    digest(t, y, N);
}

static void test_argmax(struct selftest *t)
{
    enum { N = 333 };
    float *x = floats(t, ROWS * N);
    int32_t best[ROWS];
    memcpy(x + N, x, N * sizeof *x);
    t->ops->argmax(t->backend, &(struct argmax_args){x, best, N, 1});
    x[N + (best[0] + 100) % N] = x[best[0]]; /* a tie */
    t->ops->argmax(t->backend, &(struct argmax_args){x, best, N, ROWS});
    digest(t, best, ROWS);
}

static void test_digest(struct selftest *t)
{
    enum { N = 77 };
    float *x = floats(t, ROWS * N);
    uint64_t digests[ROWS];
    t->ops->digest(t->backend, &(struct digest_args){x, digests, N, ROWS});
    digest(t, digests, 2 * ROWS);
}

static void test_rope(struct selftest *t)
{
    enum { PAIRS_TURNED = 16, HEAD = 48, HEADS = 2 };
    const struct batch_row rows[ROWS] = {{0, 262143, 0}, {0, 31, 0}};
    double frequencies[PAIRS_TURNED];
    float *x = floats(t, ROWS * HEADS * HEAD), *table = zeros(t, ROWS * 2 * PAIRS_TURNED);
    rope_frequencies(frequencies, 2 * PAIRS_TURNED, 1e7);
    rope_table(table, rows, ROWS, frequencies, PAIRS_TURNED);
    t->ops->rope(t->backend, &(struct rope_args){x, HEADS * HEAD, HEAD, HEADS, PAIRS_TURNED, table,
                                                 ROWS});
    digest(t, table, ROWS * 2 * PAIRS_TURNED);
    digest(t, x, ROWS * HEADS * HEAD);
}

/* ---- state ----------------------------------------------------------------------------------- */

enum { POSITIONS = 70, KV_HEADS = 1, HEADS = 2, HEAD = 40 };

/* Keys and values of POSITIONS rows in a cache of their own. */
static struct kv_cache filled_cache(struct selftest *t, enum kv_type type)
{
    enum { N = POSITIONS * KV_HEADS * HEAD };
    struct batch_row rows[POSITIONS];
    for (int32_t p = 0; p < POSITIONS; p++)
        rows[p] = (struct batch_row){0, p, 0};
    float *k = floats(t, N), *v = floats(t, N);
    struct kv_cache cache = {zeros(t, N), zeros(t, N), type, KV_HEADS, HEAD, POSITIONS};
    t->ops->kv_store(t->backend, &(struct kv_store_args){cache, rows, k, v, POSITIONS});
    return cache;
}

static void test_kv_store(struct selftest *t)
{
    for (int type = KV_F16; type <= KV_F32; type++) {
        struct kv_cache cache = filled_cache(t, (enum kv_type)type);
        for (size_t i = 0; type == KV_F16 && i < POSITIONS * KV_HEADS * HEAD; i++) {
            digest_word(t, ((const uint16_t *)cache.k)[i]);
            digest_word(t, ((const uint16_t *)cache.v)[i]);
        }
        if (type == KV_F32) {
            digest(t, cache.k, POSITIONS * KV_HEADS * HEAD);
            digest(t, cache.v, POSITIONS * KV_HEADS * HEAD);
        }
    }
}

static void attend(struct selftest *t, enum kv_type type)
{
    const struct batch_row rows[ROWS] = {{0, POSITIONS - 1, 0}, {0, 5, 0}};
    struct kv_cache cache = filled_cache(t, type);
    float *q = floats(t, ROWS * HEADS * 2 * HEAD), *y = zeros(t, ROWS * HEADS * HEAD);
    t->ops->attention(t->backend, &(struct attention_args){
        .cache = cache, .rows = rows, .q = q, .gate = q + HEAD, .q_stride = HEADS * 2 * HEAD,
        .q_head_stride = 2 * HEAD, .n_heads = HEADS, .scale = 0.125f, .out = y, .n_rows = ROWS});
    digest(t, y, ROWS * HEADS * HEAD);
}

static void test_attention(struct selftest *t)
{
    attend(t, KV_F16);
    attend(t, KV_F32);
}

enum { STEPS = 4 };
static const struct batch_row steps[STEPS] = {{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 2, 0}};

static void test_conv(struct selftest *t)
{
    enum { N = 45, TAPS = 4 };
    float *x = floats(t, STEPS * N), *w = floats(t, N * TAPS);
    float *state = floats(t, 2 * (TAPS - 1) * N), *y = zeros(t, STEPS * N);
    t->ops->conv(t->backend, &(struct conv_args){steps, x, w, state, y, N, TAPS, 2, STEPS});
    digest(t, y, STEPS * N);
    digest(t, state, 2 * (TAPS - 1) * N);
}

static void test_delta_net(struct selftest *t)
{
    enum { K = 1, V = 2, D = 32, X = (2 * K + V) * D };
    float *x = floats(t, STEPS * X), *alpha = floats(t, STEPS * V), *beta = floats(t, STEPS * V);
    float *a = floats(t, V), *dt = floats(t, V);
    float *state = floats(t, 2 * V * D * D), *y = zeros(t, STEPS * V * D);
    for (int h = 0; h < V; h++)
        a[h] = -fabsf(a[h]);
    t->ops->delta_net(t->backend, &(struct delta_net_args){steps, x, alpha, beta, a, dt, state, y,
                                                           K, V, D, 2, STEPS});
    digest(t, y, STEPS * V * D);
    digest(t, state, 2 * V * D * D);
}

/* ---- the table ------------------------------------------------------------------------------- */

struct selftest_case {
    const char *operation;
    void (*run)(struct selftest *);
    uint32_t type;
    uint64_t pinned;
};

static const struct selftest_case cases[] = {
    {"quantize", test_quantize, 0, 0xcf230fbcca5cbd84u},
    {"embed", test_embed, 0, 0xda6307e17e8a0c70u},
    {"rms_norm", test_rms_norm, 0, 0xc9fe2488cc6674e3u},
    {"add", test_add, 0, 0x2445fb0ba768c091u},
    {"mul_silu", test_mul_silu, 0, 0xfa975daacf1ed8d2u},
    {"rope", test_rope, 0, 0x69ac805273fd057bu},
    {"kv_store", test_kv_store, 0, 0x3ad6f1cb8b4cbd10u},
    {"attention", test_attention, 0, 0x6e153c1fc4eab0b4u},
    {"conv", test_conv, 0, 0x810cca8290ecac81u},
    {"delta_net", test_delta_net, 0, 0x21ea2eb3b5f4915eu},
    {"route", test_route, 0, 0x50b31ac1317558b8u},
    {"expert_matmul", test_expert_matmul, 0, 0x6cc55de0d4c22f73u},
    {"moe_combine", test_moe_combine, 0, 0x53b9ca81efd2ae7eu},
    {"argmax", test_argmax, 0, 0xbd68a45b66091f6fu},
    {"matmul F32", test_matmul, MTP_TYPE_F32, 0x37b5a99cf6c18bb8u},
    {"matmul F16", test_matmul, MTP_TYPE_F16, 0x23ee73df62dc2ba7u},
    {"matmul BF16", test_matmul, MTP_TYPE_BF16, 0xfed34057f3a66212u},
    {"matmul Q8_0", test_matmul, MTP_TYPE_Q8_0, 0x83bdcbb6cc59006au},
    {"matmul Q4_0", test_matmul, MTP_TYPE_Q4_0, 0x686519d7ce03cda4u},
    {"matmul Q4_1", test_matmul, MTP_TYPE_Q4_1, 0x9db4532c5d30c7a0u},
    {"matmul Q5_0", test_matmul, MTP_TYPE_Q5_0, 0xe8d632255fd39791u},
    {"matmul Q5_1", test_matmul, MTP_TYPE_Q5_1, 0x990f9a3a20839f3du},
    {"matmul IQ4_NL", test_matmul, MTP_TYPE_IQ4_NL, 0xf3a783225797b888u},
    {"matmul MXFP4", test_matmul, MTP_TYPE_MXFP4, 0x42f0ed5ece773f25u},
    {"matmul Q2_K", test_matmul, MTP_TYPE_Q2_K, 0xbaa0368bc69b69beu},
    {"matmul Q3_K", test_matmul, MTP_TYPE_Q3_K, 0x5f8dc772e363c864u},
    {"matmul Q4_K", test_matmul, MTP_TYPE_Q4_K, 0x4b5544b4f0431060u},
    {"matmul Q5_K", test_matmul, MTP_TYPE_Q5_K, 0xd14261eaa2e68b2du},
    {"matmul Q6_K", test_matmul, MTP_TYPE_Q6_K, 0xc9cf63410a6c611fu},
    {"matmul IQ4_XS", test_matmul, MTP_TYPE_IQ4_XS, 0xd18cf7ba34143b71u},
    {"matmul IQ2_XXS", test_matmul, MTP_TYPE_IQ2_XXS, 0xa9832fad31305bb5u},
    {"matmul IQ2_XS", test_matmul, MTP_TYPE_IQ2_XS, 0x894d475197ec6334u},
    {"matmul IQ2_S", test_matmul, MTP_TYPE_IQ2_S, 0xb11bf29a4604329au},
    {"matmul IQ3_XXS", test_matmul, MTP_TYPE_IQ3_XXS, 0xb3c5c684c6a387edu},
    {"matmul IQ3_S", test_matmul, MTP_TYPE_IQ3_S, 0x0206a658a74d07c0u},
    {"digest", test_digest, 0, 0xaca2df47ca3e84f7u},
};
enum { N_CASES = sizeof cases / sizeof *cases };
_Static_assert((int)N_CASES <= (int)SELFTEST_LIMIT, "room for every result");

size_t kernels_selftest_results(const struct cpu_kernels *kernels,
                                struct selftest_result results[SELFTEST_LIMIT])
{
    size_t n = 0;
    struct selftest t = {
        .backend = cpu_backend_open(kernels, 1),
        .act = aligned_alloc(64, ACTS * sizeof *t.act),
        .arena = malloc(ARENA * sizeof *t.arena),
        .weights = malloc(PRODUCT_BYTES),
        .packed = aligned_alloc(64, PACKED_BYTES),
    };
    if (t.backend != NULL && t.act != NULL && t.arena != NULL && t.weights != NULL && t.packed != NULL &&
        t.backend->ops->reserve(t.backend, POSITIONS)) {
        t.ops = t.backend->ops;
        for (; n < N_CASES; n++) {
            t.type = cases[n].type;
            t.random = n + 1;
            t.digest = 0xcbf29ce484222325u;
            t.used = 0;
            cases[n].run(&t);
            digest_word(&t, t.ops->fault(t.backend).found);
            results[n] = (struct selftest_result){cases[n].operation, t.digest, cases[n].pinned};
        }
    }
    if (t.backend != NULL)
        t.backend->ops->close(t.backend);
    free(t.act);
    free(t.arena);
    free(t.weights);
    free(t.packed);
    return n;
}

bool kernels_selftest(const struct cpu_kernels *kernels, const char **failed_operation)
{
    struct selftest_result results[SELFTEST_LIMIT];
    size_t n = kernels_selftest_results(kernels, results);
    *failed_operation = n == 0 ? "memory" : NULL;
    for (size_t i = n; i-- > 0;)
        if (results[i].digest != results[i].pinned)
            *failed_operation = results[i].operation;
    return *failed_operation == NULL;
}
