# SPDX-License-Identifier: Apache-2.0
"""The doctor: each thing that is wrong is named, with what to do about it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from suite import doctor as module
from suite.cli import main
from suite.cluster.description import ClusterError
from suite.doctor import Check, checks, doctor
from suite.machine.environment import ROOT


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
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "mäppchen"))
    (tmp_path / "mäppchen").mkdir()
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1g")
    for what, words in {
        "network": "does not resolve",
        "home": "cannot be written",
        "temporary": "mäppchen",
        "variables": "JAVA_TOOL_OPTIONS",
    }.items():
        finding = found(what)
        assert finding.mark == "note"
        assert words in finding.found
        assert finding.remedy
