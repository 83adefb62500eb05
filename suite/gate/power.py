# SPDX-License-Identifier: Apache-2.0
"""What the gate decides on the measured blocks of a proof: its false alarms and its power curve."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from suite.gate.sign_flip import CONFIRM, RATIO_BOUND, SCREEN, Measure, flag_slower, look_by_look, weigh
from suite.records import write_json
from suite.report.plotting import COLOURS, GREY, fixed_style
from suite.stats import paired_log_ratio

AGAINST_ITSELF = "A/A"
TIMES = "times.jsonl"
COLUMNS = 2  # panels beside each other

Table = Mapping[str, np.ndarray]


def read_blocks(folder: Path) -> list[dict[str, Any]]:
    """Read the blocks of a proof's folder that have been measured so far."""
    times = folder / TIMES
    return [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()] if times.exists() else []


def block_logarithms(lines: list[dict[str, Any]], part: str, head: str) -> dict[str, np.ndarray]:
    """Return log(t_head / t_base) of each block, by recipe; a block that lacks one recipe is left out for all."""
    chosen = [line["seconds"] for line in lines if line["part"] == part]
    names = sorted({name for seconds in chosen for name in seconds})
    whole = [s for s in chosen if all({"base", head} <= s.get(name, {}).keys() for name in names)]
    return {name: np.array([paired_log_ratio(s[name][head], s[name]["base"]) for s in whole]) for name in names}


def draw_decision(table: Table, rng: np.random.Generator, cell: str = "", injected: np.ndarray | None = None) -> str:
    """Decide once, on blocks drawn from those measured; `injected` takes the place of the recipe `cell`."""

    def drawing() -> Measure:
        drawn: dict[str, list[float]] = {name: [] for name in table}

        def draw(_: Sequence[str] | None, blocks: int) -> dict[str, list[float]]:
            more = blocks - len(next(iter(drawn.values())))
            picked = rng.integers(len(next(iter(table.values()))), size=more)
            new = {name: values[picked] for name, values in table.items()}
            if injected is not None:
                new[cell] = injected[rng.integers(len(injected), size=more)]
            for name, values in new.items():
                drawn[name] += values.tolist()
            return drawn

        return draw

    screened, _ = look_by_look(SCREEN, drawing())
    flagged = flag_slower(screened)
    confirmed, _ = look_by_look(CONFIRM, drawing(), flagged) if flagged else ({}, {})
    return weigh(screened, confirmed).word


