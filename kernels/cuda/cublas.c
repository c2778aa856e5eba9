/* cublas.c - see cublas.h. The signatures and numbers are those of cublas_api.h and library_types.h of CUDA
 * 12 and 13, which are the same. */
#define _GNU_SOURCE /* RTLD_NODELETE */
#include "kernels/cuda/cublas.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum { OP_NONE = 0, OP_TRANSPOSED = 1 };
enum { TYPE_F32 = 0, TYPE_BF16 = 14 };
enum { COMPUTE_F32 = 68, ALGORITHM_DEFAULT = -1 };

/* Where the system looks, then where configure found CUDA. Once loaded it stays: loading takes long. */
static void *load(void)
{
    static const char *const names[] = {
        "libcublas.so.13", "libcublas.so.12", MTP_CUDA_LIBRARIES "/libcublas.so.13",
        MTP_CUDA_LIBRARIES "/libcublas.so.12",
    };
    void *library = NULL;
    for (size_t i = 0; library == NULL && i < sizeof names / sizeof *names; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    return library;
}

/* ISO C has no conversion from void * to a function. */
static bool find(const struct cublas *cublas, const char *name, void *function)
{
    void *found = dlsym(cublas->library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static bool find_all(struct cublas *cublas)
{
    return find(cublas, "cublasCreate_v2", &cublas->create) &&
           find(cublas, "cublasDestroy_v2", &cublas->destroy) &&
           find(cublas, "cublasSetStream_v2", &cublas->set_stream) &&
           find(cublas, "cublasSetWorkspace_v2", &cublas->set_workspace) &&
           find(cublas, "cublasGemmEx", &cublas->gemm_ex);
}

bool cublas_open(struct cublas *cublas, cudaStream_t stream, void *workspace, size_t bytes,
                 struct cuda_message *why)
{
    memset(cublas, 0, sizeof *cublas);
    cublas->library = load();
    const char *problem = NULL;
    int status = 0;
    if (cublas->library == NULL)
        problem = "neither libcublas.so.13 nor libcublas.so.12 can be loaded";
    else if (!find_all(cublas))
        problem = "the one that is here lacks a function";
    else if ((status = cublas->create(&cublas->handle)) != 0 ||
             (status = cublas->set_stream(cublas->handle, stream)) != 0 ||
             (status = cublas->set_workspace(cublas->handle, workspace, bytes)) != 0)
        problem = "it cannot be started on this device";
    if (problem == NULL)
        return true;
    int n = snprintf(why->text, sizeof why->text, "fast arithmetic needs the library cuBLAS: %s", problem);
    if (status != 0)
        snprintf(why->text + n, sizeof why->text - (size_t)n, " (its status %d)", status);
    cublas_close(cublas);
    return false;
}

void cublas_close(struct cublas *cublas)
{
    if (cublas->handle != NULL)
        cublas->destroy(cublas->handle);
    if (cublas->library != NULL)
        dlclose(cublas->library);
    memset(cublas, 0, sizeof *cublas);
}

/* cuBLAS counts by columns: its matrices are ours transposed. */
bool cublas_product(const struct cublas *cublas, const uint16_t *w, const uint16_t *x, float *y,
                    size_t y_stride, uint32_t n_out, int32_t n_rows, uint32_t n_in)
{
    const float one = 1.0f, zero = 0.0f;
    return cublas->gemm_ex(cublas->handle, OP_TRANSPOSED, OP_NONE, (int)n_out, n_rows, (int)n_in, &one, w,
                           TYPE_BF16, (int)n_in, x, TYPE_BF16, (int)n_in, &zero, y, TYPE_F32,
                           (int)y_stride, COMPUTE_F32, ALGORITHM_DEFAULT) == 0;
}
