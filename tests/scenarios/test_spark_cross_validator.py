# SPDX-License-Identifier: Apache-2.0
"""CrossValidator's recipe: metrics that scikit-learn agrees with, stable folds, and no orphan after a failure."""

import copy
import json
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import spark_cross_validator as scenario
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression, LogisticRegressionModel, RandomForestClassifier
from pyspark.ml.evaluation import BinaryClassificationEvaluator, Evaluator, RegressionEvaluator
from pyspark.ml.feature import RFormula, StringIndexer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.param import Params
from pyspark.ml.regression import LinearRegression
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession, functions
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid

from tests.nightly import others_at_night

FACTORS = {"folds": 2, "candidates": 2}


@pytest.fixture(scope="module")
def data(spark: SparkSession) -> Iterator[dict]:
    made = scenario.prepare(scenario.make_data(), spark=spark)
    yield made
    made["frame"].unpersist(blocking=True)


@pytest.fixture(scope="module")
def reference(data: dict, spark: SparkSession) -> dict:
    return scenario.run_one_at_a_time(data, spark=spark, model="logistic_regression", **FACTORS)


def cached(spark: SparkSession) -> set[int]:
    return set(spark.sparkContext._jsc.getPersistentRDDs())


def jobs_so_far(spark: SparkSession) -> int:
    return spark.sparkContext._jsc.sc().dagScheduler().nextJobId()


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.is_alive()}


def folds_of(frame: DataFrame, folds: int) -> np.ndarray:
    rows = scenario.assign_folds(frame, key="row", folds=folds).orderBy("row").select("fold").collect()
    return np.array([row.fold for row in rows])


# --- the answer ---


@pytest.mark.spark
def test_metrics_and_choice_are_scikit_learns(data: dict) -> None:
    """Spark's and scikit-learn's logistic regression minimise the same function, so they rank the rows alike."""
    X, y, folds = data["X"], data["y"], 2
    estimator = LogisticRegression(maxIter=200, tol=1e-8)
    penalties = [1.0, 0.1]
    grid = ParamGridBuilder().addGrid(estimator.regParam, penalties).build()
    found = scenario.cross_validate(
        data["frame"], estimator, grid, BinaryClassificationEvaluator(), key="row", folds=folds, parallelism=2
    )
    fold_of = folds_of(data["frame"], folds)
    expected = np.empty((folds, len(penalties)))
    for fold in range(folds):
        train, test = fold_of != fold, fold_of == fold
        # Spark divides features by the sample deviation and averages the loss over rows; scikit-learn sums the loss.
        scaled = X / X[train].std(axis=0, ddof=1)
        for i, penalty in enumerate(penalties):
            regression = SklearnLogisticRegression(C=1 / (train.sum() * penalty), tol=1e-8, max_iter=10_000)
            scores = regression.fit(scaled[train], y[train]).decision_function(scaled[test])
            expected[fold, i] = roc_auc_score(y[test], scores)
    assert found.avgMetrics == pytest.approx(expected.mean(axis=0), abs=1e-6)
    assert found.stdMetrics == pytest.approx(expected.std(axis=0), abs=1e-6)
    assert found.bestModel.getRegParam() == penalties[int(expected.mean(axis=0).argmax())]
    assert found.bestModel.summary.predictions.count() == len(y)  # the refit is on all rows


@pytest.mark.spark
def test_metrics_of_a_forest_are_scikit_learns_of_its_probabilities(data: dict, spark: SparkSession) -> None:
    answer = scenario.run_one_at_a_time(data, spark=spark, model="random_forest", folds=2, candidates=1)
    frame = scenario.assign_folds(data["frame"], key="row", folds=2)
    areas = []
    for fold in range(2):
        forest = RandomForestClassifier(numTrees=10, seed=0, **answer["best_params"])
        model = forest.fit(frame.filter(functions.col("fold") != fold))
        scored = model.transform(frame.filter(functions.col("fold") == fold))
        pairs = scored.select("label", vector_to_array("probability")[1].alias("p")).toPandas()
        areas.append(roc_auc_score(pairs["label"], pairs["p"]))
    assert answer["avgMetrics"] == pytest.approx([np.mean(areas)], abs=1e-6)
    assert answer["stdMetrics"] == pytest.approx([np.std(areas)], abs=1e-6)


