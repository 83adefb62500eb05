# SPDX-License-Identifier: Apache-2.0
"""The doctor: each thing that is wrong is named, with what to do about it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from suite import doctor as module
from suite.cli import main
from suite.cluster.description import ClusterError
from suite.doctor import Check, checks, doctor
from suite.machine.environment import ROOT
from suite.spark import shadow
from suite.spark.shadow import foreign_pyspark


def found(what: str, master: str | None = None) -> Check:
    return next(finding for finding in checks(master) if finding.what == what)


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    def none():
        raise ClusterError("no `docker` on the PATH: install it")

    monkeypatch.setattr(module, "find_engine", none)


@pytest.mark.parametrize(("master", "mark"), [(None, "note"), ("local[2]", "note"), ("compose", "wrong")])
def test_docker_is_missed_only_by_who_asks_for_containers(master, mark):
    finding = found("Docker", master)
    assert finding.mark == mark
    assert finding.remedy == "no `docker` on the PATH: install it"


def test_a_master_that_does_not_answer_is_named():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        master = f"spark://127.0.0.1:{nobody.getsockname()[1]}"
        finding = found("master", master)
        assert finding.mark == "wrong"
        assert master in finding.found
        nobody.listen()
        assert found("master", master).mark == "ok"


def test_other_packages_than_the_lock_has_are_a_note(monkeypatch):
    installed = module.environment.versions()
    monkeypatch.setattr(module.environment, "versions", lambda: {**installed, "numpy": "1.0"})
    finding = found("packages")
    assert finding.mark == "note"
    assert "numpy 1.0 (lock: " in finding.found
    assert "tox" in finding.remedy


def test_a_machine_without_semaphores_is_not_ready(monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied")

    context = SimpleNamespace(Semaphore=refuse)
    monkeypatch.setattr(module.environment.multiprocessing, "get_context", lambda kind: context)
    finding = found("processes")
    assert (finding.mark, finding.found) == ("wrong", "no semaphore can be made (Permission denied)")
    assert "/dev/shm has to be there" in finding.remedy


def test_a_missing_package_is_wrong_and_decides_the_exit_code(monkeypatch, capsys):
    installed = module.environment.versions()
    monkeypatch.setattr(module.environment, "versions", lambda: {**installed, "numpy": None})
    assert doctor() == 1
    assert "missing: numpy" in capsys.readouterr().out


def test_what_fits_is_said_to_be_ready(capsys):
    assert doctor() == 0
    assert capsys.readouterr().out.endswith("ready: python -m tox -e bench\n")


def test_another_system_is_one_line_and_wrong_usage():
    code = "import runpy, sys; sys.platform = 'win32'; runpy.run_module('suite', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: foldout runs on Linux and macOS")


def test_a_master_that_spark_cannot_know_is_wrong_usage(capsys):
    assert main(["doctor", "--master", "junk"]) == 2
    assert "'junk' is none that Spark knows" in capsys.readouterr().err


def test_what_is_odd_about_a_machine_is_a_note_and_hinders_nothing(monkeypatch, tmp_path):
    def unknown(name):
        raise OSError("Name or service not known")

    monkeypatch.setattr(module.socket, "gethostbyname", unknown)
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(module, "is_utf8", lambda name: False)
    monkeypatch.setattr(module, "machine_authorities", lambda: [])
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "mäppchen"))
    (tmp_path / "mäppchen").mkdir()
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1g")
    for what, words in {
        "network": "does not resolve",
        "home": "cannot be written",
        "proxy": "HTTPS_PROXY is set",
        "temporary": "mäppchen",
        "variables": "JAVA_TOOL_OPTIONS",
    }.items():
        finding = found(what)
        assert finding.mark == "note"
        assert words in finding.found
        assert finding.remedy
        assert "secret" not in finding.found + finding.remedy


def test_without_a_home_the_doctor_says_so(monkeypatch, tmp_path):
    def nobody(_):
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    finding = found("home")
    assert (finding.mark, finding.found) == ("note", "there is none")
    assert str(tmp_path) in finding.remedy


@pytest.mark.parametrize("name", ["a b", "mäppchen"])
def test_an_odd_name_of_the_temporary_folder_does_no_harm(name, monkeypatch, tmp_path):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / name))
    finding = found("temporary")
    assert (finding.mark, finding.found) == ("ok", f"{tmp_path / name}: its name does no harm")


@pytest.mark.skipif(not hasattr(os, "ST_NOEXEC"), reason="this system does not tell")
def test_a_temporary_folder_from_which_nothing_runs_is_a_finding(monkeypatch):
    monkeypatch.setattr(module.os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC))
    finding = found("temporary")
    assert finding.mark == "note"
    assert "noexec" in finding.found
    assert "TMPDIR" in finding.remedy


def test_a_pyspark_that_is_imported_in_place_of_the_installed_one_is_named(monkeypatch, tmp_path, capsys):
    assert foreign_pyspark() is None
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").touch()
    (tmp_path / "pyspark" / "version.py").write_text("__version__: str = '3.5.1'")
    spec = SimpleNamespace(origin=str(tmp_path / "pyspark" / "__init__.py"))
    monkeypatch.setattr(shadow.importlib.util, "find_spec", lambda name: spec)
    said = foreign_pyspark()
    assert said.startswith(f"{tmp_path}/pyspark/__init__.py is imported, which is 3.5.1 and not ")
    assert main(["bench", "udf_inference"]) == 2
    assert capsys.readouterr().err == f"error: {said}: {shadow.REMEDY}\n"
    monkeypatch.undo()
    monkeypatch.setattr(module, "find_engine", lambda: SimpleNamespace(cores=1, memory_gib=1, compose=["docker"]))
    monkeypatch.setattr(module, "foreign_pyspark", lambda: said)
    assert [(one.mark, one.found) for one in checks() if one.what == "Spark"][1] == ("wrong", said)


def test_a_pyspark_that_is_imported_and_cannot_be_is_named(tmp_path):
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").touch()
    (tmp_path / "pyspark" / "version.py").write_text("__version__ = '3.5.1'")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "suite", "doctor"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/pyspark/__init__.py is imported, which is 3.5.1 and not ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "master", ["spark://h:abc", "spark://h:99999", "spark://h", "spark://a:7077,b:x", "spark://[::1:7077"]
)
def test_a_master_without_a_sound_port_is_wrong_usage(master, capsys):
    assert main(["doctor", "--master", master]) == 2
    said = capsys.readouterr().err
    assert "is not HOST:PORT" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("host", ["x" * 64, "[x]", "a..b"])
def test_a_host_with_an_impossible_name_does_not_answer(host):
    finding = found("master", f"spark://{host}:7077")
    assert (finding.mark, bool(finding.remedy)) == ("wrong", True)


def test_of_several_masters_one_has_to_answer():
    with socket.socket() as leader:
        leader.bind(("127.0.0.1", 0))
        leader.listen()
        assert found("master", f"spark://[::1]:1,127.0.0.1:{leader.getsockname()[1]}").mark == "ok"


def test_a_master_that_is_not_asked_is_said_to_be_so():
    assert (found("master", "yarn").mark, found("master", "k8s://https://h:6443").mark) == ("note", "note")


def test_a_name_of_this_host_that_cannot_be_looked_up_is_a_note(monkeypatch):
    monkeypatch.setattr(module.socket, "gethostname", lambda: "x" * 64)
    assert found("network").mark == "note"
