# SPDX-License-Identifier: Apache-2.0
"""TimeSeriesCrossValidator passes what PySpark's tests ask of CrossValidator (pyspark.ml.tests.tuning).

They are about params, copies and saving.
"""

import gc
import json
import math
import warnings
from datetime import date, datetime

import numpy as np
import pytest
import time_series_cv as recipe
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression, OneVsRest
from pyspark.ml.evaluation import MulticlassClassificationEvaluator, RegressionEvaluator
from pyspark.ml.feature import SQLTransformer, VectorAssembler
from pyspark.ml.linalg import DenseMatrix, Matrices, Vectors
from pyspark.ml.param import Param, Params
from pyspark.ml.regression import LinearRegression, LinearRegressionModel
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder
from time_series_cv import TimeSeriesCrossValidator, TimeSeriesCrossValidatorModel
from time_series_toys import Calls, CallsModel, Error, Mean, MeanModel, ValueOf

from tests.nightly import others_at_night

pytestmark = pytest.mark.spark

SETTINGS = {
    "timeCol": "time",
    "timeUnit": "week",
    "numFolds": 4,
    "horizon": 2,
    "gap": 1,
    "stride": 3,
    "initialTrain": 5,
    "maxTrain": 6,
    "anchor": "start",
    "parallelism": 7,
    "foldParallelism": "fold",
    "foldWeights": "rows",
    "errorScore": 0.5,
    "refit": "last",
    "collectSubModels": True,
    "cacheData": False,
}


@pytest.fixture(scope="module")
def data(spark):
    """Thirty rows of the line label = 2 x + 1."""
    rows = [(float(k), float(k), 2.0 * k + 1, Vectors.dense(float(k))) for k in range(30)]
    return spark.createDataFrame(rows, ["time", "x", "label", "features"]).coalesce(1).localCheckpoint()


def values(instance):
    """For each param, whether it is set, and its value, set or default."""
    skip = ("estimator", "evaluator", "estimatorParamMaps")
    return {
        param.name: (instance.isSet(param), instance.getOrDefault(param) if instance.isDefined(param) else None)
        for param in instance.params
        if param.name not in skip
    }


# Params -----------------------------------------------------------------------------------------------------


def test_keyword_arguments_and_set_params_are_the_same(spark):
    ours, theirs = TimeSeriesCrossValidator(**SETTINGS), TimeSeriesCrossValidator()
    assert theirs.setParams(**SETTINGS) is theirs
    assert values(ours) == values(theirs)
    assert {name: ours.getOrDefault(name) for name in SETTINGS} == SETTINGS
    with pytest.raises(TypeError):
        TimeSeriesCrossValidator("time")
    for build in (TimeSeriesCrossValidator, TimeSeriesCrossValidator().setParams):
        with pytest.raises(TypeError, match="horizen"):
            build(horizen=3)


def test_defaults(spark):
    cv = TimeSeriesCrossValidator()
    assert (cv.getNumFolds(), cv.getParallelism(), cv.getCollectSubModels()) == (3, 1, False)
    assert cv.getEstimatorParamMaps() == [{}]
    assert not cv.isDefined("horizon")
    assert cv.getOrDefault("foldParallelism") == "pool"
    assert all(param.doc and param.name in cv.explainParams() for param in cv.params)


def test_accessors_of_cross_validator(spark):
    estimator, evaluator = Mean(), Error()
    cv = TimeSeriesCrossValidator()
    maps = [{estimator.bias: 1.0}]
    cv.setEstimator(estimator).setEvaluator(evaluator).setEstimatorParamMaps(maps)
    cv.setNumFolds(5).setParallelism(2).setCollectSubModels(True)
    assert (cv.getEstimator(), cv.getEvaluator(), cv.getEstimatorParamMaps()) == (estimator, evaluator, maps)
    assert (cv.getNumFolds(), cv.getParallelism(), cv.getCollectSubModels()) == (5, 2, True)
    ours = {name for name in dir(cv) if name.startswith(("get", "set"))}
    theirs = {name for name in dir(CrossValidator) if name.startswith(("get", "set"))}
    assert theirs - ours == {"getFoldCol", "setFoldCol", "getSeed", "setSeed"}  # nothing is random here


def test_none_takes_a_setting_back(spark):
    cv = TimeSeriesCrossValidator(horizon=3, maxTrain=None)
    assert not cv.isDefined("maxTrain")
    assert not cv.setParams(horizon=None).isDefined("horizon")
    assert cv.setParams(numFolds=None).getNumFolds() == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("horizon", "stride", "initialTrain", "maxTrain", "parallelism")
            for value in (0, 1.5)
        ),
        ("numFolds", -1),
        ("gap", -1),
        ("gap", "1"),
        ("horizon", True),
        ("timeUnit", "days"),
        ("timeUnit", 0),
        ("timeUnit", -0.5),
        ("timeUnit", float("nan")),
        ("timeCol", 3),
        ("anchor", "middle"),
        ("foldParallelism", "all"),
        ("foldWeights", None.__class__),
        ("refit", True),
        ("errorScore", "ignore"),
        ("collectSubModels", "yes"),
        ("cacheData", 1),
        ("cutoffs", []),
        ("cutoffs", "2024-01-01"),
        ("cutoffs", [3, 2]),
        ("cutoffs", [3, 3]),
        ("cutoffs", ["2024-01-01", 3]),
        ("cutoffs", ["yesterday"]),
        ("cutoffs", ["2024-01-01T00:00:00+01:00"]),
    ],
)
def test_every_setting_is_checked_when_it_is_set(spark, name, value):
    cv = TimeSeriesCrossValidator()
    for attempt in (
        lambda: cv.setParams(**{name: value}),
        lambda: cv.set(cv.getParam(name), value),
        lambda: cv.copy({cv.getParam(name): value}),
        lambda: TimeSeriesCrossValidator(**{name: value}),
    ):
        with pytest.raises((ValueError, TypeError)):
            attempt()
    assert not cv.isSet(name)


def test_cutoffs_are_kept_as_text_or_numbers(spark):
    cv = TimeSeriesCrossValidator(cutoffs=[date(2024, 1, 1), datetime(2024, 1, 1, 12), "2024-01-02"])
    assert cv.getOrDefault("cutoffs") == ["2024-01-01T00:00:00", "2024-01-01T12:00:00", "2024-01-02T00:00:00"]
    assert TimeSeriesCrossValidator(cutoffs=np.array([1, 2.5])).getOrDefault("cutoffs") == [1, 2.5]


def test_settings_are_checked_together_when_fitted(data):
    cv = TimeSeriesCrossValidator(estimator=Mean(), evaluator=Error(), timeCol="time", horizon=2, cutoffs=[20])
    assert len(cv.fit(data).foldResults) == 1
    with pytest.raises(ValueError, match="numFolds=2 contradicts"):
        cv.fit(data, {cv.numFolds: 2})


# Copies -----------------------------------------------------------------------------------------------------


def test_copy(data):
    """As PySpark's test_copy: estimators and evaluators are copied with the extra params, the rest is independent."""
    estimator, evaluator = Mean(), Error()
    seen = []
    cv = TimeSeriesCrossValidator(
        estimator=estimator,
        estimatorParamMaps=[{estimator.bias: 0.0}, {estimator.bias: 3.0}],
        evaluator=evaluator,
        timeCol="time",
        collectSubModels=True,
        progress=lambda *args: seen.append(args),
    )
    copied = cv.copy({estimator.bias: 9.0, cv.numFolds: 2})
    assert copied.uid == cv.uid
    assert copied.getEstimator().uid == estimator.uid
    assert copied.getEstimator().getOrDefault("bias") == 9.0
    assert (copied.getNumFolds(), cv.getNumFolds()) == (2, 3)
    assert copied.setParams(horizon=4).isSet("horizon")
    assert not cv.isSet("horizon")
    assert len(copied.getEstimatorParamMaps()) == 2
    assert copied.getEvaluator() is not evaluator

    model = copied.fit(data)
    assert len(seen) == 4
    twin = model.copy({model.bestModel.getParam("bias"): 5.0})
    assert twin.uid == model.uid
    assert twin.bestModel.getOrDefault("bias") == 5.0
    assert model.bestModel.getOrDefault("bias") != 5.0
    twin.avgMetrics[0] = twin.stdMetrics[0] = -1.0
    twin.foldResults.clear()
    twin.subModels[0][0] = None
    assert model.avgMetrics[0] > 0
    assert model.stdMetrics[0] >= 0
    assert len(model.foldResults) == 4
    assert model.subModels[0][0] is not None
    without = cv.setParams(collectSubModels=False, refit="none").fit(data)
    assert without.copy().subModels is None  # CrossValidatorModel fails here
    assert without.copy().bestModel is None


def test_fit_with_several_param_maps(data):
    estimator = Mean()
    cv = TimeSeriesCrossValidator(estimator=estimator, evaluator=Error(), timeCol="time", numFolds=2)
    models = cv.fit(data, [{cv.numFolds: 1}, {estimator.bias: 2.0}])
    assert [len(model.foldResults) for model in models] == [1, 2]
    assert models[1].bestModel.getOrDefault("bias") == 2.0


@pytest.mark.parametrize(("larger", "best"), [(False, 0), (True, 2)])
def test_minimise_and_maximise(data, larger, best):
    estimator = Calls(lambda bias, train: bias)
    grid = ParamGridBuilder().addGrid(estimator.bias, [1, 2, 3]).build()  # whole numbers become floats
    cv = TimeSeriesCrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=ValueOf(larger), timeCol="time", numFolds=2
    )
    model = cv.fit(data)
    assert model.bestIndex == best
    assert model.avgMetrics == [1.0, 2.0, 3.0]
    assert model.stdMetrics == [0.0, 0.0, 0.0]
    assert model.bestModel.value == grid[best][estimator.bias]


def test_a_param_of_another_instance_is_refused_before_a_job(data, jobs_so_far):
    """PySpark passes over it: all candidates are the same, and the first one wins."""
    regression, other, stranger = LinearRegression(), LinearRegression(), Plain()
    inner = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="assembled"), regression])
    settings = {"evaluator": RegressionEvaluator(), "timeCol": "time", "numFolds": 2}
    before = jobs_so_far()
    for estimator, param in ((regression, other.regParam), (inner, other.regParam), (Mean(), stranger.other)):
        cv = TimeSeriesCrossValidator(estimator=estimator, estimatorParamMaps=[{}, {param: 0.5}], **settings)
        reason = f"candidate 1 has the param {param}, which belongs to no stage of the estimator: take it from"
        with pytest.raises(ValueError, match=reason) as error:
            cv.fit(data)
        assert "\n" not in str(error.value)
    assert jobs_so_far() == before


class Keeps(Mean):
    """Hands params on to an estimator that it keeps where nobody sees it."""

    def __init__(self, kept):
        super().__init__()
        self.kept = lambda: kept

    def copy(self, extra=None):
        return Keeps(self.kept().copy(extra))


def test_params_of_stages_in_whatever_place_are_candidates(spark):
    """Of stages, of a validator's own evaluator, of what candidates bring along, of what only the estimator knows."""
    a, b, mean, score = LinearRegression(), LogisticRegression(), Mean(), RegressionEvaluator()
    inside, one, without, empty = Pipeline(stages=[a]), OneVsRest(classifier=b), OneVsRest(), Pipeline()
    validator = CrossValidator(estimator=Pipeline(stages=[one]), evaluator=score)
    held = Mean()
    held.parts = {"first": (mean,)}
    held.itself = held
    for estimator, maps in (
        (Pipeline(stages=[inside, one]), [{a.regParam: 1, inside.stages: []}, {b.regParam: 1, one.parallelism: 2}]),
        (validator, [{validator.numFolds: 2, b.regParam: 1, score.metricName: "mae"}]),
        (without, [{without.classifier: b}]),
        (empty, [{empty.stages: [a]}, {a.regParam: 1, mean.bias: 1}, {empty.stages: [mean]}]),
        (held, [{mean.bias: 1}]),
        (Keeps(mean), [{mean.bias: 1}]),
    ):
        assert len(recipe._checked_candidates(maps, estimator, score)) == len(maps)
    with pytest.raises(ValueError, match=f"candidate 0 has the param {score.metricName} of the evaluator, which has"):
        recipe._checked_candidates([{a.regParam: 1, score.metricName: "mae"}], a, score)


# Saving -----------------------------------------------------------------------------------------------------


def same_results(ours, theirs):
    return json.dumps(ours, default=str) == json.dumps(theirs, default=str)  # NaN equals NaN in text


