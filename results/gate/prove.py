# SPDX-License-Identifier: Apache-2.0
"""Proves the regression gate on this machine: how often it cries wolf, and which slowdowns it sees.

    python results/gate/prove.py measure [--blocks N] [--slowed N]     an hour and a half; goes on after a stop
    python results/gate/prove.py decide        decisions from what was measured; tables and the picture

*A/A*: base against itself. *Power*: the same with extra work in one recipe: after its search it fits a part of
its candidates once more, chosen so that their fits take 5 to 30 % of the time of all. Decisions are drawn from the
measured blocks: eight for the screen, eight others for the confirmation, with replacement, judged as `compare` judges.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

# Below the line that lets them be found: this file is run as a script.
from suite import bench, compare, environment, plan, stats  # noqa: E402
from suite.cluster import given  # noqa: E402
from suite.drawing import fixed_style  # noqa: E402
from suite.java import find_java  # noqa: E402
from suite.revisions import Side  # noqa: E402
from suite.scenario import SCENARIOS, load  # noqa: E402

LEVELS = (5, 10, 15, 20, 30)
INJECTED = "grid_search_single_node"
CELL = f"{INJECTED}.loky"
TIMES = HERE / "times.jsonl"
EXTRA = '''

_search_as_it_is = run_loky
EXTRA = {extra}


def run_loky(data, *, parallelism, folds, candidates):
    """GridSearchCV, loky processes."""
    answer = _search_as_it_is(data, parallelism=parallelism, folds=folds, candidates=candidates)
    grid = [first_candidates(candidates)[number] for number in EXTRA]
    with parallel_config("loky", n_jobs=parallelism, inner_max_num_threads=1):
        GridSearchCV(SVC(gamma="auto"), grid, cv=StratifiedKFold(folds), refit=False).fit(data["X"], data["y"])
    return answer
'''


def extra_candidates() -> dict[int, list[int]]:
    """For each level, candidates whose fits take about that share of the time of all."""
    recipe = load(SCENARIOS / f"{INJECTED}.py").module
    size = recipe.SIZES["gate"]
    data = recipe.make_data(dataset=size["dataset"])
    grid = recipe.first_candidates(size["candidates"])
    searches = [recipe.grid_search(**data, grid=grid, folds=size["folds"]).cv_results_ for _ in range(3)]
    cost = np.median([found["mean_fit_time"] + found["mean_score_time"] for found in searches], axis=0)
    chosen = {}
    for level in LEVELS:
        left = level / 100 * cost.sum()
        chosen[level] = []
        for number in np.argsort(-cost):
            if cost[number] <= left:
                chosen[level].append(int(number))
                left -= cost[number]
    return chosen


def written() -> list[dict]:
    """What has been measured so far."""
    return [json.loads(line) for line in TIMES.read_text().splitlines()] if TIMES.exists() else []


def measure(blocks: int, slowed: int) -> None:
    """Add blocks to `times.jsonl` until there are so many of base against itself, and of base against slower ones."""
    cores = environment.cores()
    request = plan.Request("gate", None, None, None, 1, cores, gate=True)
    made = Path(tempfile.mkdtemp(prefix="foldout-prove-"))
    try:
        extra = extra_candidates()
        folders = {"base": SCENARIOS}
        for level, numbers in extra.items():
            folders[f"+{level} %"] = made / str(level)
            shutil.copytree(SCENARIOS, made / str(level), ignore=shutil.ignore_patterns("__pycache__"))
            file = made / str(level) / f"{INJECTED}.py"
            text, main, rest = file.read_text().partition('if __name__ == "__main__":')
            file.write_text(text.rstrip() + EXTRA.format(extra=numbers) + "\n\n" + main + rest)
        same = {"base": SCENARIOS, "head": SCENARIOS}
        for number in range(blocks):
            # Both parts in turn, so that an interrupted proof has as many blocks of each.
            for part, of, names in (("A/A", same, None), ("power", folders, [INJECTED])):
                done = any(line["part"] == part and line["block"] == number for line in written())
                if done or (part == "power" and number >= slowed):
                    continue
                sides = {name: Side(".", folder, None, sys.executable) for name, folder in of.items()}
                out = made / f"{part.replace('/', '')}{number}"
                comparison = compare.Comparison(
                    sides, out, request, given(f"local[{cores}]"), find_java(), "prove", 300.0, random.Random()
                )
                plans = compare.planned(sides, request, names, f"local[{cores}]", "prove")
                print(f"block {number + 1} of {blocks}, {part}", flush=True)
                stage = comparison.run(plans, part.replace("/", ""), 1)
                compared = compare.seconds_of(stage)
                line = {
                    "part": part,
                    "block": number,
                    "at": environment.now(),
                    "machine": f"{cores} cores, {environment.cpu_name()}",
                    "order": stage.order[0],
                    "seconds": {cell: {s: each[0] for s, each in found.items()} for cell, found in compared.items()},
                    "load": comparison.loads[0]["before"]["load_average"][0],
                }
                with TIMES.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                shutil.rmtree(out)
        facts = environment.describe(f"local[{cores}]", find_java())
        bench.write_json(HERE / "environment.json", facts)
    finally:
        shutil.rmtree(made, ignore_errors=True)


# --- decisions


def differences(lines: list[dict], part: str, head: str) -> dict[str, np.ndarray]:
    """log(t_head / t_base) of each block, by recipe; blocks where one is missing are left out of all."""
    chosen = [line["seconds"] for line in lines if line["part"] == part]
    names = sorted({name for seconds in chosen for name in seconds})
    whole = [s for s in chosen if all({"base", head} <= s.get(name, {}).keys() for name in names)]
    return {name: np.array([math.log(s[name][head] / s[name]["base"]) for s in whole]) for name in names}


def decide(table: dict[str, np.ndarray], rng: np.random.Generator, injected: np.ndarray | None = None) -> str:
    """One decision on blocks drawn from those measured; `injected` takes the place of one recipe's."""

    def drawn() -> dict[str, list[float]]:
        picked = rng.integers(len(next(iter(table.values()))), size=compare.BLOCKS)
        found = {name: values[picked].tolist() for name, values in table.items()}
        if injected is not None:
            found[CELL] = injected[rng.integers(len(injected), size=compare.BLOCKS)].tolist()
        return found

    screened = stats.judge(drawn())
    flagged = stats.flagged(screened)
    again = drawn() if flagged else {}
    confirmed = stats.judge({name: again[name] for name in flagged})
    return stats.verdict(screened, confirmed)


