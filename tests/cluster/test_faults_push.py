# SPDX-License-Identifier: Apache-2.0
"""Faults on real containers: three on every push, the others of this file at night.

A run on a broken cluster has to do one of two things. It finishes with the answers of a sound cluster, and its time is
withdrawn; or it ends within a bound, with one message that names the cause. Nothing may be left behind: the `bench`
fixture checks that after each test.
"""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from suite.cluster import compose

RECIPES = Path(__file__).with_name("recipes")

pytestmark = pytest.mark.docker
STEADY = str(RECIPES / "steady.py")


def undisturbed():
    return {"totals": [sum(row for row in range(1000) if row % 3 == rest) for rest in range(3)]}


def error_lines(said):
    return [line for line in said.splitlines() if line.startswith("error: ")]


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


def test_fewer_executors_than_promised(bench, engine):
    run = bench(STEADY)
    run.until("the driver", lambda: run.container("bench"))
    engine.ask("kill", str(run.container("worker 2")))
    assert run.end() == 2
    (line,) = error_lines(run.said)
    assert "2 cores were asked for, but the master has 1 workers with 1 cores" in line
    assert not run.out.exists()


@pytest.mark.slow
def test_a_driver_that_executors_cannot_reach(bench):
    # This address is from a block that is reserved for documentation, so no network routes it.
    run = bench(STEADY, FOLDOUT_ADDRESS="203.0.113.7")
    assert run.end() == 2
    (line,) = error_lines(run.said)
    assert "executors cannot reach the driver at 203.0.113.7:" in line
    assert not run.out.exists()


@pytest.fixture
def other_python(image, tmp_path):
    """A compose file that gives the workers another Python at the same path. Its image is removed afterwards."""
    tag = "foldout:other-python"
    recipe = f"""
        FROM {image}
        USER root
        RUN rm /opt/venv/bin/python \\
            && printf '#!/bin/sh\\nexec /usr/bin/python3 "$@"\\n' > /opt/venv/bin/python \\
            && chmod 755 /opt/venv/bin/python
        USER spark
        ENTRYPOINT ["/opt/venv/bin/python3.11", "/opt/foldout/docker/entrypoint"]
    """
    subprocess.run(["docker", "build", "--force-rm", "-t", tag, "-"], input=recipe, text=True, check=True, timeout=300)
    file = tmp_path / "other.yaml"
    file.write_text(f"services: {{worker: {{image: '{tag}'}}}}\n")
    yield str(file)
    subprocess.run(["docker", "rmi", "-f", tag], check=True, timeout=60)


@pytest.mark.slow
def test_another_python_in_a_worker(bench, other_python):
    run = bench(STEADY, FOLDOUT_COMPOSE=other_python)
    assert run.end() == 2
    (line,) = error_lines(run.said)
    assert "the executors differ from the driver in numpy, scikit-learn, pandas, pyarrow, joblib" in line
    table = run.said[run.said.index(line) :].splitlines()[1:]
    assert "numpy*" in table[0]
    assert table[1].startswith("driver ")
    assert all("missing" in row for row in table[2:4])
    assert not run.out.exists()


@pytest.mark.slow
def test_a_task_that_hangs(bench):
    run = bench(str(RECIPES / "hanging.py"), "--timeout", "50")
    assert run.end() == 1
    records = run.records()
    assert len(records) == run.planned() == 2
    assert records["hanging"]["status"] == "timeout"
    assert "50 s" in records["hanging"]["reason"]
    # The other variant ran before it or after it, and got slots of its own.
    assert records["sound"]["status"] == "ok"
    assert records["sound"]["answer"] == {"total": 190}


@pytest.mark.slow
def test_interrupted_while_building(bench):
    run = bench(STEADY)
    run.until("the build", lambda: "building the image" in run.said)
    time.sleep(0.5)
    run.signal(signal.SIGINT)
    assert run.end(60) == 130
    assert not run.out.exists()


@pytest.mark.slow
def test_interrupted_while_starting(bench):
    run = bench(STEADY)
    run.until("a container", lambda: run.container("master"))
    run.signal(signal.SIGINT)
    assert run.end(120) == 130
    assert not run.out.exists()


def test_interrupted_while_running(bench):
    run = bench(STEADY)
    run.until("tasks", lambda: run.working("steady"))
    run.signal(signal.SIGINT)
    assert run.end(180) == 130
    records = run.records()
    assert len(records) == run.planned() == 2
    assert records["shuffled"]["status"] in ("failed", "skipped")
    assert "interrupted" in records["shuffled"]["reason"]
    assert "--resume" in run.said


@pytest.mark.slow
def test_interrupted_while_collecting(bench, engine):
    run = bench(STEADY)

    def is_over():
        containers = {compose.container_state(one)[0]: one for one in engine.containers(run.name)}
        return "bench" in containers and containers["bench"]["State"]["Status"] == "exited"

    run.until("the end", is_over)
    run.signal(signal.SIGINT)
    # It is too late to lose anything: all that was measured is copied out.
    assert run.end(120) in (0, 130)
    assert {record["status"] for record in run.records().values()} == {"ok"}
    assert run.records()["shuffled"]["answer"] == undisturbed()
    assert (run.out / "report.html").exists()
