#!/bin/sh
# test_mtpgen_page.sh - mtpgen --report FILE.html with a real model: pages are well-formed, harmless, self-contained
# and say what the JSON report of the run says; what happens when they cannot be written. tests/check_page.py looks
# at them; tests/test_mtpgen_html.c has the cases that no real model gives.
set -u
if ! command -v python3 >/dev/null; then
    echo "SKIPPED: pages are looked at by a Python program and there is no python3 here (package python3)"
    exit 77
fi
. "$TEST_SRCDIR/tests/lib.sh"
. "$TEST_SRCDIR/tests/mtpgen_lib.sh"
page=$scratch/page.html

page_is() {
    was_status 0 && python3 "$TEST_SRCDIR/tests/check_page.py" "$page" "$@"
}

# page_of ARGUMENTS...: the page of a run, and $out; the JSON report of the same arguments.
page_of() {
    run -q --report "$scratch/report.json" "$@"
    cp "$out" "$scratch/text"
    run -q --report "$page" "$@"
}

# ---- what it says -------------------------------------------------------------------------------

printf %s "$prompt" >"$scratch/prompt"
for arguments in "--draft 0" "--draft 1" "--draft 3 --strict" "--draft 8 --draft-source ngram" \
    "--draft 5 --draft-source mtp,ngram --ignore-eos" "--draft 4 --temp 1 --seed 7" "--draft 3 --profile"; do
    # shellcheck disable=SC2086 # several words
    page_of -m "$model" -p "$prompt" -n 150 $arguments
    check "$arguments: the page says what the JSON report says" page_is --json "$scratch/report.json"
    check "$arguments: its tokens are the text" page_is --text "$out" --prompt "$scratch/prompt"
    check "$arguments: which is the same as without it" same_as "$scratch/text"
done
run -q -m "$model" -p "$prompt" -n 60 --draft auto --draft-source mtp,ngram --report "$page" --ignore-eos
check "with depths chosen step by step" page_is --text "$out"

run -q -m "$model" -p "$prompt" -n 40 --strict --report "$page"
check "a strict run is called proved" has_each "$page" 'Proved equal to plain decoding</b>'
run -q -m "$model" -p "$prompt" -n 40 --report "$page"
check "another is not" sh -c "grep -q 'Not checked</b>' '$page' && ! grep -q 'Proved' '$page'"
run -q -m "$model" -p "$prompt" -n 40 --strict=sample --report "$page"
check "nor is a spot check" sh -c "grep -q 'no proof</b>' '$page' && ! grep -q 'Proved' '$page'"
run -q -m "$model" -p "$prompt" -n 40 --strict --test-flip matmul:2 --report "$page"
check "a strict run that finds a difference says so" sh -c "[ $status -eq 9 ] &&
    grep -q 'Not equal to plain decoding</b>' '$page' && grep -q 'First difference: ' '$page' &&
    grep -q 'Exit status</b> <span>9:' '$page' && ! grep -q 'Proved' '$page'"
printf 'Who are you?\nAnd I?\n' >"$scratch/lines"
input=$scratch/lines
run -q -m "$model" --chat --template chatml --temp 0 -n 20 --report "$page"
input=/dev/null
check "a chat shows all its turns" page_is
check "with their questions and control tokens" sh -c "[ \"\$(grep -c '<h3>Prompt</h3>' '$page')\" -eq 2 ] &&
    grep -q 'And I?<b class=\"c\">&lt;|im_end|&gt;</b>' '$page'"

# ---- hostile texts ------------------------------------------------------------------------------

hostile='</style></title></pre><script>alert(1)</script><img src=x onerror=alert(1)>"&<!--'"'"
bidi=$(printf '\342\200\256')
run -q -m "$model" -e -p "$hostile \\x00\\x1b[2J \\xff\\xed\\xa0\\x80 $bidi ]]>" -n 20 --stop "$hostile" \
    --report "$page"
check "a hostile prompt is text" page_is
check "shown as it is" has_each "$page" '&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;' \
    '&quot;&amp;&lt;!--&#39;' '<i class="x">\x00</i><i class="x">\x1b</i>[2J' \
    '<i class="x">\xff</i><i class="x">\xed</i><i class="x">\xa0</i><i class="x">\x80</i>' \
    '<i class="x">U+202E</i> ]]&gt;'
check "and nothing of it is markup" sh -c "! grep -qE '<(script|img|!--)' '$page'"
folder="$scratch/<b onclick=x>&\"$(printf '\377')"
mkdir "$folder"
cp "$model" "$folder/model.gguf"
run -q -m "$folder/model.gguf" -p "$prompt" -n 8 --report "$folder/page.html"
cp "$folder/page.html" "$page"
check "so are hostile file names" page_is
check "of which the page shows every byte" has_each "$page" '/&lt;b onclick=x&gt;&amp;&quot;\xff/model.gguf'

# ---- files --------------------------------------------------------------------------------------

check "nothing else was left beside a page" test "$(find "$scratch" -name 'page.html*' | wc -l)" -eq 2
ln -s /dev/full "$scratch/full.html"
run -q -m "$model" -p "$prompt" -n 40 --report "$scratch/full.html"
check "a full disk is one sentence" sh -c "[ $status -eq 3 ] && [ \"\$(wc -l <'$err')\" -eq 1 ]"
check "that names the file" status_is 3 "cannot write $scratch/full.html: No space left on device"
check "after the text" test -s "$out"
run -m "$model" -p "$prompt" -n 40 --report "$scratch/nowhere/page.html"
check "a folder that is not there" fails_with 3 'nowhere/page.html' 'No such file'
# What fails in the middle: files end after 8 blocks of 512 bytes, the page is longer.
echo before >"$scratch/kept.html"
(
    trap '' XFSZ
    ulimit -f 8
    exec "$mtpgen" -t 1 --device cpu -q -m "$model" -p "$prompt" -n 40 --report "$scratch/kept.html"
) >"$out" 2>"$err"
status=$?
check "a page that is cut short is one sentence" sh -c "[ $status -eq 3 ] && [ \"\$(wc -l <'$err')\" -eq 1 ]"
check "with its reason" status_is 3 "cannot write $scratch/kept.html: File too large"
check "and leaves what was there" test "$(cat "$scratch/kept.html")" = before
check "and nothing beside it" test "$(find "$scratch" -name 'kept.html*' | wc -l)" -eq 1

finish
