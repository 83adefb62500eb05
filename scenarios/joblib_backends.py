# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "joblib>=1.4", "pyspark>=4.0", "scikit-learn>=1.5", "numpy>=1.26", "threadpoolctl>=3.5",
# ]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Work that strains a joblib backend, each kind in its own way: empty calls, unequal calls, large data.

Empty calls cost only what the backend costs. Unequal calls, a few long ones among many short ones, show whether work
is handed out as slots become free. Fits on large data show how often the data travel. Use it to hold any two joblib
backends against each other on your machine or cluster; for a search of equal, short fits see
`grid_search_single_node.py` and `grid_search_spark_backend.py`.

Run it alone:  python joblib_backends.py
(the benchmark half needs its siblings grid_search_spark_backend.py and grid_search_single_node.py in the same folder)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold


def spend(seconds: float, value: int) -> int:
    """Keep a core busy for some seconds of its time, whatever else the machine does; return `value`."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return value


def empty_calls(count: int) -> list[int]:
    """Call a function that does nothing `count` times."""
    return Parallel()(delayed(spend)(0.0, number) for number in range(count))


def unequal_calls(long: int, short: int, long_seconds: float, short_seconds: float) -> list[int]:
    """Call a function `long` times for `long_seconds`, spread evenly among `short` times for `short_seconds`."""
    gap = short // long
    lengths = ([long_seconds] + [short_seconds] * gap) * long
    return Parallel()(delayed(spend)(seconds, number) for number, seconds in enumerate(lengths))


def fits_on_large_data(X: np.ndarray, y: np.ndarray, candidates: int, folds: int) -> list[float]:
    """Search for a ridge penalty; return the R² of each candidate and fold, candidates first."""
    grid = {"alpha": np.logspace(-2, 2, candidates)}
    search = GridSearchCV(Ridge(solver="cholesky"), grid, cv=KFold(folds), refit=False, error_score="raise").fit(X, y)
    return np.array([search.cv_results_[f"split{fold}_test_score"] for fold in range(folds)]).T.ravel().tolist()


# --- benchmark: delete from here on when copying ------------------------
import os
import sys

from grid_search_spark_backend import register_spark_pool, stop_spark_pool
from joblib import parallel_config
from pyspark.sql import SparkSession

WORKLOAD = "joblib calls"
PARALLELISM = "slots"
KINDS = ("empty", "unequal", "large")
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"kind": KINDS, "share": 0.02},
    "ci": {"kind": KINDS, "share": 0.05},
    "full": {"kind": KINDS, "share": 1.0},
}
release = stop_spark_pool
ON_REQUEST = True  # nothing to copy
GATED = ()  # it measures costs that the grid searches are gated with already


def make_data(*, kind: str, share: float, seed: int = 0) -> dict[str, Any]:
    """Describe the calls of a kind. At share 1: 10,000 empty ones; ten of 2 s among 200 of 10 ms; 48 fits on 48 MB."""
    if kind == "empty":
        return {"count": round(10_000 * share)}
    if kind == "unequal":
        return {"long": 10, "short": 200, "long_seconds": 2 * share, "short_seconds": 0.01 * share}
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((max(200, round(60_000 * share)), 100))
    y = X @ generator.standard_normal(100) + generator.standard_normal(len(X))
    return {"X": X, "y": y, "candidates": 12, "folds": 4}


def validate(*, kind: str) -> None:
    """Raise ValueError for a kind that is not there."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown: choose one of {', '.join(KINDS)}")


def do(data: dict[str, Any], kind: str) -> dict[str, Any]:
    """Do the work of a kind, wherever joblib runs it."""
    works: dict[str, Callable[..., list]] = {
        "empty": empty_calls,
        "unequal": unequal_calls,
        "large": fits_on_large_data,
    }
    return {"found": works[kind](**data)}


def run_loky(data: dict[str, Any], *, parallelism: int, kind: str) -> dict[str, Any]:
    """Loky processes."""
    with parallel_config("loky", n_jobs=parallelism, inner_max_num_threads=1):
        return do(data, kind)


def run_spark_pool(data: dict[str, Any], *, spark: SparkSession, parallelism: int, kind: str) -> dict[str, Any]:
    """Our Spark backend."""
    register_spark_pool()
    with parallel_config("spark-pool", n_jobs=max(2, parallelism)):
        return do(data, kind)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a number differs by more than rounding: the order of a sum depends on BLAS threads."""
    np.testing.assert_allclose(answer["found"], reference["found"], rtol=1e-9)


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    for kind in KINDS:
        data = make_data(kind=kind, share=0.1)
        for name, options in (("loky", {}), ("spark_pool", {"spark": session})):
            began = time.perf_counter()
            globals()[f"run_{name}"](data, parallelism=2, kind=kind, **options)
            print(f"{kind}, {name}: {time.perf_counter() - began:.2f} s, the first call")
    session.stop()
