/* bench_shapes.c - see bench_shapes.h. */
#include "bench_shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* Sizes are those of the published files' hyper-parameters; equal shapes stand in one line. */
#define MATRIX(name, n_out, n_in, calls) {name, true, 0, n_out, n_in, 1, 1, false, calls}
#define EXPERTS(name, n_out, n_in, own, calls) {name, true, 0, n_out, n_in, 256, 8, own, calls}
#define ROUTER(name, n_out, n_in, calls) {name, false, MTP_TYPE_F32, n_out, n_in, 1, 1, false, calls}

static const struct bench_shape shapes_27b[] = {
    MATRIX("attn_q", 12288, 5120, 16),
    MATRIX("attn_k, attn_v", 1024, 5120, 32),
    MATRIX("attn_output, ssm_out", 5120, 6144, 64),
    MATRIX("attn_qkv", 10240, 5120, 48),
    MATRIX("attn_gate", 6144, 5120, 48),
    MATRIX("ssm_alpha, ssm_beta", 48, 5120, 96),
    MATRIX("ffn_gate, ffn_up", 17408, 5120, 128),
    MATRIX("ffn_down", 5120, 17408, 64),
    MATRIX("output", 248320, 5120, 1),
};

static const struct bench_shape shapes_35b_a3b[] = {
    MATRIX("attn_q, attn_qkv", 8192, 2048, 40),
    MATRIX("attn_k, attn_v", 512, 2048, 20),
    MATRIX("attn_output, ssm_out", 2048, 4096, 40),
    MATRIX("attn_gate", 4096, 2048, 30),
    MATRIX("ssm_alpha, ssm_beta", 32, 2048, 60),
    ROUTER("ffn_gate_inp", 256, 2048, 40),
    ROUTER("ffn_gate_inp_shexp", 1, 2048, 40),
    EXPERTS("ffn_gate_exps, ffn_up_exps", 512, 2048, false, 80),
    EXPERTS("ffn_down_exps", 2048, 512, true, 40),
    MATRIX("ffn_gate_shexp, ffn_up_shexp", 512, 2048, 80),
    MATRIX("ffn_down_shexp", 2048, 512, 40),
    MATRIX("output", 248320, 2048, 1),
};

