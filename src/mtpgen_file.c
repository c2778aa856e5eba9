/* Files that are there whole or not at all, and which of the two a report becomes. */
#include "mtpgen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct target {
    const char *path; /* as given, for sentences */
    char *real;       /* what is replaced, links followed */
    char *temporary;  /* beside it; NULL: a pipe or device, which is written in place */
    FILE *file;
};

static enum mtp_status cannot_write(const struct target *target, struct mtp_error *error)
{
    return mtpgen_fail(error, MTP_ERR_IO, "cannot write %s: %s", target->path, strerror(errno));
}

static bool holds_a_model(const char *path)
{
    char magic[4] = "";
    FILE *file = fopen(path, "re");
    bool found = file != NULL && fread(magic, 1, 4, file) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

static void target_close(struct target *target)
{
    if (target->file != NULL)
        fclose(target->file);
    if (target->temporary != NULL)
        unlink(target->temporary);
    free(target->temporary);
    free(target->real);
    memset(target, 0, sizeof *target);
}

static enum mtp_status target_open(struct target *target, const char *path,
                                   struct mtp_error *error)
{
    struct stat before;
    memset(target, 0, sizeof *target);
    target->path = path;
    bool exists = stat(path, &before) == 0;
    if (exists && !S_ISREG(before.st_mode)) {
        target->file = fopen(path, "we");
        return target->file != NULL ? MTP_OK : cannot_write(target, error);
    }
    if (exists && holds_a_model(path))
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s is a model: it is not overwritten", path);
    target->real = exists ? realpath(path, NULL) : strdup(path);
    size_t size = target->real != NULL ? strlen(target->real) + 32 : 0;
    target->temporary = size > 0 ? malloc(size) : NULL;
    if (target->temporary == NULL) {
        target_close(target);
        return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory to write %s", path);
    }
    snprintf(target->temporary, size, "%s.%ld.tmp", target->real, (long)getpid());
    int fd = open(target->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    target->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (target->file != NULL)
        return MTP_OK;
    enum mtp_status status = cannot_write(target, error);
    if (fd < 0) { /* not ours to remove */
        free(target->temporary);
        target->temporary = NULL;
    } else {
        close(fd);
    }
    target_close(target);
    return status;
}

enum mtp_status mtpgen_check_output(const char *path, struct mtp_error *error)
{
    struct stat before;
    struct target target;
    if (stat(path, &before) == 0 && !S_ISREG(before.st_mode) && !S_ISDIR(before.st_mode))
        return MTP_OK; /* opening a pipe may wait for its reader */
    enum mtp_status status = target_open(&target, path, error);
    if (status == MTP_OK)
        target_close(&target);
    return status;
}

bool mtpgen_report_is_page(const char *path)
{
    size_t length = path != NULL ? strlen(path) : 0;
    return length > 5 && strcmp(path + length - 5, ".html") == 0;
}

enum mtp_status mtpgen_report_save(const struct mtpgen_run *run, enum mtp_status exit_status,
                                   struct mtp_error *error)
{
    const char *path = run->options->report_path;
    struct target target;
    enum mtp_status status = target_open(&target, path, error);
    if (status != MTP_OK)
        return status;
    bool written = mtpgen_report_is_page(path) ? mtpgen_html_print(target.file, run, exit_status)
                                               : mtpgen_json_print(target.file, run, exit_status, false);
    written = written && fflush(target.file) == 0 && !ferror(target.file);
    if (written && target.temporary != NULL)
        written = fsync(fileno(target.file)) == 0 && rename(target.temporary, target.real) == 0;
    if (!written)
        status = cannot_write(&target, error);
    if (written) { /* nothing to remove: it has its name now */
        free(target.temporary);
        target.temporary = NULL;
    }
    target_close(&target);
    return status;
}