def test_save_and_load_every_setting(spark, tmp_path):
    estimator = LinearRegression(maxIter=3)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [0.0, 0.1]).addGrid(estimator.fitIntercept, [True]).build()
    cv = TimeSeriesCrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=RegressionEvaluator(metricName="mae"), **SETTINGS
    )
    cv.save(f"{tmp_path}/cv")
    loaded = TimeSeriesCrossValidator.load(f"{tmp_path}/cv")
    assert type(loaded) is TimeSeriesCrossValidator
    assert loaded.uid == cv.uid
    assert values(loaded) == values(cv)
    assert loaded.getEstimator().uid == estimator.uid
    assert loaded.getEstimator().getMaxIter() == 3
    assert loaded.getEvaluator().uid == cv.getEvaluator().uid
    assert loaded.getEvaluator().getMetricName() == "mae"
    assert loaded.getEstimatorParamMaps() == grid
    assert loaded.getEstimatorParamMaps()[0][loaded.getEstimator().fitIntercept] is True


def test_defaults_come_back_as_defaults(spark, tmp_path):
    """PySpark stores defaults as if they were set, and a numFolds that is set would contradict cutoffs."""
    for name, settings in {
        "plain": {},
        "cutoffs": {"cutoffs": ["2024-01-01"], "horizon": 2},
        "nan": {"errorScore": float("nan"), "timeUnit": 0.1},
    }.items():
        cv = TimeSeriesCrossValidator(**settings)
        cv.write().overwrite().save(f"{tmp_path}/{name}")
        loaded = TimeSeriesCrossValidator.load(f"{tmp_path}/{name}")
        assert repr(values(loaded)) == repr(values(cv))
        assert not loaded.isSet("estimator")
        assert loaded.getEstimatorParamMaps() == [{}]


@pytest.mark.parametrize("when", others_at_night(["float", "date", "timestamp"], ["date"]))
def test_save_and_load_a_model(spark, data, tmp_path, when):
    if when != "float":
        data = data.withColumn("time", recipe.F.date_add(recipe.F.lit("2024-02-01"), data.time.cast("int")).cast(when))
    estimator = LinearRegression()
    cv = TimeSeriesCrossValidator(
        estimator=estimator,
        estimatorParamMaps=[{estimator.regParam: value} for value in (5.0, 0.0)],
        evaluator=RegressionEvaluator(),
        timeCol="time",
        numFolds=2,
        horizon=2 + (when == "float"),
        collectSubModels=when == "float",
    )
    model = cv.fit(data)
    assert model.bestIndex == 1
    model.save(f"{tmp_path}/model")
    loaded = TimeSeriesCrossValidatorModel.load(f"{tmp_path}/model")
    assert type(loaded) is TimeSeriesCrossValidatorModel
    assert loaded.uid == model.uid
    assert values(loaded) == values(model)
    assert loaded.bestIndex == 1
    assert loaded.avgMetrics == model.avgMetrics
    assert loaded.stdMetrics == model.stdMetrics
    assert loaded.foldResults == model.foldResults
    assert loaded.getEstimatorParamMaps() == model.getEstimatorParamMaps()
    assert loaded.bestModel.coefficients == model.bestModel.coefficients
    assert loaded.transform(data).exceptAll(model.transform(data)).isEmpty()
    if when == "float":
        for ours, theirs in zip(loaded.subModels, model.subModels, strict=True):
            assert [sub.coefficients for sub in ours] == [sub.coefficients for sub in theirs]
        assert len({sub.coefficients for models in loaded.subModels for sub in models}) > 1
        assert loaded.subModels[0] is not loaded.subModels[1]  # PySpark's reader gives all folds one list
    else:
        assert loaded.subModels is None


def test_models_with_failures_or_without_refit(data, tmp_path):
    estimator = Sometimes()
    cv = TimeSeriesCrossValidator(
        estimator=estimator,
        estimatorParamMaps=[{estimator.bias: 0.0}, {estimator.bias: -1.0}],
        evaluator=Error(),
        timeCol="time",
        numFolds=2,
        errorScore=float("nan"),
        refit="none",
        collectSubModels=True,
    )
    with pytest.warns(UserWarning, match="1 of 4 fits failed"):
        model = cv.fit(data)
    assert [[sub is None for sub in models] for models in model.subModels] == [[False, False], [False, True]]
    model.save(f"{tmp_path}/model")
    loaded = TimeSeriesCrossValidatorModel.load(f"{tmp_path}/model")
    assert loaded.bestModel is None
    assert [[sub is None for sub in models] for models in loaded.subModels] == [[False, False], [False, True]]
    assert "ZeroDivisionError" in loaded.foldResults[3].error
    assert math.isnan(loaded.foldResults[3].metric)
    assert same_results(loaded.foldResults, model.foldResults)
    assert same_results(loaded.avgMetrics, model.avgMetrics)


