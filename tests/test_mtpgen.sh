#!/bin/sh
# test_mtpgen.sh - mtpgen as a user meets it, with the bundled model: text, settings that must not
# change it, and every way a run can go wrong: its exit status and its one sentence.
set -u
. "$TEST_SRCDIR/tests/lib.sh"
. "$TEST_SRCDIR/tests/mtpgen_lib.sh"

# ---- text ---------------------------------------------------------------------------------------

run -m "$model" -p "$prompt" -n 10
check "a prompt is continued and the report closes the run" status_is 0 \
    'load ' 'first token ' 'prefill ' 'tok/s' 'decode ' '10 tokens' 'peak memory ' \
    'stopped ' 'length'
cp "$out" "$scratch/text"
check "the text is there" test -s "$scratch/text"

run -m "$model" -p "$prompt" -n 10 -q
check "a quiet run says nothing beside the text" test ! -s "$err"
check "and writes the same text" same_as "$scratch/text"

printf '%s\n' "$prompt" >"$scratch/prompt"
run -m "$model" -f "$scratch/prompt" -n 10 -q
check "a prompt from a file gives the same text" same_as "$scratch/text"
input=$scratch/prompt
run -m "$model" -n 10 -q
check "a prompt from standard input gives the same text" same_as "$scratch/text"
run -m "$model" -f - -n 10 -q
check "and so does -f -" same_as "$scratch/text"
input=/dev/null

run -m "$model" -p "$prompt" -n 10 -q -t 1 --batch 1
check "one thread and chunks of one token give the same text" same_as "$scratch/text"
run -m "$model" -p "$prompt" -n 10 -q -t 2 --batch 3
check "two threads and chunks of three give the same text" same_as "$scratch/text"
run -m "$model" -p "$prompt" -n 10 -q --moe per-token
check "experts read once a token give the same text" same_as "$scratch/text"
run -m "$model" -p "$prompt" -n 3 -q --isa scalar # slow
check "the scalar definitions give the same text" begins_as "$scratch/text"
run -m "$model" -p "$prompt" -n 10 -q --device cpu
check "the processor gives the same text" same_as "$scratch/text"
run -m "$model" -p "$prompt" -n 10 -q --device cuda
on_cuda() # the same text where there is a device, else a reason
{
    [ "$status" -eq 0 ] && same_as "$scratch/text" || status_is 5 'CUDA'
}
check "a GPU gives the same text, or there is none" on_cuda

run -m "$model" -p "$prompt" -n 10 --device cpu --fast --report "$scratch/report"
check "--fast changes nothing on the processor" same_as "$scratch/text"
check "which is said, and reported" status_is 0 'note: --fast changes nothing on the CPU' \
    'fast         no product was inexact'
check "in the file, too" grep -q '"inexact_products": 0,' "$scratch/report"
run -m "$model" -p "$prompt" -n 10 --fast --strict
check "--fast and --strict exclude each other" fails_with 2 '--strict compares exact bits'
run -m "$model" -p "$prompt" -n 10 --fast --trace "$scratch/trace"
check "and so do --fast and --trace" fails_with 2 '--trace records exact bits'
check "no trace is left" test ! -e "$scratch/trace"

run -m "$model" -p "$prompt" -n 10 -q --temp 1 --seed 5
cp "$out" "$scratch/seed5"
run -m "$model" -p "$prompt" -n 10 -q --temp 1 --seed 5 -t 2 --batch 2
check "the same seed draws the same text" same_as "$scratch/seed5"
run -m "$model" -p "$prompt" -n 10 -q --temp 1 --seed 6
check "another seed draws another text" differs_from "$scratch/seed5"

run -m "$model" -p "$prompt" -n 0
check "-n 0 reads the prompt and generates nothing" status_is 0 'length' 'decode       0 tokens'
check "and writes nothing" test ! -s "$out"
run -m "$model" -p "$prompt" -c 12 --ignore-eos
check "a full context ends the text" status_is 0 'stopped      context'
stop=$(head -n 1 "$scratch/text" | cut -c 5-7)
run -m "$model" -p "$prompt" -n 10 --stop "$stop"
check "a stop text ends the text" status_is 0 'stopped      stop'
check "and is not printed" lacks "$stop"

printf 'caf\351 \377\376 ' >"$scratch/latin1"
run -m "$model" -f "$scratch/latin1" -n 4
check "a prompt that is no UTF-8 is read as bytes" status_is 0 'length'
run -m "$model" -p "$prompt" -n 4 -ngl 99 -fa on -ctk f16 -ctv f16 --jinja -no-cnv \
    --spec-type draft-mtp --spec-draft-n-max 3 --no-mmap --color on -ub 64
