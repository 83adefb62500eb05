# SPDX-License-Identifier: Apache-2.0
"""The cluster of containers: starts it through Docker's own clients, and removes all of it by label.

The files it starts are in `docker/`. Both clients will do, `docker compose` (v2) and `docker-compose` (1.29).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from suite import topology
from suite.environment import ROOT
from suite.signals import InterruptError, shielded
from suite.topology import Cluster, ClusterError

IMAGE = "foldout:local"
KEPT = "foldout"  # the cluster that `cluster up` starts and `cluster down` ends; a bench's own has a number after it
NAME_LABEL = "foldout.cluster"
OWNER_LABEL = "foldout.owner"
MASTER_URL = "spark://master:7077"
MASTER_PAGES = "http://master:8080"
RUN_FOLDER = "/results/run"

CLIENT_SECONDS = 60.0  # for a question to the engine
BUILD_SECONDS = 3600.0
START_SECONDS = 240.0  # until every container is healthy; half a minute in practice
STOP_SECONDS = 90.0  # that a bench gets after Ctrl-C to write down what it has

# Variables that the image's build may need behind a company's proxy: handed on by name where they are set, so that
# their values, often with a password in them, are on no command line.
BUILD_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT"),
)


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers.

    Attributes
    ----------
    compose : tuple of str
        How its compose client is called.
    cores : int
    memory_gib : float
        What the engine has, which on macOS is less than the machine's.
    """

    compose: tuple[str, ...]
    cores: int
    memory_gib: float

    def ask(self, *words: str, may_fail: bool = False) -> str:
        """The output of a docker command.

        Raises
        ------
        ClusterError
            It failed, or took longer than `CLIENT_SECONDS`.
        """
        done = _call(["docker", *words])
        if done.returncode and not may_fail:
            raise ClusterError(f"docker {words[0]} failed: {_last_line(done.stderr)}")
        return done.stdout

    def containers(self, name: str) -> list[dict[str, Any]]:
        """What the engine says of the containers of a cluster."""
        ids = self.ask("ps", "-aq", "--filter", f"label={NAME_LABEL}={name}").split()
        # One may be gone by now; the others are described all the same.
        return json.loads(self.ask("inspect", *ids, may_fail=True) or "[]") if ids else []


@dataclass(frozen=True)
class Plan:
    """A cluster to start.

    Attributes
    ----------
    name : str
        Of the compose project, and of the label on everything that belongs to it.
    workers, cores : int
    memory : str
        Heap of each worker's executor.
    encrypt : bool
    pages : bool
        Whether the web pages can be opened, on 127.0.0.1, and there is a history server.
    """

    name: str
    workers: int = 2
    cores: int = 1
    memory: str = "1g"
    encrypt: bool = False
    pages: bool = False

    @property
    def heap(self) -> int:
        """MiB of an executor's heap."""
        return int(topology.gibibytes(self.memory) * 1024)

    @property
    def worker_limit(self) -> int:
        """MiB of a worker's container: the heap, Spark's own processes, and a Python process for each core."""
        return self.heap + 768 + 768 * self.cores

    def cluster(self, host_cores: int) -> Cluster:
        """What the driver inside has to know."""
        return Cluster(
            url=MASTER_URL,
            conf={
                "spark.executor.cores": str(self.cores),
                "spark.executor.memory": f"{self.heap}m",
                "spark.driver.memory": "1g",
                # A partition of the network is noticed in one minute instead of two.
                "spark.network.timeout": "60s",
                topology.PAGES: MASTER_PAGES,
            },
            workers=self.workers,
            cores=self.cores,
            label=topology.one_host_label("containers", self.workers, self.cores, host_cores),
        )

    def variables(self, engine: Engine, owner: str) -> dict[str, str]:
        """What `compose.yaml` asks for."""
        return {
            "FOLDOUT_IMAGE": IMAGE,
            "FOLDOUT_NAME": self.name,
            "FOLDOUT_OWNER": owner,
            "FOLDOUT_SECRET_FILE": str(state_folder(self.name) / "secret"),
            "FOLDOUT_WORKER_CORES": str(self.cores),
            "FOLDOUT_WORKER_MEMORY": f"{self.heap}m",
            "FOLDOUT_WORKER_LIMIT": f"{self.worker_limit}m",
            # The driver's container is where the recipes without Spark run: it gets as many cores as Spark has slots.
            "FOLDOUT_DRIVER_CORES": str(min(self.workers * self.cores, engine.cores)),
            "FOLDOUT_ENCRYPT": "1" if self.encrypt else "",
            "FOLDOUT_CLUSTER": json.dumps(asdict(self.cluster(engine.cores))),
        }


