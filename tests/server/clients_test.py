#!/usr/bin/env python3
"""The clients that people use, `openai` and `anthropic` from PyPI, against `thermocline serve`.

    clients_test.py THERMOCLINE MODEL FOLDER

FOLDER keeps a virtual environment with both. Exit code 77, with the reason, where PyPI cannot be had.
"""

import json
import os
import subprocess
import sys

PACKAGES = ["openai>=2,<3", "anthropic<1"]


def enter_environment(folder):
    """Runs this script again within an environment that has the packages."""
    python = os.path.join(folder, "bin", "python3")
    if os.path.realpath(sys.prefix) == os.path.realpath(folder):
        return
    if subprocess.run([python, "-c", "import openai, anthropic"], capture_output=True, check=False).returncode if \
            os.path.exists(python) else True:
        for command in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", *PACKAGES]):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode != 0:
                print(f"skipped: {' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")
                sys.exit(77)
    os.execv(python, [python, "-B", *sys.argv])


def check_openai(server):
    import openai  # pylint: disable=import-outside-toplevel,import-error
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="key", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "Go on."}], "temperature": 0, "max_tokens": 12}
    whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    assert len(whole.choices[0].logprobs.content) == 12
    parts = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole.choices[0].message.content
    assert parts[-1].usage.completion_tokens == 12
    text = client.completions.create(model="tiny", prompt="It was", temperature=0, max_tokens=8)
    assert text.choices[0].finish_reason == "length"
    response = client.responses.create(model="tiny", input="Go on.", temperature=0, max_output_tokens=8)
    with client.responses.stream(model="tiny", input="Go on.", temperature=0, max_output_tokens=8) as stream:
        streamed = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == streamed == response.output_text
    vectors = client.embeddings.create(model="tiny", input=["a", "b"]).data
    assert len(vectors) == 2 and len(vectors[0].embedding) > 16
    try:
        client.chat.completions.create(**{**ask, "temperature": -1})
        raise AssertionError("a temperature of -1 was taken")
    except openai.BadRequestError as error:
        assert "temperature" in error.message, error
    try:
        client.with_options(api_key="wrong").models.list()
        raise AssertionError("a wrong key was taken")
    except openai.AuthenticationError:
        pass


def check_forced_tool(server):
    import openai  # pylint: disable=import-outside-toplevel,import-error
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="key", max_retries=0)
    tool = {"type": "function", "function": {"name": "set_light", "parameters": {
        "type": "object", "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "attic"]}},
        "required": ["on", "room"], "additionalProperties": False}}}
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "Light!"}], "tools": [tool], "max_tokens": 120, "seed": 5}
    for choice in ("required", {"type": "function", "function": {"name": "set_light"}}):
        call, = client.chat.completions.create(**ask, tool_choice=choice).choices[0].message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "set_light" and arguments["room"] in ("hall", "attic"), call
        assert isinstance(arguments["on"], bool), call


def check_anthropic(server):
    import anthropic  # pylint: disable=import-outside-toplevel,import-error
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.port}", api_key="key", max_retries=0)
    ask = {"model": "tiny", "max_tokens": 10, "temperature": 0, "messages": [{"role": "user", "content": "Go on."}]}
    whole = client.messages.create(**ask)
    assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 10
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
    count = client.messages.count_tokens(model="tiny", messages=ask["messages"])
    assert count.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def main():
    program, model, folder = sys.argv[1:4]
    enter_environment(folder)
    from serving import Server  # pylint: disable=import-outside-toplevel
    with Server(program, model, "-c", "512", "-np", "2", "--api-key", "key", "--alias", "tiny") as server:
        for check in (check_openai, check_forced_tool, check_anthropic):
            check(server)
            print(f"{check.__name__}: passed")


if __name__ == "__main__":
    main()
