# SPDX-License-Identifier: Apache-2.0
"""Checks that a cluster fits its driver: all executors are there, with the same Python, Java and packages.

`check(spark)` is for any session, a notebook's too. Before `bench` runs anything on a cluster it runs
`python -m suite.cluster.preflight`: in a process of its own, because Spark waits for ever for what does not come.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cluster.description import PAGES, Cluster, ClusterError, executor_conf, master_state
from suite.machine.environment import ROOT
from suite.machine.pipes import LineReader, write_all
from suite.machine.processes import child_environment, open_scope
from suite.spark import session
from suite.spark.failures import why_no_java
from suite.spark.java import QUICK_CONF, Java
from suite.spark.session import is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

WAIT_SECONDS = 60.0  # for the executors
CORES_SECONDS = 10.0  # where the master has too few cores: one that has just gone may come back
LIMIT_SECONDS = 300.0  # for everything
ROUNDS = 10  # of tasks, until every executor has had one
# What is pickled on one side is read on the other: arrays, frames, models, Arrow batches.
SHARED_PACKAGES = ("numpy", "scikit-learn", "pandas", "pyarrow", "joblib")
COMPARED = ("python", "java", "spark", *SHARED_PACKAGES)
MISSING = "missing"
RESULT = b"RESULT "  # begins the line that a check of its own writes; Spark may write others

# Runs on an executor, in the interpreter that its Python workers would get, before Spark's own Python code does: that
# would stop at the first difference, with a long stack trace. Reads lines of JSON, adds to each, writes them.
PROBE = (
    f"SHARED_PACKAGES = {SHARED_PACKAGES}"
    + """
import json, os, platform, socket, sys, time
try:
    from importlib import metadata
except ImportError:
    metadata = None

def version(name):
    try:
        return metadata.version(name)
    except Exception:
        return "missing"

def text(path):
    try:
        return open(path).read()
    except Exception:
        return ""

found = {name: version(name) for name in SHARED_PACKAGES}
found.update(python=platform.python_version())
found.update(host=socket.gethostname(), executor="%s/%d" % (socket.gethostname(), os.getppid()))
stat = text("/proc/stat").split()
speeds = [line.split(":")[1] for line in text("/proc/cpuinfo").splitlines() if line.startswith("cpu MHz")]
limit = text("/sys/fs/cgroup/cpu.max").split() or [
    text("/sys/fs/cgroup/cpu/cpu.cfs_%s_us" % name).strip() for name in ("quota", "period")
]
memory = text("/sys/fs/cgroup/memory.max") or text("/sys/fs/cgroup/memory/memory.limit_in_bytes")
threads = sorted(name for name in os.environ if name.endswith("_NUM_THREADS"))
found["state"] = {
    "at": round(time.time()),
    "load_average": [round(value, 2) for value in os.getloadavg()],
    "steal_ticks": int(stat[8]) if len(stat) > 8 else None,
    "mhz": round(float(speeds[0])) if speeds else None,
    "cpu_quota": " of ".join(part for part in limit if part) or None,
    "memory_limit": memory.strip() or None,
    "threads": {name: os.environ[name] for name in threads},
}
for line in sys.stdin:
    print(json.dumps(dict(json.loads(line), **found)))
