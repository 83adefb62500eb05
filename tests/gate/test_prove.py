# SPDX-License-Identifier: Apache-2.0
"""The proof of the gate: its cases can be made, its extra work is what it says, its decisions are those of the gate."""

import inspect
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from suite.gate import power, prove, trials
from suite.machine.signals import InterruptError
from suite.plan.scenario import load_scenario
from suite.records import Record


@contextmanager
def alone(*names):
    """Files of these names can be loaded, though others of the same name have been."""
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    path = list(sys.path)
    sys.path[:] = [folder for folder in path if not any((Path(folder) / f"{name}.py").exists() for name in names)]
    try:
        yield
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(kept)


@pytest.mark.parametrize("name", trials.CASES)
def test_both_sides_of_each_case_are_recipes_that_differ_as_they_should(name, tmp_path):
    case = trials.CASES[name]
    texts = []
    for number, side in enumerate((case.base, case.head)):
        folder = tmp_path / str(number)
        folder.mkdir()
        trials.write_side(folder, case.recipe, side)
        file = folder / f"{case.recipe}.py"
        assert file.exists() == (side is not None)
        if side is not None:
            with alone(case.recipe):
                load_scenario(file)
            texts.append(file.read_text())
    same = name in ("nothing changed", "busy neighbour", "going first")
    assert len(set(texts)) == (1 if same or len(texts) == 1 else 2)
    assert set(case.expected) <= {"pass", "regression", "inconclusive"}


def test_every_recipe_that_the_gate_judges_gets_extra_work():
    cells = [injection.cell for injection in prove.injections(2)]
    assert {"grid_search_single_node.loky", "grid_search_spark_backend.spark_pool", "time_series_cv.pool"} < set(cells)
    assert {"one_pass_time_series_cv.one_pass", "udf_inference.map_in_arrow"} < set(cells)


@pytest.mark.parametrize("cell", ["grid_search_single_node.loky", "udf_inference.map_in_arrow"])
def test_extra_work_changes_neither_the_signature_nor_the_label(cell, tmp_path):
    scenario, variant = cell.split(".")
    prove.Injection(cell).write_recipes(tmp_path / "slower", 3)
    found = []
    for folder in (prove.SCENARIOS, tmp_path / "slower"):
        with alone(scenario):
            found += [each for each in load_scenario(folder / f"{scenario}.py").variants if each.name == variant]
    one, other = found
    assert one.label == other.label
    assert one.takes == other.takes
    assert inspect.signature(one.function) == inspect.signature(other.function)
    assert one.function.__code__ != other.function.__code__


def test_extra_work_is_as_much_as_takes_a_share_of_the_recipes_time(monkeypatch):
    lines = [{"part": "A/A", "seconds": {"a.pool": {"base": [0.9, 1.0], "head": [1.0, 1.1]}}}] * 3
    monkeypatch.setattr(prove, "cost_of_unit", lambda: 0.01)
    first = {"+10 %": 10, "+15 %": 15, "+20 %": 20, "+30 %": 30}
    assert prove.units_of(prove.Injection("a.pool"), lines) == first
    # All blocks of a recipe get as much, though the machine became slower.
    monkeypatch.setattr(prove, "cost_of_unit", lambda: 0.02)
    assert prove.units_of(prove.Injection("a.pool"), [*lines, {"part": "a.pool", "units": first}]) == first


def blocks(part, sides, number, rng):
    """Made-up times of two recipes, of which the second is as slow as its side says."""
    return [
        {
            "part": part,
            "block": block,
            "machine": "made up",
            "revision": None,
            "order": list(sides),
            "seconds": {
                name: {
                    side: [float(np.exp(rng.normal(0, 0.03))) * (ratio if name == "b.pool" else 1)]
                    for side, ratio in sides.items()
                }
                for name in (("a.pool", "b.pool") if part == "A/A" else ("b.pool",))
            },
        }
        for block in range(number)
    ]


class Block:
    """A block in which the variant `pool` has a time on head alone."""

    order = (["head", "base"],)

    def records(self, side):
        cell = {"id": "", "scenario": "a", "variant": "pool", "label": "", "workload": "", "base": False, "factors": {}}
        ran = {"status": "ok", "reason": None, "seconds": 1.0, "warm_seconds": [0.9, 1.1], "cpu_seconds": [1.0, 1.2]}
        idle = {"status": "invalid", "reason": "a slot was idle"}
        return [Record.of_cell(cell | {"block": 0, "order": 0}, **(ran if side == "head" else idle))]


