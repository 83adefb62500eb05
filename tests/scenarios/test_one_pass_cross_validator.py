# SPDX-License-Identifier: Apache-2.0
"""K-fold cross-validation in one pass: what Spark's own CrossValidator finds, in one scan of the data."""

import warnings
from decimal import Decimal

import numpy as np
import one_pass_cross_validator as recipe
import one_pass_time_series_cv
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_pass_cross_validator import OnePassCrossValidator, without_each
from one_pass_time_series_cv import moments_by_key
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import BinaryClassificationEvaluator, Evaluator, RegressionEvaluator
from pyspark.ml.feature import RFormula, VectorAssembler
from pyspark.ml.functions import array_to_vector
from pyspark.ml.regression import LinearRegression, LinearRegressionModel
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel
from pyspark.sql import functions as F  # noqa: N812
from time_series_toys import Error, Mean

EXACT = 1e-8  # relative


@pytest.fixture(scope="module")
def data(spark):
    """Three hundred rows of features of different scales in three partitions, with weights and numbers of folds."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(300, 4)) * [1, 50, 0.02, 3] + [0, 400, 1, -2]
    columns = {f"x{i}": x[:, i] for i in range(4)}
    columns |= {"label": x @ [3, 0.1, 40, 0.5] + generator.normal(size=300), "w": generator.random(300) + 0.1}
    columns |= {"part": (np.arange(300) % 4).astype(np.int32)}
    rows = spark.createDataFrame(pa.table(columns)).repartition(3)
    assembled = VectorAssembler(inputCols=[f"x{i}" for i in range(4)], outputCol="features").transform(rows)
    return assembled.localCheckpoint()


def settings(metric="rmse", estimator=None, evaluator=None, **more):
    model = estimator or LinearRegression(tol=1e-12, maxIter=1000)
    grid = [
        {model.regParam: 0.0},
        {model.regParam: 0.3, model.fitIntercept: False},
        {model.regParam: 0.1, model.elasticNetParam: 0.5},
        {model.regParam: 2.0, model.standardization: False},
    ]
    score = evaluator or RegressionEvaluator(metricName=metric)
    return {"estimator": model, "estimatorParamMaps": grid, "evaluator": score, **more}


def both(data, **values):
    """The models that Spark's own class and this one give, the second without a warning."""
    expected = CrossValidator(parallelism=2, **values).fit(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return expected, OnePassCrossValidator(**values).fit(data)


# The others at night.
ON_PUSH = [("mae", "given"), ("r2", "drawn")]
PAIRS = [(metric, folds) for metric in ("rmse", "mse", "r2", "mae", "var") for folds in ("drawn", "given")]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("metric", "folds"), [pytest.param(*pair, marks=[] if pair in ON_PUSH else pytest.mark.slow) for pair in PAIRS]
)
def test_the_metrics_are_those_of_crossvalidator(data, metric, folds):
    rule = {"drawn": {"numFolds": 3, "seed": 7}, "given": {"numFolds": 4, "foldCol": "part"}}[folds]
    expected, found = both(data, **settings(metric, **rule))
    np.testing.assert_allclose(found.avgMetrics, expected.avgMetrics, rtol=1e-6)
    np.testing.assert_allclose(found.stdMetrics, expected.stdMetrics, rtol=1e-4)
    # Without a tolerance of Spark's own: its ridge regressions are solved exactly.
    exact = [0, 1, 3]
    np.testing.assert_allclose(np.take(found.avgMetrics, exact), np.take(expected.avgMetrics, exact), rtol=EXACT)
    assert type(found) is CrossValidatorModel
    assert isinstance(found.bestModel, LinearRegressionModel)
    for name in ("regParam", "elasticNetParam", "fitIntercept", "standardization"):
        assert found.bestModel.getOrDefault(name) == expected.bestModel.getOrDefault(name)
    np.testing.assert_allclose(found.bestModel.coefficients, expected.bestModel.coefficients, rtol=1e-6)
    assert found.bestModel.intercept == pytest.approx(expected.bestModel.intercept, rel=1e-6, abs=1e-9)


