#!/bin/sh
# test_mtpsynth.sh - synthetic models in small: greedy text follows the cycle, drafts are accepted as
# often as the file says, every kind of tensor shows in the digests, bytes do not depend on threads, and
# nothing is left of a file that could not be written.
set -u
. "$TEST_SRCDIR/tests/lib.sh"
. "$TEST_SRCDIR/tests/mtpgen_lib.sh"

synth=$TEST_BUILDDIR/bench/mtpsynth
moe=$scratch/moe.gguf
dense=$scratch/dense.gguf
json=$scratch/report.json

# Runs mtpsynth; status, $out and $err stay for the checks.
synth() {
    "$synth" -t 1 "$@" >"$out" 2>"$err"
    status=$?
}

# ---- files ---------------------------------------------------------------------------------------

synth --preset tiny-moe --mix Q4_K_M -o "$moe"
check "a small model of experts is written" says 0 'bytes, synthetic'
synth --preset tiny-dense --mix Q3_K+Q8_0 --seed 7 -o "$dense"
check "and a dense one" says 0 'bytes, synthetic'

for threads in 2 3 16; do
    "$synth" -t $threads --preset tiny-moe --mix Q4_K_M -o "$scratch/again.gguf" >"$out" 2>&1
    check "$threads threads give the same bytes" cmp "$moe" "$scratch/again.gguf"
done
synth --preset tiny-moe --mix Q4_K_M --seed 2 -o "$scratch/again.gguf"
check "another seed gives another file" sh -c "! cmp -s '$moe' '$scratch/again.gguf'"
rm -f "$scratch/again.gguf"

# size_is FILE: the plan's bytes are the file's.
size_is() {
    [ "$(sed -n 's/^[0-9]* tensors, \([0-9]*\) bytes$/\1/p' "$out")" = "$(wc -c <"$1")" ]
}
synth --preset tiny-moe --mix Q4_K_M --plan
check "--plan tells the size" size_is "$moe"
cp "$out" "$scratch/plan"
# rows_copied: row pi(t) of output.weight is row t of token_embd.weight.
rows_copied() {
    embedding=$(sed -n 's/^token_embd.weight .* at \([0-9]*\),.*/\1/p' "$scratch/plan")
    head=$(sed -n 's/^output.weight .* at \([0-9]*\),.*/\1/p' "$scratch/plan")
    for id in 0 97 2047 2048 4095; do
        next=$("$synth" --print-cycle $id,1 "$moe" | cut -d ' ' -f 2)
        cmp -n 420 -i $((embedding + 420 * id)):$((head + 420 * next)) "$moe" "$moe" || return 1
        [ "$next" -ne "$id" ] || return 1
    done
}
check "the head's rows are the embedding's, one id on" rows_copied
for preset in 35b-a3b 27b coder-30b; do
    synth --preset $preset --mix Q5_K_M --plan
    check "$preset can be planned" says 0 'token_embd.weight Q6_K' 'output.weight Q6_K'
done
synth --list
check "--list shows presets and sizes" says 0 35b-a3b tiny-coder 'Q3_K+Q8_0'
synth --preset tiny-coder --mix Q4_K_M -o "$scratch/coder.gguf"
check "an architecture that mtpgen lacks is written all the same" says 0 'bytes, synthetic'

# one_cycle: from 0 on, n_hot ids come before 0 comes again, all of them below n_hot.
one_cycle() {
    "$synth" --print-cycle 0,2048 "$moe" | awk '
        $2 >= 2048 || ($2 in seen) { exit 1 } { seen[$2] = 1; last = $2 }
        END { exit !(NR == 2048 && last == 0) }' &&
        "$synth" --print-cycle 4095,2048 "$moe" | awk '
        $2 < 2048 || ($2 in seen) { exit 1 } { seen[$2] = 1; last = $2 }
        END { exit !(NR == 2048 && last == 4095) }'
}
check "hot and cold ids are one cycle each" one_cycle

# ---- what mtpgen makes of them -------------------------------------------------------------------

ids() {
    sed -n 's/^  "tokens": \[\(.*\)\],*$/\1/p' "$json" | tr -d ' ' | tr ',' '\n'
}

# follows FILE: the report's tokens are the successors of the prompt's last byte.
follows() {
    "$synth" --print-cycle 111,60 "$1" | cut -d ' ' -f 2 >"$scratch/wanted"
    ids >"$scratch/got"
    cmp "$scratch/wanted" "$scratch/got"
}

