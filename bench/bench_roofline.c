/* bench_roofline.c - this machine's ceilings and the products of a model's real shapes below them.
 *
 *     bench/bench_roofline [--threads N] [--isa NAME] [--bytes SIZE] [--working-set SIZE]...
 *                          [--cache SIZE] [--model FILE] [--shapes model|27B|35B-A3B|RxC,...]
 *                          [--types NAME,...] [--widths N,...] [--seconds S] [--rounds N]
 *                          [--device cpu|cuda]
 *
 * Writes one JSON object with raw figures (bytes, products, seconds) to standard output; bench/roofline
 * makes fractions and tables of them. Ceilings are measured before and after the products, the rate is
 * the best of all rounds. Reading is over --bytes and over each --working-set (cut to --bytes). Sizes
 * take K, M and G. Of a GPU the ceiling is copying inside its memory, bytes read and written counted; nothing
 * else is measured there. Status 2 for a wrong argument, with one sentence.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_products.h"
#include "ceilings.h"
#include "cpu_count.h"
#include "device.h"
#include "memory_available.h"

enum { MOST_SETS = 8, PAGE = 4096 };

struct options {
    const struct cpu_kernels *kernels;
    uint32_t n_threads;
    size_t bytes, cache;
    const char *cache_source;
    size_t sets[MOST_SETS + 1]; /* working sets, then bytes */
    size_t n_sets;
    struct backend *gpu; /* --device cuda, else NULL */
    const char *model, *shapes;
    bool types[MTP_TYPE_LIMIT], types_given;
    struct product_plan plan;
};

static void __attribute__((noreturn, format(printf, 1, 2))) refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bench_roofline: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(2);
}

/* ---- options -------------------------------------------------------------------------------- */

static size_t size_option(const char *name, const char *text)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (end == text || end[shift > 0] != '\0' || !(value > 0.0) || value > 1e15 || errno != 0)
        refuse("--%s takes a size such as 512M or 4G, not '%s'", name, text);
    double bytes = value * (double)((size_t)1 << shift);
    if (bytes < PAGE)
        refuse("--%s takes 4096 bytes at least, not '%s'", name, text);
    return (size_t)bytes / PAGE * PAGE;
}

static double number_option(const char *name, const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most))
        refuse("--%s takes a number from %g to %g, not '%s'", name, least, most, text);
    return value;
}

static void widths_option(struct product_plan *plan, const char *text)
{
    plan->n_widths = 0;
    for (const char *at = text;; at++) {
        char *end;
        long n = strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || n < 1 || n > MOST_WIDTH ||
            plan->n_widths == MOST_WIDTHS)
            refuse("--widths takes up to %d numbers of rows from 1 to %d, not '%s'", MOST_WIDTHS,
                   MOST_WIDTH, text);
        plan->widths[plan->n_widths++] = (int32_t)n;
        at = end;
        if (*at == '\0')
            return;
    }
}

static void choose_type(struct options *options, const char *name, size_t length)
{
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++) {
        const struct type_info *info = type_info(type);
        if (info != NULL && info->weight_class != WEIGHT_NONE && strlen(info->name) == length &&
            strncmp(info->name, name, length) == 0) {
            options->types[type] = true;
            return;
        }
    }
    refuse("--types takes names among %s, not '%.*s'", type_supported_list(), (int)length, name);
}

static void types_option(struct options *options, const char *text)
{
    memset(options->types, 0, sizeof options->types);
    for (; *text != '\0'; text += strspn(text, ",")) {
        size_t length = strcspn(text, ",");
        choose_type(options, text, length);
        text += length;
    }
}

static void set_option(struct options *options, const char *text)
{
    if (options->n_sets == MOST_SETS)
        refuse("--working-set may be given %d times", MOST_SETS);
    options->sets[options->n_sets++] = size_option("working-set", text);
}

