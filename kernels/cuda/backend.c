/* backend.c - the CUDA backend's table of operations: launches, faults and errors. No arithmetic happens
 * here; launch.h and products.h have what computes. */
#include "kernels/cuda/backend_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/products.h"

static const char *const faulty_names[] = {
    [CUDA_QUANTIZE] = "quantize",   [CUDA_RMS_NORM] = "rms_norm", [CUDA_KV_STORE] = "kv_store",
    [CUDA_DELTA_NET] = "delta_net", [CUDA_ROUTE] = "route",       [CUDA_ARGMAX] = "argmax",
};

static struct cuda_fault next_fault(struct cuda_backend *cuda)
{
    struct cuda_fault fault = {cuda->record, cuda->serial, (uint32_t)(cuda->base.layer + 1)};
    cuda->looked = false;
    if (cuda->serial < CUDA_LAST_SERIAL)
        cuda->serial++;
    return fault;
}

/* Defines `op`, which runs `launch` if there is work. */
#define DEFINE_OPERATION(op, work, launch)                                                         \
    static void op(struct backend *backend, const struct op##_args *args)                          \
    {                                                                                              \
        struct cuda_backend *cuda = self(backend);                                                 \
        if ((work) > 0 && enter(cuda))                                                             \
            check(cuda, (launch), #op);                                                            \
    }

#define ROWS args->n_rows
#define STREAM cuda->stream
#define FAULT next_fault(cuda)
DEFINE_OPERATION(embed, ROWS, cuda_launch_embed(args, STREAM))
DEFINE_OPERATION(quantize, ROWS, cuda_launch_quantize(args, FAULT, STREAM))
DEFINE_OPERATION(rms_norm, ROWS, cuda_launch_rms_norm(args, FAULT, STREAM))
DEFINE_OPERATION(add, ROWS, cuda_launch_add(args, STREAM))
DEFINE_OPERATION(rope, ROWS, cuda_launch_rope(args, STREAM))
DEFINE_OPERATION(kv_store, ROWS, cuda_launch_kv_store(args, FAULT, STREAM))
DEFINE_OPERATION(attention, ROWS, cuda_launch_attention(args, cuda->scratch, STREAM))
DEFINE_OPERATION(conv_replay, args->n_channels, cuda_launch_conv_replay(args, STREAM))
DEFINE_OPERATION(delta_net, ROWS, cuda_launch_delta_net(args, FAULT, STREAM))
DEFINE_OPERATION(delta_net_replay, ROWS, cuda_launch_delta_net_replay(args, STREAM))
DEFINE_OPERATION(mul_silu, ROWS, cuda_launch_mul_silu(args, STREAM))
DEFINE_OPERATION(route, args->n_experts, cuda_launch_route(args, FAULT, STREAM))
DEFINE_OPERATION(moe_combine, ROWS, cuda_launch_moe_combine(args, STREAM))
DEFINE_OPERATION(argmax, ROWS, cuda_launch_argmax(args, FAULT, cuda->scratch, STREAM))
DEFINE_OPERATION(digest, ROWS, cuda_launch_digest(args, STREAM))
DEFINE_OPERATION(gather, ROWS, cuda_launch_gather(args, STREAM))
DEFINE_OPERATION(chain_rows, ROWS, cuda_launch_chain_rows(args, STREAM))
DEFINE_OPERATION(accept, ROWS, cuda_launch_accept(args, STREAM))
DEFINE_OPERATION(conv, args->n_channels, cuda_launch_conv(args, STREAM))

static void count_product(struct cuda_backend *cuda, const struct weight *w)
{
    cuda->counters.matmul_calls++;
    cuda->counters.variant_calls++;
    if (w->packed != NULL && w->packed->data != NULL)
        cuda->counters.packed_calls++;
}

/* ---- several as one ---------------------------------------------------------------------- */

static void fused(struct backend *backend, const struct fused_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (!enter(cuda))
        return;
    struct cuda_fused_faults faults;
    faults.norm = FAULT;
    faults.quantize = FAULT;
    faults.route = FAULT;
    faults.beside = FAULT;
    cudaError_t status = cuda_launch_fused(args, &faults, cuda->scratch, STREAM);
    if (status == cudaErrorNotSupported) {
        fused_one_by_one(backend, args);
        return;
    }
    if (args->product != NULL)
        count_product(cuda, &args->product->w);
    check(cuda, status, "fused operations");
}

static void place_heads(struct backend *backend, const struct place_heads_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (!enter(cuda))
        return;
    struct cuda_place_faults faults;
    faults.k_norm = FAULT;
    faults.store = FAULT;
    faults.q_norm = FAULT;
    cudaError_t status = cuda_launch_place_heads(args, &faults, STREAM);
    if (status == cudaErrorNotSupported)
        place_heads_one_by_one(backend, args);
    else
        check(cuda, status, "place_heads");
}

/* ---- matrix products --------------------------------------------------------------------- */

static void matmul(struct backend *backend, const struct matmul_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (args->n_rows == 0 || !enter(cuda))
        return;
    count_product(cuda, &args->w);
    if (cuda->fast == NULL || !cuda_fast_serves(cuda->fast, args)) {
        check(cuda, cuda_launch_matmul(args, cuda->stream), "matmul");
        return;
    }
    cuda->counters.inexact_calls++;
    check(cuda, cuda_fast_matmul(cuda->fast, args, cuda->stream), "a product by cuBLAS");
}

/* How many experts a grouped product reads is known to the device alone; it is not counted. */
static void count_experts(struct cuda_backend *cuda, const struct expert_matmul_args *args)
{
    count_product(cuda, &args->w);
    cuda->counters.expert_rows += (uint64_t)args->n_pairs;
    if (!args->grouped)
        cuda->counters.expert_reads += (uint64_t)args->n_pairs;
}

static void expert_matmul(struct backend *backend, const struct expert_matmul_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (args->n_pairs == 0 || !enter(cuda))
        return;
    count_experts(cuda, args);
    check(cuda, cuda_launch_expert_matmul(args, cuda->stream), "expert_matmul");
}

static void products(struct backend *backend, const struct products_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (cuda->fast != NULL) { /* which looks at every matrix */
        products_one_by_one(backend, args);
        return;
    }
    if (!enter(cuda))
        return;
    for (int i = 0; i < args->n_matmuls; i++)
        if (args->matmuls[i].n_rows > 0)
            count_product(cuda, &args->matmuls[i].w);
    for (int i = 0; i < args->n_experts; i++)
        if (args->experts[i].n_pairs > 0)
            count_experts(cuda, &args->experts[i]);
    check(cuda, cuda_launch_products(args, cuda->stream), "products");
}

/* ---- packed weights ---------------------------------------------------------------------- */

static size_t cuda_packed_bytes(struct backend *backend, const struct weight *w)
{
    (void)backend;
    return cuda_pack_bytes(w);
}

static void cuda_pack(struct backend *backend, const struct pack_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (args->n_rows > 0 && enter(cuda))
        check(cuda, cuda_launch_pack(&args->w, args->rows, args->dst, args->first_row, args->n_rows,
                                     cuda->stream), "pack");
}

/* ---- passes ------------------------------------------------------------------------------ */

static void add_counters(struct backend_counters *to, const struct backend_counters *from, bool less)
{
    uint64_t factor = less ? UINT64_MAX : 1; /* modulo 2^64 */
    to->expert_reads += factor * from->expert_reads;
    to->expert_rows += factor * from->expert_rows;
    to->matmul_calls += factor * from->matmul_calls;
    to->variant_calls += factor * from->variant_calls;
    to->packed_calls += factor * from->packed_calls;
    to->inexact_calls += factor * from->inexact_calls;
}

static bool repeat(struct cuda_backend *cuda, const struct recorded_pass *pass)
{
    check(cuda, cudaGraphLaunch(pass->graph, cuda->stream), "a recorded pass");
    cuda->serial = pass->end_serial;
    cuda->looked = false;
    add_counters(&cuda->counters, &pass->counters, false);
    cuda->recorder.repeated++;
    return true;
}

/* Serial numbers of a record begin where its order has them begin. */
static bool cuda_pass_begin(struct backend *backend, uint64_t key, uint32_t order)
{
    struct cuda_backend *cuda = self(backend);
    uint32_t first = order * (CUDA_LAST_SERIAL / PASS_ORDERS);
    if (!enter(cuda) || cuda->recorder.off || cuda->serial > first)
        return false;
    cuda->serial = first;
    struct recorded_pass *pass = recorder_find(&cuda->recorder, key);
    if (pass != NULL && pass->graph != NULL)
        return repeat(cuda, pass);
    if (pass != NULL && pass->seen && recorder_begin(&cuda->recorder, pass, cuda->stream) == cudaSuccess) {
        pass->counters = cuda->counters;
        pass->first_serial = first;
    }
    if (pass != NULL)
        pass->seen = true;
    return false;
}

static bool cuda_pass_end(struct backend *backend)
{
    struct cuda_backend *cuda = self(backend);
    struct recorded_pass *pass = cuda->recorder.recording;
    if (pass == NULL)
        return true;
    struct backend_counters before = pass->counters;
    pass->counters = cuda->counters;
    add_counters(&pass->counters, &before, true);
    cuda->counters = before;
    pass->end_serial = cuda->serial;
    cuda->serial = pass->first_serial;
    return recorder_end(&cuda->recorder, cuda->stream) == cudaSuccess && repeat(cuda, pass);
}

/* ---- bookkeeping ------------------------------------------------------------------------- */

static struct numeric_fault cuda_fault(struct backend *backend)
{
    struct cuda_backend *cuda = self(backend);
    if (cuda->fault.found || cuda->serial == 0)
        return cuda->fault; /* nothing that could fault has been launched since */
    if (!cuda->looked)
        cuda_synchronize(backend);
    cuda->serial = 0;
    unsigned long long word = cuda->landing->record;
    if (!cuda->failed && word != CUDA_NO_FAULT)
        cuda->fault = (struct numeric_fault){true, faulty_names[word >> 24 & 15], (int32_t)(word & 0xffffff),
                                             (int32_t)(word >> 28 & 4095) - 1};
    return cuda->fault;
}

static void cuda_clear_fault(struct backend *backend)
{
    struct cuda_backend *cuda = self(backend);
    cuda_fill(backend, cuda->record, 0xff, sizeof *cuda->record);
    cuda->serial = 0;
    cuda->looked = false;
    cuda->fault = (struct numeric_fault){false, NULL, 0, 0};
}

static const char *cuda_error(struct backend *backend)
{
    return self(backend)->failed ? self(backend)->error.text : NULL;
}

static void cuda_counters(struct backend *backend, struct backend_counters *counters)
{
    *counters = self(backend)->counters;
}

static void cuda_mark(struct backend *backend, int number)
{
    struct cuda_backend *cuda = self(backend);
    if (enter(cuda))
        check(cuda, cudaEventRecord(cuda->marks[number], cuda->stream), "a mark of time");
}

static double cuda_between(struct backend *backend, int from, int to)
{
    struct cuda_backend *cuda = self(backend);
    float milliseconds = 0.0f;
    if (enter(cuda))
        check(cuda, cudaEventElapsedTime(&milliseconds, cuda->marks[from], cuda->marks[to]),
              "a mark of time");
    return 1e-3 * (double)milliseconds;
}

static void cuda_close(struct backend *backend)
{
    struct cuda_backend *cuda = self(backend);
    if (cudaSetDevice(cuda->device) == cudaSuccess) {
        if (cuda->stream != NULL)
            cudaStreamSynchronize(cuda->stream);
        recorder_close(&cuda->recorder);
        for (int i = 0; i < PASS_MARKS; i++)
            if (cuda->marks[i] != NULL)
                cudaEventDestroy(cuda->marks[i]);
        cudaFreeHost(cuda->landing);
        stager_close(cuda->stager);
        if (cuda->fast != NULL)
            cuda_fast_close(cuda->fast);
        cudaFree(cuda->fast_memory);
        cudaFree(cuda->scratch.data);
        cudaFree(cuda->scratch.arrivals);
        cudaFree(cuda->record);
        if (cuda->stream != NULL)
            cudaStreamDestroy(cuda->stream);
    }
    free(cuda->fast);
    free(cuda);
}

static const struct ops cuda_ops = {
    .name = "cuda",
    .host_memory = false,
    .embed = embed,
    .quantize = quantize,
    .matmul = matmul,
    .expert_matmul = expert_matmul,
    .products = products,
    .rms_norm = rms_norm,
    .add = add,
    .rope = rope,
    .kv_store = kv_store,
    .attention = attention,
    .conv = conv,
    .conv_replay = conv_replay,
    .delta_net = delta_net,
    .delta_net_replay = delta_net_replay,
    .mul_silu = mul_silu,
    .route = route,
    .moe_combine = moe_combine,
    .argmax = argmax,
    .digest = digest,
    .gather = gather,
    .chain_rows = chain_rows,
    .accept = accept,
    .fused = fused,
    .place_heads = place_heads,
    .pass_begin = cuda_pass_begin,
    .pass_end = cuda_pass_end,
    .mark = cuda_mark,
    .between = cuda_between,
    .packed_bytes = cuda_packed_bytes,
    .pack = cuda_pack,
    .reserve = cuda_reserve,
    .memory = cuda_memory,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .fill = cuda_fill,
    .synchronize = cuda_synchronize,
    .error = cuda_error,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .fault = cuda_fault,
    .clear_fault = cuda_clear_fault,
    .counters = cuda_counters,
    .close = cuda_close,
};

int cuda_device_count(bool *there, struct cuda_message *why)
{
    int n = 0, driver = 0;
    cudaError_t status = cudaGetDeviceCount(&n);
    *there = true;
    if (status == cudaSuccess && n > 0)
        return n;
    (void)cudaGetLastError();
    if (cudaDriverGetVersion(&driver) != cudaSuccess)
        driver = 0;
    cuda_explain_absence(why, there, status, driver);
    return 0;
}

/* Whether this build has code that the device runs: asked of the runtime for a small launch. */
static void try_device(struct cuda_backend *cuda)
{
    struct backend *backend = &cuda->base;
    float *x = cuda_alloc(backend, sizeof *x, MEMORY_WHOLE);
    if (x == NULL) {
        check(cuda, cudaErrorMemoryAllocation, "a first launch");
        return;
    }
    add(backend, &(struct add_args){x, x, x, 1, 1});
    cuda_free(backend, x, sizeof *x);
    cuda_synchronize(backend);
}

static void make_landing(struct cuda_backend *cuda)
{
    if (!enter(cuda))
        return;
    check(cuda, cudaMallocHost((void **)&cuda->landing, sizeof *cuda->landing),
          "page-locked memory of the host");
    for (int i = 0; i < PASS_MARKS; i++)
        check(cuda, cudaEventCreate(&cuda->marks[i]), "making a mark of time");
}

struct backend *cuda_backend_open(int device, struct cuda_message *message)
{
    bool there;
    int n = cuda_device_count(&there, message);
    if (n == 0)
        return NULL;
    if (device < 0 || device >= n) {
        snprintf(message->text, sizeof message->text, "no CUDA device %d: there are %d, from 0 on",
                 device, n);
        return NULL;
    }
    struct cuda_backend *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) {
        *message = (struct cuda_message){"not enough memory for a CUDA backend", true};
        return NULL;
    }
    cuda->base.ops = &cuda_ops;
    cuda->base.layer = -1;
    cuda->device = device;
    if (enter(cuda))
        check(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "making a stream");
    cuda->record = cuda_alloc(&cuda->base, sizeof *cuda->record, MEMORY_WHOLE);
    cuda->scratch.bytes = cuda_scratch_bytes(0);
    cuda->scratch.data = cuda_alloc(&cuda->base, cuda->scratch.bytes, MEMORY_PARTS);
    cuda->scratch.arrivals =
        cuda_alloc(&cuda->base, CUDA_ARRIVALS * sizeof *cuda->scratch.arrivals, MEMORY_WHOLE);
    if (cuda->record == NULL || cuda->scratch.data == NULL || cuda->scratch.arrivals == NULL)
        check(cuda, cudaErrorMemoryAllocation, "a backend");
    make_landing(cuda);
    cuda_clear_fault(&cuda->base);
    try_device(cuda);
    if (!cuda->failed)
        return &cuda->base;
    *message = cuda->error;
    cuda_close(&cuda->base);
    return NULL;
}

size_t cuda_backend_fast_bytes(void)
{
    return cuda_fast_bytes(&(struct cuda_fast_limits)CUDA_FAST_LIMITS);
}

bool cuda_backend_allow_fast(struct backend *backend, const struct cuda_fast_limits *limits,
                             struct cuda_message *message)
{
    struct cuda_backend *cuda = self(backend);
    const struct cuda_fast_limits usual = CUDA_FAST_LIMITS;
    limits = limits != NULL ? limits : &usual;
    cuda->fast = malloc(sizeof *cuda->fast);
    cuda->fast_memory = cuda_alloc(backend, cuda_fast_bytes(limits), MEMORY_PARTS);
    snprintf(message->text, sizeof message->text, "not enough memory for fast arithmetic");
    message->memory = cuda->fast == NULL || cuda->fast_memory == NULL;
    if (!message->memory && cuda_fast_open(cuda->fast, limits, cuda->fast_memory, cuda->stream, message))
        return true;
    free(cuda->fast);
    cuda->fast = NULL;
    return false;
}
