# SPDX-License-Identifier: Apache-2.0
"""The Spark backend: the answers of a serial run, few jobs, shared data once, and what else joblib promises."""

import importlib
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grid_search_single_node as single_node
import grid_search_spark_backend as scenario
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import time_series_folds
from pyspark import Broadcast, cloudpickle
from pyspark.sql import SparkSession
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.scenarios.spark_backend_state import jobs_so_far, on_spark, pools, wait_until  # noqa: F401

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("pools")]


def results_of(search: GridSearchCV) -> dict:
    """What a search found, without its times."""
    return {name: list(values) for name, values in search.cv_results_.items() if "time" not in name}


@pytest.mark.parametrize("parallelism", [1, 2])
def test_same_answer_as_serial_from_one_spark_job(spark: SparkSession, parallelism: int) -> None:
    data, jobs = scenario.make_data(), jobs_so_far(spark)
    answer = scenario.run_spark_pool(data, spark=spark, parallelism=parallelism, folds=3, candidates=8)
    assert jobs_so_far(spark) - jobs == 1
    reference = single_node.run_serial(data, folds=3, candidates=8)
    scenario.check(reference, answer)
    assert answer == reference


def plain() -> tuple:
    X, y = make_classification(200, random_state=0)
    return GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}), X, y, {}


def weighted() -> tuple:
    search, X, y, _ = plain()
    return search, X, y, {"sample_weight": np.linspace(0.1, 2, len(y))}


def sparse() -> tuple:
    search, X, y, _ = plain()
    return search, scipy.sparse.csr_matrix(np.where(X > 0, X, 0)), y, {}


def frame_with_text() -> tuple:
    _, X, y, _ = plain()
    frame = pd.DataFrame({"size": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough"), LogisticRegression()
    )
    return GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}), frame, pd.Series(y), {}


def several_scores() -> tuple:
    _, X, y, _ = plain()
    scores = {"scoring": ["accuracy", "roc_auc"], "refit": lambda found: int(np.argmin(found["mean_test_roc_auc"]))}
    return GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, return_train_score=True, **scores), X, y, {}


def folds_in_time() -> tuple:
    """Rows in any order, and the column that tells their time."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"day": generator.permutation(120), "price": generator.standard_normal(120)})
    demand = frame["price"] + 0.01 * frame["day"] + generator.standard_normal(120)
    folds = time_series_folds.TimeSeriesFolds("day", horizon=7, numFolds=5)
    return GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=folds), frame, demand, {}


@pytest.mark.parametrize("case", [plain, weighted, sparse, frame_with_text, several_scores, folds_in_time])
def test_a_search_finds_what_it_finds_without_spark(spark: SparkSession, case: Callable[[], tuple]) -> None:
    spark.sparkContext.addPyFile(time_series_folds.__file__)  # scikit-learn sends the whole search, and with it its cv
    search, X, y, fit = case()
    expected = search.fit(X, y, **fit)
    expected, best = results_of(expected), expected.best_params_
    with on_spark():
        found = case()[0].fit(X, y, **fit)
    assert results_of(found) == expected
    assert found.best_params_ == best


def test_a_forest_is_the_same_forest() -> None:
    X, y = make_classification(200, random_state=0)
    expected = RandomForestClassifier(12, random_state=0).fit(X, y).predict_proba(X)
    with on_spark():
        assert np.array_equal(RandomForestClassifier(12, random_state=0).fit(X, y).predict_proba(X), expected)


def test_short_calls_travel_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    submit = scenario.Pool.submit
    monkeypatch.setattr(scenario.Pool, "submit", lambda pool, call: [sent.append(len(call)), submit(pool, call)][1])
    with on_spark():
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(2000)) == list(range(2000))
    assert sum(sent) == 2000
    assert len(sent) < 200


class Pickled:
    """Counts how often any of its kind was pickled."""

    count = 0

    def __reduce__(self) -> tuple:
        Pickled.count += 1
        return int, ()


def test_batches_are_pickled_while_workers_run_others() -> None:
    """What waits is ready when a worker is, so that the worker does not wait; but not all of it, which takes memory."""
    Pickled.count = 0
    with on_spark():
        results = joblib.Parallel(batch_size=1, pre_dispatch="all", return_as="generator")(
            joblib.delayed(lambda _: time.sleep(0.2))(Pickled()) for _ in range(20)
        )
        next(results)
        at_first = Pickled.count
        assert len(list(results)) == 19
    assert 3 <= at_first <= 10
    assert Pickled.count == 20


def test_calls_that_follow_use_the_same_tasks(spark: SparkSession) -> None:
    jobs = jobs_so_far(spark)
    for _ in range(3):
        with on_spark():
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))
    assert jobs_so_far(spark) - jobs == 1


def test_idle_tasks_leave_when_another_job_waits(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "IDLE_SECONDS", 3600)
    with on_spark():
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))
    (pool,) = scenario.Pool.known
    assert spark.sparkContext.parallelize(range(2), 2).map(abs).collect() == [0, 1]
    wait_until(lambda: not pool.keeper.is_alive())


def test_idle_tasks_leave_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "IDLE_SECONDS", 0.2)
    with on_spark():
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))
    wait_until(lambda: not scenario.Pool.known)


def test_tasks_of_another_job_group_are_not_used(spark: SparkSession, pools: list) -> None:  # noqa: F811
    with on_spark():
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
        spark.sparkContext.setJobGroup("mine", "what I cancel together")
        try:
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
            ids = spark.sparkContext.statusTracker().getJobIdsForGroup("mine")
            assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") == "mine"
        finally:
            spark.sparkContext._jsc.clearJobGroup()
    assert len(pools) == 2
    assert len(ids) == 1


def test_local_mode_cannot_give_a_task_more_cores() -> None:
    with pytest.raises(RuntimeError, match="local mode gives each task one core"), on_spark(num_cpus_per_task=2):
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))


def test_a_file_that_is_added_between_two_calls_arrives(spark: SparkSession, tmp_path: Path) -> None:
    def use() -> int:
        import spark_pool_added  # type: ignore[import-not-found]

        return spark_pool_added.VALUE

    (tmp_path / "spark_pool_added.py").write_text("VALUE = 7\n")
    with on_spark():
        with pytest.raises(ModuleNotFoundError, match="spark_pool_added"):
            joblib.Parallel()(joblib.delayed(use)() for _ in range(2))
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
        spark.sparkContext.addPyFile(str(tmp_path / "spark_pool_added.py"))
        assert joblib.Parallel()(joblib.delayed(use)() for _ in range(2)) == [7, 7]


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the shared objects that travelled."""
    sizes: list[int] = []
    chunks = scenario.chunks

    def count(data: memoryview) -> Iterator[memoryview]:
        sizes.append(len(data))
        return chunks(data)

    monkeypatch.setattr(scenario, "chunks", count)
    return sizes


