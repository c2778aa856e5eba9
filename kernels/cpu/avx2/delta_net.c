/* delta_net.c - the gated delta rule by AVX2. Columns j of the state do not meet: a block of 16 of
 * them (one cache line of each row i) is copied to a place of its own, where it stays in the
 * first-level cache while several batch rows pass over it. In the state itself such a block's lines
 * lie a power of two apart and push one another out. One pass over the block writes S of a row,
 * reads it through q, decays it for the row behind and multiplies that by its k. Lanes are columns;
 * the 8 partials i mod 8 are taken a few at a time, as the registers allow. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    COLUMNS = DELTA_NET_COLUMNS,
    VECTORS = COLUMNS / LANES,
    ROWS_TOGETHER = 16, /* batch rows whose keys fit the first-level cache beside a block */
};

/* Up to ROWS_TOGETHER rows of one sequence, as one head sees them. */
struct steps {
    size_t n;
    size_t row[ROWS_TOGETHER];
    const float *v[ROWS_TOGETHER]; /* [d] */
    float *out[ROWS_TOGETHER];     /* [d] */
    float *delta[ROWS_TOGETHER];   /* [d] of the journal, or NULL */
    float decay[ROWS_TOGETHER], beta[ROWS_TOGETHER];
    float k[ROWS_TOGETHER * MAX_STATE_DIM], q[ROWS_TOGETHER * MAX_STATE_DIM]; /* [n][d] normalised */
};

/* The block's columns of the state before and after, rows d apart, and the block itself. */
struct block {
    const float *from;
    float *to;
    float s[MAX_STATE_DIM][COLUMNS];
    __m256 predicted[8][VECTORS], read[8][VECTORS]; /* partials */
};

/* As the definition's normalise(). */
static bool normalise(const float *x, size_t n, float scale, float *out)
{
    float norm = sqrtf(v_sum64_squares(x, n));
    __m256 inverse = _mm256_set1_ps(1.0f / (norm > 1e-6f ? norm : 1e-6f));
    for (size_t i = 0; i < n; i += LANES) {
        __m256 value = _mm256_mul_ps(_mm256_loadu_ps(x + i), inverse);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(value, _mm256_set1_ps(scale)));
    }
    return !f32_not_finite(norm);
}

/* Partials i mod 8 fold by distance 4, 2, 1. */
ALWAYS_INLINE __m256 fold_sum8(__m256 p[8][VECTORS], int c)
{
    __m256 a = _mm256_add_ps(_mm256_add_ps(p[0][c], p[4][c]), _mm256_add_ps(p[2][c], p[6][c]));
    __m256 b = _mm256_add_ps(_mm256_add_ps(p[1][c], p[5][c]), _mm256_add_ps(p[3][c], p[7][c]));
    return _mm256_add_ps(a, b);
}

/* Multiplies the decayed state by the first row's k; copies it into the block, where it is kept. */
ALWAYS_INLINE void begin_block(struct block *block, size_t d, const struct steps *steps, bool keep)
{
    enum { PARTIALS = 4 };
    const __m256 decay = _mm256_set1_ps(steps->decay[0]);
    for (size_t first = 0; first < 8; first += PARTIALS) {
        __m256 p[PARTIALS][VECTORS];
#pragma GCC unroll 4
        for (int l = 0; l < PARTIALS; l++)
            p[l][0] = p[l][1] = _mm256_setzero_ps();
        for (size_t i = first; i < d; i += 8)
#pragma GCC unroll 4
            for (size_t l = 0; l < PARTIALS; l++) {
                __m256 k = _mm256_set1_ps(steps->k[i + l]);
                /* the block behind, into the second-level cache */
                _mm_prefetch(block->from + (i + l) * d + COLUMNS, _MM_HINT_T1);
#pragma GCC unroll 2
                for (int c = 0; c < VECTORS; c++) {
                    __m256 old = _mm256_loadu_ps(block->from + (i + l) * d + LANES * c);
                    old = _mm256_mul_ps(old, decay);
                    if (keep)
                        _mm256_storeu_ps(block->s[i + l] + LANES * c, old);
                    p[l][c] = _mm256_fmadd_ps(old, k, p[l][c]);
                }
            }
#pragma GCC unroll 4
        for (size_t l = 0; l < PARTIALS; l++)
            for (int c = 0; c < VECTORS; c++)
                block->predicted[first + l][c] = p[l][c];
    }
}

/* The update of a row and what it reads, when no row follows: the state goes back to its place. A
 * lone row (not kept) finds the old state where it was, and decays it again by the same rounding,
 * which costs less than a copy. */
