# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "joblib>=1.4", "pyspark>=4.0", "scikit-learn>=1.5", "numpy>=1.26", "threadpoolctl>=3.5",
# ]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Grid search on Spark at loky's speed: a joblib backend for everything that runs through joblib.

One long Spark task on each slot connects back to this process, asks for work, and sends results; Spark gives the
places, the Python environment and another try where an executor is lost. No Spark job for each fit, and X and y
travel once to each executor, as arrays, data frames or sparse matrices; lists travel with each batch. So it pays from
fits of milliseconds on, wherever loky does, and goes beyond one machine: `GridSearchCV`, `cross_validate`, `RFECV`,
forests, bagging, plain `joblib.Parallel`. Connections prove a fresh key, and are encrypted where Spark encrypts its
own. Look further where no executor can reach this process (Spark Connect).

Run it alone:  python grid_search_spark_backend.py
(the benchmark half needs its sibling grid_search_single_node.py in the same folder; the recipe does not)
"""

from __future__ import annotations

import atexit
import errno
import hmac
import io
import itertools
import mmap
import os
import pickle
import queue
import secrets
import select
import shutil
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections import ChainMap, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from multiprocessing.context import AuthenticationError
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]  # the stubs lack it
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyspark
from joblib.parallel import (
    TASK_ERROR,
    AutoBatchingMixin,
    BatchCompletionCallBack,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)
from pyspark import cloudpickle
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql.utils import is_remote

try:
    import fcntl
    import resource
except ImportError:
    raise ImportError("grid_search_spark_backend needs Linux or macOS: Python on Windows has no fcntl") from None

if TYPE_CHECKING:  # the package pyspark-client has neither this class nor py4j, and is to hear why it will not do
    from pyspark import SparkContext

IDLE_SECONDS = 3.0  # a task without work stays this long, unless another Spark job waits: then a tenth of a second
TRIES = 3  # of a batch whose worker dies, and of Spark jobs that fail while nothing gets done
SECONDS_TO_PROVE = 20  # a client gets them to show that it has the key
EXECUTOR_SECONDS = 30.0  # wait so long for executors that a session's settings promise, once
KEEPS_NOTHING = "cannot keep shared data in spark.local.dir"
CUT_OFF = ("timed out", *map(os.strerror, (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)))  # from the driver
NO_MEANS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # connections fail for want of these, not alone
SMALL = 1 << 15  # bytes; what is smaller travels with each batch, sooner than a worker would find it in a file
NEED = b"need "
DROP = b"drop "
LOST = (
    "a Python worker died {} times while it ran {}: no memory left, a crash in native code, or os._exit. The log"
    " (stderr) of its executor may say why"
)
CHUNK = 1 << 22  # bytes of one message of a shared object, so that neither side needs memory for all of it
# joblib gives these to every backend.
OPTIONS = {"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"}
INHERITED: list[Any] = []  # the Spark of the process that this one was forked from
# Of each session: one profile for each kind of needs, and how many tasks n_jobs=-1 is at least.
PROFILES: weakref.WeakKeyDictionary[SparkContext, dict[tuple, ResourceProfile]] = weakref.WeakKeyDictionary()
LEAST: weakref.WeakKeyDictionary[SparkContext, int] = weakref.WeakKeyDictionary()
# What a Spark job inherits from the thread that starts it, here from the thread that calls joblib.
PROPERTIES = ("spark.jobGroup.id", "spark.job.description", "spark.scheduler.pool", "spark.job.tags")

# Workers get what they need of this file by value: they need not have it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def register_spark_pool() -> None:
    """Make `joblib.parallel_config("spark-pool")` known: the slots of the running Spark session, by default all.

    `n_jobs=-1` is the slots of now, once the executors have come that the session's settings promise. On a standalone
    cluster they promise none by default: give `n_jobs`. With dynamic allocation -1 is at least 2, so give
    the number that the cluster is to grow to. One task runs in this process, as joblib does, unless it has needs of
    its own. Two calls at once do not share a full cluster: Spark starts the tasks of the second when those of the
    first leave. `timeout` counts from when joblib waits for a batch: in it are the start of the tasks, and the time in
    which others hold the slots. Warnings of workers are shown when the call ends. `temp_folder` is ignored: shared
    data lie in Spark's own folders, not encrypted.

    In local mode a `numpy.memmap` goes by its file and its mode, as by loky: workers can write their results into it.
    On a cluster it goes as a copy that nobody can write to.

    `parallel_config` also takes `num_cpus_per_task` and `num_gpus_per_task`, for calls that need more than a task of
    the session has. Spark can do that on standalone, YARN and Kubernetes clusters (stage-level scheduling), not in
    local mode. A call finds its GPUs by `pyspark.TaskContext.get().resources()`.

    Examples
    --------
    >>> register_spark_pool()
    >>> with joblib.parallel_config("spark-pool", n_jobs=8):  # doctest: +SKIP
    ...     search = GridSearchCV(SVC(), grid).fit(X, y)
    """
    register_parallel_backend("spark-pool", SparkPoolBackend)


@atexit.register
def stop_spark_pool(wait: bool = True) -> None:
    """End the idle tasks now, which would leave after `IDLE_SECONDS`; return when they have gone, or at once."""
    for pool in list(Pool.known):
        if not pool.busy:
            pool.hurry()
            if wait:
                pool.keeper.join()


class SparkPoolBackend(AutoBatchingMixin, ParallelBackendBase):
    """What joblib asks of a backend; `Pool` does the work."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1
    parallel: Any = None
    _open = False
    _pool: Pool | None = None

    def __init__(self, num_cpus_per_task: int | None = None, num_gpus_per_task: int | None = None, **options: Any):
        super().__init__(**options)
        needs = {"cpus": num_cpus_per_task, "gpu": num_gpus_per_task}
        self.needs = {name: count for name, count in needs.items() if count is not None}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Count the tasks: more than slots wait for slots to come, -1 is all slots, -2 all but one; unset is -1."""
        count = self._count_tasks(n_jobs)
        # With 1, joblib would run the calls in this process, which has not what they need.
        return max(count, 2) if self.needs else count

    def _count_tasks(self, n_jobs: int | None) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = -1
        if n_jobs > 0 and not self.needs:
            return n_jobs
        context = spark_context()
        least = least_tasks(context) if n_jobs < 0 else 1
        slots = count_slots(context, self.needs)
        return n_jobs if n_jobs > 0 else max(slots + 1 + n_jobs, least)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Get ready for the calls of `parallel`."""
        count = self._count_tasks(n_jobs)
        if count == 1 and not self.needs:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._open and parallel is not self.parallel:
            # Calls in the block of one `parallel_config` share its backend. Where one has not ended (a generator not
            # yet used up), the next gets a backend of its own.
            other = type(self)(nesting_level=self.nesting_level, inner_max_num_threads=self.inner_max_num_threads)
            other.needs = self.needs
            raise FallbackToBackend(other)
        unknown = {*options, *getattr(self, "backend_kwargs", ())} - OPTIONS
        if unknown:
            raise TypeError(f"spark-pool has no option {', '.join(sorted(unknown))}")
        mmap_mode = options.get("mmap_mode")
        if mmap_mode not in (None, "r", "c"):
            raise ValueError(f"mmap_mode={mmap_mode!r}: workers on other machines cannot write to it, give 'r' or 'c'")
        spark_context()  # says what is missing before the first call is made ready
        self.parallel, self._open, self._count = parallel, True, count
        self._max_nbytes, self._mmap_mode = options.get("max_nbytes"), mmap_mode
        return max(count, 2)  # with 1, joblib would run the calls in this process

    def start_call(self) -> None:
        """Look again whether Spark is there: a `with Parallel()` block may outlive the session that it began with."""
        context = spark_context()
        if self._pool is not None and self._pool.context is not context:
            self._pool.kill()
            self._pool = None

    def submit(self, func: Callable[[], list], callback: Callable | None = None) -> Future:
        """Queue a batch of calls."""
        if self._pool is None:
            # Not before: of what fails between `configure` and here joblib tells no backend, and it would stay busy.
            self._pool = Pool.take(spark_context(), self.needs)
            self._pool.shared.max_nbytes, self._pool.shared.mmap_mode = self._max_nbytes, self._mmap_mode
            self._pool.begin(self._count, self.inner_max_num_threads or self.needs.get("cpus"))
        future = self._pool.submit(func)
        if callback is not None:
            future.add_done_callback(partial(tell_joblib, callback))
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Future) -> list:
        """Give the results of a batch, or raise what it raised."""
        return out.result()

    def stop_call(self) -> None:
        """Free what the call shared, and show what its workers warned of."""
        if self._pool is not None:
            self._pool.end_call()

    def terminate(self) -> None:
        """Leave the tasks to the next call, if one comes soon."""
        self._open = False
        if self._pool is not None:
            self._pool.rest()
            self._pool = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what runs; a next call of the same `parallel` takes a pool of its own."""
        if self._pool is not None:
            self._pool.kill()
            self._pool.end_call()
            self._pool = None


def tell_joblib(callback: Any, future: Future) -> None:
    """Give joblib the results of a batch; it then asks the user's generator for more calls.

    An Exception of the generator joblib raises where the results are awaited. Of all else, as of `sys.exit`, nobody
    would hear in this thread, and the call would wait for ever or end with too few results: so it is treated alike.
    """
    try:
        callback(future)
    except BaseException as error:  # noqa: BLE001 - the calling thread raises it
        failed = BatchCompletionCallBack(0, 1, callback.parallel)
        with callback.parallel._lock:
            register = getattr(callback.parallel, "_register_new_job", None)  # joblib 1.4 has a list alone
            (register or callback.parallel._jobs.append)(failed)
        failed._register_outcome({"result": error, "status": TASK_ERROR})


def show(text: str, category: type[Warning], *place: Any) -> None:
    """Show a warning of work that is done."""
    try:
        # Made without its `__init__`, which may want other arguments.
        warnings.warn_explicit(category.__new__(category, text), category, *place)
    except Exception:  # noqa: BLE001 - a filter of "error" must not make a failure of that work
        warnings.showwarning(text, category, *place)


def note_fork() -> None:
    """Let a forked process have no part in what its parent runs; Spark of its own it may start."""
    INHERITED.append(getattr(getattr(pyspark, "SparkContext", None), "_active_spark_context", None))
    Pool.known, Pool.lock = [], threading.Lock()


os.register_at_fork(after_in_child=note_fork)


def spark_context() -> SparkContext:
    """Find the running Spark, or say what is missing."""
    if is_remote():
        raise RuntimeError(
            "spark-pool: with Spark Connect no executor can reach this process. Use joblib-spark's backend"
            " (grid_search_joblib_spark.py), which sends each batch as a Spark job"
        )
    from py4j.clientserver import ClientServer
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    if context is None or context._jsc is None:
        raise RuntimeError("spark-pool: no Spark session is running, start one with SparkSession.builder.getOrCreate()")
    if context in INHERITED:
        raise RuntimeError("spark-pool: this process was forked from the one that runs Spark, and cannot use it")
    if not isinstance(SparkContext._gateway, ClientServer):
        raise RuntimeError(
            "spark-pool: with PYSPARK_PIN_THREAD=false jobs of other threads would get the tag by which this one's are"
            " cancelled. Unset it, or use joblib-spark's backend (grid_search_joblib_spark.py)"
        )
    return context


def least_tasks(context: SparkContext) -> int:
    """Wait once for the executors that a session promises; give what -1 is at least: 2 where others may come later."""
    if context not in LEAST:
        missing = "" if is_local(context) else missing_executors(context)
        LEAST[context] = 2 if missing else 1
        if missing:
            warnings.warn(f"spark-pool: {missing}", stacklevel=2)
    return LEAST[context]


def missing_executors(context: SparkContext) -> str:
    """Say why -1 may be fewer tasks than the cluster could run."""
    if grows(context):
        return (
            "n_jobs=-1 is the slots of now, or 2, and dynamic allocation adds executors for tasks that wait: give"
            " n_jobs the number of tasks that the cluster is to grow to"
        )
    get = context._conf.get
    promised = int(get("spark.executor.instances") or 0)
    if not promised and get("spark.cores.max") and get("spark.executor.cores"):
        promised = int(get("spark.cores.max") or 0) // int(get("spark.executor.cores") or 1)
    infos, deadline = context._jsc.sc().statusTracker().getExecutorInfos, time.monotonic() + EXECUTOR_SECONDS
    while (there := len(infos()) - 1) < promised and time.monotonic() < deadline:  # the driver is one of them
        time.sleep(0.1)
    if there >= promised:
        return ""
    return (
        f"{there} of the {promised} executors that the session's settings promise are there after"
        f" {EXECUTOR_SECONDS:g} seconds: n_jobs=-1 is the slots of now, or 2"
    )


def count_slots(context: SparkContext, needs: Mapping[str, int] | None = None) -> int:
    """Count the tasks that the executors of now can run at once, or 2 where none has come yet."""
    scala, profile = context._jsc.sc(), make_profile(context, needs)
    slots: int = scala.maxNumConcurrentTasks(scala.resourceProfileManager().resourceProfileFromId(0))
    if slots and profile is not None:
        slots = scala.maxNumConcurrentTasks(profile._java_resource_profile)
        # With dynamic allocation Spark starts executors of their own for such tasks, once they wait.
        if not slots and not grows(context):
            raise RuntimeError(f"spark-pool: no executor has what a task needs: {needs}")
    return slots or 2


def make_profile(context: SparkContext, needs: Mapping[str, int] | None) -> ResourceProfile | None:
    """Make what tells Spark what each task needs; None where that is what tasks of the session have."""
    if not needs:
        return None
    if is_local(context):
        raise RuntimeError("spark-pool: Spark's local mode gives each task one core: no num_cpus_per_task, no GPUs")
    # The same one each time: with dynamic allocation an executor serves no profile but its own.
    known, kind = PROFILES.setdefault(context, {}), tuple(sorted(needs.items()))
    if kind not in known:
        from py4j.protocol import Py4JJavaError

        requests = TaskResourceRequests()
        for name, count in needs.items():
            requests = requests.cpus(count) if name == "cpus" else requests.resource(name, count)
        profile = ResourceProfileBuilder().require(requests).build
        try:
            context._jsc.sc().resourceProfileManager().addResourceProfile(profile._java_resource_profile)
        except Py4JJavaError as error:
            reason = error.java_exception.getMessage()
            raise RuntimeError(f"spark-pool: Spark refuses tasks that need {dict(needs)}: {reason}") from None
        known[kind] = profile
        if grows(context):
            warnings.warn(
                f"spark-pool: with dynamic allocation tasks that need {dict(needs)} get executors of their own; where"
                " others hold the cores, these have to be idle for spark.dynamicAllocation.executorIdleTimeout first",
                stacklevel=2,
            )
    return known[kind]


def is_local(context: SparkContext) -> bool:
    """True where driver and executor are one process."""
    return str(context.master).partition("[")[0] == "local"


def grows(context: SparkContext) -> bool:
    """True where Spark starts executors for tasks that wait, and ends idle ones (dynamic allocation)."""
    return context._jsc.sc().executorAllocationManager().isDefined()


# --- in this process ---


class WorkerLostError(RuntimeError):
    """A batch took its Python process with it, `TRIES` times."""


@dataclass
class Batch:
    """Calls that travel together, and where their results are awaited."""

    call: Callable[[], list]
    future: Future = field(default_factory=Future)
    losses: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)  # guards the next two
    message: bytes | None = None  # empty where it cannot be pickled
    kept: list = field(default_factory=list)  # what the message refers to


class Job:
    """A Spark job of `size` tasks; each of them is a worker, known by its seat."""

    numbers = itertools.count()
    thread: threading.Thread

    def __init__(self, size: int) -> None:
        self.number = next(self.numbers)
        # Spark may run a task twice (speculation, or a host that it takes for lost): the second waits for the first.
        self.seats = [threading.Lock() for _ in range(size)]
        self.left: set[int] = set()
        self.links: set[Link] = set()
        self.connected = False
        self.blamed = False  # a batch is known that took a worker with it


class Pool:
    """Spark tasks that run the batches of one call at a time, and leave when no work comes."""

    known: list[Pool] = []  # noqa: RUF012 - one list for all
    lock = threading.Lock()  # guards `known`, and who is `busy`

    def __init__(self, context: SparkContext, needs: Mapping[str, int]) -> None:
        self.context, self.setting, self.needs = context, setting_of(context), needs
        self.name, self.key = "spark-pool-" + secrets.token_hex(8), secrets.token_bytes(32)
        self.encrypt = encrypts(context)
        if is_true(context, "spark.io.encryption.enabled"):
            warnings.warn(
                "spark-pool: spark.io.encryption.enabled is set, but what tasks share lies below spark.local.dir as it"
                " is, in folders that only its owner can read",
                stacklevel=2,
            )
        self.listener, self.address = listen(context)
        self.shared = Shared(is_local(context))
        self.changed = threading.Condition()  # guards all that follows
        self.waiting: deque[Batch] = deque()
        self.jobs: dict[int, Job] = {}
        self.threads: list[threading.Thread] = []
        self.links: set[Link] = set()
        self.workers: set[Link] = set()
        self.folders: set[str] = set()
        self.warnings: dict[tuple, None] = {}
        self.size = self.idle = self.failures = 0
        self.inner_threads: int | None = None
        self.error: Exception | None = None
        self.busy, self.over, self.stopped, self.hurried = True, False, False, False
        self.answers: queue.Queue[tuple[Batch, bytes | Exception] | None] = queue.Queue()
        self.settler = threading.Thread(target=self._settle_all, name=self.name, daemon=True)
        self.settler.start()
        self.keeper = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self.keeper.start()

    # The calling thread

    @classmethod
    def take(cls, context: SparkContext, needs: Mapping[str, int]) -> Pool:
        """Give the tasks of an earlier call, if they are still there and fit, or a new pool."""
        wanted = (context, setting_of(context), needs)
        with cls.lock:
            free = [pool for pool in cls.known if not pool.busy and not pool.over and pool.error is None]
            fitting = next((pool for pool in free if (pool.context, pool.setting, pool.needs) == wanted), None)
            if fitting is not None:
                fitting.busy = True
        if fitting is None:
            # Not under the lock: Python may collect an old call's generator meanwhile, whose pool then ends.
            fitting = cls(context, needs)
            cls.known.append(fitting)
        return fitting

    def begin(self, size: int, inner_threads: int | None) -> None:
        """Get ready for calls; workers that are too many leave."""
        with self.changed:
            self.size, self.inner_threads, self.failures, self.hurried = size, inner_threads, 0, False
            self.changed.notify_all()

    def submit(self, call: Callable[[], list]) -> Future:
        """Queue a batch."""
        batch = Batch(call)
        with self.changed:
            error = self.error
            if error is None:
                self.hurried = False
                self.waiting.append(batch)
                self._start_missing_tasks()
                self.changed.notify()
        if error is not None:
            batch.future.set_exception(error)
        return batch.future

    def end_call(self) -> None:
        """Free what the call shared; show its warnings, each of them once."""
        self.shared.clear()
        with self.changed:
            shown, self.warnings = self.warnings, {}
        for warning in shown:
            show(*warning)

    def rest(self) -> None:
        """Wait for the next call, for a short while."""
        self.end_call()
        if self.error is not None:
            return self.kill()
        with self.lock:
            self.busy = False

    def hurry(self) -> None:
        """Let idle tasks end now."""
        with self.changed:
            self.hurried = True
            self.changed.notify_all()

    def kill(self) -> None:
        """Cancel the Spark jobs, and with them what runs; return when all is gone."""
        with self.changed:
            self.stopped = True
            self.waiting.clear()
            self.changed.notify_all()
        self.keeper.join()

    # One thread that cares for the pool

    def _keep(self) -> None:
        """Let workers in until nobody needs the pool; then tidy up."""
        while not self._is_over():
            try:
                link = Link(self.listener.accept()[0])
                link.give_up_sending_after(seconds=120)
                self.links.add(link)
                try:
                    self._start_thread(self._serve, link)
                except RuntimeError as error:
                    self.links.discard(link)
                    link.close()
                    self._give_up(RuntimeError(f"spark-pool: {error} for a worker: give a smaller n_jobs"))
                    time.sleep(0.1)
                continue
            except OSError as error:  # mostly TimeoutError
                if error.errno in NO_MEANS:
                    self._give_up(
                        RuntimeError(
                            f"spark-pool: this process cannot take the connection of a worker: {error}. Each takes two"
                            f" open files (of {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}, see ulimit -n): raise"
                            " the limit or give a smaller n_jobs"
                        )
                    )
                    time.sleep(0.1)  # the connection still waits, and accept() would fail again at once
            if self.idle and not self.waiting and count_jobs(self.context) > len(self.jobs):
                self.hurry()
        self.listener.close()
        self._end_jobs()
        # Not before the jobs: of a task that fails before it is cancelled, Spark writes a long error into its log.
        for link in list(self.links):
            link.hang_up()
        for thread in self.threads:
            thread.join()
        self.answers.put(None)
        self.settler.join()
        self.shared.clear()
        for folder in self.folders:  # of killed workers on this machine; elsewhere Spark removes it with the executor
            shutil.rmtree(folder, ignore_errors=True)
        self.known.remove(self)

    def _give_up(self, error: Exception) -> None:
        """Let nobody wait for tasks that cannot run; workers that are there end what they are at."""
        with self.changed:
            self.error = self.error or error
            abandoned, self.waiting = list(self.waiting), deque()
        for batch in abandoned:
            self.answers.put((batch, self.error))

    def _is_over(self) -> bool:
        if self.stopped:  # who waits for this may have the lock
            self.over = True
            return True
        with self.lock:
            # Strangers may hold a connection as long as they like.
            self.over = not (self.busy or any(link.known for link in list(self.links)))
            return self.over

    def _end_jobs(self) -> None:
        """Wait for Spark jobs whose tasks have left, and cancel the others."""
        for job in list(self.jobs.values()):
            if not self.stopped:  # tasks that have just left, and those that start now and find the port closed
                job.thread.join(1.0)
            while job.thread.is_alive():
                # Again and again: a job that is about to start cannot be cancelled yet.
                if self.stopped or len(job.left) < len(job.seats):
                    with suppress(Exception):  # the session may be gone
                        self.context.cancelJobsWithTag(self.name)
                job.thread.join(0.2)

    def _start_thread(self, target: Callable, argument: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=(argument,), name=self.name, daemon=True)
        with self.changed:
            thread.start()  # which may fail: then nobody is to wait for it
            self.threads = [*(other for other in self.threads if other.is_alive()), thread]
        return thread

    # One thread for each Spark job: one at first, another after a loss or when workers are missed that have left

    def _start_missing_tasks(self) -> None:
        there = sum(len(job.seats) - len(job.left) for job in self.jobs.values())
        if there < self.size and len(self.waiting) > self.idle and not self.stopped:
            job = Job(self.size - there)
            try:
                job.thread = self._start_thread(self._run, job)  # it waits for `changed` before it looks for its job
            except RuntimeError as error:
                self._give_up(RuntimeError(f"spark-pool: {error} for a Spark job"))
                return
            self.jobs[job.number] = job

    def _run(self, job: Job) -> None:
        """Run the tasks of a job, and see why they ended."""
        to_whom = partial(work, address=self.address, key=self.key, encrypt=self.encrypt)
        task = partial(to_whom, job=job.number, name=self.name)
        problem: Any = None
        try:
            for name, value in self.setting[1].items():
                self.context.setLocalProperty(name, value)  # type: ignore[arg-type]  # None takes it back
            self.context.addJobTag(self.name)
            # The job lasts longer than a program's socket.setdefaulttimeout, which py4j takes for its connections.
            self.context._jsc._gateway_client.get_thread_connection().socket.settimeout(None)
            # All in one job: Spark then spreads them over the executors, one each, round and round.
            seats = self.context.parallelize(range(len(job.seats)), len(job.seats))
            if profile := make_profile(self.context, self.needs):
                seats = seats.withResources(profile)
            refusals = seats.mapPartitionsWithIndex(task).collect()
            if not job.connected:
                problem = next(iter(refusals), None)
            # A task that starts when the others have done all work finds the port closed, and nobody need know.
            elif cut_off := [why for why in refusals if any(map(why.endswith, CUT_OFF)) or KEEPS_NOTHING in why]:
                without = f"spark-pool: {len(cut_off)} of {len(job.seats)} tasks took no part: {cut_off[0]}"
                show(without, UserWarning, __file__, 0)
        except Exception as error:  # noqa: BLE001 - the calling thread raises it
            problem = error
        self._close_job(job, problem)

    def _close_job(self, job: Job, problem: Any) -> None:
        """Start other tasks where they failed, unless that is hopeless: then nobody may wait for them."""
        with self.changed:
            del self.jobs[job.number]
            for link in job.links:  # Spark ends these too, two seconds later
                link.hang_up()
            error = None
            if problem is not None and not self.stopped:
                self.failures += not job.blamed  # a batch that kills is given up when it has killed `TRIES` times
                error = self._hopeless(job, problem)
            if error is None and self.error is None and self.waiting:
                self._start_missing_tasks()
        if error is not None:
            self._give_up(error)

    def _hopeless(self, job: Job, problem: Any) -> Exception | None:
        error: Exception | None = None
        if not job.connected or "cancelled" in str(problem):
            error = RuntimeError(f"Spark ended the tasks of spark-pool: {reason_of(problem)}")
        elif self.failures >= TRIES:
            error = WorkerLostError(LOST.format(self.failures, "the calls of joblib"))
        if error is not None:
            error.__cause__ = problem if isinstance(problem, Exception) else None
        return error

    # One thread for each worker

    def _serve(self, link: Link) -> None:
        try:
            job, seat = self._welcome(link)
            with job.seats[seat]:
                self._feed(link, job, seat)
        # The worker is lost, or who connected is none: it has not the key.
        except (OSError, EOFError, AssertionError, AuthenticationError, LookupError):
            pass
        finally:
            link.close()
            with self.changed:
                self.links.discard(link)
                self.workers.discard(link)

    def _welcome(self, link: Link) -> tuple[Job, int]:
        """Let a worker in that has the key; nothing that comes before is unpickled."""
        link.give_up_after(SECONDS_TO_PROVE)
        key = link.encrypt(self.key, server_side=True) if self.encrypt else self.key
        deliver_challenge(link, key)
        answer_challenge(link, key)
        link.give_up_after(seconds=0)
        number, seat, folder = pickle.loads(link.recv_bytes())
        with self.changed:
            self.folders.add(folder)
            job = self.jobs[number]
            job.links.add(link)
            job.connected = link.known = True
        return job, seat

    def _feed(self, link: Link, job: Job, seat: int) -> None:
        """Give a worker one batch after the other; when no more come, let it go.

        While it runs one, another is pickled, and its last answer is handed on by another thread: it never waits for
        these.
        """
        with self.changed:
            self.workers.add(link)
        with self.shared.news() as dropped:
            self._feed_batches(link, job, seat, dropped)
        link.send_bytes(b"")
        link.recv_bytes()  # the worker hangs up first

    def _feed_batches(self, link: Link, job: Job, seat: int, dropped: list[str]) -> None:
        while (batch := self._next_batch(link, job, seat)) is not None:
            if message := self._message(batch):
                ran = False
                try:
                    if link.poll():  # an idle worker says nothing: what can be read is its end
                        raise EOFError
                    ran = True
                    if names := dropped[:]:
                        del dropped[: len(names)]  # others may have come meanwhile, at the end
                        link.send_bytes(DROP + " ".join(names).encode())
                    link.send_bytes(message)
                    self._prepare()
                    self.answers.put((batch, self._receive(link)))
                except Exception:
                    self._lose(batch, job, ran)
                    raise
            del batch, message  # what they hold is to be freed while this thread waits

    def _message(self, batch: Batch) -> bytes:
        """Pickle a batch, unless that is done; empty where it cannot be."""
        with batch.lock:
            if batch.message is None:
                try:
                    batch.message, batch.kept = self.shared.dump((batch.call, self.inner_threads))
                except BaseException as error:  # noqa: BLE001 - it is raised where the results are awaited
                    unsent = pickle.PicklingError("Could not pickle the task to send it to the workers.")
                    unsent.__cause__ = error
                    batch.message = b""
                    self.answers.put((batch, unsent))
            return batch.message

    def _prepare(self) -> None:
        """Pickle the first of the batches that wait, one for each worker: no more, as they take memory."""
        with self.changed:
            first = list(itertools.islice(self.waiting, len(self.workers)))
        for batch in first:
            if batch.message is None:
                self._message(batch)
                break

    def _next_batch(self, link: Link, job: Job, seat: int) -> Batch | None:
        """Give the first batch, or wait for one; None lets the worker go."""
        with self.changed:
            self.idle += 1
            # As long as answers are being handed on, more batches may follow.
            while (
                not self.changed.wait_for(
                    lambda: (
                        self.waiting
                        or self.hurried
                        or self.stopped
                        or seat in job.left  # Spark tried a task again whose first worker has left by now
                        or len(self.workers) > self.size
                    ),
                    IDLE_SECONDS,
                )
                and self.answers.unfinished_tasks
            ):
                pass
            self.idle -= 1
            if self.waiting and len(self.workers) <= self.size and seat not in job.left and not self.stopped:
                return self.waiting.popleft()
            job.left.add(seat)
            self.workers.discard(link)
            if not self.busy:  # tasks that Spark has not started yet are to end at once
                self.hurried = True
            elif self.waiting:
                self._start_missing_tasks()
            self.changed.notify_all()
            return None

    def _receive(self, link: Link) -> bytes:
        """Send the shared objects that the worker asks for, and receive the results of its batch."""
        while (answer := link.recv_bytes()).startswith(NEED):
            for chunk in chunks(self.shared.raw(answer.removeprefix(NEED).decode())):
                link.send_bytes(chunk)
            link.send_bytes(b"")
        return answer

    def _lose(self, batch: Batch, job: Job, ran: bool) -> None:
        """Queue a batch again whose worker died, unless it is likely the batch that kills."""
        with self.changed:
            if ran and job.number in self.jobs:  # else Spark had already ended the worker together with others
                batch.losses += 1
                job.blamed = True
            error = self.error
            if error is None and batch.losses < TRIES:
                self.waiting.appendleft(batch)
                self._start_missing_tasks()
                self.changed.notify()
                return
        self.answers.put((batch, error or WorkerLostError(LOST.format(batch.losses, describe(batch.call)))))

    # One thread that hands answers on

    def _settle_all(self) -> None:
        """Hand on what comes back.

        With an answer, joblib asks the user's generator for more calls, one thread at a time. The generator may want
        to run Spark jobs of its own. So the threads of the workers do not wait for it: they are idle, and can let
        their workers go.
        """
        while (answered := self.answers.get()) is not None:
            self._settle(*answered)
            del answered  # or results would be kept until the next come
            self._prepare()
            self.answers.task_done()

    def _settle(self, batch: Batch, answer: bytes | Exception) -> None:
        done: bool = False
        value: Any = answer
        if isinstance(answer, bytes):
            warned: list[tuple] = []
            try:
                done, value, warned = pickle.loads(answer)
            except BaseException as error:  # noqa: BLE001 - of a class that only the workers can import, for one
                value = error
            with self.changed:
                self.failures = 0
                self.warnings.update(dict.fromkeys(warned))
        if batch.future.done():  # it could not be pickled, and then the pool was given up
            return
        # joblib's callback submits the next batch.
        if done:
            batch.future.set_result(value)
        else:
            batch.future.set_exception(value)


def setting_of(context: SparkContext) -> tuple[str, dict[str, str | None]]:
    """What a running task cannot change to: files that it has not received, another pool or group of jobs."""
    scala = context._jsc.sc()  # PySpark's own `listFiles` needs 30 ms, a fiftieth of a search
    files = scala.listFiles().toString() + scala.listArchives().toString()
    return files, {name: context.getLocalProperty(name) for name in PROPERTIES}


def listen(context: SparkContext) -> tuple[socket.socket, tuple[str, int]]:
    """Open a port for the executors; in local mode no other machine can reach it."""
    conf = context._conf  # getConf copies all settings one by one: hundreds of calls to the JVM
    host = str(conf.get("spark.driver.host")).strip("[]")
    bind = str(conf.get("spark.driver.bindAddress", host)).strip("[]")
    if is_local(context):
        host = bind = "127.0.0.1"
    family, *_, address = socket.getaddrinfo(bind, 0, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family, backlog=1024)
    listener.settimeout(0.1)
    return listener, (host, listener.getsockname()[1])


def is_true(context: SparkContext, name: str) -> bool:
    """Read a setting as Spark does."""
    return str(context._conf.get(name, "false")).strip().lower() == "true"


def encrypts(context: SparkContext) -> bool:
    """True where Spark encrypts what travels between its processes."""
    settings = ("spark.network.crypto.enabled", "spark.ssl.rpc.enabled", "spark.authenticate.enableSaslEncryption")
    wanted = any(is_true(context, name) for name in settings)
    try:
        return wanted and bool(tls_context(server_side=True))
    except ssl.SSLError as error:
        raise RuntimeError(
            "spark-pool: Spark encrypts its connections, and the OpenSSL of this Python refuses to do so without"
            " certificates. Use joblib-spark's backend (grid_search_joblib_spark.py), whose data travel through Spark"
        ) from error


def count_jobs(context: SparkContext) -> int:
    """Count the Spark jobs that run or wait, of whatever origin."""
    try:
        return len(context.statusTracker().getActiveJobsIds())
    except Exception:  # noqa: BLE001 - the session is gone, and its jobs with it
        return 0


def reason_of(problem: Any) -> str:
    """Say in a line why Spark ended a job: of a traceback from a worker, the line that names the exception."""
    _, found, traced = str(problem).rpartition("Traceback (most recent call last):")
    # Frames are indented, and so are the lines of Java that follow.
    named = [line for line in traced.splitlines() if line and not line[0].isspace()]
    return named[0] if found and named else " ".join(str(problem).splitlines()[:2])


def describe(call: Any) -> str:
    """Name the functions of a batch."""
    return ", ".join(sorted({getattr(item[0], "__qualname__", repr(item[0])) for item in getattr(call, "items", [])}))


# --- shared objects ---


@dataclass
class Entry:
    """An array-like object of a call: `pid` names it from the second time on (mapped arrays: from the first)."""

    alive: Callable[[], Any]
    pid: dict[str, Any] | None = None
    blob: bytes | None = None
    kept: list = field(default_factory=list)  # what the blob refers to
    small: bool = False  # in pickled form; it keeps travelling with its batches


class Shared:
    """Finds by identity what many batches of a call refer to, so that it travels once to each executor."""

    def __init__(self, local: bool) -> None:
        self.local = local
        self.lock = threading.RLock()  # also taken when an object dies, whatever the thread is at
        self.numbers = itertools.count()
        self.entries: dict[int, Entry] = {}
        self.named: dict[str, Entry] = {}
        self.followers: list[list[str]] = []
        self.max_nbytes: int | None = None  # these two are joblib's settings for a call
        self.mmap_mode: str | None = None

    def dump(self, value: Any, root: Any = None) -> tuple[bytes, list]:
        """Pickle `value` with names for shared objects; these have to be kept until the pickle is no longer used."""
        pickler = SharingPickler(self, root)
        pickler.dump(value)
        return pickler.file.getvalue(), pickler.kept

    def pid_of(self, value: Any, inside: bool) -> dict[str, Any] | None:
        """Name an object; None: it travels with its batch, or with the shared object that it is inside."""
        with self.lock:
            entry = self.entries.get(id(value))
            layout = self._layout_of_file(value) or self._layout(value)
            if inside and layout is None:
                return None
            if entry is None:
                entry = self.entries[id(value)] = Entry(self._watch(value))
                if layout is None:
                    return None
            if entry.pid is None and not entry.small:
                if layout is None:
                    blob, kept = self.dump(value, root=value)
                    if len(blob) < SMALL:
                        entry.small = True
                        return None
                    entry.blob, entry.kept = blob, kept
                entry.pid = {"name": str(next(self.numbers)), **(layout or {})}
                self.named[entry.pid["name"]] = entry
            return entry.pid

    def _layout(self, value: Any) -> dict[str, Any] | None:
        """As loky: arrays above `max_nbytes` are files that workers map; others come as writable copies."""
        if self.max_nbytes is None or self.mmap_mode is None or type(value) not in (np.ndarray, np.memmap):
            return None
        if value.nbytes <= self.max_nbytes or value.dtype.hasobject:
            return None
        mode = self.mmap_mode if memmap_of(value) is None else "r"
        return {"mode": mode, "dtype": value.dtype, "shape": value.shape, "order": "F" if value.flags.fnc else "C"}

    def _layout_of_file(self, value: Any) -> dict[str, Any] | None:
        """As loky: a memmap, or a view of one, is mapped from its own file, which in local mode workers have too."""
        whole = memmap_of(value) if self.local else None
        if whole is None or not value.nbytes or whole.filename is None or not Path(whole.filename).exists():
            return None
        start = value.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        return {
            "mode": "r+" if value.flags.writeable else "r",
            "file": str(whole.filename),
            "part": (whole.offset, whole.nbytes),
            "kind": type(value),
            "place": (value.shape, value.dtype, start, value.strides),
        }

    def _watch(self, value: Any) -> Callable[[], Any]:
        try:
            return weakref.ref(value, partial(self._forget, id(value)))
        except TypeError:
            return lambda: value

    def _forget(self, key: int, _: Any = None) -> None:
        with self.lock:
            entry = self.entries.pop(key, None)
            if entry is not None and entry.pid is not None:
                self.named.pop(entry.pid["name"])
                for names in self.followers:
                    names.append(entry.pid["name"])

    def raw(self, name: str) -> memoryview:
        """Give the bytes that travel."""
        entry = self.named[name]
        if entry.blob is not None:
            return memoryview(entry.blob)
        array = entry.alive()
        # By way of bytes: dates, for one, have no buffer of their own.
        return np.ascontiguousarray(array.T if array.flags.fnc else array).reshape(-1).view(np.uint8).data

    @contextmanager
    def news(self) -> Iterator[list[str]]:
        """Give what fills with the names that are forgotten meanwhile."""
        names: list[str] = []
        with self.lock:
            self.followers.append(names)
        try:
            yield names
        finally:
            with self.lock:
                self.followers = [other for other in self.followers if other is not names]

    def clear(self) -> None:
        """Forget all; workers hear of it with the next batch, or when they leave."""
        with self.lock:
            for key in list(self.entries):
                self._forget(key)


class SharingPickler(cloudpickle.Pickler):
    """Pickles all that cloudpickle can, and shared objects by their names."""

    def __init__(self, shared: Shared, root: Any) -> None:
        self.file = io.BytesIO()
        self.dispatch_table = reducers()
        super().__init__(self.file, protocol=5)
        self.shared, self.root = shared, root
        self.kept: list[Any] = []
        self.pids: dict[int, dict[str, Any] | None] = {}  # one answer for each object, or `f(a, a)` would get two

    def persistent_id(self, value: Any) -> dict[str, Any] | None:
        """Called for every object there is in a batch, so that most have to pass quickly."""
        kind: Any = type(value)
        if not may_have_name(kind) or value is self.root:
            return None
        if kind is type:
            return self._warning(value)
        size = getattr(value, "nbytes", None)  # a data frame may have a column of that name
        if isinstance(size, int) and size < SMALL and not (self.shared.local and memmap_of(value) is not None):
            return None
        if id(value) not in self.pids:
            self.kept.append(value)
            self.pids[id(value)] = self.shared.pid_of(value, inside=self.root is not None)
        return self.pids[id(value)]

    def _warning(self, value: type) -> dict[str, Any] | None:
        """Name a class of warnings, so that workers need not have its module.

        scikit-learn sends this process's filters of warnings with each fit, and what it imports makes such filters.
        """
        if not issubclass(value, Warning) or value.__module__ == "builtins":
            return None
        by_value = super().reducer_override(value) is not NotImplemented
        return None if by_value else {"module": value.__module__, "warning": value.__qualname__}

    def reducer_override(self, value: Any) -> Any:
        """Let the copy of a memmap arrive so that nobody can write to it: the file would not change."""
        if not isinstance(value, np.ndarray) or memmap_of(value) is None:
            return super().reducer_override(value)
        order: Any = "F" if value.flags.fnc else "C"
        return np.ndarray, (value.shape, value.dtype, value.tobytes(order), 0, None, order)


@cache
def may_have_name(kind: Any) -> bool:
    """True for arrays, sparse matrices, data frames and their columns, of whatever library; broadcasts; classes."""
    from pyspark import Broadcast  # not in the package pyspark-client

    array_like = hasattr(kind, "shape") and hasattr(kind, "__len__") and not issubclass(kind, np.dtype)
    return kind in (Broadcast, type) or array_like


@cache
def reducers() -> ChainMap:
    """Say what becomes of objects by their type: as cloudpickle does, and of the variables that Spark itself shares."""
    from pyspark import Accumulator, Broadcast

    def refuse(_: Accumulator) -> tuple:
        raise TypeError("spark-pool: Spark adds up an accumulator when a task ends, after the call: return the numbers")

    lock = threading.Lock()

    def with_value(broadcast: Broadcast) -> tuple:
        with lock:  # Spark reads it at the first question, and two threads that ask at once would get a copy each
            return SimpleNamespace, (), {"value": broadcast.value}

    own, *others = cloudpickle.Pickler.dispatch_table.maps
    ours = {Broadcast: with_value, Accumulator: refuse}
    return ChainMap({**own, **ours}, *others)


def memmap_of(value: Any) -> np.memmap | None:
    """Find the memmap that an array is, or is a view of, if what is written to it goes to its file."""
    if type(value) not in (np.ndarray, np.memmap):
        return None
    while isinstance(value, np.ndarray) and not isinstance(value.base, mmap.mmap):
        value = value.base
    return value if isinstance(value, np.memmap) and value.mode != "c" else None


def chunks(data: memoryview) -> Iterator[memoryview]:
    """Cut into messages, so that neither side needs memory for all at once."""
    return (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))


# --- both sides ---


class Link(Connection):
    """A TCP connection that sends small messages at once and notices a host that is gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)  # what the program may have set by socket.setdefaulttimeout is not for it
        # Without it a small message waits up to 40 ms for the acknowledgement of the one before (Nagle's algorithm).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.sock = sock
        self.known = False  # whether the other side has proven that it has the key
        self.gone = False
        super().__init__(os.dup(sock.fileno()))

    def encrypt(self, key: bytes, server_side: bool) -> bytes:
        """Encrypt from here on; give the key to prove then, which is good for this one connection.

        TLS with a key exchange and no certificates. Who sits between the two sides has made two exchanges, and cannot
        make the proof of one pass for the other: it contains what is unique to an exchange (RFC 5929).
        """
        context = tls_context(server_side)
        self.sock = context.wrap_socket(self.sock, server_side=server_side, do_handshake_on_connect=False)
        if self.gone:  # hung up while neither of the two sockets could be
            raise EOFError
        if server_side:  # a client may say nothing
            self.give_up_after(SECONDS_TO_PROVE)
        self.sock.do_handshake()
        return hmac.digest(key, self.sock.get_channel_binding("tls-unique") or b"", "sha256")

    def _send(self, buf: Any, *args: Any) -> None:
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.sendall(buf)
        else:
            super()._send(buf)  # type: ignore[misc]  # the stubs lack it

    def _recv(self, size: int, *args: Any) -> io.BytesIO:
        if not isinstance(self.sock, ssl.SSLSocket):
            return super()._recv(size)  # type: ignore[misc]  # the stubs lack it
        message = io.BytesIO()
        while message.tell() < size:
            part = self.sock.recv(min(size - message.tell(), CHUNK))
            if not part:
                raise EOFError
            message.write(part)
        return message

    def give_up_after(self, seconds: int) -> None:
        """Let reading fail after so many seconds; 0 is never."""
        if isinstance(self.sock, ssl.SSLSocket):  # which goes on reading where the kernel has given up
            self.sock.settimeout(seconds or None)
            return
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", seconds, 0))

    def give_up_sending_after(self, seconds: int) -> None:
        """End the connection where the other side takes nothing for so long: TCP alone tries for a quarter of an hour.

        For the driver alone. A worker's results may have to wait, for a driver that is at the user's own code.
        """
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * seconds)

    def hang_up(self) -> None:
        """End the connection for both sides, whichever thread is reading."""
        self.gone = True
        with suppress(OSError):
            # Not that of an SSLSocket, which would make another thread read on without encryption.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the descriptors."""
        self.sock.close()
        super().close()


