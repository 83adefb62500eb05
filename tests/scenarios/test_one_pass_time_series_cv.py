# SPDX-License-Identifier: Apache-2.0
"""Time-series cross-validation in one pass: the answers of Spark's own fits, in one scan of the data."""

import itertools
import logging
import warnings
from datetime import date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import one_pass_time_series_cv as recipe
import pandas as pd
import pyarrow as pa
import pytest
import time_series_cv
from one_pass_time_series_cv import OnePassTimeSeriesCrossValidator
from pyspark.ml.evaluation import Evaluator, RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression, LinearRegressionModel
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F  # noqa: N812
from time_series_cv import TimeSeriesCrossValidator, TimeSeriesCrossValidatorModel

from tests.nightly import others_at_night

pytestmark = pytest.mark.spark
FIRST = date(2024, 1, 1)
EXACT = 1e-8  # relative


@pytest.fixture(scope="module")
def frame():
    """Forty days of ten rows: features of different scales, one of them correlated with another."""
    generator = np.random.default_rng(1)
    rows = 400
    x = generator.normal(size=(rows, 5)) * [1, 50, 0.02, 3, 1] + [0, 400, 1, -2, 0]
    x[:, 3] += 2 * x[:, 0]
    y = x @ [3, 0.1, 40, 0.5, 0] + generator.normal(size=rows)
    days = [FIRST + timedelta(days=int(k)) for k in np.sort(generator.integers(0, 40, rows))]
    days[0], days[-1] = FIRST, FIRST + timedelta(days=39)
    columns = {f"x{i}": x[:, i] for i in range(5)}
    weights = {"w": generator.integers(0, 3, rows).astype(float), "v": generator.random(rows) + 0.1}
    data = pd.DataFrame({"day": days, "number": range(rows), "label": y, **columns, **weights})
    return data.sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def data(spark, frame):
    rows = spark.createDataFrame(frame).repartition(3)
    assembled = VectorAssembler(inputCols=[f"x{i}" for i in range(5)], outputCol="features").transform(rows)
    return assembled.localCheckpoint()


@pytest.fixture(autouse=True)
def nothing_left_behind(spark):
    """Nothing cached and no tag is left."""
    context = spark.sparkContext
    cached = set(context._jsc.getPersistentRDDs())
    yield
    assert set(context._jsc.getPersistentRDDs()) - cached == set()
    assert set(context.getJobTags()) == set()


@pytest.fixture
def jobs(spark):
    """A function that counts the Spark jobs of a call, and their stages."""
    context = spark.sparkContext._jsc.sc()

    def listed():
        context.listenerBus().waitUntilEmpty()
        found = context.statusStore().jobsList(None)
        return {found.apply(i).jobId(): found.apply(i).stageIds().size() for i in range(found.size())}

    def count(call):
        before = listed()
        answer = call()
        new = [stages for job, stages in listed().items() if job not in before]
        return answer, len(new), sum(new)

    return count


def grid(estimator, **values):
    return [
        {getattr(estimator, name): value for name, value in zip(values, row, strict=True)}
        for row in itertools.product(*values.values())
    ]


def both(data, estimator, maps, metric="rmse", evaluator=None, **settings):
    """The model of one pass, and that of Spark's own fits."""
    settings = {"timeCol": "day", "horizon": 4, "numFolds": 3, **settings}
    evaluator = evaluator or RegressionEvaluator(metricName=metric)
    settings |= {"estimator": estimator, "estimatorParamMaps": maps, "evaluator": evaluator}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = OnePassTimeSeriesCrossValidator(**settings).fit(data)
    return ours, TimeSeriesCrossValidator(**settings).fit(data)


def assert_same(ours, theirs, exact=EXACT):
    metrics = [[result.metric for result in model.foldResults] for model in (ours, theirs)]
    np.testing.assert_allclose(metrics[0], metrics[1], rtol=exact)
    np.testing.assert_allclose(ours.avgMetrics, theirs.avgMetrics, rtol=exact)
    np.testing.assert_allclose(ours.stdMetrics, theirs.stdMetrics, rtol=1e-5)
    assert ours.bestIndex == theirs.bestIndex
    for mine, other in zip(ours.foldResults, theirs.foldResults, strict=True):
        assert (mine[:2], mine[5:]) == (other[:2], other[5:])
    if theirs.bestModel is not None:
        assert isinstance(ours.bestModel, LinearRegressionModel)
        expected = theirs.bestModel.coefficients.toArray()
        np.testing.assert_allclose(ours.bestModel.coefficients.toArray(), expected, rtol=exact, atol=1e-12)
        np.testing.assert_allclose(ours.bestModel.intercept, theirs.bestModel.intercept, rtol=exact)


# Answers ----------------------------------------------------------------------------------------------------


def test_nanoseconds_in_a_long_column_are_compared_as_they_are(data):
    """As doubles they are 256 apart, and rows just before a cutoff would be validated."""
    day = 86_400 * 10**9
    first = 1_700_000_000 // 86_400 * day
    last = F.expr("number % 3 = 0").cast("long") * (day - 1)
    rows = data.withColumn("day", F.lit(first) + F.floor(F.col("number") / 10).cast("long") * day + last)
    model = LinearRegression()
    cutoffs = [first + 20 * day, first + 30 * day]
    settings = {"estimator": model, "estimatorParamMaps": grid(model, regParam=[0.1, 1.0])}
    settings |= {"evaluator": RegressionEvaluator(), "timeCol": "day", "cutoffs": cutoffs}
    settings |= {"horizon": 5, "timeUnit": day}
    ours, theirs = (kind(**settings).fit(rows) for kind in (OnePassTimeSeriesCrossValidator, TimeSeriesCrossValidator))
    assert_same(ours, theirs)


