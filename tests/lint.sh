#!/bin/sh
# lint.sh - checks the rules of docs/style.md; POSIX tools and awk.
#     lint.sh sources ROOT          sizes, forbidden calls, the fast-math guard, exported names
#     lint.sh library ROOT LIB.so [OBJECTS.a]
#                                   what the built library exports, imports and keeps in memory; the
#                                   last two of OBJECTS.a, its own objects, where that is given
# Prints every finding; status 1 when there is one.
set -u
LC_ALL=C
export LC_ALL

mode=${1:?sources or library}
root=${2:?root of the source tree}
here=$(dirname "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/mtp-lint.XXXXXX")
trap 'rm -rf "$work"' EXIT
: >"$work/findings"

finding() {
    echo "$1" >>"$work/findings"
}

# ---- sources -------------------------------------------------------------------------------------

c_sources() {
    for room in src kernels mtp verify tests bench examples; do
        [ -d "$root/$room" ] &&
            find "$root/$room" -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \)
    done | sort
}

other_sources() {
    for room in src kernels mtp verify tests bench examples m4 tools; do
        [ -d "$root/$room" ] &&
            find "$root/$room" -type f \( -name '*.sh' -o -name '*.awk' -o -name '*.am' \
                -o -name '*.py' -o -name 'mtp.m4' -o -name 'cuda.m4' \)
    done | sort
}

# Lines of tests/lint-exceptions.txt are "key: reason"; the key is a path (for its length) or
# path:function. A key that excuses nothing any more is a finding itself.
apply_exceptions() {
    exceptions=$root/tests/lint-exceptions.txt
    [ -f "$exceptions" ] || exceptions=/dev/null
    awk -F'|' -v list="$exceptions" '
        BEGIN {
            while ((getline line < list) > 0) {
                if (line ~ /^#/ || line ~ /^ *$/)
                    continue
                at = index(line, ": ")
                if (at == 0 || substr(line, at + 2) ~ /^ *$/)
                    print "tests/lint-exceptions.txt: no reason given in: " line
                else
                    excused[substr(line, 1, at - 1)] = 1
            }
        }
        ($1 == "file" || $1 == "function") && ($2 in excused) { used[$2] = 1; next }
        { print $3 }
        END {
            for (key in excused)
                if (!(key in used))
                    print "tests/lint-exceptions.txt: " key " needs no exception; remove it"
        }' "$work/raw" >>"$work/findings"
}

# Every kernel must refuse to be compiled under -ffast-math: a header with #error reaches it.
check_fast_math_guard() {
    grep -l '__FAST_MATH__' "$root"/kernels/*.h 2>/dev/null >"$work/guards"
    if [ ! -s "$work/guards" ] || ! xargs grep -h '# *error' <"$work/guards" >/dev/null; then
        finding "kernels/: no header has the #error under __FAST_MATH__"
    elif [ -n "${CC:-}" ]; then
        find "$root/kernels" -name '*.c' | sort | while read -r file; do
            if $CC -E -ffast-math -I"$root/src" -I"$root" "$file" >/dev/null 2>&1; then
                finding "${file#"$root"/}: compiles under -ffast-math; include the guard"
            fi
        done
    fi
}

declared_names() {
    awk '{ text = text $0 "\n" }
        END {
            while ((from = index(text, "/*")) > 0) {
                rest = substr(text, from + 2)
                text = substr(text, 1, from - 1) substr(rest, index(rest, "*/") + 2)
            }
            print text
        }' "$root/src/mtp.h" |
        tr -c 'A-Za-z0-9_(' '\n' | sed -n 's/^\(mtp_[a-z0-9_]*\)(.*/\1/p' | sort -u
}

check_symbol_list() {
    [ -f "$root/src/mtp.h" ] || return 0
    declared_names >"$work/declared"
    sort -u "$root/src/libmtp.sym" >"$work/listed"
    comm -23 "$work/declared" "$work/listed" | while read -r name; do
        finding "src/libmtp.sym: $name of mtp.h is missing"
    done
    comm -13 "$work/declared" "$work/listed" | while read -r name; do
        finding "src/libmtp.sym: $name is not declared in mtp.h"
    done
}

