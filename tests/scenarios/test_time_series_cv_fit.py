# SPDX-License-Identifier: Apache-2.0
"""Folds of Spark data, and fitting them in both schedules: fold after fold, and all in one pool."""

import contextlib
import math
import os
import re
import signal
import threading
import time
import warnings
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import time_series_cv as recipe
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression, RandomForestClassifier
from pyspark.ml.evaluation import BinaryClassificationEvaluator, RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import functions as F  # noqa: N812
from time_series_cv import TimeSeriesCrossValidator, TimeSeriesFolds
from time_series_toys import Calls, Error, InFlight, Mean, ValueOf, panel

# Estimators that call a function of the test cannot be saved, and the search says so.
unsaved = pytest.mark.filterwarnings("ignore:neither this search nor its model can be saved")
pytestmark = [pytest.mark.spark, unsaved]
both_schedules = pytest.mark.parametrize("schedule", ["fold", "pool"])


@pytest.fixture(scope="module")
def frame():
    return panel()


@pytest.fixture(scope="module")
def data(spark, frame):
    rows = spark.createDataFrame(frame.values.tolist(), "day date, series string, label double")
    return rows.coalesce(1).localCheckpoint()


@pytest.fixture(autouse=True)
def nothing_left_behind(spark):
    """Whatever a test does to a fit, it leaves no cached data, thread, job or tag behind."""
    context = spark.sparkContext
    cached, threads = set(context._jsc.getPersistentRDDs()), threading.active_count()
    yield
    # Others may have gone meanwhile: Spark drops what nobody refers to any more.
    assert set(context._jsc.getPersistentRDDs()) - cached == set()
    assert threading.active_count() == threads
    context._jsc.sc().listenerBus().waitUntilEmpty()  # it tells the status tracker, in a thread of its own
    assert list(context.statusTracker().getActiveJobsIds()) == []
    assert set(context.getJobTags()) == set()


def biases(estimator, *values):
    return [{estimator.bias: value} for value in values]


def search(estimator, *values, **settings):
    settings = {"evaluator": Error(), "timeCol": "day", "horizon": 5, **settings}
    return TimeSeriesCrossValidator(estimator=estimator, estimatorParamMaps=biases(estimator, *values), **settings)


# Folds of Spark data ----------------------------------------------------------------------------------------


def expected_rows(frame, fold):
    times = frame["day"]
    train = (times >= fold.trainFrom) & (times < fold.trainTo)
    validation = (times >= fold.validationFrom) & (times < fold.validationTo)
    return int(train.sum()), int(validation.sum())


@pytest.mark.parametrize(
    "rules",
    [
        {"numFolds": 4, "horizon": 5},
        {"numFolds": 2, "horizon": 3, "gap": 2, "maxTrain": 10, "stride": 1},
        {"timeUnit": "week", "numFolds": 2, "horizon": 1, "initialTrain": 2, "anchor": "start"},
        {"timeUnit": "month", "numFolds": 1},
        {"cutoffs": [date(2024, 2, 29), date(2024, 3, 5)], "horizon": 4},
    ],
)
def test_plan_of_a_panel(data, frame, rules):
    plan = TimeSeriesCrossValidator(timeCol="day", **rules).foldPlan(data)
    assert len(plan) == (len(rules.get("cutoffs", [])) or rules["numFolds"])
    for fold in plan:
        assert expected_rows(frame, fold) == (fold.trainRows, fold.validationRows)
        assert fold.trainTo <= fold.validationFrom
    splits = TimeSeriesFolds(frame["day"], **rules).split(frame)  # scikit-learn gets the same
    assert [(len(train), len(test)) for train, test in splits] == [tuple(fold[-2:]) for fold in plan]
    if "cutoffs" not in rules and rules.get("anchor") != "start" and "timeUnit" not in rules:
        assert plan[-1].validationTo == frame["day"].max() + timedelta(days=1)


@pytest.mark.parametrize("kind", ["long", "int", "double", "timestamp", "timestamp_ntz", "date"])
def test_every_kind_of_time_gives_the_same_folds(spark, kind):
    number = kind in ("long", "int", "double")
    days = spark.range(0, 20, 1, 1).select(
        (F.col("id") if number else F.date_add(F.lit("2024-02-20"), F.col("id").cast("int"))).cast(kind).alias("t")
    )
    plan = TimeSeriesCrossValidator(timeCol="t", numFolds=2, horizon=4, gap=1, maxTrain=6).foldPlan(days)
    counts = [(fold.trainRows, fold.validationRows) for fold in plan]
    assert counts == [(6, 4), (6, 4)]
    first = date(2024, 2, 20)
    expected = [(5, 11, 12, 16), (9, 15, 16, 20)]
    if not number:
        expected = [tuple(first + timedelta(days=k) for k in window) for window in expected]
    if kind.startswith("timestamp"):
        expected = [tuple(datetime(*day.timetuple()[:3]) for day in window) for window in expected]
    assert [tuple(fold[1:5]) for fold in plan] == expected


def test_units_of_numbers(spark):
    tenths = spark.range(0, 30, 1, 1).select((F.col("id") / 10).alias("t"))
    plan = TimeSeriesCrossValidator(timeCol="t", timeUnit=0.1, numFolds=2, horizon=3).foldPlan(tenths)
    assert [tuple(fold) for fold in plan] == [(0, 0, 2.4, 2.4, 2.7, 24, 3), (1, 0, 2.7, 2.7, 3, 27, 3)]


def test_a_double_that_lies_a_rounding_below_a_step_is_on_it(spark):
    """46 * 0.3 is 13.799999999999999: a row to validate, not to train on."""
    steps = spark.range(0, 60, 1, 1).select((F.col("id") * F.lit(0.3)).alias("t"))
    settings = {"timeCol": "t", "timeUnit": 0.3, "numFolds": 2, "horizon": 7}
    plan = TimeSeriesCrossValidator(**settings).foldPlan(steps)
    assert [tuple(fold) for fold in plan] == [(0, 0, 13.8, 13.8, 15.9, 46, 7), (1, 0, 15.9, 15.9, 18, 53, 7)]


