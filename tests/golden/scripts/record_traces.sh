#!/bin/sh
# record_traces.sh SRCDIR BUILDDIR - records the golden traces again and prints how they differ from
# those of the tree. A trace is replaced only by one of a newer version of the arithmetic; without one,
# a difference is an error. `make golden` runs this.
set -u
srcdir=${1:?source tree}
builddir=${2:?build tree}
traces=$srcdir/tests/golden/traces
mtptrace=$builddir/mtptrace
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mtp-golden.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
failed=0

version() {
    "$mtptrace" show "$1" | sed -n 's/^arithmetic *version //p'
}

keep() {
    mkdir -p "$traces" && cp "$scratch/$1.trace" "$traces/$1.trace" || failed=1
}

# golden NAME ARGUMENTS...: those of record_trace, without the file to write.
golden() {
    name=$1
    shift
    old=$traces/$name.trace
    new=$scratch/$name.trace
    "$builddir/tests/record_trace" -t 1 "$@" >"$scratch/log" 2>&1 || {
        cat "$scratch/log"
        echo "$name: cannot be recorded"
        failed=1
        return
    }
    if [ ! -f "$old" ]; then
        echo "$name: new"
        keep "$name"
    elif [ "$(version "$new")" -gt "$(version "$old")" ]; then
        "$mtptrace" diff "$old" "$new"
        echo "$name: replaced, arithmetic version $(version "$old") by $(version "$new")"
        keep "$name"
    elif "$mtptrace" diff "$old" "$new"; then
        echo "$name: as it was"
    else
        echo "$name: DIFFERENT under the same version of the arithmetic, not replaced"
        failed=1
    fi
}

reference=$srcdir/models/ref-qwen35moe-Q4_K_M.gguf
small=$srcdir/tests/golden/models
golden reference-prose -n 64 --draft 3 \
    "$scratch/reference-prose.trace" "$reference" 'It was a dark and stormy night'
golden reference-code -n 64 --draft 3 --temp 0.8 --seed 7 \
    "$scratch/reference-code.trace" "$reference" 'static int compare(const void *a, const void *b)'
golden dense-q4_k_m -n 64 --draft 2 \
    "$scratch/dense-q4_k_m.trace" "$small/dense-q4_k_m.gguf" 'Once upon a time'
golden moe-q8_0 -n 16 --draft 4 --temp 1 --seed 3 --logits \
    "$scratch/moe-q8_0.trace" "$small/moe-q8_0.gguf" 'Once upon a time'
exit $failed
