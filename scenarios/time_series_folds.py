# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=1.26", "scikit-learn>=1.5", "joblib>=1.4"]
# ///
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N815 - camelCase is Spark's own, and these folds are also those of a Spark estimator
"""Folds in time: windows by the values of a time column, for scikit-learn or for anything else.

Use `TimeSeriesFolds` wherever `sklearn.model_selection` takes `cv=`, for rows that have a time: panels of many series,
days that are missing, several rows of one moment. `TimeSeriesSplit` counts rows and is right only for one series
without gaps. `fold_windows` gives the windows alone, to anything that filters by time.

    GridSearchCV(model, grid, cv=TimeSeriesFolds(days, horizon=7, numFolds=12))

The recipe needs numpy only, and `plot_folds` matplotlib; scikit-learn and joblib are for the benchmark below it.

Run it alone:  python time_series_folds.py
Draw folds:    python time_series_folds.py folds.png      (needs matplotlib)
"""

from __future__ import annotations

import calendar
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

# A fold is four points in time: train is [trainFrom, trainTo), validation is [validationFrom, validationTo). They are
# compared with the values of the time column, never with row numbers, so rows of the same time stay together and all
# series of a panel share one calendar. Every point is an anchor that is moved once, by a whole number of units. It is
# never reached step by step: 31 January + 1 month + 1 month would be 28 March, 31 January + 2 months is 31 March.

Number = int | float
Time = Any  # datetime or date as a calendar shows it, or a number

MONTHS = {"month": 1, "quarter": 3, "year": 12}
SPANS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
CLOCK_UNITS = ("second", "minute", "hour")
UNITS = (*SPANS, *MONTHS)
LEAST = {"numFolds": 0, "horizon": 1, "gap": 0, "stride": 1, "initialTrain": 1, "maxTrain": 1}  # of each length
ANCHORS = ("end", "start")
RULES = (*LEAST, "anchor", "cutoffs")
# A float that lies so little below a step is on it: 46 * 0.3 is less than 13.8. Shares of a unit, and of the float.
ROUNDING, DIGITS = 1e-6, 2.0**-49


def exact(number: Any) -> Fraction:
    """Return the number as people write it, so that three steps of 0.1 give 0.3 and not 0.30000000000000004."""
    return Fraction(str(number))


def plain_number(number: Fraction) -> Number:
    """Return a whole number as int and any other as float."""
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
        return plain_number(exact(when) + count * exact(unit))
    try:
        if unit in SPANS:
            return when + count * SPANS[unit]
        year, month = divmod(when.year * 12 + when.month - 1 + count * MONTHS[unit], 12)
        last_day = calendar.monthrange(year, month + 1)[1]
        return when.replace(year=year, month=month + 1, day=min(when.day, last_day))
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{count} units ({unit}) from {when} are outside the years 1 to 9999") from error


def floor_time(when: Time, unit: str | Number) -> Time:
    """Return the start of the unit in which a time lies.

    Weeks begin on Monday, numeric units at multiples of their size.
    """
    if not isinstance(unit, str):
        return plain_number(exact(when) // exact(unit) * exact(unit))
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
        return int((exact(end) - exact(start)) / exact(unit))
    if unit in SPANS:
        return (end - start) // SPANS[unit]
    return ((end.year - start.year) * 12 + end.month - start.month) // MONTHS[unit]


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python, numpy or decimal, and no truth value or duration."""
    # To numpy a duration is a whole number, of units that it does not tell.
    return isinstance(value, (Real, Decimal)) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def check_count(name: str, value: Any) -> int:
    """Return a length or a number of things as int; refuse fractions and what is below the least value."""
    least = LEAST.get(name, 1)
    if not is_number(value) or value != value or value in (math.inf, -math.inf) or int(value) != value or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def check_choice(name: str, options: Sequence[str], value: Any) -> str:
    """Return one of the options; refuse anything else."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, not {value!r}")
    return value


