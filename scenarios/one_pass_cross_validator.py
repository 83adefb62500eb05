# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.5",
#                 "joblib>=1.4"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Spark's CrossValidator for linear regressions, in one pass over the data: the same folds, the same metrics.

CrossValidator fits every candidate on every fold, with two scans or three for each. A linear regression needs of its
rows only their second moments: one scan sums them up for each fold, and what the other folds have together is what a
candidate is fitted to. Use it in the place of CrossValidator wherever the model is Spark's `LinearRegression` and the
grid is over `regParam`, `elasticNetParam`, `fitIntercept` and `standardization`. Whatever else it is given it leaves
to CrossValidator, with a warning. For folds in time there is one_pass_time_series_cv.py.

    best = OnePassCrossValidator(
        estimator=LinearRegression(), estimatorParamMaps=grid, evaluator=RegressionEvaluator(), numFolds=5, seed=1
    ).fit(data).bestModel

Copy it together with its sibling one_pass_time_series_cv.py, which it imports, and the siblings of that one.

Run it alone:  python one_pass_cross_validator.py
(the benchmark half also needs its siblings time_series_cv_sklearn.py and time_series_cv_pool.py)
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
from one_pass_time_series_cv import (
    MAX_CONDITION,
    Blocks,
    Keys,
    Moments,
    Outcome,
    Predictions,
    Scan,
    Search,
    UnsuitableError,
    _checked_candidates,
    class_or_label,
    column_and_type,
    cross_validate,
    fit_one,
    kept,
    make_model,
    make_search,
    merge,
    metrics_of,
    named_candidate,
    only_label,
    together,
    why_not,
)
from pyspark import inheritable_thread_target
from pyspark.ml import Model
from pyspark.ml.param import Params
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, CrossValidatorReader
from pyspark.ml.util import MLWriter
from pyspark.sql import Column, DataFrame, functions
from pyspark.sql.types import NumericType
from pyspark.sql.utils import is_remote

FOLD_NUMBERS = Keys("number", 1)


