/* device.h - where backends come from. A session has one of its own, its shadow (verify/strict.h) and
 * an image of the weights (model_image.c) another of the same source. */
#ifndef MTP_SRC_DEVICE_H
#define MTP_SRC_DEVICE_H

#include "error.h"
#include "kernels/ops.h"

/* Backends of a source whose memory is not the host's share it, and arrange weights alike. */
struct backend_source {
    const char *name; /* of the device: "cpu", "cuda" */
    /* One more backend; on failure *out is NULL. */
    enum mtp_status (*open)(void *user, const struct mtp_session_options *options,
                            struct backend **out, struct mtp_error *error);
    void *user;
};

/* The source that an option asks for. */
enum mtp_status device_source(enum mtp_device device, const struct backend_source **out,
                              struct mtp_error *error);

/* Bytes of the device's memory that options->fast takes beside everything else. */
uint64_t device_fast_bytes(const struct mtp_session_options *options);

#endif