check "a command line pasted from llama.cpp runs" status_is 0 'note: -fa ' 'note: --jinja '

# ---- chat and info ------------------------------------------------------------------------------

run -m "$model" --chat -p hello
check "a file without chat template is refused, naming the way out" fails_with 5 \
    '--template chatml' 'ref-qwen35moe-Q4_K_M.gguf'
run -m "$model" --chat --template chatml -sys 'Be brief.' -p hello -n 6
check "plain ChatML answers once" status_is 0 'stopped '
printf 'hello\nand <|im_end|> again\n' >"$scratch/lines"
input=$scratch/lines
run -m "$model" --chat --template chatml -n 6 -v --temp 0
check "each line of standard input is a turn" status_is 0 'of earlier turns'
check "and each answer ends with a line break" test "$(wc -l <"$out")" -ge 2
input=/dev/null

# The same two turns, the second read at once as the template renders it. The digest is that of the
# last logits.
digest() {
    sed -n 's/.*digest \([0-9a-f]*\).*/\1/p' "$err"
}
printf 'hello\ntell me more\n' >"$scratch/lines"
run -m "$model" --chat --template chatml -p hello -n 6 -q --temp 0
cp "$out" "$scratch/first"
input=$scratch/lines
run -m "$model" --chat --template chatml -n 6 -v --temp 0
input=/dev/null
cp "$out" "$scratch/both"
turns_digest=$(digest)
{
    printf '<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n'
    cat "$scratch/first"
    printf '<|im_end|>\n<|im_start|>user\ntell me more<|im_end|>\n<|im_start|>assistant\n\n'
} >"$scratch/whole"
run -m "$model" -f "$scratch/whole" -n 6 -v
{
    cat "$scratch/first"
    echo
    cat "$out"
    echo
} >"$scratch/expected"
check "a second answer is that of the whole conversation read at once" \
    cmp "$scratch/expected" "$scratch/both"
check "with the same logits" test -n "$turns_digest" -a "$turns_digest" = "$(digest)"

run -m "$model" --info
check "--info describes the model" status_is 0
check "and names its architecture" grep -q qwen35moe "$out"
run --version
check "--version needs no model" status_is 0
run --help
check "--help needs no model" status_is 0

# ---- files that are no models -------------------------------------------------------------------

run -m "$scratch/missing.gguf" -p x
check "a missing file" fails_with 3 "$scratch/missing.gguf" 'No such file'
run -m "$scratch" -p x
check "a directory" fails_with 3 "$scratch" 'directory'
echo 'not a model, just text that is long enough to have a header' >"$scratch/text.gguf"
run -m "$scratch/text.gguf" -p x
check "a file that is not GGUF" fails_with 4 text.gguf
: >"$scratch/empty.gguf"
run -m "$scratch/empty.gguf" -p x
check "an empty file" fails_with 4 empty.gguf
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 39008832\n' 0 \
    >"$scratch/pointer.gguf"
run -m "$scratch/pointer.gguf" -p x
check "a Git LFS pointer" fails_with 4 pointer.gguf LFS
head -c 20000000 "$model" >"$scratch/part.gguf"
run -m "$scratch/part.gguf" -p x
check "a truncated file" fails_with 4 part.gguf
head -c 3000 "$model" >"$scratch/stub.gguf"
run -m "$scratch/stub.gguf" -p x
check "a file cut inside its metadata" fails_with 4 stub.gguf
rm -f "$scratch/part.gguf"

cp "$scratch/text.gguf" "$scratch/closed.gguf"
chmod 000 "$scratch/closed.gguf"
if [ -r "$scratch/closed.gguf" ]; then # root reads everything: give that power up
    setpriv --bounding-set=-dac_override,-dac_read_search \
        "$mtpgen" -m "$scratch/closed.gguf" -p x >"$out" 2>"$err" </dev/null
    status=$?
else
    run -m "$scratch/closed.gguf" -p x
fi
check "a file without permission to read" fails_with 3 closed.gguf 'Permission denied'

# ---- arguments ----------------------------------------------------------------------------------

