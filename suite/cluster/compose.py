# SPDX-License-Identifier: Apache-2.0
"""The cluster of containers: starts it through Docker's own clients, and removes all of it by label.

The files it starts are in `docker/`. Both clients will do, `docker compose` (v2) and `docker-compose` (1.29).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from suite.cluster.description import (
    DEFAULT_MEMORY,
    PAGES,
    Cluster,
    ClusterError,
    check_size,
    gibibytes,
    new_secret,
    one_host_label,
)
from suite.cluster.docker_engine import (
    CLIENT_SECONDS,
    IMAGE,
    NAME_LABEL,
    Engine,
    build_image,
    call_client,
    find_engine,
    image_on_top,
    last_line,
    remove_old_images,
    running_client,
)
from suite.cluster.ownership import (
    KEPT,
    is_orphaned,
    new_log_folder,
    one_shot_name,
    only_user_of_kept_cluster,
    stale_state_folders,
    state_folder,
    this_owner,
)
from suite.machine.environment import ROOT, suite_command
from suite.machine.signals import InterruptError, defer_signals
from suite.records import write_json

OWNER_LABEL = "foldout.owner"
PARTS_OF_CLUSTERS = (("ps", "-a"), ("network", "ls"), ("volume", "ls"))  # lists of what a cluster consists of
NAME_AND_OWNER = f'{{{{.Label "{NAME_LABEL}"}}}} {{{{.Label "{OWNER_LABEL}"}}}}'  # a template of Docker's
KEPT_OWNER = "kept"  # of the cluster of `cluster up`
DRIVER_LABEL = "foldout.driver"  # the owner of a bench that runs in a cluster which stays
LOCAL_DISK = "20g"  # of each container, where the variable FOLDOUT_LOCAL_DISK says nothing else
MASTER_URL = "spark://master:7077"
MASTER_PAGES = "http://master:8080"
COMPOSE_START_SECONDS = 240.0  # until every container is healthy; half a minute in practice


@dataclass(frozen=True)
class ClusterSpec:
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
    image : str
        The image's id, which no other build can change, unlike its tag.
    image_name : str
        The name of an image of the user's own, built on ours; empty for ours.
    data : str
        A folder of the user's to mount as /data, read-only; empty for none.
    local_disk : str
        What Spark may write to the local folders of a container.
    """

    name: str
    workers: int = 2
    cores: int = 1
    memory: str = DEFAULT_MEMORY
    encrypt: bool = False
    pages: bool = False
    image: str = IMAGE
    image_name: str = ""
    data: str = ""
    local_disk: str = LOCAL_DISK

    @property
    def heap(self) -> int:
        """MiB of an executor's heap."""
        return int(gibibytes(self.memory) * 1024)

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
                PAGES: MASTER_PAGES,
            },
            workers=self.workers,
            cores=self.cores,
            label=one_host_label("containers", self.workers, self.cores, host_cores),
        )

    def variables(self, engine: Engine, owner: str) -> dict[str, str]:
        """What `compose.yaml` asks for."""
        return {
            "FOLDOUT_IMAGE": self.image,
            "FOLDOUT_NAME": self.name,
            "FOLDOUT_OWNER": owner,
            "FOLDOUT_SECRET_FILE": str(state_folder(self.name) / "secret"),
            "FOLDOUT_WORKER_CORES": str(self.cores),
            "FOLDOUT_WORKER_MEMORY": f"{self.heap}m",
            "FOLDOUT_WORKER_LIMIT": f"{self.worker_limit}m",
            # The driver's container is where the recipes without Spark run: it gets as many cores as Spark has slots.
            "FOLDOUT_DRIVER_CORES": str(min(self.workers * self.cores, engine.cores)),
            "FOLDOUT_ENCRYPT": "1" if self.encrypt else "",
            "FOLDOUT_LOCAL_DISK": self.local_disk,
            "FOLDOUT_CLUSTER": json.dumps(asdict(self.cluster(engine.cores))),
            **({"FOLDOUT_DATA": self.data} if self.data else {}),
        }


def compose_command(engine: Engine, plan: ClusterSpec) -> list[str]:
    """How the compose client is called for a cluster, up to its subcommand."""
    files = [str(ROOT / "docker" / "compose.yaml")]
    if plan.pages:
        files.append(str(ROOT / "docker" / "compose.pages.yaml"))
    if plan.data:
        files.append(str(ROOT / "docker" / "compose.data.yaml"))
    # On top of ours: what a user wants different, and how tests break things.
    files += filter(None, os.environ.get("FOLDOUT_COMPOSE", "").split(os.pathsep))
    named = [word for file in files for word in ("-f", file)]
    return [*engine.compose, *named, "-p", plan.name]


