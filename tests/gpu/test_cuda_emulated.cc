/* The product kernels' own code, run on the host thread by thread (emulate.hh), equals the scalar
 * definition: every type, packed and as in the file, experts, odd sizes, values at the bounds.
 *     test_cuda_emulated [--quick] [TYPE...]
 * --quick takes some of the values; types are all unless some are named; "sets": several products in one
 * launch. */
#define MTP_CUDA_EMULATED
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/dequantise.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/product_file.cuh"
#include "kernels/cuda/product_float.cuh"
#include "kernels/cuda/product_merged.cuh"
#include "kernels/cuda/product_tile.cuh"
#include "kernels/cuda/product_wide.cuh"
#include "tests/gpu/product_cases.h"
extern "C" {
#include "kernels/blocks.h"
}

static long comparisons, mismatches;

template <class T>
static T *aligned(size_t n)
{
    T *memory = (T *)aligned_alloc(64, (n * sizeof(T) + 127) / 64 * 64);
    memset((void *)memory, 0xa5, (n * sizeof(T) + 127) / 64 * 64);
    return memory;
}

template <int TYPE>
static uint8_t *packed(const struct weight *w)
{
    uint64_t of_expert = (w->n_out + TILE_ROWS - 1) / TILE_ROWS, blocks = act_blocks(w->n_in);
    uint8_t *dst = aligned<uint8_t>(w->n_experts * of_expert * blocks * tile<TYPE>::BYTES);
    /* Two pieces where there are two sixteens. */
    for (uint64_t first = 0, n = of_expert > 1 ? 1 : w->n_experts * of_expert;
         first < w->n_experts * of_expert; first += n, n = w->n_experts * of_expert - first) {
        uint64_t row = row_of_sixteen(first, w->n_out);
        struct packing p = {(const uint8_t *)w->data + row * w->row_bytes,
                            dst,
                            w->row_bytes,
                            first,
                            n,
                            w->n_out,
                            w->n_in / SUB_BLOCK,
                            (uint32_t)blocks};
        emulate((uint32_t)((n * blocks * LANES + 255) / 256), 1, 0, [=] { pack_tiles<TYPE>(p); });
    }
    return dst;
}

static uint32_t slots_for(const struct product &p)
{
    uint32_t n = (uint32_t)p.n, most = (uint32_t)p.most;
    if (p.start == NULL)
        return (n + most - 1) / most;
    return n / most + p.n_experts < n ? n / most + p.n_experts : n;
}

template <int TYPE, class SHAPE>
static void run_wide_shape(struct product p, uint32_t grid_y)
{
    p.most = SHAPE::COLUMNS;
    emulate(slots_for(p), grid_y, SHAPE::BYTES, [=] { wide_product<TYPE, SHAPE>(p); });
}

template <int TYPE>
static void run_wide(struct product p, int columns)
{
    if constexpr (format<TYPE>::CLASS_K) {
        if (columns == 128)
            run_wide_shape<TYPE, wide_shape<TYPE, 4, 4, 2, 1>>(p, 2);
        else if (columns == 64)
            run_wide_shape<TYPE, wide_shape<TYPE, 2, 4, 4, 2>>(p, 1);
        else
            run_wide_shape<TYPE, wide_shape<TYPE, 2, 4, 8, 2>>(p, 1);
    } else if (columns == 64) {
        run_wide_shape<TYPE, wide_shape<TYPE, 1, 4, 4, 1>>(p, 2);
    } else {
        run_wide_shape<TYPE, wide_shape<TYPE, 1, 4, 8, 1>>(p, 1);
    }
}

static void compare(const struct product_case *c, const float *y, const char *how)
{
    comparisons++;
    if (!report_difference(c, y, how))
        mismatches++;
}

