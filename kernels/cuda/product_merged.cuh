/* product_merged.cuh - several products of one input in one launch: blocks of threads find theirs by their
 * number. For packed weights of the common types and float weights, up to W batch rows, and up to E that
 * share an expert. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_MERGED_CUH
#define MTP_KERNELS_CUDA_PRODUCT_MERGED_CUH

#include "kernels/cuda/product_float.cuh"
#include "kernels/cuda/product_tile.cuh"

enum { MERGED_MOST = 6 };

/* Product i has the blocks first[i] .. first[i + 1] - 1, the same number for each of its slots. */
struct merged {
    struct product products[MERGED_MOST];
    uint32_t types[MERGED_MOST], slots[MERGED_MOST], first[MERGED_MOST + 1];
};

/* Blocks of threads on a multiprocessor. */
template <int W>
HOST_DEVICE constexpr int merged_blocks()
{
    return W <= 2 ? 3 : 2;
}

template <int TYPE, int W, int E>
struct merged_plan {
    static constexpr int OF_ROWS = tile_plan<TYPE, W, merged_blocks<W>()>::BYTES;
    static constexpr int OF_EXPERTS = tile_plan<TYPE, E, merged_blocks<W>()>::BYTES;
    static constexpr int BYTES = OF_ROWS > OF_EXPERTS ? OF_ROWS : OF_EXPERTS;
};
HOST_DEVICE constexpr int larger(int a, int b)
{
    return a > b ? a : b;
}
template <int W, int E>
HOST_DEVICE constexpr int merged_bytes()
{
    return larger(larger(merged_plan<MTP_TYPE_Q3_K, W, E>::BYTES, merged_plan<MTP_TYPE_Q4_K, W, E>::BYTES),
                  larger(merged_plan<MTP_TYPE_Q5_K, W, E>::BYTES,
                         larger(merged_plan<MTP_TYPE_Q6_K, W, E>::BYTES,
                                merged_plan<MTP_TYPE_Q8_0, W, E>::BYTES)));
}

/* W: batch rows here, ROWS: of the kernel. */
template <int TYPE, int W, int ROWS>
DEVICE void multiply_merged(const struct product &p, const struct place &place, uint8_t *shared)
{
    multiply_tiles<TYPE, W, tile_plan<TYPE, W, merged_blocks<ROWS>()>>(p, place, shared);
}

template <int W, int ROWS>
DEVICE void multiply_type(uint32_t type, const struct product &p, const struct place &place, uint8_t *shared)
{
    auto *columns = columns_in<W>(shared);
    switch (type) {
    case MTP_TYPE_Q3_K: multiply_merged<MTP_TYPE_Q3_K, W, ROWS>(p, place, shared); break;
    case MTP_TYPE_Q4_K: multiply_merged<MTP_TYPE_Q4_K, W, ROWS>(p, place, shared); break;
    case MTP_TYPE_Q5_K: multiply_merged<MTP_TYPE_Q5_K, W, ROWS>(p, place, shared); break;
    case MTP_TYPE_Q6_K: multiply_merged<MTP_TYPE_Q6_K, W, ROWS>(p, place, shared); break;
    case MTP_TYPE_Q8_0: multiply_merged<MTP_TYPE_Q8_0, W, ROWS>(p, place, shared); break;
    case MTP_TYPE_F32: multiply_floats<MTP_TYPE_F32, W>(p, place, columns); break;
    case MTP_TYPE_F16: multiply_floats<MTP_TYPE_F16, W>(p, place, columns); break;
    default: multiply_floats<MTP_TYPE_BF16, W>(p, place, columns); break;
    }
}

template <int W, int E>
__global__ void __launch_bounds__(PRODUCT_THREADS, (merged_blocks<W>()))
    merged_product(__grid_constant__ const struct merged m)
{
    DYNAMIC_SHARED(shared);
    uint32_t i = 0;
    while (blockIdx.x >= m.first[i + 1])
        i++;
    const uint32_t block = blockIdx.x - m.first[i], slots = m.slots[i];
    const struct place place = {block % slots, block / slots, (m.first[i + 1] - m.first[i]) / slots};
    if (W == E || m.products[i].start == NULL)
        multiply_type<W, W>(m.types[i], m.products[i], place, shared);
    else
        multiply_type<E, W>(m.types[i], m.products[i], place, shared);
}

#endif