@pytest.mark.spark
@pytest.mark.parametrize("parallelism", [1, 2])
def test_threads_change_neither_answer_nor_jobs_and_nothing_is_left(
    data: dict, spark: SparkSession, reference: dict, parallelism: int
) -> None:
    jobs, caches, before = jobs_so_far(spark), cached(spark), threads()
    factors = {"model": "logistic_regression", **FACTORS}
    answer = scenario.run_cross_validator(data, spark=spark, parallelism=parallelism, **factors)
    scenario.check(reference, answer)
    assert json.loads(json.dumps(answer)) == answer
    assert cached(spark) - caches == set()
    assert threads() - before == set()
    assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") is None
    # (2 folds x 2 candidates + the refit) fits of several jobs each.
    assert jobs_so_far(spark) - jobs > 5 * 5


# --- folds ---


@pytest.mark.spark
def test_folds_stay_with_the_rows_whatever_the_partitions(data: dict) -> None:
    fold_of = folds_of(data["frame"], 5)
    np.testing.assert_array_equal(folds_of(data["frame"].repartition(7), 5), fold_of)
    np.testing.assert_array_equal(folds_of(data["frame"].orderBy(functions.desc("row")), 5), fold_of)
    assert np.bincount(fold_of).min() > 0.7 * len(fold_of) / 5


@pytest.mark.spark
def test_rows_of_one_key_share_a_fold(spark: SparkSession) -> None:
    frame = spark.range(200).withColumn("customer", functions.concat(functions.lit("c"), functions.expr("id % 20")))
    rows = scenario.assign_folds(frame, key="customer", folds=3, column="part").select("customer", "part").distinct()
    found = rows.collect()
    assert len(found) == 20
    assert {row.part for row in found} == {0, 1, 2}
    items = frame.withColumn("item", functions.expr("id % 3"))
    both = scenario.assign_folds(items, key=["customer", "item"], folds=3, column="part")
    assert both.select("customer", "item", "part").distinct().count() == 60 < both.count()


@pytest.mark.spark
@pytest.mark.parametrize("folds", [2, 3, 5, 10, 28])
def test_the_folds_that_validate_allows_have_both_classes(data: dict, folds: int) -> None:
    scenario.validate(dataset="breast_cancer", model="random_forest", folds=folds, candidates=1)
    fold_of = folds_of(data["frame"], folds)
    for fold in range(folds):
        assert set(data["y"][fold_of == fold]) == {0, 1}


@pytest.mark.spark
def test_prepare_cuts_the_rows_in_order_into_equal_cached_partitions(data: dict, spark: SparkSession) -> None:
    parts = data["frame"].select("row").rdd.glom().collect()
    assert [row.row for part in parts for row in part] == list(range(569))
    assert [len(part) for part in parts] == [284, 285]
    assert data["frame"].is_cached
    first = data["frame"].orderBy("row").first()
    np.testing.assert_array_equal(first.features.toArray(), data["X"][0])


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    """Three hundred rows with a key, a label that depends on x, and columns named like those of other helpers."""
    x = functions.randn(1)
    frame = spark.range(300).select(functions.col("id").alias("row"), x.alias("x")).coalesce(1)
    label = (functions.col("x") + functions.randn(2) > 0).cast("double")
    return frame.withColumn("label", label).withColumn("Fold", functions.lit("mine")).localCheckpoint()


def validate_rows(rows: DataFrame, **changed: Any) -> Any:
    """The validation that the tests below change."""
    estimator = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="features"), LogisticRegression(maxIter=3)])
    settings = {"grid": [{}], "evaluator": BinaryClassificationEvaluator(), "key": "row", "folds": 3, **changed}
    estimator = settings.pop("estimator", estimator)
    return scenario.cross_validate(rows, estimator, settings.pop("grid"), settings.pop("evaluator"), **settings)


