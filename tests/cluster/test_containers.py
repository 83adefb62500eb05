# SPDX-License-Identifier: Apache-2.0
"""The whole cluster of containers: whom it lets in, what it keeps secret, and that it leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from suite import records
from suite.cluster import compose, image_build
from suite.cluster.description import is_complete, master_state
from suite.cluster.docker_engine import build_image
from suite.cluster.ownership import KEPT, one_shot_name, state_folder
from suite.machine import environment

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
RECIPES = Path(__file__).with_name("recipes")


def suite(*words, **variables):
    return subprocess.run(
        [sys.executable, "-m", "suite", *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.fixture(scope="module")
def running(engine, image):
    """The cluster that `cluster up` starts, with its pages on ports that are likely free."""
    if engine.containers(KEPT):
        pytest.fail("a cluster of your own is up: end it first, with `python -m suite cluster down`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOLDOUT_MASTER_PAGE", "18989")
        patch.setenv("FOLDOUT_HISTORY_PAGE", "18990")
        stranger = engine.ask("create", "--label", "someone=else", "--entrypoint", "true", image).strip()
        done = suite("cluster", "up", "--workers", "2", "--pages")
        try:
            assert done.returncode == 0, done.stderr
            yield done
        finally:
            gone = suite("cluster", "down")
            left = engine.ask("ps", "-aq", "--no-trunc").split()
            engine.ask("rm", "-f", stranger)
        assert gone.returncode == 0
        # What is not ours was not touched.
        assert stranger in left
        assert engine.containers(KEPT) == []
        assert not state_folder(KEPT).exists()


@pytest.fixture(scope="module")
def containers(running, engine):
    return {compose.container_state(each)[0]: each for each in engine.containers(KEPT)}


@pytest.fixture(scope="module")
def secret(running):
    return (state_folder(KEPT) / "secret").read_text()


def test_what_a_killed_bench_leaves_is_removed_by_the_next_command(engine, image, tmp_path, monkeypatch):
    # The bench looks in this folder for a cluster that is up, and finds none.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = [sys.executable, "-m", "suite", "bench", str(RECIPES / "steady.py"), "--master", "compose"]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [*words, "--size", "smoke", "--out", str(tmp_path / "out")], cwd=ROOT, stdout=said, stderr=said
        )
    name = one_shot_name(process.pid)
    try:
        deadline = time.monotonic() + 600
        while not engine.containers(name):
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert engine.containers(name)
    # `down` would also end a cluster that another test has up; this is the part of it that is tested here.
    assert compose.remove_orphans(engine) == [name]
    assert engine.containers(name) == []
    assert not state_folder(name).exists()


@pytest.mark.slow
def test_a_clone_under_umask_077_gives_an_image_that_starts(image, tmp_path):
    """The last lines of the Dockerfile on top of the image that is there: nothing is downloaded."""
    tag = "foldout:umask"
    dockerfile = tmp_path / "Dockerfile"
    own = (ROOT / "docker" / "Dockerfile").read_text().partition("COPY pyproject.toml")
    dockerfile.write_text(f"FROM {image}\nUSER 0:0\nRUN rm -r /opt/foldout/*\n{own[1]}{own[2]}")
    with image_build.build_context() as context:
        for path in (context, *context.rglob("*")):
            path.chmod(path.stat().st_mode & 0o700)
        build = ["docker", "build", "-q", "--force-rm", "-t", tag, "-f", dockerfile, context]
        subprocess.run(build, check=True, capture_output=True, timeout=300)
    try:
        words = ["docker", "run", "--rm", "--network", "none", tag, "suite", "list"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    finally:
        subprocess.run(["docker", "rmi", "-f", tag], check=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "udf_inference" in done.stdout


READS = """'Sums a column of a file'
from own_package import twice

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"smoke": {}}

def make_data(*, data_folder):
    return data_folder / "numbers.csv"

def run_driver(data):
    'On the driver'
    return twice(sum(map(int, data.read_text().split()[1:])))

def run_executors(data, *, spark):
    'By the executors'
    def read(_):
        yield twice(sum(map(int, data.read_text().split()[1:])))
    return spark.sparkContext.parallelize([0, 1], 2).mapPartitions(read).max()

def check(reference, answer):
    assert answer == reference == 12
