/* attention.c - softmax attention over the cache, in chunks: the definition (docs/arithmetic.md,
 * "Attention"). */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"
#include "kernels/reduce.h"

/* One head's view of a sequence in the cache. */
struct head_cache {
    const struct kv_cache *cache;
    size_t first;  /* element of position 0 */
    size_t stride; /* elements from one position to the next */
};

static float cached(const struct head_cache *h, const void *values, size_t position, size_t i)
{
    size_t at = h->first + position * h->stride + i;
    return h->cache->type == KV_F32 ? ((const float *)values)[at]
                                    : f16_to_f32(((const uint16_t *)values)[at]);
}

static float score(const struct head_cache *h, const float *q, size_t position, float scale)
{
    float partial[SUM64] = {0};
    for (size_t i = 0; i < h->cache->head_dim; i++)
        partial[i % SUM64] = fmaf(q[i], cached(h, h->cache->k, position, i), partial[i % SUM64]);
    return fold64(partial) * scale;
}

static float largest(const float *x, size_t n)
{
    float most = x[0];
    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* One chunk's values weighted by exp(score - its own maximum); returns the weights' sum. */
static float chunk_values(const struct head_cache *h, const float *scores, size_t first, size_t n,
                          float most, float *acc)
{
    float p[ATTENTION_CHUNK];
    for (size_t i = 0; i < n; i++)
        p[i] = mtp_expf(scores[first + i] - most);
    for (size_t d = 0; d < h->cache->head_dim; d++) {
        acc[d] = 0.0f;
        for (size_t i = 0; i < n; i++)
            acc[d] = fmaf(p[i], cached(h, h->cache->v, first + i, d), acc[d]);
    }
    return sum64(p, n);
}

static void attend(const struct head_cache *h, const float *q, size_t n, float scale,
                   float *scores, float *out)
{
    for (size_t p = 0; p < n; p++)
        scores[p] = score(h, q, p, scale);
    float most = largest(scores, n);
    float total = 0.0f;
    float acc[MAX_HEAD_DIM];
    for (size_t d = 0; d < h->cache->head_dim; d++)
        out[d] = 0.0f;
    for (size_t first = 0; first < n; first += ATTENTION_CHUNK) {
        size_t count = n - first < ATTENTION_CHUNK ? n - first : ATTENTION_CHUNK;
        float chunk_most = largest(scores + first, count);
        float sum = chunk_values(h, scores, first, count, chunk_most, acc);
        float weight = mtp_expf(chunk_most - most);
        total = fmaf(weight, sum, total);
        for (size_t d = 0; d < h->cache->head_dim; d++)
            out[d] = fmaf(weight, acc[d], out[d]);
    }
    for (size_t d = 0; d < h->cache->head_dim; d++)
        out[d] = out[d] / total;
}

void attention_scalar(const struct attention_args *args, int64_t begin, int64_t end,
                      struct cpu_task *task)
{
    const struct kv_cache *cache = &args->cache;
    size_t dim = cache->head_dim;
    for (int64_t t = begin; t < end; t++) {
        size_t sharing = args->n_heads / cache->n_kv_heads;
        size_t kv_head = (size_t)t / sharing / (size_t)args->n_rows;
        size_t row = (size_t)t / sharing % (size_t)args->n_rows;
        size_t head = kv_head * sharing + (size_t)t % sharing;
        size_t stride = cache->n_kv_heads * dim;
        size_t sequence = (size_t)args->rows[row].sequence;
        struct head_cache h = {cache, sequence * cache->n_ctx * stride + kv_head * dim, stride};
        size_t at = row * args->q_stride + head * args->q_head_stride;
        float *out = args->out + ((size_t)row * args->n_heads + head) * dim;
        attend(&h, args->q + at, (size_t)args->rows[row].position + 1, args->scale, task->scores,
               out);
        if (args->gate != NULL)
            for (size_t d = 0; d < dim; d++)
                out[d] = out[d] * mtp_sigmoidf(args->gate[at + d]);
    }
}
