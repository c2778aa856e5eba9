#!/usr/bin/env python3
"""Writes kernels/cpu/scalar/iq_tables.c from the grids of the gguf Python package (pip install gguf).

    tools/make_iq_tables.py > kernels/cpu/scalar/iq_tables.c
    tools/make_iq_tables.py --digests      FNV-1a of each table's bytes, as pinned in tests/test_blocks.c
"""
import sys

import numpy as np
from gguf import quants

TABLES = [
    ("iq2xxs_grid", quants.IQ2_XXS),
    ("iq2xs_grid", quants.IQ2_XS),
    ("iq2s_grid", quants.IQ2_S),
    ("iq3xxs_grid", quants.IQ3_XXS),
    ("iq3s_grid", quants.IQ3_S),
]

HEAD = """\
/* iq_tables.c - grids of the IQ2 and IQ3 types. Written by tools/make_iq_tables.py; do not edit.
 *
 * The numbers are facts of the file format, first published in ggml (ggml-common.h) and read here
 * from the gguf Python package (gguf/quants.py), where each grid is kept as indices into a short
 * list of values. An entry holds the magnitudes of 8 (IQ2) or 4 (IQ3) neighbouring weights, the
 * first in its lowest byte.
 */
#include "kernels/cpu/scalar/iq_tables.h"
"""


def grid(cls):
    cls.init_grid()
    entries = cls.grid.reshape(cls.grid_shape)
    as_bytes = entries.astype(np.uint8)
    assert (as_bytes == entries).all()
    return as_bytes


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def check_signs():
    """The sign table needs no copy: the eighth sign makes the number of minus signs even."""
    assert all(s == i | (bin(i).count("1") & 1) << 7 for i, s in enumerate(quants.IQ2_XXS.ksigns))


def main():
    check_signs()
    if "--digests" in sys.argv[1:]:
        for name, cls in TABLES:
            print(f"{name} {fnv1a(grid(cls).tobytes()):#018x}")
        print(f"signs {fnv1a(quants.IQ2_XXS.ksigns):#018x}")
        return
    print(HEAD, end="")
    for name, cls in TABLES:
        entries = grid(cls)
        width = entries.shape[1]
        per_line = 4 if width == 8 else 8
        print(f"\nIQ_TABLE uint{8 * width}_t {name}[{len(entries)}] = {{")
        words = [f"0x{int.from_bytes(e.tobytes(), 'little'):0{2 * width}x}" for e in entries]
        for i in range(0, len(words), per_line):
            print("    " + ", ".join(words[i:i + per_line]) + ",")
        print("};")


if __name__ == "__main__":
    main()
