# SPDX-License-Identifier: Apache-2.0
"""tox reads this first: it refuses what would end in pages of messages, and notes where tox was called."""

import os
import sys
from pathlib import Path

# As in `requires-python` of pyproject.toml. An old Python has to be able to read this file.
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.stderr.write(
        "error: foldout needs Python 3.11 to 3.14, and this tox runs on "
        + sys.version.split()[0]
        + ": remove .venv and "
        "paste the line with, say, python3.14 in place of python3 (with uv: uvx --python 3.14 tox)\n"
    )
    sys.exit(2)
CLONE = str(Path(__file__).resolve().parent)
if ":" in CLONE or "\n" in CLONE:
    sys.stderr.write("error: no ':' and no line break may be in the path of a clone, " + repr(CLONE) + ": move it\n")
    sys.exit(2)
# For `change_dir` in tox.ini: the paths in a command are those of the folder in which it was typed.
os.environ["FOLDOUT_CALLED_FROM"] = str(Path.cwd())
