# SPDX-License-Identifier: Apache-2.0
"""The answer of a run: which way does the job of each workload fastest, how sure that is, and which file to copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from suite.records import WRONG_ANSWER, Record
from suite.report.captions import group_by_job, point_label, shown_of_job
from suite.report.formatting import figure_words, plural, ratio_digits
from suite.report.point import Point, fastest_first
from suite.report.points import MeasuredRun
from suite.stats import Interval


@dataclass(frozen=True)
class Fastest:
    """The fastest way of a workload at the centre of its sweeps.

    Attributes
    ----------
    point : Point
    over : Point or None
        The base case, or the next best way where `point` is the base case or none was measured; None where there is no
        other way.
    gain : Interval or None
        How many times as fast as `over` it is.
    file : str
        The recipe to copy; empty where the base case is the fastest, and there is nothing to change.
    on_spark : Point or None
        The fastest way on Spark, where `point` is not on Spark.
    on_spark_gain : Interval or None
        How many times as fast as the base case that is.
    job : str
        In words what differs from the centre of the sweeps, where nothing has a time; else empty.
    """

    point: Point
    over: Point | None
    gain: Interval | None
    file: str
    on_spark: Point | None
    on_spark_gain: Interval | None
    job: str = ""

    @property
    def sure(self) -> str:
        """Whether the whole interval lies above 1, in words."""
        if self.gain is None:
            return "nothing to hold it against"
        if self.gain.low is None:
            return f"not sure: {plural(self.gain.n, 'block')} give{'s' * (self.gain.n == 1)} no interval"
        return "sure" if self.gain.low > 1 else "not sure: the interval contains 1×"

    @property
    def figure(self) -> str:
        """How many times as fast, with the interval."""
        return figure_words(self.gain, ratio_digits, "×") if self.gain else ""

    @property
    def on_spark_words(self) -> str:
        """The best way on Spark, where that is another, with its speedup over the base case."""
        if self.on_spark is None:
            return ""
        return f"{point_label(self.on_spark)}: {figure_words(self.on_spark_gain, ratio_digits, '×')}"


def fastest_ways(run: MeasuredRun) -> Iterator[Fastest]:
    """The fastest way of each workload that has times, in the order of the plan."""
    for points in run.workloads.values():
        jobs = group_by_job(run, points)
        for job, of_job in jobs.items():
            if kept := _timed(shown_of_job(run, of_job)):
                yield replace(_fastest(run, kept), job=job)
                break


def _timed(points: Iterable[Point]) -> list[Point]:
    """Those with a time, and without a wrong answer in any block."""
    return [point for point in points if point.seconds and not any(map(_is_wrong, point.problems))]


def _is_wrong(cell: Record) -> bool:
    return str(cell.reason).startswith(WRONG_ANSWER)


def _fastest(run: MeasuredRun, points: list[Point]) -> Fastest:
    """Of the points of one job."""
    ranked = fastest_first(points)
    best = ranked[0]
    base = run.base_of(best)
    over = base if base in ranked and base is not best else next(iter(ranked[1:]), None)
    if over is not None and over is base and (gain := run.ratio(over, best)) and gain.median < 1:
        # Ratios within blocks count, and by these the base case is the faster.
        best, over = over, best
    on_spark = next((point for point in ranked if point.on_spark), None) if not best.on_spark else None
    return Fastest(
        best,
        over,
        run.ratio(over, best),
        "" if best is base else run.plan["scenarios"][best.scenario].get("path", f"{best.scenario}.py"),
        on_spark,
        run.speedup(on_spark) if on_spark else None,
    )


def in_words(found: Fastest) -> str:
    """A line for a terminal."""
    said = f"{found.point.workload}: {point_label(found.point)}"
    if lost := len(found.point.problems):
        said += f" ({lost} of {plural(len(found.point.cells), 'block')} without a time)"
    if found.job:
        said += f" ({found.job}, since nothing has a time at the centre)"
    if found.over is None:
        said += ", and no other way has a time."
    elif found.file:
        said += f", {found.figure} as fast as {found.over.label} ({found.sure}). Copy {found.file}."
    else:
        said += f", and nothing beats it: {found.figure} as fast as the next, {found.over.label} ({found.sure})."
    return f"{said} Best on Spark: {found.on_spark_words}." if found.on_spark else said
