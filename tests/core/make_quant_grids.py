#!/usr/bin/env python3
"""Writes runtime/core/quant_grids.h: the points of the IQ2 and IQ3 types' grids, as the public gguf
package (0.19.0) has them.

    python3.11 -m venv venv && venv/bin/pip install gguf==0.19.0 numpy
    venv/bin/python make_quant_grids.py            # --check compares with the committed file instead
"""
import pathlib
import sys

from gguf import quants

FILE = pathlib.Path(__file__).resolve().parents[2] / "runtime/core/quant_grids.h"
GRIDS = [
    ("kGridIq2Xxs", quants.IQ2_XXS, [8, 25, 43], 2),
    ("kGridIq2Xs", quants.IQ2_XS, [8, 25, 43], 2),
    ("kGridIq2S", quants.IQ2_S, [8, 25, 43], 2),
    ("kGridIq3Xxs", quants.IQ3_XXS, [4, 12, 20, 28, 36, 44, 52, 62], 3),
    ("kGridIq3S", quants.IQ3_S, [1, 3, 5, 7, 9, 11, 13, 15], 3),
]


def text():
    out = "// Made by tests/core/make_quant_grids.py. quant_values.h says what the numbers mean.\n"
    out += "#pragma once\n\n#include <cstdint>\n\nnamespace thermocline {\n\n// clang-format off\n"
    for name, quant, levels, bits in GRIDS:
        quant.init_grid()
        points = quant.grid[0, 0].astype(int).tolist()
        codes = [sum(levels.index(v) << (bits * i) for i, v in enumerate(point)) for point in points]
        out += f"inline constexpr uint16_t {name}[{len(codes)}] = {{\n"
        for at in range(0, len(codes), 12):
            out += "    " + " ".join(f"0x{code:04x}," for code in codes[at:at + 12]) + "\n"
        out += "};\n\n"
    return out + "// clang-format on\n\n}  // namespace thermocline\n"


def main():
    if sys.argv[1:] == ["--check"]:
        assert FILE.read_text() == text(), f"{FILE} differs"
        print("the committed file is as made")
    else:
        FILE.write_text(text())


if __name__ == "__main__":
    main()
