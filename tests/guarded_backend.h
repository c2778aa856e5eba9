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
    size_t limit;                 /* bytes there are, 0: no matter */
    size_t most;                  /* largest in_use so far */
    size_t allocs;                /* attempts so far */
    size_t fail_alloc;            /* the attempt that finds no memory, counted from 1; 0: none */
    uint64_t fail_pass;           /* the pass with which the device fails, counted from 1; 0: none */
    uint64_t fail_upload;         /* the same for uploads */
};
/* What one backend takes for itself, as its memory() says: so much, and so much a position reserved. */
enum { GUARDED_OWN = 4096, GUARDED_OWN_POSITION = 24, GUARDED_ALLOWANCE = 1 << 16 };

/* Ends the test on failure. */
void guarded_open(struct guarded_device *device);
void guarded_close(struct guarded_device *device);

#endif
