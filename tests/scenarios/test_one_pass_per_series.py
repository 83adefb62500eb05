# SPDX-License-Identifier: Apache-2.0
"""A model for each series in one pass: what a search of each series by itself finds."""

from datetime import date, timedelta

import numpy as np
import one_pass_per_series as recipe
import pandas as pd
import pytest
from one_pass_per_series import fit_each_series
from one_pass_time_series_cv import OnePassTimeSeriesCrossValidator
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F  # noqa: N812
from time_series_cv import TimeSeriesCrossValidator

from tests.nightly import others_at_night

pytestmark = pytest.mark.spark
FIRST = date(2024, 1, 1)
DAYS = 60
EXACT = 1e-8  # relative


@pytest.fixture(scope="module")
def frame():
    """Four series over sixty days: one begins late, one has a single week, all have relations of their own."""
    generator = np.random.default_rng(5)
    parts = []
    for number, (name, begin, end) in enumerate(
        [("a", 0, DAYS), ("b", 0, DAYS), ("late", 38, DAYS), ("short", 53, DAYS)]
    ):
        days = np.repeat(np.arange(begin, end), 2)
        x = generator.normal(size=(len(days), 3)) * [1, 20, 0.1]
        y = x @ (generator.normal(size=3) / [1, 20, 0.1]) + 0.5 * number + generator.normal(size=len(days)) * 0.3
        columns = {"kind.of": name, "item": number % 2, "day": [FIRST + timedelta(days=int(day)) for day in days]}
        columns |= {"label": y, "w": generator.random(len(days)) + 0.1}
        parts.append(pd.DataFrame(columns | {f"x{i}": x[:, i] for i in range(3)}))
    return pd.concat(parts)


@pytest.fixture(scope="module")
def data(spark, frame):
    rows = spark.createDataFrame(frame.sample(frac=1, random_state=0)).repartition(3)
    assembled = VectorAssembler(inputCols=[f"x{i}" for i in range(3)], outputCol="features").transform(rows)
    return assembled.localCheckpoint()


def search(kind=OnePassTimeSeriesCrossValidator, metric="rmse", model=None, **more):
    model = model or LinearRegression()
    return kind(
        estimator=model,
        estimatorParamMaps=[{model.regParam: 0.01}, {model.regParam: 1.0, model.fitIntercept: False}],
        evaluator=RegressionEvaluator(metricName=metric),
        **{"timeCol": "day", "timeUnit": "day", "horizon": 7, "numFolds": 3, **more},
    )


def by_name(found):
    return {row["kind.of"]: row for row in found.collect()}


@pytest.mark.parametrize("metric", others_at_night(["rmse", "mae", "r2"], ["mae"]))
def test_each_series_has_what_a_search_of_its_own_finds(data, metric):
    found = by_name(fit_each_series(search(metric=metric), data, ["kind.of", "item"]))
    assert set(found) == {"a", "b", "late", "short"}
    assert {name: row["item"] for name, row in found.items()} == {"a": 0, "b": 1, "late": 0, "short": 1}
    for name in ("a", "b"):
        alone = data.where(F.col("`kind.of`") == name)
        expected = search(TimeSeriesCrossValidator, metric).fit(alone)
        row = found[name]
        np.testing.assert_allclose(row["avgMetrics"], expected.avgMetrics, rtol=EXACT)
        assert row["bestIndex"] == expected.bestIndex
        assert (row["folds"], row["rows"], row["problem"]) == (3, 2 * DAYS, None)
        np.testing.assert_allclose(row["coefficients"], expected.bestModel.coefficients, rtol=1e-6)
        assert row["intercept"] == pytest.approx(expected.bestModel.intercept, rel=1e-6, abs=1e-9)


