# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.1", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.6", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Every other way of applying a model to Parquet files, to be held against those of file_inference.py.

The ways are those of udf_inference.py: copy that, here is nothing to copy. Each scores the same files with the same
model and counts the labels; row UDFs score a fiftieth. Run it together with file_inference, which has the base case.

Run it alone:  python inference_ways.py
"""

from __future__ import annotations

# --- benchmark: delete from here on when copying ------------------------
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import file_inference
import numpy as np
import pyarrow.parquet as pq
import udf_inference
from file_inference import check, files_of, validate
from pyspark.sql import DataFrame, SparkSession
from udf_inference import PREFIX, on_cluster

__all__ = ["check", "validate"]
WORKLOAD = "inference from files"
PARALLELISM = "slots"
LOCAL_FILES = True
ON_REQUEST = True  # nothing to copy
GATED = ()
SIZES = file_inference.SIZES


def make_data(*, seed: int = 0, rows: int = 2_000, model: str = "boosting", columns: int = 20) -> dict[str, Any]:
    """Make the files and the model of file_inference.py, and hold the rows in memory too."""
    data = file_inference.make_data(seed=seed, rows=rows, model=model, columns=columns)
    table = pq.read_table(files_of(data), columns=data["features"])
    return {**data, "X": np.column_stack(table.columns)}


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Find the files with Spark; the rows for row UDFs are cached, as many in each slot.

    Whoever calls this unpersists `prefix` (or calls `spark.catalog.clearCache()`) at the end.
    """
    found = file_inference.prepare(data, spark=spark)
    prefix = found["frame"].where(f"id < {data['rows'] // PREFIX}")
    found["prefix"] = prefix.repartition(spark.sparkContext.defaultParallelism).cache()
    found["prefix"].count()
    return found


def run_memory(data: dict[str, Any], *, rows: int, parallelism: int) -> dict[str, Any]:
    """Rows in memory, as many processes as slots."""
    return udf_inference.run_processes(data, rows=rows, parallelism=parallelism)


def by(data: dict[str, Any], spark: SparkSession, way: Callable[..., DataFrame], **options: Any) -> dict[str, Any]:
    """Score all rows."""
    return on_cluster(data, spark, way, data["frame"], data["rows"], **options)


def by_row(data: dict[str, Any], spark: SparkSession, way: Callable[..., DataFrame]) -> dict[str, Any]:
    """Score a fiftieth of the rows."""
    return on_cluster(data, spark, way, data["prefix"], data["rows"] // PREFIX)


def run_arrow_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Read by Spark, scored by arrow_udf."""
    return by(data, spark, udf_inference.score_by_arrow_udf)


def run_pandas_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Read by Spark, scored by pandas_udf."""
    return by(data, spark, udf_inference.score_by_pandas_udf)


def run_series_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Read by Spark, by pandas_udf of series."""
    return by(data, spark, udf_inference.score_by_series_udf)


def run_map_in_pandas(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Read by Spark, scored by mapInPandas."""
    return by(data, spark, udf_inference.score_by_map_in_pandas, keep="id")


def run_predict_batch_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Read by Spark, scored by predict_batch_udf."""
    return by(data, spark, udf_inference.score_by_predict_batch_udf)


def run_arrow_row_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Row by row: udf, Arrow mode."""
    return by_row(data, spark, udf_inference.score_by_row_udf)


def run_row_udf(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Row by row: udf, pickled rows."""
    return by_row(data, spark, udf_inference.score_by_row_udf_pickled)


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(rows=200_000), spark=session)
    for run in (run_arrow_udf, run_pandas_udf, run_map_in_pandas, run_predict_batch_udf, run_row_udf) * 2:
        began = time.perf_counter()
        found = run(made, spark=session)
        print(f"{run.__name__}: {found['rows']} rows, {time.perf_counter() - began:.2f} s")
    session.stop()
