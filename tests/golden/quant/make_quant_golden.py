#!/usr/bin/env python3
"""Writes TYPE.bin for every block format: what the PyPI package `gguf` makes of random blocks.

Oracle: gguf.quants.dequantize (pip install gguf numpy; made with gguf 0.19.0). Block bytes are
random, so every bit of a block matters; only the fp16 fields are kept finite and of ordinary size.
Layout of a file, little-endian: u32 block count, the blocks, then their values as float32.
"""
import pathlib
import struct

import gguf
import numpy as np

# name: offsets of the fp16 fields of a block
FORMATS = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q4_K": (0, 2), "Q6_K": (208,),
}


def main():
    folder = pathlib.Path(__file__).parent
    rng = np.random.default_rng(20261122)
    for name, half_offsets in FORMATS.items():
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        count = 1024 // elements
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        for offset in half_offsets:
            halves = rng.normal(0, 0.05, count).astype(np.float16)
            halves[0] = np.float16(3e-6)  # a subnormal
            blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(count, 2)
        values = gguf.quants.dequantize(blocks, kind).astype(np.float32)
        assert values.size == 1024 and np.isfinite(values).all()
        data = struct.pack("<I", count) + blocks.tobytes() + values.tobytes()
        (folder / f"{name.lower()}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
