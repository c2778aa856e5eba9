/* memory.c - the CUDA backend's memory: taking it, moving bytes, and waiting for what is under way. */
#include "kernels/cuda/backend_state.h"

#include <string.h>

static void wait_for_stream(struct cuda_backend *cuda)
{
    if (!enter(cuda))
        return;
    if (!cuda->looked && cuda->landing != NULL)
        check(cuda, cudaMemcpyAsync(&cuda->landing->record, cuda->record, sizeof *cuda->record,
                                    cudaMemcpyDeviceToHost, cuda->stream), "download");
    check(cuda, cudaStreamSynchronize(cuda->stream), "an operation");
    cuda->counters.waits++;
    cuda->looked = cuda->landing != NULL;
}

void cuda_synchronize(struct backend *backend)
{
    struct cuda_backend *cuda = self(backend);
    wait_for_stream(cuda);
    if (cuda->stager != NULL) {
        stager_close(cuda->stager);
        cuda->stager = NULL;
    }
}

/* All of it is the device's from the start, whatever its use. */
void *cuda_alloc(struct backend *backend, size_t bytes, enum memory_use use)
{
    struct cuda_backend *cuda = self(backend);
    (void)use;
    void *memory = NULL;
    if (!enter(cuda))
        return NULL;
    cudaError_t status = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (status == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* that memory is short is the caller's to say */
        return NULL;
    }
    check(cuda, status, "allocating memory");
    if (status != cudaSuccess)
        return NULL;
    check(cuda, cudaMemsetAsync(memory, 0, bytes, cuda->stream), "clearing memory");
    return memory;
}

void cuda_free(struct backend *backend, void *memory, size_t bytes)
{
    struct cuda_backend *cuda = self(backend);
    (void)bytes;
    if (memory == NULL)
        return;
    wait_for_stream(cuda); /* operations under way may use it */
    if (cudaSetDevice(cuda->device) == cudaSuccess)
        check(cuda, cudaFree(memory), "freeing memory");
}

static void move(struct backend *backend, void *dst, const void *src, size_t bytes,
                 enum cudaMemcpyKind kind, const char *operation)
{
    struct cuda_backend *cuda = self(backend);
    if (bytes > 0 && enter(cuda))
        check(cuda, cudaMemcpyAsync(dst, src, bytes, kind, cuda->stream), operation);
}

/* Large uploads follow each other: what they go through stays until the backend is waited for. */
static bool upload_staged(struct cuda_backend *cuda, void *dst, const void *src, size_t bytes)
{
    if (bytes < STAGED_BYTES || !enter(cuda))
        return false;
    if (cuda->stager == NULL)
        cuda->stager = stager_open();
    if (cuda->stager != NULL)
        check(cuda, stager_upload(cuda->stager, cuda->stream, dst, src, bytes), "upload");
    return cuda->stager != NULL;
}

/* The host's memory may be page-locked, and then the copy may still be under way. */
void cuda_upload(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    if (upload_staged(self(backend), dst, src, bytes))
        return;
    move(backend, dst, src, bytes, cudaMemcpyHostToDevice, "upload");
    struct cudaPointerAttributes attributes;
    if (bytes == 0 || self(backend)->failed)
        return;
    cudaError_t status = cudaPointerGetAttributes(&attributes, src);
    if (status != cudaSuccess || attributes.type != cudaMemoryTypeUnregistered)
        wait_for_stream(self(backend));
    (void)cudaGetLastError();
}

void cuda_download(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    struct landing *landing = self(backend)->landing;
    bool small = landing != NULL && bytes <= LANDING_BYTES;
    move(backend, small ? landing->bytes : dst, src, bytes, cudaMemcpyDeviceToHost, "download");
    cuda_synchronize(backend);
    if (small && !self(backend)->failed)
        memcpy(dst, landing->bytes, bytes);
}

void cuda_copy(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    move(backend, dst, src, bytes, cudaMemcpyDeviceToDevice, "copy");
}

void cuda_fill(struct backend *backend, void *dst, int byte, size_t bytes)
{
    struct cuda_backend *cuda = self(backend);
    if (bytes > 0 && enter(cuda))
        check(cuda, cudaMemsetAsync(dst, byte, bytes, cuda->stream), "fill");
}

size_t cuda_scratch_bytes(uint32_t n_ctx)
{
    size_t attention = n_ctx > 0 ? cuda_attention_scratch(n_ctx) : 0;
    return attention > CUDA_ARGMAX_SCRATCH ? attention : CUDA_ARGMAX_SCRATCH;
}

/* Never more than memory() has said: the old one goes first. */
bool cuda_reserve(struct backend *backend, uint32_t n_ctx)
{
    struct cuda_backend *cuda = self(backend);
    size_t wanted = cuda_scratch_bytes(n_ctx);
    if (wanted <= cuda->scratch.bytes)
        return true;
    cuda_free(backend, cuda->scratch.data, cuda->scratch.bytes);
    cuda->scratch.data = cuda_alloc(backend, wanted, MEMORY_PARTS);
    cuda->scratch.bytes = wanted;
    if (cuda->scratch.data == NULL) {
        cuda->scratch.bytes = 0;
        return false;
    }
    recorder_close(&cuda->recorder); /* records have the old one */
    memset(&cuda->recorder, 0, sizeof cuda->recorder);
    return !cuda->failed;
}

/* Beside what is allocated by size: the code of kernels, which is loaded when they first run, up to
 * RECORDER_PASSES graphs, and sizes rounded up to 2 MiB. docs/architecture.md has what was measured. */
static const uint64_t allowance = (uint64_t)256 << 20;

void cuda_memory(struct backend *backend, uint32_t n_ctx, struct backend_memory *memory)
{
    struct cuda_backend *cuda = self(backend);
    size_t available = 0, all = 0;
    if (enter(cuda))
        check(cuda, cudaMemGetInfo(&available, &all), "asking for free memory");
    uint64_t fast = cuda->fast != NULL ? cuda_backend_fast_bytes() : 0;
    uint64_t arrivals = CUDA_ARRIVALS * sizeof *cuda->scratch.arrivals;
    uint64_t own = sizeof *cuda->record + arrivals + cuda_scratch_bytes(n_ctx) + fast;
    *memory = (struct backend_memory){available, own, allowance};
}
