# SPDX-License-Identifier: Apache-2.0
"""Whose a cluster of containers is: a name that nobody else has, an owner that is known to be alive or dead, a lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from suite.cluster.description import ClusterError
from suite.machine.home import cache_folder


def _first_line(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def _process_space() -> int:
    """Return the number of the space in which process numbers mean something; 0 where there is one alone."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino
    return 0


def _here() -> str:
    """Return the boot of the machine, the space of its process numbers, and the user."""
    # The name of a machine changes with its network, and there is a better one on Linux.
    boot = _first_line("/proc/sys/kernel/random/boot_id") or f"{socket.gethostname()} {psutil.boot_time():.0f}"
    return f"{boot}/{_process_space()}/{os.getuid()}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# The cluster that `cluster up` starts and `cluster down` ends. Several users, machines and containers may share an
# engine. Without the boot: what `cluster up` has left when the machine goes down is found again.
_MACHINE = _first_line("/etc/machine-id") or socket.gethostname()
KEPT = "foldout-" + _short(f"{_MACHINE}/{_process_space()}/{os.getuid()}")


def one_shot_name(process: int) -> str:
    """The name of the cluster that a bench starts for itself alone; `process` is its number."""
    return f"{KEPT}-{_short(_here())}-{process}"


def state_folder(name: str) -> Path:
    """Where the secret of a cluster is kept for as long as it lives.

    In the user's own cache folder, since some engines cannot see `/tmp` as we do.
    """
    return cache_folder() / "foldout" / name


def new_log_folder() -> Path:
    """A folder for the logs of this process. After an error, which names a file in it, the next command removes it."""
    folder = state_folder(f"{one_shot_name(os.getpid())}.logs")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def stale_state_folders() -> Iterator[Path]:
    """The folders of processes that are gone: of clusters, of which no container may have been made, and of logs."""
    begin = one_shot_name(0).removesuffix("0")
    for folder in state_folder(KEPT).parent.glob(f"{KEPT}-*"):
        number = folder.name.removeprefix(begin).removesuffix(".logs")
        if folder.name.startswith(begin):
            gone = number.isdigit() and _has_ended(int(number))
        else:  # of another boot, or of a machine with the same id, whose clusters are not older than this boot
            gone = folder.stat().st_mtime < psutil.boot_time()
        if gone:
            yield folder


def this_owner() -> str:
    """A name for the process that we are, such that no other one is ever taken for it."""
    return f"{_here()}:{os.getpid()}:{_born(psutil.Process())}"


def _born(process: psutil.Process) -> str:
    """When a process began: on Linux in ticks since the boot, which do not change when the clock is set."""
    with contextlib.suppress(OSError):
        return "t" + Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{process.create_time():.0f}"


def _has_ended(number: int, begun: str = "") -> bool:
    """Whether a process has ended, also if nobody has asked for its exit code, or its number is another's by now."""
    try:
        process = psutil.Process(number)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        if not begun:
            return False
        if begun.startswith("t"):
            return _born(process) != begun
        # The clock may have been set since; a number is not given to another process within a minute.
        return abs(process.create_time() - float(begun)) > 60
    except psutil.NoSuchProcess:
        return True


def is_orphaned(owner: str) -> bool:
    """Whether the process that an owner label names is gone.

    Those of other users, machines and process spaces, those of an earlier boot, and what was started by hand cannot be
    known to be gone: they never are.
    """
    place, _, rest = owner.partition(":")
    number, _, begun = rest.partition(":")
    return place == _here() and number.isdigit() and _has_ended(int(number), begun)


@contextlib.contextmanager
def only_user_of_kept_cluster() -> Iterator[None]:
    """Keep the cluster of `cluster up` to ourselves during the block. A process that dies gives it back.

    Raises
    ------
    ClusterError
        Another process has it.
    """
    file = state_folder(f"{KEPT}.lock")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with file.open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise ClusterError(
                f"another bench is using the cluster that is up (process {held.read().strip() or 'unknown'}): "
                "wait until it has ended, or end it by Ctrl-C"
            ) from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield
