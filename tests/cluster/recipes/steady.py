# SPDX-License-Identifier: Apache-2.0
"""Adds numbers up in tasks of known duration, and shuffles them, so that a lost worker takes results with it."""

from __future__ import annotations

import time
from pathlib import Path

MARKS = Path("/var/spark")  # the disk of a worker of the compose cluster


def work(number: int, rows) -> list[tuple[int, int]]:
    # Shows to the test, which watches from outside, that the job is running.
    (MARKS / f"steady-{number}").touch()
    time.sleep(0.8)
    return [(row % 3, row) for row in rows]


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 1000, "tasks": 12}}


def make_data(*, rows):
    return list(range(rows))


def run_serial(data):
    """Serial"""
    return {"totals": [sum(row for row in data if row % 3 == rest) for rest in range(3)]}


def run_shuffled(data, *, spark, tasks):
    """Shuffled on Spark"""
    pairs = spark.sparkContext.parallelize(data, tasks).mapPartitionsWithIndex(work)
    totals = dict(pairs.reduceByKey(lambda one, other: one + other, 2).collect())
    return {"totals": [totals[rest] for rest in range(3)]}


def check(reference, answer):
    assert answer == reference, f"{answer} is not {reference}"
