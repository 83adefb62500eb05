# SPDX-License-Identifier: Apache-2.0
"""A side's process replies on stdout, whatever else its recipes write there."""

import json
import subprocess
import sys

from suite.machine.environment import ROOT

RECIPE = """'Writes to stdout'
import atexit, os

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"ci": {}}
os.system("echo a program")
print("Python")
atexit.register(print, "at the end")

def make_data():
    return 0

def run_it(data):
    return data

def check(reference, answer):
    os.system("echo a check")
    assert reference == answer
"""


def test_nothing_but_the_reply_is_on_stdout(tmp_path):
    recipe = tmp_path / "writes.py"
    recipe.write_text(RECIPE)
    asked = json.dumps({"pairs": [[str(recipe), 1, 1], [str(recipe), 1, 2]]})
    command = [sys.executable, "-m", "suite.gate.side_process", "check"]
    done = subprocess.run(command, input=asked, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"said": [None, "AssertionError"]}
    assert all(text in done.stderr for text in ("a program", "Python", "a check", "at the end"))