def check_unit(value: Any) -> str | Number:
    """Return the name of a unit, or the size of a numeric one."""
    if isinstance(value, str):
        return check_choice("timeUnit", UNITS, value)
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"timeUnit must be one of {', '.join(UNITS)}, or a number above 0, not {value!r}")
    return plain_number(exact(value))


def unit_for(kind: str, unit: str | Number | None) -> str | Number:
    """Return the unit, or the default one, for times of a kind: number, date or any kind of timestamp."""
    unit = unit or (1 if kind == "number" else "day")
    if (kind == "number") == isinstance(unit, str) or (kind == "date" and unit in CLOCK_UNITS):
        raise ValueError(f"timeUnit={unit!r} does not suit times of kind {kind}")
    return unit


def warn_of_dates_as_numbers(first: Number, last: Number, stacklevel: int) -> None:
    """Warn where the ends of numeric times look like dates, whose numbers jump from month to month.

    As numbers, 20200331 and 20200401 are 70 units apart: windows lose days, a gap leaks, and lags find no rows.
    """
    for form, rest in (("yyyymmdd", ""), ("yyyymm", "01")):
        if first != last and all(_is_date_in(form, rest, end) for end in (first, last)):
            warnings.warn(
                f"times from {first} to {last} look like dates written as {form}, but count as plain numbers: make"
                " dates of them, as by to_date(...) in Spark, or give timeUnit=1 where they are numbers",
                stacklevel=stacklevel,
            )


def _is_date_in(form: str, rest: str, number: Number) -> bool:
    text = str(int(number))
    try:
        year = date.fromisoformat(text + rest).year
        # Floats may carry the allowance for rounding errors.
        return len(text) == len(form) and number - int(text) < 1e-3 and 1900 <= year <= 2100
    except ValueError:
        return False


