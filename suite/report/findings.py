# SPDX-License-Identifier: Apache-2.0
"""What a run found, for page and terminal alike: how its cells ended, which settings lose, which cells have no time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.machine.environment import ROOT
from suite.plan.scenario import SCENARIOS
from suite.report.formatting import NONE, factors_in_words, plural
from suite.report.point import Point
from suite.report.points import NOT_RUN, MeasuredRun
from suite.stats import Interval


def cell_counts(run: MeasuredRun) -> str:
    """How many cells were planned and written, and how they ended, in a line."""
    planned = len(run.cells) + len(run.left_out)
    written = planned - run.statuses[NOT_RUN]
    ends = ", ".join(f"{n} {status}" for status, n in run.statuses.most_common() if status != NOT_RUN)
    text = f"{plural(planned, 'cell')} planned, {written} written: {ends or 'none'}."
    if run.statuses[NOT_RUN]:
        text += f" {run.statuses[NOT_RUN]} never ran."
    if run.left_out:
        planned_blocks = run.blocks + run.blocks_left_out
        text += f" {plural(run.blocks_left_out, 'block')} of {planned_blocks} left out for lack of time."
    if run.strays:
        text += f" {plural(run.strays, 'record')} left out: the plan has no such cell."
    return text


def file_here(about: Mapping[str, Any]) -> Path | None:
    """Return where a recipe's file lies in this checkout, by what a plan says of it; None for one from elsewhere."""
    return None if about.get("elsewhere") else ROOT / about.get("path", "")


def changed_recipes(run: MeasuredRun) -> str | None:
    """Say which recipes of a run are other files by now, or gone; None where all are as they were, or are not known."""
    said = []
    for name, about in run.plan["scenarios"].items():
        path = file_here(about)
        # A recipe from elsewhere may be anywhere.
        if path is None or path.parent != SCENARIOS:
            continue
        if not path.is_file():
            said.append(f"{name} (gone)")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != about.get("sha256"):
            said.append(name)
    return f"Recipes that have changed since this run: {', '.join(said)}." if said else None


@dataclass(frozen=True)
class Loss:
    """A setting that took longer than the one it is compared with.

    Attributes
    ----------
    ratio : Interval
        Speedup over `against`; the median is below 1.
    central : bool
        Whether it ran at the central parallelism.
    """

    point: Point
    against: Point
    ratio: Interval
    central: bool

    @property
    def sure(self) -> str:
        """Whether the whole interval lies below 1, in words."""
        if self.ratio.high is None:
            return f"no interval ({plural(self.ratio.n, 'block')})"
        return "yes" if self.ratio.high < 1 else "no: the interval contains 1×"


def losses(run: MeasuredRun) -> list[Loss]:
    """Settings slower than their base case, or than the best parallel run without Spark.

    Those at the central parallelism come first, since they use the machine as a reader would; then the slowest first.
    """
    found = []
    for point in run.points:
        against = [run.base_of(point)]
        if not point.base and not point.single_node:
            against.append(run.single_node_of(point))
        for other in against:
            speed = run.ratio(other, point)
            if other is not None and other is not point and speed and speed.median < 1:
                found.append(Loss(point, other, speed, run.is_central(point, *point.shape)))
    return sorted(found, key=lambda loss: (not loss.central, loss.ratio.median))


@dataclass(frozen=True)
class Failure:
    """The blocks in which a point has no time, for one and the same reason."""

    point: Point
    status: str
    reason: str
    blocks: list[int]


def failures(run: MeasuredRun) -> list[Failure]:
    """All cells without a time; those of one point that share status and reason are one failure."""
    found: dict[tuple[int, str, str], Failure] = {}
    for place, point in enumerate(run.points):
        for cell in point.problems:
            reason = cell.reason or "no reason given"
            failure = found.setdefault((place, cell.status, reason), Failure(point, cell.status, reason, []))
            failure.blocks.append(cell.block)
    return list(found.values())


# --- break-even


@dataclass(frozen=True)
class BreakEven:
    """Where a way of doing the fits begins to win over others.

    Attributes
    ----------
    setting : str
        The crossed factors but the swept one, in words.
    way : Point
        Of the way, at any value of the swept factor.
    wins_from : mapping of str to str
        Label of another way to the values of the swept factor between which this one begins to win, in words.
    """

    setting: str
    way: Point
    wins_from: Mapping[str, str]


def by_setting(run: MeasuredRun, workload: str) -> dict[str, list[Point]]:
    """The points of a workload by their crossed factors but the swept one, which is the first; parallelism is central.

    Empty where the workload crosses none, or where the swept one is not a number.
    """
    crossed = run.crossed(workload)
    # A file of the workload that lacks one of them has no cell that was run.
    points = [point for point in run.workloads[workload] if all(name in point.factors for name in crossed)]
    found: dict[str, list[Point]] = {}
    if not crossed or not all(isinstance(point.factors[crossed[0]], (int, float)) for point in points):
        return found
    # By value, the smallest first; the plan has the centre first.
    for point in sorted(points, key=lambda p: [(isinstance(v := p.factors[n], str), v) for n in crossed[1:]]):
        if run.is_central(point, *crossed):
            found.setdefault(factors_in_words({name: point.factors[name] for name in crossed[1:]}), []).append(point)
    return found


def break_evens(run: MeasuredRun, workload: str) -> list[BreakEven]:
    """Where each parallel way begins to win over the base case, and over each way without Spark."""
    found = []
    for setting, points in by_setting(run, workload).items():
        swept = run.crossed(workload)[0]
        ways: dict[tuple[str, str], dict[float, Point]] = {}
        for point in points:
            ways.setdefault((point.scenario, point.variant), {})[point.factors[swept]] = point
        rivals = {name: way for name, way in ways.items() if any(p.base or p.single_node for p in way.values())}
        for name, way in ways.items():
            if not any(point.base for point in way.values()):
                wins = {
                    next(iter(rival.values())).label: win_words(
                        {x: run.ratio(rival.get(x), point) for x, point in sorted(way.items())}
                    )
                    for other, rival in rivals.items()
                    if other != name
                }
                found.append(BreakEven(setting, next(iter(way.values())), wins))
    return found


def win_words(ratios: Mapping[float, Interval | None]) -> str:
    """Between which values a way begins to win, and goes on to, up to the largest.

    Parameters
    ----------
    ratios : mapping of float to Interval or None
        How many times faster it is, by the values of the factor in ascending order. It wins where the interval lies
        above 1. Where none of them has an interval, the median decides. Without a time it does not win.
    """
    values = list(ratios)
    if not any(ratios.values()):
        return NONE
    first = len(values)
    bounded = any(ratio and ratio.low is not None for ratio in ratios.values())
    while first and _wins(ratios[values[first - 1]], bounded=bounded):
        first -= 1
    if first == len(values):
        return f"not up to {values[-1]:g}"
    return f"{values[first]:g} or less" if first == 0 else f"{values[first - 1]:g} to {values[first]:g}"


def _wins(ratio: Interval | None, *, bounded: bool) -> bool:
    if ratio is None:
        return False
    # Beside values with intervals, one that lost a block and so its interval must not win the more easily.
    return (ratio.low is not None and ratio.low > 1) if bounded else ratio.median > 1
