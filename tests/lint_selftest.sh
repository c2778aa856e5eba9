#!/bin/sh
# The lint must be able to fail: every rule meets one bad sample, and the clean tree passes.
. "$TEST_SRCDIR/tests/lib.sh"

tree=$scratch/tree

write_clean_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/src" "$tree/kernels/cpu/scalar" "$tree/tests"
    cat >"$tree/kernels/guard.h" <<'END'
#ifdef __FAST_MATH__
#error "fast-math changes bits"
#endif
END
    cat >"$tree/kernels/cpu/scalar/add.c" <<'END'
#include "kernels/guard.h"
#include <math.h>

/* exit() and printf() in a comment and exp() in a string are no calls. */
float add(const float *x);
float add(const float *x)
{
    const char *words = "exit(1) stdout \" exp(2.0) // ";
    return sqrtf(x[0]) + fmaf(x[0], x[1], (float)words[0]) + table.exit(0);
}
END
    cat >"$tree/src/mtp.h" <<'END'
/* A library: mtp_old(x) is gone.
 * See mtp_older(y). */
typedef int (*mtp_callback_fn)(int done); /* mtp_comment(1) */
const char *mtp_version(void);
int mtp_open(const char *path,
             mtp_callback_fn callback);
END
    printf 'mtp_open\nmtp_version\n' >"$tree/src/libmtp.sym"
    printf '#include "mtp.h"\n#include "mtpgen_report.h"\n' >"$tree/src/mtpgen.c"
    printf 'x_SOURCES = src/mtp.h \\\n    src/mtpgen.c\n# src/mtpgen.c\n' >"$tree/src/src.am"
}

clean_tree_passes() {
    write_clean_tree
    sh "$TEST_SRCDIR/tests/lint.sh" sources "$tree"
}

# A sample is refused when lint.sh fails and names the rule.
refused() {
    if sh "$TEST_SRCDIR/tests/lint.sh" sources "$tree" >"$scratch/lint.out" 2>&1; then
        echo "lint.sh passed"
        return 1
    fi
    grep -F -- "$1" "$scratch/lint.out" || {
        cat "$scratch/lint.out"
        return 1
    }
}

# sample FILE 'text' 'expected finding': the clean tree with text appended to one file.
sample() {
    write_clean_tree
    printf '%b\n' "$2" >>"$tree/$1"
    refused "$3"
}

function_of() {
    awk -v n="$1" 'BEGIN {
        print "int long_one(void);\nint long_one(void)\n{"
        for (i = 0; i < n - 2; i++)
            print "    ;"
        print "}"
    }'
}

function_of_60_lines_passes() {
    write_clean_tree
    function_of 60 >>"$tree/src/mtpgen.c"
    sh "$TEST_SRCDIR/tests/lint.sh" sources "$tree"
}

function_of_61_lines() {
    write_clean_tree
    function_of 61 >>"$tree/src/a.c"
    refused 'src/a.c:3: long_one() has 61 lines'
}

file_of_601_lines() {
    write_clean_tree
    awk 'BEGIN { for (i = 0; i < 601; i++) print "/* */" }' >"$tree/$1"
    refused "$1: 601 lines"
}

excused_file_passes() {
    file_of_601_lines src/table.c || return 1
    echo 'x_SOURCES += src/table.c' >>"$tree/src/src.am"
    echo 'src/table.c: a table of the file format' >"$tree/tests/lint-exceptions.txt"
    sh "$TEST_SRCDIR/tests/lint.sh" sources "$tree"
}

stale_exception() {
    write_clean_tree
    echo 'src/mtp.h: was long once' >"$tree/tests/lint-exceptions.txt"
    refused 'src/mtp.h needs no exception'
}

exception_without_reason() {
    file_of_601_lines src/table.c || return 1
    echo 'src/table.c:' >"$tree/tests/lint-exceptions.txt"
    refused 'no reason given'
}

missing_guard() {
    write_clean_tree
    rm "$tree/kernels/guard.h"
    refused 'no header has the #error'
}

unguarded_kernel() {
    write_clean_tree
    echo 'int x;' >"$tree/kernels/cpu/scalar/free.c"
    refused 'kernels/cpu/scalar/free.c: compiles under -ffast-math'
}

unlisted_function() {
    write_clean_tree
    echo 'mtp_version' >"$tree/src/libmtp.sym"
    refused 'mtp_open of mtp.h is missing'
}

unlisted_source() {
    write_clean_tree
    echo 'int x;' >"$tree/src/lost.c"
    refused 'src/src.am: src/lost.c is not listed'
}

