/* kernels.h - what one instruction set provides to the CPU backend.
 *
 * Every function computes a range [begin, end) of the tasks of an operation of kernels/ops.h; ranges
 * may run on different threads. kernels/cpu/scalar is the definition; a variant replaces entries by
 * functions that equal it bit for bit (tests/test_variants.c).
 */
#ifndef MTP_KERNELS_CPU_KERNELS_H
#define MTP_KERNELS_CPU_KERNELS_H

#include <string.h>

#include "kernels/blocks.h"
#include "kernels/ops.h"

/* Heads that attention may take together; the definition takes one. */
enum { ATTENTION_GROUP = 4 };

/* What a running kernel may use besides its arguments. */
struct cpu_task {
    struct cpu_fault *fault;
    float *scores; /* attention: room for ATTENTION_GROUP scores a position of the context (the
                      context rounded up to 16), own to this thread */
};

/* Records the first non-finite value of an operation (thread safe). */
void cpu_report_fault(struct cpu_fault *fault, const char *operation, int32_t row);

/* Dot products of a few weight rows with up to DOT_TILE activation rows:
 * y[r][o] = sum over i of W[o][i] * x[r][i], o < n_out, r < n. */
enum { DOT_TILE = 16 };
struct dot_args {
    uint32_t type;
    const void *w;
    size_t row_bytes;
    uint32_t n_in;
    int32_t n_out;
    const float *const *x;             /* used by WEIGHT_FLOAT types */
    const struct act_block *const *act; /* used by quantised types */
    float *const *y;
    int32_t n;
};

struct cpu_kernels {
    const char *name;
    void (*dot)(const struct dot_args *args);
    /* The same with weights as kernels/cpu/pack.h lays them, w the first of their groups; NULL when this
     * instruction set has no use for them. */
    void (*dot_packed)(const struct dot_args *args);
    const struct block_codec *(*codec)(uint32_t type); /* its decoders: all give the same blocks */
    /* tasks: super-blocks of all rows, row major */
    void (*quantize)(const struct quantize_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: rows */
    void (*embed)(const struct embed_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: row * n_groups + group */
    void (*rms_norm)(const struct rms_norm_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: elements */
    void (*add)(const struct add_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: row * n_heads + head */
    void (*rope)(const struct rope_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: rows */
    void (*kv_store)(const struct kv_store_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: (kv head * n_rows + row) * heads of a kv head + head: those that share keys lie together,
     * and a thread's share of a long batch has early rows and late ones */
    void (*attention)(const struct attention_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: channels */
    void (*conv)(const struct conv_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: (sequence * n_v_heads + head) * delta_net_blocks + block of DELTA_NET_COLUMNS columns of
     * the head's state */
    void (*delta_net)(const struct delta_net_args *, int64_t begin, int64_t end,
                      struct cpu_task *);
    /* tasks: head * d + i, rows of the state */
    void (*delta_net_replay)(const struct delta_net_replay_args *, int64_t begin, int64_t end,
                             struct cpu_task *);
    /* tasks: rows */
    void (*mul_silu)(const struct mul_silu_args *, int64_t begin, int64_t end, struct cpu_task *);
    void (*route)(const struct route_args *, int64_t begin, int64_t end, struct cpu_task *);
    void (*moe_combine)(const struct moe_combine_args *, int64_t begin, int64_t end,
                        struct cpu_task *);
    void (*argmax)(const struct argmax_args *, int64_t begin, int64_t end, struct cpu_task *);
    /* tasks: elements of all rows, row major; adds to dst */
    void (*digest)(const struct digest_args *, int64_t begin, int64_t end, struct cpu_task *);
};

/* Columns of a head's state that are one task: a cache line of each of its rows. */
enum { DELTA_NET_COLUMNS = 16 };
static inline size_t delta_net_blocks(size_t d)
{
    return (d + DELTA_NET_COLUMNS - 1) / DELTA_NET_COLUMNS;
}

/* Notes key and decay of a step in the journal, where there is one. */
static inline void delta_net_note(const struct delta_net_args *args, size_t row, size_t head,
                                  const float *k, float decay)
{
    const struct delta_net_journal *journal = &args->journal;
    if (journal->k == NULL)
        return;
    if (head < args->n_k_heads) /* one of the heads that share the key */
        memcpy(journal->k + (row * args->n_k_heads + head) * args->d, k, args->d * sizeof *k);
    journal->decay[row * args->n_v_heads + head] = decay;
}

/* The place of a step's delta in the journal; NULL without one. */
static inline float *delta_net_journal_delta(const struct delta_net_args *args, size_t row,
                                             size_t head)
{
    const struct delta_net_journal *journal = &args->journal;
    return journal->k == NULL ? NULL : journal->delta + (row * args->n_v_heads + head) * args->d;
}

/* Tasks of digest by what gives the sum of elements first.. of a row: ranges of a row add to the same
 * number, in whatever order threads come to it. */
void digest_ranges(const struct digest_args *args, int64_t begin, int64_t end,
                   uint64_t (*sum_of)(const float *x, size_t first, size_t n));

const struct cpu_kernels *cpu_kernels_scalar(void);
#ifdef MTP_HAVE_AVX2
const struct cpu_kernels *cpu_kernels_avx2(void);
#endif
#ifdef MTP_HAVE_AVX512
const struct cpu_kernels *cpu_kernels_avx512(void);
#endif

/* The definitions, by name, for variants that keep some of them. */
void dot_scalar(const struct dot_args *args);
void quantize_scalar(const struct quantize_args *, int64_t, int64_t, struct cpu_task *);
void embed_scalar(const struct embed_args *, int64_t, int64_t, struct cpu_task *);
void rms_norm_scalar(const struct rms_norm_args *, int64_t, int64_t, struct cpu_task *);
void add_scalar(const struct add_args *, int64_t, int64_t, struct cpu_task *);
void rope_scalar(const struct rope_args *, int64_t, int64_t, struct cpu_task *);
void kv_store_scalar(const struct kv_store_args *, int64_t, int64_t, struct cpu_task *);
void attention_scalar(const struct attention_args *, int64_t, int64_t, struct cpu_task *);
void conv_scalar(const struct conv_args *, int64_t, int64_t, struct cpu_task *);
void delta_net_scalar(const struct delta_net_args *, int64_t, int64_t, struct cpu_task *);
void delta_net_replay_scalar(const struct delta_net_replay_args *, int64_t, int64_t,
                             struct cpu_task *);
void mul_silu_scalar(const struct mul_silu_args *, int64_t, int64_t, struct cpu_task *);
void route_scalar(const struct route_args *, int64_t, int64_t, struct cpu_task *);
void moe_combine_scalar(const struct moe_combine_args *, int64_t, int64_t, struct cpu_task *);
void argmax_scalar(const struct argmax_args *, int64_t, int64_t, struct cpu_task *);
void digest_scalar(const struct digest_args *, int64_t, int64_t, struct cpu_task *);

#endif
