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
    if constexpr (W == ROWS && may_keep<W>())
        if (p.stages != 0) {
            multiply_tiles<TYPE, W, tile_plan<TYPE, W, merged_blocks<W>(), true>>(p, place, shared);
            return;
        }
    multiply_tiles<TYPE, W, tile_plan<TYPE, W, merged_blocks<ROWS>()>>(p, place, shared);
}

/* Stages of a product whose activations are kept, and the shared memory that it then has; 0 where not. */
struct keeping {
    uint32_t stages;
    size_t bytes;
};
template <int TYPE, int W>
static struct keeping keeping_of_type(uint32_t n_in)
{
    using plan = tile_plan<TYPE, W, merged_blocks<W>(), true>;
    const int stages = may_keep<W>() ? plan::kept_stages(n_in) : 0;
    struct keeping k = {(uint32_t)stages, stages > 0 ? (size_t)plan::kept_bytes(n_in, stages) : 0};
    return k;
}
template <int W>
static struct keeping keeping_of(const struct product &p, uint32_t type)
{
    struct keeping none = {0, 0};
    if (p.start != NULL)
        return none;
    switch (type) {
    case MTP_TYPE_Q3_K: return keeping_of_type<MTP_TYPE_Q3_K, W>(p.n_in);
    case MTP_TYPE_Q4_K: return keeping_of_type<MTP_TYPE_Q4_K, W>(p.n_in);
    case MTP_TYPE_Q5_K: return keeping_of_type<MTP_TYPE_Q5_K, W>(p.n_in);
    case MTP_TYPE_Q6_K: return keeping_of_type<MTP_TYPE_Q6_K, W>(p.n_in);
    case MTP_TYPE_Q8_0: return keeping_of_type<MTP_TYPE_Q8_0, W>(p.n_in);
    default: return none;
    }
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
