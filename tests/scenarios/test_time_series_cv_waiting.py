# SPDX-License-Identifier: Apache-2.0
"""The waiting workload waits in Spark as long as it is told to, and its schedules agree."""

import time

import pytest
import time_series_cv_waiting as recipe

pytestmark = pytest.mark.spark
SHORT = {"fit_seconds": 0.01, "evaluation_seconds": 0.01}


def test_all_schedules_find_the_same(spark):
    data = recipe.make_data(spark=spark, folds=3)
    assert [row[0] for row in data.collect()] == [0, 1, 2, 3]
    reference = recipe.run_one_at_a_time(data, folds=3, candidates=2, **SHORT)
    # The candidates predict twice and three times the time. Each fold validates on one row, of time 1, 2 and 3.
    assert reference == {"best": 0, "metrics": [1.0, 2.0, 2.0, 4.0, 3.0, 6.0]}
    for run in (recipe.run_fold_after_fold, recipe.run_pool):
        recipe.check(reference, run(data, parallelism=4, folds=3, candidates=2, **SHORT))
    with pytest.raises(AssertionError, match="expected"):
        recipe.check(reference, {**reference, "best": 1})


def test_each_fit_and_each_evaluation_is_one_job_of_one_task(spark):
    """A fit then holds one slot, as the bounds assume. Planning the folds takes two more jobs."""
    context, status = spark.sparkContext, spark.sparkContext.statusTracker()
    data = recipe.make_data(spark=spark, folds=2)

    def jobs(run):
        context.setJobGroup("foldout-waiting", "")
        before = set(status.getJobIdsForGroup("foldout-waiting"))
        try:
            run()
            return [status.getJobInfo(job) for job in set(status.getJobIdsForGroup("foldout-waiting")) - before]
        finally:
            context._jsc.clearJobGroup()

    search = jobs(lambda: recipe.run_pool(data, parallelism=4, folds=2, candidates=2, **SHORT))
    settings = {"timeCol": "time", "horizon": 1, "numFolds": 2}
    plan = jobs(lambda: recipe.TimeSeriesCrossValidator(**settings).foldPlan(data))
    assert len(search) - len(plan) == 2 * 2 * 2
    for job in search:
        assert sum(status.getStageInfo(stage).numTasks for stage in job.stageIds) == 1


def test_it_sleeps_as_long_as_it_is_told(spark):
    start = time.perf_counter()
    spark.range(0, 1, 1, 1).select(recipe.sleep(0.25)).collect()
    assert time.perf_counter() - start >= 0.25  # no machine sleeps less


def test_sizes_suit_the_bounds():
    assert recipe.SCHEDULE == {"one_at_a_time": "serial", "fold_after_fold": "folds", "pool": "pool"}
    assert not recipe.REFIT
    for size in recipe.SIZES.values():
        assert size["slots"] == 32
        assert max(size["parallelism"]) <= size["slots"], "a thread without a slot would wait longer than its job takes"
        assert isinstance(size["candidates"], int)
