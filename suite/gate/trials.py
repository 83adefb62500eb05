# SPDX-License-Identifier: Apache-2.0
"""Whole comparisons of cases in which a gate is easily wrong, each with the verdict that is right.

Each is a real `python -m suite compare`: two revisions of a small recipe, six blocks or more and, where something is
flagged, eight or more of it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.gate.verdict import EXIT_CODES
from suite.machine import environment
from suite.machine.signals import InterruptError
from suite.records import write_json

RECIPES = Path(__file__).resolve().parent / "recipes"
FOUND = "verdicts.json"

POOL = '    """In a pool."""\n'
# Counts the calls of both sides: in each block two are warm-ups, then the sides take turns with four that are timed.
COUNTED_CALLS = """    import os
    with open(os.environ["FOLDOUT_CALLS"], "ab") as file:
        file.write(b".")
        if file.tell() % 6 == 3:
            work(160)
"""
NEIGHBOUR = """
import time
while True:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        pass
    time.sleep(3)
"""


@dataclass(frozen=True)
class Case:
    """A pair of revisions, and what has to be said of it.

    Attributes
    ----------
    what : str
        A description.
    expected : tuple of str
        The verdicts that are right.
    says : str
        A part of what the table has to say.
    recipe : str
    base, head : tuple of (str, str) or None
        The text that is replaced in the recipe on that side, and its replacement. None: the side lacks the recipe and
        has another one.
    neighbour : bool
        Whether other programs keep the machine busy, for five seconds of every eight.
    """

    what: str
    expected: tuple[str, ...]
    says: str
    recipe: str = "toy"
    base: tuple[str, str] | None = ("", "")
    head: tuple[str, str] | None = ("", "")
    neighbour: bool = False


NOTHING_WRONG = ("pass", "inconclusive")
SAID = '"""In a pool."""\n    return {"total": work(data)'
RAISES = SAID.replace("work", "1 / 0 or work")
SERIAL = '"""One after the other."""\n    return {"total": work(data'
FASTER = (SERIAL + ")", SERIAL + " // 2) * 2")
ON_SPARK = '"""On all slots."""\n'
JOB = "    spark.sparkContext.parallelize([0], 1).count()\n"

CASES = {
    "nothing changed": Case("base against itself", NOTHING_WRONG, "toy.pool"),
    "slower by 30 %": Case(
        "head's parallel variant does 30 % more work",
        ("regression",),
        "slower, confirmed",
        head=(POOL, POOL + "    work(120)\n"),
    ),
    "faster base case": Case(
        "head's serial variant takes half as long, its speedup is half as high: nothing became slower",
        NOTHING_WRONG,
        "toy.pool",
        head=FASTER,
    ),
    "busy neighbour": Case(
        "other programs keep both cores busy for five seconds of every eight",
        NOTHING_WRONG,
        "other programs",
        neighbour=True,
    ),
    "going first": Case(
        "the first timed call of each block takes 40 % longer, whichever side has it",
        NOTHING_WRONG,
        "toy.pool",
        base=(POOL, POOL + COUNTED_CALLS),
        head=(POOL, POOL + COUNTED_CALLS),
    ),
    "fails on head": Case("the parallel variant raises on head", ("regression",), "fails on head", head=(SAID, RAISES)),
    "fails on base": Case(
        "it raised on base: nothing to compare with", ("inconclusive",), "fails on base", base=(SAID, RAISES)
    ),
    "new on head": Case("a recipe that base does not have", NOTHING_WRONG, "is new", base=None),
    "gone from head": Case("a recipe that head does not have", ("inconclusive",), "is in base only", head=None),
    "changed answer": Case(
        "the parallel variant answers otherwise on head",
        ("regression",),
        "its answer changed",
        head=(SAID, SAID + " + 1"),
    ),
    "one Spark job more": Case(
        "the same answer by two jobs in place of one",
        ("regression",),
        "1 Spark jobs became 2",
        recipe="toy_on_spark",
        head=(ON_SPARK, ON_SPARK + JOB),
    ),
}


def run_trials(folder: Path, names: list[str], times: int) -> bool:
    """Run each case so many times, write down in a folder what was found, and return whether every verdict is right."""
    file = folder / FOUND
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["cases"] if file.exists() else {}
    # What was found before, right or wrong, is not tried again until it comes out right; a case that is named is.
    found = {name: one for name, one in found.items() if name in CASES and name not in names}
    # All cases in turn, so that the trials of a case lie apart.
    for number in range(times):
        for name in names or CASES:
            case = CASES[name]
            one = found.setdefault(name, {"what": case.what, "expected": list(case.expected), "trials": []})
            if len(one["trials"]) > number:
                continue
            print(f"\n=== {name} ({number + 1} of {times}): {case.what}", flush=True)
            one["trials"].append(run_trial(case))
            ordered = {known: found[known] for known in CASES if found.get(known, {}).get("trials")}
            write_json(file, {"cases": ordered})
    return tell_trials(found)


def tell_trials(found: Mapping[str, Any]) -> bool:
    """Print how many verdicts are right and which are not; return whether every case was tried, and all are."""
    trials = {name: one["trials"] for name, one in found.items()}
    right = sum(trial["right"] for tried in trials.values() for trial in tried)
    wrong = [name for name, tried in trials.items() if not all(trial["right"] for trial in tried)]
    print(
        f"\n{right} of {sum(map(len, trials.values()))} verdicts right"
        + (f"; wrong: {', '.join(wrong)}" if wrong else "")
    )
    missing = [name for name in CASES if not trials.get(name)]
    if missing:
        print(f"not tried yet: {', '.join(missing)}")
    return not wrong and not missing


def run_trial(case: Case) -> dict[str, Any]:
    """Run one comparison in a repository of its own."""
    with tempfile.TemporaryDirectory(prefix="foldout-verdict-") as made, _busy_neighbours(case.neighbour):
        recipes, out = Path(made) / "recipes", Path(made) / "out"
        _commit_sides(case, recipes)
        code = _compare_from_outside(
            ["HEAD~1", "HEAD", "--scenarios", str(recipes), "--out", str(out)], calls=Path(made) / "calls"
        )
        if code not in EXIT_CODES.values():
            raise RuntimeError(f"compare ended with exit code {code} and gave no verdict")
        result = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
        table = (out / "compare.md").read_text(encoding="utf-8")
    return {
        # Of each: a proof goes on where it was stopped, and what is missing may come from elsewhere.
        "machine": f"{environment.cores()} cores, {environment.cpu_name()}",
        "revision": environment.revision(),
        "verdict": result["verdict"],
        "exit_code": code,
        "line": result["line"],
        "findings": result["findings"],
        "screened": result["screened"],
        "confirmed": result["confirmed"],
        "warnings": result["warnings"],
        "right": result["verdict"] in case.expected and case.says in table,
    }


def _commit_sides(case: Case, folder: Path) -> None:
    """Make a repository whose last two commits are the sides of a case."""
    folder.mkdir()
    _run_git(folder, "init", "-q")
    for side in (case.base, case.head):
        write_side(folder, case.recipe, side)
        if side is None:
            # A comparison of nothing would say so, and that is another case.
            write_side(folder, "other", ("", ""))
        _run_git(folder, "add", "--all", ".")
        _run_git(folder, "commit", "-q", "--allow-empty", "-m", "a side")


def _compare_from_outside(arguments: Sequence[str], calls: Path) -> int:
    """Run `compare` as a user does and return its exit code; on an interrupt, interrupt it and wait."""
    process = subprocess.Popen(
        [sys.executable, "-m", "suite", "compare", *arguments],
        cwd=environment.ROOT,
        env={**os.environ, "FOLDOUT_CALLS": str(calls)},
        # A terminal's Ctrl-C reaches us alone.
        start_new_session=True,
    )
    try:
        return process.wait()
    except InterruptError:
        process.send_signal(signal.SIGTERM)  # SIGINT may be ignored, as in the background of a script
        process.wait()
        raise


def write_side(folder: Path, recipe: str, side: tuple[str, str] | None) -> None:
    """Write a side of a case into a folder: the recipe with its change, or without the file."""
    file = folder / f"{recipe}.py"
    if side is None:
        file.unlink(missing_ok=True)
        return
    text = (RECIPES / f"{'toy' if recipe == 'other' else recipe}.py").read_text(encoding="utf-8")
    old, new = side
    if text.count(old) < 1:
        raise ValueError(f"{recipe} has no {old!r}")
    file.write_text(text.replace(old, new) if old else text, encoding="utf-8")


def _run_git(folder: Path, *arguments: str) -> None:
    named = ["-c", "user.name=prove", "-c", "user.email=prove@example.org"]
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True)


@contextlib.contextmanager
def _busy_neighbours(wanted: bool) -> Iterator[None]:
    """Run other programs on every core, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        for _ in range(environment.cores() if wanted else 0):
            # Leaving the block waits for it, after it was killed.
            program = stack.enter_context(subprocess.Popen([sys.executable, "-c", NEIGHBOUR]))
            stack.callback(program.kill)
        yield
