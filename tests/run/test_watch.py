# SPDX-License-Identifier: Apache-2.0
"""Where the time of a call went."""

from suite.run.watch import overhead
from suite.spark.event_log import Engaged


def ran(slots, jobs_at_once=1, task_seconds=1.0):
    return Engaged(slots, 1, 9, 9, jobs_at_once, 9, task_seconds, 0.1, 0)


def test_the_time_of_a_call_is_split_between_driver_and_slots():
    what = ran(2, task_seconds=2.5)
    what.covered_seconds, what.shipping_seconds, what.refit_seconds = 1.5, 0.25, 0.5
    split = overhead(what, seconds=2.0, slots=2, session_seconds=4.0)
    assert split == {"session": 4.0, "driver": 0.5, "tasks": 2.5, "shipping": 0.25, "idle": 1.5, "refit": 0.5}
