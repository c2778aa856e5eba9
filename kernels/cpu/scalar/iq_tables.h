/* iq_tables.h - grids of the IQ2 and IQ3 types (facts of the file format, see iq_tables.c). */
#ifndef MTP_KERNELS_CPU_SCALAR_IQ_TABLES_H
#define MTP_KERNELS_CPU_SCALAR_IQ_TABLES_H

#include "kernels/fmath.h"
#include "kernels/types.h"

/* Storage of a table: what compiles iq_tables.c for a device defines its own. */
#ifndef IQ_TABLE
#define IQ_TABLE const

/* Magnitudes of 8 neighbouring weights, the first in the lowest byte. */
extern const uint64_t iq2xxs_grid[256];
extern const uint64_t iq2xs_grid[512];
extern const uint64_t iq2s_grid[1024];
/* Magnitudes of 4 neighbouring weights, the first in the lowest byte. */
extern const uint32_t iq3xxs_grid[256];
extern const uint32_t iq3s_grid[512];

#endif

/* Signs of 8 weights (bit i set: weight i is negative) from the 7 stored: the eighth makes the
 * number of minus signs even. */
static inline MTP_HOST_DEVICE uint32_t iq_signs(uint32_t stored)
{
    uint32_t parity = stored ^ stored >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return (stored & 127) | (parity & 1) << 7;
}

#endif
