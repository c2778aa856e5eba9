#!/bin/sh
# test_cpu_variants.sh [SRCDIR [BUILDDIR]] - the CPU's kernels on the machine that has the GPU: which
# instruction sets its processor has, the tests of the variants against the scalar definition, and whole
# runs with each set, which must give the same text and digest. `make check-gpu` runs it.
set -u
srcdir=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
builddir=${2:-.}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mtp-variants.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
failed=0

sed -n 's/^model name[^:]*: */processor: /p' /proc/cpuinfo | head -1
for feature in avx2 avx512f avx512bw avx512vl avx512dq avx512_vnni; do
    grep -qw "$feature" /proc/cpuinfo && printf '%s ' "$feature"
done
echo

# The programs of one subject each, all at a time.
for program in test_variants test_variants_ops test_blocks_avx2 test_pack test_digest test_selftest \
    test_invariance test_special; do
    ("$builddir/tests/$program" >"$scratch/$program.log" 2>&1 || echo $? >"$scratch/$program.failed") &
done
wait
for log in "$scratch"/*.log; do
    program=$(basename "$log" .log)
    if [ -e "$scratch/$program.failed" ]; then
        grep -v '  OK ' "$log" | tail -20
        echo "$program: failed"
        failed=1
    fi
done
echo "$(grep -h '\[       OK \]' "$scratch"/*.log | wc -l) tests of $(ls "$scratch"/*.log | wc -l) programs passed"

# A machine without AVX-512 says so; scalar is everywhere.
ran=
for isa in scalar avx2 avx512; do
    for name in models/ref-qwen35moe-Q4_K_M tests/golden/models/dense-every-type tests/golden/models/moe-q3_k; do
        "$builddir/mtpgen" --device cpu --isa $isa -m "$srcdir/$name.gguf" -n 32 --ignore-eos \
            -p 'It is a truth universally acknowledged, that' >"$scratch/text" 2>"$scratch/err" || {
            echo "$isa: $(tail -1 "$scratch/err")"
            [ $isa = scalar ] && failed=1
            continue 2
        }
        run=$scratch/$(basename $name)
        { cat "$scratch/text"; sed -n 's/^  digest */digest /p' "$scratch/err"; } >"$run.$isa"
        grep -q '^digest ' "$run.$isa" && cmp "$run.scalar" "$run.$isa" || failed=1
    done
    ran="$ran $isa"
done
echo "instruction sets run:$ran"
if grep -qw avx512_vnni /proc/cpuinfo && [ "${ran% avx512}" = "$ran" ]; then
    echo "the processor has AVX-512 VNNI, but its kernels did not run"
    failed=1
fi
exit $failed
