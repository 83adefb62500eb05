# SPDX-License-Identifier: Apache-2.0
"""Processes that are started in a scope end with it, however it ends, and leave nothing."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from suite.machine import reaper
from suite.machine.processes import child_environment, open_scope

ROOT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *words]


def wait_for(look, seconds=30):
    """What `look` sees in the end: something, or nothing within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def with_variable(name: str, value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


# Three that sleep: in the session, out of its process group, and out of the session.
FAMILY = """
    import os, subprocess, sys, time
    for how in ({}, {"process_group": 0}, {"start_new_session": True}):
        subprocess.Popen(["sleep", "600"], **how)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_all_that_was_started_goes_with_the_block():
    with open_scope() as scope:
        process = scope.start(python(FAMILY), child_environment(), stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        (scope.folder / "file").write_text("x")
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        assert len(family) == 4
    assert not any(map(is_alive, family))
    assert process.returncode == -signal.SIGKILL
    assert process.stdout.closed
    assert not scope.folder.exists()


def test_a_process_without_the_scope_in_its_environment_goes_with_its_session():
    with open_scope() as scope:
        process = scope.start(
            python('import subprocess; print(subprocess.Popen(["/bin/sleep", "600"], env={}).pid)'),
            child_environment(),
            stdout=subprocess.PIPE,
        )
        child = psutil.Process(int(process.stdout.readline()))
        # Its parent has gone before.
        assert process.wait() == 0
        assert is_alive(child)
    assert not is_alive(child)


def test_a_process_that_ends_politely_is_given_the_time(tmp_path):
    polite = """
        import pathlib, signal, sys, time
        def leave(*_):
            pathlib.Path(sys.argv[1]).touch()
            sys.exit(7)
        signal.signal(signal.SIGTERM, leave)
        print("ready", flush=True)
        time.sleep(600)
    """
    with open_scope(grace=60) as scope:
        process = scope.start(python(polite, str(tmp_path / "bye")), child_environment(), stdout=subprocess.PIPE)
        process.stdout.readline()
    assert (process.returncode, (tmp_path / "bye").exists()) == (7, True)


def test_a_process_that_ignores_the_request_is_killed():
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    with open_scope(grace=0.1) as scope:
        process = scope.start(python(deaf), child_environment(), stdout=subprocess.PIPE)
        process.stdout.readline()
    assert process.returncode == -signal.SIGKILL


def test_an_exception_ends_the_scope_too():
    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_scope() as scope:
        fail(process := scope.start(["sleep", "600"], child_environment()))
    assert process.returncode == -signal.SIGKILL
    assert not scope.folder.exists()


def test_a_command_that_is_not_there_leaves_nothing():
    with pytest.raises(FileNotFoundError), open_scope() as scope:
        scope.start(["/no/such/program"], child_environment())
    assert not scope.folder.exists()


def test_where_the_guardian_was_killed_we_do_its_work():
    with open_scope() as scope:
        process = scope.start(python(FAMILY), child_environment(), stdout=subprocess.PIPE)
        process.stdout.readline()
        family = psutil.Process(process.pid).children()
        scope._guardian.kill()
        scope._guardian.wait()
        another = scope.start(["sleep", "600"], child_environment())
    assert not any(map(is_alive, family))
    assert (process.returncode, another.returncode) == (-signal.SIGKILL, -signal.SIGKILL)
    assert not scope.folder.exists()


# What a parent is about to do when it is killed.
MOMENTS = {
    "makes its folder": 'pathlib.Path, "mkdir"',
    "has started the process": 'psutil, "Process"',
    "works": 'os, "getloadavg"',
}
KILLED = """
    import os, pathlib, psutil, sys
    from unittest import mock
    from suite.machine.processes import child_environment, open_scope
    with mock.patch.object({moment}, lambda *_, **__: os.kill(os.getpid(), 9)), open_scope() as scope:
        scope.start(["sleep", "600"], child_environment())
        os.getloadavg()
"""


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_when_the_parent_is_killed_nothing_stays(tmp_path, moment):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "SCOPE_TEST": str(tmp_path), "PYTHONPATH": str(ROOT)}
    parent = subprocess.run(python(KILLED.format(moment=moment)), env=environment)
    assert parent.returncode == -signal.SIGKILL
    # The guardian is one of them.
    assert wait_for(lambda: not with_variable("SCOPE_TEST", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_session_has_now_is_left_alone(tmp_path):
    class Gone:
        """Stands for a leader that has ended, whose number another process has got."""

        def is_running(self):
            return False

    with open_scope() as scope:
        process = scope.start(["sleep", "600"], child_environment())
        leader = psutil.Process(process.pid)
        assert reaper.find_members(tmp_path, {leader.pid: leader}) == [leader]
        assert reaper.find_members(tmp_path, {leader.pid: Gone()}) == []
        assert reaper.find_members(tmp_path, {leader.pid: None}) == []


# Shared memory of each kind; prints what there is of it, and waits.
SHARING = """
    import multiprocessing, multiprocessing.shared_memory, os, sys, time
    import numpy
    from joblib import Parallel, delayed
    segment = multiprocessing.shared_memory.SharedMemory(create=True, size=10)
    lock = multiprocessing.get_context("spawn").Lock()
    print(segment.name, lock._semlock.name, flush=True)
    pool = Parallel(n_jobs=2, max_nbytes=10)
    def wait(numbers):
        os.write({pipe}, b"mapped\\n") if isinstance(numbers, numpy.memmap) else None
        time.sleep(600)
    pool(delayed(wait)(numpy.arange(1000)) for _ in range(2))
"""


@pytest.mark.skipif(not SHM.is_dir(), reason="shared memory is not a folder here")
@pytest.mark.parametrize("tracked", [True, False], ids=["with trackers", "trackers killed"])
def test_nothing_stays_in_shared_memory(tracked):
    def left(pid):
        return [path.name for path in SHM.iterdir() if re.search(rf"(folder_|loky-){pid}[_-]", path.name)]

    def named():
        return [name for name in names if (SHM / name).exists()]

    # As loky's workers have no other way to say that they have begun.
    begun = "__import__('tempfile').gettempdir() + '/begun'"
    code = SHARING.format(pipe=f"os.open({begun}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)")
    with open_scope() as scope:
        process = scope.start(python(code), child_environment(), stdout=subprocess.PIPE)
        segment, lock = process.stdout.readline().decode().split()
        names = [segment.removeprefix("/"), f"sem.{lock.removeprefix('/')}"]
        assert wait_for(lambda: (scope.folder / "begun").exists())
        assert len(named()) == 2
        assert {name.split("-")[0].split("_")[0] for name in left(process.pid)} == {"joblib", "sem.loky"}
        for tracker in psutil.Process(process.pid).children() if not tracked else ():
            if reaper.is_resource_tracker(tracker):
                tracker.kill()
    assert left(process.pid) == []
    # These have no process id in their name, so only their tracker knows them.
    assert named() == [] or not tracked
    for name in named():
        (SHM / name).unlink()


def test_variables_of_other_projects_are_not_handed_on(monkeypatch):
    foreign = (
        *("SPARK_HOME", "SPARK_CONF_DIR", "SPARK_REMOTE", "SPARK_TESTING", "PYSPARK_SUBMIT_ARGS", "PYSPARK_PIN_THREAD"),
        *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONOPTIMIZE", "PYTHONHOME"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONSAFEPATH"),
        *("COVERAGE_PROCESS_START", "COV_CORE_SOURCE", "JOBLIB_MULTIPROCESSING", "LOKY_MAX_CPU_COUNT"),
        *("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "HADOOP_CONF_DIR", "YARN_CONF_DIR"),
        *("BASH_ENV", "BASH_FUNC_module%%", "BASHOPTS", "SHELLOPTS"),
        *("SKLEARN_ASSUME_FINITE", reaper.SCOPE_VARIABLE),
    )
    welcome = ("HTTPS_PROXY", "no_proxy", "LANG", "LC_TIME", "PATH", "JAVA_HOME", "PYTHONPATH", "PYTHONUTF8")
    for name in (*foreign, *welcome, "SPARK_LOCAL_IP"):
        monkeypatch.setenv(name, "x")
    environment = child_environment()
    assert [name for name in foreign if name in environment] == []
    assert {environment[name] for name in (*welcome, "SPARK_LOCAL_IP")} == {"x"}


def test_who_has_no_home_gets_one(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert child_environment()["HOME"] == "/somewhere"
    monkeypatch.delenv("HOME")
    assert Path(child_environment()["HOME"]).is_dir()


def test_the_guardian_needs_nothing_of_the_suite():
    done = subprocess.run(
        [sys.executable, "-P", reaper.__file__, "/nonexistent/folder", "0"],
        stdin=subprocess.DEVNULL,
        cwd="/",
        env=child_environment() | {"PYTHONPATH": ""},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
