# SPDX-License-Identifier: Apache-2.0
"""Fits that keep a core busy: what they learn, how many there are, and the same answer by every way that is here."""

import inspect
import sys
import time
from importlib.util import find_spec

import grid_search_peers
import joblib
import numpy as np
import parallel_break_even as scenario
import pytest
from grid_search_single_node import stop_workers
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from suite.plan.cells import Request, plan_cells
from suite.plan.scenario import SCENARIOS, load_scenario

FACTORS = {"fit_seconds": 0.002, "megabytes": 0.01, "call_seconds": 0.04}


def needs(variant):
    package = scenario.REQUIRES[variant]
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed (tox -e peers has it)")


@pytest.fixture(scope="module")
def data():
    return scenario.make_data(megabytes=FACTORS["megabytes"])


@pytest.mark.parametrize(("megabytes", "rows"), [(0.00001, 1), (0.001, 7), (1, 7812)])
def test_x_has_the_size_that_is_asked_for(megabytes, rows):
    X = scenario.make_data(megabytes=megabytes)
    assert X.shape == (rows, 16)
    assert X.nbytes <= max(megabytes * 1e6, 128)
    assert np.array_equal(X, scenario.make_data(megabytes=megabytes))
    assert not np.array_equal(X, scenario.make_data(megabytes=megabytes, seed=1))


