# SPDX-License-Identifier: Apache-2.0
"""Cross-validation without Spark finds what Spark's CrossValidator finds, on the same folds."""

import cross_validator_sklearn as recipe
import numpy as np
import pytest
import spark_cross_validator
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import Vectors
from sklearn.datasets import load_breast_cancer

FACTORS = {"folds": 2, "candidates": 5}


@pytest.mark.spark
def test_a_row_has_the_fold_that_spark_gives_it(spark):
    keys = np.array([0, 1, -1, 7, 2**31, -(2**40), 2**63 - 1, -(2**63)])
    frame = spark.createDataFrame([(int(key),) for key in keys], "key long")
    expected = spark_cross_validator.assign_folds(frame, key="key", folds=5).collect()
    assert recipe.folds_of_keys(keys, 5).tolist() == [row.fold for row in expected]


@pytest.mark.spark
def test_the_metrics_are_those_of_spark(spark):
    """Both penalties: the last two of five candidates are half L1."""
    data = spark_cross_validator.prepare(spark_cross_validator.make_data(), spark=spark)
    expected = spark_cross_validator.run_one_at_a_time(data, spark=spark, model="logistic_regression", **FACTORS)
    data["frame"].unpersist()
    for answer in (recipe.run_serial(data, **FACTORS), recipe.run_loky(data, parallelism=2, **FACTORS)):
        recipe.check(expected, answer)
        with pytest.raises(AssertionError, match="avgMetrics"):
            recipe.check(expected, {**answer, "avgMetrics": [metric - 2e-4 for metric in answer["avgMetrics"]]})


@pytest.mark.spark
@pytest.mark.parametrize("reg_param", [0.01, 1.0])
@pytest.mark.parametrize("elastic_net_param", [0.0, 0.5, 1.0])
def test_the_penalty_is_that_of_spark_also_beside_a_constant_feature(spark, reg_param, elastic_net_param):
    generator = np.random.default_rng(0)
    X = np.column_stack([generator.normal(size=(200, 3)) * [1, 100, 0.01], np.full(200, 7.0)])
    y = (X @ [1, 0.02, 30, 0] + generator.normal(size=200) > 0.5).astype(float)
    rows = spark.createDataFrame([(Vectors.dense(x), float(label)) for x, label in zip(X, y, strict=True)])
    theirs = LogisticRegression(
        featuresCol="_1", labelCol="_2", regParam=reg_param, elasticNetParam=elastic_net_param, tol=1e-12, maxIter=1000
    ).fit(rows)
    ours = recipe.ScaledLogisticRegression(reg_param, elastic_net_param).fit(X, y)
    expected = X @ theirs.coefficients.toArray() + theirs.intercept
    np.testing.assert_allclose(ours.decision_function(X), expected, atol=1e-3)


@pytest.mark.parametrize("value", [9.99, 0.1, 19.95, 7.0])
@pytest.mark.parametrize("penalties", [(), (0.01,), (0.01, 0.5)])
def test_a_constant_feature_weighs_nothing_whatever_its_mean_rounds_to(value, penalties):
    """Also in rows where it has another value, as a fold may have."""
    generator = np.random.default_rng(0)
    X = np.column_stack([generator.normal(size=700), np.full(700, value)])
    fitted = recipe.ScaledLogisticRegression(*penalties).fit(X, X[:, 0] + generator.normal(size=700) > 0)
    np.testing.assert_array_equal(fitted.decision_function(X + np.array([0, 1])), fitted.decision_function(X))


def test_the_best_candidate_is_fitted_to_all_rows():
    X, y = load_breast_cancer(return_X_y=True)
    asked = [{"reg_param": penalty} for penalty in (100.0, 0.01)]
    search = recipe.search_by_folds(X, y, np.arange(len(y)) % 3, asked, n_jobs=1)
    assert search.best_params_ == {"reg_param": 0.01}
    fitted = recipe.ScaledLogisticRegression(0.01).fit(X, y)
    np.testing.assert_array_equal(search.predict(X), fitted.predict(X))


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="model='random_forest': without Spark there is 'logistic_regression' alone"):
        recipe.validate(dataset="breast_cancer", model="random_forest", folds=3, candidates=1)