@pytest.mark.spark
def test_estimators_never_see_a_helper_column(rows: DataFrame, spark: SparkSession) -> None:
    """`label ~ .` takes all columns as features. The user's own column `Fold` stays what it is."""
    formula = Pipeline(stages=[RFormula(formula="label ~ ."), LogisticRegression(maxIter=3)])
    constant = rows.withColumn("Fold", (functions.col("row") % 2).cast("double"))
    before = cached(spark)
    found = validate_rows(constant, estimator=formula)
    assert found.bestModel.stages[0].transform(constant).first().features.size == 3  # row, x, Fold
    assert cached(spark) - before == set()
    with pytest.raises(ValueError, match="'row' may be any of the columns row, ROW: rename all but one"):
        validate_rows(rows.select("row", "x", "label", functions.col("row").alias("ROW")))
    with pytest.raises(ValueError, match="the frame has a column 'fold' already, in whatever case: give another name"):
        scenario.assign_folds(rows, key="row", folds=3)
    assert scenario.assign_folds(rows, key="row", folds=3, column="part").columns[-2:] == ["Fold", "part"]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("column", "changed", "message"),
    [
        (None, {"grid": []}, "grid is empty: give one candidate or more"),
        (None, {"folds": 1}, "folds=1: cross-validation needs two folds or more"),
        (None, {"folds": 2.5}, "folds=2.5: cross-validation needs two folds or more, as a whole number"),
        (None, {"folds": "3"}, "folds='3': cross-validation needs two folds or more, as a whole number"),
        (None, {"key": "nope"}, "the frame has no column 'nope': it has row, x, label, Fold"),
        (None, {"key": []}, "key is empty: name the column, or the columns, that tell rows apart"),
        (None, {"key": [["row"]]}, "['row'] is no column's name: give it as text"),
        ("if(row % 2 = 0, row, null)", {}, "150 rows have no value in the key column 'k': fill or drop them"),
        ("cast(null as int)", {}, "300 rows have no value in the key column 'k'"),
        (
            "if(row % 2 = 0, row, null)",
            {"key": ["k", "x"]},
            "150 rows have no value in the key column ['k', 'x']: fill",
        ),
        ("row % 2", {}, "of 3 has no rows: the key column 'k' has too few values; take fewer folds or another key"),
    ],
)
def test_what_gives_no_folds_is_refused_in_one_line(
    rows: DataFrame, column: str | None, changed: dict, message: str
) -> None:
    frame = rows if column is None else rows.withColumn("k", functions.expr(column))
    with pytest.raises(ValueError) as error:
        validate_rows(frame, **({} if column is None else {"key": "k"}) | changed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.spark
@pytest.mark.parametrize(("column", "kind"), [("if(label = 1, 'yes', 'no')", "string"), ("label = 1", "boolean")])
def test_a_label_that_is_no_number_is_refused_in_one_line(rows: DataFrame, column: str, kind: str) -> None:
    """As where StringIndexer makes another column, and the evaluator was not told."""
    said = rf"the label 'label' is {kind}, and the evaluator takes numbers: cast it, or give the column that StringIn"
    with pytest.raises(ValueError, match=said):
        validate_rows(rows.withColumn("label", functions.expr(column)))


@pytest.mark.spark
def test_keys_may_be_named_by_an_array(rows: DataFrame) -> None:
    keyed = [scenario.fold_of(rows, key, 3) for key in (["row", "x"], np.array(["row", "x"]), pd.Index(["row", "x"]))]
    one, *others = ([each[0] for each in rows.select(fold).collect()] for fold in keyed)
    assert all(other == one for other in others)


@pytest.mark.spark
def test_a_param_of_another_instance_is_refused_before_a_job(rows: DataFrame, spark: SparkSession) -> None:
    """CrossValidator passes over it: all candidates are the same, and the first one wins."""
    stranger, own = LogisticRegression(), LogisticRegression(maxIter=3)
    before = jobs_so_far(spark)
    with pytest.raises(ValueError, match=f"candidate 1 has the param {stranger.regParam}, which belongs to no stage"):
        validate_rows(rows, grid=[{}, {stranger.regParam: 0.5}])
    assert jobs_so_far(spark) == before
    estimator, evaluator = Pipeline(stages=[own]), BinaryClassificationEvaluator()
    with pytest.raises(ValueError, match=f"candidate 0 has the param {evaluator.numBins} of the evaluator, which has"):
        scenario.refuse_params_of_others([{own.regParam: 0.5, evaluator.numBins: 9}], estimator, evaluator)
    inside = CrossValidator(estimator=own, estimatorParamMaps=[{}], evaluator=evaluator)
    scenario.refuse_params_of_others([{own.regParam: 0.5, evaluator.numBins: 9}], inside, evaluator)


@pytest.mark.spark
def test_a_row_without_a_key_has_no_fold(rows: DataFrame) -> None:
    frame = rows.withColumn("k", functions.expr("if(row % 2 = 0, row, null)"))
    with pytest.raises(Exception, match="a row has no value in the key column 'k': fill or drop it"):
        scenario.assign_folds(frame, key="k", folds=3, column="part").select("part").collect()


@pytest.mark.spark
def test_spark_connect_is_refused_before_a_job(rows: DataFrame, spark: SparkSession, monkeypatch: Any) -> None:
    before = jobs_so_far(spark)
    monkeypatch.setattr(scenario, "is_remote", lambda: True)
    with pytest.raises(ValueError, match="needs a classic session, not Spark Connect: use pyspark"):
        validate_rows(rows)
    assert jobs_so_far(spark) == before


@pytest.mark.spark
@pytest.mark.parametrize("name", others_at_night(["row.id", "row id", "`", "ROW"], ["`"]))
def test_keys_of_any_name(rows: DataFrame, name: str) -> None:
    renamed = rows if name == "ROW" else rows.withColumnRenamed("row", name)
    assert validate_rows(renamed, key=name).avgMetrics == validate_rows(rows).avgMetrics


@pytest.mark.spark
def test_folds_of_one_class_are_named_and_left_out(rows: DataFrame) -> None:
    fold_of = folds_of(rows.drop("Fold"), 3)
    positive = [int(np.flatnonzero(fold_of == 0)[0]), int(np.flatnonzero(fold_of == 1)[0])]
    frame = rows.withColumn("label", functions.col("row").isin(positive).cast("double"))
    one_class = r"areaUnderROC is not defined where all rows of a fold have one class: fold 2 \(label 0.0\)"
    with pytest.warns(UserWarning, match=one_class + r"\. The averages leave them out"):
        found = validate_rows(frame)
    areas = []
    for fold in (0, 1):
        train = frame.where(~functions.col("row").isin(np.flatnonzero(fold_of == fold).tolist()))
        model = Pipeline(stages=found.bestModel.stages[:1]).fit(train)
        fitted = LogisticRegression(maxIter=3).fit(model.transform(train))
        scored = fitted.transform(model.transform(frame.subtract(train)))
        areas.append(BinaryClassificationEvaluator().evaluate(scored))
    assert found.avgMetrics == pytest.approx([np.mean(areas)], abs=1e-6)
    with pytest.raises(ValueError, match=r"fold 0 \(label 0.0\), fold 1 .*There is no other fold"):
        validate_rows(rows.withColumn("label", functions.lit(0.0)))
    recode = r"fold 0 \(labels 1\.0 to 2\.0, all above 0\.5: recode them as 0 and 1\), fold 1 .*There is no other fold"
    with pytest.raises(ValueError, match=recode):
        validate_rows(rows.withColumn("label", functions.col("label") + 1))
    with pytest.warns(UserWarning, match=one_class + r"\. They count with 0.5"):
        scored = validate_rows(frame, error_score=0.5)
    assert scored.avgMetrics == pytest.approx([np.mean([*areas, 0.5])], abs=1e-6)
    assert scored.stdMetrics == pytest.approx([np.std([*areas, 0.5])], abs=1e-6)


@pytest.mark.spark
def test_folds_whose_train_rows_are_of_one_class_are_named_and_left_out(rows: DataFrame) -> None:
    """Their models tell nothing apart: an area of 0.5 for every candidate."""
    fold_of = folds_of(rows.drop("Fold"), 3)
    positive = np.flatnonzero(fold_of == 0)[::2].tolist()
    frame = rows.withColumn("label", functions.col("row").isin(positive).cast("double"))
    told = (
        r"fold 1 \(label 0.0\), fold 2 \(label 0.0\)\. areaUnderROC tells nothing where all train rows have one class: "
    )
    with pytest.raises(ValueError, match=told + r"fold 0 \(label 0.0\)\. There is no other fold"):
        validate_rows(frame)
    ends = {0: (0.0, 1.0), 1: (1.0, 2.0), 2: (None, None), 3: (1.0, 1.0)}
    told = (
        r"one class: fold 1 \(labels 1.0 to 2.0, all .*, fold 3 .* train rows have one class: fold 0 \(labels 1.0 to 2"
    )
    with pytest.raises(ValueError, match=told):
        scenario.folds_with_metric(ends, BinaryClassificationEvaluator(), None)
    # What learns from no label, or from another, may be judged.
    with pytest.warns(UserWarning, match=r"one class: fold 1 .*, fold 3 .*\. The averages leave them out"):
        assert scenario.folds_with_metric(ends, BinaryClassificationEvaluator(), None, learns=False) == [0]
    other = Pipeline(stages=[LogisticRegression(labelCol="other")])
    assert not scenario.learns_from(other, "label")
    assert scenario.learns_from(other, "other")


@pytest.mark.spark
def test_labels_that_are_nan_are_counted_and_not_taken_for_one_class(rows: DataFrame) -> None:
    """To Spark NaN is the greatest number."""
    frame = rows.withColumn("label", functions.expr("if(row % 10 = 0, double('NaN'), label)"))
    settings = {"key": "row", "folds": 3}
    with pytest.warns(
        UserWarning, match="the label 'label' is NaN in 30 rows, and to Spark NaN is the greatest number"
    ):
        usable = scenario.usable_folds(frame, LogisticRegression(), BinaryClassificationEvaluator(), **settings)
    assert sum(usable.values()) == rows.count()
    assert scenario.labels_of_one_class(0.0, float("nan")) is None


@pytest.mark.spark
def test_an_error_score_that_is_no_number_changes_nothing_or_is_refused(rows: DataFrame) -> None:
    nan = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # CrossValidator leaves a pool open
        assert np.isfinite(validate_rows(rows, error_score=nan).avgMetrics).all()
    fold_of = folds_of(rows.drop("Fold"), 3)
    frame = rows.withColumn(
        "label", functions.col("row").isin(np.flatnonzero(fold_of != 2)[::2].tolist()).cast("double")
    )
    told = "fold 2 .* With the error_score nan no candidate would have an average: give a number, or None"
    with pytest.raises(ValueError, match=told):
        validate_rows(frame, error_score=nan)


@pytest.mark.spark
def test_folds_of_one_label_have_no_r2_and_are_left_out(rows: DataFrame) -> None:
    fold_of = folds_of(rows.drop("Fold"), 3)
    one = functions.col("row").isin(np.flatnonzero(fold_of == 1).tolist())
    frame = rows.withColumn("label", functions.when(one, 7.0).otherwise(functions.col("x")))
    estimator = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="features"), LinearRegression()])
    settings: dict[str, Any] = {"estimator": estimator, "evaluator": RegressionEvaluator(metricName="r2")}
    told = r"^r2 is not defined where all rows of a fold have one label: fold 1 \(label 7.0\)\. The averages leave"
    with pytest.warns(UserWarning, match=told) as warned:
        found = validate_rows(frame, **settings)
    assert [warning.filename for warning in warned if warning.category is UserWarning] == [__file__]
    areas = []
    for fold in (0, 2):
        inside = functions.col("row").isin(np.flatnonzero(fold_of == fold).tolist())
        fitted = estimator.fit(frame.where(~inside))
        areas.append(settings["evaluator"].evaluate(fitted.transform(frame.where(inside))))
    assert found.avgMetrics == pytest.approx([np.mean(areas)], abs=1e-6)
    assert not scenario.has_r2(RegressionEvaluator(metricName="r2", throughOrigin=True))
    assert not scenario.has_r2(RegressionEvaluator(metricName="rmse"))


