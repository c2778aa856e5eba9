/* bench_cuda_products.cu - microseconds and bytes a second of the CUDA products, against what a plain
 * read of the device's memory reaches. A time is that of one of 200 products in a graph; each reads
 * another copy of the weights, together at least four times the second cache. Products with N rows;
 * experts: 8 of 256 a row, all different while there are enough; sets: the products of one input of a layer,
 * one by one and at once.
 *     bench_cuda_products [--json] [--short] [--shape SHAPE] [--rows N] [TYPE | sets]...
 * --short: one to sixteen rows with packed weights alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/cuda/products.h"

enum { NODES = 200, REPLAYS = 5, MOST_ROWS = 512, USED = 8, EXPERTS = 256, CHOICES = 32 };

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

template <class T>
static T *device_memory(size_t n)
{
    void *at;
    must(cudaMalloc(&at, n * sizeof(T)), "cudaMalloc");
    return (T *)at;
}

/* Any bits but those of infinities and NaN; time does not depend on them. */
__global__ void fill_words(uint32_t *words, size_t n, uint32_t seed)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        uint32_t z = (uint32_t)i * 2654435761u + seed;
        z = (z ^ z >> 15) * 0x2c1b3c6du;
        z = (z ^ z >> 12) * 0x297a2d39u;
        words[i] = (z ^ z >> 15) & 0xbfbfbfbfu;
    }
}

static void fill(void *at, size_t bytes)
{
    fill_words<<<1024, 256>>>((uint32_t *)at, bytes / 4, 12345);
    must(cudaGetLastError(), "fill_words");
}

/* ---- the ceiling ------------------------------------------------------------------------------- */

