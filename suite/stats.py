# SPDX-License-Identifier: Apache-2.0
"""Statistics of repeated timings: small pure functions, each with the theorem it rests on.

A sample here is one figure per block, a block being one pass over the cells in a fresh process: calls inside
one process are not replicates (Kalibera & Jones 2013). Only `unsettled`
looks at these, to say whether they still fall, and `paired_log_ratio`, which makes one figure of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
MIN_BLOCKS = 6  # the fewest samples for which `median_interval` reaches 95 %: 1 - 2 / 2**6 = 0.969; five give 0.9375

# A cell is called unstable above these; they lie above the spread that quiet machines show (0.04 to 0.05).
SPREAD_LIMIT = 0.10
DRIFT_LIMIT = 0.10
DRIFT_P = 0.05
MIN_CHANGES = 3  # blocks before a change from call to call is said


class Interval(NamedTuple):
    """A median and its interval; `low`, `high`, `coverage` are None where the samples are too few."""

    median: float
    low: float | None
    high: float | None
    coverage: float | None
    n: int


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median with its distribution-free interval.

    Parameters
    ----------
    values : sequence of float, shape (n_blocks,)
        One figure per block.
    confidence : float, default=0.95
        The least coverage wanted. What is returned says the exact coverage, which is larger; where even the
        range of all values covers less, there is no interval.

    Raises
    ------
    ValueError
        If `values` is empty or holds a NaN.
    """
    x = sorted(float(value) for value in values)
    if not x or any(math.isnan(value) for value in x):
        raise ValueError(f"a median needs at least one value and no NaN: {x}")
    # For independent draws of any continuous distribution the number of values below the median is
    # Binomial(n, 1/2), so the k-th smallest and k-th largest enclose it with probability 1 - 2 P(Bin(n, 1/2)
    # < k) (David & Nagaraja, Order Statistics, 7.1). Take the largest k, the narrowest interval, that still
    # covers enough.
    n = len(x)
    best: tuple[int, float] | None = None
    below = 0
    for k in range(1, n // 2 + 1):
        below += math.comb(n, k - 1)
        coverage = 1 - 2 * below / 2**n
        if coverage < confidence:
            break
        best = (k, coverage)
    middle = (x[(n - 1) // 2] + x[n // 2]) / 2
    if best is None:
        return Interval(middle, None, None, None, n)
    k, coverage = best
    return Interval(middle, x[k - 1], x[n - k], coverage, n)


def paired_log_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median, over calls, of the logarithm of a call's seconds over those of the call beside it.

    Two processes that take turns, as in local mode, make the calls of a pair one after the other, so what slows the
    machine for longer than a call cancels in each pair; and a pair that something has struck does not count for more
    than another.
    """
    return statistics.median(math.log(a / b) for a, b in zip(numerator, denominator, strict=True))


def log_ratios(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> dict[int, float]:
    """Logarithm of numerator over denominator for each block that has both.

    A ratio is formed inside a block, whose cells ran close together on one machine, so that what drifts from
    block to block cancels.
    """
    return {
        block: math.log(numerator[block] / denominator[block])
        for block in sorted(numerator.keys() & denominator.keys())
    }


def ratio_interval(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> Interval | None:
    """Median of the within-block ratios and its interval; None where no block has both.

    The median is taken of the logarithms: with an even number of blocks the plain one would give a speedup
    and a slowdown that are not each other's inverse. An order statistic passes through exp unchanged.
    """
    logs = list(log_ratios(numerator, denominator).values())
    if not logs:
        return None
    middle, low, high, coverage, n = median_interval(logs)
    return Interval(
        math.exp(middle),
        None if low is None else math.exp(low),
        None if high is None else math.exp(high),
        coverage,
        n,
    )


def karp_flatt(speedup: float, parallelism: int) -> float | None:
    """Experimentally determined serial fraction e = (1/S - 1/p) / (1 - 1/p); None for p = 1.

    By Amdahl's law T(p) = T(1) (e + (1 - e)/p), solved for e (Karp & Flatt 1990). An e that grows with p
    means overhead grows; a constant e means part of the work is serial. It is below zero where the speedup
    exceeds p.
    """
    if parallelism < 2 or speedup <= 0:
        return None
    return (1 / speedup - 1 / parallelism) / (1 - 1 / parallelism)


def outliers(values: Sequence[float]) -> list[bool]:
    """Which values lie more than 1.5 interquartile ranges outside the quartiles (Tukey 1977).

    They are shown as outliers and never removed. Of three values or fewer none can be one: it would widen the
    fences beyond itself.
    """
    if len(values) == 0:
        return []
    first, third = (float(q) for q in np.percentile(values, [25, 75]))
    reach = 1.5 * (third - first)
    return [value < first - reach or value > third + reach for value in values]


def log_spread(values: Sequence[float]) -> float:
    """Standard deviation of the log values: 0.05 reads "five per cent"; 0 for fewer than two."""
    return float(np.std(np.log(values), ddof=1)) if len(values) > 1 else 0.0


def drift_p(values: Sequence[float]) -> float:
    """Two-sided p of a rise or fall over the blocks, in the order given (Mann 1945: Kendall's test in time).

    If nothing drifts every order of the values is equally likely, so the number of falling pairs has the
    distribution of inversions of a random permutation, counted exactly here. Ties count as half and make the
    test cautious.
    """
    n = len(values)
    counts = [1]  # counts[i]: permutations with i inversions; adding an m-th element adds 0 .. m-1 of them
    for m in range(2, n + 1):
        counts = [sum(counts[max(0, i - m + 1) : i + 1]) for i in range(len(counts) + m - 1)]
    falling = sum(
        1.0 if values[i] > values[j] else 0.5 if values[i] == values[j] else 0.0
        for i in range(n)
        for j in range(i + 1, n)
    )
    fewer = min(falling, n * (n - 1) / 2 - falling)
    return min(1.0, 2 * sum(counts[: math.ceil(fewer) + 1]) / math.factorial(n))


def instability(values: Sequence[float]) -> list[str]:
    """Large spread or drift of times, one per block in block order: phrases, empty if they are steady."""
    said = []
    if (spread := log_spread(values)) > SPREAD_LIMIT:
        said.append(f"blocks differ: standard deviation {spread:.0%}")
    half = len(values) // 2
    if half >= 2:
        change = float(np.median(values[-half:]) / np.median(values[:half])) - 1
        if abs(change) > DRIFT_LIMIT and drift_p(values) <= DRIFT_P:
            said.append(f"drifts over the blocks by {change:+.0%}")
    return said


def unsettled(passes: Sequence[Sequence[float]]) -> list[str]:
    """Times that still fell from the first timed call of a process to the last: a phrase, empty where they did not.

    Parameters
    ----------
    passes : sequence of sequence of float
        Times of the timed calls, in order, for each block.
    """
    changes = [times[-1] / times[0] for times in passes if len(times) > 1]
    if len(changes) < MIN_CHANGES or (change := float(np.median(changes))) > 1 - DRIFT_LIMIT:
        return []
    return [f"not settled: the last timed call took {change:.2f} times as long as the first"]


def caveats(values: Sequence[float]) -> list[str]:
    """All to know before trusting times, one per block in block order: too few, unsteady, outliers."""
    said = []
    if len(values) < MIN_BLOCKS:
        said.append(f"only {len(values)} block{'' if len(values) == 1 else 's'}, no 95 % interval")
    said += instability(values)
    if count := sum(outliers(values)):
        said.append(f"{count} outlier{'' if count == 1 else 's'}")
    return said
