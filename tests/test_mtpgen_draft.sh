#!/bin/sh
# test_mtpgen_draft.sh - drafting as a user meets it, with the bundled model: the same text and digest
# for every --draft, strict runs and what they find, reports as JSON, and traces.
set -u
. "$TEST_SRCDIR/tests/lib.sh"
. "$TEST_SRCDIR/tests/mtpgen_lib.sh"

json=$scratch/report.json

# field NAME [FILE]: the line of a report that holds the field at the top.
field() {
    grep "^  \"$1\": " "${2:-$json}"
}

# member NAME: the value of a member of strict, timing or model.
member() {
    sed -n "s/.*[{ ]\"$1\": \([^,}]*\)[,}].*/\1/p" "$json" | head -n 1
}

# What two runs that computed the same have in common.
essence() {
    field tokens "$1" && field n_tokens "$1" && field digest "$1" && field stop "$1"
}

same_run_as() {
    essence "$1" >"$scratch/a" && essence "$json" >"$scratch/b" && cmp "$scratch/a" "$scratch/b"
}

# How many drafts are tried; sanitizers make every run ten times slower.
all_drafts='1 2 3 4 5 6 7 8 auto'
some_drafts='1 2 3 5 8'
if [ "${TEST_SANITIZED:-no}" = yes ]; then
    echo "[ NOT RUN  ] other numbers of drafts than 3 and 8: too slow under the sanitizers"
    all_drafts='3 8'
    some_drafts=8
fi

# ---- one text -----------------------------------------------------------------------------------

run -m "$model" -p "$prompt" -n 40 --draft 0 --report "$json"
check "plain decoding reports no drafts" status_is 0 'decode       40 tokens' 'digest '
cp "$out" "$scratch/text"
cp "$json" "$scratch/plain.json"
cp "$err" "$scratch/plain.err"
check "and shows no acceptance" sh -c "! grep -q 'accepted' '$scratch/plain.err'"

for draft in $all_drafts; do
    run -m "$model" -p "$prompt" -n 40 --draft $draft --report "$json"
    check "--draft $draft gives the same text" same_as "$scratch/text"
    check "with the same ids and logits" same_run_as "$scratch/plain.json"
done
run -m "$model" -p "$prompt" -n 40 --draft 3
check "the closing report says what became of drafts" status_is 0 ' drafted, ' ' accepted (' \
    'the bonus token counted' 'conditional ' 'cumulative ' '| #' 'time         draft '
run -m "$model" -p "$prompt" -n 40 --report "$json"
check "drafts as they pay are the default" grep -q '"draft": "auto"' "$json"
check "with the same text" same_as "$scratch/text"
for ask in 'ngram' 'mtp' 'mtp,ngram'; do
    run -m "$model" -p "$prompt" -n 40 -q --draft-source $ask --report "$json"
    check "--draft-source $ask drafts as they pay too" grep -q '"draft": "auto"' "$json"
    check "with the same text" same_as "$scratch/text"
done
run -m "$model" -p "$(printf 'one two three four five six %.0s' 1 2 3 4 5 6 7 8)" -n 60 -q --report "$json"
check "a text that repeats itself is drafted from itself" grep -q '"ngram": {"steps": [1-9]' "$json"
run -m "$model" -p "$prompt" -n 40 -q --spec-type draft-mtp --report "$json"
check "--spec-type draft-mtp is the default" grep -q '"draft": "auto"' "$json"
for head in full 512 1; do
    run -m "$model" -p "$prompt" -n 40 -q --draft 3 --draft-head $head --report "$json"
    check "--draft-head $head gives the same text" same_as "$scratch/text"
    check "with the same ids and logits" same_run_as "$scratch/plain.json"
done
run -m "$model" -p "$prompt" -n 40 -q --draft 8 -t 2 --batch 3 --moe per-token --report "$json"
check "threads, chunks and experts one by one change nothing of it" same_run_as \
    "$scratch/plain.json"
run -m "$model" -p "$prompt" -n 6 -q --draft 0 --report "$scratch/short.json"
run -m "$model" -p "$prompt" -n 6 -q --draft 3 --isa scalar --report "$json" # slow
check "nor does the instruction set" same_run_as "$scratch/short.json"

run -m "$model" -p "$prompt" -n 30 -q --temp 1 --seed 5 --draft 0 --report "$json"
cp "$out" "$scratch/drawn"
cp "$json" "$scratch/drawn.json"
for draft in 1 3 8; do
    run -m "$model" -p "$prompt" -n 30 -q --temp 1 --seed 5 --draft $draft --report "$json"
    check "--draft $draft draws the same text" same_as "$scratch/drawn"
    check "with the same ids and logits" same_run_as "$scratch/drawn.json"
done

# ---- where a text ends --------------------------------------------------------------------------

