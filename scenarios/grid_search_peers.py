# /// script
# requires-python = ">=3.11"
# dependencies = ["joblib>=1.4", "scikit-learn>=1.5", "numpy>=1.26", "distributed>=2025.1", "ray>=2.55"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Grid search of an SVC through the joblib backends of Dask and Ray, on this machine.

What Spark is held against where another cluster could be had instead. Both start one process a slot and keep them
for the next call, as loky does. Use this file to see what these two cost on your machine before you choose; with a
cluster of your own, leave `on_dask` and `on_ray` out and use its client and `joblib.parallel_config("dask")` or
`("ray")`. All that is started here listens on 127.0.0.1 alone, and `stop_cluster` leaves no process and no file.
Either package may be missing; then the other still works.

Run it alone:  python grid_search_peers.py
(the benchmark half needs its sibling grid_search_single_node.py in the same folder; the recipe does not)
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from joblib import parallel_config

# Ray reads it once in a process, and cannot start again with another.
TOKEN = secrets.token_hex(32)
# At most one cluster runs, so that none takes time from another: which it is, and what ends it.
running: list[tuple[tuple[str, int], ExitStack]] = []


def on_dask(n_jobs: int) -> parallel_config:
    """Send what joblib runs inside `with on_dask(2): ...` to `n_jobs` Dask workers of one thread.

    Examples
    --------
    >>> with on_dask(n_jobs=2):  # doctest: +SKIP
    ...     search = GridSearchCV(SVC(), grid).fit(X, y)
    """
    keep_running("dask", n_jobs, start_dask)
    return parallel_config("dask", n_jobs=n_jobs)


def on_ray(n_jobs: int) -> parallel_config:
    """Send what joblib runs inside `with on_ray(2): ...` to `n_jobs` Ray actors.

    Ray keeps its own processes between calls, but its joblib backend starts new actors for each.
    """
    keep_running("ray", n_jobs, start_ray)
    return parallel_config("ray", n_jobs=n_jobs)


def keep_running(name: str, n_jobs: int, start: Callable[[ExitStack, int], None]) -> None:
    """Start a cluster, unless the last call's is the same; end another one."""
    if running and running[0][0] == (name, n_jobs):
        return
    stop_cluster()
    with ExitStack() as stack:
        start(stack, n_jobs)
        running.append(((name, n_jobs), stack.pop_all()))


@atexit.register
def stop_cluster() -> None:
    """End what runs now, and remove its files."""
    if running:
        running.pop()[1].close()


def start_dask(stack: ExitStack, n_jobs: int) -> None:
    """Start a Dask scheduler and workers, which listen on loopback alone."""
    import dask
    from distributed import Client, LocalCluster

    stack.enter_context(patch.dict(os.environ))  # Dask sets variables for its workers, and would leave them
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dask-", ignore_cleanup_errors=True))
    stack.enter_context(dask.config.set({"temporary-directory": folder}))  # the scheduler's, which takes no option
    cluster = LocalCluster(
        n_workers=n_jobs,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # any free port: its default is taken where another Dask runs
        worker_dashboard_address="127.0.0.1:0",
        local_directory=folder,
        memory_limit=0,  # no pause where memory runs short: no other backend has one
        silence_logs=logging.ERROR,
    )
    stack.enter_context(cluster)
    stack.enter_context(Client(cluster))


def start_ray(stack: ExitStack, n_jobs: int) -> None:
    """Start Ray, which listens on loopback alone and asks for a token of its own.

    Ray reads all of this from the environment, some of it when it is imported. Where a program has imported Ray
    before with other settings, the first may come too late.
    """
    settings = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: listen on loopback, not on every interface
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,  # else Ray writes one to ~/.ray and leaves it there
        "RAY_USAGE_STATS_ENABLED": "0",
        # Workers import what this process can; Ray alone gives them the folder of the script.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    stack.enter_context(patch.dict(os.environ, settings))
    import ray
    from ray.util.joblib import register_ray

    # Short: the paths of Ray's sockets may have 107 characters, and it adds 60.
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
    stack.callback(ray.shutdown)
    ray.init(
        num_cpus=n_jobs,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )
    register_ray()


# --- benchmark: delete from here on when copying ------------------------
from importlib.util import find_spec

from grid_search_single_node import (
    PARALLELISM,
    SIZES,
    WORKLOAD,
    answer_of,
    check,
    first_candidates,
    grid_search,
    make_data,
    validate,
)

__all__ = [
    "PARALLELISM",
    "SIZES",
    "WORKLOAD",
    "check",
    "make_data",
    "validate",
]  # what makes this the same workload as the sibling's
SCHEDULE = {"dask": "pool", "ray": "pool"}
REFIT = True
REQUIRES = {"dask": "distributed", "ray": "ray"}
ON_REQUEST = True  # nothing to copy
GATED: tuple[str, ...] = ()
release = stop_cluster


def run_dask(data: dict[str, Any], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """GridSearchCV, Dask."""
    with on_dask(parallelism):
        return answer_of(grid_search(**data, grid=first_candidates(candidates), folds=folds), folds)


def run_ray(data: dict[str, Any], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """GridSearchCV, Ray."""
    with on_ray(parallelism):
        return answer_of(grid_search(**data, grid=first_candidates(candidates), folds=folds), folds)


if __name__ == "__main__":
    for name, run in (("dask", run_dask), ("ray", run_ray)):
        if find_spec(REQUIRES[name]) is None:
            print(f"{name}: the package {REQUIRES[name]} is not installed")
            continue
        found = run(make_data(), parallelism=2, folds=3, candidates=12)
        print(f"{name}: the best of 12 is {found['best_params']}, accuracy {found['best_score']:.3f}")
