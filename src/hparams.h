/* hparams.h - hyper-parameters of a model, read from metadata and checked. */
#ifndef MTP_SRC_HPARAMS_H
#define MTP_SRC_HPARAMS_H

#include "error.h"
#include "gguf.h"

enum architecture { ARCH_QWEN35, ARCH_QWEN35MOE };

enum { MAX_LAYERS = 1024 };

struct hparams {
    enum architecture arch;
    const char *arch_name;      /* "qwen35"; metadata keys begin with it */
    uint32_t n_layers;          /* trunk blocks: block_count - nextn_predict_layers */
    uint32_t n_mtp_layers;      /* nextn_predict_layers: 0 or 1 */
    uint32_t n_ctx_train;
    uint32_t n_embd;
    uint32_t n_vocab;
    float rms_eps;

    uint32_t n_heads;           /* query heads of full-attention layers */
    uint32_t n_kv_heads;
    uint32_t head_dim;          /* key_length = value_length */
    uint32_t n_rot;             /* rotated dims of a head (rope.dimension_count), even */
    double rope_base;

    uint32_t n_ff;              /* dense models */
    uint32_t n_experts, n_experts_used, n_ff_expert, n_ff_shared; /* MoE models, else 0 */

    uint32_t conv_taps;         /* ssm.conv_kernel */
    uint32_t state_dim;         /* ssm.state_size: head size of keys and values of a DeltaNet head */
    uint32_t n_k_heads;         /* ssm.group_count */
    uint32_t n_v_heads;         /* ssm.time_step_rank */

    bool recurrent[MAX_LAYERS]; /* layer is a gated DeltaNet (else full attention) */
};

/* Channels of the convolution: q | k | v. */
static inline uint32_t hparams_conv_channels(const struct hparams *h)
{
    return (2 * h->n_k_heads + h->n_v_heads) * h->state_dim;
}

/* Reads and checks every key the architecture needs; one sentence naming file and key otherwise.
 * n_vocab comes from the embedding table and is filled by the caller. */
enum mtp_status hparams_read(struct hparams *out, const struct gguf *file, struct mtp_error *error);

#endif
