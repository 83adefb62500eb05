# SPDX-License-Identifier: Apache-2.0
"""A run folder as charts and report see it: every planned cell with its record, gathered into points."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from suite import records, stats
from suite.errors import UsageError
from suite.plan.bounds import measured_speedup_bound
from suite.plan.engagement import why_not_parallel
from suite.plan.scenario import PARALLEL, one_line
from suite.records import Record
from suite.report.point import Point, fastest_first
from suite.stats import Interval

NOT_RUN = "not run"
# In the address of a master: the driver's own machine, whatever else is there.
THIS_MACHINE = re.compile(r"//(?:127\.|localhost\b|\[::1\])")
LEAST_CPU_SECONDS = 0.2  # below it clocks that tick in hundredths tell nothing


@dataclass(frozen=True)
class MeasuredRun:
    """A run folder that was read; it compares the run's points with one another.

    Attributes
    ----------
    plan, environment : dict
        As in `plan.json` and `environment.json`; `environment` is empty where the file is missing.
    cells : list of Record
        Every planned cell, in plan order, with what its record says, except those left out.
    points : list of Point
        In the order of the plan's scenarios, base case first, then by label and factors.
    strays : int
        How many records belong to no cell of the plan.
    left_out : list of Record
        The cells of blocks that were left out for lack of time.
    """

    plan: dict[str, Any]
    environment: dict[str, Any]
    cells: list[Record]
    points: list[Point]
    strays: int
    left_out: list[Record] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """How many blocks were planned and not left out."""
        return int(self.plan.get("blocks") or 0) - self.blocks_left_out

    @property
    def blocks_with_times(self) -> int:
        """How many blocks have a time: fewer than were planned where the run was interrupted."""
        return len({cell.block for cell in self.cells if cell.status == "ok"})

    @property
    def blocks_left_out(self) -> int:
        """How many blocks were left out for lack of time."""
        return len({cell.block for cell in self.left_out})

    @property
    def master(self) -> str:
        """What the run ran on; a cluster that the suite started says in words what it is and where it runs."""
        return str(self.environment.get("master") or self.plan["master"])

    @property
    def one_host(self) -> bool:
        """Whether everything ran on the driver's own machine."""
        plain = self.master.lower()
        return (
            plain.startswith(("local", "standalone", "compose"))
            or "one host" in plain
            or bool(THIS_MACHINE.search(plain))
        )

    @cached_property
    def workloads(self) -> dict[str, list[Point]]:
        """The points of each workload, in the order of the plan's scenarios."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.workload, []).append(point)
        return found

    @cached_property
    def statuses(self) -> Counter[str]:
        """How many cells ended in each status."""
        return Counter(cell.status for cell in (*self.cells, *self.left_out))

    def is_central(self, point: Point, *besides: str) -> bool:
        """Whether a point lies at the centre of the sweeps, whatever the values of the factors named."""
        return all(name in besides for name in self.off_centre(point))

    def off_centre(self, point: Point) -> dict[str, Any]:
        """The factors in which a point differs from the centre of the sweeps."""
        return {
            name: value
            for name, value in point.factors.items()
            if value is not None and value != self._centres[point.scenario, name]
        }

    @cached_property
    def _centres(self) -> dict[tuple[str, str], Any]:
        """The central value of each factor of each scenario."""
        having: dict[tuple[str, str], list[Point]] = {}
        for point in self.points:
            for name, value in point.factors.items():
                if value is not None:
                    having.setdefault((point.scenario, name), []).append(point)
        # The plan tells the centre of what shapes the data; older plans do not. Files of one workload may have other
        # centres: then that of the base case counts, or points of different jobs would be side by side.
        base_files = {point.workload: point.scenario for point in self.points if point.base}
        told = {}
        for scenario, about in self.plan["scenarios"].items():
            of_base = self.plan["scenarios"].get(base_files.get(about["workload"]), {}).get("centre", {})
            for name, value in about.get("centre", {}).items():
                told[scenario, name] = of_base.get(name, value)
        return {key: _central_value(key[1], points) for key, points in having.items()} | told

    def crossed(self, workload: str) -> list[str]:
        """The factors of which the plan has every combination; none in older plans."""
        return list(dict.fromkeys(name for about in self._recipes_of(workload) for name in about.get("crossed", ())))

    def waits(self, workload: str) -> bool:
        """Whether the jobs of a workload wait instead of computing; in older plans that is told by its name."""
        return any(about.get("waits", workload == "waiting") for about in self._recipes_of(workload))

    def _recipes_of(self, workload: str) -> list[dict[str, Any]]:
        return [about for about in self.plan["scenarios"].values() if about["workload"] == workload]

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
            key=lambda base: (not self.is_central(base, *PARALLEL), base.factors.get("slots") or 0),
            default=None,
        )

    def single_node_of(self, point: Point) -> Point | None:
        """The fastest way to do the same job in parallel on one node without Spark."""
        return next(iter(fastest_first(other for other in self._same_job(point) if other.single_node)), None)

    def ratio(self, over: Point | None, point: Point) -> Interval | None:
        """Seconds of `over` divided by those of `point`, formed within blocks.

        Where the two scored different numbers of rows, or made different numbers of fits, seconds per row or fit are
        compared. None where no block has both times.
        """
        if over is None:
            return None
        scale = point.work / over.work if point.work and over.work else 1.0
        return stats.ratio_interval({block: s * scale for block, s in over.times.items()}, point.times)

    def speedup(self, point: Point) -> Interval | None:
        """Speedup over the base case; None where one of the two has no time."""
        return self.ratio(self.base_of(point), point)

    def bound(self, point: Point) -> float | None:
        """The largest speedup that the schedule allows; None where nothing tells it.

        The plan tells it for equal fits. For others it is the median over the blocks of what the schedule allows for
        the base case's fits as they were measured.
        """
        base = self.base_of(point)
        if point.bound is not None or point.schedule is None or base is None:
            return point.bound
        found = [
            measured_speedup_bound(
                point.schedule,
                _seconds_by_fold(cell.engaged["fits"]),
                point.at_once,
                refit_seconds=cell.engaged.get("refit_seconds") or 0.0,
            )
            for cell in base.cells
            if cell.status == "ok" and cell.engaged and cell.engaged.get("fits")
        ]
        return statistics.median(found) if found else None

    def least_bound(self, point: Point) -> float | None:
        """The speedup of a schedule that is kept, where nothing outside of the fits goes parallel with it.

        `bound` assumes that all else in the call goes parallel like the fits: planning of jobs, results, what the
        driver does. Between the two is a band. None where the base case has no tasks whose time could be told apart.
        """
        base, bound = self.base_of(point), self.bound(point)
        if base is None or bound is None or base.driver_share is None:
            return None
        return 1 / (base.driver_share + (1 - base.driver_share) / bound)

    def machine_limit(self, point: Point) -> float | None:
        """The largest speedup that the machine's cores allow, if a call costs the CPU seconds of its base case.

        A base case that runs one task at a time keeps more than one core busy: Java collects garbage and compiles
        beside it, and the driver plans ahead. None where it is not known, or other machines compute too.
        """
        base = self.base_of(point)
        cores = (self.environment.get("machine") or {}).get("cores")
        if base is None or base.cpu is None or base.seconds is None or not cores or not self.one_host:
            return None
        if base.cpu.median < LEAST_CPU_SECONDS:
            return None
        return float(cores * base.seconds.median / base.cpu.median)


def _central_value(name: str, points: Iterable[Point]) -> Any:
    """The value of a factor at which the other factors were swept.

    Factors are swept one at a time, so most points have the central value. Where nothing else was swept all values
    are equally frequent; the most that the machine can do at once is central then.
    """
    sharing: dict[str, list[Point]] = {}
    for point in points:
        sharing.setdefault(str(point.factors[name]), []).append(point)

    def rank(group: Sequence[Point]) -> tuple[int, bool, float]:
        value = group[0].factors[name]
        # Where some are on Spark, it is the cluster that counts, and not the driver's machine: their slots have to be
        # central together with their parallelism.
        decisive = [point for point in group if point.on_spark] or group
        feasible = not any(p.oversubscribed or (name == "parallelism" and value != p.at_once) for p in decisive)
        return len(group), feasible, value if name in PARALLEL else 0.0

    return max(sharing.values(), key=rank)[0].factors[name]


def _seconds_by_fold(fits: Iterable[tuple[int, int, float]]) -> list[list[float]]:
    """Seconds of a fold's fits, for each fold, from fits as (fold, candidate, seconds)."""
    folds: dict[int, list[float]] = {}
    for fold, _, seconds in fits:
        folds.setdefault(fold, []).append(seconds)
    return list(folds.values())