static bool parse_sizes(struct bench_shapes *shapes, const char *text)
{
    while (shapes->n < MOST_SHAPES) {
        char *end;
        unsigned long n_out = strtoul(text, &end, 10);
        if (end == text || *end != 'x')
            return false;
        text = end + 1;
        unsigned long n_in = strtoul(text, &end, 10);
        if (end == text || n_out < 1 || n_in < 1 || n_out > 1 << 24 || n_in > 1 << 20)
            return false;
        struct bench_shape *shape = &shapes->list[shapes->n++];
        *shape = (struct bench_shape){.any_type = true, .n_out = (uint32_t)n_out,
                                      .n_in = (uint32_t)n_in, .n_experts = 1, .n_used = 1,
                                      .calls_per_token = 1};
        snprintf(shape->name, sizeof shape->name, "%lux%lu", n_out, n_in);
        if (*end == '\0')
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
    return false;
}

bool bench_shapes_named(struct bench_shapes *shapes, const char *name)
{
    shapes->n = 0;
    if (strcmp(name, "27B") == 0) {
        shapes->n = sizeof shapes_27b / sizeof *shapes_27b;
        memcpy(shapes->list, shapes_27b, sizeof shapes_27b);
        return true;
    }
    if (strcmp(name, "35B-A3B") == 0) {
        shapes->n = sizeof shapes_35b_a3b / sizeof *shapes_35b_a3b;
        memcpy(shapes->list, shapes_35b_a3b, sizeof shapes_35b_a3b);
        return true;
    }
    return parse_sizes(shapes, name);
}

/* ---- of a file ------------------------------------------------------------------------------ */

static bool equal(const struct bench_shape *a, const struct bench_shape *b)
{
    return strcmp(a->name, b->name) == 0 && a->type == b->type && a->n_out == b->n_out &&
           a->n_in == b->n_in && a->n_experts == b->n_experts;
}

/* Counts one more matrix of this name; types of a layer may differ from those of the next. */
static bool count_matrix(struct bench_shapes *shapes, const char *name, const struct weight *w,
                         uint32_t n_used, bool input_per_expert)
{
    struct bench_shape shape = {.type = w->type, .n_out = w->n_out, .n_in = w->n_in,
                                .n_experts = w->n_experts, .n_used = n_used,
                                .input_per_expert = input_per_expert, .calls_per_token = 1};
    snprintf(shape.name, sizeof shape.name, "%s", name);
    for (size_t i = 0; i < shapes->n; i++)
        if (equal(&shapes->list[i], &shape)) {
            shapes->list[i].calls_per_token++;
            return true;
        }
    if (shapes->n == MOST_SHAPES)
        return false;
    shapes->list[shapes->n++] = shape;
    return true;
}

static bool count_plain(struct bench_shapes *shapes, const char *name, const struct weight *w)
{
    return count_matrix(shapes, name, w, 1, false);
}

static bool count_mixer(struct bench_shapes *shapes, const struct layer *layer)
{
    if (layer->recurrent) {
        const struct delta_net_weights *w = &layer->delta_net;
        return count_plain(shapes, "attn_qkv", &w->qkv) &&
               count_plain(shapes, "attn_gate", &w->gate) &&
               count_plain(shapes, "ssm_alpha, ssm_beta", &w->alpha) &&
               count_plain(shapes, "ssm_alpha, ssm_beta", &w->beta) &&
               count_plain(shapes, "ssm_out", &w->output);
    }
    const struct attention_weights *w = &layer->attention;
    return count_plain(shapes, "attn_q", &w->q) && count_plain(shapes, "attn_k, attn_v", &w->k) &&
           count_plain(shapes, "attn_k, attn_v", &w->v) &&
           count_plain(shapes, "attn_output", &w->output);
}

static bool count_ffn(struct bench_shapes *shapes, const struct hparams *h, const struct layer *layer)
{
    if (h->arch != ARCH_QWEN35MOE)
        return count_plain(shapes, "ffn_gate, ffn_up", &layer->ffn.gate) &&
               count_plain(shapes, "ffn_gate, ffn_up", &layer->ffn.up) &&
               count_plain(shapes, "ffn_down", &layer->ffn.down);
    const struct moe_weights *w = &layer->moe;
    uint32_t used = h->n_experts_used;
    return count_plain(shapes, "ffn_gate_inp", &w->router) &&
           count_plain(shapes, "ffn_gate_inp_shexp", &w->shared_router) &&
           count_matrix(shapes, "ffn_gate_exps, ffn_up_exps", &w->gate, used, false) &&
           count_matrix(shapes, "ffn_gate_exps, ffn_up_exps", &w->up, used, false) &&
           count_matrix(shapes, "ffn_down_exps", &w->down, used, true) &&
           count_plain(shapes, "ffn_gate_shexp, ffn_up_shexp", &w->shared_gate) &&
           count_plain(shapes, "ffn_gate_shexp, ffn_up_shexp", &w->shared_up) &&
           count_plain(shapes, "ffn_down_shexp", &w->shared_down);
}

enum mtp_status bench_shapes_of_file(struct bench_shapes *shapes, struct bench_model *facts,
                                     const char *path, struct mtp_error *error)
{
    struct mtp_model *model;
    enum mtp_status status = mtp_model_open(&model, path, NULL, error);
    if (status != MTP_OK)
        return status;
    const struct hparams *h = &model->hparams;
    *facts = (struct bench_model){h->n_heads, h->n_kv_heads, model_bytes_per_token(model),
                                  model->weight_bytes};
    shapes->n = 0;
    bool room = true;
    for (uint32_t i = 0; room && i < h->n_layers; i++)
        room = count_mixer(shapes, &model->weights.layers[i]) &&
               count_ffn(shapes, h, &model->weights.layers[i]);
    room = room && count_plain(shapes, "output", &model->weights.head);
    if (!room)
        status = mtp_fail(error, MTP_ERR_UNSUPPORTED,
                          "%s: more than %d different matrices are not provided for", path,
                          MOST_SHAPES);
    mtp_model_close(model);
    return status;
}
