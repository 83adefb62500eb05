# SPDX-License-Identifier: Apache-2.0
"""`python -m suite`: see `python -m suite --help`."""

import os
import signal
import sys
from pathlib import Path

# As in `requires-python` of pyproject.toml. Python 3.15 and later have no wheels of Spark's companions yet.
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    # Before anything with newer syntax is imported: an old Python has to be able to read this file.
    sys.stderr.write(
        "error: foldout needs Python 3.11 to 3.14; this is "
        + sys.version.split()[0]
        + ": take one of those, which also gets what the suite needs: python3.14 -m venv .venv && "
        ".venv/bin/pip install -q tox && .venv/bin/python -m tox -e suite -- " + " ".join(sys.argv[1:]) + "\n"
    )
    sys.exit(2)
if not sys.platform.startswith(("linux", "darwin")):
    sys.stderr.write("error: foldout runs on Linux and macOS; on Windows use it inside WSL 2\n")
    sys.exit(2)
CLONE = str(Path(__file__).resolve().parent.parent)
if ":" in CLONE or "\n" in CLONE:
    sys.stderr.write("error: no ':' and no line break may be in the path of a clone, " + repr(CLONE) + ": move it\n")
    sys.exit(2)


def unfit() -> bool:
    """Put right what Python has taken from its surroundings, and say whether it has to start again for that."""
    found = bool(sys.flags.optimize)  # a recipe's check may use assert, and its description is its docstring
    for name in ("PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT"):
        # Warnings as errors stop a recipe at its imports; the last one leaves the user at a prompt.
        found = os.environ.pop(name, None) is not None or found
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # children read the names of files as UTF-8, and so do we
        found = True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed, as by `>&-`: the next file to be opened would be taken for our output. This one takes its place.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            found = True
    return found


if unfit():
    safe_path = ["-P"] if sys.flags.safe_path else []
    os.execv(sys.executable, [sys.executable, *safe_path, "-m", "suite", *sys.argv[1:]])
# What a notebook or an old shell asks for may not be there, and charts need no screen.
os.environ["MPLBACKEND"] = "agg"
# The first library that brings OpenMP would pin this process to one core, and with it all that it starts.
for affinity in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
    os.environ.pop(affinity, None)
# Where our parent ignores the ends of its children, we would too, and take each failure of a program for a success.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)

from suite.cli import main  # noqa: E402 - in a Python that is fit for it
from suite.machine.signals import end_process  # noqa: E402

if sys.flags.safe_path:
    # By -P `suite` is ours. From here on this folder counts as without it: cells and Spark's workers look there too.
    sys.path.insert(0, str(Path.cwd()))

if __name__ == "__main__":
    end_process(main())
