/* ceilings.c - see ceilings.h. */
#define _GNU_SOURCE
#include "ceilings.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef MTP_HAVE_AVX2
#include <immintrin.h>
#endif

#include "kernels/cpu/parallel.h"

enum { PAGE = 4096, CHAINS = 12, TASKS_A_THREAD = 8 };

/* Defines name(turns), each turn of which adds a product to CHAINS sums. They are variables of their own:
 * elements of an array would pass through memory at every turn where the loop over them is not unrolled.
 * The empty assembly keeps the compiler from seeing through them and from multiplying once for several. */
#define CHAIN(s, add, in_register)                                                                 \
    s = add(s, w, x);                                                                              \
    __asm__ volatile("" : in_register(s), in_register(w));
#define DEFINE_TURNS(name, attributes, type, in_register, zero, factor, add)                       \
    attributes static void name(int64_t turns)                                                     \
    {                                                                                              \
        type w = factor, x = factor;                                                               \
        type a = zero, b = zero, c = zero, d = zero, e = zero, f = zero;                           \
        type g = zero, h = zero, i = zero, j = zero, k = zero, l = zero;                           \
        __asm__ volatile("" : in_register(x));                                                     \
        for (int64_t turn = 0; turn < turns; turn++) {                                             \
            CHAIN(a, add, in_register) CHAIN(b, add, in_register) CHAIN(c, add, in_register)       \
            CHAIN(d, add, in_register) CHAIN(e, add, in_register) CHAIN(f, add, in_register)       \
            CHAIN(g, add, in_register) CHAIN(h, add, in_register) CHAIN(i, add, in_register)       \
            CHAIN(j, add, in_register) CHAIN(k, add, in_register) CHAIN(l, add, in_register)       \
        }                                                                                          \
    }

/* Work of one thread: pages read, or turns of CHAINS independent products. Its result only keeps the
 * compiler from dropping the work. */
typedef uint64_t read_fn(const void *data, size_t bytes, size_t ahead);
typedef void turns_fn(int64_t turns);

struct ceilings {
    struct cpu_pool *pool;
    uint32_t n_threads;
    read_fn *read;
    turns_fn *int8, *fp32;
    double int8_products, fp32_products; /* of one turn */
};

/* ---- plain C ------------------------------------------------------------------------------ */

static uint64_t read_scalar(const void *data, size_t bytes, size_t ahead)
{
    const uint64_t *words = data;
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= bytes / 8; i += 8) {
        if (ahead > 0)
            __builtin_prefetch(words + i + ahead / 8);
        sum += words[i] ^ words[i + 1] ^ words[i + 2] ^ words[i + 3] ^ words[i + 4] ^ words[i + 5] ^
               words[i + 6] ^ words[i + 7];
    }
    return sum;
}

#if defined(__x86_64__)
#define FLOAT_REGISTER "+x"
#elif defined(__aarch64__)
#define FLOAT_REGISTER "+w"
#else
#define FLOAT_REGISTER "+m"
#endif
#define ADD_INT(s, w, x) ((s) + (w) * (x))
#define ADD_FLOAT(s, w, x) fmaf(w, x, s)
DEFINE_TURNS(int8_scalar, , uint32_t, "+r", 0, 3, ADD_INT)
DEFINE_TURNS(fp32_scalar, , float, FLOAT_REGISTER, 0.0f, 0.5f, ADD_FLOAT)

/* ---- AVX2 ---------------------------------------------------------------------------------- */

