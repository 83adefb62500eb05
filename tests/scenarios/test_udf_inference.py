# SPDX-License-Identifier: Apache-2.0
"""Inference by UDFs: every label is scikit-learn's, on every path, from rows made on the cluster."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grid_search_single_node as single_node
import numpy as np
import pyarrow as pa
import pytest
import udf_inference as scenario
from pyspark.sql import DataFrame, SparkSession
from sklearn.model_selection import ParameterGrid

ROWS = 2_000
VARIANTS = {
    "row_udf": scenario.run_row_udf,
    "pandas_udf": scenario.run_pandas_udf,
    "map_in_arrow": scenario.run_map_in_arrow,
    "best_way": scenario.run_best_way,
}
SCORERS = {
    "row_udf": (scenario.score_by_row_udf, {}),
    "pandas_udf": (scenario.score_by_pandas_udf, {}),
    "map_in_arrow": (scenario.score_by_map_in_arrow, {"keep": "id"}),
}


@pytest.fixture(scope="module")
def data() -> dict:
    return scenario.make_data(rows=ROWS)


@pytest.fixture(scope="module")
def prepared(spark: SparkSession) -> Iterator[dict]:
    # As the suite does: what prepare() sends to the workers refers to functions of the recipe by name.
    spark.sparkContext.addPyFile(scenario.__file__)
    made = scenario.prepare(scenario.make_data(spark=spark, rows=ROWS), spark=spark)
    yield made
    made["frame"].unpersist(blocking=True)
    made["prefix"].unpersist(blocking=True)


def cached(spark: SparkSession) -> set[int]:
    return set(spark.sparkContext._jsc.getPersistentRDDs())


def features_of(frame: DataFrame) -> np.ndarray:
    return frame.orderBy("id").select(*scenario.FEATURES).toPandas().to_numpy()


def test_the_model_is_the_best_of_the_search() -> None:
    data = single_node.make_data()
    search = single_node.grid_search(data["X"], data["y"], folds=5)
    assert search.best_params_ == scenario.BEST
    assert search.best_estimator_.n_support_.tolist() == scenario.make_data(rows=100)["model"].n_support_.tolist()


def test_rows_are_the_same_in_whatever_pieces_they_are_made(data: dict) -> None:
    pieces = [(0, 1), (1, 999), (999, 1001), (1001, 1999), (1999, 2000)]
    made = [scenario.rows_between(start, stop, data["train"], data["seed"]) for start, stop in pieces]
    np.testing.assert_array_equal(np.concatenate(made), data["X"])
    assert len(np.unique(data["X"], axis=0)) == ROWS
    assert not np.array_equal(scenario.make_data(seed=1, rows=100)["X"], data["X"][:100])


def test_base_case_counts_what_predict_says(data: dict) -> None:
    labels = data["model"].predict(data["X"])
    answer = scenario.run_scikit_learn(data, rows=ROWS)
    assert 0.3 < labels.mean() < 0.7  # both labels are there to be confused
    assert answer["rows"] == ROWS
    assert answer["positives"] == labels.sum()
    assert answer["positives_by_block"][7] == labels[140:160].sum()
    assert answer["positive_ids_by_block"][7] == (np.arange(140, 160) * labels[140:160]).sum()
    assert json.loads(json.dumps(answer)) == answer


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_count_the_same_in_however_many_parts(processes: int, data: dict) -> None:
    assert scenario.run_processes(data, rows=ROWS, parallelism=processes) == scenario.run_scikit_learn(data, rows=ROWS)


@pytest.mark.spark
@pytest.mark.parametrize(
    ("model", "columns", "way"), [("logistic", 5, "sql"), ("boosting", 50, "arrow_udf"), ("forest", 20, "arrow_udf")]
)
def test_other_models_and_columns_agree_too(model: str, columns: int, way: str, spark: SparkSession) -> None:
    spark.sparkContext.addPyFile(scenario.__file__)
    shape = {"rows": ROWS, "model": model, "columns": columns}
    reference = scenario.run_scikit_learn(scenario.make_data(**shape), rows=ROWS)
    prepared = scenario.prepare(scenario.make_data(spark=spark, **shape), spark=spark)
    try:
        assert len(prepared["frame"].columns) == columns + 1
        for run in (scenario.run_best_way, scenario.run_map_in_arrow):
            scenario.check(reference, run(prepared, spark=spark, rows=ROWS))
        features = prepared["features"]
        scored = scenario.score(prepared["frame"], prepared["model"], features=features)
        assert scored.schema["prediction"].metadata["way"] == way
    finally:
        prepared["frame"].unpersist(blocking=True)
        prepared["prefix"].unpersist(blocking=True)


@pytest.mark.spark
def test_prepare_makes_the_drivers_rows_on_the_cluster_in_one_equal_partition_for_each_slot(
    data: dict, prepared: dict
) -> None:
    assert "X" not in prepared
    np.testing.assert_array_equal(features_of(prepared["frame"]), data["X"])
    np.testing.assert_array_equal(features_of(prepared["prefix"]), data["X"][: ROWS // scenario.PREFIX])
    for name, each in {"frame": 1000, "prefix": 20}.items():
        assert [len(part) for part in prepared[name].rdd.glom().collect()] == [each, each]


@pytest.mark.spark
def test_partitions_and_batches_are_as_many_and_as_large_as_asked(spark: SparkSession) -> None:
    data = scenario.make_data(spark=spark, rows=ROWS, tasks_per_slot=3, batch=50)
    prepared = scenario.prepare(data, spark=spark)

    def label_by_size(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            sizes = pa.array([batch.num_rows] * batch.num_rows)
            yield pa.RecordBatch.from_arrays([batch.column("id"), sizes], ["id", "label"])

    def way(frame: DataFrame, model: Any, features: Any) -> DataFrame:
        return frame.mapInArrow(label_by_size, "id long, label long")

    try:
        parts = [len(part) for part in prepared["frame"].rdd.glom().collect()]
        assert len(parts) == 3 * spark.sparkContext.defaultParallelism
        before = spark.conf.get(scenario.ARROW_BATCH)
        answer = scenario.on_cluster(prepared, spark, way, prepared["frame"], ROWS)
        assert spark.conf.get(scenario.ARROW_BATCH) == before
    finally:
        prepared["frame"].unpersist(blocking=True)
        prepared["prefix"].unpersist(blocking=True)
    assert answer["positives"] == sum(rows // 50 * 50**2 + (rows % 50) ** 2 for rows in parts)


@pytest.mark.spark
@pytest.mark.parametrize("name", SCORERS)
def test_every_single_label_is_scikit_learns(name: str, data: dict, prepared: dict, spark: SparkSession) -> None:
    score, options = SCORERS[name]
    model = spark.sparkContext.broadcast(data["model"])
    found = score(prepared["prefix"], model, scenario.FEATURES, **options)
    rows = found.select("id", "label").collect()
    model.destroy()
    expected = data["model"].predict(data["X"][: ROWS // scenario.PREFIX])
    assert found.schema["label"].dataType.simpleString() == "bigint"
    assert {row.id: row.label for row in rows} == dict(enumerate(expected.tolist()))


@pytest.mark.spark
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_agree_with_the_base_case_and_leave_nothing(
    name: str, data: dict, prepared: dict, spark: SparkSession
) -> None:
    reference = scenario.run_scikit_learn(data, rows=ROWS)
    caches, threads = cached(spark), set(threading.enumerate())
    answer = VARIANTS[name](prepared, spark=spark, rows=ROWS)
    assert cached(spark) - caches == set()
    assert set(threading.enumerate()) - threads == set()
    scenario.check(reference, answer)
    if name == "row_udf":
        assert answer["rows"] == ROWS // scenario.PREFIX
        assert answer["positives_by_block"] == reference["positives_by_block"][:2]
    else:
        assert answer == reference
    assert json.loads(json.dumps(answer)) == answer


@pytest.mark.spark
def test_the_row_udf_goes_through_arrow_whatever_the_session_says(prepared: dict, spark: SparkSession) -> None:
    key = "spark.sql.execution.pythonUDF.arrow.enabled"
    before = spark.conf.get(key)
    model = spark.sparkContext.broadcast(prepared["model"])
    spark.conf.set(key, "false")
    try:
        plan = scenario.score_by_row_udf(prepared["prefix"], model, scenario.FEATURES)._jdf.queryExecution().toString()
    finally:
        spark.conf.set(key, before)
        model.destroy()
    assert "ArrowEvalPython" in plan


@pytest.mark.parametrize("rows", [0, 50, 150, 2_001, -100])
def test_validate_wants_equal_blocks(rows: int) -> None:
    with pytest.raises(ValueError, match=f"^rows={rows}: choose a multiple of 100, because .* equal blocks$"):
        scenario.validate(rows=rows)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "oracle"}, "choose of svc, logistic, boosting, forest, and 5 columns or more"),
        ({"columns": 4}, "columns=4: choose of .*, and 5 columns or more"),
        ({"tasks_per_slot": 0}, "tasks_per_slot=0, batch=10000: choose 1 or more"),
        ({"batch": 0}, "tasks_per_slot=1, batch=0: choose 1 or more"),
    ],
)
def test_validate_says_which_values_there_are(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenario.validate(rows=100, **wrong)


@pytest.mark.parametrize("size", ["smoke", "ci", "full"])
def test_every_value_of_the_sizes_is_valid(size: str) -> None:
    swept = {k: v if isinstance(v, tuple) else (v,) for k, v in scenario.SIZES[size].items()}
    for factors in ParameterGrid(swept):
        scenario.validate(**factors)


def shifted(blocks: list[int], by: int = 1) -> list[int]:
    return [*blocks[:-1], blocks[-1] + by]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"positives_by_block": shifted(a["positives_by_block"])}, r"positives_by_block\[99\] is"),
        (lambda a: {"positive_ids_by_block": shifted(a["positive_ids_by_block"])}, r"positive_ids_by_block\[99\] is"),
        (lambda a: {"positives_by_block": a["positives_by_block"][:-1]}, "2000 rows in 99 blocks"),
        (lambda a: {"positive_ids_by_block": a["positive_ids_by_block"][:-1]}, "has 99 blocks, expected 100"),
        (lambda a: {"rows": 1_000}, "1000 rows in 100 blocks"),
        (lambda a: {"rows": 0, "positives_by_block": [], "positive_ids_by_block": []}, "0 rows in 0 blocks"),
        (lambda a: {"positives": a["positives"] + 1}, "its blocks have"),
    ],
)
def test_check_refuses_an_altered_answer(data: dict, change: Callable[[dict], dict[str, Any]], message: str) -> None:
    reference = scenario.run_scikit_learn(data, rows=ROWS)
    scenario.check(reference, copy.deepcopy(reference))
    with pytest.raises(AssertionError, match=message):
        scenario.check(reference, {**reference, **change(reference)})


def test_check_compares_a_prefix_on_the_blocks_it_covers(data: dict) -> None:
    reference = scenario.run_scikit_learn(data, rows=ROWS)
    blocks = {name: reference[name][:2] for name in ("positives_by_block", "positive_ids_by_block")}
    prefix = {"rows": 40, "positives": sum(blocks["positives_by_block"]), **blocks}
    scenario.check(reference, prefix)
    scenario.check(prefix, prefix)
    with pytest.raises(AssertionError, match="80 rows in 2 blocks"):
        scenario.check(reference, {**prefix, "rows": 80})
    wrong = {"positive_ids_by_block": shifted(prefix["positive_ids_by_block"])}
    with pytest.raises(AssertionError, match=r"positive_ids_by_block\[1\]"):
        scenario.check(reference, {**prefix, **wrong})
