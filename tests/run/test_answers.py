# SPDX-License-Identifier: Apache-2.0
"""A wrong answer is found out, however a recipe's own `check` says so, and nothing is held against a bad one."""

import math
import os
import subprocess
import sys
import unittest
from dataclasses import asdict, replace

import numpy as np
import pytest

from suite.errors import InvalidCellError
from suite.machine.environment import ROOT
from suite.machine.signals import InterruptError
from suite.plan.cells import Cell
from suite.records import Record
from suite.run.answers import References, find_complaint, plain_answer

BASE = Cell("1", "s", "serial", "serial", "job", True, {"rows": 3}, 0, 0, None, None, None, None, False)
OTHER = replace(BASE, id="2", variant="pool", base=False, factors={"rows": 3, "slots": 2})


def asserts(reference, answer):
    assert reference == answer


def calls_numpy(reference, answer):
    np.testing.assert_allclose(reference["x"], answer["x"])


def calls_pytest(reference, answer):
    if reference != answer:
        pytest.fail("not the same")


def calls_unittest(reference, answer):
    unittest.TestCase().assertEqual(reference, answer)  # noqa: PT009 - what a recipe may use


def exits(reference, answer):
    if reference != answer:
        sys.exit("not the same")


def returns_a_verdict(reference, answer):
    return reference == answer


def returns_numpys(reference, answer):
    return np.allclose(reference["x"], answer["x"])


def returns_words(reference, answer):
    return None if reference == answer else "not the same"


CHECKS = [asserts, calls_numpy, calls_pytest, calls_unittest, exits, returns_a_verdict, returns_numpys, returns_words]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_wrong_answer_is_found_out_whatever_the_check_uses(check):
    assert find_complaint(check, {"x": 1.0}, {"x": 1.0}) is None
    complaint = find_complaint(check, {"x": 1.0}, {"x": 2.0})
    assert complaint
    assert "\n" not in complaint


@pytest.mark.parametrize("wrong", [NameError, TypeError, AttributeError, KeyError, IndexError, ZeroDivisionError])
def test_a_check_that_fails_itself_is_no_answer_that_differs(wrong):
    def check(reference, answer):
        raise wrong("oh")

    with pytest.raises(InvalidCellError, match=rf"^its check failed: test_answers.py check: {wrong.__name__}: '?oh'?$"):
        find_complaint(check, 1, 1)


def test_a_check_cannot_change_what_later_answers_are_held_against():
    def empties(reference, answer):
        assert reference.pop("x") == answer.pop("x")

    reference, answer = {"x": 1}, {"x": 1}
    assert find_complaint(empties, reference, answer) is None
    assert (reference, answer) == ({"x": 1}, {"x": 1})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InterruptError])
def test_who_stops_the_run_is_no_complaint(stop):
    def interrupted(reference, answer):
        raise stop

    with pytest.raises(stop):
        find_complaint(interrupted, 1, 1)


@pytest.mark.parametrize(
    ("answer", "said"), [(None, "is None"), ({1, 2}, "not plain JSON"), (float("nan"), "not plain JSON")]
)
def test_an_answer_has_to_say_something_that_json_can(answer, said):
    with pytest.raises(InvalidCellError, match=said):
        plain_answer(answer)


def test_keys_become_texts_and_a_check_that_misses_a_number_is_told_why():
    answer = plain_answer({"found": [({0: 1.5},)]})
    assert answer == {"found": [[{"0": 1.5}]]}
    with pytest.raises(InvalidCellError, match="KeyError: 0: answers are kept as JSON, in which all keys are texts"):
        find_complaint(lambda reference, answer: reference[0], {"0": 1.5}, {"0": 1.5})
    with pytest.raises(InvalidCellError, match="two of its keys are the same as texts"):
        plain_answer({"found": {1: "lost", "1": "kept"}})


@pytest.mark.parametrize("verdict", [np.array([True, False]), np.array([True, True])])
def test_a_check_that_returns_neither_true_nor_false_has_failed_itself(verdict):
    said = r"test_answers\.py check: it returned array\(\[ ?True, .*neither true nor false: let it raise"
    with pytest.raises(InvalidCellError, match=said):
        find_complaint(lambda reference, answer: verdict, 1, 1)


def test_a_check_that_is_no_function_of_python_is_named_by_its_module():
    with pytest.raises(InvalidCellError, match="its check failed: math check: TypeError: must be real number"):
        find_complaint(math.isclose, {"x": 1}, {"x": 1})


def record(cell, answer, **values):
    return Record.of_cell(asdict(cell), **{"status": "ok", "answer": answer, **values})


def test_answers_are_held_against_the_base_case_and_nothing_else():
    references = References([record(OTHER, 7)], own=False)
    with pytest.raises(InvalidCellError, match="the base case gave no right answer to hold this one against"):
        references.check(OTHER, asserts, [7, 7])
    references.remember(record(BASE, 8))
    with pytest.raises(InvalidCellError, match=r"differs from that of s\.serial: AssertionError"):
        references.check(OTHER, asserts, [7, 7])
    with pytest.raises(InvalidCellError, match="differs"):
        references.check(OTHER, asserts, [7, 8])
    assert references.check(OTHER, asserts, [8, 8]) == 8
    # Another question.
    with pytest.raises(InvalidCellError, match="no right answer"):
        references.check(replace(OTHER, factors={"rows": 4}), asserts, [8])


@pytest.mark.parametrize("status", ["failed", "invalid", "timeout", "skipped"])
def test_a_base_case_that_is_not_good_is_no_reference(status):
    references = References([record(BASE, 8, status=status)], own=False)
    with pytest.raises(InvalidCellError, match="no right answer"):
        references.check(OTHER, asserts, [8])


def test_a_base_case_is_held_against_its_own_first_call():
    references = References([], own=False)
    assert references.check(BASE, asserts, [8, 8]) == 8
    with pytest.raises(InvalidCellError, match="its own first call"):
        references.check(BASE, asserts, [8, 9])


def test_a_base_case_finds_the_answer_by_two_calls_that_agree():
    references = References([], own=False)
    assert references.lacks(BASE)
    with pytest.raises(InvalidCellError, match="its own first call"):
        references.find(BASE, asserts, [8, 9])
    assert references.lacks(BASE)
    references.find(BASE, asserts, [8, 8])
    assert not references.lacks(BASE)
    assert references.check(OTHER, asserts, [8]) == 8
    # Later calls of its own are held against it too.
    with pytest.raises(InvalidCellError, match=r"that of s\.serial"):
        references.check(BASE, asserts, [9])
    assert not references.lacks(OTHER)
    assert not References([], own=True).lacks(BASE)


def test_an_answer_of_an_early_pass_is_checked_where_it_can_be():
    references = References([], own=False)
    assert references.check_if_known(OTHER, asserts, [7]) == 7
    with pytest.raises(InvalidCellError, match="its answer is None"):
        references.check_if_known(OTHER, asserts, [None])
    references.find(BASE, asserts, [8, 8])
    with pytest.raises(InvalidCellError, match="differs"):
        references.check_if_known(OTHER, asserts, [7])


def test_a_side_of_a_comparison_has_no_base_case():
    assert References([], own=True).check(OTHER, asserts, [8, 8]) == 8


def test_nothing_is_checked_where_asserts_are_switched_off():
    done = subprocess.run(
        [sys.executable, "-O", "-c", "import suite.run.answers"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("RuntimeError: a recipe's `check` may use assert")
