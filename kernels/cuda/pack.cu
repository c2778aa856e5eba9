/* pack.cu - the packed form of weights (tile.cuh): its size, and making it. */
#include "kernels/cuda/pack.cuh"

#include "kernels/cuda/products.h"

struct packed_type {
    size_t tile_bytes;
    const void *kernel;
};

template <int TYPE>
static struct packed_type of_type()
{
    struct packed_type t = {(size_t)tile<TYPE>::BYTES, (const void *)pack_tiles<TYPE>};
    return t;
}

/* tile_bytes 0: not packed. */
static struct packed_type packed_type_of(uint32_t type)
{
    switch (type) {
    case MTP_TYPE_Q4_0: return of_type<MTP_TYPE_Q4_0>();
    case MTP_TYPE_Q4_1: return of_type<MTP_TYPE_Q4_1>();
    case MTP_TYPE_Q5_0: return of_type<MTP_TYPE_Q5_0>();
    case MTP_TYPE_Q5_1: return of_type<MTP_TYPE_Q5_1>();
    case MTP_TYPE_Q8_0: return of_type<MTP_TYPE_Q8_0>();
    case MTP_TYPE_IQ4_NL: return of_type<MTP_TYPE_IQ4_NL>();
    case MTP_TYPE_MXFP4: return of_type<MTP_TYPE_MXFP4>();
    case MTP_TYPE_Q2_K: return of_type<MTP_TYPE_Q2_K>();
    case MTP_TYPE_Q3_K: return of_type<MTP_TYPE_Q3_K>();
    case MTP_TYPE_Q4_K: return of_type<MTP_TYPE_Q4_K>();
    case MTP_TYPE_Q5_K: return of_type<MTP_TYPE_Q5_K>();
    case MTP_TYPE_Q6_K: return of_type<MTP_TYPE_Q6_K>();
    case MTP_TYPE_IQ4_XS: return of_type<MTP_TYPE_IQ4_XS>();
    case MTP_TYPE_IQ2_XXS: return of_type<MTP_TYPE_IQ2_XXS>();
    case MTP_TYPE_IQ2_XS: return of_type<MTP_TYPE_IQ2_XS>();
    case MTP_TYPE_IQ2_S: return of_type<MTP_TYPE_IQ2_S>();
    case MTP_TYPE_IQ3_XXS: return of_type<MTP_TYPE_IQ3_XXS>();
    case MTP_TYPE_IQ3_S: return of_type<MTP_TYPE_IQ3_S>();
    default: return packed_type();
    }
}

static uint64_t sixteens(uint32_t n_out)
{
    return ((uint64_t)n_out + TILE_ROWS - 1) / TILE_ROWS;
}

size_t cuda_pack_bytes(const struct weight *w)
{
    return w->n_experts * sixteens(w->n_out) * act_blocks(w->n_in) * packed_type_of(w->type).tile_bytes;
}

cudaError_t cuda_launch_pack(const struct weight *w, const void *file_rows, void *dst, uint64_t first_row,
                             uint64_t n_rows, cudaStream_t stream)
{
    struct packed_type type = packed_type_of(w->type);
    if (type.tile_bytes == 0 || first_row % w->n_out % TILE_ROWS != 0)
        return cudaErrorInvalidValue;
    if (n_rows == 0)
        return cudaSuccess;
    const uint64_t last_row = first_row + n_rows - 1;
    struct packing p = {};
    p.file_rows = (const uint8_t *)file_rows;
    p.dst = (uint8_t *)dst;
    p.row_bytes = w->row_bytes;
    p.first = first_row / w->n_out * sixteens(w->n_out) + first_row % w->n_out / TILE_ROWS;
    p.n = last_row / w->n_out * sixteens(w->n_out) + last_row % w->n_out / TILE_ROWS + 1 - p.first;
    p.n_out = w->n_out;
    p.n_subs = w->n_in / SUB_BLOCK;
    p.n_blocks = (uint32_t)act_blocks(w->n_in);
    void *arguments[] = {&p};
    uint64_t blocks = (p.n * p.n_blocks * LANES + 255) / 256;
    return cudaLaunchKernel(type.kernel, dim3((unsigned)blocks), dim3(256), arguments, 0, stream);
}
