# lib.sh - how a test script counts: the same lines as cmocka prints, so that tests/summary.sh adds
# both up. Usage:
#     . "$TEST_SRCDIR/tests/lib.sh"
#     check "sentence that should hold" command arguments...
#     finish
# The output of a failing command is shown.

tests_run=0
tests_failed=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mtp-test.XXXXXX")
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

check() {
    check_name=$1
    shift
    tests_run=$((tests_run + 1))
    if "$@" >"$scratch/check.out" 2>&1; then
        echo "[       OK ] $check_name"
    else
        tests_failed=$((tests_failed + 1))
        sed 's/^/    /' "$scratch/check.out"
        echo "[  FAILED  ] $check_name"
    fi
}

# has_each FILE TEXT...: the file has every TEXT.
has_each() {
    looked_at=$1
    shift
    for text; do
        grep -qF -e "$text" "$looked_at" || {
            echo "lacks: $text"
            return 1
        }
    done
}

# Of a program whose exit status is in $status, and whose output and errors are in the files $out and $err:
# was_status N: the status was N; shows what it gave.
was_status() {
    cat "$out" "$err"
    [ "$status" -eq "$1" ] || {
        echo "exit status $status, not $1"
        return 1
    }
}

# says N TEXT...: the status was N and the output has each TEXT.
says() {
    was_status "$1" || return 1
    shift
    has_each "$out" "$@"
}

# refuses N PROGRAM TEXT...: the status was N and the errors are one sentence of PROGRAM that has each TEXT.
refuses() {
    was_status "$1" && [ "$(wc -l <"$err")" -eq 1 ] && grep -q "^$2: " "$err" || return 1
    shift 2
    has_each "$err" "$@"
}

finish() {
    if [ "$tests_failed" -gt 0 ]; then
        echo " $tests_failed FAILED TEST(S)"
        exit 1
    fi
    echo "[  PASSED  ] $tests_run test(s)."
    exit 0
}
