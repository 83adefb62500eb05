# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one Spark session, the scenarios on the path, and a settled environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "scenarios"

for folder in (ROOT, SCENARIOS):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from suite.machine.signals import SIGNALS  # noqa: E402 - found on the path that was just set
from suite.spark.java import find_java  # noqa: E402
from tests.spark_start import quick_java  # noqa: E402

# Tests that start Spark by themselves get the Java that the suite would take, whatever the machine has.
os.environ["JAVA_HOME"] = str(find_java().home)

# Where these tests themselves ignore a signal, as under nohup or in the background of a script, the processes that they
# start must not: they are sent signals. A handler is not inherited.
for number in SIGNALS:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# What a test reads is what the suite says to who came by `python -m suite`, though we may have come through tox.
os.environ.pop("FOLDOUT_TOX", None)

# Spark would start whatever `python3` is first on the PATH, which may have other packages or none.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
# Workers inherit this; tests need answers, not speed, and two cores are soon oversubscribed.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Examples are judged by their answers; a busy machine is no reason to fail. In CI they are the same every time.
settings.register_profile("foldout", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("foldout")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests that share something in one process where they run in several (`pytest -n 2`).

    Those of a file share a session or a folder, and those on clusters an engine, on which one runs at a time.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "clusters" if file.startswith("tests/cluster/") else file

    return ByFile(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where a test that was chosen starts Spark, make its JVMs start sooner."""
    if not any(item.get_closest_marker("spark") for item in session.items):
        return
    try:
        os.environ["JAVA_HOME"] = str(quick_java(Path(os.environ["JAVA_HOME"])))
    except (OSError, subprocess.SubprocessError) as error:
        session.config.issue_config_time_warning(UserWarning(f"Spark starts slowly in these tests: {error}"), 2)


@pytest.fixture(scope="session")
def spark() -> Iterator:
    """One `local[2]` session for all tests of the process; each test must leave nothing cached in it."""
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .appName("foldout-tests")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def jobs_so_far(spark: Any) -> Callable[[], int]:
    """A function that tells how many jobs the session has had. Lists of jobs forget all but the last thousand."""
    scheduler = spark.sparkContext._jsc.sc().dagScheduler()
    return lambda: int(scheduler.numTotalJobs())


@pytest.fixture
def count_reads(spark: Any) -> Callable[[Any], tuple[Any, Any]]:
    """A function that returns a frame like the one given, and an accumulator of the rows that are read of it."""

    def watch(frame: Any) -> tuple[Any, Any]:
        read = spark.sparkContext.accumulator(0)

        def counted(batches: Iterator) -> Iterator:
            for batch in batches:
                read.add(batch.num_rows)
                yield batch

        return frame.mapInArrow(counted, frame.schema), read

    return watch


@pytest.fixture(autouse=True)
def forget_recipes_of_the_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A recipe that a test wrote must not stay imported: the name would be taken for the tests that come after it."""
    before = set(sys.modules)
    yield
    temporary = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(temporary):
            del sys.modules[name]
    sys.path[:] = [folder for folder in sys.path if not folder.startswith(temporary)]


@pytest.fixture(autouse=True)
def same_local_properties(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test must not leave a job group, a tag or a scheduler pool to the tests that come after it.

    A job group that is left behind also leaves `spark.job.interruptOnCancel=false`: tasks of cancelled jobs then keep
    their slots until they end by themselves.
    """
    if "spark" not in request.fixturenames:
        yield
        return
    context = request.getfixturevalue("spark").sparkContext
    names = [f"spark.{name}" for name in ("jobGroup.id", "job.interruptOnCancel", "job.tags", "scheduler.pool")]
    before = {name: context.getLocalProperty(name) for name in names}
    yield
    assert {name: context.getLocalProperty(name) for name in names} == before
