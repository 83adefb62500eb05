# SPDX-License-Identifier: Apache-2.0
"""What a run found, for page and terminal alike: how its cells ended, which settings lose, which cells have no time."""

from __future__ import annotations

from dataclasses import dataclass

from suite.report.formatting import plural
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
