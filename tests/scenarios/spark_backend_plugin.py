# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that runs the tests of joblib or of scikit-learn on the Spark backend.

`SPARK_POOL_TESTS=joblib` adds the backend wherever a test of joblib runs for each backend; select them by
`-k spark-pool`. `SPARK_POOL_TESTS=sklearn` makes it what all calls of joblib use.
"""

import os
import re
from collections.abc import Iterator

import grid_search_spark_backend as scenario
import joblib
import pytest
from pyspark.sql import SparkSession

# Tests that cannot hold, by what matches all of their name, each with its reason.
BACKENDS = "back_compat_backend|loky|multiprocessing|spark-pool"
EXCEPTIONS = {
    rf"test_nested_loop\[({BACKENDS})-spark-pool\]": "a worker knows no spark-pool, and cannot start Spark tasks",
    r"test_backend_nesting_level\[\w+-spark-pool-.*": "the same: spark-pool is the inner backend",
    r"test_parallel_with_interactively_defined_functions\[.*": "a script of its own, which has not registered it",
    r"test_parallel_with_unpicklable_functions_in_args\[.*": "the same; our tests have such functions",
    r"test_error_capture\[.*": "looks for processes in a private attribute before the first call",
    r"test_dispatch_multiprocessing\[.*": "a manager's queue, which only children of this process may use",
    r"test_auto_memmap_on_arrays_from_generator\[.*": "wants np.memmap; workers have plain arrays, mapped read-only",
    r"test_memmapping_leaks\[.*": "the same",
    r"test_nested_parallelism_limit\[.*": "makes the name of the class from that of the backend",
    r"test_initializer_(context|parallel)\[.*": "the option is refused",
    # These fail by loky too.
    r"test_grid_search_cv_splits_consistency": "a generator as cv, which cannot be pickled",
    r"test_searchcv_raise_warning_with_non_finite_score\[.*": "a scorer that counts its calls in one process",
    r"test_search_callbacks_with_partial_fit_failures": "a class inside a function is pickled by its name",
    r"test_search_callbacks_receive_search_instance\[.*": "the very object is expected",
    r"test_multi_metric_search_forwards_metadata\[.*": "estimators note their calls in a list of one process",
    r"test_search_cv_verbose_3\[.*": "what workers print, this process does not",
}


def pytest_configure(config: pytest.Config) -> None:
    SparkSession.builder.master("local[2]").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    scenario.register_spark_pool()
    if os.environ["SPARK_POOL_TESTS"] == "sklearn":
        joblib.parallel_config("spark-pool", n_jobs=2)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for mark in metafunc.definition.iter_markers("parametrize"):
        values = mark.args[1]
        if isinstance(values, list) and "loky" in values and "spark-pool" not in values:
            values.append("spark-pool")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if any(re.fullmatch(name, item.name) for name in EXCEPTIONS)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert not [pool.name for pool in scenario.Pool.known if pool.busy]


def pytest_unconfigure(config: pytest.Config) -> None:
    scenario.stop_spark_pool()
