# SPDX-License-Identifier: Apache-2.0
"""tox reads this first: it refuses what would end in pages of messages, and notes what tox.ini cannot find out."""

import os
import shlex
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
HERE = Path.cwd()
os.environ["FOLDOUT_CALLED_FROM"] = str(HERE)
# For messages: what to type there to call this tox again, with its Python, since `python` may have no tox. One that tox
# starts, to have what `requires` names, leaves what the first one has said.
PYTHON = os.path.relpath(sys.executable) if HERE in Path(sys.executable).parents else sys.executable
WORDS = [PYTHON, "-m", "tox"] + ([] if Path(CLONE) in (HERE, *HERE.parents) else ["-c", CLONE])
os.environ.setdefault("FOLDOUT_TOX", " ".join(map(shlex.quote, WORDS)))
# uv, which installs, reads none of pip's variables.
for theirs, own in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")):
    if os.environ.get(theirs):
        os.environ.setdefault(own, os.environ[theirs])
# For `set_env`: what leads to packages of the user's own, but not to a Spark, which would come before the locked one.
# An empty entry would stand for the folder in which the command was typed.
OWN = [
    entry
    for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if not any((folder / "pyspark" / "__init__.py").exists() for folder in (Path(entry), *Path(entry).parents))
]
os.environ["FOLDOUT_PYTHONPATH"] = os.pathsep.join([CLONE, *OWN])
