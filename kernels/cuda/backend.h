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

#endif