# --- reading a run folder


def read_run(directory: Path) -> MeasuredRun:
    """Read a run folder.

    Parameters
    ----------
    directory : Path
        Holds `plan.json`, `records.jsonl` and, normally, `environment.json`.

    Returns
    -------
    MeasuredRun

    Raises
    ------
    FileNotFoundError
        There is no plan in it.
    UsageError
        A file in it is not what a run writes.
    """
    plan = _read_object(directory / "plan.json", "cells", "scenarios", "master")
    about = directory / "environment.json"
    environment = _read_object(about) if about.exists() else {}
    written = {record.id: record for record in records.read(directory / "records.jsonl")}
    try:
        cells = [_record_of(cell, written.pop(cell["id"], None), plan) for cell in plan["cells"]]
        kept, left_out = _split_left_out(cells)
        points = _gather(plan, kept)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{directory / 'plan.json'} is not what a run writes: {one_line(error)}") from error
    return MeasuredRun(plan, environment, kept, points, len(written), left_out)


def _read_object(path: Path, *names: str) -> dict[str, Any]:
    """Read a JSON object that has at least the members named."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not what a run writes: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not what a run writes: it holds {str(found)[:40]}")
    if missing := [name for name in names if name not in found]:
        raise UsageError(f"{path} is not what a run writes: it has no {missing[0]!r}")
    return dict(found)


def _record_of(cell: Mapping[str, Any], record: Record | None, plan: Mapping[str, Any]) -> Record:
    """What became of a planned cell. The rule on parallelism also holds for records that are older than the rule."""
    if record is None:
        return Record.of_cell(cell, status=NOT_RUN, reason="the run ended before it")
    # Older records do not repeat these two of their cell.
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


def _split_left_out(cells: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """Cells to show, and cells of blocks that were left out for lack of time.

    An earlier attempt may have begun a block that a later one left out; such a block is shown.
    """
    cells = list(cells)
    begun = {cell.block for cell in cells if cell.status == "ok"}
    kept: list[Record] = []
    left_out: list[Record] = []
    for cell in cells:
        out_of_time = str(cell.reason).startswith(records.OUT_OF_TIME)
        (left_out if out_of_time and cell.block not in begun else kept).append(cell)
    return kept, left_out


def _gather(plan: Mapping[str, Any], cells: Iterable[Record]) -> list[Point]:
    """The points of all cells. Cells come shuffled; the order of points depends on nothing random."""
    gathered: dict[tuple[str, str, str], list[Record]] = {}
    for cell in cells:
        factors = json.dumps(cell.factors, sort_keys=True)
        gathered.setdefault((cell.scenario, cell.variant, factors), []).append(cell)
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

    return sorted((_point_of(plan, of_point) for of_point in gathered.values()), key=place)


def _point_of(plan: Mapping[str, Any], cells: Sequence[Record]) -> Point:
    first = cells[0]
    return Point(
        workload=first.workload,
        scenario=first.scenario,
        variant=first.variant,
        label=first.label,
        base=first.base,
        factors=first.factors,
        # Without a session there are no slots for threads to share: what runs in parallel has processes of its own.
        threads=plan["scenarios"][first.scenario]["parallelism"] == "threads" and bool(first.factors.get("slots")),
        schedule=first.schedule,
        bound=first.bound,
        oversubscribed=first.oversubscribed,
        cells=tuple(sorted(cells, key=lambda cell: cell.block)),
    )


def write_caveats(directory: Path) -> None:
    """Write into each record that has a time its `caveats`, which only all blocks together tell.

    A record whose caveats changed, since a later attempt added blocks, is appended again.
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
