/* device.c - see device.h. */
#include "device.h"

#include <inttypes.h>

#include "kernels/cpu/backend.h"
#include "kernels/selftest.h"

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

enum mtp_status device_source(enum mtp_device device, const struct backend_source **out,
                              struct mtp_error *error)
{
    bool there;
    if (device == MTP_DEVICE_CUDA)
        return device_cuda_source(out, &there, error);
    *out = &cpu;
    return MTP_OK;
}
