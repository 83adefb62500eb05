# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "joblib>=1.4", "joblibspark>=0.6", "pyspark>=4.0", "scikit-learn>=1.5", "numpy>=1.26", "threadpoolctl>=3.5",
#     "packaging>=23",  # joblibspark imports it without asking for it
# ]
# ///
# SPDX-License-Identifier: Apache-2.0
"""How long a fit has to take before going parallel pays: serial, loky, Spark in two ways, Dask and Ray.

Every way to run fits elsewhere costs something for each fit, for each call, and for each byte of X. Here fits keep
a core busy for a stated time on an X of a stated size, so that nothing but these costs differs between the ways. Run
it on the machine or cluster that you have (`bench parallel_break_even --size full --master ...`), look up your own
fit and your own X in its chart, and choose. It says nothing about fits that compete for memory bandwidth or caches:
these keep a core busy and read little. Dask and Ray are skipped where they are not installed, and run on this
machine alone.

Run it alone:  python parallel_break_even.py
(the benchmark half needs its siblings grid_search_spark_backend.py, grid_search_joblib_spark.py,
grid_search_peers.py and grid_search_single_node.py in the same folder; the recipe does not)
"""

from __future__ import annotations

import time

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator

READ = 1000  # values of X that a fit reads


class BusyEstimator(BaseEstimator):
    """Learns a number from X, and keeps a core busy meanwhile.

    Parameters
    ----------
    fit_seconds : float, default=0.01
        Seconds of CPU time of a fit, so that a fit that has to share its core takes longer, as a real one does.
    candidate : int, default=0
        What tells fits on the same X apart.

    Attributes
    ----------
    total_ : float
        Depends on X and the candidate alone. Exact where X holds whole numbers below 1000.
    """

    def __init__(self, fit_seconds: float = 0.01, candidate: int = 0) -> None:
        self.fit_seconds = fit_seconds
        self.candidate = candidate

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> BusyEstimator:
        """Read values spread evenly over X, array of shape (n_rows, n_features), and stay busy."""
        end = time.thread_time() + self.fit_seconds
        step = max(1, X.size // READ)
        self.total_ = float(X.reshape(-1)[self.candidate % step :: step].sum() * (1 + self.candidate))
        while time.thread_time() < end:
            pass
        return self


def total_of(estimator: BusyEstimator, X: np.ndarray) -> float:
    """Fit, and return the number alone: what travels back is small."""
    return estimator.fit(X).total_


def fit_all(X: np.ndarray, *, fits: int, candidates: int, fit_seconds: float) -> list[float]:
    """Make independent fits on the same X; candidate 0 follows the last one.

    The surrounding `joblib.parallel_config` decides where they run. Without one they run in this process, one
    after the other.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
    fits, candidates : int
    fit_seconds : float

    Returns
    -------
    list of float
        The number that each fit learned.
    """
    estimators = (BusyEstimator(fit_seconds, i % candidates) for i in range(fits))
    return Parallel()(delayed(total_of)(estimator, X) for estimator in estimators)


# --- benchmark: delete from here on when copying ------------------------
# Siblings are imported where they are used: workers of other machines import this file, and do not have them.
from typing import Any

from joblib import parallel_config
from pyspark.sql import SparkSession

WORKLOAD = "break-even of fits"
PARALLELISM = "slots"
# Every length of a fit is run with every size of X. `call_seconds` is what the fits of one slot should take together.
SIZES = {
    "smoke": {"fit_seconds": (0.02, 0.1), "megabytes": 0.01, "call_seconds": 0.2},
    "ci": {"fit_seconds": (0.01, 0.1), "megabytes": 1.0, "call_seconds": 0.2},
    "full": {"fit_seconds": (0.01, 0.001, 0.1, 1, 10), "megabytes": (1, 0.001, 20, 200), "call_seconds": 2},
}
CROSSED = ("fit_seconds", "megabytes")
REQUIRES = {"dask": "distributed", "ray": "ray"}
GATED: tuple[str, ...] = ()  # it measures costs that the grid searches are gated with already
MOST_FITS = 200  # of a slot in a call
MOST_MEGABYTES = 200  # of X, which the worst way sends with each fit of a slot
ON_REQUEST = True  # nothing to copy


def make_data(*, seed: int = 0, megabytes: float = 1) -> np.ndarray:
    """Draw an X of whole numbers, 16 features and `megabytes` times 1,000,000 bytes, at least one row."""
    rows = max(1, int(megabytes * 1e6) // (16 * 8))
    return np.random.default_rng(seed).integers(0, 1000, (rows, 16)).astype(np.float64)


def validate(*, fit_seconds: float, megabytes: float, call_seconds: float) -> None:
    """Raise ValueError where a factor is not a positive number."""
    for name, value in (("fit_seconds", fit_seconds), ("megabytes", megabytes), ("call_seconds", call_seconds)):
        if not value > 0:
            raise ValueError(f"{name}={value}: give a number above 0")


def fits_of_slot(fit_seconds: float, megabytes: float, call_seconds: float) -> int:
    """Count the fits that a slot makes in a call: as many as take `call_seconds`, at least one.

    Of the shortest fits there are fewer, and with a large X: `MOST_FITS`, `MOST_MEGABYTES`. Each slot has that many,
    so a call takes about the same time serially and on any number of slots, and what compares is the time of a fit.
    """
    return max(1, min(round(call_seconds / fit_seconds), MOST_FITS, int(MOST_MEGABYTES / megabytes)))


def answer_of(X: np.ndarray, slots: int, fit_seconds: float, megabytes: float, call_seconds: float) -> dict[str, Any]:
    """Make the fits of all slots. Each slot's are the same, so one list of totals is left where all are right."""
    candidates = fits_of_slot(fit_seconds, megabytes, call_seconds)
    totals = fit_all(X, fits=slots * candidates, candidates=candidates, fit_seconds=fit_seconds)
    of_slots = {tuple(totals[start : start + candidates]) for start in range(0, len(totals), candidates)}
    return {"fits": len(totals), "totals": [list(of_slot) for of_slot in sorted(of_slots)]}


def run_serial(data: np.ndarray, *, fit_seconds: float, megabytes: float, call_seconds: float) -> dict[str, Any]:
    """One process."""
    return answer_of(data, 1, fit_seconds, megabytes, call_seconds)


def run_loky(
    data: np.ndarray, *, parallelism: int, fit_seconds: float, megabytes: float, call_seconds: float
) -> dict[str, Any]:
    """Processes of loky."""
    with parallel_config("loky", n_jobs=parallelism, inner_max_num_threads=1):
        return answer_of(data, parallelism, fit_seconds, megabytes, call_seconds)


def run_joblib_spark(
    data: np.ndarray,
    *,
    spark: SparkSession,
    parallelism: int,
    fit_seconds: float,
    megabytes: float,
    call_seconds: float,
) -> dict[str, Any]:
    """joblib-spark mended."""
    from grid_search_joblib_spark import on_spark

    with on_spark(n_jobs=max(2, parallelism)):
        return answer_of(data, parallelism, fit_seconds, megabytes, call_seconds)


def run_spark_pool(
    data: np.ndarray,
    *,
    spark: SparkSession,
    parallelism: int,
    fit_seconds: float,
    megabytes: float,
    call_seconds: float,
) -> dict[str, Any]:
    """Our Spark backend."""
    from grid_search_spark_backend import register_spark_pool

    register_spark_pool()
    with parallel_config("spark-pool", n_jobs=max(2, parallelism)):
        return answer_of(data, parallelism, fit_seconds, megabytes, call_seconds)


def run_dask(
    data: np.ndarray, *, parallelism: int, fit_seconds: float, megabytes: float, call_seconds: float
) -> dict[str, Any]:
    """Dask."""
    from grid_search_peers import on_dask

    with on_dask(parallelism):
        return answer_of(data, parallelism, fit_seconds, megabytes, call_seconds)


def run_ray(
    data: np.ndarray, *, parallelism: int, fit_seconds: float, megabytes: float, call_seconds: float
) -> dict[str, Any]:
    """Ray."""
    from grid_search_peers import on_ray

    with on_ray(parallelism):
        return answer_of(data, parallelism, fit_seconds, megabytes, call_seconds)


def release() -> None:
    """End the tasks of our backend, or the cluster of Dask or Ray, before another way has its turn."""
    from grid_search_peers import stop_cluster
    from grid_search_spark_backend import stop_spark_pool

    stop_spark_pool()
    stop_cluster()


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where any fit of any slot learned something else; fits are exact."""
    (expected,) = reference["totals"]
    for totals in answer["totals"]:
        for i, (want, got) in enumerate(zip(expected, totals, strict=True)):
            assert got == want, f"the fit of candidate {i} gave {got}, expected {want}"
    assert answer["fits"] % reference["fits"] == 0, f"{answer['fits']} fits, expected a multiple of those of one slot"


if __name__ == "__main__":
    X = make_data()
    for fit_seconds in (0.001, 0.01, 0.1):
        took = []
        for n_jobs in (1, 2, 2):  # the first call of two processes also starts them
            begin = time.perf_counter()
            with parallel_config("loky", n_jobs=n_jobs):
                fit_all(X, fits=20, candidates=20, fit_seconds=fit_seconds)
            took.append((time.perf_counter() - begin) / 20)
        print(f"fits of {fit_seconds} s: serial {took[0]:.4f} s a fit, two loky processes {took[2]:.4f} s a fit")
