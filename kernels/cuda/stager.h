/* stager.h - large uploads from memory that is not page-locked: threads of the host fill one page-locked
 * buffer while the device copies from the other. */
#ifndef MTP_KERNELS_CUDA_STAGER_H
#define MTP_KERNELS_CUDA_STAGER_H

#include <cuda_runtime_api.h>
#include <stddef.h>

struct stager;

/* For the current device. NULL when memory or threads are short: uploads then go as they are. */
struct stager *stager_open(void);
void stager_close(struct stager *stager);

/* Puts the copy on the stream. When it returns, src has been read; dst is written in stream order. */
cudaError_t stager_upload(struct stager *stager, cudaStream_t stream, void *dst, const void *src,
                          size_t bytes);

#endif
