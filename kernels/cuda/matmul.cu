/* matmul.cu - the product of a batch with a matrix (matmul_args of kernels/ops.h). */
#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/products.h"

struct launch cuda_matmul_of(const struct matmul_args *args)
{
    struct launch launch =
        cuda_product_of(&args->w, args->x, args->act, args->y, args->y_stride, args->n_rows);
    launch.product.n_experts = 1;
    launch.sharing = 1;
    while (launch.sharing < 16 && launch.sharing < args->n_rows)
        launch.sharing *= 2;
    return launch;
}

cudaError_t cuda_launch_matmul(const struct matmul_args *args, cudaStream_t stream)
{
    struct launch launch = cuda_matmul_of(args);
    launch.stream = stream;
    return cuda_launch_product(&launch);
}