def test_dates_that_are_written_as_numbers_are_told(data):
    numbered = data.withColumn("t", F.date_format("day", "yyyyMMdd").cast("int"))
    model = LinearRegression()
    settings = {"estimator": model, "evaluator": RegressionEvaluator(), "timeCol": "t", "horizon": 4, "numFolds": 1}
    with pytest.warns(UserWarning, match="times from 20240101 to 20240209 look like dates written as yyyymmdd") as told:
        OnePassTimeSeriesCrossValidator(**settings).fit(numbered)
    assert [warning.filename for warning in told] == [__file__]


def test_where_nobody_knows_the_slots_the_moments_have_a_bound(data, monkeypatch):
    """As with dynamic allocation: any number of tasks could send as much as each may."""
    monkeypatch.setattr(recipe, "_slots", lambda _: None)
    scan = recipe.Scan(data.repartition(200), LinearRegression(), RegressionEvaluator())
    assert scan._rows(F.col("day")).rdd.getNumPartitions() == recipe.TASKS
    assert scan.most_bytes * recipe.TASKS <= recipe.MOMENT_BYTES


@pytest.mark.parametrize(
    "rules",
    [pytest.param({}, marks=pytest.mark.slow), {"maxTrain": 9, "gap": 1, "stride": 2}],
    ids=["expanding", "sliding"],
)
def test_ridge_is_sparks(data, rules):
    estimator = LinearRegression()
    maps = grid(estimator, regParam=[0.0, 1.0], fitIntercept=[True, False], standardization=[True, False])
    assert_same(*both(data, estimator, maps, numFolds=2, **rules))


@pytest.mark.parametrize("metric", others_at_night(["mse", "r2", "var", "mae"], ["r2", "mae"]))
def test_metrics_are_sparks(data, metric):
    estimator = LinearRegression(regParam=0.1)
    assert_same(*both(data, estimator, grid(estimator, fitIntercept=[True, False]), metric, numFolds=2))


def test_a_feature_that_is_constant_gets_nothing(data):
    constant = data.withColumn("x4", F.lit(7.0)).drop("features")
    constant = VectorAssembler(inputCols=["x0", "x4"], outputCol="features").transform(constant)
    estimator = LinearRegression(regParam=0.1)
    ours, theirs = both(constant, estimator, [{}], numFolds=1)
    assert_same(ours, theirs)
    assert ours.bestModel.coefficients[1] == 0


def test_elastic_net_is_at_the_optimum_that_sparks_approaches(data):
    estimator = LinearRegression(tol=1e-14, maxIter=1000)
    maps = grid(estimator, regParam=[0.05, 1.0], elasticNetParam=[0.4, 1.0], standardization=[True, False])
    assert_same(*both(data, estimator, [*maps, {estimator.fitIntercept: False, **maps[0]}], numFolds=1), exact=1e-6)


