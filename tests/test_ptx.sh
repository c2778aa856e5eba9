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

# Kernels that do not wait for those before them (kernels/cuda/device.cuh), but for what packs weights: they are
# launched the plain way.
without_wait() {
    awk '/\.entry/ { name = $0; waits = 0 } /griddepcontrol\.wait/ { waits = 1 }
        /^}/ && name != "" { if (!waits && name !~ /pack_tiles/) print name; name = "" }' "$@"
}

every_kernel_waits() {
    [ "$(cat "$TEST_BUILDDIR"/kernels/cuda/*.ptx | grep -c '\.entry')" -gt 50 ] &&
        [ -z "$(without_wait "$TEST_BUILDDIR"/kernels/cuda/*.ptx)" ]
}

check "every kernel names the rounding of its float operations" every_kernel
check "the flags of the build are enough for plain operators" \
    accepted "-fmad=false -prec-div=true -prec-sqrt=true -ftz=false"
check "every kernel waits for those before it" every_kernel_waits
bare_is_found() { compile "" && without_wait "$scratch/bare.ptx" | grep -q bare; }
check "a kernel that does not wait is found" bare_is_found
check "operators that may be fused are found" refused "-fmad=true"
check "an approximate quotient is found" refused "-fmad=false -prec-div=false"
check "flushed subnormals are found" refused "-fmad=false -ftz=true"
# Lines that nvcc may write, or an asm statement of ours.
one() {
    printf '.version 9.0\n.target sm_90\n%s\n' "$1" >"$scratch/one.ptx"
    sh "$check_ptx" "$scratch/one.ptx"
}
one_refused() { ! one "$1"; }
while read -r line; do
    check "found: $line" one_refused "$line"
done <<'END'
ex2.approx.ftz.f32 %f1, %f2;
add.f32 %f1, %f2, %f3;
sub.f32 %f1, %f2, %f3;
@%p1 mul.f32 %f1, %f2, %f3;
{add.f32 %f1, %f2, %f3;}
mov.u32 %r1, 0;mul.f64 %d1, %d2, %d3;
mul.ftz.f32 %f1, %f2, %f3;
add.rn.ftz.f32 %f1, %f2, %f3;
fma.rz.f32 %f1, %f2, %f3, %f4;
mad.f32 %f1, %f2, %f3, %f4;
div.approx.f32 %f1, %f2, %f3;
div.full.f32 %f1, %f2, %f3;
sqrt.approx.f32 %f1, %f2;
rsqrt.approx.f32 %f1, %f2;
rcp.approx.ftz.f32 %f1, %f2;
sin.approx.f32 %f1, %f2;
lg2.approx.f32 %f1, %f2;
tanh.approx.f32 %f1, %f2;
add.f16 %h1, %h2, %h3;
mul.bf16x2 %r1, %r2, %r3;
ex2.approx.f16 %h1, %h2;
cvt.ftz.f32.f16 %f1, %h1;
atom.global.add.f32 %f1, [%rd1], %f2;
red.relaxed.gpu.global.add.f32 [%rd1], %f1;
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
END
while read -r line; do
    check "allowed: $line" one "$line"
done <<'END'
fma.rn.f32 %f1, %f2, %f3, %f4;
@%p1 mul.rn.f32 %f1, %f2, %f3;
div.rn.f32 %f1, %f2, %f3;
sqrt.rn.f32 %f1, %f2;
max.f32 %f1, %f2, %f3;
setp.gt.f32 %p1, %f1, %f2;
cvt.rn.f32.s32 %f1, %r1;
cvt.f32.f16 %f1, %h1;
ld.global.f32 %f1, [%rd1];
add.s32 %r1, %r2, %r3;
mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1, %r2, %r3, %r4}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r11, %r11, %r11, %r11};
mov.f32 %f1, 0f3F800000; // add.f32 in a remark
END
: >"$scratch/empty.ptx"
check "a file without PTX is found" sh -c '! sh "$1" "$2"' - "$check_ptx" "$scratch/empty.ptx"
finish
