/* guarded_mtpgen.c - mtpgen whose GPU is the device without hardware (guarded_device.h), for scripts:
 *   GUARDED_LIMIT=N         the device has N bytes
 *   GUARDED_FAIL_ALLOC=N    its N-th allocation finds no memory
 *   GUARDED_FAIL_UPLOAD=N   it fails with the N-th upload
 *   GUARDED_FAIL_PASS=N     it fails with the N-th pass of a few rows
 *   GUARDED_ABSENT=TEXT     there is none, because of TEXT; GUARDED_THERE=1: but something is
 * Memory of it that is not given back ends the program with status 99. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guarded_device.h"

static size_t number(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void open_gpu(void)
{
    guarded_open(&gpu);
    gpu.limit = number("GUARDED_LIMIT");
    gpu.fail_alloc = number("GUARDED_FAIL_ALLOC");
    gpu.fail_upload = number("GUARDED_FAIL_UPLOAD");
    gpu.fail_pass = number("GUARDED_FAIL_PASS");
    gpu_absence = (struct gpu_absence){getenv("GUARDED_ABSENT"), number("GUARDED_THERE") > 0};
}

__attribute__((destructor)) static void close_gpu(void)
{
    if (gpu.in_use == 0)
        return;
    fprintf(stderr, "%zu bytes of the device were not given back\n", gpu.in_use);
    _exit(99);
}
