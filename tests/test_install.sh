#!/bin/sh
# What `make install DESTDIR=` leaves behind is enough for somebody else: header, shared and static
# library, pkg-config file, manual page, and a program compiled with them that completes a prompt.
. "$TEST_SRCDIR/tests/lib.sh"

stage=$scratch/stage
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
prompt="It is a truth universally acknowledged, that"
pkg_config=${PKG_CONFIG:-pkg-config}

install_to_stage() {
    make -C "$TEST_BUILDDIR" -s install DESTDIR="$stage" || return 1
    pc=$(find "$stage" -name libmtp.pc)
    [ -f "$pc" ] || return 1
    PKG_CONFIG_PATH=$(dirname "$pc")
    PKG_CONFIG_SYSROOT_DIR=$stage
    export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
    library_dir=$(dirname "$PKG_CONFIG_PATH")
}

everything_is_there() {
    for name in mtp.h libmtp.so libmtp.a libmtp.pc mtpgen mtpgen.1 mtptrace mtptrace.1; do
        [ -n "$(find "$stage" -name "$name")" ] || {
            echo "$name was not installed"
            return 1
        }
    done
}

nothing_private_is_there() {
    find "$stage" \( -name '*core*' -o -name '*avx2*' -o -name '*avx512*' -o -name 'config.h' -o -name '*.o' \) |
        tee "$scratch/private"
    [ ! -s "$scratch/private" ]
}

header_stands_alone() {
    echo '#include <mtp.h>
int main(void) { return mtp_version() == 0; }' >"$scratch/alone.c"
    for standard in c11 gnu17; do
        $CC -std=$standard -pedantic -Wall -Wextra -Werror $($pkg_config --cflags libmtp) \
            -fsyntax-only "$scratch/alone.c" || return 1
    done
}

compile_shared() {
    $CC $TEST_CFLAGS -Wall -Wextra -Werror "$TEST_SRCDIR/examples/complete.c" \
        $($pkg_config --cflags --libs libmtp) -o "$scratch/complete"
}

# The private libraries of the .pc file must be all that the archive needs.
compile_static() {
    mkdir -p "$scratch/archive"
    cp "$library_dir/libmtp.a" "$scratch/archive/"
    $CC $TEST_CFLAGS "$TEST_SRCDIR/examples/complete.c" $($pkg_config --cflags libmtp) \
        -L"$scratch/archive" $($pkg_config --static --libs libmtp) -o "$scratch/complete-static"
    ! ldd "$scratch/complete-static" | grep libmtp
}

run_shared() {
    LD_LIBRARY_PATH=$library_dir "$scratch/complete" "$model" "$prompt" >"$scratch/shared.txt" &&
        [ "$(wc -c <"$scratch/shared.txt")" -gt 40 ]
}

run_static() {
    "$scratch/complete-static" "$model" "$prompt" >"$scratch/static.txt" &&
        cmp "$scratch/shared.txt" "$scratch/static.txt"
}

errors_reach_the_caller() {
    echo "this is no model" >"$scratch/no.gguf"
    LD_LIBRARY_PATH=$library_dir "$scratch/complete" "$scratch/no.gguf" x 2>"$scratch/error.txt"
    [ $? = 4 ] && grep -q "no.gguf" "$scratch/error.txt"
}

installed_command_runs() {
    LD_LIBRARY_PATH=$library_dir "$(find "$stage" -name mtpgen -type f)" --version
}

uninstalls() {
    make -C "$TEST_BUILDDIR" -s uninstall DESTDIR="$stage" || return 1
    find "$stage" ! -type d | tee "$scratch/left"
    [ ! -s "$scratch/left" ]
}

# Inside `make check` the jobserver of the outer make is not ours to use.
unset MAKEFLAGS MFLAGS MAKELEVEL

if ! install_to_stage >"$scratch/install.out" 2>&1; then
    cat "$scratch/install.out"
    check "make install works" false
    finish
fi
check "header, libraries, pkg-config file, command and manual page are installed" \
    everything_is_there
check "nothing private is installed" nothing_private_is_there
check "the public header compiles alone as C11, pedantically" header_stands_alone
check "the example compiles through pkg-config" compile_shared
check "the example completes a prompt with the shared library" run_shared
check "the example links with the static library alone" compile_static
check "the static library gives the same text" run_static
check "an error arrives as a status and a sentence naming the file" errors_reach_the_caller
check "the installed command runs" installed_command_runs
check "make uninstall leaves no file" uninstalls
finish
