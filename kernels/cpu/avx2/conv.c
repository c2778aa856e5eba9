/* conv.c - depthwise causal convolution and SiLU by AVX2: a tile of channels at a time, its taps
 * turned so that a vector holds one tap of eight channels. */
#include <string.h>

#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

enum { TILE = 64, MOST_TAPS = 8 };

struct tile {
    size_t channel, n; /* the first channel, and how many */
    float w[MOST_TAPS][TILE];
};

/* Turns the weights of the tile's channels. Four taps, what models have, eight channels at a time. */
static void load_weights(const struct conv_args *args, struct tile *tile)
{
    const float *w = args->w + tile->channel * args->n_taps;
    size_t c = 0;
    for (; args->n_taps == 4 && c + LANES <= tile->n; c += LANES) {
        __m256 a[4];
        for (size_t i = 0; i < 4; i++) { /* channels i and i + 4 */
            __m128 low = _mm_loadu_ps(w + 4 * (c + i)), high = _mm_loadu_ps(w + 4 * (c + i + 4));
            a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
        }
        __m256 ab = _mm256_unpacklo_ps(a[0], a[1]), cd = _mm256_unpacklo_ps(a[2], a[3]);
        _mm256_storeu_ps(tile->w[0] + c, _mm256_shuffle_ps(ab, cd, 0x44));
        _mm256_storeu_ps(tile->w[1] + c, _mm256_shuffle_ps(ab, cd, 0xee));
        ab = _mm256_unpackhi_ps(a[0], a[1]), cd = _mm256_unpackhi_ps(a[2], a[3]);
        _mm256_storeu_ps(tile->w[2] + c, _mm256_shuffle_ps(ab, cd, 0x44));
        _mm256_storeu_ps(tile->w[3] + c, _mm256_shuffle_ps(ab, cd, 0xee));
    }
    for (; c < tile->n; c++)
        for (size_t tap = 0; tap < args->n_taps; tap++)
            tile->w[tap][c] = w[c * args->n_taps + tap];
}

static void convolve_row(const struct conv_args *args, size_t row, const struct tile *tile)
{
    size_t channels = args->n_channels, kept = args->n_taps - 1;
    const float *in = args->x + row * channels + tile->channel;
    float *out = args->out + row * channels + tile->channel;
    float *state = args->state + (size_t)args->rows[row].sequence * kept * channels + tile->channel;
    for (size_t c = 0; c < tile->n; c += LANES) {
        size_t n = tile->n - c;
        __m256 x = load_lanes(in + c, n), sum = _mm256_setzero_ps();
        for (size_t tap = 0; tap < kept; tap++) {
            __m256 old = load_lanes(state + tap * channels + c, n);
            sum = _mm256_fmadd_ps(_mm256_loadu_ps(tile->w[tap] + c), old, sum);
            if (tap > 0)
                store_lanes(state + (tap - 1) * channels + c, old, n);
        }
        sum = _mm256_fmadd_ps(_mm256_loadu_ps(tile->w[kept] + c), x, sum);
        if (kept > 0)
            store_lanes(state + (kept - 1) * channels + c, x, n);
        store_lanes(out + c, v_silu(sum), n);
    }
}

void conv_avx2(const struct conv_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    if (args->n_taps > MOST_TAPS) {
        conv_scalar(args, begin, end, task);
        return;
    }
    struct tile tile;
    memset(tile.w, 0, sizeof tile.w);
    for (int64_t first = begin; first < end; first += TILE) {
        tile.channel = (size_t)first;
        tile.n = end - first < TILE ? (size_t)(end - first) : TILE;
        load_weights(args, &tile);
        for (int32_t r = 0; r < args->n_rows; r++)
            convolve_row(args, (size_t)r, &tile);
    }
}
