/* explain.h - what the CUDA runtime says, as a sentence that can be acted upon. */
#ifndef MTP_KERNELS_CUDA_EXPLAIN_H
#define MTP_KERNELS_CUDA_EXPLAIN_H

#include <cuda_runtime_api.h>

#include "kernels/cuda/backend.h"

/* `operation` of a layer has failed on a device: a card this build has no code for is named, and memory that
 * is short is counted. */
void cuda_explain(struct cuda_message *message, int device, int layer, const char *operation,
                  cudaError_t status);

/* Why cudaGetDeviceCount gave no device, and whether a driver is there all the same. driver: as
 * cudaDriverGetVersion gives it, 0 for none. */
void cuda_explain_absence(struct cuda_message *message, bool *there, cudaError_t status, int driver);

#endif
