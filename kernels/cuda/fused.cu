/* fused.cu - which kernel runs several operations as one. */
#include "kernels/cuda/fused.cuh"

cudaError_t cuda_launch_fused(const struct fused_args *args, const struct cuda_fused_faults *faults,
                              struct cuda_scratch scratch, cudaStream_t stream)
{
    bool sums = args->combine != NULL || args->add != NULL;
    bool gated = args->gate != NULL && args->quantize != NULL && !sums && args->attention == NULL;
    if (gated && args->norm != NULL)
        return cuda_launch_fused_heads(args, faults, stream);
    if (gated)
        return cuda_launch_fused_gate(args, faults, stream);
    if (args->norm != NULL && args->gate == NULL && args->attention == NULL)
        return cuda_launch_fused_rows(args, faults, stream);
    bool alone = args->norm == NULL && args->gate == NULL && !sums;
    if (args->attention != NULL && args->quantize != NULL && alone)
        return cuda_launch_fused_attention(args, faults, scratch, stream);
    return cudaErrorNotSupported;
}
