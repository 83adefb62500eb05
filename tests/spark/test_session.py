# SPDX-License-Identifier: Apache-2.0
"""What a session is started with, without starting one."""

import os
import shlex
import sys
from types import SimpleNamespace

import pytest
from pyspark.find_spark_home import _find_spark_home

from suite.machine import environment
from suite.spark import session

GIB = 2**30


@pytest.mark.parametrize(
    ("machine", "container", "heap"),
    [(64, None, "8g"), (16, None, "4g"), (64, 3, "1g"), (64, 2, "1g"), (64, 1, "512m"), (4, 64, "1g")],
)
def test_the_heap_goes_by_the_memory_that_a_container_has(machine, container, heap, monkeypatch):
    monkeypatch.setattr(environment.psutil, "virtual_memory", lambda: SimpleNamespace(total=machine * GIB))
    monkeypatch.setattr(environment, "_memory_limits", lambda: [container * GIB if container else 2**63])
    assert session.driver_memory() == heap


class Builder:
    """Of a session that does not start."""

    def config(self, *_):
        return self

    def getOrCreate(self):
        return SimpleNamespace(sparkContext=SimpleNamespace(setLogLevel=lambda level: None))


@pytest.fixture
def start(monkeypatch):
    """Does what comes before the start of a session."""
    monkeypatch.setattr(session, "SparkSession", SimpleNamespace(builder=Builder()))
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        monkeypatch.setenv(name, "put back afterwards")
        monkeypatch.delenv(name)

    return lambda **conf: session.start_session(conf, [])


def test_the_spark_that_starts_is_pysparks_own_also_in_the_folder_of_another(start, monkeypatch, tmp_path):
    for folder in ("bin", "jars", "clone"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    monkeypatch.chdir(tmp_path / "clone")
    assert _find_spark_home() == str(tmp_path)
    start()
    assert _find_spark_home() == str(session.SPARK_HOME)


@pytest.mark.parametrize("name", ["plain", "two words", 'a"quote', "it's", "back\\slash", "50%"])
def test_options_of_java_are_read_as_they_were_meant(name):
    """Spark's launcher reads quotes and backslashes as a shell does within double quotes."""
    options = shlex.split(session.java_options(f"/tmp/{name}"))
    assert options[0] == f"-Djava.io.tmpdir=/tmp/{name}"
    assert options[1] == f"-XX:ErrorFile=/tmp/{name.replace('%', '%%')}/hs_err_pid%p.log"


def test_workers_run_the_python_that_a_setting_names(start):
    start()
    assert os.environ["PYSPARK_PYTHON"] == os.environ["PYSPARK_DRIVER_PYTHON"] == sys.executable
    start(**{"spark.pyspark.python": "/workers/python"})
    assert (os.environ["PYSPARK_PYTHON"], os.environ["PYSPARK_DRIVER_PYTHON"]) == ("/workers/python", sys.executable)


@pytest.mark.parametrize(
    ("master", "asked"),
    [
        ("local", "local[3]"),
        ("local[*]", "local[3]"),
        ("local[2,4]", "local[3,4]"),
        ("spark://a:1,b:1", "spark://a:1,b:1"),
    ],
)
def test_of_a_local_master_the_slots_are_replaced_and_how_often_a_task_may_fail_stays(master, asked, tmp_path):
    assert session.spark_conf(master, 3, tmp_path, {})["spark.master"] == asked
