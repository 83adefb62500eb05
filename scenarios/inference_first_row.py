# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.6", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""How long until the first scored row is there: what `show()` costs, and where a stream of answers begins.

It is not the time of a row. Each way asks Spark for a job and a Python worker for a batch, and a worker that starts
anew has libraries to import: that is in the cold time. It needs its siblings file_inference.py and udf_inference.py.

Run it alone:  python inference_first_row.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame


def first_row(scored: DataFrame) -> dict[str, int]:
    """Return the key and the label of one row, whichever comes first."""
    row = scored.select("id", "label").first()
    assert row is not None
    return {"id": int(row["id"]), "label": int(row["label"])}


# --- benchmark: delete from here on when copying ------------------------
import os
import sys
import time

import file_inference
import numpy as np
import pyarrow.parquet as pq
from file_inference import files_of, prepare
from pyspark.sql import SparkSession
from udf_inference import (
    Shipped,
    score_by_best_way,
    score_by_files,
    score_by_map_in_arrow,
    score_by_pandas_udf,
    score_by_row_udf,
    validate,
)

__all__ = ["prepare", "validate"]
WORKLOAD = "first scored row"
PARALLELISM = "threads"  # a job of one task
LOCAL_FILES = True
ON_REQUEST = True  # nothing to copy
GATED = ()
SIZES = file_inference.SIZES


def make_data(*, seed: int = 0, rows: int = 2_000, model: str = "boosting", columns: int = 20) -> dict[str, Any]:
    """Make the files and the model of file_inference.py, and the right answer to each row."""
    data = file_inference.make_data(seed=seed, rows=rows, model=model, columns=columns)
    ((ids, labels),) = file_inference.score_files(
        files_of(data), data["model"], data["features"], keep="id", processes=1
    )
    return {**data, "labels": labels[np.argsort(ids)]}


def checked(data: dict[str, Any], row: dict[str, int]) -> dict[str, Any]:
    """Return the answer with the label that the row should have."""
    return {**row, "expected": int(data["labels"][row["id"]])}


def run_pyarrow(data: dict[str, Any]) -> dict[str, Any]:
    """pyarrow, one row."""
    with pq.ParquetFile(files_of(data)[0]) as file:
        batch = next(file.iter_batches(1, columns=["id", *data["features"]]))
    label = data["model"].predict(np.column_stack([batch.column(name) for name in data["features"]]))[0]
    return checked(data, {"id": batch.column("id")[0].as_py(), "label": int(label)})


def by_spark(data: dict[str, Any], spark: SparkSession, way: Callable[..., DataFrame], **options: Any) -> Any:
    """Ship the model, and score until there is a row."""
    model = spark.sparkContext.broadcast(Shipped(data["model"]))
    try:
        return checked(data, first_row(way(data["frame"], model, **options)))
    finally:
        model.destroy()


def run_best_way(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """As score() picks."""
    return by_spark(data, spark, score_by_best_way, features=data["features"])


def run_files(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Files read inside the workers."""
    return by_spark(data, spark, score_by_files, features=data["features"], keep="id")


def run_map_in_arrow(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Arrow batches: mapInArrow."""
    return by_spark(data, spark, score_by_map_in_arrow, features=data["features"], keep="id")


def run_pandas_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Pandas batches: pandas_udf."""
    return by_spark(data, spark, score_by_pandas_udf, features=data["features"])


def run_row_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Row by row: udf, Arrow mode."""
    return by_spark(data, spark, score_by_row_udf, features=data["features"])


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where a row has not the label that scikit-learn gives it. Any row may come first."""
    assert reference["label"] == reference["expected"], reference
    assert answer["label"] == answer["expected"], answer


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(rows=200_000), spark=session)
    for run in (run_best_way, run_map_in_arrow, run_row_udf) * 2:
        began = time.perf_counter()
        print(f"{run.__name__}: {run(made, spark=session)}, {time.perf_counter() - began:.2f} s")
    session.stop()