time.sleep(0.3)
"""
)
# Where there is no such interpreter, a shell can still say so.
SHELL = 'command -v "$0" >/dev/null || { while read -r row; do echo "{\\"host\\": \\"$(hostname)\\"}"; done; exit; }; '
SHELL += 'exec "$0" -c "$1"'


@dataclass(frozen=True)
class NodeVersions:
    """What one node has: the driver, or one executor.

    Attributes
    ----------
    name : str
    versions : dict
        A version for each of `COMPARED`; `MISSING` where it is not installed.
    state : dict
        Of an executor: load, steal time, frequency, limits of its cgroup and of threads.
    """

    name: str
    versions: dict[str, str]
    state: dict[str, Any] = field(default_factory=dict)


class MismatchError(ClusterError):
    """The executors do not fit the driver; the text is a line, and below it a table of the differences."""


def driver_versions(spark: SparkSession) -> NodeVersions:
    """Read the versions on the driver."""

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return MISSING

    return NodeVersions(
        "driver",
        {
            "python": platform.python_version(),
            "java": str(_jvm(spark).java.lang.System.getProperty("java.version")),
            "spark": spark.version,
            **{name: version(name) for name in SHARED_PACKAGES},
        },
    )


def _jvm(spark: SparkSession) -> Any:
    return spark.sparkContext._jvm


def executor_versions(spark: SparkSession) -> list[NodeVersions]:
    """Read the versions on every executor, by a small job or a few.

    Raises
    ------
    ClusterError
        Not every executor came to run a task.
    """
    context = spark.sparkContext
    wanted = _executors(spark)
    seen: dict[str, NodeVersions] = {}
    command = _jvm(spark).java.util.ArrayList()
    for word in ("sh", "-c", SHELL, context.pythonExec, PROBE):
        command.add(word)
    tasks = max(context.defaultParallelism, wanted)
    for _ in range(ROUNDS):
        rows = spark.range(0, tasks, 1, tasks).selectExpr(
            "reflect('java.lang.System', 'getProperty', 'java.version') java",
            "reflect('org.apache.spark.package', 'SPARK_VERSION') spark",
        )
        # All in the JVM up to the pipe: no Python worker of Spark's is involved.
        for line in rows._jdf.toJSON().javaRDD().pipe(command).collect():
            found = json.loads(line)
            name = found.get("executor", found["host"])
            seen[name] = NodeVersions(name, {key: found.get(key, MISSING) for key in COMPARED}, found.get("state", {}))
        if len(seen) >= wanted:
            return sorted(seen.values(), key=lambda side: side.name)
    raise ClusterError(f"only {len(seen)} of {wanted} executors ran a task in {ROUNDS} rounds: the others are stuck")


def describe_nodes(sides: Iterable[NodeVersions]) -> dict[str, Any]:
    """Return versions and state of each executor, for the record of a run."""
    return {side.name: {**side.versions, **side.state} for side in sides if side.state}


def _executors(spark: SparkSession) -> int:
    """Count the executors that are registered now; in local mode the driver is one."""
    everything = len(spark.sparkContext._jsc.sc().statusTracker().getExecutorInfos())
    return max(everything - 1, 1 if is_local(str(spark.sparkContext.master)) else 0)


def wait_for_cores(spark: SparkSession, cores: int, seconds: float = CORES_SECONDS) -> None:
    """Wait for so many cores of executors, whose number is not known; no longer than some seconds.

    A cluster that is not ours may have fewer. Then its executors are compared that are there.
    """
    known = spark.sparkContext._jsc.sc().statusStore
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        executors = known().executorList(True)
        each = (executors.apply(number) for number in range(executors.size()))
        if sum(one.totalCores() for one in each if one.id() != "driver") >= cores:
            return
        time.sleep(0.5)


def wait_for_executors(spark: SparkSession, executors: int, seconds: float = WAIT_SECONDS) -> None:
    """Wait until that many executors are registered.

    Parameters
    ----------
    spark : SparkSession
    executors : int
    seconds : float, default=60

    Raises
    ------
    ClusterError
        They did not come; the text says why, as far as the master shows it.
    """
    begin = time.monotonic()
    while (there := _executors(spark)) < executors:
        if spark.sparkContext._jsc.sc().isStopped():
            raise ClusterError(f"{there} of {executors} executors came, then Spark stopped: {_why_missing(spark)}")
        waited = time.monotonic() - begin
        if waited > CORES_SECONDS and (too_few := find_missing_cores(spark)):
            raise ClusterError(f"{there} of {executors} executors came: {too_few}")
        if waited > seconds:
            raise ClusterError(f"{there} of {executors} executors came in {seconds:g} seconds: {_why_missing(spark)}")
        time.sleep(0.5)


def find_missing_cores(spark: SparkSession) -> str | None:
    """Say which cores the master lacks; None where it lacks none or cannot be asked."""
    conf = spark.sparkContext.getConf()
    pages = conf.get(PAGES, "")
    state = master_state(str(pages)) if pages else None
    if state is None:
        return None
    alive = [worker for worker in state["workers"] if worker["state"] == "ALIVE"]
    cores = sum(worker["cores"] for worker in alive)
    needed = int(conf.get("spark.cores.max") or 0)
    if cores < needed:
        return f"{needed} cores were asked for, but the master has {len(alive)} workers with {cores} cores"
    apps = state.get("activeapps", [])
    taken = sum(app["cores"] for app in apps if app["id"] != spark.sparkContext.applicationId)
    if cores - taken < needed:
        return f"{needed} cores were asked for, but {taken} of the {cores} there are taken by other applications"
    return None


def _why_missing(spark: SparkSession) -> str:
    conf = spark.sparkContext.getConf()
    driver = f"{conf.get('spark.driver.host')}:{conf.get('spark.driver.port')}"
    callback = f"executors cannot reach the driver at {driver} (set spark.driver.host to an address that they can)"
    return callback if conf.get(PAGES) else f"the master has too few free cores, or {callback}"


def version_differences(driver: NodeVersions, executors: Iterable[NodeVersions]) -> list[str]:
    """Return which of `COMPARED` differ anywhere.

    Python and Java only have to be of the same feature release, such as 3.11 or 17; the rest has to be equal.
    """
    return [
        name
        for name in COMPARED
        if any(_release(name, side.versions[name]) != _release(name, driver.versions[name]) for side in executors)
    ]


def _release(name: str, version: str) -> str:
    parts = {"python": 2, "java": 1}.get(name)
    return version if parts is None else ".".join(version.split(".")[:parts])


def version_table(sides: Sequence[NodeVersions], marked: Sequence[str] = ()) -> str:
    """Write the versions of all nodes in columns; those `marked` get a star."""
    header = ["", *(name + "*" * (name in marked) for name in COMPARED)]
    rows = [header, *([side.name, *(side.versions[name] for name in COMPARED)] for side in sides)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def check(spark: SparkSession, executors: int = 1, seconds: float = WAIT_SECONDS) -> list[NodeVersions]:
    """Check that a session's executors are there and fit its driver.

    Parameters
    ----------
    spark : SparkSession
        Any session of classic Spark, on any master.
    executors : int, default=1
        How many executors there should be.
    seconds : float, default=60
        How long to wait for them.

    Returns
    -------
    list of NodeVersions
        The driver, then each executor.

    Raises
    ------
    MismatchError
        Versions differ.
    ClusterError
        Executors are missing, or cannot be seen over Spark Connect.

    Examples
    --------
    In a notebook, from a clone of this repository::

        from suite.cluster import preflight
        print(preflight.version_table(preflight.check(spark)))
    """
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        raise ClusterError("Spark Connect shows no executors: check a session of classic Spark on the same cluster")
    conf, missing = spark.sparkContext.getConf(), executors - _executors(spark)
    if missing > 0 and conf.get("spark.dynamicAllocation.enabled") == "true":
        # By themselves they come for a job, and leave when they have had none for a minute.
        spark.sparkContext._jsc.sc().requestExecutors(missing)
    wait_for_executors(spark, executors, seconds)
    driver, others = driver_versions(spark), executor_versions(spark)
    if differ := version_differences(driver, others):
        raise MismatchError(
            f"the executors differ from the driver in {', '.join(differ)}: install the same there, or call the suite "
            "from an environment that has theirs, as docker/README.md says "
            f"(PYSPARK_PYTHON is {spark.sparkContext.pythonExec})\n{version_table([driver, *others], differ)}"
        )
    return [driver, *others]


def run_preflight(cluster: Cluster, slots: int, java: Java, log: Path) -> list[NodeVersions]:
    """Check a cluster from a driver of its own, within `LIMIT_SECONDS`.

    Parameters
    ----------
    cluster : Cluster
    slots : int
        Cores that Spark will be asked for.
    java : Java
        For the driver.
    log : Path
        Takes what Spark says.

    Raises
    ------
    ClusterError
        See `check`; or the driver ended or hung.
    """
    executor_conf(cluster.conf, slots)
    # Nothing is timed, and the JVMs end after one job. A cluster that is not ours may have Java options of its own in
    # its defaults, which these would replace.
    quick = {} if cluster.workers is None else QUICK_CONF
    asked = {"url": cluster.url, "conf": {**quick, **cluster.conf}, "slots": slots}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open_scope() as scope, log.open("wb") as errors:
        process = scope.start(
            [sys.executable, "-m", "suite.cluster.preflight"],
            child_environment()
            | {"JAVA_HOME": str(java.home), "SPARK_LOCAL_DIRS": str(scope.folder)}
            | cluster.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        write_all(process.stdin.fileno(), json.dumps(asked).encode())
        process.stdin.close()
        # Its end is not waited for: with executors that never came, Spark takes minutes to stop.
        result = _read_result(LineReader(process.stdout.fileno()), cluster.url, log)
    if error := result.get("error"):
        raise (MismatchError if "\n" in error else ClusterError)(error)
    return [NodeVersions(**side) for side in result["sides"]]


def _read_result(lines: LineReader, url: str, log: Path) -> dict[str, Any]:
    """What the process of a check found, within `LIMIT_SECONDS`."""
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while (line := lines.read_line(deadline - time.monotonic())) is not None:
            if line.startswith(RESULT):
                result: dict[str, Any] = json.loads(line.removeprefix(RESULT))
                return result
    except EOFError:
        raise ClusterError(f"no Spark session on {url}: {explain_log(log)}: see {log}") from None
    raise ClusterError(f"{url} did nothing useful in {LIMIT_SECONDS:g} seconds: see {log}")


def explain_log(log: Path) -> str:
    """Find the line of Spark's log that tells a user most."""
    text = log.read_text(errors="replace")
    # With log4j at INFO each driver says whether it has authentication disabled.
    if re.search(r"expected saslmessage|authentication(?! (dis|en)abled)", text.lower()):
        return "it refused this client, which does not know its secret"
    if "InvalidClassException" in text or "local class incompatible" in text:
        return "another version of Spark runs there"
    if "JAVA_GATEWAY_EXITED" in text:
        return f"Java did not start: {why_no_java(text)}"
    if "All masters are unresponsive" in text or "Failed to connect to master" in text:
        return "no master answers there"
    causes = [line.strip() for line in text.splitlines() if "Error" in line or "Exception" in line]
    return causes[-1][:200] if causes else "it ended without a word"


