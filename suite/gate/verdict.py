# SPDX-License-Identifier: Apache-2.0
"""Whether head is slower than base: from the records of both sides to a verdict. Pure: no clock, no process.

Three gates. Gate 0 needs no statistics: what fails, answers otherwise or runs other Spark jobs on one side only. Gate 1
screens the times of all recipes, gate 2 confirms on new blocks what the first has flagged; both are in `stats.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from suite import stats
from suite.gate.sign_flip import CONFIRM_P, RATIO_BOUND, Judgement, decide_word, flag_slower, slower
from suite.records import Record

Kind = Literal["regression", "unclear", "note"]
COUNTED = ("jobs", "stages", "tasks")
EXIT_CODES = {"pass": 0, "regression": 3, "inconclusive": 4}
Complaints = Callable[[Sequence[tuple[str, Any, Any]]], list[str | None]]


@dataclass(frozen=True)
class SideRecords:
    """A side as it was planned and run.

    Attributes
    ----------
    planned : set of str
        Each `scenario.variant`.
    records : dict
        Its record in each block, by number.
    broken : dict
        Scenario files that do not import, with the reason.
    made_with : dict
        Versions of Python and of packages.
    """

    planned: Set[str]
    records: Mapping[str, Mapping[int, Record]]
    broken: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something that gate 0 found.

    Attributes
    ----------
    kind : str
        `regression`: head is worse, whatever the times. `unclear`: this recipe was not compared. `note`: no more than
        worth knowing.
    name : str
        `scenario.variant`, or the scenario, or `environment`.
    text : str
    """

    kind: Kind
    name: str
    text: str


@dataclass(frozen=True)
class Differences:
    """What gate 0 says, and what is left for the others.

    Attributes
    ----------
    findings : list of Finding
    differences : dict
        For each recipe that ran well on both sides, log(t_head / t_base) in each block.
    """

    findings: list[Finding]
    differences: dict[str, list[float]]


def gather_records(answer: Mapping[str, Any], records: Sequence[Record]) -> SideRecords:
    """Gather the cells and records of a side by `scenario.variant`.

    Parameters
    ----------
    answer : mapping
        As `side.planned` gives it.
    records : sequence of dict
    """
    planned = {f"{cell['scenario']}.{cell['variant']}" for cell in answer["plan"]["cells"]} | set(answer["gone"])
    found: dict[str, dict[int, Record]] = {name: {} for name in planned}
    for record in records:
        found.setdefault(record.name, {})[record.block] = record
    return SideRecords(planned, found, answer["broken"], {"python": answer["python"], **answer["versions"]})


def compare_records(
    base: SideRecords, head: SideRecords, blocks: int, complaints: Complaints, *, strict: bool
) -> Differences:
    """Gate 0.

    Parameters
    ----------
    base, head : Measured
    blocks : int
        Planned on each side.
    complaints : callable
        Takes triples of name, answer of base, answer of head; gives back what the recipe's own `check` says of each.
    strict : bool
        Whether both sides have the same packages and settings. Then what never varies on a side, answers and numbers of
        Spark jobs, has to be the same on the other to the last digit.
    """
    findings = _unequal(base, head) if strict else []
    findings += _not_there(base, head)
    whole: list[str] = []
    for name in sorted(base.planned & head.planned):
        if problem := _not_whole(name, base.records[name], head.records[name], blocks):
            findings.append(problem)
        else:
            whole.append(name)
    said = complaints([(name, _answers(base, name)[0], _answers(head, name)[0]) for name in whole])
    differences = {}
    for name, complaint in zip(whole, said, strict=True):
        one, other = _answers(base, name), _answers(head, name)
        if complaint:
            findings.append(Finding("regression", name, f"its answer changed: {complaint}"))
            continue
        if strict and _constant(one) and _constant(other) and one[0] != other[0]:
            findings.append(Finding("regression", name, "its answer changed in the last digits: " + _first(one, other)))
            continue
        findings += _counts(name, base.records[name], head.records[name], strict=strict)
        times = [
            {block: record.seconds for block, record in side.records[name].items() if record.seconds is not None}
            for side in (head, base)
        ]
        differences[name] = list(stats.log_ratios(*times).values())
    return Differences(findings, differences)


