/* launch.h - one launcher an operation of kernels/ops.h, for the CUDA backend.
 *
 * A launcher puts the operation's kernels on a stream and returns at once; all pointers of args but
 * args itself are the device's, so no launcher reads what they point to. n_rows is at least 1, except
 * that conv, conv_replay and route take 0. The kernels obey docs/arithmetic.md: they are compared with
 * kernels/cpu/scalar by memcmp (tests/gpu/test_cuda_ops.c).
 */
#ifndef MTP_KERNELS_CUDA_LAUNCH_H
#define MTP_KERNELS_CUDA_LAUNCH_H

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The operations that report values which are not finite. */
enum cuda_faulty { CUDA_QUANTIZE, CUDA_RMS_NORM, CUDA_KV_STORE, CUDA_DELTA_NET, CUDA_ROUTE, CUDA_ARGMAX };

/* The fault record is one number in the device's memory: the launch's serial number in its highest 24
 * bits, then backend->layer + 1 in 12, the operation in 4, the row in 24. The smallest number wins: the first
 * launch, and in it the lowest row. */
#define CUDA_NO_FAULT 0xffffffffffffffffull
#define CUDA_LAST_SERIAL 0xfffffeu
struct cuda_fault {
    unsigned long long *record;
    uint32_t serial; /* of this launch, 0..CUDA_LAST_SERIAL */
    uint32_t layer;  /* 0..4095 */
};

/* Room for what passes between the kernels of one operation. Launches share it in stream order. Blocks that
 * work together count themselves in `arrivals`: zeros, and zeros again after each launch. */
enum { CUDA_ARRIVALS = 4096 };
struct cuda_scratch {
    void *data;
    size_t bytes;
    uint32_t *arrivals; /* CUDA_ARRIVALS */
};

cudaError_t cuda_launch_embed(const struct embed_args *, cudaStream_t);
cudaError_t cuda_launch_quantize(const struct quantize_args *, struct cuda_fault, cudaStream_t);
cudaError_t cuda_launch_rms_norm(const struct rms_norm_args *, struct cuda_fault, cudaStream_t);
cudaError_t cuda_launch_add(const struct add_args *, cudaStream_t);
cudaError_t cuda_launch_rope(const struct rope_args *, cudaStream_t);
cudaError_t cuda_launch_kv_store(const struct kv_store_args *, struct cuda_fault, cudaStream_t);
/* Needs cuda_attention_scratch bytes at least; more lets it take more rows at a time. */
cudaError_t cuda_launch_attention(const struct attention_args *, struct cuda_scratch, cudaStream_t);
size_t cuda_attention_scratch(uint32_t n_ctx);
cudaError_t cuda_launch_conv(const struct conv_args *, cudaStream_t);
cudaError_t cuda_launch_conv_replay(const struct conv_replay_args *, cudaStream_t);
cudaError_t cuda_launch_delta_net(const struct delta_net_args *, struct cuda_fault, cudaStream_t);
cudaError_t cuda_launch_delta_net_replay(const struct delta_net_replay_args *, cudaStream_t);
cudaError_t cuda_launch_mul_silu(const struct mul_silu_args *, cudaStream_t);
cudaError_t cuda_launch_route(const struct route_args *, struct cuda_fault, cudaStream_t);
cudaError_t cuda_launch_moe_combine(const struct moe_combine_args *, cudaStream_t);
/* Needs CUDA_ARGMAX_SCRATCH bytes. */
enum { CUDA_ARGMAX_SCRATCH = 1 << 16 };
cudaError_t cuda_launch_argmax(const struct argmax_args *, struct cuda_fault, struct cuda_scratch,
                               cudaStream_t);
cudaError_t cuda_launch_digest(const struct digest_args *, cudaStream_t);
cudaError_t cuda_launch_gather(const struct gather_args *, cudaStream_t);
cudaError_t cuda_launch_chain_rows(const struct chain_rows_args *, cudaStream_t);
cudaError_t cuda_launch_accept(const struct accept_args *, cudaStream_t);

/* Several operations as one. cudaErrorNotSupported, and nothing is launched, where no kernel is made for
 * these: then they are to be run one by one. */
struct cuda_fused_faults {
    struct cuda_fault norm, quantize, route, beside; /* of ascending serial numbers; beside: quantize's */
};
cudaError_t cuda_launch_fused(const struct fused_args *, const struct cuda_fused_faults *,
                              struct cuda_scratch, cudaStream_t);
struct cuda_place_faults {
    struct cuda_fault k_norm, store, q_norm; /* likewise */
};
cudaError_t cuda_launch_place_heads(const struct place_heads_args *, const struct cuda_place_faults *,
                                    cudaStream_t);

#ifdef __cplusplus
}
#endif

#endif
