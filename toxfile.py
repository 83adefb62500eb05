# SPDX-License-Identifier: Apache-2.0
"""tox reads this first: it refuses what would end in pages of messages, and notes what tox.ini cannot find out."""

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
# For `set_env`: what leads to packages of the user's own. Not to those of a Spark, which would come before the one that is
# locked. An empty entry would stand for the folder in which the command was typed.
OWN = [
    entry
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if entry and not any((folder / "pyspark" / "__init__.py").exists() for folder in (Path(entry), *Path(entry).parents))
]
os.environ["FOLDOUT_PYTHONPATH"] = os.pathsep.join([CLONE, *OWN])
