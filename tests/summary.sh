#!/bin/sh
# summary.sh BUILDDIR [-v] - adds up what the test programs of a build directory printed: one line a
# program (with -v its whole output), and last, alone on its line, "N passed, N failed". A program
# that failed without naming a test (a crash, a missing file) counts as one failure; one that skips
# itself counts for nothing, and its reason is shown.
set -u
build=${1:?build directory}
verbose=${2:-}
[ -d "$build/tests" ] || {
    echo "summary.sh: no tests were run in $build" >&2
    exit 1
}
find "$build/tests" -name '*.trs' | sort | while read -r trs; do
    log=${trs%.trs}.log
    name=${trs#"$build"/}
    [ "$verbose" = -v ] && cat "$log"
    result=$(sed -n 's/^:test-result: *//p' "$trs")
    awk -v name="${name%.trs}" -v result="${result%% *}" '
        /^\[       OK \]/ { passed++ }
        /^SKIPPED: / { why = $0 }
        /^ *[0-9]+ FAILED TEST\(S\)/ { failed += $1 }
        END {
            if (result == "SKIP") {
                printf "%-32s %s\n", name, why
                exit
            }
            if (result != "PASS" && !failed)
                failed = 1
            if (result == "PASS" && !passed)
                passed = 1
            printf "%-32s %4d passed, %d failed\n", name, passed, failed
        }' "$log"
done | awk '
    { print }
    / passed, [0-9]+ failed$/ { passed += $(NF - 3); failed += $(NF - 1); programs++ }
    END {
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0 || programs == 0
    }'
