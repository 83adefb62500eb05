# SPDX-License-Identifier: Apache-2.0
"""What the preflight says when driver and executors differ, or when executors do not come."""

import itertools
import json
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from suite.cluster import preflight
from suite.cluster.description import PAGES, Cluster, ClusterError
from suite.cluster.preflight import MismatchError, NodeVersions
from suite.spark.java import QUICK_CONF, Java

SAME = {"python": "3.11.7", "java": "17.0.15", "spark": "4.3.0", "numpy": "2.4.6", "scikit-learn": "1.9.1"}
SAME |= {"pandas": "3.0.1", "pyarrow": "23.0.0", "joblib": "1.5.2"}


def side(name: str, **other: str) -> NodeVersions:
    return NodeVersions(name, {**SAME, **other})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "ERROR Failed to connect to master\njava.io.InvalidClassException: local class",
            "another version of Spark runs",
        ),
        (
            "Exception in thread main org.apache.spark.SparkException: When running with master 'yarn' either "
            "HADOOP_CONF_DIR or YARN_CONF_DIR must be set\nPySparkRuntimeError: [JAVA_GATEWAY_EXITED] Java gateway",
            "HADOOP_CONF_DIR",
        ),
    ],
    ids=["another Spark", "no configuration of Hadoop"],
)
def test_why_there_is_no_session_is_told(text, said, tmp_path):
    (tmp_path / "log").write_text(text)
    assert said in preflight.explain_log(tmp_path / "log")


def test_executors_are_counted_by_the_cores_that_they_get():
    """Fewer slots than an executor would have cores are one executor of so many, not none."""
    conf = preflight._conf("yarn", 2, {"spark.executor.cores": "4"})
    assert (conf["spark.executor.instances"], conf["spark.executor.cores"]) == ("1", "2")


def test_patch_releases_of_python_and_java_may_differ_and_nothing_else():
    driver = side("driver")
    assert preflight.version_differences(driver, [side("a", python="3.11.2", java="17.0.9")]) == []
    assert preflight.version_differences(driver, [side("a"), side("b", python="3.12.7")]) == ["python"]
    assert preflight.version_differences(driver, [side("a", java="21.0.8")]) == ["java"]
    assert preflight.version_differences(driver, [side("a", numpy="2.4.5")]) == ["numpy"]
    assert preflight.version_differences(driver, [side("a", spark="4.3.1")]) == ["spark"]
    assert preflight.version_differences(driver, [side("a", **{"scikit-learn": "missing"})]) == ["scikit-learn"]


def test_the_table_marks_what_differs():
    text = preflight.version_table([side("driver"), side("host/12", numpy="1.26.0")], ["numpy"])
    header, driver, executor = text.splitlines()
    assert "numpy*" in header
    assert "python*" not in header
    assert driver.split() == ["driver", *SAME.values()]
    assert executor.index("1.26.0") == driver.index("2.4.6") == header.index("numpy*")


@pytest.mark.spark
def test_a_local_session_fits_itself(spark):
    driver, executor = preflight.check(spark)
    assert driver.name == "driver"
    assert executor.versions == driver.versions
    # The state of the executor's machine goes into the records of a run.
    assert executor.state["at"] > 1.7e9
    assert len(executor.state["load_average"]) == 3
    assert executor.state["threads"]["OMP_NUM_THREADS"] == "1"
    assert driver.state == {}


@pytest.mark.spark
def test_another_python_in_a_worker_is_shown_in_one_table(spark, tmp_path, monkeypatch):
    other = tmp_path / "python"
    other.write_text(
        "#!/bin/sh\nwhile read -r row; do "
        """echo '{"python": "3.9.1", "java": "17.0.1", "spark": "4.3.0", "host": "w", "executor": "w/7"}'; done\n"""
    )
    other.chmod(0o755)
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(other))
    with pytest.raises(MismatchError) as error:
        preflight.check(spark)
    line, header, driver, executor = str(error.value).splitlines()
    assert line.startswith("the executors differ from the driver in python, ")
    assert str(other) in line
    assert executor.split()[:2] == ["w/7", "3.9.1"]
    assert executor.split()[-1] == "missing"  # scikit-learn
    assert driver.split()[1] == sys.version.split()[0]
    assert "python*" in header


@pytest.mark.spark
def test_no_python_at_all_in_a_worker(spark, monkeypatch):
    monkeypatch.setattr(spark.sparkContext, "pythonExec", "/nowhere/python3")
    with pytest.raises(MismatchError, match=r"(?s)/nowhere/python3.*missing"):
        preflight.check(spark)


@pytest.mark.parametrize("cores", [[1], [1, 1], [1, 1, 2], [1, 1, 2, 2]])
def test_where_the_number_of_executors_is_not_known_their_cores_are_waited_for(cores, monkeypatch):
    """One more each time that they are counted; the driver has cores too, which do not count."""
    seen, clock = [], itertools.count()

    class Store:
        def executorList(self, active):
            seen.append(min(len(seen) + 1, len(cores)))
            there = [("driver", 9), *enumerate(cores[: seen[-1]])]
            made = [SimpleNamespace(id=lambda n=n: str(n), totalCores=lambda c=c: c) for n, c in there]
            return SimpleNamespace(size=lambda: len(made), apply=made.__getitem__)

    context = SimpleNamespace(statusStore=Store)
    Store.__init__ = lambda self: None
    session = SimpleNamespace(sparkContext=SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: context)))
    monkeypatch.setattr(preflight, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None))
    preflight.wait_for_cores(session, 4, seconds=6)
    assert seen == ([1, 2, 3] if sum(cores) >= 4 else [1, *[len(cores)] * 4])