def tls_context(server_side: bool) -> ssl.SSLContext:
    """Make what encrypts without certificates; OpenSSL calls these ciphers insecure, because nobody proves anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones have no such ciphers
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


# --- on the workers ---


def work(
    seat: int, _: Iterable, *, address: tuple[str, int], key: bytes, encrypt: bool, job: int, name: str
) -> Iterator[str]:
    """Be one Spark task: connect, and run what comes until there is no more. Yields why it could take no part."""
    try:
        link = Link(socket.create_connection(address, timeout=20))
        if encrypt:
            key = link.encrypt(key, server_side=False)
        answer_challenge(link, key)
        deliver_challenge(link, key)
    except (OSError, EOFError, AuthenticationError) as error:
        yield f"{socket.gethostname()} cannot reach the driver at {address[0]}:{address[1]}: {error}"
        return
    try:
        store = Store(link, name)
    except OSError as error:  # the other tasks can do without this one
        link.hang_up()
        link.close()
        yield f"{socket.gethostname()} {KEEPS_NOTHING}: {error}"
        return
    link.send_bytes(pickle.dumps((job, seat, str(store.folder))))
    state = {"running": False, "ended": False}
    watch = threading.Thread(target=leave_with_the_driver, args=(link, state, store), daemon=True)
    watch.start()
    with suppress(EOFError, OSError):  # the driver has gone
        while message := link.recv_bytes():
            if message.startswith(DROP):
                store.drop(message.removeprefix(DROP).decode().split())
                continue
            state["running"] = True
            answer = run(message, store)
            state["running"] = False
            link.send_bytes(answer)
    state["ended"] = True
    link.hang_up()
    watch.join()
    link.close()
    store.leave()


def leave_with_the_driver(link: Link, state: dict[str, bool], store: Store) -> None:
    """End this process in the middle of a fit when the driver hangs up: it has cancelled the call, or died."""
    poll = select.poll()
    poll.register(link.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
    poll.poll()
    while not state["ended"]:
        if state["running"]:
            store.leave()
            os._exit(1)
        time.sleep(0.01)


def run(message: bytes, store: Store) -> bytes:
    """Run a batch; give its results or what it raised, and its warnings, pickled."""
    warned: dict[tuple, None] = {}

    def note(message: Any, category: type, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        warned[str(message), category, filename, lineno] = None

    show, warnings.showwarning = warnings.showwarning, note
    try:
        call, inner_threads = store.load(message)
        with limit_threads(inner_threads):
            answer = (True, call(), list(warned))
        return cloudpickle.dumps(answer)
    except BaseException as error:  # noqa: BLE001 - the driver raises it
        if isinstance(error, ImportError):
            error.add_note("Workers need the module too: SparkContext.addPyFile sends it to them.")
        return cloudpickle.dumps((False, portable(error), list(warned)))
    finally:
        warnings.showwarning = show


def portable(error: BaseException) -> Any:
    """Wrap an exception so that it arrives with its traceback, as the cause that multiprocessing gives it."""
    sent = ExceptionWithTraceback(error, error.__traceback__)
    # Some cannot be made again by a call with their `args`, and some hold what cannot be pickled.
    for sent.exc in (error, Dismantled(error)):
        with suppress(Exception):
            pickle.loads(cloudpickle.dumps(sent))
            return sent
    # Not `str`, which may fail too.
    sent.exc = RuntimeError("".join(traceback.format_exception_only(error)).strip())
    return sent


class Dismantled:
    """An exception that is made again without its `__init__`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple:
        kind = type(self.error)
        return kind.__new__, (kind, *self.error.args), self.error.__dict__


