# SPDX-License-Identifier: Apache-2.0
"""`python -m suite compare`: runs base and head side by side, block by block, and says whether head is slower.

Both sides run in one job on one machine, driven by this harness; stored times are never judged. In each block a coin
says which side goes first, and each side gets a fresh process: one warm-up call of each recipe and some timed calls, in
which the two take turns in local mode. A block's time is the median of these.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from suite import records, stats
from suite.cluster import preflight
from suite.cluster.connect import connect
from suite.cluster.description import Cluster
from suite.errors import UsageError
from suite.gate.side_process import ask
from suite.gate.sides import SIDES, Side, check_out, make_interpreter
from suite.gate.sign_flip import Judgement, flag_slower, judge
from suite.gate.table import markdown_table, terminal_table
from suite.gate.verdict import Differences, SideRecords, compare_records, decide, gather_records, recipe_word
from suite.machine import environment
from suite.machine.interference import OTHERS, STOLEN, settle
from suite.machine.signals import INTERRUPTED, InterruptError
from suite.plan.cells import Cell, Request
from suite.plan.scenario import SCENARIOS
from suite.records import now, write_json
from suite.run.command import check_master, make_request, new_run_folder, workers_wanted
from suite.run.loop import Loop, PlannedRun, lock_run_folder
from suite.run.progress import duration
from suite.run.turns import take_turns
from suite.spark.java import Java, find_java
from suite.spark.session import is_local

GATE_BLOCKS = 8  # of each gate: what the thresholds in `stats` are made for
# On two cores a JVM's optimizing compiler takes more time than the recipes and is busy for minutes; which half of the
# code it is through with at a timed call is chance. So it stays off on both sides, unless the user says otherwise.
STEADY = {f"spark.{process}.defaultJavaOptions": "-XX:TieredStopAtLevel=1" for process in ("driver", "executor")}
GATE_TIMEOUT = 300.0


@dataclass(frozen=True)
class Stage:
    """One gate's blocks: where they are, and in which order the sides went in each."""

    directory: Path
    blocks: int
    order: list[list[str]]


@dataclass
class Comparison:
    """Sides on one master: `base` and `head`, or more.

    Attributes
    ----------
    sides : dict
        By name. The last one says which jobs all of them do.
    directory : Path
        Each gate gets a folder in it, with a run folder for each side.
    request : plan.Request
    ready : Cluster
    java : Java
    words : str
        The command line, for the record.
    timeout : float
        Seconds without news from a side's process.
    coin : random.Random
    loads : list of dict
        How busy the machine was before and after each block.
    """

    sides: Mapping[str, Side]
    directory: Path
    request: Request
    ready: Cluster
    java: Java
    words: str
    timeout: float
    coin: random.Random
    loads: list[dict[str, Any]] = field(default_factory=list)

    def run(self, plans: Mapping[str, Mapping[str, Any]], stage: str, blocks: int) -> Stage:
        """Run the blocks of a gate; the records of each side are in a run folder of its own.

        In local mode the processes of all sides are there at once. They make their data and their warm-up calls at the
        same time; then they take turns with their timed calls, there and back, A B B A, while the others wait.
        So the calls that are compared lie a second apart, and what slows the machine for longer slows them all (Abedi &
        Brecht 2017). On a cluster, one side follows the other.
        """
        folder = self.directory / stage
        loops = {name: self._loop(name, answer, folder / name) for name, answer in plans.items()}
        # Of two sides in a random order, a fair coin says which goes first.
        orders = [self.coin.sample(list(plans), len(plans)) for _ in range(blocks)]
        took: list[float] = []
        for block, order in enumerate(orders):
            begin, before = time.monotonic(), environment.machine_load()
            about = f", about {duration(statistics.mean(took) * (blocks - block))} left" if took else ""
            print(f"{stage} block {block + 1}/{blocks}: {', '.join(order)}{about}", flush=True)
            take_turns([loops[name].run_block(block) for name in order], settle)
            took.append(time.monotonic() - begin)
            self.loads.append({"stage": stage, "block": block, "before": before, "after": environment.machine_load()})
        for name, loop in loops.items():
            file = folder / name / "environment.json"
            facts = json.loads(file.read_text()) | {"after": environment.machine_load(), "drivers": loop.drivers}
            write_json(file, facts)
        return Stage(folder, blocks, orders)

    def _loop(self, name: str, answer: Mapping[str, Any], folder: Path) -> Loop:
        one = self.sides[name]
        folder.mkdir(parents=True)
        facts = environment.describe_environment(self.ready.label or self.ready.url, self.java.facts)
        facts |= {"python": answer["python"], "versions": answer["versions"], "revision": {"commit": one.revision}}
        write_json(folder / "plan.json", answer["plan"])
        write_json(folder / "environment.json", facts)
        run = PlannedRun(
            directory=folder,
            name=answer["plan"]["run"],
            java=self.java,
            files=[Path(file) for file in answer["files"]],
            cells=[Cell(**cell) for cell in answer["plan"]["cells"]],
            cluster=replace(self.ready, conf={**self._steady(), **self.ready.conf, **one.conf}),
            timeout=self.timeout,
            python=one.python,
            # On a cluster, one side's executors would take the slots that the other waits for.
            turns=is_local(self.ready.url),
            compared=True,
        )
        return Loop(run, lambda _: None)

    def _steady(self) -> Mapping[str, str]:
        # A cluster that is not ours may have Java options of its own in its defaults, which these would replace.
        ours = is_local(self.ready.url) or self.ready.workers is not None
        return STEADY if ours else {}

    def compared(self, plans: Mapping[str, Mapping[str, Any]], stage: Stage, *, strict: bool) -> Differences:
        """Gate 0 on the blocks of a gate."""
        sides: dict[str, SideRecords] = {}
        for name, answer in plans.items():
            found = records.read(stage.directory / name / "records.jsonl")
            sides[name] = gather_records(answer, found)
        files = {Path(file).stem: file for file in plans["head"]["files"]}

        def complaints(triples: Sequence[tuple[str, Any, Any]]) -> list[str | None]:
            pairs = [[files[name.split(".")[0]], base, head] for name, base, head in triples]
            said: list[str | None] = ask(self.sides["head"].python, "check", {"pairs": pairs})["said"]
            return said

        return compare_records(sides["base"], sides["head"], stage.blocks, complaints, strict=strict)