@pytest.mark.spark
def test_weights_of_the_fit_and_of_the_metric_are_each_their_own(data):
    model = LinearRegression(weightCol="w")
    for score in (RegressionEvaluator(), RegressionEvaluator(weightCol="w")):
        expected, found = both(data, **settings(estimator=model, evaluator=score, numFolds=4, foldCol="part"))
        exact = [0, 1, 3]
        np.testing.assert_allclose(np.take(found.avgMetrics, exact), np.take(expected.avgMetrics, exact), rtol=EXACT)


@pytest.mark.spark
def test_one_scan_however_many_folds_and_candidates(data, jobs_so_far):
    for folds in (2, 9):
        before = jobs_so_far()
        OnePassCrossValidator(**settings(numFolds=folds, seed=1)).fit(data)
        assert jobs_so_far() - before == 1
    before = jobs_so_far()
    OnePassCrossValidator(**settings("mae", numFolds=2, seed=1)).fit(data)
    assert jobs_so_far() - before == 2


class Bias(Evaluator):
    """Size of the mean error; keeps the columns of each frame that it got."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def copy(self, extra=None):
        return self

    def _evaluate(self, dataset):
        self.seen.append(dataset.columns)
        return dataset.agg(F.abs(F.avg(F.col("prediction") - F.col("label")))).first()[0]

    def isLargerBetter(self):
        return False


@pytest.mark.spark
@pytest.mark.parametrize(
    "folds", [{"foldCol": "part", "numFolds": 4}, {"numFolds": 2, "seed": 5}], ids=["given", "drawn"]
)
def test_any_evaluator_is_called_with_the_predictions_that_the_models_would_make(data, folds):
    evaluator = Bias()
    values = settings(evaluator=evaluator, **folds)
    expected, found = both(data, **values)
    np.testing.assert_allclose(found.avgMetrics, expected.avgMetrics, rtol=1e-6)
    assert evaluator.seen[4 * folds["numFolds"] :] == [[*data.columns, "prediction"]] * 4 * folds["numFolds"]


@pytest.mark.spark
@pytest.mark.parametrize("evaluator", [Bias, lambda: RegressionEvaluator(metricName="mae")], ids=["called", "mae"])
@pytest.mark.parametrize(
    ("folds", "cached", "passes"),
    [({"numFolds": 3, "seed": 1}, False, 1), ({"numFolds": 3, "seed": 1}, True, 1), ({"foldCol": "part"}, False, 2)],
    ids=["drawn", "cached", "given"],
)
def test_another_pass_reads_what_the_first_one_read(spark, data, count_reads, evaluator, folds, cached, passes):
    """Folds that are drawn are kept for it, unless the data are cached; those that are given need not be."""
    watched, read = count_reads(data.select("label", "features", "part"))
    if cached:
        watched.cache().count()
    before = set(spark.sparkContext._jsc.getPersistentRDDs())
    OnePassCrossValidator(**settings(evaluator=evaluator(), **{"numFolds": 4, **folds}), parallelism=3).fit(watched)
    assert read.value == passes * data.count()
    assert set(spark.sparkContext._jsc.getPersistentRDDs()) - before == set()
    watched.unpersist(blocking=True)


class Collects(Bias):
    """Keeps the numbers of all rows and what was predicted for them."""

    def _evaluate(self, dataset):
        self.seen.append(dataset.select("number", "prediction").toPandas())
        return 0.0


@pytest.mark.spark
def test_rows_that_come_in_another_order_stay_in_their_folds(spark):
    """Else most rows would be predicted by models that were fitted to them, and the metrics would be too good."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(90, 3)), generator.normal(size=90)
    columns = {"number": np.arange(90), "label": y, "values": list(x)}
    rows = spark.createDataFrame(pa.table(columns)).coalesce(1).localCheckpoint()

    def in_another_order(frames):
        for frame in frames:
            yield frame.sample(frac=1, random_state=np.random.default_rng())

    mixed = rows.mapInPandas(in_another_order, rows.schema).withColumn("features", array_to_vector("values"))
    model, evaluator = LinearRegression(), Collects()
    OnePassCrossValidator(
        estimator=model, estimatorParamMaps=[{model.regParam: 0.0}], evaluator=evaluator, numFolds=3, seed=1
    ).fit(mixed)
    assert sorted(number for frame in evaluator.seen for number in frame["number"]) == list(range(90))
    design = np.column_stack([np.ones(90), x])
    for frame in evaluator.seen:
        others = np.setdiff1d(np.arange(90), frame["number"])
        coefficients = np.linalg.lstsq(design[others], y[others])[0]
        np.testing.assert_allclose(frame["prediction"], design[frame["number"]] @ coefficients, rtol=1e-6, atol=1e-9)


