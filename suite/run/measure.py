# SPDX-License-Identifier: Apache-2.0
"""A child process's state: its Spark session, its data, the answers it checks against; runs one cell at a time."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from suite import records
from suite.cluster import preflight
from suite.cluster.description import executor_conf
from suite.machine.interference import Clocks, interference_warnings, read_clocks
from suite.plan.cells import Cell, answer_key
from suite.plan.scenario import Scenario, load_scenario, matching_kwargs, one_line
from suite.run.assignment import Assignment
from suite.spark import session
from suite.spark.event_log import Engaged, Event, EventLog, count_engaged
from suite.spark.failures import disturbance


class InvalidCellError(Exception):
    """The cell ran but its time does not count; the text says why, and `answer` is a right answer where it gave one."""

    def __init__(self, why: str, answer: Any = None):
        super().__init__(why)
        self.answer = answer


class CellRunner:
    """Runs the cells of a group in this process.

    Parameters
    ----------
    group : Group
    """

    def __init__(self, group: Assignment):
        self.group = group
        self.directory = Path(group.directory)
        self.scenarios: dict[str, Scenario] = {}
        for path in group.files:
            scenario = load_scenario(Path(path))
            self.scenarios[scenario.name] = scenario
        self.spark: Any = None
        self.events: EventLog | None = None
        self.session_seconds: float | None = None
        self._no_session: str | None = None
        self._called: set[tuple[str, str]] = set()
        self._data: dict[str, Any] = {}
        self._references: dict[str, records.Record] = {}
        for record in records.read(self.directory / "records.jsonl"):
            self.remember(record)

    def remember(self, record: records.Record) -> None:
        """Keep the first good answer of block 0 to each question: what later answers are checked against."""
        if record["block"] == 0 and record["status"] == "ok":
            self._references.setdefault(answer_key(record["workload"], record["factors"]), record)

    def record(self, cell: Cell, position: int, status: str, reason: str | None) -> records.Record:
        """A record of a cell without a time."""
        of = {"id": self.group.name, "seconds": self.session_seconds, "position": position}
        return records.blank(asdict(cell), run=self.group.run, status=status, reason=reason, session=of)

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
            raise RuntimeError(f"no Spark session: {self._no_session}")
        try:
            self._start(cell.session)
        except Exception as error:
            self._no_session = one_line(error)
            raise

    def run(self, cell: Cell, position: int, benchmark: Any, turn: Callable[[], None]) -> records.Record:
        """Run a cell, whose session is there: data, cold call, warm calls, checks.

        Parameters
        ----------
        cell : Cell
        position : int
            Of the cell in its process, from 0.
        benchmark : pytest_benchmark.fixture.BenchmarkFixture
        turn : callable
            Returns when it is this process's turn: for a warm call, and to go on after the last.

        Raises
        ------
        InvalidCellError
            Where the answer is wrong, too few slots were busy, or the cluster lost a part of itself meanwhile.
        Exception
            Whatever the variant raises.
        """
        begin = time.perf_counter()
        scenario = self.scenarios[cell.scenario]
        variant = next(variant for variant in scenario.variants if variant.name == cell.variant)
        arguments = matching_kwargs(variant.function, {"spark": self.spark, **cell.factors})
        arguments["data"] = self._data_for(scenario, cell)
        ready = time.perf_counter()
        cached = session.cached_rdds(self.spark) if self.spark is not None else set()
        threads: set[threading.Thread] = set()
        answers: list[Any] = []
        earlier: list[Event] = []
        clocks: list[Clocks] = []

        def before_each() -> None:
            # Untimed. Only what the last call did is counted; and threads that were there after the cold call are a
            # pool that is kept warm, where a leak would grow with every call.
            if answers:
                clocks.append(read_clocks())
            threads.update(threading.enumerate())
            if self.events is not None:
                earlier.extend(self.events.read())
            if answers:
                turn()
            clocks.append(read_clocks())

        first = (cell.scenario, cell.variant) not in self._called
        self._called.add((cell.scenario, cell.variant))
        benchmark.pedantic(
            lambda: answers.append(variant.function(**arguments)),
            setup=before_each,
            rounds=1 + cell.calls,
            iterations=1,
        )
        clocks.append(read_clocks())
        turn()
        cold, *warm = benchmark.stats.stats.data
        happened = self.events.read() if self.events is not None else []
        ran = count_engaged(happened) if self.events is not None else None
        warnings = self._leftovers(cached, threads)
        answer = self._checked(cell, scenario, answers, warnings)
        if why := disturbance([*earlier, *happened]):
            raise InvalidCellError(f"disturbed: {why}", answer)
        if ran is not None and (why := idle_reason(cell.needs or 0, ran, scenario.parallelism == "threads", warm[-1])):
            raise InvalidCellError(why)
        if ran is not None and ran.failed_tasks:
            warnings.append(f"{ran.failed_tasks} tasks failed or were killed")
        if ran is None or session.is_local(self.group.master):
            # The executors of a cluster are processes of others.
            warm_calls = list(zip(clocks[2::2], clocks[3::2], strict=True))
            warnings += interference_warnings(warm_calls, psutil.cpu_count() or 1)
        return {
            **self.record(cell, position, "ok", None),
            "seconds": statistics.median(warm),
            "warm_seconds": warm,
            # Where sides take turns, they make their cold calls at the same time.
            "cold_seconds": cold if first and not self.group.turns else None,
            "answer": answer,
            "engaged": None if ran is None else asdict(ran),
            "warnings": warnings,
            "overhead": None if ran is None else overhead(ran, warm[-1], cell.session or 1, self.session_seconds),
            # What the harness itself cost: events, checks, leftovers. Sessions and data are the recipe's needs.
            "spent": {
                "preparing": ready - begin,
                "calls": cold + sum(warm),
                "harness": time.perf_counter() - ready - cold - sum(warm),
            },
        }

    def recover(self) -> bool:
        """Make the process fit for the next cell after a failure; False where it cannot be."""
        if self.spark is None:
            return True
        if not session.is_alive(self.spark):
            return False
        # Threads of a failed search may go on launching jobs.
        self.spark.sparkContext.cancelAllJobs()
        return True

    def executors(self) -> dict[str, Any]:
        """Versions, limits and load of a cluster's executors; in local mode the driver is the only one."""
        if self.spark is None or session.is_local(self.group.master) or not session.is_alive(self.spark):
            return {}
        try:
            return preflight.describe_nodes(preflight.executor_versions(self.spark))
        except Exception:  # noqa: BLE001 - the run is over, and a cluster that has broken meanwhile loses nothing by it
            return {}

    def stop(self) -> None:
        """End the session."""
        if self.spark is not None and session.is_alive(self.spark):
            self.spark.stop()

    def _start(self, slots: int) -> None:
        events = self.directory / "logs" / "events"
        events.mkdir(parents=True, exist_ok=True)
        own = {**self.group.conf, **executor_conf(self.group.conf, slots)}
        conf = session.spark_conf(self.group.master, slots, events, own)
        begin = time.perf_counter()
        self.spark = session.start_session(conf, [scenario.path for scenario in self.scenarios.values()])
        self.session_seconds = time.perf_counter() - begin
        self.events = EventLog(self.spark, events)

    def _data_for(self, scenario: Scenario, cell: Cell) -> Any:
        """The data of a cell, made once in this process; prepared only where there is a session to prepare it in."""
        values = {"spark": self.spark, **cell.factors}
        wanted = {name: value for name, value in matching_kwargs(scenario.make_data, values).items() if name != "spark"}
        key = json.dumps([scenario.name, wanted], sort_keys=True)
        if key not in self._data:
            data = scenario.make_data(**matching_kwargs(scenario.make_data, values))
            if scenario.prepare is not None and self.spark is not None:
                data = scenario.prepare(data, **matching_kwargs(scenario.prepare, values))
            self._data[key] = data
        return self._data[key]

    def _checked(self, cell: Cell, scenario: Scenario, answers: list[Any], warnings: list[str]) -> Any:
        try:
            plain = [json.loads(json.dumps(answer, allow_nan=False)) for answer in answers]
        except (TypeError, ValueError) as error:
            raise InvalidCellError(f"its answer is not plain JSON: {error}") from error
        reference = self._references.get(cell.key)
        if reference is None:
            whose, truth = "its own first call", plain[0]
            if not cell.base:
                warnings.append("there is no answer of the base case: this one is checked against itself only")
        else:
            whose, truth = f"{reference['scenario']}.{reference['variant']}", reference["answer"]
        for answer in plain:
            try:
                scenario.check(truth, answer)
            except Exception as error:
                raise InvalidCellError(f"its answer differs from that of {whose}: {one_line(error)}") from error
        return plain[-1]

    def _leftovers(self, cached: set[int], threads: set[threading.Thread]) -> list[str]:
        """What a call left behind, in words; cached data is dropped, so that it cannot help the next cell."""
        warnings = []
        if self.spark is not None and (left := session.cached_rdds(self.spark) - cached):
            warnings.append(f"it left {len(left)} cached data sets behind")
            session.drop_cached(self.spark, left)
        if more := [thread.name for thread in threading.enumerate() if thread not in threads]:
            warnings.append(f"it left {len(more)} threads behind: {', '.join(sorted(more)[:3])}")
        return warnings


