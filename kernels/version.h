/* version.h - the version of the arithmetic; traces and reports carry it. It changes when any rule of
 * docs/arithmetic.md does, because then the bits do. */
#ifndef MTP_KERNELS_VERSION_H
#define MTP_KERNELS_VERSION_H

#define MTP_ARITHMETIC_VERSION 1

#endif
