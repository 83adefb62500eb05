# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.5",
#                 "joblib>=1.4"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""A linear regression for each series of a panel, each with its own best candidate, chosen by folds in time.

Thousands of series (an item in a warehouse, a carrier at an airport) are too many to search one after another: each
Spark job costs more than a fit. Here the rows of a series meet in one task, which sums up their moments and works out
all folds and candidates from these. One query finds the ends of the data, one shuffle does all the rest, and the
result is a DataFrame with a row for each series. Use it for Spark's `LinearRegression` and the settings of
one_pass_time_series_cv.py. The rows of one series have to fit in the memory of a Python worker.

    cv = OnePassTimeSeriesCrossValidator(
        estimator=LinearRegression(), estimatorParamMaps=grid, evaluator=RegressionEvaluator(),
        timeCol="day", timeUnit="day", horizon=7, numFolds=4,
    )
    models = fit_each_series(cv, data, ["warehouse", "item"])

Copy it together with its sibling one_pass_time_series_cv.py, which it imports, and the siblings of that one.

Run it alone:  python one_pass_per_series.py
(the benchmark half also needs its siblings one_pass_cross_validator.py and time_series_folds.py)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from one_pass_time_series_cv import (
    MAX_CONDITION,
    MAX_FEATURES,
    MOMENT_BYTES,
    Errors,
    Keys,
    OnePassTimeSeriesCrossValidator,
    Scan,
    Search,
    UnsuitableError,
    _best,
    _checked_candidates,
    complaint_of,
    cross_validate,
    errors_by_prediction,
    fit_one,
    make_search,
    merge,
    metrics_of,
    rows_of_windows,
    sum_up,
    why_not,
    why_not_metric,
    window_moments,
)
from pyspark import cloudpickle
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

for _name in (__name__, _best.__module__):  # workers need not have these files
    cloudpickle.register_pickle_by_value(sys.modules[_name])


def fit_each_series(cv: OnePassTimeSeriesCrossValidator, data: DataFrame, by: str | Sequence[str]) -> DataFrame:
    """Choose the best linear regression for each series, and fit it to all rows of the series.

    Parameters
    ----------
    cv : OnePassTimeSeriesCrossValidator
        Estimator, candidates, evaluator and folds, `foldWeights` and `refit`. All series share the calendar of the
        whole data. Of `refit="last"` a series has the last of the folds that it has rows for. Other settings, such as
        `parallelism`, do not matter; `collectSubModels` is refused.
    data : DataFrame
    by : str or sequence of str
        Names of the columns that tell the series apart.

    Returns
    -------
    DataFrame
        The columns `by`, and for each series: `bestIndex`, the number of its best candidate; `avgMetrics`, the mean
        metric of each candidate over the folds in which the series has rows to train on and to validate (for r2, with
        more than one label), NaN where a matrix has a condition number above MAX_CONDITION; `folds`, how many these
        are; `rows`; `coefficients` and `intercept` of the best candidate fitted as `refit` says; and `problem`, null or
        why there is no model. It is computed when it is used: cache or write it to use it twice.

    Raises
    ------
    ValueError
        The estimator, the grid or the evaluator need more than moments (as subclasses of Spark's own may), no column
        tells the series apart, or it has a name of the result.
    """
    estimator: Any = cv.getEstimator()
    evaluator: Any = cv.getEvaluator()
    candidates = _checked_candidates(cv.getEstimatorParamMaps(), estimator, evaluator)
    if cv.getCollectSubModels():
        raise ValueError("the models of folds are not kept for series: leave out collectSubModels")
    by = [by] if isinstance(by, str) else list(by)
    if not by:
        raise ValueError("by is empty: name the columns that tell the series apart")
    if taken := [name for name in by if name.lower() in map(str.lower, TYPES)]:
        raise ValueError(f"the result has a column of its own named {taken[0]!r}: rename that of the data")
    try:
        if reason := why_not(estimator, candidates) or why_not_metric(estimator, evaluator):
            raise UnsuitableError(reason)
        search, scan = make_search(estimator, candidates, evaluator), Scan(data, estimator, evaluator)
    except UnsuitableError as error:
        text = f"moments do not suffice: {error}. Fit the series one by one with TimeSeriesCrossValidator"
        raise ValueError(text) from error
    when, keys, _, ends = cv.windows_in_keys(scan)
    rules = evaluator.isLargerBetter(), cv.getOrDefault("foldWeights"), cv.getOrDefault("refit")
    large = str(data.sparkSession.conf.get("spark.sql.execution.arrow.useLargeVarTypes", "false")).lower() == "true"
    kinds = {**TYPES, "problem": pa.large_string() if large else pa.string()}  # Spark casts nothing here

    def of_series(table: pa.Table) -> pa.Table:
        values = table.slice(0, 1).select(table.column_names[: len(by)])
        for place, key in enumerate(values.schema):
            if pa.types.is_timestamp(key.type) and key.type.tz:  # it sends the session's zone, and wants this one back
                in_utc = values.column(place).cast(pa.timestamp("us", "UTC"))
                values = values.set_column(place, key.name, in_utc)
        found = fit_series(table.select(table.column_names[len(by) :]), keys, ends, search, *rules)
        for name, value in found.items():
            values = values.append_column(name, pa.array([value], kinds[name]))
        return values

    series = [scan.column(name).alias(f"s{i}") for i, name in enumerate(by)]
    columns = [column.alias(f"c{i}") for i, column in enumerate([when, *scan.columns])]
    rows = data.select(*series, *columns)
    schema = from_arrow_schema(pa.schema(TYPES))
    found = rows.groupBy(*rows.columns[: len(by)]).applyInArrow(
        of_series, StructType([*rows.schema.fields[: len(by)], *schema.fields])
    )
    return found.toDF(*by, *TYPES)


