#!/usr/bin/env python3
"""The pages that `profile --report`, `place --report` and `bench --report` write.

    report_pages_test.py THERMOCLINE FOLDER_OF_THE_EMBEDDED_MODEL [--browser]

Each page is XML, needs nothing from outside and has a table behind every picture, whose numbers agree with what the verb
prints. With --browser, headless Chromium also draws them for a desktop, a phone, a dark screen and paper; exit code 77
where there is no Chromium.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
import zlib

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HTML = "{http://www.w3.org/1999/xhtml}"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def make_pages(program, demo, folder):
    model = os.path.join(demo, "classics-9m-relu-q8_0.gguf")
    path = lambda name: os.path.join(folder, name)  # noqa: E731
    printed = {
        "profile": run(program, "profile", "-m", model, "-f", os.path.join(demo, "calibration.txt"), "--max-tokens",
                       "1500", "--vram", "10M", "--ram", "1G", "-o", path("p.profile.gguf"), "--placement",
                       path("p.placement.gguf"), "--drift", os.path.join(demo, "README.md"), "--report",
                       path("profile.html")),
        "place": run(program, "place", "-m", model, "--profile", path("p.profile.gguf"), "--hot", "20%", "-o",
                     path("h.placement.gguf"), "--report", path("place.html")),
        "bench": run(program, "bench", "-m", model, "--prompts", "1", "--prompt-tokens", "8", "-n", "8",
                     "--no-bandwidth", "--profile", path("p.profile.gguf"), "--report", path("bench.html")),
    }
    return {name: (path(name + ".html"), text) for name, text in printed.items()}


def png_pixels(path):
    """Rows of (r, g, b) of a PNG with 8 bits a channel, as Chromium writes them."""
    data = open(path, "rb").read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8 and colour in (2, 6)
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        at += 12 + size
    raw = zlib.decompress(packed)
    stride = width * channels
    previous = bytearray(stride)
    rows = []
    for y in range(height):
        filtering = raw[y * (stride + 1)]
        line = bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left = line[i - channels] if i >= channels else 0
            up, corner = previous[i], previous[i - channels] if i >= channels else 0
            if filtering == 1:
                line[i] = (line[i] + left) & 255
            elif filtering == 2:
                line[i] = (line[i] + up) & 255
            elif filtering == 3:
                line[i] = (line[i] + (left + up) // 2) & 255
            elif filtering == 4:
                guess = left + up - corner
                nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))
                line[i] = (line[i] + nearest[2]) & 255
        rows.append([tuple(line[x * channels:x * channels + 3]) for x in range(width)])
        previous = line
    return rows


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.pages = make_pages(PROGRAM, DEMO, cls.folder)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def each(self):
        for name, (path, printed) in self.pages.items():
            with self.subTest(name):
                yield name, path, open(path, encoding="utf-8").read(), printed

    def test_nothing_comes_from_outside(self):
        for _, _, text, _ in self.each():
            self.assertIsNone(re.search(r"<script|src=|href=|url\(|@import|//\w", text))

    def test_every_picture_has_its_numbers(self):
        for _, _, text, _ in self.each():
            root = ET.fromstring(text.replace("<!DOCTYPE html>", ""))
            figures = root.findall(".//figure")
            self.assertGreaterEqual(len(figures), 2)
            for section in root.findall(".//section"):
                if section.find("figure") is None:
                    continue
                self.assertIsNotNone(section.find("figure/svg").get("aria-label"))
                self.assertGreaterEqual(len(section.findall(".//tbody/tr")), 2)

    def test_numbers_are_those_that_are_printed(self):
        def cells(name, row):
            root = ET.fromstring(open(self.pages[name][0], encoding="utf-8").read().replace("<!DOCTYPE html>", ""))
            rows = [["".join(cell.itertext()) for cell in line] for line in root.findall(".//tbody/tr")]
            return [line for line in rows if line[0] == row]
        for name in ("profile", "place"):
            printed = self.pages[name][1]
            total = cells(name, "total")[-1]
            line = next(line for line in printed.splitlines() if line.startswith("total") and "%" in line)
            for share in total[1:3] + total[4:6]:
                self.assertIn(share, line)
        dense = cells("bench", "dense")
        self.assertEqual(len(dense), 3)
        decode = next(line for line in self.pages["bench"][1].splitlines() if line.startswith("decode tokens/s"))
        median = float(decode.split()[2])
        self.assertAlmostEqual(float(dense[0][1].split()[0]), median, delta=0.51)

    def test_a_page_is_not_written_over_what_is_read(self):
        model = os.path.join(DEMO, "classics-9m-relu-q8_0.gguf")
        done = subprocess.run([PROGRAM, "bench", "-m", model, "--report", model], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is read", done.stderr)


class Browser(Pages):
    def draw(self, page, name, *options):
        picture = os.path.join(self.folder, name + ".png")
        run(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}", *options,
            "file://" + page)
        return png_pixels(picture)

    def test_light_and_dark_and_small(self):
        for name, path, _, _ in self.each():
            light = self.draw(path, name + "-light", "--window-size=1000,500")
            dark = self.draw(path, name + "-dark", "--window-size=1000,500", "--blink-settings=preferredColorScheme=0")
            self.assertGreater(min(light[2][2]), 240)
            self.assertLess(max(dark[2][2]), 60)
            # Something is drawn, and in colours.
            for rows in (light, dark):
                colours = {pixel for row in rows[::3] for pixel in row[::3]}
                self.assertGreater(sum(max(c) - min(c) > 60 for c in colours), 1)

    def test_nothing_is_wider_than_a_phone(self):
        for name, path, text, _ in self.each():
            probe = os.path.join(self.folder, name + "-probe.html")
            script = ("<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script>")
            with open(probe, "w", encoding="utf-8") as file:
                file.write(text.replace("</body>", script + "</body>"))
            dom = run(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--window-size=390,800",
                      "file://" + probe)
            width, room = map(int, re.search(r"<title>(\d+) of (\d+)</title>", dom).groups())
            self.assertLessEqual(width, room)

    def test_paper(self):
        for name, path, _, _ in self.each():
            paper = os.path.join(self.folder, name + ".pdf")
            run(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={paper}", "file://" + path)
            self.assertGreater(os.path.getsize(paper), 5000)


if __name__ == "__main__":
    PROGRAM, DEMO = sys.argv[1:3]
    BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
    with_browser = "--browser" in sys.argv
    if with_browser and BROWSER is None:
        print("skipped: no Chromium on this machine (Debian's package chromium)")
        sys.exit(77)
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(Browser if with_browser else Pages)
    if with_browser:
        tests = unittest.TestSuite(test for test in tests if not hasattr(Pages, test._testMethodName))
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful())