def check_cutoffs(values: Any) -> list[Any]:
    """Return times as ISO text, so that they can be saved, and numbers as they are; refuse them out of order."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"cutoffs must be a list of times, not {values!r}")
    times: list[Any] = [one_time(value) for value in values]
    shown = ", ".join(map(str, times[:6])) + ", ..." * (len(times) > 6) or "nothing"
    if any(isinstance(time, datetime) and time.tzinfo is not None for time in times):
        raise ValueError(f"cutoffs are wall-clock times of the session's time zone: remove the zone from {shown}")
    result = [datetime.fromisoformat(str(time)).isoformat() if isinstance(time, date) else time for time in times]
    mixed = len({isinstance(time, str) for time in result}) > 1
    bad = not result or mixed or any(time is None or time in (math.inf, -math.inf) for time in result)
    if bad or any(b <= a for a, b in itertools.pairwise(result)):
        raise ValueError(f"cutoffs must be one or more times, each later than the one before, not {shown}")
    return result


def cutoff_time(cutoff: Any, kind: str) -> Time:
    """Return a cutoff that can be compared with times of a kind: number, date or any kind of timestamp."""
    if (kind == "number") == isinstance(cutoff, str):
        raise ValueError(f"the cutoff {cutoff!r} does not suit times of kind {kind}")
    if kind == "number":
        return cutoff
    moment = datetime.fromisoformat(cutoff)
    if kind == "date" and moment.time() != datetime.min.time():
        raise ValueError(f"the cutoff {cutoff} has a time of day, but the time column has dates: give dates")
    return moment.date() if kind == "date" else moment


def check_rules(rules: dict[str, Any]) -> dict[str, Any]:
    """Return the rules of `fold_windows` that are not None, each checked, and all of them together."""
    found: dict[str, Any] = {}
    for name, value in rules.items():
        if value is not None:
            found[name] = check_count(name, value) if name in LEAST else value
    first, most = found.get("initialTrain", 1), found.get("maxTrain")
    if most is not None and most < first:
        raise ValueError(f"maxTrain={most} is below initialTrain={first}: raise maxTrain or lower initialTrain")
    if "anchor" in found:
        check_choice("anchor", ANCHORS, found["anchor"])
    if "cutoffs" in found:
        for name in ("numFolds", "stride", "anchor"):
            if name in found:
                raise ValueError(
                    f"cutoffs say where the folds are, but {name}={found[name]!r} contradicts them: drop one"
                )
        if "horizon" not in found:
            raise ValueError("cutoffs need a horizon: how many units each validation window has")
    if found.get("anchor") == "start" and "initialTrain" not in found:
        raise ValueError("anchor='start' needs initialTrain: how many units the first train window has")
    if found.get("numFolds") == 0 and "horizon" not in found:
        raise ValueError("numFolds=0 (as many as the data allow) needs a horizon")
    return found


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
    rules = check_rules(
        {"numFolds": numFolds, "horizon": horizon, "gap": gap, "stride": stride, "anchor": anchor}
        | {"initialTrain": initialTrain, "maxTrain": maxTrain, "cutoffs": cutoffs}
    )
    start, end = _start_of_unit("start", start, unit), _start_of_unit("end", end, unit)
    gap, first_train, most_train = rules.get("gap", 0), rules.get("initialTrain", 1), rules.get("maxTrain")
    horizon, begins = _validation_starts(start, end, unit, rules)
    windows = []
    for number, (origin, offset) in enumerate(begins):
        train_from = start
        if most_train is not None:
            train_from = max(start, shift(origin, offset - gap - most_train, unit))
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


def _start_of_unit(name: str, given: Any, unit: str | Number) -> Time:
    """Return an end of the data as a time that can be moved; refuse what is no start of a unit."""
    when = one_time(given)
    kind = "timestamp" if isinstance(when, datetime) else "date" if isinstance(when, date) else "number"
    unit = unit_for(kind, check_unit(unit))
    # An instant with a zone begins an hour where some clock does, which may be half an hour off.
    if when is None or (getattr(when, "tzinfo", None) is None and floor_time(when, unit) != when):
        raise ValueError(
            f"{name}={when} is no start of a unit ({unit}): start is floor_time(first, unit) of the first time, and end"
            " is shift(floor_time(last, unit), 1, unit) of the last"
        )
    return when


def _validation_starts(
    start: Time, end: Time, unit: str | Number, rules: dict[str, Any]
) -> tuple[int, list[tuple[Time, int]]]:
    """Return the horizon, and for each fold an anchor and how many units after it validation begins."""
    if "cutoffs" in rules:
        return rules["horizon"], [(cutoff, 0) for cutoff in rules["cutoffs"]]
    gap, first_train = rules.get("gap", 0), rules.get("initialTrain", 1)
    folds, length = rules.get("numFolds", 3), count_units(start, end, unit)
    horizon = rules.get("horizon") or length // (folds + 1)
    stride = rules.get("stride") or horizon
    spare = length - first_train - gap - horizon
    folds = folds or spare // max(stride, 1) + 1
    if horizon < 1 or folds < 1 or spare < (folds - 1) * stride:
        raise ValueError(
            f"the data have {length} units ({unit}), {start} to {end}: too few for numFolds={folds} with"
            f" initialTrain={first_train}, gap={gap}, horizon={horizon}, stride={stride}"
        )
    if rules.get("anchor") == "start":
        return horizon, [(start, first_train + gap + k * stride) for k in range(folds)]
    return horizon, [(end, -horizon - k * stride) for k in reversed(range(folds))]


class Fold(NamedTuple):
    """One row of a fold plan: the windows, and how many rows lie in each."""

    fold: int
    trainFrom: Time
    trainTo: Time
    validationFrom: Time
    validationTo: Time
    trainRows: int
    validationRows: int


def folds_with_rows(windows: Sequence[Window], rows: Sequence[tuple[int, int]]) -> list[Fold]:
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


# The splitter for scikit-learn ----------------------------------------------------------------------------


def one_time(value: Any) -> Time | None:
    """Return one time of any kind as a number, date or datetime; None where it is missing.

    Raises
    ------
    ValueError
        It is no time: a truth value, a duration, or text that is not in ISO form.
    """
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, str):
        return _time_of_text(value)
    value = getattr(value, "start_time", value)  # a Period of pandas
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
        if isinstance(value, int):
            raise ValueError("times must lie in the years 1 to 9999")
    if isinstance(value, date) or value is None:
        return value
    if is_number(value):
        return None if value != value else value if abs(value) == math.inf else plain_number(exact(value))
    raise ValueError(f"{value!r} is no time: give numbers, dates, datetimes or their text in ISO form")


def _time_of_text(text: str) -> date:
    for kind in (date, datetime):  # what is a date alone has no time of day
        try:
            return kind.fromisoformat(text)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no time in ISO form, such as 2024-01-31 or 2024-01-31T12:00")


def comparable_times(values: Any) -> tuple[np.ndarray, str]:
    """Return times as an array that can be compared, and their kind: number, date or timestamp.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Anything that numpy makes a one-dimensional array of: pandas' types, nullable and arrow ones too, lists, text.

    Raises
    ------
    ValueError
        A time is missing, has a zone, or is no time; kinds are mixed.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"times must have one dimension, not the shape {array.shape}: give one time for each row")
    if not len(array):
        raise ValueError("there are no rows to split")
    if array.dtype.kind in "iuf":
        if array.dtype in (np.float16, np.float32):  # through text: 5.7 as float32 is another number than 5.7
            array = array.astype(str).astype(float)
        return _finite(array), "number"
    if array.dtype.kind == "M":
        return _in_the_calendar(array), "timestamp"
    if array.dtype.kind not in "OUT":
        raise ValueError(f"times are of type {array.dtype}: give numbers, dates, datetimes or their text in ISO form")
    times = [one_time(value) for value in array.tolist()]
    if None in times:
        raise ValueError("TimeSeriesFolds found rows without a time: fill or drop them")
    if any(getattr(time, "tzinfo", None) is not None for time in times):
        raise ValueError("TimeSeriesFolds needs wall-clock times: remove the zone, as in times.dt.tz_localize(None)")
    kinds = {"date" if type(time) is date else "timestamp" if isinstance(time, date) else "number" for time in times}
    if "number" in kinds and len(kinds) > 1:
        raise ValueError("times are a mix of numbers and dates: give one kind")
    if kinds == {"number"}:
        return _finite(np.array(times)), "number"
    return np.array(times, "datetime64[us]"), "date" if kinds == {"date"} else "timestamp"