@pytest.mark.spark
def test_rows_that_a_stage_drops_are_told(rows: DataFrame, spark: SparkSession) -> None:
    """The metric is that of the others alone."""
    shops = rows.withColumn("shop", functions.concat(functions.lit("shop"), functions.col("row") % 9))
    indexer, vectors = StringIndexer(inputCol="shop", outputCol="k"), VectorAssembler(inputCols=["k"], outputCol="f")
    estimator = Pipeline(stages=[indexer, vectors, LogisticRegression(featuresCol="f", maxIter=1)])
    keep, skip = ({indexer.handleInvalid: value} for value in ("keep", "skip"))
    told = "rows of folds were dropped, and the metrics are of those that were scored, fold 0: 0 of "
    half = functions.col("row") % 2 == 0
    mixed = shops.withColumn("shop", functions.when(half, "all").otherwise(functions.col("shop")))
    for one in (estimator, estimator.copy(skip)):  # whatever the candidates change
        with pytest.warns(UserWarning, match=told.replace("0 of", r"\d+ of \d+, fold 1: \d+ of")) as warned:
            validate_rows(mixed, estimator=one, key="shop", folds=2, grid=[keep, skip])
        assert [warning.filename for warning in warned if warning.category is UserWarning] == [__file__]
    assert not scenario.may_drop_rows(estimator, [keep])
    assert scenario.may_drop_rows(estimator.copy(skip), [{}])
    assert scenario.may_drop_others([{estimator.stages: [vectors]}])
    assert not scenario.may_drop_others([{}, {vectors.inputCols: ["x"]}])


