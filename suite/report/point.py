# SPDX-License-Identifier: Apache-2.0
"""A point: one variant at one setting of its factors, with its figures over the blocks."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from suite import stats
from suite.plan.scenario import PARALLEL
from suite.records import Record
from suite.report.formatting import plural
from suite.stats import Interval


def count_in(answer: Any, what: str) -> int | None:
    """Return the number of "rows" or "fits" in an answer; None where it has none, or something else by that name."""
    count = answer.get(what) if isinstance(answer, dict) else None
    return int(count) if isinstance(count, (int, float)) and not isinstance(count, bool) and count >= 1 else None


def _interval(values: Mapping[int, float]) -> Interval | None:
    return stats.median_interval(list(values.values())) if values else None


def fastest_first(points: Iterable[Point]) -> list[Point]:
    """Sort the points of a job that have a time: by that of a row or a fit where all of them count these."""
    timed = [(point.seconds.median, point) for point in points if point.seconds]
    counted = all(point.work for _, point in timed)
    return [point for _, point in sorted(timed, key=lambda each: each[0] / ((counted and each[1].work) or 1))]


@dataclass(frozen=True)
class Point:
    """A variant at one setting of its factors, with its cells, one per block.

    Attributes
    ----------
    threads : bool
        Whether parallelism counts driver threads at fixed slots; False where it counts slots or processes.
    bound : float or None
        The largest speedup that the schedule allows if all fits take the same time. `MeasuredRun.bound` also knows
        the bound of fits that differ.
    cells : tuple of Record
        In block order; a cell that never ran has the status `not run`.
    """

    workload: str
    scenario: str
    variant: str
    label: str
    base: bool
    factors: dict[str, Any]
    threads: bool
    schedule: str | None
    bound: float | None
    oversubscribed: bool
    cells: tuple[Record, ...]

    @property
    def parallelism(self) -> int | None:
        """Fits in flight, as asked for; None for a variant that has no parallelism."""
        return self.factors.get("parallelism")

    @property
    def at_once(self) -> int:
        """The most fits that can run at once; threads beyond the slots only wait."""
        asked = self.parallelism or 1
        return min(asked, self.factors.get("slots") or asked)

    @property
    def single_node(self) -> bool:
        """Whether it runs in parallel without Spark, as loky does."""
        return self.factors.get("slots") is None and self.parallelism is not None and not self.threads

    @property
    def name(self) -> str:
        """`scenario.variant`."""
        return f"{self.scenario}.{self.variant}"

    @property
    def on_spark(self) -> bool:
        """Whether it ran in a Spark session."""
        return self.factors.get("slots") is not None

    @property
    def shape(self) -> dict[str, Any]:
        """The factors that say what the job is."""
        return {name: value for name, value in self.factors.items() if name not in PARALLEL}

    @property
    def place(self) -> str:
        """How the job is spread, in words."""
        slots = self.factors.get("slots")
        if self.parallelism is None:
            return plural(slots, "slot") if slots else "serial"
        if self.single_node:
            return plural(self.parallelism, "process", "processes")
        if self.threads:
            return plural(self.parallelism, "thread") + (f", {plural(slots, 'slot')}" if slots else "")
        return plural(self.parallelism, "slot")

    @cached_property
    def times(self) -> dict[int, float]:
        """Warm seconds of each block that has a time."""
        return self._figures("seconds")

    @cached_property
    def seconds(self) -> Interval | None:
        """Warm seconds."""
        return _interval(self.times)

    @cached_property
    def cold(self) -> Interval | None:
        """Seconds of its first call, of the blocks in which that was the first of its process."""
        return _interval(self._figures("cold_seconds"))

    @cached_property
    def cpu(self) -> Interval | None:
        """CPU seconds of a warm call, of all programs of the driver's machine; None in runs of older versions."""
        spent = {cell.block: statistics.median(cell.cpu_seconds) for cell in self._timed if cell.cpu_seconds}
        return _interval(spent)

    @cached_property
    def driver_share(self) -> float | None:
        """Share of a call in which no task ran; None without Spark."""
        shares = [
            (cell.overhead or {}).get("driver", 0.0) / cell.warm_seconds[-1]
            for cell in self._timed
            if cell.overhead and cell.warm_seconds
        ]
        return statistics.median(shares) if shares else None

    @cached_property
    def session(self) -> Interval | None:
        """Seconds that its Spark session took to start."""
        if not self.on_spark:
            return None
        starts = {cell.block: (cell.session or {}).get("seconds") for cell in self._timed}
        return _interval({block: seconds for block, seconds in starts.items() if seconds})

    @cached_property
    def rows(self) -> int | None:
        """Rows that one call scored; None where its answer does not say."""
        return self._count("rows")

    @cached_property
    def fits(self) -> int | None:
        """Fits that one call made, where calls of a job make different numbers; None where its answer does not say."""
        return self._count("fits")

    @property
    def work(self) -> int | None:
        """What times are divided by before they are compared: rows or fits of a call."""
        return self.rows or self.fits

    @property
    def unit_of_work(self) -> str:
        """What `work` counts."""
        return "rows" if self.rows else "fits"

    def _count(self, what: str) -> int | None:
        return next((count for cell in self._timed if (count := count_in(cell.answer, what))), None)

    @cached_property
    def rate(self) -> Interval | None:
        """Rows per second."""
        if self.rows is None:
            return None
        return _interval({block: self.rows / seconds for block, seconds in self.times.items()})

    @cached_property
    def seconds_of_fit(self) -> Interval | None:
        """Warm seconds of a call divided by its fits."""
        if self.fits is None:
            return None
        return _interval({block: seconds / self.fits for block, seconds in self.times.items()})

    def engaged(self, field: str) -> list[float]:
        """What Spark used in each block: a field of `spark.event_log.Engaged`, such as `slots` or `task_seconds`."""
        return list(self._part("engaged", field).values())

    def overhead(self, part: str) -> Interval | None:
        """A part of what `run.watch.overhead` says of the last call, in seconds."""
        return _interval(self._part("overhead", part))

    def moved(self, what: str) -> Interval | None:
        """Megabytes that passed in the last call: `to_python`, `from_python` or `shuffled`; None where none did."""
        return _interval({block: amount / 1e6 for block, amount in self._part("engaged", what).items() if amount})

    def memory(self, part: str) -> Interval | None:
        """A part of what `machine.memory.peak_memory` says of the last call, in MiB."""
        return _interval(self._part("memory", part))

    def _part(self, field: str, part: str) -> dict[int, float]:
        """A part of a field of its records that has several, of each block that knows it."""
        found = {cell.block: (getattr(cell, field) or {}).get(part) for cell in self._timed}
        return {block: float(value) for block, value in found.items() if value is not None}

    @property
    def _timed(self) -> list[Record]:
        return [cell for cell in self.cells if cell.status == "ok"]

    def _figures(self, field: str) -> dict[int, float]:
        found = {cell.block: getattr(cell, field) for cell in self._timed}
        return {block: float(value) for block, value in found.items() if value}

    @cached_property
    def problems(self) -> list[Record]:
        """Its cells without a time."""
        return [cell for cell in self.cells if cell.status != "ok"]

    @cached_property
    def unstable(self) -> bool:
        """Whether its times spread or drift too much over the blocks."""
        return bool(stats.instability(list(self.times.values())))

    @cached_property
    def caveats(self) -> list[str]:
        """What only all blocks together tell of its times: too few, spread, drift, outliers, not settled."""
        if not self.times:
            return []
        passes = [cell.warm_seconds for cell in self._timed]
        return stats.caveats(list(self.times.values())) + stats.unsettled(passes)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader has to know before trusting its times."""
        said = []
        if self.problems:
            kinds = Counter(cell.status for cell in self.problems)
            said.append(", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
        if self.oversubscribed:
            said.append("more workers than cores")
        said += self.caveats
        warned = Counter(warning for cell in self.cells for warning in cell.warnings)
        said += [warning if n == 1 else f"{warning} ({n} blocks)" for warning, n in sorted(warned.items())]
        return said
