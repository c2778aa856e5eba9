#!/bin/sh
# test_bench_acceptance.sh - bench/acceptance, with an engine that accepts a known number of drafts
# (tests/fake_mtpgen.py: k // 2 + 1 in each of 10 steps).
set -u
. "$TEST_SRCDIR/tests/bench_lib.sh"
fake_engine
json=$scratch/json

acceptance() {
    rm -f "$state/calls" "$json"
    bench acceptance --engine "$engine" --model M.gguf -n 8 --json "$json" "$@"
}

acceptance
check "the tables: mean length, counts, conditional and cumulative acceptance, by kind" status_is 0 \
    '19 prompts, 8 tokens each' '| kind | k = 1 | k = 2 | k = 3 | k = 4 | k = 5 | k = 6 | k = 7 | k = 8 |' \
    '| prose | 2.00 | 3.00 | 3.00 | 4.00 | 4.00 | 5.00 | 5.00 | 6.00 |' \
    '| dialogue | 40 of 40 | 80 of 80 | 80 of 120 |' '| all | 190 of 190 | 380 of 380 |' \
    '| c | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 0.0 % | - | - |' \
    '| lists | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 0.0 % | 0.0 % | 0.0 % |' \
    'the bonus token counted' '- commit '
check "every prompt is run plainly and with each k" test "$(wc -l <"$state/calls")" -eq $((19 * 9))
check "with -f, -n, a wide context and --draft last" grep -q \
    "^-m M.gguf -f [^ ]*/bench/prompts/c/1.txt -n 8 -c 8192 -q --report [^ ]* --draft 8\$" \
    "$state/calls"
check "the JSON has every prompt's counts and the sums" json_is "$json" '
assert [p["kind"] for p in data["prompts"]].count("long-context") == 3, data["prompts"]
assert data["prompts"][0]["k"]["3"]["accepted_at"] == [10, 10, 0], data["prompts"][0]
assert data["kinds"]["long-context"]["3"]["drafted_at"] == [30, 30, 30], data["kinds"]
assert data["kinds"]["all"]["3"]["conditional"] == [1, 1, 0], data["kinds"]["all"]
assert data["machine"]["cores"] >= 1'
# The fake engine takes four bytes for a token; the tree's tokenizers take some four.
check "long context is long: over 10,000 bytes" json_is "$json" '
for p in data["prompts"]:
    assert (p["prompt_tokens"] > 2500) == (p["kind"] == "long-context"), p
    assert p["prompt_tokens"] * 4 <= 2048 or p["kind"] == "long-context", p'

acceptance --kinds lists,prose --limit 2 -k 2,1 --markdown "$scratch/table.md"
check "kinds, prompts of a kind and drafts can be chosen" status_is 0 '4 prompts' '| kind | k = 1 | k = 2 |'
check "the tables are written as Markdown too" cmp "$out" "$scratch/table.md"
acceptance --kinds prose -k 1 --engine-args '--temp 0.8'
check "more arguments reach the engine, before the drafts" grep -q -e '--temp 0.8 --draft 1$' "$state/calls"
check "and the tables say so" status_is 0 '4 prompts, 8 tokens each, --temp 0.8; with every k'
acceptance --kinds lists,prose --limit 2 -k 2,1
check "kinds are in the order asked for" json_is "$json" 'assert list(data["kinds"]) == ["lists", "prose", "all"]'

echo 'c/2.txt -n 8 -c 8192 -q' >"$state/wrong"
acceptance -k 1
check "tokens that depend on nothing but the prompt pass" status_is 0
echo '--draft 2' >"$state/wrong"
acceptance -k 1,2
check "tokens that differ from plain decoding's fail" status_is 1 \
    'prose/1.txt, k = 2: the tokens are not those of plain decoding: token 7'
rm "$state/wrong"
touch "$state/lazy"
acceptance -k 3
check "an engine that drafts nothing is an error, not zero per cent" status_is 1 'asked for 3 drafts'
rm "$state/lazy"
acceptance -k 9
check "nine drafts are refused" status_is 2 '-k'
acceptance --kinds verse
check "a kind that is not there is named" status_is 1 'verse'
mkdir -p "$scratch/prompts/prose"
acceptance --prompts "$scratch/prompts" --kinds prose
check "a kind without prompts is an error" status_is 1 'has no prompts'
echo "tests/data/heldout-prose.txt 120000 9000" >"$scratch/prompts/prose/1.from"
acceptance --prompts "$scratch/prompts" --kinds prose
check "a piece beyond the end of its file is an error" status_is 1 'heldout-prose.txt is too short'
finish
