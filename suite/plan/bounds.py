# SPDX-License-Identifier: Apache-2.0
"""How fast a schedule of independent fits can be at best: what a speedup chart draws instead of y = x.

All of it assumes one slot a fit. Where a fit is itself parallel, no bound holds.
"""

from __future__ import annotations

from collections.abc import Sequence

SCHEDULES = ("serial", "folds", "pool")


def _check(schedule: str, **counts: int) -> None:
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: one of {', '.join(SCHEDULES)}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")


def rounds(
    schedule: str,
    folds: int,
    candidates: int,
    parallelism: int,
    *,
    refit: bool = False,
) -> int:
    """Fits that must follow one another, counted in equal fits.

    Parameters
    ----------
    schedule : {"serial", "folds", "pool"}
        One fit at a time; fold after fold with a fold's candidates in parallel (each fold waits for the one
        before); or every (fold, candidate) in one pool.
    folds, candidates : int
        There are folds x candidates fits.
    parallelism : int
        Fits that run at once.
    refit : bool, default=False
        Whether one more fit follows them all, alone.
    """
    _check(schedule, folds=folds, candidates=candidates, parallelism=parallelism)
    last = 1 if refit else 0
    if schedule == "serial":
        return folds * candidates + last
    if schedule == "folds":
        return folds * -(-candidates // parallelism) + last
    return -(-folds * candidates // parallelism) + last


def speedup_bound(
    schedule: str,
    folds: int,
    candidates: int,
    parallelism: int,
    *,
    refit: bool = False,
) -> float:
    """Largest possible speedup over serial, of equal fits; parameters as in `rounds`."""
    serial = rounds("serial", folds, candidates, 1, refit=refit)
    return serial / rounds(schedule, folds, candidates, parallelism, refit=refit)


def seconds_bound(
    schedule: str, seconds: Sequence[Sequence[float]], parallelism: int, *, refit_seconds: float = 0.0
) -> float:
    """Shortest possible time of unequal fits, from the measured time of each.

    No schedule on p slots ends before the work shared evenly would, nor before the longest fit (Graham 1969):
    both bounds hold for the pool as a whole, and for each fold where the folds follow one another.

    Parameters
    ----------
    schedule : {"serial", "folds", "pool"}
        As in `rounds`.
    seconds : sequence of shape (folds, candidates)
        Seconds of each fit on one slot. Expanding windows: later folds take longer.
    parallelism : int
        Fits that run at once.
    refit_seconds : float, default=0.0
        Seconds of the fit that follows them all, alone.
    """
    _check(schedule, parallelism=parallelism)

    def shortest(fits: Sequence[float]) -> float:
        return max(sum(fits) / parallelism, max(fits, default=0.0))

    everything = [fit for fold in seconds for fit in fold]
    if schedule == "serial":
        return sum(everything) + refit_seconds
    if schedule == "folds":
        return sum(shortest(fold) for fold in seconds) + refit_seconds
    return shortest(everything) + refit_seconds


def measured_speedup_bound(
    schedule: str, seconds: Sequence[Sequence[float]], parallelism: int, *, refit_seconds: float = 0.0
) -> float:
    """Largest possible speedup over serial, of unequal fits; parameters as in `seconds_bound`."""
    serial = seconds_bound("serial", seconds, 1, refit_seconds=refit_seconds)
    return serial / seconds_bound(schedule, seconds, parallelism, refit_seconds=refit_seconds)
