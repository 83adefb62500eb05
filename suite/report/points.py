# SPDX-License-Identifier: Apache-2.0
"""A run folder as charts and report see it: every planned cell with its record, gathered over blocks."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from suite import records, stats
from suite.plan.bounds import measured_speedup_bound
from suite.plan.engagement import why_not_parallel
from suite.records import Record
from suite.stats import Interval

PARALLEL = ("slots", "parallelism")
NOT_RUN = "not run"


def _interval(values: Mapping[int, float]) -> Interval | None:
    return stats.median_interval(list(values.values())) if values else None


@dataclass(frozen=True)
class Point:
    """A variant at one setting of its factors, with its cells, one per block.

    Attributes
    ----------
    threads : bool
        Whether parallelism counts driver threads at fixed slots; False where it counts slots or processes.
    bound : float or None
        Of equal fits, as planned; `Run.bound` knows that of measured fits too.
    cells : tuple of dict
        In block order; a cell that was never run has the status `not run`.
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
        """Fits in flight as asked for; None for a variant that has none."""
        return self.factors.get("parallelism")

    @property
    def at_once(self) -> int:
        """The most fits that can run at once: threads beyond the slots only wait."""
        asked = self.parallelism or 1
        return min(asked, self.factors.get("slots") or asked)

    @property
    def single_node(self) -> bool:
        """Whether it goes parallel without Spark, as loky does."""
        return self.factors.get("slots") is None and self.parallelism is not None and not self.threads

    @property
    def shape(self) -> dict[str, Any]:
        """The factors that say what the job is, not how it is spread."""
        return {name: value for name, value in self.factors.items() if name not in PARALLEL}

    @property
    def place(self) -> str:
        """How it is spread, in words."""
        slots = self.factors.get("slots")
        if self.parallelism is None:
            return f"{plural(slots, 'slot')}" if slots else "serial"
        if self.single_node:
            return plural(self.parallelism, "process", "processes")
        if self.threads:
            return plural(self.parallelism, "thread") + (f", {plural(slots, 'slot')}" if slots else "")
        return plural(self.parallelism, "slot")

    def _ok(self, field: str) -> dict[int, float]:
        found = {cell.block: getattr(cell, field) for cell in self.cells if cell.status == "ok"}
        return {block: float(value) for block, value in found.items() if value}

    @cached_property
    def times(self) -> dict[int, float]:
        """Warm seconds of each block that has them."""
        return self._ok("seconds")

    @cached_property
    def seconds(self) -> Interval | None:
        """Median warm seconds."""
        return _interval(self.times)

    @cached_property
    def cold(self) -> Interval | None:
        """Median seconds of the first call in a process."""
        return _interval(self._ok("cold_seconds"))

    @cached_property
    def rows(self) -> int | None:
        """Rows that one call scored, where its answer says so."""
        for cell in self.cells:
            if cell.status == "ok" and isinstance(cell.answer, dict) and cell.answer.get("rows"):
                return int(cell.answer["rows"])
        return None

    @cached_property
    def rate(self) -> Interval | None:
        """Median rows per second."""
        if self.rows is None:
            return None
        return _interval({block: self.rows / seconds for block, seconds in self.times.items()})

    @cached_property
    def session(self) -> Interval | None:
        """Median seconds that the start of its Spark session took."""
        if self.factors.get("slots") is None:
            return None
        starts = {cell.block: (cell.session or {}).get("seconds") for cell in self.cells if cell.status == "ok"}
        return _interval({block: seconds for block, seconds in starts.items() if seconds})

    def engaged(self, field: str) -> list[float]:
        """A figure of what Spark really used (`slots`, `task_seconds`, ...), for each block that ran."""
        found = [cell.engaged.get(field) for cell in self.cells if cell.status == "ok" and cell.engaged]
        return [float(value) for value in found if value is not None]

    def overhead(self, part: str) -> Interval | None:
        """Median of a part of `worker.overhead`."""
        found = {cell.block: (cell.overhead or {}).get(part) for cell in self.cells if cell.status == "ok"}
        return _interval({block: float(value) for block, value in found.items() if value is not None})

    @cached_property
    def problems(self) -> list[Record]:
        """Its cells without a time."""
        return [cell for cell in self.cells if cell.status != "ok"]

    @cached_property
    def unstable(self) -> bool:
        """Whether its times spread or drift too much."""
        return bool(stats.instability(list(self.times.values())))

    @cached_property
    def caveats(self) -> list[str]:
        """What to know of its times as a whole: too few blocks, spread, drift, outliers."""
        return stats.caveats(list(self.times.values())) if self.times else []

    @cached_property
    def notes(self) -> list[str]:
        """What to know before trusting its times."""
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


