#!/bin/sh
# test_mtptrace.sh - traces of real runs: the golden ones are verified on this machine, runs that must
# be equal are, those that differ are told apart, and every way to fail has its status and sentence.
set -u
. "$TEST_SRCDIR/tests/lib.sh"

mtptrace=$TEST_BUILDDIR/mtptrace
golden=$TEST_SRCDIR/tests/golden/traces
small=$TEST_SRCDIR/tests/golden/models
reference=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
moe=$small/moe-q8_0.gguf
out=$scratch/out
err=$scratch/err
status=0

run() {
    "$mtptrace" "$@" >"$out" 2>"$err" </dev/null
    status=$?
}

record() {
    "$TEST_BUILDDIR/tests/record_trace" -t 1 "$@" 2>"$err" || cat "$err"
}

retouch() {
    "$TEST_BUILDDIR/tests/retouch_trace" "$@"
}

# gives N TEXT...: exit status N, nothing on standard error, and standard output has each TEXT.
gives() {
    says "$@" && [ ! -s "$err" ]
}

# fails_with N TEXT...: exit status N and one sentence on standard error that has each TEXT.
fails_with() {
    expected=$1
    shift
    refuses "$expected" mtptrace "$@"
}

printed() {
    grep -qF -e "$1" "$out"
}

# ---- golden traces ------------------------------------------------------------------------------

model_of() {
    case $1 in
    *reference-*) echo "$reference" ;;
    *) echo "$small/${1#h200-}.gguf" ;;
    esac
}

for name in reference-prose reference-code dense-q4_k_m moe-q8_0; do
    run verify "$golden/$name.trace" -m "$(model_of $name)" -t 1
    check "golden trace $name is computed again without drafts" gives 0 'verified: ' ' on 1 threads'
done
for name in dense-q4_k_m moe-q8_0; do
    run verify "$golden/$name.trace" -m "$(model_of $name)" -t 2 --isa scalar
    check "golden trace $name is verified by two threads and the scalar definitions" gives 0 \
        'computed here with scalar on 2 threads'
done
for name in h200-reference-prose h200-reference-code h200-dense-q4_k_m h200-moe-q8_0 h200-moe-f32; do
    run verify "$golden/$name.trace" -m "$(model_of $name)" -t 1
    check "what a GPU recorded in $name is computed here without drafts" gives 0 'verified: '
done
check "every golden trace was verified" test "$(ls "$golden" | wc -l)" -eq 9
run show "$golden/reference-prose.trace"
check "the reference trace holds accepted drafts" gives 0 ' 64 tokens, ' 'ref-qwen35moe-Q4_K_M.gguf'
check "a good part of them" awk '/^total/ { found = $6 > 20 && $8 > $6 } END { exit !found }' "$out"

# ---- runs that must be equal --------------------------------------------------------------------

prompt='Once upon a time'
record -n 24 --temp 1 --seed 9 --logits "$scratch/plain" "$moe" "$prompt"
for way in '--draft 1' '--draft 8 --scalar' '--draft 3 --batch 2 -t 3' '--draft 5 --moe-per-token'; do
    record -n 24 --temp 1 --seed 9 --logits $way "$scratch/other" "$moe" "$prompt"
    run diff "$scratch/plain" "$scratch/other"
    check "a run with $way equals the plain one" gives 0 'equal: 24 tokens' 'drafts  '
done
record -n 24 --temp 1 --seed 9 "$scratch/digests" "$moe" "$prompt"
run diff "$scratch/plain" "$scratch/digests"
check "traces with and without logits are compared by digest" gives 0 'equal: 24 tokens'
record -n 24 --temp 1 --seed 9 --draft 2 --mtp-model "$small/moe-q8_0-mtp.gguf" \
    "$scratch/companion" "$small/moe-q8_0-trunk.gguf" "$prompt"
run diff "$scratch/plain" "$scratch/companion"
check "a companion file gives the same run under another digest" gives 0 'equal: ' 'model   '
run verify "$scratch/companion" -m "$small/moe-q8_0-trunk.gguf" \
    --mtp-model "$small/moe-q8_0-mtp.gguf"
check "and is verified with it" gives 0 'verified: 24 tokens'
run verify "$scratch/companion" -m "$small/moe-q8_0-trunk.gguf"
check "but not without" fails_with 2 'another model' '--mtp-model'

"$TEST_BUILDDIR/mtpgen" -t 1 --device cpu -m "$reference" -p 'It was a dark and stormy night' -n 64 \
    --ignore-eos --draft 5 -q --trace "$scratch/mtpgen" >"$out" 2>"$err" </dev/null
run diff "$golden/reference-prose.trace" "$scratch/mtpgen"
check "what mtpgen --trace records equals the golden run" gives 0 'equal: 64 tokens' 'drafts  '

# ---- make golden --------------------------------------------------------------------------------

