/* fused_router.cu - the router of a few rows: its product, a warp an expert; then the last block to come to
 * its end chooses, a warp a row, and lists the pairs of each expert. Which block that is changes nothing. */
#include "kernels/cuda/fused.cuh"
#include "kernels/cuda/route.cuh"

enum {
    THREADS = 256, N_WARPS = THREADS / WARP,
    MOST_ROWS = N_WARPS, MOST_EXPERTS = 256, A_LANE = MOST_EXPERTS / WARP, MOST_USED = WARP,
    SHARED_BYTES = 46 * 1024, /* what a block has without being asked for, less its own */
    USUAL_WIDTH = 2048,       /* of rows: weights wait in registers */
};

struct fused_router {
    const float *w, *x; /* [n_experts][n_in], [n_rows][n_in] */
    float *logits;
    uint32_t n_in;
    struct route_args route;
    uint32_t *arrivals;
    struct cuda_fault fault;
};

/* Batch rows to shared memory, n elements in all. */
static __device__ void read_rows(const float *x, uint32_t n, float *shared)
{
#pragma unroll 4
    for (uint32_t i = 4 * threadIdx.x; i < n; i += 4 * THREADS)
        *(float4 *)(void *)(shared + i) = *(const float4 *)(const void *)(x + i);
}

/* Lane l has the partials 2 l and 2 l + 1 of sum64. */
static __device__ float fold_pairs(float2 sum)
{
    for (int distance = WARP / 2; distance >= 1; distance /= 2) {
        sum.x = __fadd_rn(sum.x, __shfl_xor_sync(ALL_LANES, sum.x, distance));
        sum.y = __fadd_rn(sum.y, __shfl_xor_sync(ALL_LANES, sum.y, distance));
    }
    return __fadd_rn(sum.x, sum.y);
}

static __device__ float2 pair_at(const float *x, uint32_t i)
{
    return *(const float2 *)(const void *)(x + i);
}

template <int ROWS>
static __device__ void add_pairs(float2 w, const float *x, uint32_t n_in, uint32_t at, float2 sum[ROWS])
{
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const float2 pair = pair_at(x + r * n_in, at);
        sum[r].x = __fmaf_rn(w.x, pair.x, sum[r].x);
        sum[r].y = __fmaf_rn(w.y, pair.y, sum[r].y);
    }
}

/* A warp's logits for n rows of x, which is in shared memory. w: the expert's weights, where rows are of
 * WIDTH; if not, they lie in row. What is behind the n rows is added up too, and not used. */
template <int ROWS, int WIDTH>
static __device__ void multiply(const struct fused_router *work, uint32_t expert, const float *row,
                                const float2 *w, const float *x, uint32_t first, uint32_t n)
{
    const uint32_t lane = threadIdx.x % WARP, n_in = WIDTH > 0 ? (uint32_t)WIDTH : work->n_in;
    float2 sum[ROWS] = {};
    if (WIDTH > 0) {
#pragma unroll
        for (int k = 0; k < WIDTH / 64; k++)
            add_pairs<ROWS>(w[k], x, n_in, 64 * (uint32_t)k + 2 * lane, sum);
    } else {
#pragma unroll 4
        for (uint32_t at = 2 * lane; at < n_in; at += 64)
            add_pairs<ROWS>(pair_at(row, at), x, n_in, at, sum);
    }
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        float logit = fold_pairs(sum[r]);
        if (r < n && lane == 0)
            work->logits[(size_t)(first + r) * work->route.n_experts + expert] = logit;
    }
}

/* p / total, rounded to nearest, for 0 <= p <= 1 <= total: with the rounded inverse a remainder, which fma
 * gives exactly, mends the last bit; twice, since the first may mend more. All lanes go one way but for tiny
 * p. */
static __device__ float share_of(float p, float total, float inverse)
{
    float share = __fmul_rn(p, inverse);
    share = __fmaf_rn(__fmaf_rn(-total, share, p), inverse, share);
    share = __fmaf_rn(__fmaf_rn(-total, share, p), inverse, share);
    return p > 0.0f && p < 0x1p-90f ? __fdiv_rn(p, total) : share;
}

/* A lane's logits become their probabilities: element lane + 32 j of n. */
static __device__ void softmax_lanes(float p[A_LANE], uint32_t n)
{
    const uint32_t lane = threadIdx.x % WARP;
    float most = __shfl_sync(ALL_LANES, p[0], 0), low = 0.0f, high = 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        most = lane + WARP * j < n && p[j] > most ? p[j] : most;
    for (int distance = WARP / 2; distance >= 1; distance /= 2) {
        float other = __shfl_xor_sync(ALL_LANES, most, distance);
        most = other > most ? other : most;
    }
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++) {
        const float e = mtp_expf(__fsub_rn(p[j], most));
        p[j] = lane + WARP * j < n ? e : 0.0f; /* adding it changes no bit */
        float *partial = j % 2 == 0 ? &low : &high;
        *partial = __fadd_rn(*partial, p[j]);
    }
    const float total = fold64_warp(low, high), inverse = __frcp_rn(total);
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        p[j] = share_of(p[j], total, inverse);
}

/* Takes the largest, the lowest of equals, for all lanes. Bits of floats that are not negative have the order
 * of the floats; keys are one more, 0 for what is taken or not there. */
static __device__ uint32_t take_largest(uint32_t keys[A_LANE], uint32_t *key)
{
    const uint32_t lane = threadIdx.x % WARP;
    uint32_t most = 0, best = MOST_EXPERTS - 1;
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        most = keys[j] > most ? keys[j] : most;
    most = __reduce_max_sync(ALL_LANES, most);
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++) {
        const uint32_t i = lane + WARP * (A_LANE - 1 - j);
        best = keys[A_LANE - 1 - j] == most ? i : best;
    }
    best = __reduce_min_sync(ALL_LANES, best);
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        keys[j] = lane + WARP * j == best ? 0 : keys[j];
    *key = most;
    return best;
}