def test_units_of_numbers_in_single_precision(spark):
    """0.7 as float is less than 0.7, and 5.7 as float is less than 5.7: both belong where they are written."""
    tenths = spark.range(0, 58, 1, 1).select((F.col("id") / 10).cast("float").alias("t"))
    plan = TimeSeriesCrossValidator(timeCol="t", timeUnit=0.1, numFolds=2, horizon=7).foldPlan(tenths)
    assert [tuple(fold) for fold in plan] == [(0, 0, 4.4, 4.4, 5.1, 44, 7), (1, 0, 5.1, 5.1, 5.8, 51, 7)]
    plan = TimeSeriesCrossValidator(timeCol="t", timeUnit=0.1, cutoffs=[0.7], horizon=3).foldPlan(tenths)
    assert [tuple(fold) for fold in plan] == [(0, 0, 0.7, 0.7, 1, 7, 3)]


@pytest.fixture
def zone(spark):
    """A function that sets the session's time zone. This process has another zone; folds must not depend on it."""
    before, own = spark.conf.get("spark.sql.session.timeZone"), os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield lambda name: spark.conf.set("spark.sql.session.timeZone", name)
    spark.conf.set("spark.sql.session.timeZone", before)
    os.environ.pop("TZ") if own is None else os.environ.update(TZ=own)
    time.tzset()


def hours(spark, first, count, every=60):
    """Timestamps from a UTC time on, one for each `every` minutes."""
    start = int(datetime.fromisoformat(first).replace(tzinfo=UTC).timestamp())
    return spark.range(0, count, 1, 1).select(F.timestamp_seconds(start + F.col("id") * 60 * every).alias("t"))


@pytest.mark.parametrize(("first", "day", "length"), [("2024-03-07T05", 10, 23), ("2024-10-31T04", 3, 25)])
def test_days_follow_the_clock_through_daylight_saving(spark, zone, first, day, length):
    zone("America/New_York")
    instants = hours(spark, first, 4 * 24 + (length - 24))  # four days of New York, the clock changes on the last
    plan = TimeSeriesCrossValidator(timeCol="t", timeUnit="day", numFolds=3, horizon=1).foldPlan(instants)
    assert [(fold.trainRows, fold.validationRows) for fold in plan] == [(24, 24), (48, 24), (72, length)]
    assert plan[-1].validationFrom.day == day
    assert plan[-1].validationFrom.time() == datetime.min.time()


def test_hours_are_durations_through_daylight_saving(spark, zone):
    zone("America/New_York")
    instants = hours(spark, "2024-11-03T02", 12, every=30)  # from 22:00; the clock shows the hour from 1:00 twice
    plan = TimeSeriesCrossValidator(timeCol="t", timeUnit="hour", numFolds=4, horizon=1).foldPlan(instants)
    assert [(fold.trainRows, fold.validationRows) for fold in plan] == [(4, 2), (6, 2), (8, 2), (10, 2)]
    assert [fold.validationFrom for fold in plan] == [datetime(2024, 11, 3, hour, tzinfo=UTC) for hour in (4, 5, 6, 7)]


@pytest.mark.parametrize("kind", ["TIMESTAMP_LTZ", "TIMESTAMP_NTZ"])
def test_hours_are_the_same_whatever_a_plain_timestamp_is(spark, zone, kind):
    """Where the setting makes it a type without a zone, an instant is still one."""
    zone("America/New_York")
    instants = hours(spark, "2024-01-01T00", 48)
    before = spark.conf.get("spark.sql.timestampType")
    spark.conf.set("spark.sql.timestampType", kind)
    try:
        plan = TimeSeriesCrossValidator(timeCol="t", timeUnit="hour", numFolds=3, horizon=6).foldPlan(instants)
    finally:
        spark.conf.set("spark.sql.timestampType", before)
    assert [(fold.trainRows, fold.validationRows) for fold in plan] == [(30, 6), (36, 6), (42, 6)]


def test_hours_begin_where_the_clock_says(spark, zone):
    zone("Asia/Kolkata")  # half an hour off
    instants = hours(spark, "2024-05-01T00:30", 12, every=10)  # 6:00 to 7:50 in India
    plan = TimeSeriesCrossValidator(timeCol="t", timeUnit="hour", numFolds=1, horizon=1).foldPlan(instants)
    assert [(fold.trainRows, fold.validationRows) for fold in plan] == [(6, 6)]


@pytest.mark.parametrize("unit", ["hour", "day"])
def test_cutoffs_are_times_of_the_session_zone(spark, zone, unit):
    zone("America/New_York")
    instants = hours(spark, "2024-03-09T05", 47)
    cv = TimeSeriesCrossValidator(timeCol="t", timeUnit=unit, cutoffs=[datetime(2024, 3, 10, 0)], horizon=1)
    plan = cv.foldPlan(instants)
    assert plan[0].trainRows == 24
    assert plan[0].validationRows == {"hour": 1, "day": 23}[unit]