source_listed_twice() {
    write_clean_tree
    echo 'x_SOURCES += src/mtpgen.c' >>"$tree/src/src.am"
    refused 'src/src.am: src/mtpgen.c is listed twice'
}

undeclared_function() {
    write_clean_tree
    echo 'mtp_secret' >>"$tree/src/libmtp.sym"
    refused 'mtp_secret is not declared in mtp.h'
}

# library 'C source' 'expected finding' (or nothing: must pass).
library() {
    write_clean_tree
    TEST_SANITIZED=no
    export TEST_SANITIZED
    echo "$1" >"$scratch/lib.c"
    $CC -shared -fPIC -w -O1 -fno-builtin -o "$scratch/lib.so" "$scratch/lib.c" || return 1
    if sh "$TEST_SRCDIR/tests/lint.sh" library "$tree" "$scratch/lib.so" >"$scratch/lint.out"; then
        [ -z "${2:-}" ]
    else
        grep -F -- "${2:-nothing at all}" "$scratch/lint.out" || {
            cat "$scratch/lint.out"
            return 1
        }
    fi
}

good='int mtp_open(void) { return 1; } int mtp_version(void) { return 2; }'

check "a clean tree passes" clean_tree_passes
check "a function of 60 lines passes" function_of_60_lines_passes
check "a function of 61 lines is found" function_of_61_lines
check "a C file of 601 lines is found" file_of_601_lines src/a.c
check "a script of 601 lines is found" file_of_601_lines tests/a.sh
check "an exception with a reason excuses a long file" excused_file_passes
check "an exception nobody needs is found" stale_exception
check "an exception without a reason is found" exception_without_reason
check "a line of 111 columns is found" \
    sample src/a.c "/*$(printf '%107s' '' | tr ' ' x)*/" '111 columns'
check "columns are counted, not bytes: 60 characters of 2 bytes pass" \
    sample src/a.c "/*$(printf '%60s' '' | sed 's/ /\\0303\\0244/g')*/\t" 'src/a.c:1: tab'
check "a tab is found" sample src/a.c '\tint x;' 'tab'
check "space at a line's end is found" sample src/a.c 'int x; ' 'space at the end'
check "a function's brace on the line of its name is found" \
    sample src/a.c 'int f(void) {\n    return 0;\n}' 'stands on its own line'
for call in 'exit(1)' '_exit (1)' 'abort()' 'assert(x)' 'signal(2, f)' '__builtin_abort()'; do
    name=${call%%[ (]*}
    check "$call in the library is found" \
        sample src/a.c "    $call;" "src/a.c:1: ${name#__builtin_}() would end"
done
for call in 'printf("x")' 'puts("x")' 'perror("x")'; do
    check "$call in the library is found" sample src/a.c "    $call;" 'prints'
done
check "fprintf(stderr) in the library is found" \
    sample src/a.c '    fprintf(stderr, "x");' 'no stdout and no stderr'
check "getenv() is found, in the command too" \
    sample src/mtpgen.c '    getenv("HOME");' 'src/mtpgen.c:3: getenv() is hidden input'
for call in 'expf(x)' 'sin(x)' 'powl(x, y)' '__builtin_logf(x)' 'roundf(x)'; do
    check "$call in a kernel is found" sample kernels/cpu/scalar/add.c "    y = $call;" 'is libm'
done
check "mtpgen may print and exit" \
    sample src/mtpgen.c '    printf("x"); exit(1); fputs("", stderr);\t' 'src/mtpgen.c:3: tab'
check "mtpgen including a private header is found" \
    sample src/mtpgen.c '#include "gguf.h"' 'public header'
check "a tree without a fast-math guard is found" missing_guard
check "a kernel the fast-math guard does not reach is found" unguarded_kernel
check "a function of mtp.h that libmtp.sym lacks is found" unlisted_function
check "a name in libmtp.sym that mtp.h does not declare is found" undeclared_function
check "a source that no fragment lists is found" unlisted_source
check "a source that a fragment lists twice is found" source_listed_twice
check "a good library passes" library "$good"
check "an export that is not listed is found" \
    library "$good int leak(void) { return 3; }" 'exports leak'
check "a listed function that is not exported is found" \
    library 'int mtp_open(void) { return 1; }' 'does not export mtp_version'
check "an imported exit() is found" \
    library "$good static void f(void) { exit(1); } void *mtp_p(void) { return f; }" 'calls exit'
check "an imported expf() is found" \
    library "$good float mtp_e(float x) { float expf(float); return expf(x); }" 'calls expf'
check "global mutable state is found" \
    library "$good static int count; int mtp_c(void) { return count++; }" 'mutable state: count'
finish