"""


@pytest.mark.slow
def test_a_bench_has_the_users_own_data_and_packages(engine, image, tmp_path):
    """From a path with blanks; the files are open to all, as the container's user is another. No cluster is up yet."""
    data, packages, recipes = tmp_path / "my data", tmp_path / "image" / "packages", tmp_path / "recipes"
    for folder in (data, packages, recipes):
        folder.mkdir(parents=True)
    (data / "numbers.csv").write_text("x\n1\n2\n3\n")
    for folder in (tmp_path, *tmp_path.parents[:2], data):
        folder.chmod(folder.stat().st_mode | 0o055)
    (packages / "own_package.py").write_text("def twice(x):\n    return 2 * x\n")
    (recipes / "reads.py").write_text(READS)
    lines = re.findall(r"^    ((?:FROM|COPY) .+)$", (ROOT / "docker" / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 2
    (tmp_path / "image" / "Dockerfile").write_text("\n".join(lines) + "\n")
    tag = "foldout-own:test"
    subprocess.run(["docker", "build", "-q", "-t", tag, tmp_path / "image"], check=True, capture_output=True)
    try:
        words = [
            "--master",
            "compose",
            "--size",
            "smoke",
            "--data",
            str(data),
            "--image",
            tag,
            "--out",
            str(tmp_path / "out"),
        ]
        done = suite("bench", str(recipes / "reads.py"), *words)
    finally:
        subprocess.run(["docker", "rmi", "-f", tag], check=True, capture_output=True, timeout=60)
    found = {each.variant: each for each in records.read(tmp_path / "out" / "records.jsonl")}
    assert {each.status for each in found.values()} == {"ok"}, done.stdout + done.stderr
    assert found["executors"].engaged["executors"] == 2


def test_all_of_it_is_up(running, containers):
    assert set(containers) == {"master", "worker 1", "worker 2", "history"}
    shown = suite("cluster", "status")
    assert shown.returncode == 0
    assert shown.stdout.count(" healthy") == 4
    assert "http://127.0.0.1:18989" in shown.stdout


def test_the_master_lists_both_workers_and_history_serves(running):
    state = master_state("http://127.0.0.1:18989")
    assert is_complete(state, workers=2, cores=1)
    with urllib.request.urlopen("http://127.0.0.1:18990/api/v1/applications", timeout=10) as reply:
        assert isinstance(json.load(reply), list)


def test_nothing_but_the_pages_is_published(containers):
    for who, container in containers.items():
        for inside, bound in (container["NetworkSettings"]["Ports"] or {}).items():
            assert inside in ("8080/tcp", "18080/tcp"), who
            assert {to["HostIp"] for to in bound} == {"127.0.0.1"}, who


def test_containers_are_confined(containers, engine):
    for who, container in containers.items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], who
        assert host["PidsLimit"] > 0, who
        assert host["Memory"] > 0, who
        assert host["NanoCpus"] > 0, who
        told = engine.ask("exec", container["Id"], "cat", "/proc/self/status")
        status = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        assert status["Uid"].split() == ["10001"] * 4, who
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}, who
        assert status["NoNewPrivs"] == "1", who
        written = engine.ask("exec", container["Id"], "sh", "-c", "touch /opt/x 2>&1 || true")
        assert "Read-only file system" in written, who


def test_workers_have_the_cores_and_memory_that_were_promised(containers):
    host = containers["worker 1"]["HostConfig"]
    plan = compose.ClusterSpec(KEPT)
    assert host["NanoCpus"] == 1_000_000_000
    assert host["Memory"] == host["MemorySwap"] == plan.worker_limit * 2**20


def test_the_secret_is_in_a_file_and_nowhere_else(containers, engine, secret, image):
    assert len(secret) == 64
    assert secret not in engine.ask("history", "--no-trunc", image)
    assert secret not in json.dumps(list(containers.values()))
    for who, container in containers.items():
        assert secret not in engine.ask("logs", container["Id"]), who
        assert secret not in engine.ask("top", container["Id"], "-o", "pid,args"), who
        environ = "cat /proc/1/environ /proc/*/environ | tr '\\0' '\\n'"
        assert secret not in engine.ask("exec", container["Id"], "sh", "-c", environ, may_fail=True), who
        kept = engine.ask("exec", container["Id"], "stat", "-c", "%a", "/tmp/spark-conf/spark-defaults.conf")
        assert kept.strip() == "600", who
    assert state_folder(KEPT).stat().st_mode & 0o077 == 0


