#!/usr/bin/env python3
"""`thermocline serve` over HTTP: every endpoint, errors, streams, cancellation, access.

    server_test.py THERMOCLINE MODEL
"""

import base64
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

from serving import Server, parse_events

PROMPT = "It was the best of times"
CHAT = [{"role": "system", "content": "You tell stories."}, {"role": "user", "content": "Go on."}]
GREEDY = {"temperature": 0, "max_tokens": 12}


class Base(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(PROGRAM, MODEL, "-c", "512", "-np", "2", "-b", "32", *cls.flags,
                            "--slot-save-path", cls.folder.name)
        cls.server.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        cls.folder.cleanup()

    def ok(self, path, body=None):
        status, answer = self.server.ask(path, body)
        self.assertEqual(status, 200, answer)
        return answer

    def becomes(self, expected, value):
        until = time.monotonic() + 10
        while value() != expected and time.monotonic() < until:
            time.sleep(0.01)
        self.assertEqual(value(), expected)

    def refused(self, status, path, body, *words):
        """A request that is refused with an OpenAI error object, which names no flag."""
        found, answer = self.server.ask(path, body)
        self.assertEqual(found, status, answer)
        message = answer["error"]["message"]
        self.assertEqual(answer["error"]["code"], status)
        self.assertIn("type", answer["error"])
        self.assertNotIn("--", message)
        for word in words:
            self.assertIn(word, message)
        return answer["error"]


class Endpoints(Base):
    flags = ("--metrics", "--alias", "tiny", "--tags", "a,b")

    def test_what_it_says_of_itself(self):
        self.assertEqual(self.ok("/health"), {"status": "ok"})
        self.assertEqual(self.ok("/v1/health"), {"status": "ok"})
        for path in ("/models", "/v1/models"):
            model, = self.ok(path)["data"]
            self.assertEqual((model["id"], model["tags"]), ("tiny", ["a", "b"]))
        props = self.ok("/props")
        self.assertEqual(props["total_slots"], 2)
        self.assertEqual(props["default_generation_settings"]["n_ctx"], 256)
        self.assertIn(".gguf", props["model_path"])
        slots = self.ok("/slots")
        self.assertEqual([slot["id"] for slot in slots], [0, 1])
        live = self.ok("/live")
        self.assertGreater(len(live["layers"]), 1)
        self.assertGreater(live["pages"][0]["total"], 0)

    def test_the_page(self):
        status, headers, text = self.server.raw("GET", "/")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/html"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertIn(b"<!doctype html>", text)

    def test_metrics(self):
        def value(name):
            _, _, text = self.server.raw("GET", "/metrics")
            return float(next(line.split()[1] for line in text.decode().splitlines() if line.startswith(name + " ")))
        before = value("llamacpp:tokens_predicted_total")
        firsts = value("thermocline:time_to_first_token_seconds_count")
        answer = self.ok("/completion", {"prompt": PROMPT, "n_predict": 5, "ignore_eos": True})
        self.assertEqual(answer["tokens_predicted"], 5)
        # Counts are those of the last pass that has ended, and an answer leaves before its pass has.
        self.becomes(before + 5, lambda: value("llamacpp:tokens_predicted_total"))
        self.assertEqual(value("thermocline:time_to_first_token_seconds_count"), firsts + 1)
        _, _, text = self.server.raw("GET", "/metrics")
        names = {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}
        for name in ("kv_pages", "tier_bytes", "preemptions_total", "neurons_active_total", "inter_token_seconds",
                     "kv_host_pages_out_total", "batch_layers_dense_total"):
            self.assertIn("thermocline:" + name, names)
        self.assertGreater(value("thermocline:kv_read_bytes_total"), 0)
        self.assertGreaterEqual(value("thermocline:kv_unshared_bytes_total"), value("thermocline:kv_read_bytes_total"))
        live = self.ok("/live")
        self.assertAlmostEqual(sum(tier["read_per_token"] for tier in live["tiers"]) / live["bytes_per_token"], 1, places=6)

    def test_tokens_and_text(self):
        tokens = self.ok("/tokenize", {"content": PROMPT})["tokens"]
        self.assertEqual(self.ok("/detokenize", {"tokens": tokens})["content"].strip(), PROMPT)
        pieces = self.ok("/tokenize", {"content": "caf\u00e9 \u5abd", "with_pieces": True})["tokens"]
        self.assertTrue(all(piece["piece"] for piece in pieces))

    def test_templates(self):
        prompt = self.ok("/apply-template", {"messages": CHAT})["prompt"]
        self.assertIn("You tell stories.", prompt)
        n = self.ok("/v1/chat/completions/input_tokens", {"messages": CHAT})["input_tokens"]
        answer = self.ok("/v1/chat/completions", {"messages": CHAT, "max_tokens": 1})
        self.assertEqual(answer["usage"]["prompt_tokens"], n)
        count = self.ok("/v1/messages/count_tokens", {"system": CHAT[0]["content"], "messages": CHAT[1:]})
        self.assertEqual(count, {"input_tokens": n})


class Generation(Base):
    def test_native(self):
        whole = self.ok("/completion", {"prompt": PROMPT, "temperature": 0, "n_predict": 12, "return_tokens": True})
        self.assertEqual(whole["stop_type"], "limit")
        self.assertEqual(len(whole["tokens"]), 12)
        events = self.server.stream("/completion", {"prompt": PROMPT, "temperature": 0, "n_predict": 12})
        self.assertEqual("".join(data["content"] for _, data in events), whole["content"])
        self.assertEqual([data["stop"] for _, data in events], [False] * (len(events) - 1) + [True])
        ids = self.ok("/tokenize", {"content": PROMPT, "add_special": True})["tokens"]
        both = self.ok("/completion", {"prompt": [ids, PROMPT], "temperature": 0, "n_predict": 12})
        self.assertEqual([each["content"] for each in both], [whole["content"]] * 2)

    def test_the_same_seed_gives_the_same_text(self):
        ask = {"prompt": PROMPT, "temperature": 1, "n_predict": 16}
        texts = [self.ok("/completion", {**ask, "seed": seed})["content"] for seed in (7, 7, 8)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_text_completions(self):
        whole = self.ok("/v1/completions", {"prompt": PROMPT, **GREEDY, "logprobs": 3})
        choice = whole["choices"][0]
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(len(choice["logprobs"]["tokens"]), 12)
        self.assertTrue(all(p <= 0 for p in choice["logprobs"]["token_logprobs"]))
        events = self.server.stream("/v1/completions", {"prompt": PROMPT, **GREEDY, "stream_options": {"include_usage": True}})
        self.assertEqual(events[-1][1], "[DONE]")
        self.assertEqual(events[-2][1]["usage"]["completion_tokens"], 12)
        text = "".join(data["choices"][0]["text"] for _, data in events[:-2])
        self.assertEqual(text, choice["text"])

    def test_chat(self):
        whole = self.ok("/v1/chat/completions", {"messages": CHAT, **GREEDY, "logprobs": True, "top_logprobs": 4})
        message = whole["choices"][0]["message"]
        self.assertEqual((message["role"], whole["object"]), ("assistant", "chat.completion"))
        self.assertEqual(len(whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"]), 4)
        events = self.server.stream("/v1/chat/completions", {"messages": CHAT, **GREEDY})
        self.assertEqual(events[0][1]["choices"][0]["delta"], {"role": "assistant", "content": None})
        self.assertEqual(events[-1][1], "[DONE]")
        self.assertEqual(events[-2][1]["choices"][0]["finish_reason"], "length")
        text = "".join(data["choices"][0]["delta"].get("content") or "" for _, data in events[:-1])
        self.assertEqual(text, message["content"])

    def test_several_choices(self):
        whole = self.ok("/v1/chat/completions", {"messages": CHAT, "n": 3, "max_tokens": 4, "seed": 1, "temperature": 1.5})
        self.assertEqual([choice["index"] for choice in whole["choices"]], [0, 1, 2])
        self.assertGreater(len({choice["message"]["content"] for choice in whole["choices"]}), 1)
        self.assertLessEqual(whole["usage"]["completion_tokens"], 12)

    def test_responses(self):
        ask = {"instructions": CHAT[0]["content"], "input": CHAT[1]["content"], "temperature": 0, "max_output_tokens": 8}
        whole = self.ok("/v1/responses", ask)
        text = whole["output"][0]["content"][0]["text"]
        events = self.server.stream("/v1/responses", ask)
        names = [name for name, _ in events]
        self.assertEqual(names[:2], ["response.created", "response.in_progress"])
        self.assertEqual(names[-1], "response.completed")
        self.assertEqual([data["sequence_number"] for _, data in events], list(range(len(events))))
        self.assertEqual("".join(data["delta"] for name, data in events if name == "response.output_text.delta"), text)
        self.assertEqual(events[-1][1]["response"]["output"][0]["content"][0]["text"], text)

    def test_messages(self):
        ask = {"system": CHAT[0]["content"], "messages": CHAT[1:], "temperature": 0, "max_tokens": 8}
        whole = self.ok("/v1/messages", ask)
        self.assertEqual((whole["type"], whole["stop_reason"]), ("message", "max_tokens"))
        events = self.server.stream("/v1/messages", ask)
        names = [name for name, _ in events]
        self.assertEqual([names[0], names[1], names[-3], names[-2], names[-1]],
                         ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"])
        text = "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
        self.assertEqual(text, whole["content"][0]["text"])

    def test_stop_strings(self):
        ask = {"prompt": PROMPT, "temperature": 0, "n_predict": 24}
        text = self.ok("/completion", ask)["content"]
        # Neither begins nor ends where a token does.
        word = text[5:14]
        stopped = self.ok("/completion", {**ask, "stop": ["no such text", word]})
        self.assertEqual(stopped["content"], text[:text.index(word)])
        self.assertEqual((stopped["stop_type"], stopped["stopping_word"]), ("word", word))
        events = self.server.stream("/completion", {**ask, "stop": [word]})
        self.assertEqual("".join(data["content"] for _, data in events), text[:text.index(word)])
        # What only begins like one is not held back at the end.
        almost = self.ok("/completion", {**ask, "stop": [text[-4:] + "#"]})
        self.assertEqual(almost["content"], text)

    def test_embeddings(self):
        texts = ["a small dog", "a small cat", "the tariff of 1846"]
        answer = self.ok("/v1/embeddings", {"input": texts})
        vectors = [item["embedding"] for item in answer["data"]]
        self.assertEqual(len(vectors), 3)
        for vector in vectors:
            self.assertAlmostEqual(sum(x * x for x in vector), 1, places=4)
        coded = self.ok("/v1/embeddings", {"input": texts[0], "encoding_format": "base64"})["data"][0]["embedding"]
        data = base64.b64decode(coded)
        self.assertEqual(len(data), 4 * len(vectors[0]))
        for a, b in zip(struct.unpack(f"<{len(vectors[0])}f", data), vectors[0]):
            self.assertAlmostEqual(a, b, places=5)
        last = self.ok("/v1/embeddings", {"input": texts[0], "pooling": "last"})["data"][0]["embedding"]
        self.assertNotEqual(last, vectors[0])

    def test_grammars(self):
        answer = self.ok("/completion", {"prompt": PROMPT, "grammar": 'root ::= "yes" | "no"', "n_predict": 8, "seed": 3})
        self.assertIn(answer["content"], ("yes", "no"))
        schema = {"type": "object", "properties": {"n": {"enum": [1, 22]}, "ok": {"type": "boolean"}}, "required": ["n", "ok"],
                  "additionalProperties": False}
        answer = self.ok("/v1/chat/completions", {"messages": CHAT, "max_tokens": 60, "seed": 3, "response_format":
                         {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}})
        parsed = json.loads(answer["choices"][0]["message"]["content"])
        self.assertIn(parsed["n"], (1, 22))
        self.assertIsInstance(parsed["ok"], bool)

    def test_a_long_prompt_is_not_read_twice(self):
        prompt = " ".join(f"{i} and" for i in range(30))
        first = self.ok("/completion", {"prompt": prompt, "n_predict": 2, "id_slot": 0})
        again = self.ok("/completion", {"prompt": prompt, "n_predict": 2, "id_slot": 0})
        self.assertEqual(again["timings"]["cache_n"], first["tokens_evaluated"] - 1)
        self.assertEqual(again["timings"]["prompt_n"], 1)

    def test_prompt_progress(self):
        prompt = " ".join(f"{i} or" for i in range(40))
        events = self.server.stream("/completion", {"prompt": prompt, "n_predict": 1, "return_progress": True,
                                                    "cache_prompt": False})
        steps = [data["prompt_progress"] for _, data in events if "prompt_progress" in data]
        self.assertGreater(len(steps), 2)
        self.assertEqual(steps[0]["processed"], 0)
        self.assertEqual(steps[-1]["processed"], steps[-1]["total"])


class Drafts(Base):
    flags = ("--metrics", "--draft", "auto", "--draft-max", "6")

    @classmethod
    def setUpClass(cls):
        cls.flags = (*cls.flags, "--draft-model", MODEL)  # the model itself: most is accepted
        super().setUpClass()

    def counts(self):
        _, _, text = self.server.raw("GET", "/metrics")
        lines = [line.split() for line in text.decode().splitlines()]
        return {line[0]: float(line[1]) for line in lines if line[0].startswith("llamacpp:spec_decode")}

    def test_counts_and_timings(self):
        before = self.counts()
        answer = self.ok("/completion", {"prompt": PROMPT, "n_predict": 120, "ignore_eos": True, "temperature": 0})
        timings = answer["timings"]
        self.assertEqual(timings["predicted_n"], 120)
        self.assertGreater(timings["draft_n"], 0)
        self.assertGreater(timings["draft_n_accepted"], timings["draft_n"] // 2)
        for name, field in (("draft", "draft_n"), ("accepted", "draft_n_accepted")):
            name = f"llamacpp:spec_decode_num_{name}_tokens_total"
            self.becomes(before[name] + timings[field], lambda name=name: self.counts()[name])
        drafts = "llamacpp:spec_decode_num_drafts_total"
        self.assertGreater(self.counts()[drafts], before[drafts])

    def test_limits_and_stops(self):
        for n in (1, 2, 7, 8):
            answer = self.ok("/completion", {"prompt": PROMPT, "n_predict": n, "ignore_eos": True, "temperature": 0})
            self.assertEqual(answer["tokens_predicted"], n)
        whole = self.ok("/completion", {"prompt": PROMPT, "n_predict": 60, "ignore_eos": True, "temperature": 0})["content"]
        word = whole.split()[20]
        cut = self.ok("/completion", {"prompt": PROMPT, "n_predict": 60, "ignore_eos": True, "temperature": 0, "stop": [word]})
        self.assertNotIn(word, cut["content"])
        self.assertEqual(cut["stopping_word"], word)
        held = self.ok("/completion", {"prompt": PROMPT, "n_predict": 40, "grammar": 'root ::= ("ab" | "cd")+'})["content"]
        self.assertRegex(held, r"^(ab|cd)*[ac]?$")

    def test_several_at_once_and_one_that_hangs_up(self):
        texts = {}

        def write(i):
            texts[i] = self.ok("/completion", {"prompt": PROMPT + " and" * i, "n_predict": 40, "seed": i,
                                               "ignore_eos": True})["tokens_predicted"]
        threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        connection = self.server.connect()
        connection.request("POST", "/completion", json.dumps({"prompt": PROMPT, "n_predict": 400, "ignore_eos": True,
                                                              "stream": True}))
        connection.getresponse().read(100)
        connection.close()
        for thread in threads:
            thread.join()
        self.assertEqual(texts, {i: 40 for i in range(4)})


class Slots(Base):
    def test_saved_and_restored(self):
        ask = {"prompt": PROMPT, "temperature": 0, "n_predict": 6}
        first = self.ok("/completion", {**ask, "id_slot": 1})
        saved = self.ok("/slots/1?action=save", {"filename": "a.bin"})
        self.assertEqual(saved["n_saved"], first["tokens_evaluated"] + 5)
        self.assertEqual(os.path.getsize(os.path.join(self.folder.name, "a.bin")), saved["n_written"])
        self.ok("/slots/0?action=erase", {})
        restored = self.ok("/slots/0?action=restore", {"filename": "a.bin"})
        self.assertEqual(restored["n_restored"], saved["n_saved"])
        again = self.ok("/completion", {**ask, "id_slot": 0})
        self.assertEqual(again["content"], first["content"])
        self.assertEqual(again["timings"]["prompt_n"], 1)

    def test_what_is_no_slot_file(self):
        self.ok("/completion", {"prompt": PROMPT, "n_predict": 2, "id_slot": 1})
        self.ok("/slots/1?action=save", {"filename": "b.bin"})
        path = os.path.join(self.folder.name, "b.bin")
        with open(path, "rb") as file:
            data = file.read()
        for name, broken in (("cut", data[:len(data) // 2]), ("empty", b""), ("other", b"x" * 400)):
            with open(os.path.join(self.folder.name, name), "wb") as file:
                file.write(broken)
            error = self.refused(400, "/slots/0?action=restore", {"filename": name})
            self.assertNotIn(self.folder.name, error["message"])
        self.ok("/completion", {"prompt": PROMPT, "n_predict": 2, "id_slot": 0})

    def test_names_stay_in_the_folder(self):
        for name in ("../a", "/etc/passwd", "a/b", ".hidden", "", "a\n", "a b", "x" * 300, 7, None):
            for action in ("save", "restore"):
                self.refused(400, f"/slots/0?action={action}", {"filename": name}, "filename")
        self.refused(400, "/slots/9?action=erase", {}, "slot")
        self.refused(400, "/slots/0?action=delete", {}, "action")


class Errors(Base):
    def test_fields_are_named(self):
        ask = {"prompt": PROMPT}
        chat = {"messages": CHAT}
        for path, body, word in (
                ("/completion", {}, "prompt"),
                ("/completion", {"prompt": 7}, "prompt"),
                ("/completion", {"prompt": []}, "prompt"),
                ("/completion", {"prompt": [1, 1 << 40]}, "prompt"),
                ("/completion", {**ask, "temperature": "hot"}, "temperature"),
                ("/completion", {**ask, "top_p": 2}, "top_p"),
                ("/completion", {**ask, "n_predict": 1.5}, "n_predict"),
                ("/completion", {**ask, "stop": [1]}, "stop"),
                ("/completion", {**ask, "stop": ["x"] * 1000}, "stop"),
                ("/completion", {**ask, "logit_bias": "x"}, "logit_bias"),
                ("/completion", {**ask, "id_slot": 99}, "id_slot"),
                ("/completion", {**ask, "grammar": "root ::= ("}, "grammar"),
                ("/v1/chat/completions", {}, "messages"),
                ("/v1/chat/completions", {"messages": "hello"}, "messages"),
                ("/v1/chat/completions", {"messages": [{"role": 1}]}, "messages[0].role"),
                ("/v1/chat/completions", {**chat, "n": 0}, "'n'"),
                ("/v1/chat/completions", {**chat, "stream": "yes"}, "stream"),
                ("/v1/chat/completions", {**chat, "tools": [{}]}, "tool 1"),
                ("/v1/chat/completions", {**chat, "tool_choice": "x"}, "tool_choice"),
                ("/v1/chat/completions", {**chat, "response_format": {"type": "x"}}, "response_format"),
                ("/v1/chat/completions", {**chat, "top_logprobs": 2}, "top_logprobs"),
                ("/v1/responses", {}, "input"),
                ("/v1/responses", {"input": "x", "previous_response_id": "y"}, "previous_response_id"),
                ("/v1/messages", {"max_tokens": 1}, "messages"),
                ("/v1/embeddings", {}, "input"),
                ("/v1/embeddings", {"input": "x", "encoding_format": "y"}, "encoding_format"),
                ("/tokenize", {}, "content"),
                ("/detokenize", {"tokens": ["x"]}, "tokens")):
            with self.subTest(path=path, body=body):
                self.refused(400, path, body, word)

    def test_what_is_not_there(self):
        self.refused(404, "/v1/nothing", {})
        self.refused(405, "/v1/models", {})
        self.refused(501, "/infill", {"input_prefix": "a", "input_suffix": "b"})
        self.refused(501, "/metrics", None)

    def test_prompts_that_are_too_long(self):
        error = self.refused(400, "/completion", {"prompt": "word " * 3000})
        self.assertEqual(error["type"], "exceed_context_size_error")
        self.assertEqual(error["n_ctx"], 256)
        self.assertGreater(error["n_prompt_tokens"], 256)

    def test_hostile_json(self):
        for body in (b"{", b"[]", b"\xff\xfe", b'{"prompt": ' + b"[" * 100000, b'{"prompt":"x","a":' + b"[" * 70 + b"]" * 70 + b"}",
                     b"{" + b",".join(b'"%d":1' % i for i in range(5000)) + b"}"):
            status, _, text = self.server.raw("POST", "/completion", body)
            self.assertEqual(status, 400, text[:200])
            self.assertIn("error", json.loads(text))

    def send(self, data):
        """Sends bytes, and returns all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            connection.sendall(data)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer

    def test_hostile_http(self):
        for data, status in ((b"GARBAGE\r\n\r\n", b"400"),
                             (b"GET /health HTTP/1.1\r\nA: " + b"x" * 100000 + b"\r\n\r\n", b"431"),
                             (b"GET /health HTTP/1.1\r\n" + b"A: x\r\n" * 500 + b"\r\n", b"431"),
                             (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n", b"414"),
                             (b"GET /%zz HTTP/1.1\r\n\r\n", b"400"),
                             (b"POST /completion HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
                             (b"POST /completion HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", b"400")):
            with self.subTest(data=data[:60]):
                self.assertEqual(self.send(data).split(b" ")[1][:3], status)

    def test_an_http_1_0_client(self):
        answer = self.send(b"GET /health HTTP/1.0\r\n\r\n")
        self.assertTrue(answer.endswith(b'{"status":"ok"}'), answer)
        body = json.dumps({"prompt": PROMPT, "n_predict": 3, "stream": True}).encode()
        answer = self.send(b"POST /completion HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head, _, text = answer.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertTrue(parse_events(text.decode())[-1][1]["stop"])


class Connections(Base):
    def busy(self):
        return sum(slot["is_processing"] for slot in self.ok("/slots"))

    def wait_until(self, condition, what):
        until = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.02)

    def test_keep_alive(self):
        connection = self.server.connect()
        sockets = set()
        for _ in range(3):
            connection.request("GET", "/health")
            self.assertEqual(connection.getresponse().read(), b'{"status":"ok"}')
            sockets.add(connection.sock.getsockname())
        self.assertEqual(len(sockets), 1)
        connection.close()

    def test_expect_continue(self):
        body = json.dumps({"content": "x"}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            connection.sendall(b"POST /tokenize HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 100"))
            connection.sendall(body)
            self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 200"))

    def test_a_client_that_hangs_up_is_cancelled(self):
        endless = json.dumps({"prompt": PROMPT, "n_predict": 230, "ignore_eos": True})
        for stream in (False, True):
            connection = self.server.connect()
            connection.request("POST", "/completion", endless if not stream else endless[:-1] + ', "stream": true}')
            if stream:
                connection.getresponse().read(10)
            else:
                self.wait_until(lambda: self.busy() > 0, "nothing runs")
            connection.close()
            self.wait_until(lambda: self.busy() == 0, "it was not cancelled")

    def test_more_than_slots(self):
        connections = [self.server.connect() for _ in range(6)]
        for connection in connections:
            connection.request("POST", "/completion", json.dumps({"prompt": PROMPT, "n_predict": 10, "temperature": 0}))
        texts = {json.loads(connection.getresponse().read())["content"] for connection in connections}
        for connection in connections:
            connection.close()
        self.assertEqual(len(texts), 1)


class Access(Base):
    flags = ("--api-key", "first,second", "--no-slots", "--no-webui", "--no-warmup")

    def test_keys(self):
        body = {"content": "x"}
        for headers, status in (({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Bearer firs"}, 401),
                                ({"Authorization": "Bearer first"}, 200), ({"X-Api-Key": "second"}, 200),
                                ({"Authorization": "Basic first"}, 401)):
            found, answer = self.server.ask("/tokenize", body, headers)
            self.assertEqual(found, status, answer)
        self.assertEqual(self.server.ask("/health")[0], 200)
        self.assertEqual(self.server.ask("/v1/models")[0], 401)
        self.assertEqual(self.server.ask("/", None, {})[0], 404)
        self.assertEqual(self.server.ask("/slots", None, {"X-Api-Key": "first"})[0], 501)

    def test_preflight(self):
        status, headers, _ = self.server.raw("OPTIONS", "/v1/models", None, {"Origin": "https://example.org"})
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (200, "https://example.org"))


class OtherSites(Base):
    def test_pages_of_other_sites(self):
        own = f"127.0.0.1:{self.server.port}"
        for headers, status in (({"Origin": "https://example.org"}, 403), ({"Origin": "http://" + own}, 200),
                                ({"Host": "example.org"}, 403), ({"Host": f"localhost:{self.server.port}"}, 200),
                                ({"Host": "[::1]"}, 200)):
            self.assertEqual(self.server.raw("GET", "/v1/models", None, headers)[0], status, headers)
        _, headers, _ = self.server.raw("OPTIONS", "/v1/models", None, {"Origin": "https://example.org"})
        self.assertNotIn("Access-Control-Allow-Origin", headers)


class Ending(unittest.TestCase):
    def test_what_runs_may_end(self):
        with Server(PROGRAM, MODEL, "-c", "256", "-np", "1") as server:
            connection = server.connect()
            connection.request("POST", "/v1/completions", json.dumps(
                {"prompt": PROMPT, "max_tokens": 200, "ignore_eos": True, "stream": True}))
            response = connection.getresponse()
            begin = response.read(200)
            server.process.send_signal(signal.SIGTERM)
            events = parse_events((begin + response.read()).decode())
            connection.close()
            self.assertEqual(events[-1][1], "[DONE]")
            self.assertEqual(sum(1 for _, data in events[:-1] if data["choices"][0]["finish_reason"]), 1)
            self.assertEqual(server.process.wait(timeout=60), 0)

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with self.assertRaisesRegex(RuntimeError, "cannot listen"):
                Server(PROGRAM, MODEL, "--port", str(taken.getsockname()[1])).__enter__()


if __name__ == "__main__":
    PROGRAM, MODEL = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
