# SPDX-License-Identifier: Apache-2.0
"""Where the time of a call went."""

import threading
import time

import pytest

from suite.run.watch import CallWatch, overhead
from suite.spark.event_log import Engaged


def ran(slots, jobs_at_once=1, task_seconds=1.0):
    return Engaged(slots, 1, 9, 9, jobs_at_once, 9, task_seconds, 0.1, 0)


def test_the_time_of_a_call_is_split_between_driver_and_slots():
    what = ran(2, task_seconds=2.5)
    what.covered_seconds, what.shipping_seconds, what.refit_seconds = 1.5, 0.25, 0.5
    split = overhead(what, seconds=2.0, slots=2, session_seconds=4.0)
    assert split == {"session": 4.0, "driver": 0.5, "tasks": 2.5, "shipping": 0.25, "idle": 1.5, "refit": 0.5}


def test_cpu_seconds_are_of_each_timed_call():
    def compute() -> None:
        end = time.process_time() + 0.4
        while time.process_time() < end:
            pass

    watch = CallWatch(compute, None, None, lambda: None, timed=2)
    for _ in range(3):
        watch.before_call()
        watch.call()
        watch.after_call()
    assert len(watch.cpu_seconds) == 2
    # Of the whole machine, where other programs may be busy too; its clocks tick in hundredths.
    assert all(seconds > 0.35 for seconds in watch.cpu_seconds)


def test_threads_of_a_pool_are_no_leak_and_those_of_every_call_are():
    ends = threading.Event()

    def start() -> None:
        threading.Thread(target=ends.wait, name="of a call").start()

    def start_once() -> None:
        if "kept" not in [thread.name for thread in threading.enumerate()]:
            threading.Thread(target=ends.wait, name="kept").start()

    def said(function, calls, timed) -> list[str]:
        watch = CallWatch(function, None, None, lambda: None, timed)
        for _ in range(calls):
            watch.before_call()
            watch.call()
            watch.after_call()
        return watch.warnings(None, machine=False)

    try:
        # An untimed visit of one call, then a timed one.
        assert [said(start_once, 1, 0), said(start_once, 1, 1)] == [[], []]
        assert [said(start, 1, 0), said(start, 1, 1)] == [[], ["it left 1 threads behind: of a call"]]
        assert said(start, 2, 0) == ["it left 1 threads behind: of a call"]
    finally:
        ends.set()


class Log:
    """Stands for Spark's event log."""

    def __init__(self):
        self.new = []

    def read(self):
        new, self.new = self.new, []
        return new

    def add_task(self, launch, executor):
        info = {"Launch Time": launch, "Finish Time": launch + 10, "Executor ID": executor}
        self.new.append({"Event": "SparkListenerTaskEnd", "Task Info": {**info, "Failed": False, "Killed": False}})


@pytest.mark.parametrize(("meet_in", "slots"), [(0, 1), (1, 2), (2, 2)], ids=["untimed", "first", "last"])
def test_tasks_that_meet_in_one_of_the_timed_calls_had_a_slot_each(meet_in, slots):
    """Short tasks may miss each other in one call by chance; what else is counted is of the last call alone."""
    log = Log()

    def compute() -> None:
        now = int(1000 * time.time()) + 1
        log.add_task(now, "1")
        log.add_task(now + (2 if len(watch.answers) == meet_in else 10), "2")
        time.sleep(0.03)

    watch = CallWatch(compute, None, log, lambda: None, timed=2)
    for _ in range(3):
        watch.before_call()
        watch.call()
        watch.after_call()
    watch.after_last_call()
    found = watch.engaged()
    assert (found.slots, found.tasks) == (slots, 2)