STRANGER = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("spark://master:7077").config("spark.driver.memory", "512m").getOrCreate()
print("LET IN", spark.range(3).count())
"""


def test_a_client_without_the_secret_is_refused(containers, engine, image, tmp_path):
    network = next(iter(containers["master"]["NetworkSettings"]["Networks"]))
    name = f"foldout-stranger-{os.getpid()}"
    command = ["docker", "run", "--rm", "--name", name, "--network", network, "--entrypoint", "sh", image, "-c"]
    java = "python -c 'import suite.spark.java as java; print(java.find_java().home)'"
    said = tmp_path / "said"
    with said.open("wb") as out:
        words = [*command, f'JAVA_HOME=$({java}) exec python -c "$0"', STRANGER]
        stranger = subprocess.Popen(words, stdout=out, stderr=out)
    try:
        # Spark tries for a minute before it gives up; it is enough to see the first refusal.
        deadline = time.monotonic() + 120
        while "Expected SaslMessage" not in said.read_text(errors="replace"):
            assert stranger.poll() is None, said.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, said.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
    finally:
        engine.ask("rm", "-f", name, may_fail=True)
        stranger.wait(30)
    assert "LET IN" not in said.read_text(errors="replace")
    assert "Registering app" not in engine.ask("logs", containers["master"]["Id"])


def test_a_bench_uses_the_cluster_that_is_up(running, engine, tmp_path):
    before = {each["Id"] for each in engine.containers(KEPT)}
    words = ["--master", "compose", "--slots", "2", "--size", "smoke", "--blocks", "1"]
    done = suite("bench", str(RECIPES / "steady.py"), *words, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "using the cluster that is up" in done.stdout
    found = records.read(tmp_path / "out" / "records.jsonl")
    (record,) = [each for each in found if each.variant == "shuffled"]
    assert record.status == "ok"
    assert record.engaged["executors"] == 2
    assert record.engaged["slots"] == 2
    # The command on record is the one given here, outside of the container: that one would make the run again.
    made_by = json.loads((tmp_path / "out" / "plan.json").read_text())["command"]
    assert made_by.startswith("python -m suite bench ")
    assert " --master compose " in made_by
    # The files belong to the user who called, and the cluster stays as it was.
    owners = {path.stat().st_uid for path in (tmp_path / "out").rglob("*")}
    assert owners == {os.getuid()}
    assert {each["Id"] for each in engine.containers(KEPT)} == before
    # To go on with it takes the recipe from where it lies outside; here nothing is left to do.
    again = suite("bench", "--resume", "--master", "compose", "--out", str(tmp_path / "out"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(records.read(tmp_path / "out" / "records.jsonl")) == len(found)
    revision = json.loads((tmp_path / "out" / "environment.json").read_text())["revision"]
    assert revision["commit"] == environment.revision()["commit"] is not None
    with urllib.request.urlopen("http://127.0.0.1:18990/api/v1/applications", timeout=10) as reply:
        assert any(each["name"] == "foldout" for each in json.load(reply))


@pytest.mark.slow
def test_every_parallel_recipe_of_spark_ml_engages_both_executors(running, tmp_path):
    """Small data in one partition would pin each fit to one of them."""
    recipes = ("time_series_cv", "time_series_cv_pool", "spark_cross_validator")
    words = ["--master", "compose", "--slots", "2", "--parallelism", "2", "--size", "smoke", "--blocks", "1"]
    done = suite("bench", *recipes, *words, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = [each for each in records.read(tmp_path / "out" / "records.jsonl") if each.factors["parallelism"]]
    assert {each.scenario for each in found} == set(recipes)
    assert len(found) >= 6
    assert {(each.label, each.engaged["executors"]) for each in found} == {(each.label, 2) for each in found}


def test_a_second_bench_is_told_and_a_killed_one_leaves_no_driver(running, engine, tmp_path):
    words = ["--master", "compose", "--slots", "2", "--size", "smoke", "--blocks", "1"]
    first = [sys.executable, "-m", "suite", "bench", str(RECIPES / "steady.py"), *words, "--out", str(tmp_path / "a")]
    before = {each["Id"] for each in engine.containers(KEPT)}

    def drivers():
        return {each["Id"] for each in engine.containers(KEPT)} - before

    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(first, cwd=ROOT, stdout=said, stderr=said)
        try:
            deadline = time.monotonic() + 120
            while not drivers():
                assert process.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            driver = drivers()
            for command in (("bench", *words, "--out", str(tmp_path / "b")), ("cluster", "down")):
                second = suite(*command)
                assert second.returncode == 2
                assert "another" in second.stderr
                assert drivers() == driver, "the run of the other bench was disturbed"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert not (tmp_path / "b").exists()
    compose.remove_orphans(engine)
    assert {each["Id"] for each in engine.containers(KEPT)} == before
    assert suite("cluster", "status").returncode == 0


def test_a_change_of_code_rebuilds_the_last_layers_only(engine, image, tmp_path, monkeypatch):
    for name in ("docker", "suite", "scenarios", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in (".dockerignore", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "scenarios" / "new.py").write_text("pass\n")
    monkeypatch.setattr(image_build, "ROOT", tmp_path)
    changed = "foldout:changed"
    try:
        build_image(tmp_path / "build.log", changed)
        before, after = (json.loads(engine.ask("inspect", tag))[0]["RootFS"]["Layers"] for tag in (image, changed))
        different = [number for number, pair in enumerate(zip(before, after, strict=True)) if len(set(pair)) > 1]
        assert different == [len(before) - 1]
    finally:
        engine.ask("rmi", "-f", changed)


def test_nothing_of_the_build_is_in_the_image(engine, image):
    shell = (
        "ls /usr/local/share/ca-certificates /root/.cache /opt/foldout/docker/certs /opt/venv/bin/pip 2>/dev/null; env"
    )
    seen = engine.ask("run", "--rm", "--entrypoint", "sh", image, "-c", shell)
    assert "PIP_" not in seen
    assert "proxy" not in seen.lower()
    assert ".crt" not in seen
    assert "bin/pip" not in seen


def test_no_authority_is_in_the_image(engine, image):
    text = "grep -rlsI --exclude-dir=proc --exclude-dir=sys '^-----BEGIN CERTIFICATE-----' /"
    names = "find / -xdev '(' -name '*.crt' -o -name '*.pem' ')'"
    words = ["run", "--rm", "--user", "0", "--entrypoint", "sh", image, "-c", f"{text}; {names}; echo done"]
    assert engine.ask(*words) == "done\n"
