#!/usr/bin/env python3
"""Checks that includes keep to the layers, and where headers of CUDA, intrinsics and some libraries may appear.

    runtime/core -> cpu_kernels, gpu_kernels -> predictor -> runtime -> profiler -> tools; tests sees all

An arrow means "is included by". Usage: check_layers.py ROOT; exit code 1 and one line per violation.
check_layers.py --self-test proves on made-up trees that each rule catches what it should.
"""

import os
import re
import sys
import tempfile

from project_files import cpp_files, includes, read

LAYERS = {"runtime/core": 0, "cpu_kernels": 1, "gpu_kernels": 1, "predictor": 2, "runtime": 3,
          "profiler": 4, "tools": 5, "tests": 6}

# Headers that only some folders may include: (what, pattern, folders).
CONFINED = [
    ("CUDA header", re.compile(r"^(cuda|cublas|cusparse|cusolver|curand|nvtx|nvToolsExt|nvml|nvrtc|cub/"
                               r"|thrust/|cooperative_groups|mma\.h|device_launch_parameters|vector_types)"),
     ("gpu_kernels",)),
    ("intrinsics header", re.compile(r"^(\w*intrin\.h|cpuid\.h|arm_\w+\.h)$"), ("cpu_kernels",)),
    ("command line parser", re.compile(r"^CLI/"), ("tools", "tests")),
    ("line editor", re.compile(r"^(editline/|histedit\.h|readline/)"), ("tools",)),
    ("test library", re.compile(r"^(gtest|gmock)/"), ("tests",)),
    ("bench library", re.compile(r"^benchmark/"), ("tools", "tests")),
]

# Kernels know pointers and dimensions, not files.
FILE_HEADERS = ("runtime/core/mapped_file.h", "runtime/core/atomic_file.h")


def layer_of(name):
    """The layer's folder that holds a file, or None."""
    folders = [f for f in LAYERS if name.startswith(f + "/")]
    return max(folders, key=len) if folders else None


def allowed(user, used):
    """Whether a file in folder `user` may include one in folder `used`."""
    return user == used or LAYERS[used] < LAYERS[user]


def check_include(name, quoted, target, known):
    """What is wrong with one #include, or None."""
    user = layer_of(name)
    for what, pattern, folders in CONFINED:
        if pattern.search(target) and user not in folders:
            return f"{what} <{target}> belongs in {' or '.join(folders)} only"
    if not quoted:
        return f"<{target}> is ours: include it in quotes" if target in known else None
    if target.startswith(("./", "../")) or target not in known:
        return f'"{target}" is not a file of ours by its path from the root'
    used = layer_of(target)
    if used is None:
        return f'"{target}" lies outside the layers'
    if not allowed(user, used):
        return f'"{target}": {user} may not include {used}'
    if user in ("cpu_kernels", "gpu_kernels") and target in FILE_HEADERS:
        return f'"{target}": kernels know nothing of files'
    return None


def find_cycle(graph):
    """A list of headers that include each other in a ring, or None. graph: header -> headers it includes."""
    state = {}  # 1: on the path, 2: done
    path = []

    def visit(node):
        state[node] = 1
        path.append(node)
        for target in graph.get(node, ()):
            if state.get(target) == 1:
                return path[path.index(target):] + [target]
            if target not in state:
                ring = visit(target)
                if ring:
                    return ring
        path.pop()
        state[node] = 2
        return None

    for node in sorted(graph):
        if node not in state:
            ring = visit(node)
            if ring:
                return ring
    return None


def check(root):
    names = cpp_files(root)
    known = set(names)
    problems = []
    graph = {}
    for name in names:
        if layer_of(name) is None:
            problems.append(f"{name}:1: lies in none of the layers' folders: {', '.join(LAYERS)}")
            continue
        text = read(root, name)
        found = includes(text)
        for line, quoted, target in found:
            problem = check_include(name, quoted, target, known)
            if problem:
                problems.append(f"{name}:{line}: {problem}")
        if name.endswith((".h", ".cuh")):
            graph[name] = [target for _, quoted, target in found if quoted]
            if not re.search(r"^#pragma once$", text, re.M):
                problems.append(f"{name}:1: header without #pragma once")
    ring = find_cycle(graph)
    if ring:
        problems.append(f"{ring[0]}:1: headers include each other: {' -> '.join(ring)}")
    return problems


