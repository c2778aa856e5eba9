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

finish() {
    if [ "$tests_failed" -gt 0 ]; then
        echo " $tests_failed FAILED TEST(S)"
        exit 1
    fi
    echo "[  PASSED  ] $tests_run test(s)."
    exit 0
}