def find_engine() -> Engine:
    """The Docker engine and its clients.

    Raises
    ------
    ClusterError
        No client, no engine behind it, no permission, or no compose: each with its remedy.
    """
    instead = "or leave Docker out: --master standalone, or local[N]"
    if shutil.which("docker") is None:
        raise ClusterError(
            f"no `docker` on the PATH: install Docker (https://docs.docker.com/engine/install), {instead}"
        )
    done = _call(["docker", "info", "--format", "{{.NCPU}} {{.MemTotal}}"])
    said = done.stderr.strip()
    found = re.match(r"(\d+) (\d+)", done.stdout)
    if not found or found[1] == "0":
        where = os.environ.get("DOCKER_HOST") or "its usual socket"
        if "permission denied" in said.lower():
            raise ClusterError(
                f"this user may not use the Docker engine at {where}: `sudo usermod -aG docker $USER` and log in "
                f"again, {instead}"
            )
        raise ClusterError(
            f"no Docker engine answers at {where}: start it (`sudo systemctl start docker`, or Docker Desktop), "
            f"check DOCKER_HOST, {instead} (docker says: {_last_line(said)})"
        )
    for compose in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(compose[0]) and _call([*compose, "version"]).returncode == 0:
            return Engine(compose, int(found[1]), int(found[2]) / 2**30)
    raise ClusterError(
        "Docker is here, but neither `docker compose` nor `docker-compose`: install the package "
        f"docker-compose-plugin (or docker-compose), {instead}"
    )


