/* model.h - a model: hyper-parameters and weights bound by name, immutable after model_open. */
#ifndef MTP_SRC_MODEL_H
#define MTP_SRC_MODEL_H

#include <pthread.h>

#include "chat.h"
#include "device.h"
#include "hparams.h"
#include "kernels/ops.h"
#include "tokenizer.h"

/* Full attention with an output gate. q's rows are, per head, head_dim of query then head_dim of
 * gate. */
struct attention_weights {
    struct weight q, k, v, output;
    const float *q_norm, *k_norm;   /* [head_dim] */
};

/* Gated DeltaNet. */
struct delta_net_weights {
    struct weight qkv;              /* n_embd -> q | k | v channels */
    struct weight gate;             /* z: n_embd -> n_v_heads * state_dim */
    struct weight alpha, beta;      /* n_embd -> n_v_heads */
    struct weight output;           /* n_v_heads * state_dim -> n_embd */
    const float *conv;              /* [channels][conv_taps] */
    const float *a, *dt;            /* [n_v_heads]; a = -exp(A_log) */
    const float *norm;              /* [state_dim] */
};

struct dense_ffn_weights {
    struct weight gate, up, down;
};

struct moe_weights {
    struct weight router;           /* n_embd -> n_experts */
    struct weight gate, up, down;   /* routed experts */
    struct weight shared_router;    /* n_embd -> 1 */
    struct weight shared_gate, shared_up, shared_down;
};

struct layer {
    bool recurrent;
    const float *attn_norm, *ffn_norm; /* [n_embd]; ffn_norm is post_attention_norm in the file */
    union {
        struct attention_weights attention;
        struct delta_net_weights delta_net;
    };
    union {
        struct dense_ffn_weights ffn;
        struct moe_weights moe;
    };
};

/* The MTP block: one full-attention layer behind eh_proj([enorm(embedding); hnorm(hidden)]). */
struct mtp_block {
    bool present;
    struct layer layer;
    struct weight eh_proj;             /* 2 n_embd -> n_embd */
    const float *enorm, *hnorm;        /* [n_embd] */
    const float *head_norm;            /* shared_head_norm, else the trunk's output_norm */
    struct weight embedding, head;     /* own tables, else the trunk's */
};

/* What the passes read. The model's own point into the mapped file; those of an image (model_image.c)
 * into a device's memory. */
struct model_weights {
    struct weight embedding;           /* n_out = n_vocab, n_in = n_embd */
    struct weight head;                /* output.weight, or the embedding when tied */
    const float *output_norm;          /* [n_embd] */
    struct layer *layers;              /* [n_layers] */
    struct mtp_block mtp;
};

/* A vector converted to float32 because the file stores another type. */
struct owned_vector {
    struct owned_vector *next;
    float values[];
};

/* A matrix that backends may arrange anew. */
struct pack_slot {
    struct packed_weight packed; /* first: weights point here */
    struct weight weight;
    bool wanted;                 /* products read it; embedding tables are read a row at a time */
    struct pack_slot *next;
};

struct mtp_model {
    struct gguf *file;
    struct gguf *mtp_file;             /* companion, or NULL */
    struct tokenizer *tokenizer;
    struct hparams hparams;
    struct model_weights weights;
    bool tied_head;
    uint64_t weight_bytes;             /* bytes of tensors bound */
    char *name;                        /* general.name, printable */
    struct owned_vector *owned;
    struct pack_slot *slots;
    pthread_mutex_t pack_lock;         /* the first session to want packed weights makes them */
    bool packed; /* or tried without success */
    void *packed_memory;
    size_t packed_size;
    struct model_image *images;        /* under pack_lock */
};

/* Bytes of weights a decoded token reads: every bound matrix once, routed experts by use, one row of
 * the embedding. Without the MTP block. */
uint64_t model_bytes_per_token(const mtp_model *model);
/* Bytes of a matrix, all experts. */
uint64_t weight_bytes(const struct weight *weight);
/* Whether mtpsynth made the model or its companion. */
bool model_is_synthetic(const mtp_model *model);

/* Arranges the weights as the backend likes them, once a model; the file's pages behind them are given
 * back. Without the memory for it, products read the file's layout. (model_pack.c) */
void model_pack(mtp_model *model, struct backend *backend);
/* Whether so many bytes may be repacked: an eighth of what is available stays free. */
bool model_pack_fits(uint64_t bytes, uint64_t available);
/* Gives weight a place for a packed form; false when memory is short. */
bool model_add_slot(mtp_model *model, struct weight *weight);
/* Only rows are read of this one, no products. */
void model_drop_slot(mtp_model *model, struct weight *weight);
void model_free_packed(mtp_model *model);
/* The pages of the file behind a matrix are read no more: they come back if something does. */
void model_release_pages(const struct weight *weight);

/* The weights for backends of a source: the model's own where the host's memory is theirs, arranged as
 * they like; else an image in the device's memory, made once a model and source, which lives as long
 * as the model. */
enum mtp_status model_weights_for(mtp_model *model, const struct backend_source *source,
                                  struct backend *backend, const struct model_weights **out,
                                  struct mtp_error *error);
/* Bytes of the image that they would make, and of what is taken beside while it is made; 0 when it is
 * there. */
enum mtp_status model_image_bytes(const mtp_model *model, const struct backend_source *source,
                                  struct backend *backend, uint64_t *bytes, uint64_t *staging,
                                  struct mtp_error *error);
void model_free_images(mtp_model *model);

/* Binds trunk and MTP block tensors of model->file / model->mtp_file (model_bind.c). */
enum mtp_status model_bind(mtp_model *model, struct mtp_error *error);

#endif
