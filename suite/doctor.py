# SPDX-License-Identifier: Apache-2.0
"""`python -m suite doctor`: one screen of what this machine has, and what to do about each thing that is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from suite.cluster.authorities import VARIABLES, machine_authorities
from suite.cluster.description import ClusterError
from suite.cluster.docker_engine import find_engine
from suite.errors import UsageError
from suite.machine import environment
from suite.machine.home import home_problem
from suite.machine.locales import is_utf8, locale_of
from suite.machine.processes import child_environment, is_foreign
from suite.spark.java import check_open_files, check_temporary_folder, find_java, system_javas, user_name
from suite.spark.shadow import REMEDY, foreign_pyspark

Severity = Literal["ok", "note", "wrong"]
NEEDED_GIB = 4.0
NEEDED_DISK_GIB = 2.0


@dataclass(frozen=True)
class Check:
    """One line of the screen: `wrong` keeps the benchmark from running here, `note` does not."""

    mark: Severity
    what: str
    found: str
    remedy: str = ""


def checks(master: str | None = None) -> Iterator[Check]:
    """All that is looked at, in the order of the screen.

    Parameters
    ----------
    master : str, optional
        A Spark master to reach as well; `compose` makes an engine necessary.
    """
    yield Check("ok", "Python", f"{platform.python_version()} ({sys.executable})")
    yield _user()
    yield from _surroundings()
    yield _java()
    yield from _packages()
    yield _machine()
    yield _disk()
    yield from _processes()
    yield _docker(needed=master == "compose")
    if master is not None and master.startswith("spark://"):
        yield _reach(master)
    elif master is not None and master.startswith(("yarn", "k8s://")):
        yield Check("note", "master", f"{master} was not asked", "only spark:// and compose are")


def _user() -> Check:
    try:
        return Check("ok", "user", user_name())
    except UsageError as error:
        return Check("wrong", "user", f"id {os.getuid()}", str(error))


def _proxy() -> Iterator[Check]:
    """Whether what a proxy may sign anew will be believed by pip, uv and an image's build."""
    named = sorted(name for name in os.environ if name.lower() == "https_proxy" and os.environ[name])
    if not named:
        return
    if not machine_authorities():
        remedy = f"where it signs anew, name the file with its authority in {' and '.join(VARIABLES[:2])}"
        yield Check("note", "proxy", f"{named[0]} is set, and no authority of its own is known here", remedy)
    else:
        yield Check("ok", "proxy", f"{named[0]} is set, and an image's build gets the authorities of this machine")


def _surroundings() -> Iterator[Check]:
    """What is odd about this machine, of all that is known to keep Spark from starting somewhere."""
    name, temporary = socket.gethostname(), tempfile.gettempdir()
    try:
        socket.gethostbyname(name)
    except (OSError, UnicodeError):  # the latter where a part of the name is empty, or too long
        remedy = "local mode does without; for a cluster elsewhere add it to /etc/hosts"
        yield Check("note", "network", f"the host name {name} does not resolve", remedy)
    if problem := home_problem():
        yield Check(
            "note", "home", problem, f"libraries may want one: set HOME; until then caches are below {temporary}"
        )
    try:
        check_temporary_folder()
    except UsageError as error:
        yield Check("wrong", "temporary", temporary, str(error))
    try:
        check_open_files()
    except UsageError as error:
        yield Check("wrong", "open files", "too few", str(error))
    if os.statvfs(temporary).f_flag & getattr(os, "ST_NOEXEC", 0):  # Spark loads libraries from there
        remedy = "where Spark or Java does not start, set TMPDIR to another folder"
        yield Check("note", "temporary", f"nothing may be loaded from {temporary}, or run (noexec)", remedy)
    elif not temporary.isascii() and not is_utf8(locale_of(child_environment())):
        yield Check("note", "temporary", f"{temporary}, and no locale of UTF-8", "set TMPDIR to an ASCII name")
    elif not temporary.isascii() or " " in temporary:
        yield Check("ok", "temporary", f"{temporary}: its name does no harm")
    yield from _proxy()
    if ignored := sorted(filter(is_foreign, os.environ)):
        remedy = "they are not handed to what is measured; a cluster elsewhere gets SPARK_CONF_DIR and those of Hadoop"
        yield Check("note", "variables", ", ".join(ignored), remedy)


