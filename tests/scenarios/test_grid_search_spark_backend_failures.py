# SPDX-License-Identifier: Apache-2.0
"""The Spark backend when something goes wrong: the cause is told, the rest goes on, nothing is left behind."""

import contextlib
import errno
import multiprocessing.connection
import os
import pickle
import resource
import runpy
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import grid_search_spark_backend as scenario
import joblib
import numpy as np
import pytest
from pyspark import SparkContext
from pyspark.sql import SparkSession
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from tests.scenarios.spark_backend_state import on_spark, pools, wait_until  # noqa: F401

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("pools")]


@pytest.fixture(autouse=True)
def _the_next_call_works(pools: list) -> object:  # noqa: F811
    yield
    with on_spark():
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


@pytest.fixture
def by_value(monkeypatch: pytest.MonkeyPatch) -> object:
    """Let the classes of this file travel: workers cannot import it."""
    scenario.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    scenario.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def run_six(error: BaseException) -> list:
    # Nested, so that it travels by value: workers cannot import this file.
    def fail_at_three(i: int) -> int:
        if i == 3:
            raise error
        return i

    return joblib.Parallel()(joblib.delayed(fail_at_three)(i) for i in range(6))


@pytest.mark.parametrize("error", [KeyError("no such column"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_a_failed_task_raises_its_own_exception_with_the_workers_traceback(error: BaseException) -> None:
    with on_spark(), pytest.raises(type(error)) as raised:
        run_six(error)
    assert raised.value.args == error.args
    assert "in fail_at_three" in "".join(traceback.format_exception(raised.value))


def test_an_exception_class_of_the_users_own_keeps_its_identity() -> None:
    class OwnError(Exception):
        pass

    with on_spark(), pytest.raises(OwnError, match="spent"):
        run_six(OwnError("spent"))


class StubbornError(Exception):
    """Pickles, but cannot be made again: `__init__` wants more than `args` holds."""

    def __init__(self, limit: int, unit: str, held: object = None) -> None:
        super().__init__(f"more than {limit} {unit}")
        self.limit, self.held = limit, held


@pytest.mark.usefixtures("by_value")
def test_an_exception_that_pickle_cannot_make_again_arrives_whole() -> None:
    def stubborn() -> None:
        raise StubbornError(7, "rows")

    with on_spark(), pytest.raises(StubbornError, match="more than 7 rows") as raised:
        joblib.Parallel()(joblib.delayed(stubborn)() for _ in range(2))
    assert raised.value.limit == 7
    assert "in stubborn" in "".join(traceback.format_exception(raised.value))


@pytest.mark.usefixtures("by_value")
def test_an_exception_that_cannot_travel_still_says_what_it_said() -> None:
    def stubborn() -> None:
        raise StubbornError(7, "rows", held=threading.Lock())

    with on_spark(), pytest.raises(RuntimeError, match="StubbornError: more than 7 rows") as raised:
        joblib.Parallel()(joblib.delayed(stubborn)() for _ in range(2))
    assert "in stubborn" in "".join(traceback.format_exception(raised.value))


def test_what_cannot_be_pickled_is_told_from_both_sides(spark: SparkSession) -> None:
    with on_spark():
        for unsent, why in (
            (threading.Lock(), "cannot pickle"),
            (spark.sparkContext.accumulator(0), "return the numbers"),
        ):
            with pytest.raises(Exception, match="Could not pickle the task") as raised:
                joblib.Parallel()(joblib.delayed(id)(unsent) for _ in range(4))
            assert why in str(raised.value.__cause__)
        with pytest.raises(TypeError, match="cannot pickle"):
            joblib.Parallel()(joblib.delayed(lambda: __import__("threading").Lock())() for _ in range(4))


def test_the_search_names_the_bad_candidate_and_others_may_score_nan() -> None:
    X, y = make_classification(100, random_state=0)
    search = GridSearchCV(SVC(), {"C": [1, -1]}, cv=2, error_score="raise")
    with on_spark(), pytest.raises(ValueError, match="'C' parameter of SVC"):
        search.fit(X, y)
    search.set_params(error_score=np.nan)
    with (
        on_spark(),
        pytest.warns(UserWarning, match="non-finite"),
        pytest.warns(FitFailedWarning, match="2 fits failed"),
    ):
        search.fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_score"][1])


def test_a_with_block_goes_on_after_a_failure() -> None:
    with on_spark(), joblib.Parallel() as parallel:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                parallel(joblib.delayed(divmod)(1, 0) for _ in range(4))
            assert parallel(joblib.delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]


def test_a_task_that_hangs_runs_into_the_timeout_and_ends(tmp_path: Path) -> None:
    def hang(folder: Path) -> None:
        (folder / str(os.getpid())).touch()
        time.sleep(3600)

    with on_spark(), pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=1)(joblib.delayed(hang)(tmp_path) for _ in range(2))
    for path in tmp_path.iterdir():
        wait_until(lambda path=path: not Path("/proc", path.name).exists())


class Fatal(ClassifierMixin, BaseEstimator):
    """Kills its process, the first time or always."""

    def __init__(self, folder: str = "", k: int = 0, always: bool = False) -> None:
        self.folder, self.k, self.always = folder, k, always

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Fatal":
        self.classes_ = np.unique(y)
        died = Path(self.folder, "died")
        if self.k == 2 and (self.always or not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return (X[:, self.k] > 0).astype(int)


@pytest.mark.usefixtures("by_value")
def test_a_killed_worker_process_changes_nothing(tmp_path: Path) -> None:
    X, y = make_classification(200, random_state=0)
    search = GridSearchCV(Fatal(str(tmp_path)), {"k": [0, 1, 2, 3]}, cv=3, error_score="raise")
    (tmp_path / "died").touch()
    expected = search.fit(X, y).cv_results_
    (tmp_path / "died").unlink()
    with on_spark():
        found = search.fit(X, y).cv_results_
    assert (tmp_path / "died").exists()
    assert {k: list(v) for k, v in found.items() if "time" not in k} == {
        k: list(v) for k, v in expected.items() if "time" not in k
    }


@pytest.mark.usefixtures("by_value")
def test_a_fit_that_always_kills_its_process_is_given_up(tmp_path: Path) -> None:
    X, y = make_classification(200, random_state=0)
    with on_spark(), pytest.raises(scenario.WorkerLostError, match=r"died 3 times while it ran .*os\._exit"):
        GridSearchCV(Fatal(str(tmp_path), always=True), {"k": [2, 3]}, cv=2).fit(X, y)


def test_jobs_that_someone_cancels_are_not_started_again(spark: SparkSession) -> None:
    def cancel() -> None:
        wait_until(lambda: scenario.Pool.known and scenario.Pool.known[0].workers)
        spark.sparkContext.cancelAllJobs()

    thread = threading.Thread(target=cancel)
    thread.start()
    with on_spark(), pytest.raises(RuntimeError, match=r"Spark ended the tasks of spark-pool: .*cancelled"):
        joblib.Parallel()(joblib.delayed(time.sleep)(60) for _ in range(2))
    thread.join()


def test_workers_that_cannot_connect_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    listen = scenario.listen
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with monkeypatch.context() as patch:
        patch.setattr(scenario, "listen", lambda context: (listen(context)[0], ("127.0.0.1", port)))
        with on_spark(), pytest.raises(RuntimeError, match=f"cannot reach the driver at 127.0.0.1:{port}: ") as raised:
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))
    assert "\n" not in str(raised.value)


def test_a_task_that_alone_cannot_reach_the_driver_is_told_and_the_others_do_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = scenario.work

    def reached_by_one(seat: int, rows: object, **options: object) -> object:
        if seat == 1:
            yield "another-host cannot reach the driver at 10.0.0.1:9: timed out"
        else:
            yield from work(seat, rows, **options)

    shown: list[str] = []
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("error", "spark-pool")  # which makes no failure of it
        patch.setattr(warnings, "showwarning", lambda text, *_: shown.append(text))
        patch.setattr(scenario, "work", reached_by_one)
        with on_spark():
            assert joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4)) == [0, 1, 2, 3]
            wait_until(lambda: shown)
    assert shown == [
        "spark-pool: 1 of 2 tasks took no part: another-host cannot reach the driver at 10.0.0.1:9: timed out"
    ]


