#!/bin/sh
# test_cuda_emulated.sh - the product kernels of the CUDA backend, run on the host thread by thread
# (tests/gpu/test_cuda_emulated.cc), give the bits of the scalar definition. Needs neither a GPU nor nvcc.
set -u
. "$TEST_SRCDIR/tests/lib.sh"
cxx=$(command -v g++ || command -v clang++) || {
    echo "SKIPPED: the CUDA kernels are C++ and there is no compiler for it here (package g++)"
    exit 77
}
if [ "$TEST_SANITIZED" = yes ]; then
    echo "SKIPPED: emulated threads change stacks, which the address sanitizer takes for errors"
    exit 77
fi

built() {
    flags="-O2 -ffp-contract=off -I$TEST_SRCDIR -I$TEST_SRCDIR/src"
    # shellcheck disable=SC2086
    "$CC" -std=gnu11 $flags -c "$TEST_SRCDIR/tests/gpu/product_cases.c" -o "$scratch/cases.o" &&
        "$cxx" -std=gnu++17 $flags -U_FORTIFY_SOURCE -c "$TEST_SRCDIR/tests/gpu/test_cuda_emulated.cc" \
            -o "$scratch/emulated.o" &&
        "$TEST_BUILDDIR/libtool" --tag=CC --mode=link "$cxx" -static-libtool-libs -o "$scratch/emulated" \
            "$scratch/emulated.o" "$scratch/cases.o" "$TEST_BUILDDIR/libmtpcore.la"
}

# equals TYPE: its products, experts among them, packed and as in the file.
equals() {
    "$scratch/emulated" --quick "$1"
}

check "the kernels' code compiles for the host" built
for type in BF16 Q5_1 Q4_K Q6_K IQ3_S; do
    check "products of $type are the definition's" equals $type
done
check "several products in one launch are the definition's" equals sets
check "a type that is none is not compared" sh -c '! "$1" Q9_K' - "$scratch/emulated"
finish
