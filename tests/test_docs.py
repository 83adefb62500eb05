# SPDX-License-Identifier: Apache-2.0
"""What CONTRIBUTING.md and README.md name is there."""

import contextlib
import importlib
import json
import re
import statistics
import textwrap
from pathlib import Path

import pytest

from suite.report.against import find_contests, tables_against
from suite.report.points import read_run
from suite.report.variance import variance_table

ROOT = Path(__file__).resolve().parent.parent
RULES = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
PEERS = re.findall(r"\w+", re.search(r"suite bench (parallel_break_even[^{]+)", (ROOT / "tox.ini").read_text())[1])
PACKAGES = {path.stem for path in (ROOT / "suite").iterdir() if not path.name.startswith("_")}


def test_there_are_fifteen_rules():
    assert [int(number) for number, _, _ in RULES] == list(range(1, 16))


@pytest.mark.parametrize(("number", "where"), [(number, where) for number, _, where in RULES])
def test_each_rule_names_places_that_exist(number, where):
    places = [name for name in re.findall(r"`([\w.]+)`", where) if name.split(".")[0] in PACKAGES]
    assert places, f"rule {number} names no place"
    for place in places:
        assert resolve(f"suite.{place}") is not None


def resolve(name):
    """What a dotted name means: a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(".".join(parts[:length]))
            for attribute in parts[length:]:
                found = getattr(found, attribute)
            return found
    return None


def test_contributing_names_every_module_and_no_other():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## How the parts fit")[2].partition("A run, from")[0]
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.+?) \|$", table, re.MULTILINE))
    for package, about in rows.items():
        named = set(re.findall(r"`(\w+)`", about))
        there = {path.stem for path in (ROOT / "suite" / package).glob("*.py")} - {"__init__"}
        assert named == there, package
    assert rows.keys() == {path.parent.name for path in (ROOT / "suite").glob("*/__init__.py")}


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


QUOTED = re.findall(
    r"^<!-- python -m suite report results/(\w+) --against (\S+) -->$", (ROOT / "README.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("name", "variant"), QUOTED)
def test_tables_in_the_readme_are_those_of_their_runs(name, variant):
    folder = ROOT / "results" / name
    tables = tables_against(find_contests(read_run(folder), variant, folder))
    quoted = f"<!-- python -m suite report results/{name} --against {variant} -->\n{tables}\n"
    assert quoted in (ROOT / "README.md").read_text()


ANALYSED = re.findall(
    r"^<!-- python -m suite variance results/(\w+) -->$", (ROOT / "README.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize("name", ANALYSED)
def test_analyses_of_variance_in_the_readme_are_those_of_their_runs(name):
    quoted = f"<!-- python -m suite variance results/{name} -->\n{variance_table(read_run(ROOT / 'results' / name))}\n"
    assert quoted in (ROOT / "README.md").read_text()


def test_the_readme_quotes_tables():
    assert len(ANALYSED) == len(set(ANALYSED)) > 0
    assert len(QUOTED) == len(set(QUOTED)) > 0


def test_figures_of_two_workers_are_those_of_its_run():
    run = read_run(ROOT / "results" / "two_workers")
    by_variant = {point.variant: point for point in run.points}
    text = " ".join((ROOT / "README.md").read_text().split())
    speedup, bound = run.speedup(by_variant["pool"]).median, run.bound(by_variant["pool"])
    assert f"The pool is {speedup:.2f} times as fast as one fit at a time, where its fits allow {bound:.2f}" in text
    alone = [cell.overhead["driver"] / cell.warm_seconds[-1] for cell in by_variant["one_at_a_time"].cells]
    assert f"for {statistics.median(alone):.0%} of the time of one fit at a time".replace("%", " %") in text
    assert {cell.engaged["executors"] for cell in run.cells} == {2}


def test_figures_of_waits_on_eight_slots_are_those_of_their_run():
    run = read_run(ROOT / "results" / "waiting_eight")
    by_variant = {point.variant: point for point in run.points}
    text = " ".join((ROOT / "README.md").read_text().split())
    speedup, bound = run.speedup(by_variant["pool"]).median, run.bound(by_variant["pool"])
    assert f"That is {speedup:.2f} times for the pool, {speedup / bound:.2f} of its bound of {bound:g}." in text
    (alone,) = by_variant["one_at_a_time"].cells
    a_job = 1000 * alone.overhead["driver"] / alone.engaged["jobs"]
    assert f"the driver's part of each job, {a_job:.0f} ms where one job follows another" in text


def test_figures_of_the_gates_proof_are_those_of_its_files():
    """The sentences of the README that quote `results/gate/proof.json`."""
    proof = json.loads((ROOT / "results" / "gate" / "proof.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    null = proof["A/A"]
    assert f"{null['blocks']} blocks of base against itself" in text
    assert f"{100 * null['regression']:.2f} % false alarms" in text
    for levels in proof["power"].values():
        assert f"{100 * levels['+20 %']['regression']:.1f} %" in text


def test_what_was_withdrawn_from_the_run_on_containers_is_what_was_not_shown_to_be_parallel():
    run = read_run(ROOT / "results" / "compose")
    text = " ".join((ROOT / "README.md").read_text().split())
    invalid = [cell for cell in run.cells if cell.status == "invalid"]
    assert f"{run.statuses['ok']} of {len(run.cells)} cells ok" in text
    assert f"All {len(invalid)} of its parallel cells" in text
    assert {cell.scenario for cell in invalid} == {"time_series_cv"}
    assert {cell.engaged["slots"] for cell in invalid} == {1}


def test_results_name_the_command_that_made_each_of_them():
    rows = re.findall(
        r"^\| `([\w.]+)/?` \| (`python .+) \|$", (ROOT / "results" / "README.md").read_text(), re.MULTILINE
    )
    kept = {path.name for path in (ROOT / "results").iterdir() if not path.name.startswith(("run-", "README"))}
    assert {name for name, _ in rows} == kept
    for name, made_by in rows:
        plan = ROOT / "results" / name / "plan.json"
        if plan.exists():
            said = json.loads(plan.read_text())["command"].removeprefix("python -m suite bench ")
            for own in ("--master compose --workers 2 ", f"{' '.join(PEERS)} "):  # what tox.ini adds
                said = said.removeprefix(own)
            assert said in made_by, name
