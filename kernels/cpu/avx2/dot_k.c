/* dot_k.c - products with WEIGHT_K types: those without a loader of their own pass through their
 * decoder. */
#include "kernels/cpu/avx2/dot_k.h"

ALWAYS_INLINE void load_any(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                            struct k_weights *w)
{
    struct kblock k;
    decode(block, &k);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i q = load_q(k.q + 32 * j);
        if (form.is_signed)
            w->sign[j] = q;
        w->q[j] = form.is_signed ? _mm256_abs_epi8(q)
                                 : _mm256_add_epi8(q, _mm256_set1_epi8((char)form.offset));
    }
    __m256i scale = load_q(k.scale);
    w->scale = evens_and_odds(scale);
    if (form.offset != 0)
        w->taken = _mm256_mullo_epi16(scale, _mm256_set1_epi16((short)-form.offset));
    if (form.has_min)
        w->min = load_q(k.min);
    w->d = k.d;
    w->dmin = k.dmin;
}

/* Magnitudes of the IQ grids are at most 62, so that 64 makes every quant positive. */
static void dot_iq(const struct dot_args *args)
{
    k_groups(args, load_any, (struct k_form){.offset = 64});
}

/* Values to -127: no offset fits. */
static void dot_iq4_xs(const struct dot_args *args)
{
    k_groups(args, load_any, (struct k_form){.is_signed = true});
}

static void dot_q2_k(const struct dot_args *args)
{
    k_groups(args, load_any, (struct k_form){.has_min = true});
}

static void dot_q3_k(const struct dot_args *args)
{
    k_groups(args, load_any, (struct k_form){.offset = 4});
}

void dot_k_avx2(const struct dot_args *args)
{
    switch (args->type) {
    case MTP_TYPE_Q2_K: dot_q2_k(args); break;
    case MTP_TYPE_Q3_K: dot_q3_k(args); break;
    case MTP_TYPE_Q4_K: dot_q4_k_avx2(args); break;
    case MTP_TYPE_Q5_K: dot_q5_k_avx2(args); break;
    case MTP_TYPE_Q6_K: dot_q6_k_avx2(args); break;
    case MTP_TYPE_IQ4_XS: dot_iq4_xs(args); break;
    default: dot_iq(args); break;
    }
}
