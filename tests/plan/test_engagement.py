# SPDX-License-Identifier: Apache-2.0
"""What was not seen to run side by side has no time, whatever the reason."""

import pytest

from suite.plan.engagement import why_not_parallel


def ran(slots, jobs_at_once=1, task_seconds=1.0):
    return {"slots": slots, "jobs_at_once": jobs_at_once, "task_seconds": task_seconds}


@pytest.mark.parametrize(
    ("needs", "what", "threads", "said"),
    [
        (2, ran(2), False, None),
        (2, ran(1, jobs_at_once=2), False, "only 1 of the 2 slots that it needs were busy at once"),
        (2, ran(1, jobs_at_once=2, task_seconds=0.1), False, "only 1 of the 2 slots that it needs were busy at once"),
        (2, ran(2, jobs_at_once=2), True, None),
        (2, ran(2, jobs_at_once=1), True, "only 1 of the 2 jobs that it needs were in flight at once"),
        # Tasks that fill the time and never meet had one slot; shorter ones show nothing, which is no time either.
        (2, ran(1, jobs_at_once=2, task_seconds=0.6), True, "only 1 of the 2 slots that it needs were busy at once"),
        (
            2,
            ran(1, jobs_at_once=2, task_seconds=0.4),
            True,
            "not shown to be parallel: only 1 of the 2 slots that it needs were busy at once, by tasks that filled "
            "less than half of the time",
        ),
        (2, ran(3, jobs_at_once=2), True, "3 slots were busy at once in a session of 2"),
        (2, ran(3), False, "3 slots were busy at once in a session of 2"),
        (1, ran(2), False, None),
        (0, ran(0, jobs_at_once=0, task_seconds=0.0), True, None),
    ],
)
def test_idle_slots_and_threads_and_too_many_slots_are_named(needs, what, threads, said):
    assert why_not_parallel(needs, 2, what, 1.0, threads=threads) == said


def test_who_ran_no_job_at_all_is_told_why_there_is_a_session():
    said = why_not_parallel(2, 2, {**ran(0, jobs_at_once=0), "jobs": 0}, 1.0, threads=False)
    assert said.startswith("it ran no Spark job, and has a session because it takes `spark`, or make_data does")
    assert why_not_parallel(0, 2, {**ran(0, jobs_at_once=0), "jobs": 0}, 1.0, threads=True) is None
