# SPDX-License-Identifier: Apache-2.0
"""How much memory this process and those that it started held at most, by what Linux counts of each."""

from __future__ import annotations

from pathlib import Path

import psutil

from suite.machine.processes import family

RESET_PEAK = "5"  # see clear_refs in proc(5)


def reset_peaks() -> None:
    """Let the peaks of this process and its descendants begin anew at what they hold now."""
    for process in family():
        try:
            Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK)
        except OSError:  # it has ended, or this is no Linux
            continue


def peak_memory() -> dict[str, float] | None:
    """Return the peaks since `reset_peaks`, in MiB of resident memory; None where this is no Linux.

    Pages that processes share count for each of them. A process that started and ended in between is not seen.

    Returns
    -------
    dict
        `driver`, this process; and where there are such: `jvm`, `workers` (all other descendants together: those of
        Spark in local mode, loky's), and `worker`, the largest of these.
    """
    this, *descendants = [(process, _peak(process)) for process in family()]
    if not this[1]:
        return None
    java = [peak for process, peak in descendants if _name(process) == "java"]
    others = [peak for process, peak in descendants if _name(process) != "java"]
    found = {"driver": this[1], "jvm": sum(java), "workers": sum(others), "worker": max(others, default=0.0)}
    return {name: round(peak, 1) for name, peak in found.items() if peak}


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _peak(process: psutil.Process) -> float:
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