template <int TYPE, int W>
static void run_tiles(const struct product_case *c, struct product p, bool alone, uint32_t grid_y)
{
    using plan = tile_plan<TYPE, W, tile_blocks<W>()>;
    p.most = alone ? 1 : W;
    memset(p.y, 0x5a, c->y_bytes);
    emulate(slots_for(p), grid_y, plan::BYTES, [=] { tile_product<TYPE, W>(p); });
    char how[64];
    snprintf(how, sizeof how, "packed%s, %d rows", alone ? ", alone" : "", W);
    compare(c, p.y, how);
}

/* With activations that are kept: as many stages as fit, and two. */
template <int TYPE, int W>
static void run_kept(const struct product_case *c, struct product p, uint32_t grid_y)
{
    using plan = kept_plan<TYPE, W>;
    const int fit = plan::kept_stages(p.n_in);
    p.most = W;
    for (int stages = fit; stages > 0; stages = stages > 2 ? 2 : 0) {
        p.stages = (uint32_t)stages;
        memset(p.y, 0x5a, c->y_bytes);
        const size_t bytes = (size_t)plan::kept_bytes(p.n_in, stages);
        emulate(slots_for(p), grid_y, bytes, [=] { kept_product<TYPE, W>(p); });
        char how[64];
        snprintf(how, sizeof how, "packed, %d rows kept, %d stages", W, stages);
        compare(c, p.y, how);
    }
}

/* Weights as bfloat16 are those of dequantize_row, rounded. */
template <int TYPE>
static void run_dequantise(const struct product_case *c, const uint8_t *tiles)
{
    const struct weight *w = &c->w;
    uint16_t *out = aligned<uint16_t>((size_t)w->n_out * w->n_in);
    float *row = aligned<float>(w->n_in);
    long wrong = 0;
    const uint32_t sixteens = (w->n_out + TILE_ROWS - 1) / TILE_ROWS, blocks = (uint32_t)act_blocks(w->n_in);
    for (uint32_t first = 0, n = 1; first < sixteens; first += n, n = sixteens - first) { /* in two pieces */
        struct dequantising p = {tiles, out + (size_t)first * TILE_ROWS * w->n_in, first, n, w->n_in, w->n_out,
                                 blocks};
        emulate((n * blocks * LANES + 255) / 256, 1, 0, [=] { dequantise_tiles<TYPE>(p); });
    }
    for (uint32_t o = 0; o < w->n_out; o++) {
        dequantize_row(TYPE, (const uint8_t *)w->data + o * w->row_bytes, row, w->n_in);
        for (uint32_t i = 0; i < w->n_in; i++) {
            wrong += out[(size_t)o * w->n_in + i] != (uint16_t)bfloat_pair(row[i], 0.0f);
        }
    }
    comparisons++;
    mismatches += wrong > 0;
    if (wrong > 0)
        printf("MISMATCH %s, dequantised: %ld of %u x %u\n", type_info(TYPE)->name, wrong, w->n_out, w->n_in);
    free(out);
    free(row);
}

static struct product product_of(const struct product_case *c)
{
    struct product p = {(const uint8_t *)c->w.data,
                        c->w.row_bytes,
                        c->w.expert_bytes,
                        c->act,
                        c->x,
                        NULL,
                        c->y_stride,
                        c->order,
                        c->start,
                        c->experts,
                        c->n,
                        c->pairs_per_input,
                        1,
                        c->w.n_in,
                        c->w.n_out,
                        c->w.n_experts,
                        0};
    p.y = (float *)malloc(c->y_bytes);
    memset(p.y, 0x5a, c->y_bytes);
    return p;
}

