/* headers.h - the C headers of the kernels, for C++. */
#ifndef MTP_KERNELS_CUDA_HEADERS_H
#define MTP_KERNELS_CUDA_HEADERS_H

#ifdef __cplusplus
#ifndef _Alignas
#define _Alignas alignas
#endif
extern "C" {
#endif
#include "kernels/ops.h"
#include "kernels/types.h"
#ifdef __cplusplus
}
#endif

#endif
