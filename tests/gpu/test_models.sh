#!/bin/sh
# test_models.sh [SRCDIR [BUILDDIR]] - whole models on a GPU against the CPU: text and digests of plain and
# speculative decoding, --strict, sampling; traces of one verified by the other. `make check-gpu` runs it;
# status 77 and a reason where there is no device.
set -u
srcdir=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
builddir=${2:-.}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mtp-gpu.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
bundled=$srcdir/models/ref-qwen35moe-Q4_K_M.gguf
prose=$srcdir/tests/data/heldout-prose.txt
compared=0 different=0

# generate DEVICE NAME ARGUMENTS...: a run; $scratch/NAME.DEVICE has its text, digest and status.
generate() {
    device=$1 name=$2
    shift 2
    "$builddir/mtpgen" --device "$device" "$@" >"$scratch/text" 2>"$scratch/log"
    status=$?
    {
        cat "$scratch/text"
        echo
        sed -n 's/^  digest */digest /p' "$scratch/log"
        echo "status $status"
    } >"$scratch/$name.$device"
    [ $status = 0 ] || {
        echo "$device: $*: $(tail -1 "$scratch/log")"
        return $status
    }
}

# gpu ARGUMENTS...: on the GPU what the CPU has given last (cpu ARGUMENTS...).
cpu() {
    generate cpu run "$@"
}
gpu() {
    generate cuda run "$@"
    compared=$((compared + 1))
    grep -q '^digest ' "$scratch/run.cuda" && cmp -s "$scratch/run.cpu" "$scratch/run.cuda" || {
        echo "DIFFERS from the CPU: $*"
        diff "$scratch/run.cpu" "$scratch/run.cuda" | head -4
        different=$((different + 1))
    }
}

generate cuda probe -m "$bundled" -p a -n 1 >"$scratch/why" || {
    [ $? = 5 ] && cat "$scratch/why" && exit 77
    cat "$scratch/why"
    exit 1
}

# Models of every type and both architectures, by bytes of a text as their prompt.
for model in "$srcdir"/tests/golden/models/*.gguf; do
    case $model in
    *-mtp.gguf) continue ;;
    esac
    cpu -m "$model" -p 'It was the best of times' -n 40 -c 256 --ignore-eos --draft 0 || continue
    gpu -m "$model" -p 'It was the best of times' -n 40 -c 256 --ignore-eos --draft 0
    gpu -m "$model" -p 'It was the best of times' -n 40 -c 256 --ignore-eos --draft 0 --strict
done

# The bundled model: drafts with the strict check, sampling, one expert read a pair. Every depth, batch and
# length is the business of test_cuda_ways and test_cuda_contexts.
for prompt in 'It is a truth universally acknowledged, that' 'for (i = 0; i < n; i++)'; do
    cpu -m "$bundled" -p "$prompt" -n 96 --ignore-eos --draft 0
    for draft in 0 3 8 auto; do
        gpu -m "$bundled" -p "$prompt" -n 96 --ignore-eos --draft $draft --strict
    done
    gpu -m "$bundled" -p "$prompt" -n 96 --ignore-eos --draft 3 --moe per-token
    cpu -m "$bundled" -p "$prompt" -n 96 --ignore-eos --draft 0 --temp 0.8 -s 7
    gpu -m "$bundled" -p "$prompt" -n 96 --ignore-eos --draft 3 --temp 0.8 -s 7
done
head -c 2200 "$prose" >"$scratch/prompt"
cpu -m "$bundled" -f "$scratch/prompt" -n 12 --ignore-eos --draft 0 -b 7
gpu -m "$bundled" -f "$scratch/prompt" -n 12 --ignore-eos --draft 2 -b 300

# on_gpu TRACE MODEL: what was recorded elsewhere is computed again on the GPU.
on_gpu() {
    "$builddir/mtptrace" verify "$1" -m "$2" --device cuda >"$scratch/log" 2>&1 || {
        echo "DIFFERS: $1 on the GPU: $(tail -1 "$scratch/log")"
        different=$((different + 1))
    }
}

# traces MODEL ARGUMENTS...: what the GPU records is computed again on the CPU, the reverse, and the CPU's own
# recording of the same run has the same rows and tokens.
traces() {
    model=$1
    shift
    rm -f "$scratch"/*.trace
    for device in cpu cuda; do
        "$builddir/mtpgen" --device $device -m "$model" -q "$@" --trace "$scratch/$device.trace" \
            >"$scratch/text" 2>"$scratch/log" || tail -1 "$scratch/log"
    done
    compared=$((compared + 3))
    "$builddir/mtptrace" diff "$scratch/cpu.trace" "$scratch/cuda.trace" >"$scratch/log" 2>&1 || {
        echo "DIFFERS: traces of both devices, $*: $(tail -1 "$scratch/log")"
        different=$((different + 1))
    }
    "$builddir/mtptrace" verify "$scratch/cuda.trace" -m "$model" >"$scratch/log" 2>&1 || {
        echo "DIFFERS: a trace of the GPU, $*: $(tail -1 "$scratch/log")"
        different=$((different + 1))
    }
    on_gpu "$scratch/cpu.trace" "$model"
}
traces "$bundled" -p 'The old man looked at the sea and' -n 64 --ignore-eos --draft 3
traces "$bundled" -p 'static void swap(int *a, int *b)' -n 64 --ignore-eos --draft auto --temp 0.8 -s 11
for name in dense-every-type moe-f32 moe-q8_0; do
    traces "$srcdir/tests/golden/models/$name.gguf" -p 'Once upon a time' -n 48 --ignore-eos --draft 5 \
        --temp 1 -s 3 --trace-logits
done
for name in reference-prose reference-code; do
    compared=$((compared + 1))
    on_gpu "$srcdir/tests/golden/traces/$name.trace" "$bundled"
done

# --fast: long prompts are read by other products, which is said; short ones and all else exactly.
# inexact WANTED ARGUMENTS...: a run whose report counts inexact products: some or none.
inexact() {
    wanted=$1
    shift
    compared=$((compared + 1))
    "$builddir/mtpgen" --device cuda -m "$bundled" "$@" -n 30 --ignore-eos --report "$scratch/report" \
        >"$scratch/text" 2>"$scratch/log"
    count=$(sed -n 's/^  "inexact_products": \([0-9]*\),$/\1/p' "$scratch/report")
    case $wanted-${count:-missing} in
    none-0 | some-[1-9]*) ;;
    *)
        echo "FAILED: $*: $count inexact products, not $wanted: $(tail -1 "$scratch/log")"
        different=$((different + 1))
        ;;
    esac
}
head -c 1100 "$prose" >"$scratch/prompt"
inexact none -f "$scratch/prompt" --draft 3
inexact none -p 'Once' --draft 3 --fast
inexact some -f "$scratch/prompt" --draft 0 --fast
cp "$scratch/text" "$scratch/plain"
grep -q '^mtpgen: note: --fast: prompts are not read exactly' "$scratch/log" || {
    echo "FAILED: --fast is not said"
    different=$((different + 1))
}
# Decoding is exact from what the prompt left, so drafts change nothing.
inexact some -f "$scratch/prompt" --draft 3 --fast
cmp "$scratch/plain" "$scratch/text" || different=$((different + 1))

echo "models: $compared comparisons, $different mismatches"
[ $different = 0 ]