class OnePassCrossValidator(CrossValidator):
    """Choose the best linear regression by k-fold cross-validation, in one pass over the data.

    Takes what `CrossValidator` takes, and gives the same folds and a `CrossValidatorModel` with the same metrics. Needs
    a classic session, not Spark Connect.

    Notes
    -----
    The pass is one Spark job of few tasks, which reads the data once. The metric mae, and others where a fit is so
    close that its errors drown in rounding, take another pass, which predicts for all candidates at once. So do
    evaluators other than Spark's own `RegressionEvaluator`, subclasses of it too, and those with another labelCol or
    predictionCol than the estimator's: the predictions are cached, and the evaluator is called for each fold and
    candidate, in `parallelism` threads. Folds of one class, for which a `BinaryClassificationEvaluator` has no metric,
    and those of one label, for which there is no r2, are left out of the averages, with a warning.

    CrossValidator draws its folds anew for each scan, and may see a row on both sides if the rows come in another
    order. One pass draws them once. Where another pass is certain beforehand, the rows are cached with their folds for
    both, unless the data are cached. Where only rounding asks for another pass, which nobody knows beforehand, the
    folds are drawn again: cache data whose rows may come in another order, or give `foldCol`.

    CrossValidator does the work where the moments of the rows do not suffice or would take too much memory, where a
    condition number above MAX_CONDITION would cost digits, and over Spark Connect; `parallelism` matters then too. The
    best model has no training summary. A candidate whose average is NaN, or infinitely bad, never wins. (Where
    CrossValidator does the work, NaN is shown as infinitely bad.)

    Without a seed the folds are those of a CrossValidator without one, and others in the next process: the default is
    the hash of a name, which changes from process to process unless PYTHONHASHSEED is set.

    It is saved as a plain CrossValidator. `OnePassCrossValidator.load` gives this class back. Inside of a saved
    Pipeline it comes back as the plain one, which finds the same with more jobs.

    Raises
    ------
    ValueError
        Rows that Spark's `LinearRegression` would not take, a fold without rows, fewer than two folds, no candidates,
        values that are none of their params, or params of none of the stages.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._setDefault(seed=hash("CrossValidator"))  # PySpark takes the name of the class, and so other folds

    def write(self) -> MLWriter:
        """Return a writer of what a plain CrossValidator would be."""
        # PySpark's reader takes a class from elsewhere for one that Java wrote.
        plain = self._copyValues(CrossValidator()._resetUid(self.uid))
        return plain._set(estimatorParamMaps=self._candidates()).write()

    @classmethod
    def read(cls) -> _Reader:
        """Return a reader that makes an instance of this class."""
        return _Reader(cls)

    def _candidates(self) -> list[dict]:
        """Return the candidates as PySpark takes them, which fits and saves no numbers of numpy."""
        return _checked_candidates(self.getEstimatorParamMaps(), self.getEstimator(), self.getEvaluator())

    def _fit(self, dataset: DataFrame) -> CrossValidatorModel:
        candidates = self._candidates()
        if self.getNumFolds() < 2:
            raise ValueError(f"numFolds={self.getNumFolds()} leaves nothing to train on: give 2 or more")
        try:
            if reason := why_not(self.getEstimator(), candidates):
                raise UnsuitableError(reason)
            if is_remote():
                raise UnsuitableError("models cannot be made of coefficients over Spark Connect")
            return self._fit_in_one_pass(dataset, candidates)
        except UnsuitableError as error:
            why = str(error)
        warnings.warn(f"moments do not suffice: {why}. All is left to CrossValidator", stacklevel=3)
        return self._fit_by_crossvalidator(dataset, candidates)

    def _fit_by_crossvalidator(self, dataset: DataFrame, candidates: list[dict]) -> CrossValidatorModel:
        judge = _Judge(self.getEvaluator(), len(candidates))
        # With the candidates as they were checked: PySpark does not take numpy's numbers.
        plain = Params.copy(self)._set(estimatorParamMaps=candidates, evaluator=judge)
        with np.errstate(invalid="ignore"):  # an infinite metric has no deviation
            found = CrossValidator._fit(plain, dataset)
        found._set(evaluator=judge.evaluator)
        averages = np.array(found.avgMetrics)
        self._refuse_worst(averages)
        if judge.without:
            self._warn_of(judge.without, stacklevel=5)
            # These folds counted 0 for each candidate.
            share = self.getNumFolds() / (self.getNumFolds() - len(judge.without))
            squares = share * (averages**2 + np.array(found.stdMetrics) ** 2)
            found.avgMetrics = (share * averages).tolist()
            found.stdMetrics = np.sqrt(np.maximum(squares - (share * averages) ** 2, 0.0)).tolist()
        return found

    def _fit_in_one_pass(self, dataset: DataFrame, candidates: list[dict]) -> CrossValidatorModel:
        estimator: Any = self.getEstimator()
        evaluator: Any = self.getEvaluator()
        rows, fold = self._with_folds(dataset)
        search, scan = make_search(estimator, candidates, evaluator), Scan(rows, estimator, evaluator)
        twice, level = search.metric in (None, "mae"), dataset.storageLevel
        drawn_anew = twice and not (self.getFoldCol() or level.useMemory or level.useDisk)
        with kept(rows) if drawn_anew else nullcontext():
            return self._search(dataset, candidates, scan, fold, search)

    def _search(
        self, dataset: DataFrame, candidates: list[dict], scan: Scan, fold: Column, search: Search
    ) -> CrossValidatorModel:
        """Fit and evaluate all from one pass or two, and choose the best candidate."""
        blocks, found = scan.moments(fold, FOLD_NUMBERS, search)
        folds = self.getNumFolds()
        if min(found.ends) < 0 or max(found.ends) >= folds:
            raise ValueError(
                f"the column {self.getFoldCol()} has fold numbers outside of 0 to {folds - 1}, or nulls, or fractions"
            )
        if blocks is None:
            raise UnsuitableError(
                f"those of {folds} folds and {scan.width} features take more than the {scan.most_bytes / 2**20:.0f} MB"
                " that a task may send (one_pass_time_series_cv.MOMENT_BYTES, spark.driver.maxResultSize)"
            )
        if missing := sorted(set(range(folds)) - set(blocks.keys.tolist())):
            raise ValueError(f"fold {', '.join(map(str, missing))} of {folds} has no rows: take fewer folds")
        train, validation = blocks.moments[search.train], blocks.moments[search.validation]
        outcome = cross_validate(zip(without_each(train), _each(validation), strict=True), search)
        if not (worst := outcome.condition.max()) <= MAX_CONDITION:
            raise UnsuitableError(
                f"a candidate has the condition number {worst:.1e}, more than MAX_CONDITION={MAX_CONDITION:.0e}."
                " Columns that depend on one another do that: leave some out, or raise regParam",
            )
        metrics, without = outcome.metrics, outcome.without_r2(search)
        ends = np.stack([blocks.keys, blocks.keys + 1], axis=1)
        if search.metric is None:
            metrics, without = self._evaluate(scan.predictions(fold, FOLD_NUMBERS, ends, search, outcome), candidates)
        elif not outcome.sure.all():
            errors = scan.errors(fold, FOLD_NUMBERS, ends, search, outcome)
            metrics = metrics_of(errors, outcome.weights, outcome.totals, search.metric)
        if without:
            self._warn_of(without, stacklevel=6)
            metrics = np.delete(metrics, sorted(without), axis=0)
        return self._conclude(dataset, candidates, blocks, search, outcome, metrics)

    def _evaluate(self, predictions: Predictions, candidates: list[dict]) -> tuple[np.ndarray, dict[int, str]]:
        """Let the evaluator tell the metrics, in `parallelism` threads; return them, and labels that leave none."""
        evaluator: Any = self.getEvaluator()
        drawn, shape = f"{self.uid}_rand", (self.getNumFolds(), len(candidates))
        without: dict[int, str] = {}

        def evaluate(fold: int, candidate: int) -> float:
            rows = predictions.of(fold, candidate).drop(drawn)
            try:
                metric = float(evaluator.copy().evaluate(rows))
                label = only_label(evaluator, metric, rows)
            except Exception as failure:
                failure.add_note(f"in fold {fold}, {named_candidate(candidate, candidates[candidate])}")
                raise
            if label is not None:
                without[fold] = label
            return metric

        session = predictions.frame.sparkSession
        with predictions.cached(), ThreadPoolExecutor(self.getParallelism()) as pool:
            calls = [
                pool.submit(inheritable_thread_target(session)(functools.partial(evaluate, *place)))
                for place in np.ndindex(shape)
            ]
            try:
                metrics = np.reshape([call.result() for call in calls], shape)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return metrics, without

    def _warn_of(self, without: dict[int, str], stacklevel: int) -> None:
        """Warn of folds that have no metric because of their labels; refuse to go on where there is no other."""
        evaluator: Any = self.getEvaluator()
        kind, folds = class_or_label(evaluator), ", ".join(f"fold {fold} ({without[fold]})" for fold in sorted(without))
        message = f"{evaluator.getMetricName()} is not defined where all rows of a fold have one {kind}: {folds}"
        if len(without) == self.getNumFolds():
            raise ValueError(f"{message}. There is no other fold: take fewer folds, or rows of more than one {kind}")
        warnings.warn(f"{message}. The averages leave them out", stacklevel=stacklevel)

    def _refuse_worst(self, averages: np.ndarray) -> None:
        """Raise ValueError where no candidate can win."""
        worst = -np.inf if self.getEvaluator().isLargerBetter() else np.inf
        if (np.isnan(averages) | (averages == worst)).all():
            raise ValueError(
                f"no candidate has an average metric other than NaN or {worst}: look at label and evaluator"
            )

    def _kFold(self, dataset: DataFrame) -> list[tuple[DataFrame, DataFrame]]:
        """As CrossValidator, which leaves its random numbers in the data: RFormula("label ~ .") would fit to them."""
        drawn = f"{self.uid}_rand"
        return [(train.drop(drawn), validation.drop(drawn)) for train, validation in super()._kFold(dataset)]

    def _with_folds(self, dataset: DataFrame) -> tuple[DataFrame, Column]:
        """Return the rows, and the number of a row's fold as CrossValidator draws it; -1 where it is none."""
        if column := self.getFoldCol():
            value, kind = column_and_type(dataset, column)
            if not isinstance(kind, NumericType):
                raise ValueError(f"the fold column {column!r} is {kind.simpleString()}: give numbers of folds, from 0")
            whole = value.cast("long")
            return dataset, functions.when(value == whole, whole).otherwise(functions.lit(-1))
        name = f"{self.uid}_rand"
        rows = dataset.select("*", functions.rand(self.getSeed()).alias(name))
        share = 1.0 / self.getNumFolds()
        # As CrossValidator compares, to the last digit.
        above = [(functions.col(name) >= fold * share).cast("long") for fold in range(1, self.getNumFolds())]
        return rows, sum(above, functions.lit(0))

    def _conclude(
        self,
        dataset: DataFrame,
        candidates: list[dict],
        blocks: Blocks,
        search: Search,
        outcome: Outcome,
        metrics: np.ndarray,
    ) -> CrossValidatorModel:
        with np.errstate(invalid="ignore"):  # what an evaluator says need not be finite
            averages, deviations = metrics.mean(axis=0), metrics.std(axis=0)
        self._refuse_worst(averages)
        best = int((np.nanargmax if self.getEvaluator().isLargerBetter() else np.nanargmin)(averages))
        estimators: list[Any] = [self.getEstimator().copy(params) for params in candidates]
        models: list[list[Model]] | None = None
        if self.getCollectSubModels():
            models = [
                [make_model(*fit) for fit in zip(estimators, coefficients, intercepts, strict=True)]
                for coefficients, intercepts in zip(
                    outcome.coefficients, outcome.intercepts(search.settings).tolist(), strict=True
                )
            ]
        coefficients, intercept, condition = fit_one(merge(blocks.moments[search.train]), search.settings[best])
        if condition <= MAX_CONDITION:
            chosen = make_model(estimators[best], coefficients, intercept)
        else:
            chosen = estimators[best].fit(dataset)
        found = CrossValidatorModel(chosen, averages.tolist(), models, deviations.tolist())
        return self._copyValues(found)._set(estimatorParamMaps=candidates)


