# SPDX-License-Identifier: Apache-2.0
"""In which order a process calls the variants of its cells, so that no cell is favoured by its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """A stay at a cell.

    Attributes
    ----------
    position : int
        Of the cell among those of its process, from 0.
    number : int
        The pass over the cells that it belongs to, from 0.
    warm_up : bool
        Whether its first call is not timed.
    timed : int
        Calls that are.
    last : bool
        Whether the cell is through with it.
    """

    position: int
    number: int
    warm_up: bool
    timed: int
    last: bool


def mirrored_visits(calls: Sequence[int], warm_up: int = 1) -> list[Visit]:
    """Plan passes over all cells: untimed ones first, then timed ones, every second of them in the reverse order.

    A JVM becomes faster from call to call, and a machine slower or faster from minute to minute. After two timed
    passes, there and back, each cell has had the same mean place (Abedi & Brecht 2017), so whatever is linear in the
    place favours none.

    Parameters
    ----------
    calls : sequence of int
        Timed calls of each cell, at least 1; each is of a pass of its own.
    warm_up : int
        Untimed passes, at least 1.
    """
    places = range(len(calls))
    untimed = [Visit(place, number, True, 0, False) for number in range(warm_up) for place in places]
    timed = [
        Visit(place, warm_up + call, False, 1, call + 1 == calls[place])
        for call in range(max(calls, default=0))
        for place in (reversed(places) if call % 2 else places)
        if call < calls[place]
    ]
    return untimed + timed


def single_visits(calls: Sequence[int]) -> list[Visit]:
    """Plan one stay at each cell: for `compare`, where the two sides take turns call by call."""
    return [Visit(place, 0, True, timed, True) for place, timed in enumerate(calls)]
