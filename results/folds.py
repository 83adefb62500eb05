# SPDX-License-Identifier: Apache-2.0
"""Draws folds.png, the four kinds of folds for the README, when run: `python results/folds.py`."""

import sys
from datetime import date
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scenarios"))

from time_series_cv import Fold, fold_windows, plot_folds  # noqa: E402

KINDS = {
    "expanding: all that came before": {},
    "expanding, with a gap of 7 days": {"gap": 7},
    "sliding: the last 60 days": {"maxTrain": 60},
    "sliding, with a gap, a stride of 7 days": {"maxTrain": 60, "gap": 7, "stride": 7},
}


def main() -> None:
    """Draw a year's last months, four folds of a horizon of 14 days each."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 5), sharex=True, sharey=True, layout="constrained")
    for ax, (title, rules) in zip(axes.flat, KINDS.items(), strict=True):
        windows = fold_windows(date(2013, 8, 1), date(2014, 1, 1), "day", numFolds=4, horizon=14, **rules)
        plot_folds([Fold(number, *window, 0, 0) for number, window in enumerate(windows)], ax)
        ax.set(title=title, xlabel="", yticks=range(4))
        ax.set_xlim(date(2013, 8, 1), date(2014, 1, 1))
        ax.tick_params(axis="x", rotation=30)
    axes.flat[0].invert_yaxis()  # each panel has turned the axis that they share
    for ax in (axes.flat[0], axes.flat[1], axes.flat[3]):
        ax.get_legend().remove()
    figure.suptitle("TimeSeriesCrossValidator: numFolds=4, horizon=14, data from August to December")
    figure.savefig(HERE / "folds.png", dpi=110)


if __name__ == "__main__":
    main()