@pytest.mark.parametrize(
    ("rows", "rules", "reason"),
    [
        ("date'2024-01-01'", {"timeUnit": "hour"}, "timeUnit='hour' does not suit times of kind date"),
        ("date'2024-01-01'", {"timeUnit": 2}, "timeUnit=2 does not suit"),
        ("1", {"timeUnit": "day"}, "timeUnit='day' does not suit"),
        ("'2024-01-01'", {}, "is of type string: cast it"),
        ("1.5BD", {}, "is of type decimal: cast it"),
        ("cast(null as date)", {}, "has 1 null, NaN or infinite values: fill or drop those rows"),
        ("double('NaN')", {}, "has 1 null, NaN or infinite values: fill or drop those rows"),
        ("double('Infinity')", {}, "has 1 null, NaN or infinite values: fill or drop those rows"),
        ("float('-Infinity')", {}, "has 1 null, NaN or infinite values: fill or drop those rows"),
        ("timestamp_micros(300000000000000000)", {}, "times outside of the years 1 to 9999"),
        ("timestamp_micros(300000000000000000)", {"timeUnit": "hour"}, "times outside of the years 1 to 9999"),
        ("make_date(10000, 1, 1)", {}, "times outside of the years 1 to 9999"),
        ("1", {"horizon": 5}, "the data have 1 units"),
        ("1", {"cutoffs": ["2024-01-01"], "horizon": 1}, "does not suit times of kind number"),
        ("date'2024-01-01'", {"cutoffs": [3], "horizon": 1}, "does not suit times of kind date"),
    ],
)
def test_data_that_do_not_suit_are_refused_in_one_line(spark, rows, rules, reason):
    with pytest.raises(ValueError, match=reason) as error:
        TimeSeriesCrossValidator(timeCol="t", **rules).foldPlan(spark.sql(f"SELECT {rows} AS t"))
    assert "\n" not in str(error.value)


def test_empty_folds_are_refused_with_their_dates(spark, data):
    with pytest.raises(ValueError, match=r"has no rows"):
        TimeSeriesCrossValidator(timeCol="day").foldPlan(data.where("label is null"))
    holey = data.where("day < date'2024-02-20' or day > date'2024-02-28'")
    with pytest.raises(ValueError, match=r"fold 0 .*validation 2024-02-20 to 2024-02-25.* has no validation rows"):
        TimeSeriesCrossValidator(timeCol="day", cutoffs=[date(2024, 2, 20)], horizon=5).foldPlan(holey)


def test_many_folds_are_counted_in_one_pass(spark):
    days = spark.range(0, 160, 1, 1)
    plan = TimeSeriesCrossValidator(timeCol="id", numFolds=0, initialTrain=100, horizon=1).foldPlan(days)
    assert [fold.trainRows for fold in plan] == list(range(100, 160))


# Fitting ----------------------------------------------------------------------------------------------------


def metrics_by_hand(frame, plan, values):
    table = []
    for fold in plan:
        train = frame[(frame["day"] >= fold.trainFrom) & (frame["day"] < fold.trainTo)]
        validation = frame[(frame["day"] >= fold.validationFrom) & (frame["day"] < fold.validationTo)]
        table.append([(validation["label"] - train["label"].mean() - value).abs().mean() for value in values])
    return np.array(table)


@both_schedules
@pytest.mark.parametrize("weights", ["equal", "rows"])
def test_metrics_are_those_worked_out_by_hand(data, frame, schedule, weights):
    values = (-5.0, 20.0, 5.0)
    cv = search(Mean(), *values, numFolds=3, gap=1, foldParallelism=schedule, parallelism=4, foldWeights=weights)
    plan, model = cv.foldPlan(data), cv.fit(data)
    table = metrics_by_hand(frame, plan, values)
    found = np.array([result.metric for result in model.foldResults]).reshape(3, 3)
    np.testing.assert_allclose(found, table, rtol=1e-9)
    rows = [fold.validationRows if weights == "rows" else 1 for fold in plan]
    assert len(set(rows)) > 1 or weights == "equal"
    np.testing.assert_allclose(model.avgMetrics, np.average(table, axis=0, weights=rows))
    deviation = np.sqrt(np.average((table - np.average(table, axis=0, weights=rows)) ** 2, axis=0, weights=rows))
    np.testing.assert_allclose(model.stdMetrics, deviation)
    assert model.bestIndex == int(np.argmin(model.avgMetrics))
    assert model.bestModel.getOrDefault("bias") == values[model.bestIndex]
    assert model.bestModel.getOrDefault("mean") == pytest.approx(frame["label"].mean())
    assert model.transform(data).select("prediction").distinct().count() == 1


@both_schedules
def test_results_of_each_fit(data, schedule):
    model = search(Mean(), 0.0, 1.0, numFolds=2, foldParallelism=schedule, parallelism=2).fit(data)
    plan = search(Mean(), 0.0, numFolds=2).foldPlan(data)
    assert [(result.fold, result.candidate) for result in model.foldResults] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for result in model.foldResults:
        assert tuple(result[6:]) == tuple(plan[result.fold][1:])
        assert result.fitSeconds > 0
        assert result.evaluationSeconds > 0
        assert result.error is None
    assert list(pd.DataFrame(model.foldResults)["trainTo"]) == [plan[0].trainTo] * 2 + [plan[1].trainTo] * 2


def test_both_schedules_agree_on_spark_models(spark, data):
    days = F.datediff("day", F.lit(date(2024, 2, 1)))
    features = VectorAssembler(inputCols=["age"], outputCol="features").transform(data.withColumn("age", days))
    model = LinearRegression()
    answers = [
        TimeSeriesCrossValidator(
            estimator=model,
            estimatorParamMaps=[{model.regParam: value} for value in (0.0, 10.0)],
            evaluator=RegressionEvaluator(),
            timeCol="day",
            numFolds=3,
            horizon=5,
            **schedule,
        ).fit(features)
        for schedule in ({}, {"foldParallelism": "fold", "parallelism": 2}, {"parallelism": 6})
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer.avgMetrics, answers[0].avgMetrics, rtol=recipe.RELATIVE_TOLERANCE)
        assert answer.bestIndex == answers[0].bestIndex == 0
    assert answers[0].bestModel.coefficients[0] == pytest.approx(1.0, abs=0.1)


