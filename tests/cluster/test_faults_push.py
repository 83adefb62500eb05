# SPDX-License-Identifier: Apache-2.0
"""The fault on real containers that is tested on every push; test_faults_full.py has the others.

A run on a broken cluster has to do one of two things. It finishes with the answers of a sound cluster, and its time is
withdrawn; or it ends within a bound, with one message that names the cause. Nothing may be left behind: the `bench`
fixture checks that after each test.
"""

from pathlib import Path

import pytest

RECIPES = Path(__file__).with_name("recipes")

pytestmark = pytest.mark.docker
STEADY = str(RECIPES / "steady.py")


def undisturbed():
    return {"totals": [sum(row for row in range(1000) if row % 3 == rest) for rest in range(3)]}


def test_worker_killed_in_the_middle_of_a_job(bench):
    run = bench(STEADY)
    run.until("tasks", lambda: run.working("steady"))
    run.inside("worker 1", "sh", "-c", "kill -9 -1")
    code = run.end()
    record = run.records()["shuffled"]
    assert len(run.records()) == run.planned() == 2
    # It is marked and has no time. The answer was checked before; a wrong one would have `its answer differs` here.
    assert record["status"] == "invalid", run.said
    assert record["seconds"] is None
    assert record["reason"].startswith("disturbed: executor ")
    assert record["answer"] == undisturbed()
    assert code == 1
    assert "worker 1" in run.said
    assert run.records()["serial"]["status"] == "ok"
