# SPDX-License-Identifier: Apache-2.0
"""The guardian of a scope: ends its processes and removes its folder as soon as whoever opened the scope lets go.

`processes.py` starts it as `python reaper.py FOLDER GRACE_SECONDS`. Its standard input is a pipe, on which it is told
the process id of each process that is started in the scope. The pipe closes when the parent says so, or when the parent
dies of anything, SIGKILL included. It runs as a program by itself, so it imports nothing from the suite.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

SCOPE_VARIABLE = "FOLDOUT_SCOPE"  # in the environment of each process of a scope: the scope's folder
POLL_SECONDS = 0.02
TRACKER_SECONDS = 5.0  # that a resource tracker gets to clean up; some milliseconds in practice
KILL_SECONDS = 20.0  # until a process that was killed has to be gone
SHARED_MEMORY = Path("/dev/shm")
# joblib's memory maps and loky's semaphores, with the id of the process that made them.
OF_PROCESS = re.compile(r"(?:joblib_memmapping_folder_|sem\.loky-)(\d+)[_-]")

Leaders = Mapping[int, psutil.Process | None]


def find_members(folder: Path, leaders: Leaders) -> list[psutil.Process]:
    """All living processes of a scope, whoever their parent is now.

    A process belongs to it that is in the session of one of the leaders: Spark's Python workers leave the process
    group, but not the session. A process belongs to it as well that has the scope in its environment: it may have left
    the session, or its parent died before it could tell of it.

    Parameters
    ----------
    folder : Path
        The scope's own.
    leaders : mapping of int to psutil.Process or None
        Processes that were started in the scope, each the leader of a session; None for one that ended at once.
    """
    # A number is given to another process only when its session is empty; then a session of that number is not ours.
    reused = {pid for pid, leader in leaders.items() if psutil.pid_exists(pid) and not (leader and leader.is_running())}
    sessions = leaders.keys() - reused
    found = []
    for process in psutil.process_iter():
        # It may be gone by now, or belong to another user.
        with contextlib.suppress(OSError, psutil.Error):
            belongs = os.getsid(process.pid) in sessions or process.environ().get(SCOPE_VARIABLE) == str(folder)
            if belongs and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def signal_until_gone(find: Callable[[], list[psutil.Process]], number: int, seconds: float) -> list[psutil.Process]:
    """Send a signal once to each process that is found, new ones too, until there is none or time is up.

    Returns
    -------
    list of psutil.Process
        Those that are left.
    """
    deadline = time.monotonic() + seconds
    told: set[psutil.Process] = set()
    while (left := find()) and time.monotonic() < deadline:
        for process in set(left) - told:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        told.update(left)
        time.sleep(POLL_SECONDS)
    return left


def is_resource_tracker(process: psutil.Process) -> bool:
    """Whether a process is the resource tracker of joblib's loky or of Python's multiprocessing."""
    with contextlib.suppress(psutil.Error):
        return any("resource_tracker" in word for word in process.cmdline())
    return False


def close_scope(folder: Path, leaders: Leaders, grace: float) -> None:
    """End all processes of a scope, then remove its folder and what they left in shared memory.

    Parameters
    ----------
    folder : Path
    leaders : mapping of int to psutil.Process or None
        See `find_members`.
    grace : float
        Seconds between SIGTERM and SIGKILL; with 0, processes are killed at once.

    Raises
    ------
    RuntimeError
        A process cannot be killed.
    """
    seen = set(leaders)

    def members() -> list[psutil.Process]:
        found = find_members(folder, leaders)
        seen.update(process.pid for process in found)
        return found

    def workers() -> list[psutil.Process]:
        return [process for process in members() if not is_resource_tracker(process)]

    if grace:
        signal_until_gone(workers, signal.SIGTERM, grace)
    signal_until_gone(workers, signal.SIGKILL, KILL_SECONDS)
    # Trackers go last, and by themselves: once their clients are gone, they remove the semaphores, shared memory and
    # memory maps that these left, also those that have no process id in their name. Signal 0 is none.
    signal_until_gone(members, 0, TRACKER_SECONDS)
    left = signal_until_gone(members, signal.SIGKILL, KILL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    remove_shared_memory(seen)
    if left:
        raise RuntimeError(f"processes {[process.pid for process in left]} cannot be killed")


def remove_shared_memory(pids: Collection[int]) -> None:
    """Remove what joblib and loky left in shared memory under these process ids, where no tracker did it."""
    found: list[Path] = []
    with contextlib.suppress(OSError):  # there is none, or it is not for this user's eyes
        found = list(SHARED_MEMORY.iterdir())
    for path in found:
        named = OF_PROCESS.match(path.name)
        if not named or int(named[1]) not in pids:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def wait_for_parent() -> Leaders:
    """Note each process that is started, until the pipe closes."""
    leaders: dict[int, psutil.Process | None] = {}
    for pid in map(int, sys.stdin):
        try:
            leaders[pid] = psutil.Process(pid)
        except psutil.NoSuchProcess:
            leaders[pid] = None
    # Where the parent died while it was starting a process, this becomes the command, with its environment, just now.
    time.sleep(POLL_SECONDS)
    return leaders


if __name__ == "__main__":
    # Ours is a session of its own, so a terminal's Ctrl-C does not come here; a `kill` of everything might.
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    close_scope(Path(sys.argv[1]), wait_for_parent(), grace=float(sys.argv[2]))
