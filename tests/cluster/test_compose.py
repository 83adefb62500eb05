# SPDX-License-Identifier: Apache-2.0
"""What can be tested of the containers without a Docker engine: files in docker/, messages, archives to send."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from suite.cli import main
from suite.cluster import compose, docker_engine, ownership
from suite.cluster.compose import MASTER_URL, ClusterSpec
from suite.cluster.connect import existing_cluster
from suite.cluster.description import RUN_FOLDER, ClusterError, as_outside
from suite.cluster.docker_engine import Engine, find_engine
from suite.errors import UsageError
from suite.machine import environment
from suite.run import command, in_container
from suite.run.in_container import exit_code_of, pack
from suite.run.loop import lock_run_folder
from suite.run.options import BenchOptions
from suite.run.plan_file import PLAN_MEMBERS

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent


def services(name: str) -> dict:
    return YAML(typ="safe").load(DOCKER / name)["services"]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.pages.yaml", "compose.data.yaml"])
def test_compose_files_obey_the_specification(name):
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("client", [["docker", "compose"], ["docker-compose"]], ids=["v2", "v1"])
def test_compose_clients_read_the_files(client, tmp_path):
    if shutil.which(client[0]) is None or subprocess.run([*client, "version"], capture_output=True).returncode:
        pytest.skip(f"there is no {' '.join(client)} here")
    secret = tmp_path / "secret"
    secret.write_text("nothing")
    named = ("compose.yaml", "compose.pages.yaml", "compose.data.yaml")
    files = [word for name in named for word in ("-f", str(DOCKER / name))]
    done = subprocess.run(
        [*client, *files, "-p", "foldout-test", "config"],
        env={**os.environ, "FOLDOUT_SECRET_FILE": str(secret), "FOLDOUT_DATA": "/my data"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1" in done.stdout


def test_the_dockerfile_obeys_hadolint():
    done = subprocess.run([BIN / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_lock_is_a_layer_of_its_own_before_the_code():
    last_stage = (DOCKER / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    copies = [line for line in last_stage.splitlines() if line.startswith("COPY ")]
    assert copies[0] == "COPY --from=build /opt/venv /opt/venv"
    assert {"COPY suite suite", "COPY scenarios scenarios"} <= set(copies[1:])
    # After it files are copied and made readable, so nothing that takes long has to be run again when code has changed.
    assert re.findall(r"\nRUN .*", last_stage[last_stage.index(copies[0]) :]) == ["\nRUN chmod -R a+rX /opt/foldout"]


def test_every_service_is_confined():
    for name, service in services("compose.yaml").items():
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "mem_limit", "memswap_limit", "pids_limit", "tmpfs"} <= set(service), name
        assert service["labels"]["foldout.cluster"], name
        assert ("healthcheck" in service) == (name != "bench"), name


def test_pages_are_published_on_request_only_and_other_ports_never():
    assert not any("ports" in service for service in services("compose.yaml").values())
    ports = [port for service in services("compose.pages.yaml").values() for port in service["ports"]]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {port.rsplit(":", 1)[1] for port in ports} == {"8080", "18080"}


def test_containers_run_as_the_images_user_whatever_an_image_on_top_of_it_says():
    last = re.findall(r"^USER (.+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert {service["user"] for service in services("compose.yaml").values()} == {last} == {"10001:10001"}


def test_the_readme_names_the_ports_of_the_pages():
    published = re.findall(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}", (DOCKER / "compose.pages.yaml").read_text())
    (line,) = [line for line in (DOCKER / "README.md").read_text().splitlines() if "cluster up --workers" in line]
    for variable, port in published:
        assert variable in line
        assert f":{port}" in line
    assert len(published) == len(re.findall(r":\d{4,5}", line)) == 2


def test_the_compose_file_asks_for_nothing_that_the_suite_does_not_give(engine_of_8):
    text = (DOCKER / "compose.yaml").read_text()
    asked = {line.split("}")[0].split(":")[0] for line in text.split("${")[1:]}
    given = set(ClusterSpec("x").variables(engine_of_8, "me"))
    by_bench_or_user = {
        "FOLDOUT_COMMAND",
        "FOLDOUT_SENDS",
        "FOLDOUT_COMMAND_LINE",
        "FOLDOUT_RUN_FOLDER",
        "FOLDOUT_OUTSIDE",
        "FOLDOUT_REVISION",
        "FOLDOUT_TOX",
        "FOLDOUT_DRIVER",
        "FOLDOUT_ADDRESS",
        "FOLDOUT_DRIVER_LIMIT",
    }
    assert asked - given == by_bench_or_user
    assert given <= asked


@pytest.fixture
def engine_of_8() -> Engine:
    return Engine(("docker-compose",), 8, 16.0)


# --- the entrypoint


@pytest.fixture
def entrypoint(tmp_path, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("entrypoint", str(DOCKER / "entrypoint"))
    spec = importlib.util.spec_from_loader("entrypoint", loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    monkeypatch.setattr(module, "SECRET", tmp_path / "secret")
    monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    monkeypatch.setenv("FOLDOUT_ADDRESS", "10.0.0.7")
    monkeypatch.setenv("SPARK_CONF_DIR", "set back afterwards")
    (tmp_path / "secret").write_text("s3cr3t\n")
    return module


@pytest.mark.parametrize("role", ["master", "worker", "history", "suite"])
def test_the_secret_goes_into_a_file_of_its_owner_and_nowhere_else(entrypoint, role, tmp_path):
    entrypoint.configure(role)
    file = tmp_path / "conf" / "spark-defaults.conf"
    conf = dict(line.split(" ", 1) for line in file.read_text().splitlines())
    assert conf["spark.authenticate"] == "true"
    assert conf["spark.authenticate.secret"] == "s3cr3t"
    assert conf["spark.master.rest.enabled"] == "false"
    assert conf["spark.network.crypto.saslFallback"] == "false"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "s3cr3t" not in str(dict(os.environ))
    assert os.environ["SPARK_CONF_DIR"] == str(tmp_path / "conf")
    assert conf.get("spark.driver.host") == ("10.0.0.7" if role == "suite" else None)


def test_a_check_of_health_needs_no_package():
    """An image whose Python lacks some is found by the preflight, which names them."""
    command = [sys.executable, "-I", "-S", DOCKER / "entrypoint", "health", "master"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "the master does not answer\n")


def test_without_a_secret_the_suite_can_be_asked_and_no_daemon_starts(entrypoint, tmp_path):
    (tmp_path / "secret").unlink()
    entrypoint.configure("suite")
    assert not (tmp_path / "conf").exists()
    for role in ("master", "worker", "history"):
        with pytest.raises(SystemExit, match=f"a {role} needs its cluster's secret"):
            entrypoint.configure(role)


def test_a_secret_that_cannot_be_read_is_told_with_the_remedy(entrypoint, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SystemExit, match=r"cannot be read \(Permission denied\): `chmod 444` its file"):
        entrypoint.configure("master")


def test_encryption_is_a_setting(entrypoint, tmp_path, monkeypatch):
    file = tmp_path / "conf" / "spark-defaults.conf"
    entrypoint.configure("worker")
    assert "crypto.enabled" not in file.read_text()
    monkeypatch.setenv("FOLDOUT_ENCRYPT", "1")
    entrypoint.configure("worker")
    assert "spark.network.crypto.enabled true\n" in file.read_text()
    assert "AES/GCM/NoPadding" in file.read_text()


@pytest.mark.parametrize(
    ("role", "state", "healthy"),
    [
        ("master", {"status": "ALIVE", "workers": []}, True),
        ("master", {"status": "RECOVERING", "workers": []}, False),
        ("master", None, False),
        ("worker", {"status": "ALIVE", "workers": [{"host": "10.0.0.7", "state": "ALIVE"}]}, True),
        ("worker", {"status": "ALIVE", "workers": [{"host": "10.0.0.7", "state": "DEAD"}]}, False),
        ("worker", {"status": "ALIVE", "workers": [{"host": "10.0.0.8", "state": "ALIVE"}]}, False),
    ],
)
def test_health_means_that_the_master_is_in_charge_and_lists_the_worker(
    entrypoint, role, state, healthy, monkeypatch, tmp_path
):
    monkeypatch.setattr(entrypoint, "master_state", lambda pages: state)
    monkeypatch.setattr(entrypoint, "WAS_HEALTHY", tmp_path / "mark")
    if healthy:
        entrypoint.health(role)
    else:
        with pytest.raises(SystemExit):
            entrypoint.health(role)
    assert (tmp_path / "mark").exists() == healthy


def test_an_earlier_run_makes_room_but_a_mounted_folder_stays(entrypoint, tmp_path, monkeypatch):
    (tmp_path / "run" / "logs" / "events").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "events" / "app-1").touch()
    (tmp_path / "run" / "plan.json").touch()
    rmdir = Path.rmdir

    def busy(folder):
        if folder.name == "events":
            raise OSError("a mount")
        rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", busy)
    entrypoint.clear(tmp_path / "run")
    assert [path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*")] == [
        Path("logs"),
        Path("logs/events"),
    ]


# --- no engine in reach


def fake_docker(folder: Path, script: str, *names: str) -> str:
    """Return a PATH whose `docker`, or other named client, runs the script."""
    for name in names or ("docker",):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


DENIED = "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1"
DEAD = "echo 'Cannot connect to the Docker daemon. Is the docker daemon running?' >&2; exit 1"
PODMAN = 'if [ "$1" = --version ]; then echo podman version 4.9.3; else echo "no field NCPU" >&2; exit 125; fi'
NO_COMPOSE = 'if [ "$1" = info ]; then echo 4 8000000000; else echo "unknown command: compose" >&2; exit 1; fi'


@pytest.mark.parametrize(
    ("script", "said", "remedy"),
    [
        (None, "no `docker` on the PATH", "install Docker"),
        (DENIED, "may not use the Docker engine", "usermod -aG docker"),
        (DEAD, "no Docker engine answers at", "start it"),
        ("echo '0 0'", "no Docker engine answers at", "start it"),
        (PODMAN, "the `docker` on the PATH is Podman", "install Docker"),
        (NO_COMPOSE, "neither `docker compose` nor `docker-compose`", "docker-compose-plugin"),
    ],
    ids=["no client", "no permission", "dead", "no server", "Podman", "no compose"],
)
def test_each_way_to_have_no_engine_has_its_own_message(script, said, remedy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path) if script is None else fake_docker(tmp_path, script))
    with pytest.raises(ClusterError) as error:
        find_engine()
    text = str(error.value)
    assert said in text
    assert remedy in text
    assert "--master standalone" in text
    assert "\n" not in text


def test_a_dead_socket_is_named(monkeypatch):
    if shutil.which("docker") is None:
        pytest.skip("there is no docker client here")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(ClusterError, match=r"no Docker engine answers at unix:///nowhere/docker\.sock"):
        find_engine()


def test_an_engine_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", fake_docker(tmp_path, "exec /bin/sleep 100"))
    monkeypatch.setattr(docker_engine, "CLIENT_SECONDS", 0.3)
    with pytest.raises(ClusterError, match=r"`docker info` got no answer .* 0\.3 seconds"):
        find_engine()


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "grid_search_single_node", "--master", "compose"],
        ["cluster", "up"],
        ["cluster", "status"],
        ["cluster", "down"],
    ],
)
def test_the_command_line_says_it_in_one_line(words, tmp_path):
    out = ["--out", str(tmp_path / "out")] if words[0] == "bench" else []
    done = subprocess.run(
        [sys.executable, "-m", "suite", *words, *out],
        cwd=ROOT,
        env={**os.environ, "PATH": fake_docker(tmp_path, DEAD)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Docker engine answers")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- what is sent into the container


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_own_recipes_go_along_with_their_neighbours(tmp_path):
    for name in ("mine.py", "sibling.py", "data.csv"):
        (tmp_path / name).write_text("x = 1\n")
    asked = BenchOptions([str(tmp_path / "mine.py"), "udf_inference"], slots=(1, 2), master="compose")
    inside, archive = pack(asked, tmp_path / "none")
    recipes = ["/results/own/0/mine.py", "udf_inference"]
    assert inside.arguments() == [*recipes, "--master", MASTER_URL, "--slots", "1,2", "--out", RUN_FOLDER]
    assert asked.scenario[0] == str(tmp_path / "mine.py")
    sent = members(archive)
    assert set(sent) == {"own/0/mine.py", "own/0/sibling.py"}
    assert {(member.uid, member.uname) for member in sent.values()} == {(0, "")}


def test_a_folder_of_recipes_and_an_old_run_go_along(tmp_path):
    out, recipes = tmp_path / "out", tmp_path / "recipes"
    for file in (out / "plan.json", out / "logs" / "a.log", recipes / "mine.py", recipes / "__pycache__" / "x.pyc"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (out / "link").symlink_to("/etc/passwd")
    inside, archive = pack(BenchOptions(resume=True, out=out, scenarios=recipes, master="compose"), out)
    assert inside == BenchOptions(
        resume=True, scenarios=Path("/results/own/scenarios"), master=MASTER_URL, out=Path(RUN_FOLDER)
    )
    assert {name for name, member in members(archive).items() if member.isfile()} == {
        "run/plan.json",
        "run/logs/a.log",
        "own/scenarios/mine.py",
    }
    assert "run/link" not in members(archive)


def test_what_recipes_are_linked_to_goes_along_and_what_is_hidden_stays(tmp_path):
    lib, recipes = tmp_path / "lib", tmp_path / "recipes"
    for file in (lib / "mine.py", lib / "shop" / "__init__.py", lib / "data" / "much.csv", recipes / ".git" / "config"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (recipes / "own.py").hardlink_to(lib / "mine.py")
    for name in ("mine.py", "shop", "data"):
        (recipes / name).symlink_to(f"../lib/{name}")
    for name in (".#mine.py", "gone.py"):
        (recipes / name).symlink_to("me@host.1:2")  # as Emacs makes them while a file is not saved
    _, archive = pack(BenchOptions(scenarios=recipes), tmp_path / "none")
    sent = {name.removeprefix("own/scenarios/") for name, member in members(archive).items() if member.isfile()}
    assert sent == {"own.py", "mine.py", "shop/__init__.py"}


def test_without_anything_to_send_the_archive_is_empty_but_whole(tmp_path):
    inside, archive = pack(BenchOptions(size="smoke", workers=4), tmp_path / "none")
    assert inside.arguments() == ["--size", "smoke", "--master", MASTER_URL, "--out", RUN_FOLDER]
    assert members(archive) == {}
    # Two empty blocks mark the end of the archive; the reader needs them, because the pipe stays open.
    assert len(archive) >= 1024


# --- plans and owners


def test_nothing_secret_is_among_the_variables(engine_of_8, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    variables = ClusterSpec("foldout-1", 3, 2, "2g", encrypt=True).variables(engine_of_8, "me")
    assert variables["FOLDOUT_SECRET_FILE"] == str(tmp_path / "foldout" / "foldout-1" / "secret")
    assert variables["FOLDOUT_WORKER_MEMORY"] == "2048m"
    assert variables["FOLDOUT_WORKER_LIMIT"] == f"{2048 + 768 + 2 * 768}m"
    assert variables["FOLDOUT_DRIVER_CORES"] == "6"
    told = json.loads(variables["FOLDOUT_CLUSTER"])
    assert (told["workers"], told["cores"], told["url"]) == (3, 2, "spark://master:7077")
    assert "secret" not in variables["FOLDOUT_CLUSTER"]


def test_the_driver_inside_learns_what_cluster_it_has(engine_of_8, monkeypatch):
    told = ClusterSpec("x", 2, 1).variables(engine_of_8, "me")["FOLDOUT_CLUSTER"]
    monkeypatch.setenv("FOLDOUT_CLUSTER", told)
    monkeypatch.setenv("SPARK_CONF_DIR", "/tmp/spark-conf")
    ready = existing_cluster("spark://master:7077")
    assert ready.slots == 2
    assert ready.label == "containers: 2 workers of 1 core, all on one host"
    assert ready.environment == {"SPARK_CONF_DIR": "/tmp/spark-conf"}
    assert existing_cluster("spark://elsewhere:7077").slots is None
    assert existing_cluster("local[2]").environment == {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_PREFER_IPV6": "false"}


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (ClusterSpec("x", workers=2, cores=9), "workers of 9 cores cannot be had: the Docker engine has 8"),
        (ClusterSpec("x", workers=9, memory="2g"), "9 workers need 31.5 GiB, the Docker engine has 16.0"),
        (ClusterSpec("x", workers=0), "at least 1 worker"),
        (ClusterSpec("x", memory="much"), "not an amount"),
    ],
)
def test_a_cluster_that_the_engine_cannot_hold_is_refused_first(plan, said, engine_of_8, tmp_path, monkeypatch):
    """Before an image is built, and before a cluster that is up is ended."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Engine, "ask", lambda *words, **_: "")
    for module in (compose, in_container):
        monkeypatch.setattr(module, "find_engine", lambda: engine_of_8)
        monkeypatch.setattr(module, "with_image", lambda *_: pytest.fail("an image is built"))
    with pytest.raises(ClusterError, match=said):
        compose.cluster_up(plan)
    options = BenchOptions(workers=plan.workers)
    with pytest.raises(ClusterError, match=said):
        in_container.run_in_containers(options, "typed", tmp_path / "out", plan.workers, plan.cores, plan.memory)


