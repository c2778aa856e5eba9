/* delta_net.c - the gated delta rule by AVX2. Columns j of the state are lanes, 16 at a time (one
 * cache line of each row i); the 8 partials i mod 8 are 8 accumulators. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

struct head_step {
    const float *k, *q, *v; /* k and q normalised */
    float decay, beta;
};

/* As the definition's normalise(). */
static bool normalise(const float *x, size_t n, float scale, float *out)
{
    float norm = sqrtf(v_sum64_squares(x, n));
    __m256 inverse = _mm256_set1_ps(1.0f / (norm > 1e-6f ? norm : 1e-6f));
    for (size_t i = 0; i < n; i += LANES) {
        __m256 value = _mm256_mul_ps(load_lanes(x + i, n - i), inverse);
        store_lanes(out + i, _mm256_mul_ps(value, _mm256_set1_ps(scale)), n - i);
    }
    return !f32_not_finite(norm);
}

/* Partials i mod 8 fold by distance 4, 2, 1. */
static inline __m256 fold_sum8(const __m256 p[8])
{
    __m256 a = _mm256_add_ps(_mm256_add_ps(p[0], p[4]), _mm256_add_ps(p[2], p[6]));
    __m256 b = _mm256_add_ps(_mm256_add_ps(p[1], p[5]), _mm256_add_ps(p[3], p[7]));
    return _mm256_add_ps(a, b);
}

/* r = sum8 of decayed S and k for n (at most 8) columns from s on. S itself is left as it was: the
 * second pass decays it again, by the same rounding, which costs less than a store. */
ALWAYS_INLINE __m256 predict(const float *s, size_t d, size_t n, const struct head_step *step)
{
    const __m256 decay = _mm256_set1_ps(step->decay);
    __m256 p[8];
    for (int l = 0; l < 8; l++)
        p[l] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= d; i += 8)
#pragma GCC unroll 8
        for (size_t l = 0; l < 8; l++) {
            __m256 old = _mm256_mul_ps(load_lanes(s + (i + l) * d, n), decay);
            p[l] = _mm256_fmadd_ps(old, _mm256_set1_ps(step->k[i + l]), p[l]);
        }
    for (size_t l = 0; i + l < d; l++) {
        __m256 old = _mm256_mul_ps(load_lanes(s + (i + l) * d, n), decay);
        p[l] = _mm256_fmadd_ps(old, _mm256_set1_ps(step->k[i + l]), p[l]);
    }
    return fold_sum8(p);
}

ALWAYS_INLINE __m256 update_row(const float *from, float *s, size_t n, __m256 delta, __m256 partial,
                                const struct head_step *step, size_t i)
{
    __m256 old = _mm256_mul_ps(load_lanes(from, n), _mm256_set1_ps(step->decay));
    __m256 now = _mm256_fmadd_ps(_mm256_set1_ps(step->k[i]), delta, old);
    store_lanes(s, now, n);
    return _mm256_fmadd_ps(now, _mm256_set1_ps(step->q[i]), partial);
}

ALWAYS_INLINE __m256 update(const float *from, float *s, size_t d, size_t n, __m256 delta,
                            const struct head_step *step)
{
    __m256 p[8];
    for (int l = 0; l < 8; l++)
        p[l] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= d; i += 8)
#pragma GCC unroll 8
        for (size_t l = 0; l < 8; l++)
            p[l] = update_row(from + (i + l) * d, s + (i + l) * d, n, delta, p[l], step, i + l);
    for (size_t l = 0; i + l < d; l++)
        p[l] = update_row(from + (i + l) * d, s + (i + l) * d, n, delta, p[l], step, i + l);
    return fold_sum8(p);
}

static inline __attribute__((always_inline)) void step_columns(const float *from, float *s,
                                                               size_t d, size_t j, size_t n,
                                                               const struct head_step *step,
                                                               float *out, float *journal)
{
    __m256 r = predict(from + j, d, n, step);
    __m256 delta = _mm256_sub_ps(load_lanes(step->v + j, n), r);
    delta = _mm256_mul_ps(delta, _mm256_set1_ps(step->beta));
    if (journal != NULL)
        store_lanes(journal + j, delta, n);
    store_lanes(out + j, update(from + j, s + j, d, n, delta, step), n);
}

static void step_state(const float *from, float *s, size_t d, const struct head_step *step,
                       float *out, float *journal)
{
    size_t j = 0;
    for (; j + LANES <= d; j += LANES)
        step_columns(from, s, d, j, LANES, step, out, journal);
    if (j < d)
        step_columns(from, s, d, j, d - j, step, out, journal);
}

static void step_head(const struct delta_net_args *args, size_t row, size_t head, bool first,
                      struct cpu_task *task)
{
    size_t d = args->d, n_k = args->n_k_heads, n_v = args->n_v_heads;
    const float *x = args->x + row * (2 * n_k + n_v) * d;
    float k[MAX_STATE_DIM], q[MAX_STATE_DIM];
    bool q_finite = normalise(x + (head % n_k) * d, d, 1.0f / sqrtf((float)d), q);
    bool k_finite = normalise(x + (n_k + head % n_k) * d, d, 1.0f, k);
    if (!q_finite || !k_finite)
        cpu_report_fault(task->fault, "delta_net", (int32_t)row);
    float soft = mtp_softplusf(args->alpha[row * n_v + head] + args->dt[head]);
    struct head_step step = {
        .k = k,
        .q = q,
        .v = x + (2 * n_k + head) * d,
        .decay = mtp_expf(args->a[head] * soft),
        .beta = mtp_sigmoidf(args->beta[row * n_v + head]),
    };
    size_t at = ((size_t)args->rows[row].sequence * n_v + head) * d * d;
    const float *from = first && args->state_from != NULL ? args->state_from : args->state;
    float *delta = delta_net_journal_row(args, row, head, k, step.decay);
    step_state(from + at, args->state + at, d, &step, args->out + (row * n_v + head) * d, delta);
}

void delta_net_avx2(const struct delta_net_args *args, int64_t begin, int64_t end,
                    struct cpu_task *task)
{
    for (int64_t t = begin; t < end; t++) {
        int32_t sequence = (int32_t)(t / args->n_v_heads);
        bool first = true;
        for (int32_t r = 0; r < args->n_rows; r++)
            if (args->rows[r].sequence == sequence) {
                step_head(args, (size_t)r, (size_t)t % args->n_v_heads, first, task);
                first = false;
            }
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
