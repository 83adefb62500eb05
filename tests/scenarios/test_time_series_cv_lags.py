# SPDX-License-Identifier: Apache-2.0
"""Lags by time: those that leak are refused, the others found, whatever the kind and unit of the times."""

import warnings
from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F  # noqa: N812
from time_series_cv import TimeSeriesCrossValidator, lag_features

pytestmark = pytest.mark.spark


@pytest.mark.parametrize("lag", [1, 6, 9])
def test_lags_that_no_forecast_could_know_are_refused(spark, lag):
    data = spark.range(3).withColumnsRenamed({"id": "label"}).withColumn("t", F.col("label"))
    settings = {"timeCol": "t", "seriesCols": ["label"], "horizon": 7, "gap": 3}
    with pytest.raises(ValueError, match=f"a lag of {lag} leaks: .* use lags of 10 or more") as error:
        lag_features(data, "label", [14, lag], **settings)
    assert "\n" not in str(error.value)
    assert "label_lag10" in lag_features(data, "label", [10], timeUnit=1, **settings).columns


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamp_ntz", "number"])
def test_lags_are_found_by_time_and_series(spark, kind):
    """Missing days shift nothing; series do not leak into each other; order does not matter."""
    rows = [("a", 1, 1.0), ("b", 9, 9.0), ("a", 8, 2.0), ("b", 2, 5.0), ("a", 15, 3.0), ("a", 16, 4.0)]
    data = spark.createDataFrame(rows, "series string, day int, label double")
    unit = "day"
    if kind == "number":
        unit, data = 0.5, data.withColumn("day", F.col("day") / 2)
    else:
        data = data.withColumn("day", F.date_add(F.lit("2024-02-20"), F.col("day")).cast(kind))
    lagged = lag_features(
        data, "label", [7, 14], timeCol="day", seriesCols=np.array(["series"]), horizon=7, timeUnit=unit
    )
    found = {row["label"]: (row["label_lag7"], row["label_lag14"]) for row in lagged.collect()}
    assert found == {
        1.0: (None, None),
        2.0: (1.0, None),
        3.0: (2.0, 1.0),
        4.0: (None, None),
        5.0: (None, None),
        9.0: (5.0, None),
    }


