# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Spark backend share: a block on Spark, and proof that nothing is left behind."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import grid_search_spark_backend as scenario
import joblib
import pytest
from pyspark.sql import SparkSession


def on_spark(n_jobs: int | None = 2, **options: object) -> joblib.parallel_config:
    scenario.register_spark_pool()
    return joblib.parallel_config("spark-pool", n_jobs=n_jobs, **options)


def jobs_so_far(spark: SparkSession) -> int:
    return spark.sparkContext._jsc.sc().dagScheduler().nextJobId()


def wait_until(true: object, seconds: float = 60) -> None:
    """Wait for what comes soon, and fail where it never does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


@pytest.fixture
def pools(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[scenario.Pool]]:
    """The pools that a test uses; in the end no thread, socket, job or file of theirs may be left."""
    scenario.stop_spark_pool()
    used: list[scenario.Pool] = []
    take = scenario.Pool.take

    def record(*what: object) -> scenario.Pool:
        pool = take(*what)
        used.extend([pool] if pool not in used else [])
        return pool

    monkeypatch.setattr(scenario.Pool, "take", record)
    before = set(threading.enumerate())
    yield used
    scenario.stop_spark_pool()
    assert scenario.Pool.known == []
    assert [thread.name for thread in set(threading.enumerate()) - before] == []
    wait_until(lambda: not spark.sparkContext.statusTracker().getActiveJobsIds())
    for pool in used:
        assert pool.listener.fileno() == -1
        assert (pool.links, pool.jobs, pool.shared.entries, pool.shared.named) == (set(), {}, {}, {})
        assert [folder for folder in pool.folders if Path(folder).exists()] == []


def in_time(spark: SparkSession, call: Callable[[], object], seconds: float = 60) -> object:
    """What a call gives or raises. One that hangs is a failure, and must not keep the slots of the tests after it."""
    outcome: Future = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised below
            outcome.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    hung = thread.is_alive()
    if hung:
        spark.sparkContext.cancelAllJobs()
        thread.join(seconds)
    assert not hung, "it hung"
    return outcome.result()