class Cost(BinaryClassificationEvaluator):
    """A metric that rows of one class have, such as a cost or the log loss."""

    def _evaluate(self, dataset: DataFrame) -> float:
        return 1.0


@pytest.mark.spark
def test_the_metric_of_a_subclass_is_believed_where_rows_have_one_class(rows: DataFrame) -> None:
    fold_of = folds_of(rows.drop("Fold"), 3)
    positive = np.flatnonzero(fold_of != 2).tolist()[::2]
    frame = rows.withColumn("label", functions.col("row").isin(positive).cast("double"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # CrossValidator leaves a pool open
        found = validate_rows(frame, evaluator=Cost(), error_score=0.5)
    assert found.avgMetrics == [1.0]


@pytest.mark.spark
@pytest.mark.parametrize("metric", ["areaUnderROC", "areaUnderPR"])
def test_a_fold_of_one_class_is_refused_where_the_estimator_makes_the_label(rows: DataFrame, metric: str) -> None:
    fold_of = folds_of(rows.drop("Fold"), 3)
    negative = np.flatnonzero(fold_of != 1)[::2].tolist()
    kind = functions.when(functions.col("row").isin(negative), "benign").otherwise("malignant")
    frame = rows.withColumn("kind", kind).drop("label")
    indexer = StringIndexer(inputCol="kind", outputCol="label", stringOrderType="alphabetAsc")
    vectors, regression = VectorAssembler(inputCols=["x"], outputCol="features"), LogisticRegression(maxIter=3)
    estimator = Pipeline(stages=[indexer, vectors, regression])
    evaluator = BinaryClassificationEvaluator(metricName=metric)
    one_class = rf"{metric} is not defined .* fold 1 \(label 1.0\). The estimator makes the label: add it to the frame"
    with pytest.raises(ValueError, match=one_class) as error:
        validate_rows(frame, estimator=estimator, evaluator=evaluator)
    assert "\n" not in str(error.value)
    mixed = frame.withColumn("kind", functions.when(functions.col("x") > 0, "malignant").otherwise("benign"))
    found = validate_rows(mixed, estimator=estimator, evaluator=evaluator)
    assert found.avgMetrics == pytest.approx([1.0])
    assert found.getEvaluator() is evaluator
    assert found.getEstimator() is estimator


@pytest.mark.spark
def test_numbers_of_numpy_are_candidates(rows: DataFrame, tmp_path: Path) -> None:
    vectors, regression = VectorAssembler(inputCols=["x"], outputCol="features"), LogisticRegression(maxIter=3)
    grids = [[{regression.regParam: kind(value)} for value in (0.5, 0.25)] for kind in (float, np.float32, np.float64)]
    found = [validate_rows(rows, estimator=Pipeline(stages=[vectors, regression]), grid=grid) for grid in grids]
    assert found[0].avgMetrics == found[1].avgMetrics == found[2].avgMetrics
    found[2].save(f"{tmp_path}/model")
    loaded = CrossValidatorModel.load(f"{tmp_path}/model")
    assert [scenario.plain(candidate) for candidate in loaded.getEstimatorParamMaps()] == [
        {"regParam": 0.5},
        {"regParam": 0.25},
    ]
    assert isinstance(loaded.getEstimator(), Pipeline)
    assert isinstance(loaded.getEvaluator(), BinaryClassificationEvaluator)


# --- failures ---


class StepwiseRegression(LogisticRegression):
    """Fails at its first candidate while others are running, and lists the candidates that finish."""

    def __init__(self, finished: list[float]) -> None:
        super().__init__(maxIter=3)
        self.finished = finished

    def fit(self, dataset: DataFrame, params: Any = None) -> LogisticRegressionModel:
        if not params[self.regParam]:
            time.sleep(0.1)
            raise RuntimeError("candidate 0 cannot be fitted")
        for _ in range(100):  # jobs, of which some are still to come when the first candidate fails
            model = LogisticRegression(maxIter=3).fit(dataset)
        self.finished.append(params[self.regParam])
        return model

    def copy(self, extra: Any = None) -> "StepwiseRegression":
        return self


class WithIteratorOfItsOwn(StepwiseRegression):
    """CrossValidator learns the number of a candidate when it is fitted."""

    def fitMultiple(self, dataset: DataFrame, paramMaps: Any) -> Iterator[tuple[int, LogisticRegressionModel]]:
        def fit(number: int) -> tuple[int, LogisticRegressionModel]:
            return number, self.fit(dataset, paramMaps[number])

        return map(fit, range(len(paramMaps)))


@pytest.mark.spark
@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (StepwiseRegression, "in fold 0, candidate 0 ({'regParam': 0.0})"),
        (WithIteratorOfItsOwn, "in fold 0"),
    ],
)
def test_a_failure_names_its_candidate_and_stops_the_others(
    data: dict, spark: SparkSession, kind: type[StepwiseRegression], place: str
) -> None:
    """The jobs are in the group of the caller, who may cancel them by it."""
    finished: list[float] = []
    estimator = kind(finished)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [float(i) for i in range(12)]).build()
    before = threads()
    context = spark.sparkContext
    context.setLocalProperty("spark.jobGroup.id", "the caller's own")
    try:
        with pytest.raises(RuntimeError, match="candidate 0 cannot be fitted") as raised:
            scenario.cross_validate(
                data["frame"], estimator, grid, BinaryClassificationEvaluator(), key="row", folds=2, parallelism=2
            )
        assert context.getLocalProperty("spark.jobGroup.id") == "the caller's own"
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
    assert raised.value.__notes__ == [place]
    jobs = jobs_so_far(spark)
    deadline = time.monotonic() + 60
    while threads() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threads() - before == set()
    assert finished == []
    assert jobs_so_far(spark) == jobs
    assert set(context.getJobTags()) == set()
    context._jsc.sc().listenerBus().waitUntilEmpty()
    assert context.statusTracker().getJobIdsForGroup("the caller's own")
    assert data["frame"].count() == 569  # the session is as good as before