static void device_option(struct options *options, const char *text)
{
    struct mtp_error error;
    const struct backend_source *source;
    const struct mtp_session_options none = {0};
    if (strcmp(text, "cpu") == 0)
        return;
    if (strcmp(text, "cuda") != 0)
        refuse("--device takes cpu or cuda, not '%s'", text);
    if (device_source(MTP_DEVICE_CUDA, &source, &error) != MTP_OK ||
        source->open(source->user, &none, &options->gpu, &error) != MTP_OK)
        refuse("%s", error.message);
}

static void take_option(struct options *options, int option, const char *text)
{
    struct product_plan *plan = &options->plan;
    switch (option) {
    case 't': options->n_threads = (uint32_t)number_option("threads", text, 1, 1024); break;
    case 'b': options->bytes = size_option("bytes", text); break;
    case 'w': set_option(options, text); break;
    case 'c':
        options->cache = size_option("cache", text);
        options->cache_source = "given";
        break;
    case 'm': options->model = text; break;
    case 's': options->shapes = text; break;
    case 'T':
        types_option(options, text);
        options->types_given = true;
        break;
    case 'n': widths_option(plan, text); break;
    case 'S': plan->seconds = number_option("seconds", text, 0.0, 60.0); break;
    case 'r': plan->rounds = (size_t)number_option("rounds", text, 1, MOST_ROUNDS); break;
    case 'i':
        options->kernels = bench_kernels_named(text);
        if (options->kernels == NULL)
            refuse("there are no %s kernels here", text);
        break;
    case 'd': device_option(options, text); break;
    default: exit(2); /* getopt_long has said why */
    }
}

static void parse(struct options *options, int argc, char **argv)
{
    static const struct option table[] = {
        {"threads", required_argument, NULL, 't'}, {"bytes", required_argument, NULL, 'b'},
        {"working-set", required_argument, NULL, 'w'}, {"cache", required_argument, NULL, 'c'},
        {"model", required_argument, NULL, 'm'}, {"shapes", required_argument, NULL, 's'},
        {"types", required_argument, NULL, 'T'}, {"widths", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 'S'}, {"rounds", required_argument, NULL, 'r'},
        {"isa", required_argument, NULL, 'i'}, {"device", required_argument, NULL, 'd'},
        {NULL, 0, NULL, 0},
    };
    widths_option(&options->plan, "1,2,4,8,16,512");
    types_option(options, "Q4_K,Q5_K,Q6_K,Q8_0");
    for (int option; (option = getopt_long(argc, argv, "", table, NULL)) != -1;)
        take_option(options, option, optarg);
    if (optind < argc)
        refuse("there is no argument '%s'", argv[optind]);
    if (options->gpu != NULL && options->shapes != NULL)
        refuse("products of a GPU are measured by bench_cuda_products: leave --shapes out");
    if (options->gpu != NULL)
        options->n_threads = 1; /* that ask it */
}

/* Memory and last-level cache of what is measured. A GPU's memory says that it is short when it is taken. */
static uint64_t look_at_memory(struct options *options)
{
    enum { GPU_CACHE = 64 << 20 };
    if (options->cache == 0 && options->gpu == NULL)
        options->cache = last_level_cache(&options->cache_source);
    if (options->cache == 0) {
        options->cache = GPU_CACHE;
        options->cache_source = "assumed";
    }
    return options->gpu != NULL ? (uint64_t)1 << 40 : memory_available();
}

/* What the machine says of itself stands where nothing was given. */
static void complete(struct options *options)
{
    uint64_t available = look_at_memory(options);
    size_t rotation = 4 * options->cache;
    if (options->bytes == 0) {
        options->bytes = (size_t)4 << 30;
        options->bytes = available / 2 < options->bytes ? available / 2 / PAGE * PAGE : options->bytes;
        options->bytes = options->bytes < rotation ? rotation : options->bytes;
    }
    if (options->bytes < rotation)
        refuse("--bytes must be four times the last-level cache at least, which is %zu bytes",
               options->cache);
    if (options->bytes > available - available / 8)
        refuse("%zu bytes to read do not fit the memory available", options->bytes);
    for (size_t i = 0; i < options->n_sets; i++)
        if (options->sets[i] > options->bytes)
            options->sets[i] = options->bytes;
    options->sets[options->n_sets++] = options->bytes;
    options->plan.n_threads = options->n_threads;
    options->plan.rotation_bytes = rotation;
}