def test_a_task_that_comes_when_all_is_done_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    work = scenario.work

    def comes_late(seat: int, rows: object, **options: object) -> object:
        if seat == 1:
            time.sleep(4)  # until after the call
        yield from work(seat, rows, **options)

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        shown: list[str] = []
        patch.setattr(warnings, "showwarning", lambda text, *_: shown.append(str(text)))
        patch.setattr(scenario, "work", comes_late)
        with on_spark():
            assert joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4)) == [0, 1, 2, 3]
        scenario.stop_spark_pool()
        assert not [text for text in shown if "took no part" in text]


def test_why_tasks_cannot_start_is_told_in_a_line(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(spark.sparkContext, "pythonVer", "3.4")
        with on_spark(), pytest.raises(RuntimeError, match=r"spark-pool: .*PYTHON_VERSION_MISMATCH.* 3\.4") as raised:
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))
    assert "\n" not in str(raised.value)


def test_a_default_timeout_of_the_program_ends_no_connection() -> None:
    socket.setdefaulttimeout(2)
    try:
        with on_spark():
            assert joblib.Parallel()(joblib.delayed(time.sleep)(3) for _ in range(2)) == [None, None]
    finally:
        socket.setdefaulttimeout(None)


def test_a_worker_makes_sparks_folder_where_a_cleaner_has_removed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "gone"))
    stores: list[scenario.Store] = []
    thread = threading.Thread(target=lambda: stores.append(scenario.Store(None, "name")), daemon=True)
    thread.start()
    thread.join(20)
    made = len(stores)
    (tmp_path / "gone").mkdir(exist_ok=True)  # ends one that tries for ever
    thread.join()
    stores[0].leave()
    assert made == 1


