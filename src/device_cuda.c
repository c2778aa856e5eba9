/* device_cuda.c - the source of CUDA backends, or why there is none. Tests put a device without hardware in
 * its place (tests/guarded_device.c). */
#include "device.h"

#ifdef MTP_HAVE_CUDA
#include "kernels/cuda/backend.h"

enum { CUDA_DEVICE = 0 };

static enum mtp_status open_cuda(void *user, const struct mtp_session_options *options,
                                 struct backend **out, struct mtp_error *error)
{
    (void)user;
    struct cuda_message message = {"", false};
    *out = cuda_backend_open(CUDA_DEVICE, &message);
    if (*out != NULL && options != NULL && options->fast &&
        !cuda_backend_allow_fast(*out, NULL, &message)) {
        (*out)->ops->close(*out);
        *out = NULL;
    }
    if (*out != NULL)
        return MTP_OK;
    return mtp_fail(error, message.memory ? MTP_ERR_MEMORY : MTP_ERR_UNSUPPORTED, "%s", message.text);
}

static const struct backend_source cuda = {"cuda", open_cuda, NULL};

enum mtp_status device_cuda_source(const struct backend_source **out, bool *there, struct mtp_error *error)
{
    struct cuda_message message = {"", false};
    bool any = cuda_device_count(there, &message) > 0;
    *out = any ? &cuda : NULL;
    return any ? MTP_OK : mtp_fail(error, MTP_ERR_UNSUPPORTED, "%s", message.text);
}
#else
enum mtp_status device_cuda_source(const struct backend_source **out, bool *there, struct mtp_error *error)
{
    *out = NULL;
    *there = false;
    return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                    "this build has no CUDA backend: configure found no nvcc, or was told --without-cuda");
}
#endif
