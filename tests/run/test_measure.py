# SPDX-License-Identifier: Apache-2.0
"""What the child makes of what it saw: whether slots or threads were idle."""

import pytest

from suite.run.measure import idle_reason, overhead
from suite.spark.event_log import Engaged


def ran(slots, jobs_at_once=1, task_seconds=1.0):
    return Engaged(slots, 1, 9, 9, jobs_at_once, 9, task_seconds, 0.1, 0)


@pytest.mark.parametrize(
    ("needs", "what", "threads", "said"),
    [
        (2, ran(2), False, None),
        (2, ran(1, jobs_at_once=2), False, "only 1 of the 2 slots"),
        (2, ran(1, jobs_at_once=2, task_seconds=0.1), False, "only 1 of the 2 slots"),
        (2, ran(2, jobs_at_once=2), True, None),
        (2, ran(2, jobs_at_once=1), True, "only 1 of the 2 jobs"),
        # Tasks too short to meet prove nothing; tasks that fill the time and never meet had one slot.
        (2, ran(1, jobs_at_once=2, task_seconds=0.4), True, None),
        (2, ran(1, jobs_at_once=2, task_seconds=0.6), True, "only 1 of the 2 slots"),
        (0, ran(0, jobs_at_once=0, task_seconds=0.0), True, None),
    ],
)
def test_an_idle_slot_or_thread_is_named(needs, what, threads, said):
    why = idle_reason(needs, what, threads, seconds=1.0)
    assert (why is None) if said is None else why.startswith(said)


def test_the_time_of_a_call_is_split_between_driver_and_slots():
    what = ran(2, task_seconds=2.5)
    what.covered_seconds, what.shipping_seconds, what.refit_seconds = 1.5, 0.25, 0.5
    split = overhead(what, seconds=2.0, slots=2, session_seconds=4.0)
    assert split == {"session": 4.0, "driver": 0.5, "tasks": 2.5, "shipping": 0.25, "idle": 1.5, "refit": 0.5}
