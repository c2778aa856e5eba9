#!/bin/sh
# test_bench_svg.sh - charts of bench/ by gnuplot itself. What is given to gnuplot, and what happens
# without it, is tested everywhere, in test_ab_suites.sh.
set -u
if ! command -v gnuplot >/dev/null; then
    echo "SKIPPED: charts are drawn by gnuplot, an optional program (package gnuplot-nox), not here"
    exit 77
fi
. "$TEST_SRCDIR/tests/bench_lib.sh"
fake_engine
svg=$scratch/chart.svg

# chart_has TEXT...: well-formed XML whose texts are these, each on the canvas.
chart_has() {
    python3 -c '
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag.endswith("}svg"), root.tag
texts = ["".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("}text")]
for wanted in sys.argv[2:]:
    assert wanted in texts, (wanted, texts)' "$svg" "$@"
}

bench ab --suite mtp --engine "$engine" --model M -n 8 --rounds 1 --prompt "A prompt" --svg "$svg"
check "bars have the names of the arms, values, unit and title" chart_has mtp-off 'per-token verify' \
    'grouped verify' 99.8 129.7 'decode, tokens/s' \
    'Drafting off, and 3 drafts checked token by token or together'
bench ab --arm 'a_b "{^c}=echo 1' --arm 'back\slash=echo 1' --rounds 1 --svg "$svg" --title 'x_1 "y"'
check "no name means anything to gnuplot" chart_has "a_b '{^c}" 'back/slash' "x_1 'y'" 'wall time, s'
bench ab --suite k --engine "$engine" --model M -n 8 --rounds 1 --svg "$svg"
check "a line chart has its axes" chart_has 'drafts a step, k' 'decode, tokens/s' 0 8
bench ab --suite context --engine "$engine" --model M -n 8 --rounds 1 --svg "$svg"
check "two lines have a key" chart_has measured 'if it fell as bytes a token grow'
bench acceptance --engine "$engine" --model M.gguf -n 8 -k 1,2 --limit 1 --svg "$svg"
check "acceptance is drawn by kind, over drafts and over positions" chart_has prose c dialogue lists \
    long-context all 'drafts a step, k' 'position of the draft' 'mean accepted length, tokens'
bench ab --suite k --engine "$engine" --model M -n 8 --rounds 1 --svg "$scratch/none/chart.svg"
check "a chart that cannot be written is an error" status_is 1 'ab: '
finish
