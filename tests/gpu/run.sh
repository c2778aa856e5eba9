#!/bin/sh
# run.sh PROGRAM... - what `make check-gpu` runs, and how long each takes. Status 77 and a reason where there
# is nothing to run on.
set -u
[ $# -gt 0 ] || { echo "check-gpu: this build has no CUDA backend (see the end of configure's output)"; exit 77; }
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
failed=0
begin=$(date +%s)
for program; do
    echo "==== $program"
    start=$(date +%s)
    "$program"
    status=$?
    [ $status != 77 ] || exit 77 # it has said why
    [ $status = 0 ] || failed=1
    echo "==== status $status, $(($(date +%s) - start)) s"
done
[ $failed = 0 ] && echo "check-gpu: passed, $(($(date +%s) - begin)) s"
exit $failed
