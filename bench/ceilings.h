/* ceilings.h - what this machine could do at most: reading memory, and multiplying in registers with the
 * instructions of the kernels. A measurement is a fraction of these. */
#ifndef MTP_BENCH_CEILINGS_H
#define MTP_BENCH_CEILINGS_H

#include "bench_common.h"

struct ceilings;

/* For the vectors of these kernels, on so many threads; ends the program when memory or threads are
 * short. */
struct ceilings *ceilings_open(const struct cpu_kernels *kernels, uint32_t n_threads);
void ceilings_close(struct ceilings *c);

/* Bytes a second of loads over [data, data + bytes), shared out among the threads once a pass: plain ones,
 * and ones that ask for a page ahead, whichever are faster; as many passes of both as last so many
 * seconds, one each at least. data is 64-byte aligned, bytes a multiple of 4096. */
double ceilings_read(struct ceilings *c, const void *data, size_t bytes, double seconds);

/* Products a second, each with its addition: of int8 (vpdpbusd; by AVX2 vpmaddubsw and an addition of
 * 16 bits, the least that those kernels do), and of float32 (fused multiply-add). */
double ceilings_int8(struct ceilings *c, double seconds);
double ceilings_fp32(struct ceilings *c, double seconds);

/* Bytes of all last-level caches that this process's processors have, and who says so: "sysfs",
 * "sysconf", or "assumed" where the system does not tell. */
size_t last_level_cache(const char **source);

#endif
