# SPDX-License-Identifier: Apache-2.0
"""Time-series cross-validation without Spark finds what Spark finds."""

import numpy as np
import pandas as pd
import pytest
import time_series_cv
import time_series_cv_sklearn as recipe
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression

from tests.nightly import others_at_night

pytestmark = pytest.mark.spark
SMALL = {"dataset": "warehouse", "days": 90, "warehouses": 2, "items": 3}


@pytest.mark.parametrize(
    "asked", others_at_night([SMALL, {"dataset": "flights"}], [SMALL]), ids=["warehouse", "flights"]
)
def test_the_metrics_are_those_of_spark(spark, asked):
    frame = time_series_cv.make_data(spark=spark, **asked)
    expected = time_series_cv.run_one_at_a_time(frame, folds=3, candidates=4)
    frame.unpersist()
    found = recipe.run_loky(recipe.make_data(**asked), parallelism=2, folds=3, candidates=4)
    np.testing.assert_allclose(found["metrics"], expected["metrics"], rtol=1e-8)
    recipe.check(expected, found)


@pytest.mark.parametrize("reg_param", [0.0, 0.3, 100.0])
def test_the_penalty_is_that_of_spark_also_beside_a_constant_feature(spark, reg_param):
    generator = np.random.default_rng(0)
    X = np.column_stack([generator.normal(size=(50, 3)) * [1, 100, 0.01], np.full(50, 7.0)])
    y = X @ [1, 0.02, 30, 0] + generator.normal(size=50) + 5
    rows = spark.createDataFrame([(Vectors.dense(x), float(label)) for x, label in zip(X, y, strict=True)])
    theirs = LinearRegression(featuresCol="_1", labelCol="_2", regParam=reg_param).fit(rows)
    ours = recipe.ScaledRidge(reg_param).fit(X, y)
    expected = X @ theirs.coefficients.toArray() + theirs.intercept
    # Without a penalty the constant feature makes Spark's equations singular, and it goes by steps to within 1e-6.
    np.testing.assert_allclose(ours.predict(X), expected, rtol=1e-8 if reg_param else 1e-6)


def test_the_best_candidate_is_fitted_to_all_rows():
    data = recipe.make_data(**SMALL)
    search, metrics = recipe.search_in_time(
        *(data["X"], data["label"], data["day"], [1e-3, 1e3]), n_jobs=1, horizon=7, numFolds=2
    )
    assert metrics.shape == (2, 2)
    assert search.best_params_ == {"reg_param": 1e-3}
    fitted = recipe.ScaledRidge(1e-3).fit(data["X"], data["label"])
    np.testing.assert_array_equal(search.predict(data["X"]), fitted.predict(data["X"]))


def test_rows_of_pandas_have_the_penalty_of_those_of_numpy():
    """To pandas a deviation divides by n - 1."""
    X = pd.DataFrame({"near": [1.0, 2.0, 4.0], "far": [100.0, -50.0, 3.0]})
    y = pd.Series([3.0, 1.0, 2.0], index=[7, 8, 9])
    expected = recipe.ScaledRidge(0.5).fit(X.to_numpy(), y.to_numpy())
    found = recipe.ScaledRidge(0.5).fit(X, y)
    assert found.model_.alpha == expected.model_.alpha
    np.testing.assert_array_equal(found.predict(X), expected.predict(X.to_numpy()))


@pytest.mark.parametrize("reg_param", [0.0, 0.3])
def test_of_a_constant_label_the_mean_is_fitted(reg_param):
    X = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_allclose(recipe.ScaledRidge(reg_param).fit(X, np.full(20, 5)).predict(X), 5.0)
