# SPDX-License-Identifier: Apache-2.0
"""The formulas of `bounds` against a simulation of the schedules themselves."""

import heapq
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.plan.bounds import measured_speedup_bound, rounds, seconds_bound, speedup_bound

SCHEDULES = ["serial", "folds", "pool"]
counts = st.integers(1, 12)
seconds = st.integers(1, 9).map(float)
tables = st.integers(1, 4).flatmap(
    lambda candidates: st.lists(st.lists(seconds, min_size=candidates, max_size=candidates), min_size=1, max_size=4)
)


def run(fits, slots):
    """End of a pool that gives the next fit in line to the first free slot."""
    free = [0.0] * slots
    for fit in fits:
        heapq.heapreplace(free, free[0] + fit)
    return max(free)


def simulate(schedule, table, parallelism, refit_seconds=0.0):
    if schedule == "serial":
        end = sum(map(sum, table))
    elif schedule == "folds":
        end = sum(run(fold, parallelism) for fold in table)
    else:
        end = run([fit for fold in table for fit in fold], parallelism)
    return end + refit_seconds


@given(st.sampled_from(SCHEDULES), counts, counts, counts, st.booleans())
def test_rounds_are_what_a_schedule_of_equal_fits_takes(schedule, folds, candidates, parallelism, refit):
    table = [[1.0] * candidates] * folds
    simulated = simulate(schedule, table, parallelism, float(refit))
    assert rounds(schedule, folds, candidates, parallelism, refit=refit) == simulated
    # The unequal form may only be looser: a fit cannot be cut to fill a slot.
    assert seconds_bound(schedule, table, parallelism, refit_seconds=float(refit)) <= simulated + 1e-9


@given(st.sampled_from(SCHEDULES), tables, st.integers(1, 5), st.integers(0, 9).map(float))
def test_no_simulated_schedule_beats_the_bound(schedule, table, parallelism, refit_seconds):
    end = simulate(schedule, table, parallelism, refit_seconds)
    assert end >= seconds_bound(schedule, table, parallelism, refit_seconds=refit_seconds) - 1e-9
    # Graham (1969): the next fit to the first free slot is within a factor 2 - 1/p, so the bound is tight.
    assert (
        end <= (2 - 1 / parallelism) * seconds_bound(schedule, table, parallelism, refit_seconds=refit_seconds) + 1e-9
    )


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_no_assignment_at_all_beats_the_bound(parallelism):
    fits = [5.0, 4.0, 3.0, 3.0, 3.0, 1.0]
    best = min(
        max(sum(fit for fit, slot in zip(fits, slots, strict=True) if slot == each) for each in range(parallelism))
        for slots in itertools.product(range(parallelism), repeat=len(fits))
    )
    assert seconds_bound("pool", [fits[:3], fits[3:]], parallelism) <= best
    assert seconds_bound("pool", [fits[:3], fits[3:]], 2) == 9.5  # half of 19
    assert seconds_bound("pool", [fits[:3], fits[3:]], 19) == 5.0  # the longest


@given(counts, counts, counts, st.booleans())
def test_speedup_bounds_are_ordered_and_never_above_the_parallelism(folds, candidates, parallelism, refit):
    serial, by_fold, pool = (
        speedup_bound(schedule, folds, candidates, parallelism, refit=refit) for schedule in SCHEDULES
    )
    assert serial == 1 <= by_fold <= pool <= parallelism


@given(tables, st.integers(1, 5))
def test_measured_bounds_are_ordered_too(table, parallelism):
    serial, by_fold, pool = (measured_speedup_bound(schedule, table, parallelism) for schedule in SCHEDULES)
    assert math.isclose(serial, 1)
    assert serial <= by_fold + 1e-9
    assert by_fold <= pool + 1e-9
    assert pool <= parallelism + 1e-9


def test_the_published_example():
    # Twelve folds of two candidates: fold after fold cannot use more than two threads, one pool can.
    assert [speedup_bound("folds", 12, 2, p) for p in (4, 8, 24)] == [2, 2, 2]
    assert [speedup_bound("pool", 12, 2, p) for p in (4, 8, 24)] == [4, 8, 24]
    assert speedup_bound("pool", 12, 2, 24, refit=True) == 25 / 2


def test_expanding_windows_share_less_evenly_than_equal_fits():
    table = [[1.0, 1.0], [2.0, 2.0], [3.0, 6.0]]
    assert measured_speedup_bound("folds", table, 2) == 15 / (1 + 2 + 6)
    assert measured_speedup_bound("pool", table, 2) == 2
    assert measured_speedup_bound("pool", table, 6, refit_seconds=6.0) == 21 / 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fold", 3, 3, 2), "unknown schedule 'fold'"),
        (("pool", 0, 3, 2), "folds must"),
        (("pool", 3, 3, 0), "parallelism must"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        rounds(*arguments)
