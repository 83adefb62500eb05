# SPDX-License-Identifier: Apache-2.0
"""The house rules of suite/ that no linter knows: one name means one thing, packages say what they are, imports."""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITE = ROOT / "suite"
# Recipes are loaded by path, each alone, and share the names of their contract.
MODULES = [path for path in SUITE.rglob("*.py") if path.parent.name != "recipes"]
PACKAGES = sorted(path.parent for path in SUITE.glob("*/__init__.py"))


def defined(path: Path) -> set[str]:
    """Module-level names that a file defines."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_a_name_is_defined_in_one_module_only():
    places = defaultdict(list)
    for path in MODULES:
        for name in defined(path):
            places[name].append(str(path.relative_to(SUITE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_what_init_files_hold_is_nothing():
    assert [path for path in SUITE.rglob("__init__.py") if path.read_text()] == []


def test_results_hold_data_and_no_programs():
    assert list((ROOT / "results").rglob("*.py")) == []


def lint(folder: Path) -> subprocess.CompletedProcess:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True)


PLANTED = {
    "upwards": ("plan/bounds.py", "from suite.run import loop"),
    "within": ("machine/processes.py", "import suite.doctor"),
    "on the ground": ("errors.py", "from suite import stats"),
    "in a circle": ("run/turns.py", "from suite.run import loop"),
}


@pytest.mark.parametrize(("file", "line"), PLANTED.values(), ids=PLANTED.keys())
def test_an_import_in_the_wrong_direction_is_found(file, line, tmp_path):
    shutil.copytree(SUITE, tmp_path / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint(tmp_path).returncode == 0
    planted = tmp_path / "suite" / file
    planted.write_text(planted.read_text() + f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
