# /// script
# requires-python = ">=3.11"
# dependencies = ["joblib>=1.4", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""What a machine gives to processes that share nothing: the limit of whatever goes parallel on it.

Two cores are rarely twice one. They share memory and its caches, often one real core, and on a rented machine the
hardware with strangers. Jobs that wait for nothing and send nothing show what is left: no schedule of fits that compute
in the same way gains more on this machine.

Run it alone:  python machine_limit.py
"""

from __future__ import annotations

import time

import numpy as np
from joblib import Parallel, delayed


def multiply(seed: int) -> float:
    """Multiply matrices that fit into a core's own cache: nothing but arithmetic."""
    matrix = product = np.random.default_rng(seed).random((200, 200))
    for _ in range(1000):
        product = product @ matrix
        product /= product.max()
    return float(product.sum())


def read(seed: int) -> float:
    """Add up an array that fits into no cache: little but reading memory, as fits of small models do."""
    numbers = np.arange(seed, seed + 16_000_000, dtype=float)  # 128 MB
    return float(sum(numbers.sum() for _ in range(16)))


def interpret(seed: int) -> float:
    """Run Python's own loop."""
    total = 0.0
    for value in np.random.default_rng(seed).random(100_000).tolist() * 100:
        total += value
    return total


WORK = {"memory": read, "arithmetic": multiply, "interpreter": interpret}


def work_through(jobs: int, work: str, processes: int) -> list[float]:
    """Do so many jobs of one kind, in so many processes; return what each found."""
    return Parallel(n_jobs=processes)(delayed(WORK[work])(seed) for seed in range(jobs))


# --- benchmark: delete from here on when copying ------------------------
WORKLOAD = "the machine's limit"
PARALLELISM = "threads"
SIZES = {
    "smoke": {"work": ("memory", "arithmetic", "interpreter"), "candidates": 4},
    "ci": {"work": ("memory", "arithmetic", "interpreter"), "candidates": 8},
    "full": {"work": ("memory", "arithmetic", "interpreter"), "candidates": 24},
}
SCHEDULE = {"one_process": "serial", "processes": "pool"}
ON_REQUEST = True  # nothing to copy
GATED = ()  # it measures the machine, no code


def make_data() -> None:
    """Make nothing: each process makes its own."""


def run_one_process(data: None, *, work: str, candidates: int) -> list[float]:
    """Jobs that share nothing, one process."""
    return work_through(candidates, work, 1)


def run_processes(data: None, *, work: str, candidates: int, parallelism: int) -> list[float]:
    """Jobs that share nothing, all processes."""
    return work_through(candidates, work, parallelism)


def check(reference: list[float], answer: list[float]) -> None:
    """Raise AssertionError where a job found something else."""
    np.testing.assert_allclose(answer, reference, rtol=1e-12)


if __name__ == "__main__":
    for name in WORK:
        seconds = {}
        for processes in (1, 2, 2, 1):  # the first call of two starts them
            began = time.perf_counter()
            work_through(8, name, processes)
            seconds[processes] = time.perf_counter() - began
        print(f"two processes with work on {name}: {seconds[1] / seconds[2]:.2f} times the speed of one")
