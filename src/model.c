/* model.c - opening and closing a model. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

static enum mtp_status report(const struct mtp_model_options *options, uint64_t done,
                              struct mtp_error *error)
{
    if (options->progress == NULL || options->progress(options->user, "load", done, 3))
        return MTP_OK;
    return mtp_fail(error, MTP_ERR_INTERRUPTED, "interrupted while loading");
}

static enum mtp_status read_name(mtp_model *model, struct mtp_error *error)
{
    struct gguf_string name = {"", 0};
    bool found = false;
    enum mtp_status status =
        gguf_find_string(model->file, "general.name", &name, &found, error);
    if (status != MTP_OK)
        return status;
    model->name = calloc(1, name.length + 1);
    if (model->name == NULL)
        return mtp_fail_memory(error, "the model's name", name.length + 1);
    for (size_t i = 0; i < name.length; i++) {
        unsigned char c = (unsigned char)name.data[i];
        model->name[i] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    return MTP_OK;
}

static enum mtp_status open_parts(mtp_model *model, const char *path,
                                  const struct mtp_model_options *options, struct mtp_error *error)
{
    enum mtp_status status = gguf_open(&model->file, path, error);
    if (status == MTP_OK && options->mtp_path != NULL)
        status = gguf_open(&model->mtp_file, options->mtp_path, error);
    if (status == MTP_OK)
        status = hparams_read(&model->hparams, model->file, error);
    if (status == MTP_OK)
        status = report(options, 1, error);
    if (status == MTP_OK)
        status = tokenizer_open(&model->tokenizer, model->file, error);
    if (status == MTP_OK)
        status = report(options, 2, error);
    return status;
}

enum mtp_status mtp_model_open(mtp_model **out, const char *path,
                               const struct mtp_model_options *options, struct mtp_error *error)
{
    const struct mtp_model_options none = {0};
    options = options != NULL ? options : &none;
    *out = NULL;
    if (path == NULL || path[0] == '\0')
        return mtp_fail(error, MTP_ERR_USAGE, "the model's path is empty");
    mtp_model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return mtp_fail_memory(error, "a model", sizeof *model);
    pthread_mutex_init(&model->pack_lock, NULL);
    enum mtp_status status = open_parts(model, path, options, error);
    if (status == MTP_OK) {
        model->weights.layers = calloc(model->hparams.n_layers, sizeof *model->weights.layers);
        if (model->weights.layers == NULL)
            status = mtp_fail_memory(error, "the layers",
                                     model->hparams.n_layers * sizeof *model->weights.layers);
    }
    if (status == MTP_OK)
        status = model_bind(model, error);
    if (status == MTP_OK)
        status = read_name(model, error);
    if (status == MTP_OK)
        status = report(options, 3, error);
    if (status != MTP_OK) {
        mtp_model_close(model);
        return status;
    }
    *out = model;
    return MTP_OK;
}

void mtp_model_close(mtp_model *model)
{
    if (model == NULL)
        return;
    tokenizer_close(model->tokenizer);
    gguf_close(model->mtp_file);
    gguf_close(model->file);
    while (model->owned != NULL) {
        struct owned_vector *next = model->owned->next;
        free(model->owned);
        model->owned = next;
    }
    model_free_packed(model);
    model_free_images(model);
    pthread_mutex_destroy(&model->pack_lock);
    free(model->weights.layers);
    free(model->name);
    free(model);
}

uint64_t weight_bytes(const struct weight *weight)
{
    return (uint64_t)weight->n_experts * weight->n_out * weight->row_bytes;
}

static uint64_t mixer_bytes(const struct layer *layer)
{
    if (layer->recurrent) {
        const struct delta_net_weights *w = &layer->delta_net;
        return weight_bytes(&w->qkv) + weight_bytes(&w->gate) + weight_bytes(&w->alpha) +
               weight_bytes(&w->beta) + weight_bytes(&w->output);
    }
    const struct attention_weights *w = &layer->attention;
    return weight_bytes(&w->q) + weight_bytes(&w->k) + weight_bytes(&w->v) +
           weight_bytes(&w->output);
}

static uint64_t ffn_bytes(const struct hparams *h, const struct layer *layer)
{
    if (h->arch == ARCH_QWEN35)
        return weight_bytes(&layer->ffn.gate) + weight_bytes(&layer->ffn.up) +
               weight_bytes(&layer->ffn.down);
    const struct moe_weights *w = &layer->moe;
    uint64_t routed = weight_bytes(&w->gate) + weight_bytes(&w->up) + weight_bytes(&w->down);
    return routed / h->n_experts * h->n_experts_used + weight_bytes(&w->router) +
           weight_bytes(&w->shared_router) + weight_bytes(&w->shared_gate) +
           weight_bytes(&w->shared_up) + weight_bytes(&w->shared_down);
}

uint64_t model_bytes_per_token(const mtp_model *model)
{
    uint64_t bytes = model->weights.embedding.row_bytes + weight_bytes(&model->weights.head);
    for (uint32_t i = 0; i < model->hparams.n_layers; i++)
        bytes += mixer_bytes(&model->weights.layers[i]) +
                 ffn_bytes(&model->hparams, &model->weights.layers[i]);
    return bytes;
}

bool model_is_synthetic(const mtp_model *model)
{
    static const char key[] = "mtpsynth.version";
    return gguf_has(model->file, key) || (model->mtp_file != NULL && gguf_has(model->mtp_file, key));
}

void mtp_model_get_info(const mtp_model *model, struct mtp_model_info *info)
{
    const struct hparams *h = &model->hparams;
    *info = (struct mtp_model_info){
        .architecture = h->arch_name,
        .name = model->name,
        .n_ctx_train = h->n_ctx_train,
        .n_vocab = h->n_vocab,
        .n_layers = h->n_layers,
        .n_mtp_layers = model->weights.mtp.present ? 1 : 0,
        .weight_bytes = model->weight_bytes,
        .file_bytes = gguf_file_bytes(model->file) +
                      (model->mtp_file != NULL ? gguf_file_bytes(model->mtp_file) : 0),
        .bytes_per_token = model_bytes_per_token(model),
        .synthetic = model_is_synthetic(model),
    };
}
