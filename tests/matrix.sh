#!/bin/sh
# matrix.sh SRCDIR BUILDDIR - tests/matrix over every model of the tree, the bundled one with fewer
# combinations where the scalar kernels or 5,000 positions make each of them slow.
set -u
srcdir=${1:?source tree}
builddir=${2:?build tree}
jobs=$(nproc)
work=$(mktemp -d "${TMPDIR:-/tmp}/mtp-matrix.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

bundled=models/ref-qwen35moe-Q4_K_M.gguf
golden=tests/golden/models
avx512=9216   # the first of the ways with AVX-512; the first half of each kind is greedy
scalar=18432 # the first of the ways with scalar kernels
ways=27648

# One line a process: MODEL LENGTH GENERATE STRIDE FIRST END, the slow ones first. Over all slices of a
# model the stride is a prime, so that every pair of values of two axes comes up.
plan() {
    for slice in 0 1; do
        echo "$bundled 4990 10 $((443 * 2)) $((443 * slice)) $((avx512 / 2))"
        echo "$bundled 4990 10 $((443 * 2)) $((avx512 + 443 * slice)) $((avx512 + avx512 / 2))"
    done
    for slice in 0 1 2 3; do
        echo "$bundled 7 5 $((199 * 4)) $((scalar + 199 * slice)) $ways"
    done
    for slice in 0 1 2 3 4 5 6 7; do
        echo "$bundled 40 16 $((13 * 8)) $((13 * slice)) $scalar"
    done
    for model in "$srcdir/$golden"/*.gguf; do
        name=$golden/$(basename "$model")
        case $name in
        *-mtp.gguf) continue ;; # a companion: no model by itself
        *-trunk.gguf) name="$name+${name%-trunk.gguf}-mtp.gguf" ;;
        esac
        echo "$name 4990 10 3001 0 $ways"
        for slice in 0 1 2 3; do
            echo "$name 23 14 $((47 * 4)) $((47 * slice)) $ways"
        done
    done
}

plan >"$work/plan"
echo "$(wc -l <"$work/plan") processes, $jobs at a time" >&2
MATRIX=$builddir/tests/matrix xargs -L 1 -P "$jobs" sh -c \
    '"$MATRIX" "$@" >/dev/null 2>"$0.$$" || echo failed >>"$0.$$"' "$work/log" <"$work/plan"
grep -h 'ways equal' "$work"/log.* | sort
if grep -l failed "$work"/log.* >/dev/null; then
    cat $(grep -l failed "$work"/log.*) >&2
    exit 1
fi
