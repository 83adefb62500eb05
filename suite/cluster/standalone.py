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
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyspark

from suite.cluster.description import (
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
from suite.machine.signals import defer_signals
from suite.spark.java import find_java
from suite.spark.session import LOOPBACK

SPARK_HOME = Path(pyspark.__file__).parent
UNDERTAKER = Path(__file__).resolve().parents[1] / "machine" / "reaper.py"
STANDALONE_START_SECONDS = 90  # for master and workers together; some seconds in practice
MASTER_LINE = re.compile(r"Starting Spark master at (spark://\S+)")
PAGES_LINE = re.compile(r"MasterWebUI: Bound .* started at (\S+)")


@contextlib.contextmanager
def standalone(
    workers: int = 2,
    cores: int = 1,
    memory: str = "1g",
    *,
    logs: Path,
    encrypt: bool | None = None,
) -> Iterator[Cluster]:
    """Run a master and workers for as long as the block lasts.

    Parameters
    ----------
    workers : int, default=2
    cores : int, default=1
        Of each worker; on Linux it is pinned to that many (round robin where the machine has fewer).
    memory : str, default="1g"
        Heap of the one executor of each worker. Its Python processes take theirs on top.
    logs : Path
        Folder for the logs of master and workers, and the executors' own below it.
    encrypt : bool, optional
        See `topology.secured`; by default what the variable FOLDOUT_ENCRYPT says.

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
    folder = Path(tempfile.mkdtemp(prefix="foldout-standalone-"))
    logs.mkdir(parents=True, exist_ok=True)
    conf_dir = folder / "conf"
    conf_dir.mkdir()
    if encrypt is None:
        encrypt = wants_encryption()
    write_properties(conf_dir / "spark-defaults.conf", security_conf(new_secret(), encrypt=encrypt))
    # Settings of another Spark on this machine must not leak into ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    environment |= machine_environment.THREAD_LIMITS | {
        "JAVA_HOME": str(java.home),
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_CONF_DIR": str(conf_dir),
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_DAEMON_MEMORY": "256m",
        "PYSPARK_PYTHON": sys.executable,
    }
    crew = Crew(folder, environment, logs)
    try:
        where = ["--host", LOOPBACK, "--port", "0", "--webui-port", "0"]
        crew.start("master", ["org.apache.spark.deploy.master.Master", *where])
        deadline = time.monotonic() + STANDALONE_START_SECONDS
        url = crew.wait("the master's address", deadline, lambda: crew.said("master", MASTER_LINE))
        pages = crew.wait("the master's page", deadline, lambda: crew.said("master", PAGES_LINE))
        limits = ["--cores", str(cores), "--memory", memory]
        for number in range(workers):
            name = f"worker-{number + 1}"
            crew.start(
                name,
                [
                    "org.apache.spark.deploy.worker.Worker",
                    *where,
                    *limits,
                    "--work-dir",
                    str(logs.resolve() / name),
                    url,
                ],
                pinned_to=processors_of(number, cores),
            )
        crew.wait(
            f"{workers} workers of {cores} cores",
            deadline,
            lambda: is_complete(master_state(pages), workers, cores),
        )
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
            environment={"SPARK_CONF_DIR": str(conf_dir), "SPARK_LOCAL_IP": LOOPBACK},
        )
    finally:
        crew.stop()


def processors_of(number: int, cores: int) -> set[int] | None:
    """The processors of one worker, disjoint while there are enough; None where they cannot be set."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    mine = sorted(os.sched_getaffinity(0))
    return {mine[(number * cores + core) % len(mine)] for core in range(cores)}


class Crew:
    """Daemon processes that end together, with whoever started them.

    Parameters
    ----------
    folder : Path
        Removed in the end.
    environment : dict
        Of every process.
    logs : Path
        One file a process goes here.
    """

    def __init__(self, folder: Path, environment: dict[str, str], logs: Path):
        self.environment = environment
        self.logs = logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        with defer_signals():
            self.undertaker = subprocess.Popen(
                [sys.executable, str(UNDERTAKER), str(folder)], stdin=subprocess.PIPE, start_new_session=True
            )

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.logs / f"{name}.log"

    def start(self, name: str, arguments: Sequence[str], pinned_to: set[int] | None = None) -> None:
        """Start a Spark daemon in a session of its own, and tell the undertaker."""
        command = [str(SPARK_HOME / "bin" / "spark-class"), *arguments]
        with defer_signals(), pin_to(pinned_to), self.log(name).open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
            self.processes[name] = process
            assert self.undertaker.stdin is not None
            self.undertaker.stdin.write(f"{process.pid}\n".encode())
            self.undertaker.stdin.flush()

    def said(self, name: str, pattern: re.Pattern[str]) -> str | None:
        """The group that matched in the log of a process, or None."""
        found = pattern.search(self.log(name).read_text(errors="replace"))
        return found[1] if found else None

    def wait(self, what: str, deadline: float, look: Callable[[], Any]) -> Any:
        """Look until there is something to see.

        Raises
        ------
        ClusterError
            A process has ended, or the deadline (on the monotonic clock) has passed.
        """
        while not (seen := look()):
            for name, process in self.processes.items():
                if (code := process.poll()) is not None:
                    raise ClusterError(f"standalone cluster: {name} ended with code {code}: see {self.log(name)}")
            if time.monotonic() > deadline:
                last = list(self.processes)[-1]
                raise ClusterError(
                    f"standalone cluster: no {what} within {STANDALONE_START_SECONDS} seconds: see {self.log(last)}"
                )
            time.sleep(0.1)
        return seen

    def stop(self) -> None:
        """End all processes and remove the folder. The undertaker goes on even if this is interrupted."""
        assert self.undertaker.stdin is not None
        self.undertaker.stdin.close()
        self.undertaker.wait()
        for process in self.processes.values():
            process.wait()


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