@pytest.fixture
def open_pool(pools: list) -> object:  # noqa: F811
    """A pool in the middle of a call."""
    with on_spark():
        results = joblib.Parallel(return_as="generator")(joblib.delayed(time.sleep)(0.2) for _ in range(10))
        yield pools[0]
        assert list(results) == [None] * 10


def test_only_this_machine_can_connect_in_local_mode(open_pool: scenario.Pool) -> None:
    assert open_pool.listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({"spark.driver.host": "127.0.0.2"}, "127.0.0.2"),
        ({"spark.driver.host": "driver.example", "spark.driver.bindAddress": "127.0.0.3"}, "127.0.0.3"),
    ],
)
def test_on_a_cluster_it_listens_where_the_driver_does(settings: dict, bound: str) -> None:
    context = SimpleNamespace(master="spark://somewhere:7077", _conf=settings)
    listener, address = scenario.listen(context)
    with listener:
        assert listener.getsockname()[0] == bound
        assert address == (settings["spark.driver.host"], listener.getsockname()[1])


def test_a_client_with_a_wrong_key_is_refused(open_pool: scenario.Pool) -> None:
    with pytest.raises(multiprocessing.AuthenticationError):
        multiprocessing.connection.Client(open_pool.address, authkey=b"a guess")


def test_clients_that_say_nothing_or_nonsense_stop_nobody(open_pool: scenario.Pool) -> None:
    silent = socket.create_connection(open_pool.address)
    with socket.create_connection(open_pool.address) as nonsense:
        nonsense.sendall(b"\x00\x00\x00\x05GET /\r\n" * 100)
    with on_spark():
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    silent.close()


def test_a_stranger_keeps_no_pool_open(pools: list) -> None:  # noqa: F811
    with on_spark():
        assert joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
    (pool,) = pools
    with socket.create_connection(pool.address):
        wait_until(lambda: pool.over, seconds=12)  # a client has 20 seconds to prove that it is none


