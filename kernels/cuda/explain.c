/* explain.c - see explain.h. */
#include "kernels/cuda/explain.h"

#include <stdio.h>

static double mib(size_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static bool is_unsupported(cudaError_t status)
{
    return status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidKernelImage ||
           status == cudaErrorUnsupportedPtxVersion;
}

static void explain_card(struct cuda_message *message, int device, cudaError_t status)
{
    struct cudaDeviceProp card;
    int major = 0, minor = 0;
    const char *name = cudaGetDeviceProperties(&card, device) == cudaSuccess ? card.name : "unknown";
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    snprintf(message->text, sizeof message->text,
             "CUDA device %d (%s, compute capability %d.%d) cannot run this build's code, which is for "
             "capabilities %s and newer ones: %s; configure takes --with-cuda-arch=%d%d", device, name, major,
             minor, MTP_CUDA_ARCH, cudaGetErrorString(status), major, minor);
}

static void explain_memory(struct cuda_message *message, int device, const char *operation)
{
    size_t available = 0, all = 0;
    message->memory = true;
    if (cudaMemGetInfo(&available, &all) == cudaSuccess)
        snprintf(message->text, sizeof message->text,
                 "CUDA device %d has no memory left for %s: %.1f of %.1f MiB are free", device, operation,
                 mib(available), mib(all));
    else
        snprintf(message->text, sizeof message->text, "CUDA device %d has no memory left for %s", device,
                 operation);
}

void cuda_explain(struct cuda_message *message, int device, int layer, const char *operation,
                  cudaError_t status)
{
    message->memory = false;
    if (is_unsupported(status))
        explain_card(message, device, status);
    else if (status == cudaErrorMemoryAllocation)
        explain_memory(message, device, operation);
    else
        snprintf(message->text, sizeof message->text, "CUDA device %d, layer %d: %s failed: %s", device,
                 layer, operation, cudaGetErrorString(status));
    (void)cudaGetLastError(); /* it has been told */
}

void cuda_explain_absence(struct cuda_message *message, bool *there, cudaError_t status, int driver)
{
    const int built = CUDART_VERSION;
    char *text = message->text;
    message->memory = false;
    *there = driver > 0 && status != cudaSuccess && status != cudaErrorNoDevice;
    if (driver == 0)
        snprintf(text, sizeof message->text, "no CUDA device: no NVIDIA driver is installed");
    else if (!*there)
        snprintf(text, sizeof message->text, "no CUDA device: the driver offers none");
    else if (status == cudaErrorInsufficientDriver)
        snprintf(text, sizeof message->text,
                 "the NVIDIA driver is too old: it offers CUDA %d.%d, and this build needs %d.%d",
                 driver / 1000, driver % 1000 / 10, built / 1000, built % 1000 / 10);
    else
        snprintf(text, sizeof message->text, "no CUDA device can be used: %s", cudaGetErrorString(status));
}
