# SPDX-License-Identifier: Apache-2.0
"""`python -m suite new FILE`: a recipe to start from, with one's own data and model."""

from __future__ import annotations

import ast
import keyword
import re
import shlex
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from suite.errors import UsageError
from suite.machine.environment import ROOT, tox_command
from suite.plan.scenario import SCENARIOS

TEMPLATE = Path(__file__).with_name("recipe_template.txt")


def new_recipe(file: Path, like: str | None) -> int:
    """Write a recipe, and beside it the siblings that it imports; the exit code.

    Parameters
    ----------
    file : Path
        Its name becomes that of the recipe.
    like : str or None
        The recipe of the project to copy; None takes the template, a search on one machine and on Spark.

    Raises
    ------
    UsageError
        The file is there already or has no name of a Python module, it would lie beside the suite, or there is no such
        recipe. Nothing is written.
    """
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise UsageError(f"{file}: a recipe is a Python file with a name such as my_search.py")
    if file.resolve().parent == ROOT:
        raise UsageError(
            f"{file}: take a folder of its own, such as my_recipes/{file.name}: recipes that come with it would stand "
            "in the way of the suite's own"
        )
    if taken := _taken_by(file):
        raise UsageError(f"{file}: {file.stem!r} is also the name of {taken}: choose another name")
    written = {file: _text(file.stem, like)}
    for sibling in _siblings(written[file], like):
        written[file.parent / sibling.name] = sibling.read_text(encoding="utf-8")
    in_the_way = [
        path
        for path in written
        if path.exists() and (path == file or _ungated(path.read_text(encoding="utf-8")) != _ungated(written[path]))
    ]
    if in_the_way:
        raise UsageError(f"{', '.join(map(str, in_the_way))} is there already: choose another name or folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path}")
    given = shlex.quote(str(file) if file.is_absolute() else f"./{file}")
    print(f"change what is yours in it, then: {tox_command()} -e bench -- {given} --size smoke")
    folder = shlex.quote(str(file.parent))
    print(f"later, for a pull request: {tox_command()} -e regress -- origin/main . {file.stem} --scenarios {folder}")
    return 0


def _taken_by(file: Path) -> str | None:
    """What Python would import under a file's name in its place; None where that is the file itself, or nothing."""
    if keyword.iskeyword(file.stem) or file.stem in sys.builtin_module_names:
        return "a part of Python"
    found = PathFinder.find_spec(file.stem)
    if found is None or found.origin is None:  # a folder that is no package comes after a file
        return None
    return None if Path(found.origin).resolve() == file.resolve() else found.origin


def _text(name: str, like: str | None) -> str:
    if like is None:
        return TEMPLATE.read_text(encoding="utf-8").replace("NAME", name)
    source = SCENARIOS / f"{like}.py"
    if not source.is_file():
        there = ", ".join(sorted(path.stem for path in SCENARIOS.glob("*.py")))
        raise UsageError(f"there is no recipe {like!r}: there are {there}")
    text = source.read_text(encoding="utf-8").replace(f"python {like}.py", f"python {name}.py")
    return _ungated(text)


def _ungated(text: str) -> str:
    """What the project's gate leaves out, since it is gated elsewhere, has its own gate in a copy."""
    return re.sub(r"^GATED\b.*\n", "", text, flags=re.MULTILINE)


def _siblings(text: str, but: str | None) -> list[Path]:
    """The recipes of the project that a file imports, and those that they import."""
    found: list[Path] = []
    left = [text]
    while left:
        for node in ast.walk(ast.parse(left.pop())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            paths = [SCENARIOS / f"{name}.py" for name in names]
            new = [path for path in paths if path.is_file() and path not in found and path.stem != but]
            found += new
            left += [path.read_text(encoding="utf-8") for path in new]
    return sorted(found)
