#!/usr/bin/env python3
"""Writes q6_k.gguf: blocks of Q6_K and their values by the public gguf package (0.19.0, numpy 1.26.4).

    python3.11 -m venv venv && venv/bin/pip install gguf==0.19.0 numpy==1.26.4
    venv/bin/python make_q6_k.py            # --check compares with the committed file instead

Every bit of the nibbles, the high bits and the scales is random; d goes through both signs, a
subnormal and a large number.
"""
import pathlib
import sys
import tempfile

import gguf
import numpy as np

N_ROWS = 6
N_BLOCKS = 2  # in a row
D = [1.0, -0.37, 6.0e-8, 1000.0, 0.0123, -3.0e-5]


def write(path):
    rng = np.random.default_rng(6)
    blocks = rng.integers(0, 256, size=(N_ROWS, N_BLOCKS, 210), dtype=np.uint8)
    for row in range(N_ROWS):
        for block in range(N_BLOCKS):
            blocks[row, block, 208:] = np.array([D[row] * (block + 1)], dtype=np.float16).view(np.uint8)
    stored = blocks.reshape(N_ROWS, N_BLOCKS * 210)
    values = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType.Q6_K).astype(np.float32)
    writer = gguf.GGUFWriter(path, "q6_k")
    writer.add_tensor("blocks", stored, raw_dtype=gguf.GGMLQuantizationType.Q6_K)
    writer.add_tensor("values", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    committed = pathlib.Path(__file__).parent / "q6_k.gguf"
    if sys.argv[1:] != ["--check"]:
        write(committed)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "q6_k.gguf"
        write(made)
        assert made.read_bytes() == committed.read_bytes(), "q6_k.gguf differs"
    print("the committed file is as made")


if __name__ == "__main__":
    main()