@pytest.mark.parametrize(
    ("fit_weights", "metric_weights"),
    [
        pytest.param("w", None, marks=pytest.mark.slow),
        pytest.param(None, "v", marks=pytest.mark.slow),
        ("w", "v"),
        pytest.param("w", "w", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_weights_are_sparks(data, fit_weights, metric_weights):
    estimator = LinearRegression(**({"weightCol": fit_weights} if fit_weights else {}))
    for metric in ("r2", "mae"):
        evaluator = RegressionEvaluator(metricName=metric, **({"weightCol": metric_weights} if metric_weights else {}))
        assert_same(*both(data, estimator, grid(estimator, regParam=[0.0, 1.0]), evaluator=evaluator, numFolds=2))


def test_r2_through_the_origin(data):
    estimator = LinearRegression(fitIntercept=False)
    evaluator = RegressionEvaluator(metricName="r2", throughOrigin=True)
    assert_same(*both(data, estimator, grid(estimator, regParam=[0.1, 1.0]), evaluator=evaluator))


@pytest.mark.parametrize(("score", "weight"), [("raise", None), (-7.0, "v")])
def test_folds_of_one_label_have_no_r2(data, score, weight):
    """The second of three: a week in which nothing was sold. The penalty that is absurd would win as the first."""
    quiet = F.col("day").between(FIRST + timedelta(days=32), FIRST + timedelta(days=35))
    flat = data.withColumn("label", F.when(quiet, 0.0).otherwise(F.col("label")))
    estimator = LinearRegression()
    evaluator = RegressionEvaluator(metricName="r2", **({"weightCol": weight} if weight else {}))
    maps = grid(estimator, regParam=[1e4, 0.1])
    ours = search(estimator, estimatorParamMaps=maps, numFolds=3, errorScore=score)
    ours._set(evaluator=evaluator)
    done = "left out of the averages" if score == "raise" else r"given the errorScore -7\.0"
    told = rf"^r2 is not defined where all validation rows have one label: fold 1 \(.*, label 0\.0\)\. They are {done}$"
    with pytest.warns(UserWarning, match=told):
        found = ours.fit(flat)
    with pytest.warns(UserWarning, match=told):
        expected = ours._copyValues(TimeSeriesCrossValidator()).fit(flat)
    assert_same(found, expected)
    assert found.bestIndex == 1
    assert "r2 is not defined" in found.foldResults[2].error
    with pytest.raises(ValueError, match="There is no other fold: choose folds with rows of more than one label"):
        ours.fit(data.withColumn("label", F.lit(0.0)))


@pytest.mark.parametrize("refit", others_at_night(["all", "last", "none"], ["last"]))
def test_refit_and_weights_of_folds(data, refit):
    estimator = LinearRegression()
    settings = {"foldWeights": "rows", "refit": refit, "maxTrain": 12}
    assert_same(*both(data, estimator, grid(estimator, regParam=[0.1, 5.0]), **settings))


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        ("date", {"timeUnit": "week", "horizon": 1, "numFolds": 2}),
        pytest.param("date", {"timeUnit": "month", "horizon": 1, "numFolds": 1}, marks=pytest.mark.slow),
        pytest.param("timestamp", {}, marks=pytest.mark.slow),
        pytest.param("timestamp", {"timeUnit": "week", "horizon": 1}, marks=pytest.mark.slow),
        ("timestamp", {"timeUnit": "hour", "horizon": 48}),
        pytest.param(
            "timestamp", {"cutoffs": [datetime(2024, 1, 20, 7), datetime(2024, 2, 3, 1)]}, marks=pytest.mark.slow
        ),
        ("timestamp_ntz", {"timeUnit": "hour", "horizon": 48}),
        pytest.param("date", {"cutoffs": [date(2024, 1, 20), date(2024, 1, 22)], "gap": 1}, marks=pytest.mark.slow),
        ("long", {"timeUnit": 3, "horizon": 2}),
        pytest.param("byte", {"horizon": 5}, marks=pytest.mark.slow),
        ("double", {"timeUnit": 0.1, "horizon": 8}),
        ("product", {"timeUnit": 0.3, "horizon": 8}),
        pytest.param("long", {"timeUnit": 0.5, "horizon": 10}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_kind_of_time_gives_the_same_folds(data, kind, rules):
    days = F.datediff("day", F.lit(FIRST))
    if kind == "product":  # 46 * 0.3 is 13.799999999999999
        when = (days - 7) * F.lit(0.3)
    elif kind in ("long", "byte", "double"):
        when = (days - 7).cast(kind) / 10 if kind == "double" else (days - 7).cast(kind)
    else:
        when = F.col("day").cast("timestamp_ntz") + F.make_dt_interval(F.lit(0), F.col("number") % 24)
        when = when.cast(kind)
    timed = data.withColumn("t", when)
    estimator = LinearRegression()
    settings = {"timeCol": "t", **({"numFolds": None} if "cutoffs" in rules else {}), **rules}
    assert_same(*both(timed, estimator, grid(estimator, regParam=[0.1, 5.0]), **settings))


def test_sparse_and_dense_vectors_may_be_mixed(spark, frame):
    rows = [
        (row.day, row.label, Vectors.sparse(3, [0, 2], [row.x0, row.x2]) if row.number % 3 else Vectors.dense(row[3:6]))
        for row in frame.itertuples(index=False)
    ]
    mixed = spark.createDataFrame(rows, ["day", "label", "features"])
    estimator = LinearRegression()
    assert_same(*both(mixed, estimator, grid(estimator, regParam=[0.0, 1.0])))


def test_a_label_of_another_type_is_cast(data):
    estimator = LinearRegression()
    floats = data.withColumn("label", F.col("label").cast("float"))
    assert_same(*both(floats, estimator, grid(estimator, regParam=[0.0, 1.0])))


def test_a_label_that_is_constant_gives_the_mean(data):
    estimator = LinearRegression(regParam=0.1)
    ours, theirs = both(data.withColumn("label", F.lit(2.5)), estimator, [{}])
    assert ours.bestModel.coefficients == theirs.bestModel.coefficients == Vectors.dense([0.0] * 5)
    assert ours.bestModel.intercept == theirs.bestModel.intercept == 2.5
    assert ours.avgMetrics == theirs.avgMetrics == [0.0]


def offset_rows(frame, offset):
    """Label and features with few binary digits, so that an offset of whole numbers is added without rounding."""
    names = ["label", *(f"x{i}" for i in range(5))]
    rounded = frame[names].mul(2.0**20).round().div(2.0**20)
    return frame.assign(**{name: rounded[name] + offset for name in names})


@pytest.mark.parametrize("metric", ["rmse", "mae", "var"])
def test_offsets_of_a_hundred_million_cost_no_digits(spark, frame, metric):
    """Neither in the moments, nor where another pass predicts."""
    answers = []
    for offset in (0, 10**8):
        rows = spark.createDataFrame(offset_rows(frame, offset))
        assembled = VectorAssembler(inputCols=[f"x{i}" for i in range(5)], outputCol="features").transform(rows)
        estimator = LinearRegression()
        maps = grid(estimator, regParam=[0.0, 1.0]) + grid(estimator, regParam=[0.5], elasticNetParam=[0.7])
        answers.append(search(estimator, metric, estimatorParamMaps=maps).fit(assembled))
    metrics = [[result.metric for result in model.foldResults] for model in answers]
    np.testing.assert_allclose(metrics[1], metrics[0], rtol=1e-9)
    np.testing.assert_allclose(*[model.bestModel.coefficients.toArray() for model in answers], rtol=1e-9)


def test_train_windows_may_have_fewer_rows_than_features(spark):
    generator = np.random.default_rng(4)
    x = generator.normal(size=(240, 30)) * 10.0 ** generator.integers(-1, 2, 30)
    y = x[:, :4] @ [1.0, -2.0, 0.5, 3.0] + generator.normal(size=240)
    columns = {"day": np.arange(240) // 10, "label": y, "values": list(x)}
    made = spark.createDataFrame(pa.table(columns)).withColumn("features", array_to_vector("values")).drop("values")
    estimator = LinearRegression()
    maps = grid(estimator, regParam=[0.1, 1.0], standardization=[True, False])
    ours, theirs = both(made, estimator, maps, maxTrain=2, horizon=2, refit="last")
    assert {result.trainRows for result in ours.foldResults} == {20}
    assert_same(ours, theirs)


# One pass ---------------------------------------------------------------------------------------------------


def search(estimator=None, metric="rmse", **settings):
    estimator = estimator or LinearRegression()
    settings = {"timeCol": "day", "horizon": 4, "numFolds": 5, **settings}
    maps = settings.pop("estimatorParamMaps", grid(estimator, regParam=[0.1, 1.0, 10.0]))
    evaluator = RegressionEvaluator(metricName=metric)
    return OnePassTimeSeriesCrossValidator(
        estimator=estimator, estimatorParamMaps=maps, evaluator=evaluator, **settings
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 1), ({"refit": "last", "collectSubModels": True}, 1), ({"metric": "mae"}, 2), ({"maxTrain": 8}, 1)],
    ids=str,
)
def test_one_pass_is_one_job_of_one_stage(data, jobs, settings, expected):
    model, found, stages = jobs(lambda: search(**settings).fit(data))
    assert len(model.foldResults) == 15
    assert (found, stages) == (expected, expected)


@pytest.mark.parametrize(
    "rules",
    [{"timeUnit": "hour", "horizon": 48}, {"cutoffs": [datetime(2024, 1, 20, 7), datetime(2024, 2, 3, 1)]}],
    ids=["hours", "cutoffs"],
)
def test_where_a_query_finds_the_ends_there_is_one_pass_besides(spark, data, jobs, rules):
    timed = data.withColumn("t", F.col("day").cast("timestamp") + F.make_dt_interval(F.lit(0), F.col("number") % 24))
    settings = {"timeCol": "t", **({"numFolds": None} if "cutoffs" in rules else {}), **rules}
    _, found, _ = jobs(lambda: search(**settings).fit(timed))
    _, query, _ = jobs(lambda: timed.agg(F.min("t"), F.max("t")).collect())
    # Some versions of Spark start a job for a query of constants, of which there is one for the ends of windows.
    _, constants, _ = jobs(lambda: recipe._stored(spark, "timestamp", [datetime(2024, 1, 20)]))
    assert found == query + constants + 1


def test_vectors_travel_as_arrays(data):
    """Batches of vectors take Spark the longer to size up, after each row, the more rows they have."""
    rows = recipe.Scan(data, LinearRegression(), RegressionEvaluator())._rows(F.col("day"))
    assert [field.dataType.simpleString() for field in rows.schema] == ["date", "double", "array<double>"]


def test_rows_are_read_once(data, count_reads):
    watched, read = count_reads(data.select("day", "label", "features"))
    search(collectSubModels=True).fit(watched)
    assert read.value == data.count()


def test_too_many_units_for_the_memory_are_summed_up_by_stretches(data, jobs, monkeypatch, caplog):
    expected = search().fit(data)
    monkeypatch.setattr(recipe, "MOMENT_BYTES", 2 * 16 * 8 * 7**2)  # sixteen matrices in each of two tasks
    with caplog.at_level(logging.INFO, recipe.__name__):
        model, found, _ = jobs(lambda: search().fit(data))
    assert found > 1
    assert "moments of 8 stretches of time and 5 features take" in caplog.text
    np.testing.assert_allclose(model.avgMetrics, expected.avgMetrics, rtol=1e-12)
    monkeypatch.setattr(recipe, "MOMENT_BYTES", 2 * 4 * 8 * 7**2)
    with pytest.raises(ValueError, match=r"take fewer folds, raise one_pass_time_series_cv\.MOMENT_BYTES"):
        search().fit(data)


def test_what_the_moments_of_units_take_is_said_before_the_pass(data, caplog):
    with caplog.at_level(logging.INFO, recipe.__name__):
        search().fit(data)
        search(maxTrain=8).fit(data.withColumn("features", F.col("features")))
    assert "moments take 0.4 KB for each unit of time (day) in each task, and at most 461 MB there" in caplog.text


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("0", 2**30), ("2g", 2**30), ("1g", 0.9 * 2**30), ("512m", 0.9 * 2**29), ("100kb", 92160), ("1000", 900)],
)
def test_the_moments_never_take_more_than_spark_lets_tasks_send(setting, expected):
    session = SimpleNamespace(conf={"spark.driver.maxResultSize": setting})
    assert recipe._result_bytes(session) == pytest.approx(expected)


def test_the_model_transforms_is_saved_and_comes_back(data, tmp_path):
    estimator = LinearRegression(predictionCol="forecast", maxIter=7)
    evaluator = RegressionEvaluator(predictionCol="forecast")
    cv = search(estimator, collectSubModels=True).setEvaluator(evaluator)
    model = cv.fit(data)
    assert isinstance(model, TimeSeriesCrossValidatorModel)
    model.save(str(tmp_path / "model"))
    cv.save(str(tmp_path / "cv"))
    loaded = TimeSeriesCrossValidatorModel.load(str(tmp_path / "model"))
    assert loaded.foldResults == model.foldResults
    assert loaded.bestModel.getMaxIter() == 7
    assert loaded.bestModel.uid == model.bestModel.uid == estimator.uid
    forecasts = [m.transform(data).select("number", "forecast").collect() for m in (model, loaded)]
    assert forecasts[0] == forecasts[1]
    assert len(forecasts[0]) == 400
    again = OnePassTimeSeriesCrossValidator.load(str(tmp_path / "cv"))
    assert type(again) is OnePassTimeSeriesCrossValidator
    assert again.fit(data).avgMetrics == pytest.approx(model.avgMetrics, rel=1e-12)
    sub = model.subModels[0][1]
    window = model.foldResults[1]
    day = F.col("day")
    validation = data.where((day >= F.lit(window.validationFrom)) & (day < F.lit(window.validationTo)))
    assert evaluator.evaluate(sub.transform(validation)) == pytest.approx(window.metric, rel=EXACT)


def test_progress_tells_each_result(data):
    told = []
    model = search(progress=lambda result, done, total: told.append((result, done, total))).fit(data)
    assert told == [(result, number, 15) for number, result in enumerate(model.foldResults, 1)]


# Evaluators that have to be called -------------------------------------------------------------------------


class Pinball(Evaluator, DefaultParamsReadable, DefaultParamsWritable):
    """Mean pinball loss at 0.9; keeps the columns of each frame that it got."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def copy(self, extra=None):
        return self

    def _evaluate(self, dataset):
        self.seen.append(dataset.columns)
        error = F.col("label") - F.col("prediction")
        return dataset.agg(F.avg(F.greatest(0.9 * error, -0.1 * error))).first()[0]

    def isLargerBetter(self):
        return False


@pytest.mark.parametrize(
    "rules",
    [
        {},
        pytest.param({"stride": 2, "refit": "last"}, marks=pytest.mark.slow),
        {"stride": 6, "gap": 1, "maxTrain": 9, "foldWeights": "rows", "parallelism": 3, "foldParallelism": "pool"},
        pytest.param({"timeCol": "number", "horizon": 40}, marks=pytest.mark.slow),
        pytest.param({"timeCol": "clock", "timeUnit": "hour", "horizon": 40}, marks=pytest.mark.slow),
        {"timeCol": "wall", "cutoffs": [datetime(2024, 1, 20, 7), datetime(2024, 2, 3, 1, 0, 0, 5)]},
        pytest.param({"timeCol": "wall", "timeUnit": "week", "horizon": 1}, marks=pytest.mark.slow),
        pytest.param({"timeCol": "half", "horizon": 17, "timeUnit": 0.5}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_any_evaluator_is_called_with_the_predictions_that_the_models_would_make(data, rules):
    hours = F.make_dt_interval(F.lit(0), F.col("number") % 24)
    timed = data.withColumns(
        {
            "clock": F.col("day").cast("timestamp") + hours,
            "wall": F.col("day").cast("timestamp_ntz") + hours,
            "half": F.col("number") / 10,
        }
    )
    if "cutoffs" in rules:
        rules = {"numFolds": None, **rules}
    estimator, evaluator = LinearRegression(), Pinball()
    maps = grid(estimator, regParam=[0.0, 5.0], fitIntercept=[True, False])
    assert_same(*both(timed, estimator, maps, evaluator=evaluator, **rules))
    half = len(evaluator.seen) // 2
    assert sorted(evaluator.seen[:half]) == sorted(evaluator.seen[half:])


@pytest.mark.parametrize(
    "asked", [{"labelCol": "x1"}, {"predictionCol": "x2"}, {"labelCol": "x1", "weightCol": "v", "metricName": "mae"}]
)
def test_other_columns_than_the_estimators_are_evaluated(data, asked):
    estimator = LinearRegression(weightCol="w")
    assert_same(*both(data, estimator, grid(estimator, regParam=[0.1]), evaluator=RegressionEvaluator(**asked)))


class Mape(RegressionEvaluator):
    """Mean absolute percentage error, in the shortest way to a metric of one's own."""

    def _evaluate(self, dataset):
        return dataset.agg(F.avg(F.abs(1 - F.col("prediction") / F.col("label")))).first()[0]


def test_a_subclass_of_sparks_evaluator_is_called(data):
    estimator = LinearRegression()
    assert_same(*both(data, estimator, grid(estimator, regParam=[0.0, 5.0]), evaluator=Mape(), numFolds=2))


def test_validation_rows_without_weight_in_the_fit_are_evaluated(data):
    """The weights of a fit say nothing of an evaluator that is called."""
    held_out = F.col("day") >= F.lit(FIRST + timedelta(days=36))
    weighted = data.withColumn("z", F.when(held_out, 0.0).otherwise(F.col("v")))
    estimator = LinearRegression(weightCol="z")
    assert_same(*both(weighted, estimator, grid(estimator, regParam=[0.1]), evaluator=Pinball()))
    asked = search(estimator).setEvaluator(RegressionEvaluator(weightCol="z"))
    with pytest.raises(ValueError, match="only rows of weight 0"):
        asked.fit(weighted)


def test_an_evaluator_that_cannot_be_saved_is_told_before_the_pass(data, jobs):
    class Lost(Evaluator):
        def _evaluate(self, dataset):
            raise AssertionError("called")

    def told():
        with pytest.raises(UserWarning, match="neither this search nor its model can be saved: Lost in evaluator"):
            search().setEvaluator(Lost()).fit(data)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jobs(told)[1] == 0


def test_any_evaluator_takes_one_more_pass(data, jobs, count_reads):
    plain = data.select("day", "label", "features")
    watched, read = count_reads(plain)
    cv = search(numFolds=3).setEvaluator(Pinball())
    _, evaluating, _ = jobs(lambda: Pinball().evaluate(plain.withColumn("prediction", F.lit(1.0))))
    _, counting, _ = jobs(lambda: plain.cache().count())
    plain.unpersist()
    _, found, _ = jobs(lambda: cv.fit(watched))
    assert read.value == 2 * data.count()
    assert found == 1 + counting + 9 * evaluating


def test_an_evaluator_that_fails_names_fold_and_candidate_or_gets_its_score(data):
    class Fails(Pinball):
        def _evaluate(self, dataset):
            if not self.seen:
                return super()._evaluate(dataset)
            raise ArithmeticError("no such quantile")

    with pytest.raises(ArithmeticError, match="no such quantile") as raised:
        search(numFolds=2, parallelism=1).setEvaluator(Fails()).fit(data)
    assert "in fold 1 (" in raised.value.__notes__[0]  # the longest is the first
    assert "candidate 1 (regParam=1.0)" in raised.value.__notes__[0]
    with pytest.warns(UserWarning, match=r"5 of 6 fits failed and got the errorScore.*no such quantile"):
        model = search(numFolds=2, parallelism=1, errorScore=99.0).setEvaluator(Fails()).fit(data)
    assert [result.metric == 99.0 for result in model.foldResults] == [True, True, True, False, True, True]


def test_candidates_that_are_left_to_spark_are_evaluated_too(data):
    twice = VectorAssembler(inputCols=["features", "x0"], outputCol="both").transform(data)
    estimator = LinearRegression(featuresCol="both")
    cv = search(estimator, estimatorParamMaps=grid(estimator, regParam=[0.0, 1.0]), numFolds=2, collectSubModels=True)
    with pytest.warns(UserWarning, match=r"candidates \[0\] are left to TimeSeriesCrossValidator.*condition number"):
        ours = cv.setEvaluator(Pinball()).fit(twice)
    theirs = cv._copyValues(TimeSeriesCrossValidator()).fit(twice)
    np.testing.assert_allclose(ours.avgMetrics, theirs.avgMetrics, rtol=EXACT)
    row = Vectors.dense(np.arange(6.0))
    for mine, other in zip(*(itertools.chain(*model.subModels) for model in (ours, theirs)), strict=True):
        np.testing.assert_allclose(mine.predict(row), other.predict(row), rtol=EXACT)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Prediction", "have a column 'prediction' already: set the estimator's predictionCol"),
        ("__One_Pass_Fold", "have a column '__One_Pass_Fold', a name that this search needs: rename it"),
        ("__one_pass_predicted", "have a column '__one_pass_predicted', a name that this search needs: rename it"),
    ],
)
def test_a_column_of_the_predictions_name_is_refused_before_a_job(data, jobs, name, message):
    taken = data.withColumn(name, F.lit(0.0))

    def refused():
        with pytest.raises(ValueError, match=message):
            search().setEvaluator(Pinball()).fit(taken)

    assert jobs(refused)[1] == 0


