# The CUDA backend: nvcc, the architectures to make code for, and the static runtime.

# MTP_CUDA_FIND - sets NVCC, or mtp_cuda_reason.
AC_DEFUN([MTP_CUDA_FIND], [
mtp_cuda_path=$PATH$PATH_SEPARATOR/usr/local/cuda/bin
AS_CASE([$with_cuda], [yes|auto], [], [mtp_cuda_path=$with_cuda/bin])
AC_PATH_PROG([NVCC], [nvcc], [], [$mtp_cuda_path])
AS_IF([test -z "$NVCC"], [mtp_cuda_reason="nvcc not found"])
])

# MTP_CUDA_ARCHITECTURES - sets mtp_cuda_arch, the compute capabilities as "80,90" in ascending order,
# and CUDA_ARCH_FLAGS: machine code for each, and PTX of the highest for newer devices.
AC_DEFUN([MTP_CUDA_ARCHITECTURES], [
mtp_cuda_arch=$with_cuda_arch
AS_IF([test -z "$mtp_cuda_arch"],
    [mtp_cuda_arch=`nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
        grep '^@<:@0-9@:>@*\.@<:@0-9@:>@$' | tr -d .`
     AS_IF([test -z "$mtp_cuda_arch"], [mtp_cuda_arch=90])])
mtp_cuda_arch=`echo "$mtp_cuda_arch" | tr ', ' '\n\n' | sort -n | uniq | tr '\n' ' '`
CUDA_ARCH_FLAGS=
for mtp_arch in $mtp_cuda_arch; do
    AS_CASE([$mtp_arch], [@<:@0-9@:>@@<:@0-9@:>@|@<:@0-9@:>@@<:@0-9@:>@@<:@0-9@:>@], [],
        [AC_MSG_ERROR([--with-cuda-arch takes compute capabilities such as 80,86,90, not '$mtp_arch'])])
    CUDA_ARCH_FLAGS="$CUDA_ARCH_FLAGS -gencode arch=compute_$mtp_arch,code=sm_$mtp_arch"
done
CUDA_ARCH_FLAGS="$CUDA_ARCH_FLAGS -gencode arch=compute_$mtp_arch,code=compute_$mtp_arch"
mtp_cuda_arch=`echo $mtp_cuda_arch | tr ' ' ,`
])

# MTP_CUDA_TRY - compiles a kernel with nvcc and links it with the static runtime by the C compiler; sets
# mtp_cuda_reason where that fails. Checks that a program with it runs without a device.
AC_DEFUN([MTP_CUDA_TRY], [
AC_MSG_CHECKING([whether $NVCC makes code for $mtp_cuda_arch])
mkdir -p conftest.cuda
cat >conftest.cuda/kernel.cu <<'MTP_EOF'
static __global__ void kernel(float *x) { *x = __fadd_rn(*x, 1.0f); }
extern "C" int launch(float *x) { kernel<<<1, 1>>>(x); return cudaGetLastError() != cudaSuccess; }
MTP_EOF
cat >conftest.cuda/main.c <<'MTP_EOF'
#include <cuda_runtime_api.h>
int launch(float *x);
int main(int argc, char **argv) { (void)argv; return argc > 99 ? launch(0) + cudaGetLastError() : 0; }
MTP_EOF
AS_IF([$NVCC $NVCCFLAGS $CUDA_PLAIN_FLAGS $CUDA_ARCH_FLAGS -c conftest.cuda/kernel.cu -o conftest.cuda/kernel.o \
        >conftest.cuda/log 2>&1], [],
    [mtp_cuda_reason="nvcc failed, see config.log"])
AS_IF([test -z "$mtp_cuda_reason" && $CC $CFLAGS $CUDA_CPPFLAGS conftest.cuda/main.c \
        conftest.cuda/kernel.o -o conftest.cuda/program $CUDA_LIBS >>conftest.cuda/log 2>&1], [],
    [test -n "$mtp_cuda_reason" || mtp_cuda_reason="no static CUDA runtime, see config.log"])
cat conftest.cuda/log >&AS_MESSAGE_LOG_FD
rm -rf conftest.cuda
AS_IF([test -z "$mtp_cuda_reason"], [AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no])])
])

