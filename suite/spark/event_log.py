# SPDX-License-Identifier: Apache-2.0
"""Reads Spark's own event log: what really ran in a stretch of time."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from suite.errors import InvalidCellError

FIT = re.compile(r"fold \d+, candidate \d+|refit")
# What Spark calls the bytes that pass between a JVM and its Python workers.
TO_PYTHON, FROM_PYTHON = "data sent to Python workers", "data returned from Python workers"
SHIPPING = ("Executor Deserialize Time", "Result Serialization Time")
Event = Mapping[str, Any]  # a line of Spark's event log, parsed


@dataclass
class Engaged:
    """What ran in a stretch of time, by Spark's own event log.

    Attributes
    ----------
    slots : int
        The most tasks that ran at once.
    executors : int
        Executors that ran at least one task.
    tasks, jobs, stages : int
    jobs_at_once : int
        The most jobs that were in flight at once.
    task_seconds : float
        Time of all tasks together: core-seconds, where a task has one core.
    longest_task : float
        Seconds of the longest task.
    failed_tasks : int
    shipping_seconds : float
        Time that all tasks together took to unpack their code and data and to pack their results; a part of
        `task_seconds`.
    covered_seconds : float
        Time in which at least one task ran; in the rest of a call the driver was alone.
    to_python, from_python : int
        Bytes that passed between JVMs and their Python workers, for functions in SQL; those of RDDs are not counted.
    shuffled : int
        Bytes that tasks wrote for others to read.
    fits : list of (int, int, float)
        Fold, candidate and seconds of each fit whose jobs say so in their description, `fold 3, candidate 0`: from the
        start of the first of them to the end of the last.
    refit_seconds : float or None
        The same of jobs described as `refit`; None where there are none.
    """

    slots: int
    executors: int
    tasks: int
    jobs: int
    jobs_at_once: int
    stages: int
    task_seconds: float
    longest_task: float
    failed_tasks: int
    shipping_seconds: float = 0.0
    covered_seconds: float = 0.0
    to_python: int = 0
    from_python: int = 0
    shuffled: int = 0
    fits: list[tuple[int, int, float]] = field(default_factory=list)
    refit_seconds: float | None = None


def most_engaged(calls: Sequence[Engaged]) -> Engaged:
    """Return what ran in the last of some calls, with the most that any of them had at once.

    Short tasks that could run at once need not meet in every call.
    """
    at_once = {what: max(getattr(call, what) for call in calls) for what in ("slots", "jobs_at_once", "executors")}
    return replace(calls[-1], **at_once)


class EventLog:
    """Reads the event log of a live session piece by piece.

    Parameters
    ----------
    spark : SparkSession
    folder : Path
        `spark.eventLog.dir`.
    """

    def __init__(self, spark: SparkSession, folder: Path):
        self.context = spark.sparkContext
        self.folder = folder
        self.offset = 0

    def read(self) -> list[Event]:
        """Read the events since the last call, once all that has happened so far is written.

        Raises
        ------
        InvalidCellError
            The recipe has stopped the session.
        """
        if self.context._jsc is None:
            raise InvalidCellError("it stopped the Spark session, which the suite ends itself: leave out spark.stop()")
        # Events reach the log through a queue; the timed part is over, so waiting costs nobody.
        self.context._jsc.sc().listenerBus().waitUntilEmpty()
        name = self.context.applicationId
        path = next(path for path in (self.folder / name, self.folder / f"{name}.inprogress") if path.exists())
        with path.open("rb") as file:
            file.seek(self.offset)
            complete, _, _rest = file.read().rpartition(b"\n")
        self.offset += len(complete) + 1 if complete else 0
        return [json.loads(line) for line in complete.split(b"\n") if line]


def count_engaged(events: Iterable[Event], begin: float = 0.0, end: float = math.inf) -> Engaged:
    """Count what ran, from events of Spark's event log.

    Parameters
    ----------
    events : iterable of mapping
        Parsed lines: `SparkListenerJobStart` and `End`, `SparkListenerStageCompleted`, `SparkListenerTaskEnd`; others
        are passed over.
    begin, end : float
        The stretch of time that counts, in seconds since 1970. A task may have begun before, for an earlier call, and
        may end later: only its time within the stretch counts.
    """
    by_kind: dict[str, list[Event]] = {}
    for event in events:
        by_kind.setdefault(event["Event"], []).append(event)
    jobs = _jobs(by_kind.get("SparkListenerJobStart", []), by_kind.get("SparkListenerJobEnd", []))
    ended = by_kind.get("SparkListenerTaskEnd", [])
    tasks = [event["Task Info"] for event in ended]
    launches = _launches(tasks)
    spans = [_span_within(event, launches, 1000 * begin, 1000 * end) for event in ended]
    durations = [(finish - launch) / 1000 for launch, finish in spans]
    lengths = _fit_seconds(jobs)
    refit_seconds = lengths.pop("refit", None)
    return Engaged(
        slots=most_at_once(spans),
        executors=len({task["Executor ID"] for task in tasks}),
        tasks=len(tasks),
        jobs=len(jobs),
        jobs_at_once=most_at_once((job.begin, job.end) for job in jobs),
        stages=len(by_kind.get("SparkListenerStageCompleted", [])),
        task_seconds=round(sum(durations), 3),
        longest_task=max(durations, default=0.0),
        failed_tasks=sum(bool(task["Failed"] or task["Killed"]) for task in tasks),
        shipping_seconds=sum(map(_shipping, ended)) / 1000,
        covered_seconds=covered_length(spans) / 1000,
        to_python=sum(_added(event, TO_PYTHON) for event in ended),
        from_python=sum(_added(event, FROM_PYTHON) for event in ended),
        shuffled=sum(map(_shuffled, ended)),
        fits=sorted((*_fold_and_candidate(fit), seconds) for fit, seconds in lengths.items()),
        refit_seconds=refit_seconds,
    )


class Job(NamedTuple):
    """A Spark job: begin and end in milliseconds of the clock, and the fit that its description names, if any.

    The end of a job that has not ended is its begin, and the begin of one that began for an earlier call is its end.
    """

    begin: int
    end: int
    fit: str | None


def _jobs(starts: Iterable[Event], ends: Iterable[Event]) -> list[Job]:
    ended: dict[int, int] = {event["Job ID"]: event["Completion Time"] for event in ends}
    known = {event["Job ID"] for event in starts}
    found = [Job(time, time, None) for number, time in ended.items() if number not in known]
    for event in starts:
        begin = int(event["Submission Time"])
        fit = FIT.search((event.get("Properties") or {}).get("spark.job.description") or "")
        found.append(Job(begin, ended.get(int(event["Job ID"]), begin), fit[0] if fit else None))
    return found


def _fit_seconds(jobs: Iterable[Job]) -> dict[str, float]:
    """Return the seconds of each fit, from the start of its first job to the end of its last."""
    spans: dict[str, tuple[int, int]] = {}
    for job in jobs:
        if job.fit is not None:
            begin, end = spans.get(job.fit, (job.begin, job.end))
            spans[job.fit] = min(begin, job.begin), max(end, job.end)
    return {fit: (end - begin) / 1000 for fit, (begin, end) in spans.items()}


def _fold_and_candidate(fit: str) -> tuple[int, int]:
    fold, candidate = map(int, re.findall(r"\d+", fit))
    return fold, candidate


def _span(ended: Event) -> tuple[int, int]:
    """Return when a task held its slot: begin and end in milliseconds of the clock."""
    task = ended["Task Info"]
    return task["Launch Time"], min(task["Finish Time"], task["Launch Time"] + _held_ms(ended))


def _launches(tasks: Iterable[Event]) -> dict[str, list[int]]:
    """Return when tasks were launched on each executor, in order, in milliseconds of the clock."""
    launches: dict[str, list[int]] = {}
    for task in tasks:
        launches.setdefault(task["Executor ID"], []).append(task["Launch Time"])
    return {executor: sorted(times) for executor, times in launches.items()}


def _span_within(ended: Event, launches: Mapping[str, list[int]], begin: float, end: float) -> tuple[float, float]:
    """Return the part of a task's span that lies between `begin` and `end`, of length 0 where there is none."""
    launch, finish = _span(ended)
    if launch < begin:
        # Its time was counted from when its executor took it up, some time after its launch: it ended later than that,
        # but no later than when its executor got another task, or when the driver had handled its result.
        others = launches[ended["Task Info"]["Executor ID"]]
        given_on = others[bisect_left(others, finish) :][:1]
        finish = min([ended["Task Info"]["Finish Time"], *given_on])
    return min(max(launch, begin), end), min(max(finish, begin), end)


