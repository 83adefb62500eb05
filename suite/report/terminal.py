# SPDX-License-Identifier: Apache-2.0
"""What a run found, in a few lines for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from suite.report.captions import (
    bound_words,
    describe_run,
    group_by_job,
    missing_times,
    point_label,
    setting_words,
    shared_setting,
    shown_of_job,
    work_note,
)
from suite.report.fastest import fastest_ways, in_words
from suite.report.findings import break_evens, cell_counts, changed_recipes, failures, losses
from suite.report.formatting import NONE, block_words, interval_words, number, plural, ratio_digits, ratio_words
from suite.report.point import Point
from suite.report.points import MeasuredRun, read_run

SHOWN_FAILURES = 8  # the page has the others
WIDTH_OF_TERMINAL = 100


def summary(directory: Path) -> str:
    """What a run found, for a terminal of 100 columns.

    Parameters
    ----------
    directory : Path
        A run folder; see `points.read_run`.
    """
    run = read_run(directory)
    lines = ["", "Fastest:", *_wrapped(in_words(found) for found in fastest_ways(run))]
    lines += [*_losing_lines(run), *_failing_lines(run), *break_even_lines(run), ""]
    lines += [_columns("", "warm s", "cold s", "speedup", "95 %", "bound"), *_timed_lines(run), ""]
    lines += _wrapped([cell_counts(run), describe_run(run), *([changed] if (changed := changed_recipes(run)) else [])])
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(text, WIDTH_OF_TERMINAL, subsequent_indent="    ", break_on_hyphens=False)


def _timed_lines(run: MeasuredRun) -> Iterator[str]:
    for workload, points in run.workloads.items():
        for job, of_job in group_by_job(run, points).items():
            kept = shown_of_job(run, of_job)
            yield from _wrapped([f"{workload}: {shared_setting(kept, job)}"])
            yield from (_point_line(run, point, kept) for point in kept)


def _losing_lines(run: MeasuredRun) -> Iterator[str]:
    if lost := losses(run):
        worst = lost[0]
        against = "its base case" if worst.against.base else "the best without Spark"
        yield ""
        yield f"{plural(len(lost), 'setting')} slower than the base case or than the best without Spark, among them:"
        label = f"{worst.point.workload}: {point_label(worst.point)}"
        yield from _wrapped([f"  {label}: {ratio_words(worst.ratio.median)} the speed of {against}"])


def _failing_lines(run: MeasuredRun) -> Iterator[str]:
    if problems := failures(run):
        yield ""
        yield f"{missing_times(run)}:"
        for failure in problems[:SHOWN_FAILURES]:
            where = f"{failure.point.label}, {setting_words(run, failure.point)}, {block_words(failure.blocks)}"
            yield from _wrapped([f"  {failure.status}: {where}: {failure.reason}"])
        if len(problems) > SHOWN_FAILURES:
            yield f"  and {len(problems) - SHOWN_FAILURES} more, in the report"


def break_even_lines(run: MeasuredRun) -> Iterator[str]:
    """Between which values of the swept factor each way begins to win over the base case, a line for each setting."""
    for workload, points in run.workloads.items():
        base = next((point.label for point in points if point.base), "")
        by_setting: dict[str, list[str]] = {}
        for row in break_evens(run, workload):
            if base in row.wins_from:
                by_setting.setdefault(row.setting, []).append(f"{row.way.label} {row.wins_from[base]}")
        if by_setting:
            yield ""
            yield f"{workload}: the {run.crossed(workload)[0]} from which each way wins over {base}:"
            yield from _wrapped(f"  {setting}: {'; '.join(ways)}" for setting, ways in by_setting.items())


def _point_line(run: MeasuredRun, point: Point, beside: Sequence[Point]) -> str:
    if point.seconds is None:
        return _columns(f"  {point_label(point)}", "no time", "", "", "", "")
    speedup = run.speedup(point)
    alone = point is run.base_of(point)
    return _columns(
        f"  {point_label(point)}{work_note(point, beside)}",
        number(point.seconds.median),
        number(point.cold.median) if point.cold else NONE,
        "base" if alone else ratio_words(speedup.median) if speedup else NONE,
        "" if alone else interval_words(speedup, ratio_digits),
        "" if alone else bound_words(run, point),
    )


def _columns(label: str, *cells: str) -> str:
    """A line with figures; a label that is too long for its column has a line of its own above them."""
    widths = (9, 9, 9, 15, 12)
    figures = "".join(f"{cell:>{n}}" for cell, n in zip(cells, widths, strict=True))
    return f"{label:<45}{figures}" if len(label) <= 45 else f"{label}\n{'':<45}{figures}"
