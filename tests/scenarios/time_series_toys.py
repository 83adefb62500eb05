# SPDX-License-Identifier: Apache-2.0
"""Estimators so small that their answers are known, and data that are awkward in every way that real data are."""

import threading
from datetime import date, timedelta

import numpy as np
import pandas as pd
from pyspark.ml import Estimator, Model
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions as F  # noqa: N812


class _HasBias(Params):
    bias = Param(Params._dummy(), "bias", "added to the prediction", TypeConverters.toFloat)


class Mean(Estimator, _HasBias, DefaultParamsReadable, DefaultParamsWritable):
    """Predicts the mean label of the train rows, plus a bias. A fit is one Spark job."""

    def __init__(self, bias=0.0):
        super().__init__()
        self._setDefault(bias=0.0)
        self._set(bias=bias)

    def _fit(self, dataset):
        return self._copyValues(MeanModel()._with(dataset.agg(F.avg("label")).head()[0]))


class MeanModel(Model, _HasBias, DefaultParamsReadable, DefaultParamsWritable):
    mean = Param(Params._dummy(), "mean", "mean label", TypeConverters.toFloat)

    def __init__(self):
        super().__init__()
        self._setDefault(bias=0.0)

    def _with(self, mean):
        return self._set(mean=mean)

    def _transform(self, dataset):
        return dataset.withColumn("prediction", F.lit(self.getOrDefault("mean") + self.getOrDefault("bias")))


class Error(Evaluator, DefaultParamsReadable, DefaultParamsWritable):
    """Mean absolute error."""

    larger = Param(Params._dummy(), "larger", "pretend that more is better", TypeConverters.toBoolean)

    def __init__(self, larger=False):
        super().__init__()
        self._set(larger=larger)

    def _evaluate(self, dataset):
        return dataset.agg(F.avg(F.abs(F.col("label") - F.col("prediction")))).head()[0]

    def isLargerBetter(self):
        return self.getOrDefault("larger")


class Calls(Estimator, _HasBias):
    """Fits by calling function(bias, train rows), which returns the metric. It starts no Spark job itself."""

    def __init__(self, function):
        super().__init__()
        self._set(bias=0.0)
        self.function = function

    def _fit(self, dataset):
        return CallsModel(self.function(self.getOrDefault("bias"), dataset))


class CallsModel(Model):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def _transform(self, dataset):
        shown = dataset.select("*")
        shown.value = self.value
        return shown


class ValueOf(Evaluator):
    """The metric that the function of `Calls` returned."""

    def __init__(self, larger=False):
        super().__init__()
        self.larger = larger

    def _evaluate(self, dataset):
        return dataset.value

    def isLargerBetter(self):
        return self.larger


class InFlight:
    """Counts how many threads are inside at once, and holds them until `parties` threads can leave together."""

    def __init__(self, parties=1):
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        self.barrier = threading.Barrier(parties)

    def __call__(self, *_):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.barrier.wait(timeout=60)
        finally:
            with self.lock:
                self.now -= 1
        return 0.0


def panel(days=40, seed=0):
    """Make three series over some days, with ties, missing days, one late beginning and one early end."""
    generator = np.random.default_rng(seed)
    first = date(2024, 2, 1)
    rows = [
        (first + timedelta(days=day), name, float(generator.normal(day, 1)))
        for day in range(days)
        for name in ("a", "a", "b", "c")
        if day in (0, days - 1)
        or (generator.random() > 0.2 and not (name == "b" and day < 9) and not (name == "c" and day > 25))
    ]
    generator.shuffle(rows)
    frame = pd.DataFrame(rows, columns=["day", "series", "label"])
    return frame
