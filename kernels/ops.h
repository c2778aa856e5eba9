/* ops.h - the table of operations a backend provides: one declaration an operation, its shapes and
 * the arithmetic it obeys. Model code (src/arch_*.c) is written once against this table; kernels/cpu
 * implements it with a scalar definition and ISA variants that equal it bit for bit.
 *
 * Conventions. Matrices are row major; n_rows is the number of batch rows; a row's result depends on
 * that row's inputs only. Pointers are in the backend's memory. "sum64" is the order of float sums:
 * element i goes to partial i mod 64 by fma (or +) in ascending order, the 64 partials fold by
 * distance 32, 16, 8, 4, 2, 1 (docs/arithmetic.md). dst may equal src where "in place" is said.
 */
#ifndef MTP_KERNELS_OPS_H
#define MTP_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "activation.h"

/* Sizes a model may have; the loader refuses larger ones. */
enum { MAX_HEAD_DIM = 512, MAX_STATE_DIM = 256, MAX_EXPERTS = 1024 };

/* Where a batch row stands. Rows of one sequence appear in ascending, consecutive positions; rows of
 * different sequences may interleave in any way. */
struct batch_row {
    int32_t token;
    int32_t position; /* >= 0 */
    int32_t sequence; /* 0..n_sequences-1 */
};

/* Where the backends that use a model keep their own arrangement of one of its matrices; data is NULL
 * until it is made, and for good where the file's layout serves. */
struct packed_weight {
    const void *data;
};

/* A weight matrix, y = W x: n_out rows of n_in weights; for routed experts n_experts of them. */
struct weight {
    const void *data;
    uint32_t type;         /* enum mtp_type */
    uint32_t n_in, n_out;
    uint32_t n_experts;    /* 1 for an ordinary matrix */
    size_t row_bytes;
    size_t expert_bytes;   /* from one expert's first row to the next expert's */
    const struct packed_weight *packed; /* NULL: no arrangement is kept of this one */
};

/* y[r][o] = sum over i of W[o][i] * x[r][i].
 * WEIGHT_FLOAT types read x; quantised types read act (the same rows, quantised). */
struct matmul_args {
    struct weight w;
    const float *x;               /* [n_rows][n_in] */
    const struct act_block *act;  /* [n_rows][act_blocks(n_in)] */
    float *y;                     /* [n_rows][y_stride] */
    size_t y_stride;
    int32_t n_rows;
};

/* Products with routed experts. Pair p is (batch row, rank); order[] lists the pairs, those of
 * expert e at start[e]..start[e+1]. Row `pair / pairs_per_input` of x/act is multiplied by the matrix
 * of the pair's expert into row `pair` of y. */
struct expert_matmul_args {
    struct weight w;
    const float *x;
    const struct act_block *act;
    float *y;                     /* [n_pairs][y_stride] */
    size_t y_stride;
    int32_t n_pairs;
    int32_t pairs_per_input;      /* n_used when x has one row a batch row, 1 when one a pair */
    const int32_t *order;         /* [n_pairs] */
    const int32_t *start;         /* [n_experts + 1] */
    bool grouped;                 /* read each chosen expert once for all its pairs, or once a pair */
    const int32_t *experts;       /* [n_pairs] the expert of each pair, or NULL: order and start say it too */
};

/* Several products that do not depend on each other, in one hand-over to the threads. */
struct products_args {
    const struct matmul_args *matmuls;
    const struct expert_matmul_args *experts;
    int n_matmuls, n_experts;
};

/* x -> int8 super-blocks. Non-finite input is reported (struct numeric_fault). */
struct quantize_args {
    const float *x;               /* [n_rows][n] */
    struct act_block *act;        /* [n_rows][act_blocks(n)] */
    size_t n;
    int32_t n_rows;
};

/* dst[r] = row tokens[r] of the table, widened or dequantised. */
struct embed_args {
    struct weight table;          /* n_out = vocabulary, n_in = n_embd */
    const struct batch_row *rows;
    float *dst;                   /* [n_rows][n_in] */
    int32_t n_rows;
};

/* dst = (src * (1 / sqrt(sum64(src^2) / n + eps))) * w; groups of n inside a row share w (per-head
 * norms). In place allowed. Non-finite sums are reported. */