# Every source of the product stands in a fragment, once.
check_fragments() {
    for room in src kernels mtp verify; do
        [ -f "$root/$room/$room.am" ] || continue
        sed 's/^#.*//' "$root/$room/$room.am" | tr ' \t' '\n\n' | grep -E "^$room/.*\.(c|h|cu|cuh)\$" | sort \
            >"$work/named"
        (cd "$root" && find "$room" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh') | sort \
            >"$work/present"
        uniq -d "$work/named" | while read -r name; do
            finding "$room/$room.am: $name is listed twice"
        done
        sort -u "$work/named" | comm -13 - "$work/present" | while read -r name; do
            finding "$room/$room.am: $name is not listed"
        done
    done
}

lint_sources() {
    c_sources >"$work/c"
    other_sources >"$work/other"
    tr '\n' '\0' <"$work/c" | xargs -0 awk -v root="$root/" -f "$here/lint.awk" >"$work/raw" ||
        finding "lint.awk failed"
    while read -r file; do
        lines=$(wc -l <"$file")
        name=${file#"$root"/}
        [ "$lines" -le 600 ] ||
            echo "file|$name|$name: $lines lines; a file has at most 600" >>"$work/raw"
    done <"$work/other"
    apply_exceptions
    check_fast_math_guard
    check_symbol_list
    check_fragments
}

# ---- library -------------------------------------------------------------------------------------

forbidden_imports='exit|_exit|abort|__assert_fail|printf|__printf_chk|vprintf|puts|putchar|perror'
forbidden_imports="$forbidden_imports|stdout|stderr|getenv|secure_getenv|setenv|setlocale|signal"
forbidden_imports="$forbidden_imports|sigaction|rand|srand|random|(a?(sin|cos|tan)h?|atan2|sincos"
forbidden_imports="$forbidden_imports|exp|exp2|exp10|expm1|log|log2|log10|log1p|pow|cbrt|hypot|erf"
forbidden_imports="$forbidden_imports|erfc|tgamma|lgamma|fmod|remainder)[fl]?"

lint_library() {
    library=${1:?library}
    nm=${NM:-nm}
    $nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $3); print $3 }' | sort -u \
        >"$work/exported"
    sort -u "$root/src/libmtp.sym" >"$work/listed"
    comm -23 "$work/exported" "$work/listed" | while read -r name; do
        finding "libmtp.so exports $name, which src/libmtp.sym does not list"
    done
    comm -13 "$work/exported" "$work/listed" | while read -r name; do
        finding "libmtp.so does not export $name of src/libmtp.sym"
    done
    # The sanitizers bring imports and data of their own.
    [ "${TEST_SANITIZED:-no}" = no ] || return 0
    # A library with the CUDA runtime in it does as that likes: look at our objects before linking.
    objects=${2:-$library}
    dynamic=-D
    [ "$objects" = "$library" ] || dynamic=
    [ -f "$objects" ] || finding "$objects is missing"
    $nm $dynamic --undefined-only "$objects" | awk '{ sub(/@.*/, "", $NF); print $NF }' |
        grep -Ex "$forbidden_imports" | while read -r name; do
        finding "libmtp.so calls $name"
    done
    # What the compiler's own start-up code and CPU detection keep is not ours, nor what nvcc keeps of
    # a kernel once it is loaded.
    $nm -f sysv --defined-only "$objects" | awk -F'|' '
        { gsub(/ /, "") }
        $1 ~ /^(completed\.[0-9]*|__dso_handle|__TMC_END__|__cpu_model|__cpu_features2)$/ { next }
        $1 ~ /(__cudaFatCubinHandle|__device_stub__.*)$/ { next }
        $4 == "OBJECT" && $7 ~ /^\.(data|bss|tdata|tbss)$/ { print $1 }' | while read -r name; do
        finding "libmtp.so has global mutable state: $name"
    done
}

case $mode in
sources) lint_sources ;;
library) lint_library "${3:-}" "${4:-}" ;;
*) finding "lint.sh: unknown mode $mode" ;;
esac

cat "$work/findings"
[ ! -s "$work/findings" ]
