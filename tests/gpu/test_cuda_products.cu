/* The CUDA products equal the CPU's bit for bit: every type, packed and as in the file, 1..16 rows and
 * prompts, odd sizes, values at the bounds, experts grouped and one by one. Exit status 0: equal, 1: not,
 * 77: no device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/cuda/products.h"
#include "tests/gpu/product_cases.h"

static const uint32_t types[] = {
    MTP_TYPE_F32,   MTP_TYPE_F16,     MTP_TYPE_BF16,   MTP_TYPE_Q8_0,  MTP_TYPE_Q4_0,    MTP_TYPE_Q4_1,
    MTP_TYPE_Q5_0,  MTP_TYPE_Q5_1,    MTP_TYPE_Q2_K,   MTP_TYPE_Q3_K,  MTP_TYPE_Q4_K,    MTP_TYPE_Q5_K,
    MTP_TYPE_Q6_K,  MTP_TYPE_IQ4_NL,  MTP_TYPE_IQ4_XS, MTP_TYPE_MXFP4, MTP_TYPE_IQ2_XXS, MTP_TYPE_IQ2_XS,
    MTP_TYPE_IQ2_S, MTP_TYPE_IQ3_XXS, MTP_TYPE_IQ3_S,
};

struct counts {
    std::atomic<long> comparisons, mismatches;
};
static struct counts counts[MTP_TYPE_LIMIT];
static std::mutex device;   /* held by the case that uses it */
static cudaStream_t stream; /* of all launches but graphs; waits for copies and is waited for by them */

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess)
        return;
    printf("FAILED: %s: %s\n", what, cudaGetErrorString(error));
    fflush(stdout);
    _Exit(1);
}

/* ---- memory ---------------------------------------------------------------------------------- */

enum { GUARD = 64 };

/* Device memory with bytes after it that nothing may change. */
struct room {
    uint8_t *at;
    size_t bytes;

    explicit room(size_t n, const void *from = NULL) : at(NULL), bytes(n)
    {
        must(cudaMalloc((void **)&at, n + GUARD), "cudaMalloc");
        must(cudaMemset(at, 0xa5, n + GUARD), "cudaMemset");
        if (from != NULL)
            must(cudaMemcpy(at, from, n, cudaMemcpyHostToDevice), "copy to the device");
    }
    ~room()
    {
        cudaFree(at);
    }
    bool guard_holds() const
    {
        uint8_t guard[GUARD];
        must(cudaMemcpy(guard, at + bytes, GUARD, cudaMemcpyDeviceToHost), "copy from the device");
        return std::all_of(guard, guard + GUARD, [](uint8_t b) { return b == 0xa5; });
    }
};

/* ---- one case ---------------------------------------------------------------------------------- */

/* In one piece, or in pieces of sixteens of each expert's rows. */
static void pack(const struct weight *w, const struct room &file, const struct room &packed, bool pieces)
{
    uint64_t step = pieces ? (w->n_out + 63) / 64 * 16 : (uint64_t)w->n_out * w->n_experts;
    for (uint64_t row = 0; row < (uint64_t)w->n_out * w->n_experts;) {
        uint64_t n = pieces ? std::min(step, (uint64_t)w->n_out - row % w->n_out) : step;
        struct room staged(n * w->row_bytes);
        must(cudaMemcpy(staged.at, file.at + row * w->row_bytes, staged.bytes, cudaMemcpyDeviceToDevice),
             "staging");
        must(cudaMemset(staged.at + staged.bytes, 0xff, GUARD), "cudaMemset");
        must(cuda_launch_pack(w, staged.at, packed.at, row, n, stream), "cuda_launch_pack");
        must(cudaDeviceSynchronize(), "packing");
        row += n;
    }
}

/* The case on the device. */
struct on_device {
    const struct product_case *c;
    struct room weights, packed_weights, inputs, order, start, experts_of_pairs, y;
    struct packed_weight packed;

