/* delta_net.cu - the gated delta rule, token by token (docs/arithmetic.md, "Gated DeltaNet").
 *
 * A block holds COLUMNS columns of one head's state in registers while it passes over the sequence's
 * rows. Four lanes share a column: lane part p has rows p, p + 4, p + 8, ... and with them the partials
 * p and p + 4 of sum8, so that a column's sum is one addition and two exchanges. Rows are taken a few
 * at a time, whose keys and queries the block's warps normalise side by side; these and the values wait in
 * shared memory, so that nothing is waited for between one row and the next.
 */
#include "kernels/cuda/common.cuh"

enum { THREADS = 128, PARTS = 4, COLUMNS = THREADS / PARTS, TOGETHER = 8, N_WARPS = THREADS / WARP };

struct delta_net_work {
    struct delta_net_args args;
    struct cuda_fault fault;
};

/* A key or query: the elements of a lane's part side by side, the parts in different banks. */
enum { PART_STRIDE = MAX_STATE_DIM / PARTS + 4, VECTOR = PARTS * PART_STRIDE };
enum { LANE_MOST = MAX_STATE_DIM / WARP }; /* elements a lane normalises */
static __device__ uint32_t place_of(uint32_t i)
{
    return i % PARTS * PART_STRIDE + i / PARTS;
}

/* Rows of the sequence, the next few. */
struct group {
    int32_t row[TOGETHER];
    float decay[TOGETHER], beta[TOGETHER], v[TOGETHER][COLUMNS];
    __align__(16) float k[TOGETHER][VECTOR]; /* normalised, as q */
    __align__(16) float q[TOGETHER][VECTOR];
};

/* One warp, which has read x: lane l its elements l, l + 32, ... False when the squares overflow, for
 * dividing by infinity would hide it. */
static __device__ bool normalise(const float x[LANE_MOST], uint32_t n, float scale, float *out)
{
    float low = 0.0f, high = 0.0f;
    const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
    for (uint32_t e = 0; e < LANE_MOST; e += 2) {
        if (lane + e * WARP < n)
            low = __fmaf_rn(x[e], x[e], low);
        if (lane + e * WARP + WARP < n)
            high = __fmaf_rn(x[e + 1], x[e + 1], high);
    }
    float norm = __fsqrt_rn(fold64_warp(low, high));
    float inverse = __fdiv_rn(1.0f, norm > 1e-6f ? norm : 1e-6f);
#pragma unroll
    for (uint32_t e = 0; e < LANE_MOST; e++)
        if (lane + e * WARP < n)
            out[place_of(lane + e * WARP)] = __fmul_rn(__fmul_rn(x[e], inverse), scale);
    return !f32_not_finite(norm);
}

/* Keys and queries of the group: each warp reads all of its own before it waits for the first. */
static __device__ void normalise_group(const struct delta_net_work *work, uint32_t head, uint32_t n,
                                       struct group *group)
{
    enum { A_WARP = 2 * TOGETHER / N_WARPS };
    const struct delta_net_args *args = &work->args;
    const uint32_t d = args->d, n_k = args->n_k_heads, warp = threadIdx.x / WARP;
    const uint32_t lane = threadIdx.x % WARP;
    float x[A_WARP][LANE_MOST];
#pragma unroll
    for (uint32_t a = 0; a < A_WARP; a++) {
        const uint32_t t = warp + a * N_WARPS;
        if (t >= 2 * n)
            break;
        const float *from = args->x + (size_t)group->row[t / 2] * (2 * n_k + args->n_v_heads) * d +
                            (size_t)(t % 2 * n_k + head % n_k) * d;
#pragma unroll
        for (uint32_t e = 0; e < LANE_MOST; e++)
            x[a][e] = lane + e * WARP < d ? from[lane + e * WARP] : 0.0f;
    }
#pragma unroll
    for (uint32_t a = 0; a < A_WARP; a++) {
        const uint32_t t = warp + a * N_WARPS;
        if (t >= 2 * n)
            break;
        bool finite = t % 2 == 0
            ? normalise(x[a], d, __fdiv_rn(1.0f, __fsqrt_rn((float)d)), group->q[t / 2])
            : normalise(x[a], d, 1.0f, group->k[t / 2]);
        if (!finite && lane == 0)
            report_fault(work->fault, CUDA_DELTA_NET, (size_t)group->row[t / 2]);
    }
}

/* What a row's decay and share are made of; a thread a row. */
struct rates {
    float alpha, beta, dt, a;
};
static __device__ struct rates rates_of(const struct delta_net_args *args, uint32_t head, int n,
                                        const struct group *group)
{
    struct rates r = {0.0f, 0.0f, 0.0f, 0.0f};
    if (threadIdx.x < (unsigned)n) {
        const size_t at = (size_t)group->row[threadIdx.x] * args->n_v_heads + head;
        r = {args->alpha[at], args->beta[at], args->dt[head], args->a[head]};
    }
    return r;
}

