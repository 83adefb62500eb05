# SPDX-License-Identifier: Apache-2.0
"""The single-node grid search: right answers, equal variants, nothing left behind but the warm pool."""

import copy
import os
import threading
from collections.abc import Iterator

import grid_search_single_node as scenario
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import ParameterGrid
from sklearn.svm import SVC


@pytest.fixture(scope="module")
def data() -> dict:
    return scenario.make_data()


@pytest.fixture(autouse=True, scope="module")
def _no_workers_left() -> Iterator[None]:
    yield
    scenario.stop_workers()


def plain_folds(y: np.ndarray, folds: int) -> np.ndarray:
    """The fold that tests each row, by definition: the rows of a class, in order, in equal shares."""
    fold_of = np.empty(len(y), dtype=int)
    # scikit-learn deals the rows of one class after the other to the folds; each class goes on where the last ended.
    order = np.sort(y)
    shares = np.array([np.bincount(order[fold::folds], minlength=y.max() + 1) for fold in range(folds)])
    for label in np.unique(y):
        fold_of[y == label] = np.repeat(np.arange(folds), shares[:, label])
    return fold_of


@pytest.mark.parametrize("dataset", ["synthetic", "digits"])
def test_scores_and_choice_are_those_of_plain_loops(dataset: str) -> None:
    data = scenario.make_data(dataset=dataset)
    X, y = data["X"], data["y"]
    folds, candidates = 3, 5
    fold_of = plain_folds(y, folds)
    grid = [{k: v[0] for k, v in c.items()} for c in scenario.first_candidates(candidates)]
    expected = []
    for params in grid:
        model = SVC(gamma="auto", **params)
        expected.append(
            [
                accuracy_score(
                    y[fold_of == f],
                    clone(model).fit(X[fold_of != f], y[fold_of != f]).predict(X[fold_of == f]),
                )
                for f in range(folds)
            ]
        )
    best = int(np.argmax(np.mean(expected, axis=1)))

    answer = scenario.run_serial(data, folds=folds, candidates=candidates)

    assert answer["fold_scores"] == expected
    assert answer["mean_test_score"] == pytest.approx(np.mean(expected, axis=1), abs=1e-12)
    assert answer["best_params"] == grid[best]
    assert answer["best_score"] == answer["mean_test_score"][best]
    assert answer["support_vectors"] == SVC(gamma="auto", **grid[best]).fit(X, y).n_support_.tolist()


@pytest.mark.parametrize("parallelism", [1, 2])
def test_loky_gives_the_same_answer(data: dict, parallelism: int) -> None:
    reference = scenario.run_serial(data, folds=3, candidates=6)
    answer = scenario.run_loky(data, parallelism=parallelism, folds=3, candidates=6)
    scenario.check(reference, answer)
    assert answer == reference


def test_answers_are_plain_json(data: dict) -> None:
    import json

    answer = scenario.run_serial(data, folds=2, candidates=3)
    assert json.loads(json.dumps(answer)) == answer


def test_full_grid_is_the_48_of_the_issue_and_each_comes_once() -> None:
    full = scenario.first_candidates(48)
    assert sorted(map(str, full)) == sorted(str({k: [v] for k, v in c.items()}) for c in ParameterGrid(scenario.GRID))


@pytest.mark.parametrize("count", [6, 8, 12])
def test_a_small_search_is_spread_over_the_grid(count: int) -> None:
    picked = scenario.first_candidates(count)
    assert picked == scenario.first_candidates(48)[:count]
    assert {c["kernel"][0] for c in picked} == set(scenario.GRID["kernel"])
    assert {c["shrinking"][0] for c in picked} == {True, False}
    assert len({c["C"][0] for c in picked}) >= 5


def test_a_candidate_that_fails_stops_the_search(data: dict) -> None:
    with pytest.raises(ValueError, match="kernel"):
        scenario.grid_search(**data, grid={"kernel": ["rbf", "no such kernel"]}, folds=2)


def _environment() -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def test_loky_pins_threads_keeps_its_pool_and_stop_workers_ends_it(data: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what this process may use must not reach the workers
    scenario.stop_workers()
    before = set(threading.enumerate())
    scenario.run_loky(data, parallelism=2, folds=2, candidates=2)

    pool = scenario.get_reusable_executor(reuse=True)
    workers = set(pool._processes)
    assert len(workers) == 2
    scenario.run_loky(data, parallelism=2, folds=2, candidates=2)
    assert set(scenario.get_reusable_executor(reuse=True)._processes) == workers
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=1):
        seen = joblib.Parallel()(joblib.delayed(_environment)() for _ in range(4))
    assert {pid for pid, _ in seen} <= workers
    assert {threads for _, threads in seen} == {"1"}

    scenario.stop_workers()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert [t.name for t in set(threading.enumerate()) - before if t.is_alive()] == []


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"folds": 1}, "folds=1: choose at least 2"),
        ({"candidates": 0}, "candidates=0: choose 1 to 48, the size of the grid"),
        ({"candidates": 49}, "candidates=49: choose 1 to 48, the size of the grid"),
    ],
)
def test_validate_names_the_factor_and_what_is_possible(factors: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        scenario.validate(**{"folds": 3, "candidates": 8, **factors})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", ["smoke", "ci", "full"])
def test_every_value_of_the_sizes_is_valid(size: str) -> None:
    swept = {k: v if isinstance(v, tuple) else (v,) for k, v in scenario.SIZES[size].items()}
    for factors in ParameterGrid(swept):
        scenario.validate(folds=factors["folds"], candidates=factors["candidates"])
        scenario.make_data(dataset=factors["dataset"])


def test_validate_makes_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(scenario, "make_data")
    scenario.validate(folds=10**6, candidates=8)


def test_an_unknown_dataset_is_named() -> None:
    with pytest.raises(ValueError, match="dataset='iris' is unknown: choose 'synthetic' or 'digits'"):
        scenario.make_data(dataset="iris")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mean_test_score", lambda v: [v[0] + 1e-3, *v[1:]], r"mean_test_score\[0\]"),
        ("mean_test_score", lambda v: v[:-1], "mean_test_score is"),
        ("fold_scores", lambda v: [*v[:-1], [0.0, *v[-1][1:]]], r"fold_scores\[2\]"),
        ("best_params", lambda v: {**v, "C": 99}, "best_params is"),
        ("best_score", lambda v: float("nan"), "best_score is nan"),
        ("support_vectors", lambda v: [v[0] - 1, *v[1:]], r"support_vectors\[0\]"),
        ("support_vectors", lambda v: None, "support_vectors is None"),
    ],
)
def test_check_refuses_an_altered_answer(data: dict, name: str, change: object, message: str) -> None:
    reference = scenario.run_serial(data, folds=2, candidates=3)
    scenario.check(reference, copy.deepcopy(reference))
    with pytest.raises(AssertionError, match=message):
        scenario.check(reference, {**reference, name: change(reference[name])})