    static size_t input_bytes(const struct product_case *c)
    {
        return (size_t)c->n_inputs *
               (c->act != NULL ? act_blocks(c->w.n_in) * sizeof *c->act : c->w.n_in * sizeof *c->x);
    }
    on_device(const struct product_case *of, bool pieces)
        : c(of), weights(of->w.expert_bytes * of->w.n_experts, of->w.data),
          packed_weights(cuda_pack_bytes(&of->w)),
          inputs(input_bytes(of), of->act != NULL ? (const void *)of->act : (const void *)of->x),
          order(of->order != NULL ? 4 * (size_t)of->n : 0, of->order),
          start(of->start != NULL ? 4 * ((size_t)of->w.n_experts + 1) : 0, of->start),
          experts_of_pairs(of->experts != NULL ? 4 * (size_t)of->n : 0, of->experts), y(of->y_bytes),
          packed()
    {
        packed.data = packed_weights.bytes > 0 ? packed_weights.at : NULL;
        if (packed.data != NULL)
            pack(&c->w, weights, packed_weights, pieces);
        if (!packed_weights.guard_holds()) {
            printf("MISMATCH %s: packing wrote past the end\n", type_info(c->w.type)->name);
            counts[c->w.type].mismatches++;
        }
    }
    struct weight weight(bool use_packed) const
    {
        struct weight w = c->w;
        w.data = use_packed ? NULL : weights.at;
        w.packed = use_packed ? &packed : NULL;
        return w;
    }
    const struct act_block *act() const
    {
        return c->act != NULL ? (const struct act_block *)(const void *)inputs.at : NULL;
    }
    const int32_t *experts_or_null() const
    {
        return c->experts != NULL ? (const int32_t *)(const void *)experts_of_pairs.at : NULL;
    }
    const float *x() const
    {
        return c->x != NULL ? (const float *)(const void *)inputs.at : NULL;
    }
    float *output()
    {
        must(cudaMemset(y.at, 0x5a, y.bytes), "cudaMemset");
        return (float *)(void *)y.at;
    }
    /* The first n rows are compared; the others must be as they were. */
    void compare(int32_t n, const char *how)
    {
        std::vector<float> got(y.bytes / 4);
        must(cudaMemcpy(got.data(), y.at, y.bytes, cudaMemcpyDeviceToHost), how);
        struct product_case first = *c;
        first.n = n;
        bool untouched =
            std::all_of(got.begin() + (ptrdiff_t)((size_t)n * c->y_stride), got.end(), [](float v) {
                uint32_t bits;
                memcpy(&bits, &v, 4);
                return bits == 0x5a5a5a5au;
            });
        counts[c->w.type].comparisons++;
        if (!untouched)
            printf("MISMATCH %s %s: rows past %d of %d written\n", type_info(c->w.type)->name, how, n,
                   c->n);
        if (!report_difference(&first, got.data(), how) || !untouched)
            counts[c->w.type].mismatches++;
    }
    void matmul(int32_t n, bool use_packed)
    {
        struct matmul_args args = {weight(use_packed), x(), act(), output(), c->y_stride, n};
        must(cuda_launch_matmul(&args, stream), "cuda_launch_matmul");
        char how[64];
        snprintf(how, sizeof how, "%s, first %d rows", use_packed ? "packed" : "file", n);
        compare(n, how);
    }
    void experts(bool grouped, bool use_packed)
    {
        struct expert_matmul_args args = {weight(use_packed),
                                          x(),
                                          act(),
                                          output(),
                                          c->y_stride,
                                          c->n,
                                          c->pairs_per_input,
                                          (const int32_t *)(const void *)order.at,
                                          (const int32_t *)(const void *)start.at,
                                          grouped,
                                          experts_or_null()};
        must(cuda_launch_expert_matmul(&args, stream), "cuda_launch_expert_matmul");
        compare(c->n, use_packed ? grouped ? "experts, packed, grouped" : "experts, packed, one by one"
                      : grouped  ? "experts, file, grouped"
                                 : "experts, file, one by one");
    }
};

