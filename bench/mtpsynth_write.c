/* mtpsynth_write.c - threads that make chunks of tensors and write them at their places.
 *
 * The file has another name until it is whole; a failure or a signal removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "mtpsynth.h"

enum { MOST_THREADS = 256 };

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number)
{
    (void)signal_number;
    stop_asked = 1;
}

/* A file-size limit is to be an error of write, not the end of the program. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = ask_to_stop}, before;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN);
}

struct writer {
    const struct synth_plan *plan;
    int fd;
    uint64_t data_at;
    size_t buffer_bytes;
    atomic_uint_least64_t next;
    atomic_int failed; /* errno of the first failure, or 0 */
};

static int write_at(int fd, const uint8_t *data, size_t size, uint64_t at)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, data, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        data += n;
        size -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

/* The tensor that has this chunk: the last one that begins at or before it. */
static const struct synth_tensor *tensor_of(const struct synth_plan *plan, uint64_t chunk)
{
    size_t low = 0, high = plan->n_tensors;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (plan->tensors[middle].first_chunk <= chunk)
            low = middle;
        else
            high = middle;
    }
    return &plan->tensors[low];
}

static int write_chunk(const struct writer *w, uint64_t chunk, uint8_t *buffer)
{
    const struct synth_tensor *t = tensor_of(w->plan, chunk);
    uint64_t per_chunk = synth_rows_per_chunk(t), first = (chunk - t->first_chunk) * per_chunk;
    uint64_t n = t->n_rows - first < per_chunk ? t->n_rows - first : per_chunk;
    for (uint64_t row = 0; row < n; row++)
        synth_make_row(w->plan, t, first + row, buffer + row * t->row_bytes);
    return write_at(w->fd, buffer, n * t->row_bytes, w->data_at + t->offset + first * t->row_bytes);
}

static void *write_chunks(void *context)
{
    struct writer *w = context;
    uint8_t *buffer = malloc(w->buffer_bytes);
    int code = buffer == NULL ? ENOMEM : 0;
    while (code == 0 && !stop_asked && atomic_load(&w->failed) == 0) {
        uint64_t chunk = atomic_fetch_add(&w->next, 1);
        if (chunk >= w->plan->n_chunks)
            break;
        code = write_chunk(w, chunk, buffer);
    }
    free(buffer);
    int none = 0;
    if (code != 0)
        atomic_compare_exchange_strong(&w->failed, &none, code);
    return NULL;
}

static void run_threads(struct writer *w, uint32_t n_threads)
{
    pthread_t threads[MOST_THREADS];
    uint32_t n = 0;
    n_threads = n_threads < MOST_THREADS ? n_threads : MOST_THREADS;
    for (; n + 1 < n_threads; n++)
        if (pthread_create(&threads[n], NULL, write_chunks, w) != 0)
            break; /* the threads there are do the work */
    write_chunks(w);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

static size_t longest_chunk(const struct synth_plan *plan)
{
    uint64_t most = 1;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const struct synth_tensor *t = &plan->tensors[i];
        uint64_t per_chunk = synth_rows_per_chunk(t);
        uint64_t bytes = (t->n_rows < per_chunk ? t->n_rows : per_chunk) * t->row_bytes;
        most = bytes > most ? bytes : most;
    }
    return (size_t)most;
}

static enum mtp_status cannot_write(struct mtp_error *error, const char *path, int code)
{
    return mtp_fail(error, code == ENOMEM ? MTP_ERR_MEMORY : MTP_ERR_IO, "cannot write %s: %s", path,
                    strerror(code));
}

static enum mtp_status write_all(int fd, const struct synth_plan *plan, const struct synth_bytes *header,
                                 const char *path, uint32_t n_threads, struct mtp_error *error)
{
    uint64_t total = header->size + plan->data_bytes;
    struct statvfs space;
    if (fstatvfs(fd, &space) == 0 && (uint64_t)space.f_bavail * space.f_frsize < total)
        return mtp_fail(error, MTP_ERR_IO, "%s takes %" PRIu64 " bytes and its disk has %" PRIu64 " left",
                        path, total, (uint64_t)space.f_bavail * space.f_frsize);
    struct writer w = {.plan = plan, .fd = fd, .data_at = header->size,
                       .buffer_bytes = longest_chunk(plan)};
    int code = write_at(fd, header->data, header->size, 0);
    if (code == 0) {
        run_threads(&w, n_threads);
        code = atomic_load(&w.failed);
    }
    if (stop_asked)
        return mtp_fail(error, MTP_ERR_INTERRUPTED, "interrupted; %s was not written", path);
    if (code == 0 && ftruncate(fd, (off_t)total) != 0) /* behind the last tensor, too */
        code = errno;
    return code == 0 ? MTP_OK : cannot_write(error, path, code);
}

enum mtp_status synth_write(const struct synth_plan *plan, const struct synth_bytes *header,
                            const char *path, uint32_t n_threads, struct mtp_error *error)
{
    struct stat before;
    if (stat(path, &before) == 0 && !S_ISREG(before.st_mode))
        return mtp_fail(error, MTP_ERR_USAGE, "%s is no regular file and cannot become one", path);
    size_t size = strlen(path) + 32;
    char *temporary = malloc(size);
    if (temporary == NULL)
        return mtp_fail_memory(error, "a name", size);
    snprintf(temporary, size, "%s.%ld.tmp", path, (long)getpid());
    catch_signals();
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        enum mtp_status status = cannot_write(error, path, errno);
        free(temporary);
        return status;
    }
    enum mtp_status status = write_all(fd, plan, header, path, n_threads, error);
    if (close(fd) != 0 && status == MTP_OK)
        status = cannot_write(error, path, errno);
    if (status == MTP_OK && rename(temporary, path) != 0)
        status = cannot_write(error, path, errno);
    if (status != MTP_OK)
        unlink(temporary);
    free(temporary);
    return status;
}
