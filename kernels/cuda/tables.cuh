/* tables.cuh - the look-up tables of the IQ types in the device's memory: the same file of numbers as
 * the CPU's. */
#ifndef MTP_KERNELS_CUDA_TABLES_CUH
#define MTP_KERNELS_CUDA_TABLES_CUH

#include "kernels/cuda/device.cuh"

#ifdef MTP_CUDA_EMULATED
extern "C" {
#include "kernels/cpu/scalar/iq_tables.h"
}
#define DEVICE_TABLE(name) name
#else
#include "kernels/cpu/scalar/iq_tables.h"
#pragma nv_diag_suppress 177 /* a source without IQ types uses none of them */
namespace device_tables {
/* Every definition of that file begins with const and is of the whole program: made the device's and
 * this unit's. */
#define const static __device__ const
#include "kernels/cpu/scalar/iq_tables.c"
#undef const
}
#pragma nv_diag_default 177
#define DEVICE_TABLE(name) device_tables::name
#endif

#endif
