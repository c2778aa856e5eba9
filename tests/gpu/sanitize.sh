#!/bin/sh
# sanitize.sh [SRCDIR [BUILDDIR [TOOL [MODEL]]]] - mtpgen on a GPU under the four tools of compute-sanitizer, over 64 tokens
# of a small dense model and of one with experts: no access out of bounds and nothing leaked (memcheck), no
# race in shared memory (racecheck), no use of memory that was never written (initcheck), no wrong barrier
# (synccheck). `make check-gpu-sanitize` runs it. Status 77 and a reason without compute-sanitizer or a device.
set -u
srcdir=$(cd "${1:-$(dirname "$0")/../..}" && pwd) || exit 1
builddir=$(cd "${2:-.}" && pwd) || exit 1
tools=${3:-memcheck racecheck initcheck synccheck}
small=${4:-dense-q4_k_m moe-q8_0}
limit=300 # seconds a run
models=$srcdir/tests/golden/models
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mtp-sanitize.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || {
    echo "check-gpu-sanitize: compute-sanitizer is not installed (it comes with the CUDA toolkit)"
    exit 77
}

# generate NAME MODEL TOOL...: 64 tokens in $scratch/NAME.text, under the tool if there is one.
generate() {
    run_name=$1 model=$2
    shift 2
    timeout "$limit" "$builddir/libtool" --mode=execute "$@" "$builddir/mtpgen" --device cuda -q \
        -m "$models/$model.gguf" -p 'It was the best of times, it was the worst of times' -n 64 -c 256 \
        --ignore-eos --draft 3 >"$scratch/$run_name.text" 2>"$scratch/$run_name.err"
}

# under TOOL MODEL: a line for what the tool says; status 1 unless it finds nothing in a whole run.
under() {
    tool=$1
    options= clean='ERROR SUMMARY: 0 errors'
    case $tool in
    memcheck) options='--leak-check full' clean='LEAK SUMMARY: 0 bytes leaked' ;;
    racecheck) clean='RACECHECK SUMMARY: 0 hazards' ;;
    esac
    name=$tool.$2
    start=$(date +%s)
    # shellcheck disable=SC2086
    generate "$name" "$2" "$sanitizer" --tool "$tool" $options --error-exitcode 99 \
        --log-file "$scratch/$name.log" --print-limit 20
    status=$?
    seconds=$(($(date +%s) - start))
    if [ $status = 0 ] && cmp -s "$scratch/$2.text" "$scratch/$name.text" && grep -q "$clean" "$scratch/$name.log"; then
        echo "$tool, $2: nothing found, $seconds s"
        return 0
    fi
    case $status in
    124) echo "$tool, $2: not done after $limit s, $(wc -c <"$scratch/$name.text") bytes of text" ;;
    *) echo "$tool, $2: status $status after $seconds s" ;;
    esac
    head -60 "$scratch/$name.log"
    tail -5 "$scratch/$name.err"
    return 1
}

for model in $small; do
    generate "$model" $model env || {
        status=$?
        cat "$scratch/$model.err"
        [ $status = 5 ] && exit 77
        exit 1
    }
done
for tool in $tools; do
    for model in $small; do
        (under $tool $model >"$scratch/$tool.$model.said" || echo failed >"$scratch/failed") &
    done
done
wait
cat "$scratch"/*.said
[ ! -e "$scratch/failed" ] && echo "check-gpu-sanitize: passed"
