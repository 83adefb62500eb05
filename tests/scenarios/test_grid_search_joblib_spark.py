# SPDX-License-Identifier: Apache-2.0
"""joblib-spark mended: causes surface, short calls share jobs, timeouts hold, no thread stays, answers are right."""

import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grid_search_joblib_spark as scenario
import grid_search_single_node as single_node
import joblib
import numpy as np
import pytest
from joblib.parallel import register_parallel_backend
from joblibspark.backend import SparkDistributedBackend
from pyspark import SparkContext, cloudpickle
from pyspark.sql import SparkSession
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from tests.scenarios.spark_backend_state import in_time, jobs_so_far

pytestmark = pytest.mark.spark
# What joblib-spark itself says: in local mode, with pyspark 4, and with joblib 1.5.
SAID = "Spark local mode doesn't support stage-level|Spark session is not provided|`apply_async` is deprecated"
as_published = pytest.mark.filterwarnings(f"ignore:{SAID}")


def run_six_tasks(error: BaseException, *, reused: bool = False) -> None:
    """Run six calls, where the fourth raises `error`, by a new `Parallel` or in a `with` block as sklearn's search."""
    if reused:
        with joblib.Parallel() as parallel:
            parallel(six_tasks(error))
    else:
        joblib.Parallel()(six_tasks(error))


def six_tasks(error: BaseException) -> Iterator:
    # Nested, so that it travels by value: workers cannot import this file.
    def fail_at_three(i: int) -> int:
        if i == 3:
            raise error
        return i

    return (joblib.delayed(fail_at_three)(i) for i in range(6))


def unmended(n_jobs: int) -> joblib.parallel_config:
    register_parallel_backend("spark", SparkDistributedBackend)
    return joblib.parallel_config("spark", n_jobs=n_jobs)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.is_alive()}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("master", ["local[2]", "spark://somewhere:7077"])
def test_who_asks_for_nothing_gets_no_resource_profile_and_no_warning(
    spark: SparkSession, master: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark.sparkContext, "master", master)
    spark.conf.set("spark.task.resource.gpu.amount", "0.5")
    try:
        assert scenario.SparkBackend()._resource_profile is None
        with scenario.on_spark(n_jobs=2):
            assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
    finally:
        spark.conf.unset("spark.task.resource.gpu.amount")


def test_what_a_task_needs_is_told_to_spark_or_said_to_be_impossible(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match="local mode gives each task one core"):
        assert scenario.SparkBackend(num_cpus_per_spark_task=2)._resource_profile is None
    monkeypatch.setattr(spark.sparkContext, "master", "spark://somewhere:7077")
    profile = scenario.SparkBackend(num_cpus_per_spark_task=2)._resource_profile
    assert profile.taskResources["cpus"].amount == 2


@pytest.mark.parametrize("parallelism", [1, 2])
def test_same_answer_as_serial_from_spark_jobs_and_nothing_left(spark: SparkSession, parallelism: int) -> None:
    data = scenario.make_data()
    before, jobs = threads(), jobs_so_far(spark)
    answer = scenario.run_joblib_spark(data, spark=spark, parallelism=parallelism, folds=2, candidates=3)
    # One job for each fit; joblib may put two short fits into one job.
    assert 3 <= jobs_so_far(spark) - jobs <= 6
    assert threads() - before == set()
    reference = single_node.run_serial(data, folds=2, candidates=3)
    scenario.check(reference, answer)
    assert answer == reference


@as_published
def test_as_published_the_answer_is_the_same_and_no_thread_stays(spark: SparkSession) -> None:
    data = scenario.make_data()
    before, jobs = threads(), jobs_so_far(spark)
    answer = scenario.run_joblib_spark_published(data, spark=spark, parallelism=2, folds=2, candidates=3)
    assert jobs_so_far(spark) - jobs == 6
    assert threads() - before == set()
    assert answer == single_node.run_serial(data, folds=2, candidates=3)


