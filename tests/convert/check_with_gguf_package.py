#!/usr/bin/env python3
"""Compares two GGUF files with the public gguf package: ours, and one that another converter made of the same model.

Usage: check_with_gguf_package.py OURS THEIRS [--rtol R]. Prints keys and tensors that differ. Exit code 1 when a tensor
is missing, has another shape or other values, or when a key that both have differs. Keys that only one has are listed.
Needs `pip install gguf`.
"""

import argparse
import sys

import gguf
import numpy

# What a converter says of itself, or of where a model came from.
FREE_KEYS = ("general.", "GGUF.", "split.")


def value_of(field):
    value = field.contents()
    return value if not isinstance(value, float) else float(numpy.float32(value))


def same_value(ours, theirs):
    if isinstance(ours, float) or isinstance(theirs, float):
        return bool(numpy.isclose(ours, theirs, rtol=1e-6, atol=0))
    return ours == theirs


def shown(value):
    text = repr(value)
    return text if len(text) < 100 else text[:97] + "..."


def difference_of_lists(ours, theirs):
    """The first element in which two lists differ, for long vocabularies."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return f"{shown(ours)} is not {shown(theirs)}"
    if len(ours) != len(theirs):
        return f"{len(ours)} elements are not {len(theirs)}"
    at = [i for i, (a, b) in enumerate(zip(ours, theirs)) if not same_value(a, b)]
    return f"{len(at)} elements differ, the first at {at[0]}: {shown(ours[at[0]])} is not {shown(theirs[at[0]])}"


def compare_keys(ours, theirs):
    problems = []
    for name in sorted(set(ours.fields) | set(theirs.fields)):
        if name.startswith(FREE_KEYS) and name != "general.architecture":
            continue
        if name not in theirs.fields:
            print(f"  only ours:   {name} = {shown(value_of(ours.fields[name]))}")
        elif name not in ours.fields:
            print(f"  only theirs: {name} = {shown(value_of(theirs.fields[name]))}")
        else:
            mine, other = value_of(ours.fields[name]), value_of(theirs.fields[name])
            if not (mine == other or (not isinstance(mine, list) and same_value(mine, other))):
                problems.append(f"key {name}: {difference_of_lists(mine, other)}")
    return problems


def compare_tensors(ours, theirs, rtol):
    problems = []
    mine = {tensor.name: tensor for tensor in ours.tensors}
    others = {tensor.name: tensor for tensor in theirs.tensors}
    for name in sorted(set(mine) | set(others)):
        if name not in mine or name not in others:
            problems.append(f"tensor {name}: only in {'ours' if name in mine else 'theirs'}")
            continue
        a, b = mine[name], others[name]
        if list(a.shape) != list(b.shape):
            problems.append(f"tensor {name}: {list(a.shape)} is not {list(b.shape)}")
            continue
        values = [gguf.quants.dequantize(t.data, t.tensor_type).astype(numpy.float64).ravel() for t in (a, b)]
        scale = numpy.abs(values[1]).max()
        gap = numpy.abs(values[0] - values[1]).max()
        if not gap <= rtol * scale:
            problems.append(f"tensor {name}: values differ by up to {gap:g}, of up to {scale:g}")
    return problems, len(mine)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--rtol", type=float, default=0, help="of a tensor's largest value")
    args = parser.parse_args()
    ours, theirs = gguf.GGUFReader(args.ours), gguf.GGUFReader(args.theirs)
    problems, n_tensors = compare_tensors(ours, theirs, args.rtol)
    problems += compare_keys(ours, theirs)
    for problem in problems:
        print(f"  {problem}")
    print(f"{args.ours}: {n_tensors} tensors, {len(problems)} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
