#!/bin/sh
# run.sh SRCDIR BUILDDIR [PATCH...] - proves that the tests on a GPU can fail, by hand on a machine that has
# one. Every *.patch here breaks the CUDA backend on purpose and names what must notice, in a line
#     # turns red: PROGRAM ARGUMENTS...       of BUILDDIR, or
#     # turns red: sanitize TOOL MODEL        for tests/gpu/sanitize.sh
# Patches are applied to SRCDIR itself, one at a time, and taken back, also when the script is interrupted:
# give it a copy of the tree and a build of that copy.
set -u
srcdir=$(cd "${1:?source tree}" && pwd) || exit 1
builddir=$(cd "${2:?its build directory}" && pwd) || exit 1
shift 2
[ $# -gt 0 ] || set -- "$srcdir"/tests/gpu/mutants/*.patch
limit=120 # seconds for a test
log=$(mktemp "${TMPDIR:-/tmp}/mtp-gpu-mutants.XXXXXX") || exit 1
applied=
take_back() {
    [ -z "$applied" ] || (cd "$srcdir" && patch -s -R -p1 <"$applied") || exit 1
    applied=
}
trap 'take_back; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
cd "$builddir" || exit 1

stop() {
    echo "gpu mutants: $1" >&2
    tail -20 "$log" >&2
    exit 1
}

build() {
    case $1 in
    sanitize*) make -s -j "$(nproc)" mtpgen >"$log" 2>&1 ;;
    *) make -s -j "$(nproc)" "${1%% *}" >"$log" 2>&1 ;;
    esac
}

# 0 green, 77 nothing to run on, anything else red.
run_test() {
    case $1 in
    # shellcheck disable=SC2086
    sanitize*) timeout "$limit" "$srcdir/tests/gpu/sanitize.sh" "$srcdir" "$builddir" ${1#sanitize } ;;
    # shellcheck disable=SC2086
    *) timeout "$limit" ./$1 ;;
    esac >"$log" 2>&1
}

red_test() {
    sed -n 's/^# turns red: *//p' "$1"
}

# Every test is green without a patch.
for patch; do
    red_test "$patch"
done | sort -u >"$log.tests"
while read -r test; do
    build "$test" || stop "$test does not build"
    run_test "$test" </dev/null
    status=$?
    [ $status != 77 ] || { cat "$log"; exit 77; }
    [ $status = 0 ] || stop "$test fails without a mutant"
done <"$log.tests"
rm -f "$log.tests"

killed=0 survived=0
for patch; do
    name=$(basename "$patch" .patch)
    test=$(red_test "$patch")
    patch=$(realpath "$patch")
    (cd "$srcdir" && patch -s -p1 <"$patch") >"$log" 2>&1 || stop "$name does not apply"
    applied=$patch
    build "$test" || stop "$name does not compile"
    if run_test "$test"; then
        echo "[  FAILED  ] $name: $test stays green"
        survived=$((survived + 1))
    else
        echo "[       OK ] $name turns $test red: $(grep -i -m1 -e differ -e mismatch -e leak -e fail "$log" | cut -c1-100)"
        killed=$((killed + 1))
    fi
    take_back
done
echo "$killed mutants found, $survived survived"
[ "$survived" = 0 ]
