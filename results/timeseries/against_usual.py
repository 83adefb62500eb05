# SPDX-License-Identifier: Apache-2.0
"""How long TimeSeriesCrossValidator takes against the usual recipe.

Run as `python results/timeseries/against_usual.py`: reads the run in this folder, prints a table in Markdown, and draws
`against_usual.png`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

# Below the line that lets them be found: this file is run as a script.
from suite import records, stats
from suite.report.plotting import fixed_style

USUAL = "usual_recipe"
OURS = {"fold_after_fold": "fold after fold", "pool": "one pool"}
SHOWN = ("dataset", "folds", "candidates", "parallelism")


def times() -> dict[tuple, dict[str, dict[int, float]]]:
    """Seconds by point of the sweep, variant and block."""
    found: dict[tuple, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in records.read(HERE / "records.jsonl"):
        if record.status == "ok":
            point = tuple(record.factors[name] for name in SHOWN)
            found[point][record.variant][record.block] = record.seconds
    return {point: each for point, each in sorted(found.items(), key=str) if USUAL in each}


def main() -> None:
    """Print and draw."""
    found = times()
    print(f"| {' | '.join(SHOWN)} | usual recipe, s | {' | '.join(f'{label}, s | ratio' for label in OURS.values())} |")
    print("| " + " | ".join(["---"] * (len(SHOWN) + 1 + 2 * len(OURS))) + " |")
    with fixed_style():
        figure, axes = plt.subplots(figsize=(8, 0.5 * len(found) + 1.6), layout="constrained")
        for place, (point, by_variant) in enumerate(found.items()):
            row = [*map(str, point), f"{median(by_variant[USUAL].values()):.2f}"]
            for shift, (variant, label) in zip((-0.14, 0.14), OURS.items(), strict=True):
                ratio = stats.ratio_interval(by_variant[variant], by_variant[USUAL])
                limits = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.coverage else ""
                row += [f"{median(by_variant[variant].values()):.2f}", f"{ratio.median:.2f}{limits}"]
                color = "#00558c" if variant == "pool" else "#c1582a"
                axes.plot(ratio.median, place + shift, "o", color=color, label=label if place == 0 else None)
                if ratio.coverage:
                    axes.plot([ratio.low, ratio.high], [place + shift] * 2, color=color)
            print(f"| {' | '.join(row)} |")
        axes.axvline(1, color="#888888", linewidth=0.8)
        axes.set_yticks(
            range(len(found)), ["{}: folds {}, candidates {}, threads {}".format(*point) for point in found]
        )
        axes.invert_yaxis()
        blocks = max(len(by_variant[USUAL]) for by_variant in found.values())
        axes.set(xscale="log", xlabel=f"time over the usual recipe's, medians and 95 % intervals of {blocks} blocks")
        ticks = (0.5, 0.7, 1, 1.4, 2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="best", frameon=False)
        figure.suptitle("TimeSeriesCrossValidator against the usual recipe: left of the line it is faster", fontsize=11)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(HERE / "against_usual.png", dpi=110)


if __name__ == "__main__":
    main()
