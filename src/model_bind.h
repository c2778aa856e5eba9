/* model_bind.h - tensors of a file as weights of a model, checked on the way. */
#ifndef MTP_SRC_MODEL_BIND_H
#define MTP_SRC_MODEL_BIND_H

#include "model.h"

/* Where tensors are looked up: blk.<block>.<suffix> of file, or plain <suffix> when block < 0. */
struct binder {
    mtp_model *model;
    const struct gguf *file;
    int block;
    struct mtp_error *error;
};

struct matrix_shape {
    uint32_t n_in, n_out;
    uint32_t n_experts; /* 0 counts as 1 */
};

const struct gguf_tensor *bind_find(const struct binder *b, const char *suffix);
enum mtp_status bind_matrix(struct binder *b, const char *suffix, struct matrix_shape shape,
                            struct weight *out);
/* n matrices stored as one, rows of the first, then of the second...; per expert where there are
 * experts (fused attn_qkv, fused ffn_gate_up_exps). */
enum mtp_status bind_stacked(struct binder *b, const char *suffix, const struct matrix_shape *shapes,
                             struct weight *const *outs, size_t n);
/* n float32 values; F16 and BF16 are widened. */
enum mtp_status bind_vector(struct binder *b, const char *suffix, uint64_t n, const float **out);

#endif