class Says(Bias):
    """Returns what it was given, or raises an error of that kind."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def _evaluate(self, dataset):
        if isinstance(self.value, type):
            raise self.value("no such quantile")
        return self.value


@pytest.mark.spark
def test_an_evaluator_may_return_any_number_and_where_it_fails_is_said(spark, data):
    def fit(value):
        return OnePassCrossValidator(**settings(evaluator=Says(value), numFolds=2, seed=1)).fit(data)

    before = set(spark.sparkContext._jsc.getPersistentRDDs())
    assert fit(Decimal("1.5")).avgMetrics == [1.5] * 4
    for value, kind in ((None, TypeError), (ArithmeticError, ArithmeticError)):
        with pytest.raises(kind) as raised:
            fit(value)
        assert raised.value.__notes__ == ["in fold 0, candidate 0 (regParam=0.0)"]
    assert set(spark.sparkContext._jsc.getPersistentRDDs()) - before == set()


class Mape(RegressionEvaluator):
    """Mean absolute percentage error, in the shortest way to a metric of one's own."""

    def _evaluate(self, dataset):
        return dataset.agg(F.avg(F.abs(1 - F.col("prediction") / F.col("label")))).first()[0]


class Halves(LinearRegression):
    """A subclass with a fit of its own."""

    def _fit(self, dataset):
        return super()._fit(dataset.withColumn("label", F.col("label") / 2))


@pytest.mark.spark
def test_subclasses_are_taken_for_what_they_are(data):
    expected, found = both(data, **settings(evaluator=Mape(), numFolds=4, foldCol="part"))
    np.testing.assert_allclose(found.avgMetrics, expected.avgMetrics, rtol=1e-6)
    halves = settings(estimator=Halves(), numFolds=2, seed=1) | {"estimatorParamMaps": [{}]}
    with pytest.warns(UserWarning, match=r"is Halves and not Spark's own LinearRegression\. All is left to CrossVal"):
        found = OnePassCrossValidator(**halves).fit(data)
    assert found.avgMetrics == pytest.approx(CrossValidator(**halves).fit(data).avgMetrics)


@pytest.mark.spark
def test_folds_of_one_class_are_told_and_left_out(data):
    two = data.withColumn("label", ((F.col("x0") > 0) & (F.col("part") != 0)).cast("double"))
    rule = {"numFolds": 4, "foldCol": "part"}
    values = settings(evaluator=BinaryClassificationEvaluator(rawPredictionCol="prediction"), **rule)
    told = r"^areaUnderROC is not defined where all rows of a fold have one class: fold 0 \(label 0\.0\)\. The averages"
    with pytest.warns(UserWarning, match=told) as warned:
        found = OnePassCrossValidator(**values).fit(two)
    assert [warning.filename for warning in warned] == [__file__]
    counted = np.array(CrossValidator(**values).fit(two).avgMetrics)  # 0 or 1 for that fold
    left_out = 4 * counted - 3 * np.array(found.avgMetrics)
    exact = left_out[[0, 1, 3]]  # without a tolerance of Spark's own
    assert np.allclose(exact, 0.0, atol=1e-6) or np.allclose(exact, 1.0)
    with pytest.raises(ValueError, match=r"fold 0 \(label 0.0\), fold 1 .* There is no other fold: take fewer folds"):
        OnePassCrossValidator(**values).fit(two.withColumn("label", F.lit(0.0)))