GOOD_TREE = {
    "runtime/core/a.h": "#pragma once\n#include <vector>\n",
    "runtime/core/mapped_file.h": "#pragma once\n",
    "cpu_kernels/k.h": '#pragma once\n#include <immintrin.h>\n#include "runtime/core/a.h"\n',
    "gpu_kernels/g.h": '#pragma once\n#include <cuda_runtime.h>\n#include "runtime/core/a.h"\n',
    "predictor/p.h": '#pragma once\n#include "cpu_kernels/k.h"\n#include "gpu_kernels/g.h"\n',
    "runtime/gguf/r.h": '#pragma once\n#include "predictor/p.h"\n#include "runtime/core/mapped_file.h"\n',
    "profiler/f.h": "#pragma once\n",
    "profiler/f.cc": '#include "runtime/gguf/r.h"\n',
    "tools/t.cc": '#include <CLI/CLI.hpp>\n#include "runtime/gguf/r.h"\n',
    "tests/x.cc": '#include <gtest/gtest.h>\n#include "cpu_kernels/k.h"\n',
}

# What is added to the good tree, and a part of the one message that must follow.
BAD_ADDITIONS = [
    ("runtime/core/bad.cc", '#include "cpu_kernels/k.h"\n', "runtime/core may not include cpu_kernels"),
    ("runtime/core/bad.cc", '#include "runtime/gguf/r.h"\n', "runtime/core may not include runtime"),
    ("cpu_kernels/bad.cc", '#include "runtime/gguf/r.h"\n', "cpu_kernels may not include runtime"),
    ("cpu_kernels/bad.cc", '#include "gpu_kernels/g.h"\n', "cpu_kernels may not include gpu_kernels"),
    ("cpu_kernels/bad.cc", '#include "runtime/core/mapped_file.h"\n', "kernels know nothing of files"),
    ("gpu_kernels/bad.cu", '#include "cpu_kernels/k.h"\n', "gpu_kernels may not include cpu_kernels"),
    ("predictor/bad.cc", '#include "runtime/gguf/r.h"\n', "predictor may not include runtime"),
    ("runtime/bad.cc", '#include "profiler/f.h"\n', "runtime may not include profiler"),
    ("runtime/bad.cc", '#include "runtime/absent.h"\n', "not a file of ours"),
    ("runtime/bad.cc", '# include  "tests/x.cc"\n', "runtime may not include tests"),
    ("tools/bad.cc", '#include "tests/x.cc"\n', "tools may not include tests"),
    ("runtime/bad.cc", "#include <cuda_fp16.h>\n", "CUDA header"),
    ("tests/bad.cc", "#include <cublas_v2.h>\n", "CUDA header"),
    ("runtime/bad.cc", "#include <immintrin.h>\n", "intrinsics header"),
    ("tests/bad.cc", "#include <x86intrin.h>\n", "intrinsics header"),
    ("runtime/bad.cc", "#include <CLI/CLI.hpp>\n", "command line parser"),
    ("profiler/bad.cc", "#include <gtest/gtest.h>\n", "test library"),
    ("runtime/gguf/bad.cc", '#include "r.h"\n', "not a file of ours"),
    ("runtime/gguf/bad.cc", '#include "../core/a.h"\n', "not a file of ours"),
    ("profiler/bad.cc", "#include <runtime/core/a.h>\n", "include it in quotes"),
    ("tools/bad.h", "int x;\n", "#pragma once"),
    ("tools/bad.h", '#pragma once\n#include "tools/bad.h"\n', "include each other"),
    ("elsewhere/bad.cc", "int x;\n", "none of the layers"),
]


def self_test():
    def run(tree):
        with tempfile.TemporaryDirectory() as root:
            for name, text in tree.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write(text)
            return check(root)

    failures = [f"a good tree gives: {problem}" for problem in run(GOOD_TREE)]
    for name, text, expected in BAD_ADDITIONS:
        problems = run({**GOOD_TREE, name: text})
        if len(problems) != 1 or expected not in problems[0] or not problems[0].startswith(name + ":"):
            failures.append(f"{name} with {text!r}: expected one line with {expected!r}, found {problems}")
    ring = {"runtime/core/b.h": '#pragma once\n#include "runtime/core/c.h"\n',
            "runtime/core/c.h": '#pragma once\n#include "runtime/core/b.h"\n'}
    if not any("include each other" in problem for problem in run({**GOOD_TREE, **ring})):
        failures.append("a ring of two headers was not found")
    print(f"self-test: {len(BAD_ADDITIONS) + 2} trees, {len(failures)} failures")
    return failures


def main():
    problems = self_test() if sys.argv[1] == "--self-test" else check(sys.argv[1])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
