# SPDX-License-Identifier: Apache-2.0
"""Runs the blocks of a comparison: both sides' processes on one machine, in turns, each side in a run folder."""

from __future__ import annotations

import json
import random
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from suite import records, stats
from suite.cluster.description import Cluster
from suite.errors import UsageError
from suite.gate.gate_zero import Differences, Finding, SideRecords, compare_records
from suite.gate.side_process import SidePlan, ask, ask_plan
from suite.gate.sides import SIDES, Side
from suite.gate.sign_flip import Judgement, Look, look_by_look
from suite.machine import environment
from suite.machine.environment import machine_load
from suite.machine.interference import OTHERS, STOLEN, settle
from suite.plan.cells import Request
from suite.records import Record, write_json
from suite.run.loop import Loop, PlannedRun
from suite.run.progress import duration
from suite.run.turns import take_turns
from suite.spark.java import Java, steady_conf
from suite.spark.session import is_local


@dataclass(frozen=True)
class Stage:
    """The blocks that a look adds to its gate.

    Attributes
    ----------
    directory : Path
        With a run folder for each side.
    before : int
        Blocks of the gate that came before.
    order : list of list of str
        In which order the sides went in each block.
    """

    directory: Path
    before: int
    order: list[list[str]]

    def records(self, side: str) -> list[Record]:
        """Read what a side has written, with the numbers that the blocks have in the gate."""
        written = records.read(self.directory / side / "records.jsonl")
        return [replace(record, block=record.block + self.before) for record in written]


@dataclass(frozen=True)
class Gate:
    """What a gate has measured and found.

    Attributes
    ----------
    stages : list of Stage
    findings : list of Finding
        Of gate 0, on all blocks.
    judged : dict of str to Judgement
    differences : dict of str to list of float
        log(t_head / t_base) of each block.
    """

    stages: list[Stage]
    findings: list[Finding] = field(default_factory=list)
    judged: dict[str, Judgement] = field(default_factory=dict)
    differences: dict[str, list[float]] = field(default_factory=dict)

    @property
    def order(self) -> list[list[str]]:
        """In which order the sides went in each block."""
        return [sides for stage in self.stages for sides in stage.order]

    def records(self, side: str) -> list[Record]:
        """Read what a side has written in all blocks."""
        return [record for stage in self.stages for record in stage.records(side)]

    def values(self, what: str) -> dict[str, dict[str, list[float]]]:
        """Return "seconds" or the median of "cpu_seconds" of each block that has them, by recipe and side."""
        found: dict[str, dict[str, list[float]]] = {}
        for side in self.order[0] if self.stages else ():
            for record in self.records(side):
                calls = [record.seconds] if what == "seconds" else getattr(record, what)
                if record.seconds is not None and calls:
                    found.setdefault(record.name, {}).setdefault(side, []).append(statistics.median(calls))
        return found

    def warnings(self) -> list[str]:
        """Say what to know before trusting the times: other programs on the machine, blocks that differ or drift."""
        said = []
        times = self.values("seconds")
        for side in SIDES:
            measured = self.records(side)
            warned = Counter(
                (record.name, warning)
                for record in measured
                for warning in record.warnings
                if warning in (OTHERS, STOLEN)
            )
            blocks = Counter(record.name for record in measured)
            said += [
                f"{name}, {side}: {warning} ({n} of {blocks[name]} blocks)" for (name, warning), n in warned.items()
            ]
            unsteady = {name: stats.instability(found.get(side, [])) for name, found in times.items()}
            said += [f"{name}, {side}: {'; '.join(notes)}" for name, notes in unsteady.items() if notes]
        return sorted(said)


