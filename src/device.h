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

/* The source of CUDA backends. Where there is none: why, and whether a device or driver is there that cannot
 * be used. (device_cuda.c) */
enum mtp_status device_cuda_source(const struct backend_source **out, bool *there, struct mtp_error *error);

/* The source that an option asks for; of MTP_DEVICE_AUTO, which session_open resolves, the CPU's. */
enum mtp_status device_source(enum mtp_device device, const struct backend_source **out,
                              struct mtp_error *error);

#endif
