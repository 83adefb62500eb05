# SPDX-License-Identifier: Apache-2.0
"""A Spark standalone cluster of plain local processes, from the jars in the pyspark wheel.

The same topology as the containers without Docker: a master and workers as separate processes, each worker
pinned to cores of its own, authenticated with a secret that lives as long as the cluster. Everything listens
on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from suite.cluster.description import (
    DEFAULT_MEMORY,
    PAGES,
    Cluster,
    ClusterError,
    check_size,
    is_complete,
    master_state,
    new_secret,
    one_host_label,
    security_conf,
    wants_encryption,
    write_properties,
)
from suite.machine import environment as machine_environment
from suite.machine.processes import Scope, child_environment, open_scope
from suite.spark.java import Java, find_java
from suite.spark.session import LOOPBACK, ON_LOOPBACK, SPARK_HOME, java_options

STANDALONE_START_SECONDS = 90  # for master and workers together; some seconds in practice
DAEMON_GRACE_SECONDS = 5.0  # in which daemons and executors end by themselves
LISTEN = ("--host", LOOPBACK, "--port", "0", "--webui-port", "0")
MASTER_LINE = re.compile(r"Starting Spark master at (spark://\S+)")
PAGES_LINE = re.compile(r"MasterWebUI: Bound .* started at (\S+)")


@contextlib.contextmanager
def standalone(
    workers: int = 2,
    cores: int = 1,
    memory: str = DEFAULT_MEMORY,
    *,
    logs: Path,
) -> Iterator[Cluster]:
    """Run a master and workers for as long as the block lasts; FOLDOUT_ENCRYPT says whether they encrypt.

    Parameters
    ----------
    workers : int, default=2
    cores : int, default=1
        Of each worker; on Linux it is pinned to that many (round robin where the machine has fewer).
    memory : str, default="1g"
        Heap of the one executor of each worker. Its Python processes take theirs on top.
    logs : Path
        Folder for the logs of master and workers, and the executors' own below it.

    Yields
    ------
    Cluster

    Raises
    ------
    ClusterError
        A process that ends or workers that are not registered in time, with the log's name.
    """
    check_size(workers, cores, memory)
    java = find_java()
    logs.mkdir(parents=True, exist_ok=True)
    with open_scope(grace=DAEMON_GRACE_SECONDS) as scope:
        conf_dir = write_conf_dir(scope.folder, encrypt=wants_encryption())
        daemons = Daemons(scope, _daemon_environment(scope.folder, conf_dir, java), logs)
        url, pages = _start_master(daemons)
        for number in range(workers):
            _start_worker(daemons, number, cores, memory, url)
        daemons.wait(f"{workers} workers of {cores} cores", lambda: is_complete(master_state(pages), workers, cores))
        yield Cluster(
            url=url,
            conf={
                "spark.driver.host": LOOPBACK,
                "spark.driver.bindAddress": LOOPBACK,
                "spark.executor.cores": str(cores),
                "spark.executor.memory": memory,
                PAGES: pages,
            },
            workers=workers,
            cores=cores,
            label=one_host_label("standalone cluster", workers, cores, machine_environment.cores()),
            environment={"SPARK_CONF_DIR": str(conf_dir), **ON_LOOPBACK},
        )


def write_conf_dir(folder: Path, *, encrypt: bool) -> Path:
    """Make Spark's configuration folder, with a new secret, for daemons and drivers alike."""
    conf_dir = folder / "conf"
    conf_dir.mkdir()
    write_properties(conf_dir / "spark-defaults.conf", security_conf(new_secret(), encrypt=encrypt))
    # Read by whatever starts a JVM of Spark's, executors included. By default Java puts its temporary files into /tmp,
    # whatever TMPDIR says, and there they stay when it is killed.
    (conf_dir / "java-opts").write_text(java_options(str(folder)) + "\n")
    return conf_dir


def _daemon_environment(folder: Path, conf_dir: Path, java: Java) -> dict[str, str]:
    # Nothing of another Spark on this machine, not even its address.
    own = {name: value for name, value in child_environment().items() if not name.startswith("SPARK_")}
    return {
        **own,
        **machine_environment.THREAD_LIMITS,
        "JAVA_HOME": str(java.home),
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_CONF_DIR": str(conf_dir),
        **ON_LOOPBACK,
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_DAEMON_MEMORY": "256m",
        "PYSPARK_PYTHON": sys.executable,
    }


def _start_master(daemons: Daemons) -> tuple[str, str]:
    """The address of the master, and that of its page."""
    daemons.start("master", ["org.apache.spark.deploy.master.Master", *LISTEN])
    url: str = daemons.wait("the master's address", lambda: daemons.find("master", MASTER_LINE))
    pages: str = daemons.wait("the master's page", lambda: daemons.find("master", PAGES_LINE))
    return url, pages


def _start_worker(daemons: Daemons, number: int, cores: int, memory: str, url: str) -> None:
    name = f"worker-{number + 1}"
    arguments = ["--cores", str(cores), "--memory", memory, "--work-dir", str(daemons.logs.resolve() / name), url]
    with pin_to(processors_of(number, cores)):
        daemons.start(name, ["org.apache.spark.deploy.worker.Worker", *LISTEN, *arguments])


def processors_of(number: int, cores: int) -> set[int] | None:
    """The processors of one worker, disjoint while there are enough; None where they cannot be set."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    mine = sorted(os.sched_getaffinity(0))
    return {mine[(number * cores + core) % len(mine)] for core in range(cores)}


class Daemons:
    """The processes of Spark that make up the cluster.

    Parameters
    ----------
    scope : Scope
        They end with it.
    environment : dict
        Of every process.
    logs : Path
        One file a process goes here.
    """

    def __init__(self, scope: Scope, environment: dict[str, str], logs: Path):
        self.logs = logs
        self._scope = scope
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._deadline = time.monotonic() + STANDALONE_START_SECONDS

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.logs / f"{name}.log"

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start a daemon: a class of Spark's with its arguments."""
        command = [str(SPARK_HOME / "bin" / "spark-class"), *arguments]
        with self.log(name).open("wb") as out:
            self._processes[name] = self._scope.start(command, self._environment, stdout=out, stderr=subprocess.STDOUT)

    def find(self, name: str, pattern: re.Pattern[str]) -> str | None:
        """The group that matches in the log of a process, or None."""
        found = pattern.search(self.log(name).read_text(errors="replace"))
        return found[1] if found else None

    def wait(self, what: str, look: Callable[[], Any]) -> Any:
        """Look until there is something to see.

        Raises
        ------
        ClusterError
            A process has ended, or the time for the start of the cluster is over.
        """
        while not (seen := look()):
            for name, process in self._processes.items():
                if (code := process.poll()) is not None:
                    raise ClusterError(f"standalone cluster: {name} ended with code {code}: see {self.log(name)}")
            if time.monotonic() > self._deadline:
                last = list(self._processes)[-1]
                raise ClusterError(
                    f"standalone cluster: no {what} within {STANDALONE_START_SECONDS} seconds: see {self.log(last)}"
                )
            time.sleep(0.1)
        return seen


@contextlib.contextmanager
def pin_to(processors: set[int] | None) -> Iterator[None]:
    """Let what is started in the block inherit these processors."""
    if processors is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
