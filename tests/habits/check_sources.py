#!/usr/bin/env python3
"""Checks what neither the compiler nor clang-tidy sees.

Files stay under MAX_LINES lines; no note of unfinished work, no silenced warning, no disabled test; no path that
exists on one machine only; no flag or command of the command line in a string of the library (a message names the
setting in words, see runtime/core/setting.h); UTF-8 without carriage returns, trailing blanks or a missing last newline.
Usage: check_sources.py ROOT, or check_sources.py --self-test; exit code 1 and one line per problem.
"""

import os
import re
import sys
import tempfile

from project_files import list_files

MAX_LINES = 600
CODE = (".h", ".cc", ".cu", ".cuh", ".py", ".sh", ".cmake", "CMakeLists.txt")
PROSE = (".md", ".json", ".yml", ".clang-tidy", ".clang-format")

# Written apart so that this file passes its own check.
FORBIDDEN = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|NO" r"LINT\w*)\b|\bDIS" r"ABLED_")

# Folders of one person or one machine.
PERSONAL_PATH = re.compile(r"""(?:^|[\s"'`=(:<])(/(?:home|Users|root|mnt|media|srv|work|workspace)/[\w.~-]+"""
                           r"""|[A-Z]:\\\\?\w+)""")

# The folders that other programs may use, and the literals in C++: a comment, a raw string, a string, a character.
LIBRARY = ("runtime/", "cpu_kernels/", "gpu_kernels/", "predictor/", "profiler/")
TOKEN = re.compile(r'''//[^\n]*|/\*.*?\*/|R"([^()\\\s]*)\((?P<raw>.*?)\)\1"|"(?P<text>(?:[^"\\\n]|\\.)*)"'''
                   r"""|'(?:[^'\\\n]|\\[^\n][^'\n]*)'""", re.DOTALL)
# --flag, -f (but of the shell's `ulimit`), `thermocline VERB`.
FLAG = re.compile(r"(?<![\w.-])--[a-z][\w-]*|(?<![\w.-])(?<!ulimit )-[a-z](?![\w-])|\bthermocline [a-z]+`")


def is_text_of_ours(root, name):
    if name.startswith("tests/") and "/data/" in name:
        return False
    if name.endswith(CODE + PROSE):
        return True
    with open(os.path.join(root, name), "rb") as file:
        return file.read(2) == b"#!"


def check_text(name, text):
    lines = text.split("\n")
    is_code = not name.endswith(PROSE)
    if is_code and len(lines) - 1 > MAX_LINES:
        yield 1, f"{len(lines) - 1} lines; at most {MAX_LINES}: split it"
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end of the file"
    for number, line in enumerate(lines, 1):
        word = FORBIDDEN.search(line) if is_code else None
        if word:
            yield number, f"{word.group(0)}: finish it, or open an issue"
        path = PERSONAL_PATH.search(line)
        if path:
            yield number, f"{path.group(1)}: a path of one machine"
        if line.endswith("\r"):
            yield number, "carriage return"
        elif is_code and line != line.rstrip():
            yield number, "blanks at the end of the line"
        if "\t" in line and name.endswith((".h", ".cc", ".py")):
            yield number, "tab"


def check_messages(name, text):
    if not name.startswith(LIBRARY) or not name.endswith((".h", ".cc", ".cu", ".cuh")):
        return
    for token in TOKEN.finditer(text):
        flag = FLAG.search(token["raw"] or token["text"] or "")
        if flag:
            number = text.count("\n", 0, token.start()) + 1
            yield number, f"{flag.group(0).strip('`')}: say it in words, and name the setting (runtime/core/setting.h)"


def check(root):
    problems = []
    for name in list_files(root):
        if not is_text_of_ours(root, name):
            continue
        with open(os.path.join(root, name), "rb") as file:
            raw = file.read()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            problems.append(f"{name}:1: not UTF-8: {error.reason} at byte {error.start}")
            continue
        problems += [f"{name}:{line}: {what}" for line, what in [*check_text(name, text), *check_messages(name, text)]]
    return problems


def self_test():
    good = {
        "good.cc": ("// one\nconst char* a = \"/proc/self/maps\";\nint x = 3;  // 1/2/3\n", ""),
        "tools/good.cc": ('hint("raise it (-c), or use --cache-type f16");\n', ""),
        "runtime/good.cc": ('// of --cache-type\nf("a - b, top-k, (ulimit -l), x.-c, \\"--\\"");  // -c\nint n = 1\'000;\n', ""),
    }
    bad = {
        "a.cc": ("int x;\n" * (MAX_LINES + 1), "at most"),
        "b.cc": ("// TO" "DO: later\n", "finish it"),
        "c.h": ("int x;  // NO" "LINT(bugprone)\n", "finish it"),
        "d.cc": ("TEST(A, DIS" "ABLED_b) {}\n", "finish it"),
        "e.cc": ('open("/ho' 'me/someone/model.gguf");\n', "one machine"),
        "g.md": ("Put it in `/Us" "ers/someone/x`.\n", "one machine"),
        "h.cc": ("int x;\r\n", "carriage return"),
        "i.cc": ("int x; \n", "blanks at the end"),
        "j.cc": ("int x;", "no newline"),
        "k.cc": ("\tint x;\n", "tab"),
        "runtime/m.cc": ('Error("use --cache-type f16");\n', "say it in words"),
        "profiler/n.cc": ('/* it\'s */ const char* flag = "--vram";\n', "say it in words"),
        "predictor/o.h": ('inline char c = \'"\', *a = "lower it (-c 5 now)";\n', "say it in words"),
        "gpu_kernels/p.cu": ('auto a = R"(raise\n-c)";\n', "say it in words"),
        "cpu_kernels/q.cc": ('hint("make one with `thermocline profile`");\n', "say it in words"),
        "script": ("#!/bin/sh\n# FIX" "ME\n", "finish it"),
    }
    failures = []
    with tempfile.TemporaryDirectory() as root:
        for name, (text, _) in {**bad, **good}.items():
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8", newline="") as file:
                file.write(text)
        with open(os.path.join(root, "l.cc"), "wb") as file:
            file.write(b"// \xff\n")
        problems = check(root)
    for name, (_, expected) in {**bad, "l.cc": ("", "not UTF-8")}.items():
        found = [problem for problem in problems if problem.startswith(name + ":")]
        if len(found) != 1 or expected not in found[0]:
            failures.append(f"{name}: expected one line with {expected!r}, found {found}")
    failures += [problem for problem in problems if problem.startswith(tuple(good))]
    print(f"self-test: {len(bad) + len(good) + 1} files, {len(failures)} failures")
    return failures


def main():
    problems = self_test() if sys.argv[1] == "--self-test" else check(sys.argv[1])
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
