#!/bin/sh
# test_ab.sh - bench/ab with commands whose times and outputs are known, and once with mtpgen.
set -u
. "$TEST_SRCDIR/tests/bench_lib.sh"

mtpgen=$TEST_BUILDDIR/mtpgen
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf

ab() {
    bench ab "$@"
}

# Notes its name, and writes a report whose decode_tok_s is the next word of its list.
cat >"$scratch/arm" <<'ARM'
#!/bin/sh
name=$1 report=$2 tokens=$3
shift 3
cd "$(dirname "$0")" || exit 1
echo "$name" >>order
turn=$(grep -cx "$name" order)
eval "rate=\${$turn}"
echo "{\"tokens\": [$tokens], \"timing\": {\"decode_tok_s\": $rate, \"ttft_ms\": $rate}}" >"$report"
echo text of no account by "$name"
ARM
chmod +x "$scratch/arm"

ab --base "'$scratch/arm'" --arm 'plain=plain {report} 1,2 500 10 20 40' \
    --arm 'fast=fast {report} 1,2 1 15 60 60' --json "$scratch/json"
check "medians are of the rounds after the first, ratios within a round" status_is 0 \
    'decode_tok_s (median of 3)' '| plain | 20 | 10 .. 40 | 1.000 | 1.000 .. 1.000 |' \
    '| fast | 60 | 15 .. 60 | 1.500 | 1.500 .. 3.000 | equal, 2 tokens |'
printf '%s\n' plain fast plain fast plain fast plain fast >"$scratch/wanted"
check "arms run in turns" cmp "$scratch/wanted" "$scratch/order"
check "machine, commit and commands are recorded" status_is 0 ' cores, ' '- commit ' \
    "- plain: \`$scratch/arm plain "
check "the values are written as JSON" python3 -c '
import json, sys
data = json.load(open(sys.argv[1]))
assert data["metric"] == "decode_tok_s" and data["rounds"] == 3, data
assert data["arms"][1]["values"] == [15, 60, 60] and data["arms"][1]["ratio"] == 1.5, data
assert data["machine"]["cores"] >= 1, data' "$scratch/json"

rm "$scratch/order"
ab --base "'$scratch/arm'" --arm 'a=a {report} 1 9 10 10' --arm 'b=b {report} 1 9 5 20' \
    --rounds 2 --metric ttft_ms
check "of times the shorter is the faster" status_is 0 'ttft_ms (median of 2)' \
    '| b | 12.5 | 5 .. 20 | 1.250 | 0.500 .. 2.000 |'

rm "$scratch/order"
ab --base "'$scratch/arm'" --arm 'a=a {report} 1,2,3 9 9' --arm 'b=b {report} 1,2,4 9 9' --rounds 1
check "other tokens fail the comparison, and where is said" status_is 1 \
    'outputs differ: arm b, round 0' 'token 2 is the first that differs (of 3 and 3)'
rm "$scratch/order"
ab --base "'$scratch/arm'" --arm 'a=a {report} 1,2,3 9 9' --arm 'b=b {report} 1,2 9 9' --rounds 1 \
    --may-differ b
check "an arm that may differ is measured, and the difference is said" status_is 0 \
    'may differ: token 2 is the first that differs (of 3 and 2)'

ab --arm 'a=echo same' --arm 'b=printf "%s\\n" same' --rounds 1
check "without reports text is compared and wall time is taken" status_is 0 'wall, s' \
    'equal, 5 bytes'
ab --arm 'a=echo same' --arm 'b=echo sane' --rounds 1
check "other text fails the comparison" status_is 1 'byte 2 is the first that differs'
ab --arm 'a=date +%N' --arm 'b=echo 1' --rounds 1 --may-differ b
check "an arm that differs from itself fails" status_is 1 'arm a, round 1'
ab --arm 'a=true' --arm 'b=true'
check "arms without output compare nothing, which fails" status_is 1 'gave no output'
ab --arm 'a=echo same' --arm 'b=sh -c "echo no such thing >&2; exit 3"'
check "a failing command fails the comparison with its own words" status_is 1 \
    'arm b: exit status 3' 'no such thing'
ab --arm 'a=echo same' --arm 'b=/no/such/program'
check "a command that cannot start is named" status_is 1 'arm b: ' '/no/such/program'
ab --arm 'a=sleep 5' --arm 'b=echo x' --timeout 0.1
check "a command that takes too long is stopped" status_is 1 'arm a: ' 'timed out'
ab --arm 'a=echo same' --arm 'b=echo same' --rounds 1 --metric decode_tok_s
check "a metric that no report has is an error" status_is 1 'decode_tok_s'
ab --arm 'a=echo same'
check "one arm is no comparison" status_is 2 'two arms'

ab --base "'$mtpgen' -t 1 -q -m '$model' -p 'It was a dark and stormy night' -n 12" \
    --arm 'grouped=--moe grouped' --arm 'per token=--moe per-token --batch 3' --rounds 1
check "two settings of mtpgen give the same text" status_is 0 '| per token |' 'equal, '
finish
