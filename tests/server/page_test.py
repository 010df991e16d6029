#!/usr/bin/env python3
"""The page of `thermocline serve`, in headless Chromium over its debugging protocol.

    page_test.py THERMOCLINE MODEL [--pictures FOLDER]

Exit code 77 where there is no Chromium. The page chats with a real server; what a model could write to harm it is put into its
markdown directly.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from serving import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Socket:
    """A WebSocket client, as far as the debugging protocol needs one."""

    def __init__(self, port, path):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.connection.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                                 "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.connection.recv(1)

    def take(self, n):
        data = b""
        while len(data) < n:
            piece = self.connection.recv(n - len(data))
            if not piece:
                raise ConnectionError("the browser hung up")
            data += piece
        return data

    def send(self, text):
        data = text.encode()
        mask = os.urandom(4)
        size = struct.pack(">BBH", 0x81, 0xFE, len(data)) if len(data) < 1 << 16 else struct.pack(">BBQ", 0x81, 0xFF, len(data))
        self.connection.sendall(size + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def receive(self):
        text = b""
        while True:
            first, second = self.take(2)
            size = second & 127
            if size == 126:
                size, = struct.unpack(">H", self.take(2))
            elif size == 127:
                size, = struct.unpack(">Q", self.take(8))
            text += self.take(size)
            if first & 0x80:
                return text.decode()


class Browser:
    def __init__(self, program):
        self.folder = tempfile.mkdtemp()
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars",
             f"--user-data-dir={self.folder}", "about:blank"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        port_file = os.path.join(self.folder, "DevToolsActivePort")
        until, lines = time.monotonic() + 60, []
        while not (lines and lines[0].endswith("\n")):
            assert time.monotonic() < until, "the browser did not start"
            time.sleep(0.05)
            if os.path.exists(port_file):
                with open(port_file, encoding="ascii") as file:
                    lines = file.readlines()
        self.port = int(lines[0])
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/json")
        pages = json.loads(connection.getresponse().read())
        connection.close()
        page = next(page for page in pages if page["type"] == "page")
        self.socket = Socket(self.port, page["webSocketDebuggerUrl"].split(str(self.port), 1)[1])
        self.n, self.events = 0, []

    def close(self):
        self.socket.connection.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, **parameters):
        self.n += 1
        self.socket.send(json.dumps({"id": self.n, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == self.n:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script, what):
        until = time.monotonic() + 60
        while not self.run(script):
            assert time.monotonic() < until, what
            time.sleep(0.05)

    def picture(self, name):
        if PICTURES:
            data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
            with open(os.path.join(PICTURES, name + ".png"), "wb") as file:
                file.write(data)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, MODEL, "-c", "512", "-np", "2", "--alias", "tiny", "-n", "48")
        cls.server.__enter__()
        cls.browser = Browser(BROWSER)
        cls.browser.call("Page.enable")
        cls.browser.call("Runtime.enable")
        cls.browser.call("Log.enable")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.__exit__()

    def open(self, width=1100, height=800, dark=False, forget=True):
        browser = self.browser
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
        browser.call("Emulation.setEmulatedMedia",
                     features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        url = f"http://127.0.0.1:{self.server.port}/"
        if forget:
            browser.call("Storage.clearDataForOrigin", origin=url[:-1], storageTypes="all")
        browser.call("Page.navigate", url=url)
        browser.wait("document.readyState === 'complete' && document.querySelector('#model').textContent === 'tiny'",
                     "the page did not load")

    def say(self, text):
        self.browser.run(f"(() => {{ const i = document.querySelector('#input'); i.value = {json.dumps(text)};"
                         "i.dispatchEvent(new Event('input')); document.querySelector('#composer').requestSubmit(); })()")

    def written(self):
        self.browser.wait("document.querySelector('#stop').hidden && document.querySelector('.message.assistant .note') !== null",
                          "no reply came")

    def count(self, selector):
        return self.browser.run(f"document.querySelectorAll({json.dumps(selector)}).length")

    def test_chat(self):
        self.open()
        self.say("Tell me of the sea.")
        self.written()
        self.assertEqual((self.count(".message.user"), self.count(".message.assistant")), (1, 1))
        self.assertGreater(len(self.browser.run("document.querySelector('.assistant .body').textContent")), 10)
        self.assertIn("tokens/s", self.browser.run("document.querySelector('.assistant .note').textContent"))
        self.browser.picture("chat-light")
        # Regenerated, edited, kept in the browser.
        self.browser.run("[...document.querySelectorAll('.assistant button')].find(b => b.textContent === 'Regenerate').click()")
        self.written()
        self.assertEqual(self.count(".message"), 2)
        self.browser.run("[...document.querySelectorAll('.user button')].find(b => b.textContent === 'Edit').click()")
        self.browser.run("(() => { const a = document.querySelector('.message textarea'); a.value = 'And of the land?';"
                         "a.parentElement.querySelector('button.main').click(); })()")
        self.written()
        self.assertEqual(self.browser.run("document.querySelector('.user .body').textContent"), "And of the land?")
        self.open(dark=True, forget=False)
        self.assertEqual(self.count("#chats li"), 1)
        self.browser.run("document.querySelector('#chats button').click()")
        self.assertEqual(self.count(".message"), 2)
        self.browser.picture("chat-dark")

    def test_stop_by_key(self):
        self.open()
        self.say("Go on for long.")
        self.browser.wait("!document.querySelector('#stop').hidden", "nothing is written")
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", windowsVirtualKeyCode=27)
        self.browser.wait("document.querySelector('#stop').hidden", "it was not stopped")

    def test_enter_sends(self):
        self.open()
        self.browser.run("document.querySelector('#input').focus()")
        self.browser.call("Input.insertText", text="Hello")
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", windowsVirtualKeyCode=13, text="\r")
        self.browser.wait("document.querySelectorAll('.message.user').length === 1", "Enter does not send")
        self.written()

    def test_live(self):
        self.open()
        self.browser.run("document.querySelector('#show-live').click()")
        self.say("Tell me of the sea.")
        self.written()
        self.browser.wait("document.querySelector('#live-fired').textContent.includes('%')", "no neurons are shown")
        self.assertGreater(self.count("#live-heat div"), 1)
        self.assertGreater(self.count("#live-pages span"), 0)
        self.browser.picture("live")

    def render(self, text):
        """What a reply of this text becomes: a fake answer of the server, in the page's own code."""
        stream = "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}) + "\n\n"
        self.browser.run("(() => { const real = window.fetch; window.fetch = (url, o) => url === '/v1/chat/completions' ?"
                         f"Promise.resolve(new Response({json.dumps(stream)})) : real(url, o); }})()")
        self.say("x")
        self.browser.wait("document.querySelector('#stop').hidden && document.querySelector('.assistant .body').children.length > 0",
                          "nothing was drawn")

    def test_what_a_model_writes_is_text(self):
        self.open()
        evil = ("<img src=x onerror=\"window.evil = 1\"> <script>window.evil = 2</script>\n\n[a](javascript:window.evil=3) "
                "[b](https://example.org/\"onmouseover=\"evil) `<b>` **<i>x</i>**\n\n```<svg onload=window.evil=4>\n</pre>"
                "<script>window.evil=5</script>\n```\n\n| <u>a</u> | b |\n|---|---|\n| <script>1</script> | 2 |\n")
        self.render(evil)
        body = "document.querySelector('.assistant .body')"
        self.assertEqual(self.count(".assistant .body :is(img, script, svg, iframe, u, i, b)"), 0)
        self.assertIsNone(self.browser.run("window.evil"))
        self.assertIn("<script>window.evil = 2</script>", self.browser.run(body + ".textContent"))
        links = self.browser.run(f"[...{body}.querySelectorAll('a')].map(a => a.href)")
        self.assertTrue(all(link.startswith("https://") for link in links), links)

    def test_markdown(self):
        self.open()
        self.render("# Title\n\nSome **bold**, *slanted* and `code`, and a [link](https://example.org).\n\n- one\n- two\n  - deeper\n\n"
                    "1. first\n2. second\n\n> quoted\n\n```python\nprint('x < y')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\nend_of_text")
        for selector, n in (("h2", 1), ("strong", 1), ("em", 1), ("ul", 2), ("ol > li", 2), ("blockquote", 1), (".block code", 1),
                            ("td", 2), ("hr", 1), ("a[rel~=noopener]", 1)):
            self.assertEqual(self.count(".assistant .body " + selector), n, selector)
        self.browser.picture("markdown")

    def test_a_phone(self):
        self.open(width=390, height=800)
        self.browser.run("document.querySelector('#show-live').click()")
        self.render("word " * 40 + "\n\n```\n" + "x" * 400 + "\n```\n\n|" + " cell |" * 30 + "\n|" + "---|" * 30 + "\n|" + " 1 |" * 30)
        self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 390)
        self.browser.picture("phone")
        self.browser.run("document.querySelector('#show-side').click()")
        self.assertTrue(self.browser.run("document.querySelector('#side').offsetWidth > 100"))
        self.browser.run("document.querySelector('#show-settings').click()")
        self.browser.picture("phone-settings")
        self.assertLessEqual(self.browser.run("document.querySelector('#settings').getBoundingClientRect().right"), 390)

    def test_settings(self):
        self.open()
        self.browser.run("document.querySelector('#show-settings').click();"
                         "document.querySelector('[name=theme]').value = 'dark';"
                         "document.querySelector('[name=max_tokens]').value = '3'; document.querySelector('button[value=save]').click()")
        # A dialog's closing is an event of its own: it comes after the click.
        self.browser.wait("document.documentElement.dataset.theme === 'dark'", "the colours were not taken")
        self.say("Hello")
        self.written()
        self.assertIn("3 tokens", self.browser.run("document.querySelector('.assistant .note').textContent"))

    def test_z_nothing_went_wrong(self):
        wrong = [event for event in self.browser.events if event["method"] == "Runtime.exceptionThrown" or
                 (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    PROGRAM, MODEL = sys.argv[1:3]
    PICTURES = sys.argv[4] if sys.argv[3:4] == ["--pictures"] else None
    BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
    if BROWSER is None:
        print("skipped: no Chromium on this machine (Debian's package chromium)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
