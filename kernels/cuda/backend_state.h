/* backend_state.h - what the parts of the CUDA backend share (backend.c, memory.c). */
#ifndef MTP_KERNELS_CUDA_BACKEND_STATE_H
#define MTP_KERNELS_CUDA_BACKEND_STATE_H

#include "kernels/cuda/backend.h"
#include "kernels/cuda/explain.h"
#include "kernels/cuda/fast.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/stager.h"

/* Where small downloads arrive, the fault record with each, so that the host waits once. */
enum { LANDING_BYTES = 1 << 16 };
struct landing {
    unsigned long long record;
    uint8_t bytes[LANDING_BYTES];
};

/* From so many bytes on, an upload is large (stager.h). */
enum { STAGED_BYTES = 2 << 20 };

struct cuda_backend {
    struct backend base;
    int device;
    cudaStream_t stream;
    unsigned long long *record; /* of faults, on the device */
    struct landing *landing;    /* page-locked memory of the host */
    uint32_t serial;            /* of the next launch; 0: none since fault() was asked */
    bool looked;                /* nothing that may fault has been launched since the host last waited */
    struct numeric_fault fault; /* the first, once it has been seen */
    cudaEvent_t marks[PASS_MARKS];
    struct cuda_scratch scratch;
    struct backend_counters counters;
    struct recorder recorder;
    struct stager *stager;     /* of large uploads, while they go on */
    struct cuda_fast *fast; /* NULL: every product is exact */
    void *fast_memory;
    bool failed;
    struct cuda_message error; /* the first, once failed */
};

static inline struct cuda_backend *self(struct backend *backend)
{
    return (struct cuda_backend *)(void *)backend;
}

/* Keeps the first failure; what comes after one is a consequence. */
static inline void check(struct cuda_backend *cuda, cudaError_t status, const char *operation)
{
    if (status == cudaSuccess || cuda->failed)
        return;
    cuda->failed = true;
    cuda_explain(&cuda->error, cuda->device, (int)cuda->base.layer, operation, status);
}

/* False when nothing more can be done. The current device is a property of the calling thread. */
static inline bool enter(struct cuda_backend *cuda)
{
    if (!cuda->failed)
        check(cuda, cudaSetDevice(cuda->device), "choosing the device");
    return !cuda->failed;
}

/* Of the table of operations (memory.c). */
void cuda_synchronize(struct backend *backend);
void *cuda_alloc(struct backend *backend, size_t bytes, enum memory_use use);
void cuda_free(struct backend *backend, void *memory, size_t bytes);
void cuda_upload(struct backend *backend, void *dst, const void *src, size_t bytes);
void cuda_download(struct backend *backend, void *dst, const void *src, size_t bytes);
void cuda_copy(struct backend *backend, void *dst, const void *src, size_t bytes);
void cuda_fill(struct backend *backend, void *dst, int byte, size_t bytes);
bool cuda_reserve(struct backend *backend, uint32_t n_ctx);
void cuda_memory(struct backend *backend, uint32_t n_ctx, struct backend_memory *memory);
/* Bytes of scratch for operations in contexts of n_ctx positions, 0 none. */
size_t cuda_scratch_bytes(uint32_t n_ctx);

#endif
