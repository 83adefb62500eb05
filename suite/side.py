# SPDX-License-Identifier: Apache-2.0
"""What only a side's own Python can say, for `compare`: its plan, its versions, whether its answers fit the other's.

`python -m suite.side plan|check` reads a JSON object from stdin and writes one to stdout. A process for each side: two
revisions of a recipe have the same name, and may need packages that the harness does not have.
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

from suite import bench, environment, plan
from suite.errors import UsageError
from suite.gate import name_of
from suite.scenario import ScenarioError, discover, load, one_line


def planned(asked: Mapping[str, Any]) -> dict[str, Any]:
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
    request = plan.Request(**wanted)
    cells = plan.make(scenarios, request)
    gone: list[str] = []
    if head := asked.get("head"):
        own = {name_of(asdict(cell)) for cell in cells}
        gone = sorted(own - {name_of(cell) for cell in head["plan"]["cells"]})
        known = {(scenario.name, variant.name) for scenario in scenarios for variant in scenario.variants}
        same = [plan.Cell(**cell) for cell in head["plan"]["cells"]]
        cells = [cell for cell in same if (cell.scenario, cell.variant) in known]
    return {
        "plan": bench.plan_record(asked["run"], asked["command"], {}, request, asked["master"], scenarios, cells),
        "gone": gone,
        "files": [str(scenario.path) for scenario in scenarios],
        "broken": {Path(name).stem: why for name, why in broken.items()},
        "python": platform.python_version(),
        "versions": environment.versions(),
    }


def checked(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Whether answers of two sides are equal in the eyes of a recipe: its complaint for each, or None.

    Parameters
    ----------
    asked : mapping
        `pairs`, a list of [file of the recipe, answer of base, answer of head].
    """
    return {"said": [_complaint(*pair) for pair in asked["pairs"]]}


def _complaint(file: str, base: Any, head: Any) -> str | None:
    try:
        load(Path(file)).check(base, head)
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
        [python, "-m", "suite.side", what],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=environment.ROOT,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UsageError(lines[-1].removeprefix("error: "))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main(arguments: Sequence[str]) -> int:
    """Answer one question."""
    try:
        # A recipe may print while it is imported.
        with contextlib.redirect_stdout(sys.stderr):
            answer = {"plan": planned, "check": checked}[arguments[0]](json.load(sys.stdin))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
