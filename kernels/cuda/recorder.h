/* recorder.h - passes recorded as CUDA graphs. A pass whose operations and arguments depend on a key alone
 * is run as it is the first time (modules are loaded then), recorded the second, and from then on put on the
 * stream by one call. */
#ifndef MTP_KERNELS_CUDA_RECORDER_H
#define MTP_KERNELS_CUDA_RECORDER_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"

/* More keys than these are run as they are. */
enum { RECORDER_PASSES = 128 };

struct recorded_pass {
    uint64_t key;
    bool seen;                        /* run once as it is */
    cudaGraphExec_t graph;            /* NULL until it is recorded */
    uint32_t first_serial, end_serial; /* fault serial numbers it takes */
    struct backend_counters counters; /* what a repetition adds */
};

struct recorder {
    struct recorded_pass passes[RECORDER_PASSES];
    struct recorded_pass *recording; /* or NULL */
    bool off;                        /* recording has failed once */
    uint64_t repeated;               /* passes put on the stream by one call */
};

/* The pass of a key, made when there is room; NULL without. */
struct recorded_pass *recorder_find(struct recorder *recorder, uint64_t key);
/* Begins and ends to record what is put on the stream. On failure nothing that was to be recorded has run,
 * and the recorder is off. */
cudaError_t recorder_begin(struct recorder *recorder, struct recorded_pass *pass, cudaStream_t stream);
cudaError_t recorder_end(struct recorder *recorder, cudaStream_t stream);
void recorder_close(struct recorder *recorder);

#endif
