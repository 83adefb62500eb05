# SPDX-License-Identifier: Apache-2.0
"""Proves the regression gate on this machine: how often it cries wolf, which slowdowns it sees, what it says when.

    python -m tox -e prove -- --anew     all of it, an hour and three quarters on two cores
    python -m tox -e prove               go on after a stop
    python -m tox -e prove -- measure    blocks of base against itself, and against slower ones: times.jsonl
    python -m tox -e prove -- decide     decisions drawn from them: proof.json, power.svg
    python -m tox -e prove -- verdicts   whole comparisons, each with the verdict that it has to give: verdicts.json

*A/A*: base against itself. *Power*: base against itself with real extra work in one recipe, as much as takes 5 to 30 %
of the time that the recipe takes in the blocks before. Decisions are drawn from the measured blocks: eight for the
screen, eight others for the confirmation, with replacement, judged as `compare` judges. Exit code 1 where less than
is promised comes out: 1 % false alarms or more, 20 % more work caught in less than 95 %, or a wrong verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

# Below the lines that let them be found and give them as many threads as the recipes get: this file is run as a script.
from suite.cluster.connect import existing_cluster
from suite.gate.command import Comparison, make_plans, seconds_of, timing_warnings
from suite.gate.sides import Side
from suite.machine import environment
from suite.machine.signals import INTERRUPTED, InterruptError, raise_on_signals
from suite.plan.cells import Request
from suite.plan.scenario import SCENARIOS, load_scenario
from suite.records import now, write_json
from suite.spark.java import find_java

os.environ.update(environment.THREAD_LIMITS)

from decisions import TIMES, decisions, written  # noqa: E402
from verdicts import CASES, FOUND, run_all  # noqa: E402

AA = "A/A"


@dataclass(frozen=True)
class Injection:
    """Extra work in one variant.

    Attributes
    ----------
    cell : str
        `scenario.variant`.
    levels : tuple of int
        Percent of the variant's time.
    unit : str
        A statement that does some work with the variant's `data`.
    """

    cell: str
    levels: tuple[int, ...]
    unit: str

    @property
    def scenario(self) -> str:
        """Its file."""
        return self.cell.split(".")[0]

    def cost(self) -> float:
        """Seconds of one unit on this machine now."""
        recipe = load_scenario(SCENARIOS / f"{self.scenario}.py").module
        data = recipe.make_data()
        work = compile(self.unit, self.cell, "exec")
        once = []
        for _ in range(30):
            begin = time.perf_counter()
            exec(work, {**vars(recipe), "data": data})  # noqa: S102 - a line of this file
            once.append(time.perf_counter() - begin)
        return statistics.median(once)

    def write(self, folder: Path, units: int) -> None:
        """Make a folder of recipes in which this one does so many units more."""
        shutil.copytree(SCENARIOS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        file = folder / f"{self.scenario}.py"
        text, main, rest = file.read_text().partition('if __name__ == "__main__":')
        name = f"run_{self.cell.split('.')[1]}"
        more = f"""
@functools.wraps({name})
def _with_more(data, _as_it_is={name}, **options):
    answer = _as_it_is(data, **options)
    for _ in range({units}):
        {self.unit}
    return answer