@pytest.mark.parametrize("candidates", [4, 12])
def test_data_travels_once_whatever_the_number_of_candidates(shipped: list[int], candidates: int) -> None:
    X = np.random.default_rng(0).normal(size=(20_000, 10))
    with on_spark():
        GridSearchCV(Ridge(), {"alpha": np.arange(1.0, 1 + candidates)}, cv=3).fit(X, X[:, 0])
    assert shipped.count(X.nbytes) == 1
    # Besides X, y and the rows of each fold: no copy for a candidate, none for a worker.
    assert sum(shipped) - X.nbytes < 1.01 * (X[:, 0].nbytes + 3 * 20_000 * 8)


@pytest.mark.parametrize(("kind", "times"), [(pd.DataFrame, 1), (partial(pd.Series, dtype=object), 1), (list, 0)])
def test_text_travels_once_too_but_a_list_with_each_batch(kind: Callable, times: int, shipped: list[int]) -> None:
    texts = kind([f"number {i:06}" for i in range(20_000)])
    with on_spark():
        lengths = joblib.Parallel(batch_size=1)(joblib.delayed(len)(texts) for _ in range(20))
    assert lengths == [20_000] * 20
    assert len(shipped) == times


def test_two_threads_that_pickle_a_broadcast_at_once_find_one_value(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark reads the value when it is first asked for: with two of them, an array would travel twice."""
    rows = spark.sparkContext.broadcast([1.0])
    load, loads = Broadcast.load_from_path, []

    def load_slowly(broadcast: Broadcast, path: str) -> object:
        loads.append(path)
        time.sleep(0.3)
        return load(broadcast, path)

    monkeypatch.setattr(Broadcast, "load_from_path", load_slowly)
    shared = scenario.Shared(local=True)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(shared.dump, [rows, rows]))
    rows.destroy()
    assert len(loads) == 1


@pytest.mark.parametrize("kind", [np.array, list])
def test_a_broadcast_travels_once_and_has_its_value(spark: SparkSession, kind: Callable, shipped: list[int]) -> None:
    rows = spark.sparkContext.broadcast(kind([1.0] * 200_000))
    with on_spark():
        found = joblib.Parallel(batch_size=1)(joblib.delayed(lambda i: i + sum(rows.value))(i) for i in range(8))
    rows.destroy()
    assert found == [200_000.0 + i for i in range(8)]
    assert len(shipped) == 1


def test_a_column_may_have_the_name_of_an_attribute() -> None:
    frame = pd.DataFrame({"nbytes": range(20_000)})
    with on_spark():
        found = joblib.Parallel(batch_size=1)(
            joblib.delayed(lambda one: int(one["nbytes"].sum()))(frame) for _ in range(4)
        )
    assert found == [sum(range(20_000))] * 4


def test_many_small_parts_travel_with_each_batch(shipped: list[int]) -> None:
    """Each in a file of its own, to be opened for each batch, would take far longer."""
    arrays = [np.full(256, float(i)) for i in range(500)]
    frames = {i: pd.DataFrame({"value": np.full(256, float(i))}) for i in range(20)}
    with on_spark():
        found = joblib.Parallel(batch_size=1)(
            joblib.delayed(lambda one, two: (one[-1][0], two[19]["value"][0]))(arrays, frames) for _ in range(8)
        )
    assert found == [(499.0, 19.0)] * 8
    assert shipped == []


def test_large_arrays_cannot_be_written_to_and_small_ones_are_private_copies() -> None:
    def write(array: np.ndarray) -> float:
        array[0] += 1
        return float(array[0])

    small, large = np.zeros(1000), np.zeros(200_000)
    with on_spark():
        assert joblib.Parallel(batch_size=1)(joblib.delayed(write)(small) for _ in range(6)) == [1.0] * 6
        with pytest.raises(ValueError, match="read-only"):
            joblib.Parallel()(joblib.delayed(write)(large) for _ in range(2))
        copies = joblib.Parallel(mmap_mode="c", batch_size=1)(joblib.delayed(write)(large) for _ in range(6))
        assert copies == [1.0] * 6
        unmapped = joblib.Parallel(max_nbytes=None, batch_size=1)(joblib.delayed(write)(large) for _ in range(6))
        assert unmapped == [1.0] * 6
        with pytest.raises(ValueError, match=r"mmap_mode='r\+': workers on other machines"):
            joblib.Parallel(mmap_mode="r+")(joblib.delayed(write)(large) for _ in range(2))
    assert small[0] == large[0] == 0


@pytest.fixture
def numbers(tmp_path: Path) -> np.ndarray:
    """A hundred by twenty numbers in a file, open for writing."""
    array = np.memmap(tmp_path / "numbers", dtype=float, shape=(100, 20), mode="w+", offset=24)
    array[:] = np.arange(2000.0).reshape(100, 20)
    return array


def views_of(array: np.ndarray) -> list[np.ndarray]:
    rows = array[10:30]
    return [array, rows, np.asarray(rows), array[::-1], array.T[3:5, ::-2], array[:, 4], array[7:8, 2:3]]


def test_in_local_mode_workers_write_into_a_memmap_of_the_callers(numbers: np.ndarray, shipped: list[int]) -> None:
    def change(view: np.ndarray, same: np.ndarray, i: int) -> tuple:
        before = view.copy()
        if i == 1:
            view += 10_000
        return view is same, type(view).__name__, before

    for view in views_of(numbers):
        before = view.copy()
        with on_spark():
            found = joblib.Parallel()(joblib.delayed(change)(view, view, i) for i in (0, 1))
        assert [one[:2] for one in found] == [(True, type(view).__name__)] * 2
        assert np.array_equal(found[1][2], before)
        assert np.array_equal(view, before + 10_000)
    assert shipped == []


def test_in_local_mode_a_memmap_to_read_is_not_copied(tmp_path: Path, shipped: list[int]) -> None:
    np.save(tmp_path / "X.npy", np.ones(200_000))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    frozen = np.memmap(tmp_path / "X.npy", dtype=np.uint8, mode="r+")
    frozen.flags.writeable = False
    with on_spark():
        found = joblib.Parallel()(joblib.delayed(lambda X: (X.sum(), X.flags.writeable))(X) for _ in range(4))
        assert joblib.Parallel()(joblib.delayed(lambda X: X.flags.writeable)(frozen) for _ in range(2)) == [False] * 2
    assert found == [(200_000.0, False)] * 4
    assert shipped == []


def test_a_memmap_with_changes_of_its_own_or_without_its_file_arrives_as_it_is(numbers: np.ndarray) -> None:
    own = np.memmap(numbers.filename, dtype=float, mode="c", offset=24)
    own[:] = 7
    with on_spark():
        assert joblib.Parallel()(joblib.delayed(np.sum)(own) for _ in range(2)) == [14_000.0] * 2
        Path(numbers.filename).unlink()
        assert joblib.Parallel()(joblib.delayed(np.sum)(numbers) for _ in range(2)) == [numbers.sum()] * 2


def test_on_a_cluster_nobody_writes_to_a_copy_of_a_memmap(
    numbers: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(array: np.ndarray) -> None:
        array[:] = 1

    monkeypatch.setattr(scenario, "is_local", lambda context: False)
    large = np.memmap(tmp_path / "large", shape=(1000, 300), mode="w+", order="F")
    with on_spark():
        for array in [*views_of(numbers), large]:
            for options in ({}, {"mmap_mode": "c", "max_nbytes": 1}, {"max_nbytes": None}):
                calls = (joblib.delayed(lambda got: (got, got.flags.writeable))(array) for _ in range(3))
                for got, writeable in joblib.Parallel(batch_size=1, **options)(calls):
                    assert np.array_equal(got, array)
                    assert not writeable
        with pytest.raises(ValueError, match="read-only"):
            joblib.Parallel()(joblib.delayed(write)(numbers) for _ in range(2))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(300_000.0).reshape(1000, 300),
        np.asfortranarray(np.arange(300_000.0).reshape(1000, 300)),
        np.arange(600_000.0).reshape(1000, 600)[:, ::2],
        np.arange(200_000).astype("datetime64[s]"),
        np.zeros(100_000, dtype=[("a", "f8"), ("b", "i4")]),
        np.arange(200_000).astype(object),
        np.ma.masked_less(np.arange(200_000.0), 5),
    ],
    ids=["C", "Fortran", "strided", "dates", "records", "objects", "masked"],
)
def test_arrays_of_every_kind_arrive_as_they_are(array: np.ndarray) -> None:
    def same(got: np.ndarray, twice: np.ndarray) -> tuple:
        total = got.sum() if got.dtype == float else 0
        return got is twice, type(got).__name__, got.dtype, got.flags.f_contiguous, total

    with on_spark():
        found = joblib.Parallel(batch_size=1)(joblib.delayed(same)(array, array) for _ in range(4))
    total = array.sum() if array.dtype == float else 0
    assert found == [(True, type(array).__name__, array.dtype, array.flags.f_contiguous, total)] * 4


def test_arrays_that_are_used_once_do_not_pile_up(spark: SparkSession) -> None:
    def count_files(array: np.ndarray) -> int:
        folders = Path(os.environ["SPARK_LOCAL_DIRS"].split(",")[0]).glob("spark-pool-*")
        return sum(path.name.isdigit() for folder in folders for path in folder.iterdir())

    with on_spark():
        tasks = (joblib.delayed(count_files)(np.full(150_000, float(i))) for i in range(40))
        assert max(joblib.Parallel(batch_size=1)(tasks)) <= 12


def test_warnings_of_workers_are_shown_once_and_a_filter_of_error_spoils_nothing() -> None:
    def warn(i: int) -> int:
        warnings.warn("this is slow", UserWarning, stacklevel=1)
        return i

    with on_spark(), pytest.warns(UserWarning, match="this is slow") as shown:
        assert joblib.Parallel()(joblib.delayed(warn)(i) for i in range(8)) == list(range(8))
    assert len(shown) == 1
    with on_spark(), warnings.catch_warnings(record=True):
        warnings.simplefilter("error")
        assert joblib.Parallel()(joblib.delayed(warn)(i) for i in range(8)) == list(range(8))


def test_workers_need_not_have_the_classes_in_filters_of_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scikit-learn sends the filters with each fit."""

    class LocalWarning(UserWarning):
        pass

    def look(kind: type) -> tuple:
        from sklearn.exceptions import ConvergenceWarning

        return kind.__name__, issubclass(kind, Warning), kind is ConvergenceWarning

    (tmp_path / "spark_pool_noise.py").write_text("class Noise(Warning):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    noise = importlib.import_module("spark_pool_noise")
    kinds = [noise.Noise, LocalWarning, UserWarning, ConvergenceWarning]
    with on_spark():
        found = joblib.Parallel()(joblib.delayed(look)(kind) for kind in kinds)
    assert found == [(kind.__name__, True, kind is ConvergenceWarning) for kind in kinds]


@pytest.mark.parametrize(("n_jobs", "count"), [(None, 2), (-1, 2), (-2, 1), (-9, 1), (1, 1), (2, 2), (7, 7)])
def test_n_jobs_counts_slots(spark: SparkSession, n_jobs: int | None, count: int) -> None:
    with on_spark(n_jobs):
        assert joblib.effective_n_jobs(n_jobs) == count
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(9)) == list(range(9))


def test_n_jobs_of_zero_is_refused_in_joblibs_words(spark: SparkSession) -> None:
    with on_spark(0), pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))


