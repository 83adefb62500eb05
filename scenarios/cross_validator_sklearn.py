# /// script
# requires-python = ">=3.11"
# dependencies = ["scikit-learn>=1.8", "joblib>=1.4", "numpy>=1.26", "pyspark>=4.0"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Cross-validate logistic regression without Spark: scikit-learn's search over the folds of spark_cross_validator.py.

What one machine does alone, to hold Spark's CrossValidator against: the same rows in the same folds, the same penalties
and the same metric. `ScaledLogisticRegression` minimises what Spark's `LogisticRegression` minimises, so that what was
found with one can be used with the other. Use it as long as the data fit the memory of one machine.

The benchmark half also needs spark_cross_validator.py.

Run it alone:  python cross_validator_sklearn.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit


class ScaledLogisticRegression(ClassifierMixin, BaseEstimator):
    """scikit-learn's LogisticRegression with the penalty that Spark's has, for two classes.

    Spark divides features by their standard deviations (by n - 1) and takes the mean of the rows' losses, where
    scikit-learn takes features as they are and the losses' sum. Their solvers differ: Spark's L-BFGS and OWL-QN,
    scikit-learn's L-BFGS and, where there is an L1 penalty, SAGA.

    Parameters
    ----------
    reg_param : float, default=0.0
        Spark's regParam, with standardization=True.
    elastic_net_param : float, default=0.0
        Spark's elasticNetParam: the share of the L1 penalty.
    """

    def __init__(self, reg_param: float = 0.0, elastic_net_param: float = 0.0) -> None:
        self.reg_param = reg_param
        self.elastic_net_param = elastic_net_param

    def fit(self, X: np.ndarray, y: np.ndarray) -> ScaledLogisticRegression:
        """Fit X of shape (n_rows, n_features). A constant feature gets the coefficient 0, as Spark gives it."""
        self.mean_, scale = X.mean(axis=0), X.std(axis=0, ddof=1)
        constant = np.ptp(X, axis=0) == 0  # where the mean is not exact, the deviation is not 0
        self.mean_, self.scale_ = np.where(constant, X[0], self.mean_), np.where(constant, 1.0, scale)
        self.model_ = LogisticRegression(
            C=1 / (len(y) * self.reg_param) if self.reg_param else np.inf,
            l1_ratio=self.elastic_net_param,
            solver="saga" if self.reg_param and self.elastic_net_param else "lbfgs",
            tol=1e-6,
            max_iter=10_000,
        )
        self.model_.fit((X - self.mean_) / self.scale_, y)
        self.classes_ = self.model_.classes_
        if not self.model_.coef_.any():  # then SAGA stops at once, wherever the intercept is
            share = np.mean(y == self.classes_[1])
            self.model_.intercept_ = np.log([share / (1 - share)])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the log odds of the second class, of shape (n_rows,)."""
        found: np.ndarray = self.model_.decision_function((X - self.mean_) / self.scale_)
        return found

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return classes of shape (n_rows,)."""
        found: np.ndarray = self.model_.predict((X - self.mean_) / self.scale_)
        return found


