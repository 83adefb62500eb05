# SPDX-License-Identifier: Apache-2.0
"""Has its answer before its Spark tasks end."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 20}}
STAYING: list[Any] = []


def make_data(*, rows):
    return list(range(rows))


def run_tasks_stay(data, *, spark, parallelism):
    """Tasks that wait to be released"""
    if STAYING:
        return answer(data, spark)
    folder = TemporaryDirectory()
    place = folder.name

    def wait(rows):
        Path(place, f"there-{min(rows)}").touch()
        while not Path(place, "go").exists():
            time.sleep(0.01)
        return []

    thread = threading.Thread(target=spark.sparkContext.parallelize(data, parallelism).mapPartitions(wait).collect)
    STAYING[:] = [folder, thread]
    thread.start()
    while len(list(Path(place).glob("there-*"))) < parallelism:
        time.sleep(0.01)
    return answer(data, spark)


def answer(data, spark):
    return {"total": sum(data), "word": spark.conf.get("spark.foldout.word")}


def release():
    folder, thread = STAYING
    STAYING.clear()
    Path(folder.name, "go").touch()
    thread.join()
    folder.cleanup()


def check(reference, answer):
    assert answer == reference