TYPES = {  # of the columns that the result has besides those of `by`
    "bestIndex": pa.int32(),
    "avgMetrics": pa.list_(pa.float64()),
    "folds": pa.int32(),
    "rows": pa.int64(),
    "coefficients": pa.list_(pa.float64()),
    "intercept": pa.float64(),
    "problem": pa.string(),
}


def fit_series(
    table: pa.Table,
    keys: Keys,
    ends: np.ndarray,
    search: Search,
    larger_better: bool,
    fold_weights: str = "equal",
    refit: str = "all",
) -> dict[str, Any]:
    """Search the candidates of one series.

    Parameters
    ----------
    table : pyarrow.Table
        Time, label, features and weights of its rows, as `sum_up` takes them.
    keys : Keys
    ends : ndarray of shape (folds, 4)
        The windows in keys.
    search : Search
    larger_better : bool
    fold_weights : {"equal", "rows"}
    refit : {"all", "last", "none"}

    Returns
    -------
    dict
        The values of the columns that `TYPES` names.
    """
    nothing = {"bestIndex": None, "avgMetrics": None, "folds": 0, "coefficients": None, "intercept": None}
    result: dict[str, Any] = {**nothing, "rows": table.num_rows, "problem": None}
    batches = table.to_batches()
    blocks, account = sum_up(batches, keys, search.weightings, MOMENT_BYTES)
    if complaint := complaint_of(account):
        return {**result, "problem": complaint}
    if blocks is None:
        return {**result, "problem": f"more than MAX_FEATURES={MAX_FEATURES} features, or MOMENT_BYTES={MOMENT_BYTES}"}
    train, validation = blocks.moments[search.train], blocks.moments[search.validation]
    counts = np.array(rows_of_windows(blocks, ends))
    usable = np.flatnonzero(counts.all(axis=1))
    if not len(usable):
        return {**result, "problem": "no fold has rows to train on and to validate"}
    sides = [
        list(window_moments(blocks.keys, moments, ends[usable, at : at + 2]))
        for moments, at in ((train, 0), (validation, 2))
    ]
    pairs = list(zip(*sides, strict=True))
    if not all(side.weight[0] > 0 for pair in pairs for side in pair):
        return {**result, "problem": "a fold has only rows of weight 0"}
    outcome = cross_validate(pairs, search)
    metrics, safe = outcome.metrics, (outcome.condition <= MAX_CONDITION).all(axis=0)
    if not outcome.sure[:, safe].all():
        errors = errors_by_prediction(batches, keys, ends[usable, 2:], search, outcome)
        metrics = metrics_of(Errors(*errors), outcome.weights, outcome.totals, search.metric)
    kept = [place for place in range(len(usable)) if place not in outcome.without_r2(search)]
    weights = counts[usable[kept], 1] if fold_weights == "rows" else None
    averages = np.full(len(search.settings), np.nan)
    if kept:
        averages[safe] = np.average(metrics[kept], axis=0, weights=weights)[safe]
    result |= {"folds": len(kept), "avgMetrics": averages.tolist()}
    if not safe.any():
        problem = f"condition numbers up to {outcome.condition.max():.1e}: raise regParam, or leave columns out"
        flat = np.array([side.scatter[0, -1, -1] == 0 for side in sides[0]])
        if np.isinf(outcome.condition[flat]).any():
            problem = "the label is constant in train rows: Spark fits no penalty then, unless there is an intercept"
        return {**result, "problem": problem}
    if not np.isfinite(averages).any():
        problem = (
            f"the metric {search.metric} is not defined in any fold: r2 divides by the variance of a fold's labels"
        )
        return {**result, "problem": problem}
    result["bestIndex"] = best = _best(averages.tolist(), larger_better)
    if refit == "none":
        return result
    coefficients, intercept, condition = fit_one(
        merge(train) if refit == "all" else sides[0][-1], search.settings[best]
    )
    if not condition <= MAX_CONDITION:
        return {**result, "bestIndex": None, "problem": f"the condition number of all rows is {condition:.1e}"}
    return {**result, "coefficients": coefficients.tolist(), "intercept": intercept}


