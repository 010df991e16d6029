#!/usr/bin/env python3
"""Runs clang-format or clang-tidy over the project's C++ files, several at a time.

    run_clang_tool.py format ROOT
    run_clang_tool.py tidy ROOT BUILD_DIR [FOLDER...]

BUILD_DIR holds compile_commands.json; with FOLDERs only files in them are looked at. Without THERMOCLINE_TIDY_ALL in the
environment clang-tidy looks at sources that the last commits touched, or whose headers they touched, and at a tenth of
the others' translation units, another one with every commit. Files that nvcc compiles are left out:
the build in which the host compiler does has them. Where the build compiles a target's sources together
(THERMOCLINE_UNITY), so does clang-tidy, which takes a third of the time: most of it goes into headers.

Prints what the tool prints about files it objects to; exit code 1 if there is any, 77 (skipped) if the tool is
not installed. clang-tidy looks at a translation unit again only when a source or header of ours in it, its compile
command or .clang-tidy changed since it last passed.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

from project_files import cpp_files, includes, list_files, read

SKIPPED = 77
# Options of g++ that clang does not know, and ones that only cost time here.
DROPPED_OPTIONS = ("-Werror", "-fno-openmp", "-Winvalid-pch")
PRECOMPILED_HEADER = "/cmake_pch.hxx"  # what a source includes it shall include itself


def find_tool(name):
    for candidate in (name + "-14", name):
        if shutil.which(candidate):
            return candidate
    print(f"{name} is not installed")
    sys.exit(SKIPPED)


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(function, items))


def check_format(root):
    tool = find_tool("clang-format")
    names = cpp_files(root)
    chunks = [names[i:i + 20] for i in range(0, len(names), 20)]
    results = in_parallel(lambda chunk: subprocess.run([tool, "--dry-run", "-Werror", *chunk], cwd=root), chunks)
    failed = any(result.returncode != 0 for result in results)
    print(f"{len(names)} files")
    if failed:
        print(f"To format them: git ls-files '*.h' '*.cc' | xargs {tool} -i")
    return failed


def content_key(root, name, known, seen):
    """Adds to `seen` the file and, through its includes, every file of ours that it depends on."""
    if name in seen:
        return
    text = read(root, name)
    seen[name] = hashlib.sha256(text.encode()).hexdigest()
    for _, quoted, target in includes(text):
        target = target.removeprefix(root + "/")
        if quoted and target in known:
            content_key(root, target, known, seen)


def name_of(root, entry):
    return os.path.relpath(os.path.join(entry["directory"], entry["file"]), root)


def sources_of(root, entry, known):
    """The files of ours that one translation unit compiles: its own, or those that a unity source includes."""
    name = name_of(root, entry)
    if name in known:
        return [name]
    if "/Unity/" not in entry["file"]:
        return []
    return [target.removeprefix(root + "/") for _, _, target in includes(read(root, name))]


def tidy_one(tool, root, stamp_dir, entry, known, config):
    name = name_of(root, entry)
    command = entry.get("command") or shlex.join(entry["arguments"])
    contents = {}
    content_key(root, name, known, contents)
    key = hashlib.sha256(json.dumps([config, command, sorted(contents.items())]).encode()).hexdigest()
    stamp = os.path.join(stamp_dir, name.replace("/", "_"))
    if os.path.exists(stamp) and open(stamp, encoding="ascii").read() == key:
        return name, None, 0.0, ""
    start = time.monotonic()
    result = subprocess.run(
        [tool, "--quiet", "-p", stamp_dir, os.path.join(root, name)], cwd=root, capture_output=True, text=True)
    if result.returncode == 0:
        with open(stamp, "w", encoding="ascii") as file:
            file.write(key)
    # Of stderr only errors matter; the rest counts warnings in headers of the system.
    errors = "\n".join(line for line in result.stderr.splitlines() if "error" in line.lower())
    return name, result.returncode == 0, time.monotonic() - start, result.stdout + errors


RECENT_COMMITS = 30
PARTS = 10


def git(root, *arguments):
    result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    return result.stdout if result.returncode == 0 else None


def select(root, units):
    """Those of the units' sources that a run looks at: all, or what changed lately and a part of the rest. The part is of
    whole units, since what costs time is a unit's headers."""
    sources = {source for unit in units.values() for source in unit}
    if "THERMOCLINE_TIDY_ALL" in os.environ:
        return sources
    log = git(root, "log", f"-{RECENT_COMMITS}", "--name-only", "--format=")
    changed = git(root, "diff", "--name-only", "HEAD")
    count = git(root, "rev-list", "--count", "HEAD")
    if log is None or changed is None or count is None:  # not a clone
        return sources
    recent = set(log.split()) | set(changed.split())
    part = int(count) % PARTS

    def is_recent(name):
        # A header goes with the source beside it; others that include it are looked at in their turn.
        stem = os.path.splitext(name)[0]
        return name in recent or stem + ".h" in recent

    def turn(name):
        return int(hashlib.sha256(name.encode()).hexdigest(), 16) % PARTS

    in_turn = {source for name, unit in units.items() if turn(name) == part for source in unit}
    return in_turn | {name for name in sources if is_recent(name)}