/* ---- ceilings ------------------------------------------------------------------------------- */

struct ceiling {
    const char *kind;
    uint32_t threads;
    size_t bytes; /* read: working set */
    double rates[2 * MOST_ROUNDS];
};
struct ceiling_list {
    struct ceiling list[2 * (MOST_SETS + 3)];
    size_t n, n_rates;
};

static const char *device_name(const struct options *options)
{
    return options->gpu != NULL ? "cuda" : "cpu";
}

static void name_ceilings(const struct options *options, struct ceiling_list *all)
{
    uint32_t threads[] = {1, options->n_threads};
    for (size_t t = 0; t < (options->n_threads > 1 ? 2 : 1); t++) {
        for (size_t s = 0; s < options->n_sets; s++)
            all->list[all->n++] = (struct ceiling){"read", threads[t], options->sets[s], {0}};
        if (options->gpu != NULL)
            continue;
        all->list[all->n++] = (struct ceiling){"int8", threads[t], 0, {0}};
        all->list[all->n++] = (struct ceiling){"fp32", threads[t], 0, {0}};
    }
}

/* Bytes a second, half of them read and half written, that move inside the GPU's memory: a working set of so
 * many bytes is copied from one half to the other. */
static double copy_rate(struct backend *gpu, uint8_t *data, size_t bytes, double seconds)
{
    size_t half = bytes / 2, n = 0;
    gpu->ops->synchronize(gpu);
    double start = bench_now(0), elapsed = 0.0;
    for (size_t batch = 4; elapsed < seconds; batch *= 2) {
        for (size_t i = 0; i < batch; i++)
            gpu->ops->copy(gpu, data + half, data, half);
        gpu->ops->synchronize(gpu);
        n += batch;
        elapsed = bench_now(0) - start;
    }
    if (gpu->ops->error(gpu) != NULL)
        refuse("%s", gpu->ops->error(gpu));
    return (double)(2 * half * n) / elapsed;
}

static void measure_gpu(const struct options *options, struct ceiling_list *all)
{
    struct backend *gpu = options->gpu;
    uint8_t *data = gpu->ops->alloc(gpu, options->bytes, MEMORY_WHOLE);
    if (data == NULL)
        refuse("%zu bytes do not fit the GPU's memory", options->bytes);
    for (size_t round = 0; round <= options->plan.rounds; round++) {
        for (size_t i = 0; i < all->n; i++) /* the first round is not counted */
            all->list[i].rates[round > 0 ? round - 1 : 0] =
                copy_rate(gpu, data, all->list[i].bytes, options->plan.seconds);
        all->n_rates = round;
    }
    gpu->ops->free(gpu, data, options->bytes);
}

static void measure_ceilings(const struct options *options, struct ceiling_list *all)
{
    if (options->gpu != NULL) {
        measure_gpu(options, all);
        return;
    }
    double seconds = options->plan.seconds;
    uint8_t *data = bench_map(options->bytes);
    memset(data, 1, options->bytes);
    struct ceilings *one = ceilings_open(options->kernels, 1);
    struct ceilings *many = ceilings_open(options->kernels, options->n_threads);
    for (size_t round = 0; round < options->plan.rounds; round++, all->n_rates++)
        for (size_t i = 0; i < all->n; i++) {
            struct ceiling *c = &all->list[i];
            struct ceilings *on = c->threads == 1 ? one : many;
            c->rates[all->n_rates] = strcmp(c->kind, "read") == 0
                                         ? ceilings_read(on, data, c->bytes, 2 * seconds)
                                     : strcmp(c->kind, "int8") == 0 ? ceilings_int8(on, seconds)
                                                                    : ceilings_fp32(on, seconds);
        }
    ceilings_close(one);
    ceilings_close(many);
    bench_unmap(data, options->bytes);
}

