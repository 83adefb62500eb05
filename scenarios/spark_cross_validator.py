# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "scikit-learn>=1.5"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Spark ML's CrossValidator, several candidates at a time, with the traps around it closed.

Use it for data that is in Spark and for models that Spark ML has. Every fit is a series of Spark jobs over the whole
data, so a fit is parallel by itself. `parallelism` adds driver threads that fit several candidates of one fold at
once, to fill the slots that a small job leaves idle. It pays where one fit cannot keep all slots busy, and does
nothing where it can. Data that fits in one machine is nearly always searched faster there: see
grid_search_single_node.py.

Run it alone:  python spark_cross_validator.py
"""

from __future__ import annotations

import functools
import math
import operator
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from types import SimpleNamespace
from typing import Any, TypeGuard

import numpy as np
from pyspark import SparkContext, StorageLevel
from pyspark.errors import AnalysisException
from pyspark.ml import Estimator
from pyspark.ml.evaluation import BinaryClassificationEvaluator, Evaluator, RegressionEvaluator
from pyspark.ml.param import Param, Params
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel
from pyspark.sql import Column, DataFrame, functions
from pyspark.sql.types import NumericType
from pyspark.sql.utils import is_remote

# One element of the list that ParamGridBuilder().addGrid(...).build() returns.
Candidate = dict[Param, object]
# Folds that take this share of an executor's memory for cached data, or less, are kept on every executor.
SMALL_SHARE = 0.25
NEARLY_0 = 1e-6  # an area so near to 0 or 1 may be one that is not defined; rounding keeps it from being that number


def cross_validate(
    frame: DataFrame,
    estimator: Estimator,
    grid: Sequence[Candidate],
    evaluator: Evaluator,
    *,
    key: str | Sequence[str],
    folds: int,
    parallelism: int = 1,
    error_score: float | None = None,
) -> CrossValidatorModel:
    """Fit every candidate on every fold, and the best one on all rows.

    `frame` should be cached, because each fit reads it many times. CrossValidator also caches the rows of the current
    fold, which takes about as much memory again, and frees them afterwards; small folds get a copy on each executor,
    see `on_each_executor`. With more than one candidate at a time it still waits for all candidates of a fold before
    the next fold begins. The folds are conditions and no column, so nothing is added to what estimators see. A failure
    has a note with its fold and candidate, or with the fold alone where a `fitMultiple` of the estimator's own fails.
    It and Ctrl-C end what other threads are at. Jobs keep the job group of the caller, who may cancel them by it.

    Parameters
    ----------
    frame : DataFrame
        Has the columns that the estimator and the evaluator name.
    estimator : Estimator
    grid : sequence of dict
        Candidates, from `ParamGridBuilder`.
    evaluator : Evaluator
        Says which metric, and whether more is better.
    key : str or sequence of str
        Name of a column that tells rows apart, or names of several that do so together. It decides the fold of a row;
        see `assign_folds`.
    folds : int
        Number of folds.
    parallelism : int, default=1
        Number of driver threads. Threads beyond the number of candidates are not used.
    error_score : float, optional
        What a fold counts with that has no metric, see Warns. By default it is left out. The choice is the same.

    Returns
    -------
    CrossValidatorModel
        `avgMetrics` and `stdMetrics` have one value for each candidate, in the order of `grid`.

    Raises
    ------
    ValueError
        There are no candidates or fewer than two folds, a candidate has a param of none of the stages, keys are null,
        or a fold has no rows; or the metric of a candidate on a fold is not a finite number, which a note names.
        CrossValidator would choose NaN as the best metric, whether more is better or less. Or a fold has rows of one
        class only, and the label is no column of `frame` but made by the estimator. Or a fold would get an
        `error_score` that is not finite. Or the session is one of Spark Connect.

    Warns
    -----
    UserWarning
        Folds have rows of one class only, where a `BinaryClassificationEvaluator` has no metric but returns 0.0 or 1.0,
        or train rows of one class only, where a model of that label learns nothing. To Spark all labels above 0.5 are
        one class. Or the rows of folds have one label only, where r2 of a `RegressionEvaluator` is not defined. Such
        folds are left out of the averages, or get the `error_score`. What a subclass returns from an `_evaluate` of its
        own counts as it is. Or labels are NaN where folds are judged by them. Or stages drop rows of folds, by
        handleInvalid="skip" or coldStartStrategy="drop".
    """
    if is_remote():
        raise ValueError("this needs a classic session, not Spark Connect: use pyspark.ml.tuning.CrossValidator there")
    if not grid:
        raise ValueError("grid is empty: give one candidate or more; [{}] is the estimator as it is")
    given: Any = folds
    if not isinstance(given, Integral) or folds < 2:
        raise ValueError(f"folds={folds!r}: cross-validation needs two folds or more, as a whole number")
    refuse_params_of_others(grid, estimator, evaluator)
    fold = fold_of(frame, key, folds)
    usable = usable_folds(frame, estimator, evaluator, key, folds, error_score)
    # PySpark does not take numpy's numbers, and where it finds one in a grid the estimator is of no more use.
    candidates = [{param: v.item() if isinstance(v, np.generic) else v for param, v in one.items()} for one in grid]
    watched = _Watched(estimator, evaluator, candidates, list(usable))
    watched.drops_rows = may_drop_rows(estimator, candidates)
    watched.drops_differ = watched.drops_rows and may_drop_others(candidates)
    watched.label_is_made = has_area(evaluator) and not has_column(frame, evaluator.getLabelCol())
    validator = _KeyedFolds(estimatorParamMaps=candidates, numFolds=len(usable), parallelism=parallelism)
    validator._set(estimator=watched, evaluator=watched)
    validator.conditions = [(fold != number, fold == number) for number in usable]
    with validator.caches_freed(), all_jobs_stop_on_failure(frame.sparkSession.sparkContext, watched):
        model = validator.fit(frame)
    model._set(estimator=estimator, evaluator=evaluator)
    if watched.scored:
        warn_of_dropped_rows(usable, watched.scored)
    if error_score is not None and len(usable) < folds:
        _add_folds(model, len(usable), folds - len(usable), error_score)
    return model


def refuse_params_of_others(grid: Sequence[Candidate], estimator: Estimator, evaluator: Evaluator) -> None:
    """Raise ValueError where a candidate has a param that belongs to none of the stages, or to the evaluator.

    PySpark passes over such a param, and all candidates would be the same. Nothing is refused where that cannot be
    told.
    """
    stages = stages_in(estimator)
    if any(map(has_ways_of_its_own, stages)):
        return
    inside = {stage.uid for stage in stages}
    # A candidate may bring stages of its own, such as those of a pipeline.
    owners = inside | {stage.uid for stage in stages_in([*grid])}
    for number, candidate in enumerate(grid):
        for param in candidate:
            if isinstance(param, Param) and param.parent == evaluator.uid and evaluator.uid not in inside:
                raise ValueError(
                    f"candidate {number} has the param {param} of the evaluator, which has the same settings for all"
                    " candidates: set it there"
                )
            if isinstance(param, Param) and param.parent not in owners:
                raise ValueError(
                    f"candidate {number} has the param {param}, which belongs to no stage of the estimator: take it"
                    " from the stage itself, not from another instance"
                )


DROPS = {"handleInvalid": "skip", "coldStartStrategy": "drop"}  # params and values of stages that drop rows


def may_drop_rows(estimator: Estimator, grid: Sequence[dict[Param, object]]) -> bool:
    """Whether a stage or a candidate drops rows that it cannot use, and with them what it would be wrong about."""
    set_by_grid = [(param.name, value) for candidate in grid for param, value in candidate.items()]
    stages = stages_in([estimator, *grid])
    kept = [
        (name, each.getOrDefault(name))
        for each in stages
        for name in DROPS
        if each.hasParam(name) and each.isDefined(name)
    ]
    return any(pair in DROPS.items() for pair in (*set_by_grid, *kept))


def may_drop_others(grid: Sequence[dict[Param, object]]) -> bool:
    """Whether candidates may drop other rows than one another: they set what drops rows, or bring stages."""
    return bool(stages_in(grid)) or any(param.name in DROPS for candidate in grid for param in candidate)


def warn_of_dropped_rows(rows: dict[int, int], scored: dict[int, list[int]]) -> None:
    """Warn where models predicted fewer rows than a fold has."""
    if few := [number for number in sorted(scored) if min(scored[number]) < rows[number]]:
        named_folds = ", ".join(f"fold {number}: {min(scored[number])} of {rows[number]}" for number in few)
        warnings.warn(
            f"rows of folds were dropped, and the metrics are of those that were scored, {named_folds}. Look at the"
            " stages with handleInvalid='skip' or coldStartStrategy='drop'",
            stacklevel=3,
        )


def stages_in(root: Any) -> list[Params]:
    """Return a stage and all that it holds, as values of params or attributes, in lists and dicts too."""
    found: list[Params] = []
    left: list[Any] = [root]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if not isinstance(one, (Params, dict, list, tuple)) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Params):
            found.append(one)
            left += vars(one).values()
        else:
            left += one.values() if isinstance(one, dict) else one
    return found


def has_ways_of_its_own(stage: Params) -> bool:
    """Whether a class outside of PySpark says how a stage is copied or fitted.

    Params of others may then reach what it keeps where nobody sees it. PySpark's own ways set the stage's own params,
    and hand the others on to stages that are values of params.
    """
    outside = [kind for kind in type(stage).__mro__ if not kind.__module__.startswith("pyspark.")]
    return any(name in vars(kind) for kind in outside for name in ("copy", "fit", "fitMultiple"))


def has_area(evaluator: Evaluator) -> TypeGuard[BinaryClassificationEvaluator]:
    """Whether the metric is the area that Spark itself works out. Subclasses may have a metric of their own."""
    own = BinaryClassificationEvaluator
    return isinstance(evaluator, own) and type(evaluator)._evaluate is own._evaluate


def has_r2(evaluator: Evaluator) -> bool:
    """Whether the metric is the r2 that Spark itself works out. Through the origin, one label may do."""
    own = RegressionEvaluator
    if not isinstance(evaluator, own) or type(evaluator)._evaluate is not own._evaluate:
        return False
    return evaluator.getMetricName() == "r2" and not evaluator.getThroughOrigin()


def labels_of_one_class(low: Any, high: Any, area: bool = True) -> str | None:
    """Return labels from low to high as text where they are one, or, to an area, of one class.

    To Spark above 0.5 is positive, and NaN is the greatest number.
    """
    if low == high:
        return f"label {low}"
    if area and high == high and (low > 0.5) == (high > 0.5):
        return f"labels {low} to {high}, {'all' if low > 0.5 else 'none'} above 0.5: recode them as 0 and 1"
    return None


def refuse_one_class(evaluator: Any, metric: float, rows: DataFrame, fold: int) -> None:
    """Raise ValueError where rows have one class, whose label no one can know before the estimator made it."""
    if NEARLY_0 < metric < 1 - NEARLY_0:
        return
    label = named(rows, evaluator.getLabelCol())
    if labels := labels_of_one_class(*rows.agg(functions.min(label), functions.max(label)).collect()[0]):
        raise ValueError(
            f"{evaluator.getMetricName()} is not defined where all rows of a fold have one class: fold {fold}"
            f" ({labels}). The estimator makes the label: add it to the frame before, so that such folds can be left"
            " out"
        )


def _add_folds(model: CrossValidatorModel, folds: int, more: int, score: float) -> None:
    """Let each candidate have the same score in some more folds, which changes averages but no choice."""
    averages, deviations = np.array(model.avgMetrics), np.array(model.stdMetrics)
    mean = (folds * averages + more * score) / (folds + more)
    variance = (folds * (deviations**2 + (averages - mean) ** 2) + more * (score - mean) ** 2) / (folds + more)
    model.avgMetrics, model.stdMetrics = mean.tolist(), np.sqrt(variance).tolist()


class _Watched:
    """An estimator and an evaluator in one, as CrossValidator uses them, whose failures tell fold and candidate.

    CrossValidator calls `fitMultiple` once for each fold, and fits and evaluates a candidate in one thread.
    """

    label_is_made = drops_rows = drops_differ = False
    over = False  # nothing more is to begin

    def __init__(self, estimator: Estimator, evaluator: Any, candidates: Sequence[Any], folds: Sequence[int]) -> None:
        self.estimator, self.evaluator, self.candidates, self.folds = estimator, evaluator, candidates, iter(folds)
        self.isLargerBetter = evaluator.isLargerBetter
        self.fold = -1
        self.here = threading.local()  # the place of each thread
        self.running: set[int] = set()
        self.scored: dict[int, list[int]] = {}  # folds to the rows that were predicted, where some may not be

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Add to an exception where it was, and know which threads are at work."""
        self.running.add(threading.get_ident())
        try:
            if self.over:
                raise RuntimeError("the search was ended")
            yield
        except Exception as error:
            error.add_note(f"in {self.here.place}")
            raise
        finally:
            self.running.discard(threading.get_ident())

    def fitMultiple(self, dataset: DataFrame, candidates: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Return what gives a candidate's number and model each time, to several threads at once."""
        self.fold = next(self.folds)
        self.here.place = f"fold {self.fold}"

        def be_at(number: int) -> None:
            self.here.place = f"fold {self.fold}, candidate {number} ({plain(candidates[number])})"

        def fit_one(number: int) -> tuple[int, Any]:
            be_at(number)
            return number, estimator.fit(dataset, candidates[number])

        with self.noted():
            if type(self.estimator).fitMultiple is Estimator.fitMultiple:
                estimator = self.estimator.copy()  # as PySpark does, but a failure knows its candidate
                models: Iterator[tuple[int, Any]] = map(fit_one, range(len(candidates)))
            else:
                models = self.estimator.fitMultiple(dataset, candidates)

        def fit_next() -> tuple[int, Any]:
            self.here.place = f"fold {self.fold}"
            with self.noted():
                number, model = next(models)
            be_at(number)
            return number, SimpleNamespace(transform=self.noted()(model.transform))

        return iter(fit_next, None)

    def evaluate(self, rows: DataFrame) -> float:
        """Return the metric of a candidate in a fold."""
        with self.noted():
            # It takes a job, so once for a fold, unless candidates drop other rows than the rest.
            if self.drops_rows and (self.drops_differ or self.fold not in self.scored):
                self.scored.setdefault(self.fold, []).append(rows.count())
            metric: float = self.evaluator.evaluate(rows)
            if self.label_is_made:
                refuse_one_class(self.evaluator, metric, rows, self.fold)
            if not math.isfinite(metric):
                raise ValueError(
                    f"the metric is {metric}, and the best candidate cannot be chosen: look at the evaluator"
                )
            return metric

    def fit(self, dataset: DataFrame, params: Any) -> Any:
        """Fit the best candidate on all rows."""
        number = next(number for number, candidate in enumerate(self.candidates) if candidate is params)
        self.here.place = f"the refit of candidate {number} ({plain(params)})"
        with self.noted():
            return self.estimator.fit(dataset, params)


class _KeyedFolds(CrossValidator):
    """CrossValidator with folds by conditions, where its own are a random number or a column that estimators see."""

    conditions: Sequence[tuple[Column, Column]] = ()
    cached: Sequence[DataFrame] = ()

    def _kFold(self, dataset: DataFrame) -> list[tuple[DataFrame, DataFrame]]:
        pairs = [(dataset.filter(train), dataset.filter(validation)) for train, validation in self.conditions]
        levels = [(part, on_each_executor(part)) for pair in pairs for part in pair]
        # CrossValidator caches each part once when its turn comes, but leaves what is cached already.
        self.cached = [part.persist(level) for part, level in levels if level.replication > 1]
        return pairs

    @contextmanager
    def caches_freed(self) -> Iterator[None]:
        """Free what a failure keeps CrossValidator from freeing."""
        try:
            yield
        finally:
            for part in self.cached:
                part.unpersist()


def on_each_executor(data: DataFrame) -> StorageLevel:
    """Return the level to cache data at: with a copy on each executor where they are small, and one otherwise.

    Small data lie in few partitions, and Spark would rather wait three seconds for the executor that has one than run
    a fit elsewhere: one copy pins all fits to it. Small is what takes `SMALL_SHARE` of an executor's memory for cached
    data or less, by what Spark expects. It expects no size of rows that come from Python: cache those first.
    """
    known = data.sparkSession.sparkContext._jsc.sc().statusStore().executorList(True)
    rooms = [one.maxMemory() for one in map(known.apply, range(known.size())) if one.id() != "driver"]
    small = data._jdf.queryExecution().optimizedPlan().stats().sizeInBytes() <= SMALL_SHARE * min(rooms, default=0)
    copies = min(len(rooms), 39) if small and rooms else 1  # Spark makes 39 at most
    return StorageLevel(True, True, False, True, copies)


def named(frame: DataFrame, name: str) -> Column:
    """Return the column of that very name, dots and all, or else what Spark's syntax means by it."""
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no column's name: give it as text")
    column = functions.col("`" + name.replace("`", "``") + "`" if name in frame.columns else name)
    try:
        frame.select(column)
    except AnalysisException as error:
        alike = [each for each in frame.columns if each.lower() == name.lower()]
        if len(alike) > 1:
            raise ValueError(f"{name!r} may be any of the columns {', '.join(alike)}: rename all but one") from error
        raise ValueError(f"the frame has no column {name!r}: it has {', '.join(frame.columns)}") from error
    return column


def has_column(frame: DataFrame, name: str) -> bool:
    """Whether Spark finds a column by that name, in whatever case."""
    try:
        named(frame, name)
    except ValueError:
        return False
    return True


def key_columns(frame: DataFrame, key: str | Sequence[str]) -> list[Column]:
    """Return the columns that a key names."""
    names = [key] if isinstance(key, (str, Column)) else list(key)
    if not names:
        raise ValueError("key is empty: name the column, or the columns, that tell rows apart")
    return [named(frame, name) for name in names]


def lacks_a_key(frame: DataFrame, key: str | Sequence[str]) -> Column:
    """Return whether a row has no value in a column of the key."""
    return functools.reduce(operator.or_, [column.isNull() for column in key_columns(frame, key)])


def fold_of(frame: DataFrame, key: str | Sequence[str], folds: int) -> Column:
    """Return a row's fold, from 0 to `folds - 1`, as an expression."""
    return functions.pmod(functions.xxhash64(*key_columns(frame, key)), functions.lit(folds)).cast("int")


def assign_folds(frame: DataFrame, *, key: str | Sequence[str], folds: int, column: str = "fold") -> DataFrame:
    """Add a fold number from 0 to `folds - 1`, by a hash of the row's key.

    Without a fold column CrossValidator splits by `rand(seed)`, which depends on the place of a row in its partition.
    Other partitions then give other folds, and rows that Spark computes a second time in another order can be in the
    training and the test set at once. A hash of the key stays with the row. Rows with the same key share a fold, so
    a key such as a customer's number gives grouped folds, as do several columns, such as store and item. A row without
    a key fails when it is computed.
    """
    if column.lower() in (name.lower() for name in frame.columns):
        raise ValueError(f"the frame has a column {column!r} already, in whatever case: give another name to `column`")
    missing = functions.raise_error(functions.lit(f"a row has no value in the key column {key!r}: fill or drop it"))
    known = functions.when(lacks_a_key(frame, key), missing).otherwise(fold_of(frame, key, folds))
    return frame.withColumn(column, known)


def usable_folds(
    frame: DataFrame,
    estimator: Estimator,
    evaluator: Any,
    key: str | Sequence[str],
    folds: int,
    error_score: float | None = None,
) -> dict[int, int]:
    """Return the folds that have a metric, and their rows; refuse folds without any. It takes one pass."""
    judged = (has_area(evaluator) or has_r2(evaluator)) and has_column(frame, evaluator.getLabelCol())
    label = label_column(frame, evaluator.getLabelCol()) if judged else functions.lit(None)
    sums = [functions.count("*"), functions.count(functions.when(lacks_a_key(frame, key), 1))]
    sums += [functions.count(functions.when(functions.isnan(label), 1))]
    sums += [end(functions.when(~functions.isnan(label), label)) for end in (functions.min, functions.max)]
    found = frame.groupBy(fold_of(frame, key, folds)).agg(*sums).collect()
    without, not_numbers = (sum(row[place] for row in found) for place in (2, 3))
    if without:
        raise ValueError(f"{without} rows have no value in the key column {key!r}: fill or drop them")
    empty = sorted(set(range(folds)) - {row[0] for row in found})
    if empty:
        raise ValueError(
            f"fold {', '.join(map(str, empty))} of {folds} has no rows: the key column {key!r} has too few values;"
            " take fewer folds or another key"
        )
    if not_numbers:
        warnings.warn(
            f"the label {evaluator.getLabelCol()!r} is NaN in {not_numbers} rows, and to Spark NaN is the greatest"
            " number: fill or drop them, unless the estimator does",
            stacklevel=3,
        )
    usable = list(range(folds))
    if judged:
        ends = {row[0]: (row[4], row[5]) for row in found}
        usable = folds_with_metric(ends, evaluator, error_score, learns_from(estimator, evaluator.getLabelCol()))
    rows = {row[0]: row[1] for row in found}
    return {fold: rows[fold] for fold in usable}


def learns_from(estimator: Estimator, label: str) -> bool:
    """Whether a stage is fitted to that label. What has none, such as KMeans, may learn from rows of one class."""
    stages = [stage for stage in stages_in(estimator) if stage.hasParam("labelCol")]
    return any(stage.getOrDefault("labelCol") == label for stage in stages if not isinstance(stage, Evaluator))


def label_column(frame: DataFrame, name: str) -> Column:
    """Return the label as a number."""
    label = named(frame, name)
    kind = frame.select(label).schema[0].dataType
    if not isinstance(kind, NumericType):
        raise ValueError(
            f"the label {name!r} is {kind.simpleString()}, and the evaluator takes numbers: "
            "cast it, or give the column that StringIndexer makes as the evaluator's labelCol"
        )
    return label.cast("double")


def folds_with_metric(
    ends: dict[int, tuple[Any, Any]], evaluator: Any, error_score: float | None, learns: bool = True
) -> list[int]:
    """Return the folds that have a metric, from the least and greatest label of each; warn of the others.

    Train rows are judged only where the estimator `learns` from that label.
    """
    area = has_area(evaluator)
    kind, metric = "class" if area else "label", evaluator.getMetricName()
    rows = {fold: labels for fold, (low, high) in ends.items() if (labels := labels_of_one_class(low, high, area))}
    train: dict[int, str] = {}
    for fold in ends.keys() - rows.keys() if area and learns else ():
        others = [end for other, pair in ends.items() if other != fold for end in pair if end is not None]
        if others and (labels := labels_of_one_class(min(others), max(others))):
            train[fold] = labels
    usable = [fold for fold in sorted(ends) if fold not in rows and fold not in train]
    if len(usable) == len(ends):
        return usable
    said = [
        f"{metric} {why}: " + ", ".join(f"fold {fold} ({found[fold]})" for fold in sorted(found))
        for found, why in (
            (rows, f"is not defined where all rows of a fold have one {kind}"),
            (train, "tells nothing where all train rows have one class"),
        )
        if found
    ]
    message = ". ".join(said)
    if not usable:
        raise ValueError(f"{message}. There is no other fold: take fewer folds, or rows of more than one {kind}")
    if error_score is not None and not math.isfinite(error_score):
        raise ValueError(
            f"{message}. With the error_score {error_score} no candidate would have an average: give a number, or None,"
            " which leaves these folds out"
        )
    done = "The averages leave them out" if error_score is None else f"They count with {error_score}"
    warnings.warn(f"{message}. {done}", stacklevel=4)
    return usable


@contextmanager
def all_jobs_stop_on_failure(context: SparkContext, watched: _Watched) -> Iterator[None]:
    """Cancel all jobs of the `with` block when it raises, until none of its threads is at work.

    CrossValidator never stops its threads: after a failed fit, or Ctrl-C, they go on through the remaining
    candidates. (Cached blocks of a cancelled LogisticRegression or LinearSVC may stay until the session ends.)
    """
    # A tag, and not a group: that is the caller's, who may cancel by it.
    tag = f"cross-validation-{uuid.uuid4()}"
    context.addJobTag(tag)  # CrossValidator's threads inherit it
    try:
        yield
    except BaseException as error:
        watched.over = True

        def end_jobs() -> None:
            context.cancelJobsWithTag(tag)
            while watched.running:
                time.sleep(0.1)
                context.cancelJobsWithTag(tag)  # again: many algorithms start another job when one is cancelled

        # In a thread that a second, impatient Ctrl-C does not reach.
        ending = threading.Thread(target=end_jobs, daemon=True)
        ending.start()
        ending.join()
        # The traceback would keep CrossValidator's pool, and that its threads, for as long as anybody looks at it.
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__") in ("pyspark.ml.tuning", "multiprocessing.pool"):
                with suppress(RuntimeError):  # a thread of the pool may still be in it
                    frame.clear()
        raise
    finally:
        context.removeJobTag(tag)


def plain(candidate: Candidate) -> dict[str, object]:
    """Return a candidate as names and values."""
    return {param.name: value for param, value in candidate.items()}


# --- benchmark: delete from here on when copying ------------------------
import os
import sys

from pyspark.ml.classification import LogisticRegression, RandomForestClassifier
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.tuning import ParamGridBuilder
from pyspark.sql import SparkSession
from sklearn.datasets import load_breast_cancer, make_classification

WORKLOAD = "Spark CrossValidator"
PARALLELISM = "threads"
MODELS = ("logistic_regression", "random_forest")
SIZES = {
    "smoke": {
        "dataset": "breast_cancer",
        "model": MODELS[0],
        "folds": 2,
        "candidates": 2,
        "iterations": 100,
        "parallelism": (2,),  # threads beyond the number of candidates have nothing to do
    },
    "ci": {
        "dataset": "breast_cancer",
        "model": MODELS[0],
        "folds": 2,
        "candidates": 2,
        "iterations": 100,
        "parallelism": (2,),  # threads beyond the number of candidates have nothing to do
    },
    "gate": {
        "dataset": "breast_cancer",
        "model": MODELS[0],
        "folds": 2,
        "candidates": 2,
        "iterations": 2,  # they cost the same, and a gate needs many calls
        "parallelism": (2,),
        "calls": 4,
    },
    "full": {
        "dataset": ("breast_cancer", "synthetic"),
        "model": MODELS,
        "folds": (5, 3, 10),
        "candidates": 6,
        "iterations": 100,
    },
}
# There is no SCHEDULE, so no bound is drawn: a bound assumes one slot for each fit, and these fits use all free slots.

ROWS = {"breast_cancer": 569, "synthetic": 50_000}
PENALTIES = [(share, penalty) for share in (0.0, 0.5) for penalty in (1.0, 0.1, 0.01)]  # elasticNetParam, regParam
TOLERANCE = 1e-6  # absolute; the metrics are between 0 and 1


def make_data(*, seed: int = 0, dataset: str = "breast_cancer") -> dict[str, Any]:
    """Load the real diagnoses of 569 tumours (30 features), or generate 50,000 rows of 20 features; two classes."""
    if dataset == "breast_cancer":
        X, y = load_breast_cancer(return_X_y=True)
    else:
        X, y = make_classification(n_samples=ROWS[dataset], random_state=seed)
    return {"X": X, "y": y}


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Load the rows into Spark, assemble the feature vectors, and cache them.

    Whoever calls this unpersists `frame`. The number of partitions (one for each 5,000 rows, at least two) depends on
    the rows and not on the machine, and they are cut without a shuffle: a forest draws its rows by partition, so other
    partitions would grow other trees.
    """
    X, y = data["X"], data["y"]
    rows = [(i, float(label), *x) for i, (label, x) in enumerate(zip(y, X.tolist(), strict=True))]
    names = [f"x{i}" for i in range(X.shape[1])]
    schema = "row long, label double, " + ", ".join(f"{name} double" for name in names)
    frame = spark.createDataFrame(spark.sparkContext.parallelize(rows, max(2, len(rows) // 5_000)), schema)
    vectors = VectorAssembler(inputCols=names, outputCol="features").transform(frame)
    cached = vectors.select("row", "label", "features").cache()
    cached.count()
    return {**data, "frame": cached}


def validate(*, dataset: str, model: str, folds: int, candidates: int) -> None:
    """Raise ValueError where the data cannot give these folds or the grid this many candidates."""
    if dataset not in ROWS:
        raise ValueError(f"dataset={dataset!r} is unknown: choose {' or '.join(map(repr, ROWS))}")
    if model not in MODELS:
        raise ValueError(f"model={model!r} is unknown: choose {' or '.join(map(repr, MODELS))}")
    most = ROWS[dataset] // 20
    if not 2 <= folds <= most:
        raise ValueError(f"folds={folds}: choose 2 to {most} for {dataset}, so that each has 20 rows and both classes")
    if not 1 <= candidates <= 6:
        raise ValueError(f"candidates={candidates}: choose 1 to 6, the size of the grid")


def candidates_of(model: str, candidates: int, iterations: int) -> tuple[Estimator, list[Candidate]]:
    """Return an estimator and the first candidates of its grid; a regression makes so many iterations at most."""
    if model == "logistic_regression":
        regression = LogisticRegression(maxIter=iterations, tol=1e-4)
        share_of_l1, strength = regression.elasticNetParam, regression.regParam
        return regression, [{share_of_l1: share, strength: penalty} for share, penalty in PENALTIES[:candidates]]
    forest = RandomForestClassifier(numTrees=10, seed=0)
    grid = ParamGridBuilder().addGrid(forest.minInstancesPerNode, [1, 5])
    return forest, grid.addGrid(forest.maxDepth, [2, 3, 4]).build()[:candidates]


def search(
    data: dict[str, Any], model: str, candidates: int, iterations: int, *, folds: int, parallelism: int
) -> dict[str, Any]:
    """Cross-validate by the area under the ROC curve, and return what was found as plain values."""
    estimator, grid = candidates_of(model, candidates, iterations)
    evaluator = BinaryClassificationEvaluator(metricName="areaUnderROC")
    found = cross_validate(data["frame"], estimator, grid, evaluator, key="row", folds=folds, parallelism=parallelism)
    names = [plain(candidate) for candidate in grid]
    best = {name: found.bestModel.getOrDefault(name) for name in names[0]}
    return {
        "candidates": names,
        "avgMetrics": [float(metric) for metric in found.avgMetrics],
        "stdMetrics": [float(metric) for metric in found.stdMetrics],
        "best_index": names.index(best),
        "best_params": best,
    }


def run_one_at_a_time(
    data: dict[str, Any], *, spark: SparkSession, folds: int, candidates: int, model: str, iterations: int = 100
) -> dict[str, Any]:
    """CrossValidator, one candidate at a time."""
    return search(data, model, candidates, iterations, folds=folds, parallelism=1)


def run_cross_validator(
    data: dict[str, Any],
    *,
    spark: SparkSession,
    parallelism: int,
    folds: int,
    candidates: int,
    model: str,
    iterations: int = 100,
) -> dict[str, Any]:
    """CrossValidator, several at a time."""
    return search(data, model, candidates, iterations, folds=folds, parallelism=parallelism)


def check(reference: dict[str, Any], answer: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    """Raise AssertionError where a metric differs by more than `tolerance`, or the choice is not the best one.

    Spark adds up the parts of a sum in the order in which tasks end, so the last digits of a coefficient vary. The area
    under the curve depends only on the order of the scores, so it hardly changes; a single pair of rows that changes
    places would move it by 1e-5 or more. Where several candidates are best to within the tolerance, any may be chosen.
    """
    assert answer["candidates"] == reference["candidates"], f"candidates are {answer['candidates']}"
    for name in ("avgMetrics", "stdMetrics"):
        assert len(answer[name]) == len(reference[name]), f"{name} has {len(answer[name])} values"
        for i, (expected, got) in enumerate(zip(reference[name], answer[name], strict=True)):
            assert abs(got - expected) <= tolerance, f"{name}[{i}] is {got}, expected {expected}"
    best = answer["best_index"]
    assert best in range(len(answer["candidates"])), f"best_index is {best}"
    short = max(reference["avgMetrics"]) - reference["avgMetrics"][best]
    assert short <= tolerance, f"best_index is {best}, which is {short} worse than the best"
    expected = answer["candidates"][best]
    assert answer["best_params"] == expected, f"best_params is {answer['best_params']}, expected {expected}"


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(), spark=session)
    found = run_cross_validator(made, spark=session, parallelism=2, folds=3, candidates=3, model="logistic_regression")
    print(f"the best of {len(found['candidates'])} is {found['best_params']}")
    print(f"area under the ROC curve {max(found['avgMetrics']):.4f}")
    session.stop()