struct rms_norm_args {
    const float *src;             /* row r, group g at src + r * src_stride + g * src_group_stride */
    float *dst;
    const float *w;               /* [n] */
    size_t n, n_groups;
    size_t src_stride, src_group_stride, dst_stride, dst_group_stride;
    float eps;
    int32_t n_rows;
};

/* dst = a + b, elementwise over n_rows * n. In place allowed. */
struct add_args {
    const float *a, *b;
    float *dst;
    size_t n;
    int32_t n_rows;
};

/* NEOX partial rotary embedding in place on the first 2 * n_pairs of each head: pair i is (x[i],
 * x[i + n_pairs]) -> (x0 cos - x1 sin, x0 sin + x1 cos), each as fma(x0, c, -(x1 * s)) and
 * fma(x0, s, x1 * c). cos_sin holds in each row n_pairs cosines, then n_pairs sines, made by
 * rope_table (kernels/rope.h): of every position where rows is set, else of every batch row. */
struct rope_args {
    float *x;                     /* row r, head h at x + r * stride + h * head_stride */
    size_t stride, head_stride;
    uint32_t n_heads, n_pairs;
    const float *cos_sin;         /* [n_ctx] or [n_rows], of 2 * n_pairs */
    int32_t n_rows;
    const struct batch_row *rows; /* [n_rows] whose positions choose rows of cos_sin, or NULL */
};
static inline size_t rope_row(const struct rope_args *args, size_t row)
{
    return args->rows != NULL ? (size_t)args->rows[row].position : row;
}

enum kv_type { KV_F16 = 0, KV_F32 = 1 };

/* One layer's cache: [sequence][position][n_kv_heads * head_dim]. */
struct kv_cache {
    void *k, *v;
    enum kv_type type;
    uint32_t n_kv_heads, head_dim;
    uint32_t n_ctx;
};

/* Stores each row's k and v at (sequence, position), rounded to the cache's type. A stored value
 * that is not finite is reported. */
struct kv_store_args {
    struct kv_cache cache;
    const struct batch_row *rows;
    const float *k, *v;           /* [n_rows][n_kv_heads * head_dim] */
    int32_t n_rows;
};

/* Softmax attention of each row and head over positions 0..position of its sequence.
 * score = sum64(q k) * scale; positions are cut into chunks at multiples of ATTENTION_CHUNK; in a chunk
 * m_c = max score, p = exp(score - m_c), l_c = sum64(p), acc_c[d] = fma(p, v[d], acc_c[d]) from 0 in
 * ascending order; then M = max m_c, w_c = exp(m_c - M), L = fma(w_c, l_c, L), acc = fma(w_c, acc_c, acc) in
 * chunk order; out = acc / L. Where gate is set, out = out * sigmoid(gate). */
enum { ATTENTION_CHUNK = 64 };
struct attention_args {
    struct kv_cache cache;
    const struct batch_row *rows;
    const float *q;               /* row r, head h at q + r * q_stride + h * q_head_stride */
    const float *gate;            /* the same strides, or NULL */
    size_t q_stride, q_head_stride;
    uint32_t n_heads;             /* head h reads kv head h / (n_heads / n_kv_heads) */
    float scale;
    float *out;                   /* [n_rows][n_heads * head_dim] */
    int32_t n_rows;
};

/* Depthwise causal convolution and SiLU: u[c] = silu(fma chain over taps, oldest first, from 0).
 * state holds for each sequence the last n_taps - 1 raw inputs [sequence][n_taps - 1][n_channels],
 * oldest first, and is advanced. Rows of a sequence are taken in batch order. */
struct conv_args {
    const struct batch_row *rows;
    const float *x;               /* [n_rows][n_channels] */
    const float *w;               /* [n_channels][n_taps] as in the file */
    float *state;
    float *out;                   /* [n_rows][n_channels] */
    uint32_t n_channels, n_taps, n_sequences;
    int32_t n_rows;
    const float *state_from;      /* where the state before the batch lies; NULL = in state */
};

