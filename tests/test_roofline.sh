#!/bin/sh
# test_roofline.sh - bench/roofline: what it derives from its figures, not the figures.
set -u
if ! command -v python3 >/dev/null; then
    echo "SKIPPED: bench/roofline is a Python program and there is no python3 here (package python3)"
    exit 77
fi
. "$TEST_SRCDIR/tests/lib.sh"

out=$scratch/out
err=$scratch/err
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
python=$(python3 -c 'import sys; print(sys.executable)') # works without a PATH, too

roofline() {
    "$python" "$TEST_SRCDIR/bench/roofline" --build "$TEST_BUILDDIR" "$@" >"$out" 2>"$err"
    status=$?
}

figures() {
    "$python" "$TEST_SRCDIR/tests/roofline_check.py" "$1" "$scratch/json" "$scratch/markdown" 288
}

# refused TEXT ARGUMENTS...: status 2, nothing on standard output, one line with TEXT.
refused() {
    text=$1
    shift
    roofline --smoke "$@"
    [ ! -s "$out" ] && refuses 2 roofline "$text"
}

check "made-up figures give the fractions, limits and gaps computed by hand" \
    "$python" "$TEST_SRCDIR/tests/roofline_check.py" account "$TEST_SRCDIR/bench"

roofline --smoke --threads 2 --json "$scratch/json" --markdown "$scratch/markdown"
check "a smoke run gives every table" says 0 '## Ceilings' '## Products' "## A token's products" \
    '## A whole step' 'recurrent state' '**' '| the limit |' '| outside operations |' '| measured |'
check "the tables are written as they are printed" cmp "$out" "$scratch/markdown"
check "ceilings: reading three working sets, int8 and fp32, on one thread and on all" figures ceilings
check "every matrix has a row at every width, its fractions follow from bytes and times" figures products
check "printed fractions are those of the printed rates" figures printed
check "the account of the step adds up to the time measured" figures step

roofline --smoke --no-step --shapes 64x512,48x256 --types Q4_K,Q8_0,F32 --widths 1,3 --isa scalar
check "sizes and types may be given" says 0 '| cpu | 64x512 | Q4_K | 64 x 512 | 3 |' \
    '| cpu | 48x256 | Q8_0 | 48 x 256 | 1 |' '| F32 |' '3 rows against 1'
check "a step that is left out has no table" sh -c '! grep -q "whole step" "$1"' - "$out"

check "unknown shapes are refused in a sentence" refused '--shapes takes model' --no-step --shapes 28B
check "so are types" refused '--types takes names among' --no-step --types Q4_K,Q9
check "and widths" refused '--widths takes up to' --no-step --widths 1,0
check "and sizes" refused '--bytes takes a size' --no-step --bytes 4X
check "and rows that are no whole blocks" refused 'no whole blocks of 256' --no-step --shapes 64x300 \
    --types Q4_K
check "memory to read is four times the cache at least" refused 'four times the last-level cache' \
    --no-step --bytes 3M
check "what does not fit memory is not begun" refused 'do not fit the memory' --no-step --bytes 900000G
check "threads are a number" refused '--threads' --no-step --threads many
check "a model must be there" refused 'there is no file' --model /no/such/model
check "a model must be one" refused 'bench_roofline: ' --no-step --model "$TEST_SRCDIR/README.md"
check "an instruction set must be there" refused 'there are no sse kernels' --no-step --isa sse
check "a build must be there" refused 'cannot be run' --build "$scratch"
check "shapes are not measured on a GPU" refused 'bench_cuda_products' --device cuda --shapes 27B
roofline --smoke --device cuda --json "$scratch/gpu"
on_gpu() { # the account by the GPU's ceiling, or why there is none
    if [ "$status" -eq 0 ]; then
        says 0 '| cuda | copy ' ', cuda, cuda, 1 threads' 'what multiplying takes is not known here'
    else
        [ "$status" -eq 2 ] || [ "$status" -eq 1 ] && [ "$(wc -l <"$err")" -eq 1 ] && grep CUDA "$err"
    fi
}
check "a step on a GPU is accounted for, or there is none" on_gpu
check "a chart needs a step" refused '--no-step leaves out' --no-step --svg "$scratch/svg"

mkdir "$scratch/bin"
without_gnuplot() {
    (
        PATH=$scratch/empty
        "$python" "$TEST_SRCDIR/bench/roofline" --smoke --svg "$scratch/svg"
    ) >"$out" 2>"$err"
    status=$?
    cat "$err"
    [ "$status" -eq 2 ] && grep -qF 'needs the program gnuplot' "$err"
}
check "a chart needs gnuplot, which is said" without_gnuplot

cat >"$scratch/bin/gnuplot" <<GNUPLOT
#!/bin/sh
cat >"$scratch/plotted"
echo chart >"$scratch/svg.part"
GNUPLOT
chmod +x "$scratch/bin/gnuplot"
drawn() {
    (
        PATH=$scratch/bin:$PATH
        roofline --smoke --shapes none --svg "$scratch/svg"
        cat "$err"
        exit "$status"
    ) && grep -qF "set output \"$scratch/svg.part\"" "$scratch/plotted" &&
        grep -qF '"expert_matmul"' "$scratch/plotted"
}
check "gnuplot is given every operation's time and limit" drawn
finish