# What moments cannot do -------------------------------------------------------------------------------------


def test_candidates_that_are_too_ill_conditioned_are_left_to_spark_and_it_says_so(data):
    twice = VectorAssembler(inputCols=["features", "x0"], outputCol="both").transform(data)
    estimator = LinearRegression(featuresCol="both")
    maps = grid(estimator, regParam=[0.0, 1.0])
    settings = {"estimatorParamMaps": maps, "numFolds": 2, "collectSubModels": True}
    with pytest.warns(UserWarning, match=r"candidates \[0\] are left to TimeSeriesCrossValidator.*condition number"):
        ours = search(estimator, **settings).fit(twice)
    settings |= {"estimator": estimator, "evaluator": RegressionEvaluator(), "timeCol": "day", "horizon": 4}
    theirs = TimeSeriesCrossValidator(**settings).fit(twice)
    np.testing.assert_allclose(ours.avgMetrics, theirs.avgMetrics, rtol=EXACT)
    assert ours.bestIndex == theirs.bestIndex
    assert [len(models) for models in ours.subModels] == [2, 2]
    assert ours.bestModel.numFeatures == 6


@pytest.mark.parametrize(("score", "rules"), [(float("nan"), {"numFolds": 5}), (99.0, {"numFolds": 1, "horizon": 20})])
def test_a_candidate_that_spark_refuses_gets_its_score_and_the_others_are_kept(data, score, rules):
    """A label that is constant in the first train window, with a penalty and without an intercept."""
    flat = data.withColumn("label", F.when(F.col("day") < F.lit(FIRST + timedelta(days=20)), 5.0).otherwise(data.label))
    estimator = LinearRegression(regParam=0.1)
    told = []
    ours = search(
        estimator,
        estimatorParamMaps=grid(estimator, fitIntercept=[True, False]),
        errorScore=score,
        collectSubModels=True,
        progress=lambda result, done, total: told.append((result.candidate, done, total)),
        **rules,
    )
    theirs = ours._copyValues(TimeSeriesCrossValidator())
    fits = 2 * rules["numFolds"]
    failed = f"^1 of {fits} fits failed and got the errorScore; the first is candidate 1 on fold 0"
    with pytest.warns(UserWarning, match=failed), pytest.warns(UserWarning, match=r"^candidates \[1\] are left"):
        found = ours.fit(flat)
    assert told == [(k % 2, k + 1, fits) for k in range(fits)]
    with pytest.warns(UserWarning, match=failed):
        expected = theirs.fit(flat)
    assert found.bestIndex == expected.bestIndex == 0
    np.testing.assert_allclose(found.avgMetrics, expected.avgMetrics, rtol=EXACT)
    assert np.isnan(found.avgMetrics[1]) == np.isnan(score)
    assert [result.error is None for result in found.foldResults] == [True, False, *[True] * (fits - 2)]
    assert [model is None for model in found.subModels[0]] == [False, True]


