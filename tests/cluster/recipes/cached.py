# SPDX-License-Identifier: Apache-2.0
"""Works again and again on data that it has cached on the executors."""

from __future__ import annotations

import time
from pathlib import Path

MARKS = Path("/var/spark")  # the disk of a worker of the compose cluster


def slow(rows) -> list[int]:
    time.sleep(0.5)
    return [row * row for row in rows]


def use(number: int, rows) -> list[int]:
    (MARKS / f"cached-{number}").touch()
    time.sleep(0.3)
    return [sum(rows)]


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 1000, "rounds": 8}}


def make_data(*, rows):
    return list(range(rows))


def run_serial(data):
    """Serial"""
    return {"total": sum(row * row for row in data)}


def run_cached(data, *, spark, rounds):
    """Cached on Spark"""
    squares = spark.sparkContext.parallelize(data, 4).mapPartitions(slow).cache()
    totals = {squares.mapPartitionsWithIndex(use).sum() for _ in range(rounds)}
    squares.unpersist(blocking=True)
    (total,) = totals
    return {"total": total}


def check(reference, answer):
    assert answer == reference