def limit_threads(count: int | None) -> Any:
    """Limit BLAS and OpenMP; unset is what Spark gives them, `spark.task.cpus` threads."""
    if count is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(count)


class Store:
    """The shared objects that an executor has: files, one copy for all its workers."""

    def __init__(self, link: Link, name: str) -> None:
        self.link = link
        self.arrays: dict[str, Any] = {}
        # Below Spark's own folder for this executor, which it removes with the executor.
        self.folder = Path(os.environ["SPARK_LOCAL_DIRS"].split(",")[0], name)
        while True:
            with suppress(FileNotFoundError):
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # cleaners of /tmp may remove Spark's too
                self.users = (self.folder / "users").open("a")
                fcntl.flock(self.users, fcntl.LOCK_SH)
                if Path(self.users.name).exists():  # else the last of the others has just tidied up
                    break

    def leave(self) -> None:
        """Tidy up, if no other worker is there."""
        with suppress(BlockingIOError):
            fcntl.flock(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.folder, ignore_errors=True)
        self.users.close()

    def load(self, message: bytes) -> Any:
        """Unpickle a batch, with the shared objects that it names."""
        self.objects: dict[str, Any] = {}  # for this batch only: it may change them
        return NamedUnpickler(io.BytesIO(message), self).load()

    def drop(self, names: list[str]) -> None:
        """Free what no batch will name again."""
        for name in names:
            self.arrays.pop(name, None)
            (self.folder / name).unlink(missing_ok=True)

    def get(self, name: str, mode: Any = None, file: str | None = None, **layout: Any) -> Any:
        """Give the object of that name; arrays are mapped and, if nobody has a copy of his own to write to, kept."""
        known = self.objects if mode in (None, "c") else self.arrays
        if name not in known:
            if file is not None:
                known[name] = map_again(file, mode, **layout)
            elif mode is not None:
                known[name] = np.asarray(np.memmap(self._fetch(name), mode=mode, **layout))
            else:
                with self._fetch(name).open("rb") as blob:
                    known[name] = NamedUnpickler(blob, self).load()
        return known[name]

    def _fetch(self, name: str) -> Path:
        """Ask the driver for an object, unless a worker of the same executor has done so."""
        path, part = self.folder / name, self.folder / "part"
        with (self.folder / "fetching").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                try:
                    with part.open("wb") as file:
                        self._receive(name, file)
                except OSError as error:
                    where = f"{self.folder} on {socket.gethostname()}"
                    error.add_note(f"Shared data of spark-pool go to {where}, a folder of spark.local.dir.")
                    part.unlink(missing_ok=True)
                    raise
                part.replace(path)
        return path

    def _receive(self, name: str, file: Any) -> None:
        self.link.send_bytes(NEED + name.encode())
        problem = None
        while chunk := self.link.recv_bytes():
            try:
                if problem is None:
                    file.write(chunk)
            except OSError as error:
                problem = error  # a full disk; the rest must be received, or it would be taken for the next batch
        if problem is not None:
            raise problem


