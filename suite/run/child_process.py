# SPDX-License-Identifier: Apache-2.0
"""A child process and all that it starts: spawned in a session of its own, ended without a trace."""

from __future__ import annotations

import glob
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from suite.machine.environment import ROOT, THREAD_LIMITS
from suite.machine.processes import end_session
from suite.machine.signals import defer_signals
from suite.run.assignment import Assignment
from suite.run.turns import GO_ON


class Child:
    """A running child; made by `start_child`."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int):
        self.process = process
        self._pipe = pipe
        self._rest = b""

    def news(self, seconds: float) -> dict[str, Any] | None:
        """The next thing that the child tells, or None where it says nothing for that long.

        Raises
        ------
        EOFError
            Where the child has ended.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                piece = os.read(self._pipe, 65536)
                if not piece:
                    raise EOFError
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def go_on(self) -> None:
        """Tell the child that it is its turn."""
        assert self.process.stdin is not None
        # Of a child that has ended, the pipe of its news tells.
        with suppress(BrokenPipeError):
            self.process.stdin.write(GO_ON)

    def how_it_ended(self) -> str:
        """The end of the process in words, for a record's reason."""
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its process closed its pipe but goes on"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


@contextmanager
def start_child(assignment: Assignment, python: str, variables: Mapping[str, str], log: Path) -> Iterator[Child]:
    """Start the child of an assignment; when the block is left, however, the child and all it started are gone.

    Parameters
    ----------
    assignment : Assignment
        Its `pipe` is set here.
    python : str
        The interpreter, which has the packages of the recipes and pytest-benchmark.
    variables : mapping
        Of the environment, that lead to Java and to the settings of a cluster.
    log : Path
        Takes the output of pytest, Spark and the recipes.
    """
    made = ExitStack()
    try:
        # A signal that was held back acts at the end of the block, when the stack knows all that has to go.
        with defer_signals():
            temporary = Path(tempfile.mkdtemp(prefix="foldout-"))
            made.callback(shutil.rmtree, temporary, ignore_errors=True)
            reader, writer = os.pipe()
            made.callback(os.close, reader)
            try:
                handed = temporary / "assignment.json"
                handed.write_text(replace(assignment, pipe=writer).dump())
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("ab") as output:
                    process = _popen(python, handed, writer, variables, output)
                made.callback(_end_whole, process)
            finally:
                os.close(writer)
        yield Child(process, reader)
    finally:
        with defer_signals():
            made.close()


def _end_whole(process: subprocess.Popen[bytes]) -> None:
    end_session(process.pid)
    if process.stdin is not None:
        process.stdin.close()
    process.wait()
    _clear_shared_memory(process.pid)


def _popen(
    python: str, handed: Path, pipe: int, variables: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    temporary = str(handed.parent)
    environment = {
        **os.environ,
        **THREAD_LIMITS,
        "FOLDOUT_ASSIGNMENT": str(handed),
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "SPARK_LOCAL_DIRS": temporary,
        "TMPDIR": temporary,
    }
    # Settings that would reach into the child from a user's shell and change what is measured.
    # (Without compiled modules, every Python worker compiles numpy and pandas anew: seconds each.)
    unwanted = "SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS", "PYTEST_ADDOPTS", "SPARK_REMOTE"
    # (Asserts check answers.)
    for name in (*unwanted, "PYTHONDONTWRITEBYTECODE", "PYTHONOPTIMIZE"):
        environment.pop(name, None)
    environment |= variables
    command = [
        python,
        "-m",
        "pytest",
        str(ROOT / "suite" / "run" / "test_cell.py"),
        "-q",
        "-s",
        "--benchmark-quiet",
    ]
    command += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        # Nothing is left to be written when it is closed: a child that died while it waited could not take it.
        bufsize=0,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(pipe,),
        # Ctrl-C in the terminal reaches the parent alone, which then ends this whole session.
        start_new_session=True,
    )


def _clear_shared_memory(pid: int) -> None:
    # A killed joblib cannot remove its memory maps and semaphores; their names hold the process id.
    for pattern in (f"/dev/shm/joblib_memmapping_folder_{pid}_*", f"/dev/shm/sem.loky-{pid}-*"):
        for path in glob.glob(pattern):  # noqa: PTH207 - an absolute pattern
            if Path(path).is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                Path(path).unlink(missing_ok=True)
