/* bench_ops.c - time of every operation but the matrix products, on one thread.
 *
 *     bench/bench_ops [--scalar] [--rounds N] [OPERATION...]
 *
 * Each operation is called through the backend with the shapes of two models (the bundled reference
 * and Qwen3.6-35B-A3B) for 1, 4 and 512 batch rows; attention also behind 64, 1,000 and 5,000
 * positions. Caches and states are those of as many layers as the model has, used in turn, so that
 * they lie as far away as in a decoding step. Printed: the median of some rounds in microseconds a
 * call, the bytes a call must read and write, its float operations, and the rates these give.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cpu/backend.h"

enum { MOST_ROUNDS = 99, MOST_ROWS = 512, MOST_LAYERS = 32 };

struct shape {
    const char *name;
    uint32_t n_embd, n_heads, n_kv_heads, head_dim, n_rot, n_k_heads, n_v_heads, d, taps;
    uint32_t n_experts, n_used, width, n_vocab, n_recurrent, n_attention;
};
static const struct shape shapes[] = {
    {"ref-qwen35moe", 512, 4, 2, 128, 32, 2, 4, 128, 4, 16, 4, 256, 8192, 4, 2},
    {"Qwen3.6-35B-A3B", 2048, 16, 2, 256, 64, 16, 32, 128, 4, 256, 8, 512, 248320, 30, 10},
};

struct bench {
    struct backend *backend;
    const struct shape *shape;
    int32_t n_rows, position; /* of the first row */
    struct batch_row rows[MOST_ROWS];
    float *a, *b, *c, *out;   /* activations */
    void *layers[MOST_LAYERS], *values[MOST_LAYERS]; /* states, or keys and values */
    uint32_t n_layers, layer; /* whose turn it is */
    void *small;              /* what else is written */
};

struct cost {
    double bytes, flops;
};

/* Runs the operation once; says what it costs. */
typedef struct cost operation(struct bench *);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *need(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, bytes + 64) != 0) {
        fputs("bench_ops: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static float *need_floats(size_t n)
{
    float *x = need(n * sizeof *x);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) - 8388608.0f) * 0x1p-23f;
    }
    return x;
}

static struct cost run_quantize(struct bench *b)
{
    size_t n = b->shape->n_embd;
    b->backend->ops->quantize(b->backend,
                              &(struct quantize_args){b->a, b->small, n, b->n_rows});
    return (struct cost){5.25 * n, 4.0 * n};
}

static struct cost run_rms_norm(struct bench *b)
{
    size_t n = b->shape->n_embd;
    b->backend->ops->rms_norm(
        b->backend, &(struct rms_norm_args){b->a, b->out, b->b, n, 1, n, 0, n, 0, 1e-6f, b->n_rows});
    return (struct cost){8.0 * n, 4.0 * n};
}

static struct cost run_head_norm(struct bench *b)
{
    size_t d = b->shape->d, heads = b->shape->n_v_heads, stride = d * heads;
    b->backend->ops->rms_norm(b->backend, &(struct rms_norm_args){b->a, b->out, b->b, d, heads, stride,
                                                                  d, stride, d, 1e-6f, b->n_rows});
    return (struct cost){8.0 * (double)stride, 4.0 * (double)stride};
}

static struct cost run_add(struct bench *b)
{
    size_t n = b->shape->n_embd;
    b->backend->ops->add(b->backend, &(struct add_args){b->a, b->b, b->out, n, b->n_rows});
    return (struct cost){12.0 * n, n};
}

static struct cost run_rope(struct bench *b)
{
    const struct shape *s = b->shape;
    b->backend->ops->rope(b->backend,
                          &(struct rope_args){b->out, s->n_heads * 2 * s->head_dim, 2 * s->head_dim,
                                              s->n_heads, s->n_rot / 2, b->b, b->n_rows});
    return (struct cost){8.0 * s->n_heads * s->n_rot, 3.0 * s->n_heads * s->n_rot};
}

static struct kv_cache cache_of(struct bench *b)
{
    b->layer = (b->layer + 1) % b->n_layers;
    return (struct kv_cache){b->layers[b->layer], b->values[b->layer], KV_F16,
                             b->shape->n_kv_heads, b->shape->head_dim, 8192};
}

static struct cost run_kv_store(struct bench *b)
{
    double n = b->shape->n_kv_heads * b->shape->head_dim;
    b->backend->ops->kv_store(b->backend, &(struct kv_store_args){cache_of(b), b->rows, b->a, b->b,
                                                                  b->n_rows});
    return (struct cost){12.0 * n, 2.0 * n};
}

