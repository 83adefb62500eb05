# SPDX-License-Identifier: Apache-2.0
"""The one way to start a process that lasts, and to end it with all that it started.

    with open_scope() as scope:
        process = scope.start(command, child_environment(), stdout=log)

A scope has a temporary folder, and a guardian: a small process (`reaper.py`) that reads from a pipe which only we hold
open. When the block is left, or when we die of anything, SIGKILL included, the guardian ends all processes of the scope
and removes the folder and what they left in shared memory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from suite.machine import reaper
from suite.machine.locales import utf8_locale
from suite.machine.reaper import SCOPE_VARIABLE
from suite.machine.signals import defer_signals

# Variables with which a user's shell would reach into a child, and change what is measured or break it: options of
# Python (asserts switched off, warnings as errors; without compiled modules, every Python worker compiles numpy and
# pandas anew: seconds each), of pytest, which runs the cells, of coverage, joblib and scikit-learn, of Java (heap size,
# agents, other classes), another Spark or Hadoop, and what bash does first in each of Spark's scripts.
FOREIGN = (
    *("COVERAGE_", "COV_CORE_", "JOBLIB_", "LOKY_", "PYSPARK_", "PYTEST_", "PYTHON", "SKLEARN_", "SPARK_"),
    # By the first of these Spark believes itself in a container of YARN, and takes its folders from the second.
    *("CONTAINER_ID", "LOCAL_DIRS", "ARROW_PRE_0_15_IPC_FORMAT"),
    *("HADOOP_", "YARN_", "BASH_ENV", "BASH_FUNC_", "BASHOPTS", "SHELLOPTS"),
    *("CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"),
)
# Of these, what leads to packages, names an encoding, or says where this machine is in its network.
WELCOME = frozenset(
    (
        *("PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONPYCACHEPREFIX"),
        *("PYTHONUTF8", "PYTHONCOERCECLOCALE"),
        *("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_PUBLIC_DNS", "SPARK_PREFER_IPV6"),
    )
)


def is_foreign(name: str) -> bool:
    """Whether a variable of the environment is meant for other projects, and is kept from our children."""
    return name not in WELCOME and name.startswith(FOREIGN)


def child_environment() -> dict[str, str]:
    """Our environment without what is meant for other projects, for a child process of any kind."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not is_foreign(name) and not name.startswith(SCOPE_VARIABLE)
    }
    # Libraries that look for their settings at home fail where the user has none, as in many containers. A JVM in a
    # locale without UTF-8 reads an `é` in a path as a `?`.
    return {"HOME": tempfile.gettempdir(), **kept, **utf8_locale(kept)}


def family() -> list[psutil.Process]:
    """Return this process and all that descend from it now."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


class Scope:
    """Processes that live no longer than the block in which they were started; made by `open_scope`.

    Parameters
    ----------
    grace : float
        See `open_scope`.

    Attributes
    ----------
    folder : Path
        Theirs for temporary files.
    """

    def __init__(self, grace: float):
        self.folder = Path(tempfile.gettempdir()) / f"foldout-{secrets.token_hex(8)}"
        self._grace = grace
        self._processes: list[subprocess.Popen[bytes]] = []
        self._leaders: dict[int, psutil.Process] = {}
        # It is there before the folder is: however early we die, somebody is there who removes it.
        self._guardian = subprocess.Popen(
            [sys.executable, "-P", reaper.__file__, str(self.folder), str(grace)],
            stdin=subprocess.PIPE,
            bufsize=0,
            # It outlives us for a moment, in which nobody should wait for the end of our output.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=child_environment(),
            start_new_session=True,
        )
        self.folder.mkdir(mode=0o700)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, with the scope's folder as its `TMPDIR`.

        Parameters
        ----------
        command : sequence of str
        environment : mapping
            All of it; usually `child_environment()` and more.
        stdin : int, default=subprocess.DEVNULL
            A pipe has no buffer: nothing is left to be written when it is closed, which a process that has ended
            could not take.
        **options
            Of `subprocess.Popen`: `stdout`, `stderr`, `cwd`, `pass_fds`.
        """
        with defer_signals():
            process = subprocess.Popen(
                command,
                stdin=stdin,
                bufsize=0,
                env={**environment, "TMPDIR": str(self.folder), SCOPE_VARIABLE: str(self.folder)},
                # Ctrl-C in a terminal reaches us alone, and we then end this whole session.
                start_new_session=True,
                **options,
            )
            self._processes.append(process)
            self._leaders[process.pid] = psutil.Process(process.pid)
            assert self._guardian.stdin is not None
            # Where somebody has killed the guardian, `close` does its work.
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.write(f"{process.pid}\n".encode())
        return process

    def close(self) -> None:
        """End all processes and remove the folder.

        Raises
        ------
        RuntimeError
            A process cannot be killed.
        """
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        if self._guardian.wait() != 0:
            reaper.close_scope(self.folder, self._leaders, self._grace)
        for process in self._processes:
            with process:
                pass  # closes its pipes and takes its exit code


@contextmanager
def open_scope(grace: float = 0.0) -> Iterator[Scope]:
    """Give processes a scope; when the block is left, they and all that they started are gone.

    Parameters
    ----------
    grace : float, default=0.0
        Seconds that they get after a SIGTERM to end by themselves. By default they are killed at once: their files are
        in a folder that goes with them.
    """
    scope = None
    try:
        # A signal that was held back acts at the end of this block, when it is known what has to go.
        with defer_signals():
            scope = Scope(grace)
        yield scope
    finally:
        if scope is not None:
            with defer_signals():
                scope.close()