@dataclass
class Comparison:
    """Sides on one master: `base` and `head`, or more.

    Attributes
    ----------
    sides : dict
        By name. The last one says which jobs all of them do.
    directory : Path
        Each gate gets a folder in it, with a run folder for each side.
    request : Request
    ready : Cluster
    java : Java
    command_line : str
        For the record.
    timeout : float
        Seconds that a side's process may be silent.
    coin : random.Random
    loads : list of dict
        How busy the machine was before and after each block.
    data : Path or None
        The folder of the user's own data.
    imported : dict of str to int
        Files that sides have imported, and when each was written as of the first plan.
    """

    sides: Mapping[str, Side]
    directory: Path
    request: Request
    ready: Cluster
    java: Java
    command_line: str
    timeout: float
    coin: random.Random
    loads: list[dict[str, Any]] = field(default_factory=list)
    data: Path | None = None
    imported: dict[str, int] = field(default_factory=dict)

    def run(self, plans: Mapping[str, SidePlan], gate: str, before: int, until: int) -> Stage:
        """Run the blocks of a gate from the number `before` to `until - 1`; each side has a run folder of its own.

        In local mode the processes of all sides are there at once. They make their data and their warm-up calls at the
        same time; then they take turns with their timed calls, there and back, A B B A, while the others wait.
        So the calls that are compared lie a second apart, and what slows the machine for longer slows them all (Abedi &
        Brecht 2017). On a cluster, one side follows the other.

        Raises
        ------
        UsageError
            A file that a side imports was written to meanwhile.
        """
        folder = self.directory / gate / f"{before + 1}-{until}"
        for plan in plans.values():
            self.imported = plan.imported | self.imported
        loops = {name: self.make_loop(name, plan, folder / name) for name, plan in plans.items()}
        # Of two sides in a random order, a fair coin says which goes first.
        orders = [self.coin.sample(list(plans), len(plans)) for _ in range(until - before)]
        took: list[float] = []
        for block, order in enumerate(orders):
            begin, at_first = time.monotonic(), machine_load()
            about = f", about {duration(statistics.mean(took) * (len(orders) - block))} left" if took else ""
            print(f"{gate} block {before + block + 1}/{until}: {', '.join(order)}{about}", flush=True)
            take_turns([loops[name].run_block(block) for name in order], settle)
            took.append(time.monotonic() - begin)
            self.loads.append({"gate": gate, "block": before + block, "before": at_first, "after": machine_load()})
            self._check_unchanged()
        for name, loop in loops.items():
            file = folder / name / "environment.json"
            facts = json.loads(file.read_text(encoding="utf-8")) | {"after": machine_load(), "drivers": loop.drivers}
            write_json(file, facts)
        return Stage(folder, before, orders)

    def _check_unchanged(self) -> None:
        """Refuse to go on where the blocks would not all be of the same code."""
        for file, written in self.imported.items():
            if not Path(file).is_file() or Path(file).stat().st_mtime_ns != written:
                raise UsageError(
                    f"{file} was changed while it was compared, so there is no verdict: start again, and leave the "
                    "files alone until it has ended, or commit them and name the revision in place of `.`"
                )

    def look(
        self, gate: str, looks: Sequence[Look], first: Mapping[str, SidePlan] | None, names: list[str] | None = None
    ) -> Gate:
        """Run a gate: blocks until each look finds everything decided, or something that no time can change.

        Parameters
        ----------
        gate : str
        looks : sequence of Look
        first : dict of str to SidePlan, or None
            The plans for the first look, where they are made.
        names : list of str, optional
            The recipes to judge, each as `scenario.variant`; by default all.
        """
        measured = Gate([])

        def measure(wanted: Sequence[str] | None, until: int) -> Mapping[str, Sequence[float]]:
            if any(finding.kind == "regression" for finding in measured.findings):
                return {}
            before = len(measured.order)
            if before:
                print(f"not decided after {before} blocks: {', '.join(wanted or [])}", flush=True)
            plans = first if first and not before else self.plan(wanted, until - before)
            measured.stages.append(self.run(plans, gate, before, until))
            found = self.compare(plans, measured)
            # What was found on some of the blocks need not hold on all of them.
            again = {cell.name for plan in plans.values() for cell in plan.cells} | {one.name for one in found.findings}
            measured.findings[:] = [one for one in measured.findings if one.name not in again] + found.findings
            return found.logarithms

        judged, differences = look_by_look(looks, measure, names)
        return replace(measured, judged=judged, differences=differences)

    def plan(self, recipes: Sequence[str] | None, blocks: int) -> dict[str, SidePlan]:
        """Plan new blocks of some recipes, each given as `scenario.variant`; a file comes with all its variants."""
        names = None if recipes is None else sorted({name.split(".")[0] for name in recipes})
        # Recipes in another order than in the blocks before.
        request = replace(self.request, blocks=blocks, seed=self.coin.getrandbits(32))
        return make_plans(self.sides, request, names, self.ready.url, self.command_line)

    @property
    def strict(self) -> bool:
        """Whether both sides have the same packages and settings."""
        base, head = (self.sides[name] for name in SIDES)
        return base.python == head.python and base.conf == head.conf

    def make_loop(self, name: str, plan: SidePlan, folder: Path) -> Loop:
        """Make the loop that runs a side, in a run folder of its own."""
        one = self.sides[name]
        folder.mkdir(parents=True)
        facts = environment.describe_environment(self.ready.label or self.ready.url, self.java.facts)
        facts |= {"python": plan.python, "versions": plan.versions, "revision": {"commit": one.revision}}
        write_json(folder / "plan.json", plan.plan)
        write_json(folder / "environment.json", facts)
        run = PlannedRun(
            directory=folder,
            name=plan.plan["run"],
            java=self.java,
            files=[Path(file) for file in plan.files],
            cells=plan.cells,
            cluster=replace(
                self.ready,
                conf={**self._steady(), **self._for_executors(one), **self.ready.conf, **one.conf},
                environment={**self.ready.environment, **one.variables},
            ),
            timeout=self.timeout,
            python=one.python,
            data=self.data,
            # On a cluster, one side's executors would take the slots that the other waits for.
            turns=is_local(self.ready.url),
            compared=True,
        )
        return Loop(run, lambda _: None)

    def _for_executors(self, side: Side) -> Mapping[str, str]:
        # Executors of our own cluster are on this machine, and were started with the imports of neither side.
        ours = self.ready.workers is not None
        return {"spark.executorEnv.PYTHONPATH": side.variables["PYTHONPATH"]} if ours else {}

    def _steady(self) -> Mapping[str, str]:
        # On two cores a JVM's optimizing compiler takes more time than the recipes and is busy for minutes; which half
        # of the code it is through with at a timed call is chance. So it stays off on both sides, unless the user says
        # otherwise. A cluster that is not ours may have Java options of its own in its defaults, which these would
        # replace.
        ours = is_local(self.ready.url) or self.ready.workers is not None
        return steady_conf(side.conf for side in self.sides.values()) if ours else {}

    def compare(self, plans: Mapping[str, SidePlan], measured: Gate) -> Differences:
        """Compare what is in the latest plans by all blocks of a gate: what varies, varies over many of them."""
        sides = {name: SideRecords.gather(plan, measured.records(name)) for name, plan in plans.items()}
        files = {Path(file).stem: file for file in plans["head"].files}

        def complaints(triples: Sequence[tuple[str, Any, Any]]) -> list[str | None]:
            pairs = [[files[name.split(".")[0]], base, head] for name, base, head in triples]
            said: list[str | None] = ask(self.sides["head"], "check", {"pairs": pairs})["said"]
            return said

        return compare_records(sides["base"], sides["head"], len(measured.order), complaints, strict=self.strict)


