/* attention_parts.cuh - what the ways of attention share that cut it into chunks whose partials pass through
 * the scratch (attention.cu, attention_few.cu). */
#ifndef MTP_KERNELS_CUDA_ATTENTION_PARTS_CUH
#define MTP_KERNELS_CUDA_ATTENTION_PARTS_CUH

#include "kernels/cuda/quantize.cuh"

/* The partials of one chunk in the scratch: m, l, then acc. */
struct attention_work {
    struct attention_args args;
    float *partials;   /* [pair - first_pair][n_chunks][2 + head_dim] */
    size_t first_pair; /* row * n_heads + head */
    uint32_t n_chunks; /* of the context */
    uint32_t together; /* heads that a block of attention_few.cu takes, 0: not its way */
    uint32_t *arrivals; /* its counters */
    struct act_block *act; /* or NULL: heads are super-blocks, and out is quantised too */
    struct cuda_fault fault;
};

struct pair_view {
    size_t row, head, n; /* n positions */
    size_t at;           /* of q and gate */
    size_t first, stride; /* elements of the cache: of position 0, from one to the next */
};

/* What needs no memory. */
static __device__ inline struct pair_view place_of(const struct attention_work *work, size_t pair)
{
    const struct attention_args *args = &work->args;
    const struct kv_cache *cache = &args->cache;
    struct pair_view view;
    uint32_t row = (uint32_t)pair / args->n_heads, head = (uint32_t)pair % args->n_heads;
    view.row = row;
    view.head = head;
    view.n = 0;
    view.at = view.row * args->q_stride + view.head * args->q_head_stride;
    view.stride = (size_t)cache->n_kv_heads * cache->head_dim;
    view.first = (size_t)(head / (args->n_heads / cache->n_kv_heads)) * cache->head_dim;
    return view;
}

/* The rest. */
static __device__ inline void find_positions(const struct attention_work *work, struct pair_view *view)
{
    const struct batch_row *place = &work->args.rows[view->row];
    const int32_t position = place->position, sequence = place->sequence;
    view->n = (size_t)position + 1;
    view->first += (size_t)sequence * work->args.cache.n_ctx * view->stride;
}

static __device__ inline struct pair_view view_of(const struct attention_work *work, size_t pair)
{
    struct pair_view view = place_of(work, pair);
    find_positions(work, &view);
    return view;
}

static __device__ inline float *partial_of(const struct attention_work *work, size_t pair, size_t chunk)
{
    size_t place = (pair - work->first_pair) * work->n_chunks + chunk;
    return work->partials + place * (2 + work->args.cache.head_dim);
}

/* Weights exp(score - most) of a chunk's n scores, by a warp; most is the largest score. Lane l gets those of
 * the positions l and l + 32, zeros behind the n. */
static __device__ inline float2 weights_of_scores(const float *scores, unsigned n, float *most)
{
    unsigned lane = threadIdx.x % WARP, other = lane + WARP;
    float low = lane < n ? scores[lane] : scores[0];
    float high = other < n ? scores[other] : scores[0];
    float largest = high > low ? high : low;
    for (int distance = WARP / 2; distance >= 1; distance /= 2) {
        float theirs = __shfl_xor_sync(ALL_LANES, largest, distance);
        largest = theirs > largest ? theirs : largest;
    }
    low = lane < n ? mtp_expf(__fsub_rn(low, largest)) : 0.0f;
    high = other < n ? mtp_expf(__fsub_rn(high, largest)) : 0.0f;
    *most = largest;
    return make_float2(low, high);
}

/* The same, in place of the scores too. */
static __device__ inline float2 weigh_scores(float *scores, unsigned n, float *most)
{
    unsigned lane = threadIdx.x % WARP;
    float2 weights = weights_of_scores(scores, n, most);
    __syncwarp(); /* lanes behind the n read scores[0] */
    scores[lane] = weights.x;
    scores[lane + WARP] = weights.y;
    return weights;
}

#endif