# The schedule -----------------------------------------------------------------------------------------------


def test_the_pool_runs_all_folds_and_candidates_at_once(data):
    together = InFlight(parties=6)  # no fit goes on before all six have begun
    search(Calls(together), 0.0, 1.0, evaluator=ValueOf(), numFolds=3, parallelism=6, refit="none").fit(data)
    assert together.most == 6


def test_fold_after_fold_runs_the_candidates_of_one_fold_at_a_time(data):
    order, lock = [], threading.Lock()
    together = InFlight(parties=2)

    def fit(bias, train):
        with lock:
            order.append(train.count())
        return together()

    cv = search(Calls(fit), 0.0, 1.0, evaluator=ValueOf(), numFolds=3, parallelism=6, refit="none")
    rows = [fold.trainRows for fold in cv.setParams(foldParallelism="fold").foldPlan(data)]
    cv.fit(data)
    assert together.most == 2
    assert order == [count for count in rows for _ in range(2)]


@both_schedules
def test_no_more_fits_than_parallelism(data, schedule):
    counter = InFlight(parties=2)  # the eight fits run in pairs
    cv = search(Calls(counter), 0.0, 1.0, 2.0, 3.0, evaluator=ValueOf(), numFolds=2, parallelism=2, refit="none")
    cv.setParams(foldParallelism=schedule).fit(data)
    assert counter.most == 2


def test_the_pool_starts_the_longest_first(data):
    sizes = []
    estimator = Calls(lambda bias, train: sizes.append(train.count()) or 1.0)
    search(estimator, 0.0, 1.0, evaluator=ValueOf(), numFolds=4, parallelism=1, refit="none").fit(data)
    assert len(sizes) == 8
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


@both_schedules
def test_threads_inherit_local_properties_each_its_own(spark, data, schedule):
    """Fits inherit the scheduler pool, job group and the like from the caller's thread; what a fit sets stays in it."""
    context, seen = spark.sparkContext, []

    def fit(bias, train):
        seen.append([context.getLocalProperty(name) for name in ("spark.scheduler.pool", "foldout.mine")])
        seen[-1].append(len(context.getJobTags()))
        context.setLocalProperty("foldout.mine", "changed in a fit")
        return 1.0

    context.setLocalProperty("spark.scheduler.pool", "nightly")
    context.setLocalProperty("foldout.mine", "caller's")
    try:
        cv = search(Calls(fit), 0.0, 1.0, evaluator=ValueOf(), numFolds=2, parallelism=3, foldParallelism=schedule)
        cv.setParams(refit="none").fit(data)
        assert seen == [["nightly", "caller's", 1]] * 4
        assert context.getLocalProperty("foldout.mine") == "caller's"
    finally:
        context.setLocalProperty("spark.scheduler.pool", None)
        context.setLocalProperty("foldout.mine", None)


# Caching ----------------------------------------------------------------------------------------------------


@both_schedules
@pytest.mark.parametrize(("cached", "switch", "copies"), [(False, True, 1), (False, False, 0), (True, True, 1)])
def test_one_copy_is_cached_and_only_where_there_is_none(spark, data, schedule, cached, switch, copies):
    persistent = spark.sparkContext._jsc.getPersistentRDDs
    rows = data.withColumn("twice", 2 * F.col("label"))
    before, seen = set(persistent()), []
    if cached:
        rows.persist()
    estimator = Calls(lambda bias, train: seen.append(len(set(persistent()) - before)) or train.count())
    settings = {"numFolds": 3, "foldParallelism": schedule, "parallelism": 2, "cacheData": switch}
    try:
        search(estimator, 0.0, 1.0, evaluator=ValueOf(), **settings).fit(rows)
        assert rows.storageLevel.useMemory == cached
    finally:
        if cached:
            rows.unpersist()
    assert set(seen) == {copies}


# Failures ---------------------------------------------------------------------------------------------------


def sleep_in_spark(spark, seconds):
    spark.range(0, 1, 1, 1).select(F.expr(f"reflect('java.lang.Thread', 'sleep', {int(seconds * 1000)}L)")).collect()


def one_fails_while_others_run(spark, error):
    """An estimator that raises for bias 1 as soon as the other fits, which would take minutes, run jobs."""
    running = threading.Event()

    def fit(bias, train):
        if bias != 1.0:
            running.set()
            for _ in range(3):  # like an algorithm of several jobs, which starts the next when one is cancelled
                with contextlib.suppress(Exception):
                    sleep_in_spark(spark, 120)
            return 0.0
        assert running.wait(60)
        while not spark.sparkContext.statusTracker().getActiveJobsIds():
            time.sleep(0.01)
        raise error

    return Calls(fit)


@both_schedules
def test_a_failure_ends_everything_and_shows_its_cause(spark, data, schedule):
    estimator = one_fails_while_others_run(spark, ZeroDivisionError("the label is bad"))
    cv = search(estimator, 0.0, 1.0, 0.0, evaluator=ValueOf(), numFolds=2, parallelism=3, foldParallelism=schedule)
    began = time.perf_counter()
    with pytest.raises(ZeroDivisionError, match="the label is bad") as error:
        cv.fit(data)
    assert time.perf_counter() - began < 100, "jobs of two minutes were not cancelled"
    assert error.traceback[-1].name == "fit"  # where it was raised, not where it was noticed


@both_schedules
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_everything(spark, data, schedule, times):
    """Ctrl-C once, or twice by somebody who cannot wait."""

    def interrupt(bias, train):
        if bias == 1.0:
            while not spark.sparkContext.statusTracker().getActiveJobsIds():
                time.sleep(0.01)
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)
        with contextlib.suppress(Exception):
            sleep_in_spark(spark, 120)
        sleep_in_spark(spark, 120)

    cv = search(Calls(interrupt), 0.0, 1.0, evaluator=ValueOf(), numFolds=1, parallelism=4, foldParallelism=schedule)
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        cv.fit(data)
    assert time.perf_counter() - began < 100


