# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "joblib>=1.4", "joblibspark>=0.6", "pyspark>=4.0", "scikit-learn>=1.5", "numpy>=1.26",
#     "packaging>=23",  # joblibspark imports it without asking for it
# ]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Grid search through joblib-spark: the fits of a scikit-learn search in Spark jobs of one task.

The quickest way from an existing `GridSearchCV` to a cluster: one `with` block around `fit`, nothing else
changes. It pays where single fits take seconds to hours. It does not where they are short, since each batch of fits is
a Spark job and carries X and y with it: `grid_search_spark_backend.py` is for these, and for a large X. The recipe
mends what joblib-spark 0.6 gets wrong with current joblib: the cause of a failed fit is lost, every search leaves
threads behind, a large X is kept on disk once for each fit until Spark stops, short fits never share a job,
`timeout` is ignored, and most fits are not in the scheduler pool of the caller.

Run it alone:  python grid_search_joblib_spark.py
(the benchmark half needs its sibling grid_search_single_node.py in the same folder; the recipe does not)
"""

from __future__ import annotations

import atexit
import io
import mmap
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.pool import AsyncResult, ThreadPool
from typing import Any

import numpy as np
from joblib import parallel_config, register_parallel_backend
from joblib.parallel import AutoBatchingMixin, FallbackToBackend
from joblibspark.backend import SparkDistributedBackend
from pyspark import Broadcast, SparkContext, cloudpickle, inheritable_thread_target
from pyspark.sql import SparkSession


def on_spark(n_jobs: int | None = -1) -> parallel_config:
    """Send what joblib runs inside `with on_spark(): ...` to the active Spark session.

    Workers use one BLAS and OpenMP thread for each task: Spark sets `OMP_NUM_THREADS` to `spark.task.cpus`. A
    `numpy.memmap` arrives as a copy that cannot be written to: return what a call finds, do not write it into a file.

    Parameters
    ----------
    n_jobs : int or None, default=-1
        Spark jobs in flight, one task each; -1 or None is the slots of the cluster (64 with Spark Connect, which does
        not tell them). Leave the `n_jobs` of the search itself unset: it would win. With 1 (or -1 where there is one
        slot) joblib would run everything here without Spark, and nobody would be told; so 1 is refused, and one slot
        gets two jobs that take turns.

    Examples
    --------
    >>> with on_spark():  # doctest: +SKIP
    ...     search = GridSearchCV(SVC(), grid, error_score="raise").fit(X, y)
    """
    if n_jobs in (0, 1):
        raise ValueError(f"n_jobs={n_jobs}: joblib would not use Spark, give 2 or more, or -1 for all slots")
    register_parallel_backend("spark", SparkBackend)
    return parallel_config("spark", n_jobs=n_jobs)


class SparkBackend(SparkDistributedBackend):
    """joblib-spark's backend, made to say why a task failed, to batch short calls and to leave no thread behind.

    Without it (joblibspark 0.6 with joblib 1.4 to 1.6) any failure shows as "TypeError:
    '_ExceptionWithTraceback' object is not iterable", or as an AttributeError about `_backend_args`.
    """

    _pool: ThreadPool | None
    parallel: Any
    _spark: SparkSession
    _spark_context: SparkContext
    _open = False

    default_n_jobs = -1  # joblib's own default is 1: without Spark
    # joblib then waits for results with the user's timeout; its own default is False for a backend of this kind.
    supports_timeout = True
    # joblib-spark lists the mixin behind joblib's base class, whose batches hold one call for ever.
    compute_batch_size = AutoBatchingMixin.compute_batch_size
    batch_completed = AutoBatchingMixin.batch_completed
    # Seconds from hand-over to result that joblib aims at. Its default, from 0.2 s, is about what a job costs here.
    MIN_IDEAL_BATCH_DURATION = 1.0
    MAX_IDEAL_BATCH_DURATION = 5.0

    def __init__(self, **needs: Any) -> None:
        super().__init__(**needs)
        self._needs = needs
        self._parcels: set[Parcel] = set()

    def _is_support_stage_scheduling(self) -> bool:
        """Say so without the warnings of the inherited method, which come whatever the answer is."""
        return str(self._spark_context.master).partition("[")[0] != "local"

    def _create_resource_profile(self, cpus: int | None, gpus: int | None) -> Any:
        """Make a profile where something is asked for; the inherited method makes one for every backend.

        That fails where tasks share GPUs, and with dynamic allocation executors serve no profile but their own: each
        search would wait for new ones.
        """
        if not (cpus or gpus):
            return None
        if not self._support_stage_scheduling:
            warnings.warn("Spark's local mode gives each task one core and no GPU, whatever it needs", stacklevel=2)
        return super()._create_resource_profile(cpus, gpus)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Count the jobs in flight; where negative, from all slots down; unset is -1."""
        if not self._is_spark_connect_mode and self._spark_context._jsc is None:
            # It was stopped: a block may outlive the session that it began with.
            self._spark = SparkSession.active()
            self._spark_context = self._spark.sparkContext
        n_jobs = -1 if n_jobs is None else n_jobs
        if n_jobs < 0:
            return max(super().effective_n_jobs(-1) + 1 + n_jobs, 2)
        return super().effective_n_jobs(n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Get ready for the calls of `parallel`."""
        count = self.effective_n_jobs(n_jobs)
        if self._open and parallel is not self.parallel:
            # Calls in one `with` block share its backend. One that comes before another has ended, as from the
            # generator of its calls, would end the other's jobs with its own: it gets a backend for itself.
            raise FallbackToBackend(type(self)(**{**self._needs, "nesting_level": self.nesting_level}))
        self._n_jobs, self.parallel, self._open = count, parallel, True
        return count

    def start_call(self) -> None:
        """Note what the calling thread says of its Spark jobs: their scheduler pool, their tags.

        joblib hands over all but the first fits in a thread that waits for results, which would say nothing.
        """
        super().start_call()
        # joblib-spark makes PySpark say this at every batch. The tags are there, among the properties of the thread.
        warnings.filterwarnings("ignore", "Spark session is not provided. Tags will not be inherited")
        self._caller = threading.get_ident()
        self._as_caller = inheritable_thread_target(self._spark)(super().apply_async)

    def apply_async(self, func: Callable[[], list], callback: Callable | None = None) -> Any:
        """Run a batch of fits as a Spark job."""
        hand_over = super().apply_async if threading.get_ident() == self._caller else self._as_caller
        outcome = Outcome(callback)
        parcel = Parcel(func, None if self._is_spark_connect_mode else self._spark_context)
        self._parcels.add(parcel)

        def done(result: Any) -> None:
            self._parcels.discard(parcel)
            parcel.discard()
            outcome.tell(result)

        outcome.job = hand_over(parcel, done)
        return outcome

    # joblib 1.5 renamed it.
    submit = apply_async

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what runs; the inherited method reads an attribute that joblib no longer has."""
        self.terminate()
        self._open = ensure_ready

    def terminate(self) -> None:
        """Cancel what runs and end the threads that waited for it; the inherited method keeps them for good."""
        self._open = False
        end_threads(self)
        while self._parcels:
            self._parcels.pop().discard()
        self.reset_batch_stats()

    def _cancel_all_jobs(self) -> None:
        with suppress(Exception):  # the session may be gone, and its jobs with it
            super()._cancel_all_jobs()


class Outcome:
    """What a batch will give; joblib 1.4 asks for it here, later ones by way of the backend's `retrieve_result`."""

    job: AsyncResult

    def __init__(self, callback: Callable | None) -> None:
        self.callback = callback
        self.error: BaseException | None = None

    def tell(self, result: Any) -> None:
        """Let joblib ask the user's generator for more calls.

        What it raises would end this thread, which hands on all results: of `sys.exit`, for one, nobody would hear, and
        the call would wait for ever.
        """
        try:
            if self.callback is not None:
                self.callback(result)
        except BaseException as error:  # noqa: BLE001 - the calling thread raises it
            self.error = error

    def get(self, timeout: float | None = None) -> list:
        """Give the results of a batch, or raise what it raised, or what came of telling joblib that it is done."""
        answer = self.job.get(timeout)
        # What Spark itself raises (a lost executor, a cancelled job) comes in a wrapper of joblib's.
        result = cloudpickle.loads(answer) if isinstance(answer, bytes) else answer.exc
        error = result if isinstance(result, BaseException) else self.error
        if error is not None:
            raise error
        return result


class Parcel:
    """A batch on its way to a worker, where it becomes a function that gives its results pickled, or its exception.

    A large one goes by a broadcast of ours, which ends with the batch. PySpark broadcasts a function of more than a
    megabyte by itself, and leaves that on the driver's disk until Spark stops: a search of 240 fits with an X of 200 MB
    would write 48 GB.
    """

    # That travel inside the job. PySpark broadcasts from `spark.broadcast.UDFCompressionThreshold` on, a megabyte.
    MOST_BYTES = 500_000

    def __init__(self, batch: Callable[[], list], context: SparkContext | None) -> None:
        self._batch = batch
        self._context = context
        self._broadcast: Broadcast | None = None

    def __reduce__(self) -> tuple:
        """Pack the batch, in the thread that makes its Spark job."""
        file = io.BytesIO()
        BatchPickler(file).dump(self._batch)
        body = file.getvalue()
        if self._context is None or len(body) <= self.MOST_BYTES:
            return partial, (runner(), body)
        self._broadcast = self._context.broadcast(body)
        return partial, (runner(), self._broadcast)

    def discard(self) -> None:
        """Free the driver's and the executors' disk and memory of it."""
        if self._broadcast is not None:
            with suppress(Exception):  # the session may be gone, and its broadcasts with it
                self._broadcast.destroy()
            self._broadcast = None


def is_mapped(value: Any) -> bool:
    """Say whether an array is a memmap, or a view of one, so that what is written to it goes to its file."""
    if type(value) not in (np.ndarray, np.memmap):
        return False
    while isinstance(value, np.ndarray) and not isinstance(value.base, mmap.mmap):
        value = value.base
    return isinstance(value, np.memmap) and value.mode != "c"


class BatchPickler(cloudpickle.Pickler):
    """Pickles all that cloudpickle can; memmaps become arrays that cannot be written to.

    Classes of warnings go with all that they need, so that workers need not have their modules: scikit-learn sends the
    driver's filters of warnings with each fit, and what the driver imports makes such filters. Where a worker has not
    the module, nothing can warn of it there.
    """

    def reducer_override(self, value: Any) -> Any:
        """Called for every object that is not of a simple type."""
        if is_mapped(value):
            # What a worker writes into a copy, the file of the driver would never see: it gets an error instead.
            order = "F" if value.flags.fnc else "C"
            return np.ndarray, (value.shape, value.dtype, value.tobytes(order), 0, None, order)
        how = super().reducer_override(value)
        is_warning = isinstance(value, type) and issubclass(value, Warning) and value.__module__ != "builtins"
        if how is not NotImplemented or not is_warning:
            return how

        # Nested, so that workers get it by value.
        def find(module: str, name: str) -> Any:
            import importlib
            import operator

            try:
                return operator.attrgetter(name)(importlib.import_module(module))
            except (ImportError, AttributeError):
                return type(name, (Warning,), {})

        return find, (value.__module__, value.__qualname__)


def end_threads(backend: SparkDistributedBackend) -> None:
    """End the threads of a backend, and the jobs that they wait for."""
    if backend._pool is not None:
        backend._cancel_all_jobs()
        backend._pool.terminate()
        for thread in backend._pool._pool:
            while thread.is_alive():
                # Again and again: a job that is about to start cannot be cancelled yet.
                backend._cancel_all_jobs()
                thread.join(0.2)
        backend._pool.join()
        atexit.unregister(backend._pool.close)
        backend._pool = None


def runner() -> Callable[[Any], bytes]:
    """Give what runs a batch on a worker: it returns an exception, with the worker's traceback as a note.

    Raised, it would reach the driver as text inside an exception of Spark's, after three more tries; returned, it
    keeps its type and its message. Tasks lost with their executor are still tried again.
    """

    # A nested function that imports what it needs: workers get it by value, and need not have this file.
    def run(body: Any) -> bytes:
        import traceback

        from pyspark import cloudpickle

        try:
            batch = cloudpickle.loads(body if isinstance(body, bytes) else body.value)
            return cloudpickle.dumps(batch())
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and SystemExit too: the driver raises them
            note = f"On the Spark worker:\n{traceback.format_exc()}"
            if isinstance(error, ImportError):
                error.add_note("Workers need the module too: SparkContext.addPyFile sends it to them.")
            try:
                cloudpickle.loads(cloudpickle.dumps(error))
            except Exception:  # noqa: BLE001 - some exceptions cannot travel; what they say can, but `str` may fail too
                error = RuntimeError("".join(traceback.format_exception_only(error)).strip())
            error.add_note(note)
            return cloudpickle.dumps(error)

    return run


# --- benchmark: delete from here on when copying ------------------------
import os
import sys

from grid_search_single_node import (
    PARALLELISM,
    WORKLOAD,
    answer_of,
    first_candidates,
    grid_search,
    make_data,
    validate,
)
from grid_search_single_node import SIZES as SEARCHES
from grid_search_single_node import check as check_all
from sklearn.model_selection import ParameterGrid

__all__ = [
    "PARALLELISM",
    "WORKLOAD",
    "make_data",
    "validate",
]  # what makes this the same workload as the sibling's
SIZES = {**SEARCHES, "gate": {"dataset": "synthetic", "folds": 3, "candidates": 4, "calls": 4}}
SCHEDULE = {"joblib_spark": "pool", "joblib_spark_published": "pool"}
GATED = ("joblib_spark",)  # what it mends is no code of ours
REFIT = True
# Candidates that joblib-spark as published searches at most: 48 take as long as all other ways together. Each of its
# fits is a Spark job that takes longer than the fit, so that the time of a fit hardly depends on how many there are.
PUBLISHED = 6


def run_joblib_spark(
    data: dict[str, Any], *, spark: SparkSession, parallelism: int, folds: int, candidates: int
) -> dict[str, Any]:
    """GridSearchCV, joblib-spark mended.

    joblib-spark finds `spark` by itself: it is the active session. On one slot two jobs are in flight and take
    turns: with one, joblib would not use Spark at all.
    """
    with on_spark(n_jobs=max(2, parallelism)):
        search = grid_search(**data, grid=first_candidates(candidates), folds=folds)
    return answer_of(search, folds)


def run_joblib_spark_published(
    data: dict[str, Any], *, spark: SparkSession, parallelism: int, folds: int, candidates: int
) -> dict[str, Any]:
    """GridSearchCV, joblib-spark as published.

    The first `PUBLISHED` candidates of the same search without the mend: one Spark job for each fit. Its threads would
    stay for good, so they are ended here, after the search.
    """
    grid = first_candidates(min(candidates, PUBLISHED))
    backend = SparkDistributedBackend()
    try:
        with parallel_config(backend, n_jobs=max(2, parallelism)):
            search = grid_search(**data, grid=grid, folds=folds)
    finally:
        end_threads(backend)
    return answer_of(search, folds)


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where the answers differ at all; of a smaller search, where its part of the other does."""
    folds = len(reference["fold_scores"][0])
    searched = len(answer["mean_test_score"])
    if answer.get("fits") == folds * searched < folds * len(reference["mean_test_score"]):
        means = reference["mean_test_score"][:searched]
        best = means.index(max(means))
        (chosen,) = ParameterGrid(first_candidates(searched)[best])
        part = {
            "fits": folds * searched,
            "mean_test_score": means,
            "fold_scores": reference["fold_scores"][:searched],
            "best_params": chosen,
            "best_score": means[best],
        }
        if chosen == reference["best_params"]:
            part["support_vectors"] = reference["support_vectors"]
        reference = part
    check_all(reference, answer)


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    found = run_joblib_spark(make_data(), spark=session, parallelism=2, folds=3, candidates=12)
    print(f"12 candidates, 3 folds: the best is {found['best_params']}, accuracy {found['best_score']:.3f}")
    session.stop()
