/* product_merged_launch.cuh - divides the blocks of threads among the products of one launch. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_MERGED_LAUNCH_CUH
#define MTP_KERNELS_CUDA_PRODUCT_MERGED_LAUNCH_CUH

#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/product_merged.cuh"

/* What a product has to be cut into: units of weight rows for each slot, and bytes of all. */
struct share {
    uint32_t slots, units;
    double bytes;
};

static struct share share_of(const struct launch *launch, int most, uint32_t stages, struct product *p)
{
    *p = launch->product;
    p->most = most;
    p->stages = stages;
    struct share share = {cuda_product_slots(p), (p->n_out + PRODUCT_WARPS - 1) / PRODUCT_WARPS, 0.0};
    if (launch->tiles)
        share.units = units_of(p->n_in, p->n_out);
    share.bytes = (double)p->row_bytes * p->n_out * share.slots;
    return share;
}

/* Units of the products that all rows share. */
static uint32_t units_of_all(const struct launch *launches, int n)
{
    uint32_t units = 0;
    for (int i = 0; i < n; i++)
        if (launches[i].tiles && launches[i].product.start == NULL)
            units += units_of(launches[i].product.n_in, launches[i].product.n_out);
    return units;
}

/* As many blocks as run at once, by bytes. */
template <int W, int E>
static cudaError_t launch_merged(const struct launch *launches, int n, cudaStream_t stream)
{
    struct kernel_launch kernel = {(const void *)merged_product<W, E>, merged_blocks<W>(),
                                   (size_t)merged_bytes<W, E>(), stream};
    const uint32_t resident = cuda_resident_blocks(merged_blocks<W>());
    if (resident == 0)
        return cudaGetLastError();
    struct merged m = {};
    struct share shares[MERGED_MOST];
    double bytes = 0.0;
    const bool keeps = units_of_all(launches, n) >= KEPT_UNITS * resident;
    for (int i = 0; i < n; i++) {
        struct keeping keeping = {0, 0};
        if (keeps)
            keeping = keeping_of<W>(launches[i].product, launches[i].type);
        if (!cuda_allows_shared(keeping.bytes))
            keeping.stages = 0;
        else if (keeping.bytes > kernel.shared_bytes)
            kernel.shared_bytes = keeping.bytes;
        const int most = launches[i].product.start != NULL ? E : W;
        shares[i] = share_of(&launches[i], most, keeping.stages, &m.products[i]);
        bytes += shares[i].bytes;
    }
    for (int i = 0; i < n; i++) {
        const struct share *s = &shares[i];
        const double blocks = resident * s->bytes / bytes / s->slots;
        uint32_t of_slot = blocks < 1.0 ? 1 : (uint32_t)(blocks + 0.5);
        of_slot = of_slot < s->units ? of_slot : s->units;
        m.types[i] = launches[i].type;
        m.slots[i] = s->slots;
        m.first[i + 1] = m.first[i] + s->slots * of_slot;
    }
    return cuda_launch_kernel(&kernel, dim3(m.first[n]), &m);
}

#endif