def _call(command: Sequence[str], seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    seconds = seconds or CLIENT_SECONDS
    # In a session of its own: a terminal's Ctrl-C is for us to handle, and must not end what cleans up.
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        shown = " ".join(command[:2])
        raise ClusterError(
            f"`{shown}` got no answer from the Docker engine in {seconds:g} seconds: restart it"
        ) from None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def state_folder(name: str) -> Path:
    """Where the secret of a cluster is kept for as long as it lives.

    In the user's own cache folder, since some engines cannot see `/tmp` as we do.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "foldout" / name


def _owner() -> str:
    """A name for the process that we are, such that no other one is ever taken for it."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def _is_orphaned(owner: str) -> bool:
    """Whether the process that an owner label names is gone. What others started, and by hand, never is."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        born = psutil.Process(int(rest)).create_time()
    except psutil.NoSuchProcess:
        return True
    # The clock may have been set since; a number is not given to another process within a minute.
    return abs(born - float(owner.rpartition(":")[2])) > 60


def build(engine: Engine, log: Path, image: str = IMAGE) -> None:
    """Build the image; some seconds where only code has changed.

    Raises
    ------
    ClusterError
        With the name of the log.
    """
    handed = [word for name in BUILD_VARIABLES if os.environ.get(name) for word in ("--build-arg", name)]
    # Without --force-rm, an interrupted build leaves its last container behind (BuildKit has none).
    command = ["docker", "build", "--force-rm", "-t", image, *handed]
    command += ["-f", str(ROOT / "docker" / "Dockerfile"), str(ROOT)]
    with _running(command, log) as client:
        try:
            code = client.wait(BUILD_SECONDS)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"the image was not built in {BUILD_SECONDS:g} seconds: see {log}") from None
    if code:
        raise ClusterError(f"the image could not be built: {_last_line(log.read_text(errors='replace'))}: see {log}")


@contextlib.contextmanager
def _running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A client that writes to a log, and does not outlive the block."""
    with shielded(), log.open("ab") as out:
        client = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield client
    finally:
        if client.poll() is None:
            client.terminate()
            try:
                client.wait(10)
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()


def _compose(engine: Engine, plan: Plan) -> list[str]:
    files = [str(ROOT / "docker" / "compose.yaml")]
    if plan.pages:
        files.append(str(ROOT / "docker" / "compose.pages.yaml"))
    # On top of ours: what a user wants different, and how tests break things.
    files += filter(None, os.environ.get("FOLDOUT_COMPOSE", "").split(os.pathsep))
    named = [word for file in files for word in ("-f", file)]
    return [*engine.compose, *named, "-p", plan.name]


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    # The user's own settings for compose are meant for other projects.
    return {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")} | dict(variables)


def start(engine: Engine, plan: Plan, owner: str, log: Path) -> None:
    """Start a cluster, and wait until the master has all workers.

    Raises
    ------
    ClusterError
        Names the container that is missing, or what compose says.
    """
    topology.check_size(plan.workers, plan.cores, plan.memory)
    if plan.cores > engine.cores:
        raise ClusterError(f"workers of {plan.cores} cores cannot be had: the Docker engine has {engine.cores}")
    needed = plan.workers * plan.worker_limit / 1024
    if needed > engine.memory_gib:
        raise ClusterError(
            f"{plan.workers} workers need {needed:.1f} GiB, the Docker engine has {engine.memory_gib:.1f}: "
            "take fewer, or give it more"
        )
    folder = state_folder(plan.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    (folder / "secret").unlink(missing_ok=True)
    # Others are kept out by the folder. The file itself is mounted into containers, whose user is not this one.
    (folder / "secret").write_text(topology.new_secret())
    (folder / "secret").chmod(0o444)
    services = ["master", "worker", *(["history"] if plan.pages else [])]
    command = [*_compose(engine, plan), "up", "-d", "--no-build", "--scale", f"worker={plan.workers}", *services]
    deadline = time.monotonic() + START_SECONDS
    wanted = plan.workers + len(services) - 1
    with _running(command, log, _environment(plan.variables(engine, owner))) as client:
        while True:
            said = log.read_text(errors="replace")
            if client.poll():
                raise ClusterError(_why_not_started(said, log))
            states = [_state(container) for container in engine.containers(plan.name)]
            if broken := [f"{who} {what}" for who, what in states if what not in ("healthy", "starting", "created")]:
                raise ClusterError(f"the cluster did not start: {', '.join(broken)}: see {log}")
            healthy = sum(what == "healthy" for _, what in states)
            if healthy == wanted and client.poll() == 0:
                return
            if time.monotonic() > deadline:
                missing = [f"{who} is {what}" for who, what in states if what != "healthy"]
                if len(states) < wanted:
                    missing.append(f"{wanted - len(states)} were not made")
                raise ClusterError(
                    f"{healthy} of {wanted} containers came up in {START_SECONDS:g} seconds "
                    f"({', '.join(missing)}): see {log}"
                )
            time.sleep(0.3)


def _why_not_started(said: str, log: Path) -> str:
    if taken := re.search(
        r"(?:Bind for|listen tcp4?|bind for)\D*(\d+\.\d+\.\d+\.\d+:\d+)\D.*already (?:allocated|in use)", said
    ):
        return (
            f"the cluster did not start: {taken[1]} is taken by another program: end it, or choose another port by "
            "FOLDOUT_MASTER_PAGE or FOLDOUT_HISTORY_PAGE"
        )
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    return f"the cluster did not start: {_last_line((errors or [said])[-1])}: see {log}"


def _state(container: Mapping[str, Any]) -> tuple[str, str]:
    """Who a container is, and how it is, in a word or a few."""
    labels = container["Config"]["Labels"]
    who = labels.get("com.docker.compose.service", "?")
    if who == "worker":
        who += f" {labels.get('com.docker.compose.container-number', '?')}"
    state = container["State"]
    if state["OOMKilled"]:
        return who, "ran out of memory"
    if state["Status"] in ("running", "paused"):
        died = container["RestartCount"] > 0
        return who, "died" if died else "paused" if state["Paused"] else state.get("Health", {}).get(
            "Status", "running"
        )
    if state["Status"] == "created":
        return who, "created"
    return who, f"ended with exit code {state['ExitCode']}"


def remove(engine: Engine, name: str) -> None:
    """Remove all containers, networks and volumes with the label of a cluster, and its secret.

    By label and not through compose, so it works for what a killed process left behind as well.

    Raises
    ------
    ClusterError
        Something cannot be removed.
    """
    deadline = time.monotonic() + CLIENT_SECONDS
    quiet = 0
    while quiet < 2:
        left = _remove_once(engine, f"label={NAME_LABEL}={name}")
        # A client that was stopped may have one more request on its way.
        quiet = 0 if left else quiet + 1
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot remove {left}: see `docker ps -a --filter label={NAME_LABEL}={name}`")
        time.sleep(0.3)
    shutil.rmtree(state_folder(name), ignore_errors=True)


def _remove_once(engine: Engine, label: str) -> list[str]:
    found = engine.ask("ps", "-aq", "--filter", label).split()
    if found:
        engine.ask("rm", "-f", "-v", *found, may_fail=True)
    for kind in ("network", "volume"):
        ids = engine.ask(kind, "ls", "-q", "--filter", label).split()
        if ids:
            engine.ask(kind, "rm", *ids, may_fail=True)
        found += ids
    return found


def remove_orphans(engine: Engine) -> list[str]:
    """Remove the clusters whose owner is dead; their names. Those of others, and by hand, are left alone."""
    names: set[str] = set()
    template = f'{{{{.Label "{NAME_LABEL}"}}}} {{{{.Label "{OWNER_LABEL}"}}}}'
    for kind in (["ps", "-a"], ["network", "ls"], ["volume", "ls"]):
        shown = engine.ask(*kind, "--filter", f"label={OWNER_LABEL}", "--format", template)
        pairs = [line.split(" ", 1) for line in shown.splitlines() if " " in line]
        names |= {name for name, owner in pairs if _is_orphaned(owner)}
    # A process that died before its first container was made has left a secret that opens nothing.
    for folder in state_folder(KEPT).parent.glob(f"{KEPT}-*"):
        number = folder.name.removeprefix(f"{KEPT}-")
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    for name in sorted(names):
        remove(engine, name)
    return sorted(names)


def save_logs(engine: Engine, name: str, folder: Path) -> None:
    """Write what each container said to a file of its own."""
    for container in engine.containers(name):
        who = _state(container)[0].replace(" ", "-")
        done = _call(["docker", "logs", container["Id"]])
        (folder / f"{who}.log").write_text(done.stdout + done.stderr)


@contextlib.contextmanager
def started(engine: Engine, plan: Plan, logs: Path) -> Iterator[None]:
    """Run a cluster for as long as the block lasts; its containers' logs are in `logs` afterwards."""
    try:
        start(engine, plan, _owner(), logs / "compose.log")
        yield
    finally:
        with shielded():
            try:
                save_logs(engine, plan.name, logs)
            finally:
                remove(engine, plan.name)


def up(plan: Plan | None = None) -> int:
    """Start a cluster that stays, in place of an earlier one; the exit code.

    Parameters
    ----------
    plan : Plan, optional
        By default two workers of one core.
    """
    plan = plan or Plan(KEPT)
    engine = find_engine()
    remove_orphans(engine)
    logs = Path(tempfile.mkdtemp(prefix="foldout-logs-"))
    print("building the image (minutes the first time, seconds after)", flush=True)
    build(engine, logs / "build.log")
    remove(engine, plan.name)
    print(f"starting a master and {plan.workers} workers", flush=True)
    try:
        start(engine, plan, "kept", logs / "compose.log")
        (state_folder(plan.name) / "plan.json").write_text(json.dumps(asdict(plan)))
    except BaseException as error:
        with shielded():
            save_logs(engine, plan.name, logs)
            remove(engine, plan.name)
        if isinstance(error, InterruptError):
            shutil.rmtree(logs, ignore_errors=True)
        raise
    shutil.rmtree(logs, ignore_errors=True)
    status()
    print("\nnow: python -m suite bench --master compose; in the end: python -m suite cluster down")
    return 0


def status() -> int:
    """Print what there is of ours; 0 where the cluster is complete and well, else 1."""
    engine = find_engine()
    containers = engine.containers(KEPT)
    if not containers:
        print("no cluster: start one by `python -m suite cluster up`")
        return 1
    well = True
    for container in sorted(containers, key=lambda one: _state(one)[0]):
        who, what = _state(container)
        ports = container["NetworkSettings"]["Ports"] or {}
        pages = [f"http://{to['HostIp']}:{to['HostPort']}" for bound in ports.values() for to in bound or []]
        print(f"{who:<12} {what:<24} {' '.join(pages)}".rstrip())
        well &= what in ("healthy", "running")
    return 0 if well else 1


def down() -> int:
    """Remove the cluster of `cluster up`, and what dead processes left behind; the exit code."""
    engine = find_engine()
    with shielded():
        remove(engine, KEPT)
        for name in remove_orphans(engine):
            print(f"removed {name}, which a killed process had left behind")
    print("no cluster is left")
    return 0


def run_in_compose(
    arguments: Sequence[str],
    out: Path,
    workers: int = 2,
    cores: int = 1,
    memory: str = "1g",
    *,
    encrypt: bool | None = None,
) -> int:
    """Run `python -m suite bench` inside a cluster of containers, and bring the run folder out.

    Uses the cluster of `cluster up` where there is one, else starts one and removes it afterwards.

    Parameters
    ----------
    arguments : sequence of str
        Of `bench`. `--master` and `--out` are replaced; recipes of the user's own are sent into the container.
    out : Path
        The run folder. What it holds already goes in first, for `--resume`.
    workers, cores, memory, encrypt
        Of the cluster, where it is started here. Encryption is by default what the variable FOLDOUT_ENCRYPT says.

    Returns
    -------
    int
        The exit code of the bench inside.

    Raises
    ------
    ClusterError
        No cluster, or it was lost.
    """
    if encrypt is None:
        encrypt = topology.wants_encryption()
    plan = Plan(f"{KEPT}-{os.getpid()}", workers, cores, memory, encrypt)
    engine = find_engine()
    for name in remove_orphans(engine):
        print(f"removed {name}, which a killed process had left behind")
    logs = Path(tempfile.mkdtemp(prefix="foldout-logs-"))
    try:
        print("building the image (minutes the first time, seconds after)", flush=True)
        build(engine, logs / "build.log")
        if kept := _kept(engine):
            print(f"using the cluster that is up, with {kept.workers} workers", flush=True)
            code = _bench(engine, kept, "kept", arguments, out, logs)
        else:
            print(f"starting a master and {plan.workers} workers", flush=True)
            with started(engine, plan, logs):
                code = _bench(engine, plan, _owner(), arguments, out, logs)
    except ClusterError:
        raise  # it names a log, which has to stay
    except BaseException:
        _keep_logs(logs, out)
        raise
    _keep_logs(logs, out)
    if (out / "report.html").exists():
        print(f"brought out of the container: {out / 'report.html'}")
    return code


def _kept(engine: Engine) -> Plan | None:
    """The cluster of `cluster up`, where it is well."""
    file = state_folder(KEPT) / "plan.json"
    containers = engine.containers(KEPT)
    if not containers or not file.exists():
        return None
    if unwell := [f"{who} {what}" for who, what in map(_state, containers) if what not in ("healthy", "created")]:
        raise ClusterError(f"the cluster that is up is not well ({', '.join(unwell)}): python -m suite cluster up")
    return Plan(**json.loads(file.read_text()))


def _keep_logs(logs: Path, out: Path) -> None:
    if (out / "plan.json").exists():
        shutil.copytree(logs, out / "logs" / "cluster", dirs_exist_ok=True)
    shutil.rmtree(logs, ignore_errors=True)


def _bench(engine: Engine, plan: Plan, owner: str, arguments: Sequence[str], out: Path, logs: Path) -> int:
    """Run a bench in the cluster, and take its folder out, also after an interrupt."""
    words, parcel = pack(arguments, out)
    variables = plan.variables(engine, owner)
    variables["FOLDOUT_COMMAND"] = shlex.join(["bench", *words, "--master", MASTER_URL, "--out", RUN_FOLDER])
    variables["FOLDOUT_SENDS"] = "1"
    variables["FOLDOUT_WORDS"] = shlex.join(["python", "-m", "suite", "bench", *arguments])
    log = logs / "compose.log"
    command = [*_compose(engine, plan), "up", "--no-start", "--no-deps", "--no-build", "bench"]
    driver = None
    try:
        with _running(command, log, _environment(variables)) as client:
            if client.wait(CLIENT_SECONDS):
                raise ClusterError(_why_not_started(log.read_text(errors="replace"), log))
        driver = next(one for one in engine.containers(plan.name) if _state(one)[0] == "bench")["Id"]
        _attend(engine, driver, parcel)
        return _ending(engine, plan.name, driver)
    finally:
        with shielded():
            if driver is not None:
                _bring_out(engine, driver, out)
                engine.ask("rm", "-f", "-v", driver)


def _attend(engine: Engine, driver: str, parcel: bytes) -> None:
    """Start the driver's container, show what it says until it ends; on an interrupt, let it end well."""
    with shielded():
        client = subprocess.Popen(
            ["docker", "start", "-a", "-i", driver], stdin=subprocess.PIPE, start_new_session=True
        )
    try:
        assert client.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            client.stdin.write(parcel)
            client.stdin.flush()
        # The pipe stays open: where our end closes, the engine closes the container's output as well.
        client.wait()
    except InterruptError:
        print("\nthe bench writes down what it has ...", flush=True)
        engine.ask("kill", "--signal", "INT", driver, may_fail=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(STOP_SECONDS)
        raise
    finally:
        client.kill()
        client.wait()


def _ending(engine: Engine, name: str, driver: str) -> int:
    """The exit code of a bench that has ended; says which containers did not last."""
    code = None
    containers = engine.containers(name)
    # Since this bench began: a cluster that is kept may have had its troubles before.
    begun = [container["Created"] for container in containers if container["Id"] == driver]
    short = _short_of_memory(engine, name, begun[0]) if begun else set()
    for container in containers:
        who, what = _state(container)
        if what == "healthy" and container["Id"] in short:
            what = "ran out of memory"
        if container["Id"] == driver:
            if container["State"]["OOMKilled"]:
                raise ClusterError("the driver ran out of memory: give its container more by FOLDOUT_DRIVER_LIMIT=8g")
            code = int(container["State"]["ExitCode"])
        elif container["RestartCount"] or what != "healthy":
            again = " and was started again" if container["RestartCount"] else ""
            print(f"{who} {what}{again}: what ran at that time was disturbed")
    if code is None:
        raise ClusterError("the driver's container is gone: someone removed it")
    return code


def _short_of_memory(engine: Engine, name: str, since: str) -> set[str]:
    """Ids of a cluster's containers in which the kernel killed a process for lack of memory.

    The state of a container knows this only of its first process, and only once it has ended.
    """
    label, until = f"label={NAME_LABEL}={name}", str(int(time.time()) + 1)
    words = ["--filter", label, "--filter", "event=oom", "--format", "{{.Actor.ID}}"]
    return set(engine.ask("events", "--since", since, "--until", until, *words).split())


def _bring_out(engine: Engine, driver: str, out: Path) -> None:
    """Copy the run folder out; docker's client writes it as the user that called it."""
    if _call(["docker", "cp", f"{driver}:{RUN_FOLDER}/plan.json", "-"]).returncode:
        return  # there is no run
    out.mkdir(parents=True, exist_ok=True)
    done = _call(["docker", "cp", f"{driver}:{RUN_FOLDER}/.", str(out)], seconds=600)
    if done.returncode:
        raise ClusterError(f"the results could not be brought out to {out}: {_last_line(done.stderr)}")


def pack(arguments: Sequence[str], out: Path) -> tuple[list[str], bytes]:
    """Make the arguments of a bench fit for the inside of a container, with an archive of what they name.

    Parameters
    ----------
    arguments : sequence of str
    out : Path
        A run folder; what it holds is packed.

    Returns
    -------
    arguments : list of str
        Without `--master` and `--out`; files and folders are named as they are inside.
    archive : bytes
        A tar archive with the members `run/...` and `own/...`, unpacked into `/results`.
    """
    known = argparse.ArgumentParser(add_help=False)
    for option in ("--master", "--out", "--scenarios"):
        known.add_argument(option)
    options, words = known.parse_known_args(list(arguments))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if (out / "plan.json").is_file():
            archive.add(out, "run", filter=_plain)
        if options.scenarios is not None:
            archive.add(options.scenarios, "own/scenarios", filter=_plain)
            words += ["--scenarios", "/results/own/scenarios"]
        for place, word in enumerate(words):
            if word.endswith(".py") and Path(word).is_file():
                # With its neighbours: a recipe may import a sibling.
                for file in Path(word).parent.glob("*.py"):
                    archive.add(file, f"own/{place}/{file.name}", filter=_plain)
                words[place] = f"/results/own/{place}/{Path(word).name}"
    return words, buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files and folders only, of nobody in particular."""
    if not (member.isfile() or member.isdir()) or "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= 0o700 if member.isdir() else 0o600
    return member
