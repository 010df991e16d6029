#!/usr/bin/env python3
"""Checks that the newcomer's walk in docs/architecture.md names only what exists.

Every `name` in the section "One token, from text to text" is a file, or an identifier of the sources. The table of rooms above it lists
every room of check_layers.py once. Usage: check_walk.py ROOT; exit code 1 and one line per name that is not there.
"""

import os
import re
import sys

from check_layers import ROOMS
from project_files import cpp_files, read

SECTION = "## One token, from text to text"
MAX_WORDS = 500  # a page
FREE = {"thermocline run"}  # commands


def section_of(text, heading):
    begin = text.index(heading) + len(heading)
    return text[begin:text.index("\n## ", begin)]


def check(root):
    text = read(root, "docs/architecture.md")
    walk = section_of(text, SECTION)
    words = set()
    for name in cpp_files(root):
        if not name.startswith("tests/"):
            words.update(re.findall(r"\w+", read(root, name)))
    for name in re.findall(r"`([^`]+)`", walk):
        if name in FREE or os.path.exists(os.path.join(root, name)):
            continue
        if not all(part in words for part in name.split("::")):
            yield f"docs/architecture.md: `{name}` in the walk is no file and no name of the sources"
    if len(walk.split()) > MAX_WORDS:
        yield f"docs/architecture.md: the walk has {len(walk.split())} words, more than a page ({MAX_WORDS})"
    listed = re.findall(r"^\| `([^`]+)` \|", section_of(text, "## Rooms"), re.M)
    for room in set(ROOMS) - {"tests", "tools"} - set(listed):
        yield f"docs/architecture.md: the table of rooms leaves out {room}"
    for room in listed:
        if room not in ROOMS or listed.count(room) > 1:
            yield f"docs/architecture.md: {room} in the table of rooms is no room of check_layers.py, or stands twice"


def main():
    problems = list(check(sys.argv[1]))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