def test_a_callback_that_raises_ends_everything(spark, data):
    def stop(result, done, total):
        raise KeyboardInterrupt

    def fit(bias, train):
        return 0.0 if bias else sleep_in_spark(spark, 120)

    with pytest.raises(KeyboardInterrupt):
        search(Calls(fit), 0.0, 1.0, evaluator=ValueOf(), numFolds=1, parallelism=2, progress=stop).fit(data)


def test_jobs_of_others_are_left_alone(spark, data):
    def fit(bias, train):
        while not spark.sparkContext.statusTracker().getActiveJobsIds():
            time.sleep(0.01)
        raise ZeroDivisionError

    done = []
    other = threading.Thread(target=lambda: done.append(sleep_in_spark(spark, 2)))
    other.start()
    with pytest.raises(ZeroDivisionError):
        search(Calls(fit), 0.0, evaluator=ValueOf(), numFolds=1).fit(data)
    other.join()
    assert done == [None]


@both_schedules
def test_a_failure_can_have_a_score(data, schedule):
    def fit(bias, train):
        if bias == 1.0 and train.count() > 60:
            raise ZeroDivisionError("too many rows")
        return bias

    cv = search(
        Calls(fit), 1.0, 2.0, evaluator=ValueOf(), numFolds=3, horizon=8, foldParallelism=schedule, parallelism=2
    )
    with pytest.warns(
        UserWarning, match=r"of 6 fits failed .* candidate 0 on fold \d: ZeroDivisionError: too many rows"
    ):
        model = cv.setParams(errorScore=float("nan"), refit="none").fit(data)
    assert math.isnan(model.avgMetrics[0])
    assert model.avgMetrics[1] == 2.0
    assert model.bestIndex == 1
    failed = [result for result in model.foldResults if result.error]
    assert failed
    assert all("ZeroDivisionError: too many rows" in result.error and "in fit" in result.error for result in failed)
    with pytest.warns(UserWarning, match="fits failed"):
        assert cv.setParams(errorScore=0.5).fit(data).bestIndex == 0


def test_a_job_that_somebody_cancels_is_no_score(data):
    def cancelled(bias, train):
        if bias:
            raise RuntimeError("[SPARK_JOB_CANCELLED] Job 3 cancelled part of cancelled job group g")
        return bias

    cv = search(Calls(cancelled), 0.0, 1.0, evaluator=ValueOf(), numFolds=2, errorScore=0.0)
    with pytest.raises(RuntimeError, match="Job 3 cancelled"):
        cv.fit(data)


def test_all_fits_failing_is_a_failure_whatever_the_score(data):
    cv = search(Calls(lambda bias, train: 1 / 0), 0.0, evaluator=ValueOf(), numFolds=2, errorScore=0.0)
    with pytest.raises(RuntimeError, match=r"2 of 2 fits failed .*ZeroDivisionError"):
        cv.fit(data)


@both_schedules
def test_an_exception_names_fold_window_and_candidate(data, schedule):
    def fit(bias, train):
        if bias == 2.0 and train.count() > 60:
            raise ZeroDivisionError("too many rows")
        return bias

    cv = search(Calls(fit), 1.0, 2.0, evaluator=ValueOf(), numFolds=2, horizon=8, foldParallelism=schedule)
    plan = cv.foldPlan(data)
    late = next(fold for fold in (reversed(plan) if schedule == "pool" else plan) if fold.trainRows > 60)
    with pytest.raises(ZeroDivisionError, match="too many rows") as error:
        cv.fit(data)
    window = "train {} to {}, validation {} to {}".format(*late[1:5])
    assert error.value.__notes__ == [f"in fold {late.fold} ({window}), candidate 1 (bias=2.0)"]


class FailingError(Error):
    def _evaluate(self, dataset):
        raise ZeroDivisionError("no metric")


@pytest.mark.parametrize(
    ("estimator", "evaluator", "note"),
    [
        (Mean(), FailingError(), "in fold 0 (train 2024-02-01 to 2024-03-07, validation 2024-03-07 to 2024-03-12), "),
        (
            Calls(lambda bias, train: 1 / int(train.where("day > date'2024-03-10'").isEmpty())),
            ValueOf(),
            "in the refit on all rows, ",
        ),
    ],
)
def test_an_exception_says_in_which_step_it_came(data, estimator, evaluator, note):
    cv = search(estimator, 0.0, evaluator=evaluator, numFolds=1)
    with pytest.raises(ZeroDivisionError) as error:
        cv.fit(data)
    assert error.value.__notes__ == [f"{note}candidate 0 (bias=0.0)"]


def test_a_window_without_rows_is_why_a_fit_fails(data):
    holey = data.where("day < date'2024-02-20' or day > date'2024-02-28'")
    cv = search(Mean(), 0.0, evaluator=RegressionEvaluator(), horizon=5, errorScore=0.0)
    with pytest.raises(ValueError, match=r"fold 0 .*validation 2024-02-20 to 2024-02-25.* has no validation rows"):
        cv.setParams(cutoffs=[date(2024, 2, 20), date(2024, 3, 1)]).fit(holey)


def rare(spark, *positive):
    """Sixty days with a positive label on some of them, and a feature that ranks the last of these first."""
    label = f"double(id in ({', '.join(map(str, positive))}))"
    rows = spark.sql(f"select date_add(date'2020-01-01', cast(id as int)) day, {label} label, id x from range(60)")
    return VectorAssembler(inputCols=["x"], outputCol="features").transform(rows.coalesce(1))


BINARY = {"type": "nominal", "vals": ["no", "yes"], "name": "label"}
FEW, MANY = ((3, 7, 20, 56), "0.0"), ((3, 7, *range(40, 55), 56), "1.0")