/* What a replay may do beyond one layer and a number of rows that the host knows. */
struct replay_more {
    uint32_t n_layers;            /* so many further layers, whose... */
    size_t state_bytes, rows_bytes; /* ...states, and noted rows, lie so many bytes behind each other */
    const int32_t *n_kept;        /* where set, the first n_kept[0] of the n_rows rows are replayed; when
                                     those are all, nothing is done: the pass has left that state */
};
/* Whether there is something to replay; *n_rows becomes the number of rows. Where memory is the host's. */
static inline bool replay_rows(const struct replay_more *more, int32_t *n_rows)
{
    int32_t all = *n_rows;
    if (more->n_kept != NULL)
        *n_rows = more->n_kept[0];
    return more->n_kept == NULL || *n_rows < all;
}
static inline void *replay_next(const void *of_layer, size_t bytes)
{
    return (void *)((uintptr_t)of_layer + bytes);
}

/* The convolution's state after the first n_rows rows x of sequence 0, from the state before them:
 * what conv over just those rows would leave. state_from and state may not overlap. */
struct conv_replay_args {
    const float *x;               /* [n_rows][n_channels], as conv took them */
    const float *state_from;
    float *state;
    uint32_t n_channels, n_taps;
    int32_t n_rows;
    struct replay_more more;
};

/* Gated DeltaNet, the sequential recurrence, a v-head h with k-head h % n_k_heads:
 *   kn = k * (1 / max(|k|, 1e-6)), qn = (q * (1 / max(|q|, 1e-6))) * (1 / sqrt(d)), |x| = sqrt(sum64(x^2));
 *   beta = sigmoid(b[h]); decay = exp(a[h] * softplus(alpha[h] + dt[h]));
 *   S[i][j] *= decay;  r[j] = sum8_i(S[i][j] kn[i]);  delta[j] = (v[j] - r[j]) * beta;
 *   S[i][j] = fma(kn[i], delta[j], S[i][j]);  o[j] = sum8_i(S[i][j] qn[i])
 * sum8: element i goes to partial i mod 8 by fma, ascending; partials fold by distance 4, 2, 1.
 * Norms that are not finite are reported.
 * x is the output of conv: q (n_k_heads * d) | k (n_k_heads * d) | v (n_v_heads * d). */
struct delta_net_journal {
    float *k;                     /* [n_rows][n_k_heads][d] normalised keys */
    float *delta;                 /* [n_rows][n_v_heads][d] */
    float *decay;                 /* [n_rows][n_v_heads] */
};
struct delta_net_args {
    const struct batch_row *rows;
    const float *x;               /* [n_rows][(2 * n_k_heads + n_v_heads) * d] */
    const float *alpha, *beta;    /* [n_rows][n_v_heads] */
    const float *a, *dt;          /* [n_v_heads]; a = -exp(A_log) as in the file */
    float *state;                 /* [sequence][n_v_heads][d (i, of k)][d (j, of v)] */
    float *out;                   /* [n_rows][n_v_heads * d] */
    uint32_t n_k_heads, n_v_heads, d, n_sequences;
    int32_t n_rows;
    const float *state_from;      /* where the state before the batch lies; NULL = in state */
    struct delta_net_journal journal; /* filled where its pointers are set */
};

/* The state after the first n_rows rows of sequence 0, from the state before them and the rows'
 * updates: S[i][j] = fma(kn[i], delta[j], S[i][j] * decay), the same roundings as delta_net's. */
struct delta_net_replay_args {
    struct delta_net_journal journal;
    const float *state_from;
    float *state;                 /* does not overlap state_from */
    uint32_t n_k_heads, n_v_heads, d;
    int32_t n_rows;
    struct replay_more more;
};

/* dst = a * silu(b), n elements a row, rows a_stride / b_stride apart. In place on a or b allowed. */
struct mul_silu_args {
    const float *a, *b;
    float *dst;
    size_t n, a_stride, b_stride, dst_stride;
    int32_t n_rows;
};

/* Router: p = exp(x - max) / sum64; the n_used largest in descending order, ties to the lowest index;
 * weight = p / max(their sum in rank order, 6.1e-5). Logits that are not finite are reported. Also
 * lists the pairs by expert (stable order). */
struct route_args {
    const float *logits;          /* [n_rows][n_experts] */
    int32_t *experts;             /* [n_rows][n_used] */
    float *weights;               /* [n_rows][n_used] */
    int32_t *order;               /* [n_rows * n_used], see expert_matmul_args */
    int32_t *start;               /* [n_experts + 1] */
    uint32_t n_experts, n_used;
    int32_t n_rows;
};

