#!/bin/sh
# test_ab_suites.sh - the suites of bench/ab: arms, commands, figures, files; with an engine whose speed is
# known (tests/fake_mtpgen.py).
set -u
. "$TEST_SRCDIR/tests/bench_lib.sh"
fake_engine
json=$scratch/json

# suite NAME ARGUMENTS...: one run of a suite; $state/calls is what the engine was asked.
suite() {
    rm -f "$state/calls" "$json"
    bench ab --suite "$@" --engine "$engine" --model M.gguf -n 8 --json "$json"
}

# arguments_are LINE...: the engine's last calls had these words behind those all arms share.
arguments_are() {
    printf '%s\n' "$@" >"$scratch/wanted"
    sed 's/^.*report\.json *//' "$state/calls" | tail -n $# >"$scratch/seen"
    diff "$scratch/wanted" "$scratch/seen"
}

suite mtp --prompt "A prompt" --rounds 2
check "suite mtp: no drafts, checked by token, checked together" arguments_are '--draft 0' \
    '--draft 3 --moe per-token' '--draft 3 --moe grouped'
check "three rounds of three arms in turns" test "$(wc -l <"$state/calls")" -eq 9
check "its table has ratios to the first arm and between the ways of checking" status_is 0 \
    '### Drafting off' '| mtp-off | 99.8 |' \
    '| per-token verify | 109.8 | 109.8 .. 109.8 | 1.100 | 1.100 .. 1.100 |' \
    '| 1.300 | 1.300 .. 1.300 | 1.182 (1.182 .. 1.182) to per-token verify |' \
    '20 of 30, 3.00 a step' 'equal, 8 tokens'
check "each command begins with engine, model, prompt, length and report" \
    grep -q '^-m M.gguf -p A prompt -n 8 -q --report [^ ]*report.json --draft 0$' "$state/calls"
check "the record has machine, load, commit and commands" status_is 0 ' cores' '- before: load ' \
    '- after: load ' '- commit ' "- mtp-off: \`$engine -m M.gguf -p 'A prompt' -n 8"
check "the JSON has arms, values, commands, counts and the machine before and after" json_is "$json" '
arms = data["arms"]
assert [a["name"] for a in arms] == ["mtp-off", "per-token verify", "grouped verify"], arms
assert arms[2]["command"][-4:] == ["--draft", "3", "--moe", "grouped"], arms[2]
assert len(arms[2]["values"]) == 2 and abs(arms[2]["ratio"] - 1.3) < 1e-9, arms[2]
assert arms[2]["against"] == "per-token verify" and arms[2]["drafted"] == 30, arms[2]
assert data["metric"] == "decode_tok_s" and data["rounds"] == 2, data
assert data["machine"]["cores"] >= 1 and data["machine"]["date"], data["machine"]
assert data["machine"]["before"]["load"] >= 0 and data["machine"]["after"]["load"] >= 0'

suite mtp --draft 5 --threads 3 --engine-args '--isa scalar' --rounds 1
check "number of drafts, threads and other arguments are passed on" \
    grep -q 'report.json -t 3 --isa scalar --draft 5 --moe grouped$' "$state/calls"

check "a table of engines that name no device has no column for it" sh -c '! grep -q "| device |" "$1"' - "$out"
suite mtp --device cuda --rounds 1
check "the device is passed on" grep -q 'report.json --device cuda --draft 3 --moe grouped$' "$state/calls"
check "and each row has it" status_is 0 '| arm | device |' '| grouped verify | cuda |'
check "in the JSON, too" json_is "$json" 'assert [a["device"] for a in data["arms"]] == ["cuda"] * 3, data'
bench ab --device cpu --arm a=b --arm c=d
check "--device belongs to suites" status_is 2 '--device is for suites'

suite k --rounds 1
check "suite k: 0 to 8 drafts" arguments_are '--draft 0' '--draft 1' '--draft 2' '--draft 3' \
    '--draft 4' '--draft 5' '--draft 6' '--draft 7' '--draft 8'
check "its places on the axis are the drafts" json_is "$json" '
assert [a["x"] for a in data["arms"]] == list(range(9)), data
assert abs(data["arms"][8]["ratio"] - 1.8) < 1e-9, data["arms"][8]'

suite strict --rounds 1
check "suite strict: plain and drafting, each with --strict" arguments_are '--draft 0' \
    '--draft 0 --strict' '--draft 3' '--draft 3 --strict' '--draft 3 --strict=sample'
check "its price is taken against the same arm without --strict" status_is 0 \
    '0.500 (0.500 .. 0.500) to 3 drafts' '0.750 (0.750 .. 0.750) to 3 drafts' \
    '| plain, strict | 49.46 | 49.46 .. 49.46 | 0.500 | 0.500 .. 0.500 | 0.500 (0.500 .. 0.500) to plain |'