def overhead(ran: Engaged, seconds: float, slots: int, session_seconds: float | None) -> dict[str, Any]:
    """Where the time of a call went, in seconds.

    Parameters
    ----------
    ran : Engaged
    seconds : float
        That the call took.
    slots : int
    session_seconds : float or None
        That the session took to start, in no call's time.

    Returns
    -------
    dict
        `session`; `driver`, when no task ran; of all slots together `tasks`, `shipping` (a part of it) and `idle`;
        `refit`, where the recipe says which jobs are one.
    """
    return {
        "session": session_seconds,
        "driver": max(0.0, round(seconds - ran.covered_seconds, 3)),
        "tasks": ran.task_seconds,
        "shipping": ran.shipping_seconds,
        "idle": max(0.0, round(slots * seconds - ran.task_seconds, 3)),
        "refit": ran.refit_seconds,
    }


def idle_reason(needs: int, ran: Engaged, threads: bool, seconds: float) -> str | None:
    """Why a cell did not do side by side what it says it does, or None.

    Parameters
    ----------
    needs : int
        What has to run at once: tasks, or the jobs of driver threads.
    ran : Engaged
    threads : bool
        Whether driver threads are what is parallel. Tasks of some milliseconds may then never meet on two slots, which
        tells nothing; but where tasks fill more than half of the time, those of two threads meet unless a slot is idle.
    seconds : float
        That the call took.
    """
    if threads and ran.jobs_at_once < needs:
        return f"only {ran.jobs_at_once} of the {needs} jobs that it needs were in flight at once"
    if ran.slots < needs and not (threads and ran.task_seconds < seconds / 2):
        return f"only {ran.slots} of the {needs} slots that it needs were busy at once"
    return None
