#!/bin/sh
# Every input the fuzzers have ever found worth keeping runs through the targets again.
. "$TEST_SRCDIR/tests/lib.sh"
for target in gguf tokenizer trace; do
    check "the $target corpus is replayed without a fault" \
        "$TEST_BUILDDIR/tests/fuzz/replay_$target" "$TEST_SRCDIR/tests/fuzz/corpus/$target"
done
finish