class _Judge:
    """An evaluator for CrossValidator: 0 for all candidates where a fold has no metric, and NaN is infinitely bad."""

    def __init__(self, evaluator: Any, candidates: int) -> None:
        self.evaluator, self.candidates = evaluator, candidates
        self.isLargerBetter = evaluator.isLargerBetter
        self.without: dict[int, str] = {}  # folds to their labels, where these leave no metric
        self.calls = itertools.count()

    def evaluate(self, predictions: DataFrame) -> float:
        """Return what a candidate counts with on a fold."""
        fold = next(self.calls) // self.candidates  # no fold begins before all candidates are through with the last one
        metric = float(self.evaluator.evaluate(predictions))
        if (label := only_label(self.evaluator, metric, predictions)) is not None:
            self.without[fold] = label
            return 0.0
        return metric if metric == metric else -np.inf if self.isLargerBetter() else np.inf


class _Reader(CrossValidatorReader):
    """Reads a CrossValidator into an instance of the class whose `read` was called."""

    def load(self, path: str) -> CrossValidator:
        plain = CrossValidator.read().session(self.sparkSession).load(path)
        return plain._copyValues(self.cls()._resetUid(plain.uid))


def _each(groups: Moments) -> list[Moments]:
    return [groups.take(slice(i, i + 1)) for i in range(len(groups.weight))]