def test_where_spark_refuses_all_candidates_it_is_said(data):
    flat = data.withColumn("label", F.lit(5.0))
    estimator = LinearRegression(regParam=0.1, fitIntercept=False)
    cv = search(estimator, estimatorParamMaps=[{}], numFolds=1, errorScore=99.0)
    with pytest.warns(UserWarning, match="are left to Time"), pytest.raises(RuntimeError, match="1 of 1 fits failed"):
        cv.fit(flat)


@pytest.mark.parametrize(
    ("own", "tried", "reason"),
    [
        ({"solver": "l-bfgs"}, {}, "solver='auto' or 'normal'"),
        ({"loss": "huber"}, {}, "loss='squaredError'"),
        ({}, {"weightCol": "v"}, "the candidates differ in weightCol"),
    ],
)
def test_what_moments_do_not_tell_is_left_to_the_pool_and_it_says_so(data, own, tried, reason):
    estimator = LinearRegression(**own)
    settings = {"estimator": estimator, "evaluator": RegressionEvaluator(), "timeCol": "day", "horizon": 4}
    settings |= {"numFolds": 1, "estimatorParamMaps": [{estimator.getParam(name): tried[name] for name in tried}]}
    with pytest.warns(UserWarning, match=reason):
        ours = OnePassTimeSeriesCrossValidator(**settings).fit(data)
    assert ours.avgMetrics == pytest.approx(TimeSeriesCrossValidator(**settings).fit(data).avgMetrics, rel=1e-6)


