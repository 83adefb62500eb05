# SPDX-License-Identifier: Apache-2.0
"""Says which cell runs, how many are left, and about how long they will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import mean

from suite.plan.cells import Cell, factor_words
from suite.records import Record


def duration(seconds: float) -> str:
    """Write a length of time as people say it: `8 s`, `3 min`, `1 h 20 min`."""
    if seconds < 59.5:
        return f"{max(0.0, seconds):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Writes a line for each cell: the first half when it starts, the second when it ends.

    Parameters
    ----------
    cells : sequence of Cell
        The whole plan.
    todo : sequence of Cell
        What this attempt has to do.
    say : callable
        Takes pieces of text.
    seconds : float, optional
        No block begins later than this after the start.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        todo: Sequence[Cell],
        say: Callable[[str], None],
        seconds: float | None = None,
    ):
        self.total = len(cells)
        self.blocks = 1 + max((cell.block for cell in cells), default=0)
        self.left = {cell.id: cell for cell in todo}
        self.say = say
        self.seconds = seconds
        self.begin = time.monotonic()
        self.last = self.begin
        self.open = False
        self.costs: dict[tuple[str, ...], list[float]] = {}

    def start_cell(self, cell: Cell) -> None:
        """Name the cell that runs now."""
        number = self.total - len(self.left) + 1
        named = f"{cell.scenario}.{cell.variant}  {factor_words(cell.factors)}"
        self.say(f"[{number:>{len(str(self.total))}}/{self.total}] block {cell.block + 1}/{self.blocks}  {named} ... ")
        self.open = True

    def end_cell(self, record: Record) -> None:
        """Say how it went and what is left."""
        if not self.open:
            self.start_cell(self.left[record.id])
        cell = self.left.pop(record.id)
        now = time.monotonic()
        if record.status != "skipped":
            for key in self._keys(cell):
                self.costs.setdefault(key, []).append(now - self.last)
        self.last = now
        result = f"{record.seconds:.2f} s" if record.status == "ok" else f"{record.status}: {record.reason}"
        self.say(f"{result}{self._remaining()}\n")
        self.open = False

    def _remaining(self) -> str:
        if not self.left or not self.costs:
            return ""
        expected = sum(map(self._expected, self.left.values()))
        if self.seconds is not None:
            expected = min(expected, max(0.0, self.seconds - (time.monotonic() - self.begin)))
        return f"   (about {duration(expected)} left)"

    @staticmethod
    def _keys(cell: Cell) -> list[tuple[str, ...]]:
        """What to estimate a cell by, the closest first: the same cell of another block, the same variant, any cell."""
        return [(cell.scenario, cell.variant, str(cell.factors)), (cell.scenario, cell.variant), ()]

    def _expected(self, cell: Cell) -> float:
        # Times between two results, so starts of processes and sessions are in them.
        return next(mean(self.costs[key]) for key in self._keys(cell) if key in self.costs)
