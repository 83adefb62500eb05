# SPDX-License-Identifier: Apache-2.0
"""The folds without Spark: windows of time, the rows in them, and the splitter for scikit-learn."""

import itertools
import subprocess
import sys
import warnings
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import time_series_folds as recipe
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from time_series_folds import Fold, TimeSeriesFolds, Window, count_units, floor_time, fold_windows, shift

UNITS = st.sampled_from(recipe.UNITS)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
LENGTHS = st.fixed_dictionaries(
    {"numFolds": st.integers(1, 6), "horizon": st.integers(1, 5)},
    optional={
        "gap": st.integers(0, 4),
        "stride": st.integers(1, 6),
        "initialTrain": st.integers(1, 6),
        "maxTrain": st.integers(6, 12),
        "anchor": st.just("end"),
    },
)


# Times ------------------------------------------------------------------------------------------------------


def test_months_are_counted_from_the_anchor_and_never_chained():
    january = date(2023, 1, 31)
    assert [shift(january, k, "month") for k in range(4)] == [
        date(2023, 1, 31),
        date(2023, 2, 28),
        date(2023, 3, 31),
        date(2023, 4, 30),
    ]
    assert shift(january, -2, "month") == date(2022, 11, 30)
    assert shift(date(2023, 8, 31), 2, "quarter") == date(2024, 2, 29)


@pytest.mark.parametrize(
    ("when", "count", "unit"), [("9999-12-31", 1, "day"), ("9999-12-01", 1, "month"), ("0001-05-01", -9, "year")]
)
def test_the_ends_of_the_calendar(when, count, unit):
    with pytest.raises(ValueError, match=rf"{count} units \({unit}\) from {when} are outside the years 1 to 9999"):
        shift(date.fromisoformat(when), count, unit)


def test_leap_years():
    assert shift(date(2024, 2, 29), 1, "year") == date(2025, 2, 28)
    assert shift(date(2024, 2, 29), 4, "year") == date(2028, 2, 29)
    assert shift(date(2024, 2, 28), 1, "day") == date(2024, 2, 29)
    assert count_units(date(2024, 1, 1), date(2025, 1, 1), "day") == 366


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("second", datetime(2024, 8, 29, 13, 47, 12)),
        ("minute", datetime(2024, 8, 29, 13, 47)),
        ("hour", datetime(2024, 8, 29, 13)),
        ("day", datetime(2024, 8, 29)),
        ("week", datetime(2024, 8, 26)),
        ("month", datetime(2024, 8, 1)),
        ("quarter", datetime(2024, 7, 1)),
        ("year", datetime(2024, 1, 1)),
    ],
)
def test_floor_to_the_start_of_a_unit(unit, expected):
    assert floor_time(datetime(2024, 8, 29, 13, 47, 12, 345), unit) == expected


@given(MOMENTS, UNITS, st.integers(-30, 30), st.integers(-30, 30))
def test_shifting_keeps_the_order(moment, unit, a, b):
    assume(a != b)
    low, high = sorted((a, b))
    assert shift(moment, low, unit) < shift(moment, high, unit)


@given(MOMENTS, UNITS, st.integers(0, 50))
def test_units_between_starts_of_units_are_counted_back(moment, unit, count):
    start = floor_time(moment, unit)
    assert start <= moment < shift(start, 1, unit)
    assert count_units(start, shift(start, count, unit), unit) == count


@given(st.integers(-(10**6), 10**6), st.sampled_from([1, 7, 0.1, 0.25, 86400]))
def test_numbers_are_exact_steps(steps, unit):
    value = shift(0, steps, unit)
    assert floor_time(value, unit) == value
    assert count_units(0, value, unit) == steps
    assert shift(value, -steps, unit) == 0


def test_tenths_meet_where_people_expect_them():
    assert shift(0.1, 2, 0.1) == 0.3
    assert floor_time(0.7, 0.1) == 0.7


# Windows ----------------------------------------------------------------------------------------------------


def day_windows(days: int, **rules) -> list[tuple[int, int, int, int]]:
    return [tuple(window) for window in fold_windows(0, days, 1, **rules)]