ALWAYS_INLINE void end_block(struct block *block, size_t d, const struct steps *steps, size_t t,
                             const __m256 delta[VECTORS], bool kept)
{
    enum { PARTIALS = 4 };
    const __m256 decay = _mm256_set1_ps(steps->decay[t]);
    const float *k = steps->k + t * d, *q = steps->q + t * d;
    for (size_t first = 0; first < 8; first += PARTIALS) {
        __m256 o[PARTIALS][VECTORS];
#pragma GCC unroll 4
        for (int l = 0; l < PARTIALS; l++)
            o[l][0] = o[l][1] = _mm256_setzero_ps();
        for (size_t i = first; i < d; i += 8)
#pragma GCC unroll 4
            for (size_t l = 0; l < PARTIALS; l++)
#pragma GCC unroll 2
                for (int c = 0; c < VECTORS; c++) {
                    size_t at = (i + l) * d + LANES * (size_t)c;
                    __m256 s = kept ? _mm256_loadu_ps(block->s[i + l] + LANES * c)
                                    : _mm256_mul_ps(_mm256_loadu_ps(block->from + at), decay);
                    s = _mm256_fmadd_ps(_mm256_set1_ps(k[i + l]), delta[c], s);
                    _mm256_storeu_ps(block->to + at, s);
                    o[l][c] = _mm256_fmadd_ps(s, _mm256_set1_ps(q[i + l]), o[l][c]);
                }
#pragma GCC unroll 4
        for (size_t l = 0; l < PARTIALS; l++)
            for (int c = 0; c < VECTORS; c++)
                block->read[first + l][c] = o[l][c];
    }
}

/* Row t's update, what it reads, and the next row's prediction. */
static void pass_block(struct block *block, size_t d, const struct steps *steps, size_t t,
                       const __m256 delta[VECTORS])
{
    enum { PARTIALS = 2 };
    const __m256 decay = _mm256_set1_ps(steps->decay[t + 1]);
    const float *k = steps->k + t * d, *q = steps->q + t * d, *next = k + d;
    for (size_t first = 0; first < 8; first += PARTIALS) {
        __m256 o[PARTIALS][VECTORS], p[PARTIALS][VECTORS];
#pragma GCC unroll 2
        for (int l = 0; l < PARTIALS; l++)
            o[l][0] = o[l][1] = p[l][0] = p[l][1] = _mm256_setzero_ps();
        for (size_t i = first; i < d; i += 8)
#pragma GCC unroll 2
            for (size_t l = 0; l < PARTIALS; l++)
#pragma GCC unroll 2
                for (int c = 0; c < VECTORS; c++) {
                    float *at = block->s[i + l] + LANES * c;
                    __m256 s = _mm256_loadu_ps(at);
                    s = _mm256_fmadd_ps(_mm256_set1_ps(k[i + l]), delta[c], s);
                    o[l][c] = _mm256_fmadd_ps(s, _mm256_set1_ps(q[i + l]), o[l][c]);
                    s = _mm256_mul_ps(s, decay);
                    _mm256_storeu_ps(at, s);
                    p[l][c] = _mm256_fmadd_ps(s, _mm256_set1_ps(next[i + l]), p[l][c]);
                }
#pragma GCC unroll 2
        for (size_t l = 0; l < PARTIALS; l++)
            for (int c = 0; c < VECTORS; c++) {
                block->read[first + l][c] = o[l][c];
                block->predicted[first + l][c] = p[l][c];
            }
    }
}

/* All the rows over the columns from j on. */
static void step_block(const float *from, float *to, size_t d, size_t j, const struct steps *steps)
{
    struct block block;
    block.from = from + j;
    block.to = to + j;
    if (steps->n > 1)
        begin_block(&block, d, steps, true);
    else
        begin_block(&block, d, steps, false);
    for (size_t t = 0; t < steps->n; t++) {
        __m256 delta[VECTORS];
        for (int c = 0; c < VECTORS; c++) {
            size_t at = j + LANES * (size_t)c;
            delta[c] = _mm256_sub_ps(_mm256_loadu_ps(steps->v[t] + at),
                                     fold_sum8(block.predicted, c));
            delta[c] = _mm256_mul_ps(delta[c], _mm256_set1_ps(steps->beta[t]));
            if (steps->delta[t] != NULL)
                _mm256_storeu_ps(steps->delta[t] + at, delta[c]);
        }
        if (t + 1 < steps->n)
            pass_block(&block, d, steps, t, delta);
        else if (t > 0)
            end_block(&block, d, steps, t, delta, true);
        else
            end_block(&block, d, steps, t, delta, false);
        for (int c = 0; c < VECTORS; c++)
            _mm256_storeu_ps(steps->out[t] + j + LANES * (size_t)c, fold_sum8(block.read, c));
    }
}

