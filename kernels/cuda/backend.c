/* backend.c - the CUDA backend's table of operations: memory, faults and errors. No arithmetic happens
 * here; launch.h and products.h have what computes. */
#include "kernels/cuda/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/explain.h"
#include "kernels/cuda/fast.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/stager.h"

static const char *const faulty_names[] = {
    [CUDA_QUANTIZE] = "quantize",   [CUDA_RMS_NORM] = "rms_norm", [CUDA_KV_STORE] = "kv_store",
    [CUDA_DELTA_NET] = "delta_net", [CUDA_ROUTE] = "route",       [CUDA_ARGMAX] = "argmax",
};

/* Where small downloads arrive, the fault record with each, so that the host waits once. */
enum { LANDING_BYTES = 1 << 16 };
struct landing {
    unsigned long long record;
    uint8_t bytes[LANDING_BYTES];
};

/* From so many bytes on, an upload is large (stager.h). */
enum { STAGED_BYTES = 2 << 20 };

struct cuda_backend {
    struct backend base;
    int device;
    cudaStream_t stream;
    unsigned long long *record; /* of faults, on the device */
    struct landing *landing;    /* page-locked memory of the host */
    uint32_t serial;            /* of the next launch; 0: none since fault() was asked */
    bool looked;                /* nothing that may fault has been launched since the host last waited */
    struct numeric_fault fault; /* the first, once it has been seen */
    cudaEvent_t marks[PASS_MARKS];
    struct cuda_scratch scratch;
    struct backend_counters counters;
    struct recorder recorder;
    struct stager *stager;     /* of large uploads, while they go on */
    struct cuda_fast *fast; /* NULL: every product is exact */
    void *fast_memory;
    bool failed;
    struct cuda_message error; /* the first, once failed */
};

static struct cuda_backend *self(struct backend *backend)
{
    return (struct cuda_backend *)(void *)backend;
}

/* Keeps the first failure; what comes after one is a consequence. */
static void check(struct cuda_backend *cuda, cudaError_t status, const char *operation)
{
    if (status == cudaSuccess || cuda->failed)
        return;
    cuda->failed = true;
    cuda_explain(&cuda->error, cuda->device, (int)cuda->base.layer, operation, status);
}

/* False when nothing more can be done. The current device is a property of the calling thread. */
static bool enter(struct cuda_backend *cuda)
{
    if (!cuda->failed)
        check(cuda, cudaSetDevice(cuda->device), "choosing the device");
    return !cuda->failed;
}

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

/* ---- several as one ---------------------------------------------------------------------- */

