# SPDX-License-Identifier: Apache-2.0
"""Taking turns: processes that share a machine make their timed calls one after another.

A child process says `turn` on its pipe before each warm call and after the last, and waits (`ChildTurns.wait`). The
loop that runs it yields a `Turn` and, when it is resumed, writes `GO_ON` to the child's stdin. `take_turns` resumes
the loops of all sides in order. What runs alone never waits: `bench` resumes its one loop at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

GO_ON = b"."


class Turn(NamedTuple):
    """What a process waits for: a timed call of a cell, or to go on after the last. Less is earlier."""

    order: int  # of the cell
    call: int  # from 0


# A block as it runs: a `Turn` that its process waits for, or None where it has begun what is not timed and works on by
# itself.
Turns = Generator[Turn | None, None, None]


def take_turns(sides: Sequence[Turns], settle: Callable[[], None]) -> None:
    """Run all to their end: what is not timed at the same time, timed calls one by one; none is left half-way.

    Parameters
    ----------
    sides : sequence of generator
        Blocks of `Loop.run_block`, whoever goes first in front.
    settle : callable
        Waits until the machine is quiet; called before the first timed call of a cell, since a JVM compiles what it
        has run for some time after.
    """
    with contextlib.ExitStack() as stack:
        going = [stack.enter_context(contextlib.closing(side)) for side in sides]
        # What each waits for; None while it works by itself.
        turns: dict[int, Turn | None] = dict.fromkeys(range(len(going)))
        while turns:
            for number in _next_sides(turns, settle):
                try:
                    turns[number] = next(going[number])
                except StopIteration:
                    del turns[number]


def _next_sides(turns: dict[int, Turn | None], settle: Callable[[], None]) -> list[int]:
    """The sides that may go on, in order."""
    waiting = [turn for turn in turns.values() if turn]
    if len(waiting) < len(turns):
        return [number for number, turn in turns.items() if turn is None]
    # A side that failed, or lacks a recipe, is ahead of the others and waits for them.
    first = min(waiting)
    due = [number for number, turn in turns.items() if turn == first]
    if first.call == 0:
        settle()
    # There and back, so that neither a steady drift nor the place in the pair favours a side.
    return due[::-1] if first.call % 2 else due


class ChildTurns:
    """The child's end: waits for the parent, and leaves with it.

    Parameters
    ----------
    tell : callable
        Tells the parent something.
    """

    def __init__(self, tell: Callable[..., None]):
        self._tell = tell
        self._released = threading.Semaphore(0)

    def wait(self, cell: str) -> None:
        """Say that a cell waits for its turn, and wait."""
        self._tell(turn=cell)
        self._released.acquire()

    def watch_parent(self) -> None:
        """Leave as soon as the parent is gone, however it went: it holds the other end of our stdin.

        The JVM watches this process in the same way, and Spark's Python workers the JVM. A terminal is left to a
        debugger: there is no parent then.
        """
        if os.isatty(0):
            return

        def watch() -> None:
            while said := os.read(0, 1024):
                self._released.release(len(said))
            os._exit(1)

        threading.Thread(target=watch, name="watch-parent", daemon=True).start()
