# SPDX-License-Identifier: Apache-2.0
"""Runs cells in a child process, one at a time: its Spark session, its data, timed calls, checks, a record."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from suite import records
from suite.cluster import preflight
from suite.cluster.description import executor_conf
from suite.errors import InvalidCellError
from suite.machine.environment import why_no_processes
from suite.plan.cells import Cell
from suite.plan.engagement import why_not_parallel
from suite.plan.scenario import DATA_FOLDER, Scenario, files_for_workers, load_scenario, matching_kwargs, one_line
from suite.plan.visits import Visit
from suite.records import Record
from suite.run.answers import References
from suite.run.assignment import Assignment
from suite.run.watch import CallWatch, overhead
from suite.spark import session
from suite.spark.event_log import Engaged, EventLog, most_engaged
from suite.spark.failures import why_no_java

WARM_CALLS = 5  # at most, for each second that untimed calls may take together
STEADY_CALLS = 3
STEADY = 0.95
# After a minute without work Spark ends its Python workers, and the next call waits until new ones have imported all.
# Other queries meanwhile push the code that Spark made for this one out of its cache, and new code is slow at first.
IDLE_SECONDS = 50.0
SHORT_CALL = 1.0  # seconds of a call beside which such things are not small


@dataclass
class Seen:
    """What the visits to a cell have shown so far.

    Attributes
    ----------
    answers : list
        Of every call.
    cold : float or None
        Seconds of its first call, where it was the first in the process.
    warm, cpu : list of float
        Seconds of each timed call, by the clock on the wall and by those of all cores.
    engaged : list of Engaged
        What ran on Spark, for each visit with timed calls.
    warnings : dict of str to None
        In order, each once.
    spent : dict of str to float
        As in `Record`.
    quickest : float
        Seconds of its shortest call.
    left_at : float
        When its last call ended.
    """

    answers: list[Any] = field(default_factory=list)
    cold: float | None = None
    warm: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    engaged: list[Engaged] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    quickest: float = math.inf
    left_at: float = math.inf

    def was_forgotten(self) -> bool:
        """Whether its workers and its code may be gone, which a call as short as this one would be measured by."""
        return self.quickest < SHORT_CALL and time.perf_counter() - self.left_at > IDLE_SECONDS


def is_steady(seconds: Sequence[float]) -> bool:
    """Whether calls have stopped getting faster: the best of the last three is within 5 % of the three before."""
    earlier, last = seconds[-2 * STEADY_CALLS : -STEADY_CALLS], seconds[-STEADY_CALLS:]
    return len(earlier) == STEADY_CALLS and min(last) >= STEADY * min(earlier)


def _warm_up(watch: CallWatch, seconds: Sequence[float], budget: float) -> list[float]:
    """Go on calling a short variant untimed, until it is steady or has had its seconds: a JVM compiles as it goes."""
    taken = list(seconds)
    while sum(taken) < budget and len(taken) < WARM_CALLS * budget and not is_steady(taken):
        watch.before_call()
        begin = time.perf_counter()
        watch.call()
        taken.append(time.perf_counter() - begin)
        watch.after_call()
    return taken[len(seconds) :]


class CellRunner:
    """Runs the cells of an assignment in this process.

    Parameters
    ----------
    assignment : Assignment

    Attributes
    ----------
    references : References
        The right answers so far; whoever writes a record has to tell it.
    """

    def __init__(self, assignment: Assignment):
        self.assignment = assignment
        self.directory = Path(assignment.directory)
        self.scenarios: dict[str, Scenario] = {}
        self._folders: dict[str, Path] = {}
        for path in assignment.files:
            with contextlib.chdir("."):  # a file that goes to another folder goes there alone
                scenario = load_scenario(Path(path))
                self.scenarios[scenario.name], self._folders[scenario.name] = scenario, Path.cwd()
        self.references = References(records.read(self.directory / "records.jsonl"), own=assignment.compared)
        self.spark: Any = None
        self.events: EventLog | None = None
        self.session_seconds: float | None = None
        self._no_session: str | None = None
        self._called = False
        self._gateway = SparkContext._gateway  # none, but in tests of this class
        self._processes: int | None = None
        self._keeper: tuple[Any, ...] | None = None  # whose workers are kept for the next call
        self._seen: dict[str, Seen] = {}
        self._data: dict[str, Any] = {}

    def record(self, cell: Cell, position: int, status: str, reason: str | None) -> Record:
        """Make a record of a cell without a time."""
        of = {"id": self.assignment.name, "seconds": self.session_seconds, "position": position}
        run = self.assignment.run
        return Record.of_cell(asdict(cell), run=run, status=status, reason=reason, session=of)

    def start_session(self, cell: Cell) -> None:
        """Start the session that a cell needs, unless it is there.

        Raises
        ------
        Exception
            Whatever keeps Spark from starting.
        """
        if cell.session is None or self.spark is not None:
            return
        if self._no_session is not None:
            # It took its time to fail; the next cells need not wait for the same.
            raise RuntimeError(self._no_session)
        log = self.directory / "logs" / f"{self.assignment.name}.log"  # where our own output goes, and the JVM's
        written = log.stat().st_size if log.exists() else 0
        try:
            self._start(cell.session)
        except Exception as error:
            why = one_line(error)
            if "JAVA_GATEWAY_EXITED" in why:
                said = log.read_bytes()[written:].decode(errors="replace") if log.exists() else ""
                why = f"Java did not start: {why_no_java(said)}: see logs/{log.name}"
            self._no_session = f"no Spark session: {why}"
            raise RuntimeError(self._no_session) from error

    def visit(
        self, cell: Cell, visit: Visit, benchmark: Any, turn: Callable[[], None], data_ready: Callable[[], None]
    ) -> Record | None:
        """Visit a cell, whose session is there: data, calls, and after the last visit checks and the record.

        Parameters
        ----------
        cell : Cell
        visit : Visit
        benchmark : pytest_benchmark.fixture.BenchmarkFixture
        turn : callable
            See `CallWatch`.
        data_ready : callable
            Called once the data are there.

        Raises
        ------
        InvalidCellError
            Where the answer is wrong, too few or too many slots were busy, the cluster lost a part of itself, no
            process can be started, or the recipe stopped the session or started one of its own.
        Exception
            Whatever the variant raises.
        """
        if cell.session is None and (cell.factors["parallelism"] or 1) > 1 and (why := why_no_processes()):
            raise InvalidCellError(f"not parallel: joblib starts no processes, since {why}: see `doctor`")
        begin = time.perf_counter()
        os.chdir(self._folders[cell.scenario])
        scenario = self.scenarios[cell.scenario]
        variant = next(variant for variant in scenario.variants if variant.name == cell.variant)
        arguments = matching_kwargs(variant.function, {"spark": self.spark, **cell.factors})
        arguments["data"] = self._data_for(scenario, cell)
        data_ready()
        ready = time.perf_counter()
        seen = self._seen.setdefault(cell.id, Seen())
        # Workers that are kept from call to call are gone after each visit on Spark, whose events tell of tasks that
        # have ended alone, and where another variant comes. One call starts them again.
        keeper = (cell.scenario, cell.variant, cell.factors["parallelism"])
        kept = self._keeper == keeper
        if not kept:
            self.release()
        # Without Spark, loky starts its processes anew when a call wants another number than the one before.
        wanted = cell.factors["parallelism"] if cell.session is None else None
        others = wanted not in (None, self._processes)
        self._processes = wanted or self._processes
        forgotten, budget = seen.was_forgotten(), self.assignment.warm_seconds
        untimed = int(visit.warm_up or (scenario.keeps_workers and not kept) or others or (forgotten and not budget))
        finding = untimed and self.references.lacks(cell)
        rounds = max(2 if finding else 1, untimed + visit.timed)
        watch = CallWatch(lambda: variant.function(**arguments), self.spark, self.events, turn, visit.timed)
        first, self._called = not self._called, True
        self._keeper = keeper
        try:
            more = _warm_up(watch, [], budget) if forgotten else []
            benchmark.pedantic(
                watch.call, setup=watch.before_call, teardown=watch.after_call, rounds=rounds, iterations=1
            )
            seconds = benchmark.stats.stats.data
            if not visit.timed:
                more += _warm_up(watch, seconds, budget)
        except BaseException:
            with contextlib.suppress(RuntimeError):  # what the variant raised counts
                self.release()
            raise
        if self.spark is not None:
            self.release()
        elif self._has_strange_jvm():
            raise InvalidCellError(
                "it started a Spark session of its own: let it take the suite's, as argument `spark`"
            )
        watch.after_last_call()
        seen.quickest, seen.left_at = min(seen.quickest, *seconds, *more), time.perf_counter()
        # Where sides take turns, they make their first calls at the same time.
        if first and not self.assignment.turns:
            seen.cold = seconds[0]
        seen.warm += seconds[rounds - visit.timed :]
        seen.cpu += watch.cpu_seconds
        seen.answers += watch.answers
        ran = watch.engaged()
        # Before the answer is checked: this also drops what was left cached.
        seen.warnings |= dict.fromkeys(
            watch.warnings(ran, machine=ran is None or session.is_local(self.assignment.master))
        )
        if finding:
            self.references.find(cell, scenario.check, watch.answers)
        if why := watch.disturbance():
            raise InvalidCellError(
                f"disturbed: {why}", self.references.check_if_known(cell, scenario.check, seen.answers)
            )
        if visit.timed and ran is not None:
            seen.engaged.append(ran)
            ran = most_engaged(seen.engaged)
        if visit.last and (why := self._why_not_parallel(cell, scenario, ran, seconds[-1])):
            raise InvalidCellError(why)
        # What the harness itself cost: events, checks, leftovers. Sessions and data are the recipe's needs.
        called = sum(seconds) + sum(more)
        harness = time.perf_counter() - ready - called
        for name, value in (("preparing", ready - begin), ("calls", called), ("harness", harness)):
            seen.spent[name] = seen.spent.get(name, 0.0) + value
        return self._record_of(cell, visit, seen, ran, watch.memory) if visit.last else None

    def _record_of(
        self, cell: Cell, visit: Visit, seen: Seen, ran: Engaged | None, memory: dict[str, float] | None
    ) -> Record:
        """Check the answers of all calls, and make the record."""
        answer = self.references.check(cell, self.scenarios[cell.scenario].check, seen.answers)
        return replace(
            self.record(cell, visit.position, "ok", None),
            seconds=statistics.median(seen.warm),
            warm_seconds=seen.warm,
            cpu_seconds=seen.cpu,
            cold_seconds=seen.cold,
            answer=answer,
            engaged=None if ran is None else asdict(ran),
            warnings=list(seen.warnings),
            overhead=None if ran is None else overhead(ran, seen.warm[-1], cell.session or 1, self.session_seconds),
            memory=memory,
            spent=seen.spent,
        )

    def _why_not_parallel(self, cell: Cell, scenario: Scenario, ran: Engaged | None, seconds: float) -> str | None:
        if ran is None:
            return None
        threads = scenario.parallelism == "threads"
        return why_not_parallel(cell.needs or 0, cell.session or 1, asdict(ran), seconds, threads=threads)

    def _has_strange_jvm(self) -> bool:
        """Whether a recipe has started Spark in a process without: nobody would see its tasks, and it would stay."""
        return self.spark is None and SparkContext._gateway is not self._gateway

    def release(self) -> None:
        """End what the variant that was called last keeps for its next call.

        Raises
        ------
        RuntimeError
            The recipe's own `release` raised: it names that variant, since the cell at hand may be another's.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        scenario = self.scenarios[keeper[0]]
        try:
            scenario.release()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise RuntimeError(f"release in {scenario.path.name}, after {keeper[1]}: {one_line(error)}") from error

    def recover(self) -> bool:
        """Make the process fit for the next cell after one without a time; return False where that cannot be done."""
        if self.spark is None:
            return not self._has_strange_jvm()
        if not session.is_alive(self.spark):
            return False
        # Threads of a failed search may go on launching jobs.
        self.spark.sparkContext.cancelAllJobs()
        return True

    def executors(self) -> dict[str, Any]:
        """Return versions, limits and load of a cluster's executors; nothing in local mode."""
        if self.spark is None or session.is_local(self.assignment.master) or not session.is_alive(self.spark):
            return {}
        try:
            return preflight.describe_nodes(preflight.executor_versions(self.spark))
        except Exception:  # noqa: BLE001 - the run is over, and a cluster that has broken meanwhile loses nothing by it
            return {}

    def stop(self) -> None:
        """End what is kept for a next call, and the session."""
        self.release()
        if self.spark is not None and session.is_alive(self.spark):
            self.spark.stop()

    def _start(self, slots: int) -> None:
        events = self.directory / "logs" / "events"
        events.mkdir(parents=True, exist_ok=True)
        own = {**self.assignment.conf, **executor_conf(self.assignment.conf, slots)}
        conf = session.spark_conf(self.assignment.master, slots, events, own)
        begin = time.perf_counter()
        self.spark = session.start_session(conf, files_for_workers(self.scenarios.values()))
        self.session_seconds = time.perf_counter() - begin
        self.events = EventLog(self.spark, events)

    def _data_for(self, scenario: Scenario, cell: Cell) -> Any:
        """Return the data of a cell: made once in this process, and prepared where there is a session for it."""
        values = {"spark": self.spark, **cell.factors}
        if self.assignment.data:
            values[DATA_FOLDER] = Path(self.assignment.data)
        prepare = scenario.prepare if self.spark is not None else None
        to_make = matching_kwargs(scenario.make_data, values)
        to_prepare = matching_kwargs(prepare, values) if prepare else {}
        wanted = {name: value for name, value in {**to_make, **to_prepare}.items() if name != "spark"}
        key = json.dumps([scenario.name, wanted], sort_keys=True, default=str)
        if key not in self._data:
            data = scenario.make_data(**to_make)
            self._data[key] = prepare(data, **to_prepare) if prepare else data
        return self._data[key]
