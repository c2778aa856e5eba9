/* sampling_defaults.c - what a model file recommends for drawing tokens (general.sampling.*). */
#include "model.h"

/* A recommendation that is absent, malformed or out of range is passed over: it is advice. */
static float advised(const struct gguf *file, const char *key, float low, float high, float otherwise)
{
    float value = 0.0f;
    bool found = false;
    if (gguf_find_f32(file, key, &value, &found, NULL) != MTP_OK || !found)
        return otherwise;
    return value >= low && value <= high ? value : otherwise;
}

void mtp_sampling_defaults(const mtp_model *model, struct mtp_sampling *sampling)
{
    const struct gguf *file = model->file;
    uint32_t top_k = 40;
    bool found = false;
    if (gguf_find_u32(file, "general.sampling.top_k", &top_k, &found, NULL) != MTP_OK)
        top_k = 40;
    *sampling = (struct mtp_sampling){
        .temperature = advised(file, "general.sampling.temp", 0.0f, 100.0f, 0.8f),
        .top_k = top_k,
        .top_p = advised(file, "general.sampling.top_p", 0.0f, 1.0f, 0.95f),
        .min_p = advised(file, "general.sampling.min_p", 0.0f, 1.0f, 0.05f),
        .seed = 0,
    };
}
