/* Opens any bytes as a model file and uses all of it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_internal.h"
#include "tests/gguf_sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *file;
    struct mtp_error error = {MTP_OK, ""};
    enum mtp_status status = gguf_open_memory(&file, data, size, "fuzz.gguf", &error);
    if (status == MTP_OK) {
        volatile uint64_t sum = gguf_walk(file);
        (void)sum;
        gguf_close(file);
    } else if (file != NULL || error.status != status || strlen(error.message) < 10) {
        abort(); /* a failure owes a sentence */
    }
    return 0;
}
