/* Reads any bytes as a trace to its end. A mutation hardly passes compression and digests; so bytes
 * that begin like a header record are taken as records, and made a trace with the right digests. */
#include <stdint.h>
#include <stdlib.h>

#include "tests/trace_sample.h"
#include "verify/trace_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace_outcome outcome;
    if (size < 1 || data[0] != TRACE_HEADER) {
        trace_read_bytes(&outcome, data, size);
    } else {
        size_t n;
        unsigned char *trace = trace_from_records(data, size, &n);
        trace_read_bytes(&outcome, trace, n);
        free(trace);
    }
    return 0;
}
