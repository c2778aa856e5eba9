/* guarded_device.c - see guarded_device.h. */
#include "guarded_device.h"

struct guarded_device gpu;
struct gpu_absence gpu_absence;

enum mtp_status device_cuda_source(const struct backend_source **out, bool *there, struct mtp_error *error)
{
    *there = gpu_absence.why == NULL || gpu_absence.there;
    *out = gpu_absence.why == NULL ? &gpu.source : NULL;
    return *out != NULL ? MTP_OK : mtp_fail(error, MTP_ERR_UNSUPPORTED, "%s", gpu_absence.why);
}
