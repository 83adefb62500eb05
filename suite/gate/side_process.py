# SPDX-License-Identifier: Apache-2.0
"""What only a side's own Python can tell `compare`: its plan, its versions, whether its answers fit the other side's.

`python -m suite.gate.side_process plan|check` reads a JSON object from stdin and writes one to stdout. Each side has a
process of its own: two revisions of a recipe have the same name, and may need packages that the harness does not have.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from suite.errors import InvalidCellError, UsageError
from suite.gate.sides import Side
from suite.machine import environment
from suite.machine.processes import child_environment
from suite.machine.signals import end_process
from suite.plan.cells import Cell, Request, plan_cells, plan_what_can_be
from suite.plan.scenario import ScenarioError, discover, load_scenario
from suite.run.answers import find_complaint
from suite.run.plan_file import describe_plan


@dataclass(frozen=True)
class SidePlan:
    """The plan of a side, and what it was made with.

    Attributes
    ----------
    plan : dict
        The content of `plan.json`.
    gone : list of str
        Each `scenario.variant` that the other side no longer has.
    files : list of str
        Scenario files.
    broken : dict of str to str
        Scenarios that do not import, with the reason.
    python : str
        Version.
    versions : dict
        Of packages.
    imported : dict of str to int
        Files of the modules that are loaded with the recipes, and when each was last written.
    """

    plan: dict[str, Any]
    gone: list[str]
    files: list[str]
    broken: dict[str, str]
    python: str
    versions: dict[str, str | None]
    imported: dict[str, int]

    @property
    def cells(self) -> list[Cell]:
        """What the side runs."""
        return [Cell(**cell) for cell in self.plan["cells"]]

    def knows(self, scenario: str) -> bool:
        """Whether the side has a scenario of that name, sound or not."""
        return scenario in self.plan["scenarios"] or scenario in self.broken


def make_side_plan(asked: Mapping[str, Any]) -> SidePlan:
    """Plan a side.

    Parameters
    ----------
    asked : mapping
        `folder` of the recipes; `names` of those wanted, or None; `request`, the fields of a `plan.cells.Request`;
        `master`; `command`; `run`. For base also `head`, head's plan: both do the same jobs, of head's sizes, though
        the sizes in the files may have changed.
    """
    scenarios, broken = discover(Path(asked["folder"]))
    if asked["names"] is not None:
        scenarios = [scenario for scenario in scenarios if scenario.name in asked["names"]]
        broken = {name: why for name, why in broken.items() if Path(name).stem in asked["names"]}
    wanted: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in asked["request"].items()
    }
    request = Request(**wanted)
    if asked["names"] is None:
        cells, scenarios, left_out = plan_what_can_be(scenarios, request)
        broken |= left_out
    else:
        cells = plan_cells(scenarios, request)
    gone: list[str] = []
    if head := asked.get("head"):
        # The same jobs, but each side knows itself what it lacks.
        skips = {cell.name: cell.skip for cell in cells}
        same = [Cell(**cell) for cell in head["cells"]]
        gone = sorted({cell.name for cell in cells} - {cell.name for cell in same})
        known = {(scenario.name, variant.name) for scenario in scenarios for variant in scenario.variants}
        cells = [
            replace(cell, skip=skips.get(cell.name, cell.skip))
            for cell in same
            if (cell.scenario, cell.variant) in known
        ]
    return SidePlan(
        plan=describe_plan(asked["run"], asked["command"], {}, request, asked["master"], scenarios, cells),
        gone=gone,
        files=[str(scenario.path) for scenario in scenarios],
        broken={Path(name).stem: why for name, why in broken.items()},
        python=platform.python_version(),
        versions=environment.versions(),
        imported=_imported(),
    )


def _imported() -> dict[str, int]:
    files = {Path(getattr(module, "__file__", None) or "").resolve() for module in list(sys.modules.values())}
    return {str(file): file.stat().st_mtime_ns for file in files if file.is_file()}


def check_answers(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Hold answers of two sides against each other by the recipe's own check: its complaint for each, or None.

    Parameters
    ----------
    asked : mapping
        `pairs`, a list of [file of the recipe, answer of base, answer of head].
    """
    return {"said": [_complaint(*pair) for pair in asked["pairs"]]}


def _complaint(file: str, base: Any, head: Any) -> str | None:
    try:
        check = load_scenario(Path(file)).check
    except ScenarioError as error:
        return str(error)
    try:
        return find_complaint(check, base, head)
    except InvalidCellError as error:
        return str(error)


def ask(side: Side, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a side a question, in the folder and with the imports that its cells have.

    Parameters
    ----------
    side : Side
    what : str
        `plan` or `check`.
    asked : mapping

    Raises
    ------
    UsageError
        With the last line of what it said instead of a reply.
    """
    done = subprocess.run(
        [side.python, "-m", "suite.gate.side_process", what],
        input=json.dumps(asked),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**child_environment(), **side.variables},
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UsageError(lines[-1].removeprefix("error: "))
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def ask_plan(side: Side, asked: Mapping[str, Any]) -> SidePlan:
    """Ask a side for the plan of its recipes; see `make_side_plan`."""
    return SidePlan(**ask(side, "plan", {**asked, "folder": str(side.scenarios)}))


def reply_to_stdin(arguments: Sequence[str]) -> int:
    """Reply to one question."""
    # A recipe and what it starts may print, also when this process ends: the reply alone goes to stdout.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        try:
            asked = json.load(sys.stdin)
            reply = asdict(make_side_plan(asked)) if arguments[0] == "plan" else check_answers(asked)
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        json.dump(reply, out)
    return 0


if __name__ == "__main__":
    end_process(reply_to_stdin(sys.argv[1:]))
