#!/usr/bin/env python3
"""Random clients against `thermocline serve`: cancelled, slow, broken, huge, hostile ones, many at a time.

    soak_test.py THERMOCLINE MODEL [--seconds 10 | --minutes 10] [--connections 12] [--seed 1]

Whatever they do, an answer has a status that is right for the request, the server goes on, and what they took is given back: no
slot stays busy, no page of the KV cache stays in use, and memory does not grow from the first quarter on. Minutes of it, under
a sanitizer's build, are for hand: --minutes 10 --connections 50.
"""

import argparse
import collections
import json
import os
import random
import socket
import threading
import time

from serving import Server, parse_events

WORDS = ("the of and to a in that it was his he with as for had you not be her is but at on she what which all were they my"
         ).split()
FULL = (429, 503)  # the queue or the connections are: right whenever it is busy


def text(rng, most):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


class Client:
    def __init__(self, server, seed, counts):
        self.server, self.rng, self.counts = server, random.Random(seed), counts

    def expect(self, what, status, allowed):
        self.counts[f"{what} {status}"] += 1
        if status not in allowed and status not in FULL:
            raise AssertionError(f"{what}: status {status}, expected one of {allowed}")

    def act(self):
        getattr(self, self.rng.choice(ACTS))()

    def body(self, **more):
        return {"prompt": text(self.rng, 40), "n_predict": self.rng.randint(1, 24), "temperature": self.rng.choice([0, 0.8]),
                "cache_prompt": self.rng.random() < 0.8, **more}

    def whole(self):
        status, answer = self.server.ask("/completion", self.body(n=self.rng.choice([1, 1, 2])))
        self.expect("whole", status, (200,))
        if status == 200:
            assert (answer if isinstance(answer, dict) else answer[0])["stop"], answer

    def chat(self):
        status, _, data = self.server.raw("POST", "/v1/chat/completions", json.dumps(
            {"messages": [{"role": "user", "content": text(self.rng, 30)}], "max_tokens": 12, "stream": True}))
        self.expect("chat", status, (200,))
        if status == 200:
            last = parse_events(data.decode())[-1][1]
            # The queue may have filled after the stream began.
            assert last == "[DONE]" or last["error"]["code"] in FULL, data[-300:]

    def cancelled(self):
        connection = self.server.connect()
        connection.request("POST", "/completion", json.dumps(self.body(n_predict=200, stream=self.rng.random() < 0.5)))
        time.sleep(self.rng.random() * 0.3)
        connection.close()
        self.counts["cancelled"] += 1

    def slow(self):
        """Reads a stream a few bytes at a time, and leaves in the middle."""
        connection = self.server.connect()
        connection.request("POST", "/completion", json.dumps(self.body(stream=True)))
        response = connection.getresponse()
        self.expect("slow", response.status, (200,))
        for _ in range(self.rng.randint(1, 20)):
            if not response.read(16):
                break
            time.sleep(0.02)
        connection.close()

    def huge(self):
        status, _ = self.server.ask("/completion", self.body(prompt=text(self.rng, 20000) + " end " * 2000))
        self.expect("huge", status, (400,))

    def constrained(self):
        status, answer = self.server.ask("/completion", self.body(json_schema={"enum": ["a", "bc", 7]}, n_predict=12))
        self.expect("constrained", status, (200,))
        if status == 200:
            assert json.loads(answer["content"]) in ("a", "bc", 7), answer

    def broken(self):
        body = json.dumps(self.body()).encode()
        cut = bytearray(body)
        for _ in range(self.rng.randint(1, 4)):
            cut[self.rng.randrange(len(cut))] = self.rng.randrange(256)
        status, _, _ = self.server.raw("POST", "/completion", bytes(cut[:self.rng.randint(1, len(cut))]))
        self.expect("broken", status, (200, 400, 500) if b"prompt" in cut else (400,))

    def hostile(self):
        data = self.rng.choice([
            b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"POST /completion HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /completion HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST /completion HTTP/1.1\r\nContent-Length: 10\r\n\r\n{", b"GET /slots/..%2f..%2fetc HTTP/1.1\r\n\r\n",
            bytes(self.rng.randrange(256) for _ in range(200))])
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            connection.sendall(data)
            connection.settimeout(0.3)
            try:
                while connection.recv(4096):
                    pass
            except (TimeoutError, ConnectionError):
                pass
        self.counts["hostile"] += 1

    def looks(self):
        for path in ("/health", "/props", "/slots", "/metrics", "/live", "/v1/models"):
            status, _, _ = self.server.raw("GET", path)
            self.expect("looks", status, (200,))

    def embeds(self):
        status, _ = self.server.ask("/v1/embeddings", {"input": [text(self.rng, 20) for _ in range(3)]})
        self.expect("embeds", status, (200,))


ACTS = [name for name, member in vars(Client).items() if not name.startswith("_") and name not in ("expect", "act", "body")
        and callable(member)]


def idle(server):
    return not any(slot["is_processing"] for slot in server.ask("/slots")[1])


def main():
    # AddressSanitizer keeps up to 256 MiB of what was freed, which is no growth of the server's.
    os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8"
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--minutes", type=float, help="in place of --seconds")
    parser.add_argument("--clients", "--connections", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.seconds = args.seconds if args.minutes is None else 60 * args.minutes
    counts, failures, sizes = collections.Counter(), [], []
    with Server(args.program, args.model, "-c", "1024", "-np", "4", "--metrics", "--queue", "16",
                "--kv-host", "64M", "--draft", "ngram") as server:
        until = time.monotonic() + args.seconds

        def work(number):
            client = Client(server, args.seed * 1000 + number, counts)
            while time.monotonic() < until and not failures:
                try:
                    client.act()
                except Exception as error:  # pylint: disable=broad-except
                    if server.process.poll() is not None or not isinstance(error, (ConnectionError, TimeoutError)):
                        failures.append(f"client {number}: {type(error).__name__}: {error}")
                    else:
                        counts[type(error).__name__] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(args.clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(args.seconds / 20)
            sizes.append(server.resident_bytes())
        for thread in threads:
            thread.join()
        assert not failures, failures[:3]
        give_up = time.monotonic() + 60
        while not idle(server):
            assert time.monotonic() < give_up, "a slot stays busy"
            time.sleep(0.05)
        pages = server.ask("/live")[1]["pages"]
        held = sum(slot["n_tokens"] for slot in server.ask("/slots")[1])
        print(dict(counts))
        print(f"pages {pages}, {held} tokens in slots, resident {sizes[0] >> 20} .. {max(sizes) >> 20} MiB")
        for slot in range(4):
            server.ask(f"/slots/{slot}?action=erase", {})
        server.ask("/completion", {"prompt": "x", "n_predict": 1, "cache_prompt": False, "id_slot": 0})
        server.ask("/slots/0?action=erase", {})
        for each in server.ask("/live")[1]["pages"]:
            assert each["total"] - each["free"] - each["kept"] == 0, f"pages stay in use: {each}"
        quarter = max(sizes[:max(1, len(sizes) // 4)])
        assert max(sizes) < quarter + (96 << 20), f"memory grows: {[size >> 20 for size in sizes]} MiB"
    assert server.process.returncode == 0, f"the server ended with {server.process.returncode}"


if __name__ == "__main__":
    main()
