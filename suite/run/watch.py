# SPDX-License-Identifier: Apache-2.0
"""Looks at events, clocks, threads and cached data before, between and after the calls of a variant, untimed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil

from suite.machine.interference import Clocks, interference_warnings, read_clocks
from suite.machine.memory import peak_memory, reset_peaks
from suite.spark import session
from suite.spark.event_log import Engaged, Event, EventLog, count_engaged, most_engaged
from suite.spark.failures import disturbance

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class CallWatch:
    """Watches the calls of one variant.

    Parameters
    ----------
    call : callable
        The variant with its arguments.
    spark : SparkSession or None
    events : EventLog or None
        Of that session.
    turn : callable
        Returns when it is this process's turn: for a warm call, and to go on after the last.
    timed : int
        The last so many calls are timed.

    Attributes
    ----------
    answers : list
        What each call returned.
    memory : dict or None
        What the last call held at most, as `machine.memory.peak_memory` says.
    """

    def __init__(
        self,
        call: Callable[[], Any],
        spark: SparkSession | None,
        events: EventLog | None,
        turn: Callable[[], None],
        timed: int,
    ):
        self.answers: list[Any] = []
        self.memory: dict[str, float] | None = None
        self._call = call
        self._spark = spark
        self._events = events
        self._turn = turn
        self._timed = timed
        self._cached = session.cached_rdds(spark) if spark is not None else set()
        self._threads: set[threading.Thread] = set()
        # Events of each call with its begin and end; first those from before any call.
        self._calls: list[tuple[list[Event], float, float]] = []
        self._clocks: list[Clocks] = []
        self._begin = self._end = 0.0  # of the last call, in seconds of the clock that Spark's events have

    def call(self) -> None:
        """Make a call: the part that is timed."""
        self.answers.append(self._call())

    def before_call(self) -> None:
        """Get ready for a call. Events are counted anew from here."""
        # Threads that are there after the cold call are a pool that is kept warm; a leak grows with every call.
        self._threads.update(threading.enumerate())
        self._read_events()
        if self.answers:
            self._turn()
        reset_peaks()
        self._clocks.append(read_clocks())
        self._begin = time.time()

    def after_call(self) -> None:
        """Take readings."""
        self._end = time.time()
        self._clocks.append(read_clocks())
        self.memory = peak_memory()

    def after_last_call(self) -> None:
        """Read what ran, when it is this process's turn to go on; the log knows only of tasks that have ended."""
        self._turn()
        self._read_events()

    def _read_events(self) -> None:
        """Read what Spark has logged since the call before, or before the first."""
        if self._events is not None:
            self._calls.append((self._events.read(), self._begin, self._end))

    def engaged(self) -> Engaged | None:
        """Count what Spark ran in the last call, and the most that a timed call had at once; None without a session."""
        if self._events is None:
            return None
        return most_engaged([count_engaged(*call) for call in self._calls[-max(1, self._timed) :]])

    @property
    def _warm_calls(self) -> list[tuple[Clocks, Clocks]]:
        """Readings before and after each timed call."""
        clocks = self._clocks[-2 * self._timed :] if self._timed else []
        return list(zip(clocks[::2], clocks[1::2], strict=True))

    @property
    def cpu_seconds(self) -> list[float]:
        """CPU seconds that this machine spent during each timed call."""
        return [round(after.busy - before.busy, 2) for before, after in self._warm_calls]

    def disturbance(self) -> str | None:
        """Say what disturbed the cluster during any call; None where nothing did."""
        return disturbance([event for events, *_ in self._calls for event in events])

    def warnings(self, ran: Engaged | None, *, machine: bool) -> list[str]:
        """Say what the calls left behind, and what else to know of them.

        Parameters
        ----------
        ran : Engaged or None
        machine : bool
            Whether all that computed was this machine, so that its clocks tell who else used it.
        """
        said = self._leftovers()
        if ran is not None and ran.failed_tasks:
            said.append(f"{ran.failed_tasks} tasks failed or were killed")
        if machine:
            said += interference_warnings(self._warm_calls, psutil.cpu_count() or 1)
        return said

    def _leftovers(self) -> list[str]:
        """Name cached data and threads that were left; drop the data, so that it cannot help the next cell."""
        said = []
        if self._spark is not None and (left := session.cached_rdds(self._spark) - self._cached):
            said.append(f"it left {len(left)} cached data sets behind")
            session.drop_cached(self._spark, left)
        more = [thread.name for thread in threading.enumerate() if thread not in self._threads]
        if more and (self._timed or len(self.answers) > 1):  # after one call it may be a pool that the next one finds
            said.append(f"it left {len(more)} threads behind: {', '.join(sorted(more)[:3])}")
        return said


def overhead(ran: Engaged, seconds: float, slots: int, session_seconds: float | None) -> dict[str, Any]:
    """Split the time of a call, in seconds.

    Parameters
    ----------
    ran : Engaged
    seconds : float
        The call's time.
    slots : int
    session_seconds : float or None
        The time that the session took to start, which is in no call's time.

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
