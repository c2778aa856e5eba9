/* fused.cu - which kernel runs several operations as one. */
#include "kernels/cuda/fused.cuh"

static bool is_gate_alone(const struct fused_args *args)
{
    return args->gate != NULL && args->quantize != NULL && args->attention == NULL && args->combine == NULL &&
           args->add == NULL && args->norm == NULL && args->product == NULL && args->route == NULL;
}

static bool is_router_alone(const struct fused_args *args)
{
    return args->product != NULL && args->route != NULL && args->attention == NULL && args->combine == NULL &&
           args->add == NULL && args->norm == NULL && args->gate == NULL && args->quantize == NULL;
}

cudaError_t cuda_launch_fused(const struct fused_args *args, const struct cuda_fused_faults *faults,
                              struct cuda_scratch scratch, cudaStream_t stream)
{
    const struct fused_args *beside = args->beside;
    bool sums = args->combine != NULL || args->add != NULL;
    if (is_gate_alone(args) && (beside == NULL || (is_gate_alone(beside) && beside->beside == NULL)))
        return cuda_launch_fused_gate(args, faults, stream);
    if (beside != NULL)
        return cudaErrorNotSupported;
    if (is_router_alone(args))
        return cuda_launch_fused_router(args, faults, scratch, stream);
    if (args->product != NULL || args->route != NULL)
        return cudaErrorNotSupported;
    bool gated = args->gate != NULL && args->quantize != NULL;
    if (gated && args->norm != NULL && !sums && args->attention == NULL)
        return cuda_launch_fused_heads(args, faults, stream);
    if (args->norm != NULL && args->gate == NULL && args->attention == NULL)
        return cuda_launch_fused_rows(args, faults, stream);
    bool alone = args->norm == NULL && args->gate == NULL && !sums;
    if (args->attention != NULL && args->quantize != NULL && alone)
        return cuda_launch_fused_attention(args, faults, scratch, stream);
    return cudaErrorNotSupported;
}
