#!/usr/bin/env python3
"""Golden weight blocks: what the gguf Python package (pip install gguf) makes of them.

    tests/golden/scripts/make_blocks.py          writes tests/golden/blocks/

TYPE.bin holds, little endian: the number of blocks (u32), the blocks, and their weights as float32.
First come random blocks (every byte random, scales kept finite), then extreme ones (the largest,
smallest and zero scales of either sign, sub-scales and quants of one repeated byte).
digests.txt pins, by digest, what would be too large to keep: the weights of 256 K random weights of
each type (their bytes come from a generator that tests/test_blocks.c repeats), the conversions of
all halves, and of many floats to half.
"""
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

OUT = pathlib.Path(__file__).resolve().parent.parent / "blocks"

# Per type: where the f16 scales lie, and the bytes [from, to) of the integer scales.
LAYOUT = {
    "F32": ([], (0, 0)), "F16": ([], (0, 0)), "BF16": ([], (0, 0)),
    "Q8_0": ([0], (0, 0)), "Q4_0": ([0], (0, 0)), "Q4_1": ([0, 2], (0, 0)),
    "Q5_0": ([0], (0, 0)), "Q5_1": ([0, 2], (0, 0)), "IQ4_NL": ([0], (0, 0)),
    "MXFP4": ([], (0, 0)),
    "Q2_K": ([80, 82], (0, 16)), "Q3_K": ([108], (96, 108)), "Q4_K": ([0, 2], (4, 16)),
    "Q5_K": ([0, 2], (4, 16)), "Q6_K": ([208], (192, 208)), "IQ4_XS": ([0], (2, 8)),
    "IQ2_XXS": ([0], (0, 0)), "IQ2_XS": ([0], (66, 74)), "IQ2_S": ([0], (74, 82)),
    "IQ3_XXS": ([0], (66, 98)), "IQ3_S": ([0], (106, 110)),
}
# Scale, byte of the integer scales, byte of the quants.
EXTREMES = [
    (0x7BFF, 0xFF, 0xFF), (0xFBFF, 0xFF, 0xFF), (0x7BFF, 0x00, 0x00), (0xFBFF, 0x00, 0x00),
    (0x7BFF, 0xFF, 0x00), (0x7BFF, 0x00, 0xFF), (0x7BFF, 0x7F, 0x80), (0x7BFF, 0x80, 0x7F),
    (0x0001, 0xFF, 0xFF), (0x8001, 0xFF, 0xFF), (0x0000, 0xFF, 0x00), (0x8000, 0xFF, 0xFF),
    (0x8000, 0x00, 0x00), (0x0400, 0x55, 0xAA), (0x83FF, 0xAA, 0x55), (0x3C00, 0x0F, 0xF0),
]
RANDOM_WEIGHTS = 1 << 18
MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_bytes(seed, n):
    """Word i is splitmix64 of the seed; its bytes come lowest first."""
    words = (n + 7) // 8
    steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mix(steps + np.uint64(seed)).astype("<u8").view(np.uint8)[:n].copy()


def digest(bits):
    """Sum over i of mix(i << 32 | bits[i])."""
    index = np.arange(len(bits), dtype=np.uint64) << np.uint64(32)
    return int(mix(index | bits.astype(np.uint64)).sum(dtype=np.uint64)) & MASK


def finite(name, blocks):
    """Clears the lowest exponent bit of every float, so that it is neither infinite nor NaN."""
    if name == "F32":
        blocks[:, 2] &= 0x7F
    elif name == "BF16":
        blocks[:, 0] &= 0x7F
    elif name == "F16":
        blocks[:, 1] &= 0xFB
    for at in LAYOUT[name][0]:
        blocks[:, at + 1] &= 0xFB
    return blocks


def random_blocks(name, kind, n):
    size = GGML_QUANT_SIZES[kind][1]
    return finite(name, random_bytes(int(kind) << 32, n * size).reshape(n, size))


def extreme_blocks(name, kind):
    size = GGML_QUANT_SIZES[kind][1]
    halves, (first, last) = LAYOUT[name]
    blocks = np.zeros((len(EXTREMES), size), dtype=np.uint8)
    for i, (scale, scale_byte, quant_byte) in enumerate(EXTREMES):
        blocks[i] = quant_byte
        blocks[i, first:last] = scale_byte
        for k, at in enumerate(halves):
            bits = scale if k == 0 else EXTREMES[(5 * i + 3) % len(EXTREMES)][0]
            blocks[i, at:at + 2] = np.frombuffer(np.uint16(bits).tobytes(), dtype=np.uint8)
        if name == "MXFP4":
            blocks[i, 0] = (0, 1, 2, 3, 127, 128, 254, 255)[i % 8]
    return finite(name, blocks) if GGML_QUANT_SIZES[kind][0] == 1 else blocks


def weights(kind, blocks):
    with np.errstate(over="ignore"):
        result = quants.dequantize(blocks, kind).astype(np.float32).reshape(-1)
    assert not np.isnan(result).any()
    return result


def halves_digests():
    halves = np.arange(1 << 16, dtype=np.uint16)
    bits = halves.view(np.float16).astype(np.float32).view(np.uint32)
    nan = (halves & 0x7FFF) > 0x7C00
    bits = np.where(nan, bits | 0x00400000, bits)  # conversions may or may not make NaN quiet
    yield "f16_to_f32", digest(bits)
    yield "bf16_to_f32", digest(halves.astype(np.uint32) << 16)
    floats = random_bytes(7, 4 << 20).view("<u4")
    # Half of them with exponents near those of halves, where the rounding happens.
    near = (floats & 0x807FFFFF) | ((floats >> 23 & 63) + 90) << 23
    floats = np.where(np.arange(len(floats)) % 2 == 0, floats, near).astype(np.uint32)
    floats = np.where((floats & 0x7FFFFFFF) > 0x7F800000, 0, floats).astype(np.uint32)
    with np.errstate(over="ignore"):
        yield "f32_to_f16", digest(floats.view(np.float32).astype(np.float16).view(np.uint16))


def main():
    OUT.mkdir(exist_ok=True)
    lines = []
    for name in LAYOUT:
        kind = GGMLQuantizationType[name]
        n_weights = GGML_QUANT_SIZES[kind][0]
        n_random = {1: 64, 32: 32, 256: 4}[n_weights]
        blocks = np.concatenate([random_blocks(name, kind, n_random), extreme_blocks(name, kind)])
        with open(OUT / f"{name}.bin", "wb") as file:
            file.write(np.uint32(len(blocks)).tobytes() + blocks.tobytes())
            file.write(weights(kind, blocks).astype("<f4").tobytes())
        many = random_blocks(name, kind, RANDOM_WEIGHTS // n_weights)
        lines.append((name, digest(weights(kind, many).view(np.uint32))))
    lines.extend(halves_digests())
    (OUT / "digests.txt").write_text("".join(f"{name} {value:016x}\n" for name, value in lines))


if __name__ == "__main__":
    main()
