/* fpcontrol.h - the floating-point environment the arithmetic needs: round to nearest, subnormals
 * kept. A host program may have changed it (DAZ, FTZ, rounding), so every compute thread sets it and
 * puts back what it found. */
#ifndef MTP_KERNELS_FPCONTROL_H
#define MTP_KERNELS_FPCONTROL_H

#if defined(__SSE2__)
#include <xmmintrin.h>
typedef unsigned int fp_control;
static inline fp_control fp_control_enter(void)
{
    fp_control saved = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return saved;
}
static inline void fp_control_leave(fp_control saved)
{
    _mm_setcsr(saved);
}
#else
#include <fenv.h>
typedef fenv_t fp_control;
static inline fp_control fp_control_enter(void)
{
    fp_control saved;
    fegetenv(&saved);
    fesetenv(FE_DFL_ENV);
    return saved;
}
static inline void fp_control_leave(fp_control saved)
{
    fesetenv(&saved);
}
#endif

#endif