def _conf(url: str, slots: int, asked: Mapping[str, str]) -> dict[str, str]:
    """The settings of the session that looks; how many cores an executor has decides how many of them are asked for."""
    own = {**asked, **executor_conf(asked, slots)}
    return session.spark_conf(url, slots, Path.cwd(), own) | {"spark.eventLog.enabled": "false"}


def check_from_stdin() -> None:
    """Check the cluster that stdin describes, and print a line with the result: the process of `run_preflight`."""
    asked: dict[str, Any] = json.load(sys.stdin)
    conf = _conf(asked["url"], asked["slots"], asked["conf"])
    # Who waits for executors, and says why they do not come, is `check`; Spark itself would wait a minute in silence.
    conf["spark.scheduler.minRegisteredResourcesRatio"] = "0.0"
    spark = session.start_session(conf, [])
    cores = int(conf.get("spark.executor.cores", 0))
    result: dict[str, Any]
    try:
        if not cores:
            wait_for_cores(spark, asked["slots"])
        sides = check(spark, asked["slots"] // cores if cores else 1)
        result = {"sides": [asdict(side) for side in sides]}
    except ClusterError as error:
        result = {"error": str(error)}
    print(RESULT.decode() + json.dumps(result), flush=True)  # then the parent ends us all


if __name__ == "__main__":
    check_from_stdin()