def test_fewer_jobs_than_there_are_tasks_run_no_more_at_once() -> None:
    def who() -> int:
        time.sleep(0.05)
        return os.getpid()

    with on_spark(4):
        joblib.Parallel(batch_size=1)(joblib.delayed(who)() for _ in range(8))
    # The slots are two: the tasks that wait for others to leave are there, and none is left in the end.
    with on_spark(2):
        assert len(set(joblib.Parallel(batch_size=1)(joblib.delayed(who)() for _ in range(8)))) <= 2


@pytest.mark.parametrize("order", ["generator", "generator_unordered"])
def test_generators(order: str) -> None:
    with on_spark():
        found = joblib.Parallel(return_as=order)(joblib.delayed(pow)(i, 2) for i in range(20))
        assert sorted(found) == [i**2 for i in range(20)]


def test_a_generator_that_nobody_uses_up_is_cancelled() -> None:
    with on_spark():
        found = joblib.Parallel(return_as="generator")(joblib.delayed(time.sleep)(0.05) for _ in range(200))
        next(found)
        with pytest.warns(UserWarning, match="could benefit from adjusting"):
            del found


def test_another_call_while_a_generator_is_open() -> None:
    with on_spark():
        outer = joblib.Parallel(return_as="generator")(joblib.delayed(pow)(i, 2) for i in range(6))
        for i, value in enumerate(outer):
            assert value == i**2
            assert joblib.Parallel()(joblib.delayed(abs)(-k) for k in range(4)) == [0, 1, 2, 3]


