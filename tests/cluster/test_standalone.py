# SPDX-License-Identifier: Apache-2.0
"""The cluster of plain processes runs jobs, refuses strangers, and ends with whoever started it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from suite.cluster import standalone
from suite.cluster.connect import connect
from suite.cluster.description import (
    Cluster,
    ClusterError,
    executor_conf,
    is_complete,
    one_host_label,
    wants_encryption,
)
from suite.cluster.standalone import processors_of
from suite.spark.java import Java

ROOT = Path(__file__).resolve().parents[2]
START = """
from pathlib import Path
import json, os, subprocess, sys
from suite.cluster.connect import connect
from suite.spark import session
"""

PROBE = """
    url, events, conf = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    spark = session.start_session({**session.spark_conf(url, 2, events, conf)}, [])

    def where(rows):
        import os, tempfile, time
        time.sleep(0.5)
        affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        yield os.getppid(), affinity, os.environ.get("OPENBLAS_NUM_THREADS"), tempfile.gettempdir()

    seen = spark.sparkContext.parallelize(range(8), 8).mapPartitions(where).collect()
    place = "reflect('java.lang.System', 'getProperty', 'java.io.tmpdir')"
    of_java = spark.range(0, 8, 1, 8).selectExpr(place).collect()
    rest = spark.conf.get("spark.master.rest.enabled")
    shown = ["ps", "axww", "-o", "args"]
    commands = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    secret = spark.sparkContext.getConf().get("spark.authenticate.secret")
    print("RESULT", json.dumps({"seen": seen, "of_java": [row[0] for row in of_java], "rest": rest, "secret": secret,
                                "seen_master": url.split("/")[-1] in commands,
                                "leaked": secret in commands,
                                "in_own_environment": secret in str(dict(os.environ))}))
    spark.stop()
"""


def script(code: str) -> list[str]:
    return [sys.executable, "-c", START + "\n" + textwrap.dedent(code)]


def driver(ready: Cluster, folder: Path) -> list[str]:
    return [*script(PROBE), ready.url, str(folder), json.dumps(ready.conf)]


def of_session(word: str) -> list[psutil.Process]:
    """Return the processes with this word on their command line or in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(word in text for text in [*process.cmdline(), *process.environ().values()]):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    with connect("standalone", workers=2, cores=1, memory="512m", logs=logs) as ready:
        yield ready, logs


@pytest.fixture(scope="module")
def result(running, tmp_path_factory):
    ready, _ = running
    done = subprocess.run(
        driver(ready, tmp_path_factory.mktemp("events")),
        env=os.environ | ready.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULT "))


def test_a_job_engages_both_executors_each_on_its_own_processors(result):
    by_daemon = {daemon: affinity for daemon, affinity, _, _ in result["seen"]}
    assert len(by_daemon) == 2
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) >= 2:
        first, second = by_daemon.values()
        assert len(first) == len(second) == 1
        assert first != second


def test_threads_are_limited_on_workers(result):
    assert {threads for _, _, threads, _ in result["seen"]} == {"1"}


def test_temporary_files_of_all_processes_go_with_the_cluster(result, running):
    ready, _ = running
    folder = str(Path(ready.environment["SPARK_CONF_DIR"]).parent)
    assert {place for _, _, _, place in result["seen"]} == {folder}
    assert set(result["of_java"]) == {folder}
    daemons = [process.cmdline() for process in of_session(folder) if "java" in process.name()]
    assert len(daemons) == 3
    assert all(f"-Djava.io.tmpdir={folder}" in command for command in daemons)


def test_the_secret_is_on_no_command_line_and_in_no_log(result, running):
    ready, logs = running
    secret = result["secret"]
    assert len(secret) == 64
    assert result["seen_master"]  # so the list does show the processes of this cluster
    assert not result["leaked"]
    assert not result["in_own_environment"]
    assert secret not in str(ready)
    read = [path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()]
    assert len(read) >= 5  # logs of the master, two workers and two executors
    assert not any(secret in text for text in read)
    assert result["rest"] == "false"


def test_only_the_owner_can_read_the_secret(running):
    ready, _ = running
    file = Path(ready.environment["SPARK_CONF_DIR"]) / "spark-defaults.conf"
    assert file.stat().st_mode & 0o077 == 0


