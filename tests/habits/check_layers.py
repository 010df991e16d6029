#!/usr/bin/env python3
"""Checks that includes keep to the layers, and where headers of CUDA, intrinsics and some libraries may appear.

    runtime/core -> cpu_kernels, gpu_kernels -> predictor -> runtime -> profiler -> tools; tests sees all

An arrow means "is included by". ROOMS below has the rooms within these folders, each with what it may include.
Usage: check_layers.py ROOT; exit code 1 and one line per violation. No room may hold MAX_SHARE of the code or more.
check_layers.py ROOT --graph prints who includes whom, room by room, with sizes; --dot the same for graphviz.
check_layers.py --self-test proves on made-up trees that each rule catches what it should.
"""

import os
import re
import sys
import tempfile

from project_files import cpp_files, includes, read

# Every room and the rooms that its files may include; what those may include comes with them. A room stands below all
# rooms that it names, so the order of this table is one in which they can be built, and there is no ring.
ROOMS = {
    "runtime/core": [],
    "cpu_kernels": ["runtime/core"],
    "gpu_kernels/emulation": ["runtime/core"],
    "gpu_kernels/base": ["gpu_kernels/emulation", "runtime/core"],
    "gpu_kernels/products": ["gpu_kernels/base"],
    "gpu_kernels/tokens": ["gpu_kernels/products"],
    "runtime/sampling": ["cpu_kernels"],
    "runtime/speculate": ["runtime/sampling"],
    "runtime/timing": ["runtime/core"],
    "runtime/threads": ["runtime/timing"],
    "predictor": ["cpu_kernels", "runtime/threads"],
    "runtime/gguf": ["runtime/core"],
    "runtime/safetensors": ["runtime/core"],
    "runtime/text": ["runtime/gguf"],
    "runtime/text/jinja": ["runtime/text"],
    "runtime/grammar": ["runtime/text", "runtime/sampling"],
    "runtime/reply": ["runtime/grammar"],
    "runtime/model": ["runtime/gguf", "cpu_kernels"],
    "runtime/model/families": ["runtime/model"],
    "runtime/placement": ["runtime/model", "predictor"],
    "runtime/device": ["runtime/model", "runtime/threads", "predictor"],
    "runtime/device/cpu": ["runtime/device"],
    "runtime/device/gpu": ["runtime/device", "gpu_kernels/tokens"],
    "runtime/rates": ["runtime/device/cpu", "runtime/device/gpu"],
    "runtime/load": ["runtime/device", "runtime/placement"],
    "runtime/pass": ["runtime/device", "gpu_kernels/base"],
    "runtime/moves": ["runtime/pass", "runtime/load"],
    "runtime/convert": ["runtime/load"],
    "runtime/import": ["runtime/convert", "runtime/model/families", "runtime/safetensors", "runtime/text"],
    "runtime/lora": ["runtime/import"],
    "runtime/engine": ["runtime/speculate", "runtime/moves", "runtime/lora", "runtime/text", "runtime/device/cpu", "runtime/device/gpu"],
    "runtime/stand_ins": ["runtime/engine"],
    "runtime/drafts": ["runtime/stand_ins"],
    "runtime/schedule": ["runtime/engine", "runtime/rates"],
    "runtime/chat": ["runtime/engine", "runtime/text/jinja", "runtime/reply"],
    "runtime/synth": ["runtime/model", "runtime/threads", "predictor"],
    "profiler/activations": ["runtime/engine"],
    "profiler/placement": ["profiler/activations", "runtime/rates"],
    "profiler/predictors": ["profiler/activations"],
    "profiler/thresholds": ["profiler/activations"],
    "profiler/drafts": ["profiler/activations", "runtime/stand_ins", "runtime/convert"],
    "profiler/synthetic": ["profiler/placement", "profiler/predictors", "profiler/thresholds", "runtime/synth"],
    "tools/http": ["runtime/core"],
    "tools/bench": ["profiler/synthetic", "runtime/schedule", "runtime/drafts", "tools/http"],
    "tools/eval": ["runtime/engine"],
    "tools/pictures": ["runtime/core"],
    "tools/reports": ["tools/bench", "profiler/drafts", "tools/pictures", "profiler/synthetic", "runtime/convert", "runtime/import"],
    "tools/terminal": ["tools/reports", "runtime/chat"],
    "tools/serve": ["tools/http", "tools/terminal", "runtime/schedule", "runtime/reply"],
    "tools/verbs": ["tools/serve", "tools/eval"],
    "tools/kernel_bench": ["tools/bench"],
    "tools": ["tools/verbs"],
    "tests": ["tools", "tools/kernel_bench"],
}
MAX_SHARE = 0.15  # of the lines outside tests


