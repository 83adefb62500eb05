# SPDX-License-Identifier: Apache-2.0
"""A file that breaks the contract says how, and hurts no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suite.plan.cells import PlanError, Request, plan_cells
from suite.plan.scenario import (
    MARKER,
    SCENARIOS,
    ScenarioError,
    discover,
    factors_of,
    files_for_workers,
    helpers,
    load_scenario,
    load_scenarios,
)
from suite.plan.workloads import doubtful_workloads
from suite.spark.session import zip_package

GOOD = f'''"""Adds up.

At length.
"""
{MARKER} ---
SIZES = {{"ci": {{"rows": 3}}}}

def make_data(*, rows):
    return rows

def run_first(data, *, folds=1):
    """The first one."""

def run_second(data):
    pass

def check(reference, answer):
    pass
'''


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "recipe_under_test.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_what_a_file_offers(written):
    scenario = load_scenario(written(GOOD))
    assert (scenario.name, scenario.title, scenario.workload) == ("recipe_under_test", "Adds up", "recipe_under_test")
    assert [(v.name, v.label, sorted(v.takes)) for v in scenario.variants] == [
        ("first", "The first one", ["data", "folds"]),
        ("second", "second", ["data"]),
    ]
    assert scenario.parallelism == "threads"
    assert not any(variant.on_spark for variant in scenario.variants)
    assert load_scenario(scenario.path).module is scenario.module


def test_who_needs_a_session(written):
    text = GOOD.replace("run_first(data, *,", "run_first(data, *, spark,")
    assert [v.on_spark for v in load_scenario(written(text, "takes_it.py")).variants] == [True, False]
    text = GOOD.replace("make_data(*,", "make_data(*, spark,")
    assert [v.on_spark for v in load_scenario(written(text, "data_by_spark.py")).variants] == [True, True]
    text = GOOD.replace("make_data(*, rows", "make_data(*, rows, spark=None")
    assert [v.on_spark for v in load_scenario(written(text, "data_by_either.py")).variants] == [False, False]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (MARKER, "# nothing", "no line that begins with"),
        ('"""Adds up.\n\nAt length.\n"""', "", "no docstring"),
        ("SIZES =", "SAZES =", "has no SIZES"),
        ('"ci"', '"big"', "SIZES has 'big'"),
        ('"rows": 3', '"rows": ()', "nothing to sweep at ci.rows"),
        ("def make_data", "def make", "no function make_data"),
        ("def check", "def chock", "no function check"),
        ("(data):", "(dota):", "run_second does not take `data`"),
        ("def run_", "def ran_", "no function run_<variant>"),
        (f"{MARKER} ---", f"{MARKER}\nPARALLELISM = 'cores'", "PARALLELISM is 'cores'"),
        (f"{MARKER} ---", f"{MARKER}\nSCHEDULE = {{'third': 'pool'}}", "SCHEDULE has 'third'"),
        (f"{MARKER} ---", f"{MARKER}\nSCHEDULE = {{'first': 'pool'}}", "no 'candidates' in each of SIZES"),
        (f"{MARKER} ---", f"{MARKER}\nSCHEDULE = 'pool'", "SCHEDULE is 'pool': it maps a variant to"),
        ('"rows": 3', '"rows": {3}', "SIZES['ci'] has 'rows': {3}: a factor is a name, its value a text, a number"),
        ('"rows": 3', '"rows": float("nan")', "its value a text, a number that is finite, or a tuple of them"),
        (
            "make_data(*, rows",
            "make_data(*, rows, columns",
            "make_data wants 'columns', which SIZES['ci'] does not have",
        ),
        ("(data):", "(data, *, depth):", "run_second wants 'depth', which SIZES['ci'] does not have: add it there"),
        ('"rows": 3', '"rows": []', "nothing to sweep at ci.rows"),
        (
            '"rows": 3',
            '"rows": 3, "folds": "3"',
            "SIZES['ci'] has 'folds': '3': it is a whole number of at least 1, or",
        ),
        ('"rows": 3', '"rows": 3, "candidates": 0', "SIZES['ci'] has 'candidates': 0: it is a whole number of at"),
        ('"rows": 3', '"rows": 3, "slots": (2, "2")', "SIZES['ci'] has 'slots': (2, '2'): it is a whole number"),
        ('"rows": 3', '"rows": 3, "parallelism": "two"', "SIZES['ci'] has 'parallelism': 'two': it is a whole number"),
        (
            '"rows": 3',
            '"rows": 3, "calls": (2, 4)',
            "SIZES['ci'] has 'calls': (2, 4): it is a whole number of at least",
        ),
        ('"rows": 3', '"rows": 3, "folds": True', "SIZES['ci'] has 'folds': True: it is a whole number"),
        (f"{MARKER} ---", f"{MARKER}\nvalidate = 3", "validate is 3: it is a function, or is left out"),
        (f"{MARKER} ---", f"{MARKER}\nprepare = 'x'", "prepare is 'x': it is a function, or is left out"),
        (f"{MARKER} ---", f"{MARKER}\nrelease = 'x'", "release is 'x': it is a function, or is left out"),
        (f"{MARKER} ---", f"{MARKER}\nGATED = 3", "GATED is 3: it is a tuple of names of variants"),
        (f"{MARKER} ---", f"{MARKER}\nGATED = 'first'", "GATED is 'first': it is a tuple of names of variants"),
        (f"{MARKER} ---", f"{MARKER}\nCROSSED = 5", "CROSSED is 5: it is a tuple of names of factors"),
        (f"{MARKER} ---", f"{MARKER}\nREQUIRES = ['json']", "REQUIRES is ['json']: it maps a variant to the name of a"),
        (f"{MARKER} ---", f"{MARKER}\nREQUIRES = {{'first': ''}}", "REQUIRES is {'first': ''}: it maps a variant to"),
        (f"{MARKER} ---", f"{MARKER}\n1 / 0", "does not import: ZeroDivisionError: division by zero"),
        (f"{MARKER} ---", f"{MARKER}\nimport sys; sys.exit(3)", "does not import: SystemExit: 3"),
        (f"{MARKER} ---", f"{MARKER}\ndef x(:", "does not import: SyntaxError"),
        (
            '"rows": 3',
            '"rows": __import__("numpy").ones((2, 2))',
            "SIZES['ci'] has 'rows': array([[1., 1.], [1., 1.]]): a factor is a name, its value a text, a number",
        ),
        ("make_data(*, rows", "make_data(*, rows, **factors", "make_data takes **factors: name each factor, since a"),
        ("run_second(data", "run_second(data, **factors", "run_second takes **factors: name each factor, since a"),
        (
            "def check",
            "import functools\nrun_third = functools.partial(run_first)\n\ndef check",
            "run_third is a functools.",
        ),
        (
            "def run_second",
            "import functools\n@functools.cache\ndef run_second",
            "a variant is a function, made by `def`",
        ),
        ("def check", "make_data = max\n\ndef check", "it cannot be read: ValueError: no signature found for builtin"),
    ],
)
def test_each_breach_has_its_reason(written, old, new, reason):
    assert old in GOOD
    with pytest.raises(ScenarioError) as error:
        load_scenario(written(GOOD.replace(old, new)))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_factor_that_no_function_takes_is_not_swept(written):
    """All its values would have the same time. One that stands there, as after a change of make_data, does no harm."""
    request = Request("ci", None, None, None, 1, 2, seed=0)
    alone = load_scenario(written(GOOD.replace('"rows": 3', '"rows": 3, "row": 1')))
    assert plan_cells([alone], request)
    swept = load_scenario(written(GOOD.replace('"rows": 3', '"rows": 3, "row": (1, 9)'), "sweeps.py"))
    with pytest.raises(PlanError, match=r"SIZES\['ci'\] sweeps 'row', which no function takes: the factors are f"):
        plan_cells([swept], request)


def test_a_file_that_takes_the_data_of_another_has_its_factors_too(written):
    written(GOOD.replace("run_second(data", "run_second(data, *, depth=1"), "owns_the_data.py")
    joins = GOOD.replace("def make_data(*, rows):\n    return rows", "from owns_the_data import make_data")
    assert factors_of(load_scenario(written(joins, "joins.py")).module) == {"rows", "folds", "depth"}


@pytest.mark.parametrize(
    ("name", "reason"), [("numpy.py", "is also the name of"), ("two words.py", "not a Python name")]
)
def test_a_name_that_workers_would_resolve_otherwise_is_refused(written, name, reason):
    with pytest.raises(ScenarioError, match=reason):
        load_scenario(written(GOOD, name))


def test_a_recipe_may_lie_in_a_folder_of_its_own_name(written, tmp_path, monkeypatch):
    (tmp_path / "recipe_at_home").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert load_scenario(written(GOOD, "recipe_at_home/recipe_at_home.py")).name == "recipe_at_home"


def test_two_files_of_one_name_are_refused(written, tmp_path):
    load_scenario(written(GOOD))
    (tmp_path / "other").mkdir()
    with pytest.raises(ScenarioError, match="is also the name of"):
        load_scenario(written(GOOD, "other/recipe_under_test.py"))


@pytest.mark.parametrize("line", ["from a_sibling import VALUE", "def later():\n    import json, a_sibling as it"])
@pytest.mark.parametrize(("other", "refused"), [("VALUE = 2", True), ("VALUE = 1", False)], ids=["another", "a copy"])
def test_files_of_one_name_beside_two_recipes_have_to_be_the_same(written, tmp_path, line, other, refused):
    for folder, value in (("one", "VALUE = 1"), ("two", other)):
        (tmp_path / folder).mkdir()
        written(value, f"{folder}/a_sibling.py")
        written(GOOD.replace(MARKER, f"{line}\n{MARKER}"), f"{folder}/recipe_{folder}.py")
    scenarios, broken = load_scenarios([tmp_path / "one" / "recipe_one.py", tmp_path / "two" / "recipe_two.py"])
    said = f"it imports 'a_sibling', also the name of {tmp_path}/one/a_sibling.py: rename the one beside it"
    assert broken == ({"recipe_two.py": said} if refused else {})
    assert len(scenarios) == 2 - refused


def test_broken_files_do_not_stop_the_others(written, tmp_path):
    written(GOOD, "a_good_one.py")
    written(f"1 / 0\n{MARKER}", "a_bad_one.py")
    written("not looked at", "_private.py")
    scenarios, broken = discover(tmp_path)
    assert [scenario.name for scenario in scenarios] == ["a_good_one"]
    assert list(broken) == ["a_bad_one.py"]


def test_what_else_lies_in_a_folder_is_no_recipe_and_hurts_none(written, tmp_path):
    written(GOOD.replace(MARKER, f"import a_helper\n{MARKER}"), "a_recipe.py")
    written("VALUE = 1", "a_helper.py")
    written("1 / 0", "conftest.py")
    # What editors and macOS leave beside a file.
    (tmp_path / ".#a_recipe.py").symlink_to("me@host.1:2")
    written(GOOD, "._a_recipe.py")
    scenarios, broken = discover(tmp_path)
    assert ([scenario.name for scenario in scenarios], broken) == (["a_recipe"], {})
    found = helpers(tmp_path)
    assert list(found) == ["a_helper.py", "conftest.py"]
    assert set(found.values()) == {f"it has no line that begins with '{MARKER}'"}


def test_a_file_that_goes_to_another_folder_goes_there_alone(written, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    written(f"{GOOD}import os\nos.chdir({str(tmp_path / 'elsewhere')!r})\n", "moved.py")
    before = Path.cwd()
    assert [scenario.name for scenario in discover(tmp_path)[0]] == ["moved"]
    assert Path.cwd() == before


def test_what_a_program_that_a_file_starts_writes_goes_to_stderr(written, capfd):
    load_scenario(written(f"{GOOD}import os\nos.system('echo from a program')\n"))
    os.system("echo afterwards")
    assert capfd.readouterr() == ("afterwards\n", "from a program\n")


def test_an_executor_may_be_there_when_a_file_is_imported(written):
    pool = "POOL = concurrent.futures.ThreadPoolExecutor(1)\nPOOL.submit(int).result()\n"
    assert load_scenario(written(f"{GOOD}import concurrent.futures\n{pool}")).name == "recipe_under_test"


def test_which_variants_lack_their_package(written):
    requires = 'REQUIRES = {"first": "json.decoder", "second": "absent_package.part"}\n'
    scenario = load_scenario(written(GOOD + requires))
    assert [variant.missing for variant in scenario.variants] == [None, "absent_package.part"]


def test_workers_get_the_files_and_packages_beside_a_recipe_that_it_has_imported(written, tmp_path):
    for name in ("package_beside", "package_beside/inner", "package_unused"):
        (tmp_path / name).mkdir()
        written("", f"{name}/__init__.py")
    written("VALUE = 7", "package_beside/inner/part.py")
    written("", "file_beside.py")
    text = f"import file_beside, json.decoder\nfrom package_beside.inner.part import VALUE\n{MARKER}"
    scenario = load_scenario(written(GOOD.replace(MARKER, text), "recipe_with_package.py"))
    found = files_for_workers([scenario])
    assert found == [scenario.path, tmp_path / "file_beside.py", tmp_path / "package_beside"]
    code = (
        f"import sys; sys.path[:0] = [{str(zip_package(found[-1]))!r}]; import package_beside.inner.part as p; print(p)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert "package_beside.zip" in done.stdout, done.stderr


def test_none_in_place_of_a_function_leaves_it_out(written):
    scenario = load_scenario(written(f"{GOOD}validate = prepare = release = None\n"))
    assert (scenario.validate, scenario.prepare, scenario.keeps_workers) == (None, None, False)
    scenario.release()


def test_a_copy_that_keeps_its_workload_beside_its_origin_is_noted(written, tmp_path):
    origin = load_scenario(written(f"{GOOD}WORKLOAD = 'adding'\n", "origin.py"))
    (tmp_path / "elsewhere").mkdir()
    same = load_scenario(written(f"{GOOD}WORKLOAD = 'adding'\n", "elsewhere/same.py"))
    other = f"{GOOD}WORKLOAD = 'adding'\n".replace("return rows", "return 2 * rows")
    (note,) = doubtful_workloads([origin, same, load_scenario(written(other, "elsewhere/a_copy.py"))])
    assert note.startswith("same.py and a_copy.py have the same WORKLOAD, 'adding', and a make_data each")
    assert note.endswith("give a_copy.py a WORKLOAD of its own")
    own = other.replace("'adding'", "'doubling'")
    assert list(doubtful_workloads([origin, same, load_scenario(written(own, "elsewhere/mine.py"))])) == []


def test_the_projects_own_recipes_share_workloads_on_purpose():
    assert list(doubtful_workloads(discover(SCENARIOS)[0])) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('REQUIRES = {"third": "json"}', "REQUIRES has 'third', which is not a variant"),
        ('CROSSED = ("rows", "megabytes")', "CROSSED has 'megabytes', which is not a factor of each of SIZES"),
        (
            'SIZES = {size: {**SIZES[size], "slots": (1, 2)} for size in SIZES}\nCROSSED = ("slots",)',
            "CROSSED has 'slots', which shapes no data",
        ),
    ],
)
def test_what_a_file_declares_has_to_be_there(written, line, said):
    with pytest.raises(ScenarioError, match=said):
        load_scenario(written(f"{GOOD}{line}\n"))
