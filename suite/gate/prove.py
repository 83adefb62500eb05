# SPDX-License-Identifier: Apache-2.0
"""`python -m suite prove`: how often the regression gate cries wolf, which slowdowns it sees, what it says when.

*A/A*: base against itself. *Power*: base against itself with real extra work in one recipe, as much as takes 10 to 30 %
of the time that the recipe took in the first blocks. Decisions are drawn from the measured blocks (`power`), with
replacement, and judged look by look as `compare` judges. `trials` are whole comparisons, each of a case in which a
gate is easily wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.cluster.connect import existing_cluster
from suite.errors import UsageError
from suite.gate.comparison import Comparison, Gate, make_plans
from suite.gate.power import AGAINST_ITSELF, TIMES, decide_often, read_blocks
from suite.gate.sides import Side
from suite.gate.trials import CASES, FOUND, run_trials
from suite.machine import environment
from suite.machine.signals import INTERRUPTED, InterruptError
from suite.plan.cells import Request, plan_cells
from suite.plan.scenario import SCENARIOS, discover
from suite.records import now, write_json
from suite.spark.java import find_java

PARTS = ("measure", "decide", "verdicts")


def prove(parsed: argparse.Namespace) -> int:
    """Run `prove`.

    Parameters
    ----------
    parsed : argparse.Namespace
        As `cli.parser` makes it: `part`, `case`, `anew`, `blocks`, `slowed`, `times`, `decisions`, `resamples`, `out`.

    Returns
    -------
    int
        0 where all comes out as promised; 1 where less does: 1 % false alarms or more, 20 % more work caught in less
        than 95 %, or a wrong verdict; 130 interrupted.

    Raises
    ------
    UsageError
        There is no such case.
    """
    if unknown := [name for name in parsed.case if name not in CASES]:
        raise UsageError(f"no case {unknown[0]!r}: there are {', '.join(map(repr, CASES))}")
    folder: Path = parsed.out or environment.ROOT / "results" / "gate"
    parts = [parsed.part] if parsed.part else list(PARTS)
    folder.mkdir(parents=True, exist_ok=True)
    if parsed.anew and not parsed.case:
        for part, file in {"measure": TIMES, "verdicts": FOUND}.items():
            if part in parts:
                (folder / file).unlink(missing_ok=True)
    holds = True
    try:
        if "measure" in parts:
            Proof(folder).measure(parsed.blocks, parsed.slowed)
        if "decide" in parts:
            holds &= decide_often(folder, parsed.decisions, parsed.resamples)
        if "verdicts" in parts:
            holds &= run_trials(folder, parsed.case, parsed.times)
    except InterruptError as stop:
        print(f"\nstopped by {stop}; the same command without --anew goes on with what is missing")
        return INTERRUPTED
    return int(not holds)


LEVELS = (10, 15, 20, 30)  # percent of a variant's time
CALIBRATION = 4  # blocks of base against itself that say how long a variant takes, before any is slowed
UNIT = "sum(number * number for number in range(20_000))"  # real work, a millisecond or two of a core


@dataclass(frozen=True)
class Injection:
    """Extra work in one variant.

    Attributes
    ----------
    cell : str
        `scenario.variant`.
    """

    cell: str

    @property
    def scenario(self) -> str:
        """Its file."""
        return self.cell.split(".")[0]

    def write_recipes(self, folder: Path, units: int) -> None:
        """Write a folder of recipes in which this one does so many units more."""
        shutil.copytree(SCENARIOS, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        file = folder / f"{self.scenario}.py"
        text, main, rest = file.read_text(encoding="utf-8").partition('if __name__ == "__main__":')
        name = f"run_{self.cell.split('.')[1]}"
        more = f"""
@functools.wraps({name})
def _with_more(data, _as_it_is={name}, **options):
    answer = _as_it_is(data, **options)
    for _ in range({units}):
        {UNIT}
    return answer


