# SPDX-License-Identifier: Apache-2.0
"""The formulas of `stats` against exact enumeration, scipy, and the properties its theorems promise."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from suite import stats

times = st.floats(0.01, 1000)
samples = st.lists(times, min_size=1, max_size=25)


# --- medians, ratios ---


@given(samples)
def test_interval_is_two_order_statistics_with_the_coverage_of_the_binomial(values):
    got = stats.median_interval(values)
    assert got.n == len(values)
    assert got.median == pytest.approx(np.median(values))
    if len(values) < stats.MIN_BLOCKS:
        assert (got.low, got.high, got.coverage) == (None, None, None)
        return
    ordered = sorted(values)
    # scipy's binomial says how often both ends enclose the median; one step narrower covers too little.
    covers = [1 - 2 * scipy.stats.binom.cdf(k - 1, len(values), 0.5) for k in range(len(values) // 2 + 1)]
    k = max(k for k, covered in enumerate(covers) if k >= 1 and covered >= 0.95 - 1e-12)
    assert (got.low, got.high) == (ordered[k - 1], ordered[-k])
    assert got.coverage == pytest.approx(covers[k])
    assert got.low <= got.median <= got.high


@pytest.mark.parametrize(("n", "coverage"), [(6, 0.96875), (7, 0.984375), (8, 0.9921875), (9, 1 - 20 / 512)])
def test_coverage_by_enumeration_of_all_sides(n, coverage):
    # Each draw lies below or above the median like a fair coin: count the patterns whose interval encloses
    # it.
    low_rank = int(stats.median_interval(range(n)).low)
    enclosed = sum(low_rank < n - sum(above) and low_rank < sum(above) for above in itertools.product([0, 1], repeat=n))
    assert stats.median_interval(range(n)).coverage == enclosed / 2**n == coverage


def test_five_blocks_have_an_interval_only_for_who_asks_less():
    assert stats.median_interval([1, 2, 3, 4, 5]).coverage is None
    assert stats.median_interval([1, 2, 3, 4, 5], 0.9) == (3, 1, 5, 0.9375, 5)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_a_median_of_nothing_is_an_error(values):
    with pytest.raises(ValueError, match="no NaN"):
        stats.median_interval(values)


def test_calls_are_compared_with_those_beside_them():
    """The machine is twice as slow for half of the calls, and one call is struck."""
    base, head = [1.0, 1.0, 2.0, 2.0, 1.0, 2.0], [1.1, 1.1, 2.2, 2.2, 9.0, 2.2]
    assert math.exp(stats.paired_log_ratio(head, base)) == pytest.approx(1.1)
    assert stats.paired_log_ratio(base, head) == pytest.approx(-stats.paired_log_ratio(head, base))


@given(st.dictionaries(st.integers(0, 9), times), st.dictionaries(st.integers(0, 9), times))
def test_ratios_are_formed_within_blocks_and_invert(base, other):
    logs = stats.log_ratios(base, other)
    assert list(logs) == sorted(set(base) & set(other))
    for block, value in logs.items():
        assert math.exp(value) == pytest.approx(base[block] / other[block])
    speedup, slowdown = stats.ratio_interval(base, other), stats.ratio_interval(other, base)
    if not logs:
        assert speedup is None
        return
    assert speedup.median == pytest.approx(1 / slowdown.median)
    assert (speedup.low is None) == (len(logs) < 6)
    if speedup.low is not None:
        assert speedup.low == pytest.approx(1 / slowdown.high)


def test_a_machine_that_slows_down_between_blocks_does_not_touch_the_ratio():
    slow = [1, 5, 2, 9, 3, 7]
    got = stats.ratio_interval({b: 4.0 * f for b, f in enumerate(slow)}, {b: 2.0 * f for b, f in enumerate(slow)})
    assert (got.median, got.low, got.high) == pytest.approx((2, 2, 2))


@given(st.floats(0, 1), st.integers(2, 64))
def test_karp_flatt_recovers_the_serial_fraction_of_amdahl(serial, p):
    speedup = 1 / (serial + (1 - serial) / p)
    assert stats.karp_flatt(speedup, p) == pytest.approx(serial, abs=1e-9)


def test_karp_flatt_says_nothing_about_one_slot_and_is_negative_beyond_p():
    assert stats.karp_flatt(1.0, 1) is None
    assert stats.karp_flatt(5.0, 4) < 0


# --- outliers, spread, drift ---


@given(samples)
def test_outliers_are_those_outside_tukeys_fences(values):
    first, third = np.percentile(values, [25, 75])
    outside = [v < first - 1.5 * (third - first) or v > third + 1.5 * (third - first) for v in values]
    assert stats.outliers(values) == outside
    assert len(values) > 3 or not any(outside)


def test_one_slow_block_of_six_is_an_outlier():
    assert stats.outliers([]) == []
    assert stats.outliers([1.0, 1.1, 1.0, 1.05, 1.02, 9.0]) == [False] * 5 + [True]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_drift_p_by_enumeration_of_all_orders(n):
    def falling(order):
        return sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))

    orders = list(itertools.permutations(range(n)))
    pairs = n * (n - 1) // 2
    for order in orders[:: max(1, len(orders) // 50)]:
        fewer = min(falling(order), pairs - falling(order))
        extreme = sum(min(falling(o), pairs - falling(o)) <= fewer for o in orders) / len(orders)
        assert stats.drift_p(order) == pytest.approx(extreme)


@given(st.lists(times, min_size=2, max_size=12, unique=True))
def test_drift_p_is_scipys_exact_kendall(values):
    expected = scipy.stats.kendalltau(range(len(values)), values, method="exact").pvalue
    assert stats.drift_p(values) == pytest.approx(expected)


def test_drift_p_of_ties_is_one():
    assert stats.drift_p([2.0] * 6) == 1


def test_times_that_still_fall_are_said_where_there_are_enough_blocks():
    falling = [[1.0, 0.8], [2.0, 1.7], [1.0, 0.85]]
    assert stats.unsettled(falling) == ["not settled: the last timed call took 0.85 times as long as the first"]
    assert stats.unsettled(falling[:2]) == []
    assert stats.unsettled([[1.0, 0.95]] * 3) == []
    assert stats.unsettled([[1.0, 1.3]] * 3) == []  # slower is no sign of a JVM that warms up
    assert stats.unsettled([[1.0]] * 3) == []  # of one pass


def test_instability_names_what_is_wrong():
    assert stats.instability([1.0, 1.01, 0.99, 1.0, 1.02, 1.01]) == []
    assert stats.instability([1.0]) == []
    assert stats.instability([1.0, 1.05, 1.1, 1.15, 1.2, 1.25]) == ["drifts over the blocks by +14%"]
    assert stats.instability([1.0, 1.5, 1.0, 1.5, 1.0, 1.5]) == ["blocks differ: standard deviation 22%"]


def test_caveats_add_few_blocks_and_outliers():
    assert stats.caveats([1.0, 1.01, 0.99, 1.0, 1.02, 1.01]) == []
    assert stats.caveats([1.0, 1.0]) == ["only 2 blocks, no 95 % interval"]
    assert stats.caveats([1.0]) == ["only 1 block, no 95 % interval"]
    assert stats.caveats([1.0, 1.02, 1.01, 1.0, 1.03, 1.2]) == ["1 outlier"]
