# SPDX-License-Identifier: Apache-2.0
"""The plan is complete, random within blocks, and the same for the same request."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.errors import UsageError
from suite.plan.cells import (
    GATE_CALLS,
    PlanError,
    Request,
    base_cases,
    doublings,
    group_cells,
    plan_cells,
    plan_what_can_be,
    sweep_centre,
)
from suite.plan.scenario import Scenario, Variant, keyword_names

REQUEST = Request(size="ci", slots=None, parallelism=None, folds=None, blocks=2, cores=4)
SIZE = {"rows": 10, "folds": (3, 6), "candidates": 4}


def scenario(name="one", *, parallelism="threads", sizes=None, variants=None, **more) -> Scenario:
    def run_serial(data, *, spark, folds): ...

    def run_pool(data, *, spark, parallelism, folds): ...

    functions = variants or (run_serial, run_pool)
    return Scenario(
        name=name,
        path=Path(f"{name}.py"),
        sha256="",
        title=name,
        about=name,
        workload=more.pop("workload", name),
        parallelism=parallelism,
        refit=more.pop("refit", False),
        schedule=more.pop("schedule", {}),
        sizes=sizes or {"ci": SIZE},
        variants=tuple(
            Variant(f.__name__.removeprefix("run_"), f.__name__, f, keyword_names(f), "spark" in keyword_names(f))
            for f in functions
        ),
        make_data=lambda *, rows: rows,
        check=lambda reference, answer: None,
        **more,
    )


def described(cells):
    return Counter((c.variant, c.factors["parallelism"], c.factors["folds"]) for c in cells)


@pytest.mark.parametrize(
    ("size", "swept"),
    # A quick run leaves 1 to the base case; a full one goes to twice the four slots.
    [("ci", (2, 4)), ("full", (1, 2, 4, 8))],
)
def test_one_factor_at_a_time_around_the_centre(size, swept):
    sizes = {size: {"rows": 10, "folds": (3, 6), "candidates": 4}}
    cells = plan_cells([scenario(sizes=sizes)], replace(REQUEST, blocks=1, size=size))
    assert described(cells) == Counter(
        {
            ("serial", None, 3): 1,
            ("serial", None, 6): 1,
            **{("pool", p, 3): 1 for p in swept},
            # folds are swept at parallelism 4 alone
            ("pool", 4, 6): 1,
        }
    )
    assert {c.session for c in cells} == {4}


def test_where_parallelism_is_slots_each_value_has_its_session():
    def run_loky(data, *, parallelism): ...

    def run_udf(data, *, spark): ...

    cells = plan_cells(
        [scenario(parallelism="slots", sizes={"full": {"rows": 10}}, variants=(run_loky, run_udf))],
        replace(REQUEST, blocks=1, size="full"),
    )
    assert {(c.variant, c.session, c.factors["slots"], c.factors["parallelism"]) for c in cells} == {
        *(("loky", None, None, p) for p in (1, 2, 4)),
        *(("udf", p, p, p) for p in (1, 2, 4)),
    }
    assert all(c.needs == c.session for c in cells)


@given(
    blocks=st.integers(1, 4),
    seed=st.integers(0, 9),
    folds=st.lists(st.integers(2, 9), min_size=1, max_size=3, unique=True),
    parallelism=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
)
def test_every_block_holds_every_cell_once_and_ids_are_unique(blocks, seed, folds, parallelism):
    request = replace(REQUEST, blocks=blocks, seed=seed, folds=tuple(folds), parallelism=tuple(parallelism))
    scenarios = [scenario("one"), scenario("two", workload="one")]
    cells = plan_cells(scenarios, request)
    assert len({c.id for c in cells}) == len(cells)
    assert [c.order for c in cells] == list(range(len(cells)))
    per_block = [
        Counter((c.scenario, c.variant, str(c.factors)) for c in cells if c.block == block) for block in range(blocks)
    ]
    assert all(block == per_block[0] and max(block.values()) == 1 for block in per_block)
    assert cells == plan_cells(scenarios, request)
    assert sum(len(group) for group in group_cells(cells)) == len(cells)
    for group in group_cells(cells):
        assert len({(c.block, c.session) for c in group}) == 1


def test_the_same_cell_has_the_same_id_whatever_the_order():
    first, second = (plan_cells([scenario()], replace(REQUEST, seed=seed)) for seed in (1, 2))
    assert [c.id for c in first] != [c.id for c in second]
    assert {c.id for c in first} == {c.id for c in second}


def test_no_cell_is_favoured_by_its_place_and_the_variants_take_turns_with_the_first():
    leaders = Counter()
    for seed in range(4):
        cells = plan_cells([scenario()], replace(REQUEST, seed=seed, blocks=6))
        first = [group[0].name for group in group_cells(cells)]
        # Two variants in turns, whichever begins.
        assert first[::2] == [first[0]] * 3
        assert first[1::2] == [first[1]] * 3
        assert first[0] != first[1]
        leaders[first[0]] += 1
        # The base case of a question may come after others that are held against it.
        assert any(not group[0].base for group in group_cells(cells))
    assert set(leaders) == {"one.serial", "one.pool"}


def test_a_base_case_without_spark_comes_before_every_session():
    def run_serial(data): ...

    def run_udf(data, *, spark): ...

    for seed in range(10):
        files = [scenario("a"), scenario("b", parallelism="slots", variants=(run_serial, run_udf))]
        asked = set()
        for group in group_cells(plan_cells(files, replace(REQUEST, seed=seed, blocks=1))):
            # A process finds its base cases' answers before it holds any other against them.
            asked |= {cell.key for cell in group if cell.base}
            assert {cell.key for cell in group} <= asked


def test_what_has_its_base_case_on_spark_waits_for_it_without_spark():
    def run_serial(data): ...

    def run_loky(data, *, parallelism): ...

    def run_udf(data, *, spark): ...

    files = [
        scenario("a", workload="fits"),
        scenario("b", workload="fits", variants=(run_loky,)),
        scenario("c", parallelism="slots", variants=(run_serial, run_udf)),
    ]
    for seed in range(10):
        asked = set()
        for group in group_cells(plan_cells(files, replace(REQUEST, seed=seed, blocks=1))):
            asked |= {cell.key for cell in group if cell.base}
            assert {cell.key for cell in group} <= asked
            assert len({cell.session for cell in group}) == 1


def test_later_blocks_are_in_another_order():
    cells = plan_cells([scenario()], replace(REQUEST, blocks=6))
    orders = {tuple((c.variant, str(c.factors)) for c in cells if c.block == block) for block in range(1, 6)}
    assert len(orders) > 1


def test_the_base_case_of_a_workload_is_the_serial_one_of_all_its_files():
    def run_joblib_spark(data, *, spark, parallelism): ...

    def run_serial(data): ...

    files = [
        scenario("a", workload="search", variants=(run_joblib_spark,)),
        scenario("b", workload="search", variants=(run_serial, run_joblib_spark)),
    ]
    assert base_cases(files) == {"search": ("b", "serial")}


def test_fits_that_differ_have_a_schedule_but_no_bound_beforehand():
    def run_pool(data, *, spark, parallelism): ...

    asked = {"schedule": {"pool": "pool"}, "variants": (run_pool,)}
    (equal, *_), (unequal, *_) = (plan_cells([scenario(**asked, unequal=value)], REQUEST) for value in (False, True))
    assert equal.schedule == unequal.schedule == "pool"
    assert equal.bound is not None
    assert unequal.bound is None
    assert equal.needs == unequal.needs


def test_bounds_and_needs_follow_the_schedule():
    def run_serial(data, *, spark): ...

    def run_folds(data, *, spark, parallelism): ...

    def run_pool(data, *, spark, parallelism): ...

    one = scenario(
        variants=(run_serial, run_folds, run_pool),
        sizes={"ci": {"rows": 1, "folds": 3, "candidates": 2, "slots": 32, "parallelism": (8,)}},
        schedule={"serial": "serial", "folds": "folds", "pool": "pool"},
    )
    by_variant = {c.variant: c for c in plan_cells([one], replace(REQUEST, blocks=1))}
    assert {name: (c.bound, c.needs, c.session) for name, c in by_variant.items()} == {
        "serial": (1.0, 1, 32),
        "folds": (2.0, 2, 32),
        "pool": (6.0, 3, 32),
    }
    assert not any(c.oversubscribed or c.skip for c in by_variant.values())


def test_what_takes_neither_spark_nor_parallelism_needs_no_job():
    def run_serial(data): ...

    def run_on_spark(data, *, spark): ...

    one = scenario(variants=(run_serial, run_on_spark))
    # As where make_data takes `spark`: all have a session.
    one = replace(one, variants=tuple(replace(variant, on_spark=True) for variant in one.variants))
    assert {c.variant: c.needs for c in plan_cells([one], REQUEST)} == {"serial": 0, "on_spark": 1}
    # Where parallelism is slots, each variant with a session is one that goes parallel.
    slots = replace(one, parallelism="slots")
    assert all(c.needs == c.session for c in plan_cells([slots], REQUEST))


def test_a_cluster_gives_the_slots_that_it_has():
    def run_serial(data, *, spark): ...

    def run_pool(data, *, spark, parallelism): ...

    one = scenario(
        variants=(run_serial, run_pool),
        sizes={"ci": {"rows": 1, "folds": 3, "candidates": 2, "slots": 32, "parallelism": (16, 1, 8)}},
        schedule={"serial": "serial", "pool": "pool"},
    )
    cells = plan_cells([one], replace(REQUEST, blocks=1, local=False))
    assert {(c.variant, c.session, c.factors["parallelism"], c.skip) for c in cells} == {
        ("serial", 4, None, None),
        ("pool", 4, 4, None),
        ("pool", 4, 1, None),
    }
    # What was asked for by hand, and is more than there is, is left out by name.
    asked = plan_cells([scenario(parallelism="slots")], replace(REQUEST, blocks=1, local=False, slots=(8,)))
    assert {c.skip for c in asked} == {"it needs 8 slots and the cluster has 4"}


@pytest.mark.parametrize(
    ("schedule", "slots", "needs"),
    [("pool", 4, 4), ("pool", 8, 6), ("folds", 8, 2), ("serial", 8, 1), (None, 8, 8)],
)
def test_no_cell_needs_more_slots_than_it_has_fits(schedule, slots, needs):
    def run_search(data, *, spark): ...

    one = scenario(
        parallelism="slots",
        variants=(run_search,),
        sizes={"ci": {"rows": 1, "folds": 3, "candidates": 2}},
        schedule={"search": schedule} if schedule else {},
    )
    (cell,) = plan_cells([one], replace(REQUEST, blocks=1, slots=(slots,)))
    assert cell.needs == needs


@pytest.mark.parametrize(("own", "sessions"), [((1, 2), {1, 2}), (2, {2})])
def test_slots_of_a_file_are_those_of_its_sessions_also_where_parallelism_is_slots(own, sessions):
    def run_udf(data, *, spark): ...

    one = scenario(parallelism="slots", variants=(run_udf,), sizes={"ci": {"rows": 1, "slots": own}})
    assert {c.session for c in plan_cells([one], replace(REQUEST, blocks=1, cores=8))} == sessions
    asked = plan_cells([one], replace(REQUEST, blocks=1, cores=8, slots=(4,)))
    assert {c.session for c in asked} == {4}


@pytest.mark.parametrize(
    ("elsewhere", "marked"),
    [(False, {"udf", "loky"}), (True, {"loky"})],
    ids=["local[8] on two cores", "a cluster of eight, driven from two cores"],
)
def test_what_the_drivers_machine_has_too_few_cores_for_is_marked(elsewhere, marked):
    def run_loky(data, *, parallelism): ...

    def run_udf(data, *, spark): ...

    one = scenario(parallelism="slots", variants=(run_loky, run_udf), sizes={"ci": {"rows": 1}})
    asked = replace(REQUEST, blocks=1, cores=8, driver_cores=2, slots=(8,))
    cells = plan_cells([one], replace(asked, local=not elsewhere, shares_files=not elsewhere))
    assert {c.variant for c in cells if c.oversubscribed} == marked


def test_more_slots_than_cores_are_marked():
    cells = plan_cells([scenario(parallelism="slots")], replace(REQUEST, slots=(4, 8), blocks=1))
    assert {c.session: c.oversubscribed for c in cells} == {4: False, 8: True}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"size": "huge"}, "one.py: SIZES has no 'huge', only ci: add it, or take another --size"),
        ({"folds": (3, 99)}, "one.py: validate refuses: 99 folds of 10 rows"),
        ({"folds": (0,)}, "one.py: folds is 0"),
    ],
)
def test_what_the_data_cannot_give_is_refused_before_anything_runs(asked, message):
    def validate(*, rows, folds):
        if folds > rows:
            raise ValueError(f"{folds} folds of {rows} rows")

    with pytest.raises(UsageError, match=message):
        plan_cells([scenario(validate=validate)], replace(REQUEST, **asked))


def test_doublings_end_at_the_most():
    assert [doublings(most) for most in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]
    assert [doublings(most, 2) for most in (1, 2, 3, 8)] == [(1,), (2,), (2, 3), (2, 4, 8)]


def test_the_centre_is_the_first_value_of_each_factor():
    sizes = {"ci": {"folds": (4, 2), "slots": 8, "parallelism": (8,), "rows": 10}}
    assert sweep_centre(scenario(sizes=sizes), REQUEST) == {"folds": 4, "rows": 10}
    assert sweep_centre(scenario(sizes=sizes), replace(REQUEST, folds=(3, 6))) == {"folds": 3, "rows": 10}


def test_a_factor_takes_the_values_that_are_asked_for_in_the_kind_of_its_own():
    sizes = {
        "ci": {"folds": 3, "dataset": ("a", "b"), "rows": (10, 20), "share": 0.5, "size": (1, 0.1), "candidates": 1}
    }
    asked = {"dataset": ("b",), "rows": ("30", "40"), "share": ("1",), "size": ("2", "0.5")}
    cells = plan_cells([scenario(sizes=sizes), scenario("two")], replace(REQUEST, blocks=1, factors=asked))
    shapes = {name: {c.factors[name] for c in cells if c.scenario == "one"} for name in asked}
    assert shapes == {"dataset": {"b"}, "rows": {30, 40}, "share": {1.0}, "size": {2, 0.5}}
    assert {type(size) for size in shapes["size"]} == {int, float}
    assert {c.factors["rows"] for c in cells if c.scenario == "two"} == {30, 40}


def test_a_value_that_is_given_twice_is_planned_once():
    def run_serial(data, *, rows): ...

    sizes = {"ci": {"rows": (10, 20, 10), "leaf": (1, 1.0, 1)}}
    for asked, rows in (({}, {10, 20}), ({"rows": ("3", "03", "4")}, {3, 4})):
        request = replace(REQUEST, blocks=1, factors=asked)
        cells = plan_cells([scenario(sizes=sizes, variants=(run_serial,))], request)
        assert len({cell.id for cell in cells}) == len(cells) == 3
        assert {cell.factors["rows"] for cell in cells} == rows


def test_a_factor_that_is_true_or_false_or_a_name_or_a_number_is_read_as_that():
    sizes = {"ci": {**SIZE, "quick": True, "way": ("full", False), "gamma": ("scale", 0.1), "most": ("sqrt", 5, 0.5)}}
    asked = {"quick": ("False", "true"), "way": ("False", "Falsehood")}
    asked |= {"gamma": ("auto", "2"), "most": ("log2", "0.1", "-3", "nan")}
    cells = plan_cells([scenario(sizes=sizes)], replace(REQUEST, blocks=1, factors=asked))
    assert {name: {c.factors[name] for c in cells} for name in asked} == {
        "quick": {False, True},
        "way": {False, "Falsehood"},
        "gamma": {"auto", 2.0},
        "most": {"log2", 0.1, -3, "nan"},
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dates": ("1",)}, "no recipe asked for has a factor 'dates': they have candidates, quick, rows, share"),
        ({"rows": ("1.5",)}, "one.py: rows=1.5: '1.5' is not a whole number"),
        ({"quick": ("maybe",)}, "one.py: quick=maybe: 'maybe' is not True or False"),
        ({"share": ("nan",)}, "one.py: share=nan: 'nan' is not a finite number"),
        ({"share": ("-inf",)}, "one.py: share=-inf: '-inf' is not a finite number"),
    ],
)
def test_a_factor_that_is_none_or_a_value_of_another_kind_is_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        plan_cells([scenario(sizes={"ci": {**SIZE, "quick": True, "share": 0.5}})], replace(REQUEST, factors=asked))


def test_a_gate_runs_what_is_under_test_at_the_centre():
    sizes = {"ci": {"folds": (4, 2), "rows": 10}}
    request = replace(REQUEST, size="gate", gate=True, blocks=1)
    (cell,) = plan_cells([scenario(sizes=sizes)], request)
    assert (cell.variant, cell.factors) == ("pool", {"slots": 4, "parallelism": 4, "folds": 4, "rows": 10})
    gated = scenario(sizes={**sizes, "gate": {"folds": 3, "rows": 20}}, gated=("serial",))
    (cell,) = plan_cells([gated], request)
    assert (cell.variant, cell.factors) == ("serial", {"slots": 4, "parallelism": None, "folds": 3, "rows": 20})


def test_timed_calls_of_a_gate_come_from_the_size_and_shape_nothing():
    sizes = {"gate": {"rows": 10, "folds": 3, "candidates": 4, "calls": 4}, "ci": {"rows": 10, "folds": 3}}
    gate = replace(REQUEST, size="gate", gate=True)
    one, two = scenario("one", sizes=sizes), scenario("two", sizes={"ci": sizes["ci"]})
    cells = plan_cells([one, two], gate)
    assert {(c.scenario, c.calls) for c in cells} == {("one", 4), ("two", GATE_CALLS)}
    assert all("calls" not in c.factors for c in cells)
    assert "calls" not in sweep_centre(one, gate)
    # A benchmark makes two timed passes, there and back, whatever a size says; a smoke run makes one.
    assert {c.calls for c in plan_cells([one], replace(gate, gate=False))} == {2}
    small = scenario(sizes={"smoke": sizes["ci"]})
    assert {c.calls for c in plan_cells([small], replace(REQUEST, size="smoke"))} == {1}


def test_a_gate_shuffles_its_first_block_as_any_other():
    # There is no base case among its cells whose answer the others would wait for.
    def run_loky(data, *, parallelism): ...

    def run_udf(data, *, spark): ...

    each = scenario(parallelism="slots", sizes={"ci": {"rows": 10}}, variants=(lambda data: data, run_loky, run_udf))
    firsts = {plan_cells([each], replace(REQUEST, seed=seed, gate=True))[0].variant for seed in range(9)}
    assert firsts == {"loky", "udf"}


def test_of_crossed_factors_every_combination_is_planned_and_of_the_others_one_at_a_time():
    def run_serial(data, *, length, megabytes): ...

    sizes = {"ci": {"rows": (10, 20), "length": (2, 1, 3), "megabytes": (5, 4)}}
    crossed = scenario(sizes=sizes, variants=(run_serial,), crossed=("length", "megabytes"))
    cells = plan_cells([crossed], replace(REQUEST, blocks=1))
    factors = Counter((c.factors["rows"], c.factors["length"], c.factors["megabytes"]) for c in cells)
    combined = {(10, length, megabytes): 1 for length in (1, 2, 3) for megabytes in (4, 5)}
    assert factors == Counter(combined | {(20, 2, 5): 1})
    # `compare` runs the centre alone.
    (cell,) = plan_cells([replace(crossed, gated=("serial",))], replace(REQUEST, blocks=1, gate=True))
    assert (cell.factors["rows"], cell.factors["length"], cell.factors["megabytes"]) == (10, 2, 5)


def test_files_of_the_driver_are_for_executors_on_its_machine():
    def run_serial(data): ...

    def run_files(data, *, spark): ...

    files = [scenario(parallelism="slots", variants=(run_serial, run_files), local_files=True)]
    for shares, skipped in ((True, set()), (False, {"files"})):
        cells = plan_cells(files, replace(REQUEST, shares_files=shares, local=False))
        assert {cell.variant for cell in cells if cell.skip} == skipped
        assert all("files that the driver writes" in cell.skip for cell in cells if cell.skip)


def test_a_variant_without_its_package_is_planned_and_skipped_with_that_as_reason():
    whole = scenario()
    first, second = whole.variants
    lacking = replace(whole, variants=(first, replace(second, missing="absent")))
    reasons = {cell.variant: cell.skip for cell in plan_cells([lacking], REQUEST)}
    assert reasons == {"serial": None, "pool": "it needs the package absent, which is not installed here"}


def refuses(*, rows):
    raise ValueError("never")


def leaves(*, rows):
    raise SystemExit(3)


def fails(*, rows):
    pytest.fail("not today")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"validate": refuses}, "validate refuses: never"),
        ({"validate": leaves}, "validate raised SystemExit: 3: it may raise ValueError, to refuse"),
        ({"validate": fails}, "validate raised Failed: not today: it may raise ValueError, to refuse"),
        ({"sizes": {"full": {"rows": 1}}}, "SIZES has no 'ci', only full: add it, or take another --size"),
    ],
)
def test_what_cannot_be_planned_is_left_out_and_hinders_no_other(bad, reason):
    odd = scenario("odd", **bad)
    with pytest.raises(PlanError) as error:
        plan_cells([scenario(), odd], REQUEST)
    assert str(error.value) == f"odd.py: {reason}"
    cells, planned, left_out = plan_what_can_be([odd, scenario()], REQUEST)
    assert cells == plan_cells([scenario()], REQUEST)
    assert ([each.name for each in planned], left_out) == (["one"], {"odd.py": reason})
    with pytest.raises(PlanError):
        plan_what_can_be([odd], REQUEST)


def test_a_value_that_the_user_has_typed_is_not_passed_over():
    def validate(*, rows):
        if rows > 10:
            raise ValueError("too many")

    plan_what_can_be([scenario(validate=validate), scenario("two")], REQUEST)
    with pytest.raises(PlanError, match=r"one\.py: validate refuses: too many"):
        plan_what_can_be([scenario(validate=validate), scenario("two")], replace(REQUEST, factors={"rows": ("11",)}))


def test_who_stops_the_program_while_it_plans_is_heard():
    def validate(*, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_what_can_be([scenario(validate=validate), scenario("two")], REQUEST)


@given(seed=st.integers(0, 2**31))
def test_without_spark_what_keeps_workers_has_its_turns_in_a_row(seed):
    def run_serial(data, *, rows): ...

    def run_kept(data, *, parallelism, rows): ...

    def run_on_spark(data, *, spark, rows): ...

    variants = (run_serial, run_kept, run_on_spark)
    sizes = {"ci": {"rows": tuple(range(10, 16)), "parallelism": (2, 3)}}
    keeps = scenario("keeps", variants=variants, sizes=sizes, keeps_workers=True)
    plain = scenario("plain", variants=variants, sizes=sizes)
    cells = plan_cells([keeps, plain], replace(REQUEST, seed=seed, blocks=3))

    def uses(block, name):
        alone = [cell for cell in cells if cell.block == block and cell.session is None and cell.scenario == name]
        return [(cell.variant, cell.factors["parallelism"]) for cell in alone]

    for block in range(3):
        used = uses(block, "keeps")
        changes = [(one, other) for one, other in pairwise(used) if one != other]
        assert len(changes) + 1 == len(set(used))
        # The others stay in random order, and all are there.
        assert sorted(uses(block, "plain"), key=str) == sorted(used, key=str)
    # In some block they do not happen to come in a row: one chance in thousands a block.
    assert any(len({*pairwise(uses(block, "plain"))}) > len(set(uses(block, "plain"))) for block in range(3))