def plural(n: int, one: str, many: str | None = None) -> str:
    """'1 slot', '2 slots'."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def factors_in_words(factors: Mapping[str, Any]) -> str:
    """'folds 5, rows 20,000'."""
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{name} {value}"
        for name, value in factors.items()
    )


@dataclass(frozen=True)
class MeasuredRun:
    """A run folder, read.

    Attributes
    ----------
    plan, environment : dict
        As in the files; `environment` is empty where the file is missing.
    cells : list of dict
        Every planned cell, in plan order, with its record laid over it; but those of blocks left out for lack of time.
    left_out : list of dict
        These.
    points : list of Point
        In the order of the plan's scenarios, base case first, then by label and factors.
    strays : int
        Records of cells that the plan does not have.
    """

    plan: dict[str, Any]
    environment: dict[str, Any]
    cells: list[Record]
    points: list[Point]
    strays: int
    left_out: list[Record] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """Blocks planned and not left out."""
        return int(self.plan.get("blocks") or 0) - self.blocks_left_out

    @property
    def blocks_left_out(self) -> int:
        """Blocks for which there was no time."""
        return len({cell.block for cell in self.left_out})

    @property
    def master(self) -> str:
        """What it ran on, in words where the suite started it: a cluster of ours says what it is and where."""
        return str(self.environment.get("master") or self.plan["master"])

    @cached_property
    def workloads(self) -> dict[str, list[Point]]:
        """Points of each workload, in the order of the plan's scenarios."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.workload, []).append(point)
        return found

    @cached_property
    def statuses(self) -> Counter[str]:
        """How many cells ended how."""
        return Counter(cell.status for cell in (*self.cells, *self.left_out))

    @cached_property
    def _centres(self) -> dict[tuple[str, str], Any]:
        # Factors are swept one at a time, so a factor keeps its central value while the others are swept: the
        # value that most points share. Where it alone is swept there is a tie, and the most the machine can
        # do is central.
        votes: dict[tuple[str, str], dict[str, tuple[int, bool, float, Any]]] = {}
        for point in self.points:
            for name, value in point.factors.items():
                if value is None:
                    continue
                fits = not point.oversubscribed and (name != "parallelism" or value == point.at_once)
                size = float(value) if name in PARALLEL else 0.0
                seen = votes.setdefault((point.scenario, name), {})
                number = seen[str(value)][0] + 1 if str(value) in seen else 1
                seen[str(value)] = (number, fits, size, value)
        # For the shape of the data the plan itself says so; older plans do not.
        told = {
            (name, factor): value
            for name, about in self.plan["scenarios"].items()
            for factor, value in about.get("centre", {}).items()
        }
        return {key: max(seen.values(), key=lambda vote: vote[:3])[3] for key, seen in votes.items()} | told

    def centre(self, point: Point, *but: str) -> bool:
        """Whether a point lies at the centre of the sweeps, leaving aside the factors named."""
        return all(
            value is None or name in but or value == self._centres[point.scenario, name]
            for name, value in point.factors.items()
        )

    def off_centre(self, point: Point) -> dict[str, Any]:
        """The factors in which a point differs from the centre."""
        return {
            name: value
            for name, value in point.factors.items()
            if value is not None and value != self._centres[point.scenario, name]
        }

    def _same_job(self, point: Point) -> list[Point]:
        return [
            other
            for other in self.workloads[point.workload]
            if all(point.shape.get(name, value) == value for name, value in other.shape.items())
        ]

    def base_of(self, point: Point) -> Point | None:
        """The base case of the same job, at its lowest parallelism where it has any; None if it was not planned."""
        bases = [other for other in self.workloads[point.workload] if other.base]
        lowest = min((base.parallelism or 0 for base in bases), default=0)
        candidates = [base for base in self._same_job(point) if base.base and (base.parallelism or 0) == lowest]
        return min(
            candidates,
            key=lambda p: (not self.centre(p, *PARALLEL), p.factors.get("slots") or 0),
            default=None,
        )

    def single_node_of(self, point: Point) -> Point | None:
        """The fastest way to do the same job in parallel on one node without Spark."""
        candidates = [other for other in self._same_job(point) if other.single_node and other.seconds]
        return min(candidates, key=lambda p: p.seconds.median / (p.rows or 1) if p.seconds else 0.0, default=None)

    def ratio(self, over: Point | None, point: Point) -> Interval | None:
        """Seconds of `over` by seconds of the point, formed within blocks; per row where they scored other rows."""
        if over is None:
            return None
        scale = point.rows / over.rows if point.rows and over.rows else 1.0
        return stats.ratio_interval({b: s * scale for b, s in over.times.items()}, point.times)

    def speedup(self, point: Point) -> Interval | None:
        """Speedup over the base case; None where one of the two has no time."""
        return self.ratio(self.base_of(point), point)

    def bound(self, point: Point) -> float | None:
        """The largest speedup that the schedule allows: of equal fits, or of the base case's as they were measured.

        For measured fits the median over the blocks; None where there is neither.
        """
        base = self.base_of(point)
        if point.bound is not None or point.schedule is None or base is None:
            return point.bound
        found = []
        for cell in base.cells:
            engaged = cell.engaged or {}
            if cell.status == "ok" and engaged.get("fits"):
                folds: dict[int, list[float]] = {}
                for fold, _, seconds in engaged["fits"]:
                    folds.setdefault(fold, []).append(seconds)
                last = engaged.get("refit_seconds") or 0.0
                found.append(
                    measured_speedup_bound(point.schedule, list(folds.values()), point.at_once, refit_seconds=last)
                )
        return statistics.median(found) if found else None