run
check "no arguments" fails_with 2 '-m FILE'
run -m "$model"
input=/dev/null
check "an empty prompt from standard input" fails_with 2 'empty'
run -m "$model" -p ''
check "an empty prompt" fails_with 2 'empty'
run -m "$model" -p x -n 4x
check "a bad number" fails_with 2 '-n 4x'
run -m "$model" -p x --temp hot
check "a bad temperature" fails_with 2 '--temp hot'
run -m "$model" -p x --frobnicate
check "an unknown option" fails_with 2 '--frobnicate'
run -m "$model" -p x -hf someone/model
check "an option of llama.cpp that has an answer" fails_with 2 '-hf' '-m FILE'
run -m "$model" -f "$scratch/missing.txt"
check "a prompt file that is missing" fails_with 3 missing.txt
run -m "$model" -f "$scratch"
check "a prompt file that is a directory" fails_with 3 'directory'
run -m "$model" -p "$prompt $prompt" -c 8
check "a prompt longer than the context, with both numbers" fails_with 7 ' 8' 'tokens'
run -m "$model" -p x --mtp-model "$scratch/missing.gguf"
check "a companion file that is missing" fails_with 3 missing.gguf

# ---- output and memory --------------------------------------------------------------------------

"$mtpgen" -t 1 -m "$model" -p "$prompt" -n 10 >/dev/full 2>"$err" </dev/null
status=$?
: >"$out"
check "a full disk" fails_with 3 'No space left'
"$mtpgen" --help >/dev/full 2>"$err" </dev/null
status=$?
check "a full disk for --help" fails_with 3 'No space left'
"$mtpgen" -m "$model" --info >/dev/full 2>"$err" </dev/null
status=$?
check "a full disk for --info" fails_with 3 'No space left'
"$mtpgen" -t 1 -m "$model" -p "$prompt" -n 10 >&- 2>"$err" </dev/null
status=$?
check "closed standard output" fails_with 3 'standard output is closed'
{
    "$mtpgen" -t 1 -m "$model" -p "$prompt" -n 200 --ignore-eos 2>"$err" </dev/null
    echo $? >"$scratch/status"
} | head -c 1 >/dev/null
status=$(cat "$scratch/status")
check "a reader that went away" fails_with 3 'standard output was closed'
"$mtpgen" -t 1 -m "$model" -p "$prompt" -n 10 -q >"$out" 2>&- <&-
status=$?
check "closed standard input and error do no harm" same_as "$scratch/text"

# Every limit either suffices or is answered; some limit must be too small.
memory_runs_out_cleanly() {
    seen=0
    for limit in 100000 130000 160000 200000 300000 500000; do
        (
            ulimit -v $limit
            exec "$mtpgen" -t 1 -m "$model" -p x -n 2 -c 4096 -t 1 --batch 4096 </dev/null >"$out" 2>"$err"
        )
        status=$?
        echo "limit $limit KiB: exit status $status"
        [ $status -eq 0 ] && continue
        fails_with 6 'memory' || return 1
        seen=1
    done
    [ $seen -eq 1 ]
}
if [ "${TEST_SANITIZED:-no}" = yes ]; then
    echo "[ NOT RUN  ] memory limits: sanitizers reserve terabytes of addresses"
else
    check "memory that runs out" memory_runs_out_cleanly
fi

# ---- Ctrl-C -------------------------------------------------------------------------------------

# Background jobs of a script ignore Ctrl-C; env undoes that for mtpgen.
interrupted() {
    : >"$out"
    env --default-signal=INT "$mtpgen" -t 1 -m "$model" -p "$prompt" -n 4000 --ignore-eos \
        </dev/null >"$out" 2>"$err" &
    job=$!
    tries=0
    while [ ! -s "$out" ] && [ $tries -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -INT $job
    wait $job
    status=$?
    status_is 130 'stopped      interrupted' 'tok/s'
}
check "Ctrl-C stops at the next token with a report" interrupted
check "and what was generated is there" begins_as "$scratch/text"

interrupted_while_reading() {
    i=0
    while [ $i -lt 400 ]; do
        echo "It was a dark and stormy night, and the rain fell in torrents."
        i=$((i + 1))
    done >"$scratch/long"
    env --default-signal=INT "$mtpgen" -t 1 --batch 4 -m "$model" -c 20000 -f "$scratch/long" \
        --ignore-eos </dev/null >"$out" 2>"$err" &
    job=$!
    sleep 1
    kill -INT $job
    wait $job
    status=$?
    status_is 130 'interrupted'
}
check "Ctrl-C while a long prompt is read" interrupted_while_reading
run -m "$model" -f /dev/zero
check "a prompt without end" fails_with 7 '/dev/zero' '256 MiB'

if command -v mandoc >/dev/null; then
    check "the man page is clean" mandoc -Tlint -Wwarning "$TEST_SRCDIR/docs/mtpgen.1"
fi
finish
