# SPDX-License-Identifier: Apache-2.0
"""What the pages name is there, and what they quote is what the files in results/ say."""

import contextlib
import importlib
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from grid_search_spark_backend import stop_spark_pool
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from udf_inference import score

from suite import cli, records
from suite.gate.prove import injections
from suite.gate.trials import CASES
from suite.report.against import find_contests, tables_against
from suite.report.formatting import figure_words, number, ratio_digits
from suite.report.points import read_run
from suite.report.terminal import break_even_lines, summary

ROOT = Path(__file__).resolve().parent.parent
RULES = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
PEERS = re.findall(r"\w+", re.search(r"suite bench (parallel_break_even[^{]+)", (ROOT / "tox.ini").read_text())[1])
PAGES = [ROOT / name for name in ("README.md", "scenarios/README.md", "results/README.md", "docker/README.md")]
TEXT = "\n".join(page.read_text() for page in PAGES)
WORDS = " ".join(TEXT.split())
MODELS = {
    one.__name__: one
    for one in (
        LogisticRegression,
        make_pipeline,
        StandardScaler,
        DecisionTreeClassifier,
        RandomForestClassifier,
        SVC,
    )
}
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page):
    linked = [target for target in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in target]
    assert linked or page.parent.name == "docker"
    for target in linked:
        path, _, part = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if part:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert part in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


def test_the_front_page_is_short_and_names_every_recipe():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 120
    for recipe in (ROOT / "scenarios").glob("*.py"):
        assert f"(scenarios/{recipe.name})" in text, recipe.name


ROW = r"^\| \[`(\w+)\.py`\].*\| \[(\S+× \S.*?)\]\(\S+\) the speed of (.+) \|$"
MEASURED = re.findall(ROW, (ROOT / "README.md").read_text(), re.MULTILINE)
# The run that is quoted of a recipe, and the variant.
GAINS = {
    "grid_search_single_node": ("spark_backend", "loky"),
    "grid_search_spark_backend": ("spark_backend", "spark_pool"),
    "grid_search_joblib_spark": ("spark_backend", "joblib_spark"),
    "udf_inference": ("file_inference_large", "map_in_arrow"),
    "file_inference": ("file_inference_large", "files"),
    "inference_first_row": ("first_row", "map_in_arrow"),
    "spark_cross_validator": ("local", "cross_validator"),
    "cross_validator_sklearn": ("local", "loky"),
    "time_series_cv_pool": ("two_workers", "pool"),
    "time_series_cv": ("usual_recipe", "pool"),
    "time_series_cv_sklearn": ("one_pass_time_series", "loky"),
    "one_pass_time_series_cv": ("one_pass_time_series", "one_pass"),
    "one_pass_cross_validator": ("one_pass", "one_pass"),
    "one_pass_per_series": ("one_pass", "one_pass"),
    "time_series_cv_waiting": ("waiting_eight", "pool"),
}


def test_what_each_recipe_gained_is_what_its_run_says():
    assert {recipe for recipe, _, _ in MEASURED} == set(GAINS)
    for recipe, figure, base in MEASURED:
        name, variant = GAINS[recipe]
        run = read_run(ROOT / "results" / name)
        points = [p for p in run.points if p.variant == variant and run.is_central(p) and p.seconds]
        point = min(points, key=lambda p: p.scenario != recipe)  # its own, where that is in the run
        assert figure == figure_words(run.speedup(point), ratio_digits, "×"), recipe
        assert base == run.base_of(point).label, recipe


def test_the_finding_of_the_front_page_is_that_of_its_run():
    run = read_run(ROOT / "results" / "one_pass_folds")
    seconds = {(p.variant, p.factors["folds"]): number(p.seconds.median) for p in run.points if p.seconds}
    said = [f"with {n} folds {seconds['one_pass', n]} s and {seconds['loky', n]} s" for n in (3, 48, 365)]
    assert ", ".join(said) in WORDS
    factors = run.points[0].factors
    assert f"on {factors['warehouses'] * factors['items']} series of {factors['days']:,} days" in WORDS