template <int TYPE>
static void run_case(const struct product_case *c, bool ordinary)
{
    struct product p = product_of(c);
    for (int alone = 0; alone <= (c->order != NULL); alone++) {
        memset(p.y, 0x5a, c->y_bytes);
        if constexpr (TYPE == MTP_TYPE_F32 || TYPE == MTP_TYPE_F16 || TYPE == MTP_TYPE_BF16) {
            p.most = alone ? 1 : FLOAT_COLUMNS;
            emulate(slots_for(p), 2, 0, [=] { float_product<TYPE>(p); });
            compare(c, p.y, "float");
        } else {
            p.most = alone ? 1 : FILE_COLUMNS;
            emulate(slots_for(p), 3, 0, [=] { file_product<TYPE>(p); });
            compare(c, p.y, alone ? "file, alone" : "file");
            struct product t = p;
            uint8_t *tiles = packed<TYPE>(&c->w);
            t.weights = tiles;
            run_tiles<TYPE, 1>(c, t, alone, 2);
            run_tiles<TYPE, 2>(c, t, alone, 1);
            run_tiles<TYPE, 4>(c, t, alone, 3);
            run_tiles<TYPE, 8>(c, t, alone, 2);
            run_tiles<TYPE, 8>(c, t, alone, 1);
            run_tiles<TYPE, 16>(c, t, alone, 1);
            if (!alone) {
                run_kept<TYPE, 4>(c, t, 1);
                run_kept<TYPE, 8>(c, t, 2);
            }
            if (ordinary && c->w.n_experts == 1)
                run_dequantise<TYPE>(c, tiles);
            if constexpr (!tile<TYPE>::RAW)
                for (int columns = 32; !alone && columns <= 128; columns *= 2) {
                    memset(p.y, 0x5a, c->y_bytes);
                    run_wide<TYPE>(t, columns);
                    compare(c, p.y, columns == 32 ? "wide, 32" : columns == 64 ? "wide, 64" : "wide, 128");
                }
            free(tiles);
        }
    }
    free(p.y);
}

template <int TYPE>
static void run_type(bool quick)
{
    long before = comparisons, wrong = mismatches;
    static const uint32_t by_1[] = {1, 63, 66, 300}, by_32[] = {32, 288, 1056, 2336},
                          by_256[] = {256, 768, 2304, 4608};
    static const uint32_t outputs[] = {1, 17, 33, 5};
    static const int32_t rows[] = {1, 3, 9, 17};
    const struct type_info *info = type_info(TYPE);
    const uint32_t *sizes = info->block_elements == 1    ? by_1
                            : info->block_elements == 32 ? by_32
                                                         : by_256;
    for (int i = 0; i < 4; i++)
        for (int fill = 0; fill < N_FILLS; fill += quick ? 3 : 1) {
            struct product_case c;
            make_case(&c, TYPE, sizes[i], outputs[(i + fill) % 4], rows[(i + fill / 2) % 4],
                      (uint64_t)(100 * i + fill), (enum case_fill)fill);
            run_case<TYPE>(&c, fill == FILL_RANDOM);
            free_case(&c);
        }
    for (int i = 0; i < 2; i++) {
        struct product_case c;
        make_expert_case(&c, TYPE, sizes[1 + 2 * i], 19 - 8 * (uint32_t)i, i == 0 ? 7 : 300, 5, 3, i == 0,
                         (uint64_t)i);
        run_case<TYPE>(&c, false);
        free_case(&c);
    }
    if constexpr (TYPE == MTP_TYPE_Q4_K || TYPE == MTP_TYPE_Q6_K || TYPE == MTP_TYPE_Q8_0) {
        struct product_case c;
        make_case(&c, TYPE, sizes[3], 150, quick ? 33 : 130, 77, FILL_RANDOM);
        run_case<TYPE>(&c, false);
        free_case(&c);
    }
    printf("%-8s %ld comparisons, %ld mismatches\n", info->name, comparisons - before,
           mismatches - wrong);
    fflush(stdout);
}

static const struct {
    uint32_t type;
    void (*run)(bool quick);
} types[] = {
#define TYPE(name) {MTP_TYPE_##name, run_type<MTP_TYPE_##name>}
    TYPE(F32), TYPE(F16), TYPE(BF16), TYPE(Q8_0), TYPE(Q4_0), TYPE(Q4_1), TYPE(Q5_0), TYPE(Q5_1),
    TYPE(IQ4_NL), TYPE(MXFP4), TYPE(Q2_K), TYPE(Q3_K), TYPE(Q4_K), TYPE(Q5_K), TYPE(Q6_K), TYPE(IQ4_XS),
    TYPE(IQ2_XXS), TYPE(IQ2_XS), TYPE(IQ2_S), TYPE(IQ3_XXS), TYPE(IQ3_S),
#undef TYPE
};