static void print_ceilings(const struct options *options, struct ceiling_list *all)
{
    printf(" \"ceilings\": [");
    for (size_t i = 0; i < all->n; i++) {
        struct ceiling *c = &all->list[i];
        printf("%s\n  {\"device\": \"%s\", \"isa\": \"%s\", \"kind\": \"%s\", \"threads\": %" PRIu32,
               i > 0 ? "," : "", device_name(options),
               options->gpu != NULL ? "cuda" : options->kernels->name, c->kind, c->threads);
        if (c->bytes > 0)
            printf(", \"bytes\": %zu", c->bytes);
        double median = bench_median(c->rates, all->n_rates);
        printf(", \"rate\": %.6g, \"median\": %.6g, \"rounds\": %zu}", c->rates[all->n_rates - 1],
               median, all->n_rates);
    }
    printf("\n ],\n");
}

/* ---- products ------------------------------------------------------------------------------- */

static void print_times(const struct options *options, const struct bench_shape *shape, uint32_t type,
                        const struct product_time *times)
{
    static const char *comma = "";
    bool floats = type_info(type)->weight_class == WEIGHT_FLOAT;
    for (size_t i = 0; i < options->plan.n_widths; i++) {
        const struct product_time *t = &times[i];
        printf("%s\n  {\"device\": \"cpu\", \"isa\": \"%s\", \"threads\": %" PRIu32
               ", \"name\": \"%s\", \"type\": \"%s\", \"n_out\": %" PRIu32 ", \"n_in\": %" PRIu32,
               comma, options->kernels->name, options->n_threads, shape->name, type_info(type)->name,
               shape->n_out, shape->n_in);
        printf(", \"n_experts\": %" PRIu32 ", \"n_used\": %" PRIu32 ", \"calls_per_token\": %" PRIu32
               ", \"arithmetic\": \"%s\", \"rows\": %" PRId32, shape->n_experts, shape->n_used,
               shape->calls_per_token, floats ? "fp32" : "int8", options->plan.widths[i]);
        printf(", \"type_chosen\": %s", shape->any_type ? "true" : "false");
        printf(", \"weight_bytes\": %" PRIu64 ", \"input_bytes\": %" PRIu64 ", \"macs\": %" PRIu64
               ", \"copies\": %" PRIu32 ", \"passes\": %" PRIu64
               ", \"seconds\": %.9g, \"best_seconds\": %.9g}", t->weight_bytes, t->input_bytes,
               t->macs, t->copies, t->passes, t->median, t->best);
        comma = ",";
    }
    fflush(stdout);
}

/* Which types this shape is measured in. */
static bool type_wanted(const struct options *options, const struct bench_shape *shape, uint32_t type)
{
    if (shape->any_type)
        return options->types[type];
    bool quantised = type_info(shape->type)->weight_class != WEIGHT_FLOAT;
    return options->types_given && quantised ? options->types[type] : type == shape->type;
}

typedef void shape_fn(struct options *options, const struct bench_shape *shape, uint32_t type);

static void check_shape(struct options *options, const struct bench_shape *shape, uint32_t type)
{
    const struct type_info *info = type_info(type);
    if (shape->n_in % info->block_elements != 0)
        refuse("%s: rows of %" PRIu32 " are no whole blocks of %" PRIu32 ", which %s has", shape->name,
               shape->n_in, info->block_elements, info->name);
    uint64_t bytes = product_memory(&options->plan, shape, type), available = memory_available();
    if (bytes > available - available / 8)
        refuse("%s in %s: %" PRIu64 " bytes do not fit the memory available", shape->name, info->name,
               bytes);
}

static void measure_shape(struct options *options, const struct bench_shape *shape, uint32_t type)
{
    struct product_time times[MOST_WIDTHS];
    product_measure(&options->plan, shape, type, times);
    print_times(options, shape, type, times);
}

