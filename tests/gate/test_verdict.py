# SPDX-License-Identifier: Apache-2.0
"""From records of two sides to a verdict: each thing that can be wrong is caught and named."""

import math

import pytest

from suite.gate.gate_zero import Finding, SideRecords, compare_records
from suite.gate.sign_flip import SCREEN, Judgement, flag_slower, judge
from suite.gate.verdict import decide
from suite.records import Record

BLOCKS = 8
CELL = {"id": "", "scenario": "a", "variant": "pool", "label": "", "workload": "", "base": False, "factors": {}}
CELL |= {"block": 0, "order": 0}


def records(seconds=1.0, answer=None, status="ok", reason=None, engaged=None):
    """One record in each block; a list gives each block its own."""

    def of(value, block):
        return value[block] if isinstance(value, list) else value

    return {
        block: Record.of_cell(
            CELL,
            status=of(status, block),
            reason=of(reason, block),
            seconds=of(seconds, block),
            warm_seconds=[of(seconds, block)],
            answer=of({"best": 1} if answer is None else answer, block),
            engaged=of(engaged, block),
        )
        for block in range(BLOCKS)
    }


def side(broken=None, made_with=None, **recipes):
    named = {name.replace("_of_", "."): each for name, each in recipes.items()}
    return SideRecords(set(named), named, broken or {}, made_with or {})


def agree(triples):
    return [None if base == head else f"{head} is not {base}" for _, base, head in triples]


def gate0(base, head, *, strict=True, complaints=agree):
    return compare_records(base, head, BLOCKS, complaints, strict=strict)


def only(compared):
    (finding,) = compared.findings
    return finding.kind, finding.name, finding.text


def test_equal_sides_leave_the_logarithms_of_their_ratios():
    base = side(a_of_pool=records([1.0] * BLOCKS), b_of_pool=records(2.0))
    head = side(a_of_pool=records([1.1] * BLOCKS), b_of_pool=records(2.0))
    compared = gate0(base, head)
    assert compared.findings == []
    assert compared.logarithms["a.pool"] == pytest.approx([math.log(1.1)] * BLOCKS)
    assert compared.logarithms["b.pool"] == [0.0] * BLOCKS


def test_a_failure_on_head_is_a_regression_and_one_on_base_is_not():
    fails = records(status=["ok"] * 7 + ["failed"], reason="ValueError: no", seconds=[1.0] * 7 + [None])
    assert only(gate0(side(a_of_pool=records()), side(a_of_pool=fails))) == (
        "regression",
        "a.pool",
        "fails on head: failed: ValueError: no (in 1 of 8 blocks)",
    )
    kind, _, text = only(gate0(side(a_of_pool=fails), side(a_of_pool=records())))
    assert (kind, text) == ("unclear", "fails on base: failed: ValueError: no (in 1 of 8 blocks)")
    assert only(gate0(side(a_of_pool=fails), side(a_of_pool=fails)))[0] == "unclear"


def test_what_is_skipped_on_both_sides_for_one_reason_is_a_note():
    def skips(reason):
        return records(status="skipped", reason=reason, seconds=None)

    both = side(a_of_pool=skips("it needs dask"))
    assert only(gate0(both, both)) == ("note", "a.pool", "is skipped on both sides: it needs dask")
    assert only(gate0(both, side(a_of_pool=skips("it needs ray"))))[0] == "unclear"
    assert only(gate0(side(a_of_pool=records()), both))[0] == "regression"


def test_idle_slots_on_head_are_a_regression_and_a_lost_worker_is_not():
    idle = records(status="invalid", reason="only 1 of the 2 slots that it needs were busy at once", seconds=None)
    kind, _, text = only(gate0(side(a_of_pool=records()), side(a_of_pool=idle)))
    assert (kind, text) == ("regression", f"fails on head: invalid: {idle[0].reason}")
    struck = records(status="invalid", reason="disturbed: executor 1 was lost", seconds=None)
    assert only(gate0(side(a_of_pool=records()), side(a_of_pool=struck)))[0] == "unclear"


def test_a_missing_record_is_named():
    short = {block: record for block, record in records().items() if block != 5}
    assert only(gate0(side(a_of_pool=records()), side(a_of_pool=short))) == (
        "unclear",
        "a.pool",
        "head has no record of block 5",
    )


def test_recipes_of_one_side_only():
    both = {"a_of_pool": records()}
    assert only(gate0(side(**both), side(**both, b_of_pool=records())))[:2] == ("note", "b.pool")
    assert only(gate0(side(**both, b_of_pool=records()), side(**both))) == ("unclear", "b.pool", "is in base only")


def test_a_file_that_imports_no_more():
    broken = {"b": "it does not import: ModuleNotFoundError: x"}
    both = {"a_of_pool": records()}
    kind, name, text = only(gate0(side(**both, b_of_pool=records()), side(broken, **both)))
    assert (kind, name) == ("regression", "b")
    assert text == f"head: {broken['b']}"
    assert only(gate0(side(broken, **both), side(**both, b_of_pool=records())))[0] == "unclear"
    assert {one.kind for one in gate0(side(broken, **both), side(broken, **both)).findings} == {"unclear"}


def test_a_changed_answer_is_a_regression_in_the_words_of_the_recipe():
    compared = gate0(side(a_of_pool=records()), side(a_of_pool=records(answer={"best": 2})), strict=False)
    assert only(compared) == ("regression", "a.pool", "its answer changed: {'best': 2} is not {'best': 1}")
    assert compared.logarithms == {}


