#!/bin/sh
# nvcc.sh NVCC ARGUMENTS... - nvcc as a compiler that libtool can call: what libtool adds for the host's
# compiler is handed on to it.
nvcc=${1:?nvcc}
shift
n=$#
while [ "$n" -gt 0 ]; do
    argument=$1
    shift
    case $argument in
    -fPIC | -fpic | -fPIE | -fpie) set -- "$@" -Xcompiler "$argument" ;;
    *) set -- "$@" "$argument" ;;
    esac
    n=$((n - 1))
done
exec "$nvcc" "$@"