{name} = _with_more
"""
        file.write_text(f"{text}import functools  # noqa: E402\n\n{more}\n\n{main}{rest}")


INJECTIONS = (
    Injection(
        "grid_search_single_node.loky",
        (5, 10, 15, 20, 30),
        'SVC(gamma="auto", C=2).fit(data["X"], data["y"])',
    ),
    Injection("udf_inference.map_in_arrow", (20,), 'data["model"].predict(data["train"][:250])'),
)


def measure(blocks: int, slowed: int) -> None:
    """Add blocks to `times.jsonl` until there are so many of base against itself, and of base against slower ones."""
    cores = environment.cores()
    made = Path(tempfile.mkdtemp(prefix="foldout-prove-"))
    java = find_java()
    master = f"local[{cores}]"
    request = Request("gate", None, None, None, 1, cores, gate=True)

    def run(part: str, number: int, folders: dict[str, Path], scenarios: list[str] | None, **more: Any) -> None:
        sides = {name: Side(".", folder, None, sys.executable) for name, folder in folders.items()}
        out = made / "block"
        # Recipes in another order in each block, as in a real comparison.
        own = replace(request, seed=number)
        comparison = Comparison(sides, out, own, existing_cluster(master), java, "prove", 300.0, random.Random())
        plans = make_plans(sides, own, scenarios, master, "prove")
        print(f"block {number + 1}, {part}", flush=True)
        stage = comparison.run(plans, "times", 1)
        line = {
            "part": part,
            "block": number,
            "at": now(),
            "machine": f"{cores} cores, {environment.cpu_name()}",
            "revision": environment.revision(),
            "order": stage.order[0],
            "seconds": {
                cell: {side: seconds for side, (seconds,) in found.items()} for cell, found in seconds_of(stage).items()
            },
            "warnings": timing_warnings(stage),
            **{when: comparison.loads[0][when] for when in ("before", "after")},
            **more,
        }
        with TIMES.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shutil.rmtree(out)

    def missing(part: str, number: int, limit: int) -> bool:
        return number < limit and not any(line["part"] == part and line["block"] == number for line in written())

    try:
        for number in range(blocks):
            # All parts in turn, so that an interrupted proof has of each.
            if missing(AA, number, blocks):
                run(AA, number, {"base": SCENARIOS, "head": SCENARIOS}, None)
            for injection in INJECTIONS:
                if missing(injection.cell, number, slowed):
                    units = units_of(injection)
                    folders = {f"+{level} %": made / injection.cell / str(level) for level in injection.levels}
                    shutil.rmtree(made / injection.cell, ignore_errors=True)
                    for name, folder in folders.items():
                        injection.write(folder, units[name])
                    run(injection.cell, number, {"base": SCENARIOS, **folders}, [injection.scenario], units=units)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    write_json(HERE / "environment.json", environment.describe_environment(master, java.facts))


def units_of(injection: Injection) -> dict[str, int]:
    """How many units of work each level takes, by the recipe's time in the latest blocks of base against itself."""
    found = [line["seconds"].get(injection.cell, {}) for line in written() if line["part"] == AA]
    takes = statistics.median([seconds for sides in found for seconds in sides.values()][-16:])
    cost = injection.cost()
    return {f"+{level} %": max(1, round(level / 100 * takes / cost)) for level in injection.levels}


def main() -> int:
    """Do what is asked for; 0 where it comes out as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("measure", "decide", "verdicts"))
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    parser.add_argument("case", nargs="*", help=f"of verdicts: {', '.join(map(repr, CASES))}")
    parser.add_argument("--blocks", type=int, default=40, help="of base against itself (default: 40)")
    parser.add_argument("--slowed", type=int, default=10, help="of base against slower ones (default: 10)")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    if unknown := set(options.case) - CASES.keys():
        parser.error(f"no case {', '.join(map(repr, unknown))}: there are {', '.join(map(repr, CASES))}")
    chosen = [options.part] if options.part else ["measure", "decide", "verdicts"]
    if options.anew and not options.case:
        for part, file in {"measure": TIMES, "verdicts": FOUND}.items():
            if part in chosen:
                file.unlink(missing_ok=True)
    parts: dict[str, Callable[[], bool | None]] = {
        "measure": lambda: measure(options.blocks, options.slowed),
        "decide": lambda: decisions(options.decisions, options.resamples),
        "verdicts": lambda: run_all(options.case),
    }
    try:
        with raise_on_signals():
            # What only measures has nothing to promise.
            return int(False in [parts[part]() for part in chosen])
    except InterruptError as stop:
        print(f"\nstopped by {stop}; the same command without --anew goes on with what is missing")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
