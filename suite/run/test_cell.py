# SPDX-License-Identifier: Apache-2.0
"""The test that pytest runs in a child process: one parametrised test, once for each visit to a cell.

Started by `child_process.py` through pytest, not by hand. The cells come in the file that
`FOLDOUT_ASSIGNMENT` names; what happens is told to the parent through a pipe, and each finished cell is appended to
`records.jsonl` by this process itself.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from suite import records
from suite.errors import InvalidCellError
from suite.machine import environment
from suite.plan.cells import Cell
from suite.plan.scenario import one_line
from suite.plan.visits import Visit
from suite.records import Record
from suite.run.assignment import Assignment
from suite.run.measure import CellRunner
from suite.run.turns import ChildTurns
from suite.spark.failures import cause

ASSIGNMENT = Assignment.parse(Path(os.environ["FOLDOUT_ASSIGNMENT"]).read_text(encoding="utf-8"))


def tell(**news: Any) -> None:
    """Write a line to the parent."""
    os.write(ASSIGNMENT.pipe, (json.dumps(news) + "\n").encode())


TURNS = ChildTurns(tell)
VISITS = ASSIGNMENT.visits()
SETTLED: set[str] = set()  # ids of cells that have their record


def turn(cell: Cell) -> None:
    """Wait until it is this process's turn; at once where no other shares the machine with it."""
    if ASSIGNMENT.turns:
        TURNS.wait(cell.id)


@pytest.fixture(scope="module")
def runner() -> Iterator[CellRunner]:
    """What the cells share: session, data, reference answers."""
    os.set_inheritable(ASSIGNMENT.pipe, False)
    TURNS.watch_parent()
    runner = CellRunner(ASSIGNMENT)
    tell(driver=environment.process_state())
    yield runner
    tell(driver=environment.process_state())
    if found := runner.executors():
        tell(executors=found)
    runner.stop()


@pytest.mark.parametrize(
    "visit", VISITS, ids=[f"{visit.number}-{ASSIGNMENT.cells[visit.position].id}" for visit in VISITS]
)
def test_cell(runner: CellRunner, visit: Visit, benchmark: Any) -> None:
    """Visit a cell, and write its record if that was the last time, or it is of no use."""
    cell = ASSIGNMENT.cells[visit.position]
    if cell.id in SETTLED:
        return
    tell(visit=cell.id, number=visit.number, last=visit.last)
    record: Record | None
    try:
        runner.start_session(cell)
        # A session takes its time to start, which is none of the cell's: the deadline counts from here.
        tell(ready=cell.id)
        record = runner.visit(
            cell, visit, benchmark, lambda: turn(cell), lambda: tell(calls=cell.id, number=visit.number)
        )
    except InvalidCellError as error:
        record = replace(runner.record(cell, visit.position, "invalid", str(error)), answer=error.answer)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a recipe raises is its result, `sys.exit` and `pytest.skip` too
        traceback.print_exc()
        record = runner.record(cell, visit.position, "failed", cause(error) or one_line(error))
    if record is None:
        return
    SETTLED.add(cell.id)
    records.append(Path(ASSIGNMENT.directory) / "records.jsonl", [record])
    runner.references.remember(record)
    tell(done=asdict(record))
    if record.status != "ok" and not runner.recover():
        pytest.exit("the JVM is gone, or is one that a recipe has started", returncode=1)