@pytest.mark.spark
def test_models_are_collected_saved_and_predict(data, tmp_path):
    values = settings(numFolds=3, seed=7, collectSubModels=True)
    expected, found = both(data, **values)
    assert [len(row) for row in found.subModels] == [4, 4, 4]
    for ours, theirs in zip(found.subModels[2], expected.subModels[2], strict=True):
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients, rtol=1e-5)
        assert ours.intercept == pytest.approx(theirs.intercept, rel=1e-5, abs=1e-9)
    found.save(str(tmp_path / "model"))
    again = CrossValidatorModel.load(str(tmp_path / "model"))
    assert again.avgMetrics == found.avgMetrics
    predicted = found.transform(data).agg(F.sum("prediction")).first()[0]
    assert again.transform(data).agg(F.sum("prediction")).first()[0] == pytest.approx(predicted)
    OnePassCrossValidator(**values).save(str(tmp_path / "search"))
    assert OnePassCrossValidator.load(str(tmp_path / "search")).getNumFolds() == 3


class Mine(OnePassCrossValidator):
    """A subclass, as people write them."""


@pytest.mark.parametrize("kind", [OnePassCrossValidator, Mine])
def test_without_a_seed_the_folds_are_those_of_crossvalidator(kind):
    assert kind(numFolds=4).getSeed() == CrossValidator().getSeed()
    assert not kind().isSet("seed")
    assert (kind(numFolds=4, seed=3).getNumFolds(), kind(seed=3).getSeed()) == (4, 3)


@pytest.mark.spark
@pytest.mark.parametrize("evaluator", [RegressionEvaluator, Error])
def test_a_saved_search_comes_back_as_what_it_was(data, tmp_path, evaluator):
    """To PySpark it is a plain CrossValidator, also inside of a pipeline."""
    search = OnePassCrossValidator(**settings(evaluator=evaluator(), numFolds=2, seed=7), parallelism=3)
    path = str(tmp_path / "search")
    search.save(path)
    search.write().overwrite().save(path)
    for kind in (OnePassCrossValidator, Mine, CrossValidator):
        back = kind.load(path)
        assert type(back) is kind
        assert (back.uid, back.getEstimator().uid) == (search.uid, search.getEstimator().uid)
        assert type(back.getEvaluator()) is evaluator
        assert back.getEstimatorParamMaps() == search.getEstimatorParamMaps()
        assert (back.getNumFolds(), back.getSeed(), back.getParallelism()) == (2, 7, 3)
    again = OnePassCrossValidator.load(path).fit(data)
    assert again.avgMetrics == pytest.approx(search.fit(data).avgMetrics, rel=EXACT)
    Pipeline(stages=[search]).save(str(tmp_path / "pipeline"))
    (stage,) = Pipeline.load(str(tmp_path / "pipeline")).getStages()
    assert (type(stage), stage.getSeed()) == (CrossValidator, 7)


@pytest.mark.spark
def test_a_grid_of_numpys_numbers_is_saved(data, tmp_path):
    model = LinearRegression()
    grid = [{model.maxIter: np.int64(5), model.fitIntercept: np.bool_(True), model.regParam: np.float32(0.5)}]
    search = OnePassCrossValidator(**settings(estimator=model, numFolds=2) | {"estimatorParamMaps": grid})
    search.save(str(tmp_path / "search"))
    search.fit(data).save(str(tmp_path / "model"))
    for kind, name in ((OnePassCrossValidator, "search"), (CrossValidatorModel, "model")):
        (params,) = kind.load(str(tmp_path / name)).getEstimatorParamMaps()
        expected = {"maxIter": 5, "fitIntercept": True, "regParam": 0.5}
        assert {param.name: value for param, value in params.items()} == expected


@pytest.mark.spark
def test_what_moments_do_not_tell_is_left_to_crossvalidator_and_said(data):
    model = LinearRegression(loss="huber", maxIter=5)
    plain = {"estimator": model, "estimatorParamMaps": [{model.regParam: 0.1}], "evaluator": RegressionEvaluator()}
    with pytest.warns(UserWarning, match=r"moments do not suffice: it needs loss='squaredError'.*left to CrossValid"):
        found = OnePassCrossValidator(**plain, numFolds=2, seed=1).fit(data)
    assert found.avgMetrics == pytest.approx(CrossValidator(**plain, numFolds=2, seed=1).fit(data).avgMetrics)
    numbers = {**plain, "estimatorParamMaps": [{model.regParam: np.float32(0.1), model.maxIter: np.int32(5)}]}
    with pytest.warns(UserWarning, match="left to CrossValidator"):
        again = OnePassCrossValidator(**numbers, numFolds=2, seed=1).fit(data)
    assert again.avgMetrics == pytest.approx(found.avgMetrics)
    twice = VectorAssembler(inputCols=["x0", "x1", "x0"], outputCol="twice").transform(data)
    ridge = LinearRegression(featuresCol="twice", regParam=0.0)
    collinear = {**plain, "estimator": ridge, "estimatorParamMaps": [{ridge.regParam: 0.0}]}
    with pytest.warns(UserWarning, match="more than MAX_CONDITION"):
        OnePassCrossValidator(**collinear, numFolds=2, seed=1).fit(twice)


