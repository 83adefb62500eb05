# SPDX-License-Identifier: Apache-2.0
"""Benchmarks on real containers for tests to break. They are started as a user does, and watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from suite.cluster import compose
from suite.cluster.description import ClusterError
from suite.cluster.docker_engine import IMAGE, Engine, build_image, find_engine
from suite.cluster.image_build import ImageUnavailableError
from suite.cluster.ownership import one_shot_name, state_folder

ROOT = Path(__file__).resolve().parents[2]


SKIPPED = "tests on containers need more of this machine: "


def skip_outside_ci(error: ClusterError) -> NoReturn:
    """Containers cannot be had: tests on them are skipped with the reason and the remedy, but in CI they fail."""
    if os.environ.get("CI"):
        pytest.fail(f"CI has to run the tests on containers: {error}", pytrace=False)
    pytest.skip(f"{SKIPPED}{error}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give all tests that are skipped for want of containers one place, so that they are one line of the summary."""
    report = yield
    if isinstance(report.longrepr, tuple) and SKIPPED in report.longrepr[2]:
        report.longrepr = ("tests/cluster", None, report.longrepr[2])
    return report


@pytest.fixture(scope="session")
def engine() -> Engine:
    """A Docker engine."""
    try:
        return find_engine()
    except ClusterError as error:
        skip_outside_ci(error)


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built from the working tree. A build that fails by the tree's own fault fails the tests anywhere."""
    try:
        build_image(tmp_path_factory.mktemp("build") / "build.log")
    except ImageUnavailableError as error:
        skip_outside_ci(error)
    return IMAGE


def things(engine: Engine) -> set[str]:
    """Every container, volume and network that the engine has."""
    questions = (["ps", "-aq"], ["volume", "ls", "-q"], ["network", "ls", "-q"])
    return {name for words in questions for name in engine.ask(*words).split()}


class Bench:
    """`python -m suite bench --master compose` in a process of its own.

    Parameters
    ----------
    engine : Engine
    folder : Path
        Where its output and its log are written.
    arguments : str
        More arguments for `bench`, which runs one block of size smoke on two slots.
    variables : str
        More variables for its environment.
    """

    def __init__(self, engine: Engine, folder: Path, *arguments: str, **variables: str):
        self.engine = engine
        self.out = folder / "out"
        self.log = folder / "said"
        words = ["--master", "compose", "--workers", "2", "--slots", "2", "--size", "smoke", "--blocks", "1"]
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "suite", "bench", *arguments, *words, "--out", str(self.out)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
                start_new_session=True,
            )
        self.name = one_shot_name(self.process.pid)

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def error_lines(self) -> list[str]:
        """Return the lines of what it has printed that tell of an error."""
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    def until(self, what: str, look: Callable[[], Any], seconds: float = 420.0) -> Any:
        """Wait, while the bench runs, until `look` returns something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            assert self.process.poll() is None, f"ended before {what}: {self.said}"
            assert time.monotonic() < deadline, f"no {what} in {seconds} seconds: {self.said}"
            time.sleep(0.2)
        return seen

    def container(self, who: str) -> str | None:
        """Return the id of the container of a service, such as `worker 1`, or None where there is none."""
        found = {compose.container_state(one)[0]: one["Id"] for one in self.engine.containers(self.name)}
        return found.get(who)

    def working(self, mark: str, who: str = "worker 1") -> bool:
        """Whether tasks of a recipe have left at least two marks in a worker."""
        container = self.container(who)
        if container is None:
            return False
        listed = self.engine.ask("exec", container, "ls", "/var/spark", may_fail=True)
        return listed.count(f"{mark}-") >= 2

    def inside(self, who: str, *command: str) -> None:
        """Run a command in a container. The command may fail."""
        self.engine.ask("exec", str(self.container(who)), *command, may_fail=True)

    def signal(self, number: int) -> None:
        """Send a signal to the bench, as a terminal or a supervisor would."""
        self.process.send_signal(number)

    def end(self, seconds: float = 600.0) -> int:
        """Wait until it ends, at most so many seconds, and return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end in {seconds} seconds: {self.said}")

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the records that were copied out of the container, by variant."""
        lines = (self.out / "records.jsonl").read_text().splitlines()
        return {record["variant"]: record for record in map(json.loads, lines)}

    def planned(self) -> int:
        """Return how many cells were planned."""
        return len(json.loads((self.out / "plan.json").read_text())["cells"])


@pytest.fixture
def bench(engine: Engine, image: str, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A function that starts a bench. Whatever the test did, nothing of its benches may be left afterwards."""
    before = things(engine)
    started: list[Bench] = []

    def start(*arguments: str, **variables: str) -> Bench:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Bench(engine, folder, *arguments, **variables))
        return started[-1]

    yield start
    left = set()
    for one in started:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()
        left |= {compose.container_state(each)[0] for each in engine.containers(one.name)}
        compose.remove_cluster(engine, one.name)
        assert not state_folder(one.name).exists()
    assert left == set(), f"left behind: {started[-1].said}"
    assert things(engine) <= before