class FailsLater(LogisticRegression):
    """Fits folds, and cannot fit all rows, or gives models that cannot transform."""

    where = ""

    def _fit(self, dataset: DataFrame) -> Any:
        if self.where == "refit" and dataset.count() == 300:
            raise RuntimeError("no refit")
        model = super()._fit(dataset)
        if self.where == "transform":
            model.transform = self.fail
        return model

    def fail(self, dataset: DataFrame, params: Any = None) -> DataFrame:
        raise RuntimeError("no transform")


@pytest.mark.spark
@pytest.mark.parametrize(
    ("where", "place"), [("transform", "in fold 0, candidate 0"), ("refit", "in the refit of candidate 0")]
)
def test_a_failure_after_a_fit_says_where(rows: DataFrame, where: str, place: str) -> None:
    regression = FailsLater(maxIter=3)
    regression.where = where
    estimator = Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="features"), regression])
    grid: list[dict] = [{regression.regParam: 0.5}]
    with pytest.raises(RuntimeError, match=f"no {where}") as error:
        validate_rows(rows, estimator=estimator, grid=grid)
    assert error.value.__notes__ == [f"{place} ({{'regParam': 0.5}})"]


@pytest.mark.spark
def test_a_model_that_fails_on_validation_rows_names_its_fold(rows: DataFrame) -> None:
    """With grouped folds no column that tells the groups apart has its values in both parts."""
    shops = rows.withColumn("shop", functions.concat(functions.lit("shop"), functions.col("row") % 9))
    indexer, vectors = StringIndexer(inputCol="shop", outputCol="k"), VectorAssembler(inputCols=["k"], outputCol="f")
    estimator = Pipeline(stages=[indexer, vectors, LogisticRegression(featuresCol="f", maxIter=1)])
    with pytest.raises(Exception, match="Unseen label") as error:
        validate_rows(shops, estimator=estimator, key="shop", folds=2)
    assert error.value.__notes__ == ["in fold 0, candidate 0 ({})"]