def test_an_answer_that_is_wrong_in_one_block_is_a_regression():
    now_and_then = [{"best": 1}] * (BLOCKS - 1) + [{"best": 2}]
    compared = gate0(side(a_of_pool=records()), side(a_of_pool=records(answer=now_and_then)), strict=False)
    assert only(compared) == ("regression", "a.pool", "its answer changed: {'best': 2} is not {'best': 1}")


def content(triples):
    return [None] * len(triples)


def test_last_digits_count_under_one_lock_and_only_where_they_never_vary():
    one, other = {"score": 0.5}, {"score": 0.5000000001}
    pair = side(a_of_pool=records(answer=one)), side(a_of_pool=records(answer=other))
    kind, _, text = only(gate0(*pair, complaints=content))
    assert (kind, text) == ("regression", "its answer changed in the last digits: score 0.5 became 0.5000000001")
    assert gate0(*pair, complaints=content, strict=False).findings == []
    varied = side(a_of_pool=records(answer=[one, other] * 4))
    assert gate0(varied, pair[1], complaints=content).findings == []


def ran(jobs, tasks=8):
    return {"jobs": jobs, "stages": jobs, "tasks": tasks}


def test_more_spark_jobs_are_a_regression_under_one_lock_and_fewer_are_told():
    few, many = side(a_of_pool=records(engaged=ran(3))), side(a_of_pool=records(engaged=ran(4)))
    more = "does more: 3 Spark jobs became 4, 3 Spark stages became 4"
    assert only(gate0(few, many)) == ("regression", "a.pool", more)
    assert only(gate0(few, many, strict=False)) == ("note", "a.pool", more)
    assert only(gate0(many, few))[0] == "note"
    # Their times are compared all the same.
    assert list(gate0(few, many).logarithms) == ["a.pool"]


def test_counts_that_vary_by_themselves_are_not_judged():
    varied = side(a_of_pool=records(engaged=[ran(3), ran(4)] * 4))
    assert gate0(varied, side(a_of_pool=records(engaged=ran(9)))).findings == []


def test_unequal_environments_are_named_under_one_lock():
    base = side(made_with={"python": "3.11.7", "pyspark": "4.3.0"}, a_of_pool=records())
    head = side(made_with={"python": "3.11.7", "pyspark": "4.2.0"}, a_of_pool=records())
    assert only(gate0(base, head)) == ("unclear", "environment", "the sides differ in pyspark 4.3.0 and 4.2.0")
    assert gate0(base, head, strict=False).findings == []


# --- the verdict

QUIET = Judgement(1.01, 0.97, 1.05, 0.4, False, 8)
WIDE = Judgement(1.05, 0.90, 1.31, 0.3, False, 8)
SLOW = Judgement(1.22, 1.15, 1.30, 1 / 256, True, 8)


def test_pass_says_what_it_means():
    verdict = decide([], {"a.pool": QUIET, "b.pool": QUIET})
    assert (verdict.word, verdict.exit_code) == ("pass", 0)
    assert verdict.line == "no recipe of 2 takes 1.20 times as long or longer"


def test_a_slowdown_has_to_be_confirmed():
    assert decide([], {"a.pool": SLOW}, {"a.pool": SLOW}).exit_code == 3
    assert "a.pool takes 1.22 times as long (1.15 to 1.30)" in decide([], {"a.pool": SLOW}, {"a.pool": SLOW}).line
    assert decide([], {"a.pool": SLOW}, {"a.pool": QUIET}).exit_code == 0
    assert decide([], {"a.pool": SLOW}, {"a.pool": WIDE}).exit_code == 4
    assert decide([], {"a.pool": SLOW}).exit_code == 4


def test_too_noisy_is_no_pass():
    verdict = decide([], {"a.pool": WIDE, "b.pool": QUIET})
    assert (verdict.word, verdict.exit_code) == ("inconclusive", 4)
    assert verdict.line.startswith("a.pool may take up to 1.31 times as long")


def test_findings_weigh_as_they_should():
    assert decide([Finding("regression", "a.pool", "fails on head")], {"b.pool": QUIET}).exit_code == 3
    assert decide([Finding("unclear", "a.pool", "is in base only")], {"b.pool": QUIET}).exit_code == 4
    assert decide([Finding("note", "a.pool", "is new")], {"b.pool": QUIET}).exit_code == 0
    # What is sure outweighs what is not.
    assert decide([Finding("unclear", "a.pool", "is in base only")], {"b.pool": SLOW}, {"b.pool": SLOW}).exit_code == 3
    assert decide([], {}).exit_code == 4


def test_a_busy_neighbour_and_going_first_do_not_look_like_a_slowdown():
    # A neighbour slows both sides of a block by half; whoever goes first is a tenth faster, and a fair coin says who.
    neighbour = [1.0, 1.5] * 4
    first = [1.0, 1.1, 1.1, 1.0, 1.0, 1.1, 1.1, 1.0]
    second = [2.1 - each for each in first]
    base = side(a_of_pool=records([n * f for n, f in zip(neighbour, first, strict=True)]))
    head = side(a_of_pool=records([n * s for n, s in zip(neighbour, second, strict=True)]))
    screened = judge(gate0(base, head).logarithms, SCREEN[1])
    assert flag_slower(screened) == []
    assert decide([], screened).word == "pass"


def test_a_faster_serial_base_case_is_no_business_of_the_gate():
    # Judged is the parallel time, never the speedup over a base case: that one is not even run.
    base, head = side(a_of_pool=records(2.0)), side(a_of_pool=records(2.0))
    assert decide([], judge(gate0(base, head).logarithms, SCREEN[1])).word == "pass"
