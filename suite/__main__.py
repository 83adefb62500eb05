# SPDX-License-Identifier: Apache-2.0
"""`python -m suite`: see `python -m suite --help`."""

import os
import sys

# As in `requires-python` of pyproject.toml. Python 3.15 and later have no wheels of Spark's companions yet.
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    # Before anything with newer syntax is imported: an old Python has to be able to read this file.
    sys.stderr.write("error: foldout needs Python 3.11 to 3.14; this is " + sys.version.split()[0] + "\n")
    sys.exit(2)
if not sys.platform.startswith(("linux", "darwin")):
    sys.stderr.write("error: foldout runs on Linux and macOS; on Windows use it inside WSL 2\n")
    sys.exit(2)

if sys.flags.optimize:
    # A recipe's check may use assert, and its description is its docstring: Python without -O and PYTHONOPTIMIZE.
    os.environ.pop("PYTHONOPTIMIZE", None)
    os.execv(sys.executable, [sys.executable, "-m", "suite", *sys.argv[1:]])

from suite.cli import main

if __name__ == "__main__":
    sys.exit(main())