@pytest.mark.parametrize("shape", [(7, 16), (1000, 16)])
def test_a_fit_learns_what_its_candidate_reads_of_x(shape):
    X = np.random.default_rng(0).integers(0, 1000, shape).astype(float)
    step = max(1, X.size // 1000)
    for candidate in (0, 1, 30):
        picked = [X.flat[i] for i in range(candidate % step, X.size, step)]
        model = clone(scenario.BusyEstimator(0.0, candidate)).fit(X)
        assert model.total_ == sum(picked) * (candidate + 1)
    other = X.copy()
    other[0, 0] += 1
    assert scenario.BusyEstimator(0.0).fit(other).total_ == scenario.BusyEstimator(0.0).fit(X).total_ + 1


def test_a_fit_takes_the_cpu_time_that_it_states(data):
    begin = time.thread_time()
    scenario.BusyEstimator(0.02).fit(data)
    assert time.thread_time() - begin >= 0.02  # never less, however busy the machine is


@given(fit_seconds=st.floats(1e-4, 100), megabytes=st.floats(1e-4, 1e5), call_seconds=st.floats(0.01, 100))
def test_a_slot_makes_at_least_one_fit_and_no_more_than_its_limits_allow(fit_seconds, megabytes, call_seconds):
    count = scenario.fits_of_slot(fit_seconds, megabytes, call_seconds)
    assert 1 <= count <= scenario.MOST_FITS
    if count > 1:
        assert count * megabytes <= scenario.MOST_MEGABYTES
        assert count * fit_seconds <= call_seconds + fit_seconds


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_factors_are_above_zero(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        scenario.validate(**{**FACTORS, name: 0})


def test_the_full_sweep_has_the_range_of_the_question_and_every_combination_of_it():
    lengths, sizes = (scenario.SIZES["full"][name] for name in scenario.CROSSED)
    assert (min(lengths), max(lengths), min(sizes), max(sizes)) == (0.001, 10, 0.001, 200)
    request = Request("full", None, (2,), None, blocks=1, cores=2)
    cells = plan_cells([load_scenario(SCENARIOS / "parallel_break_even.py")], request)
    for variant in ("serial", "loky", "joblib_spark", "spark_pool", "dask", "ray"):
        ran = [(c.factors["fit_seconds"], c.factors["megabytes"]) for c in cells if c.variant == variant]
        assert sorted(ran) == sorted((length, size) for length in lengths for size in sizes)


@pytest.mark.parametrize("variant", sorted(scenario.REQUIRES))
def test_a_peer_is_skipped_with_its_reason_where_it_is_not_installed(variant):
    scenarios = [load_scenario(SCENARIOS / f"{name}.py") for name in ("parallel_break_even", "grid_search_single_node")]
    peers = load_scenario(SCENARIOS / "grid_search_peers.py")
    cells = plan_cells([*scenarios, peers], Request("smoke", None, None, None, blocks=1, cores=2))
    package = scenario.REQUIRES[variant]
    reasons = {(cell.scenario, cell.skip) for cell in cells if cell.variant == variant}
    reason = None if find_spec(package) else f"it needs the package {package}, which is not installed here"
    assert reasons == {("parallel_break_even", reason), ("grid_search_peers", reason)}


def answer(variant, data, spark):
    function = getattr(scenario, f"run_{variant}")
    given = {"spark": spark, "parallelism": 2, **FACTORS}
    return function(data, **{name: given[name] for name in inspect.signature(function).parameters if name in given})


@pytest.mark.spark
@pytest.mark.parametrize(
    "variant", ["loky", "joblib_spark", "spark_pool", *(pytest.param(v, marks=needs(v)) for v in ("dask", "ray"))]
)
def test_every_way_makes_the_fits_of_each_slot_with_the_answer_of_the_serial_one(variant, data, spark):
    spark.sparkContext.addPyFile(scenario.__file__)  # as the suite does
    reference = scenario.run_serial(data, **FACTORS)
    try:
        found = answer(variant, data, spark)
    finally:
        scenario.release()
        stop_workers()
    assert reference["fits"] == 20
    assert found["fits"] == 40
    scenario.check(reference, found)


def test_workers_need_no_sibling(data, monkeypatch):
    """Executors of other machines import this file alone: it imports its siblings where it uses them."""
    for sibling in ("grid_search_spark_backend", "grid_search_joblib_spark", "grid_search_peers"):
        monkeypatch.setitem(sys.modules, sibling, None)
    monkeypatch.delitem(sys.modules, "parallel_break_even")
    import parallel_break_even as anew

    assert anew.BusyEstimator(0.0).fit(data).total_ == scenario.BusyEstimator(0.0).fit(data).total_


def test_a_fit_of_any_slot_that_learned_something_else_is_named():
    reference = {"fits": 2, "totals": [[1.0, 2.0]]}
    scenario.check(reference, {"fits": 4, "totals": [[1.0, 2.0]]})
    with pytest.raises(AssertionError, match=r"candidate 1 gave 3\.0, expected 2\.0"):
        scenario.check(reference, {"fits": 4, "totals": [[1.0, 2.0], [1.0, 3.0]]})
    with pytest.raises(AssertionError, match="3 fits"):
        scenario.check(reference, {"fits": 3, "totals": [[1.0, 2.0]]})
    with pytest.raises(ValueError):
        scenario.check(reference, {"fits": 4, "totals": [[1.0]]})


def test_one_cluster_is_kept_for_the_next_call_and_another_ends_it():
    events = []

    def start(name):
        def begin(stack, n_jobs):
            events.append(f"start {name} {n_jobs}")
            stack.callback(events.append, f"stop {name} {n_jobs}")

        return begin

    try:
        for name, n_jobs in (("a", 2), ("a", 2), ("a", 3), ("b", 3)):
            grid_search_peers.keep_running(name, n_jobs, start(name))
    finally:
        grid_search_peers.stop_cluster()
    grid_search_peers.stop_cluster()
    assert events == ["start a 2", "stop a 2", "start a 3", "stop a 3", "start b 3", "stop b 3"]


def test_a_cluster_that_does_not_start_is_ended_and_not_kept():
    ended = []

    def begin(stack, n_jobs):
        stack.callback(ended.append, n_jobs)
        raise RuntimeError("no port")

    with pytest.raises(RuntimeError, match="no port"):
        grid_search_peers.keep_running("a", 2, begin)
    assert ended == [2]
    assert grid_search_peers.running == []
    assert joblib.parallel.get_active_backend()[0].__class__.__name__ == "LokyBackend"