def test_a_single_column_may_be_given_by_its_name(data):
    names = ("kind.of", ["kind.of"], np.array(["kind.of"]))
    found, expected, of_array = (fit_each_series(search(numFolds=1), data, by) for by in names)
    assert found.columns == expected.columns == of_array.columns
    assert set(by_name(found)) == {"a", "b", "late", "short"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("spark.sql.session.timeZone", "Europe/Berlin"), ("spark.sql.execution.arrow.useLargeVarTypes", "true")],
)
def test_keys_that_are_times_and_texts_come_back_whatever_the_session_says(data, spark, setting, value):
    timed = data.withColumn("begun", F.timestamp_micros(F.lit(1_700_000_000_000_000) + F.col("item")))
    keys = ["kind.of", "begun"]
    before = spark.conf.get(setting)
    expected = {
        name: row.avgMetrics for name, row in by_name(fit_each_series(search(numFolds=1), data, "kind.of")).items()
    }
    spark.conf.set(setting, value)
    try:
        found = fit_each_series(search(numFolds=1), timed, keys)
        rows = found.select("`kind.of`", F.unix_micros("begun").alias("micros"), "avgMetrics").collect()
        begun = dict(timed.groupBy("`kind.of`").agg(F.unix_micros(F.first("begun"))).collect())
    finally:
        spark.conf.set(setting, before)
    assert {row[0]: row.micros for row in rows} == begun
    for row in rows:
        assert row.avgMetrics == pytest.approx(expected[row[0]], nan_ok=True)


def test_a_series_that_begins_late_has_the_folds_that_it_has_rows_for(data, frame):
    found = by_name(fit_each_series(search(), data, ["kind.of"]))
    late = frame[frame["kind.of"] == "late"]
    metrics = []
    for fold in range(3):  # the last three weeks of the calendar of all series
        cut = FIRST + timedelta(days=DAYS - 7 * (3 - fold))
        train, rest = late[late["day"] < cut], late[late["day"] >= cut]
        validation = rest[rest["day"] < cut + timedelta(days=7)]
        if len(train):
            model = recipe.ScaledRidge(0.01).fit(train[["x0", "x1", "x2"]].to_numpy(), train["label"].to_numpy())
            errors = validation["label"] - model.predict(validation[["x0", "x1", "x2"]].to_numpy())
            metrics.append(np.sqrt(np.mean(errors**2)))
    assert found["late"]["folds"] == len(metrics) == 3
    assert found["late"]["avgMetrics"][0] == pytest.approx(np.mean(metrics), rel=EXACT)
    more = by_name(fit_each_series(search(numFolds=6), data, ["kind.of"]))
    assert (more["late"]["folds"], more["a"]["folds"]) == (3, 6)
    assert found["short"]["problem"] == "no fold has rows to train on and to validate"
    assert found["short"]["coefficients"] is None


def test_what_a_series_cannot_be_fitted_on_is_said_and_the_others_are(data):
    holes = data.withColumn("label", F.when((F.col("`kind.of`") != "a") | (F.col("x0") > 0), F.col("label")))
    found = by_name(fit_each_series(search(), holes, ["kind.of"]))
    assert "labels that are null, NaN or infinite" in found["a"]["problem"]
    assert found["b"]["problem"] is None
    twice = VectorAssembler(inputCols=["x0", "x1", "x0"], outputCol="twice").transform(data)
    model = LinearRegression(featuresCol="twice")
    singular = search(model=model)
    singular._set(estimatorParamMaps=[{model.regParam: 0.0}, {model.regParam: 1.0}])
    row = by_name(fit_each_series(singular, twice, ["kind.of"]))["a"]
    assert np.isnan(row["avgMetrics"][0])
    assert row["bestIndex"] == 1
    singular._set(estimatorParamMaps=[{model.regParam: 0.0}])
    row = by_name(fit_each_series(singular, twice, ["kind.of"]))["a"]
    assert row["bestIndex"] is None
    assert "raise regParam, or leave columns out" in row["problem"]