def _java() -> Check:
    passed_over = [f"that of {source} {wrong}" for source, _, wrong in system_javas() if isinstance(wrong, str)]
    try:
        java = find_java()
    except UsageError as error:
        return Check("wrong", "Java", "none that fits", str(error))
    aside = f"; passed over: {', '.join(passed_over)}" if passed_over else ""
    return Check("ok", "Java", f"{java.version} from {java.source}{aside}")


def _packages() -> Iterator[Check]:
    pins, installed = environment.locked_versions(), environment.versions()
    missing = sorted(name for name, version in installed.items() if version is None and name in pins)
    other = sorted(
        f"{name} {version} (lock: {' or '.join(sorted(pins[name]))})"
        for name, version in installed.items()
        if version is not None and name in pins and version not in pins[name]
    )
    remedy = f"run it through tox, which installs the lock: {environment.tox_command()} -e bench"
    yield Check("ok" if installed["pyspark"] else "wrong", "Spark", f"pyspark {installed['pyspark']}", remedy)
    if shadow := foreign_pyspark():
        yield Check("wrong", "Spark", shadow, REMEDY)
    if missing:
        yield Check("wrong", "packages", f"missing: {', '.join(missing)}", remedy)
    elif other:
        yield Check("note", "packages", f"not as locked: {', '.join(other)}", remedy)
    else:
        yield Check("ok", "packages", f"all {sum(name in pins for name in installed)} that matter are as locked")


def _machine() -> Check:
    cores, memory = environment.cores(), environment.memory_gib()
    found = f"{cores} core{'s' * (cores > 1)}, {memory:g} GiB, {environment.cpu_name()}"
    if memory < NEEDED_GIB:
        return Check("note", "machine", found, f"less than {NEEDED_GIB:g} GiB: use --size smoke")
    busy = os.getloadavg()[0] / cores
    if busy > 0.5:
        return Check("note", "machine", found, f"it is busy (load {busy:.0%} of its cores): times will be noisy")
    if cores == 1:
        return Check("note", "machine", found, "with one core nothing can run side by side: expect no speedup")
    return Check("ok", "machine", found)


def _disk() -> Check:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    found = f"{free:.0f} GiB free in {tempfile.gettempdir()}"
    if free < NEEDED_DISK_GIB:
        return Check("wrong", "disk", found, f"Spark spills there: free {NEEDED_DISK_GIB:g} GiB or set TMPDIR")
    return Check("ok", "disk", found)


def _processes() -> Iterator[Check]:
    if why := environment.why_no_processes():
        remedy = "joblib starts no processes then: /dev/shm has to be there, and this user be able to write to it"
        yield Check("wrong", "processes", why, remedy)


def _docker(needed: bool) -> Check:
    try:
        engine = find_engine()
    except ClusterError as error:
        if needed:
            return Check("wrong", "Docker", "none in reach", str(error))
        return Check("note", "Docker", "none in reach, only needed for --master compose", str(error))
    return Check(
        "ok", "Docker", f"{engine.cores} cores, {engine.memory_gib:.0f} GiB, client `{' '.join(engine.compose)}`"
    )


def _reach(master: str) -> Check:
    why = ""
    # Standalone masters may be a list, of which one leads: spark://a:7077,b:7077.
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return Check("ok", "master", f"{host} answers on port {port}")
        except (OSError, UnicodeError) as error:  # the latter where a part of the name is too long
            why = str(error)
    return Check("wrong", "master", f"{master}: {why}", "is it running, and is the port open from here?")


def doctor(master: str | None = None) -> int:
    """Print the screen; 1 where something keeps the benchmark from running."""
    found = list(checks(master))
    for finding in found:
        print(f"{finding.mark:<6} {finding.what:<9} {finding.found}")
        if finding.mark != "ok" and finding.remedy:
            print(f"{'':<16} -> {finding.remedy}")
    wrong = sum(finding.mark == "wrong" for finding in found)
    print(f"ready: {environment.tox_command()} -e bench" if not wrong else f"{wrong} to put right first")
    return int(wrong > 0)
