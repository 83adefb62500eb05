# SPDX-License-Identifier: Apache-2.0
"""`plan.json`: what a run was asked to do; written once, read again by `--resume`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from suite.errors import UsageError
from suite.machine import environment
from suite.plan.cells import Cell, Request, base_cases, sweep_centre
from suite.plan.scenario import Scenario, files_of, one_line
from suite.records import now

PLAN_SCHEMA = 1
# What is read again, besides `options`.
PLAN_MEMBERS = frozenset(("run", "command", "size", "master", "blocks", "seed", "scenarios", "cells"))


def describe_plan(
    run: str,
    command: str,
    options: Mapping[str, Any],
    request: Request,
    master: str,
    scenarios: Sequence[Scenario],
    cells: Sequence[Cell],
) -> dict[str, Any]:
    """Make the content of `plan.json`."""
    return {
        "schema": PLAN_SCHEMA,
        "run": run,
        "created": now(),
        "command": command,
        "options": dict(options),
        "size": request.size,
        "master": master,
        "blocks": request.blocks,
        "cores": request.cores,
        "seed": request.seed,
        "scenarios": {
            scenario.name: {
                "title": scenario.title,
                "workload": scenario.workload,
                "parallelism": scenario.parallelism,
                "centre": sweep_centre(scenario, request),
                "crossed": list(scenario.crossed),
                "waits": scenario.waits,
                "path": _shown_path(scenario.path),
                "elsewhere": not scenario.path.is_relative_to(environment.ROOT),
                "sha256": scenario.sha256,
            }
            for scenario in scenarios
        },
        "files": _hashes_by_name(scenarios),
        "bases": {workload: list(base) for workload, base in base_cases(scenarios).items()},
        "cells": [asdict(cell) for cell in cells],
    }


def file_hashes(scenarios: Iterable[Scenario]) -> dict[Path, str]:
    """Return the SHA-256 of each file that the cells of recipes import from the recipes' folders."""
    files = [file for scenario in scenarios for file in files_of(scenario.path)]
    return {file: sha256 for file in files if (sha256 := hash_file(file))}


def _hashes_by_name(scenarios: Iterable[Scenario]) -> dict[str, str]:
    """The same by names that hold wherever the suite is called from: those within the folder of a recipe."""
    return {
        str(file.relative_to(scenario.path.parent)): sha256
        for scenario in scenarios
        for file, sha256 in file_hashes([scenario]).items()
    }


def hash_file(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where it is gone."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _shown_path(path: Path) -> str:
    # Runs are published: a path says nothing of the machine where it can be avoided.
    for folder in (environment.ROOT, Path.cwd()):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return path.name


def read_plan(directory: Path) -> dict[str, Any]:
    """Read `plan.json` of a run folder.

    Raises
    ------
    UsageError
        There is none, or this version of the suite did not write it.
    """
    try:
        plan: dict[str, Any] = json.loads((directory / "plan.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{directory} holds no run to resume: it has no plan.json") from error
    except ValueError as error:
        raise UsageError(f"{directory / 'plan.json'} is not a plan: {error}") from error
    if not isinstance(plan, dict):
        raise UsageError(f"{directory / 'plan.json'} is not a plan: it holds {str(plan)[:40]}: start a new run")
    known = plan.get("schema") == PLAN_SCHEMA and isinstance(plan.get("options"), dict) and plan.keys() >= PLAN_MEMBERS
    if not known:
        raise UsageError(f"{directory / 'plan.json'} was written by another version of the suite: start a new run")
    return plan


def check_same_plan(
    directory: Path, plan: dict[str, Any], scenarios: Sequence[Scenario], cells: Sequence[Cell]
) -> None:
    """Refuse to go on with a run whose plan or recipes have changed.

    Raises
    ------
    UsageError
        With what has changed.
    """
    try:
        planned = {cell["id"] for cell in plan["cells"]}
        hashes = {name: about["sha256"] for name, about in plan["scenarios"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{directory / 'plan.json'} is not a plan: {one_line(error)}") from error
    if {cell.id for cell in cells} != planned:
        raise UsageError(f"{directory} holds a run of another plan ({plan['command']}): name another --out")
    changed = [scenario.path.name for scenario in scenarios if scenario.sha256 != hashes.get(scenario.name)]
    beside = plan.get("files", {})  # older plans have none
    changed += [name for name, sha256 in _hashes_by_name(scenarios).items() if beside.get(name, sha256) != sha256]
    if changed:
        raise UsageError(f"{changed[0]} has changed since the run in {directory} began: start a new run")


def check_same_machine(directory: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with a run elsewhere, or with other packages: it would mix two measurements in one.

    Parameters
    ----------
    directory : Path
        Of the run. Where its `environment.json` is missing or torn, nothing is known.
    facts : mapping
        Of this machine, as `describe_environment` makes them.

    Raises
    ------
    UsageError
        With what is different.
    """
    try:
        was = _of_the_machine(json.loads((directory / "environment.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    found = _of_the_machine(facts)
    if other := [f"{name} is {found.get(name)}, was {was[name]}" for name in was if was[name] != found.get(name)]:
        raise UsageError(f"the run in {directory} cannot go on here: {', '.join(other)}: start a new run")


def _of_the_machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    machine = facts["machine"]
    of_machine = {"the processor": machine["cpu"], "the number of cores": machine["cores"]}
    return {**of_machine, "Python": facts["python"], "Java": facts["java"]["version"], **facts["versions"]}


def tell_unknown_revision() -> None:
    """Print why no commit will be recorded with a run, if so: nobody should be surprised by that later."""
    if why := environment.why_no_revision():
        print(f"note: no commit is recorded with this run: {why}", file=sys.stderr)