def _shipping(ended: Event) -> int:
    metrics = ended.get("Task Metrics") or {}
    return sum(metrics.get(part, 0) for part in SHIPPING)


def _added(ended: Event, name: str) -> int:
    """Return what a task added to the metrics of that name in SQL."""
    found = ended["Task Info"].get("Accumulables", [])
    return sum(int(each["Update"]) for each in found if each.get("Name") == name and "Update" in each)


def _shuffled(ended: Event) -> int:
    written = (ended.get("Task Metrics") or {}).get("Shuffle Write Metrics", {})
    return int(written.get("Shuffle Bytes Written", 0))


def _held_ms(event: Event) -> int:
    """Return for how many milliseconds a task held its slot.

    Its finish time will not do: that is when the driver had handled the result, and by then the slot may have been
    given to the next task, which would count as two tasks in one slot.
    """
    metrics = event.get("Task Metrics")
    if not metrics:
        info = event["Task Info"]
        return int(info["Finish Time"] - info["Launch Time"])
    return int(sum(metrics[part] for part in ("Executor Run Time", *SHIPPING)))


def covered_length(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length that half-open spans [start, end) cover together."""
    total, reached = 0.0, None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        total += max(0, end - begin)
        reached = max(end, begin)
    return total


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return the largest number of half-open spans [start, end) that cover one moment; ends count before starts."""
    edges = sorted(edge for start, end in spans for edge in ((start, 1), (max(end, start), -1)))
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