# ends_alike OPTION...: with every kind of step the text ends at the same place for the same reason.
ends_alike() {
    run -m "$model" -p "$prompt" -q --draft 0 --report "$scratch/ended.json" "$@" || return 1
    cp "$out" "$scratch/ended"
    for draft in $some_drafts; do
        run -m "$model" -p "$prompt" -q --draft $draft --report "$json" "$@"
        echo "--draft $draft $*: exit status $status"
        [ $status -eq 0 ] && cmp "$scratch/ended" "$out" && same_run_as "$scratch/ended.json" ||
            return 1
    done
}
for n in 1 2 3 5 8 13; do
    check "-n $n inside accepted drafts ends the text" ends_alike -n $n
done
for context in 8 9 10 13 17; do
    check "a context of $context inside accepted drafts ends the text" ends_alike -c $context
done
for stop in $(tr -cs 'a-z' '\n' <"$scratch/text" | sort -u | head -n 4); do
    check "the stop text '$stop' inside accepted drafts ends the text" ends_alike -n 40 \
        --stop "$stop"
done

# talk DRAFT: three turns, the logits after the last of them included.
talk() {
    printf 'hello\ntell me more\nand then?\n' >"$scratch/lines"
    input=$scratch/lines
    run -m "$model" --chat --template chatml -n 9 -v --temp 0 --draft "$1" --report "$json"
    input=/dev/null
    sed -n 's/.*expert rows, digest \([0-9a-f]*\)$/\1/p' "$err" >"$scratch/digest.$1"
    cp "$out" "$scratch/talk.$1"
    [ -s "$scratch/digest.$1" ] && cmp "$scratch/talk.0" "$scratch/talk.$1" &&
        cmp "$scratch/digest.0" "$scratch/digest.$1"
}
for draft in 0 1 3 8; do
    check "a conversation with --draft $draft is the same" talk $draft
done

# ---- strict -------------------------------------------------------------------------------------

run -m "$model" -p "$prompt" -n 40 --strict --report "$json"
check "a strict run compares every row" status_is 0 'strict       full: ' ' 0 mismatches'
check "with the same ids and logits" same_run_as "$scratch/plain.json"
check "39 rows follow those of the prompt" test "$(member rows_checked)" = 39
check "which were compared too" test "$(member prompt_rows_checked)" -gt 0
check "and it found no difference" test "$(member mismatches)" = 0 -a \
    "$(member first_difference)" = null
run -m "$model" -p "$prompt" -n 40 --strict=sample --report "$json"
check "a sample is a spot check" status_is 0 'sample, a spot check' ' 0 mismatches'
check "of less" test "$(member rows_checked)" -gt 0 -a "$(member rows_checked)" -lt 39
run -m "$model" -p "$prompt" -n 0 --strict
check "a strict run without a token proves nothing" status_is 9 'compared no row'
run -m "$model" -p "$prompt" -n 1 --strict
check "one token comes from the prompt's last row" status_is 0 ' 0 mismatches'
run -m "$model" -p "$prompt" -n 40 --strict --test-flip matmul:2 --report "$json"
check "a flipped bit is found" status_is 9 'matmul' 'stopped      by a failure'
check "and told in the report" test "$(member mismatches)" -gt 0 -a -n "$(field exit_status |
    grep 9)"
run -m "$model" -p "$prompt" -n 40 --test-flip nonsense:2
check "an operation that is none cannot be flipped" fails_with 2 'nonsense'

# ---- models without a draft head ----------------------------------------------------------------

headless=$TEST_SRCDIR/tests/golden/models/dense-mixed.gguf
without_head() {
    run -m "$headless" -p "ab" -n 4 --ignore-eos "$@"
}
without_head --draft 0 -q
cp "$out" "$scratch/headless"
without_head -q
check "without a head the default are drafts from the text" status_is 0
check "with nothing said" test ! -s "$err"
check "and the text is there" same_as "$scratch/headless"
without_head --draft 3
check "drafts asked for in vain name the tensor and the way out" status_is 0 \
    'nextn.eh_proj.weight' '--mtp-model' 'drafts from the text so far'
check "in one line" test "$(grep -c 'nextn' "$err")" -eq 1
check "and the text is there" same_as "$scratch/headless"

# ---- the report as a file -----------------------------------------------------------------------

run -m "$model" -p "$prompt" -n 12 --strict --report "$json"
every_field() {
    for name in mtpgen arithmetic_version command model options exit_status stop prompt_tokens \
        tokens n_tokens steps drafted accepted mean_accepted_length acceptance_by_position histogram \
        digest strict timing profile peak_memory_bytes; do
        field $name >/dev/null || {
            echo "no field $name"
            return 1
        }
    done
    for name in conditional cumulative mode rows_checked steps_checked prompt_rows_checked \
        mismatches load_ms ttft_ms prefill_tok_s decode_tok_s draft_ms verify_ms commit_ms; do
        grep -q "[{ ]\"$name\": " "$json" || {
            echo "no member $name"
            return 1
        }
    done
    [ "$(head -n 1 "$json")" = '{' ] && [ "$(tail -n 1 "$json")" = '}' ]
}
check "the report has every field" every_field
check "twelve ids are twelve tokens" test "$(field tokens | tr -cd , | wc -c)" -eq 12 -a \
    "$(field n_tokens)" = '  "n_tokens": 12,'