# The program of make golden over a tree of its own, where the golden trace of one model was changed.
tree=$scratch/tree
mkdir -p "$tree/tests/golden/traces"
ln -s "$TEST_SRCDIR/models" "$tree/models"
ln -s "$small" "$tree/tests/golden/models"
again() {
    cp "$golden"/*.trace "$tree/tests/golden/traces/"
    chmod u+w "$tree/tests/golden/traces/"*
    [ $# -eq 0 ] || retouch "$golden/moe-q8_0.trace" "$tree/tests/golden/traces/moe-q8_0.trace" "$@"
    sh "$TEST_SRCDIR/tests/golden/scripts/record_traces.sh" "$tree" "$TEST_BUILDDIR" >"$out" 2>"$err"
    status=$?
}
# By a run with the golden one's text and logits, of the present arithmetic; its drafts may differ, they
# follow from timings and policies.
version() {
    "$TEST_BUILDDIR/mtptrace" show "$1" | sed -n 's/^arithmetic *version //p'
}
replaced() {
    there=$tree/tests/golden/traces/moe-q8_0.trace
    [ "$(version "$there")" = "$(version "$golden/moe-q8_0.trace")" ] &&
        "$TEST_BUILDDIR/mtptrace" diff "$golden/moe-q8_0.trace" "$there"
}
again
check "make golden records the golden traces again" gives 0 'moe-q8_0: as it was' \
    'reference-prose: as it was' 'reference-code: as it was' 'dense-q4_k_m: as it was'
again S 5 23 7
check "a run that changed is shown and refused" gives 1 'different at position ' \
    'moe-q8_0: DIFFERENT under the same version of the arithmetic, not replaced'
check "its trace stays" test "$(replaced >/dev/null; echo $?)" -eq 1
again H 0 8 0
check "under a newer version of the arithmetic the trace is replaced" gives 0 \
    'moe-q8_0: replaced, arithmetic version 0 by 1'
check "by the new one" replaced

# ---- runs that differ ---------------------------------------------------------------------------

record -n 24 --temp 1 --seed 9 --logits --kv-f32 "$scratch/f32" "$moe" "$prompt"
run diff "$scratch/plain" "$scratch/f32"
check "a difference in the logits is named with its first element" gives 1 \
    'different at position ' 'step 1 | 1: logits digest ' 'first at id ' 'of 512 differ' 'f16 | f32'
record -n 24 --temp 1 --seed 10 --logits "$scratch/seed" "$moe" "$prompt"
run diff "$scratch/plain" "$scratch/seed"
check "a token drawn otherwise is named" gives 1 'different at position ' ' from the same logits'
record -n 23 --temp 1 --seed 9 "$scratch/shorter" "$moe" "$prompt"
run diff "$scratch/shorter" "$scratch/plain"
check "a shorter run differs by its length" gives 1 'the first ends after 23 tokens, equal so far'
record -n 2 "$scratch/question" "$moe" 'Twice upon a time'
run diff "$scratch/plain" "$scratch/question"
check "another prompt is named by position and id" gives 1 'different prompts: at position 0 id '
record -n 2 "$scratch/question" "$moe" "$prompt "
run diff "$scratch/plain" "$scratch/question"
check "a longer prompt by its length" gives 1 'different prompts: '
run diff "$golden/moe-q8_0.trace" "$golden/reference-prose.trace"
check "another vocabulary" gives 1 'different vocabularies: 512 | 8192'

# Traces that lie: a computation that gives something else than was recorded.
retouch "$scratch/f32" "$scratch/lie" H 0 28 0
run verify "$scratch/lie" -m "$moe"
check "verify names the first logits that differ" gives 1 'different at position ' \
    'logits digest ' 'first at id ' '0 tokens before that are equal'
retouch "$scratch/plain" "$scratch/lie" S 5 7 7
run verify "$scratch/lie" -m "$moe"
check "verify names the first token that differs" gives 1 'step 6: token ' ' recorded | ' \
    'from the same logits' '5 tokens before that are equal'
retouch "$scratch/plain" "$scratch/lie" H 0 8 99
run verify "$scratch/lie" -m "$moe"
check "another version of the arithmetic" fails_with 5 'version 99 of the arithmetic' 'version 1'
run verify "$scratch/plain" -m "$small/moe-fused.gguf"
check "another model" fails_with 2 'moe-fused.gguf is another model' 'recorded from moe-q8_0.gguf'
record -n 0 "$scratch/none" "$moe" "$prompt"
run verify "$scratch/none" -m "$moe"
check "a trace without steps verifies nothing" fails_with 2 'nothing was verified'

# ---- show ---------------------------------------------------------------------------------------

run show "$scratch/plain"
check "show prints settings" gives 0 'model        moe-q8_0.gguf, digest ' 'vocabulary 512' \
    'arithmetic   version 1' 'kv f16' 'drafts       0 a step' 'temperature 1, top_k 40' 'seed 9' \
    'logits       kept' 'prompt       '
check "and one line a step" test "$(grep -c '^[0-9][0-9]* [0-9][0-9]* 0/0 - ' "$out")" -eq 24
check "and the totals" printed '24 steps, 24 tokens, 0 of 0 drafts accepted, digest '
retouch "$scratch/plain" "$scratch/lie" H 0 76 27
run show "$scratch/lie"
check "control characters of a file's names do not reach the terminal" gives 0 '\x1b'

# ---- files that are no traces -------------------------------------------------------------------

for command in show verify diff; do
    more=
    [ $command = verify ] && more="-m $moe"
    [ $command = diff ] && more=$scratch/plain
    run $command "$scratch/missing" $more
    check "$command: a missing file" fails_with 3 'missing' 'No such file'
    run $command "$moe" $more
    check "$command: a model" fails_with 4 'moe-q8_0.gguf is not a trace'
    : >"$scratch/empty"
    run $command "$scratch/empty" $more
    check "$command: an empty file" fails_with 4 'is empty'
    printf 'MTPTRACE\002\000\000\000' >"$scratch/newer"
    run $command "$scratch/newer" $more
    check "$command: a newer file" fails_with 5 'format version 2'
    size=$(wc -c <"$scratch/plain")
    head -c $((size / 2)) "$scratch/plain" >"$scratch/cut"
    run $command "$scratch/cut" $more
    check "$command: a truncated file" fails_with 4 'is truncated: after step '
    head -c $((size - 30)) "$scratch/plain" >"$scratch/damaged"
    printf 'x%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 >>"$scratch/damaged"
    run $command "$scratch/damaged" $more
    check "$command: a damaged file" fails_with 4 'damaged'
done
run show "$scratch/cut"
check "what precedes a cut is shown" grep -q '^1 ' "$out"
check "and counted as incomplete" printed ', incomplete'
run diff "$scratch/cut" "$scratch/plain"
check "and compared" printed 'no difference in the first '
run verify "$scratch/cut" -m "$moe"
check "and verified" printed ' tokens before that are equal'

# A recording that is killed leaves its steps.
killed_recording() {
    "$TEST_BUILDDIR/tests/record_trace" -t 1 -n 4000 --draft 3 "$scratch/killed" "$reference" \
        'It was a dark and stormy night' &
    job=$!
    tries=0
    until "$mtptrace" show "$scratch/killed" 2>/dev/null | grep -q '^5 '; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || break
        sleep 0.1
    done
    kill -KILL $job
    wait $job 2>/dev/null
    run verify "$scratch/killed" -m "$reference" -t 1
    fails_with 4 'is truncated: after step ' && printed ' tokens before that are equal' &&
        ! printed 'different'
}
check "a recording that is killed can be verified up to its last step" killed_recording

# ---- writing fails ------------------------------------------------------------------------------

full_disk() {
    "$TEST_BUILDDIR/tests/record_trace" -t 1 -n 4 /dev/full "$moe" "$prompt" 2>"$err"
    [ $? -eq 3 ] && grep -q '/dev/full: the trace cannot be written: No space left' "$err"
}
check "a full disk is told once" full_disk
cp "$moe" "$scratch/model.gguf"
not_over_a_model() {
    "$TEST_BUILDDIR/tests/record_trace" -t 1 -n 4 "$scratch/model.gguf" "$moe" "$prompt" 2>"$err"
    [ $? -eq 2 ] && grep -q 'is a model file' "$err" && cmp "$moe" "$scratch/model.gguf"
}
check "a model is not overwritten by a trace" not_over_a_model
"$mtptrace" show "$scratch/plain" >/dev/full 2>"$err"
status=$?
: >"$out"
check "a full disk for show" fails_with 3 'cannot write to standard output'

# ---- arguments ----------------------------------------------------------------------------------

run
check "no arguments" fails_with 2 'show, diff or verify'
run frobnicate
check "an unknown command" fails_with 2 'frobnicate'
run show
check "show without a trace" fails_with 2 'needs a trace'
run diff "$scratch/plain"
check "diff with one trace" fails_with 2 'needs two traces'
run show "$scratch/plain" "$scratch/plain"
check "one argument too many" fails_with 2 'too many'
run show "$scratch/plain" -m x
check "an option where none belongs" fails_with 2 '-m is no option of mtptrace show'
run verify "$scratch/plain"
check "verify without a model" fails_with 2 '-m FILE'
run verify "$scratch/plain" -m
check "an option without its value" fails_with 2 '-m needs a value'
run verify "$scratch/plain" -m "$moe" --frobnicate
check "an unknown option" fails_with 2 '--frobnicate'
run verify "$scratch/plain" -m "$moe" -t 4x
check "a bad number" fails_with 2 '-t 4x'
run verify "$scratch/plain" -m "$moe" --isa mmx
check "a bad instruction set" fails_with 2 '--isa mmx'
run verify "$scratch/plain" -m "$moe" --device GPU
check "a bad device" fails_with 2 '--device GPU' 'auto, cpu or cuda'
run verify "$scratch/plain" -m "$scratch/missing.gguf"
check "a missing model" fails_with 3 'missing.gguf'
run --version
check "--version" gives 0 'arithmetic version 1' 'trace format version 1'
run --help
check "--help names every option" gives 0 'show' 'diff' 'verify' '--model' '--mtp-model' \
    '--threads' '--isa' '--device' '--version' 'exit status'
if command -v mandoc >/dev/null; then
    check "the man page is clean" mandoc -Tlint -Wwarning "$TEST_SRCDIR/docs/mtptrace.1"
fi
finish
