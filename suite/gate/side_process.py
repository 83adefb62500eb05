# SPDX-License-Identifier: Apache-2.0
"""What only a side's own Python can say, for `compare`: its plan, its versions, whether its answers fit the other's.

`python -m suite.gate.side_process plan|check` reads a JSON object from stdin and writes one to stdout. Each side has a
process of its own: two revisions of a recipe have the same name, and may need packages that the harness does not have.
"""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from suite.errors import UsageError
from suite.machine import environment
from suite.machine.processes import child_environment
from suite.plan.cells import Cell, Request, plan_cells
from suite.plan.scenario import ScenarioError, discover, load_scenario, one_line
from suite.records import cell_name
from suite.run.plan_file import plan_record


def make_plan(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a side, and what it was made with.

    Parameters
    ----------
    asked : mapping
        `folder` of the recipes; `names` of those wanted, or None; `request`, the fields of a `plan.Request`; `master`;
        `command`; `run`. For base also `head`, what head answered: both do the same jobs, of head's sizes, though the
        sizes in the files may have changed.
    """
    scenarios, broken = discover(Path(asked["folder"]))
    if asked["names"] is not None:
        scenarios = [scenario for scenario in scenarios if scenario.name in asked["names"]]
        broken = {name: why for name, why in broken.items() if Path(name).stem in asked["names"]}
    wanted: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in asked["request"].items()
    }
    request = Request(**wanted)
    cells = plan_cells(scenarios, request)
    gone: list[str] = []
    if head := asked.get("head"):
        own = {cell_name(asdict(cell)) for cell in cells}
        gone = sorted(own - {cell_name(cell) for cell in head["plan"]["cells"]})
        known = {(scenario.name, variant.name) for scenario in scenarios for variant in scenario.variants}
        same = [Cell(**cell) for cell in head["plan"]["cells"]]
        cells = [cell for cell in same if (cell.scenario, cell.variant) in known]
    return {
        "plan": plan_record(asked["run"], asked["command"], {}, request, asked["master"], scenarios, cells),
        "gone": gone,
        "files": [str(scenario.path) for scenario in scenarios],
        "broken": {Path(name).stem: why for name, why in broken.items()},
        "python": platform.python_version(),
        "versions": environment.versions(),
    }


def check_answers(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Whether answers of two sides are equal in the eyes of a recipe: its complaint for each, or None.

    Parameters
    ----------
    asked : mapping
        `pairs`, a list of [file of the recipe, answer of base, answer of head].
    """
    return {"said": [_complaint(*pair) for pair in asked["pairs"]]}


def _complaint(file: str, base: Any, head: Any) -> str | None:
    try:
        load_scenario(Path(file)).check(base, head)
    except ScenarioError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a recipe raises is its complaint
        return one_line(error)
    return None


def ask(python: str, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Put a question to a side.

    Parameters
    ----------
    python : str
        Its interpreter.
    what : str
        `plan` or `check`.
    asked : mapping

    Raises
    ------
    UsageError
        With the last line of what it said instead of an answer.
    """
    done = subprocess.run(
        [python, "-m", "suite.gate.side_process", what],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=environment.ROOT,
        env=child_environment(),
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UsageError(lines[-1].removeprefix("error: "))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def answer_from_stdin(arguments: Sequence[str]) -> int:
    """Answer one question."""
    try:
        # A recipe may print while it is imported.
        with contextlib.redirect_stdout(sys.stderr):
            answer = {"plan": make_plan, "check": check_answers}[arguments[0]](json.load(sys.stdin))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(answer_from_stdin(sys.argv[1:]))