def _unequal(base: SideRecords, head: SideRecords) -> list[Finding]:
    """Environments that should be the same and are not."""
    one, other = base.made_with, head.made_with
    different = [
        f"{name} {one.get(name)} and {other.get(name)}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
    return [Finding("unclear", "environment", f"the sides differ in {', '.join(different)}")] if different else []


def _not_there(base: SideRecords, head: SideRecords) -> list[Finding]:
    """Recipes of one side only, and files that do not import."""
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
    """Why the times of a recipe cannot be compared, if so."""
    for which, side in (("base", base), ("head", head)):
        if missing := sorted(set(range(blocks)) - side.keys()):
            return Finding("unclear", name, f"{which} has no record of block {missing[0]}")
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


def _answers(side: SideRecords, name: str) -> list[Any]:
    return [record.answer for _, record in sorted(side.records[name].items())]


def _constant(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _first(one: Sequence[Any], other: Sequence[Any]) -> str:
    """Where two answers differ first, in few words."""
    if isinstance(one[0], dict) and isinstance(other[0], dict):
        for key in one[0].keys() | other[0].keys():
            if one[0].get(key) != other[0].get(key):
                return f"{key} {_said(one[0].get(key))} became {_said(other[0].get(key))}"
    return f"{_said(one[0])} became {_said(other[0])}"


def _said(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _counts(name: str, base: Mapping[int, Record], head: Mapping[int, Record], *, strict: bool) -> list[Finding]:
    """Numbers of Spark jobs, stages and tasks that never vary on a side and differ between them."""
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


# --- the verdict


@dataclass(frozen=True)
class Verdict:
    """What it comes to.

    Attributes
    ----------
    word : str
        `pass`, `regression` or `inconclusive`.
    line : str
        The same as a sentence that says why.
    """

    word: str
    line: str

    @property
    def exit_code(self) -> int:
        """0, 3 or 4."""
        return EXIT_CODES[self.word]


def decide(
    findings: Sequence[Finding],
    screened: Mapping[str, Judgement],
    confirmed: Mapping[str, Judgement] | None = None,
) -> Verdict:
    """The verdict.

    Parameters
    ----------
    findings : sequence of Finding
        Of gate 0, from all blocks.
    screened, confirmed : mapping of str to Judgement
        Of gates 1 and 2.
    """
    if worse := [finding for finding in findings if finding.kind == "regression"]:
        return Verdict("regression", "; ".join(f"{finding.name} {finding.text}" for finding in worse[:3]))
    again = dict(confirmed or {})
    slow = [name for name in flag_slower(screened) if name in again and slower(again[name], CONFIRM_P)]
    if slow:
        said = (f"{name} takes {again[name].ratio:.2f} times as long{_limits(again[name])}" for name in slow)
        return Verdict("regression", "; ".join(said))
    if unclear := [finding for finding in findings if finding.kind == "unclear"]:
        said = (f"{finding.name}: {finding.text}" for finding in unclear[:3])
        return Verdict("inconclusive", "not everything could be compared: " + "; ".join(said))
    if not screened:
        return Verdict("inconclusive", "no recipe ran on both sides")
    if lost := [name for name in flag_slower(screened) if name not in again]:
        return Verdict("inconclusive", f"flagged and not measured again: {', '.join(lost)}")
    wide = [name for name, one in screened.items() if again.get(name, one).high >= RATIO_BOUND]
    if decide_word(screened, again) == "pass":
        return Verdict("pass", f"no recipe of {len(screened)} takes {RATIO_BOUND:.2f} times as long or longer")
    said = (f"{name} may take up to {again.get(name, screened[name]).high:.2f} times as long" for name in wide)
    return Verdict("inconclusive", f"{'; '.join(said)}: too noisy to tell; run it again on a quieter machine")


def recipe_word(name: str, screened: Mapping[str, Judgement], confirmed: Mapping[str, Judgement]) -> str:
    """What a table says of a recipe that was timed."""
    below = confirmed.get(name, screened[name]).high < RATIO_BOUND
    if name not in confirmed:
        return "ok" if below else "unclear"
    if slower(confirmed[name], CONFIRM_P):
        return "slower, confirmed"
    return "flagged, not confirmed" + ("" if below else ": unclear")


def _limits(one: Judgement) -> str:
    return f" ({one.low:.2f} to {one.high:.2f})"
