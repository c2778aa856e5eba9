/* model_layers.c - which tensors make up the blocks of qwen35 and qwen35moe (docs/gguf.md). */
#include <string.h>

#include "model_bind.h"

/* Stops a list of bindings at the first failure. */
#define TRY(expression)                                                                            \
    do {                                                                                           \
        enum mtp_status try_status = (expression);                                                 \
        if (try_status != MTP_OK)                                                                  \
            return try_status;                                                                     \
    } while (0)

static enum mtp_status bind_attention(struct binder *b, struct attention_weights *w)
{
    const struct hparams *h = &b->model->hparams;
    struct matrix_shape q = {h->n_embd, 2 * h->n_heads * h->head_dim, 1};
    struct matrix_shape kv = {h->n_embd, h->n_kv_heads * h->head_dim, 1};
    if (bind_find(b, "attn_qkv.weight") != NULL) {
        const struct matrix_shape shapes[] = {q, kv, kv};
        struct weight *const outs[] = {&w->q, &w->k, &w->v};
        TRY(bind_stacked(b, "attn_qkv.weight", shapes, outs, 3));
    } else {
        TRY(bind_matrix(b, "attn_q.weight", q, &w->q));
        TRY(bind_matrix(b, "attn_k.weight", kv, &w->k));
        TRY(bind_matrix(b, "attn_v.weight", kv, &w->v));
    }
    struct matrix_shape output = {h->n_heads * h->head_dim, h->n_embd, 1};
    TRY(bind_matrix(b, "attn_output.weight", output, &w->output));
    TRY(bind_vector(b, "attn_q_norm.weight", h->head_dim, &w->q_norm));
    return bind_vector(b, "attn_k_norm.weight", h->head_dim, &w->k_norm);
}

static enum mtp_status bind_delta_net(struct binder *b, struct delta_net_weights *w)
{
    const struct hparams *h = &b->model->hparams;
    uint32_t channels = hparams_conv_channels(h), inner = h->n_v_heads * h->state_dim;
    struct matrix_shape heads = {h->n_embd, h->n_v_heads, 1};
    TRY(bind_matrix(b, "attn_qkv.weight", (struct matrix_shape){h->n_embd, channels, 1}, &w->qkv));
    TRY(bind_matrix(b, "attn_gate.weight", (struct matrix_shape){h->n_embd, inner, 1}, &w->gate));
    TRY(bind_matrix(b, "ssm_alpha.weight", heads, &w->alpha));
    TRY(bind_matrix(b, "ssm_beta.weight", heads, &w->beta));
    TRY(bind_matrix(b, "ssm_out.weight", (struct matrix_shape){inner, h->n_embd, 1}, &w->output));
    TRY(bind_vector(b, "ssm_conv1d.weight", (uint64_t)channels * h->conv_taps, &w->conv));
    TRY(bind_vector(b, "ssm_a", h->n_v_heads, &w->a));
    TRY(bind_vector(b, "ssm_dt.bias", h->n_v_heads, &w->dt));
    return bind_vector(b, "ssm_norm.weight", h->state_dim, &w->norm);
}

static enum mtp_status bind_dense(struct binder *b, struct dense_ffn_weights *w)
{
    const struct hparams *h = &b->model->hparams;
    struct matrix_shape up = {h->n_embd, h->n_ff, 1};
    TRY(bind_matrix(b, "ffn_gate.weight", up, &w->gate));
    TRY(bind_matrix(b, "ffn_up.weight", up, &w->up));
    return bind_matrix(b, "ffn_down.weight", (struct matrix_shape){h->n_ff, h->n_embd, 1}, &w->down);
}

static enum mtp_status bind_experts(struct binder *b, struct moe_weights *w)
{
    const struct hparams *h = &b->model->hparams;
    struct matrix_shape up = {h->n_embd, h->n_ff_expert, h->n_experts};
    if (bind_find(b, "ffn_gate_up_exps.weight") != NULL) {
        const struct matrix_shape shapes[] = {up, up};
        struct weight *const outs[] = {&w->gate, &w->up};
        TRY(bind_stacked(b, "ffn_gate_up_exps.weight", shapes, outs, 2));
    } else {
        TRY(bind_matrix(b, "ffn_gate_exps.weight", up, &w->gate));
        TRY(bind_matrix(b, "ffn_up_exps.weight", up, &w->up));
    }
    struct matrix_shape down = {h->n_ff_expert, h->n_embd, h->n_experts};
    return bind_matrix(b, "ffn_down_exps.weight", down, &w->down);
}

static enum mtp_status bind_moe(struct binder *b, struct moe_weights *w)
{
    const struct hparams *h = &b->model->hparams;
    struct matrix_shape up = {h->n_embd, h->n_ff_shared, 1};
    struct matrix_shape down = {h->n_ff_shared, h->n_embd, 1};
    struct matrix_shape router = {h->n_embd, h->n_experts, 1}, one = {h->n_embd, 1, 1};
    TRY(bind_matrix(b, "ffn_gate_inp.weight", router, &w->router));
    TRY(bind_experts(b, w));
    TRY(bind_matrix(b, "ffn_gate_inp_shexp.weight", one, &w->shared_router));
    TRY(bind_matrix(b, "ffn_gate_shexp.weight", up, &w->shared_gate));
    TRY(bind_matrix(b, "ffn_up_shexp.weight", up, &w->shared_up));
    return bind_matrix(b, "ffn_down_shexp.weight", down, &w->shared_down);
}

