/* cuda_ops.h - the operations that tests/gpu/test_cuda_ops.c compares. */
#ifndef MTP_TESTS_GPU_CUDA_OPS_H
#define MTP_TESTS_GPU_CUDA_OPS_H

#include "tests/gpu/two_backends.h"

/* The sizes of a model that the operations meet. */
struct model_sizes {
    const char *name;
    bool large; /* too large for the definition in the time a test has */
    uint32_t n_embd, n_heads, n_kv_heads, head_dim, n_rot;
    uint32_t n_k_heads, n_v_heads, state_dim, n_taps, n_ff;
    uint32_t n_experts, n_used; /* 0 without experts */
    uint32_t n_vocabulary;
};

typedef void operation_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                             uint64_t seed);

/* cuda_row_ops.c: rows by themselves */
operation_cases embed_cases, quantize_cases, rms_norm_cases, add_cases, rope_cases, mul_silu_cases;
operation_cases route_cases, moe_combine_cases, argmax_cases, digest_cases, gather_cases;
/* cuda_state_ops.c: caches and state */
operation_cases kv_store_cases, attention_cases, conv_cases, delta_net_cases;
/* A cache full of numbers; of halves every finite one, subnormals among them. */
struct array cache_of(struct two_backends *t, size_t n, enum kv_type type);
/* Rows of every length up to 17 chunks, of real heads up to 65, and some of 20,000 positions; once. */
void attention_contexts(struct two_backends *t);
enum { LONG_CONTEXT = 20000 };

/* cuda_step_ops.c: between the passes of a step; the first two once */
void chain_rows_cases(struct two_backends *t);
void accept_cases(struct two_backends *t);
operation_cases replay_cases, rope_by_position_cases;
/* cuda_fused_ops.c: several operations as one */
operation_cases fused_cases, place_heads_cases;
void fused_widths(struct two_backends *t);
void router_sizes(struct two_backends *t);
void router_sizes(struct two_backends *t);
void fused_faults(struct two_backends *t);
void place_heads_faults(struct two_backends *t);

/* cuda_fault_cases.c: faults, errors, memory; once */
void fault_cases(struct two_backends *t);
void memory_cases(struct two_backends *t);
void error_cases(struct two_backends *t);

#endif