@pytest.mark.parametrize("refit", others_at_night(["all", "last", "none"], ["last"]))
def test_weights_of_folds_and_refit_are_those_of_a_search_of_its_own(data, refit):
    uneven = data.where("`kind.of` = 'b' and (day < '2024-02-20' or x0 > 0)")
    rules = {"foldWeights": "rows", "refit": refit}
    row = fit_each_series(search(**rules), uneven, ["kind.of"]).first()
    expected = search(TimeSeriesCrossValidator, **rules).fit(uneven)
    assert len({result.validationRows for result in expected.foldResults}) > 1
    np.testing.assert_allclose(row["avgMetrics"], expected.avgMetrics, rtol=EXACT)
    assert (row["bestIndex"], row["problem"]) == (expected.bestIndex, None)
    if refit == "none":
        assert (row["coefficients"], row["intercept"]) == (None, None)
    else:
        np.testing.assert_allclose(row["coefficients"], expected.bestModel.coefficients, rtol=1e-6)
        assert row["intercept"] == pytest.approx(expected.bestModel.intercept, rel=1e-6, abs=1e-9)


def test_candidates_that_are_as_good_as_another_lose_to_the_first(data):
    model = LinearRegression()
    tied = search(model=model)
    tied._set(estimatorParamMaps=[{model.regParam: penalty} for penalty in (1e-3 + 1e-9, 1e-3, 1e3)])
    found = by_name(fit_each_series(tied, data, ["kind.of"]))
    assert [found[name]["bestIndex"] for name in ("a", "b", "late")] == [0, 0, 0]
    assert min(found["a"]["avgMetrics"]) != found["a"]["avgMetrics"][0]


def test_labels_that_are_constant_or_huge_trouble_their_own_series_alone(data):
    name = F.col("`kind.of`")
    quiet = (name == "a") & (F.col("day") >= F.lit(FIRST + timedelta(days=DAYS - 7)))
    labels = F.when(quiet | (name == "late"), 0.0).when(name == "b", 5.0).otherwise(F.col("label"))
    flat = data.withColumn("label", labels)
    model = LinearRegression(fitIntercept=False)
    found = by_name(fit_each_series(search(metric="r2", model=model), flat, ["kind.of"]))
    assert found["late"]["problem"].startswith("the metric r2 is not defined in any fold: r2 divides by the variance")
    assert found["b"]["problem"].startswith("the label is constant in train rows: Spark fits no penalty then")
    assert (found["a"]["problem"], found["a"]["folds"]) == (None, 2)
    with pytest.warns(UserWarning, match="r2 is not defined .* fold 2 .* left out of the averages"):
        expected = search(TimeSeriesCrossValidator, "r2", model).fit(flat.where(name == "a"))
    np.testing.assert_allclose(found["a"]["avgMetrics"], expected.avgMetrics, rtol=EXACT)
    # Without a penalty, Spark does fit a constant through the origin.
    plain = search(model=model)
    plain._set(estimatorParamMaps=[{model.regParam: 0.0}])
    row = by_name(fit_each_series(plain, flat, ["kind.of"]))["b"]
    alone = search(TimeSeriesCrossValidator, model=model)
    expected = alone._set(estimatorParamMaps=[{model.regParam: 0.0}]).fit(flat.where(name == "b"))
    np.testing.assert_allclose(row["avgMetrics"], expected.avgMetrics, rtol=EXACT)
    huge = data.withColumn("x0", F.when(name == "b", 1e200 * F.col("x0")).otherwise(F.col("x0"))).drop("features")
    huge = VectorAssembler(inputCols=["x0", "x1"], outputCol="features").transform(huge)
    found = by_name(fit_each_series(search(), huge, ["kind.of"]))
    assert "condition numbers up to inf" in found["b"]["problem"]
    assert found["a"]["problem"] is found["late"]["problem"] is None