def shares(table: dict[str, np.ndarray], injected: np.ndarray | None, many: int, outer: int, seed: int) -> dict:
    """Share of each verdict; for that of regressions a 95 % interval over resampled sets of blocks."""
    rng = np.random.default_rng(seed)
    verdicts = [decide(table, rng, injected) for _ in range(many)]
    blocks = len(next(iter(table.values())))
    spread = []
    for _ in range(outer):
        picked = rng.integers(blocks, size=blocks)
        other = {name: values[picked] for name, values in table.items()}
        inner = None if injected is None else injected[rng.integers(len(injected), size=len(injected))]
        spread.append(np.mean([decide(other, rng, inner) == "regression" for _ in range(many // 20)]))
    low, high = np.percentile(spread, [2.5, 97.5])
    counts = {word: verdicts.count(word) / many for word in ("pass", "regression", "inconclusive")}
    return {**counts, "low": float(low), "high": float(high), "blocks": blocks, "decisions": many}


def decisions(many: int, outer: int) -> None:
    """Write `proof.json` and the power curve."""
    lines = written()
    null = differences(lines, "A/A", "head")
    proof = {
        "decisions": many,
        "spread": {name: float(np.std(values, ddof=1)) for name, values in null.items()},
        "A/A": shares(null, None, many, outer, 0),
        "power": {},
    }
    for level in LEVELS:
        injected = differences(lines, "power", f"+{level} %")[CELL]
        found = shares(null, injected, many, outer, level)
        proof["power"][str(level)] = {**found, "measured": float(np.exp(injected.mean()) - 1), "n": len(injected)}
    bench.write_json(HERE / "proof.json", proof)
    draw(proof)
    for name, value in proof["spread"].items():
        print(f"{name}: standard deviation of log(head / base) {value:.3f}")
    said = proof["A/A"]
    print(f"A/A: {said['regression']:.2%} alarms ({said['low']:.2%} to {said['high']:.2%}), {said['pass']:.0%} pass")
    for level, said in proof["power"].items():
        print(f"+{level} % (measured {said['measured']:+.1%}): caught in {said['regression']:.1%} of decisions")


def draw(proof: dict) -> None:
    """The power curve."""
    with fixed_style():
        figure, axes = plt.subplots(figsize=(7, 4.2))
        found = [{**proof["A/A"], "measured": 0.0}, *proof["power"].values()]
        x = [100 * one["measured"] for one in found]
        y = np.array([100 * one["regression"] for one in found])
        reach = [y - [100 * one["low"] for one in found], [100 * one["high"] for one in found] - y]
        axes.errorbar(x, y, yerr=np.clip(reach, 0, None), marker="o", color="#00558c", capsize=3)
        axes.axhline(95, color="#888888", linewidth=0.8, linestyle="--")
        axes.text(max(x), 93.5, "95 %", ha="right", va="top", fontsize=9)
        axes.set(xlabel="measured slowdown of one recipe, %", ylabel="decisions that say regression, %", ylim=(-3, 103))
        blocks, n = proof["A/A"]["blocks"], proof["power"][str(LEVELS[0])]["n"]
        title = f"What the gate sees: {proof['decisions']:,} decisions from {blocks} A/A and {n} slowed blocks"
        axes.set_title(title, loc="left", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.tight_layout()
        for kind in ("svg", "png"):
            figure.savefig(HERE / f"power.{kind}", dpi=150)


def main() -> None:
    """Measure or decide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("measure", "decide"))
    parser.add_argument("--blocks", type=int, default=40, help="of base against itself (default: 40)")
    parser.add_argument("--slowed", type=int, default=20, help="of base against slower ones (default: 20)")
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    if options.part == "measure":
        measure(options.blocks, options.slowed)
    else:
        decisions(options.decisions, options.resamples)


if __name__ == "__main__":
    main()