def test_dates_that_are_written_as_numbers_are_told(spark):
    """As numbers they have holes between months, and lags are lost there."""
    data = spark.sql(
        "select int(date_format(date_add(date'2020-03-25', int(id)), 'yyyyMMdd')) t, id label from range(14)"
    )
    settings = {"timeCol": "t", "seriesCols": None, "horizon": 2}
    told = "times from 20200325 to 20200407 look like dates written as yyyymmdd, but count as plain numbers: make dates"
    with pytest.warns(UserWarning, match=told) as warned:
        lag_features(data, "label", [2], **settings)
    assert [warning.filename for warning in warned] == [__file__]
    cv = TimeSeriesCrossValidator(timeCol="t", horizon=2, numFolds=1)
    with pytest.warns(UserWarning, match=told):
        cv.foldPlan(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lag_features(data, "label", [2], timeUnit=1, **settings)
        cv.setParams(timeUnit=1).foldPlan(data)


def test_a_short_lag_looks_better_than_it_forecasts(spark):
    """How not to do it: nothing forecasts a random walk a week ahead better than its value of a week ago."""
    generator = np.random.default_rng(1)
    walk = np.cumsum(generator.normal(size=400))
    rows = [(date(2023, 1, 1) + timedelta(days=day), "a", float(value)) for day, value in enumerate(walk)]
    data = spark.createDataFrame(rows, "day date, series string, label double").coalesce(1)
    errors = {}
    for lag in (1, 7):
        # The guard is evaded with horizon=1, while the folds have a week. People who count rows do the same.
        lagged = lag_features(data, "label", [lag], timeCol="day", seriesCols=["series"], horizon=1).dropna()
        features = VectorAssembler(inputCols=[f"label_lag{lag}"], outputCol="features").transform(lagged)
        cv = TimeSeriesCrossValidator(
            estimator=LinearRegression(), evaluator=RegressionEvaluator(), timeCol="day", horizon=7, numFolds=5
        )
        errors[lag] = cv.fit(features).avgMetrics[0]
    # The steps have size 1, so the error is about 1 after one step and about sqrt(7) after seven.
    assert errors[1] < 1.3
    assert errors[7] > 1.5 * errors[1]


QUARTERS = "add_months(date'2020-01-01', 3 * cast(id as int))"


@pytest.mark.parametrize(
    ("time", "unit", "lag"),
    [
        (QUARTERS, "quarter", 4),
        (QUARTERS, "month", 12),
        (QUARTERS, "year", 1),
        ("date_add(date'2020-01-01', 7 * cast(id as int))", "week", 4),
        ("timestamp_seconds(60 * id)", "minute", 4),
        ("id / 10D", 0.1, 4),
        ("id / 10D", 0.2, 2),
        ("id / 2D", 0.5, 4),
        ("id / 10D", 0.4, 1),
        ("1.6e9D + id / 10D", 0.1, 4),
        ("float(id / 10D)", 0.1, 4),
        ("float(100 + id / 10D)", 0.1, 4),
        ("smallint(id)", 1, 4),
        ("id", 0.5, 8),
        ("id * 86400", 86400, 4),
    ],
)
def test_each_row_but_the_first_four_has_the_label_of_four_rows_before(spark, time, unit, lag):
    data = spark.sql(f"select {time} as t, double(id) as label from range(40)")
    lagged = lag_features(data, "label", [lag], timeCol="t", seriesCols=[], horizon=1, timeUnit=unit)
    found = dict(lagged.select("label", f"label_lag{lag}").collect())
    assert found == {float(k): float(k - 4) if k >= 4 else None for k in range(40)}


def test_a_lag_of_uneven_times_is_the_latest_that_is_old_enough(spark):
    """A value is found within half a unit, but never one that is younger than the lag."""
    times = (0.0, 1.02, 1.98, 3.4, 4.39)
    data = spark.createDataFrame([(time, time) for time in times], "t double, label double")
    lagged = lag_features(data, "label", [1], timeCol="t", seriesCols=[], horizon=1, timeUnit=1)
    assert dict(lagged.select("t", "label_lag1").collect()) == {0.0: None, 1.02: 0.0, 1.98: None, 3.4: 1.98, 4.39: None}


def test_days_of_timestamps_follow_the_clock(spark):
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        days = "timestamp(concat(date_add(date'2021-03-10', cast(id as int)), ' 04:30:00'))"
        data = spark.sql(f"select {days} as t, double(id) as label from range(10)")
        lagged = lag_features(data, "label", [1, 7], timeCol="t", seriesCols=[], horizon=1)
        found = {row["label"]: (row["label_lag1"], row["label_lag7"]) for row in lagged.collect()}
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    assert found == {float(k): (float(k - 1) if k >= 1 else None, float(k - 7) if k >= 7 else None) for k in range(10)}


@pytest.mark.parametrize(
    ("time", "unit", "lags"),
    [(QUARTERS, "month", [4]), ("date_add(date'2020-01-01', cast(id as int))", "year", [1]), ("id / 10D", 7, [2])],
)
def test_lags_that_nothing_has_are_told(spark, time, unit, lags):
    data = spark.sql(f"select {time} as t, double(id) as label from range(40)")
    settings = {"timeCol": "t", "seriesCols": [], "horizon": 1, "timeUnit": unit}
    with pytest.warns(UserWarning, match=f"label_lag{lags[0]} are null in all 40 rows. Look at timeUnit") as warned:
        lag_features(data, "label", lags, **settings)
    assert warned[0].filename == __file__


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamp_ntz"])
@pytest.mark.parametrize(
    ("unit", "step", "lag"), [("month", 1, 1), ("month", 1, 4), ("quarter", 3, 1), ("year", 12, 1)]
)
def test_the_last_day_of_a_month_has_the_lag_of_the_last_day_of_another(spark, kind, unit, step, lag):
    """At the same time of day, where there are two rows a day."""
    day = f"last_day(add_months(date'2020-02-29', {step} * cast(id div 2 as int)))"
    times = f"{day} + make_dt_interval(0, 3 + cast(id % 2 as int), 30)" if kind != "date" else day
    number = "double(id div 2 + 100 * (id % 2))"
    data = spark.sql(f"select cast({times} as {kind}) as t, {number} as label from range(36)")
    data = data if kind != "date" else data.where("label < 100")
    lagged = lag_features(data, "label", [lag], timeCol="t", seriesCols=[], horizon=1, timeUnit=unit)
    expected = {k + more: k - lag + more if k >= lag else None for k in range(18) for more in (0.0, 100.0)}
    found = dict(lagged.select("label", f"label_lag{lag}").collect())
    assert found == {label: before for label, before in expected.items() if kind != "date" or label < 100}


def test_the_earlier_day_itself_comes_before_the_last_day_of_its_month(spark):
    data = spark.sql("select date_add(date'2023-01-01', cast(id as int)) as day, double(id) as label from range(180)")
    lagged = lag_features(data, "label", 1, timeCol="day", seriesCols=None, horizon=1, timeUnit="month")
    found = {str(row["day"]): row["label_lag1"] for row in lagged.collect()}
    number = {str(row["day"]): row["label"] for row in data.collect()}
    earlier = {"2023-04-30": "2023-03-30", "2023-03-31": "2023-02-28", "2023-03-30": "2023-02-28"}
    assert {day: found[day] for day in earlier} == {day: number[before] for day, before in earlier.items()}
    holey = data.where("day <> date'2023-03-30' and day <> date'2023-03-29'")
    lagged = lag_features(holey, "label", 1, timeCol="day", seriesCols=None, horizon=1, timeUnit="month")
    found = {str(row["day"]): row["label_lag1"] for row in lagged.collect()}
    assert (found["2023-04-29"], found["2023-04-30"]) == (None, number["2023-03-31"])


@pytest.mark.parametrize(("series", "rows", "lag"), [(["s"], 2, 9.0), ([], 5, 70.0)])
def test_rows_that_share_series_and_time_are_told(spark, series, rows, lag):
    """A series column that was forgotten mixes series, as two rows a day mix."""
    values = [(1, "a", 1.0), (1, "a", 9.0), (2, "a", 5.0), (1, "b", 70.0), (2, "b", 80.0)]
    data = spark.createDataFrame(values, "t long, s string, label double")
    settings = {"timeCol": "t", "horizon": 1}
    told = f"^{rows} rows share series and time with another row, and lags take the greatest label of such rows: name"
    with pytest.warns(UserWarning, match=told) as warned:
        lagged = lag_features(data, "label", [1], seriesCols=series, **settings)
    assert [warning.filename for warning in warned] == [__file__]
    assert lagged.columns == ["t", "s", "label", "label_lag1"]
    assert {row["label_lag1"] for row in lagged.where("t = 2 and s = 'a'").collect()} == {lag}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lag_features(data.where("label <> 1"), "label", [1], seriesCols=["s"], **settings)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"lags": [0]}, "lag must be a whole number of at least 1, not 0"),
        ({"lags": [1.5]}, "lag must be a whole number of at least 1, not 1.5"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1, not 0"),
        ({"gap": -1}, "gap must be"),
        ({"timeUnit": "day"}, "timeUnit='day' does not suit times of kind number"),
        ({"timeUnit": "decade"}, "timeUnit must be one of second"),
        ({"timeCol": "text"}, "the time column is of type string: cast it"),
        ({"timeCol": "nope"}, "the data have no column 'nope': they have t, label, text, LABEL_lag9"),
        ({"valueCol": "nope"}, "the data have no column 'nope'"),
        ({"valueCol": ["label", "text"]}, r"\['label', 'text'\] is no column's name: give it as text"),
        ({"lags": [9]}, "the data have a column label_lag9 already: drop or rename it"),
        ({"seriesCols": ["nope"]}, "the data have no column 'nope'"),
        ({"timeCol": "holes"}, "the time column has 2 null, NaN or infinite values: fill or drop those rows"),
        ({"timeCol": "edges"}, "the time column has 3 null, NaN or infinite values: fill or drop those rows"),
        ({"seriesCols": ["t", "gaps"]}, "the series columns are null in 3 rows: fill or drop those rows"),
        ({"lags": 1.5}, "lag must be a whole number of at least 1, not 1.5"),
    ],
)
def test_lags_refuse_in_one_line(spark, changed, reason):
    data = spark.sql("select id as t, double(id) as label, string(id) as text, 0 as LABEL_lag9 from range(40)")
    holes = "if(t < 2, null, t)"
    edges = "case when t = 1 then double('NaN') when t = 2 then double('-Infinity') when t > 3 then double(t) end"
    if "gaps" in changed.get("seriesCols", ()):
        data = data.withColumn("gaps", F.expr("if(t < 3, null, text)"))
    if changed.get("timeCol") in ("holes", "edges"):
        data = data.where("t <> 3").withColumns({"holes": F.expr(holes), "edges": F.expr(edges)})
    settings = {"valueCol": "label", "lags": [2], "timeCol": "t", "seriesCols": [], "horizon": 1, **changed}
    with pytest.raises(ValueError, match=reason) as error:
        lag_features(data, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zone", ["timestamp", "timestamp_ntz"])
@pytest.mark.parametrize(
    ("unit", "months", "days"), [("week", 0, 7), ("month", 1, 0), ("quarter", 3, 0), ("year", 12, 0)]
)
def test_long_units_of_timestamps_follow_the_clock(spark, zone, unit, months, days):
    """At half past four each time, though the clock changes twice a year."""
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        moment = "timestamp_ntz'2021-01-04 04:30:00'"
        later = (
            f"{moment} + make_ym_interval(0, {months} * cast(id as int)) + make_dt_interval({days} * cast(id as int))"
        )
        data = spark.sql(f"select cast({later} as {zone}) as t, double(id) as label from range(30)")
        lagged = lag_features(data, "label", [4], timeCol="t", seriesCols=[], horizon=1, timeUnit=unit)
        found = dict(lagged.select("label", "label_lag4").collect())
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    assert found == {float(k): float(k - 4) if k >= 4 else None for k in range(30)}


def test_a_single_series_column_may_be_given_by_its_name(spark):
    data = spark.sql("select id div 2 as t, double(id) as label, id % 2 as series from range(20)")
    lagged = lag_features(data, "label", [2], timeCol="t", seriesCols="series", horizon=1)
    assert dict(lagged.select("label", "label_lag2").collect())[19.0] == 15.0


def test_a_single_lag_of_a_single_series(spark):
    data = spark.sql("select id as t, double(id) as label from range(10)")
    lagged = lag_features(data, "label", 2, timeCol="t", seriesCols=None, horizon=1)
    assert dict(lagged.select("label", "label_lag2").collect())[9.0] == 7.0


@pytest.mark.parametrize("names", [("The Day", "Unit-Sales", "SERIES"), ("a.the day", "a.unit-sales", "`a`.series")])
def test_names_in_another_case_and_paths_into_structs(spark, names):
    when, value, series = names
    data = spark.sql("select id div 2 as `the day`, double(id) as `unit-sales`, id % 2 as series from range(20)")
    data = data.withColumn("a", F.struct(*[F.col(f"`{name}`") for name in data.columns]))
    lagged = lag_features(data, value, [2], timeCol=when, seriesCols=[series], horizon=1)
    found = dict(lagged.select("`unit-sales`", F.col(f"`{value}_lag2`")).collect())
    assert found == {float(k): float(k - 4) if k >= 4 else None for k in range(20)}


def test_lags_of_columns_with_any_name(spark):
    names = {"t": "the day", "label": "unit.sales", "series": "a `quoted` name"}
    data = spark.sql("select id div 2 as t, double(id) as label, id % 2 as series from range(20)")
    lagged = lag_features(
        data.withColumnsRenamed(names), "unit.sales", [2], timeCol="the day", seriesCols=[names["series"]], horizon=1
    )
    found = dict(lagged.select("`unit.sales`", "`unit.sales_lag2`").collect())
    assert found == {float(k): float(k - 4) if k >= 4 else None for k in range(20)}
