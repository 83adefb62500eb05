# SPDX-License-Identifier: Apache-2.0
"""suite/stats.py against exact enumeration, scipy, and the properties its theorems promise."""

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


@given(st.lists(times, min_size=1, max_size=20))
def test_geometric_mean_is_scipys(values):
    assert stats.geometric_mean(values) == pytest.approx(scipy.stats.gmean(values))


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [-1.0]])
def test_geometric_mean_wants_positive_values(values):
    with pytest.raises(ValueError, match="positive"):
        stats.geometric_mean(values)


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


# --- deciding regression ---

matrices = st.integers(1, 4).flatmap(
    lambda scenarios: st.lists(
        st.lists(st.integers(-20, 20).map(lambda n: n / 20), min_size=scenarios, max_size=scenarios),
        min_size=1,
        max_size=7,
    )
)


def enumerate_p(d):
    """The definition, written slowly; the root rounds, so ties have slack."""
    blocks, scenarios = len(d), len(d[0])
    scale = [math.sqrt(sum(row[s] ** 2 for row in d) / blocks) or 1.0 for s in range(scenarios)]
    own = [math.fsum(row[s] for row in d) / scale[s] / blocks for s in range(scenarios)]
    reached = [0] * scenarios
    for signs in itertools.product([1, -1], repeat=blocks):
        largest = max(
            math.fsum(sign * row[s] for sign, row in zip(signs, d, strict=True)) / scale[s] / blocks
            for s in range(scenarios)
        )
        for s in range(scenarios):
            reached[s] += largest >= own[s] - 1e-12
    return [count / 2**blocks for count in reached]


@given(matrices)
def test_sign_flip_p_is_its_enumeration(d):
    assert stats.sign_flip_p(np.array(d)).tolist() == enumerate_p(d)


@given(st.lists(st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3), min_size=2, max_size=8))
def test_one_scenario_is_scipys_exact_permutation_test(d):
    expected = scipy.stats.permutation_test(
        (np.array(d),),
        lambda x: x.mean(),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    assert stats.sign_flip_p(np.array(d)[:, None])[0] == pytest.approx(expected)


@given(matrices, st.integers(0, 3), st.sampled_from([0.25, 3.0, 100.0]))
def test_p_does_not_depend_on_a_scenarios_scale_or_on_the_order_of_blocks(d, which, factor):
    d = np.array(d)
    scaled = d.copy()
    scaled[:, which % d.shape[1]] *= factor
    assert stats.sign_flip_p(scaled[::-1]).tolist() == stats.sign_flip_p(d).tolist()


@given(matrices)
def test_correction_over_scenarios_never_lowers_p(d):
    d = np.array(d)
    alone = [stats.sign_flip_p(d[:, [s]])[0] for s in range(d.shape[1])]
    assert (stats.sign_flip_p(d) >= np.array(alone)).all()


def test_false_alarms_over_all_flips_are_at_most_the_level():
    # Under the null every flip of the data is as likely as the data: count how many of them would raise any
    # alarm.
    rng = np.random.default_rng(0)
    d = rng.normal(size=(6, 5)) * [0.01, 0.05, 0.05, 0.1, 1.0]
    for level in (1 / 64, 3 / 64, 8 / 64):
        alarms = [
            (stats.sign_flip_p(d * np.array(signs)[:, None]) <= level).any()
            for signs in itertools.product([1, -1], repeat=6)
        ]
        assert np.mean(alarms) <= level


@pytest.mark.parametrize("d", [np.zeros(3), np.array([[0.1, math.nan]]), np.zeros((0, 2)), np.zeros((17, 1))])
def test_sign_flips_refuse_what_they_cannot_judge(d):
    with pytest.raises(ValueError, match=r"missing values|1 to 16 blocks"):
        stats.sign_flip_p(d)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=9, unique=True))
def test_shift_interval_holds_the_shifts_that_the_test_accepts(d):
    low, high = stats.shift_interval(d)
    k = math.floor(0.025 * 2 ** len(d))

    def share(shift):  # two one-sided sign-flip tests of "the centre is `shift`"
        shifted = np.array(d)[:, None] - shift
        return min(stats.sign_flip_p(shifted)[0], stats.sign_flip_p(-shifted)[0])

    width = (high - low) or 1.0
    assert share((low + high) / 2) > k / 2 ** len(d)
    assert share(high + 0.01 * width) <= k / 2 ** len(d)
    assert share(low - 0.01 * width) <= k / 2 ** len(d)


