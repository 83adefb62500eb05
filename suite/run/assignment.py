# SPDX-License-Identifier: Apache-2.0
"""The cells that share a child process, as the parent hands them over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from suite.plan.cells import Cell


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

    def dump(self) -> str:
        """The assignment as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """The inverse of `dump`."""
        values = json.loads(text)
        return cls(**{**values, "cells": [Cell(**cell) for cell in values["cells"]]})