def test_default_is_three_equal_expanding_folds_that_end_with_the_data():
    assert day_windows(8) == [(0, 2, 2, 4), (0, 4, 4, 6), (0, 6, 6, 8)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # the four quadrants: expanding or sliding, without or with a gap
        ({"horizon": 2}, [(0, 6, 6, 8), (0, 8, 8, 10)]),
        ({"horizon": 2, "gap": 1}, [(0, 5, 6, 8), (0, 7, 8, 10)]),
        ({"horizon": 2, "maxTrain": 3}, [(3, 6, 6, 8), (5, 8, 8, 10)]),
        ({"horizon": 2, "gap": 1, "maxTrain": 3}, [(2, 5, 6, 8), (4, 7, 8, 10)]),
        # strides: one unit at a time makes validations overlap, longer ones leave units out
        ({"horizon": 2, "stride": 1}, [(0, 7, 7, 9), (0, 8, 8, 10)]),
        ({"horizon": 2, "stride": 4}, [(0, 4, 4, 6), (0, 8, 8, 10)]),
        # folds from the start of the data on; the rest of the data is not used
        ({"horizon": 2, "anchor": "start", "initialTrain": 3}, [(0, 3, 3, 5), (0, 5, 5, 7)]),
        ({"horizon": 2, "anchor": "start", "initialTrain": 3, "gap": 1}, [(0, 3, 4, 6), (0, 5, 6, 8)]),
        ({"horizon": 2, "anchor": "start", "initialTrain": 3, "maxTrain": 3}, [(0, 3, 3, 5), (2, 5, 5, 7)]),
    ],
)
def test_two_folds_of_ten_units(rules, expected):
    assert day_windows(10, numFolds=2, **rules) == expected


def test_as_many_folds_as_the_data_give():
    windows = day_windows(10, numFolds=0, horizon=1, stride=1, initialTrain=4, anchor="start")
    assert windows == [(0, k, k, k + 1) for k in range(4, 10)]
    assert day_windows(10, numFolds=0, horizon=3, initialTrain=2) == [(0, 4, 4, 7), (0, 7, 7, 10)]


def test_a_month_is_a_calendar_month_and_an_unfinished_one_counts():
    start, end = floor_time(date(2023, 11, 20), "month"), shift(floor_time(date(2024, 3, 5), "month"), 1, "month")
    windows = fold_windows(start, end, "month", numFolds=2, horizon=1)
    assert windows == [
        Window(date(2023, 11, 1), date(2024, 2, 1), date(2024, 2, 1), date(2024, 3, 1)),
        Window(date(2023, 11, 1), date(2024, 3, 1), date(2024, 3, 1), date(2024, 4, 1)),
    ]