static struct cost run_attention(struct bench *b)
{
    const struct shape *s = b->shape;
    size_t dim = s->head_dim;
    struct attention_args args = {.cache = cache_of(b), .rows = b->rows, .q = b->a,
                                  .gate = b->a + dim, .q_stride = s->n_heads * 2 * dim,
                                  .q_head_stride = 2 * dim, .n_heads = s->n_heads,
                                  .scale = 1.0f / sqrtf((float)dim), .out = b->out,
                                  .n_rows = b->n_rows};
    b->backend->ops->attention(b->backend, &args);
    double most = b->position + b->n_rows, mean = b->position + (b->n_rows + 1) / 2.0;
    return (struct cost){4.0 * most / b->n_rows * s->n_kv_heads * (double)dim,
                         4.0 * mean * s->n_heads * (double)dim};
}

static struct cost run_conv(struct bench *b)
{
    const struct shape *s = b->shape;
    uint32_t n = (2 * s->n_k_heads + s->n_v_heads) * s->d;
    b->layer = (b->layer + 1) % b->n_layers;
    struct conv_args args = {.rows = b->rows, .x = b->a, .w = b->b, .state = b->layers[b->layer],
                             .out = b->out, .n_channels = n, .n_taps = s->taps, .n_sequences = 1,
                             .n_rows = b->n_rows};
    b->backend->ops->conv(b->backend, &args);
    return (struct cost){8.0 * n + (12.0 * s->taps - 8) * n / b->n_rows, (2.0 * s->taps + 24) * n};
}

static struct cost run_delta_net(struct bench *b)
{
    const struct shape *s = b->shape;
    b->layer = (b->layer + 1) % b->n_layers;
    struct delta_net_args args = {.rows = b->rows, .x = b->a, .alpha = b->b, .beta = b->b + 64,
                                  .a = b->c, .dt = b->b + 128, .state = b->layers[b->layer],
                                  .out = b->out, .n_k_heads = s->n_k_heads,
                                  .n_v_heads = s->n_v_heads, .d = s->d, .n_sequences = 1,
                                  .n_rows = b->n_rows};
    b->backend->ops->delta_net(b->backend, &args);
    double cells = (double)s->n_v_heads * s->d * s->d;
    return (struct cost){8.0 * cells / b->n_rows + 16.0 * s->n_v_heads * s->d, 7.0 * cells};
}

static struct cost run_mul_silu(struct bench *b)
{
    size_t n = b->shape->width;
    int32_t pairs = b->n_rows * (int32_t)b->shape->n_used;
    b->backend->ops->mul_silu(b->backend,
                              &(struct mul_silu_args){b->a, b->b, b->out, n, n, n, n, pairs});
    return (struct cost){12.0 * n * b->shape->n_used, 22.0 * n * b->shape->n_used};
}

static struct cost run_route(struct bench *b)
{
    const struct shape *s = b->shape;
    int32_t *experts = b->small, *order = experts + MOST_ROWS * 8, *start = order + MOST_ROWS * 8;
    b->backend->ops->route(b->backend, &(struct route_args){b->a, experts, b->out, order, start,
                                                            s->n_experts, s->n_used, b->n_rows});
    return (struct cost){4.0 * s->n_experts, (24.0 + s->n_used) * s->n_experts};
}

static struct cost run_moe_combine(struct bench *b)
{
    const struct shape *s = b->shape;
    b->backend->ops->moe_combine(b->backend,
                                 &(struct moe_combine_args){b->a, b->c, b->b, b->c, b->out,
                                                            s->n_embd, s->n_used, b->n_rows});
    return (struct cost){4.0 * (s->n_used + 2) * s->n_embd, 2.0 * (s->n_used + 1) * s->n_embd};
}

static struct cost run_argmax(struct bench *b)
{
    size_t n = b->shape->n_vocab;
    b->backend->ops->argmax(b->backend, &(struct argmax_args){b->a, b->small, n, b->n_rows});
    return (struct cost){4.0 * n, n};
}

