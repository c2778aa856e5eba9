/* route.cu - the MoE router: a warp a row for softmax and choice, then a block an expert lists the
 * expert's pairs in ascending order. */
#include "kernels/cuda/route.cuh"

enum { THREADS = 256, FEW_ROWS = THREADS / WARP };

struct route_work {
    struct route_args args;
    struct cuda_fault fault;
};

/* Largest of x; a NaN counts only in first place, as in the definition. */
static __device__ float largest(const float *x, uint32_t n)
{
    float most = x[0];
    for (uint32_t i = threadIdx.x % WARP; i < n; i += WARP)
        most = x[i] > most ? x[i] : most;
    for (int distance = WARP / 2; distance >= 1; distance /= 2) {
        float other = __shfl_xor_sync(ALL_LANES, most, distance);
        most = other > most ? other : most;
    }
    return most;
}

static __device__ void softmax(const float *x, uint32_t n, float *p)
{
    unsigned lane = threadIdx.x % WARP;
    float most = largest(x, n), low = 0.0f, high = 0.0f;
    for (uint32_t i = lane; i < n; i += 64) {
        p[i] = mtp_expf(__fsub_rn(x[i], most));
        low = __fadd_rn(low, p[i]);
        if (i + WARP < n) {
            p[i + WARP] = mtp_expf(__fsub_rn(x[i + WARP], most));
            high = __fadd_rn(high, p[i + WARP]);
        }
    }
    float total = fold64_warp(low, high);
    for (uint32_t i = lane; i < n; i += WARP)
        p[i] = __fdiv_rn(p[i], total);
}

/* Index of the largest of p, the lowest of equals, for all lanes. Those taken are negative. */
static __device__ uint32_t take_largest(const float *p, uint32_t n)
{
    unsigned lane = threadIdx.x % WARP;
    uint32_t best = lane < n ? lane : 0;
    float value = p[best];
#pragma unroll 8
    for (uint32_t i = lane; i < n; i += WARP)
        if (p[i] > value) {
            best = i;
            value = p[i];
        }
    /* Bits of floats that are not negative have the order of the floats. */
    uint32_t key = value >= 0.0f ? f32_bits(value) + 1 : 0;
    uint32_t most = __reduce_max_sync(ALL_LANES, key);
    return __reduce_min_sync(ALL_LANES, key == most ? best : n - 1);
}

/* Softmax and choice of one row, by a warp. */
static __device__ void choose(const struct route_work *work, size_t row, float *p)
{
    const struct route_args *args = &work->args;
    unsigned lane = threadIdx.x % WARP;
    const float *logits = args->logits + row * args->n_experts;
    int32_t *experts = args->experts + row * args->n_used;
    float *weights = args->weights + row * args->n_used;
    for (uint32_t e = lane; e < args->n_experts; e += WARP)
        if (f32_not_finite(logits[e]))
            report_fault(work->fault, CUDA_ROUTE, row);
    softmax(logits, args->n_experts, p);
    __syncwarp();
    float total = 0.0f;
    for (uint32_t k = 0; k < args->n_used; k++) {
        uint32_t best = take_largest(p, args->n_experts);
        float weight = p[best];
        __syncwarp();
        total = __fadd_rn(total, weight);
        if (lane == 0) {
            experts[k] = (int32_t)best;
            weights[k] = weight;
            p[best] = -1.0f;
        }
        __syncwarp();
    }
    total = total > 6.1e-5f ? total : 6.1e-5f;
    for (uint32_t k = lane; k < args->n_used; k += WARP)
        weights[k] = __fdiv_rn(weights[k], total);
}

static __global__ void choose_kernel(struct route_work work)
{
    __shared__ float p[MAX_EXPERTS];
    begin_kernel();
    choose(&work, blockIdx.x, p);
}

/* Sum over the block, and over the threads before this one, of a small count. */
struct place {
    unsigned before, all;
};
static __device__ struct place place_in_block(bool taken)
{
    __shared__ unsigned warps[THREADS / WARP];
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    unsigned votes = __ballot_sync(ALL_LANES, taken);
    if (lane == 0)
        warps[warp] = (unsigned)__popc(votes);
    __syncthreads();
    struct place place = {(unsigned)__popc(votes & ((1u << lane) - 1)), 0};
    for (unsigned w = 0; w < THREADS / WARP; w++) {
        place.before += w < warp ? warps[w] : 0;
        place.all += warps[w];
    }
    __syncthreads();
    return place;
}

static __global__ void list_kernel(struct route_args args)
{
    begin_kernel();
    int32_t expert = (int32_t)blockIdx.x, n_pairs = args.n_rows * (int32_t)args.n_used;
    unsigned start = 0;
    for (int32_t first = 0; first < n_pairs; first += THREADS) {
        int32_t pair = first + (int32_t)threadIdx.x;
        start += place_in_block(pair < n_pairs && args.experts[pair] < expert).all;
    }
    if (threadIdx.x == 0)
        args.start[expert] = (int32_t)start;
    if (threadIdx.x == 0 && expert == 0)
        args.start[args.n_experts] = n_pairs;
    for (int32_t first = 0; first < n_pairs; first += THREADS) {
        int32_t pair = first + (int32_t)threadIdx.x;
        bool mine = pair < n_pairs && args.experts[pair] == expert;
        struct place place = place_in_block(mine);
        if (mine)
            args.order[start + place.before] = pair;
        start += place.all;
    }
}

/* Both at once for a few rows, a warp each: the pairs are so few that each expert looks at all. */
static __global__ void __launch_bounds__(THREADS) few_rows_kernel(struct route_work work)
{
    __shared__ float p[FEW_ROWS][MAX_EXPERTS];
    begin_kernel();
    const struct route_args *args = &work.args;
    uint32_t n_pairs = (uint32_t)args->n_rows * args->n_used;
    if (threadIdx.x / WARP < (unsigned)args->n_rows)
        choose(&work, threadIdx.x / WARP, p[threadIdx.x / WARP]);
    __syncthreads();
    int32_t *pairs = (int32_t *)(void *)p;
    for (uint32_t pair = threadIdx.x; pair < n_pairs; pair += THREADS)
        pairs[pair] = args->experts[pair];
    __syncthreads();
    list_pairs<THREADS>(args, pairs);
}

cudaError_t cuda_launch_route(const struct route_args *args, struct cuda_fault fault,
                              cudaStream_t stream)
{
    struct route_work work = {*args, fault};
    cudaError_t status = cudaSuccess;
    if (args->n_rows > 0 && args->n_rows <= FEW_ROWS)
        return LAUNCH(few_rows_kernel, 1, THREADS, stream, work);
    if (args->n_rows > 0)
        status = LAUNCH(choose_kernel, (unsigned)args->n_rows, WARP, stream, work);
    if (status != cudaSuccess)
        return status;
    return LAUNCH(list_kernel, args->n_experts, THREADS, stream, *args);
}