def test_explicit_cutoffs_at_the_ends_of_months():
    cutoffs = [date(2024, 1, 31), date(2024, 3, 31)]
    windows = fold_windows(date(2023, 1, 1), date(2025, 1, 1), "month", cutoffs=cutoffs, horizon=1, gap=1, maxTrain=3)
    assert windows == [
        Window(date(2023, 9, 30), date(2023, 12, 31), date(2024, 1, 31), date(2024, 2, 29)),
        Window(date(2023, 11, 30), date(2024, 2, 29), date(2024, 3, 31), date(2024, 4, 30)),
    ]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"numFolds": 5, "horizon": 2}, r"the data have 10 units \(1\), 0 to 10: too few for numFolds=5"),
        ({"numFolds": 0, "horizon": 10}, "too few"),
        ({"numFolds": 20}, "too few"),
        ({"horizon": 3, "initialTrain": 2}, "too few"),
        ({"numFolds": 0}, "needs a horizon"),
        ({"anchor": "start", "horizon": 1}, "needs initialTrain"),
        ({"maxTrain": 2, "initialTrain": 3, "horizon": 1}, "maxTrain=2 is below initialTrain=3"),
        ({"cutoffs": [5], "horizon": 1, "numFolds": 2}, "numFolds=2 contradicts"),
        ({"cutoffs": [5], "horizon": 1, "stride": 2}, "stride=2 contradicts"),
        ({"cutoffs": [5], "horizon": 1, "anchor": "end"}, "anchor='end' contradicts"),
        ({"cutoffs": [5]}, "cutoffs need a horizon"),
        (
            {"cutoffs": [9], "horizon": 2},
            r"fold 0 \(train 0 to 9, validation 9 to 11\): validation ends after the data",
        ),
        ({"cutoffs": [2, 4], "horizon": 2, "initialTrain": 3}, r"fold 0 \(train 0 to 2.*shorter than initialTrain=3"),
        ({"numFolds": -1}, "numFolds must be a whole number of at least 0"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1"),
        ({"gap": -1}, "gap must be"),
        ({"stride": 0}, "stride must be"),
        ({"initialTrain": 0}, "initialTrain must be"),
        ({"maxTrain": 0}, "maxTrain must be"),
    ],
)
def test_contradictions_and_short_data_are_refused(rules, reason):
    with pytest.raises(ValueError, match=reason) as error:
        day_windows(10, **rules)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("start", "end", "unit", "reason"),
    [
        (date(2024, 1, 1), date(2024, 1, 3), "hour", "timeUnit='hour' does not suit times of kind date"),
        (datetime(2024, 1, 1), datetime(2024, 2, 1), 7, "timeUnit=7 does not suit times of kind timestamp"),
        (
            datetime(2024, 1, 1),
            datetime(2024, 6, 20),
            "month",
            r"end=2024-06-20 00:00:00 is no start of a unit \(month\)",
        ),
        (0.5, 10, 1, r"start=0.5 is no start of a unit \(1\): start is floor_time\(first, unit\)"),
    ],
)
def test_ends_that_do_not_suit_the_unit_are_refused(start, end, unit, reason):
    with pytest.raises(ValueError, match=reason):
        fold_windows(start, end, unit, horizon=1, numFolds=1)


def test_ends_may_be_times_of_numpy():
    ends = np.array(["2024-01-01", "2024-04-01"], "M8[D]")
    (window,) = fold_windows(*ends, "month", horizon=1, numFolds=1)
    assert window[2:] == (datetime(2024, 3, 1), datetime(2024, 4, 1))


@given(MOMENTS, UNITS, st.integers(1, 80), LENGTHS)
@settings(max_examples=300)
def test_windows_never_leak_and_keep_their_lengths(moment, unit, length, rules):
    start = floor_time(moment, unit)
    end = shift(start, length, unit)
    horizon, gap = rules["horizon"], rules.get("gap", 0)
    stride, least = rules.get("stride", horizon), rules.get("initialTrain", 1)
    if least + gap + horizon + (rules["numFolds"] - 1) * stride > length:
        with pytest.raises(ValueError, match="too few"):
            fold_windows(start, end, unit, **rules)
        return
    windows = fold_windows(start, end, unit, **rules)
    assert len(windows) == rules["numFolds"]
    assert windows[-1].validationTo == end
    for window in windows:
        assert start <= window.trainFrom < window.trainTo <= window.validationFrom < window.validationTo <= end
        assert count_units(window.trainTo, window.validationFrom, unit) == gap
        assert count_units(window.validationFrom, window.validationTo, unit) == horizon
        train = count_units(window.trainFrom, window.trainTo, unit)
        assert train >= least
        assert train <= rules.get("maxTrain", train)
        assert window.trainFrom == start or train == rules["maxTrain"]
    for earlier, later in itertools.pairwise(windows):
        assert count_units(earlier.validationFrom, later.validationFrom, unit) == stride
        if stride == horizon:
            assert earlier.validationTo == later.validationFrom  # together they are one stretch without overlap


@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 5), st.integers(1, 5), st.integers(1, 10))
def test_from_the_start_the_folds_are_those_of_the_end_moved(length, folds, gap, horizon, initial):
    """Where the folds use all of the data, it does not matter from which end they are laid out."""
    length = initial + gap + folds * horizon
    rules = {"numFolds": folds, "gap": gap, "horizon": horizon, "initialTrain": initial}
    assert day_windows(length, anchor="start", **rules) == day_windows(length, anchor="end", **rules)


# scikit-learn -----------------------------------------------------------------------------------------------


