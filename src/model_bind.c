/* model_bind.c - finding tensors by name and checking their shapes and types. */
#include "model_bind.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void tensor_name(const struct binder *b, char *name, size_t size, const char *suffix)
{
    if (b->block < 0)
        snprintf(name, size, "%s", suffix);
    else
        snprintf(name, size, "blk.%d.%s", b->block, suffix);
}

const struct gguf_tensor *bind_find(const struct binder *b, const char *suffix)
{
    char name[96];
    tensor_name(b, name, sizeof name, suffix);
    return gguf_find_tensor(b->file, name);
}

static enum mtp_status shape_error(const struct binder *b, const struct gguf_tensor *t,
                                   const char *expected)
{
    return mtp_fail(b->error, MTP_ERR_FORMAT,
                    "%s: tensor %.*s has shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64
                    "] where %s is expected",
                    gguf_path(b->file), (int)t->name.length, t->name.data, t->ne[0], t->ne[1],
                    t->ne[2], expected);
}

static enum mtp_status missing(const struct binder *b, const char *suffix)
{
    char name[96];
    tensor_name(b, name, sizeof name, suffix);
    return mtp_fail(b->error, MTP_ERR_FORMAT, "%s: tensor %s is missing", gguf_path(b->file), name);
}

/* A weight over rows [first, first + n_out) of each expert's matrix in t. */
static enum mtp_status view(const struct binder *b, const struct gguf_tensor *t,
                            const struct matrix_shape *shape, uint32_t first, uint32_t rows,
                            struct weight *out)
{
    const struct type_info *type = type_info(t->type);
    if (type->weight_class == WEIGHT_NONE)
        return mtp_fail(b->error, MTP_ERR_UNSUPPORTED,
                        "%s: tensor %.*s has type %s, which cannot be a matrix (supported: %s)",
                        gguf_path(b->file), (int)t->name.length, t->name.data, type->name,
                        type_supported_list());
    uint32_t experts = shape->n_experts;
    bool fits = t->ne[0] == shape->n_in && t->ne[1] == rows && t->ne[2] == experts && t->ne[3] == 1;
    if (rows == 1 && experts == 1 && t->n_dims == 1)
        fits = t->ne[0] == shape->n_in;
    if (!fits) {
        char expected[96];
        snprintf(expected, sizeof expected, "[%" PRIu32 ", %" PRIu32 ", %" PRIu32 "]", shape->n_in,
                 rows, experts);
        return shape_error(b, t, expected);
    }
    *out = (struct weight){.type = t->type, .n_in = shape->n_in, .n_out = shape->n_out,
                           .n_experts = experts};
    out->row_bytes = shape->n_in / type->block_elements * type->block_bytes;
    out->expert_bytes = out->row_bytes * rows;
    out->data = (const uint8_t *)t->data + (size_t)first * out->row_bytes;
    if (!model_add_slot(b->model, out))
        return mtp_fail_memory(b->error, "a matrix", sizeof *out);
    return MTP_OK;
}

enum mtp_status bind_matrix(struct binder *b, const char *suffix, struct matrix_shape shape,
                            struct weight *out)
{
    if (shape.n_experts == 0)
        shape.n_experts = 1;
    const struct gguf_tensor *t = bind_find(b, suffix);
    if (t == NULL)
        return missing(b, suffix);
    b->model->weight_bytes += t->n_bytes;
    return view(b, t, &shape, 0, shape.n_out, out);
}

enum mtp_status bind_stacked(struct binder *b, const char *suffix, const struct matrix_shape *shapes,
                             struct weight *const *outs, size_t n)
{
    const struct gguf_tensor *t = bind_find(b, suffix);
    if (t == NULL)
        return missing(b, suffix);
    uint32_t rows = 0, first = 0;
    for (size_t i = 0; i < n; i++)
        rows += shapes[i].n_out;
    b->model->weight_bytes += t->n_bytes;
    for (size_t i = 0; i < n; i++) {
        struct matrix_shape shape = shapes[i];
        if (shape.n_experts == 0)
            shape.n_experts = 1;
        enum mtp_status status = view(b, t, &shape, first, rows, outs[i]);
        if (status != MTP_OK)
            return status;
        first += shape.n_out;
    }
    return MTP_OK;
}

static enum mtp_status widen_vector(struct binder *b, const struct gguf_tensor *t,
                                    const float **out)
{
    size_t bytes = sizeof(struct owned_vector) + t->n_elements * sizeof(float);
    struct owned_vector *owned = malloc(bytes);
    if (owned == NULL)
        return mtp_fail_memory(b->error, "a vector", bytes);
    owned->next = b->model->owned;
    b->model->owned = owned;
    dequantize_row(t->type, t->data, owned->values, t->n_elements);
    *out = owned->values;
    return MTP_OK;
}

enum mtp_status bind_vector(struct binder *b, const char *suffix, uint64_t n, const float **out)
{
    const struct gguf_tensor *t = bind_find(b, suffix);
    if (t == NULL)
        return missing(b, suffix);
    if (t->n_elements != n) {
        char expected[64];
        snprintf(expected, sizeof expected, "%" PRIu64 " elements", n);
        return shape_error(b, t, expected);
    }
    b->model->weight_bytes += t->n_bytes;
    if (t->type == MTP_TYPE_F32) {
        *out = t->data;
        return MTP_OK;
    }
    if (type_info(t->type)->weight_class == WEIGHT_FLOAT)
        return widen_vector(b, t, out);
    return mtp_fail(b->error, MTP_ERR_UNSUPPORTED, "%s: tensor %.*s has type %s where F32 is expected",
                    gguf_path(b->file), (int)t->name.length, t->name.data,
                    type_info(t->type)->name);
}