/* dst[r] = fma chain over ranks from 0 of weights[r][k] * y[r * n_used + k]; then, where shared is
 * set, fma(sigmoid(shared_gate[r]), shared[r], that). */
struct moe_combine_args {
    const float *y;               /* [n_rows * n_used][n] */
    const float *weights;         /* [n_rows][n_used] */
    const float *shared;          /* [n_rows][n] or NULL */
    const float *shared_gate;     /* [n_rows] */
    float *dst;                   /* [n_rows][n] */
    size_t n;
    uint32_t n_used;
    int32_t n_rows;
};

/* What a token is drawn by, beside its position (kernels/noise.h). */
struct draw_noise {
    uint64_t seed;
    float temperature;            /* over 0 */
    float min_p;                  /* 0 to 1: 0 lets every element take part */
};

/* dst[r] = index of the largest element, ties to the lowest; -0 counts as 0. Elements that are not finite are
 * reported. Where noise is set it is the index of the largest noise_score(x[i], temperature, word of i) of
 * the elements not below the largest + log(min_p): the draw by Gumbel-max at first[0] + offset + r, the
 * row's position. */
struct argmax_args {
    const float *x;               /* [n_rows][n] */
    int32_t *dst;
    size_t n;
    int32_t n_rows;
    const struct draw_noise *noise; /* [1], or NULL */
    const int32_t *first;         /* [1], where noise is set */
    int32_t offset;
};

/* dst[r] = digest of row r: the sum modulo 2^64 over i of digest_mix(i, bits of x[r][i])
 * (kernels/digest_mix.h), in any order. */
struct digest_args {
    const float *x;               /* [n_rows][n] */
    uint64_t *dst;
    size_t n;
    int32_t n_rows;
};

/* dst[i] = src[index[i]], rows of n floats. */
struct gather_args {
    const float *src;
    const int32_t *index;         /* [n_rows] */
    float *dst;                   /* [n_rows][n] */
    size_t n;
    int32_t n_rows;
};

/* rows[r] = {tokens[r], first[0] + offset + r, sequence 0}: rows whose tokens only the backend knows. */
struct chain_rows_args {
    const int32_t *tokens;        /* [n_rows] */
    const int32_t *first;         /* [1] a position */
    int32_t offset;
    struct batch_row *rows;
    int32_t n_rows;
};

/* Greedy acceptance: tokens are a drawn token and its drafts, top the likeliest tokens behind each of their
 * rows. n_kept[0] = 1 + the number of drafts, from the first on, that are what the row before them gives.
 * seen is a copy of tokens. */
struct accept_args {
    const int32_t *tokens;        /* [n_rows] */
    const int32_t *top;           /* [n_rows] */
    int32_t *n_kept;              /* [1] */
    int32_t *seen;                /* [n_rows] */
    int32_t n_rows;               /* at least 1 */
};
static inline int32_t accepted_rows(const int32_t *tokens, const int32_t *top, int32_t n_rows)
{
    int32_t kept = 1;
    while (kept < n_rows && tokens[kept] == top[kept - 1])
        kept++;
    return kept;
}

/* Operations one after the other, those that are not NULL in this order, with the results of their calls one
 * by one. A later one may read what an earlier one writes. A backend may run them as one. */
struct fused_args {
    const struct attention_args *attention;
    const struct moe_combine_args *combine;
    const struct add_args *add;
    const struct rms_norm_args *norm;
    const struct mul_silu_args *gate;
    const struct quantize_args *quantize;
    int32_t layer_of_add; /* backend->layer of combine and add, which may end the layer before */
    const struct matmul_args *product;
    const struct route_args *route;
    /* Others that come after these: neither reads or writes what the other writes. */
    const struct fused_args *beside;
};

/* The same of what stands between the products of an attention layer and its attention: the norms of the
 * heads of keys and queries, their rotation, and the cache. Those of queries may be NULL. */
struct place_heads_args {
    const struct rms_norm_args *k_norm, *q_norm;
    const struct rope_args *k_rope, *q_rope;
    const struct kv_store_args *store;
};

/* A piece of a matrix to be arranged. Rows are counted over all experts, row r of expert e is
 * e * n_out + r; a piece begins at a multiple of PACK_PIECE of its expert's rows. */
