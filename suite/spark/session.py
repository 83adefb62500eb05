# SPDX-License-Identifier: Apache-2.0
"""Starts a Spark session for a number of slots, and looks into it.

The package knows Spark: its sessions, its event log, its failures, the Java that it needs. It may import `machine`
and the ground modules.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pyspark
from pyspark.sql import SparkSession

from suite.machine.environment import memory_gib

SPARK_HOME = Path(pyspark.__file__).parent
LOOPBACK = "127.0.0.1"
# Of the environment: a user's own preference for IPv6 does not go with that address.
ON_LOOPBACK = {"SPARK_LOCAL_IP": LOOPBACK, "SPARK_PREFER_IPV6": "false"}


def is_local(master: str) -> bool:
    """Whether Spark runs inside the driver's own process."""
    return master == "local" or master.startswith("local[")


def driver_memory() -> str:
    """Return the heap of the driver, which does all the work in local mode.

    It is a quarter of the memory that this machine or container has, from 1 to 8 GiB, and never more than half of it,
    since Python workers need theirs.
    """
    gib = memory_gib()
    if gib < 2:
        return f"{int(512 * gib)}m"
    return f"{int(min(8, max(1, gib / 4)))}g"


def java_options(folder: str) -> str:
    """Return options that make Java write its temporary files and what it says of a crash into a folder.

    Otherwise the latter lands where the suite was called. They are quoted as Spark's launcher reads them.
    """
    options = (f"-Djava.io.tmpdir={folder}", f"-XX:ErrorFile={folder.replace('%', '%%')}/hs_err_pid%p.log")
    return " ".join('"' + re.sub(r'(["\\])', r"\\\1", option) + '"' for option in options)


def spark_conf(master: str, slots: int, events: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Make the whole configuration of a session.

    Parameters
    ----------
    master : str
        Any master that Spark knows; the number in `local[N]` or `local[N,failures]` is replaced by `slots`.
    slots : int
    events : Path
        Folder for the event log.
    extra : mapping
        Settings of the cluster, which win.
    """
    _, comma, failures = master.removesuffix("]").partition(",")
    conf = {
        "spark.master": f"local[{slots}{comma}{failures}]" if is_local(master) else master,
        "spark.app.name": "foldout",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Plain and in one file, so that anything can read it; the newest jobs are in it when the bus is empty.
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.resolve().as_uri(),
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
        "spark.driver.memory": driver_memory(),
        # Java's files go where the run's own temporary ones are, which the parent removes even after a kill.
        "spark.driver.extraJavaOptions": java_options(tempfile.gettempdir()),
    }
    if is_local(master):
        conf["spark.driver.bindAddress"] = conf["spark.driver.host"] = LOOPBACK
    else:
        conf |= _slots_of_cluster(master, slots, int(extra.get("spark.executor.cores", 1)))
        # All executors are there before the clock starts.
        conf["spark.scheduler.minRegisteredResourcesRatio"] = "1.0"
        conf["spark.scheduler.maxRegisteredResourcesWaitingTime"] = "60s"
    return {**conf, **extra}


def _slots_of_cluster(master: str, slots: int, cores: int) -> dict[str, str]:
    """Ask for so many slots, of executors with so many cores each."""
    if not master.startswith(("yarn", "k8s:")):
        return {"spark.cores.max": str(slots)}
    # `spark.cores.max` is a word of standalone masters alone.
    return {
        "spark.executor.instances": str(slots // cores),
        "spark.executor.cores": str(cores),
        "spark.dynamicAllocation.enabled": "false",
    }


def start_session(conf: Mapping[str, str], files: Iterable[Path]) -> SparkSession:
    """Start a session with `conf`, and make the scenario files importable on its workers.

    Parameters
    ----------
    conf : mapping
        See `spark_conf`.
    files : iterable of Path
        Python files and folders of packages to ship; classes in them keep their importable name.
    """
    # Without it PySpark starts the Spark of a distribution where the current folder lies in one, before its own.
    os.environ["SPARK_HOME"] = str(SPARK_HOME)
    # PySpark itself takes the variable before the setting. Workers elsewhere may have their Python in another place.
    os.environ["PYSPARK_PYTHON"] = conf.get("spark.pyspark.python", sys.executable)
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    _keep_accumulators_on_loopback()
    builder = SparkSession.builder
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    add_files(spark, files)
    return spark


def add_files(spark: SparkSession, files: Iterable[Path]) -> None:
    """Make Python files, and folders of packages, importable on the workers of a session."""
    for file in files:
        path = zip_package(file) if file.is_dir() else file
        # Spark takes what follows a `#` in a path for a name to unpack under, but not in an address.
        spark.sparkContext.addPyFile(path.absolute().as_uri() if "#" in str(path) else str(path))


def _keep_accumulators_on_loopback() -> None:
    """Have PySpark's server of accumulators listen on 127.0.0.1, where the name `localhost` does not resolve either."""
    from pyspark import accumulators  # not above: an older PySpark lacks it, and `doctor` says so

    # The second is its name in PySpark 4.0.
    known = vars(accumulators)
    name = next((name for name in ("AccumulatorTCPServer", "AccumulatorServer") if name in known), None)
    if name is None:  # of a later PySpark: most machines do without this
        return
    plain: Any = known[name]

    class OnLoopback(plain):
        def __init__(self, address: tuple[str, int], *rest: Any) -> None:
            super().__init__((LOOPBACK, address[1]), *rest)

    if plain.__name__ != OnLoopback.__name__:
        known[name] = OnLoopback


def zip_package(folder: Path) -> Path:
    """Write the Python files of a package into a new archive that can be imported from."""
    archive = Path(tempfile.mkdtemp(prefix="foldout-package-")) / f"{folder.name}.zip"
    with zipfile.ZipFile(archive, "w", strict_timestamps=False) as written:  # files of 1970 too
        for file in sorted(folder.rglob("*.py")):
            written.write(file, file.relative_to(folder.parent))
    return archive


class JvmRefusedError(Exception):
    """A JVM would have been started where none may be."""


@contextmanager
def without_jvm() -> Iterator[None]:
    """Raise a `JvmRefusedError` where the first session of this process is started in the block."""
    from pyspark import SparkContext  # not above: a PySpark that only shadows ours has none, and is named elsewhere

    def refuse(*_: object, **__: object) -> NoReturn:
        raise JvmRefusedError("no Spark session may be started here")

    module: Any = sys.modules[SparkContext.__module__]
    launch, module.launch_gateway = module.launch_gateway, refuse
    try:
        yield
    finally:
        module.launch_gateway = launch


def is_alive(spark: SparkSession) -> bool:
    """Whether the session's JVM still answers."""
    try:
        stopped = spark.sparkContext._jsc.sc().isStopped()
    except Exception:  # noqa: BLE001 - py4j raises many kinds once its JVM is gone
        return False
    return not stopped


def cached_rdds(spark: SparkSession) -> set[int]:
    """Return the ids of what is cached or persisted in the session now."""
    return {int(number) for number in spark.sparkContext._jsc.getPersistentRDDs()}


def drop_cached(spark: SparkSession, ids: Iterable[int]) -> None:
    """Unpersist cached data by id."""
    persisted = spark.sparkContext._jsc.getPersistentRDDs()
    for number in ids:
        persisted[number].unpersist()
