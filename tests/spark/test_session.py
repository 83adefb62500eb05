# SPDX-License-Identifier: Apache-2.0
"""What a session is started with, without starting one."""

import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pyspark import accumulators
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


@pytest.mark.parametrize("name", ["AccumulatorTCPServer", "AccumulatorServer"])  # today's, and PySpark 4.0's
def test_accumulators_need_no_name_of_this_machine(name, start, monkeypatch):
    plain = next(c for c in accumulators.AccumulatorTCPServer.__mro__ if c.__name__ != "OnLoopback")
    monkeypatch.delattr(accumulators, "AccumulatorTCPServer")
    monkeypatch.setattr(accumulators, name, plain, raising=False)
    start()
    start()
    server = getattr(accumulators, name)(("no such name", 0), None, "")
    server.server_close()
    assert server.server_address[0] == "127.0.0.1"
    assert type(server).__mro__[1] is plain  # put on once


def test_a_package_with_files_of_1970_is_shipped(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("x = 1\n")
    os.utime(tmp_path / "pkg" / "__init__.py", (0, 0))
    archive = session.zip_package(tmp_path / "pkg")
    done = subprocess.run(
        [sys.executable, "-c", "import pkg; print(pkg.x)"],
        env={**os.environ, "PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n", done.stderr


@pytest.mark.spark
def test_a_file_whose_path_has_a_hash_is_shipped(spark, tmp_path):
    folder = tmp_path / "C#"
    folder.mkdir()
    file = folder / "of_a_sharp_folder.py"
    file.write_text("x = 2\n")
    session.add_files(spark, [file])

    def imported(_):
        import of_a_sharp_folder

        return of_a_sharp_folder.x

    assert spark.sparkContext.parallelize([0], 1).map(imported).collect() == [2]
