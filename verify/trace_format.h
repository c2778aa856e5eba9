/* trace_format.h - the bytes of a trace, shared by trace_write.c and trace_read.c; docs/traces.md
 * describes them. */
#ifndef MTP_VERIFY_TRACE_FORMAT_H
#define MTP_VERIFY_TRACE_FORMAT_H

#include <string.h>

#include "trace.h"

#define TRACE_MAGIC "MTPTRACE"

enum {
    TRACE_MAGIC_BYTES = 8,
    TRACE_PREFIX_BYTES = TRACE_MAGIC_BYTES + 4, /* magic and format version, not compressed */
    TRACE_RECORD_HEAD = 5,                      /* kind and length of the payload */
    TRACE_RECORD_TAIL = 8,                      /* digest of everything so far */
    TRACE_PROMPT_CHUNK = 4096,                  /* ids a record */
    TRACE_WINDOW_LOG = 20,
    TRACE_MAX_WINDOW_LOG = 23,                  /* what a reader is ready to hold: 8 MiB */
    TRACE_MAX_HEADER = 96 + 3 * TRACE_NAME_BYTES,
    TRACE_MAX_STEP = 8 + 4 * MTP_MAX_DRAFT + 12 * (MTP_MAX_DRAFT + 1),
    TRACE_END_BYTES = 40,
};

enum trace_kind {
    TRACE_HEADER = 'H',
    TRACE_PROMPT = 'P',
    TRACE_STEP = 'S',
    TRACE_ROW = 'R',
    TRACE_END = 'E',
};

static inline void trace_store(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t trace_load(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static inline uint32_t trace_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#endif