@given(
    st.integers(2, 60),
    st.integers(2, 12),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 8),
    st.integers(0, 8),
    st.sampled_from(["rows", "numbers", "tenths", "days", "months", "hours"]),
)
@settings(max_examples=500)
def test_equals_time_series_split(n, n_splits, max_train_size, test_size, gap, times):
    X = np.zeros((n, 1))
    hour = np.timedelta64(1, "h")
    values, unit = {
        "rows": (None, None),
        "numbers": (np.arange(n) * 5 + 3, 5),
        "tenths": (np.arange(n) / 10, 0.1),
        "days": (np.array([date(2023, 12, 3) + timedelta(days=k) for k in range(n)]), None),
        "months": (np.array([datetime(2023 + k // 12, k % 12 + 1, 15) for k in range(n)], "M8[s]"), "month"),
        "hours": (np.datetime64("2024-03-10T00:30") + np.arange(n) * hour, "hour"),
    }[times]
    rules = {"numFolds": n_splits, "maxTrain": max_train_size, "horizon": test_size, "gap": gap}
    ours = TimeSeriesFolds(values, timeUnit=unit, **{name: rule for name, rule in rules.items() if rule is not None})
    theirs = TimeSeriesSplit(n_splits, max_train_size=max_train_size, test_size=test_size, gap=gap)
    try:
        expected = list(theirs.split(X))
    except ValueError:
        with pytest.raises(ValueError, match="too few"):
            list(ours.split(X))
        return
    found = list(ours.split(X))
    assert len(found) == len(expected) == ours.get_n_splits(X)
    for (train, test), (expected_train, expected_test) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(train, expected_train)
        np.testing.assert_array_equal(test, expected_test)


@given(st.lists(st.integers(0, 15), min_size=5, max_size=80), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_rows_of_unordered_panels_with_ties_never_leak(times, folds, horizon, gap):
    times = np.array(times)
    splitter = TimeSeriesFolds(times, numFolds=folds, horizon=horizon, gap=gap)
    try:
        splits = list(splitter.split(times))
    except ValueError:
        assume(False)
    seen = []
    for train, validation in splits:
        assert times[train].max() < times[validation].min() - gap
        assert not set(times[train]) & set(times[validation])
        for rows in (train, validation):  # ties stay together: a window has all rows of a time, or none
            assert set(rows) == set(np.flatnonzero(np.isin(times, times[rows])))
        seen.extend(validation)
    assert len(seen) == len(set(seen))
    assert set(times[seen]) == {time for time in times if time > times.max() - folds * horizon}


def test_grid_search_takes_it():
    generator = np.random.default_rng(0)
    days = np.repeat(pd.date_range("2024-02-20", periods=20).to_numpy(), 3)
    generator.shuffle(days)
    X = generator.normal(size=(60, 2))
    y = X @ [1.0, 2.0] + generator.normal(size=60)
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=TimeSeriesFolds(days, horizon=4, gap=1, numFolds=2))
    search.fit(X, y)
    assert search.n_splits_ == 2
    assert search.best_params_ == {"alpha": 0.1}


def test_splitter_takes_cutoffs_and_pandas():
    frame = pd.DataFrame({"x": range(10)})
    days = pd.Series(pd.date_range("2024-02-25", periods=10))
    for cutoffs in ([date(2024, 2, 29), "2024-03-02"], [datetime(2024, 2, 29), datetime(2024, 3, 2)]):
        splits = list(TimeSeriesFolds(days, cutoffs=cutoffs, horizon=2).split(frame))
        assert [[list(rows) for rows in split] for split in splits] == [
            [[0, 1, 2, 3], [4, 5]],
            [[0, 1, 2, 3, 4, 5], [6, 7]],
        ]
    dates = [date(2024, 2, 25) + timedelta(days=k) for k in range(10)]
    assert TimeSeriesFolds(dates, cutoffs=["2024-02-29"], horizon=2).get_n_splits(frame) == 1
    with pytest.raises(ValueError, match="has a time of day"):
        list(TimeSeriesFolds(dates, cutoffs=["2024-02-29T12:00"], horizon=2).split(frame))


@pytest.mark.parametrize(
    ("rules", "folds"),
    [({}, 3), ({"numFolds": 5}, 5), ({"cutoffs": [3, 7], "horizon": 1}, 2), ({"numFolds": 0, "horizon": 2}, 4)],
)
def test_number_of_splits(rules, folds):
    X = np.zeros((10, 1))
    splitter = TimeSeriesFolds(**rules)
    assert splitter.get_n_splits(X) == len(list(splitter.split(X))) == folds


@pytest.mark.parametrize(
    ("times", "rules", "reason"),
    [
        ([1, 2], {}, "2 times for 5 rows"),
        ([1.0, 2.0, float("nan"), 4.0, 5.0], {}, "rows without a time"),
        (pd.Series(pd.date_range("2024-01-01", periods=5, tz="UTC")), {}, "tz_localize"),
        ([0, 1, 2, 9, 10], {"horizon": 2}, r"fold 0 \(train 0 to 5, validation 5 to 7\) has no validation rows"),
        ([0, 1, 8, 9, 10], {"numFolds": 1, "horizon": 2, "gap": 3, "maxTrain": 2}, r"train 4 to 6.* has no train rows"),
        ([0, 1, 2, 3, 4], {"timeUnit": "day"}, "does not suit"),
        (pd.date_range("2024-01-01", periods=5), {"timeUnit": 2}, "does not suit"),
        ([date(2024, 1, day) for day in range(1, 6)], {"timeUnit": "hour"}, "does not suit"),
        ([0, 1, 2, 3, 4], {"timeUnit": "decade"}, "timeUnit must be one of second"),
        ([0, 1, 2, 3, 4], {"cutoffs": ["2024-01-01"], "horizon": 1}, "does not suit"),
    ],
)
def test_splitter_refuses(times, rules, reason):
    with pytest.raises(ValueError, match=reason):
        list(TimeSeriesFolds(times, **rules).split(np.zeros((5, 1))))


DAYS = pd.date_range("2024-01-01", periods=60)
NUMBERS = np.arange(60)


@pytest.mark.parametrize(
    "times",
    [
        DAYS,
        pd.Series(DAYS),
        pd.Series(DAYS).astype("category"),
        [day.date() for day in DAYS],
        [day.date() if day.day % 2 else day.to_pydatetime() for day in DAYS],
        [str(day.date()) for day in DAYS],
        pd.Series([day.isoformat() for day in DAYS]),
        pd.period_range("2024-01-01", periods=60, freq="D"),
        pd.Series(pd.period_range("2024-01-01", periods=60, freq="D")),
        pd.Series([day.date() for day in DAYS], dtype="date32[pyarrow]"),
        pd.Series(DAYS).astype("timestamp[us][pyarrow]"),
        pd.Series([str(day.date()) for day in DAYS], dtype="string"),
        DAYS.to_numpy().astype("M8[D]"),
        pd.array(NUMBERS, dtype="Int64"),
        pd.array(NUMBERS, dtype="Float64"),
        pd.Series(NUMBERS, dtype="int64[pyarrow]"),
        [Decimal(int(number)) for number in NUMBERS],
        (NUMBERS + 196).astype(np.uint8),
        (NUMBERS + 68).astype(np.int8),
    ],
    ids=lambda times: f"{type(times).__name__}-{getattr(times, 'dtype', type(times[0]).__name__)}",
)
@pytest.mark.parametrize("horizon", [7, np.int64(7)])
def test_every_kind_of_time_gives_the_same_rows(times, horizon):
    splits = TimeSeriesFolds(times, horizon=horizon, numFolds=np.int32(2)).split(np.zeros((60, 1)))
    assert [(len(train), list(rows)) for train, rows in splits] == [
        (46, list(range(46, 53))),
        (53, list(range(53, 60))),
    ]


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [60, 58])  # 5.9 in single precision is more than 5.9, 5.7 is less than 5.7
def test_steps_of_a_tenth_in_low_precision(rows, kind):
    times = (NUMBERS[:rows] / 10).astype(kind)
    splits = TimeSeriesFolds(times, timeUnit=0.1, horizon=7, numFolds=2).split(times)
    assert [(len(train), len(test)) for train, test in splits] == [(rows - 14, 7), (rows - 7, 7)]


def test_text_with_an_hour_is_a_moment_however_it_is_written():
    hours = [f"2024-01-01 {hour:02}" for hour in range(24)]
    splits = list(TimeSeriesFolds(hours, timeUnit="hour", horizon=2, numFolds=2).split(hours))
    assert [(len(train), list(test)) for train, test in splits] == [(20, [20, 21]), (22, [22, 23])]
    assert recipe.one_time("20240131") == recipe.one_time("2024-01-31") == date(2024, 1, 31)


@pytest.mark.parametrize(
    "cutoffs",
    [
        ["2024-02-16", "2024-02-23"],
        np.array(["2024-02-16", "2024-02-23"], "M8[D]"),
        [np.datetime64("2024-02-16"), np.datetime64("2024-02-23T00:00")],
        pd.DatetimeIndex(["2024-02-16", "2024-02-23"]),
        pd.Series(pd.DatetimeIndex(["2024-02-16", "2024-02-23"])),
        pd.period_range("2024-02-16", periods=2, freq="7D"),
        (date(2024, 2, 16), datetime(2024, 2, 23)),
    ],
    ids=lambda cutoffs: f"{type(cutoffs).__name__}-{type(cutoffs[0]).__name__}",
)
def test_cutoffs_of_every_kind(cutoffs):
    splits = TimeSeriesFolds(DAYS, cutoffs=cutoffs, horizon=7).split(DAYS)
    assert [(len(train), list(rows)) for train, rows in splits] == [
        (46, list(range(46, 53))),
        (53, list(range(53, 60))),
    ]


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([None, *DAYS[1:]], "rows without a time"),
        (pd.Series(DAYS).where(NUMBERS != 5), "rows without a time"),
        (pd.array([pd.NA, *range(1, 60)], dtype="Int64"), "rows without a time"),
        ([float("inf"), *range(1, 60)], "infinite times"),
        (["31.01.2024"] * 60, "'31.01.2024' is no time in ISO form, such as 2024-01-31"),
        (["2024-01-01T00:00:00+01:00"] * 60, "remove the zone"),
        (DAYS.tz_localize("UTC"), "remove the zone"),
        ([1, *DAYS[1:]], "a mix of numbers and dates"),
        (NUMBERS > 3, "times are of type bool"),
        (pd.to_timedelta(NUMBERS, unit="D"), r"times are of type timedelta64\[ns\]: give numbers, dates"),
        (NUMBERS.reshape(-1, 1), r"one dimension, not the shape \(60, 1\)"),
        (np.arange(60).astype("M8[Y]") + np.timedelta64(10_000, "Y"), "years 1 to 9999"),
        ([], "no rows"),
    ],
)
def test_times_that_are_none_are_refused_in_the_users_words(times, reason):
    with pytest.raises(ValueError, match=reason) as error:
        list(TimeSeriesFolds(times, horizon=7).split(np.zeros((len(times), 1))))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"n_splits": 5}, "n_splits"),
        ({"anchor": "strat"}, "anchor must be one of end, start, not 'strat'"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1, not 0"),
        ({"horizon": "7 days"}, "horizon must be a whole number of at least 1, not '7 days'"),
        ({"horizon": pd.Timedelta(days=7)}, "horizon must be a whole number"),
        ({"horizon": np.timedelta64(1, "M")}, "horizon must be a whole number"),
        ({"timeUnit": np.timedelta64(1, "D")}, "timeUnit must be one of .*, or a number above 0"),
        ({"gap": 1.5}, "gap must be a whole number of at least 0, not 1.5"),
        ({"numFolds": True}, "numFolds must be a whole number"),
        ({"cutoffs": ["2024-01-01"]}, "cutoffs need a horizon"),
        ({"cutoffs": "2024-01-01", "horizon": 1}, "cutoffs must be a list of times, not '2024-01-01'"),
        ({"cutoffs": [pd.NaT], "horizon": 1}, "cutoffs must be one or more times"),
        ({"cutoffs": pd.Series(DAYS[::-1]), "horizon": 1}, "not 2024-02-29 00:00:00, .*, ...$"),
        ({"cutoffs": DAYS.tz_localize("UTC"), "horizon": 1}, "remove the zone from 2024-01-01 00:00:00"),
        ({"cutoffs": [float("inf")], "horizon": 1}, "each later than the one before, not inf"),
        ({"cutoffs": [], "horizon": 1}, "cutoffs must be one or more times, .*, not nothing"),
        ({"maxTrain": 1, "initialTrain": 2}, "maxTrain=1 is below initialTrain=2"),
        ({"timeUnit": "days"}, "timeUnit must be one of second"),
    ],
)
def test_a_wrong_rule_is_refused_when_it_is_made(rules, reason):
    with pytest.raises((TypeError, ValueError), match=reason) as error:
        TimeSeriesFolds(DAYS, **rules)
    assert "\n" not in str(error.value)


