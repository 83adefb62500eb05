# SPDX-License-Identifier: Apache-2.0
"""The other faults on real containers, tested at night. test_faults_push.py says what each run has to do."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from suite.cluster import compose
from suite.cluster.ownership import state_folder

pytestmark = [pytest.mark.docker, pytest.mark.slow]

RECIPES = Path(__file__).with_name("recipes")
STEADY = str(RECIPES / "steady.py")


def assert_disturbed(run, variant, answer):
    """The variant has the right answer, and no time."""
    record = run.records()[variant]
    assert record["status"] == "invalid", (record, run.said)
    assert record["seconds"] is None
    assert record["cold_seconds"] is None
    assert record["reason"].startswith("disturbed: ")
    assert record["answer"] == answer
    return record


def totals():
    return {"totals": [sum(row for row in range(1000) if row % 3 == rest) for rest in range(3)]}


def test_worker_paused(bench, engine):
    """A silent partition: no connection is closed, nothing answers."""
    run = bench(STEADY)
    run.until("tasks", lambda: run.working("steady"))
    engine.ask("pause", str(run.container("worker 1")))
    assert run.end() == 1
    assert_disturbed(run, "shuffled", totals())
    assert "worker 1 paused" in run.said


def test_fewer_executors_than_promised(bench, engine):
    run = bench(STEADY)
    run.until("the driver", lambda: run.container("bench"))
    engine.ask("kill", str(run.container("worker 2")))
    assert run.end() == 2
    (line,) = run.error_lines()
    assert "2 cores were asked for, but the master has 1 workers with 1 cores" in line
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


def test_master_killed_and_restarted(bench):
    """The application goes on meanwhile, and the restarted master still knows it: no part of a job is lost."""
    run = bench(STEADY)
    run.until("tasks", lambda: run.working("steady"))
    run.inside("master", "sh", "-c", "kill -9 -1")
    code = run.end()
    record = run.records()["shuffled"]
    assert record["answer"] == totals()
    # Where executors were lost as well, the time is withdrawn.
    assert record["status"] == "ok" or record["reason"].startswith("disturbed: ")
    assert code == (0 if record["status"] == "ok" else 1)
    assert "master died and was started again" in run.said


def hungry(tmp_path, *variants):
    """Copy the recipe with these variants only, and return the path of the copy."""
    text = (RECIPES / "hungry.py").read_text()
    head, *functions = text.split("\n\n\ndef ")
    kept = [each for each in functions if not each.startswith("run_") or each.split("(")[0][4:] in variants]
    file = tmp_path / "hungry.py"
    file.write_text("\n\n\ndef ".join([head, *kept]))
    return str(file)


def test_executor_out_of_heap(bench, tmp_path):
    run = bench(hungry(tmp_path, "modest", "heap"), "--timeout", "240")
    assert run.end(900) == 1
    records = run.records()
    assert records["heap"]["status"] == "failed"
    assert "an executor ran out of memory" in records["heap"]["reason"]
    assert records["modest"]["status"] in ("ok", "invalid")
    if records["modest"]["status"] == "ok":
        assert records["modest"]["answer"] == {"total": 190}


def test_executor_out_of_the_containers_memory(bench, tmp_path):
    run = bench(hungry(tmp_path, "modest", "python"), "--timeout", "240")
    assert run.end(900) == 1
    reason = run.records()["python"]["reason"]
    assert run.records()["python"]["status"] == "failed"
    assert "for lack of memory" in reason
    assert "ran out of memory" in run.said  # which container


def test_disk_full(bench, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(
        "services:\n  worker:\n    tmpfs: ['/small:size=24m,mode=1777']\n    environment: {SPARK_LOCAL_DIRS: /small}\n"
    )
    run = bench(hungry(tmp_path, "modest", "disk"), "--timeout", "240", FOLDOUT_COMPOSE=str(file))
    assert run.end(900) == 1
    record = run.records()["disk"]
    assert record["status"] == "failed"
    assert "the disk of Spark's local folders is full on a worker" in record["reason"]


def test_local_folders_have_a_limit(bench, tmp_path):
    run = bench(hungry(tmp_path, "modest", "disk"), "--timeout", "240", FOLDOUT_LOCAL_DISK="24m")
    assert run.end(900) == 1
    record = run.records()["disk"]
    assert record["status"] == "failed"
    assert "local folders are full on a worker (FOLDOUT_LOCAL_DISK gives more)" in record["reason"]


def test_executor_lost_while_it_holds_cached_data(bench):
    run = bench(str(RECIPES / "cached.py"))
    run.until("tasks", lambda: run.working("cached"))
    run.inside("worker 1", "sh", "-c", "kill -9 -1")
    assert run.end() == 1
    assert_disturbed(run, "cached", {"total": sum(row * row for row in range(1000))})


def test_port_taken(engine, image, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = compose.ClusterSpec("foldout-port", workers=1, pages=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("FOLDOUT_MASTER_PAGE", str(port))
        with pytest.raises(compose.ClusterError, match=rf"127\.0\.0\.1:{port} is taken"):
            compose.cluster_up(plan)
    assert engine.containers(plan.name) == []
    assert not state_folder(plan.name).exists()


def test_a_second_cluster_beside_the_first(bench):
    first, second = bench(STEADY), bench(STEADY)
    assert first.end(900) == 0
    assert second.end(900) == 0
    assert first.name != second.name
    for run in (first, second):
        assert run.records()["shuffled"]["answer"] == totals()


def test_a_driver_that_executors_cannot_reach(bench):
    # This address is from a block that is reserved for documentation, so no network routes it.
    run = bench(STEADY, FOLDOUT_ADDRESS="203.0.113.7")
    assert run.end() == 2
    (line,) = run.error_lines()
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


def test_another_python_in_a_worker(bench, other_python):
    run = bench(STEADY, FOLDOUT_COMPOSE=other_python)
    assert run.end() == 2
    (line,) = run.error_lines()
    assert "the executors differ from the driver in numpy, scikit-learn, pandas, pyarrow, joblib" in line
    table = run.said[run.said.index(line) :].splitlines()[1:]
    assert "numpy*" in table[0]
    assert table[1].startswith("driver ")
    assert all("missing" in row for row in table[2:4])
    assert not run.out.exists()


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


def test_interrupted_while_building(bench):
    run = bench(STEADY)
    run.until("the build", lambda: "building the image" in run.said)
    time.sleep(0.5)
    run.signal(signal.SIGINT)
    assert run.end(60) == 130
    assert not run.out.exists()


def test_interrupted_while_starting(bench):
    run = bench(STEADY)
    run.until("a container", lambda: run.container("master"))
    run.signal(signal.SIGINT)
    assert run.end(120) == 130
    assert not run.out.exists()


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
    assert run.records()["shuffled"]["answer"] == totals()
    assert (run.out / "report.html").exists()
