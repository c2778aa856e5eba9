#include "gguf_internal.h"

#include <stdlib.h>
#include <string.h>

/* The new part is counted before it is opened, so that gguf_close releases it after a failure. */
static enum mtp_status append_part(struct gguf *file, struct mtp_error *error)
{
    struct gguf_part *parts = realloc(file->parts, (file->n_parts + 1) * sizeof *parts);
    if (parts == NULL)
        return mtp_fail_memory(error, "the list of parts", (file->n_parts + 1) * sizeof *parts);
    file->parts = parts;
    file->parts[file->n_parts++] = (struct gguf_part){0};
    return MTP_OK;
}

static enum mtp_status read_part(struct gguf *file, struct mtp_error *error)
{
    enum mtp_status status = gguf_identify(&file->parts[file->n_parts - 1], error);
    return status == MTP_OK ? gguf_parse_last_part(file, error) : status;
}

/* A file that is damaged and bears a downloader's suffix is not worth puzzling over. */
static void mention_unfinished_name(const char *path, struct mtp_error *error)
{
    const char *suffix = gguf_unfinished_suffix(path);
    if (error == NULL || suffix == NULL)
        return;
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof error->message - used,
             "; by its name (%s) it is an unfinished download", suffix);
}

enum mtp_status gguf_add_part(struct gguf *file, const char *path, struct mtp_error *error)
{
    enum mtp_status status = append_part(file, error);
    if (status != MTP_OK)
        return status;
    status = gguf_part_map(&file->parts[file->n_parts - 1], path, error);
    if (status == MTP_OK)
        status = read_part(file, error);
    if (status == MTP_ERR_FORMAT)
        mention_unfinished_name(path, error);
    return status;
}

static enum mtp_status index_tensors(struct gguf *file, struct mtp_error *error)
{
    size_t duplicate;
    enum mtp_status status =
        name_table_build(&file->tensor_table, file->tensors, sizeof *file->tensors,
                         file->n_tensors, &duplicate, error);
    if (status == MTP_OK && duplicate != NAME_TABLE_NONE) {
        const struct gguf_tensor *tensor = &file->tensors[duplicate];
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: damaged: tensor '%.*s' occurs twice",
                        file->parts[tensor->part].label, GGUF_SHOW(tensor->name));
    }
    return status;
}

static enum mtp_status refuse_split(const struct gguf *file, struct mtp_error *error)
{
    uint32_t count = 1;
    bool found;
    enum mtp_status status =
        gguf_part_find_u32(&file->parts[0], "split.count", &count, &found, error);
    if (status == MTP_OK && count > 1)
        return mtp_fail(error, MTP_ERR_USAGE,
                        "%s: one part of a split file cannot be opened from memory",
                        file->parts[0].label);
    return status;
}

static enum mtp_status finish(struct gguf **out, struct gguf *file, enum mtp_status status,
                              struct mtp_error *error)
{
    if (status == MTP_OK)
        status = index_tensors(file, error);
    if (status != MTP_OK) {
        gguf_close(file);
        return status;
    }
    *out = file;
    return MTP_OK;
}

enum mtp_status gguf_open(struct gguf **out, const char *path, struct mtp_error *error)
{
    *out = NULL;
    struct gguf *file = calloc(1, sizeof *file);
    if (file == NULL)
        return mtp_fail_memory(error, "a model file", sizeof *file);
    enum mtp_status status = gguf_add_part(file, path, error);
    if (status == MTP_OK)
        status = gguf_open_other_parts(file, error);
    return finish(out, file, status, error);
}

enum mtp_status gguf_open_memory(struct gguf **out, const void *data, size_t size,
                                 const char *label, struct mtp_error *error)
{
    *out = NULL;
    struct gguf *file = calloc(1, sizeof *file);
    if (file == NULL)
        return mtp_fail_memory(error, "a model file", sizeof *file);
    enum mtp_status status = append_part(file, error);
    if (status == MTP_OK)
        status = gguf_part_borrow(&file->parts[0], data, size, label, error);
    if (status == MTP_OK)
        status = read_part(file, error);
    if (status == MTP_OK)
        status = refuse_split(file, error);
    return finish(out, file, status, error);
}

void gguf_close(struct gguf *file)
{
    if (file == NULL)
        return;
    for (uint32_t i = 0; i < file->n_parts; i++)
        gguf_part_release(&file->parts[i]);
    name_table_free(&file->tensor_table);
    free(file->parts);
    free(file->tensors);
    free(file);
}

const char *gguf_path(const struct gguf *file)
{
    return file->parts[0].path;
}

uint32_t gguf_n_parts(const struct gguf *file)
{
    return file->n_parts;
}

const char *gguf_part_path(const struct gguf *file, uint32_t part)
{
    return part < file->n_parts ? file->parts[part].path : NULL;
}

uint64_t gguf_file_bytes(const struct gguf *file)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < file->n_parts; i++)
        bytes += file->parts[i].size;
    return bytes;
}

uint64_t gguf_n_tensors(const struct gguf *file)
{
    return file->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *file, uint64_t index)
{
    return index < file->n_tensors ? &file->tensors[index] : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *file, const char *name)
{
    size_t index = name_table_find(&file->tensor_table, name, strlen(name));
    return index == NAME_TABLE_NONE ? NULL : &file->tensors[index];
}
