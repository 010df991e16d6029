#!/usr/bin/env python3
"""Writes blocks.gguf: blocks of every quantised type and their values by the public gguf package
(0.19.0, numpy 1.26.4).

    python3.11 -m venv venv && venv/bin/pip install gguf==0.19.0 numpy==1.26.4
    venv/bin/python make_blocks.py            # --check compares with the committed file instead

Every bit is random but those of the f16 factors (both signs, a subnormal, a large number) and of
MXFP4's exponents, which stay below those of values beyond f32.
"""
import pathlib
import sys
import tempfile

import gguf
import numpy as np

COLUMNS = 512
ROWS = 3
HALVES = [1.0, -0.37, 6.0e-8, 1000.0, 0.0123, -3.0e-5]
# Where a block has f16 factors.
TYPES = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0], "MXFP4": [],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "TQ1_0": [52], "TQ2_0": [64],
}


def write(path):
    rng = np.random.default_rng(13)
    writer = gguf.GGUFWriter(path, "blocks")
    for name, halves in TYPES.items():
        qtype = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[qtype]
        n_blocks = ROWS * COLUMNS // elements
        blocks = rng.integers(0, 256, size=(n_blocks, size), dtype=np.uint8)
        for at in halves:
            values = np.array([HALVES[(i + at) % len(HALVES)] for i in range(n_blocks)], dtype=np.float16)
            blocks[:, at:at + 2] = values.view(np.uint8).reshape(n_blocks, 2)
        if name == "MXFP4":
            blocks[:, 0] = np.minimum(blocks[:, 0], 250)
            blocks[:2, 0] = [0, 1]
        stored = blocks.reshape(ROWS, -1)
        writer.add_tensor(f"blocks.{name}", stored, raw_dtype=qtype)
        writer.add_tensor(f"values.{name}", gguf.quants.dequantize(stored, qtype).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    committed = pathlib.Path(__file__).parent / "blocks.gguf"
    if sys.argv[1:] != ["--check"]:
        write(committed)
        return
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "blocks.gguf"
        write(made)
        assert made.read_bytes() == committed.read_bytes(), "blocks.gguf differs"
    print("the committed file is as made")


if __name__ == "__main__":
    main()