def make_plans(
    sides: Mapping[str, Side], request: Request, names: Sequence[str] | None, master: str, words: str
) -> dict[str, dict[str, Any]]:
    """The plan of each side, made by its own Python.

    Parameters
    ----------
    sides : dict
        By name. The last one says which jobs all of them do.
    request : plan.Request
    names : sequence of str or None
        Of scenarios; None for all.
    master, words : str
        For the record.

    Raises
    ------
    UsageError
        There is nothing to compare.
    """
    asked = {
        "names": names,
        "request": asdict(request),
        "master": master,
        "command": words,
        "run": secrets.token_hex(4),
    }
    *others, last = sides.items()
    of_last = ask(last[1].python, "plan", {**asked, "folder": str(last[1].scenarios)})
    plans = {
        name: ask(one.python, "plan", {**asked, "folder": str(one.scenarios), "head": of_last}) for name, one in others
    } | {last[0]: of_last}
    if names and (unknown := [name for name in names if not any(_has(each, name) for each in plans.values())]):
        raise UsageError(f"no scenario {unknown[0]!r} on either side")
    if not any(each["plan"]["cells"] for each in plans.values()):
        raise UsageError("there is nothing to compare: no recipe with a parallel variant on either side")
    return plans


def _has(answer: Mapping[str, Any], name: str) -> bool:
    return name in answer["plan"]["scenarios"] or name in answer["broken"]


def compare(options: argparse.Namespace, words: str) -> int:
    """Run `compare`.

    Returns
    -------
    int
        0 pass, 3 regression, 4 inconclusive, 130 interrupted.

    Raises
    ------
    UsageError
        Before anything is measured.
    """
    java = find_java()
    if options.master == "compose":
        raise UsageError("compare does not run in containers: take --master local[N], standalone or spark://HOST:PORT")
    master = check_master(options.master)
    with _sides(options) as sides:
        options.size = options.size or "gate"
        request = replace(make_request(options, master), gate=True, blocks=GATE_BLOCKS)
        names = options.scenario or None
        plans = make_plans(sides, request, names, master, words)
        directory = new_run_folder(options.out)
        logs = directory / "logs"
        with lock_run_folder(directory), connect(master, workers_wanted(options), logs=logs) as ready:
            if not is_local(master):
                preflight.run_preflight(ready, request.cores, java, logs / "preflight.log")
            seed = secrets.randbits(32)
            timeout = options.timeout or GATE_TIMEOUT
            comparison = Comparison(sides, directory, request, ready, java, words, timeout, random.Random(seed))
            try:
                return _compare(comparison, plans, seed)
            except InterruptError as stop:
                print(f"\nstopped by {stop}: no verdict. What was measured is in {directory}")
                return INTERRUPTED