def nested(times, X, model):
    inner = GridSearchCV(model, {"ridge__alpha": [0.1, 10.0]}, cv=TimeSeriesFolds(times, horizon=5, numFolds=2))
    outer = TimeSeriesFolds(times, horizon=10, numFolds=2)
    return cross_val_score(inner, X, np.arange(60.0), cv=outer, scoring="neg_mean_absolute_error", error_score="raise")


@pytest.mark.parametrize(
    ("times", "form"),
    [
        ([20200330 + day if day < 2 else 20200399 + day for day in range(20)], "yyyymmdd"),
        ([float(100 * year + month) for year in (2019, 2020) for month in range(1, 13)], "yyyymm"),
        (range(20), None),
        ([20201340 + day for day in range(20)], None),  # no such month
        ([202003] * 2 + [20200331], None),
        ([18990101, 20200101], None),
    ],
)
def test_numbers_that_look_like_dates_are_told(times, form):
    """As numbers they have holes between months: windows lose days, and a gap leaks."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        list(TimeSeriesFolds(np.array(times), numFolds=1, horizon=1).split(np.zeros(len(times))))
        list(TimeSeriesFolds(np.array(times), numFolds=1, horizon=1, timeUnit=1).split(np.zeros(len(times))))
    said = [f"times from {times[0]} to {times[-1]} look like dates written as {form}, but count as plain numbers"]
    assert [str(warning.message).partition(":")[0] for warning in told] == (said if form else [])
    assert {warning.filename for warning in told} <= {__file__}


def test_times_that_travel_with_the_rows_make_nested_cross_validation_possible():
    """The rows are shuffled, so that an inner search that took other times than its rows' would find other folds."""
    order = np.random.default_rng(0).permutation(60)
    age = NUMBERS[order].astype(float)
    frame = pd.DataFrame({"when": DAYS[order], "age": age})
    only = make_pipeline(ColumnTransformer([("age", "passthrough", ["age"])]), Ridge())
    by_column = nested("when", frame, only)
    by_index = nested("moment", frame.set_index(pd.Index(frame["when"], name="moment")), only)
    by_function = nested(lambda X: X[:, 0], age[:, None], make_pipeline(Ridge()))
    expected = []
    for train, rows in TimeSeriesFolds(frame["when"], horizon=10, numFolds=2).split(frame):
        cv = TimeSeriesFolds(frame["when"].iloc[train], horizon=5, numFolds=2)
        found = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=cv).fit(age[train, None], np.arange(60.0)[train])
        expected.append(-np.abs(found.predict(age[rows, None]) - np.arange(60.0)[rows]).mean())
    for scores in (by_column, by_index, by_function):
        np.testing.assert_allclose(scores, expected)
    with pytest.raises(ValueError, match=r"60 times for 40 rows: .* as in nested cross-validation, times must travel"):
        nested(frame["when"].to_numpy(), frame, only)
    with pytest.raises(ValueError, match="X has no column or index 'nope'"):
        list(TimeSeriesFolds("nope", horizon=5).split(frame))