@pytest.mark.parametrize(
    ("positive", "label", "metric"),
    [
        pytest.param(*FEW, "areaUnderROC", marks=pytest.mark.slow),
        (*MANY, "areaUnderPR"),
        pytest.param(*FEW, "areaUnderPR", marks=pytest.mark.slow),
        pytest.param(*MANY, "areaUnderROC", marks=pytest.mark.slow),
    ],
)
def test_folds_of_one_class_have_no_metric(spark, metric, positive, label):
    frame = rare(spark, *positive)
    evaluator = BinaryClassificationEvaluator(metricName=metric)
    settings = {"estimator": LogisticRegression(maxIter=3), "evaluator": evaluator, "timeCol": "day", "horizon": 5}
    cv = TimeSeriesCrossValidator(**settings, numFolds=4)
    one_class = (
        rf"{metric} is not defined where all validation rows have one class: fold 0 \(train 2020-01-01 to 2020-02-10,"
        rf" validation 2020-02-10 to 2020-02-15, label {label}\); fold 1 .*; fold 2 .*\. They are "
    )
    with pytest.warns(UserWarning, match=one_class + "left out of the averages"):
        model = cv.fit(frame)
    last = TimeSeriesCrossValidator(**settings, numFolds=1).fit(frame).avgMetrics[0]
    assert 0 < last < 1
    assert model.avgMetrics == pytest.approx([last])
    assert [math.isnan(result.metric) for result in model.foldResults] == [True, True, True, False]
    assert all("is not defined" in result.error for result in model.foldResults[:3])
    with pytest.warns(UserWarning, match=one_class + r"given the errorScore 0\.5"):
        model = cv.setParams(errorScore=0.5).fit(frame)
    assert [result.metric for result in model.foldResults[:3]] == [0.5] * 3
    assert model.avgMetrics == pytest.approx([(1.5 + last) / 4])
    with pytest.raises(ValueError, match=r"fold 0 .* With the errorScore NaN no candidate would have an average"):
        cv.setParams(errorScore=math.nan).fit(frame)


@pytest.mark.parametrize("model", [LogisticRegression, RandomForestClassifier], ids=["fails", "has half"])
def test_folds_whose_train_rows_are_of_one_class_tell_nothing(spark, model):
    """Their models rank no row above another: an area of 0.5 for every candidate, which would pull all averages.

    Or they have one raw prediction, where an area takes two.
    """
    frame = rare(spark, 46, 47, 51, 56)
    if model is RandomForestClassifier:  # which must know of two classes
        frame = frame.withColumn("label", F.col("label").alias("label", metadata={"ml_attr": BINARY}))
    settings = {"estimator": model(), "evaluator": BinaryClassificationEvaluator()}
    cv = TimeSeriesCrossValidator(**settings, timeCol="day", horizon=5, numFolds=4)
    one_class = (
        r"fold 0 \(.*, label 0\.0\).*fold 1 \(train 2020-01-01 to 2020-02-15,"
        r" validation 2020-02-15 to 2020-02-20, label 0\.0\)\. They are "
    )
    with pytest.warns(
        UserWarning, match="areaUnderROC tells nothing where all train rows have one class: .*fold 1"
    ) as told:
        model = cv.fit(frame)
    assert re.search(one_class + "left out of the averages", str(told[0].message))
    metrics = [result.metric for result in model.foldResults]
    assert [math.isnan(metric) for metric in metrics] == [True, True, False, False]
    assert model.foldResults[1].error == "areaUnderROC tells nothing: all train rows have one class (label 0.0)"
    assert model.avgMetrics == pytest.approx([np.mean(metrics[2:])])
    with pytest.warns(UserWarning, match=one_class + r"given the errorScore 0\.25"):
        assert [result.metric for result in cv.setParams(errorScore=0.25).fit(frame).foldResults[:2]] == [0.25, 0.25]
    with pytest.raises(ValueError, match=r"tells nothing where .* fold 0 .* There is no other fold"):
        cv.setParams(numFolds=1, horizon=15).fit(frame)


def test_a_model_of_another_label_may_learn_from_train_rows_of_one_class(spark):
    frame = rare(spark, 46, 47, 51, 56).withColumn("amount", F.dayofyear("day").cast("double"))
    evaluator = BinaryClassificationEvaluator(rawPredictionCol="prediction")
    cv = TimeSeriesCrossValidator(timeCol="day", horizon=5, numFolds=3, evaluator=evaluator)
    model = cv.setParams(estimator=LinearRegression(labelCol="amount")).fit(frame)
    assert all(0 < result.metric < 1 for result in model.foldResults)


@pytest.mark.parametrize("weights", ["equal", "rows"])
def test_rows_that_a_stage_drops_are_told_and_have_no_weight(spark, weights):
    rows = spark.sql(
        "select date_add(date'2020-01-01', cast(id as int)) day, double(id) label, double(id) x from range(40)"
    )
    holes = rows.withColumn("x", F.when((F.col("label") < 35) | (F.col("label") > 38), F.col("x")))  # four of 35 to 39
    vectors, model = (
        VectorAssembler(inputCols=["x"], outputCol="features", handleInvalid="skip"),
        LinearRegression(regParam=9),
    )
    settings = {
        "evaluator": RegressionEvaluator(),
        "timeCol": "day",
        "horizon": 5,
        "numFolds": 2,
        "foldWeights": weights,
    }
    cv = TimeSeriesCrossValidator(estimator=Pipeline(stages=[vectors, model]), **settings)
    with pytest.warns(UserWarning, match=r"of those that were scored, fold 1: 1 of 5\. Look at the stages") as told:
        found = cv.fit(holes)
    assert [warning.filename for warning in told] == [__file__]
    metrics = [result.metric for result in found.foldResults]
    assert found.avgMetrics == pytest.approx([np.average(metrics, weights=[5, 1] if weights == "rows" else None)])


