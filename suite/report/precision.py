# SPDX-License-Identifier: Apache-2.0
"""How many blocks, and how many timed calls in each, give the narrowest speedups in the time that a run took.

A block starts processes anew, makes data, and calls each cell untimed before it times it. That is paid for each block,
while one more timed call costs a call. What blocks average out is how processes differ; what calls average out is how
calls of one process differ. So the best number of calls follows from both costs and both variances.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from suite import stats
from suite.records import Record
from suite.report.formatting import number
from suite.report.point import Point
from suite.report.points import MeasuredRun

FEWEST_BLOCKS = 3  # of a speedup, to tell processes from calls
CALLS = (1, 2, 3, 4)  # timed calls of a cell in a process, of which the table tells


@dataclass(frozen=True)
class Deviation:
    """Standard deviations of the logarithm of a speedup.

    Attributes
    ----------
    processes : float
        From block to block, of speedups that have no noise from call to call.
    calls : float
        From call to call of one process, of a speedup from one call of each side.
    """

    processes: float
    calls: float

    def of_block(self, calls: int) -> float:
        """Return that of a block's speedup from so many timed calls of each side."""
        return math.sqrt(self.processes**2 + self.calls**2 / calls)


@dataclass(frozen=True)
class Cost:
    """Seconds of a block: what is spent before anything is timed, and a timed call of each cell."""

    before: float
    calls: float

    def blocks(self, seconds: float, calls: int) -> int:
        """Return how many blocks of so many timed calls end in time."""
        return int(seconds / (self.before + calls * self.calls) + 1e-9)


def expected_width(deviation: float, blocks: int) -> float | None:
    """Return high / low that the interval of a speedup is to be expected to have, where its logarithm is normal.

    Expected order statistics after Blom (1958). None where there are too few blocks for an interval.
    """
    ranks = stats.median_interval(range(1, blocks + 1)) if blocks else None
    if ranks is None or ranks.low is None or ranks.high is None:
        return None
    low, high = (NormalDist().inv_cdf((rank - 0.375) / (blocks + 0.25)) for rank in (ranks.low, ranks.high))
    return math.exp(deviation * (high - low))


def deviation_of(point: Point, base: Point) -> Deviation | None:
    """Return how a speedup deviates; None where it has too few blocks, or one timed call in each."""
    ours, theirs = (_calls_by_block(side) for side in (point, base))
    blocks = [block for block in ours if block in theirs]
    timed = {len(calls[block]) for calls in (ours, theirs) for block in blocks}
    if len(blocks) < FEWEST_BLOCKS or len(timed) != 1 or timed <= {0, 1}:
        return None
    logs = [np.log([calls[block] for block in blocks]) for calls in (ours, theirs)]
    from_call_to_call = sum(_left_by_blocks_and_passes(each) for each in logs)
    speedups = logs[1].mean(axis=1) - logs[0].mean(axis=1)
    from_block_to_block = float(np.var(speedups, ddof=1)) - from_call_to_call / timed.pop()
    return Deviation(math.sqrt(max(0.0, from_block_to_block)), math.sqrt(from_call_to_call))


def _calls_by_block(point: Point) -> dict[int, list[float]]:
    return {cell.block: cell.warm_seconds for cell in point.cells if cell.status == "ok"}


def _left_by_blocks_and_passes(values: np.ndarray) -> float:
    """Return the variance of what neither its block nor its pass explains of a call; a row a block, a column a pass."""
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((values.shape[0] - 1) * (values.shape[1] - 1)))


def cost_of(cells: Sequence[Record]) -> Cost | None:
    """Return what a block of a run costs; None for a run whose records do not tell."""
    ran = [cell for cell in cells if cell.status == "ok" and cell.warm_seconds and cell.spent]
    if not ran:
        return None
    blocks = len({cell.block for cell in ran})
    timed = sum(sum(cell.warm_seconds) for cell in ran)
    started = {str(cell.session["id"]): float(cell.session.get("seconds") or 0.0) for cell in ran if cell.session}
    spent = sum(sum(cell.spent.values()) for cell in ran if cell.spent) + sum(started.values())
    a_pass = sum(statistics.mean(cell.warm_seconds) for cell in ran)
    return Cost(max(0.0, spent - timed) / blocks, a_pass / blocks)


def precision_table(run: MeasuredRun) -> str | None:
    """Write a table in Markdown; None where a run has too few blocks or calls to tell."""
    pairs = [(point, run.base_of(point)) for point in run.points if point.on_spark and not point.base]
    found = [deviation_of(point, base) for point, base in pairs if base is not None]
    deviations = [deviation for deviation in found if deviation is not None]
    cost = cost_of(run.cells)
    if not deviations or cost is None:
        return None
    calls = max(len(cell.warm_seconds) for cell in run.cells)
    seconds = run.blocks_with_times * (cost.before + calls * cost.calls)
    middle = [statistics.median(getattr(each, what) for each in deviations) for what in ("processes", "calls")]
    lines = [
        f"Speedups of {len(deviations)} variants on Spark deviate by {middle[0]:.0%} from process to process and by "
        f"{middle[1]:.0%} from call to call (medians). A block costs {number(cost.before)} s before anything is timed, "
        f"and {number(cost.calls)} s for a timed call of each cell. In the {number(seconds / 60)} minutes of this run:",
        "",
        "| timed calls in a process | blocks | expected high / low of a speedup's interval |",
        "| ---: | ---: | ---: |",
    ]
    for count in CALLS:
        blocks = cost.blocks(seconds, count)
        widths = [expected_width(each.of_block(count), blocks) for each in deviations]
        known = [width for width in widths if width is not None]
        lines.append(f"| {count} | {blocks} | {f'{statistics.median(known):.2f}' if known else 'no interval'} |")
    return "\n".join(lines)
