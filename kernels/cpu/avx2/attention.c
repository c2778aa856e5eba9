/* attention.c - softmax attention by AVX2, and with wider vectors where kernels/cpu/avx512 compiles it
 * again. Heads that share keys and values, of one row or of neighbours in a sequence, are taken up to
 * ATTENTION_GROUP together, so that a cached vector is read and widened once for all of them. Rows of a
 * group end in the same chunk. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

struct head_group {
    const struct kv_cache *cache;
    size_t first;  /* element of position 0 */
    size_t stride; /* elements from one position to the next */
    size_t n;      /* positions that all heads see */
    size_t most_n; /* positions that one of them sees */
    size_t sees[ATTENTION_GROUP];
    const float *q[ATTENTION_GROUP];
    float *scores[ATTENTION_GROUP];
    float *out[ATTENTION_GROUP];
    float most[ATTENTION_GROUP], total[ATTENTION_GROUP];
};

/* What a loop is compiled for: numbers known to the compiler where it pays. */
struct kind {
    enum kv_type type;
    int heads;
    size_t dim;
};

ALWAYS_INLINE __m256 cached(const void *values, enum kv_type type, size_t at)
{
    if (type == KV_F32)
        return _mm256_loadu_ps((const float *)values + at);
    return _mm256_cvtph_ps(
        _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)values + at)));
}

/* Asks for n elements of keys or values from element `at` on. Their rows are short and lie apart, which
 * the processor's own prefetching does not follow. They are asked for a row at a time, behind one
 * that is worked on: more at once would wait for one another. AHEAD positions take longer than memory. */
enum { AHEAD = 32 };
ALWAYS_INLINE void prefetch(const void *values, enum kv_type type, size_t at, size_t n)
{
    const size_t size = type == KV_F16 ? sizeof(uint16_t) : sizeof(float);
    for (size_t line = 0; line < n * size; line += 64)
        _mm_prefetch((const char *)values + at * size + line, _MM_HINT_T0);
}

#ifdef __AVX512F__
/* Sixteen lanes at a time: the 64 partials of a score are four vectors, and the queries of two heads of 128
 * stay in registers. */
enum { WIDE_LANES = 16 };

ALWAYS_INLINE bool is_wide(size_t dim)
{
    return dim % SUM64 == 0;
}

ALWAYS_INLINE __m512 cached_wide(const void *values, enum kv_type type, size_t at)
{
    if (type == KV_F32)
        return _mm512_loadu_ps((const float *)values + at);
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)values + at)));
}

