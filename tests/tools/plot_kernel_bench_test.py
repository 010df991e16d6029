#!/usr/bin/env python3
"""Runs tools/plot_kernel_bench: plot_kernel_bench_test.py SCRIPT SAMPLE_JSON."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

SVG = "{http://www.w3.org/2000/svg}"
EXPECTED = {"attention.svg", *(f"density_{kernel}_{dtype}.svg" for kernel in ("matvec", "accumulate")
                               for dtype in ("Q4_0", "F16")),
            *(f"{what}_{kernel}.svg" for what in ("types", "row_size") for kernel in ("matvec", "accumulate")),
            *(f"gpu_{kind}.svg" for kind in ("gate_up", "down", "attention", "matvec"))}


def run(*arguments):
    return subprocess.run([sys.executable, "-B", SCRIPT, *arguments], capture_output=True, text=True, timeout=60)


def end_labels(root):
    return [(text.text, float(text.get("y"))) for text in root.iter(SVG + "text")
            if text.get("class", "").startswith("c")]


class PlotTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def draw(self, path=None):
        result = run(path or SAMPLE, self.directory)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(set(result.stdout.split()), set(os.listdir(self.directory)))
        return {name: ElementTree.parse(os.path.join(self.directory, name)).getroot()
                for name in os.listdir(self.directory)}

    def test_draws_each_chart_with_titles_units_and_a_label_per_line(self):
        charts = self.draw()
        self.assertEqual(set(charts), EXPECTED)
        for name, root in charts.items():
            texts = [text.text for text in root.iter(SVG + "text")]
            lines = [path for path in root.iter(SVG + "path") if path.get("class").startswith("line")]
            with self.subTest(name):
                self.assertIn("% of the read bandwidth, measured beside each point: 10 to 12 GB/s", texts)
                self.assertTrue(any("(logarithmic)" in text for text in texts))
                # The most threads in the file.
                self.assertIn("on the GPU" if name.startswith("gpu_") else "2 threads", texts[0])
                self.assertEqual(len(end_labels(root)), len(lines))
                self.assertGreater(len(lines), 1)
                self.assertIn("prefers-color-scheme: dark", "".join(root.itertext()))

    def test_lines_hold_the_measured_points(self):
        root = self.draw()["density_matvec_Q4_0.svg"]
        self.assertEqual([label for label, _ in sorted(end_labels(root), key=lambda label: label[1])],
                         ["runs of 32", "rows apart"])
        for path in root.iter(SVG + "path"):
            if not path.get("class").startswith("line"):
                continue
            points = [tuple(map(float, part.split())) for part in path.get("d")[1:].split("L")]
            self.assertEqual(len(points), 3)  # 1, 10 and 100 %
            self.assertTrue(all(a[0] < b[0] and a[1] > b[1] for a, b in zip(points, points[1:])))

    def test_lines_of_the_gpu_are_types_and_the_other_number_of_rows_is_a_line_of_its_own(self):
        charts = self.draw()
        self.assertEqual({label for label, _ in end_labels(charts["gpu_down.svg"])}, {"Q4_0", "Q6_K"})
        matvec = charts["gpu_matvec.svg"]
        self.assertEqual({label for label, _ in end_labels(matvec)}, {"Q6_K", "Q6_K, 11008 rows"})
        points = [path.get("d").count("L") + 1 for path in matvec.iter(SVG + "path")
                  if path.get("class").startswith("line")]
        self.assertEqual(sorted(points), [1, 2])

    def test_no_text_overlaps_another_label_or_leaves_the_picture(self):
        for name, root in self.draw().items():
            with self.subTest(name):
                _, _, width, height = map(float, root.get("viewBox").split())
                heights = sorted(y for _, y in end_labels(root))
                self.assertTrue(all(b - a >= 14.9 for a, b in zip(heights, heights[1:])), heights)
                for text in root.iter(SVG + "text"):
                    length = 7.6 * len(text.text)  # 13 px letters are about 7 wide
                    start = float(text.get("x")) - {"middle": length / 2, "end": length}.get(
                        text.get("text-anchor"), 0)
                    self.assertGreaterEqual(start, 0)
                    self.assertLessEqual(start + length, width, text.text)
                    self.assertTrue(10 < float(text.get("y")) < height)

    def write(self, text):
        path = os.path.join(self.directory, "in.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_a_wrong_file_is_one_clear_line(self):
        with open(SAMPLE, encoding="utf-8") as file:
            good = json.load(file)
        no_share = {"benchmarks": [{"name": good["benchmarks"][0]["name"]}]}
        no_roof = {"benchmarks": [{"name": good["benchmarks"][0]["name"], "p50_roof": 1, "roof_GBs": None}]}
        unknown = {"benchmarks": [{"name": "attention/Q9/context:8/group:1/threads:1", "p50_roof": 1,
                                   "roof_GBs": 1}]}
        cases = {
            "name,cpu\n": "is not JSON",
            "[1, 2]": "has no list of benchmarks",
            "{}": "has no list of benchmarks",
            json.dumps({"benchmarks": [{"name": "ops/add/L1"}, 3]}): "has no measurements named sweep/",
            json.dumps(no_share): "has no p50_roof",
            json.dumps(no_roof): "has no roof_GBs",
            json.dumps(unknown): "is of an unknown type",
        }
        for text, expected in cases.items():
            path = self.write(text)
            out = os.path.join(self.directory, "out")
            result = run(path, out)
            with self.subTest(expected):
                self.assertEqual((result.returncode, result.stdout), (1, ""))
                self.assertIn(expected, result.stderr)
                self.assertIn(path, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1)
                self.assertFalse(os.path.exists(out))
        missing = run(os.path.join(self.directory, "missing.json"), self.directory)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("cannot be read", missing.stderr)
        self.assertEqual(run(SAMPLE).returncode, 2)


if __name__ == "__main__":
    SCRIPT, SAMPLE = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