# counts_are_right FILE: accepted drafts are those whose predecessor the draft head knows. Drafts behind
# the end of the text are drafted all the same.
counts_are_right() {
    "$synth" --print-cycle 111,80 "$1" | awk -v n=60 -v k=3 '
        { right[NR] = $2 == $3 }
        END {
            for (at = 1; at <= n; at += given) { # token `at` was drawn; its successor is drafted
                steps++
                for (given = 1; given <= k && right[at + given]; given++)
                    ;
                accepted += at + given - 1 <= n ? given - 1 : n - at
            }
            print steps, accepted
        }' >"$scratch/wanted"
    echo "$(sed -n 's/^  "steps": \([0-9]*\),$/\1/p' "$json")" \
        "$(sed -n 's/^  "accepted": \([0-9]*\),$/\1/p' "$json")" >"$scratch/got"
    cat "$scratch/wanted" "$scratch/got"
    cmp "$scratch/wanted" "$scratch/got"
}

for model in "$moe" "$dense"; do
    name=$(basename "$model" .gguf)
    run -m "$model" -p 'Hello' -n 60 --temp 0 --draft 0 --report "$json"
    check "$name: the greedy text follows the cycle" follows "$model"
    check "$name: the printed report says that it is synthetic" status_is 0 'synthetic    true'
    check "$name: the JSON report, too" grep -q '"synthetic": true' "$json"
    sed -n '/"digest": "/p' "$json" | tail -n 1 >"$scratch/digest"
    run -m "$model" -p 'Hello' -n 60 --temp 0 --draft 3 --strict --report "$json"
    check "$name: with drafts and --strict as well" follows "$model"
    check "$name: nothing differs" status_is 0 ' 0 mismatches'
    check "$name: as many drafts are accepted as the file says" counts_are_right "$model"
    check "$name: the digest is the same" grep -qxF "$(cat "$scratch/digest")" "$json"
    run -m "$model" --info
    check "$name: --info says that it is synthetic" grep -q '^  synthetic *true' "$out"
done
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
run -m "$model" -p 'Hello' -n 1 --report "$json"
check "a trained model is not called synthetic" sh -c \
    "grep -q '\"synthetic\": false' '$json' && ! grep -q synthetic '$err'"

# ---- acceptance ----------------------------------------------------------------------------------

# share LOW HIGH FILE: of the hot ids, the part whose draft is right.
share() {
    "$synth" --print-cycle 0,2048 "$3" | awk -v low="$1" -v high="$2" '
        { right += $2 == $3 }
        END { print right / NR; exit !(right / NR >= low && right / NR <= high) }'
}
check "the draft head knows 0.8 of the ids" share 0.77 0.83 "$moe"
synth --preset tiny-dense --mix Q8_0 --accept 1,0.25 --stretch 64 -o "$scratch/mixed.gguf"
# stretches: 64 ids all right, 64 mostly wrong, and so on from place 0.
stretches() {
    "$synth" --print-cycle 0,2048 "$scratch/mixed.gguf" | awk '
        { right[NR] = $2 == $3 }
        END {
            for (start = 1; start <= 64; start++) {
                easy = hard = n = 0
                for (i = 0; start + i <= NR; i++)
                    if (int(i / 64) % 2 == 0) {
                        easy += right[start + i]; n++
                    } else hard += right[start + i]
                if (easy == n && hard < 0.4 * n) found = 1
            }
            for (start = 1; start <= 64; start++) {
                easy = hard = n = 0
                for (i = 0; start + i <= NR; i++)
                    if (int(i / 64) % 2 == 1) {
                        easy += right[start + i]; n++
                    } else hard += right[start + i]
                if (easy == n && hard < 0.4 * n) found = 1
            }
            exit !found
        }'
}
check "classes of ids take turns in stretches" stretches
check "with the mean of their shares" share 0.58 0.67 "$scratch/mixed.gguf"

# ---- --check -------------------------------------------------------------------------------------

# value LABEL: the first number behind the label in the output of --check.
value() {
    sed -n "s/^$1 *\([0-9.]*\).*/\1/p" "$out" | head -n 1
}
# between LABEL LOW HIGH
between() {
    cat "$out"
    echo "$(value "$1")" | awk -v low="$2" -v high="$3" '{ exit !($1 >= low && $1 <= high) }'
}
for model in "$moe" "$dense" "$scratch/mixed.gguf"; do
    name=$(basename "$model" .gguf)
    synth --check "$model"
    check "$name: --check finds all in order" says 0 '64 of 64 right'
    check "$name: the successor stands more than 10 sigma above" between margin 10.0 100
    check "$name: the branches are about as large as the embedding" between branches 0.7 1.4
