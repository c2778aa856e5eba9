/* fmath_double.c - exp, log, sin and cos in double precision (kernels/fmath.h). */
#include "kernels/fmath.h"

static double pow2(int n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double round_even(double x) /* |x| < 2^51 */
{
    return (x + 6755399441055744.0) - 6755399441055744.0;
}

double mtp_exp(double x)
{
    x = x < 700.0 ? x : 700.0;
    x = x > -700.0 ? x : -700.0;
    double n = round_even(x * 1.44269504088896340736);
    double r = fma(n, -6.93147180369123816490e-01, x);
    r = fma(n, -1.90821492927058770002e-10, r);
    double sum = 1.0;
    for (int k = 15; k >= 1; k--) /* Horner of the Taylor series: sum = 1 + r/k * sum */
        sum = fma(r / (double)k, sum, 1.0);
    return sum * pow2((int)n);
}

double mtp_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint64_t root_half = 0x3fe6a09e667f3bcdull;
    uint64_t shifted = bits - root_half;
    int e = (int)((int64_t)shifted >> 52);
    uint64_t mantissa = (shifted & 0x000fffffffffffffull) + root_half;
    double m;
    memcpy(&m, &mantissa, sizeof m);
    double s = (m - 1.0) / (m + 1.0);
    double z = s * s;
    double sum = 1.0 / 23.0;
    for (int k = 21; k >= 1; k -= 2) /* atanh(s) / s = sum of z^i / (2i + 1) */
        sum = fma(sum, z, 1.0 / (double)k);
    double n = (double)e;
    return fma(n, 6.93147180369123816490e-01, fma(n, 1.90821492927058770002e-10, 2.0 * s * sum));
}

/* Taylor series on |r| <= pi/4. */
static double sine_series(double r)
{
    double z = r * r;
    double sum = 1.0;
    for (int k = 18; k >= 2; k -= 2)
        sum = fma(-z / (double)(k * (k + 1)), sum, 1.0);
    return r * sum;
}

static double cosine_series(double r)
{
    double z = r * r;
    double sum = 1.0;
    for (int k = 17; k >= 1; k -= 2)
        sum = fma(-z / (double)(k * (k + 1)), sum, 1.0);
    return sum;
}

void mtp_sincos(double x, double *sine, double *cosine)
{
    double n = round_even(x * 6.36619772367581382433e-01);
    double r = fma(n, -1.57079632673412561417e+00, x); /* pi/2 in three parts, the first 33 bits */
    r = fma(n, -6.07710050630396597660e-11, r);
    r = fma(n, -2.02226624879595063154e-21, r);
    double s = sine_series(r);
    double c = cosine_series(r);
    switch ((int64_t)n & 3) {
    case 0: *sine = s; *cosine = c; break;
    case 1: *sine = c; *cosine = -s; break;
    case 2: *sine = -s; *cosine = -c; break;
    default: *sine = -c; *cosine = s; break;
    }
}
