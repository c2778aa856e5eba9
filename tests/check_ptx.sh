#!/bin/sh
# check_ptx.sh FILE.ptx... - every float32 and float64 sum, product, quotient, root and fma in the PTX names
# its rounding (.rn); none is approximate or flushes subnormals. Without .rn the assembler may fuse a
# product and a sum. Prints what is not so; status 1 when there is any, or when a file has no PTX.
set -u
status=0
[ $# -gt 0 ] || { echo "check_ptx.sh: no file" >&2; exit 2; }
for file; do
    grep -q '^\.version' "$file" || { echo "$file: no PTX"; status=1; continue; }
    awk -v file="$file" '
        { sub(/\/\/.*/, "") }
        {
            for (i = 1; i <= NF; i++) {
                op = $i
                if (op !~ /^[a-z0-9_.]+[;]?$/ || op !~ /\.f(32|64)/)
                    continue
                bad = op ~ /\.(approx|full|ftz)(\.|$)/
                bad = bad || (op ~ /^(add|sub|mul|div|fma|mad|sqrt|rcp)\./ && op !~ /\.rn\./)
                bad = bad || op ~ /^(rsqrt|sin|cos|lg2|ex2|tanh)\./
                if (bad) {
                    printf "%s:%d: %s\n", file, FNR, $0
                    found = 1
                }
            }
        }
        END { exit found }' "$file" || status=1
done
exit $status
