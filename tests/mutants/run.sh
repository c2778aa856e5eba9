#!/bin/sh
# run.sh [-j N] SRCDIR [PATCH...] - proves that tests can fail. Every tests/mutants/*.patch breaks the
# program on purpose and names, in a line "# turns red: TEST", the test (a program or script of
# tests/, without directory) that must notice. Works on a copy; the tree itself is not touched. -j shares
# the patches out over N such copies.
set -u
jobs=1
if [ "${1:-}" = -j ]; then
    jobs=${2:?how many copies}
    shift 2
fi
srcdir=$(cd "${1:?source tree}" && pwd) || exit 1
shift
[ $# -gt 0 ] || set -- "$srcdir"/tests/mutants/*.patch
limit=${MUTANT_SECONDS:-600}
work=$(mktemp -d "${TMPDIR:-/tmp}/mtp-mutants.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'trap "" TERM; kill 0; exit 130' INT TERM

stop() {
    echo "mutants: $1" >&2
    [ -z "${2:-}" ] || tail -20 "$2" >&2
    exit 1
}

copy_tree() {
    mkdir "$work/src" "$work/build"
    (cd "$srcdir" && tar -cf - --exclude=./.git --exclude='./build*' .) |
        (cd "$work/src" && tar -xf -)
    chmod -R u+w "$work/src"
    cd "$work/src" || exit 1
    # An in-tree build would bring its own objects along.
    [ ! -f Makefile ] || make -s distclean >/dev/null 2>&1
    ./autogen.sh >"$work/log" 2>&1 || stop "autogen.sh failed" "$work/log"
    cd "$work/build" || exit 1
    # What needs a device is proved elsewhere; its code takes long to compile.
    ../src/configure -q --without-cuda >"$work/log" 2>&1 || stop "configure failed" "$work/log"
}

# Builds what the test needs: 0 fine, 1 does not compile.
build_for() {
    if [ -f "../src/tests/$1.sh" ]; then
        make -s all >"$work/log" 2>&1
    else
        make -s "tests/$1" >"$work/log" 2>&1
    fi
}

# Runs the test: its status through the test harness.
run_test() {
    target=tests/$1
    [ ! -f "../src/tests/$1.sh" ] || target=tests/$1.sh
    rm -f "tests/$1.log" "tests/$1.trs"
    timeout "$limit" make -s check-TESTS TESTS="$target" >"$work/log" 2>&1
}

red_tests() {
    sed -n 's/^# turns red: *\([A-Za-z0-9_]*\).*/\1/p' "$1"
}

try_mutant() {
    for test in $(red_tests "$1"); do
        case $green in
        *" $test "*) ;;
        *)
            build_for "$test" || stop "$test does not build without a mutant" "$work/log"
            run_test "$test" || stop "$test fails without a mutant" "$work/log"
            green="$green$test "
            ;;
        esac
    done
    (cd ../src && patch -s -p1 <"$1") >"$work/log" 2>&1 || stop "$name does not apply" "$work/log"
    for test in $(red_tests "$1"); do
        build_for "$test" || stop "$name does not compile" "$work/log"
        if run_test "$test"; then
            echo "[  FAILED  ] $name: $test stays green"
            survived=$((survived + 1))
        else
            echo "[       OK ] $name turns $test red"
            killed=$((killed + 1))
        fi
    done
    (cd ../src && patch -s -R -p1 <"$1") || stop "$name cannot be taken back"
}

# Every N-th patch to each copy; one line of its own counts what all of them found.
share_out() {
    failed=0
    pids=
    for i in $(seq "$jobs"); do
        share=$(printf '%s\n' $patches | awk -v n="$jobs" -v i="$i" 'NR % n == i % n')
        [ -z "$share" ] || "$0" "$srcdir" $share >"$work/share.$i" 2>&1 &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || failed=1
    done
    cat "$work"/share.* | grep -v ' mutants found, '
    cat "$work"/share.* | awk '/ mutants found, / { found += $1; survived += $4 }
        END { print found + 0 " mutants found, " survived + 0 " survived" }'
    exit "$failed"
}

[ -f "$1" ] || stop "no patch $1"
patches=$(for patch in "$@"; do realpath "$patch"; done)
[ "$jobs" = 1 ] || share_out
copy_tree
killed=0
survived=0
green=" "
for patch in $patches; do
    name=$(basename "$patch" .patch)
    [ -n "$(red_tests "$patch")" ] || stop "$name has no line '# turns red: TEST'"
    try_mutant "$patch"
done
echo "$killed mutants found, $survived survived"
[ "$survived" = 0 ]
