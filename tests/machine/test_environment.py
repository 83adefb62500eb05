# SPDX-License-Identifier: Apache-2.0
"""What is recorded of the machine and of the commit: that of the suite's own repository, or a reason why not."""

import os
import shutil
import subprocess

import psutil
import pytest

from suite.machine import environment

UNKNOWN = {"commit": None, "dirty": None}


def git(folder, *words):
    named = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *named, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def outer(tmp_path):
    """A repository with a commit."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "outer")
    return tmp_path


def test_files_unpacked_inside_of_another_repository_have_no_commit(outer, monkeypatch):
    (outer / "foldout").mkdir()
    monkeypatch.setattr(environment, "ROOT", outer / "foldout")
    assert environment.revision() == UNKNOWN
    assert environment.why_no_revision() == "this folder is no clone"
    monkeypatch.setattr(environment, "ROOT", outer)
    assert environment.revision() == {"commit": git(outer, "rev-parse", "HEAD"), "dirty": False}
    assert environment.why_no_revision() is None


def test_the_repository_of_a_git_hook_is_not_taken_for_ours(outer, tmp_path_factory, monkeypatch):
    ours = tmp_path_factory.mktemp("ours")
    git(ours, "init", "-q")
    git(ours, "commit", "-q", "--allow-empty", "-m", "ours")
    monkeypatch.setattr(environment, "ROOT", ours)
    commit = git(ours, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outer / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(outer))
    assert environment.revision()["commit"] == commit
    assert environment.repository_of(ours).samefile(ours)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to another user")
def test_what_git_refuses_is_told_in_its_own_words(outer, monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for path in (outer, *outer.rglob("*")):
        shutil.chown(path, 12345)
    monkeypatch.setattr(environment, "ROOT", outer)
    assert environment.revision() == UNKNOWN
    said = environment.why_no_revision()
    assert "dubious ownership" in said
    assert "git config --global --add safe.directory" in said
    assert "\n" not in said
    with pytest.raises(environment.GitError, match="dubious ownership"):
        environment.repository_of(outer)


def test_where_there_is_no_repository_or_no_git_the_reason_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.repository_of(tmp_path) is None
    assert environment.why_no_revision() == "this folder is no clone"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.revision() == UNKNOWN
    assert environment.why_no_revision().startswith("there is no `git` on the PATH")


@pytest.mark.parametrize("why", [NotImplementedError("can't find current frequency file"), PermissionError()])
def test_a_frequency_that_cannot_be_read_is_none(why, monkeypatch):
    def refuse():
        raise why

    monkeypatch.setattr(psutil, "cpu_freq", refuse, raising=False)
    assert environment.machine_load()["mhz"] is None


def test_limits_of_a_nested_group_count(tmp_path, monkeypatch):
    """As of a systemd scope, or a job of SLURM: they stand in its own folder and in those around it."""
    own = tmp_path / "groups" / "user.slice" / "job"
    own.mkdir(parents=True)
    (tmp_path / "self").write_text("0::/user.slice/job\n")
    monkeypatch.setattr(environment, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(environment, "CGROUP_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert environment.cores() == 16
    (own / "cpu.max").write_text("max 100000\n")
    (own.parent / "cpu.max").write_text("300000 100000\n")
    (own / "memory.max").write_text(f"{2**30}\n")
    (own.parent / "memory.max").write_text(f"{2**31}\n")
    assert environment.cores() == 3
    assert environment.memory_gib() == 1.0
    (tmp_path / "self").write_text("0::/../../elsewhere\n")
    assert environment.cores() == 16


def test_what_git_is_told_to_trace_is_none_of_its_words(outer, monkeypatch):
    monkeypatch.setenv("GIT_TRACE", "1")
    with pytest.raises(environment.GitError) as caught:
        environment.ask_git(outer, "rev-parse", "--verify", "--quiet", "no-such-revision")
    assert str(caught.value) == ""