static void for_each_shape(struct options *options, const struct bench_shapes *shapes, shape_fn *fn)
{
    for (size_t i = 0; i < shapes->n; i++)
        for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
            if (type_info(type) != NULL && type_wanted(options, &shapes->list[i], type))
                fn(options, &shapes->list[i], type);
}

/* The trunk of --model: what the account of a whole step needs. */
static void print_model(const struct bench_model *model, const struct bench_shapes *trunk)
{
    printf(" \"model\": {\"n_heads\": %" PRIu32 ", \"n_kv_heads\": %" PRIu32
           ", \"bytes_per_token\": %" PRIu64 ", \"weight_bytes\": %" PRIu64 ", \"products\": [",
           model->n_heads, model->n_kv_heads, model->bytes_per_token, model->weight_bytes);
    for (size_t i = 0; i < trunk->n; i++) {
        const struct bench_shape *s = &trunk->list[i];
        const struct type_info *info = type_info(s->type);
        uint64_t weights = (uint64_t)s->n_out * s->n_in * s->n_used;
        printf("%s\n  {\"name\": \"%s\", \"operation\": \"%s\", \"type\": \"%s\", \"arithmetic\": \"%s\""
               ", \"calls_per_token\": %" PRIu32 ", \"macs\": %" PRIu64 ", \"bytes\": %" PRIu64 "}",
               i > 0 ? "," : "", s->name, s->n_experts > 1 ? "expert_matmul" : "matmul", info->name,
               info->weight_class == WEIGHT_FLOAT ? "fp32" : "int8", s->calls_per_token, weights,
               weights / info->block_elements * info->block_bytes);
    }
    printf("\n ]},\n");
}

static void load_shapes(const struct options *options, struct bench_shapes *trunk,
                        struct bench_model *model, struct bench_shapes *shapes)
{
    struct mtp_error error;
    if (options->model != NULL &&
        bench_shapes_of_file(trunk, model, options->model, &error) != MTP_OK)
        refuse("%s", error.message);
    if (options->shapes == NULL)
        return;
    if (strcmp(options->shapes, "model") == 0) {
        if (options->model == NULL)
            refuse("--shapes model needs --model FILE");
        *shapes = *trunk;
    } else if (!bench_shapes_named(shapes, options->shapes)) {
        refuse("--shapes takes model, 27B, 35B-A3B or sizes such as 512x2048,64x256, not '%s'",
               options->shapes);
    }
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct ceiling_list ceilings;
    static struct bench_shapes trunk, shapes;
    struct bench_model model;
    options.kernels = cpu_kernels_best();
    options.n_threads = physical_cores_usable();
    options.plan.seconds = 0.05;
    options.plan.rounds = 5;
    parse(&options, argc, argv);
    complete(&options);
    load_shapes(&options, &trunk, &model, &shapes);
    options.plan.backend = cpu_backend_open(options.kernels, options.n_threads);
    if (options.plan.backend == NULL)
        refuse("cannot start %" PRIu32 " threads", options.n_threads);
    for_each_shape(&options, &shapes, check_shape);
    printf("{\n \"threads\": %" PRIu32 ", \"isa\": \"%s\", \"cache_bytes\": %zu"
           ", \"cache_source\": \"%s\", \"rotation_bytes\": %zu, \"read_bytes\": %zu,\n",
           options.n_threads, options.kernels->name, options.cache, options.cache_source,
           options.plan.rotation_bytes, options.bytes);
    if (options.model != NULL)
        print_model(&model, &trunk);
    name_ceilings(&options, &ceilings);
    measure_ceilings(&options, &ceilings);
    printf(" \"products\": [");
    for_each_shape(&options, &shapes, measure_shape);
    printf("\n ],\n");
    if (shapes.n > 0)
        measure_ceilings(&options, &ceilings);
    print_ceilings(&options, &ceilings);
    printf(" \"device\": \"%s\"\n}\n", device_name(&options));
    options.plan.backend->ops->close(options.plan.backend);
    if (options.gpu != NULL)
        options.gpu->ops->close(options.gpu);
    return ferror(stdout) || fflush(stdout) != 0 ? 1 : 0;
}
