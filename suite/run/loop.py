# SPDX-License-Identifier: Apache-2.0
"""Runs a plan: todo = plan - good records. A first run, a retry, a resume, the rest after a crash are one loop."""

from __future__ import annotations

import fcntl
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from suite import records
from suite.cluster.description import Cluster
from suite.errors import UsageError
from suite.plan.cells import Cell, group_cells
from suite.records import OUT_OF_TIME, Record
from suite.run.assignment import Assignment
from suite.run.child_process import Child, start_child
from suite.run.plan_file import hash_file
from suite.run.progress import Progress
from suite.run.turns import Turn, Turns
from suite.spark.java import Java

GRACE_SECONDS = 30.0  # seconds that a child gets to stop its session when its last cell is done


@dataclass(frozen=True)
class PlannedRun:
    """A run folder and what is to be run in it.

    With `turns`, its processes wait for their turn before each timed call and after the last. With `compared`, it is
    one side of a comparison. `warm_up` counts the untimed passes over the cells of a process, in which a variant is
    called until it is steady or has taken `warm_seconds`. `data` is the folder of the user's own data. `hashes` has the
    SHA-256 of the files that have to stay as they are; `compare` looks after its own.
    """

    directory: Path
    name: str
    java: Java
    files: Sequence[Path]
    cells: Sequence[Cell]
    cluster: Cluster
    timeout: float
    python: str = sys.executable
    turns: bool = False
    compared: bool = False
    warm_up: int = 1
    warm_seconds: float = 1.0
    data: Path | None = None
    hashes: Mapping[Path, str] = field(default_factory=dict)

    @property
    def records(self) -> Path:
        """The one store."""
        return self.directory / "records.jsonl"

    def good_ids(self) -> set[str]:
        """Return the ids of the cells that need not run again."""
        return {record.id for record in records.read(self.records) if record.status == "ok"}

    def changed_file(self) -> Path | None:
        """Return a file that is not what it was when the run began; None where all are."""
        return next((path for path, sha256 in self.hashes.items() if hash_file(path) != sha256), None)

    def assignment(self, name: str, cells: list[Cell]) -> Assignment:
        """Make the assignment of a child."""
        return Assignment(
            name=name,
            run=self.name,
            directory=str(self.directory),
            master=self.cluster.url,
            conf=self.cluster.conf,
            files=[str(file) for file in self.files],
            cells=cells,
            pipe=-1,
            turns=self.turns,
            compared=self.compared,
            warm_up=self.warm_up,
            warm_seconds=self.warm_seconds,
            data=str(self.data) if self.data else None,
        )


@contextmanager
def lock_run_folder(directory: Path) -> Iterator[None]:
    """Keep a second `bench` out of the folder; the lock goes with the process, however it ends."""
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another bench is writing to {directory}: wait for it, or name another --out") from error
        except OSError as error:
            raise UsageError(
                f"{directory} cannot be kept from a second bench ({error.strerror}): name an --out on another disk"
            ) from error
        yield