static const struct named {
    const char *name;
    operation *run;
    int32_t most_rows;
    int32_t position;
    bool recurrent; /* uses the states of the recurrent layers rather than caches */
} operations[] = {
    {"quantize", run_quantize, 512, 0, false},
    {"rms_norm", run_rms_norm, 512, 0, false},
    {"rms_norm heads", run_head_norm, 512, 0, false},
    {"add", run_add, 512, 0, false},
    {"rope", run_rope, 512, 0, false},
    {"kv_store", run_kv_store, 512, 0, false},
    {"attention", run_attention, 512, 0, false},
    {"attention @64", run_attention, 4, 63, false},
    {"attention @1000", run_attention, 4, 999, false},
    {"attention @5000", run_attention, 4, 4999, false},
    {"conv", run_conv, 512, 0, true},
    {"delta_net", run_delta_net, 512, 0, true},
    {"mul_silu", run_mul_silu, 512, 0, false},
    {"route", run_route, 512, 0, false},
    {"moe_combine", run_moe_combine, 512, 0, false},
    {"argmax", run_argmax, 4, 0, false},
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median over rounds of one call's seconds; a round lasts some 2 ms. */
static double measure(struct bench *b, operation *run, int rounds, struct cost *cost)
{
    double times[MOST_ROUNDS];
    double start = now();
    *cost = run(b);
    *cost = run(b);
    double once = (now() - start) / 2;
    int calls = once > 1e-3 ? 1 : 1 + (int)(2e-3 / once);
    for (int round = 0; round < rounds; round++) {
        start = now();
        for (int call = 0; call < calls; call++)
            run(b);
        times[round] = (now() - start) / calls;
    }
    qsort(times, (size_t)rounds, sizeof *times, compare_doubles);
    return times[rounds / 2];
}

static void make_layers(struct bench *b)
{
    const struct shape *s = b->shape;
    size_t state = (size_t)s->n_v_heads * s->d * s->d * sizeof(float);
    size_t cache = (size_t)8192 * s->n_kv_heads * s->head_dim * sizeof(uint16_t);
    size_t bytes = state > cache ? state : cache;
    b->n_layers = s->n_recurrent;
    for (uint32_t i = 0; i < b->n_layers; i++) {
        b->layers[i] = memset(need(bytes), 0, bytes);
        b->values[i] = memset(need(cache), 0, cache);
    }
}

static void measure_shape(struct backend *backend, const struct shape *shape, bool *wanted, int rounds)
{
    static const int32_t counts[] = {1, 4, 512};
    static struct bench b;
    b.backend = backend;
    b.shape = shape;
    size_t widest = (size_t)4 * shape->n_vocab;
    size_t widths = (size_t)MOST_ROWS * shape->n_embd * (shape->n_used + 4);
    b.a = need_floats(widest > widths ? widest : widths);
    b.b = need_floats(widths);
    b.c = need_floats(MOST_ROWS * 64);
    b.out = need_floats(widths);
    b.small = need(MOST_ROWS * (act_blocks(shape->n_embd) + 1) * sizeof(struct act_block));
    for (uint32_t i = 0; i < MOST_ROWS * 64; i++)
        b.c[i] = -fabsf(b.c[i]);
    make_layers(&b);
    printf("%s, %s, one thread\n%-16s %4s %10s %10s %10s %8s %8s\n", shape->name, backend->ops->name,
           "", "rows", "us", "us/row", "kB/row", "GB/s", "GFLOP/s");
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        for (int c = 0; wanted[i] && c < 3 && counts[c] <= operations[i].most_rows; c++) {
            uint32_t layers = b.n_layers;
            b.n_layers = operations[i].recurrent ? shape->n_recurrent : shape->n_attention;
            b.n_rows = counts[c];
            b.position = operations[i].position;
            for (int32_t r = 0; r < b.n_rows; r++)
                b.rows[r] = (struct batch_row){0, b.position + r, 0};
            struct cost cost;
            double seconds = measure(&b, operations[i].run, rounds, &cost), row = seconds / b.n_rows;
            printf("%-16s %4d %10.2f %10.3f %10.1f %8.1f %8.1f\n", operations[i].name, b.n_rows,
                   1e6 * seconds, 1e6 * row, cost.bytes / 1e3, cost.bytes / row / 1e9,
                   cost.flops / row / 1e9);
            b.n_layers = layers;
        }
    for (uint32_t i = 0; i < b.n_layers; i++) {
        free(b.layers[i]);
        free(b.values[i]);
    }
    free(b.a);
    free(b.b);
    free(b.c);
    free(b.out);
    free(b.small);
}

int main(int argc, char **argv)
{
    enum { N = sizeof operations / sizeof *operations };
    const struct cpu_kernels *kernels = cpu_kernels_best();
    bool wanted[N] = {false}, all = true;
    int rounds = 9;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--scalar") == 0) {
            kernels = cpu_kernels_scalar();
        } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            rounds = atoi(argv[++i]);
            rounds = rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : rounds;
        } else {
            for (size_t k = 0; k < N; k++)
                wanted[k] |= strncmp(operations[k].name, argv[i], strlen(argv[i])) == 0;
            all = false;
        }
    }
    for (size_t k = 0; all && k < N; k++)
        wanted[k] = true;
    struct backend *backend = cpu_backend_open(kernels, 1);
    if (backend == NULL || !backend->ops->reserve(backend, 8192)) {
        fputs("bench_ops: out of memory\n", stderr);
        return 1;
    }
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        measure_shape(backend, &shapes[s], wanted, rounds);
    backend->ops->close(backend);
    return 0;
}
