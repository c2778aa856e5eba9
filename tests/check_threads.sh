#!/bin/sh
# check_threads.sh SRCDIR - the programs that use threads, under ThreadSanitizer: builds the tree with it
# in a scratch directory, runs the tests of the pool, the operations, packing, the profile and sessions,
# then mtpgen with several numbers of threads and depths of draft, whose texts must be equal. Any report
# of the sanitizer is a failure. Not part of `make check`: it takes minutes.
set -u
TEST_SRCDIR=$(cd "${1:?source tree}" && pwd) || exit 1
. "$TEST_SRCDIR/tests/lib.sh"
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
TSAN_OPTIONS="exitcode=66 second_deadlock_stack=1"
export TSAN_OPTIONS

programs='test_pool test_invariance test_sequences test_pack test_fp_environment test_profile test_session'

build() {
    mkdir "$scratch/build" && cd "$scratch/build" || exit 1
    "$TEST_SRCDIR/configure" -q CFLAGS='-O1 -g -fsanitize=thread' LDFLAGS=-fsanitize=thread &&
        make -s -j "${JOBS:-$(nproc)}" mtpgen $(printf 'tests/%s ' $programs)
}

same_text() { # ARGUMENTS of mtpgen
    ./mtpgen -q --device cpu -m "$model" -n 20 -p 'It was a dark and stormy night' "$@" >"$scratch/out" || return 1
    [ -s "$scratch/out" ] && [ -f "$scratch/first" ] || cp "$scratch/out" "$scratch/first"
    [ -s "$scratch/out" ] && cmp "$scratch/first" "$scratch/out"
}

build >"$scratch/log" 2>&1 || {
    tail -20 "$scratch/log" >&2
    echo "check_threads: no build with -fsanitize=thread" >&2
    exit 1
}
cd "$scratch/build" || exit 1
for program in $programs; do
    check "$program runs without a race" "tests/$program"
done
for threads in 1 2 5 16; do
    for draft in 0 3 auto; do
        check "mtpgen -t $threads --draft $draft" same_text -t $threads --draft $draft
        check "mtpgen -t $threads --draft $draft --strict" \
            same_text -t $threads --draft $draft --strict
    done
done
finish
