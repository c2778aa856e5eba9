/* retouch_trace - a trace that lies, with right checksums, for test_mtptrace.sh.
 *     retouch_trace IN OUT KIND INDEX OFFSET VALUE
 * Byte OFFSET of the payload of record INDEX of kind KIND (H, P, S, R, E) becomes VALUE. */
#include <stdlib.h>

#include "tests/trace_sample.h"
#include "verify/trace_format.h"

int main(int argc, char **argv)
{
    size_t size, n, at = 0, out_size;
    unsigned char *trace = argc == 7 ? read_whole_file(argv[1], &size) : NULL;
    unsigned char *records = trace != NULL ? trace_to_records(trace, size, &n) : NULL;
    if (records == NULL)
        return 2;
    unsigned long index = strtoul(argv[4], NULL, 10);
    while (at < n && (records[at] != (unsigned char)argv[3][0] || index-- > 0))
        at += TRACE_RECORD_HEAD + (size_t)trace_load(records + at + 1, 4);
    size_t offset = at + TRACE_RECORD_HEAD + strtoul(argv[5], NULL, 10);
    if (offset >= n)
        return 2;
    records[offset] = (unsigned char)strtoul(argv[6], NULL, 10);
    unsigned char *out = trace_from_records(records, n, &out_size);
    FILE *file = fopen(argv[2], "wb");
    bool whole = file != NULL && fwrite(out, 1, out_size, file) == out_size;
    if (file == NULL || fclose(file) != 0 || !whole)
        return 3;
    free(out);
    free(records);
    free(trace);
    return 0;
}