#ifdef MTP_HAVE_AVX2
__attribute__((target("avx2"))) static uint64_t read_avx2(const void *data, size_t bytes, size_t ahead)
{
    const __m256i *at = data, *end = at + bytes / sizeof *at;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (; at < end; at += 4) {
        if (ahead > 0) {
            __builtin_prefetch((const uint8_t *)at + ahead);
            __builtin_prefetch((const uint8_t *)at + ahead + 64);
        }
        a = _mm256_xor_si256(a, _mm256_load_si256(at));
        b = _mm256_xor_si256(b, _mm256_load_si256(at + 1));
        c = _mm256_xor_si256(c, _mm256_load_si256(at + 2));
        d = _mm256_xor_si256(d, _mm256_load_si256(at + 3));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}

#define ADD_INT8_AVX2(s, w, x) _mm256_add_epi16(s, _mm256_maddubs_epi16(w, x))
#define ADD_FP32_AVX2(s, w, x) _mm256_fmadd_ps(w, x, s)
DEFINE_TURNS(int8_avx2, __attribute__((target("avx2"))), __m256i, "+x", _mm256_setzero_si256(),
             _mm256_set1_epi8(3), ADD_INT8_AVX2)
DEFINE_TURNS(fp32_avx2, __attribute__((target("avx2,fma"))), __m256, "+x", _mm256_setzero_ps(),
             _mm256_set1_ps(0.5f), ADD_FP32_AVX2)
#endif

/* ---- AVX-512 ------------------------------------------------------------------------------- */

#ifdef MTP_HAVE_AVX512
__attribute__((target("avx512f"))) static uint64_t read_avx512(const void *data, size_t bytes, size_t ahead)
{
    const uint8_t *at = data, *end = at + bytes;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (; at < end; at += 4 * 64) {
        for (size_t line = 0; ahead > 0 && line < 4 * 64; line += 64)
            __builtin_prefetch(at + ahead + line);
        a = _mm512_xor_si512(a, _mm512_load_si512(at));
        b = _mm512_xor_si512(b, _mm512_load_si512(at + 64));
        c = _mm512_xor_si512(c, _mm512_load_si512(at + 128));
        d = _mm512_xor_si512(d, _mm512_load_si512(at + 192));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    return (uint64_t)_mm512_reduce_or_epi64(a);
}

#define ADD_INT8_AVX512(s, w, x) _mm512_dpbusd_epi32(s, w, x)
#define ADD_FP32_AVX512(s, w, x) _mm512_fmadd_ps(w, x, s)
DEFINE_TURNS(int8_avx512, __attribute__((target("avx512f,avx512vnni"))), __m512i, "+v",
             _mm512_setzero_si512(), _mm512_set1_epi8(3), ADD_INT8_AVX512)
DEFINE_TURNS(fp32_avx512, __attribute__((target("avx512f"))), __m512, "+v", _mm512_setzero_ps(),
             _mm512_set1_ps(0.5f), ADD_FP32_AVX512)
#endif

/* ---- measuring ------------------------------------------------------------------------------ */

struct ceilings *ceilings_open(const struct cpu_kernels *kernels, uint32_t n_threads)
{
    struct ceilings *c = bench_need(sizeof *c);
    *c = (struct ceilings){cpu_pool_open(n_threads, NULL), n_threads, read_scalar, int8_scalar,
                           fp32_scalar, CHAINS, CHAINS};
    if (c->pool == NULL) {
        fprintf(stderr, "%s: cannot start %u threads\n", program_invocation_short_name, n_threads);
        exit(1);
    }
    (void)kernels;
#ifdef MTP_HAVE_AVX2
    if (kernels == cpu_kernels_avx2())
        *c = (struct ceilings){c->pool, n_threads, read_avx2, int8_avx2, fp32_avx2,
                               32 * CHAINS, 8 * CHAINS};
#endif
#ifdef MTP_HAVE_AVX512
    if (kernels == cpu_kernels_avx512())
        *c = (struct ceilings){c->pool, n_threads, read_avx512, int8_avx512, fp32_avx512,
                               64 * CHAINS, 16 * CHAINS};
#endif
    return c;
}

void ceilings_close(struct ceilings *c)
{
    cpu_pool_close(c->pool);
    free(c);
}

struct reading {
    read_fn *read;
    const uint8_t *data;
    size_t ahead; /* bytes that are asked for ahead of reading; 0 leaves it to the processor */
};

static void read_range(const void *work, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    const struct reading *r = work;
    uint64_t sum = r->read(r->data + begin * PAGE, (size_t)(end - begin) * PAGE, r->ahead);
    __asm__ volatile("" : : "r"(sum));
}

static double read_rate(struct ceilings *c, const struct reading *work, size_t bytes, double seconds)
{
    double start = bench_now(c->n_threads), taken;
    size_t passes = 0;
    do {
        parallel_ranges(c->pool, (int64_t)(bytes / PAGE), 1, read_range, work);
        passes++;
        taken = bench_now(c->n_threads) - start;
    } while (taken < seconds || taken <= 0.0);
    return (double)bytes * (double)passes / taken;
}

double ceilings_read(struct ceilings *c, const void *data, size_t bytes, double seconds)
{
    double plain = read_rate(c, &(struct reading){c->read, data, 0}, bytes, seconds / 2);
    double ahead = read_rate(c, &(struct reading){c->read, data, PAGE}, bytes, seconds / 2);
    return plain > ahead ? plain : ahead;
}

struct turning {
    turns_fn *run;
    int64_t turns;
};

static void turns_range(const void *work, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    const struct turning *t = work;
    t->run((end - begin) * t->turns);
}

/* Twice as many turns until they last long enough: starting is then no part of it. */
static double rate(struct ceilings *c, turns_fn *run, double products, double seconds)
{
    struct turning work = {run, 64};
    int64_t tasks = (int64_t)c->n_threads * TASKS_A_THREAD;
    for (;; work.turns *= 2) {
        double start = bench_now(c->n_threads);
        parallel_ranges(c->pool, tasks, 1, turns_range, &work);
        double taken = bench_now(c->n_threads) - start;
        if (taken >= seconds && taken > 0.0)
            return products * (double)tasks * (double)work.turns / taken;
    }
}

double ceilings_int8(struct ceilings *c, double seconds)
{
    return rate(c, c->int8, c->int8_products, seconds);
}

double ceilings_fp32(struct ceilings *c, double seconds)
{
    return rate(c, c->fp32, c->fp32_products, seconds);
}

/* ---- caches --------------------------------------------------------------------------------- */

static bool read_cache_file(int cpu, int index, const char *name, long *value, char *unit)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", cpu, index, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    *unit = '\0';
    bool read = fscanf(file, "%ld%c", value, unit) >= 1;
    fclose(file);
    return read;
}

/* Bytes of the cache farthest from this processor, and the first processor that shares it. */
static size_t cache_of(int cpu, int *first)
{
    long level, best = 0, size, shared;
    char unit;
    size_t bytes = 0;
    for (int index = 0; read_cache_file(cpu, index, "level", &level, &unit); index++) {
        if (level < best || !read_cache_file(cpu, index, "size", &size, &unit) || size <= 0)
            continue;
        best = level;
        bytes = (size_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
        *first = read_cache_file(cpu, index, "shared_cpu_list", &shared, &unit) ? (int)shared : cpu;
    }
    return bytes;
}

size_t last_level_cache(const char **source)
{
    cpu_set_t allowed, counted;
    CPU_ZERO(&counted);
    size_t total = 0;
    *source = "sysfs";
    for (int cpu = 0; sched_getaffinity(0, sizeof allowed, &allowed) == 0 && cpu < CPU_SETSIZE; cpu++) {
        int first = cpu;
        size_t bytes = CPU_ISSET((size_t)cpu, &allowed) ? cache_of(cpu, &first) : 0;
        if (bytes > 0 && first >= 0 && first < CPU_SETSIZE && !CPU_ISSET((size_t)first, &counted)) {
            CPU_SET((size_t)first, &counted);
            total += bytes;
        }
    }
    if (total > 0)
        return total;
    *source = "sysconf";
#ifdef _SC_LEVEL3_CACHE_SIZE
    long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (l3 > 0 || l2 > 0)
        return (size_t)(l3 > 0 ? l3 : l2);
#endif
    *source = "assumed";
    return (size_t)32 << 20;
}