/* Experts and weights of one row, by a warp; also to pairs. Other blocks have written the logits. */
static __device__ void choose(const struct fused_router *work, uint32_t row, int32_t *pairs)
{
    const struct route_args *args = &work->route;
    const uint32_t lane = threadIdx.x % WARP, n = args->n_experts;
    float p[A_LANE], total = 0.0f, mine = 0.0f;
    uint32_t keys[A_LANE], expert = 0;
    bool finite = true;
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        p[j] = lane + WARP * j < n ? __ldcg(work->logits + (size_t)row * n + lane + WARP * j) : 0.0f;
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        finite = finite && !f32_not_finite(p[j]);
    if (!finite)
        report_fault(work->fault, CUDA_ROUTE, row);
    softmax_lanes(p, n);
#pragma unroll
    for (uint32_t j = 0; j < A_LANE; j++)
        keys[j] = lane + WARP * j < n && p[j] >= 0.0f ? f32_bits(p[j]) + 1 : 0;
    for (uint32_t k = 0; k < args->n_used; k++) {
        uint32_t key, best = take_largest(keys, &key);
        float weight = f32_from_bits(key - 1);
        total = __fadd_rn(total, weight);
        expert = lane == k ? best : expert;
        mine = lane == k ? weight : mine;
    }
    total = total > 6.1e-5f ? total : 6.1e-5f;
    if (lane >= args->n_used)
        return;
    pairs[row * args->n_used + lane] = (int32_t)expert;
    args->experts[(size_t)row * args->n_used + lane] = (int32_t)expert;
    args->weights[(size_t)row * args->n_used + lane] = __fdiv_rn(mine, total);
}

/* ROWS at a time; WIDTH: of rows, or 0 for any. */
template <int ROWS, int WIDTH>
static __global__ void __launch_bounds__(THREADS)
fused_router_kernel(const __grid_constant__ struct fused_router work)
{
    extern __shared__ __align__(16) float x[];
    __shared__ int32_t pairs[MOST_ROWS * MOST_USED];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t n_in = WIDTH > 0 ? (uint32_t)WIDTH : work.n_in, n_rows = (uint32_t)work.route.n_rows;
    const uint32_t expert = blockIdx.x * N_WARPS + warp;
    const bool there = expert < work.route.n_experts;
    const float *row = work.w + (size_t)(there ? expert : 0) * n_in;
    float2 w[WIDTH > 0 ? WIDTH / 64 : 1];
    let_next_begin();
#pragma unroll
    for (int k = 0; k < WIDTH / 64; k++)
        w[k] = pair_at(row, 64 * (uint32_t)k + 2 * lane);
    wait_for_earlier();
    for (uint32_t first = 0; first < n_rows; first += ROWS) {
        const uint32_t left = n_rows - first, n = left < ROWS ? left : ROWS;
        __syncthreads();
        read_rows(work.x + (size_t)first * n_in, n * n_in, x);
        __syncthreads();
        if (there)
            multiply<ROWS, WIDTH>(&work, expert, row, w, x, first, n);
    }
    if (!last_to_arrive(work.arrivals, gridDim.x))
        return;
    if (warp < n_rows)
        choose(&work, warp, pairs);
    __syncthreads();
    list_pairs<THREADS>(&work.route, pairs);
}

template <int ROWS, int WIDTH>
static cudaError_t launch(const struct fused_router &work, cudaStream_t stream)
{
    const unsigned blocks = blocks_for(work.route.n_experts, N_WARPS);
    return launch_kernel(fused_router_kernel<ROWS, WIDTH>, dim3(blocks), THREADS,
                         ROWS * work.n_in * sizeof(float), stream, work);
}

/* As many rows at a time as there are, up to four, and have room. */
template <int WIDTH>
static cudaError_t launch_width(const struct fused_router &work, cudaStream_t stream)
{
    const size_t row_bytes = work.n_in * sizeof(float);
    const int32_t n = work.route.n_rows;
    if (n > 2 && 4 * row_bytes <= SHARED_BYTES)
        return launch<4, WIDTH>(work, stream);
    return n > 1 && 2 * row_bytes <= SHARED_BYTES ? launch<2, WIDTH>(work, stream)
                                                  : launch<1, WIDTH>(work, stream);
}

static bool fits(const struct matmul_args *product, const struct route_args *route)
{
    const struct weight *w = &product->w;
    if (w->type != MTP_TYPE_F32 || w->row_bytes != w->n_in * sizeof(float) || w->n_in % 64 != 0 ||
        w->row_bytes > SHARED_BYTES || (uintptr_t)w->data % 8 != 0 || (uintptr_t)product->x % 16 != 0)
        return false;
    if (product->y != route->logits || product->y_stride != route->n_experts ||
        w->n_out != route->n_experts || product->n_rows != route->n_rows)
        return false;
    return route->n_rows > 0 && route->n_rows <= MOST_ROWS && route->n_experts <= MOST_EXPERTS &&
           route->n_used <= MOST_USED;
}

cudaError_t cuda_launch_fused_router(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                     struct cuda_scratch scratch, cudaStream_t stream)
{
    const struct matmul_args *product = args->product;
    if (!fits(product, args->route))
        return cudaErrorNotSupported;
    const struct fused_router work = {(const float *)product->w.data, product->x, product->y,
                                      product->w.n_in, *args->route, scratch.arrivals, faults->route};
    return work.n_in == USUAL_WIDTH ? launch_width<USUAL_WIDTH>(work, stream)
                                    : launch_width<0>(work, stream);
}
