# SPDX-License-Identifier: Apache-2.0
"""The cells that share a child process, as the parent hands them over.

To run a variant of an earlier run by hand, in this terminal and under a debugger (in local mode):

    python -m suite.run.assignment results/NAME scenario.variant > /tmp/assignment.json
    FOLDOUT_ASSIGNMENT=/tmp/assignment.json python -m pytest suite/run/test_cell.py -s --pdb
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suite.errors import UsageError
from suite.machine.environment import ROOT
from suite.plan.cells import Cell
from suite.plan.visits import Visit, mirrored_visits, single_visits
from suite.run.options import parse_setting
from suite.run.plan_file import read_plan


@dataclass(frozen=True)
class Assignment:
    """Cells that share a process, as the parent hands them over in a file.

    Attributes
    ----------
    name : str
        Such as `b0-local2`; names the log file too.
    run : str
    directory : str
        The run's folder.
    master : str
    conf : dict
        Settings of the cluster.
    files : list of str
        The scenario files of the whole plan.
    cells : list of Cell
    pipe : int
        File descriptor through which the child tells the parent what happens.
    turns : bool
        Whether it waits for its turn before each timed call and after the last, since another side's process is there.
    compared : bool
        Whether it is one side of a comparison, in which no base case runs.
    warm_up : int
        Untimed passes over the cells.
    warm_seconds : float
        What the calls of a variant may take in such a pass, and where it has waited, until they are steady; it is
        called once in any case.
    data : str or None
        The folder of the user's own data.
    """

    name: str
    run: str
    directory: str
    master: str
    conf: Mapping[str, str]
    files: list[str]
    cells: list[Cell]
    pipe: int
    turns: bool = False
    compared: bool = False
    warm_up: int = 1
    warm_seconds: float = 1.0
    data: str | None = None

    def visits(self) -> list[Visit]:
        """In which order the cells are called."""
        calls = [cell.calls for cell in self.cells]
        return single_visits(calls) if self.compared else mirrored_visits(calls, self.warm_up)

    def dump(self) -> str:
        """The assignment as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """The inverse of `dump`."""
        values = json.loads(text)
        return cls(**{**values, "cells": [Cell(**cell) for cell in values["cells"]]})


def assign_by_hand(folder: Path, name: str) -> Assignment:
    """Assign the cells of a variant in block 0 of an earlier run to whoever runs them in a terminal.

    They write to a new folder, say on stdout what a parent would be told, and are held against their own first answers.

    Parameters
    ----------
    folder : Path
        The run folder.
    name : str
        `scenario.variant`.

    Raises
    ------
    UsageError
        There is no such cell in the run.
    """
    plan = read_plan(folder)
    options = plan.get("outside") or plan["options"]
    planned = [Cell(**cell) for cell in plan["cells"]]
    cells = [cell for cell in planned if cell.name == name and cell.block == 0]
    if not cells:
        raise UsageError(f"{folder} has no {name!r}: there are {', '.join(sorted({cell.name for cell in planned}))}")
    return Assignment(
        name="by-hand",
        run=plan["run"],
        directory=tempfile.mkdtemp(prefix="foldout-by-hand-"),
        master=plan["master"],
        conf=dict(map(parse_setting, options.get("conf") or ())),
        files=[_file_of(scenario, about, options) for scenario, about in plan["scenarios"].items()],
        cells=cells,
        pipe=1,
        compared=True,
        data=options.get("data"),
    )


def _file_of(name: str, about: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Where the file of a recipe is: as the user named it, in the folder that was given, or among the project's own."""
    for given in options.get("scenario") or ():
        if given.endswith(".py") and Path(given).stem == name:
            return str(given)
    folder = options.get("scenarios")
    return str(Path(folder, f"{name}.py") if folder else ROOT / about["path"])


if __name__ == "__main__":
    try:
        print(assign_by_hand(Path(sys.argv[1]), sys.argv[2]).dump())
    except (UsageError, IndexError) as error:
        sys.exit(f"error: {error}\nusage: python -m suite.run.assignment RUN_FOLDER SCENARIO.VARIANT")
