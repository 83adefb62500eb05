# SPDX-License-Identifier: Apache-2.0
"""The sign-flip test of the gate against exact enumeration, scipy, and the properties that its theorems promise."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from suite.gate.sign_flip import (
    CONFIRM,
    RATIO_CONFIDENCE,
    SCREEN,
    Look,
    flag_slower,
    judge,
    look_by_look,
    shift_interval,
    sign_flip_p,
    weigh,
)

EIGHT = SCREEN[1]

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
    assert sign_flip_p(np.array(d)).tolist() == enumerate_p(d)


@given(st.lists(st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3), min_size=2, max_size=8))
def test_one_scenario_is_scipys_exact_permutation_test(d):
    expected = scipy.stats.permutation_test(
        (np.array(d),),
        lambda x: x.mean(),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    assert sign_flip_p(np.array(d)[:, None])[0] == pytest.approx(expected)


@given(matrices, st.integers(0, 3), st.sampled_from([0.25, 3.0, 100.0]))
def test_p_does_not_depend_on_a_scenarios_scale_or_on_the_order_of_blocks(d, which, factor):
    d = np.array(d)
    scaled = d.copy()
    scaled[:, which % d.shape[1]] *= factor
    assert sign_flip_p(scaled[::-1]).tolist() == sign_flip_p(d).tolist()


@given(matrices)
def test_correction_over_scenarios_never_lowers_p(d):
    d = np.array(d)
    alone = [sign_flip_p(d[:, [s]])[0] for s in range(d.shape[1])]
    assert (sign_flip_p(d) >= np.array(alone)).all()


def test_false_alarms_over_all_flips_are_at_most_the_level():
    # Under the null every flip of the data is as likely as the data: count how many of them would raise any
    # alarm.
    rng = np.random.default_rng(0)
    d = rng.normal(size=(6, 5)) * [0.01, 0.05, 0.05, 0.1, 1.0]
    for level in (1 / 64, 3 / 64, 8 / 64):
        alarms = [
            (sign_flip_p(d * np.array(signs)[:, None]) <= level).any() for signs in itertools.product([1, -1], repeat=6)
        ]
        assert np.mean(alarms) <= level


@pytest.mark.parametrize("d", [np.zeros(3), np.array([[0.1, math.nan]]), np.zeros((0, 2)), np.zeros((17, 1))])
def test_sign_flips_refuse_what_they_cannot_judge(d):
    with pytest.raises(ValueError, match=r"missing values|1 to 16 blocks"):
        sign_flip_p(d)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=9, unique=True))
def test_shift_interval_holds_the_shifts_that_the_test_accepts(d):
    low, high = shift_interval(d, 0.025)
    k = math.floor(0.025 * 2 ** len(d))

    def share(shift):  # two one-sided sign-flip tests of "the centre is `shift`"
        shifted = np.array(d)[:, None] - shift
        return min(sign_flip_p(shifted)[0], sign_flip_p(-shifted)[0])

    width = (high - low) or 1.0
    assert share((low + high) / 2) > k / 2 ** len(d)
    assert share(high + 0.01 * width) <= k / 2 ** len(d)
    assert share(low - 0.01 * width) <= k / 2 ** len(d)


@pytest.mark.parametrize("blocks", [6, 8])
def test_shift_interval_covers_what_it_promises(blocks):
    rng = np.random.default_rng(blocks)
    draws = rng.standard_t(3, size=(4000, blocks)) * 0.1 + 0.3
    held = np.mean([low <= 0.3 <= high for low, high in (shift_interval(each, 0.025) for each in draws)])
    promised = 1 - 2 * math.floor(0.025 * 2**blocks) / 2**blocks
    assert held == pytest.approx(promised, abs=3.5 * math.sqrt(promised * (1 - promised) / 4000))


def test_too_few_blocks_have_no_shift_interval_and_never_pass():
    assert shift_interval([0.0] * 5, 1 / 64) == (-math.inf, math.inf)
    assert word(judge({"a": [0.0] * 5}, SCREEN[0])) == "inconclusive"


def word(screened, confirmed=None):
    return weigh(screened, confirmed or {}).word


def test_judge_names_uneven_blocks_and_takes_none():
    with pytest.raises(ValueError, match="same blocks"):
        judge({"a": [0.1, 0.1], "b": [0.1]}, EIGHT)
    assert judge({}, EIGHT) == {}


def steady(ratio, noise=0.01):
    """Eight block differences around a ratio; the noise sums to zero."""
    return [math.log(ratio) + noise * sign for sign in (1, -1, 0.5, -0.5, 1, -1, 0.3, -0.3)]


def test_verdict_of_each_kind():
    calm, slow = steady(1.0), steady(1.3)
    assert word(judge({"a": calm, "b": steady(1.05)}, EIGHT)) == "pass"
    screened = judge({"a": calm, "b": slow}, EIGHT)
    assert flag_slower(screened) == ["b"]
    assert word(screened, judge({"b": slow}, CONFIRM[0])) == "regression"
    # Not seen again: the new blocks decide, and clear it.
    assert word(screened, judge({"b": calm}, CONFIRM[0])) == "pass"
    # Not confirmed, yet not shown to be below the bound either.
    wide = [0.5, -0.4, 0.6, -0.3, 0.5, -0.2, 0.4, -0.1]
    assert word(screened, judge({"b": wide}, CONFIRM[0])) == "inconclusive"
    assert word(judge({"a": wide, "b": calm}, EIGHT)) == "inconclusive"


def test_verdict_ignores_small_but_certain_slowdowns_and_all_speedups():
    assert word(judge({"a": steady(1.08)}, EIGHT)) == "pass"
    assert word(judge({"a": steady(0.5)}, EIGHT)) == "pass"


def test_a_noisy_scenario_does_not_hide_a_slow_one():
    noisy = [2.0, -2.0, 1.5, -1.8, 2.0, -2.2, 1.0, -0.9]
    assert flag_slower(judge({"noisy": noisy, "slow": steady(1.2)}, EIGHT)) == ["slow"]


def test_verdict_needs_something_to_judge_and_all_that_was_flagged():
    with pytest.raises(ValueError, match="no scenario"):
        weigh({}, {})
    weighed = weigh(judge({"a": steady(1.0), "b": steady(1.3)}, EIGHT), {})
    assert (weighed.slow, weighed.lost, weighed.word) == ([], ["b"], "inconclusive")


def test_looks_spend_no_more_error_than_the_gates_may_make():
    for looks in (SCREEN, CONFIRM):
        assert [look.blocks for look in looks] == sorted({look.blocks for look in looks})
    # What is flagged may pass by the confirmation, what is not by the screen: a wrong pass may come of either.
    assert sum(look.errors for look in (*SCREEN, *CONFIRM)) <= (1 - RATIO_CONFIDENCE) / 2
    assert sum(look.alarms for look in CONFIRM) <= 2 / 256


def test_errors_of_all_looks_together_by_exact_enumeration():
    """Where nothing is slower every pattern of signs is as likely: count those in which any look errs."""
    sizes = np.random.default_rng(0).gamma(2, 0.1, 10)
    looks = [*SCREEN[:2], Look(10, 16 / 2**10, 10 / 2**10)]
    alarms, errors = 0, 0
    for signs in itertools.product([1, -1], repeat=10):
        d = sizes * signs
        found = [judge({"a": d[: look.blocks].tolist()}, look)["a"] for look in looks]
        alarms += any(one.p <= look.alarms for one, look in zip(found, looks, strict=True))
        errors += any(one.high < 1 for one in found)
    assert 0 < alarms <= sum(look.alarms for look in looks) * 2**10
    assert 0 < errors <= sum(look.errors for look in looks) * 2**10


def test_what_is_left_is_corrected_for_all_that_began_by_exact_enumeration():
    """Those that go on are chosen by their times: of all patterns of signs, few may flag any of them."""
    sizes = np.random.default_rng(1).gamma(2, 0.05, (8, 4))
    looks = (Look(6, 1 / 2**6, 1 / 2**6), Look(8, 8 / 2**8, 4 / 2**8))
    flagged = gone_on = 0
    for signs in itertools.product([1, -1], repeat=8):
        table = dict(zip("abcd", (sizes * np.array(signs)[:, None]).T, strict=True))

        def measure(names, until, table=table):
            return {name: values[:until] for name, values in table.items() if names is None or name in names}

        judged, _ = look_by_look(looks, measure)
        flagged += bool(flag_slower(judged))
        gone_on += 0 < sum(one.blocks == 8 for one in judged.values()) < 4
    assert gone_on
    assert flagged <= sum(look.alarms for look in looks) * 2**8
    # Of four that began, the one that is left has four times its own p.
    alone = steady(1.3)
    assert judge({"a": alone}, EIGHT, family=4)["a"].p == 4 * judge({"a": alone}, EIGHT)["a"].p


def test_the_times_do_not_choose_the_test_by_exact_enumeration():
    """The same share cannot be spent on the test of all together and on that of what is left."""
    small = np.array([0.09, 0.096, 0.097, 0.098, 0.099, 0.1, 0.101, 0.11, 0.111, 0.112, 0.113])
    sizes = {"a": np.full(12, 1e-3) * np.arange(1, 13) / 12, "b": np.array([0.5, *small])}
    sizes["a"][[1, 11]] = 0.3, 1.5
    looks = CONFIRM[:2]
    flagged = 0
    for signs in itertools.product([1, -1], repeat=12):
        table = {name: values * np.array(signs) for name, values in sizes.items()}

        def measure(names, until, table=table):
            return {name: values[:until] for name, values in table.items() if names is None or name in names}

        judged, _ = look_by_look(looks, measure)
        flagged += bool(flag_slower(judged))
    assert 0 < flagged <= sum(look.alarms for look in looks) * 2**12


def test_what_is_decided_leaves_and_the_rest_goes_on():
    noisy = [0.5, -0.4, 0.6, -0.3, 0.5, -0.2, 0.4, -0.1]
    blocks = {"calm": steady(1.0), "slow": steady(1.3), "noisy": noisy, "fails": noisy}
    asked = []

    def measure(names, until):
        asked.append((names, until))
        return {name: blocks[name][:until] for name in names or blocks if until == 6 or name != "fails"}

    judged, differences = look_by_look(SCREEN[:2], measure)
    assert asked == [(None, 6), (["noisy", "fails"], 8)]
    assert {name: one.blocks for name, one in judged.items()} == {"calm": 6, "slow": 6, "noisy": 8, "fails": 6}
    assert flag_slower(judged) == ["slow"]
    assert differences["noisy"] == noisy
    assert differences["slow"] == blocks["slow"][:6]
    # A file comes with all its variants; judged is what was asked for.
    judged, _ = look_by_look(CONFIRM, measure, ["slow"])
    assert list(judged) == ["slow"]


def decide(rng, slowdown, sd, scenarios=5):
    def measuring():
        blocks = rng.normal(0, sd, (scenarios, SCREEN[-1].blocks))
        blocks[0] += math.log(slowdown)
        return lambda names, until: {n: blocks[n, :until] for n in (range(scenarios) if names is None else names)}

    screened, _ = look_by_look(SCREEN, measuring())
    again = flag_slower(screened)
    return word(screened, look_by_look(CONFIRM, measuring(), again)[0] if again else {})


def test_power_and_false_alarms_on_simulated_blocks():
    """The gate as a whole; seeded, so it either holds or does not."""
    rng = np.random.default_rng(1)
    caught = [decide(rng, 1.20, 0.10) for _ in range(100)].count("regression")
    null = [decide(rng, 1.00, 0.10) for _ in range(100)]
    assert caught >= 95
    assert null.count("regression") == 0
    assert null.count("inconclusive") <= 5