static enum mtp_status bind_layer(struct binder *b, bool recurrent, struct layer *layer)
{
    const struct hparams *h = &b->model->hparams;
    layer->recurrent = recurrent;
    TRY(bind_vector(b, "attn_norm.weight", h->n_embd, &layer->attn_norm));
    TRY(bind_vector(b, "post_attention_norm.weight", h->n_embd, &layer->ffn_norm));
    if (recurrent)
        TRY(bind_delta_net(b, &layer->delta_net));
    else
        TRY(bind_attention(b, &layer->attention));
    return h->arch == ARCH_QWEN35MOE ? bind_moe(b, &layer->moe) : bind_dense(b, &layer->ffn);
}

/* A table of the vocabulary: the block's own when the file has one, else the trunk's. */
static enum mtp_status bind_own_table(struct binder *b, const char *suffix,
                                      const struct weight *shared, struct weight *out)
{
    *out = *shared;
    if (bind_find(b, suffix) == NULL)
        return MTP_OK;
    struct matrix_shape shape = {b->model->hparams.n_embd, b->model->hparams.n_vocab, 1};
    return bind_matrix(b, suffix, shape, out);
}

static enum mtp_status bind_mtp(struct binder *b, struct mtp_block *mtp)
{
    const mtp_model *model = b->model;
    uint32_t n = model->hparams.n_embd;
    TRY(bind_layer(b, false, &mtp->layer));
    TRY(bind_matrix(b, "nextn.eh_proj.weight", (struct matrix_shape){2 * n, n, 1}, &mtp->eh_proj));
    TRY(bind_vector(b, "nextn.enorm.weight", n, &mtp->enorm));
    TRY(bind_vector(b, "nextn.hnorm.weight", n, &mtp->hnorm));
    mtp->head_norm = model->weights.output_norm;
    if (bind_find(b, "nextn.shared_head_norm.weight") != NULL)
        TRY(bind_vector(b, "nextn.shared_head_norm.weight", n, &mtp->head_norm));
    TRY(bind_own_table(b, "nextn.embed_tokens.weight", &model->weights.embedding, &mtp->embedding));
    if (mtp->embedding.packed != NULL)
        model_drop_slot(b->model, &mtp->embedding);
    TRY(bind_own_table(b, "nextn.shared_head_head.weight", &model->weights.head, &mtp->head));
    mtp->present = true;
    return MTP_OK;
}

static enum mtp_status bind_tables(struct binder *b)
{
    mtp_model *model = b->model;
    struct hparams *h = &model->hparams;
    const struct gguf_tensor *embedding = bind_find(b, "token_embd.weight");
    h->n_vocab = tokenizer_n_vocab(model->tokenizer);
    struct matrix_shape table = {h->n_embd, h->n_vocab, 1};
    if (embedding != NULL && embedding->ne[1] != h->n_vocab)
        return mtp_fail(b->error, MTP_ERR_FORMAT,
                        "%s: token_embd.weight has %llu rows but the tokenizer has %u tokens",
                        gguf_path(b->file), (unsigned long long)embedding->ne[1], h->n_vocab);
    TRY(bind_matrix(b, "token_embd.weight", table, &model->weights.embedding));
    model->weights.head = model->weights.embedding;
    model->tied_head = bind_find(b, "output.weight") == NULL;
    if (model->tied_head)
        model->weights.embedding.packed = NULL; /* its rows are read as the file has them */
    else
        model_drop_slot(model, &model->weights.embedding);
    if (!model->tied_head)
        TRY(bind_matrix(b, "output.weight", table, &model->weights.head));
    return bind_vector(b, "output_norm.weight", h->n_embd, &model->weights.output_norm);
}

/* The companion must describe the same trunk. */
static enum mtp_status bind_companion(struct binder *b)
{
    mtp_model *model = b->model;
    struct hparams other;
    TRY(hparams_read(&other, model->mtp_file, b->error));
    const struct hparams *h = &model->hparams;
    if (other.arch != h->arch || other.n_embd != h->n_embd || other.n_layers != h->n_layers ||
        other.n_heads != h->n_heads || other.head_dim != h->head_dim)
        return mtp_fail(b->error, MTP_ERR_FORMAT,
                        "%s: this MTP block belongs to another model than %s",
                        gguf_path(model->mtp_file), gguf_path(model->file));
    if (other.n_mtp_layers == 0)
        return mtp_fail(b->error, MTP_ERR_FORMAT, "%s: this file has no MTP block",
                        gguf_path(model->mtp_file));
    b->file = model->mtp_file;
    b->block = (int)h->n_layers;
    return bind_mtp(b, &model->weights.mtp);
}

static enum mtp_status bind_trunk(struct binder *b)
{
    mtp_model *model = b->model;
    const struct hparams *h = &model->hparams;
    b->block = 0;
    if (h->n_mtp_layers > 0 && bind_find(b, "attn_norm.weight") == NULL)
        return mtp_fail(b->error, MTP_ERR_FORMAT,
                        "%s: this file holds only an MTP block; give the model itself with -m and "
                        "this file with --mtp-model",
                        gguf_path(b->file));
    for (uint32_t i = 0; i < h->n_layers; i++) {
        b->block = (int)i;
        TRY(bind_layer(b, h->recurrent[i], &model->weights.layers[i]));
    }
    return MTP_OK;
}

enum mtp_status model_bind(mtp_model *model, struct mtp_error *error)
{
    struct binder b = {model, model->file, -1, error};
    TRY(bind_tables(&b));
    TRY(bind_trunk(&b));
    if (model->mtp_file != NULL)
        return bind_companion(&b);
    b.block = (int)model->hparams.n_layers;
    if (model->hparams.n_mtp_layers > 0 && bind_find(&b, "nextn.eh_proj.weight") != NULL)
        TRY(bind_mtp(&b, &model->weights.mtp));
    return MTP_OK;
}