static bool named(const char *what, int n, char **names)
{
    for (int i = 0; i < n; i++)
        if (strcmp(what, names[i]) == 0)
            return true;
    return n == 0;
}

/* Adds a product to those of one launch; `blocks` for each of its slots. */
static void add_merged(struct merged *m, int i, const struct product_case *c, const uint8_t *tiles, int most,
                       uint32_t blocks)
{
    m->products[i] = product_of(c);
    m->products[i].most = most;
    if (tiles != NULL)
        m->products[i].weights = tiles;
    m->types[i] = c->w.type;
    m->slots[i] = slots_for(m->products[i]);
    m->first[i + 1] = m->first[i] + m->slots[i] * blocks;
}

/* Experts of two types and matrices of three others in one launch. */
template <int W, int E>
static void run_merged(uint32_t n_in, bool keeps)
{
    long before = comparisons, wrong = mismatches;
    struct product_case c[5];
    make_expert_case(&c[0], MTP_TYPE_Q4_K, n_in, 40, 7, W, 3, false, n_in);
    make_expert_case(&c[1], MTP_TYPE_Q8_0, n_in, 17, 300, W, 2, true, n_in);
    make_case(&c[2], MTP_TYPE_Q6_K, n_in, 97, W, n_in, FILL_RANDOM);
    make_case(&c[3], MTP_TYPE_F32, n_in, 11, W, n_in, FILL_RANDOM);
    make_case(&c[4], MTP_TYPE_Q3_K, n_in, 1, W, n_in, FILL_SPECIAL);
    uint8_t *tiles[5] = {packed<MTP_TYPE_Q4_K>(&c[0].w), packed<MTP_TYPE_Q8_0>(&c[1].w),
                         packed<MTP_TYPE_Q6_K>(&c[2].w), NULL, packed<MTP_TYPE_Q3_K>(&c[4].w)};
    struct merged m = {};
    size_t bytes = (size_t)merged_bytes<W, E>();
    for (int i = 0; i < 5; i++) {
        add_merged(&m, i, &c[i], tiles[i], i < 2 ? E : W, 1 + (uint32_t)i % 3);
        const struct keeping keeping = keeping_of<W>(m.products[i], m.types[i]);
        m.products[i].stages = keeps ? keeping.stages : 0;
        bytes = keeps && keeping.bytes > bytes ? keeping.bytes : bytes;
    }
    emulate(m.first[5], 1, bytes, [=] { merged_product<W, E>(m); });
    for (int i = 0; i < 5; i++) {
        compare(&c[i], m.products[i].y, "at once");
        free(m.products[i].y);
        free(tiles[i]);
        free_case(&c[i]);
    }
    printf("%d rows at once, %u: %ld comparisons, %ld mismatches\n", W, n_in, comparisons - before,
           mismatches - wrong);
}

/* Several products in one launch: "sets". */
static void run_sets()
{
    for (uint32_t n_in : {256u, 768u, 2304u}) {
        run_merged<1, 1>(n_in, false);
        for (bool keeps : {false, true}) {
            run_merged<2, 2>(n_in, keeps);
            run_merged<4, 2>(n_in, keeps);
            run_merged<8, 2>(n_in, keeps);
        }
    }
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    const int n = argc - 1 - quick;
    char **names = argv + 1 + quick;
    for (const auto &type : types)
        if (named(type_info(type.type)->name, n, names))
            type.run(quick);
    if (named("sets", n, names))
        run_sets();
    printf("products, emulated: %ld comparisons, %ld mismatches\n", comparisons, mismatches);
    return mismatches > 0 || comparisons == 0;
}