def _in_the_calendar(moments: np.ndarray) -> np.ndarray:
    if bool(np.isnat(moments).any()):
        raise ValueError("TimeSeriesFolds found rows without a time: fill or drop them")
    ends = moments.min().astype("datetime64[us]").item(), moments.max().astype("datetime64[us]").item()
    if not all(isinstance(end, datetime) for end in ends):  # numpy gives a number for what Python's calendar lacks
        raise ValueError("times must lie in the years 1 to 9999")
    return moments.astype("datetime64[us]")


def _finite(numbers: np.ndarray) -> np.ndarray:
    if bool(np.isnan(numbers).any()):
        raise ValueError("TimeSeriesFolds found rows without a time: fill or drop them")
    if not bool(np.isfinite(numbers).all()):
        raise ValueError("TimeSeriesFolds found infinite times: fill or drop these rows")
    return numbers


class TimeSeriesFolds:
    """Splitter with the same folds for scikit-learn: `GridSearchCV(model, grid, cv=TimeSeriesFolds(times, horizon=7))`.

    scikit-learn sends it to the processes that fit. Those of Spark need this file:
    `spark.sparkContext.addPyFile("time_series_folds.py")`.

    Parameters
    ----------
    times : array-like of shape (n_samples,), str or callable, optional
        The time of each row, in any order: numbers, dates, datetimes without a zone, their text in ISO form, or
        periods. A name means that column, or that level of the index, of the X that is split, and a function is
        called with that X. Either way the times travel with the rows, as nested cross-validation needs. Default: the
        row number. With timeUnit 1 the folds are then those of `sklearn.model_selection.TimeSeriesSplit`.
    timeUnit : str or number, optional
        As for `shift`. Default: 1 for numbers, "day" for times. A float that lies less than a millionth of a unit below
        a step counts as on it, as 46 * 0.3 does below 13.8.
    numFolds, horizon, gap, stride, initialTrain, maxTrain, anchor, cutoffs
        As for `fold_windows`.

    Raises
    ------
    ValueError
        A setting is wrong or contradicts another, at once; the times do not suit, when they are split.
    """

    def __init__(
        self,
        times: Any = None,
        *,
        timeUnit: str | Number | None = None,
        numFolds: int | None = None,
        horizon: int | None = None,
        gap: int | None = None,
        stride: int | None = None,
        initialTrain: int | None = None,
        maxTrain: int | None = None,
        anchor: str | None = None,
        cutoffs: Iterable[Time] | None = None,
    ) -> None:
        self.times = times
        self.timeUnit = None if timeUnit is None else check_unit(timeUnit)
        lengths = {"numFolds": numFolds, "horizon": horizon, "gap": gap, "stride": stride}
        lengths |= {"initialTrain": initialTrain, "maxTrain": maxTrain}
        kept = None if cutoffs is None else check_cutoffs(cutoffs)
        self.rules = check_rules({**lengths, "anchor": anchor, "cutoffs": kept})

    def _times_of(self, X: Any) -> Any:
        if isinstance(self.times, str):
            if self.times in list(getattr(X, "columns", ())):
                return X[self.times]
            if self.times in list(getattr(getattr(X, "index", None), "names", ())):
                return X.index.get_level_values(self.times)
            raise ValueError(f"TimeSeriesFolds: X has no column or index {self.times!r} with the times of its rows")
        return self.times(X) if callable(self.times) else self.times

    def _times_and_windows(self, X: Any) -> tuple[np.ndarray, list[Window]]:
        rows = X.shape[0] if hasattr(X, "shape") else len(X)
        times, kind = comparable_times(np.arange(rows) if self.times is None else self._times_of(X))
        if len(times) != rows:
            raise ValueError(
                f"TimeSeriesFolds has {len(times)} times for {rows} rows: give one time for each row. Where others"
                " choose the rows, as in nested cross-validation, times must travel with them: give the name of X's"
                " column with the times, or a function of X"
            )
        unit = unit_for(kind, self.timeUnit)
        if kind == "number" and self.timeUnit is None:
            warn_of_dates_as_numbers(times.min().item(), times.max().item(), stacklevel=4)
        if times.dtype.kind == "f":
            times = times + np.maximum(ROUNDING * float(unit), DIGITS * np.abs(times))
        first, last = times.min().item(), times.max().item()
        if kind == "date":
            first, last = first.date(), last.date()
        start, end = floor_time(first, unit), shift(floor_time(last, unit), 1, unit)
        rules = dict(self.rules)
        if "cutoffs" in rules:
            rules["cutoffs"] = [cutoff_time(cutoff, kind) for cutoff in rules["cutoffs"]]
        return times, fold_windows(start, end, unit, **rules)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of train and validation of each fold."""
        times, windows = self._times_and_windows(X)

        def between(low: Time, high: Time) -> np.ndarray:
            ends = np.array([low, high], times.dtype) if times.dtype.kind == "M" else (low, high)
            return (times >= ends[0]) & (times < ends[1])

        masks = [(between(w.trainFrom, w.trainTo), between(w.validationFrom, w.validationTo)) for w in windows]
        folds_with_rows(windows, [(int(train.sum()), int(validation.sum())) for train, validation in masks])
        for train, validation in masks:
            yield np.flatnonzero(train), np.flatnonzero(validation)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Count the folds; where numFolds is 0 that takes the times of the rows."""
        if "cutoffs" in self.rules:
            return len(self.rules["cutoffs"])
        if self.rules.get("numFolds") != 0:
            return self.rules.get("numFolds", 3)
        if X is None and (self.times is None or isinstance(self.times, str) or callable(self.times)):
            raise ValueError("numFolds=0 takes as many folds as the data allow: pass X to count them")
        return len(self._times_and_windows(self.times if X is None else X)[1])


