/* fused.cu - which kernel runs several operations as one. */
#include "kernels/cuda/fused.cuh"

enum {
    ATTENTION = 1, COMBINE = 2, ADD = 4, NORM = 8, GATE = 16, QUANTIZE = 32, PRODUCT = 64, ROUTE = 128,
    BESIDE = 256
};

static int operations_of(const struct fused_args *args)
{
    return ATTENTION * (args->attention != NULL) + COMBINE * (args->combine != NULL) +
           ADD * (args->add != NULL) + NORM * (args->norm != NULL) + GATE * (args->gate != NULL) +
           QUANTIZE * (args->quantize != NULL) + PRODUCT * (args->product != NULL) +
           ROUTE * (args->route != NULL) + BESIDE * (args->beside != NULL);
}

cudaError_t cuda_launch_fused(const struct fused_args *args, const struct cuda_fused_faults *faults,
                              struct cuda_scratch scratch, cudaStream_t stream)
{
    const int operations = operations_of(args);
    switch (operations) {
    case GATE | QUANTIZE: return cuda_launch_fused_gate(args, faults, stream);
    case GATE | QUANTIZE | BESIDE:
        return operations_of(args->beside) == (GATE | QUANTIZE) ? cuda_launch_fused_gate(args, faults, stream)
                                                                : cudaErrorNotSupported;
    case NORM | GATE | QUANTIZE: return cuda_launch_fused_heads(args, faults, stream);
    case PRODUCT | ROUTE: return cuda_launch_fused_router(args, faults, scratch, stream);
    case ATTENTION | QUANTIZE: return cuda_launch_fused_attention(args, faults, scratch, stream);
    default: break;
    }
    if ((operations & ~(COMBINE | ADD | QUANTIZE)) == NORM)
        return cuda_launch_fused_rows(args, faults, stream);
    return cudaErrorNotSupported;
}