def test_a_thousand_series(spark):
    made = recipe.make_data(series=1000, days=35)
    data = recipe.prepare(made, spark=spark)
    try:
        found = recipe.run_one_pass(data, spark=spark, folds=1, candidates=2)
    finally:
        data["frame"].unpersist()
    metrics = []
    for penalty in recipe.penalties(2):
        models = [recipe.ScaledRidge(penalty).fit(X[:28], y[:28]) for X, y in zip(made["X"], made["y"], strict=True)]
        errors = [y[28:] - m.predict(X[28:]) for m, X, y in zip(models, made["X"], made["y"], strict=True)]
        metrics.append([np.sqrt(np.mean(error**2)) for error in errors])
    recipe.check(recipe.answer_of(np.argmin(metrics, axis=0), np.transpose(metrics)), found)
    assert sum(found["wins"]) == 1000


def test_weights_count(data):
    model = LinearRegression(weightCol="w")
    found = by_name(fit_each_series(search(model=model), data, ["kind.of"]))
    expected = search(TimeSeriesCrossValidator, model=model).fit(data.where(F.col("`kind.of`") == "b"))
    np.testing.assert_allclose(found["b"]["avgMetrics"], expected.avgMetrics, rtol=EXACT)


def test_jobs_do_not_grow_with_the_series(data, spark, jobs_so_far):
    def jobs(frame):
        before = jobs_so_far()
        fit_each_series(search(), frame, ["series"]).collect()
        return jobs_so_far() - before

    few = data.withColumn("series", F.lit(1)).localCheckpoint()
    many = data.crossJoin(spark.range(25)).withColumn("series", F.col("id")).coalesce(3).localCheckpoint()
    assert jobs(few) == jobs(many)


class Weighty(RegressionEvaluator):
    """May have a metric of its own."""


class Own(LinearRegression):
    """May fit in a way of its own."""


def test_what_makes_no_sense_is_refused_before_a_job(data):
    with pytest.raises(ValueError, match="by is empty"):
        fit_each_series(search(), data, [])
    with pytest.raises(ValueError, match="column of its own named 'Rows': rename"):
        fit_each_series(search(), data.withColumn("Rows", F.lit(1)), ["Rows"])
    with pytest.raises(ValueError, match="moments do not suffice: the estimator is Own and not Spark's own LinearRegr"):
        fit_each_series(search(model=Own()), data, ["kind.of"])
    with pytest.raises(ValueError, match="moments do not suffice: the evaluator is Weighty and not Spark's own Regr"):
        fit_each_series(search().setEvaluator(Weighty()), data, ["kind.of"])
    with pytest.raises(ValueError, match=r"candidate 0 has the param .*regParam, which belongs to no stage"):
        fit_each_series(search().setEstimator(LinearRegression()), data, ["kind.of"])
    with pytest.raises(ValueError, match="moments do not suffice: it needs loss='squaredError'"):
        fit_each_series(search(model=LinearRegression(loss="huber")), data, ["kind.of"])
    with pytest.raises(ValueError, match="the models of folds are not kept for series"):
        fit_each_series(search(collectSubModels=True), data, ["kind.of"])
    with pytest.raises(ValueError, match=r"candidate 0: regParam is -1\.0"):
        fit_each_series(search(model=LinearRegression(regParam=-1.0))._set(estimatorParamMaps=[{}]), data, ["kind.of"])


def test_scikit_learn_and_one_pass_give_the_same_answer(spark):
    data = recipe.prepare(recipe.make_data(series=6, days=90), spark=spark)
    try:
        expected = recipe.run_serial(data, folds=3, candidates=4)
        recipe.check(expected, recipe.run_loky(data, parallelism=2, folds=3, candidates=4))
        recipe.check(expected, recipe.run_one_pass(data, spark=spark, folds=3, candidates=4))
    finally:
        data["frame"].unpersist()
    with pytest.raises(AssertionError, match="wins"):
        recipe.check(expected, {**expected, "wins": [*expected["wins"][::-1], 0]})
    with pytest.raises(ValueError, match="more than 40 days"):
        recipe.validate(days=40, folds=4)