def test_a_proof_keeps_why_a_time_is_missing(tmp_path, monkeypatch, capsys):
    for name in ("make_plans", "existing_cluster", "find_java"):
        monkeypatch.setattr(prove, name, lambda *_: None)
    busy = [{"before": {}, "after": {}}]
    monkeypatch.setattr(prove, "Comparison", lambda *_: SimpleNamespace(run=lambda *_: Block(), loads=busy))
    (tmp_path / "made" / "block").mkdir(parents=True)
    folders = {"base": tmp_path, "head": tmp_path}
    prove.Proof(tmp_path)._run(tmp_path / "made", power.AGAINST_ITSELF, 0, folders, None)
    (line,) = power.read_blocks(tmp_path)
    assert line["seconds"] == {"a.pool": {"head": [0.9, 1.1]}}
    assert line["lost"] == {"a.pool": {"base": "a slot was idle"}}
    assert "no time of a.pool: base: a slot was idle" in capsys.readouterr().out


def test_decisions_on_made_up_blocks(tmp_path, capsys):
    rng = np.random.default_rng(0)
    lines = blocks("A/A", {"base": 1, "head": 1}, 40, rng)
    lines += blocks("b.pool", {"base": 1, "+5 %": 1.05, "+20 %": 1.2}, 20, rng)
    (tmp_path / "times.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert power.decide_often(tmp_path, many=200, outer=10)
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert proof["A/A"]["blocks"] == 40
    assert proof["A/A"]["regression"] == 0
    assert proof["shifted"]["a.pool"]["regression"] >= 0.95
    assert proof["power"]["b.pool"]["+20 %"]["regression"] >= 0.95
    assert proof["power"]["b.pool"]["+5 %"]["regression"] <= 0.05
    assert (tmp_path / "power.png").stat().st_size > 0
    assert "A/A, 40 blocks: 0.00% alarms" in capsys.readouterr().out
    # A proof that does not hold says so.
    proof["A/A"]["regression"] = 0.02
    assert not power.tell_proof(proof)
    proof["A/A"] |= {"regression": 0.0, "inconclusive": 0.05}
    assert not power.tell_proof(proof)
    proof["A/A"]["inconclusive"] = 0.0
    proof["power"]["b.pool"]["+20 %"]["regression"] = 0.9
    assert not power.tell_proof(proof)
    proof["power"] = {}
    assert not power.tell_proof(proof)


def test_nothing_measured_proves_nothing(tmp_path, capsys):
    assert not power.decide_often(tmp_path, many=10, outer=1)
    assert "measure first" in capsys.readouterr().out


def test_a_block_that_lacks_a_recipe_is_left_out():
    lines = blocks("A/A", {"base": 1, "head": 1}, 3, np.random.default_rng(0))
    del lines[1]["seconds"]["a.pool"]["head"]
    assert {name: len(values) for name, values in power.block_logarithms(lines, "A/A", "head").items()} == {
        "a.pool": 2,
        "b.pool": 2,
    }


def test_each_case_is_tried_so_many_times_and_a_stopped_proof_goes_on(tmp_path, monkeypatch, capsys):
    tried = []

    def run_trial(case):
        tried.append(case.what)
        if len(tried) == 3:
            raise InterruptError("SIGINT")
        return {"right": case is not cases["b"]}

    cases = {name: trials.Case(f"case {name}", ("pass",), "") for name in ("a", "b")}
    monkeypatch.setattr(trials, "CASES", cases)
    monkeypatch.setattr(trials, "run_trial", run_trial)
    with pytest.raises(InterruptError):
        trials.run_trials(tmp_path, [], 2)
    # One after the other, so that the trials of a case lie apart; the third was interrupted.
    assert tried == ["case a", "case b", "case a"]
    assert not trials.run_trials(tmp_path, [], 2)
    assert tried[3:] == ["case a", "case b"]
    assert "2 of 4 verdicts right; wrong: b" in capsys.readouterr().out
    found = json.loads((tmp_path / "verdicts.json").read_text())["cases"]
    assert {name: [trial["right"] for trial in one["trials"]] for name, one in found.items()} == {
        "a": [True, True],
        "b": [False, False],
    }
    # A case that is named is tried anew; the others stay.
    trials.run_trials(tmp_path, ["a"], 1)
    assert tried[5:] == ["case a"]
    assert "1 of 3 verdicts right" in capsys.readouterr().out


def test_verdicts_are_proven_only_where_every_case_was_tried(capsys):
    right = {name: {"trials": [{"right": True}]} for name in trials.CASES}
    assert trials.tell_trials(right)
    del right["busy neighbour"]
    assert not trials.tell_trials(right)
    assert "not tried yet: busy neighbour" in capsys.readouterr().out