/* Decay and beta of all the rows, eight rows at a time. */
static void prepare_gates(const struct delta_net_args *args, size_t head, struct steps *steps)
{
    const __m256 a = _mm256_set1_ps(args->a[head]), dt = _mm256_set1_ps(args->dt[head]);
    float alpha[ROWS_TOGETHER] = {0}, beta[ROWS_TOGETHER] = {0};
    for (size_t t = 0; t < steps->n; t++) {
        alpha[t] = args->alpha[steps->row[t] * args->n_v_heads + head];
        beta[t] = args->beta[steps->row[t] * args->n_v_heads + head];
    }
    for (size_t t = 0; t < steps->n; t += LANES) {
        __m256 soft = v_softplus(_mm256_add_ps(_mm256_loadu_ps(alpha + t), dt));
        _mm256_storeu_ps(steps->decay + t, v_exp(_mm256_mul_ps(a, soft)));
        _mm256_storeu_ps(steps->beta + t, v_sigmoid(_mm256_loadu_ps(beta + t)));
    }
}

/* Keys, queries and places of the rows. The journal takes k and decay from the task of the head's
 * first columns. */
static void prepare_steps(const struct delta_net_args *args, size_t head, bool notes,
                          struct steps *steps, struct cpu_task *task)
{
    size_t d = args->d, n_k = args->n_k_heads, n_v = args->n_v_heads;
    prepare_gates(args, head, steps);
    for (size_t t = 0; t < steps->n; t++) {
        size_t row = steps->row[t];
        const float *x = args->x + row * (2 * n_k + n_v) * d;
        float *k = steps->k + t * d, *q = steps->q + t * d;
        bool q_finite = normalise(x + (head % n_k) * d, d, 1.0f / sqrtf((float)d), q);
        bool k_finite = normalise(x + (n_k + head % n_k) * d, d, 1.0f, k);
        if (!q_finite || !k_finite)
            cpu_report_fault(task->fault, "delta_net", (int32_t)row);
        steps->v[t] = x + (2 * n_k + head) * d;
        steps->out[t] = args->out + (row * n_v + head) * d;
        steps->delta[t] = delta_net_journal_delta(args, row, head);
        if (notes)
            delta_net_note(args, row, head, k, steps->decay[t]);
    }
}

/* The column blocks first..last of one head, over every row of the sequence. */
static void step_head(const struct delta_net_args *args, size_t sequence, size_t head, size_t first,
                      size_t last, struct cpu_task *task)
{
    size_t d = args->d, at = (sequence * args->n_v_heads + head) * d * d;
    const float *from = args->state_from != NULL ? args->state_from : args->state;
    struct steps steps;
    for (int32_t r = 0; r < args->n_rows;) {
        steps.n = 0;
        for (; r < args->n_rows && steps.n < ROWS_TOGETHER; r++)
            if ((size_t)args->rows[r].sequence == sequence)
                steps.row[steps.n++] = (size_t)r;
        if (steps.n == 0)
            return;
        prepare_steps(args, head, first == 0, &steps, task);
        for (size_t b = first; b < last; b++)
            step_block(from + at, args->state + at, d, b * COLUMNS, &steps);
        from = args->state;
    }
}

void delta_net_avx2(const struct delta_net_args *args, int64_t begin, int64_t end,
                    struct cpu_task *task)
{
    size_t blocks = delta_net_blocks(args->d);
    if (args->d % COLUMNS != 0) {
        delta_net_scalar(args, begin, end, task);
        return;
    }
    for (size_t t = (size_t)begin; t < (size_t)end;) {
        size_t head = t / blocks, first = t % blocks, left = (size_t)end - t;
        size_t last = blocks - first < left ? blocks : first + left;
        step_head(args, head / args->n_v_heads, head % args->n_v_heads, first, last, task);
        t += last - first;
    }
}

void delta_net_replay_avx2(const struct delta_net_replay_args *args, int64_t begin, int64_t end,
                           struct cpu_task *task)
{
    (void)task;
    size_t d = args->d, n_v = args->n_v_heads, n_k = args->n_k_heads;
    for (int64_t t = begin; t < end; t++) {
        size_t head = (size_t)t / d, i = (size_t)t % d;
        float *s = args->state + (size_t)t * d;
        for (size_t row = 0; row < (size_t)args->n_rows; row++) {
            const float *from = row == 0 ? args->state_from + (size_t)t * d : s;
            const float *delta = args->journal.delta + (row * n_v + head) * d;
            __m256 k = _mm256_set1_ps(args->journal.k[(row * n_k + head % n_k) * d + i]);
            __m256 decay = _mm256_set1_ps(args->journal.decay[row * n_v + head]);
            for (size_t j = 0; j < d; j += LANES) {
                __m256 old = _mm256_mul_ps(load_lanes(from + j, d - j), decay);
                store_lanes(s + j, _mm256_fmadd_ps(k, load_lanes(delta + j, d - j), old), d - j);
            }
        }
    }
}