class Sometimes(Mean):
    """Fails with a negative bias on more than fifteen rows."""

    def _fit(self, dataset):
        if self.getOrDefault("bias") < 0 and dataset.count() > 15:
            raise ZeroDivisionError
        return super()._fit(dataset)


def test_persist_sub_models_option(data, tmp_path):
    cv = TimeSeriesCrossValidator(
        estimator=Mean(), evaluator=Error(), timeCol="time", numFolds=2, collectSubModels=True
    )
    model = cv.fit(data)
    model.write().option("persistSubModels", "false").save(f"{tmp_path}/without")
    assert TimeSeriesCrossValidatorModel.load(f"{tmp_path}/without").subModels is None
    model.write().option("persistSubModels", True).save(f"{tmp_path}/with")
    assert len(TimeSeriesCrossValidatorModel.load(f"{tmp_path}/with").subModels) == 2
    without = cv.fit(data, {cv.collectSubModels: False})
    for bad, saved in (("maybe", model), ("true", without)):
        with pytest.raises(ValueError, match=f"persistSubModels={bad}"):
            saved.write().option("persistSubModels", bad).save(f"{tmp_path}/bad")


def test_overwriting_needs_to_be_said(spark, data, tmp_path):
    cv = TimeSeriesCrossValidator(estimator=Mean(), evaluator=Error(), timeCol="time", numFolds=2)
    for saved in (cv, cv.fit(data)):
        path = f"{tmp_path}/{type(saved).__name__}"
        saved.save(path)
        with pytest.raises(Exception, match=r"(?i)already.exists"):
            saved.save(path)
        saved.write().overwrite().save(path)
        assert type(saved).load(path).uid == saved.uid


class Mine(TimeSeriesCrossValidator):
    """A subclass, as people write them."""


def test_a_subclass_stays_what_it_is(data, tmp_path):
    """A saved subclass of CrossValidator comes back as plain random k-fold."""
    estimator = LinearRegression()
    cv = Mine(estimator=estimator, evaluator=RegressionEvaluator(), timeCol="time", numFolds=2, gap=3)
    cv.save(f"{tmp_path}/mine")
    Pipeline(stages=[cv]).save(f"{tmp_path}/pipeline")
    for loaded in (Mine.load(f"{tmp_path}/mine"), Pipeline.load(f"{tmp_path}/pipeline").getStages()[0]):
        assert type(loaded) is Mine
        assert loaded.getOrDefault("gap") == 3
        assert same_results(loaded.foldPlan(data), cv.foldPlan(data))


def test_python_only_estimators(data, tmp_path):
    estimator = Mean()
    cv = TimeSeriesCrossValidator(
        estimator=estimator,
        estimatorParamMaps=[{estimator.bias: 1.0}, {estimator.bias: 0.0}],
        evaluator=Error(),
        timeCol="time",
        numFolds=2,
    )
    cv.save(f"{tmp_path}/cv")
    loaded = TimeSeriesCrossValidator.load(f"{tmp_path}/cv")
    assert isinstance(loaded.getEstimator(), Mean)
    model = loaded.fit(data)
    model.save(f"{tmp_path}/model")
    again = TimeSeriesCrossValidatorModel.load(f"{tmp_path}/model")
    assert isinstance(again.bestModel, MeanModel)
    assert again.avgMetrics == cv.fit(data).avgMetrics


class Plain(Params):
    other = Param(Params._dummy(), "other", "not a param of the estimator")


def test_what_cannot_be_saved_is_named(spark, tmp_path):
    estimator, other = LogisticRegression(), Plain()
    settings = {"estimator": estimator, "evaluator": Error(), "timeCol": "time"}
    for number, (params, reason) in enumerate(
        [
            ({other.other: 1}, r"cannot save candidate 0: no stage of the estimator has the param .*other$"),
            (
                {estimator.regParam: object()},
                "cannot save candidate 0: value of regParam: object is not JSON serializable",
            ),
        ]
    ):
        with pytest.raises(ValueError, match=reason):
            TimeSeriesCrossValidator(estimatorParamMaps=[params], **settings).save(f"{tmp_path}/{number}")


