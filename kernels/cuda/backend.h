/* backend.h - the CUDA backend: one device, one stream. Operations are put on the stream and return at
 * once; only download, synchronize, fault, counters, alloc, free and close wait for it. */
#ifndef MTP_KERNELS_CUDA_BACKEND_H
#define MTP_KERNELS_CUDA_BACKEND_H

#include "kernels/ops.h"

/* What went wrong, in one sentence. */
struct cuda_message {
    char text[512];
    bool memory; /* it is memory that is short */
};

/* Devices that can be asked for. Where that is 0, why has the reason, and *there is whether a driver is
 * installed all the same. */
int cuda_device_count(bool *there, struct cuda_message *why);

/* A backend on a device counted from 0; NULL and a message when there is no such device, it is not one
 * of those this build has code for, or memory is short. Used by one thread at a time. */
struct backend *cuda_backend_open(int device, struct cuda_message *message);

/* Passes of fewer rows stay exact; scratch for the weights and for the activations of a product, which are
 * taken piece by piece where they are larger. */
struct cuda_fast_limits {
    int32_t least_rows;
    size_t weight_bytes, input_bytes;
};
/* It pays from some 50 rows on (docs/performance.md). 192 MiB hold a matrix of 17408 x 5120, 64 MiB 1,900
 * rows of 17408. */
#define CUDA_FAST_LIMITS {64, 192 << 20, 64 << 20}

/* Lets products of many rows be inexact (fast.h); limits NULL: the usual ones. False and a message where
 * cuBLAS cannot be had, memory is short or the device is too old; the backend is then as before. */
bool cuda_backend_allow_fast(struct backend *backend, const struct cuda_fast_limits *limits,
                             struct cuda_message *message);
/* Bytes of device memory that the usual ones take. */
size_t cuda_backend_fast_bytes(void);

#endif
