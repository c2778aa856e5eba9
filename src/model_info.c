/* model_info.c - what `mtpgen --info` prints. */
#include <inttypes.h>

#include "device.h"
#include "memory_available.h"
#include "session.h"

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static void print_shape(const struct hparams *h, FILE *out)
{
    fprintf(out, "  context           %" PRIu32 " tokens\n", h->n_ctx_train);
    fprintf(out, "  vocabulary        %" PRIu32 "\n", h->n_vocab);
    fprintf(out, "  embedding         %" PRIu32 "\n", h->n_embd);
    uint32_t recurrent = 0;
    for (uint32_t i = 0; i < h->n_layers; i++)
        recurrent += h->recurrent[i];
    fprintf(out, "  layers            %" PRIu32 " (%" PRIu32 " gated DeltaNet, %" PRIu32
            " full attention)\n", h->n_layers, recurrent, h->n_layers - recurrent);
    fprintf(out, "  attention         %" PRIu32 " heads, %" PRIu32 " KV heads of %" PRIu32
            ", rotary %" PRIu32 " dims, base %g\n", h->n_heads, h->n_kv_heads, h->head_dim,
            h->n_rot, h->rope_base);
    fprintf(out, "  DeltaNet          %" PRIu32 " key heads, %" PRIu32 " value heads of %" PRIu32
            ", convolution %" PRIu32 "\n", h->n_k_heads, h->n_v_heads, h->state_dim, h->conv_taps);
    if (h->arch == ARCH_QWEN35MOE)
        fprintf(out, "  experts           %" PRIu32 ", %" PRIu32 " used, width %" PRIu32
                ", shared %" PRIu32 "\n", h->n_experts, h->n_experts_used, h->n_ff_expert,
                h->n_ff_shared);
    else
        fprintf(out, "  feed-forward      %" PRIu32 "\n", h->n_ff);
}

static const char *mtp_text(const mtp_model *model)
{
    if (!model->weights.mtp.present)
        return model->hparams.n_mtp_layers > 0
                   ? "announced, but blk.N.nextn.eh_proj.weight is missing (see --mtp-model)"
                   : "none";
    return model->mtp_file != NULL ? "1 block, from the companion file" : "1 block";
}

static void print_tensors(const struct gguf *file, FILE *out)
{
    uint64_t counts[MTP_TYPE_LIMIT] = {0}, bytes[MTP_TYPE_LIMIT] = {0};
    for (uint64_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        counts[t->type]++;
        bytes[t->type] += t->n_bytes;
    }
    fprintf(out, "tensors of %s\n", gguf_path(file));
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
        if (counts[type] > 0)
            fprintf(out, "  %-8s %5" PRIu64 " tensors %12" PRIu64 " bytes %9.1f MiB\n",
                    type_info(type)->name, counts[type], bytes[type], mib(bytes[type]));
}

static void print_part(FILE *out, const char *name, uint64_t bytes, const char *more)
{
    fprintf(out, "  %-17s %9.1f MiB%s\n", name, mib(bytes), more);
}

static void print_heading(FILE *out, const struct mtp_session_options *options, const char *where)
{
    fprintf(out, "memory%s for %" PRIu32 " positions, batches of %" PRIu32 ", KV %s\n", where, options->n_ctx,
            options->n_batch, options->kv_type == MTP_KV_F32 ? "f32" : "f16");
}

static void print_plan(const mtp_model *model, const struct mtp_session_options *options, FILE *out)
{
    struct memory_plan plan;
    char text[64];
    session_plan(model, options, 1, &plan);
    print_heading(out, options, "");
    print_part(out, "weights", plan.weights, " (mapped, or repacked in place of the mapping)");
    snprintf(text, sizeof text, " (%" PRIu64 " bytes a position, taken as used)", plan.kv / options->n_ctx);
    print_part(out, "KV cache", plan.kv, text);
    print_part(out, "recurrent state", plan.state, "");
    print_part(out, "workspace", plan.workspace, " (for a full batch, taken as used)");
    if (plan.strict > 0)
        print_part(out, "strict check", plan.strict, "");
    print_part(out, "all together", plan.weights + plan.kv + plan.state + plan.workspace + plan.strict, "");
    print_part(out, "available", memory_available(), "");
}

