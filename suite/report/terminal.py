# SPDX-License-Identifier: Apache-2.0
"""What a run found, as a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from suite.report import charts
from suite.report.charts import common, jobs, named, scored
from suite.report.findings import (
    NONE,
    block_words,
    cell_counts,
    failures,
    interval_words,
    losses,
    ratio_digits,
    ratio_words,
    setting_words,
)
from suite.report.plotting import number
from suite.report.points import MeasuredRun, Point, plural, read_run

SHOWN_FAILURES = 8  # the terminal leaves the rest to the page


def summary(directory: Path) -> str:
    """What a run found, for a terminal of 100 columns.

    Parameters
    ----------
    directory : Path
        A run folder; see `results.load`.
    """
    run = read_run(directory)
    lines = [cell_counts(run), "", _terminal_row("", "warm s", "cold s", "speedup", "95 %", "bound")]
    for workload, points in run.workloads.items():
        for job, of_job in jobs(run, points).items():
            kept = [p for p in of_job if run.centre(p, *p.shape) or p is run.base_of(p)]
            lines += [f"{workload}: {common(kept, job)}", *(_terminal_point(run, point, kept) for point in kept)]
    if lost := losses(run):
        worst = lost[0]
        against = "its base case" if worst.against.base else "the best without Spark"
        lines += [
            "",
            f"{plural(len(lost), 'setting')} slower than the base case or than the best without Spark, among them:",
            f"  {worst.point.workload}: {named(worst.point)}: {ratio_words(worst.ratio.median)} the speed of {against}",
        ]
    if problems := failures(run):
        lines += ["", f"{charts.without_time(run)}:"]
        for failure in problems[:SHOWN_FAILURES]:
            where = f"{failure.point.label}, {setting_words(run, failure.point)}, {block_words(failure.blocks)}"
            lines.append(f"  {failure.status}: {where}: {failure.reason}")
        if len(problems) > SHOWN_FAILURES:
            lines.append(f"  and {len(problems) - SHOWN_FAILURES} more, in the report")
    return "\n".join(_cut(line.rstrip(), 100) for line in lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _terminal_row(label: str, *cells: str) -> str:
    return f"{_cut(label, 49):<49}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, (9, 9, 9, 15, 8), strict=True)
    )


def _terminal_point(run: MeasuredRun, point: Point, beside: Sequence[Point]) -> str:
    if point.seconds is None:
        return _terminal_row(f"  {named(point)}", "no time", "", "", "", "")
    speedup = run.speedup(point)
    alone = point is run.base_of(point)
    return _terminal_row(
        f"  {named(point)}{scored(point, beside)}",
        number(point.seconds.median),
        number(point.cold.median) if point.cold else NONE,
        "base" if alone else ratio_words(speedup.median) if speedup else NONE,
        "" if alone else interval_words(speedup, ratio_digits),
        ratio_words(bound) if (bound := run.bound(point)) and not alone else "",
    )