def test_labels_that_are_nan_are_not_taken_for_one_class():
    """To Spark NaN is the greatest number."""
    assert recipe.labels_of_one_kind(0.0, math.nan, area=True) is None
    assert recipe.labels_of_one_kind(0.0, 0.25, area=True).startswith("labels 0.0 to 0.25, none above 0.5")
    assert recipe.labels_of_one_kind(0.0, 0.25, area=False) is None


def test_an_area_of_nearly_one_may_be_that_of_one_class(spark, monkeypatch):
    exact = BinaryClassificationEvaluator._evaluate

    def nearly(evaluator, dataset):
        """An area that rounding keeps from being 1, as Spark's sum over many scores does."""
        return min(exact(evaluator, dataset), 1 - 2**-53)

    monkeypatch.setattr(BinaryClassificationEvaluator, "_evaluate", nearly)
    cv = TimeSeriesCrossValidator(estimator=LogisticRegression(maxIter=3), timeCol="day", horizon=5, numFolds=4)
    evaluator = BinaryClassificationEvaluator(metricName="areaUnderPR")
    with pytest.warns(UserWarning, match="areaUnderPR is not defined .* fold 0 .* fold 1 .* fold 2 "):
        model = cv.setParams(evaluator=evaluator).fit(rare(spark, *MANY[0]))
    assert [math.isnan(result.metric) for result in model.foldResults] == [True, True, True, False]


class Cost(BinaryClassificationEvaluator):
    """A metric that rows of one class have, such as a cost or the log loss."""

    def _evaluate(self, dataset):
        return 3.0

    def isLargerBetter(self):
        return False


def test_the_metric_of_a_subclass_is_believed_where_rows_have_one_class(spark):
    cv = TimeSeriesCrossValidator(estimator=LogisticRegression(maxIter=3), timeCol="day", horizon=5, numFolds=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = cv.setParams(evaluator=Cost()).fit(rare(spark, *FEW[0]))
    assert [result.metric for result in model.foldResults] == [3.0, 3.0]


def test_a_fit_that_fails_on_a_fold_of_one_class_is_told(spark):
    """Both are: the fold that has no metric, and the candidate that failed there."""
    regression = LogisticRegression(maxIter=3)
    good, bad = {}, {regression.featuresCol: "nowhere"}
    settings = {"estimatorParamMaps": [good, bad], "evaluator": BinaryClassificationEvaluator(), "errorScore": 0.0}
    cv = TimeSeriesCrossValidator(estimator=regression, timeCol="day", horizon=5, numFolds=4, **settings)
    with (
        pytest.warns(
            UserWarning, match="4 of 8 fits failed and got the errorScore; the first is candidate 1 on fold 0"
        ),
        pytest.warns(UserWarning, match="is not defined where all validation rows have one class: fold 0"),
    ):
        cv.fit(rare(spark, *FEW[0]))


def test_no_fold_of_two_classes_is_a_failure(spark):
    cv = TimeSeriesCrossValidator(estimator=LogisticRegression(maxIter=3), evaluator=BinaryClassificationEvaluator())
    with pytest.raises(ValueError, match=r"fold 0 .*fold 1 .* There is no other fold: choose folds with") as error:
        cv.setParams(timeCol="day", horizon=5, numFolds=2).fit(rare(spark, 3, 7, 20))
    assert "\n" not in str(error.value)
    two = rare(spark, *range(0, 60, 2)).withColumn("label", F.col("label") + 1)  # to Spark both are positive
    area = BinaryClassificationEvaluator(rawPredictionCol="prediction")  # three raw predictions Spark refuses itself
    with pytest.raises(ValueError, match=r"fold 0 \(.*, labels 1\.0 to 2\.0, all above 0\.5: recode them as 0 and 1\)"):
        cv.setParams(estimator=LinearRegression(), evaluator=area).fit(two)


def test_the_reason_of_a_failure_in_java_is_its_cause():
    stack = ["Traceback", "py4j.Py4JJavaError: An error occurred", ": org.SparkException: a", "\tat b(c:1)"]
    trace = "\n".join([*stack, "Caused by: d: why", "\tat e"])
    assert recipe._reason(trace) == "d: why"
    assert recipe._reason("Traceback\n  in fit\nValueError: no") == "ValueError: no"


@pytest.mark.parametrize("name", ["the.day", "the day", "`", "DAY"])
def test_time_columns_of_any_name(data, frame, name):
    renamed = data if name == "DAY" else data.withColumnRenamed("day", name)
    plan = TimeSeriesCrossValidator(timeCol=name, horizon=5).foldPlan(renamed)
    assert plan == TimeSeriesCrossValidator(timeCol="day", horizon=5).foldPlan(data)
    with pytest.raises(ValueError, match="the data have no column 'nope': they have day, series, label"):
        TimeSeriesCrossValidator(timeCol="nope").foldPlan(data)
    with pytest.raises(ValueError, match="'day' may be any of the columns day, DAY: rename all but one"):
        TimeSeriesCrossValidator(timeCol="day").foldPlan(data.select("day", F.col("day").alias("DAY")))


def test_estimators_that_take_all_columns_see_the_data_alone(data):
    seen = set()
    search(Calls(lambda bias, train: seen.add(tuple(train.columns)) or 1.0), 0.0, evaluator=ValueOf()).fit(data)
    assert seen == {("day", "series", "label")}


@both_schedules
def test_one_job_before_the_first_fit(spark, data, schedule, monkeypatch):
    """The job that finds the ends of the data also fills the cache; rows are counted beside the fits."""
    job_id = spark.sparkContext._jsc.sc().dagScheduler().nextJobId
    numbers = []
    run = recipe._Search.run
    monkeypatch.setattr(recipe._Search, "run", lambda *args: numbers.append(job_id()) or run(*args))
    before = job_id()
    search(Calls(lambda bias, train: 1.0), 0.0, evaluator=ValueOf(), foldParallelism=schedule, refit="none").fit(data)
    assert numbers[0] - before == 1 + 1  # Spark counts the filling of a cache as a job of its own
    assert job_id() - numbers[0] == 1


# The best ---------------------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("metrics", "larger", "best"),
    [
        ([NAN, 3.0, 2.0], False, 2),
        ([NAN, 3.0, 2.0], True, 1),
        ([3.0, NAN, 4.0], True, 2),
        ([2.0, 2.0, 3.0], False, 0),
        ([5.0, 2.0 + 1e-9, 2.0], False, 1),  # a tie but for rounding: the first wins
        ([5.0, 2.0, 2.0 + 1e-9], True, 0),
        ([float("inf"), 2.0], False, 1),
        ([0.0, -1.0], True, 0),
    ],
)
def test_the_best_candidate(metrics, larger, best):
    assert recipe._best(metrics, larger) == best


