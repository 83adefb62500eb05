# SPDX-License-Identifier: Apache-2.0
"""Keeps what Spark writes to the local folders of a container within a size.

Docker's volumes have no size, and a file system in memory would take what the workers need. So a process of the
container looks at the folder each second. While it holds too much, the kernel lets no process of the container write to
a file (`RLIMIT_FSIZE`): tasks fail with "File too large", nobody is killed, and all goes on once there is room again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NoReturn

SECONDS = 1.0  # from one look to the next; what is written meanwhile comes on top of the size


def used_bytes(folder: Path) -> int:
    """Return the bytes on disk of all files in a folder and below."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # Spark removes files all the time
                total += Path(directory, name).lstat().st_blocks * 512  # units of POSIX, whatever the disk's
    return total


def allow_writes(pids: Iterable[int], allowed: bool) -> None:
    """Let processes of this user write to files, or not; what has no file behind it they may always write to."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if allowed else 0, most))


def other_processes() -> list[int]:
    """Return the ids of all processes that can be seen, but for this one."""
    seen = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in seen if pid != os.getpid()]


def keep_within(folder: Path, limit: int, spared: Container[int] = ()) -> NoReturn:
    """Watch a folder for as long as the container lives.

    Parameters
    ----------
    folder : Path
    limit : int
        Bytes.
    spared : container of int
        Processes that may write whatever there is.
    """
    full = False
    while True:
        before, full = full, used_bytes(folder) > limit
        if full or before:
            # Each time, since a process that has started meanwhile has the limit of its parent.
            allow_writes((pid for pid in other_processes() if pid not in spared), not full)
        if full != before:
            said = f"hold more than {limit / 2**30:.3g} GiB: nothing is written" if full else "have room again"
            print(f"Spark's local folders {said}", file=sys.stderr, flush=True)
        time.sleep(SECONDS)


def watch(folder: Path, limit: int, *, spare_caller: bool = False) -> None:
    """Start a process that does `keep_within`.

    It belongs to the container's first process, as whoever starts it will be another program soon. `spare_caller` is
    for one that becomes the suite: it writes records of what has failed, and none of what fills the folder.
    """
    spared = {os.getpid()} if spare_caller else set()
    if child := os.fork():
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # the run that the suite sends is for another
    try:
        keep_within(folder, limit, spared)
    finally:
        os._exit(1)