class Loop:
    """Runs every cell that has no good record yet, and makes sure that each gets a record.

    Parameters
    ----------
    run : PlannedRun
        Its folder exists.
    say : callable
        Takes messages on the progress, a piece of a line at a time.
    minutes : float, optional
        Blocks that would end later than this after the start are left out, all but the first.
    """

    def __init__(self, run: PlannedRun, say: Callable[[str], None], minutes: float | None = None):
        good = run.good_ids()
        self.run = run
        self.seconds = None if minutes is None else 60 * minutes
        self.todo = [cell for cell in run.cells if cell.id not in good]
        self.settled: set[str] = set()
        self.running: Cell | None = None
        self.doing = "its process started"  # the last that was heard of it
        self.drivers: dict[str, Any] = {}  # the state of the first child before its cells, and of the last one after
        self.executors: dict[str, Any] = {}  # of a cluster, at the end of the last session
        self.progress = Progress(run.cells, self.todo, say, self.seconds)

    def execute(self) -> None:
        """Run what has no good record; where a signal interrupts it, call `give_up`."""
        begin = time.monotonic()
        longest = 0.0
        for block in dict.fromkeys(cell.block for cell in self.todo):
            begun = time.monotonic()
            if self.seconds and longest and begun - begin + longest > self.seconds:
                self.leave_out()
                return
            for _ in self.run_block(block):
                pass  # a loop that runs alone has every turn
            longest = max(longest, time.monotonic() - begun)

    def run_block(self, block: int) -> Turns:
        """Run what has no good record in a block; yields as `Turns` says."""
        todo = [cell for cell in self.todo if cell.block == block]
        self.write([cell for cell in todo if cell.skip], "skipped", lambda cell: str(cell.skip))
        for group in group_cells(todo):
            while waiting := self.without_record(group):
                yield from self.run_group(waiting)

    def leave_out(self) -> None:
        """Write records of the blocks for which there is no time."""
        why = f"{OUT_OF_TIME} within {(self.seconds or 0) / 60:g} minutes"
        self.write(self.without_record(self.todo), "skipped", lambda _: why, aloud=False)

    def give_up(self, why: str) -> None:
        """Write the record of the cell that was running, and of the cells that have not started."""
        if self.running:
            self.write([self.running], "failed", lambda _: why)
        self.write(self.without_record(self.todo), "skipped", lambda _: f"not started: {why}")

    def without_record(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells without a record of this attempt."""
        return [cell for cell in cells if cell.id not in self.settled]

    def write(self, cells: Sequence[Cell], status: str, reason: Callable[[Cell], str], *, aloud: bool = True) -> None:
        """Write records of cells that the child could not write itself; call it only while no child is alive."""
        # The child may have written a result in its last moment: that counts.
        good = self.run.good_ids()
        lost = [cell for cell in cells if cell.id not in good]
        made = [Record.of_cell(asdict(cell), run=self.run.name, status=status, reason=reason(cell)) for cell in lost]
        if made:
            records.append(self.run.records, made)
        self.settled.update(cell.id for cell in cells)
        self.running = None
        for record in made if aloud else ():
            self.progress.end_cell(record)

    def run_group(self, cells: list[Cell]) -> Turns:
        """Run cells in one child until it has run them, dies, or is silent for longer than the deadline."""
        if changed := self.run.changed_file():
            # Each process imports the files anew: what it measures would be another program.
            why = f"not started: {changed.name} has changed since the run began: restore it and --resume, or start anew"
            left = [cell for cell in self.without_record(self.todo) if not cell.skip]
            self.write(left, "failed", lambda _: why, aloud=False)
            return
        name = f"b{cells[0].block}-{'nospark' if cells[0].session is None else f'spark{cells[0].session}'}"
        log = self.run.directory / "logs" / f"{name}.log"
        before = len(self.settled)
        variables = {**self.run.cluster.environment, "JAVA_HOME": str(self.run.java.home)}
        with start_child(self.run.assignment(name, cells), self.run.python, variables, log) as process:
            if self.run.turns:
                yield None
            late = yield from self._listen(process, cells)
            given = f"{self.run.timeout:g} s"
            how = f"no news for {given} since {self.doing} (--timeout gives more)" if late else process.how_it_ended()
        # A child may end between two cells, because its JVM died with the last one; a fresh child runs the rest. But
        # each child must settle a cell, or this would go on for ever.
        stuck = self.running or (self.without_record(cells)[0] if len(self.settled) == before else None)
        if stuck:
            self.write([stuck], "timeout" if late else "failed", lambda _: f"{how}: see logs/{log.name}")

    def _listen(self, process: Child, cells: list[Cell]) -> Generator[Turn | None, None, bool]:
        """Follow the child to its end; return True where it was silent for too long."""
        turns: Counter[str] = Counter()
        by_id = {cell.id: cell for cell in cells}
        while True:
            through = not self.without_record(cells)
            try:
                news = process.news(GRACE_SECONDS if through else self.run.timeout)
            except EOFError:
                return False
            if news is None:
                return not through
            if "visit" in news:
                self.running, self.doing = by_id[news["visit"]], "its session began to start"
                self.progress.visit(self.running, news["number"], last=news["last"])
            elif "ready" in news:
                self.doing = "its data began to be made"
            elif "calls" in news:
                self.doing = "its first call began" if news["number"] == 0 else "a later call began"
            elif "turn" in news:
                cell = by_id[news["turn"]]
                yield Turn(cell.order, turns[cell.id])
                process.go_on()
                if turns[cell.id] == cell.calls:
                    yield None
                turns[cell.id] += 1
            elif "driver" in news:
                self.drivers = {"before": self.drivers.get("before", news["driver"]), "after": news["driver"]}
            elif "executors" in news:
                self.executors = news["executors"]
            elif "done" in news:
                record = Record.from_json(news["done"])
                self.settled.add(record.id)
                self.running = None
                self.progress.end_cell(record)