enum { PACK_PIECE = 16 };
struct pack_args {
    struct weight w;              /* data is not read */
    const void *rows;             /* the first of them; the others lie behind it as in the file */
    uint64_t first_row, n_rows;
    void *dst;                    /* place of the whole matrix, 64-byte aligned */
};

/* The first non-finite value met, kept until cleared. */
struct numeric_fault {
    bool found;
    const char *operation; /* static string */
    int32_t row;
    int32_t layer;         /* backend->layer when it ran */
};

/* What memory is for. Where the system can, it is committed as it is used, and MEMORY_WHOLE at once. */
enum memory_use {
    MEMORY_PARTS,  /* buffers of which small batches use the front */
    MEMORY_STREAM, /* caches, of which passes read long stretches in order */
    MEMORY_WHOLE,  /* all of it is used before long */
};

/* What a device's memory holds for a backend. */
struct backend_memory {
    uint64_t free;      /* bytes that alloc may still give; UINT64_MAX when nobody knows */
    uint64_t own;       /* bytes that one backend takes for itself, open and reserved for n_ctx */
    uint64_t allowance; /* bytes beside alloc's and its own, by experience: recorded passes, code that is
                         * loaded when it is first used, sizes rounded up */
};

/* A backend: its memory and its operations. Operations return nothing: what can go wrong at run time
 * is a non-finite value, recorded in fault() and looked at by the model code after each layer, or, on
 * a device, a call that fails, kept in error(). */
struct backend;
enum { PASS_ORDERS = 16, PASS_MARKS = 2 };
struct backend_counters {
    uint64_t expert_reads, expert_rows;
    uint64_t matmul_calls, variant_calls; /* calls served by an ISA variant rather than the definition */
    uint64_t packed_calls;                /* of them, calls that read packed weights */
    uint64_t waits;                       /* times the host has waited for a device */
    uint64_t inexact_calls;               /* products of --fast: not by docs/arithmetic.md */
};
struct ops {
    const char *name; /* "scalar", "avx2" */
    /* Whether memory is one: the host may read and write the backend's, and operations the host's. */
    bool host_memory;
    void (*embed)(struct backend *, const struct embed_args *);
    void (*quantize)(struct backend *, const struct quantize_args *);
    void (*matmul)(struct backend *, const struct matmul_args *);
    void (*expert_matmul)(struct backend *, const struct expert_matmul_args *);
    void (*products)(struct backend *, const struct products_args *);
    void (*rms_norm)(struct backend *, const struct rms_norm_args *);
    void (*add)(struct backend *, const struct add_args *);
    void (*rope)(struct backend *, const struct rope_args *);
    void (*kv_store)(struct backend *, const struct kv_store_args *);
    void (*attention)(struct backend *, const struct attention_args *);
    void (*conv)(struct backend *, const struct conv_args *);
    void (*delta_net)(struct backend *, const struct delta_net_args *);
    void (*conv_replay)(struct backend *, const struct conv_replay_args *);
    void (*delta_net_replay)(struct backend *, const struct delta_net_replay_args *);
    void (*mul_silu)(struct backend *, const struct mul_silu_args *);
    void (*route)(struct backend *, const struct route_args *);
    void (*moe_combine)(struct backend *, const struct moe_combine_args *);
    void (*argmax)(struct backend *, const struct argmax_args *);
    void (*digest)(struct backend *, const struct digest_args *);
    void (*gather)(struct backend *, const struct gather_args *);
    void (*chain_rows)(struct backend *, const struct chain_rows_args *);
    void (*accept)(struct backend *, const struct accept_args *);
    void (*fused)(struct backend *, const struct fused_args *);
    void (*place_heads)(struct backend *, const struct place_heads_args *);
    /* Optional, for devices where putting operations on a stream takes time. Between pass_begin and pass_end
     * stand operations, copies and fills which are, with the same arguments, always the same for a key;
     * nothing is uploaded or downloaded. Where pass_begin is true they have been repeated from a record, and
     * neither they nor pass_end must be called. Where pass_end is false they have not run, and must be called
     * again. NULL: they are called each time. order (0..PASS_ORDERS - 1) grows from pass to pass between two
     * looks at fault(), so that the first fault is known. */
    bool (*pass_begin)(struct backend *, uint64_t key, uint32_t order);
    bool (*pass_end)(struct backend *);
    /* Optional, where operations are under way when they return: puts mark number 0.. on their way, and says
     * how many seconds lay between two marks once they have been passed. */
    void (*mark)(struct backend *, int number);
    double (*between)(struct backend *, int from, int to);
    /* Bytes of the backend's own arrangement of w; 0 when it reads the file's. */
    size_t (*packed_bytes)(struct backend *, const struct weight *);
    void (*pack)(struct backend *, const struct pack_args *);
    /* Makes room for attention over n_ctx positions; false when there is no memory. */
    bool (*reserve)(struct backend *, uint32_t n_ctx);
    /* n_ctx 0: not reserved. NULL where memory is the host's. */
    void (*memory)(struct backend *, uint32_t n_ctx, struct backend_memory *);
    /* Between the host's memory (any) and the backend's, and inside the latter; dst and src may not
     * overlap. A source on the host may change once upload has returned; what download writes is there
     * when it returns, everything before it done. fill sets bytes. copy may read memory of another backend
     * on the same device that has been synchronized. */
    void (*upload)(struct backend *, void *dst, const void *src, size_t bytes);
    void (*download)(struct backend *, void *dst, const void *src, size_t bytes);
    void (*copy)(struct backend *, void *dst, const void *src, size_t bytes);
    void (*fill)(struct backend *, void *dst, int byte, size_t bytes);
    /* Returns when all operations before it are done. */
    void (*synchronize)(struct backend *);
    /* What has failed, in one sentence that lasts as long as the backend, or NULL. After a failure
     * results mean nothing; it is for good. */
    const char *(*error)(struct backend *);
    /* Memory of the backend, zeroed. NULL when there is none. */
    void *(*alloc)(struct backend *, size_t bytes, enum memory_use use);
    void (*free)(struct backend *, void *memory, size_t bytes);
    struct numeric_fault (*fault)(struct backend *);
    void (*clear_fault)(struct backend *);
    void (*counters)(struct backend *, struct backend_counters *);
    void (*close)(struct backend *);
};
struct backend {
    const struct ops *ops;
    int32_t layer; /* whose operations run: -1 embedding, 0.. blocks, n_layers the head; for messages */
};