/* Value t of the block's columns of the group's n rows. */
static __device__ float value_of(const struct delta_net_args *args, uint32_t head, int n,
                                 const struct group *group, uint32_t t)
{
    const size_t d = args->d, n_k = args->n_k_heads, j = blockIdx.x * COLUMNS + t % COLUMNS;
    if (t >= (uint32_t)n * COLUMNS || j >= d)
        return 0.0f;
    return args->x[((size_t)group->row[t / COLUMNS] * (2 * n_k + args->n_v_heads) + 2 * n_k + head) * d + j];
}

/* Fills the group with n rows that its row[] names; all threads. What is read is asked for before anything is
 * waited for, as far as a thread has one of it. */
static __device__ void prepare(const struct delta_net_work *work, uint32_t head, int n,
                               struct group *group)
{
    const struct delta_net_args *args = &work->args;
    const struct rates rates = rates_of(args, head, n, group);
    const float first = value_of(args, head, n, group, threadIdx.x);
    normalise_group(work, head, (uint32_t)n, group);
    group->v[threadIdx.x / COLUMNS][threadIdx.x % COLUMNS] = first;
    for (uint32_t t = threadIdx.x + THREADS; t < (uint32_t)n * COLUMNS; t += THREADS)
        group->v[t / COLUMNS][t % COLUMNS] = value_of(args, head, n, group, t);
    if (threadIdx.x < (unsigned)n) {
        float soft = mtp_softplusf(__fadd_rn(rates.alpha, rates.dt));
        group->decay[threadIdx.x] = mtp_expf(__fmul_rn(rates.a, soft));
        group->beta[threadIdx.x] = mtp_sigmoidf(rates.beta);
    }
}

/* Notes keys and decays of the group in the journal; the first block of a head. */
static __device__ void note(const struct delta_net_args *args, uint32_t head, int n,
                            const struct group *group)
{
    const struct delta_net_journal *journal = &args->journal;
    for (int g = 0; g < n; g++) {
        size_t row = (size_t)group->row[g];
        if (head < args->n_k_heads) /* one of the heads that share the key */
            for (uint32_t i = threadIdx.x; i < args->d; i += THREADS)
                journal->k[(row * args->n_k_heads + head) * args->d + i] = group->k[g][place_of(i)];
        if (threadIdx.x == 0)
            journal->decay[row * args->n_v_heads + head] = group->decay[g];
    }
}

/* The next rows of the sequence from row `from` on; n gets their number, the result is where to go on. */
static __device__ int32_t next_rows(const struct delta_net_args *args, int32_t sequence,
                                    int32_t from, struct group *group, int *n)
{
    if (args->n_sequences == 1) { /* whose rows are all: there is nothing to read and wait for */
        const int32_t left = args->n_rows - from;
        *n = left < TOGETHER ? left : TOGETHER;
        if (threadIdx.x < (unsigned)*n)
            group->row[threadIdx.x] = from + (int32_t)threadIdx.x;
        return from + *n;
    }
    *n = 0;
    int32_t r = from;
    while (r < args->n_rows && *n < TOGETHER) {
        const int32_t mine = r + (int32_t)(threadIdx.x % WARP);
        uint32_t found =
            __ballot_sync(ALL_LANES, mine < args->n_rows && args->rows[mine].sequence == sequence);
        int32_t end = r + WARP;
        for (; found != 0 && *n < TOGETHER; found &= found - 1) {
            const int32_t row = r + __ffs((int)found) - 1;
            if (threadIdx.x == 0)
                group->row[*n] = row;
            end = ++*n < TOGETHER ? end : row + 1;
        }
        r = end;
    }
    return r;
}

/* Partials part and part + 4 of a column's sum8, folded by distance 4, 2, 1 over its four lanes. */
static __device__ float fold_sum8(const float partial[2])
{
    float sum = __fadd_rn(partial[0], partial[1]);
    sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 2));
    return __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 1));
}

template <int ELEMENTS>
static __device__ void load_part(const float *part, float out[ELEMENTS])
{
#pragma unroll
    for (int e = 0; e < ELEMENTS; e += 4) {
        const float4 four = *(const float4 *)(const void *)(part + e);
        out[e] = four.x, out[e + 1] = four.y, out[e + 2] = four.z, out[e + 3] = four.w;
    }
}

