# SPDX-License-Identifier: Apache-2.0
"""A recipe works alone: a copy in an empty folder runs, and a copy that is cut at the marker can be imported.

`FOLDOUT_COPY_OUT=isolated` makes an environment for each recipe with only what its header declares. CI sets it.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from suite.plan.scenario import MARKER, SCENARIOS, discover
from tests.nightly import others_at_night

ISOLATED = os.environ.get("FOLDOUT_COPY_OUT") == "isolated"
ROOT = SCENARIOS.parent
RECIPES = sorted(SCENARIOS.glob("*.py"))
TO_COPY = [path for path in RECIPES if "ON_REQUEST = True" not in path.read_text()]


def header(text: str) -> dict:
    """The PEP 723 block of a file."""
    block = re.search(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", text)
    assert block, "no `# /// script` block"
    return tomllib.loads("".join(line[2:] or "\n" for line in block["content"].splitlines(keepends=True)))


def siblings_of(text: str, but: str) -> list[Path]:
    """The recipes that a text imports."""
    imported = re.findall(r"(?m)^\s*(?:from|import) (\w+)", text)
    return [path for path in RECIPES if path.stem in imported and path.stem != but]


def with_siblings(recipe: Path) -> list[Path]:
    """The recipe, the siblings that it imports, and the siblings of these."""
    found = [recipe]
    for path in found:  # it grows on the way
        found += [sibling for sibling in siblings_of(path.read_text(), path.stem) if sibling not in found]
    return found


def copied(recipe: Path, folder: Path) -> Path:
    """Copy the recipe and all siblings that it needs into a folder."""
    for path in with_siblings(recipe):
        (folder / path.name).write_text(path.read_text())
    return folder / recipe.name


@pytest.fixture(scope="session")
def environments(tmp_path_factory) -> dict[tuple[str, ...], str]:
    """Interpreters by the dependencies that are installed for them; recipes that need the same share one."""
    return {}


def interpreter(recipe: Path, environments: dict, folder: Path) -> str:
    """An interpreter that has what the recipe declares, in the locked versions, and nothing else of the project."""
    if not ISOLATED:
        return sys.executable
    needed = tuple(sorted(header(recipe.read_text())["dependencies"]))
    if needed not in environments:
        python = folder / "environment" / "bin" / "python"
        subprocess.run(["uv", "venv", "-q", "-p", sys.executable, folder / "environment"], check=True)
        locked = ROOT / "requirements" / "peers.txt"  # all that run.txt has, in the same versions
        constraints = folder / "constraints.txt"
        lines = [line.split(" \\")[0] for line in locked.read_text().splitlines() if line[:1].isalnum()]
        constraints.write_text("\n".join(lines) + "\n")
        install = ["uv", "pip", "install", "-q", "-p", python, "-c", constraints, *needed]
        # What this environment has is in uv's cache, so most need no index, which may be slow and build PySpark anew.
        if subprocess.run([*install, "--offline"], check=False, capture_output=True).returncode:
            subprocess.run(install, check=True)
        environments[needed] = str(python)
    return environments[needed]


def test_every_file_is_a_scenario():
    scenarios, broken = discover(SCENARIOS)
    assert broken == {}
    assert [scenario.path for scenario in scenarios] == RECIPES
    for scenario in scenarios:
        assert {"smoke", "ci", "full"} <= set(scenario.sizes)
        # A row of the terminal's table has 45 letters for a label and the two blanks before it.
        assert all(len(variant.label) < 44 for variant in scenario.variants)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_header_names_python_and_dependencies(recipe):
    declared = header(recipe.read_text())
    assert declared["requires-python"] == ">=3.11"
    assert declared["dependencies"]
    assert "SPDX-License-Identifier: Apache-2.0" in recipe.read_text()
    assert f"python {recipe.name}" in recipe.read_text()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_siblings_are_named_in_the_docstring_and_a_recipe_needs_one_at_most(recipe):
    text = recipe.read_text()
    named = text.partition('"""')[2].partition('"""')[0]
    assert [path.name for path in siblings_of(text, recipe.stem) if path.name not in named] == []
    assert len(siblings_of(text.partition(MARKER)[0], recipe.stem)) <= 1
    declared = {re.split(r"[<>=]", needed)[0] for needed in header(text)["dependencies"]}
    for sibling in siblings_of(text, recipe.stem):  # what a sibling's recipe needs, the copy needs too
        imported = re.findall(r"(?m)^(?:from|import) (\w+)", sibling.read_text().partition(MARKER)[0])
        assert {"numpy", "pyspark"} & set(imported) <= declared


def test_siblings_of_siblings_are_copied():
    names = [path.stem for path in with_siblings(SCENARIOS / "time_series_cv_waiting.py")]
    assert names[0] == "time_series_cv_waiting"
    assert {"time_series_cv", "time_series_folds", "time_series_cv_pool"} == set(names[1:])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_no_import_of_the_project(recipe):
    assert not re.findall(r"(?m)^\s*(?:from|import) (?:suite|scenarios)\b", recipe.read_text())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_main_is_ten_lines_at_most(recipe):
    main = recipe.read_text().partition('if __name__ == "__main__":')[2]
    assert 0 < len([line for line in main.splitlines() if line.strip()]) <= 10


@pytest.mark.spark
@pytest.mark.parametrize("recipe", others_at_night(RECIPES, TO_COPY), ids=lambda path: path.stem)
def test_copied_alone_it_runs_and_cut_it_imports(recipe, tmp_path, environments):
    copy = copied(recipe, tmp_path)
    python = interpreter(recipe, environments, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYSPARK"))}
    ran = subprocess.run(
        [python, copy.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip(), "it does not print what it found"
    cut, marker, _ = copy.read_text().partition(MARKER)
    assert marker
    copy.write_text(cut)
    imported = subprocess.run(
        [python, "-W", "error::SyntaxWarning", "-c", f"import {copy.stem}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert imported.returncode == 0, imported.stderr[-3000:]