def verdict_shares(table: Table, cell: str, slowed: np.ndarray | None, many: int, outer: int) -> dict[str, Any]:
    """Return the share of each verdict; of regressions also its 95 % interval, over resampled sets of blocks.

    Parameters
    ----------
    table : mapping of str to ndarray
        log(t_head / t_base) of the blocks of base against itself, by recipe.
    cell : str
        The recipe that is slowed.
    slowed : ndarray or None
        Its log(t_head / t_base) in blocks with more work: few, so they tell by how much it is slower, and its noise is
        that of the many blocks in `table`. None where nothing is slowed.
    many, outer : int
        Decisions, and sets of blocks.
    """
    rng = np.random.default_rng(0)
    injected = None if slowed is None else _around(table[cell], slowed)
    verdicts = [draw_decision(table, rng, cell, injected) for _ in range(many)]
    blocks = len(next(iter(table.values())))
    spread = []
    for _ in range(outer):
        picked = rng.integers(blocks, size=blocks)
        other = {name: values[picked] for name, values in table.items()}
        inner = None if slowed is None else _around(other[cell], slowed[rng.integers(len(slowed), size=len(slowed))])
        spread.append(np.mean([draw_decision(other, rng, cell, inner) == "regression" for _ in range(many // 20)]))
    low, high = np.percentile(spread, [2.5, 97.5])
    counts = {word: verdicts.count(word) / many for word in ("pass", "regression", "inconclusive")}
    return {**counts, "low": float(low), "high": float(high), "blocks": blocks, "decisions": many}


def _around(noise: np.ndarray, slowed: np.ndarray) -> np.ndarray:
    """Return a recipe's noise around the slowdown that was measured."""
    return noise - noise.mean() + slowed.mean()


def decide_often(folder: Path, many: int, outer: int) -> bool:
    """Write `proof.json` and the power curve; return whether the gate does what it promises."""
    lines = read_blocks(folder)
    null = block_logarithms(lines, AGAINST_ITSELF, "head")
    if not null or not min(map(len, null.values())):
        print("there is no whole block of base against itself yet: measure first")
        return False
    proof: dict[str, Any] = {
        "machine": sorted({line["machine"] for line in lines}),
        "revisions": list({json.dumps(line["revision"]): line["revision"] for line in lines}.values()),
        # A comparison would have called a failure on one side a regression, or nothing to compare with.
        "lost": sum(line["part"] == AGAINST_ITSELF for line in lines) - len(next(iter(null.values()))),
        "spread": {name: float(np.std(values, ddof=1)) for name, values in null.items()},
        # The confirmation has to err, whatever the screen does and the blocks are like.
        "alarms_at_most": sum(look.alarms for look in CONFIRM),
        AGAINST_ITSELF: verdict_shares(null, "", None, many, outer),
        # A slowdown of just 20 % with the recipe's own noise around it; no work was added.
        "shifted": {name: verdict_shares(null, name, np.array([math.log(RATIO_BOUND)]), many, outer) for name in null},
        "power": {},
    }
    for cell in sorted({line["part"] for line in lines} - {AGAINST_ITSELF}):
        sides = {side for line in lines if line["part"] == cell for side in line["order"]} - {"base"}
        for side in sorted(sides, key=lambda name: int(name.strip("+ %"))):
            slowed = block_logarithms(lines, cell, side).get(cell, np.array([]))
            if not len(slowed):
                print(f"{cell} {side} has no time in any block")
                continue
            found = verdict_shares(null, cell, slowed, many, outer)
            measured = {"measured": float(np.exp(slowed.mean()) - 1), "n": len(slowed)}
            proof["power"].setdefault(cell, {})[side] = {**found, **measured}
    write_json(folder / "proof.json", proof)
    draw_power(proof, folder)
    return tell_proof(proof)


def tell_proof(proof: Mapping[str, Any]) -> bool:
    """Print a proof; return whether it holds."""
    for name, value in proof["spread"].items():
        print(f"{name}: standard deviation of log(head / base) {value:.3f}")
    said = proof[AGAINST_ITSELF]
    print(
        f"A/A, {said['blocks']} blocks: {said['regression']:.2%} alarms ({said['low']:.2%} to {said['high']:.2%}; "
        f"by the test's construction at most {proof['alarms_at_most']:.2%}), {said['pass']:.1%} pass, "
        f"{said['inconclusive']:.1%} inconclusive"
    )
    for cell, one in proof["shifted"].items():
        print(
            f"{cell}, 20 % slower by its own noise: caught in {one['regression']:.1%} of decisions ({one['low']:.1%} to"
            f" {one['high']:.1%}), {one['pass']:.1%} pass, {one['inconclusive']:.1%} inconclusive"
        )
    if proof["lost"]:
        print(f"{proof['lost']} more blocks of base against itself lack a time")
    holds = said["regression"] < 0.01 and said["inconclusive"] < 0.05 and bool(proof["power"]) and not proof["lost"]
    for cell, levels in proof["power"].items():
        for side, one in levels.items():
            print(
                f"{cell} {side} (measured {one['measured']:+.1%}, {one['n']} blocks): caught in "
                f"{one['regression']:.1%} of decisions ({one['low']:.1%} to {one['high']:.1%}), {one['pass']:.1%} pass,"
                f" {one['inconclusive']:.1%} inconclusive"
            )
        holds = holds and levels.get("+20 %", {"regression": 0.0})["regression"] >= 0.95
    return holds


def draw_power(proof: Mapping[str, Any], folder: Path) -> None:
    """Draw the power curve of each recipe, in a panel of its own."""
    null = {**proof[AGAINST_ITSELF], "measured": 0.0}
    power = proof["power"]
    rows = max(1, math.ceil(len(power) / COLUMNS))
    with fixed_style():
        figure, panels = plt.subplots(
            rows, COLUMNS, figsize=(9.2, 0.9 + 1.9 * rows), sharex=True, sharey=True, squeeze=False
        )
        for axes, (cell, levels) in zip(panels.flat, power.items(), strict=False):
            # A line only where it would be a curve.
            found = [null, *levels.values()] if len(levels) > 1 else list(levels.values())
            found.sort(key=lambda one: float(one["measured"]))
            x = [100 * one["measured"] for one in found]
            y = np.array([100 * one["regression"] for one in found])
            reach = [y - [100 * one["low"] for one in found], [100 * one["high"] for one in found] - y]
            line = "-" if len(levels) > 1 else "none"
            style: dict[str, Any] = {"marker": "o", "markersize": 4, "color": COLOURS[1], "capsize": 2}
            axes.errorbar(x, y, yerr=np.clip(reach, 0, None), linestyle=line, **style)
            axes.axhline(95, color=GREY, linewidth=0.8, linestyle="--")
            axes.set_title(f"{cell}, {next(iter(levels.values()))['n']} slowed blocks", loc="left", fontsize=9)
            axes.set(ylim=(-4, 104), yticks=(0, 25, 50, 75, 95))
            axes.tick_params(labelbottom=True)
        for axes in panels.flat[len(power) :]:
            axes.set_visible(False)
        title = f"What the gate sees: {null['decisions']:,} decisions a point, from {null['blocks']} blocks of A/A"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        figure.supxlabel("measured slowdown of one recipe, %", fontsize=9)
        figure.supylabel("decisions that say regression, %", fontsize=9)
        figure.tight_layout()
        for kind in ("svg", "png"):
            figure.savefig(folder / f"power.{kind}", dpi=150)
        plt.close(figure)