def _compare(comparison: Comparison, plans: Mapping[str, Mapping[str, Any]], seed: int) -> int:
    sides = comparison.sides
    same_packages = sides["base"].python == sides["head"].python
    strict = same_packages and sides["base"].conf == sides["head"].conf
    for name in SIDES:
        print(f"{name}: {describe_side(sides[name], plans[name])}")
    screen = comparison.run(plans, "screen", GATE_BLOCKS)
    compared = comparison.compared(plans, screen, strict=strict)
    findings = list(compared.findings)
    screened = judge(compared.differences)
    confirmed: dict[str, Judgement] = {}
    confirm = None
    flagged = flag_slower(screened)
    if flagged and not any(finding.kind == "regression" for finding in findings):
        print(f"flagged, so measured again: {', '.join(flagged)}", flush=True)
        # A recipe comes with all its variants; only those that were flagged are judged.
        names = sorted({name.split(".")[0] for name in flagged})
        plans_again = make_plans(sides, comparison.request, names, comparison.ready.url, comparison.words)
        confirm = comparison.run(plans_again, "confirm", GATE_BLOCKS)
        again = comparison.compared(plans_again, confirm, strict=strict)
        findings += [finding for finding in again.findings if finding not in findings]
        confirmed = judge({name: d for name, d in again.differences.items() if name in flagged})
    verdict = decide(findings, screened, confirmed)
    result = {
        "schema": 1,
        "created": now(),
        "command": comparison.words,
        "verdict": verdict.word,
        "line": verdict.line,
        "exit_code": verdict.exit_code,
        "strict": strict,
        "master": comparison.ready.label or comparison.ready.url,
        "sides": {name: _as_json(sides[name], plans[name]) for name in SIDES},
        "order": {"seed": seed, "screen": screen.order, "confirm": confirm.order if confirm else []},
        "findings": [asdict(finding) for finding in findings],
        "screened": {name: _judgement_json(one) for name, one in screened.items()},
        "confirmed": {name: _judgement_json(one) for name, one in confirmed.items()},
        "words": {name: recipe_word(name, screened, confirmed) for name in screened},
        "differences": compared.differences,
        "times": seconds_of(screen),
        "times_again": seconds_of(confirm) if confirm else {},
        "loads": comparison.loads,
        "warnings": timing_warnings(screen),
    }
    write_json(comparison.directory / "verdict.json", result)
    (comparison.directory / "compare.md").write_text(markdown_table(result))
    print("\n" + terminal_table(result))
    print(f"the same as Markdown: {comparison.directory / 'compare.md'}")
    return verdict.exit_code


@contextlib.contextmanager
def _sides(options: argparse.Namespace) -> Iterator[dict[str, Side]]:
    folder = options.scenarios or SCENARIOS
    made = {}
    with contextlib.ExitStack() as stack:
        for name, revision in zip(SIDES, (options.base, options.head), strict=True):
            commit, scenarios, lock = stack.enter_context(check_out(revision, folder))
            lock = getattr(options, f"{name}_lock") or lock
            if lock is not None and not lock.is_file():
                raise UsageError(f"there is no lock {lock}")
            conf = dict(_setting(word) for word in getattr(options, f"{name}_conf"))
            made[name] = Side(commit, scenarios, lock, make_interpreter(lock), conf)
        yield made


def _setting(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key.startswith("spark."):
        raise UsageError(f"{word!r} is no setting such as spark.sql.shuffle.partitions=8")
    return key, value


def describe_side(one: Side, answer: Mapping[str, Any]) -> str:
    """A side in a line."""
    what = "files as they are" if one.revision == "." else one.revision[:12]
    conf = "".join(f", {key}={value}" for key, value in one.conf.items())
    versions = answer["versions"]
    return f"{what}, PySpark {versions['pyspark']}, scikit-learn {versions['scikit-learn']}{conf}"


def _as_json(one: Side, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "revision": one.revision,
        "lock": one.packages,
        "conf": dict(one.conf),
        "python": answer["python"],
        "versions": answer["versions"],
        "said": describe_side(one, answer),
    }


def _judgement_json(one: Judgement) -> dict[str, float | None]:
    # JSON has no infinity, which stands for "too few blocks".
    return {name: value if abs(value) != float("inf") else None for name, value in one._asdict().items()}


def seconds_of(stage: Stage) -> dict[str, dict[str, list[float]]]:
    """Seconds of each block that has them, by recipe and side."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in stage.order[0]:
        for record in records.read(stage.directory / name / "records.jsonl"):
            if record.seconds is not None:
                found.setdefault(record.name, {}).setdefault(name, []).append(record.seconds)
    return found


def timing_warnings(stage: Stage) -> list[str]:
    """What to know before trusting the times: a machine that was not ours alone, blocks that differ or drift."""
    said = []
    times = seconds_of(stage)
    for which in SIDES:
        warned = Counter(
            (record.name, warning)
            for record in records.read(stage.directory / which / "records.jsonl")
            for warning in record.warnings
            if warning in (OTHERS, STOLEN)
        )
        said += [f"{name}, {which}: {warning} ({n} of {stage.blocks} blocks)" for (name, warning), n in warned.items()]
        unsteady = {name: stats.instability(found.get(which, [])) for name, found in times.items()}
        said += [f"{name}, {which}: {'; '.join(notes)}" for name, notes in unsteady.items() if notes]
    return sorted(said)