def test_spark_connect_is_refused_in_one_line():
    session = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session"})()
    with pytest.raises(ClusterError, match="Spark Connect shows no executors: check a session of classic Spark"):
        preflight.check(session)


@pytest.mark.spark
def test_executors_that_do_not_come(spark):
    with pytest.raises(ClusterError, match=r"1 of 3 executors came in 0\.5 seconds: .*free cores.*driver at 127"):
        preflight.wait_for_executors(spark, 3, seconds=0.5)


@pytest.mark.parametrize("dynamic", ["true", "false", None])
def test_executors_that_dynamic_allocation_has_let_go_are_asked_for(dynamic, monkeypatch):
    """None is there, and by themselves they would come for a job, of which the check has none before they are there."""
    asked = []
    context = SimpleNamespace(
        getConf=lambda: {"spark.dynamicAllocation.enabled": dynamic},
        _jsc=SimpleNamespace(sc=lambda: SimpleNamespace(requestExecutors=asked.append)),
    )
    monkeypatch.setattr(preflight, "_executors", lambda spark: 0)
    monkeypatch.setattr(preflight, "wait_for_executors", lambda *_: None)
    monkeypatch.setattr(preflight, "driver_versions", lambda spark: side("driver"))
    monkeypatch.setattr(preflight, "executor_versions", lambda spark: [side("a"), side("b")])
    assert len(preflight.check(SimpleNamespace(sparkContext=context), executors=2)) == 3
    assert asked == ([2] if dynamic == "true" else [])


class Master:
    """Stands in for a session on a standalone master that shows this state."""

    def __init__(self, monkeypatch, state, needed="2"):
        self.conf = {PAGES: "http://master", "spark.cores.max": needed}
        self.sparkContext = self
        self.applicationId = "app-1"
        monkeypatch.setattr(preflight, "master_state", lambda pages: state)

    def getConf(self):
        return self.conf


def test_a_master_with_too_few_cores_is_named(monkeypatch):
    worker = {"state": "ALIVE", "cores": 1}
    said = preflight.find_missing_cores(Master(monkeypatch, {"workers": [worker], "activeapps": []}))
    assert said == "2 cores were asked for, but the master has 1 workers with 1 cores"
    dead = {"state": "DEAD", "cores": 1}
    assert preflight.find_missing_cores(Master(monkeypatch, {"workers": [worker, dead]})) == said
    assert preflight.find_missing_cores(Master(monkeypatch, {"workers": [worker, worker]})) is None
    assert preflight.find_missing_cores(Master(monkeypatch, None)) is None


def test_cores_taken_by_others_are_named_and_our_own_do_not_count(monkeypatch):
    workers = [{"state": "ALIVE", "cores": 1}] * 2
    ours, other = {"id": "app-1", "cores": 2}, {"id": "app-0", "cores": 1}
    assert preflight.find_missing_cores(Master(monkeypatch, {"workers": workers, "activeapps": [ours]})) is None
    said = preflight.find_missing_cores(Master(monkeypatch, {"workers": workers, "activeapps": [ours, other]}))
    assert said == "2 cores were asked for, but 1 of the 2 there are taken by other applications"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("x\nIllegalStateException: Expected SaslMessage, received something else", "does not know its secret"),
        ("Failed to connect to master h:7077", "no master answers"),
        (
            "INFO SecurityManager: authentication disabled; ui acls disabled\nERROR: All masters are unresponsive!",
            "no master answers",
        ),
        ("INFO SecurityManager: authentication disabled; x\nAuthentication failed", "does not know its secret"),
        ("", "without a word"),
        ("java.io.IOException: the cause", "the cause"),
    ],
)
def test_a_session_that_does_not_start_has_its_reason(tmp_path, log, reason):
    (tmp_path / "log").write_text(log)
    assert reason in preflight.explain_log(tmp_path / "log")


def test_the_probe_needs_nothing_but_an_old_python():
    done = subprocess.run(
        ["sh", "-c", preflight.SHELL, sys.executable, preflight.PROBE],
        input='{"java": "17", "spark": "4.3.0"}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert set(preflight.COMPARED) <= set(found)
    assert found["java"] == "17"


@pytest.mark.parametrize(
    ("limit", "said"), [(0.1, "did nothing useful in 0.1 seconds"), (300, "no Spark session on local")]
)
def test_a_check_that_takes_too_long_or_dies_leaves_nothing(tmp_path, monkeypatch, limit, said):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(preflight, "LIMIT_SECONDS", limit)
    # Without a Java, Spark ends at once.
    nowhere = Java(tmp_path / "nowhere", 17, "test")
    with pytest.raises(ClusterError, match=said):
        preflight.run_preflight(Cluster("local[1]"), 1, nowhere, tmp_path / "logs" / "preflight.log")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("workers", [2, None], ids=["ours", "a user's"])
def test_a_cluster_of_a_users_own_keeps_its_java_options(tmp_path, monkeypatch, workers):
    asked = []
    monkeypatch.setattr(preflight, "write_all", lambda _, text: asked.append(json.loads(text)))  # so it ends at once
    cluster = Cluster("spark://host:7077", {"spark.executor.memory": "2g"}, workers, 1)
    with pytest.raises(ClusterError):
        preflight.run_preflight(cluster, 1, Java(tmp_path, 17, "test"), tmp_path / "preflight.log")
    options = {name for name in asked[0]["conf"] if "JavaOptions" in name}
    assert options == (set() if workers is None else set(QUICK_CONF))
    assert asked[0]["conf"]["spark.executor.memory"] == "2g"
