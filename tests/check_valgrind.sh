#!/bin/sh
# check_valgrind.sh SRCDIR BUILDDIR - mtpgen under valgrind's memcheck (no error, nothing lost) and
# helgrind, with two threads. Valgrind shows programs a processor without AVX-512, so it is the AVX2
# kernels that run. Not part of `make check`: it takes minutes.
set -u
TEST_SRCDIR=$(cd "${1:?source tree}" && pwd) || exit 1
builddir=$(cd "${2:?build tree}" && pwd) || exit 1
. "$TEST_SRCDIR/tests/lib.sh"
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
command -v valgrind >/dev/null || {
    echo "check_valgrind: valgrind is not installed" >&2
    exit 1
}

under() { # "OPTIONS of valgrind" ARGUMENTS of mtpgen
    tool=$1
    shift
    "$builddir/libtool" --mode=execute valgrind -q --error-exitcode=99 $tool \
        "$builddir/mtpgen" -q -m "$model" -n 4 -t 2 -p 'It was a' "$@"
}

memcheck='--leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect'
helgrind="--tool=helgrind --suppressions=$TEST_SRCDIR/tests/helgrind.supp"
for way in '--draft 0' '--draft 3' '--draft 3 --strict'; do
    check "memcheck finds nothing with $way" under "$memcheck" $way
    check "helgrind finds nothing with $way" under "$helgrind" $way
done
finish