def client_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a compose client; the user's own settings for compose are meant for other projects."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")} | dict(variables)


def with_image(engine: Engine, plan: ClusterSpec, log: Path) -> ClusterSpec:
    """Build our image; the cluster with the id of its own, which is ours or on top of it."""
    ours = build_image(log)
    remove_old_images(engine)
    return replace(plan, image=image_on_top(engine, plan.image_name, ours) if plan.image_name else ours)


def start_containers(engine: Engine, plan: ClusterSpec, owner: str, log: Path) -> None:
    """Start a cluster, and wait until the master has all workers.

    Raises
    ------
    ClusterError
        Names the container that is missing, or what compose says.
    """
    write_secret(state_folder(plan.name))
    services = ["master", "worker", *(["history"] if plan.pages else [])]
    command = [*compose_command(engine, plan), "up", "-d", "--no-build", "--scale", f"worker={plan.workers}", *services]
    with running_client(command, log, client_environment(plan.variables(engine, owner))) as client:
        wait_until_healthy(engine, plan.name, plan.workers + len(services) - 1, client, log)


def local_disk_wanted() -> str:
    """What Spark may write to the local folders of a container.

    Raises
    ------
    ClusterError
        The variable FOLDOUT_LOCAL_DISK is no amount.
    """
    disk = os.environ.get("FOLDOUT_LOCAL_DISK") or LOCAL_DISK
    gibibytes(disk, "FOLDOUT_LOCAL_DISK")
    return disk


