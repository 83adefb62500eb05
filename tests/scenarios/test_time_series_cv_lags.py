# SPDX-License-Identifier: Apache-2.0
"""Lags by time: those that leak are refused, the others found, whatever the kind and unit of the times."""

from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F  # noqa: N812
from time_series_cv import TimeSeriesCrossValidator, lag_features

pytestmark = pytest.mark.spark


@pytest.mark.parametrize("lag", [1, 6, 9])
def test_lags_that_no_forecast_could_know_are_refused(spark, lag):
    data = spark.range(3).withColumnsRenamed({"id": "label"}).withColumn("t", F.col("label"))
    settings = {"timeCol": "t", "seriesCols": ["label"], "horizon": 7, "gap": 3}
    with pytest.raises(ValueError, match=f"a lag of {lag} leaks: .* use lags of 10 or more") as error:
        lag_features(data, "label", [14, lag], **settings)
    assert "\n" not in str(error.value)
    assert "label_lag10" in lag_features(data, "label", [10], timeUnit=1, **settings).columns


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamp_ntz", "number"])
def test_lags_are_found_by_time_and_series(spark, kind):
    """Missing days shift nothing; series do not leak into each other; order does not matter."""
    rows = [("a", 1, 1.0), ("b", 9, 9.0), ("a", 8, 2.0), ("b", 2, 5.0), ("a", 15, 3.0), ("a", 16, 4.0)]
    data = spark.createDataFrame(rows, "series string, day int, label double")
    unit = "day"
    if kind == "number":
        unit, data = 0.5, data.withColumn("day", F.col("day") / 2)
    else:
        data = data.withColumn("day", F.date_add(F.lit("2024-02-20"), F.col("day")).cast(kind))
    lagged = lag_features(data, "label", [7, 14], timeCol="day", seriesCols=["series"], horizon=7, timeUnit=unit)
    found = {row["label"]: (row["label_lag7"], row["label_lag14"]) for row in lagged.collect()}
    assert found == {
        1.0: (None, None),
        2.0: (1.0, None),
        3.0: (2.0, 1.0),
        4.0: (None, None),
        5.0: (None, None),
        9.0: (5.0, None),
    }


def test_a_short_lag_looks_better_than_it_forecasts(spark):
    """How not to do it: nothing forecasts a random walk a week ahead better than its value of a week ago."""
    generator = np.random.default_rng(1)
    walk = np.cumsum(generator.normal(size=400))
    rows = [(date(2023, 1, 1) + timedelta(days=day), "a", float(value)) for day, value in enumerate(walk)]
    data = spark.createDataFrame(rows, "day date, series string, label double").coalesce(1)
    errors = {}
    for lag in (1, 7):
        # The guard is evaded with horizon=1, while the folds have a week. People who count rows do the same.
        lagged = lag_features(data, "label", [lag], timeCol="day", seriesCols=["series"], horizon=1).dropna()
        features = VectorAssembler(inputCols=[f"label_lag{lag}"], outputCol="features").transform(lagged)
        cv = TimeSeriesCrossValidator(
            estimator=LinearRegression(), evaluator=RegressionEvaluator(), timeCol="day", horizon=7, numFolds=5
        )
        errors[lag] = cv.fit(features).avgMetrics[0]
    # The steps have size 1, so the error is about 1 after one step and about sqrt(7) after seven.
    assert errors[1] < 1.3
    assert errors[7] > 1.5 * errors[1]