def test_counting_folds_without_rows():
    assert TimeSeriesFolds(horizon=2).get_n_splits() == 3
    assert TimeSeriesFolds(DAYS, horizon=7, numFolds=0).get_n_splits() == 8
    with pytest.raises(ValueError, match="pass X to count them"):
        TimeSeriesFolds("when", horizon=7, numFolds=0).get_n_splits()


def test_the_recipe_needs_numpy_alone():
    """Of a copy that is cut at the marker."""
    text = Path(recipe.__file__).read_text().partition("# --- benchmark")[0]
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported - set(sys.stdlib_module_names) == {"numpy"}
    assert "pyspark" not in Path(recipe.__file__).read_text()


def test_the_processes_of_loky_find_what_one_process_finds():
    data = recipe.make_data(days=90, series=4)
    one = recipe.run_one_process(data, folds=2, candidates=2)
    recipe.check(one, recipe.run_loky(data, parallelism=2, folds=2, candidates=2))
    assert np.shape(one["metrics"]) == (2, 2)
    with pytest.raises(AssertionError, match="candidate 1 won, expected candidate 0"):
        recipe.check({**one, "best": 0}, {**one, "best": 1})
    with pytest.raises(AssertionError, match="Mismatched"):
        recipe.check(one, {**one, "metrics": (np.array(one["metrics"]) + 1e-6).tolist()})


