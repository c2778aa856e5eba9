/* stager.c - see stager.h. */
#include "kernels/cuda/stager.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/parallel.h"

/* Measured on a host with 16 processors (docs/performance.md): more threads are no faster. */
enum { BUFFERS = 4, BUFFER_BYTES = 16 << 20, PIECE_BYTES = 256 << 10, MOST_THREADS = 8 };

struct stager {
    uint8_t *buffers[BUFFERS];
    cudaEvent_t copied[BUFFERS]; /* from them to the device */
    int next;
    struct cpu_pool *pool;
};

static uint32_t threads_to_use(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    long half = online > 1 ? online / 2 : 1;
    return (uint32_t)(half < MOST_THREADS ? half : MOST_THREADS);
}

struct stager *stager_open(void)
{
    struct stager *stager = calloc(1, sizeof *stager);
    if (stager == NULL)
        return NULL;
    stager->pool = cpu_pool_open(threads_to_use(), NULL);
    cudaError_t status = stager->pool != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
    for (int i = 0; i < BUFFERS && status == cudaSuccess; i++) {
        status = cudaHostAlloc((void **)&stager->buffers[i], BUFFER_BYTES, cudaHostAllocDefault);
        if (status == cudaSuccess)
            status = cudaEventCreateWithFlags(&stager->copied[i], cudaEventDisableTiming);
    }
    if (status == cudaSuccess)
        return stager;
    (void)cudaGetLastError();
    stager_close(stager);
    return NULL;
}

void stager_close(struct stager *stager)
{
    if (stager == NULL)
        return;
    for (int i = 0; i < BUFFERS; i++) {
        if (stager->copied[i] != NULL) {
            cudaEventSynchronize(stager->copied[i]);
            cudaEventDestroy(stager->copied[i]);
        }
        cudaFreeHost(stager->buffers[i]);
    }
    if (stager->pool != NULL)
        cpu_pool_close(stager->pool);
    free(stager);
}

struct filling {
    uint8_t *dst;
    const uint8_t *src;
    size_t bytes;
};

static void fill_pieces(const void *work, int64_t begin, int64_t end, struct cpu_task *task)
{
    const struct filling *filling = work;
    size_t from = (size_t)begin * PIECE_BYTES, to = (size_t)end * PIECE_BYTES;
    (void)task;
    to = to < filling->bytes ? to : filling->bytes;
    memcpy(filling->dst + from, filling->src + from, to - from);
}

cudaError_t stager_upload(struct stager *stager, cudaStream_t stream, void *dst, const void *src,
                          size_t bytes)
{
    cudaError_t status = cudaSuccess;
    for (size_t at = 0; at < bytes && status == cudaSuccess; at += BUFFER_BYTES) {
        size_t left = bytes - at, n = left < BUFFER_BYTES ? left : BUFFER_BYTES;
        int i = stager->next;
        stager->next = (i + 1) % BUFFERS;
        status = cudaEventSynchronize(stager->copied[i]);
        if (status != cudaSuccess)
            return status;
        const struct filling filling = {stager->buffers[i], (const uint8_t *)src + at, n};
        size_t pieces = (n + PIECE_BYTES - 1) / PIECE_BYTES;
        parallel_ranges(stager->pool, (int64_t)pieces, 1, fill_pieces, &filling);
        status = cudaMemcpyAsync((uint8_t *)dst + at, stager->buffers[i], n, cudaMemcpyHostToDevice, stream);
        if (status == cudaSuccess)
            status = cudaEventRecord(stager->copied[i], stream);
    }
    return status;
}
