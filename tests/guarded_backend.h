/* guarded_backend.h - a device without hardware: the CPU backend behind memory that the host cannot touch.
 * Addresses of that memory are of pages that nobody may read or write; operations reach the same bytes at
 * another address. So a host access to the device's memory ends the program, and so does an operation
 * that is given a pointer to the host's. */
#ifndef TESTS_GUARDED_BACKEND_H
#define TESTS_GUARDED_BACKEND_H

#include "device.h"

struct guarded_device {
    struct backend_source source; /* its user is this */
    uint8_t *guarded, *usable;    /* the two addresses of the memory */
    size_t used;                  /* handed out so far, in order */
    size_t in_use;                /* and not freed */
    uint64_t uploads, downloads, packs;
    uint64_t passes, repeatable;  /* between pass_begin and pass_end; those of a key seen before */
    const char *failed;           /* what the backends' error() says */
};

/* Ends the test on failure. */
void guarded_open(struct guarded_device *device);
void guarded_close(struct guarded_device *device);

#endif