# A plan for people ------------------------------------------------------------------------------------------

PLAN = [
    Fold(0, date(2024, 1, 1), date(2024, 1, 29), date(2024, 2, 1), date(2024, 2, 8), 100, 25),
    Fold(1, date(2024, 1, 1), date(2024, 2, 5), date(2024, 2, 8), date(2024, 2, 15), 125, 9),
]


def test_plan_as_a_table():
    lines = recipe.describe_folds(PLAN).splitlines()
    assert lines[0].split() == list(Fold._fields)
    assert lines[2].split() == ["1", "2024-01-01", "2024-02-05", "2024-02-08", "2024-02-15", "125", "9"]
    assert len({len(line) for line in lines}) == 1
    assert list(pd.DataFrame(PLAN).columns) == list(Fold._fields)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        [Fold(0, 0, 5, 6, 8, 5, 2)],
        [Fold(0, datetime(2024, 1, 1), *[datetime(2024, 1, d) for d in (2, 3, 4)], 1, 1)],
    ],
)
def test_plan_as_a_picture(plan, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    axes = recipe.plot_folds(plan)
    assert len(axes.patches) == 2 * len(plan)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "validation"]
    widths = [bar.get_width() for bar in axes.patches[:2]]
    first = plan[0]
    expected = [first.trainTo - first.trainFrom, first.validationTo - first.validationFrom]
    ratio = expected[0] / expected[1]
    assert widths[0] / widths[1] == pytest.approx(ratio)
    axes.figure.savefig(tmp_path / "folds.svg")
    assert axes.yaxis_inverted()