class Metric(Evaluator):
    """Returns the given values, one for each call."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = iter(values)

    def _evaluate(self, dataset: DataFrame) -> float:
        return next(self.values)

    def isLargerBetter(self) -> bool:
        return True

    def copy(self, extra: Any = None) -> "Metric":
        return self


@pytest.mark.spark
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_a_finite_number_never_wins(data: dict, bad: float) -> None:
    estimator = LogisticRegression(maxIter=1)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [0.5, 0.25]).build()
    metric = Metric([0.9, bad, 0.9, 0.8])
    with pytest.raises(
        ValueError, match=r"the metric is (nan|-?inf), and the best candidate cannot be chosen"
    ) as error:
        scenario.cross_validate(data["frame"], estimator, grid, metric, key="row", folds=2)
    assert error.value.__notes__ == ["in fold 0, candidate 1 ({'regParam': 0.25})"]


# --- validate and check ---


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"folds": 1}, "folds=1: choose 2 to 28 for breast_cancer"),
        ({"folds": 29}, "folds=29: choose 2 to 28 for breast_cancer"),
        ({"candidates": 0}, "candidates=0: choose 1 to 6, the size of the grid"),
        ({"candidates": 7}, "candidates=7: choose 1 to 6, the size of the grid"),
        ({"model": "svc"}, "model='svc' is unknown: choose 'logistic_regression' or 'random_forest'"),
        ({"dataset": "iris"}, "dataset='iris' is unknown: choose 'breast_cancer' or 'synthetic'"),
    ],
)
def test_validate_names_the_factor_and_what_is_possible(factors: dict, message: str) -> None:
    allowed = {"dataset": "breast_cancer", "model": "random_forest", "folds": 3, "candidates": 2}
    with pytest.raises(ValueError) as error:
        scenario.validate(**{**allowed, **factors})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", ["smoke", "ci", "full"])
def test_every_value_of_the_sizes_is_valid(size: str) -> None:
    swept = {k: v if isinstance(v, tuple) else (v,) for k, v in scenario.SIZES[size].items()}
    for name in ("parallelism", "iterations"):  # any number will do
        swept.pop(name, None)
    for factors in ParameterGrid(swept):
        scenario.validate(**factors)


@pytest.mark.spark
@pytest.mark.parametrize("model", scenario.MODELS)
def test_the_grid_has_six_different_candidates_of_its_estimator(spark: SparkSession, model: str) -> None:
    estimator, grid = scenario.candidates_of(model, 6, 100)
    assert len({json.dumps(scenario.plain(candidate)) for candidate in grid}) == 6
    assert isinstance(estimator, Params)
    assert all(estimator.hasParam(param.name) for candidate in grid for param in candidate)


ANSWER = {
    "candidates": [{"regParam": 0.1}, {"regParam": 1.0}, {"regParam": 2.0}],
    "avgMetrics": [0.9, 0.99, 0.99],
    "stdMetrics": [0.01, 0.02, 0.03],
    "best_index": 1,
    "best_params": {"regParam": 1.0},
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"avgMetrics": [0.9 + 1e-7, 0.99, 0.99 - 1e-7]},
        {"best_index": 2, "best_params": {"regParam": 2.0}},  # as good as the reference's choice
    ],
)
def test_check_accepts_rounding_and_ties(change: dict) -> None:
    scenario.check(ANSWER, {**copy.deepcopy(ANSWER), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"avgMetrics": [0.9 + 1e-5, 0.99, 0.99]}, r"avgMetrics\[0\] is"),
        ({"avgMetrics": [0.9, float("nan"), 0.99]}, r"avgMetrics\[1\] is nan"),
        ({"avgMetrics": [0.9, 0.99]}, "avgMetrics has 2 values"),
        ({"stdMetrics": [0.01, 0.02, 0.0301]}, r"stdMetrics\[2\] is"),
        ({"candidates": ANSWER["candidates"][:2]}, "candidates are"),
        ({"best_index": 0, "best_params": {"regParam": 0.1}}, "best_index is 0, which is"),
        ({"best_index": 3}, "best_index is 3"),
        ({"best_params": {"regParam": 0.1}}, "best_params is"),
    ],
)
def test_check_refuses_an_altered_answer(change: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        scenario.check(ANSWER, {**ANSWER, **change})
