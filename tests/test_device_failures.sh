#!/bin/sh
# What mtpgen does where its GPU is missing, too small, or fails while it loads or generates: one sentence, its
# status, the text and the trace so far, nothing left on the device. The GPU is tests/guarded_mtpgen's.
. "$TEST_SRCDIR/tests/lib.sh"
. "$TEST_SRCDIR/tests/mtpgen_lib.sh"
mtptrace=$TEST_BUILDDIR/mtptrace
trace=$scratch/trace
json=$scratch/report.json

run -m "$model" -p "$prompt" -n 24 --ignore-eos -q
cp "$out" "$scratch/text"

# gpu 'NAME=VALUE...' ARGUMENTS...: a run on the guarded device; without --device it is mtpgen's to choose.
gpu() {
    settings=$1
    shift
    eval "env $settings" '"$TEST_BUILDDIR/tests/guarded_mtpgen"' -t 1 '-m "$model" -p "$prompt" --ignore-eos "$@"' \
        '</dev/null >"$out" 2>"$err"'
    status=$?
}

quiet_run() { # the whole text and nothing else
    [ "$status" -eq 0 ] && [ ! -s "$err" ] && same_as "$scratch/text"
}

lacks_note() {
    [ "$status" -eq 0 ] && ! grep -q 'note' "$err"
}

noted_run() { # TEXT...: the whole text and one note with each TEXT
    status_is 0 'mtpgen: note: ' "$@" && [ "$(grep -c '^mtpgen: note' "$err")" -eq 1 ] &&
        same_as "$scratch/text"
}

gpu '' -n 24 -q
check "a GPU is taken, and gives the text" quiet_run
gpu '' -n 24 -v
check "and -v names it" status_is 0 'on guarded, '
gpu '' -n 24 -v -ngl 0
check "-ngl 0 is the CPU" status_is 0 'on cpu, '
gpu '' -n 24 -v --device cpu
check "and so is --device cpu" status_is 0 'on cpu, '

gpu "GUARDED_ABSENT='no driver'" -n 24
check "without a GPU the CPU gives the text" same_as "$scratch/text"
check "and that is no news" lacks_note
gpu "GUARDED_ABSENT='no driver'" -n 24 -v
check "-v tells it" noted_run 'no driver; going on on the CPU'
gpu "GUARDED_ABSENT='the driver is too old' GUARDED_THERE=1" -n 24
check "a GPU that cannot be used is told" noted_run 'the driver is too old; going on on the CPU'
gpu "GUARDED_ABSENT='the driver is too old' GUARDED_THERE=1" -n 24 -q
check "-q leaves that out" quiet_run
gpu "GUARDED_ABSENT='no driver'" -n 24 --device cuda
check "--device cuda ends then" fails_with 5 'no driver'

gpu 'GUARDED_LIMIT=2000000' -n 24
check "a model that does not fit runs on the CPU" noted_run "MiB of the device's memory" 'on the CPU'
gpu 'GUARDED_LIMIT=2000000' -n 24 --device cuda
check "--device cuda refuses it with the numbers" fails_with 6 'weights ' 'KV cache ' 'MiB more than that'
gpu '' --info -c 1024
limit=$(awk '/all together/ { printf "%.0f", $3 * 1048576 + 120000 }' "$out")
gpu "GUARDED_LIMIT=$limit" -n 24 --device cuda
check "the context is what fits, and that is told" noted_run 'the context is 1024 of the model'
gpu "GUARDED_LIMIT=$limit" -n 24 --device cuda -q
check "or not, with -q" quiet_run
gpu "GUARDED_LIMIT=$limit" -n 24 --device cuda -c 1024
check "a context that fits is no news" lacks_note
gpu "GUARDED_LIMIT=$limit" -n 24 --device cuda -c 2048
check "one that does not is refused, and what would fit is named" fails_with 6 \
    'a context of 2048 positions needs ' 'a context of 1024 would fit'
gpu "GUARDED_LIMIT=$limit" -n 24 --device cuda --info -c 2048
check "--info says so, too" status_is 6 'a context of 1024 would fit'
for n in 1 3 9; do
    gpu "GUARDED_FAIL_ALLOC=$n" -n 24 --device cuda
    check "allocation $n that finds no memory ends the run" fails_with 6 'memory'
done
gpu 'GUARDED_FAIL_ALLOC=9' -n 24
check "or it goes on on the CPU" noted_run 'not enough memory on the device'

gpu 'GUARDED_FAIL_UPLOAD=20' -n 24 --device cuda
check "a device that fails while it loads ends the run" fails_with 10 'the device has left in an upload'
gpu 'GUARDED_FAIL_UPLOAD=20' -n 24
check "or it goes on on the CPU" noted_run 'the device has left in an upload'

# One sentence, a beginning of the text that is not all of it, a trace of so much that verifies, a report.
failed_in_the_middle() {
    status_is 10 'mtpgen: the device has left in a pass' || return 1
    [ "$(wc -l <"$err")" -eq 1 ] && [ -s "$out" ] || return 1
    [ "$(wc -c <"$out")" -lt "$(wc -c <"$scratch/text")" ] && begins_as "$scratch/text" || return 1
    "$mtptrace" verify "$trace" -m "$model" -t 1 || return 1
    "$mtptrace" show "$trace" | grep -q 'step' && grep -q '"exit_status": 10' "$json"
}
for arguments in '--draft 0' '--draft 3' '--draft 3 --strict'; do
    rm -f "$trace" "$json"
    case $arguments in *strict) pass=60 ;; *) pass=8 ;; esac # the prompt's rows are checked, too
    gpu "GUARDED_FAIL_PASS=$pass" -n 24 --device cuda --trace "$trace" --report "$json" $arguments
    check "$arguments: a device that fails in a step keeps text, trace and report" failed_in_the_middle
done
finish