done
synth --check "$scratch/coder.gguf"
check "--check says when the architecture is not known" refuses 5 mtpsynth qwen3moe

# union FILE ROWS: experts that so many rows use.
union() {
    synth --check "$1"
    sed -n "s/^experts  *$2 rows*  *use \([0-9.]*\) .*/\1/p" "$out"
}
synth --preset tiny-moe --mix Q4_K_M --route-overlap 0.9 -o "$scratch/overlap.gguf"
# less ROWS: neighbours with common logits use clearly fewer experts than independent ones; these use
# what chance gives within a tenth.
less() {
    alone=$(union "$moe" "$1")
    together=$(union "$scratch/overlap.gguf" "$1")
    echo "$alone $together"
    awk -v a="$alone" -v t="$together" -v n="$1" 'BEGIN {
        chance = 16 * (1 - (1 - 2 / 16) ^ n)
        exit !(t >= 2 && t < 0.85 * a && a > 0.9 * chance && a < 1.1 * chance)
    }'
}
for rows in 2 4 8; do
    check "--route-overlap 0.9: $rows rows use fewer experts" less $rows
done
synth --check "$scratch/overlap.gguf"
check "and still follow the cycle" says 0 '64 of 64 right'
check "far above the others" between margin 10.0 100
rm -f "$scratch/overlap.gguf" "$scratch/mixed.gguf" "$scratch/coder.gguf"

# ---- every kind of tensor ------------------------------------------------------------------------

# flip FILE OFFSET: turns a bit of one byte over.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\$(printf '%03o' $((byte ^ 32)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

digests() {
    "$synth" -t 1 --digests "$1" --tokens 40 2>/dev/null | grep digest
}

# The first tensor of each name with the block's number off, of the trunk and of the MTP block (blk.4).
kinds() {
    sed -n 's/^\([^ ]*\) \([^ ]*\) [^ ]* at \([0-9]*\), \([0-9]*\) bytes$/\1 \2 \3 \4/p' "$1" | awk '
        { kind = $1; sub(/^blk\.[0-3]\./, "trunk.", kind); if (!(kind in seen)) print; seen[kind] = 1 }'
}

# where NAME TYPE OFFSET BYTES: a weight that a run of 40 tokens reads. Rows of tables are those of ids
# it meets; elsewhere the first block. Floats: a high bit of the mantissa; blocks: a level.
where() {
    at=$3
    case $1 in
    token_embd.weight | *embed_tokens.weight)
        id=$("$synth" --print-cycle 0,12 "$4" | tail -n 1 | cut -d ' ' -f 2)
        at=$((at + id * $5)) ;;
    esac
    case $2 in
    F32) echo $((at + 2)) ;;
    Q8_0 | Q3_K) echo $((at + 33)) ;;
    *) echo $((at + 60)) ;;
    esac
}

# all_show FILE PLAN ROW_BYTES: with any of them changed, a digest is another one.
all_show() {
    digests "$1" >"$scratch/before"
    [ "$(wc -l <"$scratch/before")" -eq 2 ] || return 1
    kinds "$2" >"$scratch/kinds"
    n_kinds=0
    while read -r name type offset _; do
        at=$(where "$name" "$type" "$offset" "$1" "$3")
        flip "$1" "$at"
        digests "$1" >"$scratch/after"
        flip "$1" "$at"
        n_kinds=$((n_kinds + 1))
        [ "$(wc -l <"$scratch/after")" -eq 2 ] || {
            echo "$name: no digests"
            return 1
        }
        ! cmp -s "$scratch/before" "$scratch/after" || {
            echo "$name does not show"
            return 1
        }
        case $name in # a tensor of the draft head changes no text, one of the trunk does
        blk.4.*) grep '^digest' "$scratch/before" >"$scratch/a" ;;
        *) ! grep -qxF "$(grep '^digest' "$scratch/before")" "$scratch/after" || {
            echo "$name does not show in the text's digest"
            return 1
        } && continue ;;
        esac
        grep -qxF "$(cat "$scratch/a")" "$scratch/after" || {
            echo "$name changes the text's digest"
            return 1
        }
    done <"$scratch/kinds"
    echo "$n_kinds kinds"
    [ "$n_kinds" -ge "$4" ] && digests "$1" | cmp - "$scratch/before"
}
check "a weight of every kind of tensor shows in the digests (experts)" all_show "$moe" \
    "$scratch/plan" 420 46
