# SPDX-License-Identifier: Apache-2.0
"""Who makes a timed call when, without processes."""

from suite.plan.cells import GATE_CALLS
from suite.run.turns import Turn, take_turns


def a_side(name, orders, log, fails=()):
    """A block as `bench` runs it, without a process; a cell that fails does so in its first timed call."""
    log.append(f"{name} begins")
    yield None
    for order in orders:
        for call in range(GATE_CALLS):
            yield Turn(order, call)
            log.append(f"{name} {order}.{call}")
            if order in fails:
                break
        else:
            yield Turn(order, GATE_CALLS)
            log.append(f"{name} goes on")
            yield None


def test_timed_calls_are_made_one_by_one_there_and_back():
    log = []
    # The first fails in cell 0; the second lacks cell 1.
    take_turns([a_side("A", [0, 1, 2], log, fails=[0]), a_side("B", [0, 2], log)], lambda: log.append("settle"))
    assert log == [
        *["A begins", "B begins"],
        *["settle", "A 0.0", "B 0.0", "B 0.1", "B goes on"],
        *["settle", "A 1.0", "A 1.1", "A goes on"],
        *["settle", "A 2.0", "B 2.0", "B 2.1", "A 2.1", "A goes on", "B goes on"],
    ]