@pytest.mark.parametrize(
    ("cores", "gib", "workers"), [(8, 15.5, 6), (2, 24.0, 2), (1, 24.0, 2), (8, 1.0, 1), (8, 64.0, 8)]
)
def test_by_default_there_are_as_many_workers_as_the_engine_has_room_for(cores, gib, workers):
    plan = ClusterSpec("x", workers=8)
    assert compose.workers_that_fit(Engine(("docker-compose",), cores, gib), plan) == workers


def test_only_what_a_dead_process_of_this_user_and_boot_owned_is_orphaned():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place = ownership.this_owner().split(":")[0]
    boot, space, user = place.split("/")
    assert user == str(os.getuid())
    assert ownership.is_orphaned(f"{place}:{ended.pid}:12345")
    assert ownership.is_orphaned(f"{place}:{os.getpid()}:12345")  # by now the number belongs to another process
    assert not ownership.is_orphaned(ownership.this_owner())
    earlier = (f"{socket.gethostname()}/{place}", socket.gethostname())  # as other versions wrote it
    for other in (f"other/{space}/{user}", f"{boot}/other/{user}", f"{boot}/{space}/other", *earlier):
        assert not ownership.is_orphaned(f"{other}:{ended.pid}:12345")
    for other in ("kept", "by-hand", "", "a:b:c", f"{place}:b:c"):
        assert not ownership.is_orphaned(other)
    assert ownership.this_owner().split(":")[1] == str(psutil.Process().pid)