class Halves(LinearRegression):
    """A subclass with a fit of its own."""

    def _fit(self, dataset):
        return super()._fit(dataset.withColumn("label", F.col("label") / 2))


def test_a_subclass_of_sparks_estimator_is_left_to_the_pool_and_it_says_so(data):
    cv = search(Halves(), estimatorParamMaps=[{}], numFolds=1)
    with pytest.warns(UserWarning, match=r"is Halves and not Spark's own LinearRegression\. All is left to TimeSeries"):
        ours = cv.fit(data)
    theirs = cv._copyValues(TimeSeriesCrossValidator()).fit(data)
    assert ours.avgMetrics == pytest.approx(theirs.avgMetrics, rel=EXACT)
    assert ours.bestModel.intercept == pytest.approx(theirs.bestModel.intercept, rel=EXACT)


@pytest.mark.parametrize("told", [True, False], ids=["told by metadata", "found by the pass"])
@pytest.mark.parametrize("unit", ["units", "stretches"])
def test_more_features_than_sparks_solver_takes_are_left_to_the_pool(data, monkeypatch, told, unit):
    monkeypatch.setattr(recipe, "MAX_FEATURES", 4)
    monkeypatch.setattr(recipe, "MOMENT_BYTES", 8)  # the pool needs no memory for moments
    features = F.col("features") if told else array_to_vector(vector_to_array("features"))
    wide = data.withColumn("features", features)
    rules = {"numFolds": 1} if unit == "units" else {"cutoffs": [date(2024, 2, 1)], "numFolds": None}
    estimator = LinearRegression()
    settings = {"estimatorParamMaps": [{estimator.regParam: 0.1}], **rules}
    with pytest.warns(UserWarning, match=r"there are 5 features, more than MAX_FEATURES=4\. All is left to Time"):
        found = search(estimator, **settings).fit(wide)
    assert len(found.foldResults) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("regParam", -0.1, r"candidate 1: regParam is -0\.1, give a number from 0 to inf"),
        ("regParam", float("nan"), "candidate 1: regParam is nan"),
        ("elasticNetParam", 1.5, r"candidate 1: elasticNetParam is 1\.5, give a number from 0 to 1"),
        (None, 0.1, "candidate 1 has the key 'regParam': give Params"),
    ],
)
def test_penalties_that_spark_would_refuse_are_refused_before_a_job(data, jobs, name, value, message):
    estimator = LinearRegression()
    maps = [{}, {estimator.getParam(name) if name else "regParam": value}]

    def refused():
        with pytest.raises(ValueError, match=message):
            search(estimator, estimatorParamMaps=maps).fit(data)

    assert jobs(refused)[1] == 0


