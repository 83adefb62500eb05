# /// script
# requires-python = ">=3.11"
# dependencies = ["scikit-learn>=1.5", "joblib>=1.4", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Grid search of an SVC on one machine: serial, or on all its cores by loky.

Every distributed search is measured against this one. One process is the best serial way to do the job. loky is
the best way to use all cores of one machine, and a cluster pays only if it beats loky. Use this file as long as
the data fits in the memory of one machine and a fit takes much longer than the few milliseconds of handing it to
a process. Look further when the search takes hours on the largest machine at hand, or when the data is on a
cluster already.

Run it alone:  python grid_search_single_node.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

# 48 candidates. A grid is a dictionary of lists, or a list of such dictionaries.
GRID: dict[str, list[Any]] = {
    "C": [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10],
    "kernel": ["rbf", "poly", "sigmoid"],
    "shrinking": [True, False],
}


def grid_search(
    X: np.ndarray,
    y: np.ndarray,
    *,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]] = GRID,
    folds: int = 5,
) -> GridSearchCV:
    """Fit every candidate on every fold, then the best one on all rows.

    `n_jobs` is left unset, so the surrounding `joblib.parallel_config` decides where the fits run. Without
    one they run in this process, one after the other.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
    y : array of shape (n_rows,)
    grid : dict of lists, or list of dicts of lists
        The candidates, as `GridSearchCV` takes them.
    folds : int, default=5
        Number of stratified folds. The rows are not shuffled, so every process cuts the same folds without a seed.

    Returns
    -------
    GridSearchCV
        Fitted; `best_estimator_` is ready to predict.
    """
    search = GridSearchCV(
        SVC(gamma="auto"),
        grid,
        cv=StratifiedKFold(folds),
        refit=True,
        # By default a candidate that fails gets the score NaN and a warning, and nobody sees a worker's warnings.
        error_score="raise",
    )
    return search.fit(X, y)


def grid_search_on_all_cores(X: np.ndarray, y: np.ndarray, *, n_jobs: int = -1, **options: Any) -> GridSearchCV:
    """Run `grid_search` in `n_jobs` processes (-1: one for each core).

    The refit at the end is one fit and runs in this process. With `n_jobs=1` joblib starts no process.

    The processes stay alive for the next call, which then starts at once; that is the point of loky. They
    exit after 300 idle seconds or with the interpreter; `stop_workers` ends them now.
    """
    # One BLAS and OpenMP thread for each process: more threads would compete for the same cores.
    with parallel_config(backend="loky", n_jobs=n_jobs, inner_max_num_threads=1):
        return grid_search(X, y, **options)


def stop_workers() -> None:
    """End the processes that loky keeps for the next call, and the two threads that serve them.

    Call it where memory is short, or where the program goes on for long without another search.
    """
    get_reusable_executor().shutdown(wait=True)


# --- benchmark: delete from here on when copying ------------------------
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import ParameterGrid

WORKLOAD = "SVC grid search"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"dataset": "synthetic", "folds": (2, 3), "candidates": 3},
    "ci": {"dataset": "synthetic", "folds": 3, "candidates": 48},
    "full": {"dataset": ("synthetic", "digits"), "folds": (5, 3, 10), "candidates": 48},
    "gate": {"dataset": "synthetic", "folds": 3, "candidates": 36},
}
SCHEDULE = {"serial": "serial", "loky": "pool"}
REFIT = True


def make_data(*, seed: int = 0, dataset: str = "synthetic") -> dict[str, np.ndarray]:
    """Generate 1,000 rows of 20 features in two classes, or load the real `digits`: 1,797 images in ten classes."""
    if dataset == "synthetic":
        X, y = make_classification(n_samples=1000, random_state=seed)
    elif dataset == "digits":
        X, y = load_digits(return_X_y=True)
        X = X / 16  # pixels are 0 to 16; gamma="auto" expects features of about one
    else:
        raise ValueError(f"dataset={dataset!r} is unknown: choose 'synthetic' or 'digits'")
    return {"X": X, "y": y}


def validate(*, folds: int, candidates: int) -> None:
    """Raise ValueError where the grid cannot give this many candidates, or nothing is left to train on.

    It makes no data: whether each class has rows for so many folds, scikit-learn says.
    """
    size = len(ParameterGrid(GRID))
    if not 1 <= candidates <= size:
        raise ValueError(f"candidates={candidates}: choose 1 to {size}, the size of the grid")
    if folds < 2:
        raise ValueError(f"folds={folds}: choose at least 2")


def first_candidates(count: int) -> list[dict[str, list[Any]]]:
    """Pick `count` candidates that are spread over the grid: every 31st, starting over at its end.

    31 has no factor in common with 48, so each of the 48 comes up once. Candidates that follow each other differ in
    C and shrinking, and a smaller search is a part of every larger one. A grid whose size is a multiple of 31 is
    taken in its own order.
    """
    grid = list(ParameterGrid(GRID))
    step = 31 if len(grid) % 31 else 1
    picked = [grid[step * i % len(grid)] for i in range(count)]
    return [{name: [value] for name, value in candidate.items()} for candidate in picked]


def answer_of(search: GridSearchCV, folds: int) -> dict[str, Any]:
    """Return what the search found, as plain values.

    The number of support vectors of each class shows the refit; of a model that has none there is None.
    """
    results = search.cv_results_
    counted = getattr(search.best_estimator_, "n_support_", None)
    scores = np.array([results[f"split{fold}_test_score"] for fold in range(folds)])
    return {
        "fits": len(scores) * len(results["params"]),
        "mean_test_score": results["mean_test_score"].tolist(),
        "fold_scores": scores.T.tolist(),
        "best_params": dict(search.best_params_),
        "best_score": float(search.best_score_),
        "support_vectors": None if counted is None else counted.tolist(),
    }


def run_serial(data: dict[str, np.ndarray], *, folds: int, candidates: int) -> dict[str, Any]:
    """GridSearchCV, one process."""
    return answer_of(grid_search(**data, grid=first_candidates(candidates), folds=folds), folds)


def run_loky(data: dict[str, np.ndarray], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """GridSearchCV, loky processes.

    The pool stays warm on purpose, as Spark's Python workers do: the first call pays for starting it, the next
    call does not.
    """
    grid = first_candidates(candidates)
    return answer_of(grid_search_on_all_cores(**data, n_jobs=parallelism, grid=grid, folds=folds), folds)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where the answers differ at all.

    There is no tolerance: the fits are deterministic, and an accuracy is one count of rows divided by another.
    """
    for name, expected in reference.items():
        got = answer.get(name)
        if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
            for i, (e, g) in enumerate(zip(expected, got, strict=True)):
                assert e == g, f"{name}[{i}] is {g}, expected {e}"
        assert got == expected, f"{name} is {got}, expected {expected}"


if __name__ == "__main__":
    data = make_data()
    found = grid_search_on_all_cores(data["X"], data["y"])
    print(f"{len(found.cv_results_['params'])} candidates, 5 folds: the best is {found.best_params_}")
    print(f"accuracy {found.best_score_:.3f} with {found.best_estimator_}")
