"""Lists the project's files and reads their includes; shared by the checks in this folder."""

import os
import re
import subprocess

CPP_SUFFIXES = (".h", ".cc", ".cu", ".cuh")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def list_files(root):
    """Files of the project, relative to `root`, sorted: what git tracks or would track, else what is on disk."""
    try:
        # safe.directory: with sudo, or in a container, the checkout often belongs to someone else.
        out = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"], check=True, capture_output=True).stdout
        names = [name for name in out.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if not f.startswith(("build", ".git", ".cache"))]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(name for name in set(names) if os.path.isfile(os.path.join(root, name)))


def cpp_files(root):
    return [name for name in list_files(root) if name.endswith(CPP_SUFFIXES)]


def read(root, name):
    with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def includes(text):
    """(line number, is_quoted, target) of each #include."""
    return [(text.count("\n", 0, m.start()) + 1, m.group(1) == '"', m.group(2))
            for m in _INCLUDE.finditer(text)]
