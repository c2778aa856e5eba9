#!/bin/sh
# The CUDA kernels round every float operation to nearest (docs/arithmetic.md, "Operations"), and the check
# finds one that does not.
. "$TEST_SRCDIR/tests/lib.sh"

check_ptx=$TEST_SRCDIR/tests/check_ptx.sh

# compile FLAGS: the PTX of a kernel of plain operators. Where nvcc may fuse a product and a sum it does so
# unseen, but then names no rounding of the operators it leaves alone.
compile() {
    cat >"$scratch/bare.cu" <<'END'
__global__ void bare(float *x) { x[0] = x[1] * x[2]; x[5] = x[3] / x[4]; }
END
    $NVCC $1 -arch=compute_90 -ptx -o "$scratch/bare.ptx" "$scratch/bare.cu" 2>&1
}

refused() {
    compile "$1" || return 1
    if sh "$check_ptx" "$scratch/bare.ptx"; then
        return 1
    fi
}

accepted() {
    compile "$1" && sh "$check_ptx" "$scratch/bare.ptx"
}

every_kernel() {
    [ "$(ls "$TEST_BUILDDIR"/kernels/cuda/*.ptx | wc -l)" = \
        "$(ls "$TEST_SRCDIR"/kernels/cuda/*.cu | wc -l)" ] &&
        sh "$check_ptx" "$TEST_BUILDDIR"/kernels/cuda/*.ptx
}

check "every kernel names the rounding of its float operations" every_kernel
check "the flags of the build are enough for plain operators" \
    accepted "-fmad=false -prec-div=true -prec-sqrt=true -ftz=false"
check "operators that may be fused are found" refused "-fmad=true"
check "an approximate quotient is found" refused "-fmad=false -prec-div=false"
check "flushed subnormals are found" refused "-fmad=false -ftz=true"
printf '.version 9.0\nex2.approx.ftz.f32 %%f1, %%f2;\n' >"$scratch/one.ptx"
one_refused() { ! sh "$check_ptx" "$scratch/one.ptx"; }
check "an approximate function is found" one_refused
finish