ALWAYS_INLINE void score_wide(const struct head_group *h, struct kind kind, size_t at,
                              __m256 folded[ATTENTION_GROUP][8], int slot)
{
    const int heads = kind.heads;
    __m512 z[ATTENTION_GROUP][4];
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        z[i][0] = z[i][1] = z[i][2] = z[i][3] = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (size_t d = 0; d < kind.dim; d += SUM64)
#pragma GCC unroll 4
        for (size_t g = 0; g < 4; g++) {
            __m512 k = cached_wide(h->cache->k, kind.type, at + d + WIDE_LANES * g);
#pragma GCC unroll 4
            for (int i = 0; i < heads; i++)
                z[i][g] = _mm512_fmadd_ps(_mm512_loadu_ps(h->q[i] + d + WIDE_LANES * g), k, z[i][g]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++) {
        __m512 sum = _mm512_add_ps(_mm512_add_ps(z[i][0], z[i][2]), _mm512_add_ps(z[i][1], z[i][3]));
        folded[i][slot] = _mm256_add_ps(_mm512_castps512_ps256(sum),
                                        _mm512_extractf32x8_ps(sum, 1));
    }
}
#else
ALWAYS_INLINE bool is_wide(size_t dim)
{
    (void)dim;
    return false;
}
#endif

/* Adds group g of the 64 partials of each head's score and group g + 4, folded, to sum. */
ALWAYS_INLINE void score_groups(const struct head_group *h, struct kind kind, size_t at, size_t g,
                                __m256 sum[ATTENTION_GROUP])
{
    const enum kv_type type = kind.type;
    const int heads = kind.heads;
    const size_t dim = kind.dim;
    __m256 near[ATTENTION_GROUP], far[ATTENTION_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        near[i] = far[i] = _mm256_setzero_ps();
    for (size_t d = LANES * g; d < dim; d += SUM64) {
        __m256 k = cached(h->cache->k, type, at + d);
#pragma GCC unroll 4
        for (int i = 0; i < heads; i++)
            near[i] = _mm256_fmadd_ps(_mm256_loadu_ps(h->q[i] + d), k, near[i]);
        if (d + 32 >= dim)
            continue;
        k = cached(h->cache->k, type, at + d + 32);
#pragma GCC unroll 4
        for (int i = 0; i < heads; i++)
            far[i] = _mm256_fmadd_ps(_mm256_loadu_ps(h->q[i] + d + 32), k, far[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        sum[i] = _mm256_add_ps(near[i], far[i]);
}

/* The score of one position before its last three folds (fold64_to_8). */
ALWAYS_INLINE void score_position(const struct head_group *h, struct kind kind, size_t position,
                                  __m256 folded[ATTENTION_GROUP][8], int slot)
{
    const int heads = kind.heads;
    size_t at = h->first + position * h->stride;
#ifdef __AVX512F__
    if (is_wide(kind.dim)) {
        score_wide(h, kind, at, folded, slot);
        return;
    }
#endif
    __m256 a[ATTENTION_GROUP], b[ATTENTION_GROUP], even[ATTENTION_GROUP];
    score_groups(h, kind, at, 0, a);
    score_groups(h, kind, at, 2, b);
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        even[i] = _mm256_add_ps(a[i], b[i]);
    score_groups(h, kind, at, 1, a);
    score_groups(h, kind, at, 3, b);
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        folded[i][slot] = _mm256_add_ps(even[i], _mm256_add_ps(a[i], b[i]));
}

/* All scores, those of positions that a head does not see among them, and the largest that it does. */
ALWAYS_INLINE void score_all(struct head_group *h, struct kind kind, float scale)
{
    const int heads = kind.heads;
    __m256 folded[ATTENTION_GROUP][8], most[ATTENTION_GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        most[i] = _mm256_set1_ps(-INFINITY);
    for (size_t p = 0; p < h->most_n; p += LANES) {
        size_t count = h->most_n - p < LANES ? h->most_n - p : LANES;
        for (size_t k = 0; k < LANES; k++) { /* a missing position repeats the last one */
            prefetch(h->cache->k, kind.type, h->first + (p + AHEAD + k) * h->stride, kind.dim);
            score_position(h, kind, p + (k < count ? k : count - 1), folded, (int)k);
        }
#pragma GCC unroll 4
        for (int i = 0; i < heads; i++) {
            __m256 scores = _mm256_mul_ps(fold_lanes_each(folded[i]), _mm256_set1_ps(scale));
            store_lanes(h->scores[i] + p, scores, count);
            if (p + LANES > h->n) {
                __m256i seen = lane_mask(h->sees[i] > p ? h->sees[i] - p : 0);
                scores = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), scores,
                                          _mm256_castsi256_ps(seen));
            }
            most[i] = _mm256_max_ps(most[i], scores);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        h->most[i] = v_largest_lane(most[i]);
}

/* p = exp(score - the chunk's maximum), 0 past its end; returns their sum. */
static float chunk_weights(const float *scores, size_t n, float *p, float *most)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 x[8], top = lowest;
    for (size_t g = 0; g < 8; g++) {
        size_t left = n > LANES * g ? n - LANES * g : 0;
        __m256 mask = _mm256_castsi256_ps(lane_mask(left));
        x[g] = left > 0 ? load_lanes(scores + LANES * g, left) : lowest;
        x[g] = _mm256_blendv_ps(lowest, x[g], mask);
        top = _mm256_max_ps(top, x[g]);
    }
    *most = v_largest_lane(top);
    for (size_t g = 0; g < 8; g++) {
        size_t left = n > LANES * g ? n - LANES * g : 0;
        __m256 mask = _mm256_castsi256_ps(lane_mask(left));
        x[g] = _mm256_and_ps(v_exp(_mm256_sub_ps(x[g], _mm256_set1_ps(*most))), mask);
        _mm256_storeu_ps(p + LANES * g, x[g]);
    }
    return v_fold64(x);
}

/* A chunk's values are passed over a few positions at a time: cache rows lie a large power of two
 * apart, and more of them would push one another out of the first-level cache. */
enum { POSITIONS_TOGETHER = 16 };

struct chunk {
    size_t first, n; /* positions that all heads see */
    float p[ATTENTION_GROUP][ATTENTION_CHUNK];
    float acc[ATTENTION_GROUP][MAX_HEAD_DIM];
};

/* acc += the values of positions k to end of the chunk weighted by p, over `wide` vectors from
 * element d on. */
ALWAYS_INLINE void chunk_values(const struct head_group *h, struct kind kind, int wide,
                                struct chunk *chunk, size_t k, size_t end, size_t d)
{
    const enum kv_type type = kind.type;
    const int heads = kind.heads;
    __m256 acc[ATTENTION_GROUP][8];
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++)
            acc[i][w] = k == 0 ? _mm256_setzero_ps()
                               : _mm256_loadu_ps(chunk->acc[i] + d + LANES * w);
    size_t at = h->first + (chunk->first + k) * h->stride + d;
    for (; k < end; k++, at += h->stride) {
        prefetch(h->cache->v, type, at + AHEAD * h->stride, LANES * (size_t)wide);
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++) {
            __m256 v = cached(h->cache->v, type, at + LANES * (size_t)w);
#pragma GCC unroll 4
            for (int i = 0; i < heads; i++)
                acc[i][w] = _mm256_fmadd_ps(_mm256_set1_ps(chunk->p[i][k]), v, acc[i][w]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++)
            _mm256_storeu_ps(chunk->acc[i] + d + LANES * w, acc[i][w]);
}

#ifdef __AVX512F__
/* The same with `wide` vectors of sixteen. */
ALWAYS_INLINE void chunk_values_wide(const struct head_group *h, struct kind kind, int wide,
                                     struct chunk *chunk, size_t k, size_t end, size_t d)
{
    const int heads = kind.heads;
    __m512 acc[ATTENTION_GROUP][8];
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++)
            acc[i][w] = k == 0 ? _mm512_setzero_ps()
                               : _mm512_loadu_ps(chunk->acc[i] + d + WIDE_LANES * w);
    size_t at = h->first + (chunk->first + k) * h->stride + d;
    for (; k < end; k++, at += h->stride) {
        prefetch(h->cache->v, kind.type, at + AHEAD * h->stride,
                 WIDE_LANES * (size_t)wide);
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++) {
            __m512 v = cached_wide(h->cache->v, kind.type, at + WIDE_LANES * (size_t)w);
#pragma GCC unroll 4
            for (int i = 0; i < heads; i++)
                acc[i][w] = _mm512_fmadd_ps(_mm512_set1_ps(chunk->p[i][k]), v, acc[i][w]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++)
            _mm512_storeu_ps(chunk->acc[i] + d + WIDE_LANES * w, acc[i][w]);
}
#endif

/* acc of head i += the values of the positions that it sees and others of the group do not. */
ALWAYS_INLINE void more_values(const struct head_group *h, struct kind kind, struct chunk *chunk,
                               int i)
{
    for (size_t k = chunk->n; k < ATTENTION_CHUNK && chunk->first + k < h->sees[i]; k++) {
        const __m256 p = _mm256_set1_ps(chunk->p[i][k]);
        size_t at = h->first + (chunk->first + k) * h->stride;
        for (size_t d = 0; d < kind.dim; d += LANES) {
            __m256 acc = _mm256_loadu_ps(chunk->acc[i] + d);
            acc = _mm256_fmadd_ps(p, cached(h->cache->v, kind.type, at + d), acc);
            _mm256_storeu_ps(chunk->acc[i] + d, acc);
        }
    }
}

ALWAYS_INLINE void add_chunk(struct head_group *h, struct kind kind, struct chunk *chunk)
{
    const int heads = kind.heads;
    const size_t dim = kind.dim;
    float weight[ATTENTION_GROUP];
    for (int i = 0; i < heads; i++) {
        float most;
        size_t left = h->sees[i] - chunk->first, n = left < ATTENTION_CHUNK ? left : ATTENTION_CHUNK;
        float sum = chunk_weights(h->scores[i] + chunk->first, n, chunk->p[i], &most);
        weight[i] = mtp_expf(most - h->most[i]);
        h->total[i] = fmaf(weight[i], sum, h->total[i]);
    }
    const size_t wide = heads == 1 ? 8 : heads == 2 ? 4 : 2; /* sums that fit the registers */
    for (size_t k = 0; k < chunk->n; k += POSITIONS_TOGETHER) {
        size_t end = k + POSITIONS_TOGETHER < chunk->n ? k + POSITIONS_TOGETHER : chunk->n, d = 0;
#ifdef __AVX512F__
        const size_t wider = heads <= 2 ? 8 : 4;
        for (; d + WIDE_LANES * wider <= dim; d += WIDE_LANES * wider)
            chunk_values_wide(h, kind, (int)wider, chunk, k, end, d);
#endif
        for (; d + LANES * wide <= dim; d += LANES * wide)
            chunk_values(h, kind, (int)wide, chunk, k, end, d);
        for (; d < dim; d += LANES)
            chunk_values(h, kind, 1, chunk, k, end, d);
    }
    for (int i = 0; i < heads; i++) {
        more_values(h, kind, chunk, i);
        for (size_t d = 0; d < dim; d += LANES) {
            __m256 out = _mm256_loadu_ps(h->out[i] + d);
            out = _mm256_fmadd_ps(_mm256_set1_ps(weight[i]), _mm256_loadu_ps(chunk->acc[i] + d),
                                  out);
            _mm256_storeu_ps(h->out[i] + d, out);
        }
    }
}

ALWAYS_INLINE void attend(struct head_group *h, const struct kind kind, float scale)
{
    const int heads = kind.heads;
    const size_t dim = kind.dim;
    score_all(h, kind, scale);
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++) {
        h->total[i] = 0.0f;
        for (size_t d = 0; d < dim; d += LANES)
            _mm256_storeu_ps(h->out[i] + d, _mm256_setzero_ps());
    }
    for (size_t first = 0; first < h->n; first += ATTENTION_CHUNK) {
        struct chunk chunk;
        chunk.first = first;
        chunk.n = h->n - first < ATTENTION_CHUNK ? h->n - first : ATTENTION_CHUNK;
        add_chunk(h, kind, &chunk);
    }
#pragma GCC unroll 4
    for (int i = 0; i < heads; i++)
        for (size_t d = 0; d < dim; d += LANES) {
            __m256 out = _mm256_loadu_ps(h->out[i] + d);
            _mm256_storeu_ps(h->out[i] + d, _mm256_div_ps(out, _mm256_set1_ps(h->total[i])));
        }
}

ALWAYS_INLINE void attend_heads(struct head_group *h, enum kv_type type, size_t dim, size_t heads,
                                float scale)
{
    switch (heads) {
    case 1: attend(h, (struct kind){type, 1, dim}, scale); break;
    case 2: attend(h, (struct kind){type, 2, dim}, scale); break;
    case 3: attend(h, (struct kind){type, 3, dim}, scale); break;
    default: attend(h, (struct kind){type, 4, dim}, scale); break;
    }
}

static void attend_group(struct head_group *h, size_t heads, float scale)
{
    const size_t dim = h->cache->head_dim;
    if (is_wide(128) && dim == 128 && h->cache->type == KV_F16) /* queries fit the registers */
        attend_heads(h, KV_F16, 128, heads, scale);
    else if (h->cache->type == KV_F32)
        attend_heads(h, KV_F32, dim, heads, scale);
    else
        attend_heads(h, KV_F16, dim, heads, scale);
}

/* The row and the head of a task. */
struct place {
    size_t row, kv_head, head;
};

static struct place place_of(const struct attention_args *args, int64_t task)
{
    size_t sharing = args->n_heads / args->cache.n_kv_heads, rows = (size_t)args->n_rows;
    size_t kv_head = (size_t)task / (sharing * rows), rest = (size_t)task % (sharing * rows);
    return (struct place){rest / sharing, kv_head, kv_head * sharing + rest % sharing};
}

/* Whether two tasks can share a group: the same keys, and chunks that end alike. */
static bool together(const struct attention_args *args, struct place a, struct place b)
{
    const struct batch_row *x = &args->rows[a.row], *y = &args->rows[b.row];
    return a.kv_head == b.kv_head && x->sequence == y->sequence &&
           x->position / ATTENTION_CHUNK == y->position / ATTENTION_CHUNK;
}

/* The first tasks from `begin` on that make a group; returns how many. */
static size_t gather_group(const struct attention_args *args, int64_t begin, int64_t end,
                           struct head_group *h)
{
    const struct kv_cache *cache = &args->cache;
    const struct place first = place_of(args, begin);
    size_t dim = cache->head_dim, n = 0;
    *h = (struct head_group){.cache = cache, .stride = cache->n_kv_heads * dim};
    h->first = (size_t)args->rows[first.row].sequence * cache->n_ctx * h->stride + first.kv_head * dim;
    for (; n < ATTENTION_GROUP && begin + (int64_t)n < end; n++) {
        struct place place = place_of(args, begin + (int64_t)n);
        if (!together(args, first, place))
            break;
        size_t sees = (size_t)args->rows[place.row].position + 1;
        h->sees[n] = sees;
        h->n = n == 0 || sees < h->n ? sees : h->n;
        h->most_n = sees > h->most_n ? sees : h->most_n;
        h->q[n] = args->q + place.row * args->q_stride + place.head * args->q_head_stride;
        h->out[n] = args->out + (place.row * args->n_heads + place.head) * dim;
    }
    return n;
}

static void apply_gates(const struct attention_args *args, const struct head_group *h, size_t heads)
{
    for (size_t i = 0; args->gate != NULL && i < heads; i++)
        for (size_t d = 0; d < args->cache.head_dim; d += LANES) {
            const float *gate = args->gate + (h->q[i] - args->q) + d;
            __m256 out = _mm256_loadu_ps(h->out[i] + d);
            out = _mm256_mul_ps(out, v_sigmoid(_mm256_loadu_ps(gate)));
            _mm256_storeu_ps(h->out[i] + d, out);
        }
}

void attention_avx2(const struct attention_args *args, int64_t begin, int64_t end,
                    struct cpu_task *task)
{
    if (args->cache.head_dim % LANES != 0) {
        attention_scalar(args, begin, end, task);
        return;
    }
    while (begin < end) {
        struct head_group h;
        size_t heads = gather_group(args, begin, end, &h);
        size_t room = (h.most_n + LANES - 1) / LANES * LANES;
        for (size_t i = 0; i < heads; i++)
            h.scores[i] = task->scores + i * room;
        attend_group(&h, heads, args->scale);
        apply_gates(args, &h, heads);
        begin += (int64_t)heads;
    }
}
