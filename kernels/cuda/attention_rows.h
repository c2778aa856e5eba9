/* attention_rows.h - the way attention of many rows goes (attention_rows.cu). */
#ifndef MTP_KERNELS_CUDA_ATTENTION_ROWS_H
#define MTP_KERNELS_CUDA_ATTENTION_ROWS_H

#include "kernels/cuda/launch.h"

/* Whether it takes these, with that much scratch: not in contexts so long that few blocks have room. */
bool cuda_attention_takes_rows(const struct attention_args *args, struct cuda_scratch scratch);
/* Bytes of scratch that let many blocks run at once. */
size_t cuda_attention_rows_scratch(uint32_t n_ctx);
cudaError_t cuda_launch_attention_rows(const struct attention_args *args, struct cuda_scratch scratch,
                                       cudaStream_t stream);

#endif