{name} = _with_more
"""
        file.write_text(f"{text}import functools  # noqa: E402\n\n{more}\n\n{main}{rest}", encoding="utf-8")


def injections(cores: int) -> list[Injection]:
    """Return one for each variant that the gate judges."""
    request = Request("gate", None, None, None, 1, cores, gate=True, seed=0)
    cells = plan_cells(discover(SCENARIOS)[0], request)
    return [Injection(name) for name in sorted({cell.name for cell in cells})]


def cost_of_unit() -> float:
    """Measure the seconds of one unit of work on this machine now."""
    work = compile(UNIT, "a unit of work", "exec")
    once = []
    for _ in range(101):
        begin = time.perf_counter()
        exec(work)  # noqa: S102 - a line of this file
        once.append(time.perf_counter() - begin)
    return statistics.median(once)


@dataclass
class Proof:
    """Measures blocks on this machine, and keeps them in a folder.

    Attributes
    ----------
    folder : Path
        `times.jsonl` in it takes a line a block.
    """

    folder: Path
    cores: int = field(default_factory=environment.cores)

    def measure(self, blocks: int, slowed: int) -> None:
        """Add blocks until there are so many of base against itself, and so many of base against slower ones."""
        here = environment.revision()
        if any(line["revision"] != here for line in read_blocks(self.folder)):
            raise UsageError(f"the blocks in {self.folder} are of another revision: --anew, or another --out")
        slower = injections(self.cores)
        with tempfile.TemporaryDirectory(prefix="foldout-prove-") as made:
            for number in range(min(CALIBRATION, blocks)):
                self._run_against_itself(Path(made), number)
            for number in range(blocks):
                # All parts in turn, so that an interrupted proof has of each.
                self._run_against_itself(Path(made), number)
                for injection in slower if number < slowed else ():
                    if self._is_missing(injection.cell, number):
                        self._run_slowed(Path(made), injection, number)
        facts = environment.describe_environment(self._master, find_java().facts)
        write_json(self.folder / "environment.json", facts)

    @property
    def _master(self) -> str:
        return f"local[{self.cores}]"

    def _is_missing(self, part: str, number: int) -> bool:
        return not any(line["part"] == part and line["block"] == number for line in read_blocks(self.folder))

    def _run_against_itself(self, made: Path, number: int) -> None:
        if self._is_missing(AGAINST_ITSELF, number):
            self._run(made, AGAINST_ITSELF, number, {"base": SCENARIOS, "head": SCENARIOS}, None)

    def _run_slowed(self, made: Path, injection: Injection, number: int) -> None:
        units = units_of(injection, read_blocks(self.folder))
        shutil.rmtree(made / injection.cell, ignore_errors=True)
        folders = {f"+{level} %": made / injection.cell / str(level) for level in LEVELS}
        for name, folder in folders.items():
            injection.write_recipes(folder, units[name])
        self._run(made, injection.cell, number, {"base": SCENARIOS, **folders}, [injection.scenario], units=units)

    def _run(
        self, made: Path, part: str, number: int, folders: Mapping[str, Path], names: list[str] | None, **more: Any
    ) -> None:
        """Run one block of some sides, and append a line with its times."""
        sides = {name: Side(".", folder, None, sys.executable) for name, folder in folders.items()}
        # Recipes in another order in each block, as in a real comparison.
        request = Request("gate", None, None, None, 1, self.cores, gate=True, seed=number)
        ready, coin = existing_cluster(self._master), random.Random()
        comparison = Comparison(sides, made / "block", request, ready, find_java(), "prove", 300.0, coin)
        plans = make_plans(sides, request, names, self._master, "prove")
        print(f"block {number + 1}, {part}", flush=True)
        measured = Gate([comparison.run(plans, "times", 0, 1)])
        seconds: dict[str, dict[str, list[float]]] = {}
        lost: dict[str, dict[str, str | None]] = {}
        for side in sides:
            for record in measured.records(side):
                if record.seconds is not None:
                    seconds.setdefault(record.name, {})[side] = record.warm_seconds
                else:
                    lost.setdefault(record.name, {})[side] = record.reason
        for cell, reasons in lost.items():
            print(f"no time of {cell}: " + "; ".join(f"{side}: {reason}" for side, reason in reasons.items()))
        of_processors = measured.values("cpu_seconds").items()
        cpu = {cell: {side: took for side, (took,) in by_side.items()} for cell, by_side in of_processors}
        line = {
            "part": part,
            "block": number,
            "at": now(),
            "machine": f"{self.cores} cores, {environment.cpu_name()}",
            "revision": environment.revision(),
            "order": measured.order[0],
            "seconds": seconds,
            "cpu_seconds": cpu,
            "lost": lost,
            "warnings": measured.warnings(),
            **{when: comparison.loads[0][when] for when in ("before", "after")},
            **more,
        }
        with (self.folder / TIMES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        shutil.rmtree(made / "block")


def units_of(injection: Injection, blocks: list[dict[str, Any]]) -> dict[str, int]:
    """Return the units of work of each level: those of the blocks before, so that all have the same.

    For the first block they follow from the recipe's time in the blocks of base against itself.
    """
    for block in blocks:
        if block["part"] == injection.cell:
            units: dict[str, int] = block["units"]
            return units
    found = [block["seconds"].get(injection.cell, {}) for block in blocks if block["part"] == AGAINST_ITSELF]
    times = [seconds for sides in found for calls in sides.values() for seconds in calls]
    if not times:
        raise UsageError(f"{injection.cell} has no time in the blocks of base against itself")
    takes = statistics.median(times)
    cost = cost_of_unit()
    return {f"+{level} %": max(1, round(level / 100 * takes / cost)) for level in LEVELS}