static void fused(struct backend *backend, const struct fused_args *args)
{
    struct cuda_backend *cuda = self(backend);
    if (!enter(cuda))
        return;
    struct cuda_fused_faults faults;
    faults.norm = FAULT;
    faults.quantize = FAULT;
    cudaError_t status = cuda_launch_fused(args, &faults, cuda->scratch, STREAM);
    if (status == cudaErrorNotSupported)
        fused_one_by_one(backend, args);
    else
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

static void count_product(struct cuda_backend *cuda, const struct weight *w)
{
    cuda->counters.matmul_calls++;
    cuda->counters.variant_calls++;
    if (w->packed != NULL && w->packed->data != NULL)
        cuda->counters.packed_calls++;
}

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

static void wait_for_stream(struct cuda_backend *cuda)
{
    if (!enter(cuda))
        return;
    if (!cuda->looked && cuda->landing != NULL)
        check(cuda, cudaMemcpyAsync(&cuda->landing->record, cuda->record, sizeof *cuda->record,
                                    cudaMemcpyDeviceToHost, cuda->stream), "download");
    check(cuda, cudaStreamSynchronize(cuda->stream), "an operation");
    cuda->counters.waits++;
    cuda->looked = cuda->landing != NULL;
}

static void cuda_synchronize(struct backend *backend)
{
    struct cuda_backend *cuda = self(backend);
    wait_for_stream(cuda);
    if (cuda->stager != NULL) {
        stager_close(cuda->stager);
        cuda->stager = NULL;
    }
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

/* ---- memory ------------------------------------------------------------------------------ */

/* All of it is the device's from the start, whatever its use. */
static void *cuda_alloc(struct backend *backend, size_t bytes, enum memory_use use)
{
    struct cuda_backend *cuda = self(backend);
    (void)use;
    void *memory = NULL;
    if (!enter(cuda))
        return NULL;
    cudaError_t status = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (status == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* that memory is short is the caller's to say */
        return NULL;
    }
    check(cuda, status, "allocating memory");
    if (status != cudaSuccess)
        return NULL;
    check(cuda, cudaMemsetAsync(memory, 0, bytes, cuda->stream), "clearing memory");
    return memory;
}

static void cuda_free(struct backend *backend, void *memory, size_t bytes)
{
    struct cuda_backend *cuda = self(backend);
    (void)bytes;
    if (memory == NULL)
        return;
    wait_for_stream(cuda); /* operations under way may use it */
    if (cudaSetDevice(cuda->device) == cudaSuccess)
        check(cuda, cudaFree(memory), "freeing memory");
}

static void move(struct backend *backend, void *dst, const void *src, size_t bytes,
                 enum cudaMemcpyKind kind, const char *operation)
{
    struct cuda_backend *cuda = self(backend);
    if (bytes > 0 && enter(cuda))
        check(cuda, cudaMemcpyAsync(dst, src, bytes, kind, cuda->stream), operation);
}

/* Large uploads follow each other: what they go through stays until the backend is waited for. */
static bool upload_staged(struct cuda_backend *cuda, void *dst, const void *src, size_t bytes)
{
    if (bytes < STAGED_BYTES || !enter(cuda))
        return false;
    if (cuda->stager == NULL)
        cuda->stager = stager_open();
    if (cuda->stager != NULL)
        check(cuda, stager_upload(cuda->stager, cuda->stream, dst, src, bytes), "upload");
    return cuda->stager != NULL;
}

/* The host's memory may be page-locked, and then the copy may still be under way. */
static void cuda_upload(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    if (upload_staged(self(backend), dst, src, bytes))
        return;
    move(backend, dst, src, bytes, cudaMemcpyHostToDevice, "upload");
    struct cudaPointerAttributes attributes;
    if (bytes == 0 || self(backend)->failed)
        return;
    cudaError_t status = cudaPointerGetAttributes(&attributes, src);
    if (status != cudaSuccess || attributes.type != cudaMemoryTypeUnregistered)
        wait_for_stream(self(backend));
    (void)cudaGetLastError();
}

static void cuda_download(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    struct landing *landing = self(backend)->landing;
    bool small = landing != NULL && bytes <= LANDING_BYTES;
    move(backend, small ? landing->bytes : dst, src, bytes, cudaMemcpyDeviceToHost, "download");
    cuda_synchronize(backend);
    if (small && !self(backend)->failed)
        memcpy(dst, landing->bytes, bytes);
}

static void cuda_copy(struct backend *backend, void *dst, const void *src, size_t bytes)
{
    move(backend, dst, src, bytes, cudaMemcpyDeviceToDevice, "copy");
}

static void cuda_fill(struct backend *backend, void *dst, int byte, size_t bytes)
{
    struct cuda_backend *cuda = self(backend);
    if (bytes > 0 && enter(cuda))
        check(cuda, cudaMemsetAsync(dst, byte, bytes, cuda->stream), "fill");
}

static size_t scratch_bytes(uint32_t n_ctx)
{
    size_t attention = n_ctx > 0 ? cuda_attention_scratch(n_ctx) : 0;
    return attention > CUDA_ARGMAX_SCRATCH ? attention : CUDA_ARGMAX_SCRATCH;
}

/* Never more than memory() has said: the old one goes first. */
static bool cuda_reserve(struct backend *backend, uint32_t n_ctx)
{
    struct cuda_backend *cuda = self(backend);
    size_t wanted = scratch_bytes(n_ctx);
    if (wanted <= cuda->scratch.bytes)
        return true;
    cuda_free(backend, cuda->scratch.data, cuda->scratch.bytes);
    cuda->scratch = (struct cuda_scratch){cuda_alloc(backend, wanted, MEMORY_PARTS), wanted};
    if (cuda->scratch.data == NULL) {
        cuda->scratch.bytes = 0;
        return false;
    }
    recorder_close(&cuda->recorder); /* records have the old one */
    memset(&cuda->recorder, 0, sizeof cuda->recorder);
    return !cuda->failed;
}

/* Beside what is allocated by size: the code of kernels, which is loaded when they first run, up to
 * RECORDER_PASSES graphs, and sizes rounded up to 2 MiB. docs/architecture.md has what was measured. */
static const uint64_t allowance = (uint64_t)256 << 20;

static void cuda_memory(struct backend *backend, uint32_t n_ctx, struct backend_memory *memory)
{
    struct cuda_backend *cuda = self(backend);
    size_t available = 0, all = 0;
    if (enter(cuda))
        check(cuda, cudaMemGetInfo(&available, &all), "asking for free memory");
    uint64_t fast = cuda->fast != NULL ? cuda_backend_fast_bytes() : 0;
    *memory = (struct backend_memory){available, sizeof *cuda->record + scratch_bytes(n_ctx) + fast, allowance};
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
    cuda->scratch.bytes = scratch_bytes(0);
    cuda->scratch.data = cuda_alloc(&cuda->base, cuda->scratch.bytes, MEMORY_PARTS);
    if (cuda->record == NULL || cuda->scratch.data == NULL)
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
