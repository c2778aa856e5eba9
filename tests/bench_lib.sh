# bench_lib.sh - for tests of the Python programs in bench/: lib.sh, and a program's run.
# `bench PROGRAM ARGUMENTS...` sets $status and leaves $out and $err; `status_is` and `json_is` look at
# what came of it.
if ! command -v python3 >/dev/null; then
    echo "SKIPPED: bench/ has Python programs and there is no python3 here (package python3)"
    exit 77
fi
. "$TEST_SRCDIR/tests/lib.sh"

out=$scratch/out
err=$scratch/err

bench() {
    program=$1
    shift
    python3 "$TEST_SRCDIR/bench/$program" "$@" >"$out" 2>"$err"
    status=$?
}

# status_is N [TEXT...]: the exit status was N and output and errors together have each TEXT.
status_is() {
    was_status "$1" || return 1
    shift
    cat "$out" "$err" >"$scratch/both"
    has_each "$scratch/both" "$@"
}

# json_is FILE STATEMENTS: Python's assertions about `data`, the file's contents.
json_is() {
    python3 -c '
import json, sys
data = json.load(open(sys.argv[1]))
exec(sys.argv[2])' "$1" "$2"
}

# A fake mtpgen ($engine) that keeps its notes in $scratch/engine-state (tests/fake_mtpgen.py).
fake_engine() {
    engine=$scratch/engine
    state=$scratch/engine-state
    mkdir -p "$state"
    printf '#!/bin/sh\nexec python3 "%s/tests/fake_mtpgen.py" "%s" "$@"\n' "$TEST_SRCDIR" "$state" \
        >"$engine"
    chmod +x "$engine"
}
