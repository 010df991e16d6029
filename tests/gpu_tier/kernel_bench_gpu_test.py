#!/usr/bin/env python3
"""Runs every GPU case of kernel_bench on the emulated device: kernel_bench_gpu_test.py KERNEL_BENCH.

Each is compared with its reference and none is timed: no speed of an emulation is printed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

QUANTISED = ("Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "IQ4_NL", "Q4_0", "IQ4_XS", "MXFP4", "Q3_K", "Q2_K", "S2_0", "S3_0")
TYPES = (*QUANTISED, "F16", "BF16", "F32")
DENSITIES = (5, 10, 20, 50, 100)


class GpuCasesTest(unittest.TestCase):
    def test_every_case_is_verified_and_none_is_timed(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "out.json")
            result = subprocess.run([KERNEL_BENCH, "--benchmark_filter=^gpu/", f"--benchmark_out={path}"],
                                    capture_output=True, text=True, timeout=300)
            self.assertEqual(result.returncode, 0, result.stderr)
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        self.assertIn("emulated", data["context"]["gpu"])
        entries = {re.sub(r"/iterations:.*", "", entry["name"]): entry for entry in data["benchmarks"]}
        for name, entry in entries.items():
            with self.subTest(name):
                self.assertNotIn("error_occurred", entry)
                self.assertEqual(entry["label"], "verified, not timed: the GPU is emulated")
                self.assertEqual(entry["real_time"], 0)
                self.assertFalse([key for key in entry if "GBs" in key or "roof" in key or "FLOP" in key])
        kinds = [re.sub(r"/(?:rows|cols|neurons|context|tokens|d_model):\d+", "", name) for name in entries]
        expected = {"gpu/read": 1, "gpu/copy": 1, "gpu/list": 1, "gpu/handover": 1,
                    **{f"gpu/matvec/{dtype}": 3 for dtype in TYPES},
                    **{f"gpu/gemm/{dtype}": 2 for dtype in (*QUANTISED, "F16")},
                    **{f"gpu/{part}/{dtype}/density:{percent}": 1 for part in ("gate_up", "down")
                       for dtype in (*QUANTISED, "F16") for percent in DENSITIES},
                    **{f"gpu/attention/{dtype}": 3 for dtype in ("F16", "Q8_0")}}
        self.assertEqual({kind: kinds.count(kind) for kind in kinds}, expected)


if __name__ == "__main__":
    KERNEL_BENCH = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