@pytest.mark.spark
def test_the_lines_of_code_on_the_front_page_run(spark):
    (code,) = re.findall(r"^```python\n(.+?)```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    X, y = make_classification(60, random_state=0)
    found = {"GridSearchCV": GridSearchCV, "SVC": SVC, "grid": {"C": [0.1, 1.0]}, "X": X, "y": y}
    try:
        exec(code, found)
    finally:
        stop_spark_pool()
    assert found["search"].best_params_ == GridSearchCV(SVC(), found["grid"], cv=5).fit(X, y).best_params_


@pytest.mark.spark
def test_score_picks_the_ways_that_the_table_names(spark, tmp_path):
    rows = re.findall(r"^\| `(\w+\(.*\))`( with more leaves)? \| `(\w+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 6
    X, y = make_classification(2_000, n_features=4, n_redundant=0, flip_y=0.4, random_state=0)
    held = spark.createDataFrame(pd.DataFrame(X, columns=list("abcd")))
    held.write.parquet(str(tmp_path / "rows"))
    files = spark.read.parquet(str(tmp_path / "rows"))
    for code, _, expected in rows:
        model = eval(code, MODELS).fit(X, y)
        for frame in (held, files):
            scored = score(frame, model, features=list("abcd"))
            assert scored.schema["prediction"].metadata["way"] == expected, code


def test_the_worked_example_runs_word_for_word(tmp_path):
    text = (ROOT / "scenarios" / "README.md").read_text()
    commands = re.search(r"(?:^    \S.*\n)+", text.partition("## A search of your own")[2], re.MULTILINE)[0]
    assert "sed -i " not in commands  # that of macOS takes the next word for the ending of a copy
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    script = ["bash", "-euc", textwrap.dedent(commands)]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best score 0.9" in done.stdout
    found = records.read(tmp_path / "wine" / "run" / "records.jsonl")
    ways = ("serial", "loky", "spark_pool", "joblib_spark")
    assert {(each.variant, each.status) for each in found} == {(name, "ok") for name in ways}


def test_the_readmes_lines_of_pandas_load_each_planned_cell_once(monkeypatch):
    (snippet,) = re.findall(r"^    import pandas as pd\n(?:    .+\n)+", TEXT, re.MULTILINE)
    monkeypatch.chdir(ROOT)
    found = {}
    exec(textwrap.dedent(snippet), found)
    planned = json.loads((ROOT / "results" / "local" / "plan.json").read_text())["cells"]
    assert sorted(found["runs"]["id"]) == sorted(cell["id"] for cell in planned)
    assert {"seconds", "cold_seconds", "factors.slots", "engaged.tasks", "overhead.driver"} <= set(found["runs"])


QUOTED = re.findall(r"^<!-- python -m suite report results/(\w+) --against (\S+) -->$", TEXT, re.MULTILINE)
SHOWN = re.findall(r"^<!-- python -m suite report results/(\w+) -->$", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("name", "variant"), QUOTED)
def test_tables_in_the_readme_are_those_of_their_runs(name, variant):
    folder = ROOT / "results" / name
    tables = tables_against(find_contests(read_run(folder), variant, folder))
    quoted = f"<!-- python -m suite report results/{name} --against {variant} -->\n{tables}\n"
    assert quoted in TEXT
    assert f"{quoted}\n|" not in TEXT  # what an older run said is gone


@pytest.mark.parametrize("name", SHOWN)
def test_summaries_are_those_of_their_runs(name):
    said = summary(ROOT / "results" / name).partition("\nRecipes that have changed")[0].strip("\n")
    assert f"<!-- python -m suite report results/{name} -->\n```text\n{said}\n```\n" in TEXT


def test_from_which_fit_each_way_pays_is_what_its_run_says():
    said = "\n".join(break_even_lines(read_run(ROOT / "results" / "peers"))).strip()
    assert said.count("\n") > 4
    assert f"```text\n{said}\n```" in TEXT


ANALYSED = re.findall(r"^<!-- python -m suite variance results/(\w+) -->$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", ANALYSED)
def test_analyses_of_variance_in_the_readme_are_those_of_their_runs(name, capsys):
    assert cli.main(["variance", str(ROOT / "results" / name)]) == 0
    quoted = f"<!-- python -m suite variance results/{name} -->\n{capsys.readouterr().out}"
    assert quoted in TEXT
    assert f"{quoted}\n|" not in TEXT  # what an older run said is gone


def test_the_readme_quotes_tables():
    assert len(ANALYSED) == len(set(ANALYSED)) > 0
    assert len(QUOTED) == len(set(QUOTED)) > 0
    assert len(SHOWN) == len(set(SHOWN)) > 0


@pytest.mark.parametrize("name", ["two_workers", "two_workers_short", "two_workers_compose"])
def test_figures_of_two_workers_are_those_of_its_run(name):
    run = read_run(ROOT / "results" / name)
    by_variant = {point.variant: point for point in run.points}
    speedup, bound = run.speedup(by_variant["pool"]).median, run.bound(by_variant["pool"])
    allowed = f"where its fits allow {bound:.2f}: {speedup / bound:.2f} of it"
    assert f"{speedup:.2f} times as fast as one fit at a time, {allowed}" in WORDS
    alone = [cell.overhead["driver"] / cell.warm_seconds[-1] for cell in by_variant["one_at_a_time"].cells]
    share = f"For {100 * statistics.median(alone):.0f} % of the time of one fit at a time no task runs"
    assert (share in WORDS) == (name == "two_workers_short")
    assert {cell.engaged["executors"] for cell in run.cells} == {2}


def test_the_range_of_ratios_to_the_usual_recipe_is_that_of_its_run():
    folder = ROOT / "results" / "usual_recipe"
    _, *rows = tables_against(find_contests(read_run(folder), "usual_recipe", folder)).split("\n| parallelism")
    ratios = [[float(found) for found in re.findall(r"([\d.]+)× \[", row)] for row in rows]
    _, pool, folds = zip(*ratios, strict=True)
    assert f"its medians are {min(pool):.2f} to {max(pool):.2f} times those of the usual recipe" in WORDS
    assert f"Fold after fold has {min(folds):.2f} to {max(folds):.2f}." in WORDS
    assert max(pool) <= 1  # as the page says


def test_figures_of_first_searches_on_containers_are_those_of_their_run():
    points = {point.variant: point.cold for point in read_run(ROOT / "results" / "spark_backend_compose").points}
    ours, loky = points["spark_pool"], points["loky"]
    of_ours = f"took {number(ours.median)} s by our backend (median of {ours.n} processes)"
    of_loky = f"{number(loky.median)} s by loky (of {loky.n}): {ours.median / loky.median:.2f} times as long"
    assert f"{of_ours} and {of_loky}" in WORDS


def test_rows_per_second_of_a_linear_model_are_those_of_its_run():
    points = read_run(ROOT / "results" / "file_inference_logistic").points
    rates = {
        (point.variant, rows): f"{rows / point.seconds.median / 1e6:.1f} million"
        for point in points
        for rows in [point.factors["rows"]]
    }
    of_spark = [max(rates[way, rows] for way in ("files", "best_way")) for rows in (4_000_000, 10_000_000)]
    said = "Spark scores {} rows a second where there are four million, and {} where there are ten million."
    assert said.format(*of_spark) in WORDS
    said = "The two processes have {} and {}:"
    assert said.format(*(rates["processes", rows] for rows in (4_000_000, 10_000_000))) in WORDS


def test_figures_of_waits_on_eight_slots_are_those_of_their_run():
    run = read_run(ROOT / "results" / "waiting_eight")
    by_variant = {point.variant: point for point in run.points}
    speedup, bound = run.speedup(by_variant["pool"]).median, run.bound(by_variant["pool"])
    assert f"That is {speedup:.2f} times for the pool, {speedup / bound:.2f} of its bound of {bound:g}." in WORDS
    (alone,) = by_variant["one_at_a_time"].cells
    a_job = 1000 * alone.overhead["driver"] / alone.engaged["jobs"]
    assert f"the driver's part of each job, {a_job:.0f} ms where one job follows another" in WORDS


def test_figures_of_waits_in_sixteen_threads_are_those_of_their_run():
    run = read_run(ROOT / "results" / "waiting")
    seconds = {
        (point.variant, point.factors["fit_seconds"]): point.seconds.median
        for point in run.points
        if point.factors["folds"] == 24 and point.parallelism == 16
    }
    for wait, words in (
        (3.75, "took {} s fold after fold and {} s in one pool"),
        (0.75, "At 1 s it was {} s and {} s"),
    ):
        folds, pool = seconds["fold_after_fold", wait], seconds["pool", wait]
        assert words.format(number(folds), number(pool)) in WORDS
        assert f"{folds / pool:.1f} times" in WORDS


def test_figures_of_encryption_are_those_of_their_file():
    cost = json.loads((ROOT / "results" / "encryption" / "cost.json").read_text())["cost"]
    for name in ("shuffling.shuffle", "shuffling.broadcast"):
        clear, hidden = (statistics.median(cost[name]["seconds"][way]) for way in ("clear", "encrypted"))
        ratio = cost[name]["ratio"]
        said = f"({ratio['median']:.2f} times, {ratio['low']:.2f} to {ratio['high']:.2f})"
        assert f"{number(hidden)} s instead of {number(clear)} s {said}" in WORDS


def test_figures_of_the_gates_proof_are_those_of_its_files():
    """The sentences of the README that quote `results/gate/proof.json`."""
    proof = json.loads((ROOT / "results" / "gate" / "proof.json").read_text())
    null = proof["A/A"]
    assert f"{null['blocks']} blocks of base against itself" in WORDS
    alarms = f"({100 * null['low']:.2f} to {100 * null['high']:.2f}; by the test's construction at most"
    assert f"{100 * null['regression']:.2f} % false alarms {alarms} {100 * proof['alarms_at_most']:.2f} %)" in WORDS
    assert f"{100 * null['pass']:.1f} % pass, {100 * null['inconclusive']:.1f} % inconclusive." in WORDS
    assert f"{null['decisions']:,} for each figure" in WORDS
    for cell, one in proof["shifted"].items():
        assert f"| `{cell}` | {shares(one)} |" in TEXT
    for cell, levels in proof["power"].items():
        for side, one in levels.items():
            assert f"| `{cell}` {side} | {100 * one['measured']:+.0f} % | {shares(one)} |" in TEXT


def test_what_is_said_of_the_gates_noise_and_of_what_it_catches_is_in_its_proof():
    proof = json.loads((ROOT / "results" / "gate" / "proof.json").read_text())
    names = {
        "grid_search_spark_backend.spark_pool": "our Spark backend",
        "grid_search_single_node.loky": "loky",
        "grid_search_joblib_spark.joblib_spark": "joblib-spark",
        "udf_inference.map_in_arrow": "inference",
        "time_series_cv.pool": "time-series pool",
        "one_pass_time_series_cv.one_pass": "one pass",
        "spark_cross_validator.cross_validator": "CrossValidator",
    }
    (said,) = re.findall(r"From block to block head / base varied by ([^.]+)\.", WORDS)
    for cell, spread in proof["spread"].items():
        assert f"{100 * spread:.0f} % ({names[cell]})" in said
    assert min(one["regression"] for one in proof["shifted"].values()) >= 0.95
    assert min(levels["+20 %"]["regression"] for levels in proof["power"].values()) >= 0.99
    assert "With each of the seven recipes 20 % more work was caught in 99 of 100 decisions or more." in WORDS
    assert len(proof["power"]) == 7
    assert proof["lost"] == 2
    assert "Two more blocks lack a time of the time-series pool" in WORDS
    blocks = proof["A/A"]["blocks"]
    failing = 1 - (blocks / (blocks + proof["lost"])) ** 6
    assert round(1 / failing) == 4
    assert "A comparison of six blocks would meet such a failure one time in four." in WORDS
    assert {one["n"] for levels in proof["power"].values() for one in levels.values()} == {3}
    assert "Real extra work in one recipe, three blocks each" in WORDS


def test_what_the_page_says_of_the_length_of_a_block_of_the_gate_is_so():
    lines = (ROOT / "results" / "gate" / "times.jsonl").read_text().splitlines()
    ended = [(line["part"], datetime.fromisoformat(line["at"])) for line in map(json.loads, lines)]
    alone = [(end - begin).total_seconds() for (a, begin), (b, end) in itertools.pairwise(ended) if a == b == "A/A"]
    assert f"A block took {statistics.median(alone):.0f} s, so six take some eight minutes." in WORDS
    assert 7.5 <= 6 * statistics.median(alone) / 60 <= 8.5


def test_the_page_names_the_variants_that_the_gate_times():
    ((many, names),) = re.findall(r"recipes (\w+) variants are timed: (.+?`)\. ", WORDS)
    cells = {injection.cell for injection in injections(2)}
    assert set(re.findall(r"`([\w.]+)`", names)) == cells
    assert many == {6: "six", 7: "seven", 8: "eight"}[len(cells)]


def test_whole_comparisons_of_the_gate_are_counted():
    cases = json.loads((ROOT / "results" / "gate" / "verdicts.json").read_text())["cases"]
    right = [trial["right"] for case in cases.values() for trial in case["trials"]]
    assert (
        f"{sum(right)} of {len(right)} whole comparisons in which a gate is easily wrong had the right verdict" in WORDS
    )
    assert cases.keys() == CASES.keys()


def test_the_front_page_says_of_which_versions_the_figures_are():
    abouts = [json.loads(file.read_text())["versions"] for file in (ROOT / "results").glob("*/environment.json")]
    for name, said in {"pyspark": "Spark", "scikit-learn": "scikit-learn"}.items():
        (version,) = {about[name] for about in abouts}
        assert re.search(rf"All runs are of .*{said} {re.escape(version)}", WORDS)


def shares(one):
    """How a row of the gate's proof tells what was decided."""
    caught = f"{100 * one['regression']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
    return f"{caught} | {100 * one['pass']:.1f} % | {100 * one['inconclusive']:.1f} %"


def test_on_containers_each_parallel_cell_engaged_as_many_executors_as_it_has_slots_or_threads():
    run = read_run(ROOT / "results" / "compose")
    parallel = [cell for cell in run.cells if cell.factors["slots"] and cell.factors["parallelism"]]
    assert {cell.factors["parallelism"] for cell in parallel} >= {1, 2, 4}
    for cell in parallel:
        assert cell.engaged["executors"] >= cell.factors["parallelism"], cell.label


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


def made_on(folder: Path) -> str:
    """A row that says when a run was made, on what, and from which revision of this repository."""
    about = json.loads((folder / "environment.json").read_text())
    commit, changed = about["revision"]["commit"], " and changes" * bool(about["revision"]["dirty"])
    machine = f"{about['machine']['cpu']}, {about['machine']['cores']} cores"
    revision = f"{commit[:9]}{changed}" if commit else "not recorded"
    return f"| {folder.name} | {about['date'][:10]} | {machine} | {about['java']['version']} | {revision} |"


def test_the_page_of_results_says_where_each_run_was_made():
    for file in sorted((ROOT / "results").glob("*/environment.json")):
        assert made_on(file.parent) in TEXT