def test_who_lives_is_told_apart_from_who_was_killed_whatever_the_clock_says(monkeypatch):
    owner = ownership.this_owner()
    place = owner.split(":")[0]
    really = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: really(process) + 3600)  # the clock was set
    if sys.platform == "linux":
        assert not ownership.is_orphaned(owner)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as killed:
        begun = ownership._born(psutil.Process(killed.pid))
        assert not ownership.is_orphaned(f"{place}:{killed.pid}:{begun}")
        killed.kill()
        until = time.monotonic() + 10
        while psutil.Process(killed.pid).status() != psutil.STATUS_ZOMBIE:  # nobody has asked for its exit code yet
            assert time.monotonic() < until
        assert ownership.is_orphaned(f"{place}:{killed.pid}:{begun}")


def test_names_of_clusters_are_of_this_machine_and_user_and_fit_compose():
    for name in (ownership.KEPT, ownership.one_shot_name(17)):
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)
    assert ownership.one_shot_name(17) != ownership.one_shot_name(18)
    code = "import os; os.getuid = lambda: 4242; from suite.cluster.ownership import KEPT; print(KEPT)"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() != ownership.KEPT


@pytest.mark.skipif(
    not Path("/etc/machine-id").is_file(), reason="this machine has no name but the one that may change"
)
def test_a_machine_that_is_named_anew_finds_its_clusters_again():
    code = """
import socket
socket.gethostname = lambda: "elsewhere"
from suite.cluster import ownership
print(ownership.KEPT, ownership.one_shot_name(17), ownership.this_owner().split(":")[0])
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.split() == [ownership.KEPT, ownership.one_shot_name(17), ownership.this_owner().split(":")[0]]


def test_no_cluster_is_left_is_said_only_where_none_is(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compose, "find_engine", lambda: Engine(("docker-compose",), 2, 8.0))
    listed = ["foldout-1 kept", "foldout-1 kept", "foldout-2 a/b/c:1:2", "foldout-3 by-hand"]

    def ask(self, *words, may_fail=False):
        # Of what a host's crash leaves, containers may be gone and volumes there.
        return "\n".join(listed) if words[:2] == ("volume", "ls") and "label=foldout.cluster" in words else ""

    monkeypatch.setattr(Engine, "ask", ask)
    assert compose.cluster_down() == 0
    kept, bench, by_hand = capsys.readouterr().out.splitlines()
    assert kept.startswith("foldout-1 is of another `cluster up`")
    of = "--filter label=foldout.cluster=foldout-1"
    assert f"`docker rm -f -v $(docker ps -aq {of}); docker network rm $(docker network ls -q {of}); " in kept
    assert kept.endswith(f"docker volume rm $(docker volume ls -q {of})` ends it")
    assert bench.startswith("foldout-2 is a cluster of a bench")
    assert by_hand.startswith("foldout-3 was started by hand; `docker rm -f -v ")
    listed.clear()
    assert compose.cluster_down() == 0
    assert capsys.readouterr().out == "no cluster is left\n"


def test_a_container_of_the_users_on_the_clusters_network_is_named_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compose, "CLIENT_SECONDS", 1.0)
    ownership.state_folder("foldout-1").mkdir(parents=True)
    replies = {("network", "ls"): "0123\n", ("network", "inspect"): "foldout-1-worker-1 notebook \n"}

    def ask(self, *words, may_fail=False):
        return "foldout-1-worker-1\n" if "{{.Names}}" in words else replies.get(words[:2], "")

    monkeypatch.setattr(Engine, "ask", ask)
    with pytest.raises(ClusterError, match="other containers are on it: `docker rm -f notebook`, then `python"):
        compose.remove_cluster(Engine(("docker-compose",), 2, 8.0), "foldout-1")
    assert not ownership.state_folder("foldout-1").exists()


def test_the_folder_of_a_bench_that_died_before_its_first_container_is_stale(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (ownership.one_shot_name(ended.pid), ownership.one_shot_name(os.getpid()), ownership.KEPT, "else-1"):
        ownership.state_folder(name).mkdir(parents=True)
    assert list(ownership.stale_state_folders()) == [ownership.state_folder(ownership.one_shot_name(ended.pid))]


def test_the_folders_of_an_earlier_boot_are_stale(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old, new = (ownership.state_folder(f"{ownership.KEPT}-{boot}-17") for boot in ("01234567", "89abcdef"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, psutil.boot_time() - 1000))
    assert list(ownership.stale_state_folders()) == [old]


def test_logs_that_an_error_names_stay_until_the_next_command(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = "from suite.cluster.ownership import new_log_folder; print(new_log_folder())"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    left = Path(said.strip())
    assert left.stat().st_mode & 0o777 == 0o700
    mine = ownership.new_log_folder()
    (mine / "build.log").touch()
    assert list(ownership.stale_state_folders()) == [left]
    assert list(ownership.new_log_folder().iterdir()) == []


def test_a_cluster_that_is_up_has_one_user_at_a_time_and_a_dead_one_gives_it_back(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = """
from suite.cluster.ownership import only_user_of_kept_cluster
with only_user_of_kept_cluster():
    print("it is mine", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "it is mine\n"
        with (
            pytest.raises(ClusterError, match=rf"another bench is using the cluster .* \(process {first.pid}\)"),
            ownership.only_user_of_kept_cluster(),
        ):
            pass
        first.kill()
    with ownership.only_user_of_kept_cluster():
        pass


# --- what goes into a container, and what comes out


def test_only_regular_files_come_out_of_a_container_with_the_permissions_of_the_umask(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, target in (
            *(("./logs", tarfile.DIRTYPE, ""), ("./logs/cluster", tarfile.SYMTYPE, str(outside))),
            *(("./hard", tarfile.LNKTYPE, "../outside/x"), ("./pipe", tarfile.FIFOTYPE, "")),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o777
            archive.addfile(member)
        member = tarfile.TarInfo("./logs/cluster/written.log")
        member.size, member.mode = 2, 0o777
        archive.addfile(member, io.BytesIO(b"ok"))
    buffer.seek(0)
    before = os.umask(0o027)
    try:
        in_container.unpack(buffer, tmp_path / "out")
    finally:
        os.umask(before)
    assert list(outside.iterdir()) == []
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert found == ["logs", "logs/cluster", "logs/cluster/written.log"]
    assert (tmp_path / "out" / "logs" / "cluster" / "written.log").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out" / "logs" / "cluster").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("name", ["../x", "/x", "logs/../../x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    buffer.seek(0)
    with pytest.raises(ClusterError, match="leads out of it"):
        in_container.unpack(buffer, tmp_path / "out")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("file/out", "cannot write to"), ("compared", "holds a comparison"), ("held", "another bench")]
)
def test_a_run_folder_that_cannot_be_had_is_refused_before_anything_is_started(name, said, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_in_containers", lambda *_, **__: pytest.fail("containers are started"))
    (tmp_path / "file").touch()
    (tmp_path / "compared" / "screen").mkdir(parents=True)
    (tmp_path / "held").mkdir()
    options = BenchOptions(["machine_limit"], size="smoke", master="compose", out=tmp_path / name)
    with lock_run_folder(tmp_path / "held"), pytest.raises(UsageError, match=said):
        command.bench(options, "typed")


def test_results_that_cannot_be_written_are_kept_and_named(tmp_path, monkeypatch):
    """Nothing else has them: the cluster goes, with its volume."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("./plan.json"))
    (tmp_path / "archive").write_bytes(buffer.getvalue())
    (tmp_path / "file").touch()
    monkeypatch.setenv("PATH", fake_docker(tmp_path, f"exec /bin/cat '{tmp_path}/archive'"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(
        ClusterError, match=r"cannot be written to .*/file/out \(Not a directory\): they are in"
    ) as error:
        in_container._bring_out(Engine(("docker-compose",), 2, 8.0), "driver", tmp_path / "file" / "out")
    (kept,) = tmp_path.glob("foldout-results-*")
    assert kept.read_bytes() == buffer.getvalue()
    assert f"tar -xf {kept} " in str(error.value)


def test_the_lock_of_a_run_folder_stays_the_one_that_is_held(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("./.lock", "./plan.json"):
            archive.addfile(tarfile.TarInfo(name))
    buffer.seek(0)
    (tmp_path / ".lock").touch()
    held = (tmp_path / ".lock").stat().st_ino
    in_container.unpack(buffer, tmp_path)
    assert (tmp_path / ".lock").stat().st_ino == held
    assert (tmp_path / "plan.json").exists()


def test_a_full_disk_costs_no_record_of_an_earlier_attempt(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        told = tarfile.TarInfo("./records.jsonl")
        told.size = 5
        archive.addfile(told, io.BytesIO(b"later"))
    (tmp_path / "archive").write_bytes(buffer.getvalue())
    out = tmp_path / "out"
    out.mkdir()
    (out / "records.jsonl").write_text("earlier")
    monkeypatch.setenv("PATH", fake_docker(tmp_path, f"exec /bin/cat '{tmp_path}/archive'"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full = OSError(errno.ENOSPC, "No space left on device")

    def fill(*_):
        raise full

    monkeypatch.setattr(in_container.shutil, "copyfileobj", fill)
    said = r"cannot be written to .*, nor to .*: what is not there yet is lost; no file there is cut short"
    with pytest.raises(ClusterError, match=said):
        in_container._bring_out(Engine(("docker-compose",), 2, 8.0), "driver", out)
    assert {file.name: file.read_text() for file in out.iterdir()} == {"records.jsonl": "earlier"}
    assert list(tmp_path.glob("foldout-results-*")) == []


def test_an_engine_that_hangs_while_results_are_copied_keeps_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(in_container, "COPY_SECONDS", 0.5)
    monkeypatch.setenv("PATH", f"{fake_docker(tmp_path, 'exec sleep 600')}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match=r"brought out to .*: the Docker engine took longer than 0\.5 seconds"):
        in_container._take_output(["docker", "cp"], lambda archive: in_container.unpack(archive, tmp_path), tmp_path)


@pytest.mark.parametrize("text", ["{", '{"name": "x", "of_a_later_version": 1}'])
def test_a_kept_cluster_of_another_version_is_one_line(text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compose.state_folder(compose.KEPT)
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(text)
    monkeypatch.setattr(Engine, "containers", lambda *_: [1])
    monkeypatch.setattr(compose, "container_state", lambda _: ("master", "healthy"))
    with pytest.raises(ClusterError, match=r"is one of another version of the suite, or half made: .* cluster up"):
        compose.kept_cluster(Engine(("docker-compose",), 2, 8.0))


@pytest.mark.parametrize("before", ["", "head -c 700 /dev/zero | tr '\\0' x; "], ids=["nothing", "no whole archive"])
def test_what_a_client_says_that_ends_too_early_is_told(before, tmp_path, monkeypatch):
    path = fake_docker(tmp_path, f"{before}echo 'no space left' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match=r"could not be brought out to .*: no space left"):
        in_container._take_output(["docker", "cp"], lambda archive: in_container.unpack(archive, tmp_path), tmp_path)


def test_recipes_of_one_folder_share_a_place_inside(tmp_path):
    for name in ("a/one.py", "a/two.py", "a/sibling.py", "b/three.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    asked = [str(tmp_path / name) for name in ("a/one.py", "b/three.py", "a/two.py")]
    inside, archive = in_container.pack(BenchOptions(scenario=asked), tmp_path / "out")
    assert inside.scenario == ["/results/own/0/one.py", "/results/own/1/three.py", "/results/own/0/two.py"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        names = sorted(packed.getnames())
    assert names == ["own/0/one.py", "own/0/sibling.py", "own/0/two.py", "own/1/three.py"]


def test_inside_a_container_the_user_reads_the_paths_of_outside(monkeypatch):
    inside = Path("/results/run")
    assert command.resume_command(inside) == "python -m suite bench --resume --out /results/run"
    monkeypatch.setenv("FOLDOUT_RUN_FOLDER", "results/my run")
    assert command.shown_folder(inside) == Path("results/my run")
    assert as_outside(f"see {inside}/logs/preflight.log") == "see results/my run/logs/preflight.log"
    assert command.resume_command(inside) == "python -m suite bench --resume --master compose --out 'results/my run'"
    monkeypatch.setenv("FOLDOUT_TOX", ".venv/bin/python -m tox")
    through_tox = ".venv/bin/python -m tox -e bench -- --resume --master compose --out 'results/my run'"
    assert command.resume_command(inside) == through_tox


@pytest.mark.parametrize(
    "said",
    [
        "Error response from daemon: driver failed programming external connectivity on endpoint foldout_master_1: "
        "Bind for 127.0.0.1:8080 failed: port is already allocated",
        "Error starting userland proxy: listen tcp4 127.0.0.1:8080: bind: address already in use",
    ],
)
def test_a_taken_port_is_named_with_the_remedy(said, tmp_path):
    text = compose.explain_failed_start(said, tmp_path / "log")
    assert "127.0.0.1:8080 is taken" in text
    assert "FOLDOUT_MASTER_PAGE" in text


def test_states_are_told_in_words():
    labels = {"com.docker.compose.service": "worker", "com.docker.compose.container-number": "2"}

    def state(restarts=0, **values):
        told = {"OOMKilled": False, "Status": "running", "Paused": False, "ExitCode": 0} | values
        return compose.container_state({"Config": {"Labels": labels}, "State": told, "RestartCount": restarts})

    assert state(Health={"Status": "healthy"}) == ("worker 2", "healthy")
    assert state(restarts=1, Health={"Status": "healthy"}) == ("worker 2", "died")
    assert state(OOMKilled=True) == ("worker 2", "ran out of memory")
    assert state(Status="exited", ExitCode=137) == ("worker 2", "ended with exit code 137")
    assert state(Status="paused", Paused=True) == ("worker 2", "paused")


def test_a_cluster_that_someone_removed_is_named():
    class Empty:
        def containers(self, name):
            return []

    with pytest.raises(ClusterError, match="the driver's container is gone: someone removed it"):
        exit_code_of(Empty(), "foldout-1", "0123")


def test_events_are_asked_for_until_the_engines_own_time(monkeypatch):
    """Where its clock is behind ours, it would wait until ours."""
    asked = []

    def ask(self, *words, **_):
        asked.append(words)
        return "2026-01-02T03:04:05.678Z\n" if words[0] == "info" else "0123\n"

    monkeypatch.setattr(Engine, "ask", ask)
    engine = Engine(("docker-compose",), 2, 8.0)
    assert in_container._short_of_memory(engine, "foldout-1", "2026-01-02T03:00:00Z") == {"0123"}
    assert asked[-1][asked[-1].index("--until") + 1] == "2026-01-02T03:04:05.678Z"


def test_an_engine_that_makes_no_container_in_time_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(in_container, "CLIENT_SECONDS", 0.3)
    plan, parcel = ClusterSpec("x"), in_container.Parcel(BenchOptions(), "typed", tmp_path / "out")
    path = fake_docker(tmp_path, "exec /bin/sleep 100", "docker-compose")
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match=r"container was not made in 0\.3 seconds: see .*compose\.log"):
        in_container._run_driver(Engine(("docker-compose",), 2, 8.0), plan, "me", parcel, tmp_path)


def test_a_driver_that_still_runs_has_no_exit_code():
    """The client that shows its output may end first, as where that output is read by `head`."""

    class Running:
        def containers(self, name):
            state = {"OOMKilled": False, "Status": "running", "Paused": False, "ExitCode": 0}
            config = {"Labels": {"com.docker.compose.service": "bench"}}
            return [{"Id": "0123", "Created": "", "Config": config, "State": state, "RestartCount": 0}]

        def ask(self, *words, **_):
            return ""

    with pytest.raises(ClusterError, match="broke while it ran: go on by --resume"):
        exit_code_of(Running(), "foldout-1", "0123")


@pytest.mark.parametrize(
    ("code", "ended"), [(137, True), (143, True), (0, False), (2, False), (130, False), (141, False)]
)
def test_a_driver_that_was_ended_from_outside_is_told(code, ended):
    class Ended:
        def containers(self, name):
            state = {"OOMKilled": False, "Status": "exited", "Paused": False, "ExitCode": code}
            config = {"Labels": {"com.docker.compose.service": "bench"}}
            return [{"Id": "0123", "Created": "", "Config": config, "State": state, "RestartCount": 0}]

        def ask(self, *words, **_):
            return ""

    if ended:
        with pytest.raises(ClusterError, match=rf"ended from outside \(exit code {code}\): go on by --resume"):
            exit_code_of(Ended(), "foldout-1", "0123")
    else:
        assert exit_code_of(Ended(), "foldout-1", "0123") == code


def test_a_run_of_another_master_does_not_go_on_in_containers(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_in_containers", lambda *_, **__: pytest.fail("containers are started"))
    plan = {"schema": 1, "options": {}} | dict.fromkeys(PLAN_MEMBERS - {"master"}) | {"master": "local[2]"}
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "options": {}}))
    with pytest.raises(UsageError, match=r"--master compose: the run that goes on is on local\[2\]: leave it out"):
        command.bench(BenchOptions(master="compose", resume=True, out=tmp_path), "resumed")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BenchOptions(["typo"], image="mine", master="compose"), "no scenario 'typo'"),
        (BenchOptions(scenarios=Path("typo"), image="mine", master="compose"), "typo is not a directory"),
    ],
)
def test_recipes_that_are_not_there_are_told_outside_also_where_the_image_is_the_users(options, said, monkeypatch):
    monkeypatch.setattr(command, "run_in_containers", lambda *_, **__: pytest.fail("containers are started"))
    with pytest.raises(UsageError, match=said) as error:
        command.bench(options, "typed")
    assert "/results/own" not in str(error.value)


def test_a_resume_on_containers_has_the_recipes_data_image_and_workers_of_the_run(tmp_path, monkeypatch):
    """The plan was written inside, where recipes and data have other paths and nobody knows the image."""
    recipe = tmp_path / "mine.py"
    shutil.copy(ROOT / "scenarios" / "machine_limit.py", recipe)
    asked = BenchOptions(
        *([str(recipe)], None, "smoke", "compose"),
        workers=3,
        memory="2g",
        timeout=3000.0,
        data=tmp_path,
        image="mine:1",
    )
    parcel = in_container.Parcel(asked, "typed", tmp_path / "run")
    told = parcel.variables(asked, ClusterSpec("x", 3, memory="2g"))
    assert set(told) <= set(re.findall(r"\w+", (DOCKER / "compose.yaml").read_text()))
    plan = {"schema": 1, "options": {"scenario": ["/results/own/0/mine.py"], "data": "/data"}}
    plan |= dict.fromkeys(PLAN_MEMBERS)  # the rest is read inside
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text(json.dumps({**plan, "outside": json.loads(told["FOLDOUT_OUTSIDE"])}))
    seen = []
    monkeypatch.setattr(command, "run_in_containers", lambda *given, **named: seen.append((*given, named)) or 0)
    command.bench(BenchOptions(master="compose", resume=True, out=tmp_path / "run"), "resumed")
    ((options, _, out, workers, named),) = seen
    assert out == tmp_path / "run"
    assert (workers, named) == (3, {"memory": "2g"})
    assert options.timeout == 3000.0
    assert (list(options.scenario), options.data, options.image) == ([str(recipe)], tmp_path, "mine:1")
    # A first run keeps where its recipes lie, so that a resume from another folder finds them.
    monkeypatch.chdir(tmp_path)
    command.bench(BenchOptions(["./mine.py"], size="smoke", master="compose"), "typed")
    assert seen[-1][0].of_plan()["scenario"] == [str(recipe)]


def test_a_container_knows_the_revision_of_outside(monkeypatch):
    outside = environment.revision()
    told = in_container.Parcel(BenchOptions(), "typed", Path("out")).variables(BenchOptions(), ClusterSpec("x"))
    monkeypatch.setattr(environment, "ROOT", Path("/nowhere"))
    assert environment.revision() == {"commit": None, "dirty": None}
    monkeypatch.setenv("FOLDOUT_REVISION", told["FOLDOUT_REVISION"])
    assert environment.revision() == outside


def test_the_secret_that_is_made_by_hand_can_be_read_in_a_container(tmp_path):
    """By another user than the one who made it, whatever that one's umask is."""
    (line,) = re.findall(r"#\s+(mkdir .*openssl .*)", (DOCKER / "compose.yaml").read_text())
    subprocess.run(["sh", "-c", f"umask 077; {line}"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o700  # nobody else on this machine gets at it
    assert (tmp_path / "secret" / "spark").stat().st_mode & 0o777 == 0o444
    assert re.fullmatch(r"[0-9a-f]{64}\n", (tmp_path / "secret" / "spark").read_text())
    ignored = subprocess.run(["git", "check-ignore", "secret"], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout == "secret\n"


def test_a_folder_of_data_has_one_place_in_all_containers_and_the_image_stays_outside(tmp_path):
    asked = BenchOptions(data=tmp_path, image="mine:1", master="compose")
    inside, _ = pack(asked, tmp_path / "none")
    assert inside.data == Path("/data")
    assert inside.image is None
    words = compose.compose_command(Engine(("docker-compose",), 2, 8.0), ClusterSpec("x", data=str(tmp_path)))
    assert str(DOCKER / "compose.data.yaml") in words
    for service in services("compose.data.yaml").values():
        (mount,) = service["volumes"]
        assert mount == {"type": "bind", "source": "${FOLDOUT_DATA:?the folder}", "target": "/data", "read_only": True}
    assert set(services("compose.data.yaml")) == {"worker", "bench"}


def test_recipes_by_file_bring_the_packages_beside_them(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("recipe.py", "sibling.py", "notes.txt", "mine/__init__.py", "mine/table.csv"):
        (tmp_path / name).write_text("")
    _, archive = pack(BenchOptions(scenario=[str(tmp_path / "recipe.py")]), tmp_path / "none")
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        names = {member.name for member in found if member.isfile()}
    assert names == {f"own/0/{name}" for name in ("recipe.py", "sibling.py", "mine/__init__.py", "mine/table.csv")}


@pytest.mark.parametrize(
    ("option", "asked", "message"),
    [
        ("data", "/other", "--data /other: the cluster that is up has /one"),
        ("image", "b", "--image b: the cluster that is up has none"),
    ],
)
def test_a_kept_cluster_has_its_own_data_and_image(option, asked, message):
    kept = ClusterSpec("kept", data="/one")
    wanted = ClusterSpec("new", data="/other" if option == "data" else "", image_name="b" if option == "image" else "")
    options = BenchOptions(**{option: asked})
    with pytest.raises(UsageError, match=message):
        in_container._check_kept(kept, wanted, options)
    in_container._check_kept(kept, wanted, BenchOptions())


def test_a_kept_clusters_local_folders_have_the_size_that_they_were_given(monkeypatch):
    monkeypatch.setenv("FOLDOUT_LOCAL_DISK", "100g")
    wanted = ClusterSpec("new", local_disk=compose.local_disk_wanted())
    with pytest.raises(UsageError, match="FOLDOUT_LOCAL_DISK is 100g: the workers of the cluster that is up have 20g"):
        in_container._check_kept(ClusterSpec("kept"), wanted, BenchOptions())
    in_container._check_kept(ClusterSpec("kept", local_disk="100g"), wanted, BenchOptions())
    monkeypatch.setenv("FOLDOUT_LOCAL_DISK", "much")
    with pytest.raises(ClusterError, match="FOLDOUT_LOCAL_DISK"):
        compose.local_disk_wanted()


@pytest.mark.parametrize(
    ("later", "image", "said"),
    [
        ({"memory": "2g"}, "one", "the cluster that was up has changed meanwhile"),
        ({}, "two", "the image mine was built again since the cluster came up: begin with .*cluster up --image mine"),
    ],
)
def test_a_kept_cluster_that_has_changed_is_not_run_on(later, image, said, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = ClusterSpec("kept", image="one", image_name="mine")
    found = iter([kept, replace(kept, **later)])
    monkeypatch.setattr(in_container, "find_engine", lambda: Engine(("docker-compose",), 8, 16.0))
    monkeypatch.setattr(in_container, "remove_orphans", lambda _: [])
    monkeypatch.setattr(in_container, "kept_cluster", lambda _: next(found))
    monkeypatch.setattr(in_container, "with_image", lambda _, plan, __: replace(plan, image=image))
    monkeypatch.setattr(in_container, "_run_driver", lambda *_: pytest.fail("a bench runs"))
    with pytest.raises(ClusterError, match=said):
        in_container.run_in_containers(BenchOptions(), "typed", tmp_path / "out")


@pytest.mark.parametrize(("words", "asked"), [((), "1"), (("--encrypt",), ""), ((), "0")])
def test_a_cluster_that_stays_encrypts_where_the_variable_or_the_option_says_so(words, asked, monkeypatch):
    monkeypatch.setenv("FOLDOUT_ENCRYPT", asked)
    started = []
    monkeypatch.setattr(compose, "cluster_up", lambda plan: started.append(plan) or 0)
    assert main(["cluster", "up", *words]) == 0
    assert started[0].encrypt == (asked != "0")


def test_a_bench_that_wants_encryption_is_not_run_in_the_clear():
    wanted = ClusterSpec("new", encrypt=True)
    with pytest.raises(UsageError, match="FOLDOUT_ENCRYPT is set: the cluster that is up does not encrypt"):
        in_container._check_kept(ClusterSpec("kept"), wanted, BenchOptions())
    in_container._check_kept(ClusterSpec("kept", encrypt=True), wanted, BenchOptions())


LAYERS = {"ours": ["a", "b"], "on-top": ["a", "b", "c"], "older": ["a", "x", "c"]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("on-top", None),
        ("older", "the image older is not built on foldout:local as it is now"),
        ("none", "no image none"),
    ],
)
def test_an_image_of_ones_own_is_built_on_this_checkouts(name, message, monkeypatch):
    def ask(self, *words, may_fail=False):
        layers = LAYERS.get(words[-1])
        return f"sha256:{words[-1]} {json.dumps(layers)}" if layers else ""

    monkeypatch.setattr(Engine, "ask", ask)
    engine = Engine(("docker-compose",), 2, 8.0)
    if message is None:
        assert docker_engine.image_on_top(engine, name, "ours") == f"sha256:{name}"
    else:
        with pytest.raises(ClusterError, match=message):
            docker_engine.image_on_top(engine, name, "ours")