def test_over_connect_models_of_folds_are_left_to_the_pool_before_a_pass(data, monkeypatch):
    monkeypatch.setattr(recipe, "is_remote", lambda: True)
    cv = search(collectSubModels=True, numFolds=1)
    with pytest.warns(UserWarning, match="over Spark Connect: leave out collectSubModels. All is left to Time"):
        model = cv.fit(data)
    assert [len(models) for models in model.subModels] == [3]


def test_rows_outside_of_the_folds_have_to_be_usable_too(data):
    """Unlike those of the pool, which never looks at them unless it fits all rows in the end."""
    holes = data.withColumn("label", F.when(F.col("day") != F.lit(FIRST + timedelta(days=37)), F.col("label")))
    settings = {"gap": 2, "horizon": 2, "numFolds": 1, "refit": "none"}
    ours = search(**settings)
    pool = ours._copyValues(TimeSeriesCrossValidator())
    assert np.isfinite(pool.fit(holes).avgMetrics).all()
    with pytest.raises(ValueError, match="labels that are null, NaN or infinite: fill or drop those rows"):
        ours.fit(holes)
    kept = holes.where("label is not null")
    assert ours.fit(kept).avgMetrics == pytest.approx(pool.fit(kept).avgMetrics, rel=EXACT)


def test_times_that_python_lacks_are_refused(data):
    open_end = F.when(F.col("number") == 17, F.expr("make_date(10000, 1, 1)")).otherwise(F.col("day"))
    with pytest.raises(ValueError, match="times outside of the years 1 to 9999, as open ends may be: filter"):
        search().fit(data.withColumn("day", open_end))


