/* emulate.hh - runs the product kernels' own code on the host, a block at a time: every thread is a
 * context of its own, switched where threads wait for each other. Stands in for the device's side of
 * kernels/cuda/device.cuh. Slow; finds wrong indices, layouts and orders without a GPU. */
#ifndef MTP_TESTS_GPU_EMULATE_H
#define MTP_TESTS_GPU_EMULATE_H

#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define HOST_DEVICE inline
#define DEVICE inline
#define __global__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define DYNAMIC_SHARED(name) uint8_t *name = emulated.shared

struct uint2 {
    uint32_t x, y;
} __attribute__((aligned(8)));
struct uint4 {
    uint32_t x, y, z, w;
} __attribute__((aligned(16)));
struct float2 {
    float x, y;
} __attribute__((aligned(8)));
static inline uint2 make_uint2(uint32_t x, uint32_t y)
{
    return uint2{x, y};
}
static inline float2 make_float2(float x, float y)
{
    return float2{x, y};
}

struct emulated_index {
    uint32_t x, y;
};
static emulated_index threadIdx, blockIdx, gridDim;

enum { EMULATED_THREADS = 256, EMULATED_STACK = 128 * 1024 };
struct emulated_copy {
    void *to;
    uint8_t bytes[16];
};
struct emulated_thread {
    ucontext_t context;
    jmp_buf place; /* where it waits; a jump, unlike swapcontext, makes no system call */
    bool started, done;
    uint64_t waits[2]; /* how often it has met its warp, the block */
    std::vector<std::vector<emulated_copy>> groups;
    std::vector<emulated_copy> open;
    uint32_t exchanged[2][8]; /* in turn: no lane is two exchanges ahead */
    int turn;
    std::vector<uint8_t> stack;
};
static struct {
    std::vector<emulated_thread> threads;
    ucontext_t main;
    jmp_buf scheduler;
    int running;
    std::function<void()> kernel;
    uint8_t *shared;
} emulated;

static inline emulated_thread &self_thread()
{
    return emulated.threads[(size_t)emulated.running];
}
static inline void emulated_yield()
{
    if (_setjmp(self_thread().place) == 0)
        _longjmp(emulated.scheduler, 1);
    threadIdx.x = (uint32_t)emulated.running;
}
/* Waits until all others of [begin, end) that still run have come here as often. */
static inline void emulated_meet(int kind, int begin, int end)
{
    uint64_t mine = ++self_thread().waits[kind];
    for (bool all = false; !all;) {
        all = true;
        for (int i = begin; i < end; i++)
            all = all &&
                  (emulated.threads[(size_t)i].done || emulated.threads[(size_t)i].waits[kind] >= mine);
        if (!all)
            emulated_yield();
    }
}
static inline int warp_begin()
{
    return emulated.running / 32 * 32;
}
static inline void __syncwarp()
{
    emulated_meet(0, warp_begin(), warp_begin() + 32);
}
static inline void __syncthreads()
{
    emulated_meet(1, 0, EMULATED_THREADS);
}

static inline void exchange(const uint32_t *words, int n)
{
    self_thread().turn ^= 1;
    memcpy(self_thread().exchanged[self_thread().turn], words, 4 * (size_t)n);
    __syncwarp();
}
static inline const uint32_t *of_lane(int lane)
{
    return emulated.threads[(size_t)(warp_begin() + lane)].exchanged[self_thread().turn];
}

template <class T>
static inline T shuffled(T value, int from)
{
    uint32_t word;
    memcpy(&word, &value, 4);
    exchange(&word, 1);
    if (from >= 0 && from < 32)
        memcpy(&value, of_lane(from), 4);
    return value;
}
template <class T>
static inline T __shfl_sync(uint32_t, T v, int from)
{
    return shuffled(v, from);
}
template <class T>
static inline T __shfl_up_sync(uint32_t, T v, int d)
{
    return shuffled(v, (int)threadIdx.x % 32 - d);
}
template <class T>
static inline T __shfl_down_sync(uint32_t, T v, int d)
{
    return shuffled(v, (int)threadIdx.x % 32 + d);
}
template <class T>
static inline T __shfl_xor_sync(uint32_t, T v, int d)
{
    return shuffled(v, (int)threadIdx.x % 32 ^ d);
}
static inline int32_t __reduce_add_sync(uint32_t, int32_t v)
{
    exchange((uint32_t *)&v, 1);
    uint32_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += of_lane(i)[0];
    return (int32_t)sum;
}

static inline int byte_of(uint32_t word, int i, bool is_signed)
{
    int byte = (int)(word >> 8 * i & 255);
    return is_signed && byte > 127 ? byte - 256 : byte;
}
static inline int32_t __dp4a(int a, int b, int32_t c)
{
    for (int i = 0; i < 4; i++)
        c += byte_of((uint32_t)a, i, true) * byte_of((uint32_t)b, i, true);
    return c;
}

/* The layout of the PTX manual for m16n8k16 (n_words 1) and m16n8k32 (2) of bytes: element k of row r of
 * A is byte k % 4 of word (r >= 8) + 2 (k / 16) of lane 4 (r % 8) + k % 16 / 4. */
