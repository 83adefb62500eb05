# SPDX-License-Identifier: Apache-2.0
"""A variant of an earlier run can be run by hand, as CONTRIBUTING says."""

import json
import subprocess
import sys

import pytest

from suite.errors import UsageError
from suite.machine.environment import ROOT
from suite.machine.processes import child_environment
from suite.run.assignment import Assignment, assign_by_hand

RUN = ROOT / "results" / "local"


def test_a_variant_of_a_run_is_assigned_with_its_cells_of_one_block(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assignment = assign_by_hand(RUN, "grid_search_single_node.serial")
    assert Assignment.parse(assignment.dump()) == assignment
    planned = json.loads((RUN / "plan.json").read_text())["cells"]
    mine = ("grid_search_single_node", "serial", 0)
    same = [cell["id"] for cell in planned if (cell["scenario"], cell["variant"], cell["block"]) == mine]
    assert [cell.id for cell in assignment.cells] == same


def test_recipes_from_elsewhere_their_data_and_settings_are_those_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    plan = json.loads((RUN / "plan.json").read_text())
    name = "grid_search_single_node"
    plan["scenarios"] = {name: plan["scenarios"][name], "udf_inference": plan["scenarios"]["udf_inference"]}
    plan["options"] |= {"scenario": [f"/mine/{name}.py"], "data": "/rows", "conf": ["spark.x=1"]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assignment = assign_by_hand(tmp_path, f"{name}.serial")
    assert assignment.files == [f"/mine/{name}.py", str(ROOT / "scenarios" / "udf_inference.py")]
    assert (assignment.data, assignment.conf) == ("/rows", {"spark.x": "1"})
    plan["options"] |= {"scenario": [], "scenarios": "/my"}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert assign_by_hand(tmp_path, f"{name}.serial").files[0] == f"/my/{name}.py"


def test_what_a_run_does_not_have_is_named():
    with pytest.raises(UsageError, match=r"has no .nowhere\.serial.: there are .*grid_search_single_node\.serial, "):
        assign_by_hand(RUN, "nowhere.serial")


def test_the_commands_of_contributing_run_it(tmp_path):
    # pytest-benchmark times nothing where it sees that tests run in several processes.
    environment = {**child_environment(), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "suite.run.assignment", str(RUN), "grid_search_single_node.serial"]
    assigned = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (tmp_path / "assignment.json").write_text(assigned.stdout)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "suite/run/test_cell.py", "-s", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**environment, "FOLDOUT_ASSIGNMENT": str(tmp_path / "assignment.json")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said = process.stdout.read()
    assert process.returncode == 0, said
    told = [json.loads(line[line.index("{") :]) for line in said.splitlines() if '{"done": ' in line]
    assert [each["done"]["status"] for each in told] == ["ok"] * len(json.loads(assigned.stdout)["cells"])
