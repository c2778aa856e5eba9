/* attention_few.cuh - the way attention of few rows goes (attention_few.cu). */
#ifndef MTP_KERNELS_CUDA_ATTENTION_FEW_CUH
#define MTP_KERNELS_CUDA_ATTENTION_FEW_CUH

#include "kernels/cuda/attention_parts.cuh"

/* How many heads of queries a block takes, all of one head of keys; 0: these go another way. */
uint32_t cuda_attention_few_heads(const struct attention_args *args);
/* work->together is that number; it divides n_pairs and work->first_pair. At most CUDA_ARRIVALS pairs. */
cudaError_t cuda_launch_attention_few(const struct attention_work *work, unsigned n_pairs,
                                      cudaStream_t stream);

#endif