def map_again(file: str, mode: Any, part: tuple[int, int], kind: type, place: tuple) -> np.ndarray:
    """Map part of a file, and give the view of it that the driver has."""
    offset, size = part
    shape, dtype, start, strides = place
    whole = np.memmap(file, dtype=np.uint8, mode=mode, offset=offset, shape=(size,))
    view: np.ndarray = np.ndarray.__new__(kind, shape, dtype, whole, start, strides)
    return view


class NamedUnpickler(pickle.Unpickler):
    """Unpickles what `SharingPickler` wrote."""

    def __init__(self, file: Any, store: Store) -> None:
        super().__init__(file)
        self.store = store

    def persistent_load(self, pid: dict[str, Any]) -> Any:
        """Give a shared object, or a class of warnings: where its module is missing, nothing can warn of it."""
        if "warning" not in pid:
            return self.store.get(**pid)
        try:
            return self.find_class(pid["module"], pid["warning"])
        except (ImportError, AttributeError):
            return type(pid["warning"], (Warning,), {})


# --- benchmark: delete from here on when copying ------------------------
from grid_search_single_node import (
    PARALLELISM,
    SIZES,
    WORKLOAD,
    answer_of,
    check,
    first_candidates,
    grid_search,
    make_data,
    validate,
)
from joblib import parallel_config
from pyspark.sql import SparkSession

