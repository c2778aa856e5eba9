#!/bin/sh
# The rules of docs/style.md hold for this tree and for the library just built.
. "$TEST_SRCDIR/tests/lib.sh"
check "the sources keep the rules of docs/style.md" \
    sh "$TEST_SRCDIR/tests/lint.sh" sources "$TEST_SRCDIR"
objects=
[ "$TEST_CUDA" = no ] || objects=$TEST_BUILDDIR/.libs/libmtpcore.a
check "libmtp.so exports libmtp.sym, calls nothing forbidden and has no global mutable state" \
    sh "$TEST_SRCDIR/tests/lint.sh" library "$TEST_SRCDIR" "$TEST_BUILDDIR/.libs/libmtp.so" \
    $objects
finish
