#!/bin/sh
# check_ptx.sh FILE.ptx... - every float sum, product, quotient, root and fma in the PTX names its rounding
# (.rn); none is approximate, flushes subnormals, or adds in an order of its own, as atomic sums and float
# tensor products do. Without .rn the assembler may fuse a product and a sum. Prints what is not so; status 1
# when there is any, or when a file has no PTX.
set -u
status=0
[ $# -gt 0 ] || { echo "check_ptx.sh: no file" >&2; exit 2; }
for file; do
    grep -q '^\.version' "$file" || { echo "$file: no PTX"; status=1; continue; }
    awk -v file="$file" '
        { sub(/\/\/.*/, ""); line = $0; gsub(/[{};]/, " ") }
        {
            for (i = 1; i <= NF; i++) {
                op = $i
                if (op !~ /^[a-z0-9_.:]+$/ || op !~ /\.(f16|bf16|tf32|e4m3|e5m2|f32|f64)/)
                    continue
                bad = op ~ /\.(approx|full|ftz)(\.|$)/
                bad = bad || (op ~ /^(add|sub|mul|div|fma|mad|sqrt|rcp)\./ && op !~ /\.rn\./)
                bad = bad || op ~ /^(rsqrt|sin|cos|lg2|ex2|tanh)\./
                bad = bad || op ~ /^(mma|wmma|wgmma)\./
                bad = bad || op ~ /^(atom|red|multimem)\..*\.add\./
                if (bad) {
                    printf "%s:%d: %s\n", file, FNR, line
                    found = 1
                }
            }
        }
        END { exit found }' "$file" || status=1
done
exit $status