def test_values_whose_squares_are_infinite_are_left_to_spark_and_it_says_so(data):
    """Whose own fits have no metric either."""
    huge = data.withColumn("x1", F.when(F.col("number") == 17, 1e200).otherwise(F.col("x1"))).drop("features")
    huge = VectorAssembler(inputCols=["x0", "x1"], outputCol="features").transform(huge)
    left = pytest.warns(UserWarning, match=r"candidates \[0, 1, 2\] are left .* condition number inf on fold 0")
    with left, pytest.raises(ValueError, match="no candidate has an average metric other than NaN"):
        search(numFolds=1).fit(huge)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", None, "1 labels that are null, NaN or infinite"),
        ("label", float("nan"), "1 labels that are null, NaN or infinite"),
        ("x1", float("inf"), "1 feature vectors"),
        ("w", -1.0, "1 weights that are null, NaN, infinite or negative"),
        ("w", None, "1 weights"),
        ("day", None, "1 null or NaN in the time column"),
    ],
)
def test_rows_that_spark_refuses_are_refused_and_counted(data, column, value, message):
    bad = data.withColumn(column, F.when(F.col("number") == 17, F.lit(value)).otherwise(F.col(column)))
    assembler = VectorAssembler(inputCols=[f"x{i}" for i in range(5)], outputCol="bad", handleInvalid="keep")
    estimator = LinearRegression(featuresCol="bad", weightCol="w")
    with pytest.raises(ValueError, match=message):
        search(estimator).fit(assembler.transform(bad))


def test_data_without_rows_or_without_vectors_are_refused(data):
    with pytest.raises(ValueError, match="no rows"):
        search().fit(data.where("false"))
    with pytest.raises(ValueError, match="does not hold vectors: use VectorAssembler"):
        search(LinearRegression(featuresCol="x0")).fit(data)
    with pytest.raises(ValueError, match=r"fold 0 .* has no validation rows"):
        search(numFolds=2).fit(data.where("day < '2024-01-20' or day = '2024-02-09'"))
    with pytest.raises(ValueError, match="only rows of weight 0"):
        search(LinearRegression(weightCol="zero")).fit(data.withColumn("zero", F.lit(0.0)))


# The benchmark ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(spark):
    made = {name: recipe.SIZES["smoke"][name] for name in ("dataset", "days", "warehouses", "items")}
    rows = recipe.make_data(spark=spark, **made).cache()
    rows.count()
    yield rows
    rows.unpersist()


def test_the_variant_finds_what_spark_finds_one_fit_at_a_time(smoke):
    expected = time_series_cv.run_one_at_a_time(smoke, folds=2, candidates=2)
    found = recipe.run_one_pass(smoke, folds=2, candidates=2)
    recipe.check(expected, found)
    np.testing.assert_allclose(found["metrics"], expected["metrics"], rtol=EXACT)


def test_the_flights_have_the_metrics_of_the_pool(spark):
    flights = recipe.make_data(spark=spark)
    try:
        expected = time_series_cv.run_pool(flights, parallelism=2, folds=2, candidates=2)
        found = recipe.run_one_pass(flights, folds=2, candidates=2)
    finally:
        flights.unpersist()
    np.testing.assert_allclose(found["metrics"], expected["metrics"], rtol=EXACT)
    assert found["best"] == expected["best"]


@pytest.mark.slow
def test_five_hundred_features_and_ten_thousand_days(spark, caplog):
    """The moments of all days would take 20 GB: those of the stretches between ends of windows are kept instead."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20_000, 500)) * 10.0 ** generator.integers(-2, 3, 500)
    y = x @ (generator.normal(size=500) / x.std(axis=0)) + generator.normal(size=len(x))
    columns = {"number": np.arange(len(x)) // 2, "label": y, "values": list(x)}
    made = spark.createDataFrame(pa.table(columns)).withColumn("features", array_to_vector("values"))
    data = made.select("number", "label", "features").cache()
    model = LinearRegression()
    settings = {
        "estimator": model,
        "estimatorParamMaps": [{model.regParam: 0.01}, {model.regParam: 1.0}],
        "evaluator": RegressionEvaluator(),
        "timeCol": "number",
        "horizon": 500,
        "numFolds": 3,
    }
    with caplog.at_level(logging.INFO):
        found = OnePassTimeSeriesCrossValidator(**settings).fit(data)
    assert "moments of 6 stretches of time and 500 features take 12 MB" in caplog.text
    expected = TimeSeriesCrossValidator(**settings).fit(data)
    data.unpersist()
    np.testing.assert_allclose(found.avgMetrics, expected.avgMetrics, rtol=EXACT)
