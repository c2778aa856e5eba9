/* test_cuda_sessions.c - whole sessions on a device: the runs of tests/device_runs.h. Status 77 and a reason
 * without one. */
#include <stdio.h>

#include "tests/device_runs.h"

int main(void)
{
    const struct backend_source *source;
    struct mtp_error error;
    if (device_source(MTP_DEVICE_CUDA, &source, &error) != MTP_OK) {
        printf("%s\n", error.message);
        return 77;
    }
    return device_runs(source, "runs on a CUDA device");
}