def without_each(groups: Moments) -> list[Moments]:
    """Return, for each group, the moments of all the others together, of two groups or more.

    Sums of those before and of those after, not the whole less one: a difference would lose digits.
    """

    def sums(parts: Sequence[Moments]) -> list[Moments]:
        return list(itertools.accumulate(parts, together))

    each = _each(groups)
    before, after = sums(each[:-1]), sums(each[:0:-1])[::-1]
    between = [together(*pair) for pair in zip(before, after[1:], strict=False)]
    return [after[0], *between, before[-1]]


# --- benchmark: delete from here on when copying ------------------------
import os
import sys

import pyarrow as pa
from joblib import parallel_config
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from time_series_cv_sklearn import ScaledRidge

WORKLOAD = "linear regression CV"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"rows": 2_000, "folds": 2, "candidates": 3},
    "ci": {"rows": 50_000, "folds": 2, "candidates": 2},
    "full": {"rows": (1_000_000, 100_000), "folds": (5, 10, 20), "candidates": 16},
}
GATED = ()  # its sums are those of one_pass_time_series_cv, which is gated
FEATURES = 12
TOLERANCE = 1e-8  # relative


def make_data(*, rows: int, folds: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw 12 correlated features of different scales and a label that depends on them, and deal out the folds."""
    generator = np.random.default_rng(seed)
    scales = 10.0 ** generator.integers(-2, 3, FEATURES)
    X = generator.normal(size=(rows, FEATURES)) @ (np.eye(FEATURES) + 0.1) * scales + 5 * scales
    y = X @ (generator.normal(size=FEATURES) / scales) + generator.normal(size=rows)
    return {"X": X, "y": y, "fold": generator.permutation(rows) % folds}


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Load the rows into Spark, assemble the feature vectors, and cache them. Whoever calls this unpersists `frame`."""
    columns = {"label": data["y"], "fold": data["fold"].astype(np.int32)}
    return {**data, "frame": cached_frame(spark, columns, data["X"])}


def cached_frame(spark: SparkSession, columns: dict[str, np.ndarray], X: np.ndarray) -> DataFrame:
    """Load columns of n values and X of shape (n, features), which becomes the column "features", and cache them."""
    names = [f"x{i}" for i in range(X.shape[1])]
    rows = spark.createDataFrame(pa.table({**columns, **dict(zip(names, X.T.copy(), strict=True))}))
    frame = VectorAssembler(inputCols=names, outputCol="features").transform(rows).select(*columns, "features").cache()
    frame.count()
    return frame


def validate(*, rows: int, folds: int) -> None:
    """Raise ValueError where there are fewer than two folds, or a fold has fewer rows than a fit needs."""
    if folds < 2 or rows < 20 * folds:
        raise ValueError(f"folds={folds}: choose 2 to {rows // 20} for {rows} rows")


def penalties(candidates: int) -> list[float]:
    """Return penalties of growing strength."""
    return [10.0**power for power in np.linspace(-4, 1, candidates).tolist()]


def search_with_sklearn(data: dict[str, Any], candidates: int) -> dict[str, Any]:
    """Search on one machine; `joblib.parallel_config` says in how many processes."""
    grid = {"reg_param": penalties(candidates)}
    metric = "neg_root_mean_squared_error"
    search = GridSearchCV(ScaledRidge(), grid, cv=PredefinedSplit(data["fold"]), scoring=metric, n_jobs=None)
    search.fit(data["X"], data["y"])
    averages = [-score for score in search.cv_results_["mean_test_score"].tolist()]
    return {"best": int(search.best_index_), "avgMetrics": averages}


def search_with_spark(validator: CrossValidator, data: dict[str, Any], candidates: int, folds: int) -> dict[str, Any]:
    """Search with Spark's LinearRegression."""
    model = LinearRegression()
    settings = {
        "estimator": model,
        "estimatorParamMaps": [{model.regParam: penalty} for penalty in penalties(candidates)],
        "evaluator": RegressionEvaluator(metricName="rmse"),
        "numFolds": folds,
        "foldCol": "fold",
    }
    averages = validator._set(**settings).fit(data["frame"]).avgMetrics
    return {"best": int(np.argmin(averages)), "avgMetrics": [float(average) for average in averages]}


def run_serial(data: dict[str, Any], *, candidates: int) -> dict[str, Any]:
    """scikit-learn, one process."""
    with parallel_config("loky", n_jobs=1):
        return search_with_sklearn(data, candidates)


def run_loky(data: dict[str, Any], *, parallelism: int, candidates: int) -> dict[str, Any]:
    """scikit-learn, loky processes."""
    with parallel_config("loky", n_jobs=parallelism, inner_max_num_threads=1):
        return search_with_sklearn(data, candidates)


def run_cross_validator(
    data: dict[str, Any], *, spark: SparkSession, parallelism: int, folds: int, candidates: int
) -> dict[str, Any]:
    """Spark's CrossValidator, a thread a slot."""
    return search_with_spark(CrossValidator(parallelism=parallelism), data, candidates, folds)


def run_one_pass(data: dict[str, Any], *, spark: SparkSession, folds: int, candidates: int) -> dict[str, Any]:
    """One pass over the data."""
    return search_with_spark(OnePassCrossValidator(), data, candidates, folds)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a mean error differs by more than TOLERANCE, or another candidate wins."""
    np.testing.assert_allclose(answer["avgMetrics"], reference["avgMetrics"], rtol=TOLERANCE)
    assert answer["best"] == reference["best"], f"candidate {answer['best']} won, expected {reference['best']}"


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(rows=50_000, folds=5), spark=session)
    found = run_one_pass(made, spark=session, folds=5, candidates=8)
    print(f"RMSE of each candidate: {found['avgMetrics']}; the best is number {found['best']}")
    session.stop()