def reachable():
    """For each room all rooms that its files may include, itself among them."""
    closure = {}
    for room, below in ROOMS.items():
        closure[room] = {room}.union(*(closure[other] for other in below))
    return closure


REACHABLE = reachable()

# Headers that only some folders may include: (what, pattern, folders).
CONFINED = [
    ("CUDA header", re.compile(r"^(cuda|cublas|cusparse|cusolver|curand|nvtx|nvToolsExt|nvml|nvrtc|cub/"
                               r"|thrust/|cooperative_groups|mma\.h|device_launch_parameters|vector_types)"),
     ("gpu_kernels",)),
    ("intrinsics header", re.compile(r"^(\w*intrin\.h|cpuid\.h|arm_\w+\.h)$"), ("cpu_kernels",)),
    ("command line parser", re.compile(r"^CLI/"), ("tools", "tests")),
    ("network library", re.compile(r"^boost/(asio|beast)"), ("tools/http", "tests")),
    ("line editor", re.compile(r"^(editline/|histedit\.h|readline/)"), ("tools",)),
    ("test library", re.compile(r"^(gtest|gmock)/"), ("tests",)),
    ("bench library", re.compile(r"^benchmark/"), ("tools", "tests")),
]

# Kernels know pointers and dimensions, not files.
FILE_HEADERS = ("runtime/core/mapped_file.h", "runtime/core/atomic_file.h")


def room_of(name):
    """The room that holds a file, or None."""
    rooms = [room for room in ROOMS if name.startswith(room + "/")]
    room = max(rooms, key=len) if rooms else None
    # Below tests and tools any folder may stand; elsewhere a folder is a room and stands in the table.
    if room is None or room == "tests":
        return room
    return room if os.path.dirname(name) == room else None


def check_include(name, quoted, target, known):
    """What is wrong with one #include, or None."""
    user = room_of(name)
    for what, pattern, folders in CONFINED:
        if pattern.search(target) and not user.startswith(folders):
            return f"{what} <{target}> belongs in {' or '.join(folders)} only"
    if not quoted:
        return f"<{target}> is ours: include it in quotes" if target in known else None
    if target.startswith(("./", "../")) or target not in known:
        return f'"{target}" is not a file of ours by its path from the root'
    used = room_of(target)
    if used is None:
        return f'"{target}" lies outside the layers'
    if used not in REACHABLE[user]:
        return f'"{target}": {user} may not include {used}'
    if user.startswith(("cpu_kernels", "gpu_kernels")) and target in FILE_HEADERS:
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
        if room_of(name) is None:
            problems.append(f"{name}:1: lies in none of the rooms: {', '.join(ROOMS)}")
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


def room_graph(root):
    """{room: {other room: number of includes}} and {room: lines}, of the code outside tests."""
    graph = {room: {} for room in ROOMS if room != "tests"}
    lines = dict.fromkeys(graph, 0)
    for name in cpp_files(root):
        room = room_of(name)
        if room not in graph:
            continue
        text = read(root, name)
        lines[room] += text.count("\n")
        for _, quoted, target in includes(text):
            used = room_of(target) if quoted else None
            if used in graph and used != room:
                graph[room][used] = graph[room].get(used, 0) + 1
    return graph, lines


def check_sizes(root):
    _, lines = room_graph(root)
    total = sum(lines.values())
    return [f"{room}:1: holds {count} of {total} lines outside tests, {100 * MAX_SHARE:.0f} % or more: make two rooms of it"
            for room, count in lines.items() if count >= MAX_SHARE * total]


def print_graph(root):
    """Rooms from the lowest to the highest, and how many includes go to each room below."""
    graph, lines = room_graph(root)
    total = sum(lines.values())
    print(f"{'room':<24}{'lines':>7}{'share':>7}  includes")
    for room, used in graph.items():
        below = ", ".join(f"{other} {count}" for other, count in sorted(used.items()))
        print(f"{room:<24}{lines[room]:>7}{100 * lines[room] / total:>6.1f}%  {below}")


def print_dot(root):
    graph, _ = room_graph(root)
    print("digraph rooms {\n  rankdir=BT;\n  node [shape=box];")
    for room, used in graph.items():
        print(f'  "{room}";')
        for other in sorted(used):
            print(f'  "{other}" -> "{room}";')
    print("}")


