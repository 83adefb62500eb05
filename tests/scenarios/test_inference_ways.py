# SPDX-License-Identifier: Apache-2.0
"""Every way head to head: each scores all rows of the files, or a fiftieth, in every slot, with the right labels."""

import file_inference
import inference_ways as recipe
import pytest
import udf_inference

pytestmark = pytest.mark.spark
ROWS = 5_000
BY_ROW = ("run_row_udf", "run_arrow_row_udf")
OF_FILES = ("run_best_way", "run_files", "run_map_in_arrow")
WAYS = [getattr(file_inference, name) for name in OF_FILES] + [
    value for name, value in vars(recipe).items() if name.startswith("run_") and name != "run_memory"
]


@pytest.fixture(scope="module", params=["boosting", "logistic"])
def data(request, spark):
    made = recipe.prepare(recipe.make_data(rows=ROWS, model=request.param), spark=spark)
    yield made
    made["prefix"].unpersist(blocking=True)


@pytest.mark.parametrize("run", WAYS, ids=lambda run: run.__name__)
def test_each_way_counts_the_labels_of_its_rows(data, spark, run):
    answer = run(data, spark=spark)
    recipe.check(file_inference.run_one_process(data), answer)
    assert answer["rows"] == (ROWS // udf_inference.PREFIX if run.__name__ in BY_ROW else ROWS)


def test_rows_in_memory_are_those_of_the_files(data):
    answer = recipe.run_memory(data, rows=ROWS, parallelism=2)
    recipe.check(file_inference.run_one_process(data), answer)
    assert answer["rows"] == ROWS


def test_row_udfs_have_rows_in_every_slot(data, spark):
    sizes = data["prefix"].rdd.mapPartitions(lambda rows: [sum(1 for _ in rows)]).collect()
    assert len(sizes) == spark.sparkContext.defaultParallelism
    assert sum(sizes) == ROWS // udf_inference.PREFIX
    assert max(sizes) - min(sizes) <= len(sizes)


def test_every_way_that_score_can_be_asked_for_is_here():
    """`sql` is what `score` picks for the logistic regression."""
    ways = {"arrow_row_udf", "row_udf", "arrow_udf", "pandas_udf", "series_udf", "map_in_pandas", "predict_batch_udf"}
    names = {run.__name__.removeprefix("run_") for run in WAYS}
    assert ways < names
    assert names | {"sql"} == set(udf_inference.WAYS) | {"best_way"}
