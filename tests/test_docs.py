# SPDX-License-Identifier: Apache-2.0
"""What CONTRIBUTING.md and README.md name is there."""

import importlib
import json
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RULES = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
MODULES = {path.stem for path in (ROOT / "suite").glob("*.py")}


def test_there_are_fifteen_rules():
    assert [int(number) for number, _, _ in RULES] == list(range(1, 16))


@pytest.mark.parametrize(("number", "where"), [(number, where) for number, _, where in RULES])
def test_each_rule_names_places_that_exist(number, where):
    # `session.position` is a field of a record, which its line says.
    named = re.findall(r"`([\w.]+)`", where.replace("`session.position` of a record", ""))
    places = [name.split(".") for name in named if name.split(".")[0] in MODULES]
    assert places, f"rule {number} names no place"
    for module, *rest in places:
        found = importlib.import_module(f"suite.{module}")
        for name in rest:
            found = getattr(found, name)


def test_files_that_the_readme_links_to_are_there():
    text = (ROOT / "README.md").read_text()
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    missing = [target for target in linked if not (ROOT / target).exists()]
    assert linked
    assert missing == []


def test_the_readmes_lines_of_pandas_load_each_planned_cell_once(monkeypatch):
    text = (ROOT / "README.md").read_text()
    (snippet,) = re.findall(r"^    import pandas as pd\n(?:    .+\n)+", text, re.MULTILINE)
    monkeypatch.chdir(ROOT)
    found = {}
    exec(textwrap.dedent(snippet), found)
    planned = json.loads((ROOT / "results" / "local" / "plan.json").read_text())["cells"]
    assert sorted(found["runs"]["id"]) == sorted(cell["id"] for cell in planned)
    assert {"seconds", "cold_seconds", "factors.slots", "engaged.tasks", "overhead.driver"} <= set(found["runs"])


def test_figures_of_the_gates_proof_are_those_of_its_files():
    """The sentences of the README that quote `results/gate/proof.json`."""
    proof = json.loads((ROOT / "results" / "gate" / "proof.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    null = proof["A/A"]
    assert f"{null['blocks']} blocks of base against itself" in text
    assert f"{100 * null['regression']:.2f} % false alarms" in text
    for levels in proof["power"].values():
        assert f"{100 * levels['+20 %']['regression']:.1f} %" in text
