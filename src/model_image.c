/* model_image.c - a model's weights in the memory of a device that cannot read the host's. */
#include <stdlib.h>
#include <string.h>

#include "memory_plan.h"
#include "model.h"
#include "workspace.h"

/* Bytes of the file that are on the device at a time to be packed, and that are uploaded at once. */
enum { STAGING_BYTES = 64 << 20 };
/* Experts packed at once: more make no larger pieces of consequence. */
enum { MOST_EXPERTS = 12 };

/* What has been given a place: tables may be bound twice. */
struct placed {
    const void *host;
    bool packed;
    uint8_t *device;
};

struct model_image {
    const struct backend_source *source;
    struct backend *backend;       /* its memory; used under the model's lock */
    struct model_weights weights;
    struct arena arena;            /* of weights; without base while it is measured */
    struct arena staging;
    struct packed_weight *packed;  /* [n_packed], those of weights */
    struct placed *placed;
    size_t n_packed, n_placed, most;
    struct model_image *next;
};

/* ---- every tensor ------------------------------------------------------------------------- */

struct visitor {
    void (*matrix)(struct model_image *, struct weight *);
    void (*vector)(struct model_image *, const float **, size_t n);
};

static void visit_attention(struct model_image *image, const struct visitor *v, const struct hparams *h,
                            struct attention_weights *w)
{
    struct weight *const matrices[] = {&w->q, &w->k, &w->v, &w->output};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        v->matrix(image, matrices[i]);
    v->vector(image, &w->q_norm, h->head_dim);
    v->vector(image, &w->k_norm, h->head_dim);
}

static void visit_delta_net(struct model_image *image, const struct visitor *v, const struct hparams *h,
                            struct delta_net_weights *w)
{
    struct weight *const matrices[] = {&w->qkv, &w->gate, &w->alpha, &w->beta, &w->output};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        v->matrix(image, matrices[i]);
    v->vector(image, &w->conv, (size_t)hparams_conv_channels(h) * h->conv_taps);
    v->vector(image, &w->a, h->n_v_heads);
    v->vector(image, &w->dt, h->n_v_heads);
    v->vector(image, &w->norm, h->state_dim);
}

static void visit_layer(struct model_image *image, const struct visitor *v, const struct hparams *h,
                        struct layer *layer)
{
    v->vector(image, &layer->attn_norm, h->n_embd);
    v->vector(image, &layer->ffn_norm, h->n_embd);
    if (layer->recurrent)
        visit_delta_net(image, v, h, &layer->delta_net);
    else
        visit_attention(image, v, h, &layer->attention);
    struct dense_ffn_weights *dense = &layer->ffn;
    struct moe_weights *moe = &layer->moe;
    struct weight *const of_dense[] = {&dense->gate, &dense->up, &dense->down};
    struct weight *const of_moe[] = {&moe->router, &moe->gate, &moe->up, &moe->down, &moe->shared_router,
                                     &moe->shared_gate, &moe->shared_up, &moe->shared_down};
    bool experts = h->arch == ARCH_QWEN35MOE;
    size_t n = experts ? sizeof of_moe / sizeof *of_moe : sizeof of_dense / sizeof *of_dense;
    for (size_t i = 0; i < n; i++)
        v->matrix(image, experts ? of_moe[i] : of_dense[i]);
}

static void visit_all(struct model_image *image, const struct visitor *v, const struct hparams *h)
{
    struct model_weights *w = &image->weights;
    v->matrix(image, &w->embedding);
    v->matrix(image, &w->head);
    v->vector(image, &w->output_norm, h->n_embd);
    for (uint32_t i = 0; i < h->n_layers; i++)
        visit_layer(image, v, h, &w->layers[i]);
    struct mtp_block *mtp = &w->mtp;
    if (!mtp->present)
        return;
    visit_layer(image, v, h, &mtp->layer);
    v->matrix(image, &mtp->eh_proj);
    v->matrix(image, &mtp->embedding);
    v->matrix(image, &mtp->head);
    v->vector(image, &mtp->enorm, h->n_embd);
    v->vector(image, &mtp->hnorm, h->n_embd);
    v->vector(image, &mtp->head_norm, h->n_embd);
}