@pytest.mark.parametrize("blocks", [6, 8])
def test_shift_interval_covers_what_it_promises(blocks):
    rng = np.random.default_rng(blocks)
    draws = rng.standard_t(3, size=(4000, blocks)) * 0.1 + 0.3
    held = np.mean([low <= 0.3 <= high for low, high in map(stats.shift_interval, draws)])
    promised = 1 - 2 * math.floor(0.025 * 2**blocks) / 2**blocks
    assert held == pytest.approx(promised, abs=3.5 * math.sqrt(promised * (1 - promised) / 4000))


def test_too_few_blocks_have_no_shift_interval_and_never_pass():
    assert stats.shift_interval([0.0] * 5) == (-math.inf, math.inf)
    assert stats.verdict(stats.judge({"a": [0.0] * 5})) == "inconclusive"


def test_judge_names_uneven_blocks_and_takes_none():
    with pytest.raises(ValueError, match="same blocks"):
        stats.judge({"a": [0.1, 0.1], "b": [0.1]})
    assert stats.judge({}) == {}


def steady(ratio, noise=0.01):
    """Eight block differences around a ratio; the noise sums to zero."""
    return [math.log(ratio) + noise * sign for sign in (1, -1, 0.5, -0.5, 1, -1, 0.3, -0.3)]


def test_verdict_of_each_kind():
    calm, slow = steady(1.0), steady(1.3)
    assert stats.verdict(stats.judge({"a": calm, "b": steady(1.05)})) == "pass"
    screened = stats.judge({"a": calm, "b": slow})
    assert stats.flagged(screened) == ["b"]
    assert stats.verdict(screened, stats.judge({"b": slow})) == "regression"
    # Not seen again: the new blocks decide, and clear it.
    assert stats.verdict(screened, stats.judge({"b": calm})) == "pass"
    # Not confirmed, yet not shown to be below the bound either.
    wide = [0.5, -0.4, 0.6, -0.3, 0.5, -0.2, 0.4, -0.1]
    assert stats.verdict(screened, stats.judge({"b": wide})) == "inconclusive"
    assert stats.verdict(stats.judge({"a": wide, "b": calm})) == "inconclusive"


def test_verdict_ignores_small_but_certain_slowdowns_and_all_speedups():
    assert stats.verdict(stats.judge({"a": steady(1.08)})) == "pass"
    assert stats.verdict(stats.judge({"a": steady(0.5)})) == "pass"


def test_a_noisy_scenario_does_not_hide_a_slow_one():
    noisy = [2.0, -2.0, 1.5, -1.8, 2.0, -2.2, 1.0, -0.9]
    assert stats.flagged(stats.judge({"noisy": noisy, "slow": steady(1.2)})) == ["slow"]


def test_verdict_needs_something_to_judge_and_all_that_was_flagged():
    with pytest.raises(ValueError, match="no scenario"):
        stats.verdict({})
    with pytest.raises(ValueError, match="not measured again: b"):
        stats.verdict(stats.judge({"b": steady(1.3)}), {})


def decide(rng, slowdown, sd, scenarios=5, blocks=8):
    def blocks_of(names):
        return {n: rng.normal(math.log(slowdown) if n == 0 else 0.0, sd, blocks).tolist() for n in names}

    screened = stats.judge(blocks_of(range(scenarios)))
    again = stats.flagged(screened)
    return stats.verdict(screened, stats.judge(blocks_of(again)))


def test_power_and_false_alarms_on_simulated_blocks():
    """The gate as a whole; seeded, so it either holds or does not."""
    rng = np.random.default_rng(1)
    caught = [decide(rng, 1.20, 0.05) for _ in range(300)].count("regression")
    alarms = [decide(rng, 1.00, 0.08) for _ in range(300)].count("regression")
    assert caught >= 0.95 * 300
    assert alarms <= 0.01 * 300
