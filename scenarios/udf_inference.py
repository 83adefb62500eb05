# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.5", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Score a Spark DataFrame with a fitted scikit-learn model, by three kinds of UDF.

Use it for rows that are in Spark already and a model that fits in a worker's memory. A row-at-a-time UDF pays
scikit-learn's fixed cost of a call for every single row. That makes it dozens of times slower, and this file has it
only to show that. The vectorised variants pay the cost once for 10,000 rows. `mapInArrow` skips pandas and is usually
the fastest; `pandas_udf` is an expression, so it can stand wherever a column can. With a model as cheap as a linear
one, moving the rows to Python costs more than scoring them: if they fit in one machine, score them there.

Run it alone:  python udf_inference.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql.functions import pandas_udf, udf

# All three take the model as a broadcast, which is sent once to each executor and read once by each Python worker. A
# plain closure would be sent and unpickled with every task. Destroy the broadcast when the result has been computed,
# not before:
#
#     model = spark.sparkContext.broadcast(fitted)
#     score_by_map_in_arrow(frame, model, ["x0", "x1"], keep="id").write.parquet(...)
#     model.destroy()


def score_by_row_udf(frame: DataFrame, model: Broadcast[Any], features: Sequence[str]) -> DataFrame:
    """Add a column `label`, with one call of `predict` for each row.

    Rows go to Python through Arrow (`useArrow`, the default since Spark 4.2). That hardly matters here: scikit-learn
    spends nearly all of the time on checking an input of one row.
    """

    @udf("int", useArrow=True)
    def predict(*row: float) -> int:
        return int(model.value.predict([row])[0])

    return frame.withColumn("label", predict(*features))


def score_by_pandas_udf(frame: DataFrame, model: Broadcast[Any], features: Sequence[str]) -> DataFrame:
    """Add a column `label`, with one call of `predict` for each Arrow batch.

    A batch has at most `spark.sql.execution.arrow.maxRecordsPerBatch` rows, 10,000 by default.
    """

    # A UDF over iterators runs its first line once for each task: expensive preparations belong there.
    @pandas_udf("int")  # type: ignore[call-overload]  # pyspark declares no overload for UDFs by type hints
    def predict(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        fitted = model.value
        for columns in batches:
            yield pd.Series(fitted.predict(np.column_stack(columns)))

    return frame.withColumn("label", predict(*features))


def score_by_map_in_arrow(frame: DataFrame, model: Broadcast[Any], features: Sequence[str], *, keep: str) -> DataFrame:
    """Return the columns `keep` (whole numbers, such as a key) and `label`, without pandas in between.

    It maps whole rows, so every column of the result has to pass through Python too: keep the result small, and join
    the rest by key.
    """

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fitted = model.value
        for batch in batches:
            X = np.column_stack([batch.column(name).to_numpy(zero_copy_only=False) for name in features])
            labels = pa.array(fitted.predict(X), pa.int32())
            yield pa.RecordBatch.from_arrays([batch.column(keep), labels], [keep, "label"])

    return frame.select(keep, *features).mapInArrow(predict, f"{keep} long, label int")


# --- benchmark: delete from here on when copying ------------------------
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402

from pyspark.sql import SparkSession, functions  # noqa: E402
from sklearn.datasets import make_classification  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

WORKLOAD = "SVC inference"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"rows": 2_000},
    "ci": {"rows": 50_000},
    "full": {"rows": (2_000_000, 200_000)},
    "gate": {"rows": 30_000, "calls": 4},
}
GATED = ("map_in_arrow",)
# The best of the 48 candidates, as grid_search_single_node.py finds it.
BEST = {"C": 2, "kernel": "rbf", "shrinking": True}
FEATURES = [f"x{i}" for i in range(20)]
BATCH = 10_000  # rows that the base case scores at once, as many as an Arrow batch has
BLOCKS = 100  # the rows are cut into so many equal blocks, and an answer counts the labels of each
PREFIX = 50  # the row UDF scores a fiftieth of the rows: the first two blocks


def make_data(*, spark: SparkSession | None = None, seed: int = 0, rows: int = 2_000) -> dict[str, Any]:
    """Fit the model on 1,000 rows, and without Spark make the rows to score too.

    With Spark `prepare` makes them on the cluster: at size full they take 320 MB.
    """
    X, y = make_classification(n_samples=1000, random_state=seed)
    data = {"model": SVC(gamma="auto", **BEST).fit(X, y), "train": X, "seed": seed, "rows": rows}
    if spark is None:
        data["X"] = rows_between(0, rows, X, seed)
    return data


