# SPDX-License-Identifier: Apache-2.0
"""A child process that runs cells, and tells us through a pipe what happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from suite.machine.environment import ROOT, THREAD_LIMITS
from suite.machine.pipes import LineReader, write_all
from suite.machine.processes import Scope, child_environment, open_scope
from suite.run.assignment import Assignment
from suite.run.turns import GO_ON

# Our `suite` comes first, whatever lies in the folder from which the user calls.
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import pytest; sys.exit(pytest.main())"
# By its name and not by its path: a `[` in a path means something else to pytest. Where the user is may be a conftest.
PYTEST = ("-c", START, str(ROOT), "--pyargs", "suite.run.test_cell", "--noconftest", "-q", "-s", "--benchmark-quiet")
PYTEST_CONF = (
    *("-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"),  # in whose folder the root is
    *("-p", "pytest_benchmark.plugin"),  # the only plugin: see PYTEST_DISABLE_PLUGIN_AUTOLOAD
)


class Child:
    """A running child; made by `start_child`."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int):
        self.process = process
        self._lines = LineReader(pipe)

    def news(self, seconds: float) -> dict[str, Any] | None:
        """Return the next thing that the child tells, or None where it is silent for that many seconds.

        Raises
        ------
        EOFError
            The child has ended.
        """
        line = self._lines.read_line(seconds)
        told: dict[str, Any] | None = None if line is None else json.loads(line)
        return told

    def go_on(self) -> None:
        """Tell the child that it is its turn."""
        assert self.process.stdin is not None
        # Where the child has ended, the pipe of its news tells.
        write_all(self.process.stdin.fileno(), GO_ON)

    def how_it_ended(self) -> str:
        """Say how the process ended, for a record's reason."""
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
        The interpreter. It has the packages of the recipes, and pytest-benchmark.
    variables : mapping
        Variables of the environment that lead to Java and to the settings of a cluster.
    log : Path
        Takes the output of pytest, Spark and the recipes.
    """
    with open_scope() as scope:
        reader, writer = os.pipe()
        try:
            try:
                process = _start(scope, replace(assignment, pipe=writer), python, variables, log)
            finally:
                os.close(writer)
            yield Child(process, reader)
        finally:
            os.close(reader)


def _start(
    scope: Scope, assignment: Assignment, python: str, variables: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    handed = scope.folder / "assignment.json"
    handed.write_text(assignment.dump(), encoding="utf-8")
    own = child_environment()
    environment = {
        **own,
        **THREAD_LIMITS,
        "FOLDOUT_ASSIGNMENT": str(handed),
        # Those that a user's environment has besides may shuffle, repeat or end what they take for tests.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [own.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        # Both sides are called from a folder that may hold the files of one of them.
        **({"PYTHONSAFEPATH": "1"} if assignment.compared else {}),
        "SPARK_LOCAL_DIRS": str(scope.folder),
        **variables,
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return scope.start(
            # Where nothing else is said, pytest-benchmark makes a folder in the one from which we were called.
            [python, *PYTEST, *PYTEST_CONF, f"--benchmark-storage=file://{scope.folder / 'benchmarks'}"],
            environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(assignment.pipe,),
        )
