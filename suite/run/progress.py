# SPDX-License-Identifier: Apache-2.0
"""Says which cell is called, how many are left, and about how long they will take."""

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
    """Writes a point for each visit to a cell, and for the last a line: half of it when it starts, half when it ends.

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
        self.line: str | None = None  # what the line began with that is not ended
        self.at: Cell | None = None  # where time goes
        self.spent: dict[str, float] = {}
        self.costs: dict[tuple[str, ...], list[float]] = {}

    def visit(self, cell: Cell, number: int, *, last: bool) -> None:
        """Say that a cell is called in a pass: a point on the line of the pass, or a line of its own the last time."""
        self._count()
        self.at = cell
        if last:
            self._begin_line(cell.id, self._named(cell))
            return
        where = "without Spark" if cell.session is None else f"{cell.session} slots"
        title = f"block {cell.block + 1}/{self.blocks}, {where}, pass {number + 1} "
        if title != self.line:
            self._begin_line(title, title)
        self.say(".")

    def _named(self, cell: Cell) -> str:
        number = self.total - len(self.left) + 1
        named = f"{cell.scenario}.{cell.variant}  {factor_words(cell.factors)}"
        return f"[{number:>{len(str(self.total))}}/{self.total}] block {cell.block + 1}/{self.blocks}  {named} ... "

    def _begin_line(self, line: str, text: str) -> None:
        self.say(text if self.line is None else f"\n{text}")
        self.line = line

    def _count(self) -> None:
        """Charge the time since the last visit to the cell that had it."""
        now = time.monotonic()
        if self.at is not None:
            self.spent[self.at.id] = self.spent.get(self.at.id, 0.0) + now - self.last
        self.last = now

    def end_cell(self, record: Record) -> None:
        """Say how it went and what is left."""
        if self.line != record.id:
            self._begin_line(record.id, self._named(self.left[record.id]))
        self._count()
        cell = self.left.pop(record.id)
        if record.status != "skipped":
            for key in self._keys(cell):
                self.costs.setdefault(key, []).append(self.spent.get(cell.id, 0.0))
        result = f"{record.seconds:.2f} s" if record.status == "ok" else f"{record.status}: {record.reason}"
        self.say(f"{result}{self._remaining()}\n")
        self.line = None

    def _remaining(self) -> str:
        if not self.left or not self.costs:
            return ""
        expected = sum(max(0.0, self._expected(cell) - self.spent.get(cell.id, 0.0)) for cell in self.left.values())
        if self.seconds is not None:
            expected = min(expected, max(0.0, self.seconds - (time.monotonic() - self.begin)))
        return f"   (about {duration(expected)} left)"

    @staticmethod
    def _keys(cell: Cell) -> list[tuple[str, ...]]:
        """What to estimate a cell by, the closest first: the same cell of another block, the same variant, any cell."""
        return [(cell.scenario, cell.variant, str(cell.factors)), (cell.scenario, cell.variant), ()]

    def _expected(self, cell: Cell) -> float:
        # Times between two visits, so starts of processes and sessions are in them.
        return next(mean(self.costs[key]) for key in self._keys(cell) if key in self.costs)