/* Arranges all of w, which lies in the backend's memory. */
static inline void pack_whole(struct backend *backend, const struct weight *w, void *dst)
{
    const struct pack_args args = {*w, w->data, 0, (uint64_t)w->n_experts * w->n_out, dst};
    backend->ops->pack(backend, &args);
}

/* ops->products, fused and place_heads of a backend that runs, or looks at, every operation by itself. */
static inline void fused_one_by_one(struct backend *backend, const struct fused_args *args)
{
    if (args->attention != NULL)
        backend->ops->attention(backend, args->attention);
    int32_t layer = backend->layer;
    backend->layer = args->layer_of_add;
    if (args->combine != NULL)
        backend->ops->moe_combine(backend, args->combine);
    if (args->add != NULL)
        backend->ops->add(backend, args->add);
    backend->layer = layer;
    if (args->norm != NULL)
        backend->ops->rms_norm(backend, args->norm);
    if (args->gate != NULL)
        backend->ops->mul_silu(backend, args->gate);
    if (args->quantize != NULL)
        backend->ops->quantize(backend, args->quantize);
    if (args->product != NULL)
        backend->ops->matmul(backend, args->product);
    if (args->route != NULL)
        backend->ops->route(backend, args->route);
    if (args->beside != NULL)
        backend->ops->fused(backend, args->beside);
}
static inline void place_heads_one_by_one(struct backend *backend, const struct place_heads_args *args)
{
    backend->ops->rms_norm(backend, args->k_norm);
    backend->ops->rope(backend, args->k_rope);
    backend->ops->kv_store(backend, args->store);
    if (args->q_norm != NULL)
        backend->ops->rms_norm(backend, args->q_norm);
    if (args->q_rope != NULL)
        backend->ops->rope(backend, args->q_rope);
}
static inline void products_one_by_one(struct backend *backend, const struct products_args *args)
{
    for (int i = 0; i < args->n_matmuls; i++)
        backend->ops->matmul(backend, &args->matmuls[i]);
    for (int i = 0; i < args->n_experts; i++)
        backend->ops->expert_matmul(backend, &args->experts[i]);
}

#endif
