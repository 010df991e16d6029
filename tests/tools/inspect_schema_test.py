#!/usr/bin/env python3
"""What `inspect --json` prints of every kind of file goes by docs/inspect.schema.json.

    inspect_schema_test.py THERMOCLINE SOURCE_FOLDER
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import jsonschema


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


class Inspect(unittest.TestCase):
    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        path = cls.path
        demo = os.path.join(SOURCE, "tools", "demo.d")
        cls.model = os.path.join(demo, "classics-9m-relu-q8_0.gguf")
        text = os.path.join(demo, "calibration.txt")
        run(PROGRAM, "profile", "-m", cls.model, "-f", text, "--max-tokens", "1000", "--hot", "25%", "-o",
            path("profile"), "--placement", path("placement"))
        run(PROGRAM, "pack", "-m", cls.model, "--placement", path("placement"), "-o", path("packed"))
        run(PROGRAM, "predictor", "-m", cls.model, "-f", text, "--method", "sign", "-o",
            path("predictor"))
        run(PROGRAM, "profile", "-m", cls.model, "-f", text, "--max-tokens", "2000", "--draft", path("draft"),
            "--draft-stand-in", "mixed", "-o", path("profile_of_draft"))
        run(PROGRAM, "calibrate", "--quick", "-o", path("rates"))
        run(PROGRAM, "place", "-m", cls.model, "--profile", path("profile"), "--vram", "12M", "--ram", "1G",
            "--objective", "time", "--rates", path("rates"), "-o", path("by_time"))
        with open(os.path.join(SOURCE, "docs", "inspect.schema.json"), encoding="utf-8") as file:
            cls.validator = jsonschema.Draft202012Validator(json.load(file))
        cls.validator.check_schema(cls.validator.schema)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def check(self, path, kind):
        found = json.loads(run(PROGRAM, "inspect", path, "--json"))
        self.assertEqual(found["kind"], kind)
        errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in self.validator.iter_errors(found)]
        self.assertEqual(errors, [])
        return found

    def test_model(self):
        self.assertTrue(self.check(self.model, "model")["model"]["runs"])

    def test_other_models(self):
        golden = os.path.join(SOURCE, "tests", "golden")
        for name in sorted(os.listdir(golden)):
            if name.endswith(".gguf") and name != "blocks.gguf":
                self.check(os.path.join(golden, name), "model")
        for family in ("gemma3", "gemma3n", "t5", "mistral"):
            run(PROGRAM, "convert", os.path.join(golden, "families", family), self.path(family), "--type", "F32")
            self.check(self.path(family), "model")

    def test_packed(self):
        self.check(self.path("packed"), "packed model")

    def test_profile(self):
        self.check(self.path("profile"), "profile")

    def test_placements(self):
        self.assertIsNone(self.check(self.path("placement"), "placement")["placement"]["predicted_ms_per_token"])
        self.assertGreater(self.check(self.path("by_time"), "placement")["placement"]["predicted_ms_per_token"], 0)

    def test_predictor(self):
        self.check(self.path("predictor"), "predictor")

    def test_draft(self):
        self.check(self.path("draft"), "draft")

    def test_rates(self):
        self.check(self.path("rates"), "rates")

    def test_what_is_not_said_is_refused(self):
        found = json.loads(run(PROGRAM, "inspect", self.model, "--json"))
        found["model"]["more"] = 1
        self.assertFalse(self.validator.is_valid(found))
        del found["model"]
        self.assertFalse(self.validator.is_valid(found))


if __name__ == "__main__":
    PROGRAM, SOURCE = sys.argv[1:3]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Inspect)
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())
