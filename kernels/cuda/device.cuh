/* device.cuh - what the product kernels use of the device, and nothing else: rounded float operations,
 * int8 products, asynchronous copies, exchanges inside a warp. tests/gpu/emulate.hh gives the same names
 * for the host, so that the kernels' own code is tested without a GPU. */
#ifndef MTP_KERNELS_CUDA_DEVICE_CUH
#define MTP_KERNELS_CUDA_DEVICE_CUH

#include "kernels/cuda/headers.h"

#ifdef MTP_CUDA_EMULATED
#include "tests/gpu/emulate.hh"
#else
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define HOST_DEVICE __host__ __device__ __forceinline__
#define DEVICE __device__ __forceinline__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) uint8_t name[]

/* c = A B for 16 rows, 8 columns and 32 elements. Lane 4 g + t holds of A the rows g (a[0], a[2]) and
 * g + 8 (a[1], a[3]), of B the column g, elements 4 t.. in the first word and 16 + 4 t.. in the second;
 * of c the rows g (c[0], c[1]) and g + 8 (c[2], c[3]), columns 2 t and 2 t + 1. */
DEVICE void mma_32(int32_t c[4], const uint32_t a[4], uint2 b)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%10,%10,%10};"
                 : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(0));
}

/* The same from `start` on: c = start + A B. */
DEVICE void mma_32_from(int32_t start, int32_t c[4], const uint32_t a[4], uint2 b)
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(start));
}

/* c += A B. */
DEVICE void mma_32_add(int32_t c[4], const uint32_t a[4], uint2 b)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

/* c = A B for 16 elements, signed times signed and signed times unsigned bytes. */
DEVICE void mma_16(int32_t c[4], uint32_t a0, uint32_t a1, uint32_t b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3},{%4,%5},{%6},{%7,%7,%7,%7};"
                 : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
                 : "r"(a0), "r"(a1), "r"(b), "r"(0));
}
DEVICE void mma_16_unsigned(int32_t c[4], uint32_t a0, uint32_t a1, uint32_t b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.u8.s32 "
                 "{%0,%1,%2,%3},{%4,%5},{%6},{%7,%7,%7,%7};"
                 : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
                 : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

/* 16 bytes to shared memory, past the first cache. */
DEVICE void copy_async(void *shared, const void *global)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global) : "memory");
}
DEVICE void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most N committed groups are under way. */
template <int N>
DEVICE void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Launched to overlap with the kernel before it (product.cu), a kernel may run up to here before that one
 * has ended: what earlier kernels write is read after this, and nothing is written before. Every block
 * comes here, so that a kernel ends after all that went before it. */
DEVICE void wait_for_earlier()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/* The next kernel's blocks may take the place of those that have ended. */
DEVICE void let_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Bytes of a and b picked by the selector's nibbles. */
HOST_DEVICE uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t selector)
{
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, selector);
#else
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return out;
#endif
}

/* Byte i of a word, i being known to the compiler: one instruction, where a shift and a mask are two. */
DEVICE uint32_t byte_of_word(uint32_t word, int i)
{
    return __byte_perm(word, 0, 0x4440 + i);
}
DEVICE int32_t signed_byte_of_word(uint32_t word, int i)
{
    int32_t value;
    asm("prmt.b32 %0, %1, 0, %2;" : "=r"(value) : "r"(word), "r"(0x8880 + 0x1111 * i));
    return value;
}

/* A number that the compiler keeps, rather than compute it anew wherever it is needed. */
DEVICE uint32_t kept_number(uint32_t number)
{
    asm("" : "+r"(number));
    return number;
}

DEVICE float half_to_float(uint16_t bits)
{
    return __half2float(__ushort_as_half(bits));
}
DEVICE float bits_to_float(uint32_t bits)
{
    return __uint_as_float(bits);
}
DEVICE uint32_t float_to_bits(float value)
{
    return __float_as_uint(value);
}
#endif

#endif
