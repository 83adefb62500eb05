# SPDX-License-Identifier: Apache-2.0
"""A job that ends, and a job whose tasks never do."""

import time

# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 20}}


def make_data(*, rows):
    return list(range(rows))


def run_sound(data, *, spark):
    """Does end"""
    return {"total": spark.sparkContext.parallelize(data, 2).sum()}


def run_hanging(data, *, spark):
    """Does not end"""
    spark.sparkContext.parallelize(data, 2).foreach(lambda row: time.sleep(100_000))
    return {"total": 0}


def check(reference, answer):
    assert answer == reference
