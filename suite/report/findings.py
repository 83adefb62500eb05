# SPDX-License-Identifier: Apache-2.0
"""What a run found, apart from how it is shown: counts, losing cases, failures, figures in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from suite.report.plotting import number
from suite.report.points import NOT_RUN, PARALLEL, MeasuredRun, Point, factors_in_words, plural
from suite.stats import Interval

NONE = "–"


def cell_counts(run: MeasuredRun) -> str:
    """Planned cells, written records, and how they ended, in a line."""
    planned = len(run.cells) + len(run.left_out)
    written = planned - run.statuses[NOT_RUN]
    ends = ", ".join(f"{n} {status}" for status, n in run.statuses.most_common() if status != NOT_RUN)
    text = f"{plural(planned, 'cell')} planned, {written} written: {ends or 'none'}."
    if run.statuses[NOT_RUN]:
        text += f" {run.statuses[NOT_RUN]} never ran."
    if run.left_out:
        text += (
            f" {plural(run.blocks_left_out, 'block')} of {run.blocks + run.blocks_left_out} left out for lack of time."
        )
    if run.strays:
        text += f" {plural(run.strays, 'record')} of no planned cell left out."
    return text


@dataclass(frozen=True)
class Loss:
    """A setting that took longer than what it is held against."""

    point: Point
    against: Point
    ratio: Interval  # below 1
    central: bool  # at the central parallelism

    @property
    def sure(self) -> str:
        """Whether the interval leaves room for doubt."""
        if self.ratio.high is None:
            return f"no interval ({plural(self.ratio.n, 'block')})"
        return "yes" if self.ratio.high < 1 else "no: the interval holds 1×"


def losses(run: MeasuredRun) -> list[Loss]:
    """Settings slower than their base case or than the best parallel run without Spark.

    Those at the central parallelism come first, which is what the machine is made for; then the slowest first.
    """
    found = []
    for point in run.points:
        against = [run.base_of(point)]
        if not point.base and not point.single_node:
            against.append(run.single_node_of(point))
        for other in against:
            speed = run.ratio(other, point)
            if other is not None and other is not point and speed and speed.median < 1:
                found.append(Loss(point, other, speed, run.centre(point, *point.shape)))
    return sorted(found, key=lambda loss: (not loss.central, loss.ratio.median))


@dataclass(frozen=True)
class Failure:
    """Cells of a point that have no time for one and the same reason."""

    point: Point
    status: str
    reason: str
    blocks: list[int]


def failures(run: MeasuredRun) -> list[Failure]:
    """All cells without a time; those of one point with one status and reason together."""
    found: dict[tuple[int, str, str], Failure] = {}
    for place, point in enumerate(run.points):
        for cell in point.problems:
            reason = cell.reason or "no reason given"
            failure = found.setdefault((place, cell.status, reason), Failure(point, cell.status, reason, []))
            failure.blocks.append(cell.block)
    return list(found.values())


def block_words(blocks: Sequence[int]) -> str:
    """'block 3' or 'blocks 0, 3'."""
    return f"{'block' if len(blocks) == 1 else 'blocks'} {', '.join(map(str, blocks))}"


def ratio_digits(value: float) -> str:
    """Two decimals, or two digits of what is small."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:#.2g}"


def ratio_words(value: float) -> str:
    """A ratio as '1.62×'."""
    return f"{ratio_digits(value)}×"


def interval_words(interval: Interval | None, write: Callable[[float], str] = number) -> str:
    """'[1.58, 1.70]', or nothing."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{write(interval.low)}, {write(interval.high)}]"


def figure_words(interval: Interval | None, write: Callable[[float], str] = number, unit: str = "") -> str:
    """A median with its interval, or with its number of blocks where there is none."""
    if interval is None:
        return NONE
    spread = interval_words(interval, write) or f"({plural(interval.n, 'block')})"
    return f"{write(interval.median)}{unit} {spread}"


def setting_words(run: MeasuredRun, point: Point) -> str:
    """How a point is spread, and where it lies off the centre."""
    off = {name: value for name, value in run.off_centre(point).items() if name not in PARALLEL}
    return ", ".join([point.place, *([factors_in_words(off)] if off else [])])