def make_plans(
    sides: Mapping[str, Side], request: Request, names: Sequence[str] | None, master: str, command_line: str
) -> dict[str, SidePlan]:
    """Have each side's own Python make its plan.

    Parameters
    ----------
    sides : dict
        By name. The last one says which jobs all of them do.
    request : Request
    names : sequence of str or None
        Of scenarios; None for all.
    master, command_line : str
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
        "command": command_line,
        "run": secrets.token_hex(4),
    }
    *others, (name_of_last, last) = sides.items()
    of_last = ask_plan(last, asked)
    plans = {name: ask_plan(side, {**asked, "head": of_last.plan}) for name, side in others}
    plans[name_of_last] = of_last
    for name, side in sides.items():
        if strange := side.strangers(plans[name].imported):
            raise UsageError(
                f"{name} imports {strange[0]} of the working tree, not of {side.revision[:12]}, as of an installed "
                "package that leads there: call `compare` in its folder, or name that in PYTHONPATH: each side has its "
                "own of these"
            )
    if names and (unknown := [name for name in names if not any(plan.knows(name) for plan in plans.values())]):
        raise UsageError(f"no scenario {unknown[0]!r} on either side")
    cells = [cell for plan in plans.values() for cell in plan.cells]
    if all(cell.skip for cell in cells):
        why = {f"{name}.py": reason for plan in plans.values() for name, reason in plan.broken.items()}
        why |= {cell.name: str(cell.skip) for cell in cells}
        said = "; ".join(f"{name}: {reason}" for name, reason in sorted(why.items()))
        none = "no recipe has a variant that compare times: see GATED in CONTRIBUTING.md"
        raise UsageError(f"there is nothing to compare: {said or none}")
    return plans