@pytest.mark.parametrize("larger", [True, False])
def test_what_is_infinitely_bad_never_wins(larger):
    worst = -math.inf if larger else math.inf
    with pytest.raises(ValueError, match=f"no candidate has an average metric other than NaN or {worst}"):
        recipe._best([worst, NAN], larger)


@both_schedules
def test_nan_never_wins(data, schedule):
    values = {0.0: NAN, 1.0: 7.0, 2.0: 3.0}
    for larger, best in ((True, 1), (False, 2)):
        cv = search(Calls(lambda bias, train: values[bias]), *values, evaluator=ValueOf(larger), numFolds=2)
        assert cv.setParams(foldParallelism=schedule, parallelism=2, refit="none").fit(data).bestIndex == best
    only = search(Calls(lambda bias, train: NAN), 0.0, evaluator=ValueOf(), numFolds=2, foldParallelism=schedule)
    with pytest.raises(ValueError, match="other than NaN"):
        only.fit(data)


# Models -----------------------------------------------------------------------------------------------------


@both_schedules
def test_sub_models_belong_to_their_fold_and_candidate(data, frame, schedule):
    cv = search(Mean(), 0.0, 7.0, numFolds=3, foldParallelism=schedule, parallelism=3, collectSubModels=True)
    model = cv.fit(data)
    for fold, models in zip(cv.foldPlan(data), model.subModels, strict=True):
        train = frame[(frame["day"] >= fold.trainFrom) & (frame["day"] < fold.trainTo)]["label"].mean()
        assert [sub.getOrDefault("bias") for sub in models] == [0.0, 7.0]
        assert [sub.getOrDefault("mean") for sub in models] == pytest.approx([train, train])
    assert search(Mean(), 0.0, numFolds=2).fit(data).subModels is None


@both_schedules
def test_refit(data, frame, schedule):
    cv = search(Mean(), 0.0, 3.0, numFolds=2, gap=2, maxTrain=9, foldParallelism=schedule)
    last = cv.foldPlan(data)[-1]
    train = frame[(frame["day"] >= last.trainFrom) & (frame["day"] < last.trainTo)]["label"]
    assert cv.fit(data).bestModel.getOrDefault("mean") == pytest.approx(frame["label"].mean())
    model = cv.setParams(refit="last").fit(data)
    assert model.bestModel.getOrDefault("mean") == pytest.approx(train.mean())
    assert model.bestModel.getOrDefault("bias") == [0.0, 3.0][model.bestIndex]
    assert model.subModels is None
    without = cv.setParams(refit="none").fit(data)
    assert without.bestModel is None
    assert without.avgMetrics == pytest.approx(model.avgMetrics)
    with pytest.raises(ValueError, match="refit='none' left no model"):
        without.transform(data)


def test_refit_on_the_last_window_fits_nothing_twice(data):
    fits = []
    cv = search(Calls(lambda bias, train: fits.append(bias) or bias), 2.0, 1.0, evaluator=ValueOf(), numFolds=2)
    assert cv.setParams(refit="last").fit(data).bestModel.value == 1.0
    assert sorted(fits) == [1.0, 1.0, 2.0, 2.0]


@both_schedules
def test_progress(data, schedule):
    seen, thread = [], threading.get_ident()

    def progress(result, done, total):
        seen.append((result.fold, result.candidate, done, total, threading.get_ident() == thread))

    cv = search(Mean(), 0.0, 1.0, numFolds=2, foldParallelism=schedule, parallelism=4, progress=progress)
    cv.fit(data, {cv.refit: "none"})
    assert [entry[2:] for entry in seen] == [(done, 4, True) for done in (1, 2, 3, 4)]
    assert {entry[:2] for entry in seen} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    cv.setParams(progress=None).fit(data)
    assert len(seen) == 4


def test_without_param_maps_the_estimator_itself_is_the_candidate(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = TimeSeriesCrossValidator(estimator=Mean(2.0), evaluator=Error(), timeCol="day", numFolds=2).fit(data)
    assert len(model.avgMetrics) == 1
    assert model.bestModel.getOrDefault("bias") == 2.0


@pytest.mark.parametrize("name", ["estimator", "evaluator", "timeCol"])
def test_what_is_missing_is_named(data, name):
    settings = {"estimator": Mean(), "evaluator": Error(), "timeCol": "day"}
    del settings[name]
    with pytest.raises(ValueError, match=f"needs {name}"):
        TimeSeriesCrossValidator(**settings).fit(data)


def test_no_candidates_are_refused(data):
    with pytest.raises(ValueError, match="estimatorParamMaps is empty"):
        search(Mean(), numFolds=2).fit(data)