__global__ void read_all(const uint4 *from, size_t n, uint32_t *sink)
{
    uint32_t sum = 0;
    const size_t stride = (size_t)gridDim.x * blockDim.x;
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * stride < n; i += 4 * stride) {
        uint4 v[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = __ldcs(from + i + k * stride);
#pragma unroll
        for (int k = 0; k < 4; k++)
            sum += v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    if (sum == 0x12345678)
        *sink = sum;
}

struct timer {
    cudaEvent_t begin, end;
    cudaStream_t stream;
    timer()
    {
        must(cudaStreamCreate(&stream), "cudaStreamCreate");
        must(cudaEventCreate(&begin), "cudaEventCreate");
        must(cudaEventCreate(&end), "cudaEventCreate");
    }
    /* Milliseconds, the median of several. */
    template <class F>
    float median(F run)
    {
        std::vector<float> times;
        run();
        for (int i = 0; i < REPLAYS; i++) {
            must(cudaEventRecord(begin, stream), "cudaEventRecord");
            run();
            must(cudaEventRecord(end, stream), "cudaEventRecord");
            must(cudaEventSynchronize(end), "cudaEventSynchronize");
            float ms;
            must(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
            times.push_back(ms);
        }
        std::sort(times.begin(), times.end());
        return times[times.size() / 2];
    }
};

static double read_ceiling(struct timer *timer)
{
    const size_t bytes = (size_t)4 << 30;
    uint4 *from = device_memory<uint4>(bytes / 16);
    uint32_t *sink = device_memory<uint32_t>(1);
    must(cudaMemset(from, 1, bytes), "cudaMemset");
    float ms =
        timer->median([&] { read_all<<<132 * 16, 512, 0, timer->stream>>>(from, bytes / 16, sink); });
    must(cudaGetLastError(), "read_all");
    must(cudaFree(from), "cudaFree");
    must(cudaFree(sink), "cudaFree");
    return bytes / (ms * 1e6);
}

/* ---- a matrix ---------------------------------------------------------------------------------- */

struct shape {
    const char *name;
    uint32_t n_out, n_in, n_experts;
};
static const struct shape shapes[] = {
    {"2048x2048", 2048, 2048, 1},           {"8192x2048", 8192, 2048, 1},
    {"5120x5120", 5120, 5120, 1},           {"17408x5120", 17408, 5120, 1},
    {"5120x17408", 5120, 17408, 1},         {"248320x2048", 248320, 2048, 1},
    {"256x(512x2048)", 512, 2048, EXPERTS}, {"256x(2048x512)", 2048, 512, EXPERTS},
};

struct bench {
    struct timer timer;
    double ceiling, first_time;
    bool json;
    struct act_block *act;
    float *x, *y;
    int32_t *order, *start;
    uint8_t *weights;
    size_t room;
};

/* The pairs of n rows, several choices: in choice v, row r has experts 8 (r + v) .. 8 (r + v) + 7, round
 * and round, so that neighbouring products do not read the same ones. */
static void make_pairs(struct bench *b, int32_t n)
{
    std::vector<int32_t> order, start;
    for (int32_t v = 0; v < CHOICES; v++) {
        int32_t first = (int32_t)order.size();
        start.push_back(0);
        for (int32_t e = 0; e < EXPERTS; e++) {
            for (int32_t p = (e - USED * v + CHOICES * EXPERTS) % EXPERTS; p < n * USED; p += EXPERTS)
                order.push_back(p);
            start.push_back((int32_t)order.size() - first);
        }
    }
    must(cudaMemcpy(b->order, order.data(), 4 * order.size(), cudaMemcpyHostToDevice), "order");
    must(cudaMemcpy(b->start, start.data(), 4 * start.size(), cudaMemcpyHostToDevice), "start");
}

static void launch(struct bench *b, const struct shape *s, const struct weight *w, int32_t n, int node)
{
    const int choice = node % CHOICES;
    if (s->n_experts == 1) {
        struct matmul_args args = {*w, b->x, b->act, b->y, s->n_out, n};
        must(cuda_launch_matmul(&args, b->timer.stream), "cuda_launch_matmul");
    } else {
        struct expert_matmul_args args = {*w,
                                          b->x,
                                          b->act,
                                          b->y,
                                          s->n_out,
                                          n * USED,
                                          USED,
                                          b->order + choice * n * USED,
                                          b->start + choice * (EXPERTS + 1),
                                          true};
        must(cuda_launch_expert_matmul(&args, b->timer.stream), "cuda_launch_expert_matmul");
    }
}

/* Milliseconds of one of `nodes` calls of launch(node) in a graph. */
template <class F>
static float time_graph(struct bench *b, int nodes, F launch)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cudaStreamBeginCapture(b->timer.stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < nodes; i++)
        launch(i);
    must(cudaStreamEndCapture(b->timer.stream, &graph), "capture");
    must(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    float ms = b->timer.median([&] { must(cudaGraphLaunch(exec, b->timer.stream), "cudaGraphLaunch"); });
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return ms / nodes;
}

/* Milliseconds of one product of n rows, from a graph of many. */
static float time_products(struct bench *b, const struct shape *s, struct weight w, size_t bytes,
                           bool packed, int32_t n)
{
    const size_t copies = std::max((size_t)1, std::min(b->room / bytes, (size_t)NODES));
    return time_graph(b, n > 16 ? 10 : NODES, [&](int i) {
        struct packed_weight at = {b->weights + (size_t)i % copies * bytes};
        w.data = at.data;
        w.packed = packed ? &at : NULL;
        launch(b, s, &w, n, i);
    });
}

static void report(struct bench *b, const char *type, const char *shape, const char *form, int32_t n,
                   double bytes, float ms)
{
    double rate = bytes / (ms * 1e6);
    if (n == 1)
        b->first_time = ms;
    printf(
        b->json
            ? "{\"type\": \"%s\", \"shape\": \"%s\", \"form\": \"%s\", \"rows\": %d, \"mb\": %.2f, "
              "\"us\": %.2f, "
              "\"gb_s\": %.0f, \"of_ceiling\": %.3f, \"of_one_row\": %.2f}\n"
            : "%-8s %-15s %-6s %4d %8.2f MB %9.2f us %6.0f GB/s %6.3f of the ceiling %7.2f of one row\n",
        type, shape, form, n, bytes / 1e6, ms * 1e3, rate, rate / b->ceiling, ms / b->first_time);
    fflush(stdout);
}

static void bench_shape(struct bench *b, uint32_t type, const struct shape *s, bool packed,
                        const std::vector<int32_t> &rows)
{
    const struct type_info *info = type_info(type);
    size_t row = s->n_in / info->block_elements * info->block_bytes;
    struct weight w = {NULL, type, s->n_in, s->n_out, s->n_experts, row, row * s->n_out, NULL};
    size_t bytes = packed ? cuda_pack_bytes(&w) : row * s->n_out * s->n_experts;
    if (bytes == 0 || bytes > b->room)
        return;
    for (int32_t n : rows) {
        make_pairs(b, n);
        double read = (double)bytes * std::min(n * USED, (int32_t)s->n_experts) / s->n_experts;
        report(b, info->name, s->name, packed ? "packed" : "file", n, read,
               time_products(b, s, w, bytes, packed, n));
    }
}

/* ---- sets -------------------------------------------------------------------------------------- */

/* Packed matrices, and experts' matrices, that read one input. */
struct set {
    const char *name;
    struct member {
        uint32_t type, n_out, n_in, n_experts;
    } members[5];
};
static const struct set sets[] = {
    {"27B DeltaNet in",
     {{MTP_TYPE_Q4_K, 10240, 5120, 1}, {MTP_TYPE_Q4_K, 6144, 5120, 1}, {MTP_TYPE_Q4_K, 48, 5120, 1},
      {MTP_TYPE_Q4_K, 48, 5120, 1}}},
    {"27B q, k, v",
     {{MTP_TYPE_Q4_K, 12288, 5120, 1}, {MTP_TYPE_Q4_K, 1024, 5120, 1}, {MTP_TYPE_Q6_K, 1024, 5120, 1}}},
    {"27B gate, up", {{MTP_TYPE_Q4_K, 17408, 5120, 1}, {MTP_TYPE_Q4_K, 17408, 5120, 1}}},
    {"35B-A3B DeltaNet in",
     {{MTP_TYPE_Q4_K, 8192, 2048, 1}, {MTP_TYPE_Q4_K, 4096, 2048, 1}, {MTP_TYPE_Q4_K, 32, 2048, 1},
      {MTP_TYPE_Q4_K, 32, 2048, 1}}},
    {"35B-A3B experts in",
     {{MTP_TYPE_Q4_K, 512, 2048, EXPERTS}, {MTP_TYPE_Q4_K, 512, 2048, EXPERTS}, {MTP_TYPE_Q4_K, 512, 2048, 1},
      {MTP_TYPE_Q4_K, 512, 2048, 1}, {MTP_TYPE_F32, 1, 2048, 1}}},
    {"35B-A3B experts out", {{MTP_TYPE_Q4_K, 2048, 512, EXPERTS}, {MTP_TYPE_Q4_K, 2048, 512, 1}}},
};

static struct weight weight_of(const struct set::member *m)
{
    const struct type_info *info = type_info(m->type);
    size_t row = m->n_in / info->block_elements * info->block_bytes;
    return {NULL, m->type, m->n_in, m->n_out, m->n_experts, row, row * m->n_out, NULL};
}

/* Bytes of the member's place, and of what one product of n rows reads of it. */
static size_t place_of(const struct weight *w)
{
    size_t packed = cuda_pack_bytes(w), bytes = packed > 0 ? packed : w->row_bytes * w->n_out;
    return (bytes + 255) / 256 * 256;
}
static double read_of(const struct weight *w, int32_t n)
{
    double share = w->n_experts == 1 ? 1.0 : std::min(n * USED, (int32_t)EXPERTS) / (double)EXPERTS;
    return (double)place_of(w) * share;
}

static void launch_set(struct bench *b, const struct set *s, uint8_t *at, int32_t n, int node, bool at_once)
{
    struct matmul_args matmuls[5];
    struct expert_matmul_args experts[5];
    struct packed_weight packed[5];
    struct products_args args = {matmuls, experts, 0, 0};
    float *y = b->y;
    const int choice = node % CHOICES;
    for (int i = 0; i < 5 && s->members[i].n_out > 0; i++) {
        struct weight w = weight_of(&s->members[i]);
        packed[i].data = at;
        w.data = at;
        w.packed = cuda_pack_bytes(&w) > 0 ? &packed[i] : NULL;
        at += place_of(&w);
        if (w.n_experts == 1)
            matmuls[args.n_matmuls++] = {w, b->x, b->act, y, w.n_out, n};
        else
            experts[args.n_experts++] = {w, b->x, b->act, y, w.n_out, n * USED, w.n_in == 512 ? 1 : USED,
                                         b->order + choice * n * USED, b->start + choice * (EXPERTS + 1),
                                         true};
        y += (size_t)w.n_out * (size_t)n * (w.n_experts == 1 ? 1 : USED);
    }
    if (at_once)
        must(cuda_launch_products(&args, b->timer.stream), "cuda_launch_products");
    for (int i = 0; i < args.n_matmuls && !at_once; i++)
        must(cuda_launch_matmul(&matmuls[i], b->timer.stream), "cuda_launch_matmul");
    for (int i = 0; i < args.n_experts && !at_once; i++)
        must(cuda_launch_expert_matmul(&experts[i], b->timer.stream), "cuda_launch_expert_matmul");
}

static void bench_set(struct bench *b, const struct set *s)
{
    for (int32_t n : {1, 2, 4, 8}) {
        size_t bytes = 0;
        double read = 0.0;
        for (int i = 0; i < 5 && s->members[i].n_out > 0; i++) {
            struct weight w = weight_of(&s->members[i]);
            bytes += place_of(&w);
            read += read_of(&w, n);
        }
        make_pairs(b, n);
        const size_t copies = std::max((size_t)1, std::min(b->room / bytes, (size_t)NODES));
        for (bool at_once : {false, true})
            report(b, "set", s->name, at_once ? "once" : "single", n, read, time_graph(b, NODES, [&](int i) {
                       launch_set(b, s, b->weights + (size_t)i % copies * bytes, n, i, at_once);
                   }));
    }
}

/* ---- what is asked for ------------------------------------------------------------------------- */

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}
static bool flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return false;
}