@pytest.mark.spark
def test_rows_and_folds_that_cannot_be_used_are_refused_in_one_line(data):
    def fit(frame, **more):
        return OnePassCrossValidator(**settings(**{"numFolds": 4, "foldCol": "part", **more})).fit(frame)

    with pytest.raises(ValueError, match="fold numbers outside of 0 to 2, or nulls"):
        fit(data, numFolds=3)
    with pytest.raises(ValueError, match="fold numbers outside of 0 to 3, or nulls"):
        fit(data.withColumn("part", F.when(F.col("x0") > 0, F.col("part"))))
    with pytest.raises(ValueError, match="fold numbers outside of 0 to 3, or nulls, or fractions"):
        fit(data.withColumn("part", F.col("part") + F.when(F.col("x0") > 0, 0.5).otherwise(0.0)))
    for kind, column in (("string", F.col("part").cast("string")), ("boolean", F.col("part") > 1)):
        with pytest.raises(ValueError, match=f"the fold column 'part' is {kind}: give numbers of folds, from 0"):
            fit(data.withColumn("part", column))
    with pytest.raises(ValueError, match="the data have no column 'prat'"):
        fit(data, foldCol="prat")
    with pytest.raises(ValueError, match="fold 4 of 5 has no rows: take fewer folds"):
        fit(data, numFolds=5)
    with pytest.raises(ValueError, match="labels that are null, NaN or infinite"):
        fit(data.withColumn("label", F.when(F.col("x0") > 0, F.col("label"))))
    for column in (F.col("label").cast("string"), F.col("label") > 0):  # as Spark refuses them
        with pytest.raises(ValueError, match=r"the column label is (string|boolean): LinearRegression takes numbers"):
            fit(data.withColumn("label", column))


@pytest.mark.spark
def test_moments_that_are_too_many_or_too_wide_are_left_to_crossvalidator_and_said(data, monkeypatch):
    model = LinearRegression()
    plain = {"estimator": model, "estimatorParamMaps": [{model.regParam: 0.1}], "evaluator": RegressionEvaluator()}
    search = OnePassCrossValidator(**plain, numFolds=2, seed=1)
    expected = search.fit(data).avgMetrics
    with monkeypatch.context() as patch:
        patch.setattr(one_pass_time_series_cv, "MOMENT_BYTES", 1000)
        with pytest.warns(UserWarning, match="those of 2 folds and 4 features take more than .*left to CrossValidator"):
            assert search.fit(data).avgMetrics == pytest.approx(expected, rel=EXACT)
    monkeypatch.setattr(one_pass_time_series_cv, "MAX_FEATURES", 3)
    with pytest.warns(UserWarning, match="there are 4 features, more than MAX_FEATURES=3. All is left to CrossVal"):
        assert search.fit(data).avgMetrics == pytest.approx(expected, rel=EXACT)
    rows = data.select("label", F.col("features").alias("features", metadata={"numFeatures": "4"}))  # of libsvm's files
    with pytest.warns(UserWarning, match="there are 4 features, more than MAX_FEATURES=3. All is left to CrossVal"):
        search.fit(rows)
    monkeypatch.setattr(recipe, "is_remote", lambda: True)
    with pytest.warns(UserWarning, match="over Spark Connect. All is left to CrossValidator"):
        assert search.fit(data).avgMetrics == pytest.approx(expected, rel=EXACT)


