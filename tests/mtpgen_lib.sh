# mtpgen_lib.sh - how scripts run mtpgen and look at what came of it; after lib.sh.

mtpgen=$TEST_BUILDDIR/mtpgen
model=$TEST_SRCDIR/models/ref-qwen35moe-Q4_K_M.gguf
out=$scratch/out
err=$scratch/err
prompt='It was a dark and stormy night'

# Runs mtpgen with standard input from $input; status, $out and $err stay for the checks.
input=/dev/null
run() { # one thread: others may need the machine, and threads that wait for each other crawl then
    "$mtpgen" -t 1 --device cpu "$@" <"$input" >"$out" 2>"$err"
    status=$?
}

# status_is N TEXT...: the exit status was N and standard error has each TEXT.
status_is() {
    was_status "$1" || return 1
    shift
    has_each "$err" "$@"
}

# fails_with N TEXT...: the same, and standard error is one sentence of mtpgen and nothing else.
fails_with() {
    expected=$1
    shift
    refuses "$expected" mtpgen "$@" && [ ! -s "$out" ]
}

# The output is not empty and equal to (different from) FILE.
same_as() {
    [ -s "$out" ] && cmp "$1" "$out"
}

differs_from() {
    [ -s "$out" ] && ! cmp -s "$1" "$out"
}

lacks() {
    [ -s "$out" ] && ! grep -qF -e "$1" "$out"
}

# The output is not empty and the beginning of FILE, or the other way round.
begins_as() {
    size=$(wc -c <"$out")
    [ "$size" -le "$(wc -c <"$1")" ] || size=$(wc -c <"$1")
    [ "$size" -gt 0 ] && head -c "$size" "$1" >"$scratch/a" && head -c "$size" "$out" |
        cmp - "$scratch/a"
}
