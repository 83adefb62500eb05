# SPDX-License-Identifier: Apache-2.0
"""What a cluster is to the rest of the suite: its master, its settings, its size, its errors."""

from __future__ import annotations

import json
import os
import re
import secrets
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.errors import UsageError

# A setting of our own: where the master shows its state, for whoever has to say why executors are missing.
PAGES = "spark.foldout.pages"
DEFAULT_MEMORY = "1g"  # of each worker's executor, on the heap
RUN_FOLDER = "/results/run"  # in a container


def as_outside(text: str) -> str:
    """Write a container's run folder as its user knows it, where it is brought out to."""
    return text.replace(RUN_FOLDER, os.environ.get("FOLDOUT_RUN_FOLDER") or RUN_FOLDER)


class ClusterError(UsageError):
    """A cluster cannot be had, or was lost; the text is one line with cause, remedy and the log's name."""


@dataclass(frozen=True)
class Cluster:
    """A master that is ready for a driver.

    Attributes
    ----------
    url : str
        For `spark.master`.
    conf : dict
        Settings for the session. They end up on a command line, so no secret is among them.
    workers : int or None
        None where the suite did not start the cluster and cannot know.
    cores : int or None
        Cores of each worker.
    label : str
        For charts: what the cluster is, and whether one host plays it.
    environment : dict
        Variables for the driver's process. `SPARK_CONF_DIR` leads Spark to a file with the secret.
    """

    url: str
    conf: dict[str, str] = field(default_factory=dict)
    workers: int | None = None
    cores: int | None = None
    label: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def slots(self) -> int | None:
        """Cores of all workers together."""
        return None if self.workers is None or self.cores is None else self.workers * self.cores


def one_host_label(kind: str, workers: int, cores: int, host_cores: int) -> str:
    """Return what a chart says of a cluster that one host plays."""
    text = f"{kind}: {workers} worker{'s' * (workers != 1)} of {cores} core{'s' * (cores != 1)}, all on one host"
    if workers * cores > host_cores:
        text += f" with only {host_cores} core{'s' * (host_cores != 1)}"
    return text


def gibibytes(amount: str, what: str = "memory") -> float:
    """Read an amount as Spark writes it (`512m`, `2g`), in GiB.

    Parameters
    ----------
    amount : str
    what : str
        It is of, for the error.

    Raises
    ------
    ClusterError
        Where it is not one.
    """
    found = re.fullmatch(r"(\d+)([mg])", amount.strip().lower())
    if not found or not int(found[1]):
        raise ClusterError(f"{what} {amount!r} is not an amount such as 512m or 2g")
    return int(found[1]) / (1024 if found[2] == "m" else 1)


def check_size(workers: int, cores: int, memory: str) -> None:
    """Refuse a cluster that makes no sense.

    Raises
    ------
    ClusterError
        Fewer than one worker or core, or an amount of memory that Spark cannot read.
    """
    if workers < 1 or cores < 1:
        raise ClusterError(f"a cluster needs at least 1 worker of 1 core, not {workers} of {cores}")
    gibibytes(memory)


def security_conf(secret: str, *, encrypt: bool = False) -> dict[str, str]:
    """Return the settings that master, workers and driver share: who may talk, and whether others may listen.

    Parameters
    ----------
    secret : str
        The secret of this cluster alone.
    encrypt : bool, default=False
        AES/GCM on every connection. Without it both sides prove that they know the secret (SASL DIGEST-MD5),
        and what follows is in the clear.
    """
    conf = {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secret,
        "spark.network.crypto.saslFallback": "false",
        # On by default since Spark 4.1, and it asks for no secret.
        "spark.master.rest.enabled": "false",
        "spark.ui.killEnabled": "false",
    }
    if encrypt:
        conf |= {
            "spark.network.crypto.enabled": "true",
            "spark.network.crypto.authEngineVersion": "2",
            "spark.network.crypto.cipher": "AES/GCM/NoPadding",
        }
    return conf


def wants_encryption() -> bool:
    """Whether the variable FOLDOUT_ENCRYPT asks for encryption."""
    return os.environ.get("FOLDOUT_ENCRYPT", "") not in ("", "0")


def executor_conf(conf: Mapping[str, str], slots: int) -> dict[str, str]:
    """Return what a session with that many slots needs in place of a cluster's own settings.

    A worker of our clusters runs one executor with all its cores. Spark would wait for ever for an executor with
    more cores than it may use, or for the last slots, into which no executor fits.

    Parameters
    ----------
    conf : mapping
        `Cluster.conf`.
    slots : int

    Raises
    ------
    ClusterError
        The slots are more than a worker's cores, and not a multiple of them.
    """
    cores = int(conf.get("spark.executor.cores", 0))
    if not cores or slots % cores == 0:
        return {}
    if slots > cores:
        raise ClusterError(f"{slots} slots cannot be had from workers of {cores} cores: take a multiple of {cores}")
    return {"spark.executor.cores": str(slots)}


def new_secret() -> str:
    """Make a secret of 256 random bits."""
    return secrets.token_hex(32)


def write_properties(path: Path, conf: Mapping[str, str]) -> None:
    """Write a `spark-defaults.conf` that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{key} {value}\n" for key, value in conf.items()))


def ask_directly(url: str, seconds: float) -> Any:
    """Open an address of this machine or of the cluster's own network, which no proxy of the user's could find."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=seconds)


def master_state(pages: str) -> dict[str, Any] | None:
    """Ask the master for the state of itself and its workers; None while it does not answer."""
    try:
        with ask_directly(f"{pages.rstrip('/')}/json/", seconds=5) as reply:
            return json.load(reply)
    except (OSError, ValueError):
        return None


def is_complete(state: dict[str, Any] | None, workers: int, cores: int) -> bool:
    """Whether the master is in charge and has its workers, each with the promised cores."""
    if state is None or state["status"] != "ALIVE":
        return False
    alive = [worker for worker in state["workers"] if worker["state"] == "ALIVE" and worker["cores"] >= cores]
    return len(alive) >= workers