GOOD_TREE = {
    "runtime/core/a.h": "#pragma once\n#include <vector>\n",
    "runtime/core/mapped_file.h": "#pragma once\n",
    "cpu_kernels/k.h": '#pragma once\n#include <immintrin.h>\n#include "runtime/core/a.h"\n',
    "gpu_kernels/base/g.h": '#pragma once\n#include <cuda_runtime.h>\n#include "runtime/core/a.h"\n',
    "predictor/p.h": '#pragma once\n#include "cpu_kernels/k.h"\n',
    "runtime/gguf/r.h": '#pragma once\n#include "runtime/core/mapped_file.h"\n',
    "runtime/model/m.h": '#pragma once\n#include "runtime/gguf/r.h"\n#include "cpu_kernels/k.h"\n',
    "runtime/device/d.h": '#pragma once\n#include "runtime/model/m.h"\n#include "predictor/p.h"\n',
    "runtime/device/gpu/g.cc": '#include "runtime/device/d.h"\n#include "gpu_kernels/base/g.h"\n',
    "profiler/activations/f.h": "#pragma once\n",
    "profiler/activations/f.cc": '#include "runtime/gguf/r.h"\n',
    "tools/verbs/t.cc": '#include <CLI/CLI.hpp>\n#include "runtime/gguf/r.h"\n',
    "tools/main.cc": '#include "profiler/activations/f.h"\n',
    "tests/x.cc": '#include <gtest/gtest.h>\n#include "cpu_kernels/k.h"\n',
}

# What is added to the good tree, and a part of the one message that must follow.
BAD_ADDITIONS = [
    ("runtime/core/bad.cc", '#include "cpu_kernels/k.h"\n', "runtime/core may not include cpu_kernels"),
    ("runtime/core/bad.cc", '#include "runtime/gguf/r.h"\n', "runtime/core may not include runtime"),
    ("cpu_kernels/bad.cc", '#include "runtime/gguf/r.h"\n', "cpu_kernels may not include runtime"),
    ("cpu_kernels/bad.cc", '#include "gpu_kernels/base/g.h"\n', "cpu_kernels may not include gpu_kernels"),
    ("cpu_kernels/bad.cc", '#include "runtime/core/mapped_file.h"\n', "kernels know nothing of files"),
    ("gpu_kernels/base/bad.cu", '#include "cpu_kernels/k.h"\n', "gpu_kernels/base may not include cpu_kernels"),
    ("predictor/bad.cc", '#include "runtime/gguf/r.h"\n', "predictor may not include runtime"),
    ("runtime/model/bad.cc", '#include "profiler/activations/f.h"\n', "runtime/model may not include profiler"),
    ("runtime/model/bad.cc", '#include "runtime/absent.h"\n', "not a file of ours"),
    ("runtime/model/bad.cc", '# include  "tests/x.cc"\n', "runtime/model may not include tests"),
    ("tools/bad.cc", '#include "tests/x.cc"\n', "tools may not include tests"),
    ("runtime/model/bad.cc", "#include <cuda_fp16.h>\n", "CUDA header"),
    ("tests/bad.cc", "#include <cublas_v2.h>\n", "CUDA header"),
    ("runtime/model/bad.cc", "#include <immintrin.h>\n", "intrinsics header"),
    ("tests/bad.cc", "#include <x86intrin.h>\n", "intrinsics header"),
    ("runtime/model/bad.cc", "#include <CLI/CLI.hpp>\n", "command line parser"),
    ("profiler/activations/bad.cc", "#include <gtest/gtest.h>\n", "test library"),
    ("runtime/gguf/bad.cc", '#include "r.h"\n', "not a file of ours"),
    ("runtime/gguf/bad.cc", '#include "../core/a.h"\n', "not a file of ours"),
    ("profiler/activations/bad.cc", "#include <runtime/core/a.h>\n", "include it in quotes"),
    ("tools/bad.h", "int x;\n", "#pragma once"),
    ("tools/bad.h", '#pragma once\n#include "tools/bad.h"\n', "include each other"),
    ("elsewhere/bad.cc", "int x;\n", "none of the rooms"),
    ("runtime/bad.cc", "int x;\n", "none of the rooms"),
    ("runtime/gguf/inner/bad.cc", "int x;\n", "none of the rooms"),
    ("runtime/gguf/bad.cc", '#include "runtime/model/m.h"\n', "runtime/gguf may not include runtime/model"),
    ("runtime/device/bad.cc", '#include "gpu_kernels/base/g.h"\n', "runtime/device may not include gpu_kernels/base"),
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
    if "--graph" in sys.argv or "--dot" in sys.argv:
        (print_graph if "--graph" in sys.argv else print_dot)(sys.argv[1])
        return 0
    problems = self_test() if sys.argv[1] == "--self-test" else check(sys.argv[1]) + check_sizes(sys.argv[1])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
