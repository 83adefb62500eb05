# SPDX-License-Identifier: Apache-2.0
"""Adds numbers up on Spark, and misbehaves on request."""

from __future__ import annotations

import os
import signal
import time


class Doubler:
    """Is pickled by name, so workers must be able to import it."""

    def __call__(self, number: int) -> int:
        time.sleep(0.02)
        return 2 * number


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 20}}


def make_data(*, rows):
    return list(range(rows))


def prepare(data, *, spark):
    return spark.sparkContext.parallelize(data, 4).cache()


def run_base(data, *, spark):
    """On all slots"""
    return {"total": data.map(Doubler()).sum()}


def run_one_task(data, *, spark):
    """Leaves a slot idle"""
    return {"total": data.coalesce(1).map(Doubler()).sum()}


def run_leaks(data, *, spark):
    """Leaves data cached"""
    doubled = data.map(Doubler()).cache()
    return {"total": doubled.sum()}


def run_kills_jvm(data, *, spark):
    """Loses its JVM"""
    pid = int(spark._jvm.java.lang.ProcessHandle.current().pid())
    os.kill(pid, signal.SIGKILL)
    return {"total": data.map(Doubler()).sum()}


def check(reference, answer):
    assert answer == reference, f"total is {answer['total']}, not {reference['total']}"