/* One row through a lane's ELEMENTS rows of column j. WHOLE: d is PARTS * ELEMENTS. */
template <int ELEMENTS, bool WHOLE>
static __device__ void step(const struct delta_net_args *args, uint32_t head, uint32_t j,
                            const struct group *group, int g, float s[ELEMENTS])
{
    const uint32_t d = args->d, part = threadIdx.x % PARTS;
    float k[ELEMENTS], q[ELEMENTS];
    load_part<ELEMENTS>(group->k[g] + part * PART_STRIDE, k);
    load_part<ELEMENTS>(group->q[g] + part * PART_STRIDE, q);
    float predicted[2] = {0.0f, 0.0f}, read[2] = {0.0f, 0.0f};
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++)
        if (WHOLE || part + PARTS * (uint32_t)e < d) {
            s[e] = __fmul_rn(s[e], group->decay[g]);
            predicted[e % 2] = __fmaf_rn(s[e], k[e], predicted[e % 2]);
        }
    const float v = group->v[g][threadIdx.x / PARTS];
    const float delta = __fmul_rn(__fsub_rn(v, fold_sum8(predicted)), group->beta[g]);
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++)
        if (WHOLE || part + PARTS * (uint32_t)e < d) {
            s[e] = __fmaf_rn(k[e], delta, s[e]);
            read[e % 2] = __fmaf_rn(s[e], q[e], read[e % 2]);
        }
    float out = fold_sum8(read);
    if (part != 0 || j >= d)
        return;
    const size_t at = ((size_t)group->row[g] * args->n_v_heads + head) * d + j;
    args->out[at] = out;
    if (args->journal.k != NULL)
        args->journal.delta[at] = delta;
}

template <int ELEMENTS, bool WHOLE>
static __device__ void load(const float *state, uint32_t d, uint32_t j, float s[ELEMENTS])
{
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
        uint32_t i = threadIdx.x % PARTS + PARTS * (uint32_t)e;
        s[e] = (WHOLE || i < d) && j < d ? state[(size_t)i * d + j] : 0.0f;
    }
}

template <int ELEMENTS, bool WHOLE>
static __device__ void save(float *state, uint32_t d, uint32_t j, const float s[ELEMENTS])
{
#pragma unroll
    for (int e = 0; e < ELEMENTS; e++) {
        uint32_t i = threadIdx.x % PARTS + PARTS * (uint32_t)e;
        if ((WHOLE || i < d) && j < d)
            state[(size_t)i * d + j] = s[e];
    }
}

template <int ELEMENTS, bool WHOLE>
static __global__ void __launch_bounds__(THREADS, 2) delta_net_kernel(struct delta_net_work work)
{
    let_next_begin();
    __shared__ struct group group;
    const struct delta_net_args *args = &work.args;
    uint32_t head = blockIdx.y, d = args->d, j = blockIdx.x * COLUMNS + threadIdx.x / PARTS;
    int32_t sequence = (int32_t)blockIdx.z;
    size_t at = ((size_t)sequence * args->n_v_heads + head) * d * d;
    const float *from = args->state_from != NULL ? args->state_from : args->state;
    for (uint32_t i = threadIdx.x; i < d; i += THREADS)
        bring_near(from + at + (size_t)i * d + blockIdx.x * COLUMNS);
    wait_for_earlier();
    float s[ELEMENTS];
    int n;
    int32_t next = next_rows(args, sequence, 0, &group, &n);
    if (n == 0)
        return; /* its state stays as it is */
    load<ELEMENTS, WHOLE>(from + at, d, j, s);
    while (n > 0) {
        __syncthreads();
        prepare(&work, head, n, &group);
        __syncthreads();
        if (blockIdx.x == 0 && args->journal.k != NULL)
            note(args, head, n, &group);
        for (int g = 0; g < n; g++)
            step<ELEMENTS, WHOLE>(args, head, j, &group, g, s);
        __syncthreads();
        next = next_rows(args, sequence, next, &group, &n);
    }
    save<ELEMENTS, WHOLE>(args->state + at, d, j, s);
}

cudaError_t cuda_launch_delta_net(const struct delta_net_args *args, struct cuda_fault fault,
                                  cudaStream_t stream)
{
    struct delta_net_work work = {*args, fault};
    dim3 grid(blocks_for(args->d, COLUMNS), args->n_v_heads, args->n_sequences);
    if (args->d == 128)
        return LAUNCH((delta_net_kernel<128 / PARTS, true>), grid, THREADS, stream, work);
    if (args->d <= 64)
        return LAUNCH((delta_net_kernel<64 / PARTS, false>), grid, THREADS, stream, work);
    return LAUNCH((delta_net_kernel<MAX_STATE_DIM / PARTS, false>), grid, THREADS, stream, work);
}