static bool chosen(const char *name, int argc, char **argv)
{
    bool any = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--shape") == 0 || strcmp(argv[i], "--rows") == 0)
            i++;
        else if (strcmp(argv[i], name) == 0)
            return true;
        else
            any = any || argv[i][0] != '-';
    }
    return !any;
}

static void prepare(struct bench *b, int argc, char **argv)
{
    b->json = flag(argc, argv, "--json");
    b->ceiling = read_ceiling(&b->timer);
    printf(b->json ? "{\"read_ceiling_gb_s\": %.0f}\n" : "plain read of 4 GiB: %.0f GB/s\n", b->ceiling);
    b->room = (size_t)1200 << 20;
    b->weights = device_memory<uint8_t>(b->room);
    b->act = device_memory<struct act_block>((size_t)MOST_ROWS * act_blocks(17408));
    b->x = device_memory<float>((size_t)MOST_ROWS * 17408);
    b->y = device_memory<float>((size_t)MOST_ROWS * 17408 + (size_t)16 * 248320 +
                                (size_t)MOST_ROWS * USED * 2048);
    b->order = device_memory<int32_t>(CHOICES * MOST_ROWS * USED);
    b->start = device_memory<int32_t>(CHOICES * (EXPERTS + 1));
    fill(b->weights, b->room);
    fill(b->act, (size_t)MOST_ROWS * act_blocks(17408) * sizeof *b->act);
    fill(b->x, (size_t)MOST_ROWS * 17408 * sizeof *b->x);
    must(cudaDeviceSynchronize(), "fill");
}