class Forgets(Mean):
    """Can be saved, but not its model."""

    def _fit(self, dataset):
        return CallsModel(1.0)


class ConstantError(Error):
    def _evaluate(self, dataset):
        return 1.0


def test_what_cannot_be_saved_leaves_an_older_folder_as_it_was(data, tmp_path):
    path, settings = f"{tmp_path}/cv", {"timeCol": "time", "numFolds": 2}
    TimeSeriesCrossValidator(estimator=Mean(), evaluator=Error(), **settings).save(path)
    model = TimeSeriesCrossValidator(
        estimator=Forgets(), evaluator=ConstantError(), collectSubModels=True, refit="last", **settings
    ).fit(data)
    last = model.copy()
    last.bestModel = None
    for saved, reason in (
        (TimeSeriesCrossValidator(estimator=Mean(), evaluator=ValueOf()), "Validator cannot be saved: ValueOf in eval"),
        (model, "this TimeSeriesCrossValidatorModel cannot be saved: CallsModel in bestModel has no write"),
        (last, "CallsModel in subModels/0/0 has no write"),
    ):
        with pytest.raises(ValueError, match=reason):
            saved.write().overwrite().save(path)
        assert isinstance(TimeSeriesCrossValidator.load(path).getEvaluator(), Error)
    last.write().overwrite().option("persistSubModels", "false").save(path)


def test_vectors_matrices_and_numbers_of_numpy_are_saved(spark, tmp_path):
    estimator = LogisticRegression()
    grid = [
        {estimator.lowerBoundsOnIntercepts: Vectors.dense(0.1, float("-inf"))},
        {estimator.lowerBoundsOnIntercepts: Vectors.sparse(3, {1: 2.0})},
        {estimator.upperBoundsOnCoefficients: Matrices.dense(2, 2, [1.0, 2.0, 3.0, 4.0])},
        {estimator.upperBoundsOnCoefficients: DenseMatrix(2, 2, [1.0, 2.0, 3.0, 4.0], True)},
        {estimator.upperBoundsOnCoefficients: Matrices.sparse(2, 2, [0, 1, 2], [0, 1], [5.0, 6.0])},
        {estimator.maxIter: np.int64(3), estimator.regParam: np.float32(0.5), estimator.thresholds: np.array([0.5, 1])},
    ]
    TimeSeriesCrossValidator(estimator=estimator, estimatorParamMaps=grid).save(f"{tmp_path}/cv")
    loaded = TimeSeriesCrossValidator.load(f"{tmp_path}/cv").getEstimatorParamMaps()
    for ours, theirs in zip(loaded, grid, strict=True):
        assert ours.keys() == theirs.keys()
        for param, value in theirs.items():
            assert np.array_equal(ours[param], value) if isinstance(value, np.ndarray) else ours[param] == value
    assert [type(value).__name__ for params in loaded[:5] for value in params.values()] == [
        *("DenseVector", "SparseVector", "DenseMatrix", "DenseMatrix", "SparseMatrix"),
    ]
    assert loaded[3][estimator.upperBoundsOnCoefficients].isTransposed
    assert type(loaded[5][estimator.maxIter]) is int


def test_a_search_that_cannot_be_saved_says_so_before_it_fits(data):
    fits = []
    cv = TimeSeriesCrossValidator(
        estimator=Calls(lambda bias, train: fits.append(bias)), evaluator=ValueOf(), timeCol="time", numFolds=2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="nor its model can be saved: Calls in estimator"):
            cv.fit(data)
    assert fits == []
    for inner in (cv, CrossValidator(estimator=Mean(), estimatorParamMaps=[{}], evaluator=Error(), numFolds=2)):
        outer = TimeSeriesCrossValidator(estimator=inner, evaluator=Error(), timeCol="time", numFolds=2)
        reason = "Calls in estimator" if inner is cv else "PySpark does not support nested validator"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match=f"nor its model can be saved: .*{reason}"):
                outer.fit(data)
    with pytest.warns(UserWarning, match="nested validator"):
        assert isinstance(outer.fit(data).bestModel, CrossValidatorModel)  # it only cannot be saved


