/* product_float_rows.cu - products of many batch rows with F32 matrices: a warp has ROWS rows by OUTPUTS
 * outputs, lane l of it partials l and l + 32 of each sum64 (docs/arithmetic.md, "Order"). */
#include "kernels/cuda/product_launch.h"

enum { ROWS = 8, OUTPUTS = 4, A_BLOCK = OUTPUTS * PRODUCT_WARPS };

/* sum64 of the lanes' low + high for four outputs: lane l gets that of output l / 16 + 2 (l / 8 % 2). Two
 * change places at a time, so that a lane adds what the fold adds. */
DEVICE float fold_outputs(const float low[OUTPUTS], const float high[OUTPUTS])
{
    const bool upper = threadIdx.x % 32 >= 16, odd = (threadIdx.x & 8) != 0;
    float four[OUTPUTS], two[2];
#pragma unroll
    for (int i = 0; i < OUTPUTS; i++)
        four[i] = __fadd_rn(low[i], high[i]);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float keep = upper ? four[2 * i + 1] : four[2 * i];
        const float give = upper ? four[2 * i] : four[2 * i + 1];
        two[i] = __fadd_rn(keep, __shfl_xor_sync(~0u, give, 16));
    }
    const float keep = odd ? two[1] : two[0], give = odd ? two[0] : two[1];
    float sum = __fadd_rn(keep, __shfl_xor_sync(~0u, give, 8));
    for (int distance = 4; distance >= 1; distance /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, distance));
    return sum;
}

/* Block (x, y): ROWS rows from x on, A_BLOCK outputs from y on. What is not there repeats the last. */
static __global__ void __launch_bounds__(PRODUCT_THREADS) float_rows_product(const struct product p)
{
    const uint32_t lane = threadIdx.x % 32, first = blockIdx.y * A_BLOCK + threadIdx.x / 32 * OUTPUTS;
    const uint32_t row = blockIdx.x * ROWS, n_rows = (uint32_t)p.n;
    const float *w[OUTPUTS], *x[ROWS];
    float low[ROWS][OUTPUTS] = {}, high[ROWS][OUTPUTS] = {};
#pragma unroll
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        const uint32_t at = first + o < p.n_out ? first + o : p.n_out - 1;
        w[o] = (const float *)(const void *)(p.weights + at * p.row_bytes) + lane;
    }
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
        x[r] = p.x + (size_t)(row + r < n_rows ? row + r : n_rows - 1) * p.n_in + lane;
    let_next_begin();
    wait_for_earlier();
#pragma unroll 2
    for (uint32_t i = 0; i < p.n_in; i += 64) {
        float a[OUTPUTS], b[OUTPUTS];
#pragma unroll
        for (int o = 0; o < OUTPUTS; o++)
            a[o] = w[o][i], b[o] = w[o][i + 32];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float c = x[r][i], d = x[r][i + 32];
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++) {
                low[r][o] = __fmaf_rn(a[o], c, low[r][o]);
                high[r][o] = __fmaf_rn(b[o], d, high[r][o]);
            }
        }
    }
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const float sum = fold_outputs(low[r], high[r]);
        const uint32_t output = first + lane / 16 + 2 * (lane / 8 % 2);
        if (lane % 8 == 0 && row + r < n_rows && output < p.n_out)
            p.y[(row + r) * p.y_stride + output] = sum;
    }
}

bool cuda_product_is_float_rows(const struct launch *launch)
{
    enum { ROWS_FROM = 17 };
    const struct product *p = &launch->product;
    return launch->type == MTP_TYPE_F32 && p->start == NULL && p->n >= ROWS_FROM && p->n_in % 64 == 0 &&
           p->n_out >= A_BLOCK && p->n_out <= 65535 * A_BLOCK;
}

cudaError_t cuda_launch_product_float_rows(const struct launch *launch)
{
    const struct product *p = &launch->product;
    dim3 grid(((uint32_t)p->n + ROWS - 1) / ROWS, (p->n_out + A_BLOCK - 1) / A_BLOCK);
    float_rows_product<<<grid, PRODUCT_THREADS, 0, launch->stream>>>(*p);
    return cudaGetLastError();
}
