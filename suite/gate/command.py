# SPDX-License-Identifier: Apache-2.0
"""`python -m suite compare`: runs base and head side by side, block by block, and says whether head is slower.

Both sides run in one job on one machine, driven by this harness; stored times are never judged. In each block a coin
says which side goes first, and each side gets a fresh process: one warm-up call of each recipe and some timed calls, in
which the two take turns in local mode. A block's time is the median of these.

The package is the gate: `comparison` runs blocks, `gate_zero`, `sign_flip` and `verdict` decide on what they gave,
`sides` and `side_process` are the two sides, `table` shows the result; `prove` measures how often all of it errs. It
imports from every other package, and only the command line imports from it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from suite.cluster import preflight
from suite.cluster.connect import connect
from suite.errors import UsageError
from suite.gate.comparison import Comparison, Gate, make_plans
from suite.gate.side_process import SidePlan
from suite.gate.sides import SIDES, Side, check_out, make_interpreter
from suite.gate.sign_flip import CONFIRM, SCREEN, Judgement, flag_slower
from suite.gate.table import markdown_table, terminal_table
from suite.gate.verdict import decide, recipe_word
from suite.machine.signals import INTERRUPTED, InterruptError
from suite.plan.scenario import SCENARIOS
from suite.records import now, write_json
from suite.run.command import new_run_folder
from suite.run.loop import lock_run_folder
from suite.run.options import BenchOptions, parse_setting
from suite.run.request import check_data, check_master, check_settings, make_request, workers_wanted
from suite.spark.java import ready_java
from suite.spark.session import is_local

GATE_TIMEOUT = 300.0  # seconds


def compare(parsed: argparse.Namespace, command_line: str) -> int:
    """Run `compare`.

    Parameters
    ----------
    parsed : argparse.Namespace
        As `cli.parser` makes it.
    command_line : str
        What the user typed, for the record.

    Returns
    -------
    int
        0 pass, 3 regression, 4 inconclusive, 130 interrupted.

    Raises
    ------
    UsageError
        Before anything is measured.
    """
    java = ready_java()
    if parsed.master == "compose":
        raise UsageError("compare does not run in containers: take --master local[N], standalone or spark://HOST:PORT")
    if parsed.data:
        check_data(parsed.data)
    data = parsed.data and parsed.data.resolve()  # a recipe may go to another folder
    options = BenchOptions(size=parsed.size or "gate", master=parsed.master, slots=parsed.slots, data=data)
    master = check_master(options.master)
    for name in SIDES:
        check_settings(BenchOptions(conf=getattr(parsed, f"{name}_conf")), master)
    with _open_sides(parsed) as sides:
        seed = secrets.randbits(32)
        coin = random.Random(seed)
        request = replace(make_request(options, master), gate=True, blocks=SCREEN[0].blocks, seed=coin.getrandbits(32))
        plans = make_plans(sides, request, parsed.scenario or None, master, command_line)
        directory = new_run_folder(parsed.out and parsed.out.resolve())  # a variant may go to another folder
        logs = directory / "logs"
        with lock_run_folder(directory), connect(master, workers_wanted(options), logs=logs) as ready:
            if not is_local(master):
                preflight.run_preflight(ready, request.cores, java, logs / "preflight.log")
            timeout = parsed.timeout or GATE_TIMEOUT
            comparison = Comparison(sides, directory, request, ready, java, command_line, timeout, coin, data=data)
            try:
                return _compare(comparison, plans, seed)
            except InterruptError as stop:
                print(f"\nstopped by {stop}: no verdict. What was measured is in {directory}")
                return INTERRUPTED


def _compare(comparison: Comparison, plans: Mapping[str, SidePlan], seed: int) -> int:
    sides = comparison.sides
    for name in SIDES:
        print(f"{name}: {describe_side(sides[name], plans[name])}")
    screen, confirm = comparison.look("screen", SCREEN, plans), Gate([])
    flagged = flag_slower(screen.judged)
    if flagged and not any(finding.kind == "regression" for finding in screen.findings):
        print(f"flagged, so measured again: {', '.join(flagged)}", flush=True)
        confirm = comparison.look("confirm", CONFIRM, None, flagged)
    findings = screen.findings + [finding for finding in confirm.findings if finding not in screen.findings]
    verdict = decide(findings, screen.judged, confirm.judged)
    result = {
        "schema": 1,
        "created": now(),
        "command": comparison.command_line,
        "verdict": verdict.word,
        "line": verdict.line,
        "exit_code": verdict.exit_code,
        "strict": comparison.strict,
        "master": comparison.ready.label or comparison.ready.url,
        "sides": {name: _side_json(sides[name], plans[name]) for name in SIDES},
        "order": {"seed": seed, "screen": screen.order, "confirm": confirm.order},
        "findings": [asdict(finding) for finding in findings],
        "screened": {name: _judgement_json(one) for name, one in screen.judged.items()},
        "confirmed": {name: _judgement_json(one) for name, one in confirm.judged.items()},
        "words": {name: recipe_word(name, screen.judged, confirm.judged) for name in screen.judged},
        "differences": screen.differences,
        "times": screen.values("seconds"),
        "times_again": confirm.values("seconds"),
        "cpu_seconds": screen.values("cpu_seconds"),
        "cpu_seconds_again": confirm.values("cpu_seconds"),
        "loads": comparison.loads,
        "warnings": [*screen.warnings(), *(f"measured again: {said}" for said in confirm.warnings())],
    }
    _show(comparison, result)
    return verdict.exit_code


def _show(comparison: Comparison, result: Mapping[str, Any]) -> None:
    write_json(comparison.directory / "verdict.json", result)
    (comparison.directory / "compare.md").write_text(markdown_table(result), encoding="utf-8")
    print("\n" + terminal_table(result))
    print(f"the same as Markdown: {comparison.directory / 'compare.md'}")


@contextlib.contextmanager
def _open_sides(parsed: argparse.Namespace) -> Iterator[dict[str, Side]]:
    folder = parsed.scenarios or SCENARIOS
    made = {}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foldout-packages-")))
        for name, revision in zip(SIDES, (parsed.base, parsed.head), strict=True):
            side = stack.enter_context(check_out(revision, folder))
            lock = getattr(parsed, f"{name}_lock") or side.lock
            if lock is not None and not lock.is_file():
                raise UsageError(f"there is no lock {lock}")
            conf = dict(parse_setting(text) for text in getattr(parsed, f"{name}_conf"))
            made[name] = replace(side, lock=lock, python=make_interpreter(lock, scratch), conf=conf)
        yield made


def describe_side(side: Side, plan: SidePlan) -> str:
    """Describe a side in a line."""
    what = "files as they are" if side.revision == "." else side.revision[:12]
    conf = "".join(f", {key}={value}" for key, value in side.conf.items())
    return f"{what}, PySpark {plan.versions['pyspark']}, scikit-learn {plan.versions['scikit-learn']}{conf}"


def _side_json(side: Side, plan: SidePlan) -> dict[str, Any]:
    return {
        "revision": side.revision,
        "lock": side.packages,
        "conf": dict(side.conf),
        "python": plan.python,
        "versions": plan.versions,
        "said": describe_side(side, plan),
    }


def _judgement_json(judgement: Judgement) -> dict[str, float | None]:
    # JSON has no infinity, which stands for "too few blocks".
    return {name: value if abs(value) != float("inf") else None for name, value in judgement._asdict().items()}
