# SPDX-License-Identifier: Apache-2.0
"""The first scored row: every way gives one with its right label, and asks for one task."""

import os

import inference_first_row as recipe
import pyarrow as pa
import pytest

pytestmark = pytest.mark.spark
WAYS = [value for name, value in sorted(vars(recipe).items()) if name.startswith("run_") and name != "run_pyarrow"]


@pytest.fixture(scope="module")
def data(spark):
    return recipe.prepare(recipe.make_data(rows=2_000), spark=spark)


@pytest.mark.parametrize("run", WAYS, ids=lambda run: run.__name__)
def test_each_way_gives_a_row_with_its_label_by_one_task(data, spark, run):
    context = spark.sparkContext
    context.setJobGroup(run.__name__, run.__name__)
    try:
        answer = run(data, spark=spark)
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel"):
            context.setLocalProperty(name, None)
    recipe.check(recipe.run_pyarrow(data), answer)
    tracker = context.statusTracker()
    (job,) = tracker.getJobIdsForGroup(run.__name__)
    (stage,) = tracker.getJobInfo(job).stageIds
    assert tracker.getStageInfo(stage).numTasks == 1


def test_a_worker_stays_where_all_that_is_scored_is_taken(spark):
    def own_process(batches):
        for batch in batches:
            yield pa.RecordBatch.from_arrays([pa.array([os.getpid()] * batch.num_rows)], ["worker"])

    frame = spark.range(200_000).coalesce(1)
    taken = frame.limit(1).mapInArrow(own_process, "worker long")
    # Workers of earlier tests may take turns.
    before = {taken.collect()[0].worker for _ in range(6)}
    assert {taken.collect()[0].worker for _ in range(6)} <= before
    # Each of these queries ends before all rows are read, and with it its worker.
    ended = [frame.mapInArrow(own_process, "worker long").first().worker for _ in range(4)]
    assert len(set(ended)) == 4


def test_a_row_with_another_label_is_refused(data):
    right = recipe.run_pyarrow(data)
    with pytest.raises(AssertionError):
        recipe.check(right, {**right, "label": 1 - right["label"]})