def folds_of_keys(keys: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each 64-bit integer key, from 0 to `folds - 1`, as spark_cross_validator.py assigns them.

    That is Spark's `pmod(xxhash64(key), folds)`: xxHash64 of the key's eight bytes, with the seed 42.
    """
    first, second, third, fourth, fifth = (
        np.uint64(prime)
        for prime in (
            0x9E3779B185EBCA87,
            0xC2B2AE3D27D4EB4F,
            0x165667B19E3779F9,
            0x85EBCA77C2B2AE63,
            0x27D4EB2F165667C5,
        )
    )

    def rotated(values: np.ndarray, bits: int) -> np.ndarray:
        found: np.ndarray = (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))
        return found

    with np.errstate(over="ignore"):  # arithmetic is modulo 2^64
        hashed = np.uint64(42 + 8) + fifth ^ rotated(keys.astype(np.int64).view(np.uint64) * second, 31) * first
        hashed = rotated(hashed, 27) * first + fourth
        for shift, prime in ((33, second), (29, third)):
            hashed = (hashed ^ (hashed >> np.uint64(shift))) * prime
        hashed ^= hashed >> np.uint64(32)
    found: np.ndarray = hashed.view(np.int64) % folds
    return found


def search_by_folds(
    X: np.ndarray, y: np.ndarray, fold: np.ndarray, candidates: Sequence[Mapping[str, float]], n_jobs: int
) -> GridSearchCV:
    """Search the candidates by the area under the ROC curve, all folds and candidates in one pool of processes.

    Parameters
    ----------
    X, y : ndarray
        Of shapes (n_rows, n_features) and (n_rows,); y has two classes.
    fold : ndarray of shape (n_rows,)
        The fold in which a row is validated.
    candidates : sequence of mappings
        `reg_param` and `elastic_net_param` of each.
    n_jobs : int
        With 1 no process is started.

    Returns
    -------
    GridSearchCV
        Its best candidate is fitted on all rows.
    """
    grid = [{name: [value] for name, value in candidate.items()} for candidate in candidates]
    search = GridSearchCV(
        ScaledLogisticRegression(), grid, cv=PredefinedSplit(fold), scoring="roc_auc", error_score="raise"
    )
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        return search.fit(X, y)


# --- benchmark: delete from here on when copying ------------------------
from typing import Any

import spark_cross_validator as spark_recipe
from spark_cross_validator import WORKLOAD, make_data

__all__ = ["WORKLOAD", "make_data"]
# Forests draw their rows at random, so Spark's and scikit-learn's have no equal answer.
SIZES = {size: {**factors, "model": spark_recipe.MODELS[0]} for size, factors in spark_recipe.SIZES.items()}
GATED = ()  # its fits take milliseconds
NAMES = {"reg_param": "regParam", "elastic_net_param": "elasticNetParam"}  # here and in Spark
# Absolute. Where more than a thousand rows are validated, Spark's evaluator draws the curve by some thousand points.
TOLERANCE = 1e-4


def validate(*, dataset: str, model: str, folds: int, candidates: int) -> None:
    """Raise ValueError where the data cannot give these folds, or another model is asked for."""
    spark_recipe.validate(dataset=dataset, model=model, folds=folds, candidates=candidates)
    if model != spark_recipe.MODELS[0]:
        raise ValueError(f"model={model!r}: without Spark there is {spark_recipe.MODELS[0]!r} alone")


def searched(data: dict[str, np.ndarray], folds: int, candidates: int, n_jobs: int) -> dict[str, Any]:
    """Search the workload's candidates, and return what was found under Spark's names."""
    X, y = data["X"], data["y"]
    asked = [
        {"reg_param": penalty, "elastic_net_param": share} for share, penalty in spark_recipe.PENALTIES[:candidates]
    ]
    search = search_by_folds(X, y, folds_of_keys(np.arange(len(y)), folds), asked, n_jobs)
    results = search.cv_results_
    best = {NAMES[name]: value for name, value in search.best_params_.items()}
    return {
        "candidates": [{NAMES[name]: value for name, value in candidate.items()} for candidate in asked],
        "avgMetrics": results["mean_test_score"].tolist(),
        "stdMetrics": results["std_test_score"].tolist(),
        "best_index": int(search.best_index_),
        "best_params": best,
    }


def run_loky(data: dict[str, np.ndarray], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """scikit-learn by loky, without Spark."""
    return searched(data, folds, candidates, parallelism)


def run_serial(data: dict[str, np.ndarray], *, folds: int, candidates: int) -> dict[str, Any]:
    """scikit-learn, one process, without Spark."""
    return searched(data, folds, candidates, 1)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a metric differs by more than 1e-4, or the choice is not the best one."""
    spark_recipe.check(reference, answer, TOLERANCE)


if __name__ == "__main__":
    found = run_loky(make_data(), parallelism=2, folds=3, candidates=6)
    print(f"area under the ROC curve of each candidate: {found['avgMetrics']}")
    print(f"the best is {found['best_params']}")
