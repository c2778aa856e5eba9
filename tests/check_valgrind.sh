#!/bin/sh
# check_valgrind.sh SRCDIR BUILDDIR - mtpgen under valgrind: memcheck (no error, nothing lost), and
# helgrind on a copy of the tree built with the annotations of tests/helgrind.patch (no race). Valgrind
# shows programs a processor without AVX-512, so it is the AVX2 kernels that run. Not part of `make check`.
set -u
TEST_SRCDIR=$(cd "${1:?source tree}" && pwd) || exit 1
builddir=$(cd "${2:?build tree}" && pwd) || exit 1
. "$TEST_SRCDIR/tests/lib.sh"
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf

build_annotated() (
    mkdir "$scratch/src" "$scratch/build" && cd "$TEST_SRCDIR" || return 1
    tar -cf - --exclude=./.git --exclude='./build*' . | (cd "$scratch/src" && tar -xf -) || return 1
    cd "$scratch/src" && chmod -R u+w . || return 1
    # An in-tree build would bring its own objects along.
    [ ! -f Makefile ] || make -s distclean
    patch -s -p1 <tests/helgrind.patch && ./autogen.sh && cd ../build &&
        ../src/configure -q CFLAGS='-O2 -g' && make -s -j "${JOBS:-$(nproc)}" mtpgen
)

under() { # BUILDDIR 'OPTIONS of valgrind' ARGUMENTS of mtpgen
    in=$1
    tool=$2
    shift 2
    "$in/libtool" --mode=execute valgrind -q --error-exitcode=99 $tool \
        "$in/mtpgen" -q --device cpu -m "$model" -n 4 -p 'It was a' "$@"
}

command -v valgrind >/dev/null || {
    echo "check_valgrind: valgrind is not installed" >&2
    exit 1
}
build_annotated >"$scratch/log" 2>&1 || {
    tail -20 "$scratch/log" >&2
    echo "check_valgrind: no build with tests/helgrind.patch" >&2
    exit 1
}
memcheck='--leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect'
for threads in 2 3; do
    for way in '--draft 0' '--draft 3' '--draft 3 --strict'; do
        check "memcheck finds nothing with -t $threads $way" \
            under "$builddir" "$memcheck" -t $threads $way
        check "helgrind finds nothing with -t $threads $way" \
            under "$scratch/build" --tool=helgrind -t $threads $way
    done
done
finish