def test_it_listens_on_the_loopback_only(running):
    ready, _ = running
    folder = ready.environment["SPARK_CONF_DIR"]
    listening = [
        connection.laddr.ip
        for process in of_session(folder)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 6  # three daemons, each with a port for RPC and one for its page
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_a_client_without_the_secret_is_refused(running, tmp_path):
    ready, logs = running
    before = (logs / "master.log").read_text().count("Registering app")
    said = tmp_path / "said"
    with said.open("w") as out:
        stranger = subprocess.Popen(
            driver(ready, tmp_path),
            env={name: value for name, value in os.environ.items() if name != "SPARK_CONF_DIR"},
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        # Spark tries for a minute before it gives up; it is enough to see the first refusal.
        deadline = time.monotonic() + 90
        while "Failed to connect to master" not in said.read_text():
            assert stranger.poll() is None, said.read_text()[-3000:]
            assert time.monotonic() < deadline, said.read_text()[-3000:]
            time.sleep(0.2)
    finally:
        os.killpg(stranger.pid, signal.SIGKILL)
        stranger.wait()
    assert (logs / "master.log").read_text().count("Registering app") == before
    assert "RESULT" not in said.read_text()


STARTED = """
    with connect("standalone", workers=1, memory="512m", logs=Path(sys.argv[1])) as ready:
        print("READY", ready.environment["SPARK_CONF_DIR"], flush=True)
        {body}
"""


def end(tmp_path: Path, body: str, number: int | None) -> tuple[subprocess.Popen, str]:
    """Start a cluster in a process of its own, let it end in some way, and return the process and its folder."""
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [*script(STARTED.format(body=body)), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("READY "), process.stderr.read()
    folder = line.split()[1]
    assert Path(folder).is_dir()
    if number is not None:
        process.send_signal(number)
    process.wait(timeout=60)
    return process, folder


@pytest.mark.parametrize(
    ("body", "number"),
    [
        pytest.param("pass", None, marks=pytest.mark.slow),
        ("raise RuntimeError('planned')", None),
        ("__import__('time').sleep(100)", signal.SIGINT),
        pytest.param("__import__('time').sleep(100)", signal.SIGTERM, marks=pytest.mark.slow),
        ("__import__('time').sleep(100)", signal.SIGKILL),
    ],
    ids=["end", "exception", "SIGINT", "SIGTERM", "SIGKILL"],
)
def test_nothing_is_left(tmp_path, body, number):
    process, folder = end(tmp_path, body, number)
    # After a kill that cannot be caught, the reaper works on its own.
    deadline = time.monotonic() + 30
    while (of_session(str(tmp_path / "tmp")) or Path(folder).parent.exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert of_session(str(tmp_path / "tmp")) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (process.returncode == 0) == (body == "pass")


def test_a_daemon_that_dies_is_named_with_its_log(tmp_path, monkeypatch):
    broken = tmp_path / "java"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "java").write_text("#!/bin/sh\necho 'no good' >&2; exit 3\n")
    (broken / "bin" / "java").chmod(0o755)
    monkeypatch.setattr(standalone, "find_java", lambda: Java(broken, 17, "test"))
    with (
        pytest.raises(ClusterError, match=r"master ended with code \d+: see .*master\.log") as error,
        connect("standalone", logs=tmp_path / "logs"),
    ):
        pytest.fail("must not start")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("workers", "cores", "memory"), [(0, 1, "1g"), (1, 0, "1g"), (1, 1, "much"), (1, 1, "0g")])
def test_sizes_that_make_no_sense(tmp_path, workers, cores, memory):
    with (
        pytest.raises(ClusterError),
        connect("standalone", workers=workers, cores=cores, memory=memory, logs=tmp_path),
    ):
        pytest.fail("must not start")


def test_other_masters_are_passed_on(tmp_path):
    with connect("spark://somewhere:7077", logs=tmp_path) as ready:
        assert ready.url == "spark://somewhere:7077"
        assert ready.slots is None


def test_shares_are_disjoint_until_the_processors_run_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    assert [processors_of(number, 2) for number in range(3)] == [{0, 1}, {2, 3}, {4, 0}]


@pytest.mark.parametrize(
    ("status", "cores", "complete"),
    [("ALIVE", [1, 1], True), ("STANDBY", [1, 1], False), ("ALIVE", [1], False), ("ALIVE", [1, 0], False)],
)
def test_complete_means_alive_with_all_workers_and_cores(status, cores, complete):
    state = {"status": status, "workers": [{"state": "ALIVE", "cores": number} for number in cores]}
    assert is_complete(state, workers=2, cores=1) is complete


def test_dead_workers_do_not_count():
    state = {"status": "ALIVE", "workers": [{"state": "DEAD", "cores": 1}, {"state": "ALIVE", "cores": 1}]}
    assert not is_complete(state, workers=2, cores=1)
    assert not is_complete(None, workers=1, cores=1)


def test_labels_say_that_one_host_plays_the_cluster():
    assert one_host_label("standalone", 2, 1, 8) == "standalone: 2 workers of 1 core, all on one host"
    assert one_host_label("standalone", 4, 1, 1).endswith("with only 1 core")


@pytest.mark.parametrize(
    ("cores", "slots", "conf"),
    [("1", 3, {}), ("2", 4, {}), ("4", 1, {"spark.executor.cores": "1"}), (None, 5, {})],
)
def test_an_executor_never_has_more_cores_than_the_session(cores, slots, conf):
    of_cluster = {} if cores is None else {"spark.executor.cores": cores}
    assert executor_conf(of_cluster, slots) == conf


def test_slots_that_no_executor_fits_into_are_refused():
    with pytest.raises(ClusterError, match="3 slots cannot be had from workers of 2 cores: take a multiple of 2"):
        executor_conf({"spark.executor.cores": "2"}, 3)


@pytest.mark.parametrize(("value", "wanted"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_encryption_can_be_asked_for_by_a_variable(value, wanted, monkeypatch):
    monkeypatch.delenv("FOLDOUT_ENCRYPT", raising=False)
    if value is not None:
        monkeypatch.setenv("FOLDOUT_ENCRYPT", value)
    assert wants_encryption() is wanted