@pytest.mark.spark
def test_what_makes_no_sense_is_refused_in_one_line(data):
    model = LinearRegression()
    for more, message in (
        ({"estimatorParamMaps": []}, "estimatorParamMaps is empty"),
        ({"estimatorParamMaps": [{model.regParam: -0.1}]}, r"candidate 0: regParam is -0\.1"),
        ({"estimatorParamMaps": [{"regParam": 0.1}]}, "candidate 0 has the key 'regParam': give Params"),
        ({"estimatorParamMaps": [{LinearRegression().regParam: 0.1}]}, "candidate 0 has the param .*which belongs"),
        ({"numFolds": 1}, "numFolds=1 leaves nothing to train on: give 2 or more"),
        ({"numFolds": 1, "foldCol": "part"}, "numFolds=1 leaves nothing to train on"),
    ):
        with pytest.raises(ValueError, match=message):
            OnePassCrossValidator(**(settings(estimator=model, numFolds=2) | more)).fit(data)


@pytest.mark.spark
def test_folds_of_one_label_have_no_r2_and_are_left_out(data):
    """Spark's r2 of them is -inf or NaN for each candidate, and the first one would win."""
    zeros = data.withColumn("label", F.when(F.col("part") == 0, 0.0).otherwise(F.col("label")))
    model = LinearRegression()
    maps = [{model.regParam: 1e6, model.elasticNetParam: 1.0}, {model.regParam: 0.1}]
    plain = {"estimator": model, "estimatorParamMaps": maps, "foldCol": "part", "numFolds": 4}
    search = OnePassCrossValidator(**plain, evaluator=RegressionEvaluator(metricName="r2"))
    told = (
        r"^r2 is not defined where all rows of a fold have one label: fold 0 \(label 0\.0\)\. The averages leave them"
    )
    with pytest.warns(UserWarning, match=told) as warned:
        found = search.fit(zeros)
    assert [warning.filename for warning in warned] == [__file__]
    assert found.bestModel.getRegParam() == 0.1
    evaluator, scored = search.getEvaluator(), []
    for part in (1, 2, 3):
        chosen = model.fit(zeros.where(F.col("part") != part), maps[1])
        scored.append(evaluator.evaluate(chosen.transform(zeros.where(F.col("part") == part))))
    assert found.avgMetrics[1] == pytest.approx(np.mean(scored), rel=EXACT)
    with pytest.raises(ValueError, match="There is no other fold: take fewer folds, or rows of more than one label"):
        search.fit(data.withColumn("label", F.lit(0.0)))


LEFT = pytest.mark.filterwarnings("ignore:moments do not suffice")


@pytest.mark.spark
@LEFT
def test_crossvalidator_leaves_out_folds_of_one_label_too(data):
    """By itself it has r2 of -inf for each candidate, and takes the first one."""
    zeros = data.withColumn("label", F.when(F.col("part") == 0, 0.0).otherwise(F.col("label"))).drop("features")
    model = LinearRegression()
    maps = [{model.regParam: 1e6, model.elasticNetParam: 1.0}, {model.regParam: 0.1}]
    vectors = VectorAssembler(inputCols=[f"x{i}" for i in range(4)], outputCol="features")
    plain = {"estimatorParamMaps": maps, "foldCol": "part", "numFolds": 4, "parallelism": 2}
    plain |= {"evaluator": RegressionEvaluator(metricName="r2")}
    told = (
        r"^r2 is not defined where all rows of a fold have one label: fold 0 \(label 0\.0\)\. The averages leave them"
    )
    with pytest.warns(UserWarning, match=told) as warned:
        found = OnePassCrossValidator(estimator=Pipeline(stages=[vectors, model]), **plain).fit(zeros)
    assert {warning.filename for warning in warned if warning.category is UserWarning} == {__file__}
    assert found.getEvaluator() is plain["evaluator"]
    assert found.bestModel.stages[1].getRegParam() == 0.1
    with pytest.warns(UserWarning, match=told):
        expected = OnePassCrossValidator(estimator=model, **plain).fit(vectors.transform(zeros))
    np.testing.assert_allclose(found.avgMetrics, expected.avgMetrics, rtol=1e-6)
    np.testing.assert_allclose(found.stdMetrics, expected.stdMetrics, rtol=1e-6)
    with pytest.raises(ValueError, match="There is no other fold: take fewer folds, or rows of more than one label"):
        OnePassCrossValidator(estimator=Pipeline(stages=[vectors, model]), **plain).fit(
            zeros.withColumn("label", F.lit(0.0))
        )