static inline void emulated_mma(int32_t c[4], const uint32_t *a, const uint32_t *b, int n_words,
                                bool b_signed)
{
    uint32_t words[6];
    memcpy(words, a, 8 * (size_t)n_words);
    memcpy(words + 4, b, 4 * (size_t)n_words);
    exchange(words, 6);
    const int lane = (int)threadIdx.x % 32;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
        c[i] = 0;
        for (int k = 0; k < 16 * n_words; k++)
            c[i] += byte_of(of_lane(row % 8 * 4 + k % 16 / 4)[row / 8 + 2 * (k / 16)], k % 4, true) *
                    byte_of(of_lane(column * 4 + k % 16 / 4)[4 + k / 16], k % 4, b_signed);
    }
}
static inline void mma_32(int32_t c[4], const uint32_t a[4], uint2 b)
{
    emulated_mma(c, a, &b.x, 2, true);
}
static inline void mma_32_from(int32_t start, int32_t c[4], const uint32_t a[4], uint2 b)
{
    emulated_mma(c, a, &b.x, 2, true);
    for (int i = 0; i < 4; i++)
        c[i] += start;
}
static inline void mma_32_add(int32_t c[4], const uint32_t a[4], uint2 b)
{
    int32_t product[4];
    mma_32(product, a, b);
    for (int i = 0; i < 4; i++)
        c[i] += product[i];
}
static inline void mma_16(int32_t c[4], uint32_t a0, uint32_t a1, uint32_t b)
{
    const uint32_t a[2] = {a0, a1};
    emulated_mma(c, a, &b, 1, true);
}
static inline void mma_16_unsigned(int32_t c[4], uint32_t a0, uint32_t a1, uint32_t b)
{
    const uint32_t a[2] = {a0, a1};
    emulated_mma(c, a, &b, 1, false);
}

/* A copy arrives when its group is waited for, not before. */
static inline void copy_async(void *to, const void *from)
{
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0)
        __builtin_trap();
    emulated_copy copy = {to, {}};
    memcpy(copy.bytes, from, 16);
    self_thread().open.push_back(copy);
}
static inline void copy_commit()
{
    self_thread().groups.push_back(self_thread().open);
    self_thread().open.clear();
}
template <int N>
static inline void copy_wait()
{
    auto &groups = self_thread().groups;
    while (groups.size() > N) {
        for (const emulated_copy &copy : groups.front())
            memcpy(copy.to, copy.bytes, 16);
        groups.erase(groups.begin());
    }
}

static inline void wait_for_earlier()
{
}
static inline void let_next_begin()
{
}

static inline uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return out;
}
static inline uint32_t byte_of_word(uint32_t word, int i)
{
    return word >> 8 * i & 255;
}
static inline int32_t signed_byte_of_word(uint32_t word, int i)
{
    return byte_of(word, i, true);
}
static inline uint32_t kept_number(uint32_t number)
{
    return number;
}
extern "C" float f16_to_f32(uint16_t half);
static inline float half_to_float(uint16_t bits)
{
    return f16_to_f32(bits);
}
static inline float bits_to_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline uint32_t float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __int2float_rn(int32_t a)
{
    return (float)a;
}

static inline void emulated_entry()
{
    threadIdx.x = (uint32_t)emulated.running;
    emulated.kernel();
    self_thread().done = true;
    _longjmp(emulated.scheduler, 1);
}

/* Lets thread i run until it waits or ends. */
static inline void emulated_resume(int i)
{
    emulated_thread &thread = emulated.threads[(size_t)i];
    emulated.running = i;
    if (thread.done || _setjmp(emulated.scheduler) != 0)
        return;
    if (thread.started)
        _longjmp(thread.place, 1);
    thread.started = true;
    setcontext(&thread.context);
}

/* One block after the other. */
static inline void emulate(uint32_t grid_x, uint32_t grid_y, size_t shared_bytes,
                           std::function<void()> kernel)
{
    emulated.kernel = kernel;
    emulated.threads.resize(EMULATED_THREADS);
    std::vector<uint8_t> shared(shared_bytes + 64, 0xa5);
    emulated.shared = (uint8_t *)(((uintptr_t)shared.data() + 63) / 64 * 64);
    gridDim = {grid_x, grid_y};
    for (uint32_t block = 0; block < grid_x * grid_y; block++) {
        blockIdx = {block % grid_x, block / grid_x};
        for (auto &thread : emulated.threads) {
            thread.stack.resize(EMULATED_STACK);
            thread.started = thread.done = false;
            thread.turn = 0;
            thread.waits[0] = thread.waits[1] = 0;
            thread.groups.clear();
            getcontext(&thread.context);
            thread.context.uc_stack.ss_sp = thread.stack.data();
            thread.context.uc_stack.ss_size = thread.stack.size();
            thread.context.uc_link = &emulated.main; /* never reached */
            makecontext(&thread.context, emulated_entry, 0);
        }
        for (bool all = false; !all;) {
            all = true;
            for (int i = 0; i < EMULATED_THREADS; i++) {
                emulated_resume(i);
                all = all && emulated.threads[(size_t)i].done;
            }
        }
    }
}

#endif