__all__ = [
    "PARALLELISM",
    "SIZES",
    "WORKLOAD",
    "check",
    "make_data",
    "validate",
]  # what makes this the same workload as the sibling's
SCHEDULE = {"spark_pool": "pool", "spark_pool_anew": "pool"}
REFIT = True
GATED = ("spark_pool",)
release = stop_spark_pool


def run_spark_pool(
    data: dict[str, Any], *, spark: SparkSession, parallelism: int, folds: int, candidates: int
) -> dict[str, Any]:
    """GridSearchCV, our Spark backend.

    The tasks of the call before are still there, as loky's processes are: the first call pays for starting them. On
    one slot there are two tasks, and one of them waits: with one, joblib would not use Spark at all.
    """
    register_spark_pool()
    with parallel_config("spark-pool", n_jobs=max(2, parallelism)):
        search = grid_search(**data, grid=first_candidates(candidates), folds=folds)
    return answer_of(search, folds)


def run_spark_pool_anew(
    data: dict[str, Any], *, spark: SparkSession, parallelism: int, folds: int, candidates: int
) -> dict[str, Any]:
    """GridSearchCV, our backend, new tasks.

    What a search pays that comes alone, in a session that has run Python tasks before.
    """
    try:
        return run_spark_pool(data, spark=spark, parallelism=parallelism, folds=folds, candidates=candidates)
    finally:
        stop_spark_pool(wait=False)


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    found = run_spark_pool(make_data(), spark=session, parallelism=2, folds=5, candidates=48)
    print(f"48 candidates, 5 folds: the best is {found['best_params']}, accuracy {found['best_score']:.3f}")
    session.stop()
