/* embed.c - embedding rows by AVX2: whole super-blocks of quantised types; the definition for the rest.
 * d * scale and its product with q are exact in float32, so that only the minimum rounds, once. */
#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/avx2/variants.h"

static __m256 eight_quants(const int8_t *q)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)q)));
}

static void put_16(const int8_t *q, float scale, float min, bool has_min, float *out)
{
    __m256 low = _mm256_mul_ps(_mm256_set1_ps(scale), eight_quants(q));
    __m256 high = _mm256_mul_ps(_mm256_set1_ps(scale), eight_quants(q + 8));
    if (has_min) {
        low = _mm256_sub_ps(low, _mm256_set1_ps(min));
        high = _mm256_sub_ps(high, _mm256_set1_ps(min));
    }
    _mm256_storeu_ps(out, low);
    _mm256_storeu_ps(out + 8, high);
}

static void k_row(uint32_t type, const uint8_t *row, float *out, size_t n)
{
    const struct type_info *info = type_info(type);
    decode_k_fn *decode = block_codec_avx2(type)->decode_k;
    for (size_t at = 0; at < n; at += SUPER_BLOCK, row += info->block_bytes) {
        struct kblock block;
        decode(row, &block);
        for (size_t s = 0; s < 16; s++)
            put_16(block.q + 16 * s, block.d * block.scale[s], block.dmin * block.min[s],
                   info->has_min, out + at + 16 * s);
    }
}

void embed_avx2(const struct embed_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    const struct weight *table = &args->table;
    if (type_info(table->type)->weight_class != WEIGHT_K) {
        embed_scalar(args, begin, end, task);
        return;
    }
    for (int64_t r = begin; r < end; r++) {
        const uint8_t *row = (const uint8_t *)table->data +
                             (size_t)args->rows[r].token * table->row_bytes;
        k_row(table->type, row, args->dst + (size_t)r * table->n_in, table->n_in);
    }
}