def read_run(directory: Path) -> MeasuredRun:
    """Read a run folder.

    Parameters
    ----------
    directory : Path
        Holds `plan.json`, `records.jsonl` and, normally, `environment.json`.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError
        If there is no plan in it.
    """
    plan = json.loads((directory / "plan.json").read_text(encoding="utf-8"))
    about = directory / "environment.json"
    environment = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    written = {record.id: record for record in records.read(directory / "records.jsonl")}
    cells = [_measured(cell, written.pop(cell["id"], None), plan) for cell in plan["cells"]]
    # A block that was begun before it was left out, by an earlier attempt, is shown as it is.
    begun = {cell.block for cell in cells if cell.status == "ok"}
    out_of_time = [cell for cell in cells if str(cell.reason).startswith(records.OUT_OF_TIME)]
    left_out = [cell for cell in out_of_time if cell.block not in begun]
    gone = {cell.id for cell in left_out}
    kept = [cell for cell in cells if cell.id not in gone]
    return MeasuredRun(plan, environment, kept, _points(plan, kept), len(written), left_out)


def _measured(cell: dict[str, Any], record: Record | None, plan: dict[str, Any]) -> Record:
    """A planned cell's record. One from before a rule was as strict as it is now is held against it all the same."""
    if record is None:
        return Record.of_cell(cell, status=NOT_RUN, reason="the run ended before it")
    # Older records do not repeat these of their cell.
    record = replace(
        record,
        needs=cell.get("needs") if record.needs is None else record.needs,
        schedule=record.schedule or cell.get("schedule"),
    )
    if record.status != "ok" or not record.engaged or not record.seconds or record.needs is None:
        return record
    seconds = record.warm_seconds[-1] if record.warm_seconds else record.seconds
    threads = plan["scenarios"][record.scenario]["parallelism"] == "threads"
    slots = record.factors.get("slots") or 1
    why = why_not_parallel(record.needs, slots, record.engaged, seconds, threads=threads)
    return record if why is None else replace(record, status="invalid", reason=why, seconds=None, cold_seconds=None)


def write_caveats(directory: Path) -> None:
    """Write into each record that has a time what only all blocks together tell of it, its `caveats`.

    Records are appended anew where that has changed, since a later attempt may have added blocks.
    """
    path = directory / "records.jsonl"
    written = {record.id: record for record in records.read(path)}
    changed = []
    for point in read_run(directory).points:
        for cell in point.cells:
            record = written.get(cell.id)
            if record and record.status == "ok" and record.caveats != point.caveats:
                changed.append(replace(record, caveats=point.caveats))
    records.append(path, changed)


def _points(plan: dict[str, Any], cells: list[Record]) -> list[Point]:
    gathered: dict[tuple[str, str, str], list[Record]] = {}
    for cell in cells:
        factors = json.dumps(cell.factors, sort_keys=True)
        gathered.setdefault((cell.scenario, cell.variant, factors), []).append(cell)
    points = []
    for of_point in gathered.values():
        first = of_point[0]
        points.append(
            Point(
                workload=first.workload,
                scenario=first.scenario,
                variant=first.variant,
                label=first.label,
                base=first.base,
                factors=first.factors,
                threads=plan["scenarios"][first.scenario]["parallelism"] == "threads",
                schedule=first.schedule,
                bound=first.bound,
                oversubscribed=first.oversubscribed,
                cells=tuple(sorted(of_point, key=lambda cell: cell.block)),
            )
        )
    # Cells come shuffled; this order depends on nothing random. Workloads stay together, base case in front.
    scenarios = list(plan["scenarios"])
    workloads = list(dict.fromkeys(about["workload"] for about in plan["scenarios"].values()))

    def place(point: Point) -> tuple[Any, ...]:
        return (
            workloads.index(point.workload),
            not point.base,
            scenarios.index(point.scenario),
            point.label,
            point.parallelism or 0,
            [(name, isinstance(value, str), value) for name, value in sorted(point.shape.items()) if value is not None],
        )

    return sorted(points, key=place)