# --- benchmark: delete from here on when copying ------------------------
# scikit-learn and joblib are imported where they are used: siblings that import this file do not need them.
import sys

WORKLOAD = "time-series CV of scikit-learn"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"days": 90, "series": 20, "folds": 2, "candidates": 2},
    "ci": {"days": 365, "series": 20, "folds": 3, "candidates": 4},
    "full": {"days": 730, "series": 400, "folds": (8, 4, 16), "candidates": 6},
}
GATED = ()  # its fits take milliseconds
SCHEDULE = {"one_process": "serial", "loky": "pool"}
REFIT = True
HORIZON = 7  # days
LAGS = (7, 14, 21, 28)  # days, none below the horizon
FIRST_DAY = np.datetime64("2013-01-01")


def make_data(*, seed: int = 0, days: int = 365, series: int = 20) -> dict[str, np.ndarray]:
    """Generate daily demand of some series: level, trend, season, weekday and noise; features are lags and weekdays.

    One series in ten begins late, so that rows cannot be counted in place of days.
    """
    generator = np.random.default_rng(seed)
    age = np.arange(days)[:, None]
    shape = (1 + age / 2000) * (1 + 0.3 * np.sin(2 * np.pi * age / 365.25)) * (1 - 0.4 * (age % 7 >= 5))
    demand = generator.uniform(20, 100, series) * (shape + 0.2 * generator.uniform(-0.5, 0.5, (days, series)))
    demand[: days // 2, ::10] = np.nan
    lagged = [np.vstack([np.full((lag, series), np.nan), demand[:-lag]]) for lag in LAGS]
    weekday = [np.broadcast_to(age % 7 == number, demand.shape).astype(float) for number in range(6)]
    X = np.stack([*lagged, *weekday], axis=-1).reshape(days * series, -1)
    known = ~np.isnan(X).any(axis=1) & ~np.isnan(demand.ravel())
    return {"X": X[known], "y": demand.ravel()[known], "day": (FIRST_DAY + age.repeat(series)).ravel()[known]}


def search(data: dict[str, np.ndarray], folds: int, candidates: int) -> dict[str, Any]:
    """Search ridge regressions with penalties of growing strength, by folds in time."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    grid = {"alpha": [10.0**power for power in np.linspace(-3, 3, candidates).tolist()]}
    cv = TimeSeriesFolds(data["day"], horizon=HORIZON, numFolds=folds)
    found = GridSearchCV(Ridge(), grid, cv=cv, scoring="neg_root_mean_squared_error", error_score="raise")
    results = found.fit(data["X"], data["y"]).cv_results_
    metrics = [(-results[f"split{fold}_test_score"]).tolist() for fold in range(folds)]
    return {"best": int(found.best_index_), "metrics": metrics}


def run_one_process(data: dict[str, np.ndarray], *, folds: int, candidates: int) -> dict[str, Any]:
    """Folds in time, one process."""
    return search(data, folds, candidates)


def run_loky(data: dict[str, np.ndarray], *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """Folds in time, loky processes."""
    from joblib import parallel_config

    with parallel_config(backend="loky", n_jobs=parallelism, inner_max_num_threads=1):
        return search(data, folds, candidates)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a metric differs by more than rounding, or another candidate wins."""
    np.testing.assert_allclose(answer["metrics"], reference["metrics"], rtol=1e-9)
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
    figure.suptitle("Folds in time: numFolds=4, horizon=14, data from August to December")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        draw_fold_kinds(sys.argv[1])
    else:
        made = make_data()
        sizes = [(len(train), len(rows)) for train, rows in TimeSeriesFolds(made["day"], horizon=7).split(made["X"])]
        print(f"rows to train and to validate on: {sizes}")
        print(f"root mean squared error by fold and candidate: {run_one_process(made, folds=3, candidates=4)}")
