# SPDX-License-Identifier: Apache-2.0
"""Whatever runs through joblib answers on the Spark backend as it does alone: searches, ensembles, options."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grid_search_spark_backend as scenario
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from pyspark.sql import SparkSession
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFECV
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.scenarios.spark_backend_state import in_time, jobs_so_far, on_spark, pools  # noqa: F401

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("pools")]
X, y = make_classification(200, n_features=8, random_state=0)
GROUPS = np.arange(200) % 7
GRID = {"C": [0.1, 1.0, 10.0]}


def without_times(found: dict) -> dict:
    return {name: np.asarray(values).tolist() for name, values in found.items() if "time" not in name}


def randomized() -> object:
    search = RandomizedSearchCV(LogisticRegression(), {"C": np.logspace(-2, 2, 20)}, n_iter=5, random_state=0)
    return without_times(search.fit(X, y).cv_results_)


def halving() -> object:
    search = HalvingGridSearchCV(LogisticRegression(), GRID, cv=3, random_state=0, min_resources=40)
    return without_times(search.fit(X, y).cv_results_)


def validated() -> object:
    scores = ["accuracy", "roc_auc"]
    found = cross_validate(LogisticRegression(), X, y, scoring=scores, return_train_score=True, return_indices=True)
    indices = found.pop("indices")
    return without_times(found), [rows.tolist() for part in indices.values() for rows in part]


def by_group() -> object:
    search = GridSearchCV(LogisticRegression(), GRID, cv=GroupKFold(3))
    return without_times(search.fit(X, y, groups=GROUPS).cv_results_)


def features() -> object:
    return without_times(RFECV(LogisticRegression(), cv=3).fit(X, y).cv_results_)


def importance() -> object:
    model = LogisticRegression().fit(X, y)
    return permutation_importance(model, X, y, n_repeats=4, random_state=0).importances.tolist()


def bagging() -> object:
    model = BaggingClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=12, random_state=0)
    # Two workers add up the trees of two halves: the last digit may differ, as it does by loky.
    return model.fit(X, y).predict_proba(X).round(12).tolist()


def stacking() -> object:
    parts = [("tree", DecisionTreeClassifier(max_depth=3, random_state=0)), ("line", LogisticRegression())]
    return StackingClassifier(parts, cv=3).fit(X, y).predict_proba(X).tolist()


def nested() -> object:
    return cross_val_score(GridSearchCV(LogisticRegression(), GRID, cv=3), X, y, cv=4).tolist()


def routed() -> object:
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        search = GridSearchCV(model, GRID, cv=GroupKFold(3))
        search.fit(X, y, sample_weight=np.linspace(0.1, 2, len(y)), groups=GROUPS)
    return without_times(search.cv_results_)


def pandas_output() -> object:
    """Fails where a worker has not the setting: an array has no columns of such names."""
    pick = FunctionTransformer(lambda frame: frame[["x1", "x4"]])
    search = GridSearchCV(
        make_pipeline(StandardScaler(), pick, LogisticRegression()), {"logisticregression__C": [1, 9]}
    )
    with sklearn.config_context(transform_output="pandas"):
        search.fit(pd.DataFrame(X).add_prefix("x"), y)
    return without_times(search.cv_results_)


CASES = [
    *(randomized, halving, validated, by_group, features, importance, bagging, stacking, nested, routed),
    pandas_output,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_answer_is_that_of_one_process(spark: SparkSession, case: Callable[[], object]) -> None:
    expected, jobs = case(), jobs_so_far(spark)
    with on_spark():
        found = case()
    assert found == expected
    assert jobs_so_far(spark) > jobs, "it did not run on Spark"


@pytest.mark.parametrize("form", ["all", "n_jobs", "3 * n_jobs", 1, 5])
def test_every_form_of_pre_dispatch(form: str | int) -> None:
    made = []

    def calls(count: int) -> object:
        for i in range(count):
            made.append(i)
            yield joblib.delayed(pow)(i, 2)

    with on_spark():
        results = joblib.Parallel(pre_dispatch=form, return_as="generator")(calls(20))
        assert list(results) == [i**2 for i in range(20)]
    assert made == list(range(20))


@pytest.mark.parametrize("form", ["2 * m_jobs", "n_jobs +", None])
def test_a_call_that_never_begins_leaves_nothing(spark: SparkSession, form: str | None) -> None:
    with on_spark(), pytest.raises((TypeError, ValueError, KeyError, SyntaxError, AttributeError)):
        joblib.Parallel(pre_dispatch=form or "all")(5 if form is None else (joblib.delayed(abs)(i) for i in range(3)))
    assert scenario.Pool.known == []


def test_verbose_tells_the_progress(capfd: pytest.CaptureFixture) -> None:
    with on_spark():
        joblib.Parallel(verbose=10)(joblib.delayed(abs)(i) for i in range(12))
    told = "".join(capfd.readouterr())
    assert "Using backend SparkPoolBackend with 2 concurrent workers." in told
    assert "Done  12 out of  12" in told


def test_a_call_is_one_job_with_a_task_for_each_worker(spark: SparkSession) -> None:
    for count in (2, 3):
        number = jobs_so_far(spark)
        with on_spark(count):
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(40))
        scenario.stop_spark_pool()
        tracker = spark.sparkContext.statusTracker()
        (stage,) = tracker.getJobInfo(number).stageIds
        assert tracker.getStageInfo(stage).numTasks == count
        assert jobs_so_far(spark) == number + 1


def test_an_array_that_is_changed_between_two_calls_arrives_as_it_is_now() -> None:
    data = np.zeros(200_000)
    with on_spark(), joblib.Parallel(batch_size=1) as parallel:
        for value in (1.0, 2.0):
            data[:] = value
            found = parallel(joblib.delayed(lambda array: float(array.max()))(data) for _ in range(6))
            assert found == [value] * 6


def test_names_of_arrays_that_are_gone_do_not_pile_up(pools: list) -> None:  # noqa: F811
    with on_spark(), joblib.Parallel(batch_size=1) as parallel:
        for _ in range(3):
            parallel(joblib.delayed(float)(np.full(150_000, i).max()) for i in range(3))
            parallel(joblib.delayed(len)(np.full(150_000, float(i))) for i in range(40))
        assert all(len(names) <= 40 for names in pools[0].shared.followers)
    scenario.stop_spark_pool()
    assert pools[0].shared.followers == []


def test_one_of_two_calls_fails_and_the_other_goes_on() -> None:
    found, ready = [], threading.Event()

    def go_on() -> None:
        with on_spark():
            results = joblib.Parallel(batch_size=1, return_as="generator")(
                joblib.delayed(lambda i: time.sleep(0.05) or i)(i) for i in range(40)
            )
            found.append(next(results))
            ready.set()
            found.extend(results)

    thread = threading.Thread(target=go_on)
    thread.start()
    assert ready.wait(60)
    with on_spark(), pytest.raises(ZeroDivisionError):
        joblib.Parallel()(joblib.delayed(divmod)(1, 0) for _ in range(4))
    thread.join(120)
    assert found == list(range(40))


@pytest.mark.parametrize("inner", ["Spark", "joblib"])
def test_the_input_may_need_the_slots_that_the_calls_have(spark: SparkSession, inner: str) -> None:
    """joblib asks for the first calls in the thread that calls it, and for the others when results come."""

    def calls() -> Iterator:
        for i in range(6):
            if inner == "Spark":
                number = spark.range(i).count()
            else:
                number = sum(joblib.Parallel()(joblib.delayed(abs)(-1) for _ in range(i)))
            yield joblib.delayed(pow)(number, 2)

    def call() -> object:
        with on_spark():
            return joblib.Parallel(batch_size=1)(calls())

    assert in_time(spark, call) == [i**2 for i in range(6)]


def test_tasks_stay_while_the_input_takes_its_time(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario, "IDLE_SECONDS", 0.3)

    def meet(i: int, most: float = time.monotonic() + 60) -> int:
        (tmp_path / str(i)).touch()
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < most:
            time.sleep(0.01)
        return i

    def calls() -> Iterator:
        for i in range(4):
            time.sleep(0.6 * (i > 1))
            yield joblib.delayed(meet)(i)

    jobs = jobs_so_far(spark)
    with on_spark():
        assert joblib.Parallel(batch_size=1, pre_dispatch=2)(calls()) == [0, 1, 2, 3]
    assert jobs_so_far(spark) == jobs + 1


@pytest.mark.parametrize("order", ["list", "generator_unordered"])
@pytest.mark.parametrize("error", [SystemExit("row 3 is bad"), KeyboardInterrupt()], ids=repr)
def test_whatever_the_input_raises_is_raised(spark: SparkSession, error: BaseException, order: str) -> None:
    def calls() -> Iterator:
        for i in range(6):
            if i == 3:
                raise error
            yield joblib.delayed(abs)(i)

    def call() -> object:
        with on_spark():
            return list(joblib.Parallel(batch_size=1, pre_dispatch=1, return_as=order)(calls()))

    with pytest.raises(type(error)) as raised:
        in_time(spark, call)
    assert raised.value.args == error.args
