# SPDX-License-Identifier: Apache-2.0
"""What blocks and calls each buy is found from what was put into the times."""

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import stats
from suite.records import Record
from suite.report.point import Point
from suite.report.precision import Cost, Deviation, cost_of, deviation_of, expected_width


def point(warm, variant="v", **more):
    """A point whose blocks have these timed calls."""
    cells = tuple(
        Record(
            id=f"{variant}{block}",
            scenario="s",
            variant=variant,
            label=variant,
            workload="w",
            base=variant == "base",
            factors={"slots": 2},
            block=block,
            order=0,
            status="ok",
            warm_seconds=list(calls),
            **more,
        )
        for block, calls in enumerate(warm)
    )
    return Point("w", "s", variant, variant, variant == "base", {"slots": 2}, False, None, None, False, cells)


def drawn(blocks, calls, processes, noise, seed):
    dice = np.random.default_rng(seed)
    of_block = dice.normal(0, processes, (blocks, 1))
    return np.exp(of_block + dice.normal(0, noise, (blocks, calls)))


def test_both_deviations_are_found():
    found = deviation_of(point(drawn(4000, 2, 0.08, 0.03, 1)), point(drawn(4000, 2, 0.06, 0.04, 2), "base"))
    assert found.processes == pytest.approx(math.hypot(0.08, 0.06), rel=0.05)
    assert found.calls == pytest.approx(math.hypot(0.03, 0.04), rel=0.05)
    assert found.of_block(2) == pytest.approx(math.sqrt(0.1**2 + 0.05**2 / 2), rel=0.05)


def test_what_a_later_pass_gains_in_each_block_is_no_noise():
    warm = [[2.0, 1.8]] * 5
    assert deviation_of(point(warm), point([[4.0, 4.2]] * 5, "base")) == Deviation(
        pytest.approx(0.0, abs=1e-9), pytest.approx(0.0, abs=1e-9)
    )


@pytest.mark.parametrize("warm", [[[1.0, 1.0]] * 2, [[1.0]] * 6, [[]] * 6])
def test_too_few_blocks_or_calls_tell_nothing(warm):
    assert deviation_of(point(warm), point(warm, "base")) is None


def test_a_block_costs_what_is_not_timed_and_a_pass_over_its_cells():
    spent = {"preparing": 1.0, "calls": 10.0, "harness": 0.5}
    one = point([[2.0, 3.0]] * 4, spent=spent, session={"id": "b0", "seconds": 8.0, "position": 0})
    # All cells are of one process here, which started once in the four blocks.
    assert cost_of(one.cells) == Cost(before=11.5 - 5.0 + 8.0 / 4, calls=2.5)
    assert cost_of(point([[1.0]] * 4).cells) is None  # records of older runs


@given(before=st.floats(0.1, 1e3), calls=st.floats(0.01, 1e3), count=st.integers(1, 8), seconds=st.floats(1, 1e5))
def test_blocks_end_in_time(before, calls, count, seconds):
    cost = Cost(before, calls)
    blocks = cost.blocks(seconds, count)
    assert blocks * (before + count * calls) <= seconds * (1 + 1e-6) + 1e-6 * (before + count * calls)
    assert (blocks + 1) * (before + count * calls) > seconds
    assert blocks >= cost.blocks(seconds, count + 1)


@pytest.mark.parametrize("blocks", [6, 9, 12])
def test_the_expected_width_is_that_of_drawn_speedups(blocks):
    dice = random.Random(0)
    widths = []
    for _ in range(4000):
        interval = stats.median_interval([dice.gauss(0, 0.1) for _ in range(blocks)])
        widths.append(interval.high - interval.low)
    assert math.log(expected_width(0.1, blocks)) == pytest.approx(statistics.mean(widths), rel=0.05)


def test_five_blocks_have_no_interval():
    assert expected_width(0.1, 5) is None
    assert expected_width(0.1, 0) is None
