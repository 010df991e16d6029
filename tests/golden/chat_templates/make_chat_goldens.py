"""Makes goldens of chat templates with Python's jinja2, set up as transformers sets it up. See README.md.

    python make_chat_goldens.py            writes goldens.json and snippet_goldens.json next to this script
    python make_chat_goldens.py --check    makes them and compares with the committed ones instead
"""

import argparse
import datetime
import json
import pathlib
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent
NOW = datetime.datetime(2026, 1, 31, 12, 0)
BOS, EOS = "<s>", "</s>"


class Generation(Extension):
    """{% generation %}: what the model wrote. It is rendered as it stands, in a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = NOW.strftime
    return made


def render(source, variables):
    """{"text": ...}, or {"error": ...} with Python's words."""
    try:
        return {"text": environment().from_string(source).render(**variables)}
    except Exception as error:  # whatever Python raises is what the template does
        return {"error": f"{type(error).__name__}: {error}"}


def chat_variables(conversation, tools):
    variables = {
        "messages": conversation["messages"],
        "tools": tools if conversation.get("tools") == "TOOLS" else None,
        "documents": None,
        "add_generation_prompt": conversation.get("add_generation_prompt", True),
        "bos_token": BOS,
        "eos_token": EOS,
    }
    return {**variables, **conversation.get("extra", {})}


def read_json(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def make():
    conversations, tools, snippets = read_json("conversations.json"), read_json("tools.json"), read_json("snippets.json")
    made_by = f"jinja2 {jinja2.__version__}"
    prompts = {
        path.stem: {
            name: render(path.read_text(encoding="utf-8"), chat_variables(conversation, tools))
            for name, conversation in conversations.items()
        }
        for path in sorted((HERE / "templates").glob("*.jinja"))
    }
    texts = [{"template": source, **render(source, snippets["variables"])} for source in snippets["templates"]]
    return {
        "goldens.json": {"made_by": made_by, "prompts": prompts},
        "snippet_goldens.json": {"made_by": made_by, "variables": snippets["variables"], "snippets": texts},
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    failed = False
    for name, content in make().items():
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        if not check:
            (HERE / name).write_text(text, encoding="utf-8")
        elif (HERE / name).read_text(encoding="utf-8") != text:
            print(f"{name}: differs")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
