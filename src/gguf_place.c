/* Checks where tensors lie: aligned, whole inside the file, none over another. */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdlib.h>

struct span {
    uint64_t begin; /* in the file */
    uint64_t end;
    const struct gguf_tensor *tensor;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static enum mtp_status fail_tensor(const struct gguf_part *part, const struct gguf_tensor *tensor,
                                   const char *problem, struct mtp_error *error)
{
    return mtp_fail(error, MTP_ERR_FORMAT, "%s: damaged: tensor '%.*s' %s", part->label,
                    GGUF_SHOW(tensor->name), problem);
}

/* The header is whole, so the data were cut: the first tensor in the file's order that lost bytes
 * and all bytes that are missing up to the end of the last. */
static enum mtp_status fail_truncated(const struct gguf_part *part, const struct span *spans,
                                      size_t n, struct mtp_error *error)
{
    const struct span *first = NULL;
    uint64_t end = part->size;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].end > part->size && (first == NULL || spans[i].begin < first->begin))
            first = &spans[i];
        if (spans[i].end > end)
            end = spans[i].end;
    }
    if (first == NULL)
        return MTP_OK;
    return mtp_fail(error, MTP_ERR_FORMAT,
                    "%s is truncated: it ends %s tensor '%.*s', %" PRIu64 " of %" PRIu64
                    " bytes are missing; its header is whole, so this looks like an unfinished "
                    "download or copy", part->label,
                    first->begin < part->size ? "inside" : "before", GGUF_SHOW(first->tensor->name),
                    end - part->size, end);
}

/* spans are in any order; sorts them. */
static enum mtp_status check_overlaps(const struct gguf_part *part, struct span *spans, size_t n,
                                      struct mtp_error *error)
{
    bool sorted = true;
    for (size_t i = 1; i < n && sorted; i++)
        sorted = spans[i - 1].begin <= spans[i].begin;
    if (!sorted)
        qsort(spans, n, sizeof *spans, compare_spans);
    for (size_t i = 1; i < n; i++) {
        if (spans[i].begin < spans[i - 1].end)
            return mtp_fail(error, MTP_ERR_FORMAT,
                            "%s: damaged: tensors '%.*s' and '%.*s' overlap", part->label,
                            GGUF_SHOW(spans[i - 1].tensor->name), GGUF_SHOW(spans[i].tensor->name));
    }
    return MTP_OK;
}

static enum mtp_status fill_spans(const struct gguf *file, size_t first, const uint64_t *offsets,
                                  uint64_t data_start, struct span *spans,
                                  struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[file->n_parts - 1];
    for (size_t i = 0; i < file->n_tensors - first; i++) {
        const struct gguf_tensor *tensor = &file->tensors[first + i];
        if (offsets[i] % part->alignment != 0)
            return fail_tensor(part, tensor, "lies at an offset that is not aligned", error);
        spans[i].tensor = tensor;
        if (__builtin_add_overflow(data_start, offsets[i], &spans[i].begin) ||
            __builtin_add_overflow(spans[i].begin, tensor->n_bytes, &spans[i].end))
            return fail_tensor(part, tensor, "lies at an absurd offset", error);
    }
    return MTP_OK;
}

enum mtp_status gguf_place_tensors(struct gguf *file, size_t first, const uint64_t *offsets,
                                   size_t header_end, struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[file->n_parts - 1];
    size_t n = file->n_tensors - first;
    if (n == 0)
        return MTP_OK;
    struct span *spans = calloc(n, sizeof *spans);
    if (spans == NULL)
        return mtp_fail_memory(error, "the list of tensors", (uint64_t)n * sizeof *spans);
    /* header_end is at most the size of a mapped file, so this sum cannot overflow 64 bits. */
    uint64_t data_start =
        ((uint64_t)header_end + part->alignment - 1) / part->alignment * part->alignment;
    enum mtp_status status = fill_spans(file, first, offsets, data_start, spans, error);
    if (status == MTP_OK)
        status = fail_truncated(part, spans, n, error);
    if (status == MTP_OK) {
        for (size_t i = 0; i < n; i++)
            file->tensors[first + i].data = part->data + spans[i].begin;
        status = check_overlaps(part, spans, n, error);
    }
    free(spans);
    return status;
}
