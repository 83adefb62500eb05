# SPDX-License-Identifier: Apache-2.0
"""From options to a request: where Spark runs, how many slots it has, how many blocks are run."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from suite.cluster.connect import existing_cluster
from suite.errors import UsageError
from suite.machine import environment
from suite.plan.cells import Request
from suite.run.options import BenchOptions, parse_factor, parse_setting
from suite.spark.session import is_local

# Six are the fewest that give a median a 95 % interval without assuming a distribution. A run of size ci takes as many
# of them as its minutes allow, a smoke run tells whether everything works.
BLOCKS_OF_SIZE = {"smoke": 1, "ci": 6, "full": 6}
OUR_MASTERS = ("standalone", "compose")
# Settings that the workers of such a cluster have, and the option that says them.
OF_WORKERS = {"spark.executor.memory": "--memory", "spark.executor.cores": "--workers, of one core each"}
MASTER_PATTERN = re.compile(
    r"local|local\[(\*|\d+)(,[1-9]\d*)?\]|local-cluster\[\d+,\d+,\d+\]|standalone|(spark|k8s)://\S+|yarn"
)
PORT_PATTERN = re.compile(r"(?:[^\[\]]+|\[[^\[\]]+\]):(\d+)")  # an address of IPv6 stands in brackets


def check_master(master: str | None) -> str:
    """A master that Spark may know, by default all cores of this machine.

    Raises
    ------
    UsageError
        It cannot be one.
    """
    master = master or f"local[{environment.cores()}]"
    if master.startswith("sc:"):
        raise UsageError(
            f"--master {master}: Spark Connect shows neither executors nor what they did: give the master behind it"
        )
    if master.startswith(("local[", "local-cluster[")):
        master = master.replace(" ", "")  # Spark allows blanks between the numbers
    if not MASTER_PATTERN.fullmatch(master):
        known = "local[N], standalone, compose, spark://HOST:PORT, yarn, k8s://..."
        raise UsageError(f"--master {master!r} is none that Spark knows: {known}")
    for address in master.removeprefix("spark://").split(",") if master.startswith("spark://") else ():
        port = PORT_PATTERN.fullmatch(address)
        if not port or not 0 < int(port[1]) < 2**16:
            raise UsageError(f"--master {master}: {address!r} is not HOST:PORT, such as my-server:7077")
    if master == "local" or master.startswith(("local[0]", "local[0,")):
        raise UsageError(f"--master {master}: say how many slots, such as local[{environment.cores()}]")
    return master.replace("local[*", f"local[{environment.cores()}")


def workers_wanted(options: BenchOptions) -> int:
    """How many workers of one core each a cluster of ours gets: by default one for each core, since more would wait."""
    return options.workers or max(2, environment.cores())


def check_cluster_options(options: BenchOptions, master: str) -> None:
    """Refuse the size of a cluster where none is started.

    Raises
    ------
    UsageError
        Number or memory of workers is given for a master that is there already, or is this machine; an image for what
        runs in no container; or a setting that `check_settings` refuses.
    """
    if options.image:
        raise UsageError(f"--image is for --master compose, not for {master}")
    given = [name for name in ("workers", "memory") if getattr(options, name)]
    if given and master not in OUR_MASTERS and existing_cluster(master).workers is None:
        raise UsageError(
            f"--{given[0]} is for clusters that the suite starts (--master standalone or compose), not for {master}"
        )
    check_settings(options, master)


def check_settings(options: BenchOptions, master: str) -> None:
    """Refuse a setting of Spark that says what the workers of our own cluster have, which they get when they start.

    Raises
    ------
    UsageError
        Such a setting is given, with the option to use instead.
    """
    if master not in OUR_MASTERS and existing_cluster(master).workers is None:
        return
    for key, _ in map(parse_setting, options.conf):
        if option := OF_WORKERS.get(key):
            raise UsageError(f"{key} is what the workers of the cluster have: see {option}")


MANY_FILES = 10_000  # a folder may hold millions


def check_data(folder: Path) -> None:
    """Make sure that a folder of data is there and can be read.

    Raises
    ------
    UsageError
        It is not, or this user may not read it.
    """
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: there is no such folder")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UsageError(f"--data: {_closed('that folder')}")


def note_on_data(folder: Path) -> str | None:
    """Say what a container's user cannot read in a folder of data, though the user outside may; None where nothing is.

    Only the first files of many are looked at. A recipe may do without such a file, so it is no error. Of links that
    lead nowhere in here, `note_on_links` has told outside.
    """
    for path in islice(folder.rglob("*"), MANY_FILES):
        if not _leads_out(path, folder) and not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            # Without the folder's own name, which is another one inside of a container.
            return f"--data: {_closed(f'{str(path.relative_to(folder))!r} in that folder')}"
    return None


def note_on_links(folder: Path) -> str | None:
    """Say which link in a folder of data leads nowhere where only that folder is mounted; None where none does.

    See `note_on_data`.
    """
    for path in islice(folder.rglob("*"), MANY_FILES):
        if _leads_out(path, folder):
            return (
                f"--data: {str(path.relative_to(folder))!r} in that folder is a link to {str(path.readlink())!r}, "
                "which containers do not see: give a folder that holds both, with relative links"
            )
    return None


def _leads_out(path: Path, folder: Path) -> bool:
    if not path.is_symlink():
        return False
    return path.readlink().is_absolute() or not Path(os.path.realpath(path)).is_relative_to(folder.resolve())


def _closed(what: str) -> str:
    return f"{what} cannot be read by user {os.getuid()}, as whom recipes run: open it by chmod -R a+rX"


def make_request(options: BenchOptions, master: str) -> Request:
    """What is asked for, with the defaults of the machine.

    Raises
    ------
    UsageError
        Nobody knows how many slots there are.
    """
    size = options.size or "ci"
    return Request(
        size=size,
        slots=options.slots,
        parallelism=options.parallelism,
        folds=options.folds,
        blocks=options.blocks or BLOCKS_OF_SIZE.get(size, 1),
        cores=_cores_of(options, master),
        local=is_local(master),
        shares_files=master.startswith("local") or master == "standalone",
        seed=options.seed or 0,
        factors=dict(map(parse_factor, options.factor)),
        has_data=options.data is not None,
        driver_cores=environment.cores(),
    )


def _cores_of(options: BenchOptions, master: str) -> int:
    if numbered := re.match(r"local\[(\d+)", master):
        return int(numbered[1])
    if is_local(master):
        return environment.cores()
    if processes := re.fullmatch(r"local-cluster\[(\d+),(\d+),\d+\]", master):
        return int(processes[1]) * int(processes[2])
    if known := workers_wanted(options) if master == "standalone" else existing_cluster(master).slots:
        return known
    if not options.slots:
        raise UsageError(f"--slots is needed with --master {master}: how many cores may Spark use there?")
    return max(options.slots)