def test_loading_the_wrong_kind_of_folder_says_what_it_is(spark, data, tmp_path):
    cv = TimeSeriesCrossValidator(estimator=Mean(), evaluator=Error(), timeCol="time", numFolds=2)
    cv.save(f"{tmp_path}/cv")
    cv.fit(data).save(f"{tmp_path}/model")
    LinearRegression().save(f"{tmp_path}/regression")
    (tmp_path / "empty").mkdir()
    for kind, path, reason in (
        (
            TimeSeriesCrossValidatorModel,
            "cv",
            "holds a saved TimeSeriesCrossValidator, not a Time",
        ),
        (TimeSeriesCrossValidator, "model", "holds a saved TimeSeriesCrossValidatorModel, not a Time"),
        (
            TimeSeriesCrossValidator,
            "regression",
            r"a saved LinearRegression, .*: load it by LinearRegression\.load",
        ),
        (
            TimeSeriesCrossValidatorModel,
            "empty",
            "holds no saved TimeSeriesCrossValidatorModel: its",
        ),
    ):
        with pytest.raises(ValueError, match=reason) as error:
            kind.load(f"{tmp_path}/{path}")
        assert "\n" not in str(error.value)


def test_numbers_of_numpy_are_candidates_and_a_bad_one_leaves_the_estimator_as_it_was(data):
    """PySpark takes a numpy float32 for no number, and then the estimator's JVM object is gone."""
    estimator = LinearRegression()
    maps = [{estimator.regParam: np.float32(0.5), estimator.maxIter: np.int64(5)}, {estimator.regParam: 0}]
    settings = {"estimator": estimator, "evaluator": RegressionEvaluator(), "timeCol": "time", "numFolds": 2}
    cv = TimeSeriesCrossValidator(estimatorParamMaps=maps, **settings)
    assert cv.fit(data).bestIndex == 1
    for bad, reason in (
        ({estimator.regParam: "a"}, "candidate 0: regParam cannot be 'a'"),
        ({"regParam": 1}, "Params"),
    ):
        with pytest.raises((TypeError, ValueError), match=reason):
            cv.copy().setParams(estimatorParamMaps=[bad]).fit(data)
    gc.collect()
    assert estimator.copy().fit(data).coefficients[0] == pytest.approx(2.0)


# Pipelines and nested estimators ----------------------------------------------------------------------------


def test_inside_a_pipeline_and_with_a_pipeline(data, tmp_path):
    regression = LinearRegression(featuresCol="assembled")
    inner = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="assembled"), regression])
    cv = TimeSeriesCrossValidator(
        estimator=inner,
        estimatorParamMaps=ParamGridBuilder().addGrid(regression.regParam, [9.0, 0.0]).build(),
        evaluator=RegressionEvaluator(),
        timeCol="time",
        numFolds=2,
        parallelism=2,
        collectSubModels=True,
    )
    later = SQLTransformer(statement="SELECT *, x + 0 AS y FROM __THIS__")
    pipeline = Pipeline(stages=[later, cv])
    pipeline.save(f"{tmp_path}/pipeline")
    model = Pipeline.load(f"{tmp_path}/pipeline").fit(data)
    best = model.stages[1]
    assert isinstance(best, TimeSeriesCrossValidatorModel)
    assert best.bestIndex == 1
    assert isinstance(best.bestModel.stages[1], LinearRegressionModel)
    assert best.subModels[0][0].stages[1].coefficients[0] < best.subModels[0][1].stages[1].coefficients[0]
    model.save(f"{tmp_path}/model")
    loaded = PipelineModel.load(f"{tmp_path}/model")
    assert loaded.stages[1].avgMetrics == best.avgMetrics
    assert loaded.transform(data).exceptAll(model.transform(data)).isEmpty()
    assert model.copy().stages[1].avgMetrics == best.avgMetrics