class SaysBias(Evaluator):
    """Says what a model adds to the mean: a value for each candidate."""

    def __init__(self, larger):
        super().__init__()
        self.larger = larger

    def _evaluate(self, dataset):
        return dataset.first()["prediction"] - dataset.first()["label"]

    def isLargerBetter(self):
        return self.larger


@pytest.mark.spark
@LEFT
@pytest.mark.parametrize("larger", [True, False])
def test_a_candidate_whose_metric_is_nan_does_not_win_in_crossvalidator(data, larger):
    model = Mean()
    ones = data.withColumn("label", F.lit(1.0))
    maps = [{model.bias: bias} for bias in (2.0, float("nan"), 3.0)]
    plain = {"estimator": model, "evaluator": SaysBias(larger), "foldCol": "part", "numFolds": 4}
    found = OnePassCrossValidator(estimatorParamMaps=maps, **plain).fit(ones)
    assert found.bestModel.getOrDefault("bias") == (3.0 if larger else 2.0)
    with pytest.raises(ValueError, match="no candidate has an average metric other than NaN or"):
        OnePassCrossValidator(estimatorParamMaps=maps[1:2], **plain).fit(ones)


@pytest.mark.spark
def test_fits_that_are_left_to_crossvalidator_see_no_random_numbers(data):
    linear = LinearRegression()
    model = Pipeline(stages=[RFormula(formula="label ~ ."), linear])
    search = OnePassCrossValidator(
        estimator=model,
        estimatorParamMaps=[{linear.regParam: 0.1}],
        evaluator=RegressionEvaluator(),
        numFolds=2,
        seed=1,
        collectSubModels=True,
    )
    with pytest.warns(UserWarning, match="the estimator is Pipeline"):
        found = search.fit(data.drop("features"))
    assert [models[0].stages[-1].numFeatures for models in found.subModels] == [6, 6]  # x0 to x3, w and part


@given(
    seed=st.integers(0, 10_000),
    folds=st.integers(2, 7),
    offset=st.sampled_from([0.0, 1e8]),
    weighted=st.booleans(),
)
def test_the_moments_of_all_other_folds_are_those_of_their_rows(seed, folds, offset, weighted):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(folds * 6, 3)) + offset
    keys = np.arange(len(rows)) % folds
    weights = generator.random(len(rows)) + 0.1 if weighted else None
    _, groups = moments_by_key(keys, rows, weights)
    for fold, others in enumerate(without_each(groups)):
        kept = keys != fold
        _, expected = moments_by_key(np.zeros(kept.sum(), int), rows[kept], None if weights is None else weights[kept])
        np.testing.assert_allclose(others.weight, expected.weight, rtol=1e-12)
        np.testing.assert_allclose(others.scatter, expected.scatter, rtol=1e-6, atol=1e-9)
        means = [part.point + part.shift for part in (others, expected)]
        np.testing.assert_allclose(*means, rtol=1e-12, atol=1e-12)


@pytest.mark.spark
def test_scikit_learn_spark_and_one_pass_give_the_same_answer(spark):
    data = recipe.prepare(recipe.make_data(rows=500, folds=3), spark=spark)
    try:
        expected = recipe.run_serial(data, candidates=4)
        for found in (
            recipe.run_loky(data, parallelism=2, candidates=4),
            recipe.run_cross_validator(data, spark=spark, parallelism=2, folds=3, candidates=4),
            recipe.run_one_pass(data, spark=spark, folds=3, candidates=4),
        ):
            recipe.check(expected, found)
    finally:
        data["frame"].unpersist()
    with pytest.raises(AssertionError):
        recipe.check(expected, {**expected, "avgMetrics": [m * (1 + 1e-7) for m in expected["avgMetrics"]]})
    with pytest.raises(ValueError, match="choose 2 to 25 for 500 rows"):
        recipe.validate(rows=500, folds=26)
