# SPDX-License-Identifier: Apache-2.0
"""Reads Spark's own event log: what really ran in a stretch of time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

FIT = re.compile(r"fold \d+, candidate \d+|refit")
SHIPPING = ("Executor Deserialize Time", "Result Serialization Time")
Event = Mapping[str, Any]  # a line of Spark's event log, parsed


@dataclass
class Engaged:
    """What ran in a stretch of time, from Spark's own event log.

    Attributes
    ----------
    slots : int
        The most tasks that ran at once.
    executors : int
        How many executors ran at least one.
    tasks, jobs, stages : int
    jobs_at_once : int
        The most jobs that were in flight at once.
    task_seconds : float
        Time of all tasks, added up: core-seconds with one core a task.
    longest_task : float
        Seconds.
    failed_tasks : int
    shipping_seconds : float
        What tasks took to unpack their code and data and to pack their results, added up; a part of `task_seconds`.
    covered_seconds : float
        Time in which at least one task ran; in the rest of a call the driver was alone.
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
    fits: list[tuple[int, int, float]] = field(default_factory=list)
    refit_seconds: float | None = None


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
        """Events since the last call, after all that has happened so far has been written."""
        # Events reach the log through a queue; the timed part is over, so waiting costs nobody.
        self.context._jsc.sc().listenerBus().waitUntilEmpty()
        name = self.context.applicationId
        path = next(path for path in (self.folder / name, self.folder / f"{name}.inprogress") if path.exists())
        with path.open("rb") as file:
            file.seek(self.offset)
            complete, _, _rest = file.read().rpartition(b"\n")
        self.offset += len(complete) + 1 if complete else 0
        return [json.loads(line) for line in complete.split(b"\n") if line]


def count_engaged(events: Iterable[Event]) -> Engaged:
    """Count what ran, from events of Spark's event log.

    Parameters
    ----------
    events : iterable of mapping
        Parsed lines: `SparkListenerJobStart` and `End`, `SparkListenerStageCompleted`, `SparkListenerTaskEnd`; others
        are passed over.
    """
    spans: list[tuple[int, int]] = []
    in_flight: dict[int, tuple[int, int]] = {}
    described: dict[int, str] = {}
    lengths: dict[str, tuple[int, int]] = {}
    executors: set[str] = set()
    stages = failed = shipping = 0
    for event in events:
        kind = event["Event"]
        if kind == "SparkListenerJobStart":
            job, begun = event["Job ID"], event["Submission Time"]
            in_flight[job] = begun, begun
            if found := FIT.search((event.get("Properties") or {}).get("spark.job.description") or ""):
                described[job] = found[0]
                lengths.setdefault(found[0], (begun, begun))
        elif kind == "SparkListenerJobEnd" and (job := event["Job ID"]) in in_flight:
            in_flight[job] = in_flight[job][0], event["Completion Time"]
            if job in described:
                lengths[described[job]] = lengths[described[job]][0], event["Completion Time"]
        elif kind == "SparkListenerStageCompleted":
            stages += 1
        elif kind == "SparkListenerTaskEnd":
            task = event["Task Info"]
            spans.append((task["Launch Time"], min(task["Finish Time"], task["Launch Time"] + _busy(event))))
            executors.add(task["Executor ID"])
            failed += bool(task["Failed"] or task["Killed"])
            metrics = event.get("Task Metrics") or {}
            shipping += sum(metrics.get(part, 0) for part in SHIPPING)
    durations = [(finish - launch) / 1000 for launch, finish in spans]
    refit = lengths.pop("refit", None)
    fits = []
    for fit, (begin, end) in lengths.items():
        fold, candidate = map(int, re.findall(r"\d+", fit))
        fits.append((fold, candidate, (end - begin) / 1000))
    return Engaged(
        slots=most_at_once(spans),
        executors=len(executors),
        tasks=len(spans),
        jobs=len(in_flight),
        jobs_at_once=most_at_once(in_flight.values()),
        stages=stages,
        task_seconds=round(sum(durations), 3),
        longest_task=max(durations, default=0.0),
        failed_tasks=failed,
        shipping_seconds=shipping / 1000,
        covered_seconds=covered(spans) / 1000,
        fits=sorted(fits),
        refit_seconds=None if refit is None else (refit[1] - refit[0]) / 1000,
    )


def _busy(event: Event) -> int:
    """Milliseconds that a task held its slot.

    Its finish time will not do: that is when the driver had handled the result, and by then the slot may have been
    given to the next task, which would count as two tasks in one slot.
    """
    metrics = event.get("Task Metrics")
    if not metrics:
        info = event["Task Info"]
        return int(info["Finish Time"] - info["Launch Time"])
    return int(sum(metrics[part] for part in ("Executor Run Time", *SHIPPING)))


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """How much of the line the half-open spans [start, end) cover together."""
    total, reached = 0, None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        total += max(0, end - begin)
        reached = max(end, begin)
    return total


def most_at_once(spans: Iterable[tuple[int, int]]) -> int:
    """The largest number of half-open spans [start, end) that cover one moment; ends count before starts."""
    edges = sorted(edge for start, end in spans for edge in ((start, 1), (max(end, start), -1)))
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
