# SPDX-License-Identifier: Apache-2.0
"""Gate 0, which needs no statistics: what fails, answers otherwise or runs other Spark jobs on one side only.

It reads the records of both sides and nothing else: no clock, no process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from suite import stats
from suite.gate.side_process import SidePlan
from suite.records import Record

Kind = Literal["regression", "unclear", "note"]
COUNTED = ("jobs", "stages", "tasks")
Complaints = Callable[[Sequence[tuple[str, Any, Any]]], list[str | None]]


@dataclass(frozen=True)
class SideRecords:
    """What was planned on a side, and its records.

    Attributes
    ----------
    planned : set of str
        Each `scenario.variant`.
    records : dict
        For each `scenario.variant`, its record of each block, by the block's number.
    broken : dict
        Scenario files that do not import, with the reason.
    made_with : dict
        Versions of Python and of packages.
    """

    planned: Set[str]
    records: Mapping[str, Mapping[int, Record]]
    broken: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def gather(cls, plan: SidePlan, records: Iterable[Record]) -> SideRecords:
        """Gather the cells and records of a side by `scenario.variant`."""
        planned = {cell.name for cell in plan.cells} | set(plan.gone)
        found: dict[str, dict[int, Record]] = {name: {} for name in planned}
        for record in records:
            found.setdefault(record.name, {})[record.block] = record
        return cls(planned, found, plan.broken, {"python": plan.python, **plan.versions})

    def answers(self, name: str) -> list[Any]:
        """What a recipe answered in each block."""
        return [record.answer for _, record in sorted(self.records[name].items())]

    def calls(self, name: str) -> list[list[float]]:
        """Seconds of each timed call, block by block."""
        return [record.warm_seconds for _, record in sorted(self.records[name].items())]


@dataclass(frozen=True)
class Finding:
    """Something that gate 0 found.

    Attributes
    ----------
    kind : str
        `regression`: head is worse, whatever the times. `unclear`: this recipe was not compared. `note`: worth knowing,
        and not judged.
    name : str
        `scenario.variant`, or the scenario, or `environment`.
    text : str
    """

    kind: Kind
    name: str
    text: str


@dataclass(frozen=True)
class Differences:
    """What gate 0 found, and what the other gates judge.

    Attributes
    ----------
    findings : list of Finding
    logarithms : dict
        For each recipe that ran well on both sides, log(t_head / t_base) in each block: `stats.paired_log_ratio`.
    """

    findings: list[Finding]
    logarithms: dict[str, list[float]]


def compare_records(
    base: SideRecords, head: SideRecords, blocks: int, complaints: Complaints, *, strict: bool
) -> Differences:
    """Compare the records of two sides.

    Parameters
    ----------
    base, head : SideRecords
    blocks : int
        Planned on each side.
    complaints : callable
        Takes triples of name, answer of base and answer of head; returns the complaint of the recipe's own `check` for
        each, or None.
    strict : bool
        Whether both sides have the same packages and settings. Answers and numbers of Spark jobs that never vary on
        one side then have to be the same on the other, to the last digit.
    """
    findings = _unequal(base, head) if strict else []
    findings += _not_there(base, head)
    whole: list[str] = []
    for name in sorted(base.planned & head.planned):
        if problem := _not_whole(name, base.records[name], head.records[name], blocks):
            findings.append(problem)
        else:
            whole.append(name)
    # Of each block: a fault that comes and goes is in one of them.
    pairs = [(name, *pair) for name in whole for pair in zip(base.answers(name), head.answers(name), strict=True)]
    said: dict[str, str] = {}
    for (name, *_), complaint in zip(pairs, complaints(pairs), strict=True):
        if complaint:
            said.setdefault(name, complaint)
    logarithms = {}
    for name in whole:
        complaint = said.get(name)
        if changed := complaint or (strict and _last_digits(base.answers(name), head.answers(name))):
            findings.append(Finding("regression", name, f"its answer changed{': ' if complaint else ' '}{changed}"))
            continue
        findings += _counts(name, base.records[name], head.records[name], strict=strict)
        pairs_of_calls = zip(head.calls(name), base.calls(name), strict=True)
        logarithms[name] = [stats.paired_log_ratio(*pair) for pair in pairs_of_calls]
    return Differences(findings, logarithms)


def _unequal(base: SideRecords, head: SideRecords) -> list[Finding]:
    """Name what differs between environments that should be the same."""
    one, other = base.made_with, head.made_with
    different = [
        f"{name} {one.get(name)} and {other.get(name)}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    return [Finding("unclear", "environment", f"the sides differ in {', '.join(different)}")] if different else []


def _not_there(base: SideRecords, head: SideRecords) -> list[Finding]:
    """Name recipes of one side only, and files that do not import."""
    found = []
    for name in sorted(base.planned ^ head.planned):
        scenario = name.split(".")[0]
        if name in head.planned:
            if scenario not in base.broken:
                found.append(Finding("note", name, "is new: there is nothing to compare it with"))
        elif scenario not in head.broken:
            found.append(Finding("unclear", name, "is in base only"))
    for scenario, why in sorted(head.broken.items()):
        found.append(Finding("unclear" if scenario in base.broken else "regression", scenario, f"head: {why}"))
    for scenario, why in sorted(base.broken.items()):
        found.append(Finding("unclear", scenario, f"base: {why}"))
    return found


def _not_whole(name: str, base: Mapping[int, Record], head: Mapping[int, Record], blocks: int) -> Finding | None:
    """Say why the times of a recipe cannot be compared; None where they can."""
    for which, side in (("base", base), ("head", head)):
        if missing := sorted(set(range(blocks)) - side.keys()):
            return Finding("unclear", name, f"{which} has no record of block {missing[0]}")
    ended = {(record.status, record.reason) for record in (*base.values(), *head.values())}
    if ended == {("skipped", reason := base[0].reason)}:
        return Finding("note", name, f"is skipped on both sides: {reason}")
    bad_base, bad_head = _bad(base), _bad(head)
    if bad_base and bad_head:
        return Finding("unclear", name, f"fails on both sides; head: {_why_bad(bad_head, blocks)}")
    if bad_base:
        return Finding("unclear", name, f"fails on base: {_why_bad(bad_base, blocks)}")
    if bad_head:
        # What befell the cluster says nothing of the recipe.
        struck = all(str(record.reason).startswith("disturbed") for record in bad_head)
        return Finding("unclear" if struck else "regression", name, f"fails on head: {_why_bad(bad_head, blocks)}")
    return None


def _bad(side: Mapping[int, Record]) -> list[Record]:
    return [record for record in side.values() if record.status != "ok"]


def _why_bad(bad: Sequence[Record], blocks: int) -> str:
    often = "" if len(bad) == blocks else f" (in {len(bad)} of {blocks} blocks)"
    return f"{bad[0].status}: {bad[0].reason}{often}"


def _constant(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _last_digits(base: Sequence[Any], head: Sequence[Any]) -> str | None:
    """Say how answers differ that never vary on a side, though the recipe's check has no complaint."""
    if _constant(base) and _constant(head) and base[0] != head[0]:
        return f"in the last digits: {_first(base, head)}"
    return None


