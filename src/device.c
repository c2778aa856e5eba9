/* device.c - see device.h. */
#include "device.h"

#include <inttypes.h>

#include "kernels/cpu/backend.h"
#include "kernels/selftest.h"
#ifdef MTP_HAVE_CUDA
#include "kernels/cuda/backend.h"
#endif

static const struct cpu_kernels *choose_kernels(enum mtp_isa isa)
{
    if (isa == MTP_ISA_SCALAR)
        return cpu_kernels_scalar();
#ifdef MTP_HAVE_AVX2
    if (isa == MTP_ISA_AVX2)
        return cpu_kernels_avx2();
#endif
    return cpu_kernels_best();
}

static enum mtp_status open_cpu(void *user, const struct mtp_session_options *options,
                                struct backend **out, struct mtp_error *error)
{
    (void)user;
    const struct cpu_kernels *kernels = choose_kernels(options->isa);
    const char *failed = NULL;
    *out = NULL;
    if (!kernels_selftest(kernels, &failed))
        return mtp_fail(error, MTP_ERR_INTERNAL,
                        "operation %s of the %s kernels gives wrong bits on this machine", failed,
                        kernels->name);
    *out = cpu_backend_open(kernels, options->n_threads);
    return *out != NULL ? MTP_OK
                        : mtp_fail(error, MTP_ERR_MEMORY, "not enough memory for %" PRIu32 " threads",
                                   options->n_threads);
}

static const struct backend_source cpu = {"cpu", open_cpu, NULL};

#ifdef MTP_HAVE_CUDA
enum { CUDA_DEVICE = 0 };

static enum mtp_status open_cuda(void *user, const struct mtp_session_options *options,
                                 struct backend **out, struct mtp_error *error)
{
    (void)user;
    struct cuda_message message = {""};
    *out = cuda_backend_open(CUDA_DEVICE, &message);
    if (*out != NULL && options != NULL && options->fast &&
        !cuda_backend_allow_fast(*out, NULL, &message)) {
        (*out)->ops->close(*out);
        *out = NULL;
    }
    return *out != NULL ? MTP_OK : mtp_fail(error, MTP_ERR_UNSUPPORTED, "%s", message.text);
}

static const struct backend_source cuda = {"cuda", open_cuda, NULL};

/* Whether MTP_DEVICE_AUTO may take a GPU. */
static const bool auto_takes_cuda = false;
#endif

static enum mtp_status cuda_source(const struct backend_source **out, struct mtp_error *error)
{
    *out = NULL;
#ifdef MTP_HAVE_CUDA
    struct cuda_message message = {""};
    if (cuda_device_count(&message) == 0)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED, "%s", message.text);
    *out = &cuda;
    return MTP_OK;
#else
    return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                    "this build has no CUDA backend: configure found no nvcc, or was told --without-cuda");
#endif
}

/* A GPU that offers itself but cannot be opened is no reason not to run. */
static const struct backend_source *automatic(void)
{
#ifdef MTP_HAVE_CUDA
    const struct backend_source *source;
    struct backend *trial = NULL;
    if (auto_takes_cuda && cuda_source(&source, NULL) == MTP_OK &&
        source->open(source->user, NULL, &trial, NULL) == MTP_OK) {
        trial->ops->close(trial);
        return source;
    }
#endif
    return &cpu;
}

enum mtp_status device_source(enum mtp_device device, const struct backend_source **out,
                              struct mtp_error *error)
{
    if (device == MTP_DEVICE_CUDA)
        return cuda_source(out, error);
    *out = device == MTP_DEVICE_CPU ? &cpu : automatic();
    return MTP_OK;
}

uint64_t device_fast_bytes(const struct mtp_session_options *options)
{
#ifdef MTP_HAVE_CUDA
    bool on_cuda = options->device == MTP_DEVICE_CUDA ||
                   (options->device == MTP_DEVICE_AUTO && auto_takes_cuda);
    return options->fast && on_cuda ? cuda_backend_fast_bytes() : 0;
#else
    (void)options;
    return 0;
#endif
}