def test_two_calls_at_once_from_two_threads() -> None:
    found: dict[int, list] = {}

    def call(base: int) -> None:
        with on_spark():
            found[base] = joblib.Parallel()(joblib.delayed(pow)(base, i) for i in range(30))

    threads = [threading.Thread(target=call, args=(base,)) for base in (2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {base: [base**i for i in range(30)] for base in (2, 3, 5)}


def test_parallel_calls_inside_tasks_use_threads() -> None:
    def inner(i: int) -> tuple:
        backend, _ = joblib.parallel.get_active_backend()
        values = joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(i, k) for k in range(3))
        return type(backend).__name__, values

    with on_spark():
        found = joblib.Parallel()(joblib.delayed(inner)(i) for i in range(4))
    assert found == [("ThreadingBackend", [1, i, i**2]) for i in range(4)]


def test_inner_threads_are_limited() -> None:
    def count() -> set:
        from threadpoolctl import threadpool_info

        np.ones((2, 2)) @ np.ones((2, 2))
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    for limit in (1, 2):
        with on_spark(inner_max_num_threads=limit):
            assert joblib.Parallel()(joblib.delayed(count)() for _ in range(4)) == [{limit}] * 4


def test_local_classes_and_functions_come_back_as_themselves() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    with on_spark():
        found = joblib.Parallel()(joblib.delayed(lambda i: Point(i))(i) for i in range(4))
    assert [type(point) for point in found] == [Point] * 4
    assert [point.x for point in found] == list(range(4))


def test_a_script_may_end_while_its_tasks_are_idle(tmp_path: Path) -> None:
    script = """
import grid_search_spark_backend as b, joblib
from pyspark.sql import SparkSession
class Mine:
    def __init__(self, i): self.i = i
if __name__ == "__main__":
    SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    b.register_spark_pool()
    with joblib.parallel_config("spark-pool"):
        print([m.i for m in joblib.Parallel()(joblib.delayed(Mine)(i) for i in range(4))])
"""
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout) == (0, "[0, 1, 2, 3]\n")
    assert "Traceback" not in result.stderr


def test_workers_need_not_have_this_file(tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(cloudpickle.dumps(scenario.work))
    code = "import pyspark.cloudpickle as c; print(c.loads(open('task', 'rb').read()).__name__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "work\n"


def test_is_compared_with_the_single_node_search() -> None:
    for name in ("WORKLOAD", "PARALLELISM", "SIZES", "check", "make_data", "validate"):
        assert getattr(scenario, name) is getattr(single_node, name)
