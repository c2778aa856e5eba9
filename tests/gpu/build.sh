#!/bin/sh
# build.sh - builds the test and the benchmark of the CUDA products without the rest of the tree:
#     build.sh DIRECTORY [test|bench]...
# then run DIRECTORY/test_cuda_products and DIRECTORY/bench_cuda_products.
# NVCC, NVCCFLAGS (say -DMTP_CUDA_OVERLAP=0), CC and JOBS may be set. Objects that are newer than every
# source are kept.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:?directory}
shift
[ $# -gt 0 ] || set -- test bench
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
mkdir -p "$out"
out=$(cd "$out" && pwd)

c_flags="-std=gnu11 -O2 -ffp-contract=off -fno-fast-math -pthread -I$root -I$root/src"
c_flags="$c_flags -DMTP_HAVE_AVX2 -DMTP_HAVE_AVX512"
avx2_flags="-mavx2 -mfma -mf16c"
avx512_flags="$avx2_flags -mavx512f -mavx512bw -mavx512vl -mavx512vnni -mavx512dq"
target="-gencode arch=compute_90,code=sm_90"
cuda_flags="-std=c++17 -O3 $target -fmad=false -prec-div=true -prec-sqrt=true -ftz=false -I$root"
cuda_flags="$cuda_flags ${NVCCFLAGS:-}"

sources() {
    for file in kernels/types.c kernels/cpu/backend.c kernels/cpu/parallel.c kernels/cpu/pack.c kernels/cpu/step.c \
        kernels/cpu/scalar/*.c kernels/cpu/avx2/*.c kernels/cpu/avx512/*.c tests/gpu/product_cases.c; do
        echo "$file"
    done
    for file in product product_k product_iq product_s product_float product_float_rows \
        product_wide product_wide_k4 product_wide_k6 product_wide_s product_merged \
        product_merged_few product_merged_more matmul expert_matmul pack; do
        echo "kernels/cuda/$file.cu"
    done
    for program in "$@"; do
        [ "$program" = test ] && echo tests/gpu/test_cuda_products.cu
        [ "$program" = bench ] && echo bench/bench_cuda_products.cu
    done
}

# One line of make a source.
cd "$root"
{
    echo "all:"
    newest=$(find kernels tests -name '*.h' -o -name '*.cuh' -o -name iq_tables.c | tr '\n' ' ')
    for file in $(sources "$@"); do
        object=$out/$(echo "$file" | tr / _).o
        echo "all: $object"
        echo "$object: $file $newest"
        case $file in
        *.cu) compile="$nvcc $cuda_flags" ;;
        kernels/cpu/avx512/*) compile="${CC:-gcc} $c_flags $avx512_flags" ;;
        kernels/cpu/avx2/*) compile="${CC:-gcc} $c_flags $avx2_flags" ;;
        *) compile="${CC:-gcc} $c_flags" ;;
        esac
        echo "	$compile -c $file -o $object"
    done
} >"$out/objects.mk"
make -s -j "${JOBS:-$(nproc)}" -f "$out/objects.mk"
common=$(sed -n 's/^all: //p' "$out/objects.mk" | grep -v -e test_cuda -e bench_cuda)
for program in "$@"; do
    name=${program}_cuda_products
    # shellcheck disable=SC2086
    "$nvcc" $target -o "$out/$name" "$out"/*_"$name.cu.o" $common -lpthread -lm
done