def is_for_nvcc(entry):
    command = entry.get("command") or shlex.join(entry["arguments"])
    return any(os.path.basename(word) == "nvcc" for word in shlex.split(command)[:2])


def write_build_config(root, build_dir):
    """For sources that lie in the build folder: what the root's says, and findings in what they include."""
    text = read(root, ".clang-tidy")
    text = re.sub(r"(HeaderFilterRegex: .*)\\.h\$'", r"\1\\.(h|cc|cu)$'", text)
    text = text.replace("  bugprone-*,\n", "  bugprone-*,\n  -bugprone-suspicious-include,\n")
    with open(os.path.join(build_dir, ".clang-tidy"), "w", encoding="utf-8") as file:
        file.write(text)


def reduce_units(root, stamp_dir, entries, sources, selected):
    """Entries and their sources without those that were not selected; a unity source becomes a smaller one."""
    kept_entries, kept_sources = {}, {}
    for name, entry in entries.items():
        chosen = [source for source in sources[name] if source in selected]
        if not chosen:
            continue
        if len(chosen) < len(sources[name]):
            unit = os.path.join(stamp_dir, "unit_" + name.replace("/", "_"))
            with open(unit, "w", encoding="utf-8") as file:
                file.writelines(f'#include "{os.path.join(root, source)}"\n' for source in chosen)
            command = entry.get("command") or shlex.join(entry["arguments"])
            words = [unit if word == entry["file"] else word for word in shlex.split(command)]
            entry = {"directory": entry["directory"], "command": shlex.join(words), "file": unit}
            name = os.path.relpath(unit, root)
        kept_entries[name], kept_sources[name] = entry, chosen
    return kept_entries, kept_sources


def check_tidy(root, build_dir, folders):
    tool = find_tool("clang-tidy")
    known = set(cpp_files(root))
    with open(os.path.join(build_dir, "compile_commands.json"), encoding="utf-8") as file:
        database = json.load(file)
    entries = {name_of(root, entry): entry for entry in database}
    sources = {name: sources_of(root, entry, known) for name, entry in entries.items()}
    entries = {name: entry for name, entry in entries.items()
               if any(source.startswith(folders) for source in sources[name]) and not is_for_nvcc(entry)}
    write_build_config(root, build_dir)
    stamp_dir = os.path.join(build_dir, "clang_tidy")
    os.makedirs(stamp_dir, exist_ok=True)
    all_sources = {source for name in entries for source in sources[name]}
    selected = select(root, {name: sources[name] for name in entries})
    entries, sources = reduce_units(root, stamp_dir, entries, sources, selected)
    for entry in entries.values():
        command = entry.get("command") or shlex.join(entry["arguments"])
        words = [word for word in shlex.split(command)
                 if word not in DROPPED_OPTIONS and not word.endswith(PRECOMPILED_HEADER)]
        words = [word for word, following in zip(words, [*words[1:], ""])
                 if word != "-include" or not following.startswith("-")]
        words = words[1:] if os.path.basename(words[0]) == "ccache" else words
        entry.pop("arguments", None)
        entry["command"] = shlex.join(words)
    with open(os.path.join(stamp_dir, "compile_commands.json"), "w", encoding="utf-8") as file:
        json.dump(list(entries.values()), file)
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
    config = version + "".join(read(root, name) for name in list_files(root) if name.endswith(".clang-tidy"))
    by_size = sorted(entries, key=lambda name: -sum(len(read(root, source)) for source in sources[name]))
    results = in_parallel(lambda name: tidy_one(tool, root, stamp_dir, entries[name], known, config), by_size)
    shown = set()
    for name, passed, _, output in results:
        if passed is not False:
            continue
        if not output.strip():
            print(f"{name}: {tool} failed without a word")
        # What it says about a header comes with every file that includes the header: show it once.
        for finding in re.split(r"^(?=/\S+:\d+:\d+: (?:error|warning):)", output.replace(root + "/", "/"), flags=re.M):
            if finding.strip() and finding not in shown:
                shown.add(finding)
                print(finding.strip().removeprefix("/"))
    checked = [result for result in results if result[1] is not None]
    n_files = len({source for name in entries for source in sources[name]})
    print(f"{n_files} files of {len(all_sources)} in {len(results)} translation units, {len(checked)} of them changed "
          "since they last passed")
    for name, _, seconds, _ in sorted(checked, key=lambda result: -result[2])[:5]:
        print(f"  {seconds:5.1f} s {name}")
    return any(result[1] is False for result in results)


def main():
    root = os.path.abspath(sys.argv[2])
    if sys.argv[1] == "format":
        return 1 if check_format(root) else 0
    folders = tuple(folder + "/" for folder in sys.argv[4:]) or ("",)
    failed = check_tidy(root, os.path.abspath(sys.argv[3]), folders)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