static const uint32_t common[] = {MTP_TYPE_Q4_K, MTP_TYPE_Q5_K, MTP_TYPE_Q6_K,
                                  MTP_TYPE_Q8_0, MTP_TYPE_Q3_K, MTP_TYPE_Q4_0};

/* Prompts; weights as in the file; the other types. */
static void bench_others(struct bench *b, int argc, char **argv)
{
    static const uint32_t others[] = {MTP_TYPE_Q2_K,   MTP_TYPE_Q4_1,   MTP_TYPE_Q5_0,  MTP_TYPE_Q5_1,
                                      MTP_TYPE_IQ4_NL, MTP_TYPE_IQ4_XS, MTP_TYPE_MXFP4, MTP_TYPE_IQ2_XXS,
                                      MTP_TYPE_IQ2_XS, MTP_TYPE_IQ2_S,  MTP_TYPE_IQ3_XXS, MTP_TYPE_IQ3_S};
    auto wanted = [&](uint32_t type) { return chosen(type_info(type)->name, argc, argv); };
    for (uint32_t type : common)
        for (int s : {1, 3, 6})
            if (wanted(type))
                bench_shape(b, type, &shapes[s], true, {1, 64, 512});
    for (uint32_t type : common)
        if (wanted(type))
            bench_shape(b, type, &shapes[1], false, {1, 8});
    for (uint32_t type : others)
        for (int packed = 1; packed >= 0; packed--)
            if (wanted(type))
                bench_shape(b, type, &shapes[1], packed != 0, {1, 8});
    for (uint32_t type : {(uint32_t)MTP_TYPE_F32, (uint32_t)MTP_TYPE_F16, (uint32_t)MTP_TYPE_BF16})
        for (int s : {0, 1})
            if (wanted(type))
                bench_shape(b, type, &shapes[s], false, {1, 8});
}

int main(int argc, char **argv)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("bench_cuda_products: no CUDA device\n");
        return 77;
    }
    struct bench b = {};
    prepare(&b, argc, argv);
    const char *shape = option(argc, argv, "--shape"), *rows = option(argc, argv, "--rows");
    const std::vector<int32_t> few = rows != NULL ? std::vector<int32_t>{atoi(rows)}
                                                  : std::vector<int32_t>{1, 2, 4, 8, 16};
    for (uint32_t type : common)
        for (const struct shape &s : shapes)
            if (chosen(type_info(type)->name, argc, argv) && (shape == NULL || strcmp(s.name, shape) == 0))
                bench_shape(&b, type, &s, true, few);
    if (chosen("sets", argc, argv))
        for (const struct set &s : sets)
            bench_set(&b, &s);
    if (shape == NULL && !flag(argc, argv, "--short"))
        bench_others(&b, argc, argv);
    return 0;
}
