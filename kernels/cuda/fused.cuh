/* fused.cuh - the kernels that run several operations as one (fused_args of kernels/ops.h). */
#ifndef MTP_KERNELS_CUDA_CHAIN_CUH
#define MTP_KERNELS_CUDA_CHAIN_CUH

#include "kernels/cuda/quantize.cuh"

/* Each gives cudaErrorNotSupported, and launches nothing, for operations that it is not made for. */

/* combine?, add?, norm of whole rows, quantize? */
cudaError_t cuda_launch_fused_rows(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                  cudaStream_t stream);
/* norm of heads, gate, quantize */
cudaError_t cuda_launch_fused_heads(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                   cudaStream_t stream);
/* gate, quantize, and the same beside them? */
cudaError_t cuda_launch_fused_gate(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                   cudaStream_t stream);
/* product, route */
cudaError_t cuda_launch_fused_router(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                     struct cuda_scratch scratch, cudaStream_t stream);
/* attention, quantize */
cudaError_t cuda_launch_fused_attention(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                        struct cuda_scratch scratch, cudaStream_t stream);

#endif
