/* A split model: NAME-00001-of-0000N.gguf holds the metadata, the others tensors and the three keys
 * split.no (from 0), split.count and split.tensors.count, which every part repeats. */
#include "gguf_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX_LENGTH 20 /* "-00001-of-00005.gguf" */
#define MAX_PARTS 99999  /* what five digits can name */

/* The numbers at the end of path; false when it is not named like a part. */
static bool parse_name(const char *path, uint32_t *number, uint32_t *count)
{
    size_t length = strlen(path);
    if (length <= SUFFIX_LENGTH)
        return false;
    const char *suffix = path + length - SUFFIX_LENGTH;
    static const char shape[] = "-ddddd-of-ddddd.gguf";
    for (size_t i = 0; i < SUFFIX_LENGTH; i++) {
        bool digit = i >= 1 && shape[i] == 'd';
        if (digit ? !isdigit((unsigned char)suffix[i]) : suffix[i] != shape[i])
            return false;
    }
    *number = (uint32_t)strtoul(suffix + 1, NULL, 10);
    *count = (uint32_t)strtoul(suffix + 10, NULL, 10);
    return true;
}

/* malloc'ed name of part number (from 1) beside path, which parse_name accepts. */
static char *part_name(const char *path, uint32_t number, uint32_t count)
{
    size_t length = strlen(path);
    char *name = malloc(length + 16);
    if (name != NULL)
        snprintf(name, length + 16, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf",
                 (int)(length - SUFFIX_LENGTH), path, number, count);
    return name;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static enum mtp_status fail_not_first(const struct gguf_part *part, uint32_t number,
                                      uint32_t count, struct mtp_error *error)
{
    uint32_t named_number;
    uint32_t named_count;
    char *first = NULL;
    char ending[64];
    snprintf(ending, sizeof ending, "the file whose name ends in -00001-of-%05" PRIu32 ".gguf",
             count);
    if (parse_name(part->path, &named_number, &named_count))
        first = part_name(part->path, 1, count);
    enum mtp_status status =
        mtp_fail(error, MTP_ERR_USAGE,
                 "%s is part %" PRIu32 " of %" PRIu32
                 " of a split model; open its first part instead, %.256s",
                 part->label, number + 1, count, first == NULL ? ending : base_name(first));
    free(first);
    return status;
}

/* What the first part says: *count parts and *n_tensors tensors in all (0 when it does not say). */
static enum mtp_status read_plan(const struct gguf_part *part, uint32_t *count,
                                 uint32_t *n_tensors, struct mtp_error *error)
{
    bool found;
    *count = 1;
    *n_tensors = 0;
    enum mtp_status status = gguf_part_find_u32(part, "split.count", count, &found, error);
    if (status != MTP_OK || *count <= 1)
        return status;
    uint32_t number = 0;
    status = gguf_part_find_u32(part, "split.no", &number, NULL, error);
    if (status == MTP_OK)
        status = gguf_part_find_u32(part, "split.tensors.count", n_tensors, &found, error);
    if (status != MTP_OK)
        return status;
    if (*count > MAX_PARTS || number >= *count)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: damaged: key 'split.no' is %" PRIu32 " and 'split.count' %" PRIu32,
                        part->label, number, *count);
    if (number != 0)
        return fail_not_first(part, number, *count, error);
    uint32_t named_number;
    uint32_t named_count;
    if (!parse_name(part->path, &named_number, &named_count) || named_number != 1 ||
        named_count != *count)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is the first part of a split model of %" PRIu32
                        " files, but its name does not end in -00001-of-%05" PRIu32
                        ".gguf, so the others cannot be found; give the parts their names back",
                        part->label, *count, *count);
    return MTP_OK;
}

static enum mtp_status check_part(const struct gguf_part *part, uint32_t index, uint32_t count,
                                  uint32_t n_tensors, struct mtp_error *error)
{
    uint32_t own_index = 0;
    uint32_t own_count = 0;
    uint32_t own_tensors = n_tensors;
    bool found;
    enum mtp_status status = gguf_part_find_u32(part, "split.no", &own_index, NULL, error);
    if (status == MTP_OK)
        status = gguf_part_find_u32(part, "split.count", &own_count, NULL, error);
    if (status == MTP_OK)
        status = gguf_part_find_u32(part, "split.tensors.count", &own_tensors, &found, error);
    if (status != MTP_OK)
        return status;
    if (own_index != index || own_count != count)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is a wrong part: part %" PRIu32 " of %" PRIu32 " belongs here, but its "
                        "keys 'split.no' and 'split.count' say %" PRIu32 " of %" PRIu32,
                        part->label, index + 1, count, own_index + 1, own_count);
    if (own_tensors != n_tensors)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is a part of another model: its key 'split.tensors.count' is %" PRIu32
                        ", the first part's is %" PRIu32, part->label, own_tensors, n_tensors);
    return MTP_OK;
}

static enum mtp_status fail_missing(const struct gguf *file, const char *path, uint32_t index,
                                    uint32_t count, struct mtp_error *error)
{
    const char *suffix = gguf_unfinished_sibling(path);
    return mtp_fail(error, MTP_ERR_IO,
                    "%s is split into %" PRIu32 " files and part %" PRIu32
                    ", %.256s, is missing beside it%s%s%s", file->parts[0].label, count, index + 1,
                    base_name(path), suffix == NULL ? "" : " (its unfinished download with ",
                    suffix == NULL ? "" : suffix, suffix == NULL ? "" : " is there)");
}

static enum mtp_status open_part(struct gguf *file, uint32_t index, uint32_t count,
                                 uint32_t n_tensors, struct mtp_error *error)
{
    char *path = part_name(file->parts[0].path, index + 1, count);
    if (path == NULL)
        return mtp_fail_memory(error, "a file name", strlen(file->parts[0].path));
    enum mtp_status status;
    if (!gguf_exists(path)) {
        status = fail_missing(file, path, index, count, error);
    } else {
        status = gguf_add_part(file, path, error);
        if (status == MTP_OK)
            status = check_part(&file->parts[index], index, count, n_tensors, error);
    }
    free(path);
    return status;
}

enum mtp_status gguf_open_other_parts(struct gguf *file, struct mtp_error *error)
{
    uint32_t count;
    uint32_t n_tensors;
    enum mtp_status status = read_plan(&file->parts[0], &count, &n_tensors, error);
    for (uint32_t i = 1; status == MTP_OK && i < count; i++)
        status = open_part(file, i, count, n_tensors, error);
    if (status == MTP_OK && count > 1 && n_tensors != 0 && n_tensors != file->n_tensors)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: its %" PRIu32 " parts hold %zu tensors in all, but key "
                        "'split.tensors.count' promises %" PRIu32, file->parts[0].label, count,
                        file->n_tensors, n_tensors);
    return status;
}