static void count_matrix(struct model_image *image, struct weight *w)
{
    (void)w;
    image->most++;
}

static void count_vector(struct model_image *image, const float **vector, size_t n)
{
    (void)vector;
    (void)n;
    image->most++;
}

/* ---- places ------------------------------------------------------------------------------- */

/* Bytes of w where the backend arranges it anew, else 0. Tables whose rows are embedded have no slot. */
static size_t packed_bytes(struct model_image *image, const struct weight *w)
{
    return w->packed != NULL ? image->backend->ops->packed_bytes(image->backend, w) : 0;
}

/* The place of a tensor in the arena; *fresh when it was not given before. */
static uint8_t *place(struct model_image *image, const void *host, bool packed, size_t bytes, bool *fresh)
{
    for (size_t i = 0; i < image->n_placed; i++)
        if (image->placed[i].host == host && image->placed[i].packed == packed) {
            *fresh = false;
            return image->placed[i].device;
        }
    *fresh = true;
    uint8_t *device = arena_take(&image->arena, bytes, 1);
    image->placed[image->n_placed++] = (struct placed){host, packed, device};
    return device;
}

static void measure_vector(struct model_image *image, const float **vector, size_t n)
{
    bool fresh;
    place(image, *vector, false, n * sizeof **vector, &fresh);
}