static void run_matmuls(const struct product_case *c, const std::vector<int32_t> &rows, bool pieces)
{
    std::lock_guard<std::mutex> lock(device);
    struct on_device d(c, pieces);
    for (int32_t n : rows)
        for (int use_packed = 0; use_packed <= (d.packed.data != NULL); use_packed++)
            d.matmul(n, use_packed != 0);
}

static void run_experts(const struct product_case *c, bool pieces)
{
    std::lock_guard<std::mutex> lock(device);
    struct on_device d(c, pieces);
    for (int use_packed = 0; use_packed <= (d.packed.data != NULL); use_packed++)
        for (int grouped = 0; grouped < 2; grouped++)
            d.experts(grouped != 0, use_packed != 0);
}

/* ---- chains ------------------------------------------------------------------------------------- */

enum { LINKS = 10 };

/* Few threads, so that it is still at work when the next kernel begins. */
__global__ void copy_slowly(uint32_t *to, const uint32_t *from, size_t n)
{
    for (size_t i = threadIdx.x; i < n; i += blockDim.x)
        to[i] = from[i];
}

/* Runs what `launch` puts into a stream, as a graph, twice. */
static void run_graph(const std::function<void(cudaStream_t)> &launch)
{
    cudaStream_t own;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking), "cudaStreamCreate");
    must(cudaStreamBeginCapture(own, cudaStreamCaptureModeThreadLocal), "capture");
    launch(own);
    must(cudaStreamEndCapture(own, &graph), "capture");
    must(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    must(cudaDeviceSynchronize(), "before the graph");
    for (int i = 0; i < 2; i++)
        must(cudaGraphLaunch(exec, own), "cudaGraphLaunch");
    must(cudaStreamSynchronize(own), "the graph");
    must(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
    must(cudaGraphDestroy(graph), "cudaGraphDestroy");
    must(cudaStreamDestroy(own), "cudaStreamDestroy");
}

/* Inputs are copied to one place, two products read them into another, and that is copied away. */
static void run_copied_chain(const struct product_case *c)
{
    std::lock_guard<std::mutex> lock(device);
    std::vector<struct on_device *> d;
    for (int i = 0; i < LINKS; i++)
        d.push_back(new on_device(&c[i], false));
    struct room inputs(d[0]->inputs.bytes), y(d[0]->y.bytes);
    for (int use_packed = 0; use_packed <= (d[0]->packed.data != NULL); use_packed++) {
        for (int i = 0; i < LINKS; i++)
            d[(size_t)i]->output();
        must(cudaMemset(y.at, 0x5a, y.bytes), "cudaMemset");
        run_graph([&](cudaStream_t graph) {
            for (int i = 0; i < LINKS; i++) {
                struct on_device *link = d[(size_t)i];
                struct matmul_args args = {
                    link->weight(use_packed != 0),
                    link->x() != NULL ? (const float *)(const void *)inputs.at : NULL,
                    link->act() != NULL ? (const struct act_block *)(const void *)inputs.at : NULL,
                    (float *)(void *)y.at,
                    c->y_stride,
                    c->n};
                copy_slowly<<<1, 128, 0, graph>>>((uint32_t *)(void *)inputs.at,
                                                  (uint32_t *)(void *)link->inputs.at, inputs.bytes / 4);
                for (int twice = 0; twice < 2; twice++)
                    must(cuda_launch_matmul(&args, graph), "cuda_launch_matmul");
                copy_slowly<<<1, 128, 0, graph>>>((uint32_t *)(void *)link->y.at,
                                                  (uint32_t *)(void *)y.at, y.bytes / 4);
            }
        });
        for (int i = 0; i < LINKS; i++)
            d[(size_t)i]->compare(c->n, use_packed != 0 ? "packed, in a graph" : "file, in a graph");
    }
    for (struct on_device *link : d)
        delete link;
}

/* Each product reads the result of the one before. */
static void run_direct_chain(const struct product_case *c)
{
    std::lock_guard<std::mutex> lock(device);
    std::vector<struct on_device *> d;
    for (int i = 0; i < LINKS; i++) {
        d.push_back(new on_device(&c[i], false));
        d.back()->output();
    }
    run_graph([&](cudaStream_t graph) {
        for (size_t i = 0; i < LINKS; i++) {
            const float *x = i == 0 ? d[0]->x() : (const float *)(const void *)d[i - 1]->y.at;
            struct matmul_args args = {d[i]->weight(false),         x,           NULL,
                                       (float *)(void *)d[i]->y.at, c->y_stride, 1};
            must(cuda_launch_matmul(&args, graph), "cuda_launch_matmul");
        }
    });
    for (size_t i = 0; i < LINKS; i++)
        d[i]->compare(1, "one after the other");
    for (struct on_device *link : d)
        delete link;
}

/* ---- several at once --------------------------------------------------------------------------- */

struct set {
    std::vector<struct product_case> matmuls, experts;

    ~set()
    {
        for (struct product_case &c : matmuls)
            free_case(&c);
        for (struct product_case &c : experts)
            free_case(&c);
    }
};

static std::vector<struct on_device *> to_device(const std::vector<struct product_case> &cases, bool pieces)
{
    std::vector<struct on_device *> d;
    for (const struct product_case &c : cases)
        d.push_back(new on_device(&c, pieces));
    return d;
}

/* The first n rows of each matrix and all of the experts, packed where there is such a form, behind a kernel
 * that is slow to bring the inputs of the first. */
static void run_set(const struct set *set, int32_t n, bool grouped)
{
    std::lock_guard<std::mutex> lock(device);
    std::vector<struct on_device *> matrices = to_device(set->matmuls, grouped),
                                    experts = to_device(set->experts, !grouped);
    std::vector<struct matmul_args> matmul_args;
    std::vector<struct expert_matmul_args> expert_args;
    for (struct on_device *d : matrices)
        matmul_args.push_back({d->weight(d->packed.data != NULL), d->x(), d->act(), d->output(),
                               d->c->y_stride, n});
    for (struct on_device *d : experts)
        expert_args.push_back({d->weight(d->packed.data != NULL), d->x(), d->act(), d->output(),
                               d->c->y_stride, d->c->n, d->c->pairs_per_input,
                               (const int32_t *)(const void *)d->order.at,
                               (const int32_t *)(const void *)d->start.at, grouped,
                               d->experts_or_null()});
    const struct room late(matrices[0]->inputs.bytes);
    if (matmul_args[0].x != NULL)
        matmul_args[0].x = (const float *)(const void *)late.at;
    else
        matmul_args[0].act = (const struct act_block *)(const void *)late.at;
    const struct products_args args = {matmul_args.data(), expert_args.data(), (int)matmul_args.size(),
                                       (int)expert_args.size()};
    run_graph([&](cudaStream_t graph) {
        copy_slowly<<<1, 128, 0, graph>>>((uint32_t *)(void *)late.at,
                                          (uint32_t *)(void *)matrices[0]->inputs.at, late.bytes / 4);
        must(cuda_launch_products(&args, graph), "cuda_launch_products");
    });
    for (struct on_device *d : matrices)
        d->compare(n, "at once");
    for (struct on_device *d : experts)
        d->compare(d->c->n, "experts, at once");
    matrices.insert(matrices.end(), experts.begin(), experts.end());
    for (struct on_device *d : matrices)
        delete d;
}

/* ---- the list of cases ------------------------------------------------------------------------- */

static std::vector<std::function<void()>> work;

static void add_matmul(uint32_t type, uint32_t n_in, uint32_t n_out, uint64_t seed, int fill,
                       std::vector<int32_t> rows)
{
    work.push_back([=] {
        struct product_case c;
        int32_t most = *std::max_element(rows.begin(), rows.end());
        make_case(&c, type, n_in, n_out, most, seed, (enum case_fill)fill);
        run_matmuls(&c, rows, (seed + (uint64_t)fill) % 2 == 1);
        free_case(&c);
    });
}

static void add_experts(uint32_t type, uint32_t n_in, uint32_t n_out, uint32_t n_experts, int32_t rows,
                        uint32_t used, bool own, uint64_t seed)
{
    work.push_back([=] {
        struct product_case c;
        make_expert_case(&c, type, n_in, n_out, n_experts, rows, used, own, seed);
        run_experts(&c, seed % 2 == 1);
        free_case(&c);
    });
}

/* Products whose inputs come from the kernel just before them. */
static void add_chains(uint32_t type)
{
    work.push_back([=] {
        struct product_case c[LINKS];
        for (int i = 0; i < LINKS; i++)
            make_case(&c[i], type, 2048, 1536, 3, 20 + (uint64_t)i, FILL_RANDOM);
        run_copied_chain(c);
        for (int i = 0; i < LINKS; i++)
            free_case(&c[i]);
    });
    if (type != MTP_TYPE_F32)
        return;
    work.push_back([=] {
        struct product_case c[LINKS];
        for (int i = 0; i < LINKS; i++) {
            make_case(&c[i], type, 1536, 1536, 1, 40 + (uint64_t)i, FILL_RANDOM);
            if (i > 0)
                answer_with(&c[i], c[i - 1].wanted);
        }
        run_direct_chain(c);
        for (int i = 0; i < LINKS; i++)
            free_case(&c[i]);
    });
}

/* Up to seven matrices, of which six fit a launch, and up to two matrices of experts. */
static void add_set(std::vector<uint32_t> of_matrices, std::vector<uint32_t> of_experts, uint32_t n_in,
                    int32_t rows, uint64_t seed)
{
    static const uint32_t outputs[] = {1100, 256, 33, 1, 17, 48, 5};
    work.push_back([=] {
        struct set set;
        for (size_t i = 0; i < of_matrices.size(); i++) {
            set.matmuls.emplace_back();
            make_case(&set.matmuls.back(), of_matrices[i], n_in, outputs[(i + seed) % 7], rows, seed + i,
                      FILL_RANDOM);
        }
        for (size_t i = 0; i < of_experts.size(); i++) {
            set.experts.emplace_back();
            make_expert_case(&set.experts.back(), of_experts[i], n_in, 80, 40, rows, 3, i == 1, seed + i);
        }
        for (int32_t n = 1; n <= rows; n += n < 4 ? 1 : 3)
            run_set(&set, n, n % 3 != 0);
    });
}

static void add_sets()
{
    const uint32_t q3 = MTP_TYPE_Q3_K, q4 = MTP_TYPE_Q4_K, q5 = MTP_TYPE_Q5_K, q6 = MTP_TYPE_Q6_K,
                   q8 = MTP_TYPE_Q8_0, f32 = MTP_TYPE_F32, f16 = MTP_TYPE_F16, bf16 = MTP_TYPE_BF16,
                   iq4 = MTP_TYPE_IQ4_XS;
    for (uint64_t seed = 0; seed < 7; seed++) {
        const uint32_t n_in = (const uint32_t[]){256, 2048, 5120, 512, 1280, 2304, 768}[seed];
        add_set({q4, q4, q6}, {}, n_in, 16, seed);
        add_set({q6, q5, q8, q3}, {}, n_in, 8, seed + 10);
        add_set({q8, q8, q8, f32, f16, bf16, q4}, {}, n_in, 7, seed + 20);
        add_set({q4, q4, f32}, {q4, q4}, n_in, 8, seed + 30);
        add_set({q6, f32}, {q3, q6}, n_in, 4, seed + 40);
        add_set({q3, iq4, q5, q8}, {q8, iq4}, n_in, 3, seed + 50);
        add_set({q8}, {q5}, n_in, 1, seed + 60);
    }
}

static void add_type(uint32_t type)
{
    static const uint32_t by_1[] = {1, 7, 63, 64, 66, 100, 300, 1024, 2048},
                          outputs[] = {1, 5, 16, 17, 40, 133},
                          by_32[] = {32, 96, 256, 288, 1056, 2048, 2336, 4128, 5120},
                          by_256[] = {256, 512, 768, 1024, 1536, 2048, 2304, 4608, 5120};
    uint32_t block = type_info(type)->block_elements;
    const uint32_t *sizes = block == 1 ? by_1 : block == 32 ? by_32 : by_256;
    const std::vector<int32_t> few = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
                               many = {17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200, 512};
    if (block > 1) /* activations of more rows than one are too large to be kept */
        add_matmul(type, 17408, 40, 17, FILL_RANDOM, {1, 2, 4, 8, 16});
    for (size_t i = 0; i < 9; i++)
        for (uint64_t seed = 0; seed < 3; seed++)
            for (int fill = 0; fill < N_FILLS; fill++)
                add_matmul(type, sizes[i], outputs[(i + seed + (size_t)fill) % 6], seed, fill, few);
    for (size_t i = 0; i < 9; i += 2)
        add_matmul(type, sizes[i], outputs[5 - i / 2], 3 + i / 2, FILL_RANDOM, many);
    for (int fill = 1; fill < N_FILLS; fill++)
        add_matmul(type, sizes[(size_t)fill], 16 * (uint32_t)fill + 5, 11, fill, {17, 70, 129});
    add_matmul(type, 2048, 2100, 12, FILL_RANDOM, {17, 40, 65, 512, 1030}); /* every wide shape */
    add_matmul(type, 5120, 5120, 9, FILL_RANDOM, {1, 7, 16});
    add_matmul(type, 512, 20011, 10, FILL_RANDOM, {1, 8, 16}); /* several groups a block of threads */
    for (uint64_t seed = 0; seed < 3; seed++) {
        add_experts(type, sizes[2], 17, 8, 1, 8, seed % 2 == 0, seed);
        add_experts(type, sizes[1], 48, 60, 5, 4, seed % 2 == 1, seed + 3);
        add_experts(type, sizes[5], 24, 256, 2, 8, seed % 2 == 0, seed + 6);
        add_experts(type, sizes[3], 33, 16, 70, 3, seed % 2 == 1, seed + 9);
    }
    add_experts(type, sizes[0], 16, 1000, 30, 10, false, 12);
    for (uint64_t seed = 13; seed < 16; seed++) { /* many rows an expert; seed 14: very uneven */
        add_experts(type, sizes[3], 133, 16, 200, 5, seed % 2 == 0, seed);
        add_experts(type, sizes[1], 300, 32, 130, 4, seed % 2 == 1, seed);
        add_experts(type, sizes[4], 40, 64, 512, 8, seed % 2 == 0, seed);
        add_experts(type, sizes[2], 290, 32, 300, 4, seed % 2 == 0, seed);
    }
    add_chains(type);
}

/* --quick: of each type's products every eighth. */
int main(int argc, char **argv)
{
    const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("products: no CUDA device\n");
        return 77;
    }
    must(cudaSetDevice(0), "cudaSetDevice");
    must(cudaStreamCreate(&stream), "cudaStreamCreate");
    for (uint32_t type : types)
        add_type(type);
    if (quick)
        for (size_t i = 0; i < work.size(); i++) {
            std::swap(work[i], work[std::min(8 * i, work.size() - 1)]);
            if (8 * i >= work.size())
                work.resize(i);
        }
    add_sets();
    std::atomic<size_t> next(0);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(2u, std::thread::hardware_concurrency()); i++)
        threads.emplace_back([&] {
            must(cudaSetDevice(0), "cudaSetDevice");
            for (size_t at = next++; at < work.size(); at = next++)
                work[at]();
        });
    for (std::thread &thread : threads)
        thread.join();
    long comparisons = 0, mismatches = 0;
    for (uint32_t type : types) {
        printf("%-8s %6ld comparisons, %ld mismatches\n", type_info(type)->name,
               counts[type].comparisons.load(), counts[type].mismatches.load());
        comparisons += counts[type].comparisons;
        mismatches += counts[type].mismatches;
    }
    printf("products: %ld comparisons, %ld mismatches\n", comparisons, mismatches);
    return mismatches > 0;
}