def _first(one: Sequence[Any], other: Sequence[Any]) -> str:
    """Say in few words where two answers differ first."""
    if isinstance(one[0], dict) and isinstance(other[0], dict):
        for key in one[0].keys() | other[0].keys():
            if one[0].get(key) != other[0].get(key):
                return f"{key} {_said(one[0].get(key))} became {_said(other[0].get(key))}"
    return f"{_said(one[0])} became {_said(other[0])}"


def _said(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _counts(name: str, base: Mapping[int, Record], head: Mapping[int, Record], *, strict: bool) -> list[Finding]:
    """Name numbers of Spark jobs, stages and tasks that never vary on a side and differ between the sides."""
    more: list[str] = []
    less: list[str] = []
    for what in COUNTED:
        counts = [{(record.engaged or {}).get(what) for record in side.values()} for side in (base, head)]
        if len(counts[0]) == len(counts[1]) == 1 and counts[0] != counts[1]:
            (before,), (after,) = counts
            if before is not None and after is not None:
                (more if after > before else less).append(f"{before} Spark {what} became {after}")
    found = []
    if more:
        found.append(Finding("regression" if strict else "note", name, "does more: " + ", ".join(more)))
    if less:
        found.append(Finding("note", name, "does less: " + ", ".join(less)))
    return found