@pytest.fixture
def encrypted_links() -> Iterator[tuple[scenario.Link, socket.socket]]:
    """The server's end of a connection, and a client that has said nothing yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        link = scenario.Link(listener.accept()[0])
        yield link, client
        link.close()


def test_a_client_that_says_nothing_does_not_hold_an_encrypted_connection(
    encrypted_links: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, _ = encrypted_links
    with monkeypatch.context() as patch:
        patch.setattr(scenario, "SECONDS_TO_PROVE", 0.2)
        with pytest.raises(OSError, match="timed out"):
            link.encrypt(b"key", server_side=True)


def test_an_encrypted_connection_is_hung_up_whoever_is_reading(encrypted_links: tuple) -> None:
    link, _ = encrypted_links
    ended = []

    def read() -> None:
        try:
            link.encrypt(b"key", server_side=True)
        except (OSError, EOFError) as error:
            ended.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: isinstance(link.sock, ssl.SSLSocket))
    link.hang_up()
    reader.join(10)
    assert ended
    # After the handshake too, and reading that is given up fails.
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as other:
        one, two = scenario.Link(listener.accept()[0]), scenario.Link(other)
        side = threading.Thread(target=two.encrypt, args=(b"key", False), daemon=True)
        side.start()
        one.encrypt(b"key", server_side=True)
        side.join(10)
        one.give_up_after(1)
        with pytest.raises(OSError, match="timed out"):
            one.recv_bytes()
        one.give_up_after(0)
        two.send_bytes(b"said")
        assert one.recv_bytes() == b"said"
        stopper = threading.Timer(0.2, one.hang_up)
        stopper.start()
        with pytest.raises((OSError, EOFError)):
            one.recv_bytes()
        one.close()
        two.close()


COPY = """
import pickle, sys
import pyspark.cloudpickle
list(pickle.load(sys.stdin.buffer)())
"""


def test_a_task_that_spark_runs_twice_works_once(open_pool: scenario.Pool, tmp_path: Path) -> None:
    """As with speculation: the copy waits until the first has left, and then leaves too."""
    wait_until(lambda: open_pool.workers)
    (job,) = open_pool.jobs
    same = {"key": open_pool.key, "encrypt": open_pool.encrypt, "job": job, "name": open_pool.name}
    task = scenario.cloudpickle.dumps(partial(scenario.work, 0, [], address=open_pool.address, **same))
    environment = {**os.environ, "SPARK_LOCAL_DIRS": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", COPY], stdin=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(task)
        process.stdin.close()
        wait_until(lambda: str(tmp_path / open_pool.name) in open_pool.folders)
        with on_spark():
            found = set(joblib.Parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(20)))
        assert process.pid not in found
        scenario.stop_spark_pool()
        assert process.wait(60) == 0


def test_both_ends_send_small_messages_at_once(open_pool: scenario.Pool) -> None:
    def delayed_by_nagle() -> bool:
        import gc

        links = [found for found in gc.get_objects() if type(found).__name__ == "Link"]
        assert links
        return any(not link.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for link in links)

    wait_until(lambda: open_pool.workers)
    links = list(open_pool.workers)
    assert all(link.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for link in links)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # the driver notices a host that vanishes while it sends
        assert {link.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for link in links} == {120_000}
    with on_spark():
        assert joblib.Parallel()(joblib.delayed(delayed_by_nagle)() for _ in range(2)) == [False, False]


def test_without_a_session_and_with_spark_connect_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> None:
        with on_spark():
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))

    with monkeypatch.context() as patch:
        patch.setattr(SparkContext, "_active_spark_context", None)
        with pytest.raises(RuntimeError, match=r"no Spark session is running, start one"):
            call()
    with monkeypatch.context() as patch:
        patch.setattr(scenario, "is_remote", lambda: True)
        with pytest.raises(RuntimeError, match=r"Spark Connect .* Use joblib-spark's backend"):
            call()
    with monkeypatch.context() as patch:
        patch.setattr(SparkContext, "_gateway", None)  # without pinned threads it is of another class
        with pytest.raises(RuntimeError, match=r"PYSPARK_PIN_THREAD=false .* use joblib-spark's backend"):
            call()


def test_options_of_other_backends_are_refused(spark: SparkSession) -> None:
    # joblib 1.4 refuses it in its own words.
    with on_spark(), pytest.raises(TypeError, match=r"spark-pool has no option initializer|argument 'initializer'"):
        joblib.Parallel(initializer=print)(joblib.delayed(abs)(i) for i in range(2))


def test_a_forked_process_is_told_that_it_cannot_use_spark_and_may_start_its_own(spark: SparkSession) -> None:
    def call() -> str:
        with on_spark(), pytest.raises(RuntimeError) as raised:
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
        SparkContext._active_spark_context = own = SimpleNamespace(_jsc="a JVM of its own")
        assert scenario.spark_context() is own
        return str(raised.value)

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # or it would run the tests that follow
            os.write(write, call().encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 1000) == b"spark-pool: this process was forked from the one that runs Spark, and cannot use it"
    os.close(read)


INTERRUPTED = """
import os, signal, sys, threading, time
import grid_search_spark_backend as b, joblib
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
b.register_spark_pool()
before = set(threading.enumerate())
def interrupt():
    while not (b.Pool.known and len(b.Pool.known[0].workers) == 2): time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