def test_one_vs_rest_and_estimators_as_values(spark, tmp_path):
    """As PySpark's test_save_load_nested_estimator: a grid over the classifiers inside a meta estimator."""
    rows = [(k, float(k % 3), Vectors.dense(float(k % 3), 1.0)) for k in range(24)]
    data = spark.createDataFrame(rows, ["time", "label", "features"]).coalesce(1)
    one_vs_rest = OneVsRest(classifier=LogisticRegression())
    short, long = LogisticRegression(maxIter=1, regParam=50.0), LogisticRegression(maxIter=20)
    grid = ParamGridBuilder().addGrid(one_vs_rest.classifier, [short, long]).build()
    cv = TimeSeriesCrossValidator(
        estimator=Pipeline(stages=[one_vs_rest]),
        estimatorParamMaps=grid,
        evaluator=MulticlassClassificationEvaluator(metricName="accuracy"),
        timeCol="time",
        numFolds=1,
        horizon=6,
    )
    cv.save(f"{tmp_path}/cv")
    loaded = TimeSeriesCrossValidator.load(f"{tmp_path}/cv")
    inner = loaded.getEstimator().getStages()[0]
    assert isinstance(inner, OneVsRest)
    classifiers = [params[inner.classifier] for params in loaded.getEstimatorParamMaps()]
    assert [(one.uid, one.getMaxIter()) for one in classifiers] == [(short.uid, 1), (long.uid, 20)]
    model = loaded.fit(data)
    assert model.avgMetrics[1] == 1.0
    model.save(f"{tmp_path}/model")
    assert TimeSeriesCrossValidatorModel.load(f"{tmp_path}/model").avgMetrics == model.avgMetrics


def test_a_classifier_that_only_the_grid_tells_is_fitted(spark):
    """The search cannot be saved, and what it consists of cannot be told before: that is no reason to end it."""
    rows = [(k, float(k % 3), Vectors.dense(float(k % 3), 1.0)) for k in range(24)]
    data = spark.createDataFrame(rows, ["time", "label", "features"]).coalesce(1)
    one = OneVsRest()
    cv = TimeSeriesCrossValidator(
        estimator=one,
        estimatorParamMaps=[{one.classifier: LogisticRegression(maxIter=most)} for most in (1, 20)],
        evaluator=MulticlassClassificationEvaluator(metricName="accuracy"),
        timeCol="time",
        numFolds=1,
        horizon=6,
    )
    with pytest.warns(UserWarning, match="can be saved: what it consists of cannot be told: KeyError: .*classifier"):
        model = cv.fit(data)
    assert model.avgMetrics[1] == 1.0


def test_params_of_one_name_of_different_stages_are_saved_apart(spark, tmp_path):
    stages = [
        OneVsRest(classifier=LogisticRegression(), predictionCol=f"p{k}", rawPredictionCol=f"r{k}") for k in (1, 2)
    ]
    values = [LogisticRegression(maxIter=1), LogisticRegression(maxIter=9)]
    maps = [{stage.classifier: value for stage, value in zip(stages, values, strict=True)}]
    TimeSeriesCrossValidator(estimator=Pipeline(stages=stages), estimatorParamMaps=maps).save(f"{tmp_path}/cv")

    def loaded():
        cv = TimeSeriesCrossValidator.load(f"{tmp_path}/cv")
        params = cv.getEstimatorParamMaps()[0]
        return [params[stage.classifier].getMaxIter() for stage in cv.getEstimator().getStages()]

    assert loaded() == [1, 9]
    # An older folder has the params by their names.
    (text,) = (tmp_path / "cv" / "metadata").glob("part-*")
    text.write_text(text.read_text().replace('"candidates/0/0"', '"candidates/0/classifier"'))
    (text.parent / f".{text.name}.crc").unlink()
    (tmp_path / "cv" / "candidates" / "0" / "0").rename(tmp_path / "cv" / "candidates" / "0" / "classifier")
    assert loaded() == [1, 9]


def test_as_the_estimator_of_another_search(data, tmp_path):
    """Choose by cross-validation with how many folds to cross-validate. That is odd, but estimators can be nested."""
    estimator = Mean()
    inner = TimeSeriesCrossValidator(
        estimator=estimator,
        estimatorParamMaps=[{estimator.bias: 0.0}, {estimator.bias: 8.0}],
        evaluator=Error(),
        timeCol="time",
    )
    outer = TimeSeriesCrossValidator(
        estimator=inner,
        estimatorParamMaps=[{inner.numFolds: 2}, {inner.numFolds: 3}],
        evaluator=Error(),
        timeCol="time",
        numFolds=2,
        horizon=5,
        parallelism=2,
    )
    outer.save(f"{tmp_path}/outer")
    model = TimeSeriesCrossValidator.load(f"{tmp_path}/outer").fit(data)
    assert isinstance(model.bestModel, TimeSeriesCrossValidatorModel)
    assert model.bestModel.bestIndex == 1
    assert len(model.bestModel.foldResults) == 2 * 2