static void print_device_plan(const struct memory_fit *fit, const struct mtp_session_options *options,
                              FILE *out)
{
    const struct memory_plan *plan = &fit->plan;
    char text[64];
    print_heading(out, options, " of the device");
    print_part(out, "weights", plan->weights, "");
    snprintf(text, sizeof text, " (%" PRIu64 " bytes a position)", plan->kv / options->n_ctx);
    print_part(out, "KV cache", plan->kv, text);
    print_part(out, "recurrent state", plan->state, "");
    print_part(out, "workspace", plan->workspace, " (for a full batch)");
    if (plan->strict > 0)
        print_part(out, "strict check", plan->strict, "");
    print_part(out, "backend", plan->backends, " (scratch)");
    print_part(out, "allowance", plan->allowance, " (code, recorded passes, sizes rounded up)");
    print_part(out, "all together", memory_plan_most(plan), "");
    print_part(out, "available", fit->available, "");
}

/* The plan on a device, which is only asked for sizes. */
static enum mtp_status fit_device(const mtp_model *model, struct mtp_session_options *options, uint32_t least,
                                  struct memory_fit *fit, struct mtp_error *error)
{
    const struct backend_source *source;
    struct backend *backend = NULL;
    bool there;
    enum mtp_status status = device_cuda_source(&source, &there, error);
    if (status == MTP_OK)
        status = source->open(source->user, options, &backend, error);
    if (status == MTP_OK)
        status = memory_fit(fit, model, source, backend, options, least, error);
    if (backend != NULL)
        backend->ops->close(backend);
    return status;
}

/* On the device that a session by these options would take. */
static enum mtp_status print_memory(const mtp_model *model, const struct mtp_session_options *options,
                                    bool given, FILE *out, struct mtp_error *error)
{
    bool automatic = options->device == MTP_DEVICE_AUTO && options->isa == MTP_ISA_AUTO;
    struct mtp_session_options fitting = *options;
    struct memory_fit fit;
    if (automatic || options->device == MTP_DEVICE_CUDA) {
        uint32_t least = given ? 0 : automatic ? AUTO_CONTEXT : CONTEXT_STEP;
        enum mtp_status status = fit_device(model, &fitting, least, &fit, automatic ? NULL : error);
        if (status == MTP_OK)
            print_device_plan(&fit, &fitting, out);
        if (status == MTP_OK || !automatic)
            return status;
    }
    print_plan(model, options, out);
    return MTP_OK;
}

enum mtp_status mtp_model_print_info(const mtp_model *model,
                                     const struct mtp_session_options *options, FILE *out,
                                     struct mtp_error *error)
{
    struct mtp_session_options complete;
    enum mtp_status status = session_complete_options(model, options, &complete, error);
    if (status != MTP_OK)
        return status;
    fprintf(out, "model %s (%s)\n", model->name[0] != '\0' ? model->name : "without a name",
            model->hparams.arch_name);
    if (model_is_synthetic(model))
        fprintf(out, "  synthetic         true (weights made by mtpsynth)\n");
    print_shape(&model->hparams, out);
    fprintf(out, "  MTP               %s\n", mtp_text(model));
    fprintf(out, "  output head       %s, %s\n", type_info(model->weights.head.type)->name,
            model->tied_head ? "tied to the embedding" : "its own");
    print_tensors(model->file, out);
    if (model->mtp_file != NULL)
        print_tensors(model->mtp_file, out);
    status = print_memory(model, &complete, options != NULL && options->n_ctx > 0, out, error);
    if (status != MTP_OK)
        return status;
    uint64_t bytes = model_bytes_per_token(model);
    fprintf(out, "one decoded token reads %" PRIu64 " bytes of weights (%.1f MiB)\n", bytes,
            mib(bytes));
    if (fflush(out) != 0 || ferror(out))
        return mtp_fail(error, MTP_ERR_IO, "cannot write the model's description");
    return MTP_OK;
}
