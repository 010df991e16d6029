#!/usr/bin/env python3
"""Validates texts that grammars of random JSON schemas made, with the jsonschema package.

Usage: check_schema_texts.py SCHEMA_TEXTS SEED SCHEMAS TEXTS [VOCABULARY.gguf]; the arguments behind the first are that
program's. Exit code 1, and what is wrong, where a text is no JSON or its schema refuses it, where a schema was refused
by us and some text fits it, or where fewer than nine in ten schemas gave texts.
"""

import json
import subprocess
import sys

import jsonschema

# What a refusal may say: nothing fits the schema, or one keyword meets another that it cannot be kept with.
FAIR = ("no text that ends", "\"format\"", "\"pattern\"", "\"properties\"", "\"required\"", "\"oneOf\"", "beside it")

# Debian's package checks no times (and refuses RFC 3339's without a package that it lacks).
FORMATS = jsonschema.FormatChecker(["date", "email", "ipv4", "ipv6", "uuid"])


def check(line, number, problems):
    entry = json.loads(line)
    schema = entry["schema"]
    if "error" in entry:
        if not any(part in entry["error"] for part in FAIR):
            problems.append(f"schema {number}: {entry['error']}\n  {json.dumps(schema)}")
        return 0
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    for text in entry["texts"]:
        try:
            validator.validate(json.loads(text))
        except (ValueError, jsonschema.ValidationError) as error:
            problems.append(f"schema {number}: {str(error).splitlines()[0]}\n  {json.dumps(schema)}\n  {text}")
    return len(entry["texts"])


def main():
    result = subprocess.run(sys.argv[1:], capture_output=True, check=False)
    problems = []
    if result.returncode != 0:
        print(result.stderr.decode(errors="replace"))
        return 1
    lines = result.stdout.decode().rstrip("\n").split("\n")
    counts = [check(line, number, problems) for number, line in enumerate(lines)]
    n_with = sum(1 for count in counts if count > 0)
    print(result.stderr.decode().strip())
    print(f"{len(lines)} schemas, {n_with} with texts, {sum(counts)} texts, {len(problems)} wrong")
    for problem in problems[:10]:
        print(problem)
    wanted = int(sys.argv[3]) * int(sys.argv[4])
    return 1 if problems or not lines or n_with < 0.9 * len(lines) or sum(counts) < 0.85 * wanted else 0


if __name__ == "__main__":
    sys.exit(main())
