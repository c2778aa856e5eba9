/* guarded_device.h - the device without hardware (guarded_backend.h) in the place of a GPU: a program that
 * links guarded_device.c finds it wherever it asks for CUDA. */
#ifndef TESTS_GUARDED_DEVICE_H
#define TESTS_GUARDED_DEVICE_H

#include "guarded_backend.h"

/* To be opened and closed by the program. */
extern struct guarded_device gpu;

/* What asking for it gives instead, and whether there is something then. */
struct gpu_absence {
    const char *why; /* NULL: it is there */
    bool there;
};
extern struct gpu_absence gpu_absence;

#endif