# MTP_CHECK_CUDA - after the sanitizers' switch. Sets mtp_have_cuda, mtp_cuda_summary, and defines
# MTP_HAVE_CUDA. Without --with-cuda it takes what it finds; with it, anything missing is an error.
AC_DEFUN([MTP_CHECK_CUDA], [
AC_ARG_WITH([cuda],
    [AS_HELP_STRING([--with-cuda@<:@=DIR@:>@],
                    [build the CUDA backend with DIR/bin/nvcc @<:@if nvcc is in PATH or /usr/local/cuda@:>@])],
    [], [with_cuda=auto])
AC_ARG_WITH([cuda-arch],
    [AS_HELP_STRING([--with-cuda-arch=LIST],
                    [compute capabilities to make code for, such as 80,86,89,90,120 @<:@those of this machine's devices, else 90@:>@])],
    [], [with_cuda_arch=])
AC_ARG_VAR([NVCCFLAGS], [flags for nvcc, before those that the arithmetic needs])
mtp_cuda_reason=
AS_CASE([$with_cuda-$enable_sanitizers],
    [no-*], [mtp_cuda_reason="--without-cuda"],
    [auto-no], [],
    [auto-*], [mtp_cuda_reason="left out with the sanitizers"])
AS_IF([test -z "$mtp_cuda_reason"], [MTP_CUDA_FIND])
AS_IF([test -z "$mtp_cuda_reason"],
    [mtp_cuda_root=`AS_DIRNAME(["$NVCC"])`/..
     mtp_cuda_root=`cd "$mtp_cuda_root" && pwd`
     mtp_cuda_version=`$NVCC --version | $SED -n 's/.*release \(@<:@0-9.@:>@*\).*/\1/p'`
     mtp_cuda_lib=$mtp_cuda_root/lib64
     # Nothing of C++ that has to be linked: no exceptions, no types at run time, no guarded statics.
     CUDA_PLAIN_FLAGS="--compiler-options=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics"
     CUDA_CPPFLAGS="-isystem $mtp_cuda_root/include"
     CUDA_LIBS="-L$mtp_cuda_lib -lcudart_static -ldl -lrt -lpthread"
     MTP_CUDA_ARCHITECTURES
     MTP_CUDA_TRY])
AS_IF([test -n "$mtp_cuda_reason" && test "$with_cuda" != no && test "$with_cuda" != auto],
    [AC_MSG_ERROR([--with-cuda: $mtp_cuda_reason])])
mtp_have_cuda=no
mtp_cuda_summary="no ($mtp_cuda_reason)"
AS_IF([test -z "$mtp_cuda_reason"],
    [mtp_have_cuda=yes
     mtp_cuda_summary="yes (nvcc $mtp_cuda_version, arch $mtp_cuda_arch)"
     AC_DEFINE([MTP_HAVE_CUDA], [1], [the CUDA backend is part of this build])
     AC_DEFINE_UNQUOTED([MTP_CUDA_ARCH], ["$mtp_cuda_arch"], [compute capabilities it has code for])],
    [CUDA_CPPFLAGS= CUDA_LIBS= CUDA_ARCH_FLAGS=])
# Objects for the shared library serve the static one too: they are compiled once.
AS_IF([test "$enable_shared" = yes], [CUDA_LIBTOOL_FLAGS=-shared], [CUDA_LIBTOOL_FLAGS=])
AC_SUBST([CUDA_CPPFLAGS])
AC_SUBST([CUDA_LIBS])
AC_SUBST([CUDA_LIBRARIES], [$mtp_cuda_lib])
AC_SUBST([CUDA_PLAIN_FLAGS])
AC_SUBST([CUDA_ARCH_FLAGS])
AC_SUBST([CUDA_LIBTOOL_FLAGS])
])