def workers_that_fit(engine: Engine, plan: ClusterSpec) -> int:
    """How many of the workers that a cluster would have by default the engine has cores and memory for, at least 1."""
    return max(1, min(plan.workers, max(2, engine.cores), int(engine.memory_gib * 1024) // plan.worker_limit))


def check_fits(engine: Engine, plan: ClusterSpec) -> None:
    """Make sure that the engine has what a cluster needs.

    Raises
    ------
    ClusterError
        It has too few cores or too little memory; or the sizes make no sense.
    """
    check_size(plan.workers, plan.cores, plan.memory)
    if plan.cores > engine.cores:
        raise ClusterError(f"workers of {plan.cores} cores cannot be had: the Docker engine has {engine.cores}")
    needed = plan.workers * plan.worker_limit / 1024
    if needed > engine.memory_gib:
        raise ClusterError(
            f"{plan.workers} workers need {needed:.1f} GiB, the Docker engine has {engine.memory_gib:.1f}: "
            "take fewer by --workers, or give it more"
        )


def write_secret(folder: Path) -> None:
    """Write a new secret into a folder that is open to this user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    (folder / "secret").unlink(missing_ok=True)
    # Others are kept out by the folder. The file itself is mounted into containers, whose user is not this one.
    (folder / "secret").write_text(new_secret())
    (folder / "secret").chmod(0o444)


def wait_until_healthy(engine: Engine, name: str, wanted: int, client: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a compose client is through and all containers of its cluster are healthy.

    Raises
    ------
    ClusterError
        As `start_containers`.
    """
    deadline = time.monotonic() + COMPOSE_START_SECONDS
    while True:
        said = log.read_text(errors="replace")
        if client.poll():
            raise ClusterError(explain_failed_start(said, log))
        states = [container_state(container) for container in engine.containers(name)]
        if broken := [(who, what) for who, what in states if what not in ("healthy", "starting", "created")]:
            said = ", ".join(f"{who} {what}" for who, what in broken)
            whose = log.with_name(f"{broken[0][0].replace(' ', '-')}.log")  # of `save_logs`
            raise ClusterError(f"the cluster did not start: {said}: see {whose}")
        if sum(what == "healthy" for _, what in states) == wanted and client.poll() == 0:
            return
        if time.monotonic() > deadline:
            raise ClusterError(explain_missing(states, wanted, log))
        time.sleep(0.3)


def explain_missing(states: Sequence[tuple[str, str]], wanted: int, log: Path) -> str:
    """Which containers are not healthy in time: one line with the log's name."""
    missing = [f"{who} is {what}" for who, what in states if what != "healthy"]
    healthy = len(states) - len(missing)
    if len(states) < wanted:
        missing.append(f"{wanted - len(states)} were not made")
    return (
        f"{healthy} of {wanted} containers came up in {COMPOSE_START_SECONDS:g} seconds "
        f"({', '.join(missing)}): see the logs in {log.parent}"
    )


def explain_failed_start(said: str, log: Path) -> str:
    """Why compose could not start the cluster, from what it said: one line with the remedy or the log's name."""
    if taken := re.search(
        r"(?:Bind for|listen tcp4?|bind for)\D*(\d+\.\d+\.\d+\.\d+:\d+)\D.*already (?:allocated|in use)", said
    ):
        return (
            f"the cluster did not start: {taken[1]} is taken by another program: end it, or choose another port by "
            "FOLDOUT_MASTER_PAGE or FOLDOUT_HISTORY_PAGE"
        )
    if re.search(r"bind source path does not exist|[Mm]ounts denied|not shared from the host", said):
        return (
            "the cluster did not start: the Docker engine does not see this machine's files (a remote DOCKER_HOST or "
            "context, or a folder that Docker Desktop does not share): use the engine of this machine, or set "
            "XDG_CACHE_HOME to a folder that is shared"
        )
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    return f"the cluster did not start: {last_line((errors or [said])[-1])}: see {log}"


def container_state(container: Mapping[str, Any]) -> tuple[str, str]:
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


def remove_cluster(engine: Engine, name: str) -> None:
    """Remove all containers, networks and volumes with the label of a cluster, and its secret.

    By label and not through compose, so it works for what a killed process left behind as well.

    Raises
    ------
    ClusterError
        Something cannot be removed.
    """
    deadline = time.monotonic() + CLIENT_SECONDS
    quiet = 0
    try:
        while quiet < 2:
            left = _remove_once(engine, f"label={NAME_LABEL}={name}")
            # A client that was stopped may have one more request on its way.
            quiet = 0 if left else quiet + 1
            if time.monotonic() > deadline:
                raise ClusterError(f"cannot remove {left}: see `docker ps -a --filter label={NAME_LABEL}={name}`")
            time.sleep(0.3)
    finally:
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
    if strangers := _strangers(engine, label):
        raise ClusterError(
            "the cluster's network cannot be removed, since other containers are on it: "
            f"`docker rm -f {' '.join(strangers)}`, then `{suite_command('cluster down')}`"
        )
    return found


def _strangers(engine: Engine, label: str) -> list[str]:
    """Names of the containers that keep a network with the label, and do not have it themselves."""
    networks = engine.ask("network", "ls", "-q", "--filter", label).split()
    if not networks:
        return []
    names = "{{range .Containers}}{{.Name}} {{end}}"
    there = engine.ask("network", "inspect", "--format", names, *networks, may_fail=True).split()
    ours = engine.ask("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()
    return sorted(set(there) - set(ours))


def remove_orphans(engine: Engine) -> list[str]:
    """Remove the clusters whose owner is dead; their names. Those of others, and by hand, are left alone."""
    _remove_dead_drivers(engine)
    names: set[str] = set()
    for kind in PARTS_OF_CLUSTERS:
        shown = engine.ask(*kind, "--filter", f"label={OWNER_LABEL}", "--format", NAME_AND_OWNER)
        pairs = [line.split(" ", 1) for line in shown.splitlines() if " " in line]
        names |= {name for name, owner in pairs if is_orphaned(owner)}
    for folder in stale_state_folders():
        shutil.rmtree(folder, ignore_errors=True)
    for name in sorted(names):
        remove_cluster(engine, name)
    return sorted(names)


def _remove_dead_drivers(engine: Engine) -> None:
    """Remove the containers of killed benches from clusters that stay."""
    template = f'{{{{.ID}}}} {{{{.Label "{DRIVER_LABEL}"}}}}'
    shown = engine.ask("ps", "-a", "--no-trunc", "--filter", f"label={DRIVER_LABEL}", "--format", template)
    for line in shown.splitlines():
        container, _, owner = line.partition(" ")
        if is_orphaned(owner):
            engine.ask("rm", "-f", "-v", container, may_fail=True)


def save_logs(engine: Engine, name: str, folder: Path) -> None:
    """Write what each container said to a file of its own."""
    for container in engine.containers(name):
        who = container_state(container)[0].replace(" ", "-")
        done = call_client(["docker", "logs", container["Id"]])
        (folder / f"{who}.log").write_text(done.stdout + done.stderr)


@contextlib.contextmanager
def temporary_cluster(engine: Engine, plan: ClusterSpec, logs: Path) -> Iterator[None]:
    """Run a cluster for as long as the block lasts; its containers' logs are in `logs` afterwards."""
    try:
        start_containers(engine, plan, this_owner(), logs / "compose.log")
        yield
    finally:
        _end_cluster(engine, plan.name, logs)


def _end_cluster(engine: Engine, name: str, logs: Path) -> None:
    """Save what its containers said, then remove a cluster, whatever happens and whatever signal comes."""
    with defer_signals():
        try:
            save_logs(engine, name, logs)
        finally:
            remove_cluster(engine, name)


def cluster_up(plan: ClusterSpec | None = None) -> int:
    """Start a cluster that stays, in place of an earlier one; the exit code.

    Parameters
    ----------
    plan : ClusterSpec, optional
        By default two workers of one core.
    """
    plan = replace(plan or ClusterSpec(KEPT), local_disk=local_disk_wanted())
    engine = find_engine()
    check_fits(engine, plan)  # before anything is built, and an earlier cluster ended
    remove_orphans(engine)
    logs = new_log_folder()
    with only_user_of_kept_cluster():
        print("building the image (minutes the first time, seconds after)", flush=True)
        plan = with_image(engine, plan, logs / "build.log")
        with defer_signals():
            remove_cluster(engine, plan.name)
        print(f"starting a master and {plan.workers} workers", flush=True)
        try:
            start_containers(engine, plan, KEPT_OWNER, logs / "compose.log")
            write_json(state_folder(plan.name) / "plan.json", asdict(plan))
        except BaseException as error:
            _end_cluster(engine, plan.name, logs)
            if isinstance(error, InterruptError):
                shutil.rmtree(logs, ignore_errors=True)
            raise
    shutil.rmtree(logs, ignore_errors=True)
    cluster_status()
    print(f"\nnow: {suite_command('bench')} --master compose; in the end: {suite_command('cluster down')}")
    return 0


def cluster_status() -> int:
    """Print what there is of ours; 0 where the cluster is complete and well, else 1."""
    engine = find_engine()
    containers = engine.containers(KEPT)
    _tell_others(engine)
    if not containers:
        print(f"no cluster: start one by `{suite_command('cluster up')}`")
        return 1
    well = True
    for container in sorted(containers, key=lambda one: container_state(one)[0]):
        who, what = container_state(container)
        ports = container["NetworkSettings"]["Ports"] or {}
        pages = [f"http://{to['HostIp']}:{to['HostPort']}" for bound in ports.values() for to in bound or []]
        print(f"{who:<12} {what:<24} {' '.join(pages)}".rstrip())
        well &= what in ("healthy", "running")
    return 0 if well else 1


def _tell_others(engine: Engine) -> bool:
    """Print which clusters there are besides the one of `cluster up`, and what ends them; return whether there are."""
    lines: set[str] = set()
    for kind in PARTS_OF_CLUSTERS:
        shown = engine.ask(*kind, "--filter", f"label={NAME_LABEL}", "--format", NAME_AND_OWNER)
        lines |= {line for line in shown.splitlines() if line.partition(" ")[0] != KEPT}
    others = sorted(lines)
    for name, _, owner in (line.partition(" ") for line in others):
        of = f"--filter label={NAME_LABEL}={name}"
        ends = (
            f"`docker rm -f -v $(docker ps -aq {of}); docker network rm $(docker network ls -q {of}); "
            f"docker volume rm $(docker volume ls -q {of})` ends it"
        )
        if owner == KEPT_OWNER:
            whose = "is of another `cluster up`: another user's, or from before this machine was named anew"
        elif owner == "by-hand":
            whose = "was started by hand"
        elif name.startswith(f"{KEPT}-") and not name.startswith(one_shot_name(0).removesuffix("0")):
            whose = "is a cluster of a bench, from before this machine was started, or of a machine with the same id"
        else:
            whose = "is a cluster of a bench, of this user or another"
            ends = "`cluster down` removes those that were killed"
        print(f"{name} {whose}; {ends}")
    return bool(others)


def cluster_down() -> int:
    """Remove the cluster of `cluster up`, and what dead processes left behind; the exit code."""
    engine = find_engine()
    with only_user_of_kept_cluster(), defer_signals():
        remove_cluster(engine, KEPT)
        for name in remove_orphans(engine):
            print(f"removed {name}, which a killed process had left behind")
    if not _tell_others(engine):
        print("no cluster is left")
    return 0


def kept_cluster(engine: Engine) -> ClusterSpec | None:
    """The cluster of `cluster up`, where it is well."""
    file = state_folder(KEPT) / "plan.json"
    containers = engine.containers(KEPT)
    if not containers or not file.exists():
        return None
    states = map(container_state, containers)
    # The driver of another bench is no part of it: who else wants the cluster is told so by the lock.
    if unwell := [f"{who} {what}" for who, what in states if who != "bench" and what not in ("healthy", "created")]:
        said = f"the cluster that is up is not well ({', '.join(unwell)})"
        raise ClusterError(f"{said}: {suite_command('cluster up')}")
    try:
        return ClusterSpec(**json.loads(file.read_text()))
    except (TypeError, ValueError):
        raise ClusterError(
            "the cluster that is up is one of another version of the suite, or half made: "
            f"{suite_command('cluster up')}"
        ) from None
