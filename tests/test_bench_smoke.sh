#!/bin/sh
# test_bench_smoke.sh - runs everything in bench/ small: that it works, not how fast. A new program is one
# more line in the list at the end; docs/benchmarking.md describes the programs.
# (bench/activation_format.py needs torch and is left out.)
set -u
. "$TEST_SRCDIR/tests/bench_lib.sh"

engine=$TEST_BUILDDIR/mtpgen
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
json=$scratch/json
small="--engine $engine --model $model -n 8 --json $json"
once="--rounds 1 --threads 1"

# The sanitizers make a program some ten times slower: less of the same.
if [ "${TEST_SANITIZED:-no}" = no ]; then
    shapes=
    lengths=0,64,1024
    kinds=prose,c,dialogue,lists,long-context
else
    shapes="rms_norm argmax"
    lengths=0,64
    kinds=prose,lists
fi

# program NAME LINES TEXT ARGUMENTS...: bench/NAME succeeds and prints so many lines with TEXT at least.
program() {
    name=$1 lines=$2 text=$3
    shift 3
    "$TEST_BUILDDIR/bench/$name" "$@" >"$out" 2>"$err"
    status=$?
    check "bench/$name works" printed "$lines" "$text"
}

# script NAME LINES TEXT ARGUMENTS...: the same of a Python program of the source tree.
script() {
    name=$1 lines=$2 text=$3
    shift 3
    bench "$name" "$@"
    check "bench/$name $1 $2 works" printed "$lines" "$text"
}

# The rates and times a line has are numbers, none of them broken.
printed() {
    status_is 0 "$2" || return 1
    found=$(grep -cF -e "$2" "$out")
    [ "$found" -ge "$1" ] || {
        echo "$found lines have '$2', not $1"
        return 1
    }
    ! grep -wiE 'nan|-?inf' "$out"
}

# suite NAME ARMS: a suite has these arms, measured, and their tokens were compared.
suite() {
    rm -f "$json"
    script ab "$2" "$3" --suite "$1" $small $once --context-lengths "$lengths"
    check "suite $1: figures of every arm are there and equal tokens were demanded" json_is "$json" "
assert len(data['arms']) == $2, data['arms']
for arm in data['arms']:
    assert arm['median'] > 0 and len(arm['values']) == 1, arm
    assert arm['output'].endswith(', 8 tokens') and 'differ' not in arm['output'], arm['output']"
}

# ---- the list ------------------------------------------------------------------------------------

program bench_kernels 1 'Q4_K' --mb 1 --n-in 512 Q4_K Q5_K
program bench_kernels 1 'Q8_0' --mb 1 --n-in 512 --threads 2 --isa scalar Q8_0
program bench_ops 2 'argmax' --rounds 1 $shapes
program bench_prefill 2 '| 0 | 0 | yes |' --model "$model" --tokens 40 --batches 40,16 --rounds 1
program bench_draft_policy 2 'experts on a GPU' "$model" 40 0 "$TEST_SRCDIR/bench/prompts/c/1.txt"
program bench_rollback 12 ' of 4 |' 1
program bench_tokenizer 12 'encode ' 64 1
suite mtp 3 'equal, 8 tokens'
suite k 9 'equal, 8 tokens'
suite strict 5 'equal, 8 tokens'
suite context "$(echo "$lengths" | tr , '\n' | wc -l)" 'the same in every round, 8 tokens'
script acceptance 4 '| all |' $small -k 1,2 --limit 1 --kinds "$kinds" --engine-args '-t 1'
check "bench/acceptance: drafts were counted, some accepted" json_is "$json" '
for kind, by_k in data["kinds"].items():
    for k in "1", "2":
        assert 0 < by_k[k]["steps"] <= by_k[k]["n_tokens"] and by_k[k]["drafted"] > 0, (kind, by_k)
assert data["kinds"]["all"]["2"]["accepted"] > 0, data["kinds"]["all"]'
# A model of known text and acceptance in small, and what the account and the comparison say of it.
synthetic=$scratch/synthetic.gguf
program mtpsynth 1 ', synthetic' --preset tiny-dense --mix Q4_K_M --layers 3 --vocab 1024 --hot 512 -o "$synthetic"
script roofline 1 'The gap by name' --smoke --build "$TEST_BUILDDIR" --model "$synthetic" \
    --shapes 64x256 --types Q4_K --threads 1 --json "$json"
check "bench/roofline: the step adds up, of a model known to be synthetic" json_is "$json" '
step = data["step"]
assert abs(step["limit_us"] + sum(g["us"] for g in step["gap"]) - step["measured_us"]) < 1e-6, step
assert data["machine"]["synthetic"] is True, data["machine"]'
script ab 1 'synthetic model' --base "$engine -m $synthetic -p a -n 8 -q --report {report}" \
    --arm "plain=--draft 0" --arm "drafts=--draft 2" --rounds 1
script acceptance 1 'synthetic model' --engine "$engine" --model "$synthetic" -n 8 -k 1 --limit 1 \
    --kinds prose --engine-args '-t 1'
finish