with joblib.parallel_config("spark-pool"):
    try:
        joblib.Parallel()(joblib.delayed(time.sleep)(600) for _ in range(8))
    except KeyboardInterrupt:
        print("interrupted", [t.name for t in set(threading.enumerate()) - before], b.Pool.known)
    print(joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3)))
spark.stop()
"""


def test_ctrl_c_ends_all_and_the_next_call_works(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert result.stdout == "interrupted [] []\n[0, 1, 2]\n", result.stderr[-3000:]
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("by_value")
def test_an_exception_whose_message_fails_ends_no_worker() -> None:
    class SilentError(Exception):
        def __init__(self, held: object) -> None:
            self.held = held

        def __str__(self) -> str:
            raise ZeroDivisionError

    def fail(travels: bool) -> None:
        raise SilentError(1 if travels else threading.Lock())

    with on_spark():
        with pytest.raises(SilentError):
            joblib.Parallel()(joblib.delayed(fail)(True) for _ in range(2))
        with pytest.raises(RuntimeError, match="SilentError: <exception str"):
            joblib.Parallel()(joblib.delayed(fail)(False) for _ in range(2))


def test_warnings_of_a_call_that_fails_or_runs_out_of_time_are_shown() -> None:
    def warn(then: str) -> None:
        warnings.warn(f"before {then}", UserWarning, stacklevel=1)
        if then == "failure":
            raise KeyError(then)

    def hang() -> None:
        time.sleep(3600)

    with on_spark():
        with pytest.warns(UserWarning, match="before failure"), pytest.raises(KeyError):
            joblib.Parallel()(joblib.delayed(warn)("failure") for _ in range(2))
        calls = [joblib.delayed(warn)("timeout"), *[joblib.delayed(hang)()] * 2]
        with pytest.warns(UserWarning, match="before timeout"), pytest.raises(multiprocessing.TimeoutError):
            joblib.Parallel(timeout=2, batch_size=1)(calls)


@pytest.mark.parametrize("action", ["always", "error"])
def test_a_warning_that_cannot_be_made_of_its_text_spoils_nothing(action: str) -> None:
    class OddWarning(UserWarning):
        def __init__(self, limit: int, unit: str) -> None:
            super().__init__(f"more than {limit} {unit}")

    def warn(i: int) -> int:
        warnings.warn(OddWarning(7, "rows"), stacklevel=1)
        return i

    with on_spark(), warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter(action)
        assert joblib.Parallel()(joblib.delayed(warn)(i) for i in range(4)) == [0, 1, 2, 3]
    assert [str(one.message) for one in shown if one.category.__name__ == "OddWarning"] == ["more than 7 rows"]


@pytest.mark.parametrize("loss", ["slots", "session"])
def test_the_users_error_is_raised_where_spark_has_one_slot_left_or_none(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    abort = scenario.SparkPoolBackend.abort_everything

    def no_session() -> None:
        raise RuntimeError("spark-pool: no Spark session is running")

    with monkeypatch.context() as patch:

        def lose(backend: scenario.SparkPoolBackend, ensure_ready: bool = True) -> None:
            if loss == "slots":
                patch.setattr(scenario, "count_slots", lambda *_: 1)
            else:
                patch.setattr(scenario, "spark_context", no_session)
            abort(backend, ensure_ready)

        patch.setattr(scenario.SparkPoolBackend, "abort_everything", lose)
        with on_spark(-1), joblib.Parallel() as parallel, pytest.raises(ZeroDivisionError):
            parallel(joblib.delayed(divmod)(1, 0) for _ in range(4))


def test_batches_that_kill_their_worker_once_each_end_no_call(tmp_path: Path) -> None:
    def die_once(i: int) -> int:
        died = tmp_path / str(i)
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with on_spark():
        assert joblib.Parallel(batch_size=1)(joblib.delayed(die_once)(i) for i in range(6)) == list(range(6))


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_data_that_a_worker_cannot_store_are_not_taken_for_a_batch(tmp_path: Path) -> None:
    def limit(size: int) -> int:
        time.sleep(0.2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return os.getpid()

    pickled = pickle.dumps(Touch(tmp_path / "unpickled"))
    data = np.zeros(5 * scenario.CHUNK, dtype=np.uint8)
    data[scenario.CHUNK : scenario.CHUNK + len(pickled)] = np.frombuffer(pickled, dtype=np.uint8)
    limited: set[int] = set()

    def limit_both() -> bool:
        limited.update(joblib.Parallel()(joblib.delayed(limit)(1 << 20) for _ in range(4)))
        return len(limited) == 2

    try:
        with on_spark():
            wait_until(limit_both)  # writing then fails as on a full disk
            with pytest.raises(OSError, match="too large") as raised:
                joblib.Parallel()(joblib.delayed(len)(data) for _ in range(8))
    finally:
        for process in limited:  # Spark would give them to the next test
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    assert "spark.local.dir" in " ".join(raised.value.__notes__)
    assert not (tmp_path / "unpickled").exists()


class NoFiles:
    """A listener in a process whose files are all open."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener

    def accept(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def __getattr__(self, name: str) -> object:
        return getattr(self.listener, name)


def bare_pool(**more: object) -> scenario.Pool:
    """A pool without threads, sockets and Spark jobs."""
    pool = object.__new__(scenario.Pool)
    state = {"changed": threading.Condition(), "waiting": scenario.deque(), "jobs": {}, "workers": set(), "error": None}
    state |= {"size": 2, "idle": 0, "answers": scenario.queue.Queue(), "busy": True, "hurried": False, "stopped": False}
    vars(pool).update(state | more)
    return pool


@pytest.mark.parametrize(("dead", "losses"), [(True, 0), (False, 1)])
def test_a_batch_that_never_reached_its_worker_is_no_loss_of_its_own(dead: bool, losses: int) -> None:
    """Idle workers die with their executor, each of them unnoticed until a batch is for it."""

    def send(_: bytes) -> None:
        raise BrokenPipeError

    pool, job, batch = bare_pool(), scenario.Job(1), scenario.Batch(list)
    pool.jobs[job.number] = job
    pool._next_batch, pool._message, pool._start_missing_tasks = (lambda *_: batch), (lambda _: b"x"), (lambda: None)
    link = SimpleNamespace(poll=lambda: dead, send_bytes=send)
    with pytest.raises((EOFError, BrokenPipeError)):
        pool._feed_batches(link, job, 0, [])
    assert (list(pool.waiting), batch.losses, job.blamed) == ([batch], losses, not dead)


def test_the_second_attempt_of_a_seat_that_has_left_does_not_wait_and_leaves_no_batch_behind() -> None:
    started: list[int] = []
    pool, job = bare_pool(_start_missing_tasks=lambda: started.append(1)), scenario.Job(1)
    job.left.add(0)
    began = time.monotonic()
    assert pool._next_batch(object(), job, 0) is None
    assert time.monotonic() - began < scenario.IDLE_SECONDS / 2
    assert started == []
    pool.waiting.append(scenario.Batch(list))
    assert pool._next_batch(object(), job, 0) is None
    assert started == [1]
    assert len(pool.waiting) == 1


def test_where_no_thread_can_be_started_nobody_waits_for_one() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    batch = scenario.Batch(list)
    pool = bare_pool(_start_thread=fail, waiting=scenario.deque([batch]))
    pool._start_missing_tasks()
    assert (pool.jobs, list(pool.waiting)) == ({}, [])
    answered, error = pool.answers.get_nowait()
    assert answered is batch
    assert "can't start new thread for a Spark job" in str(error)


def test_a_worker_that_has_no_room_for_shared_data_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ours, theirs = socket.socketpair()
    with theirs, monkeypatch.context() as patch:  # the next call has what it needs
        patch.setattr(scenario.socket, "create_connection", lambda *_, **__: ours)
        patch.setattr(scenario, "Link", lambda sock: SimpleNamespace(hang_up=sock.close, close=sock.close))
        for name in ("answer_challenge", "deliver_challenge"):
            patch.setattr(scenario, name, lambda *_: None)
        patch.setattr(scenario, "Store", full)
        (why,) = scenario.work(0, [], address=("driver", 1), key=b"", encrypt=False, job=1, name="x")
    assert scenario.KEEPS_NOTHING in why
    assert "No space left on device" in why


def test_an_archive_that_is_added_takes_tasks_that_have_it(spark: SparkSession, tmp_path: Path) -> None:
    before = scenario.setting_of(spark.sparkContext)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "data.txt").write_text("here")
    archive = shutil.make_archive(str(tmp_path / "added"), "zip", tmp_path / "inside")
    spark.sparkContext.addArchive(f"{archive}#added")
    assert scenario.setting_of(spark.sparkContext) != before


