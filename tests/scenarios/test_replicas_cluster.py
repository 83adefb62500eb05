# SPDX-License-Identifier: Apache-2.0
"""On two executors of one core each: every parallel recipe of Spark ML engages both, also where one came late."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import spark_cross_validator
import time_series_cv

pytestmark = pytest.mark.spark

# A script, because a process has one Spark context, and that of the other tests is local.
SCRIPT = """
import json, sys, time, warnings
from collections import Counter
from pathlib import Path
import spark_cross_validator, time_series_cv, time_series_cv_pool
from pyspark import StorageLevel
from pyspark.sql import SparkSession

settings = {"ui.enabled": "false", "ui.showConsoleProgress": "false", "eventLog.enabled": "true",
            "eventLog.dir": Path("events").absolute().as_uri(), "eventLog.rolling.enabled": "false",
            "eventLog.compress": "false", "log.level": "ERROR"}
builder = SparkSession.builder.master("local-cluster[2,1,1024]")
for name, value in settings.items():
    builder = builder.config(f"spark.{name}", value)
Path("events").mkdir()
spark = builder.getOrCreate()
context = spark.sparkContext._jsc.sc()
jobs, answers = {}, {}


def record(name, call):
    first = context.dagScheduler().nextJobId()
    answers[name] = call()
    jobs[name] = range(first, context.dagScheduler().nextJobId())


while len(context.statusTracker().getExecutorInfos()) < 3:  # the driver is one of them
    time.sleep(0.1)

# As if one executor were there at first: the data are cached again after the first job, when both are.
late = spark.range(0, 3000, 1, 1).selectExpr("id div 10 as day", "double(id % 7) as label", "double(id) as x")
late = time_series_cv_pool.VectorAssembler(inputCols=["x"], outputCol="features").transform(late)
level, found = time_series_cv.on_each_executor, []


def one_at_first(frame):
    found.append(level(frame) if found else StorageLevel(True, True, False, True, 1))
    return found[-1]


time_series_cv.on_each_executor = one_at_first
search = time_series_cv.cross_validator(3, 4, parallelism=2).setParams(timeUnit=1)
record("late", lambda: search.fit(late).avgMetrics)
time_series_cv.on_each_executor = level

data = time_series_cv.make_data(spark=spark, dataset="warehouse", days=200, warehouses=2, items=10).coalesce(1)
for module in (time_series_cv, time_series_cv_pool):
    for variant in ("usual_recipe", "fold_after_fold", "pool"):
        if run := getattr(module, f"run_{variant}", None):
            record(f"{module.__name__}.{variant}", lambda: run(data, parallelism=2, folds=3, candidates=4))

made = spark_cross_validator.prepare(spark_cross_validator.make_data(), spark=spark)
one = {**made, "frame": made["frame"].coalesce(1).localCheckpoint()}
made["frame"].unpersist()
cross = dict(spark=spark, folds=2, candidates=4, model="random_forest")
record("spark_cross_validator", lambda: spark_cross_validator.run_cross_validator(one, parallelism=2, **cross))

mine = data.persist(StorageLevel(True, True, False, True, 1))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    time_series_cv.run_pool(mine, parallelism=2, folds=2, candidates=1)
mine.unpersist()
checkpoints = 2  # the cached data, and the frame in one partition
left = len(spark.sparkContext._jsc.getPersistentRDDs()) - checkpoints
application = spark.sparkContext.applicationId
spark.stop()

job_of, tasks = {}, {name: Counter() for name in jobs}
for line in next(Path("events").glob(f"{application}*")).open():
    event = json.loads(line)
    if event["Event"] == "SparkListenerJobStart":
        names = [name for name, numbers in jobs.items() if event["Job ID"] in numbers]
        job_of |= {stage: names[0] for stage in event["Stage IDs"] if names}
    if event["Event"] == "SparkListenerTaskEnd" and event["Stage ID"] in job_of:
        tasks[job_of[event["Stage ID"]]][event["Task Info"]["Executor ID"]] += 1
print(json.dumps({
    "tasks": {name: sorted(counts.values()) for name, counts in tasks.items()},
    "jobs": {name: len(numbers) for name, numbers in jobs.items()},
    "copies": [level.replication for level in found], "cached": left,
    "told": [str(warning.message) for warning in told],
    "answers": {name: answer for name, answer in answers.items() if name.startswith("time_series")},
}))
"""


def test_both_executors_are_engaged_by_every_recipe_of_spark_ml(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(spark_cross_validator.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout)
    assert len(found["tasks"]) == 1 + 3 + 2 + 1
    for name, tasks in found["tasks"].items():
        assert len(tasks) == 2, f"{name}: {tasks}"
        assert tasks[0] >= sum(tasks) / 4, f"{name}: {tasks}"  # one copy leaves a hundredth of the tasks to the other
    assert found["copies"] == [1, 2]
    assert found["cached"] == 0
    assert [text for text in found["told"] if "in 1 partitions, each on one of 2 executors" in text]
    reference, *others = found["answers"].values()
    for answer in others:
        time_series_cv.check(reference, answer)
    jobs = found["jobs"]
    assert jobs["time_series_cv.pool"] == jobs["time_series_cv.fold_after_fold"]
    assert jobs["time_series_cv_pool.pool"] == jobs["time_series_cv_pool.fold_after_fold"]
    assert jobs["time_series_cv.pool"] - jobs["time_series_cv_pool.pool"] == 1  # the job that counts rows