synth --preset tiny-dense --mix Q3_K+Q8_0 --seed 7 --plan
cp "$out" "$scratch/plan-dense"
check "a weight of every kind of tensor shows in the digests (dense)" all_show "$dense" \
    "$scratch/plan-dense" 544 36

# ---- failures ------------------------------------------------------------------------------------

mkdir "$scratch/full"
# nothing_left: the directory is empty.
nothing_left() {
    ls -A "$scratch/full"
    [ -z "$(ls -A "$scratch/full")" ]
}
(
    ulimit -f 8192
    "$synth" -t 2 --preset tiny-moe --mix Q4_K_M -o "$scratch/full/m.gguf" >"$out" 2>"$err"
)
status=$?
check "a file that grows too large is one sentence" refuses 3 mtpsynth 'cannot write'
check "and leaves nothing" nothing_left
"$synth" -t 1 --preset 35b-a3b --layers 4 --mix Q8_0 -o "$scratch/full/m.gguf" >"$out" 2>"$err" &
pid=$!
tries=0
while [ -z "$(ls -A "$scratch/full")" ] && [ $tries -lt 2000 ]; do
    tries=$((tries + 1))
    sleep 0.01
done
kill -TERM $pid
wait $pid
status=$?
check "a signal ends the writing" refuses 130 mtpsynth 'interrupted'
check "and leaves nothing, too" nothing_left
echo kept >"$scratch/full/m.gguf"
(
    ulimit -f 8192
    "$synth" -t 2 --preset tiny-moe --mix Q4_K_M -o "$scratch/full/m.gguf" >"$out" 2>"$err"
)
check "an older file stays where the new one fails" grep -qx kept "$scratch/full/m.gguf"
synth --preset tiny-moe --mix Q4_K_M -o /dev/full
check "a device is refused" refuses 2 mtpsynth '/dev/full'
synth --preset tiny-moe --mix Q4_K_M -o "$scratch/none/m.gguf"
check "a folder that is not there is named" refuses 3 mtpsynth "$scratch/none/m.gguf"

synth --preset tiny-moe --mix Q9 -o "$scratch/m.gguf"
check "an unknown mix is refused" refuses 2 mtpsynth Q9
synth --preset huge --mix Q8_0 -o "$scratch/m.gguf"
check "an unknown preset is refused" refuses 2 mtpsynth huge
for wrong in '--accept 1.5' '--accept 0.5,' '--accept x' '--route-overlap 1' '--hot 255' '--hot 4000' \
    '--vocab 5000' '--layers 5' '--layers 0' '--stretch 0' '--seed -1' '--nonsense' 'stray'; do
    # shellcheck disable=SC2086
    synth --preset tiny-moe --mix Q8_0 -o "$scratch/m.gguf" $wrong
    check "$wrong is refused" refuses 2 mtpsynth "${wrong##* }"
done
synth --preset tiny-moe
check "a missing mix is asked for" refuses 2 mtpsynth '--mix'
synth --preset tiny-moe --mix Q8_0
check "a missing file name is asked for" refuses 2 mtpsynth '-o'
check "none of them wrote" test ! -e "$scratch/m.gguf"
synth --check "$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf"
check "a trained model cannot be checked" refuses 4 mtpsynth 'was not written by mtpsynth'
synth --print-cycle 4096,1 "$moe"
check "an id outside the vocabulary is refused" refuses 2 mtpsynth 4096
# A row of the head where another belongs: the text strays and --check tells.
head=$(sed -n 's/^output.weight .* at \([0-9]*\),.*/\1/p' "$scratch/plan")
next=$("$synth" --print-cycle 0,12 "$moe" | tail -n 1 | cut -d ' ' -f 2)
dd if="$moe" of="$moe" bs=1 count=420 skip=$head seek=$((head + 420 * next)) conv=notrunc 2>/dev/null
synth --check "$moe"
check "--check finds a model that strays" refuses 10 mtpsynth 'does not do what it should'
synth --help
check "--help lists exit statuses" says 0 'Exit status' '--route-overlap' '--print-cycle'

finish