@pytest.mark.parametrize("candidates", [8, 48])
def test_as_published_a_part_of_the_search_is_held_against_that_part(candidates: int) -> None:
    """The best of 48 candidates is not among the first six; of eight it is."""
    data = single_node.make_data()
    whole = single_node.run_serial(data, folds=2, candidates=candidates)
    part = single_node.run_serial(data, folds=2, candidates=scenario.PUBLISHED)
    scenario.check(whole, whole)
    scenario.check(whole, part)
    for name, wrong in {
        "fits": 10,
        "mean_test_score": [0.0, *part["mean_test_score"][1:]],
        "fold_scores": [[0.5, 0.5], *part["fold_scores"][1:]],
        "best_params": {**part["best_params"], "C": -1},
        "best_score": 0.1,
    }.items():
        with pytest.raises(AssertionError, match=name):
            scenario.check(whole, {**part, name: wrong})


def count_jobs(spark: SparkSession, calls: int) -> int:
    jobs = jobs_so_far(spark)
    assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(calls)) == list(range(calls))
    return jobs_so_far(spark) - jobs


@as_published
def test_short_calls_share_jobs_and_as_published_they_do_not(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is, a job of nothing is then short.
    monkeypatch.setattr(scenario.SparkBackend, "MIN_IDEAL_BATCH_DURATION", 3600)
    with scenario.on_spark(n_jobs=2):
        assert count_jobs(spark, 60) <= 30
    backend = SparkDistributedBackend()
    with joblib.parallel_config(backend, n_jobs=2):
        assert count_jobs(spark, 12) == 12
    scenario.end_threads(backend)


@pytest.mark.parametrize(("n_jobs", "count"), [(None, 2), (-1, 2), (-2, 2), (3, 3)])
def test_n_jobs_counts_slots_and_is_never_one(spark: SparkSession, n_jobs: int | None, count: int) -> None:
    with scenario.on_spark(n_jobs), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of more jobs than slots
        assert joblib.effective_n_jobs(n_jobs) == count
        assert count_jobs(spark, 3) > 0


@pytest.mark.parametrize(("n_jobs", "count"), [(None, 64), (-1, 64), (-2, 63), (-99, 2), (3, 3)])
def test_with_spark_connect_slots_are_unknown_and_n_jobs_may_be_negative(
    spark: SparkSession, n_jobs: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = scenario.SparkBackend()
    monkeypatch.setattr(backend, "_is_spark_connect_mode", True)
    monkeypatch.setattr(backend, "_spark", None)  # a session of Spark Connect has no context to ask
    assert backend.effective_n_jobs(n_jobs) == count


def test_all_fits_are_in_the_scheduler_pool_of_the_caller(spark: SparkSession) -> None:
    def pool_of(_: int) -> str | None:
        from pyspark import TaskContext

        return TaskContext.get().getLocalProperty("spark.scheduler.pool")

    spark.sparkContext.setLocalProperty("spark.scheduler.pool", "low")
    try:
        with scenario.on_spark(n_jobs=2):
            found = joblib.Parallel(batch_size=1)(joblib.delayed(pool_of)(i) for i in range(8))
    finally:
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", None)
    assert found == ["low"] * 8


def large_calls(error: BaseException | None = None) -> Iterator:
    rows = np.ones(200_000)  # 1.6 MB

    def total(i: int, rows: np.ndarray) -> float:
        if error is not None:
            raise error
        return float(rows.sum()) + i

    return (joblib.delayed(total)(i, rows) for i in range(4))


def broadcast_files(spark: SparkSession) -> set[Path]:
    return set(Path(spark.sparkContext._temp_dir).iterdir())


@as_published
def test_a_large_x_leaves_no_file_and_as_published_one_for_each_fit(spark: SparkSession) -> None:
    before = broadcast_files(spark)
    with scenario.on_spark(n_jobs=2):
        assert joblib.Parallel(batch_size=1)(large_calls()) == [200_000, 200_001, 200_002, 200_003]
        assert broadcast_files(spark) == before
        with pytest.raises(KeyError):
            joblib.Parallel(batch_size=1)(large_calls(KeyError("x")))
        assert broadcast_files(spark) == before
    backend = SparkDistributedBackend()
    with joblib.parallel_config(backend, n_jobs=2):
        joblib.Parallel()(large_calls())
    scenario.end_threads(backend)
    assert len(broadcast_files(spark) - before) == 4


def test_a_large_x_of_a_call_that_hangs_leaves_no_file(spark: SparkSession) -> None:
    before = broadcast_files(spark)
    rows = np.ones(200_000)

    def hang(rows: np.ndarray) -> None:
        time.sleep(600)

    with scenario.on_spark(n_jobs=2), pytest.raises((TimeoutError, multiprocessing.TimeoutError)):
        joblib.Parallel(timeout=3)(joblib.delayed(hang)(rows) for _ in range(4))
    assert broadcast_files(spark) == before


def test_who_writes_to_a_memmap_gets_an_error_and_its_values_are_there(spark: SparkSession, tmp_path: Path) -> None:
    """A worker has a copy: what it wrote there would be lost without a word."""
    written = np.memmap(tmp_path / "numbers", dtype=float, mode="w+", shape=(2, 3), order="F")
    written[:] = np.arange(6).reshape(2, 3)

    def put(array: np.ndarray) -> None:
        array[0] = 1

    with scenario.on_spark(n_jobs=2):
        for array in (written, written[1:], written.T):
            (found, _) = joblib.Parallel()(joblib.delayed(np.copy)(array) for _ in range(2))
            np.testing.assert_array_equal(found, array)
            with pytest.raises(ValueError, match="assignment destination is read-only"):
                joblib.Parallel()(joblib.delayed(put)(array) for _ in range(2))
        # What goes to no file is a worker's own, as by loky.
        private = np.memmap(tmp_path / "numbers", dtype=float, mode="c")
        assert joblib.Parallel()(joblib.delayed(put)(private) for _ in range(2)) == [None, None]


def test_a_parallel_that_makes_no_call_ends_in_silence(spark: SparkSession) -> None:
    with scenario.on_spark(n_jobs=2), joblib.Parallel():
        pass


def test_a_timeout_ends_a_call_that_hangs(spark: SparkSession) -> None:
    before = threads()
    with scenario.on_spark(), pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=1)(joblib.delayed(time.sleep)(600) for _ in range(2))
    assert threads() - before == set()
    with scenario.on_spark():
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3)) == [0, 1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_interrupts_and_exits_of_a_task_keep_their_type(spark: SparkSession, error: BaseException) -> None:
    with scenario.on_spark(), pytest.raises(type(error)) as raised:
        run_six_tasks(error)
    assert raised.value.args == error.args


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
def test_a_failed_task_raises_its_own_exception_with_the_workers_traceback(spark: SparkSession, reused: bool) -> None:
    before = threads()
    with scenario.on_spark(n_jobs=2), pytest.raises(KeyError) as raised:
        run_six_tasks(KeyError("no such column"), reused=reused)
    assert raised.value.args == ("no such column",)
    shown = "".join(traceback.format_exception(raised.value))
    assert "On the Spark worker:" in shown
    assert "in fail_at_three" in shown
    assert threads() - before == set()


def test_parallel_works_again_after_a_failure(spark: SparkSession) -> None:
    before = threads()
    with scenario.on_spark(n_jobs=2), joblib.Parallel() as parallel:
        with pytest.raises(KeyError):
            parallel(six_tasks(KeyError("x")))
        assert parallel(joblib.delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    assert threads() - before == set()


def test_a_fit_that_starts_when_another_has_failed_is_cancelled_too(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job is not there yet when the others are cancelled, and Spark knows nothing to cancel."""
    parallelize = SparkContext.parallelize

    def fit(i: int) -> None:
        if i == 0:
            raise ValueError("candidate 0 is bad")
        time.sleep(600)

    def call() -> None:
        with scenario.on_spark(n_jobs=2):
            joblib.Parallel(batch_size=1)(joblib.delayed(fit)(i) for i in range(6))

    # Each job takes a second to be made.
    monkeypatch.setattr(SparkContext, "parallelize", lambda *args: [time.sleep(1), parallelize(*args)][1])
    with pytest.raises(ValueError, match="candidate 0 is bad"):
        in_time(spark, call)


@pytest.mark.parametrize("error", [SystemExit("row 3 is bad"), KeyboardInterrupt(), KeyError(3)], ids=repr)
def test_whatever_the_input_raises_is_raised(spark: SparkSession, error: BaseException) -> None:
    def calls() -> Iterator:
        for i in range(6):
            if i == 3:
                raise error
            yield joblib.delayed(abs)(i)

    def call() -> None:
        with scenario.on_spark(n_jobs=2):
            joblib.Parallel(batch_size=1, pre_dispatch=1)(calls())

    before = threads()
    with pytest.raises(type(error)) as raised:
        in_time(spark, call)
    assert raised.value.args == error.args
    assert threads() - before == set()


def test_the_input_may_make_calls_of_its_own(spark: SparkSession) -> None:
    """joblib asks for the first calls in the thread that calls it, and for the others when results come."""

    def calls() -> Iterator:
        for i in range(6):
            number = sum(joblib.Parallel()(joblib.delayed(abs)(-1) for _ in range(i)))
            yield joblib.delayed(pow)(number, 2)

    def call() -> object:
        with scenario.on_spark(n_jobs=2):
            return joblib.Parallel(batch_size=1)(calls())

    before = threads()
    assert in_time(spark, call) == [i**2 for i in range(6)]
    assert threads() - before == set()


SESSIONS = """
import threading, time, traceback
import joblib, numpy as np
from grid_search_joblib_spark import on_spark
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
spark = builder.getOrCreate()
def calls(): return (joblib.delayed(abs)(-i) for i in range(3))
def no_session(call):
    try:
        call(calls())
    except RuntimeError as error:
        print("none" if "No active or default Spark session" in str(error) else error)
def hang(rows): time.sleep(600)
def stop():
    # Both are there: of a job that comes while it stops, Spark may never tell the end.
    while len(spark.sparkContext.statusTracker().getActiveJobsIds()) < 2: time.sleep(0.1)
    spark.stop()
with on_spark(n_jobs=2), joblib.Parallel() as parallel:
    print("first", joblib.Parallel()(calls()), parallel(calls()))
    spark.stop()
    no_session(joblib.Parallel())
    spark = builder.getOrCreate()
    print("second", joblib.Parallel()(calls()), parallel(calls()))
    before = set(threading.enumerate())
    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        parallel(joblib.delayed(hang)(np.ones(200_000)) for _ in range(6))
    except Exception:
        # Of one that waits for a job, PySpark may show first that the session has gone meanwhile.
        print("stopped", "SparkContext was shut down" in traceback.format_exc() or traceback.format_exc())
    stopper.join()
    print("left", [thread.name for thread in set(threading.enumerate()) - before])
    no_session(parallel)
"""


def test_a_block_takes_the_session_of_now_and_says_why_a_call_failed_in_which_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SESSIONS)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert result.stdout.splitlines() == [
        "first [0, 1, 2] [0, 1, 2]",
        "none",
        "second [0, 1, 2] [0, 1, 2]",
        "stopped True",
        "left []",
        "none",
    ], result.stderr[-3000:]


def test_an_exception_class_of_the_users_own_keeps_its_identity(spark: SparkSession) -> None:
    class BudgetError(Exception):
        pass

    with scenario.on_spark(n_jobs=2), pytest.raises(BudgetError, match="spent"):
        run_six_tasks(BudgetError("spent"))


def test_an_exception_that_cannot_travel_still_says_what_it_said(spark: SparkSession) -> None:
    class StubbornError(Exception):
        """Can be pickled but not unpickled, because `__init__` needs more arguments than `args` holds."""

        def __init__(self, limit: int, unit: str) -> None:
            super().__init__(f"more than {limit} {unit}")

    def stubborn(limit: int) -> int:
        raise StubbornError(limit, "rows")

    with scenario.on_spark(n_jobs=2), pytest.raises(RuntimeError, match="StubbornError: more than 7 rows"):
        joblib.Parallel()(joblib.delayed(stubborn)(7) for _ in range(2))


def test_an_exception_that_cannot_travel_may_fail_to_say_what_it_is(spark: SparkSession) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def fail() -> None:
        raise SilentError(threading.Lock())

    with scenario.on_spark(n_jobs=2), pytest.raises(RuntimeError, match="SilentError: <exception str"):
        joblib.Parallel()(joblib.delayed(fail)() for _ in range(2))


def module_of_the_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module that workers cannot import."""
    (folder / "driver_alone.py").write_text("def double(i):\n    return 2 * i\nclass Noise(Warning):\n    pass\n")
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module("driver_alone")


def test_workers_need_not_have_the_classes_in_filters_of_warnings(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scikit-learn sends the filters with each fit."""

    class LocalWarning(UserWarning):
        pass

    def look(kind: type) -> tuple:
        from sklearn.exceptions import ConvergenceWarning

        return kind.__name__, issubclass(kind, Warning), kind is ConvergenceWarning

    kinds = [module_of_the_driver(tmp_path, monkeypatch).Noise, LocalWarning, UserWarning, ConvergenceWarning]
    with scenario.on_spark(n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(look)(kind) for kind in kinds)
    assert found == [(kind.__name__, True, kind is ConvergenceWarning) for kind in kinds]


def test_what_cannot_be_pickled_or_unpickled_on_a_worker_is_told_in_a_line(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver_alone = module_of_the_driver(tmp_path, monkeypatch)
    for call, kind, said in (
        (joblib.delayed(lambda: __import__("threading").Lock())(), TypeError, "cannot pickle '_thread.lock' object"),
        (joblib.delayed(driver_alone.double)(1), ModuleNotFoundError, "No module named 'driver_alone'"),
    ):
        with scenario.on_spark(n_jobs=2), pytest.raises(kind, match=said) as raised:
            joblib.Parallel()(call for _ in range(2))
        assert "\n" not in str(raised.value)
        assert "On the Spark worker:" in "".join(raised.value.__notes__)


def test_what_spark_itself_raises_surfaces_too(spark: SparkSession) -> None:
    def leave() -> None:
        import os

        os._exit(1)

    with scenario.on_spark(n_jobs=2), pytest.raises(Exception, match=r"(?i)python worker exited"):
        joblib.Parallel()(joblib.delayed(leave)() for _ in range(2))


def test_the_search_names_the_bad_candidate(spark: SparkSession) -> None:
    data = scenario.make_data()
    search = GridSearchCV(SVC(), {"C": [1, -1]}, cv=2, error_score="raise")
    with scenario.on_spark(n_jobs=2), pytest.raises(ValueError, match="'C' parameter of SVC") as raised:
        search.fit(data["X"], data["y"])
    assert "_fit_and_score" in "".join(raised.value.__notes__)


@as_published
def test_without_the_mend_the_cause_is_lost_and_threads_stay(spark: SparkSession) -> None:
    """When this test fails, joblib-spark itself is mended and the recipe can be simplified."""
    before = threads()
    with unmended(n_jobs=2), pytest.raises(TypeError, match="'_ExceptionWithTraceback' object is not iterable"):
        run_six_tasks(KeyError("lost"))
    with unmended(n_jobs=2), pytest.raises(AttributeError, match="_backend_args"):
        run_six_tasks(KeyError("lost"), reused=True)
    assert len(threads() - before) >= 4


@pytest.mark.parametrize("n_jobs", [1, 0])
def test_on_spark_refuses_what_joblib_would_run_here(n_jobs: int) -> None:
    with pytest.raises(ValueError, match=f"n_jobs={n_jobs}: "):
        scenario.on_spark(n_jobs)


def test_workers_need_not_have_this_file(tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(cloudpickle.dumps(scenario.Parcel(lambda: [1 // 0], None)))
    code = "import pyspark.cloudpickle as c; print(repr(c.loads(c.loads(open('task', 'rb').read())())))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("ZeroDivisionError")


def test_is_compared_with_the_single_node_search() -> None:
    for name in ("WORKLOAD", "PARALLELISM", "make_data", "validate"):
        assert getattr(scenario, name) is getattr(single_node, name)
    # All sizes that are compared are equal. A gate times each variant by itself, and this one is slow.
    for name in ("smoke", "ci", "full"):
        assert scenario.SIZES[name] is single_node.SIZES[name]
