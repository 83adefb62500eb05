# SPDX-License-Identifier: Apache-2.0
"""Starts processes in sessions of their own, and ends them with all that they started."""

from __future__ import annotations

import os
import time

import psutil


def session_members(leader: int) -> list[psutil.Process]:
    """All processes of the session that `leader` leads, whoever their parent is now.

    Spark's Python workers leave the process group but not the session.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def end_session(leader: int, seconds: float = 20.0) -> None:
    """Kill every process of a session, and wait until none is left.

    Killed at once and not asked first: their files are in a folder that goes with them, their records are synced.
    """
    deadline = time.monotonic() + seconds
    while processes := session_members(leader):
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(processes, timeout=0.5)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {[process.pid for process in processes]} cannot be killed")