# --- benchmark: delete from here on when copying ------------------------
import os

import pandas as pd
from joblib import Parallel, delayed, parallel_config
from one_pass_cross_validator import ScaledRidge, cached_frame, penalties
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession
from sklearn.model_selection import GridSearchCV
from time_series_folds import TimeSeriesFolds

WORKLOAD = "a model per series"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"series": 20, "days": 90, "folds": 2, "candidates": 3},
    "ci": {"series": 30, "days": 365, "folds": 4, "candidates": 6},
    "full": {"series": (1000, 100), "days": 365, "folds": (4, 12), "candidates": 6},
}
GATED = ()  # its sums are those of one_pass_time_series_cv, which is gated
FEATURES = 6
HORIZON = 7  # days
TOLERANCE = 1e-8  # relative


def make_data(*, series: int, days: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw a panel of daily series, each with six features and coefficients of its own."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(series, days, FEATURES)) * 10.0 ** np.arange(-2, FEATURES - 2)
    coefficients = generator.normal(size=(series, 1, FEATURES)) / 10.0 ** np.arange(-2, FEATURES - 2)
    y = (X * coefficients).sum(axis=2) + generator.normal(size=(series, days)) + 10
    return {"X": X, "y": y}


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Load the rows into Spark, assemble the feature vectors, and cache them. Whoever calls this unpersists `frame`."""
    series, days, _ = data["X"].shape
    columns = {"series": np.repeat(np.arange(series), days), "day": np.tile(np.arange(days), series)}
    columns["label"] = data["y"].ravel()
    return {**data, "frame": cached_frame(spark, columns, data["X"].reshape(-1, FEATURES))}


def validate(*, days: int, folds: int) -> None:
    """Raise ValueError where a series has too few days for the folds."""
    if days < (folds + 4) * HORIZON:
        raise ValueError(f"{folds} folds of {HORIZON} days and 4 before them are more than {days} days")


def best_and_metrics(X: np.ndarray, y: np.ndarray, folds: int, candidates: int) -> tuple[int, list[float]]:
    """Search one series with scikit-learn."""
    cv = TimeSeriesFolds(horizon=HORIZON, numFolds=folds)  # times are row numbers
    grid = {"reg_param": penalties(candidates)}
    search = GridSearchCV(ScaledRidge(), grid, cv=cv, scoring="neg_root_mean_squared_error", n_jobs=1).fit(X, y)
    return int(search.best_index_), (-search.cv_results_["mean_test_score"]).tolist()


def answer_of(best: Sequence[int], metrics: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return how many series each candidate won, and the mean and the largest of its metrics."""
    table = np.asarray(metrics)
    wins = np.bincount(best, minlength=table.shape[1]).tolist()
    return {"wins": wins, "mean": table.mean(axis=0).tolist(), "largest": table.max(axis=0).tolist()}


def search_all(data: dict[str, Any], folds: int, candidates: int) -> dict[str, Any]:
    """Search all series; `joblib.parallel_config` says in how many processes."""
    pairs = zip(data["X"], data["y"], strict=True)
    return answer_of(
        *zip(*Parallel()(delayed(best_and_metrics)(X, y, folds, candidates) for X, y in pairs), strict=True)
    )


def run_serial(data: dict[str, Any], *, folds: int, candidates: int) -> dict[str, Any]:
    """scikit-learn, series after series."""
    with parallel_config("loky", n_jobs=1):
        return search_all(data, folds, candidates)


def run_loky(data: dict[str, Any], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """scikit-learn, loky processes."""
    with parallel_config("loky", n_jobs=parallelism, inner_max_num_threads=1):
        return search_all(data, folds, candidates)


def run_one_pass(data: dict[str, Any], *, spark: SparkSession, folds: int, candidates: int) -> dict[str, Any]:
    """All series in one pass on Spark."""
    model = LinearRegression()
    cv = OnePassTimeSeriesCrossValidator(
        estimator=model,
        estimatorParamMaps=[{model.regParam: penalty} for penalty in penalties(candidates)],
        evaluator=RegressionEvaluator(metricName="rmse"),
        timeCol="day",
        horizon=HORIZON,
        numFolds=folds,
    )
    found: pd.DataFrame = fit_each_series(cv, data["frame"], ["series"]).toPandas()
    return answer_of(found["bestIndex"].tolist(), found["avgMetrics"].tolist())


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a metric differs by more than TOLERANCE, or other candidates win."""
    for name in ("mean", "largest"):
        np.testing.assert_allclose(answer[name], reference[name], rtol=TOLERANCE)
    assert answer["wins"] == reference["wins"], f"wins are {answer['wins']}, expected {reference['wins']}"


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(series=100, days=365), spark=session)
    found = run_one_pass(made, spark=session, folds=4, candidates=6)
    print(f"of 100 series, so many were won by each candidate: {found['wins']}")
    session.stop()
