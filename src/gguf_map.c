#include "gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* How browsers, curl wrappers and model hubs' clients call a file they are still writing. */
static const char *const unfinished_suffixes[] = {
    ".part", ".partial", ".incomplete", ".crdownload", ".download", ".downloadInProgress",
    ".opdownload", ".tmp", ".!qB", ".aria2",
};
#define N_SUFFIXES (sizeof unfinished_suffixes / sizeof unfinished_suffixes[0])

const char *gguf_unfinished_suffix(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < N_SUFFIXES; i++) {
        size_t n = strlen(unfinished_suffixes[i]);
        if (length > n && strcmp(path + length - n, unfinished_suffixes[i]) == 0)
            return unfinished_suffixes[i];
    }
    return NULL;
}

bool gguf_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static bool exists_with_suffix(const char *path, const char *suffix)
{
    size_t size = strlen(path) + strlen(suffix) + 1;
    char *name = malloc(size);
    if (name == NULL)
        return false;
    snprintf(name, size, "%s%s", path, suffix);
    bool exists = gguf_exists(name);
    free(name);
    return exists;
}

const char *gguf_unfinished_sibling(const char *path)
{
    for (size_t i = 0; i < N_SUFFIXES; i++) {
        if (exists_with_suffix(path, unfinished_suffixes[i]))
            return unfinished_suffixes[i];
    }
    return NULL;
}

static enum mtp_status set_path(struct gguf_part *part, const char *path, struct mtp_error *error)
{
    part->path = strdup(path);
    if (part->path == NULL)
        return mtp_fail_memory(error, "a file name", strlen(path) + 1);
    size_t length = strlen(path);
    /* The end of a path tells more than its beginning, and the sentence must have room left. */
    if (length < sizeof part->label)
        snprintf(part->label, sizeof part->label, "%s", path);
    else
        snprintf(part->label, sizeof part->label, "...%s",
                 path + length - (sizeof part->label - 4));
    return MTP_OK;
}

static enum mtp_status map_descriptor(struct gguf_part *part, int fd, struct mtp_error *error)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return mtp_fail(error, MTP_ERR_IO, "cannot read %s: %s", part->label, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return mtp_fail(error, MTP_ERR_IO, "%s is a directory; name the .gguf file itself",
                        part->label);
    if (!S_ISREG(info.st_mode))
        return mtp_fail(error, MTP_ERR_IO,
                        "%s is not a regular file; a model cannot be read from a pipe or a device",
                        part->label);
    if (info.st_size == 0)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s is an empty file", part->label);
    if ((uint64_t)info.st_size > SIZE_MAX)
        return mtp_fail(error, MTP_ERR_MEMORY, "%s is too large for this machine's addresses",
                        part->label);
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return mtp_fail(error, errno == ENOMEM ? MTP_ERR_MEMORY : MTP_ERR_IO,
                        "cannot map %s into memory: %s", part->label, strerror(errno));
    part->data = data;
    part->size = (size_t)info.st_size;
    part->mapped = true;
    return MTP_OK;
}

enum mtp_status gguf_part_map(struct gguf_part *part, const char *path, struct mtp_error *error)
{
    enum mtp_status status = set_path(part, path, error);
    if (status != MTP_OK)
        return status;
    /* O_NONBLOCK: opening a named pipe must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mtp_fail(error, MTP_ERR_IO, "cannot open %s: %s", part->label, strerror(errno));
    status = map_descriptor(part, fd, error);
    close(fd);
    if (status == MTP_OK && exists_with_suffix(path, ".aria2"))
        /* aria2 writes in place, often at full size, and removes this file when it is done. */
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is an unfinished download: aria2's control file %s.aria2 is still "
                        "beside it", part->label, part->label);
    return status;
}

enum mtp_status gguf_part_borrow(struct gguf_part *part, const void *data, size_t size,
                                 const char *label, struct mtp_error *error)
{
    enum mtp_status status = set_path(part, label, error);
    if (status != MTP_OK)
        return status;
    if ((uintptr_t)data % GGUF_MIN_ALIGNMENT != 0)
        return mtp_fail(error, MTP_ERR_USAGE, "%s: the bytes must be aligned to %d", label,
                        GGUF_MIN_ALIGNMENT);
    if (size == 0)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s is an empty file", part->label);
    part->data = data;
    part->size = size;
    return MTP_OK;
}

void gguf_part_release(struct gguf_part *part)
{
    if (part->mapped)
        munmap((void *)(uintptr_t)part->data, part->size);
    name_table_free(&part->key_table);
    free(part->keys);
    free(part->path);
    *part = (struct gguf_part){0};
}
