"""Starts `thermocline serve` for tests, and talks to it with Python's own library."""

import http.client
import json
import os
import re
import signal
import subprocess
import threading


class Server:
    """A server on a free port. Use as a context manager."""

    def __init__(self, program, model, *flags):
        self.command = [program, "serve", "-m", model, "--port", "0", *flags]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.lines = []
        self.port = None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"ready: http://.*:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        if self.port is None:
            raise RuntimeError(f"the server did not start: {self.process.wait()}: {''.join(self.lines)}")
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr))
        self.reader.start()
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self, method, path, body=None, headers=None):
        """(status, headers, bytes)"""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def ask(self, path, body=None, headers=None):
        """(status, parsed JSON) of a GET, or of a POST where there is a body."""
        method = "GET" if body is None else "POST"
        data = None if body is None else json.dumps(body)
        status, _, text = self.raw(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        return status, json.loads(text)

    def stream(self, path, body):
        """The events of a stream: [(name or None, parsed data or "[DONE]")]."""
        status, headers, text = self.raw("POST", path, json.dumps({**body, "stream": True}))
        if status != 200:
            raise AssertionError(f"{status}: {text!r}")
        assert headers["Content-Type"].startswith("text/event-stream"), headers
        return parse_events(text.decode())

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def parse_events(text):
    events = []
    for block in text.split("\n\n"):
        name, data = None, None
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line[7:]
            if line.startswith("data: "):
                data = line[6:]
        if data is not None:
            events.append((name, data if data == "[DONE]" else json.loads(data)))
    return events