def test_a_process_that_can_open_no_more_files_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    listen = scenario.listen

    def full(context: SparkContext) -> tuple:
        listener, address = listen(context)
        return NoFiles(listener), address

    with monkeypatch.context() as patch:
        patch.setattr(scenario, "listen", full)
        with on_spark(), pytest.raises(RuntimeError, match=r"Too many open files.*ulimit -n.*smaller n_jobs"):
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))


@pytest.mark.parametrize("growing", [False, True])
def test_executors_that_are_missing_are_told_once_and_one_slot_is_two_tasks(
    spark: SparkSession, growing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "dynamic allocation adds executors for tasks that wait" if growing else "0 of the 3 executors .* promise"
    with monkeypatch.context() as patch:
        patch.setattr(scenario, "LEAST", {})
        patch.setattr(scenario, "EXECUTOR_SECONDS", 0.1)
        patch.setattr(scenario, "is_local", lambda context: False)
        patch.setattr(scenario, "grows", lambda context: growing)
        patch.setattr(spark.sparkContext, "_conf", {"spark.cores.max": "6", "spark.executor.cores": "2"})
        with on_spark():
            with pytest.warns(UserWarning, match=said):
                assert joblib.effective_n_jobs(-9) == 2
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert joblib.effective_n_jobs(-9) == 2


NEW_SESSION = """
import grid_search_spark_backend as b, joblib
from pyspark.sql import SparkSession
b.register_spark_pool()
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
for _ in range(2):
    spark = builder.getOrCreate()
    with joblib.parallel_config("spark-pool"):
        print(joblib.effective_n_jobs(), joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3)))
    spark.stop()
spark = builder.getOrCreate()
with joblib.parallel_config("spark-pool", n_jobs=2), joblib.Parallel() as parallel:
    for _ in range(2):
        print("in a block", parallel(joblib.delayed(abs)(-i) for i in range(3)))
        spark.stop()
        spark = builder.getOrCreate()
    spark.stop()
    try:
        parallel(joblib.delayed(abs)(-i) for i in range(3))
    except RuntimeError as error:
        print(error)
"""


def test_a_new_session_after_stop_has_tasks_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(NEW_SESSION)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    said = ["2 [0, 1, 2]"] * 2 + ["in a block [0, 1, 2]"] * 2
    assert result.stdout.splitlines()[:4] == said, result.stderr[-3000:]
    assert "no Spark session is running, start one" in result.stdout.splitlines()[4]


CLIENT_ALONE = """
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.startswith("py4j") or name == "pyspark.core":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import grid_search_spark_backend as b, joblib
b.register_spark_pool()
with joblib.parallel_config("spark-pool"):
    try:
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
    except RuntimeError as error:
        print(error)
"""


def test_the_client_of_spark_connect_alone_is_told_what_to_do(tmp_path: Path) -> None:
    """The package pyspark-client has no py4j, and no SparkContext."""
    recipe = Path(scenario.__file__).read_text().partition("# --- benchmark")[0]
    (tmp_path / "grid_search_spark_backend.py").write_text(recipe)
    (tmp_path / "script.py").write_text(CLIENT_ALONE)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert "with Spark Connect no executor can reach this process. Use joblib-spark" in result.stdout, result.stderr


def test_on_windows_one_line_says_that_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    with pytest.raises(ImportError, match="needs Linux or macOS"):
        runpy.run_path(scenario.__file__)