printf 'Sixteen letters.' >"$scratch/text"
suite context --rounds 1 --prompt-file "$scratch/text" --context-lengths 0,500,1000
check "suite context: the text is repeated to each length, measured and counted" json_is "$json" '
arms = data["arms"]
assert [a["positions"][0] for a in arms] == [8, 500, 1000], arms
assert arms[2]["positions"][1] == 1007, arms
assert [a["token_bytes"] for a in arms] == [1008, 1500, 2000], arms
assert abs(arms[2]["bytes_growth"] - 2000 / 1008) < 1e-9, arms
assert abs(arms[2]["time_growth"] - 2000 / 1008) < 1e-6, arms
assert any("first 4000 bytes of text, repeated" in note for note in data["notes"]), data["notes"]'
check "its table says positions, bytes, and how bytes and time grew" status_is 0 \
    '| 1000 .. 1007 | 0.0 | 1.98 | 1.98 | the same in every round, 8 tokens |'
check "the context is wide enough, and counting is a run of its own" \
    grep -q -e '-c 1272 --draft 0 --profile$' "$state/calls"
suite context --context-lengths 500,200
check "lengths that do not rise are refused" status_is 1 'two or more rising numbers'
suite context --prompt-file "$scratch/none"
check "a text that cannot be read is named" status_is 1 "$scratch/none"

echo '--draft 3 --moe grouped' >"$state/wrong"
suite mtp
check "a suite whose tokens differ fails" status_is 1 \
    'outputs differ: arm grouped verify, round 0, against the first run of arm mtp-off: token 7'
check "and writes no figures" test ! -e "$json"
suite mtp --may-differ 'grouped verify' --rounds 1
check "an excused arm is stated in the table" status_is 0 'may differ: token 7 is the first that differs'
echo '--profile' >"$state/wrong"
suite context --rounds 1
check "the run that counts bytes must say the same" status_is 1 'probe, against the first run'
rm "$state/wrong"

bench ab --suite mtp --engine "$engine"
check "a suite needs a model" status_is 2 '--suite needs --engine and --model'
bench ab --suite mtp --engine "$engine" --model M --arm a=b
check "a suite has arms of its own" status_is 2 'arms of its own'
suite engines
check "suite engines needs a server" status_is 1 '--llama-server'

suite mtp --rounds 1 --markdown "$scratch/table.md" --title 'A title of ours'
check "the table is written as Markdown too, under the title given" cmp "$out" "$scratch/table.md"
check "the title is the one given" status_is 0 '### A title of ours'
suite mtp --rounds 1 --markdown "$scratch/none/table.md"
check "a file that cannot be written is named" status_is 1 "$scratch/none/table.md"

# ---- charts without gnuplot ----------------------------------------------------------------------

# A path of its own, where gnuplot is what the test puts there.
mkdir "$scratch/bin"
for program in sh rm git cat; do
    ln -s "$(command -v "$program" || echo /none)" "$scratch/bin/$program"
done
printf '#!/bin/sh\nexec "%s" "$@"\n' "$(python3 -c 'import sys; print(sys.executable)')" \
    >"$scratch/bin/python3"
chmod +x "$scratch/bin/python3"
usual_path=$PATH
PATH=$scratch/bin
suite mtp --rounds 1 --svg "$scratch/chart.svg"
PATH=$usual_path
check "without gnuplot one sentence says so" status_is 1 'ab: --svg needs the program gnuplot'
check "the JSON is written all the same" json_is "$json" 'assert len(data["arms"]) == 3'
check "and there is no chart" test ! -e "$scratch/chart.svg"

printf '#!/bin/sh\ncat >"%s"\necho drawn >"%s"\n' "$scratch/plot" "$scratch/chart.svg.part" \
    >"$scratch/bin/gnuplot"
chmod +x "$scratch/bin/gnuplot"
PATH=$scratch/bin:$usual_path
suite mtp --rounds 1 --svg "$scratch/chart.svg"
cp "$scratch/plot" "$scratch/bars"
suite k --rounds 1 --svg "$scratch/chart.svg"
cp "$scratch/plot" "$scratch/lines"
suite context --rounds 1 --context-lengths 0,500,1000 --svg "$scratch/chart.svg"
check "a chart takes its place whole" grep -qx drawn "$scratch/chart.svg"
check "nothing is left beside it" test ! -e "$scratch/chart.svg.part"
plot_has() {
    for text in "$@"; do
        grep -qF -e "$text" "$plotted" || {
            cat "$plotted"
            echo "lacks: $text"
            return 1
        }
    done
}
plotted=$scratch/bars
check "suite mtp is drawn as bars with names, unit and values" plot_has 'boxxyerror' 'xerrorbars' \
    'set ytics ("mtp-off" 3, "per-token verify" 2, "grouped verify" 1)' \
    'set xlabel "decode, tokens/s"' 'Drafting off' '"108.8"'
plotted=$scratch/lines
check "suite k is drawn as a line over the number of drafts" plot_has 'yerrorlines' \
    'set xlabel "drafts a step, k"' 'set ylabel "decode, tokens/s"'
plotted=$scratch/plot
check "suite context is drawn beside what the bytes would give" plot_has 'yerrorlines' \
    'set xlabel "positions read before the first token"' 'title "if it fell as bytes a token grow"'
printf '#!/bin/sh\necho no such terminal >&2\nexit 1\n' >"$scratch/bin/gnuplot"
suite mtp --rounds 1 --svg "$scratch/chart.svg"
check "gnuplot's own words are passed on when it fails" status_is 1 'gnuplot failed: no such terminal'
finish