static size_t rows_at_once(const struct weight *w)
{
    size_t rows = STAGING_BYTES / w->row_bytes / PACK_PIECE * PACK_PIECE;
    rows = rows > PACK_PIECE ? rows : PACK_PIECE;
    return rows < w->n_out ? rows : w->n_out;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Small experts that follow each other in the file go together: a model has thousands of them. */
static size_t experts_at_once(const struct weight *w)
{
    size_t bytes = w->n_out * w->row_bytes, most = smaller(STAGING_BYTES / bytes, MOST_EXPERTS);
    return w->expert_bytes == bytes && most > 1 ? smaller(most, w->n_experts) : 1;
}

static size_t staging_bytes(const struct weight *w)
{
    size_t experts = experts_at_once(w);
    return experts > 1 ? experts * w->expert_bytes : rows_at_once(w) * w->row_bytes;
}

static void measure_matrix(struct model_image *image, struct weight *w)
{
    size_t packed = packed_bytes(image, w), staging = packed > 0 ? staging_bytes(w) : 0;
    bool fresh;
    place(image, w->data, packed > 0, packed > 0 ? packed : weight_bytes(w), &fresh);
    if (image->staging.size < staging)
        image->staging.size = staging;
}

/* ---- uploading ---------------------------------------------------------------------------- */

static void upload_vector(struct model_image *image, const float **vector, size_t n)
{
    bool fresh;
    const float *host = *vector;
    uint8_t *device = place(image, host, false, n * sizeof *host, &fresh);
    if (fresh)
        image->backend->ops->upload(image->backend, device, host, n * sizeof *host);
    *vector = (const float *)(const void *)device;
}

/* The matrices of the experts follow each other here, whatever lies between them in the file. */
static void upload_rows(struct model_image *image, const struct weight *w, uint8_t *device)
{
    struct backend *backend = image->backend;
    size_t bytes = w->n_out * w->row_bytes, n = w->n_experts;
    if (w->expert_bytes == bytes) {
        bytes *= n;
        n = 1;
    }
    for (size_t e = 0; e < n; e++)
        for (size_t at = 0; at < bytes; at += STAGING_BYTES) {
            size_t left = bytes - at;
            backend->ops->upload(backend, device + e * bytes + at,
                                 (const uint8_t *)w->data + e * w->expert_bytes + at,
                                 left < STAGING_BYTES ? left : STAGING_BYTES);
        }
}

/* n rows, which follow each other in the file from row `first` of expert e on. */
static void pack_rows(struct model_image *image, const struct weight *w, size_t e, size_t first, size_t n,
                      uint8_t *device)
{
    struct backend *backend = image->backend;
    const uint8_t *rows = (const uint8_t *)w->data + e * w->expert_bytes + first * w->row_bytes;
    backend->ops->upload(backend, image->staging.base, rows, n * w->row_bytes);
    const struct pack_args args = {*w, image->staging.base, e * w->n_out + first, n, device};
    backend->ops->pack(backend, &args);
}

static void pack_pieces(struct model_image *image, const struct weight *w, uint8_t *device)
{
    size_t experts = experts_at_once(w), together = rows_at_once(w);
    for (size_t e = 0; e < w->n_experts; e += experts)
        if (experts > 1)
            pack_rows(image, w, e, 0, smaller(experts, w->n_experts - e) * w->n_out, device);
        else
            for (size_t first = 0; first < w->n_out; first += together)
                pack_rows(image, w, e, first, smaller(together, w->n_out - first), device);
}

static void upload_matrix(struct model_image *image, struct weight *w)
{
    size_t packed = packed_bytes(image, w);
    bool fresh;
    uint8_t *device = place(image, w->data, packed > 0, packed > 0 ? packed : weight_bytes(w), &fresh);
    if (fresh && packed > 0)
        pack_pieces(image, w, device);
    else if (fresh)
        upload_rows(image, w, device);
    if (fresh)
        model_release_pages(w);
    w->data = packed > 0 ? NULL : device;
    w->expert_bytes = w->n_out * w->row_bytes;
    w->packed = NULL;
    if (packed > 0) {
        struct packed_weight *slot = &image->packed[image->n_packed++];
        slot->data = device;
        w->packed = slot;
    }
}

/* ---- opening and closing ------------------------------------------------------------------ */

static void close_image(struct model_image *image)
{
    if (image->backend != NULL) {
        const struct ops *ops = image->backend->ops;
        if (image->arena.base != NULL)
            ops->free(image->backend, image->arena.base, image->arena.size);
        if (image->staging.base != NULL)
            ops->free(image->backend, image->staging.base, image->staging.size);
        ops->close(image->backend);
    }
    free(image->weights.layers);
    free(image->packed);
    free(image->placed);
    free(image);
}

/* Lists on the host: a copy of the weights that still points to the file, and room for what is known
 * of every tensor. */
static enum mtp_status copy_weights(struct model_image *image, const mtp_model *model,
                                    struct mtp_error *error)
{
    static const struct visitor count = {count_matrix, count_vector};
    size_t bytes = model->hparams.n_layers * sizeof *image->weights.layers;
    image->weights = model->weights;
    image->weights.layers = malloc(bytes);
    if (image->weights.layers == NULL)
        return mtp_fail_memory(error, "a list of weights", bytes);
    memcpy(image->weights.layers, model->weights.layers, bytes);
    visit_all(image, &count, &model->hparams);
    image->packed = calloc(image->most, sizeof *image->packed);
    image->placed = calloc(image->most, sizeof *image->placed);
    if (image->packed == NULL || image->placed == NULL)
        return mtp_fail_memory(error, "a list of weights", image->most * sizeof *image->placed);
    return MTP_OK;
}

static void measure(struct model_image *image, const mtp_model *model)
{
    static const struct visitor measure_all = {measure_matrix, measure_vector};
    visit_all(image, &measure_all, &model->hparams);
}

static enum mtp_status take_memory(struct model_image *image, struct mtp_error *error)
{
    const struct ops *ops = image->backend->ops;
    struct arena *arena = &image->arena, *staging = &image->staging;
    arena->size = arena->used;
    arena->used = 0;
    image->n_placed = 0;
    arena->base = ops->alloc(image->backend, arena->size, MEMORY_WHOLE);
    if (arena->base == NULL)
        return backend_fail_memory(image->backend, error, "the weights", arena->size);
    if (staging->size > 0)
        staging->base = ops->alloc(image->backend, staging->size, MEMORY_WHOLE);
    if (staging->size > 0 && staging->base == NULL)
        return backend_fail_memory(image->backend, error, "the weights on their way", staging->size);
    return MTP_OK;
}

static enum mtp_status upload_all(struct model_image *image, const mtp_model *model,
                                  struct mtp_error *error)
{
    static const struct visitor upload = {upload_matrix, upload_vector};
    const struct ops *ops = image->backend->ops;
    measure(image, model);
    enum mtp_status status = take_memory(image, error);
    if (status != MTP_OK)
        return status;
    visit_all(image, &upload, &model->hparams);
    ops->synchronize(image->backend);
    if (image->staging.base != NULL)
        ops->free(image->backend, image->staging.base, image->staging.size);
    image->staging = (struct arena){0};
    const char *failed = ops->error(image->backend);
    return failed == NULL ? MTP_OK : mtp_fail(error, MTP_ERR_DEVICE, "%s", failed);
}

static enum mtp_status open_image(struct model_image **out, mtp_model *model,
                                  const struct backend_source *source, struct mtp_error *error)
{
    const struct mtp_session_options one_thread = {.n_threads = 1};
    struct model_image *image = calloc(1, sizeof *image);
    *out = NULL;
    if (image == NULL)
        return mtp_fail_memory(error, "an image of the weights", sizeof *image);
    image->source = source;
    enum mtp_status status = copy_weights(image, model, error);
    if (status == MTP_OK)
        status = source->open(source->user, &one_thread, &image->backend, error);
    if (status == MTP_OK)
        status = upload_all(image, model, error);
    if (status != MTP_OK) {
        close_image(image);
        return status;
    }
    *out = image;
    return MTP_OK;
}

static struct model_image *image_of(const mtp_model *model, const struct backend_source *source)
{
    struct model_image *image = model->images;
    while (image != NULL && image->source != source)
        image = image->next;
    return image;
}

static enum mtp_status find_image(mtp_model *model, const struct backend_source *source,
                                  struct model_image **out, struct mtp_error *error)
{
    *out = image_of(model, source);
    if (*out != NULL)
        return MTP_OK;
    enum mtp_status status = open_image(out, model, source, error);
    if (status != MTP_OK)
        return status;
    (*out)->next = model->images;
    model->images = *out;
    return MTP_OK;
}

enum mtp_status model_weights_for(mtp_model *model, const struct backend_source *source,
                                  struct backend *backend, const struct model_weights **out,
                                  struct mtp_error *error)
{
    *out = &model->weights;
    if (backend->ops->host_memory) {
        model_pack(model, backend);
        return MTP_OK;
    }
    struct model_image *image;
    pthread_mutex_lock(&model->pack_lock);
    enum mtp_status status = find_image(model, source, &image, error);
    pthread_mutex_unlock(&model->pack_lock);
    if (status == MTP_OK)
        *out = &image->weights;
    return status;
}

enum mtp_status model_image_bytes(const mtp_model *model, const struct backend_source *source,
                                  struct backend *backend, uint64_t *bytes, uint64_t *staging,
                                  struct mtp_error *error)
{
    pthread_mutex_t *lock = &((mtp_model *)model)->pack_lock; /* no model is a constant object */
    *bytes = *staging = 0;
    pthread_mutex_lock(lock);
    bool there = image_of(model, source) != NULL;
    pthread_mutex_unlock(lock);
    if (there)
        return MTP_OK;
    struct model_image *image = calloc(1, sizeof *image);
    if (image == NULL)
        return mtp_fail_memory(error, "an image of the weights", sizeof *image);
    enum mtp_status status = copy_weights(image, model, error);
    image->backend = backend; /* lent: asked for sizes */
    if (status == MTP_OK)
        measure(image, model);
    *bytes = image->arena.used;
    *staging = image->staging.size;
    image->backend = NULL;
    close_image(image);
    return status;
}

void model_free_images(mtp_model *model)
{
    while (model->images != NULL) {
        struct model_image *next = model->images->next;
        close_image(model->images);
        model->images = next;
    }
}
