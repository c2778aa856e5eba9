# Checks of our own; plain Autoconf, so that autoconf-archive is not needed.

# MTP_REFUSE_FAST_MATH - stops when CFLAGS or CC ask for arithmetic that is not IEEE 754.
AC_DEFUN([MTP_REFUSE_FAST_MATH], [
for mtp_flag in $CC $CFLAGS $CPPFLAGS; do
    AS_CASE([$mtp_flag],
        [-Ofast|-ffast-math|-funsafe-math-optimizations|-fassociative-math|-freciprocal-math|-ffinite-math-only|-fno-signed-zeros|-mrecip*|-fsingle-precision-constant],
        [AC_MSG_ERROR([$mtp_flag would change results; remove it from CFLAGS (docs/arithmetic.md)])])
done
AC_MSG_CHECKING([that float expressions are evaluated in float])
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <float.h>
#if FLT_EVAL_METHOD != 0
#error excess precision
#endif]], [])],
    [AC_MSG_RESULT([yes])],
    [AC_MSG_RESULT([no])
     AC_MSG_ERROR([this compiler computes float expressions with excess precision; on 32-bit x86 add -msse2 -mfpmath=sse to CC])])
])

# MTP_TRY_CFLAGS(FLAGS, PROLOGUE, BODY, IF-YES, IF-NO) - whether a program compiles with FLAGS.
AC_DEFUN([MTP_TRY_CFLAGS], [
mtp_saved_cflags=$CFLAGS
CFLAGS="$CFLAGS $1"
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([$2], [$3])], [CFLAGS=$mtp_saved_cflags
$4], [CFLAGS=$mtp_saved_cflags
$5])
])

# MTP_CHECK_AVX2 - sets mtp_have_avx2, AVX2_CFLAGS and defines MTP_HAVE_AVX2.
AC_DEFUN([MTP_CHECK_AVX2], [
mtp_have_avx2=no
AVX2_CFLAGS=
AC_ARG_ENABLE([avx2],
    [AS_HELP_STRING([--disable-avx2], [leave the AVX2 kernels out, as on other architectures])], [],
    [enable_avx2=yes])
AC_MSG_CHECKING([for AVX2, FMA and F16C])
AS_CASE([$enable_avx2-$host_cpu], [yes-x86_64|yes-amd64],
    [MTP_TRY_CFLAGS([-mavx2 -mfma -mf16c], [[#include <immintrin.h>]],
        [[__m256 a = _mm256_fmadd_ps(_mm256_setzero_ps(), _mm256_setzero_ps(),
                                     _mm256_cvtph_ps(_mm_setzero_si128()));
          return _mm256_movemask_ps(a);]],
        [mtp_have_avx2=yes])])
AC_MSG_RESULT([$mtp_have_avx2])
AS_IF([test "$mtp_have_avx2" = yes],
    [AVX2_CFLAGS="-mavx2 -mfma -mf16c"
     AC_DEFINE([MTP_HAVE_AVX2], [1], [the AVX2 kernels are part of this build])])
AC_SUBST([AVX2_CFLAGS])
])

# MTP_CHECK_AVX512 - sets mtp_have_avx512, AVX512_CFLAGS and defines MTP_HAVE_AVX512. After MTP_CHECK_AVX2.
AC_DEFUN([MTP_CHECK_AVX512], [
mtp_have_avx512=no
AVX512_CFLAGS=
AC_ARG_ENABLE([avx512],
    [AS_HELP_STRING([--disable-avx512], [leave the AVX-512 VNNI kernels out])], [],
    [enable_avx512=yes])
mtp_avx512_flags="-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni"
AC_MSG_CHECKING([for AVX-512 and VNNI])
AS_CASE([$enable_avx512-$mtp_have_avx2], [yes-yes],
    [MTP_TRY_CFLAGS([$mtp_avx512_flags], [[#include <immintrin.h>]],
        [[__m512i a = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_setzero_si512(),
                                          _mm512_set1_epi32(1));
          return _mm512_reduce_add_epi32(a);]],
        [mtp_have_avx512=yes])])
AC_MSG_RESULT([$mtp_have_avx512])
AS_IF([test "$mtp_have_avx512" = yes],
    [AVX512_CFLAGS=$mtp_avx512_flags
     AC_DEFINE([MTP_HAVE_AVX512], [1], [the AVX-512 kernels are part of this build])])
AC_SUBST([AVX512_CFLAGS])
])

# MTP_WARNINGS - sets WARN_CFLAGS.
AC_DEFUN([MTP_WARNINGS], [
WARN_CFLAGS="-Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wstrict-prototypes -Wvla"
AS_IF([test "$enable_werror" != no], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
AC_SUBST([WARN_CFLAGS])
])

# MTP_SANITIZERS - sets SANITIZE_CFLAGS and FUZZ_LDFLAGS.
AC_DEFUN([MTP_SANITIZERS], [
SANITIZE_CFLAGS=
FUZZ_LDFLAGS=
AS_IF([test "$enable_sanitizers" != no],
    [SANITIZE_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"])
AS_IF([test "$enable_fuzz" != no],
    [SANITIZE_CFLAGS="$SANITIZE_CFLAGS -fsanitize=fuzzer-no-link"
     FUZZ_LDFLAGS="-fsanitize=fuzzer"])
AS_IF([test -n "$SANITIZE_CFLAGS"],
    [AC_MSG_CHECKING([whether $CC links with $SANITIZE_CFLAGS])
     mtp_saved_cflags=$CFLAGS
     CFLAGS="$CFLAGS $SANITIZE_CFLAGS"
     AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [AC_MSG_RESULT([yes])],
        [AC_MSG_RESULT([no])
         AC_MSG_ERROR([$CC cannot link the sanitizers; for --enable-fuzz use CC=clang with libclang-rt-dev])])
     CFLAGS=$mtp_saved_cflags])
AC_SUBST([SANITIZE_CFLAGS])
AC_SUBST([FUZZ_LDFLAGS])
])