def rows_between(start: int, stop: int, train: np.ndarray, seed: int) -> np.ndarray:
    """Make the rows with the numbers `start` to `stop - 1`: training rows with some noise added.

    A row depends only on `train`, the seed and its number, not on where and in which pieces the rows are made.

    Returns
    -------
    array of shape (stop - start, 20)
    """
    chunk = 1_000
    first, last = start // chunk, -(-stop // chunk)
    made = []
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        made.append(train[rng.integers(len(train), size=chunk)] + rng.normal(0, 0.1, (chunk, train.shape[1])))
    return np.concatenate(made)[start - first * chunk : stop - first * chunk]


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Make the rows on the cluster and cache them, in one partition for each slot, all of equal size.

    Whoever calls this unpersists `frame` and `prefix` (or calls `spark.catalog.clearCache()`) at the end.
    """
    train, seed, rows = data["train"], data["seed"], data["rows"]

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column("id")
            X = rows_between(ids[0].as_py(), ids[-1].as_py() + 1, train, seed)
            yield pa.RecordBatch.from_arrays([ids, *(pa.array(x) for x in X.T)], ["id", *FEATURES])

    schema = "id long, " + ", ".join(f"{name} double" for name in FEATURES)
    frames = {}
    for name, count in {"frame": rows, "prefix": rows // PREFIX}.items():
        ids = spark.range(0, count, 1, spark.sparkContext.defaultParallelism)
        frames[name] = ids.mapInArrow(make, schema).cache()
        frames[name].count()
    return {**data, **frames}


def validate(*, rows: int) -> None:
    """Raise ValueError where the rows cannot be cut into equal blocks."""
    if rows < BLOCKS or rows % BLOCKS:
        raise ValueError(f"rows={rows}: choose a multiple of {BLOCKS}, because the answer has that many equal blocks")


def answer_of(rows: int, blocks: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return, for each block, the number of rows with label 1 and the sum of their ids, which tells rows apart."""
    positives = [int(count) for count, _ in blocks]
    ids = [int(total) for _, total in blocks]
    return {"rows": rows, "positives": sum(positives), "positives_by_block": positives, "positive_ids_by_block": ids}


def run_scikit_learn(data: dict[str, Any], *, rows: int) -> dict[str, Any]:
    """scikit-learn, one thread."""
    X = data["X"]
    labels = np.concatenate([data["model"].predict(X[start : start + BATCH]) for start in range(0, rows, BATCH)])
    by_block = labels.reshape(BLOCKS, -1)
    ids = np.arange(rows).reshape(BLOCKS, -1)
    return answer_of(rows, list(zip(by_block.sum(axis=1), (by_block * ids).sum(axis=1), strict=True)))


def on_cluster(
    data: dict[str, Any],
    spark: SparkSession,
    score: Callable[..., DataFrame],
    frame: DataFrame,
    rows: int,
    **options: Any,
) -> dict[str, Any]:
    """Score a frame and count its labels on the cluster; only the counts come back to the driver."""
    model = spark.sparkContext.broadcast(data["model"])
    try:
        block = functions.floor(functions.col("id") / (data["rows"] // BLOCKS)).alias("block")
        counts = functions.sum("label"), functions.sum(functions.expr("label * id"))
        found = score(frame, model, FEATURES, **options).groupBy(block).agg(*counts).orderBy("block").collect()
    finally:
        model.destroy()
    return answer_of(rows, [(count, total) for _, count, total in found])


def run_row_udf(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """Row by row: udf, Arrow mode."""
    return on_cluster(data, spark, score_by_row_udf, data["prefix"], rows // PREFIX)


def run_pandas_udf(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """Pandas batches: pandas_udf."""
    return on_cluster(data, spark, score_by_pandas_udf, data["frame"], rows)


def run_map_in_arrow(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """Arrow batches: mapInArrow."""
    return on_cluster(data, spark, score_by_map_in_arrow, data["frame"], rows, keep="id")


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where the labels differ in any block that both answers cover.

    There is no tolerance: a support vector machine scores each row by itself, whatever other rows are in the batch.
    """
    counts = "positives_by_block", "positive_ids_by_block"
    covered = len(answer[counts[0]])
    per_block = reference["rows"] / len(reference[counts[0]])
    assert answer["rows"] == covered * per_block > 0, f"{answer['rows']} rows in {covered} blocks of {per_block:g}"
    for name in counts:
        assert len(answer[name]) == covered, f"{name} has {len(answer[name])} blocks, expected {covered}"
        for block, (expected, got) in enumerate(zip(reference[name], answer[name], strict=False)):
            assert got == expected, f"{name}[{block}] is {got}, expected {expected}"
    total = sum(answer["positives_by_block"])
    assert answer["positives"] == total, f"positives is {answer['positives']}, its blocks have {total}"


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(spark=session, rows=20_000), spark=session)
    for run in (run_row_udf, run_pandas_udf, run_map_in_arrow):
        found = run(made, spark=session, rows=20_000)
        print(f"{run.__name__}: {found['positives']} of {found['rows']} rows have label 1")
    session.stop()
