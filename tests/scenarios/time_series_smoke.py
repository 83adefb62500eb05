# SPDX-License-Identifier: Apache-2.0
"""Use once all that time_series_cv.py does with Spark; test_time_series_cv_processes.py runs this elsewhere.

python time_series_smoke.py classic|connect FOLDER_TO_SAVE_IN
"""

import os
import sys
import threading
import time

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

import pyspark
import time_series_cv as recipe
from pyspark.ml import Estimator, Model, Pipeline, PipelineModel
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812
from time_series_cv import TimeSeriesCrossValidator, TimeSeriesCrossValidatorModel


def search():
    regression = LinearRegression()
    return TimeSeriesCrossValidator(
        estimator=Pipeline(stages=[VectorAssembler(inputCols=["x"], outputCol="features"), regression]),
        estimatorParamMaps=[{regression.regParam: value} for value in (5.0, 0.0)],
        evaluator=RegressionEvaluator(),
        timeCol="day",
        numFolds=3,
        horizon=4,
        gap=1,
        parallelism=4,
        collectSubModels=True,
    )


def fit_and_save(data, folder):
    seen, answers = [], []
    for schedule in ("fold", "pool"):
        cv = search().setParams(
            foldParallelism=schedule, progress=lambda result, done, total: seen.append((done, total))
        )
        answers.append(cv.fit(data))
        assert not data.storageLevel.useMemory
    assert seen == [(done, 6) for done in range(1, 7)] * 2
    for ours, theirs in zip(answers[0].avgMetrics, answers[1].avgMetrics, strict=True):
        assert abs(ours - theirs) <= recipe.RELATIVE_TOLERANCE * abs(theirs) + 1e-9
    model = answers[1]
    assert model.bestIndex == 1
    assert abs(model.bestModel.stages[1].coefficients[0] - 2.0) < 1e-6

    cv.save(f"{folder}/cv")
    cv.write().overwrite().save(f"{folder}/cv")
    loaded_cv = TimeSeriesCrossValidator.load(f"{folder}/cv")
    assert loaded_cv.getEstimatorParamMaps() == cv.getEstimatorParamMaps()
    assert loaded_cv.getOrDefault("gap") == 1
    assert not loaded_cv.isSet("maxTrain")
    model.save(f"{folder}/model")
    loaded = TimeSeriesCrossValidatorModel.load(f"{folder}/model")
    assert loaded.avgMetrics == model.avgMetrics
    assert loaded.foldResults == model.foldResults
    assert loaded.subModels[0][0].stages[1].coefficients == model.subModels[0][0].stages[1].coefficients
    assert loaded.transform(data).count() == data.count()
    Pipeline(stages=[cv]).fit(data).save(f"{folder}/pipeline")
    assert PipelineModel.load(f"{folder}/pipeline").stages[0].bestIndex == 1


def plans(spark, data):
    plan = search().foldPlan(data)
    print(recipe.describe_folds(plan))
    assert [(fold.trainRows, fold.validationRows) for fold in plan] == [(14, 8), (22, 8), (30, 8)]
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    moments = data.select(F.col("day").cast("timestamp").alias("t"))
    for unit, rows in (("hour", 2), ("day", 2), ("week", 14), ("month", 20)):
        cv = TimeSeriesCrossValidator(timeCol="t", timeUnit=unit, numFolds=1, horizon=1)
        assert cv.foldPlan(moments)[0].validationRows == rows, unit
    cv = TimeSeriesCrossValidator(timeCol="t", timeUnit="hour", cutoffs=["2024-03-05"], horizon=1)
    assert cv.foldPlan(moments)[0].trainRows == 28


class FailsOnce(Estimator):
    """The first candidate waits in Spark for a minute; the second raises as soon as the first waits."""

    waiting = threading.Event()

    def _fit(self, dataset):
        if not FailsOnce.waiting.is_set():
            FailsOnce.waiting.set()
            sleep = "reflect('java.lang.Thread', 'sleep', CAST(60000 AS BIGINT))"
            dataset.sparkSession.range(0, 1, 1, 1).select(F.expr(sleep)).collect()
            return Model()
        time.sleep(1)
        raise ZeroDivisionError("on purpose")


def failure(spark, data):
    cv = search().setParams(estimator=FailsOnce(), estimatorParamMaps=[{}, {}], parallelism=2)
    began = time.perf_counter()
    try:
        cv.fit(data)
    except ZeroDivisionError as error:
        said = str(error)
    else:
        said = "no failure"
    assert said == "on purpose"
    assert time.perf_counter() - began < 50, "the job of a minute was not cancelled"
    assert not data.storageLevel.useMemory
    # Threads with other names may stay: Spark Connect's client has a pool in which it releases results.
    assert not [thread for thread in threading.enumerate() if "TimeSeriesCrossValidator" in thread.name]


if __name__ == "__main__":
    builder = SparkSession.builder.appName("time_series_smoke")
    spark = (builder.remote("local[2]") if sys.argv[1] == "connect" else builder.master("local[2]")).getOrCreate()
    days = "date_add(date'2024-02-20', cast(n as int)) AS day"
    data = spark.range(0, 40, 1, 1).selectExpr("floor(id / 2) AS n", "double(id) AS x", "2.0D * id + 1 AS label")
    data = data.selectExpr("x", "label", days)
    plans(spark, data)
    fit_and_save(data, sys.argv[2])
    failure(spark, data)
    print(f"PySpark {pyspark.__version__} {sys.argv[1]}: all well")
    spark.stop()