def test_the_file_draws_the_four_kinds_of_folds(tmp_path):
    picture = tmp_path / "folds.svg"
    ran = subprocess.run([sys.executable, recipe.__file__, picture], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout == ""  # no search was run
    root = ElementTree.parse(picture).getroot()
    bars = [part for part in root.iter("{http://www.w3.org/2000/svg}path") if "#0072b2" in part.get("style", "")]
    assert len(bars) == 4 * 4 + 1  # four panels of four folds, and one legend


@pytest.mark.parametrize(
    "times", [np.arange(60) * 0.3, np.cumsum(np.full(60, 0.3)) - 0.3, (np.arange(60) * 0.3).astype(np.float32)]
)
def test_a_float_that_lies_a_rounding_below_a_step_is_on_it(times):
    """46 * 0.3 is 13.799999999999999, and the window that ends at 13.8 does not hold it."""
    folds = TimeSeriesFolds(times, timeUnit=0.3, horizon=7, numFolds=2)
    assert [(train.tolist(), validation.tolist()) for train, validation in folds.split(times)] == [
        (list(range(stop)), list(range(stop, stop + 7))) for stop in (46, 53)
    ]


@given(st.sampled_from([0.1, 0.3, 0.7, 2.5, 1e-3, 1e4]), st.integers(-3000, 3000), st.sampled_from([1e3, 1e9]))
def test_steps_of_any_size_have_the_folds_of_their_numbers(step, first, origin):
    """Also far from zero, where floats lie farther apart."""
    numbers = np.arange(first, first + 40)
    shifted = numbers * step + round(origin / step) * step
    rules = {"horizon": 4, "gap": 1, "numFolds": 3}
    plain = TimeSeriesFolds(numbers, timeUnit=1, **rules).split(numbers)
    found = TimeSeriesFolds(shifted, timeUnit=step, **rules).split(numbers)
    for one, other in zip(plain, found, strict=True):
        assert [rows.tolist() for rows in one] == [rows.tolist() for rows in other]