# Tokens are those drawn at the beginning of a step and the accepted drafts; here all steps but the
# last one's first token took a pass.
check "steps and accepted drafts add up to the tokens" sh -c "
    tr -cd '0-9 \na-z_\":' <'$json' | awk '
        \$1 == \"\\\"steps\\\":\" { steps = \$2 }
        \$1 == \"\\\"accepted\\\":\" { accepted = \$2 }
        END { print steps, accepted; exit !(steps + accepted == 11 || steps + accepted == 12) }'"
check "nothing else was left beside it" test "$(find "$scratch" -name 'report.json*' | wc -l)" -eq 1
if command -v python3 >/dev/null; then
    check "the report is JSON to others, too" python3 -m json.tool "$json"
fi

run -m "$model" -p "$prompt" -n 10 --report /dev/full
check "a full disk under the report" status_is 3 '/dev/full' 'No space left'
check "after the text" begins_as "$scratch/text"
check "a device stays one" test -c /dev/full
run -m "$model" -p "$prompt" -n 10 --report "$scratch/nowhere/report.json"
check "a folder that is not there" fails_with 3 'nowhere/report.json' 'No such file'
run -m "$model" -p "$prompt" -n 10 --report "$scratch"
check "a folder in place of a report" fails_with 3 "$scratch" 'directory'
cp "$headless" "$scratch/precious.gguf"
run -m "$model" -p "$prompt" -n 10 --report "$scratch/precious.gguf"
check "a model is not overwritten by a report" fails_with 2 'precious.gguf' 'model'
run -m "$model" -p "$prompt" -n 10 --trace "$scratch/precious.gguf"
check "nor by a trace" fails_with 2 'precious.gguf' 'model'
check "it is whole" cmp "$headless" "$scratch/precious.gguf"

# ---- the profile --------------------------------------------------------------------------------

# row OPERATION PHASE: the operation's line in the table of a phase.
row() {
    sed -n "/^mtpgen: profile of the $2/,/outside operations/p" "$err" | grep "^  $1 .* %"
}

run -m "$model" -p "$prompt" -n 40 -q --draft 0 --report "$json"
cp "$json" "$scratch/plain.json"
check "without --profile the report has none" test "$(field profile)" = '  "profile": null,'
check "and nothing is printed" test ! -s "$err"
run -m "$model" -p "$prompt" -n 40 -q --profile --report "$json"
check "a profile has a table for each phase" status_is 0 'mtpgen: profile of the prompt: ' \
    'mtpgen: profile of the steps ' 'mtpgen: profile of the draft head: ' \
    'operation             calls         ms   share    us/call          MB     GB/s'
check "with the same text" same_as "$scratch/text"
check "and the same ids and logits" same_run_as "$scratch/plain.json"
for phase in prompt steps draft; do
    check "the $phase multiplied matrices" row matmul $phase
    check "and did something else" row 'outside operations' $phase
done
check "drafts have no recurrent state" sh -c "! sed -n '/draft head/,\$p' '$err' | grep delta_net"
# Lines that begin with an operation, in order of the third column.
by_time() {
    sed -n '/profile of the steps/,/outside/p' "$err" | sed '1,2d;$d' | awk '
        NR > 1 && $3 > before { wrong = 1 }
        { before = $3 }
        END { exit NR < 10 || wrong }'
}
check "the slowest is first" by_time
check "the report has it, too" sh -c "grep '^  \"profile\": ' '$json' |
    grep -q '\"prompt\": {.*\"steps\": {.*\"operation\": \"matmul\", .*\"draft\": {'"

# ---- traces -------------------------------------------------------------------------------------

trace=$scratch/run.trace
run -m "$model" -p "$prompt" -n 12 -q --draft 3 --trace "$trace" --trace-logits
check "a run is traced" status_is 0
check "with the same text" begins_as "$scratch/text"
check "and mtptrace shows it" "$TEST_BUILDDIR/mtptrace" show "$trace"
check "and agrees with it" "$TEST_BUILDDIR/mtptrace" verify -m "$model" "$trace"
run -m "$model" -p "$prompt" -n 12 --trace /dev/full
check "a full disk under the trace" status_is 3 'No space left'
run -m "$model" --chat --template chatml --trace "$trace"
check "a conversation is not traced" fails_with 2 '--trace' '-p or -f'

finish
