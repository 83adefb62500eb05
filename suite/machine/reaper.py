# SPDX-License-Identifier: Apache-2.0
"""Ends process sessions and removes a folder as soon as whoever started it is gone.

Started by `standalone.py` with a folder as argument. Its standard input is a pipe from its parent: a line per
session (the leader's process id). The pipe closes when the parent says so, or dies of anything, SIGKILL
included; then everything in those sessions is ended, and the folder removed. Spark's Python workers leave
their parent's process group, but not its session.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Container

import psutil

TERM_SECONDS = 5.0  # seconds between SIGTERM and SIGKILL


def living(sessions: Container[int]) -> list[int]:
    """Process ids of all that still runs in the sessions."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) in sessions and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def end_sessions(sessions: Container[int]) -> None:
    """End all processes of the sessions: politely, and after `PATIENCE` seconds not."""
    deadline = time.monotonic() + TERM_SECONDS
    kind = signal.SIGTERM
    told: set[int] = set()
    while pids := living(sessions):
        if time.monotonic() > deadline:
            kind = signal.SIGKILL
        for pid in pids:
            if kind is signal.SIGKILL or pid not in told:
                with contextlib.suppress(OSError):
                    os.kill(pid, kind)
        told.update(pids)
        time.sleep(0.05)


def wait_and_reap() -> None:
    """Wait for the parent, then tidy up."""
    # Ours is a session of its own, so a terminal's Ctrl-C does not come here; a `kill` of everything might.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_sessions({int(line) for line in sys.stdin})
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    wait_and_reap()
