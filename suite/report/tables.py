# SPDX-License-Identifier: Apache-2.0
"""The tables of the page: what their columns are called, and what stands in them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from suite.report.captions import bound_words, missing_times, setting_words
from suite.report.findings import BreakEven, Loss, break_evens, failures
from suite.report.formatting import NONE, figure_words, number, ratio_digits, ratio_words, short
from suite.report.point import Point
from suite.report.points import MeasuredRun
from suite.stats import Interval, karp_flatt


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it says of an item, and whether it holds figures, which are set flush right."""

    heading: str
    cell: Callable[[MeasuredRun, Any], str]
    figures: bool = True


@dataclass(frozen=True)
class PageTable:
    """A table with its words, one sequence of cells a row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


def settings_table(run: MeasuredRun, workload: str, points: Sequence[Point]) -> PageTable:
    """Every variant of a workload at every setting. Where calls count rows or fits there is a column for their rate."""
    counted = [column for column, counts in COUNT_COLUMNS if any(counts(point) for point in points)]
    columns = (*SETTING_COLUMNS, *counted, RECIPE_COLUMN)
    return _fill(f"{workload}: every variant and setting", columns, run, points)


def overhead_table(run: MeasuredRun, workload: str, points: Iterable[Point]) -> PageTable:
    """Where the time went, for each variant of a workload that ran on Spark."""
    known = [point for point in points if point.seconds and any(point.overhead(part) for part in OVERHEAD)]
    return _fill(f"{workload}: where the time went, medians", OVERHEAD_COLUMNS, run, known)


def memory_table(run: MeasuredRun, workload: str, points: Iterable[Point]) -> PageTable:
    """What each variant of a workload held in memory and moved between processes."""
    known = [point for point in points if any(point.memory(part) for part in MEMORY)]
    return _fill(f"{workload}: memory at most, and what moved, medians", MEMORY_COLUMNS, run, known)


def break_even_table(run: MeasuredRun, workload: str) -> PageTable:
    """Between which values of the swept factor each way begins to win over others; no rows where none is swept."""
    found = break_evens(run, workload)
    others = dict.fromkeys(other for row in found for other in row.wins_from)
    columns = (*BREAK_EVEN_COLUMNS, *(_wins_column(other) for other in others))
    swept = run.crossed(workload)[0] if found else ""
    return _fill(f"{workload}: the {swept} from which each way wins", columns, run, found)


def _wins_column(other: str) -> Column:
    def cell(run: MeasuredRun, row: BreakEven) -> str:
        return row.wins_from.get(other, NONE)

    return Column(f"over {other}", cell)


def losses_table(run: MeasuredRun, place: str, found: Iterable[Loss]) -> PageTable:
    """Losing cases, in the order given."""
    return _fill(f"Losing at {place}, the slowest first", LOSS_COLUMNS, run, found)


def failures_table(run: MeasuredRun) -> PageTable:
    """Every cell without a time, and why."""
    return _fill(f"{missing_times(run)}, and why", FAILURE_COLUMNS, run, failures(run))


def environment_table(run: MeasuredRun) -> PageTable:
    """What `environment.json` says, a row for each value."""
    return _fill("What the run ran on", ENVIRONMENT_COLUMNS, run, _flat(run.environment))


def _fill(caption: str, columns: Sequence[Column], run: MeasuredRun, items: Iterable[Any]) -> PageTable:
    return PageTable(caption, columns, [[column.cell(run, item) for column in columns] for item in items])


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names, joined by dots, and values of nested dictionaries."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, NONE if value is None else str(value)


# --- cells


def _median(interval: Interval | None) -> str:
    return number(interval.median) if interval else NONE


def _label_of(run: MeasuredRun, point: Point) -> str:
    return point.label + (" (base case)" if point.base else "")


def _speedup(run: MeasuredRun, point: Point) -> str:
    speedup = run.speedup(point)
    if speedup and point is run.base_of(point):
        return "1× (base)"
    return figure_words(speedup, ratio_digits, "×")


def _bound(run: MeasuredRun, point: Point) -> str:
    return bound_words(run, point) or NONE


def _machine_limit(run: MeasuredRun, point: Point) -> str:
    limit = run.machine_limit(point) if point.at_once > 1 else None
    return ratio_words(limit) if limit else NONE


def _efficiency(run: MeasuredRun, point: Point) -> str:
    speedup = run.speedup(point)
    return f"{speedup.median / point.at_once:.0%}" if speedup and point.at_once > 1 else NONE


def _serial_share(run: MeasuredRun, point: Point) -> str:
    speedup = run.speedup(point)
    share = karp_flatt(speedup.median, point.at_once) if speedup else None
    return NONE if share is None else f"{share:.2f}"


def _core_seconds(run: MeasuredRun, point: Point) -> str:
    busy = point.engaged("task_seconds")
    return number(statistics.median(busy)) if busy else NONE


def _slots_engaged(run: MeasuredRun, point: Point) -> str:
    used = point.engaged("slots")
    return "–".join(dict.fromkeys(f"{value:.0f}" for value in (min(used), max(used)))) if used else NONE


def _rate(run: MeasuredRun, point: Point) -> str:
    return f"{short(point.rate.median)} (of {short(point.rows)})" if point.rate and point.rows else NONE


def _seconds_of_fit(run: MeasuredRun, point: Point) -> str:
    return (
        f"{number(point.seconds_of_fit.median)} (of {short(point.fits)})"
        if point.seconds_of_fit and point.fits
        else NONE
    )


def _seconds_and_rows(point: Point) -> str:
    if point.seconds is None:
        return NONE
    return number(point.seconds.median) + (f" for {short(point.work)} {point.unit_of_work}" if point.work else "")


def _winner(run: MeasuredRun, loss: Loss) -> str:
    kind = "base case" if loss.against.base else "best without Spark"
    return f"{kind}: {loss.against.label}, {loss.against.place}"


def _median_column(heading: str, figure: Callable[[Point, str], Interval | None], part: str) -> Column:
    return Column(heading, lambda run, point: _median(figure(point, part)))


# --- columns

SETTING_COLUMNS = (
    Column("Variant", _label_of, figures=False),
    Column("Setting", setting_words, figures=False),
    Column("Warm s", lambda run, point: figure_words(point.seconds)),
    Column("Speedup", _speedup),
    Column("Notes", lambda run, point: "; ".join(point.notes), figures=False),  # in sight of what they warn of
    Column("Cold s", lambda run, point: _median(point.cold)),
    Column("Session start s", lambda run, point: _median(point.session)),
    Column("Bound", _bound),
    Column("Machine's limit", _machine_limit),
    Column("Efficiency", _efficiency),
    Column("Karp-Flatt e", _serial_share),
    Column("Core-seconds", _core_seconds),
    Column("CPU s", lambda run, point: _median(point.cpu)),
    Column("Slots engaged", _slots_engaged),
)
# Columns for workloads whose calls count what they did.
COUNT_COLUMNS: tuple[tuple[Column, Callable[[Point], int | None]], ...] = (
    (Column("Rows/s", _rate), lambda point: point.rows),
    (Column("s/fit", _seconds_of_fit), lambda point: point.fits),
)
RECIPE_COLUMN = Column("Recipe", lambda run, point: f"{point.scenario}.py", figures=False)

# Parts of `run.watch.overhead`, and what the table calls them.
OVERHEAD = {
    "session": "Session start s",
    "driver": "Driver alone s",
    "tasks": "Tasks, slot-s",
    "shipping": "Shipping, in tasks",
    "idle": "Idle, slot-s",
    "refit": "Refit s",
}
WHO_COLUMNS = (
    Column("Variant", lambda run, point: point.label, figures=False),
    Column("Setting", setting_words, figures=False),
)
OVERHEAD_COLUMNS = (
    *WHO_COLUMNS,
    Column("Warm s", lambda run, point: _median(point.seconds)),
    *(_median_column(heading, Point.overhead, part) for part, heading in OVERHEAD.items()),
)

# Parts of `machine.memory.peak_memory`, and fields of `spark.event_log.Engaged`.
MEMORY = {"driver": "Driver MiB", "jvm": "JVM MiB", "workers": "Workers MiB", "worker": "Largest worker MiB"}
MOVED = {"to_python": "To Python MB", "from_python": "From Python MB", "shuffled": "Shuffled MB"}
MEMORY_COLUMNS = (
    *WHO_COLUMNS,
    *(_median_column(heading, Point.memory, part) for part, heading in MEMORY.items()),
    *(_median_column(heading, Point.moved, what) for what, heading in MOVED.items()),
)

BREAK_EVEN_COLUMNS = (
    Column("Setting", lambda run, row: row.setting, figures=False),
    Column("Variant", lambda run, row: row.way.label, figures=False),
)

LOSS_COLUMNS = (
    Column("Workload", lambda run, loss: loss.point.workload, figures=False),
    Column("Variant", lambda run, loss: loss.point.label, figures=False),
    Column("Setting", lambda run, loss: setting_words(run, loss.point), figures=False),
    Column("Warm s", lambda run, loss: _seconds_and_rows(loss.point)),
    Column("Slower than", _winner, figures=False),
    Column("Seconds of that", lambda run, loss: _seconds_and_rows(loss.against)),
    Column("Speed against it", lambda run, loss: figure_words(loss.ratio, ratio_digits, "×")),
    Column("Sure?", lambda run, loss: loss.sure, figures=False),
)

FAILURE_COLUMNS = (
    Column("Workload", lambda run, failure: failure.point.workload, figures=False),
    Column("Variant", lambda run, failure: failure.point.label, figures=False),
    Column("Setting", lambda run, failure: setting_words(run, failure.point), figures=False),
    Column("Blocks", lambda run, failure: ", ".join(map(str, failure.blocks)), figures=False),
    Column("Status", lambda run, failure: failure.status, figures=False),
    Column("Reason", lambda run, failure: failure.reason, figures=False),
)

ENVIRONMENT_COLUMNS = (
    Column("What", lambda run, entry: entry[0], figures=False),
    Column("Value", lambda run, entry: entry[1], figures=False),
)
