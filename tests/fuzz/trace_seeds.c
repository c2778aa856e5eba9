/* Writes the seed corpus of fuzz_trace into a directory: trace_seeds tests/fuzz/corpus/trace */
#include <stdio.h>
#include <stdlib.h>

#include "tests/trace_sample.h"

static int failures;

static void save(const char *directory, const char *name, const void *bytes, size_t size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    bool whole = file != NULL && fwrite(bytes, 1, size, file) == size;
    if (file == NULL || fclose(file) != 0 || !whole) {
        perror(path);
        failures++;
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: trace_seeds DIRECTORY\n");
        return 2;
    }
    static const char *const names[2][3] = {{"digests.trace", "digests.records", "cut.trace"},
                                            {"logits.trace", "logits.records", "cut-logits.trace"}};
    for (int logits = 0; logits < 2; logits++) {
        char path[1024];
        struct mtp_error error;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", argv[1], names[logits][0]);
        if (trace_sample_write(path, logits == 1, &error) != MTP_OK) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        unsigned char *bytes = read_whole_file(path, &size);
        size_t records_size = 0;
        unsigned char *records = bytes != NULL ? trace_to_records(bytes, size, &records_size) : NULL;
        if (records == NULL)
            return 1;
        save(argv[1], names[logits][1], records, records_size);
        free(records);
        save(argv[1], names[logits][2], bytes, size * 2 / 3);
        free(bytes);
    }
    save(argv[1], "newer.trace", "MTPTRACE\2\0\0\0", 12);
    save(argv[1], "empty-frame.trace", "MTPTRACE\1\0\0\0\x28\xb5\x2f\xfd\x24\0\1\0\0\x99\xe9\xd8\x51",
         25);
    save(argv[1], "text", "just text", 9);
    save(argv[1], "nothing", "", 0);
    return failures > 0;
}
