/* backend.c - the CPU backend's table of operations: cuts each operation into tasks (kernels.h says
 * which) and spreads them over threads. No arithmetic happens here. */
#include "backend.h"

#ifdef MTP_HAVE_AVX2
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pack.h"
#include "parallel.h"
#include "step.h"

struct cpu_fault {
    int taken; /* atomic */
    struct numeric_fault first;
};

struct cpu_backend {
    struct backend base;
    struct ops ops;
    const struct cpu_kernels *kernels;
    struct cpu_pool *pool;
    float *scores; /* the threads' attention rooms */
    size_t n_scores;
    struct cpu_fault fault;
    struct backend_counters counters;
};

void cpu_report_fault(struct cpu_fault *fault, const char *operation, int32_t row)
{
    int free_slot = 0;
    if (!__atomic_compare_exchange_n(&fault->taken, &free_slot, 1, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
        return;
    fault->first = (struct numeric_fault){true, operation, row, 0};
}

static struct cpu_backend *self(struct backend *backend)
{
    return (struct cpu_backend *)(void *)backend;
}

/* What a range function needs: the kernels and the operation's arguments. */
struct work {
    const struct cpu_kernels *kernels;
    const void *args;
};

/* Defines `op`, which runs kernels->op over `tasks` tasks, `grain` at least a thread. */
#define DEFINE_OPERATION(op, tasks, grain)                                                         \
    static void op##_range(const void *w, int64_t begin, int64_t end, struct cpu_task *task)       \
    {                                                                                              \
        const struct work *work = w;                                                               \
        work->kernels->op(work->args, begin, end, task);                                           \
    }                                                                                              \
    static void op(struct backend *backend, const struct op##_args *args)                          \
    {                                                                                              \
        struct cpu_backend *cpu = self(backend);                                                   \
        struct work work = {cpu->kernels, args};                                                   \
        parallel_ranges(cpu->pool, (int64_t)(tasks), (grain), op##_range, &work);              \
    }

/* Heads that share keys and can be taken together stay on one thread. */
static int64_t attention_grain(const struct attention_args *args)
{
    int64_t sharing = args->n_heads / args->cache.n_kv_heads;
    return sharing < ATTENTION_GROUP ? sharing : ATTENTION_GROUP;
}

/* Grains keep jobs of a few microseconds, which cost less than waking a thread, on one thread. */
DEFINE_OPERATION(quantize, (size_t)args->n_rows * act_blocks(args->n), 16)
DEFINE_OPERATION(embed, args->n_rows, 4)
DEFINE_OPERATION(rms_norm, (size_t)args->n_rows * args->n_groups, 16)
DEFINE_OPERATION(add, (size_t)args->n_rows * args->n, 16384)
DEFINE_OPERATION(rope, (size_t)args->n_rows * args->n_heads, 64)
DEFINE_OPERATION(kv_store, args->n_rows, 8)
DEFINE_OPERATION(attention, (size_t)args->n_rows * args->n_heads, attention_grain(args))
DEFINE_OPERATION(delta_net_replay, (size_t)args->n_v_heads * args->d, 16)
DEFINE_OPERATION(delta_net, args->n_sequences * args->n_v_heads * delta_net_blocks(args->d), 4)
DEFINE_OPERATION(mul_silu, args->n_rows, 4)
DEFINE_OPERATION(moe_combine, args->n_rows, 8)
DEFINE_OPERATION(argmax, args->n_rows, 1)
DEFINE_OPERATION(route, args->n_rows, 16)
DEFINE_OPERATION(digest, (size_t)args->n_rows * args->n, 4096)

/* Lists pairs (row * n_used + rank) by expert, in ascending order inside an expert. */
static void list_by_expert(const struct route_args *args)
{
    int32_t n_pairs = args->n_rows * (int32_t)args->n_used;
    memset(args->start, 0, (args->n_experts + 1) * sizeof *args->start);
    for (int32_t p = 0; p < n_pairs; p++)
        args->start[args->experts[p] + 1]++;
    for (uint32_t e = 0; e < args->n_experts; e++)
        args->start[e + 1] += args->start[e];
    int32_t next[MAX_EXPERTS];
    memcpy(next, args->start, args->n_experts * sizeof *next);
    for (int32_t p = 0; p < n_pairs; p++)
        args->order[next[args->experts[p]]++] = p;
}

static void route_and_list(struct backend *backend, const struct route_args *args)
{
    route(backend, args);
    list_by_expert(args);
}

static void digest_rows(struct backend *backend, const struct digest_args *args)
{
    memset(args->dst, 0, (size_t)args->n_rows * sizeof *args->dst);
    digest(backend, args);
}

/* Copies only: no definition is needed. */
static void gather(struct backend *backend, const struct gather_args *args)
{
    (void)backend;
    for (int32_t i = 0; i < args->n_rows; i++)
        memcpy(args->dst + (size_t)i * args->n, args->src + (size_t)args->index[i] * args->n,
               args->n * sizeof *args->dst);
}

static void conv_range(const void *w, int64_t begin, int64_t end, struct cpu_task *task)
{
    const struct work *work = w;
    work->kernels->conv(work->args, begin, end, task);
}

static void conv(struct backend *backend, const struct conv_args *args)
{
    struct cpu_backend *cpu = self(backend);
    struct work work = {cpu->kernels, args};
    size_t kept = (size_t)args->n_sequences * (args->n_taps - 1) * args->n_channels;
    if (args->state_from != NULL && kept > 0)
        memcpy(args->state, args->state_from, kept * sizeof *args->state);
    parallel_ranges(cpu->pool, args->n_channels, 256, conv_range, &work);
}

static void delta_net_replay_layers(struct backend *backend, const struct delta_net_replay_args *args)
{
    cpu_delta_net_replay_each(backend, args, delta_net_replay);
}

/* ---- matrix products --------------------------------------------------------------------- */

enum { OUT_TILE = 64 }; /* weight rows that stay in cache while the batch passes over them */

/* Whether these kernels read the packed form of w. */
static const uint8_t *packed_form(const struct cpu_kernels *kernels, const struct weight *w)
{
    return kernels->dot_packed != NULL && w->packed != NULL ? w->packed->data : NULL;
}

/* One tile of weight rows [begin, end) against the n batch rows in[]; outputs go to out[]. begin is a
 * multiple of PACK_ROWS. */
static void dot_rows(const struct cpu_kernels *kernels, const struct weight *w, size_t expert,
                     int64_t begin, int64_t end, struct dot_args *dot, float *const *y)
{
    float *out[DOT_TILE];
    const uint8_t *packed = packed_form(kernels, w);
    const uint8_t *first = packed != NULL ? packed + expert * pack_expert_bytes(w)
                                          : (const uint8_t *)w->data + expert * w->expert_bytes;
    for (int r = 0; r < dot->n; r++)
        out[r] = y[r] + begin;
    dot->w = first + (size_t)begin * w->row_bytes;
    dot->n_out = (int32_t)(end - begin);
    dot->y = out;
    (packed != NULL ? kernels->dot_packed : kernels->dot)(dot);
}

/* Ranges of outputs are given in groups of PACK_ROWS. */
static int64_t output_groups(const struct weight *w)
{
    return (int64_t)pack_groups(w);
}
static int64_t outputs_before(const struct weight *w, int64_t group)
{
    int64_t output = group * PACK_ROWS;
    return output < w->n_out ? output : w->n_out;
}

/* Groups [begin, end) of the outputs of one product. */
static void matmul_groups(const struct cpu_kernels *kernels, const struct matmul_args *args,
                          int64_t begin, int64_t end)
{
    size_t blocks = act_blocks(args->w.n_in);
    const float *x[DOT_TILE];
    const struct act_block *act[DOT_TILE];
    float *y[DOT_TILE];
    struct dot_args dot = {.type = args->w.type, .row_bytes = args->w.row_bytes,
                           .n_in = args->w.n_in, .x = x, .act = act};
    begin = outputs_before(&args->w, begin);
    end = outputs_before(&args->w, end);
    for (int64_t o = begin; o < end; o += OUT_TILE) {
        int64_t last = end - o < OUT_TILE ? end : o + OUT_TILE;
        for (int32_t first = 0; first < args->n_rows; first += DOT_TILE) {
            dot.n = args->n_rows - first < DOT_TILE ? args->n_rows - first : DOT_TILE;
            for (int r = 0; r < dot.n; r++) {
                size_t row = (size_t)(first + r);
                x[r] = args->x != NULL ? args->x + row * args->w.n_in : NULL;
                act[r] = args->act != NULL ? args->act + row * blocks : NULL;
                y[r] = args->y + row * args->y_stride;
            }
            dot_rows(kernels, &args->w, 0, o, last, &dot, y);
        }
    }
}

static void count_product(struct cpu_backend *cpu, const struct weight *w)
{
    cpu->counters.matmul_calls++;
    if (cpu->kernels != cpu_kernels_scalar())
        cpu->counters.variant_calls++;
    if (packed_form(cpu->kernels, w) != NULL)
        cpu->counters.packed_calls++;
}

/* All pairs of one expert that fit a tile, against weight rows [begin, end). */
static void expert_tile(const struct cpu_kernels *kernels, const struct expert_matmul_args *args,
                        size_t expert, const int32_t *pairs, int32_t n, int64_t begin, int64_t end)
{
    size_t blocks = act_blocks(args->w.n_in);
    const float *x[DOT_TILE];
    const struct act_block *act[DOT_TILE];
    float *y[DOT_TILE];
    for (int32_t i = 0; i < n; i++) {
        size_t input = (size_t)(pairs[i] / args->pairs_per_input);
        x[i] = args->x != NULL ? args->x + input * args->w.n_in : NULL;
        act[i] = args->act != NULL ? args->act + input * blocks : NULL;
        y[i] = args->y + (size_t)pairs[i] * args->y_stride;
    }
    struct dot_args dot = {.type = args->w.type, .row_bytes = args->w.row_bytes,
                           .n_in = args->w.n_in, .x = x, .act = act, .n = n};
    dot_rows(kernels, &args->w, expert, begin, end, &dot, y);
}

static void expert_groups(const struct cpu_kernels *kernels, const struct expert_matmul_args *args,
                          int64_t begin, int64_t end)
{
    int32_t tile = args->grouped ? DOT_TILE : 1;
    begin = outputs_before(&args->w, begin);
    end = outputs_before(&args->w, end);
    for (uint32_t e = 0; e < args->w.n_experts; e++)
        for (int64_t o = begin; args->start[e] < args->start[e + 1] && o < end; o += OUT_TILE)
            for (int32_t p = args->start[e]; p < args->start[e + 1]; p += tile) {
                int32_t left = args->start[e + 1] - p;
                int64_t last = end - o < OUT_TILE ? end : o + OUT_TILE;
                expert_tile(kernels, args, e, args->order + p, left < tile ? left : tile, o, last);
            }
}

/* The part of [begin, end) that lies in the n groups at `at`, counted from there. */
struct group_range {
    int64_t begin, end;
};
static struct group_range part_of(int64_t begin, int64_t end, int64_t at, int64_t n)
{
    struct group_range part = {begin - at, end - at};
    part.begin = part.begin < 0 ? 0 : part.begin;
    part.end = part.end > n ? n : part.end;
    return part;
}

static void products_range(const void *w, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    const struct work *work = w;
    const struct products_args *args = work->args;
    int64_t at = 0;
    for (int i = 0; i < args->n_experts; i++) {
        int64_t n = output_groups(&args->experts[i].w);
        struct group_range part = part_of(begin, end, at, n);
        if (part.begin < part.end)
            expert_groups(work->kernels, &args->experts[i], part.begin, part.end);
        at += n;
    }
    for (int i = 0; i < args->n_matmuls; i++) {
        int64_t n = output_groups(&args->matmuls[i].w);
        struct group_range part = part_of(begin, end, at, n);
        if (part.begin < part.end)
            matmul_groups(work->kernels, &args->matmuls[i], part.begin, part.end);
        at += n;
    }
}

static void count_experts(struct cpu_backend *cpu, const struct expert_matmul_args *args)
{
    count_product(cpu, &args->w);
    for (uint32_t e = 0; e < args->w.n_experts; e++) {
        int32_t pairs = args->start[e + 1] - args->start[e];
        cpu->counters.expert_rows += (uint64_t)pairs;
        cpu->counters.expert_reads += args->grouped ? pairs > 0 : (uint64_t)pairs;
    }
}

static void products(struct backend *backend, const struct products_args *args)
{
    struct cpu_backend *cpu = self(backend);
    struct work work = {cpu->kernels, args};
    int64_t groups = 0;
    for (int i = 0; i < args->n_experts; i++) {
        count_experts(cpu, &args->experts[i]);
        groups += output_groups(&args->experts[i].w);
    }
    for (int i = 0; i < args->n_matmuls; i++) {
        count_product(cpu, &args->matmuls[i].w);
        groups += output_groups(&args->matmuls[i].w);
    }
    parallel_ranges(cpu->pool, groups, 1, products_range, &work);
}

static void matmul(struct backend *backend, const struct matmul_args *args)
{
    products(backend, &(struct products_args){.matmuls = args, .n_matmuls = 1});
}

static void expert_matmul(struct backend *backend, const struct expert_matmul_args *args)
{
    products(backend, &(struct products_args){.experts = args, .n_experts = 1});
}

/* ---- packed weights ---------------------------------------------------------------------- */

static size_t cpu_packed_bytes(struct backend *backend, const struct weight *w)
{
    return self(backend)->kernels->dot_packed != NULL && pack_supported(w->type) ? pack_bytes(w) : 0;
}

struct pack_work {
    const struct pack_args *args;
    const struct block_codec *codec;
};

static void pack_range(const void *w, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    const struct pack_work *work = w;
    int64_t first = pack_group_of(&work->args->w, work->args->first_row);
    pack_weights(work->args, work->codec, first + begin, first + end);
}

static void cpu_pack(struct backend *backend, const struct pack_args *args)
{
    struct cpu_backend *cpu = self(backend);
    const struct weight *w = &args->w;
    struct pack_work work = {args, cpu->kernels->codec(w->type)};
    if (args->n_rows == 0)
        return;
    int64_t last = pack_group_of(w, args->first_row + args->n_rows - 1);
    parallel_ranges(cpu->pool, last + 1 - pack_group_of(w, args->first_row), 1, pack_range, &work);
}

/* ---- memory and bookkeeping -------------------------------------------------------------- */

/* A long cache is more small pages than the processor keeps translations for. Its beginning is made
 * ready, so that the first pass does not wait for the system to clear a large page. */
static void prepare_stream(void *memory, size_t bytes)
{
    enum { FIRST_BYTES = 64 << 10 };
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
#ifdef MADV_POPULATE_WRITE
    madvise(memory, bytes < FIRST_BYTES ? bytes : FIRST_BYTES, MADV_POPULATE_WRITE);
#else
    (void)memory, (void)bytes;
#endif
}

static void *cpu_alloc(struct backend *backend, size_t bytes, enum memory_use use)
{
    (void)backend;
    int commit = use == MEMORY_WHOLE ? MAP_POPULATE : MAP_NORESERVE;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | commit, -1,
                        0);
    if (memory == MAP_FAILED)
        return NULL;
    if (use == MEMORY_STREAM)
        prepare_stream(memory, bytes);
    return memory;
}

static void cpu_free(struct backend *backend, void *memory, size_t bytes)
{
    (void)backend;
    if (memory != NULL)
        munmap(memory, bytes);
}

static void cpu_copy(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    (void)backend;
    if (bytes > 0)
        memcpy(dst, src, bytes);
}

static void cpu_fill(struct backend *backend, void *dst, int byte, size_t bytes)
{
    (void)backend;
    if (bytes > 0)
        memset(dst, byte, bytes);
}

/* Every operation is done when it returns. */
static void cpu_synchronize(struct backend *backend)
{
    (void)backend;
}

static const char *cpu_error(struct backend *backend)
{
    (void)backend;
    return NULL;
}

static size_t score_bytes(const struct cpu_backend *cpu)
{
    return cpu_pool_size(cpu->pool) * cpu->n_scores * sizeof *cpu->scores;
}

static bool cpu_reserve(struct backend *backend, uint32_t n_ctx)
{
    struct cpu_backend *cpu = self(backend);
    size_t wanted = ((size_t)n_ctx + 15) / 16 * 16 * ATTENTION_GROUP;
    if (wanted <= cpu->n_scores)
        return true;
    cpu_free(backend, cpu->scores, score_bytes(cpu));
    cpu->n_scores = wanted;
    cpu->scores = cpu_alloc(backend, score_bytes(cpu), MEMORY_PARTS);
    if (cpu->scores == NULL)
        cpu->n_scores = 0;
    cpu_pool_set_scores(cpu->pool, cpu->scores, cpu->n_scores);
    return cpu->scores != NULL;
}

static struct numeric_fault cpu_fault(struct backend *backend)
{
    struct numeric_fault fault = self(backend)->fault.first;
    fault.layer = backend->layer; /* it is asked for after each */
    return fault;
}

static void cpu_clear_fault(struct backend *backend)
{
    memset(&self(backend)->fault, 0, sizeof self(backend)->fault);
}

static void cpu_counters(struct backend *backend, struct backend_counters *counters)
{
    *counters = self(backend)->counters;
}

static void cpu_close(struct backend *backend)
{
    struct cpu_backend *cpu = self(backend);
    cpu_free(backend, cpu->scores, score_bytes(cpu));
    cpu_pool_close(cpu->pool);
    free(cpu);
}

static const struct ops cpu_ops = {
    .host_memory = true,
    .embed = embed,
    .quantize = quantize,
    .matmul = matmul,
    .expert_matmul = expert_matmul,
    .products = products,
    .rms_norm = rms_norm,
    .add = add,
    .rope = rope,
    .kv_store = kv_store,
    .attention = attention,
    .conv = conv,
    .conv_replay = cpu_conv_replay,
    .delta_net = delta_net,
    .delta_net_replay = delta_net_replay_layers,
    .mul_silu = mul_silu,
    .route = route_and_list,
    .moe_combine = moe_combine,
    .argmax = argmax,
    .digest = digest_rows,
    .gather = gather,
    .chain_rows = cpu_chain_rows,
    .accept = cpu_accept,
    .fused = fused_one_by_one,
    .place_heads = place_heads_one_by_one,
    .packed_bytes = cpu_packed_bytes,
    .pack = cpu_pack,
    .reserve = cpu_reserve,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .fill = cpu_fill,
    .synchronize = cpu_synchronize,
    .error = cpu_error,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .fault = cpu_fault,
    .clear_fault = cpu_clear_fault,
    .counters = cpu_counters,
    .close = cpu_close,
};

bool cpu_has_avx2(void)
{
#ifdef MTP_HAVE_AVX2
    /* clang 14 has no name for F16C in __builtin_cpu_supports. */
    unsigned eax, ebx, ecx, edx;
    bool has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    __builtin_cpu_init();
    return has_f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

bool cpu_has_avx512(void)
{
#ifdef MTP_HAVE_AVX512
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

const struct cpu_kernels *cpu_kernels_best(void)
{
#ifdef MTP_HAVE_AVX512
    if (cpu_has_avx512())
        return cpu_kernels_avx512();
#endif
#ifdef MTP_HAVE_AVX2
    if (cpu_has_avx2())
        return cpu_kernels_avx2();
#endif
    return cpu_kernels_scalar();
}

struct backend *cpu_backend_open(const struct cpu_kernels *kernels, uint32_t n_threads)
{
    struct cpu_backend *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL)
        return NULL;
    cpu->ops = cpu_ops;
    cpu->ops.name = kernels->name;
    cpu->base.ops = &cpu->ops;
    cpu->kernels = kernels;
    cpu->pool = cpu_pool_open(n_threads, &cpu->fault);
    if (cpu->pool == NULL) {
        free(cpu);
        return NULL;
    }
    return &cpu->base;
}
