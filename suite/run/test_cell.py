# SPDX-License-Identifier: Apache-2.0
"""The test that a child process runs: one parametrised test, a cell each.

Started by `child_process.py` as `python -m pytest test_cell.py`, not by hand. The group of cells comes in the file that
`FOLDOUT_GROUP` names; what happens is told to the parent through a pipe, and each finished cell is appended to
`records.jsonl` by this process itself.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite import records
from suite.machine import environment
from suite.plan.cells import Cell
from suite.plan.scenario import one_line
from suite.run.assignment import Assignment
from suite.run.measure import CellRunner, InvalidCellError
from suite.spark.failures import cause

GROUP = Assignment.parse(Path(os.environ["FOLDOUT_GROUP"]).read_text())


def tell(**news: Any) -> None:
    """One line to the parent."""
    os.write(GROUP.pipe, (json.dumps(news) + "\n").encode())


TURNS = threading.Semaphore(0)


def turn(cell: Cell) -> None:
    """Wait until it is this process's turn; at once where no other shares the machine with it."""
    if GROUP.turns:
        tell(turn=cell.id)
        TURNS.acquire()


def end_with_the_parent() -> None:
    """Leave as soon as the parent is gone, however it went: it holds the other end of our stdin.

    What it writes there is a byte for each turn.

    The JVM watches this process in the same way, and Spark's Python workers the JVM.
    """

    def watch() -> None:
        while said := os.read(0, 1024):
            TURNS.release(len(said))
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


@pytest.fixture(scope="module")
def worker() -> Iterator[CellRunner]:
    """The state that the group's cells share."""
    os.set_inheritable(GROUP.pipe, False)
    end_with_the_parent()
    worker = CellRunner(GROUP)
    tell(driver=environment.process_state())
    yield worker
    tell(driver=environment.process_state())
    if found := worker.executors():
        tell(executors=found)
    worker.stop()


@pytest.mark.parametrize(("position", "cell"), list(enumerate(GROUP.cells)), ids=[cell.id for cell in GROUP.cells])
def test_cell(worker: CellRunner, position: int, cell: Cell, benchmark: Any) -> None:
    """Run a cell and write its record."""
    tell(started=cell.id)
    try:
        worker.start_session(cell)
        # A session takes its time to start, which is none of the cell's: the deadline counts from here.
        tell(ready=cell.id)
        record = worker.run(cell, position, benchmark, lambda: turn(cell))
    except InvalidCellError as error:
        record = {**worker.record(cell, position, "invalid", str(error)), "answer": error.answer}
    except Exception as error:  # noqa: BLE001 - whatever a recipe raises is its result
        traceback.print_exc()
        record = worker.record(cell, position, "failed", cause(error) or one_line(error))
    records.append(Path(GROUP.directory) / "records.jsonl", [record])
    worker.remember(record)
    tell(done=record)
    if record["status"] == "failed" and not worker.recover():
        pytest.exit("the JVM is gone", returncode=1)
