# SPDX-License-Identifier: Apache-2.0
"""In a copy of a grid search, replacing `make_data` is enough: other rows, labels that are text, another classifier."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import get_reusable_executor

from suite.plan.cells import Request, plan_cells, sweep_centre
from suite.plan.scenario import SCENARIOS, Scenario, load_scenario, matching_kwargs
from suite.run.answers import find_complaint, plain_answer

MAIN = 'if __name__ == "__main__":'
OWN_DATA = f"""def make_data(*, seed=0):
    X, y = make_classification(n_samples=90, n_classes=3, n_informative=4, random_state=seed)
    return {{"X": X, "y": np.array(["low", "mid", "high"])[y]}}


{MAIN}"""
IMPORTS = """from __future__ import annotations

import numpy as np
from sklearn.datasets import make_classification
from sklearn.tree import DecisionTreeClassifier
"""
OTHER_MODEL = {
    'SVC(gamma="auto")': "DecisionTreeClassifier(random_state=0)",
    r"GRID: .*?\n}\n": 'GRID = {"max_depth": [1, 2, None], "criterion": ["gini", "entropy"]}\n',
}


@pytest.fixture
def copy(tmp_path) -> Iterator[Any]:
    """Copies a recipe under another name, with data of one's own, and loads it."""

    def make(recipe: str, changes: dict[str, str]) -> Scenario:
        text = (SCENARIOS / f"{recipe}.py").read_text(encoding="utf-8")
        for old, new in {MAIN: OWN_DATA, "from __future__ import annotations\n": IMPORTS, **changes}.items():
            found = re.search(old, text, re.DOTALL) if old.startswith("GRID") else None
            old = found[0] if found else old
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path: Path = tmp_path / f"my_{recipe}.py"
        path.write_text(text, encoding="utf-8")
        return load_scenario(path)

    yield make
    get_reusable_executor().shutdown(wait=True)


def answers(scenario: Scenario, names: set[str], **given: Any) -> list[Any]:
    """The answer of each of these variants, at the centre of size smoke."""
    request = Request(size="smoke", slots=None, parallelism=(2,), folds=None, blocks=1, cores=2)
    assert plan_cells([scenario], request)  # `validate` has nothing against it
    values = {**sweep_centre(scenario, request), "parallelism": 2, **given}
    found = []
    for variant in scenario.variants:
        if variant.name in names:
            data = scenario.make_data(**matching_kwargs(scenario.make_data, values))
            found.append(plain_answer(variant.function(data=data, **matching_kwargs(variant.function, values))))
    assert len(found) == len(names)
    return found


@pytest.mark.parametrize("changes", [{}, OTHER_MODEL], ids=["labels", "model"])
def test_a_search_on_one_machine_takes_any_data_and_classifier(copy, changes):
    scenario = copy("grid_search_single_node", changes)
    serial, loky = answers(scenario, {"serial", "loky"})
    assert find_complaint(scenario.check, serial, loky) is None
    assert len(serial["mean_test_score"]) == 3
    assert (serial["support_vectors"] is None) == bool(changes)
    assert find_complaint(scenario.check, serial, {**loky, "best_score": 2.0})


@pytest.mark.spark
@pytest.mark.parametrize(
    ("recipe", "variant"),
    [("grid_search_spark_backend", "spark_pool"), ("grid_search_joblib_spark", "joblib_spark")],
)
def test_a_search_on_spark_takes_any_data(copy, recipe, variant, spark):
    alone = copy("grid_search_single_node", {})
    scenario = copy(recipe, {})
    try:
        (found,) = answers(scenario, {variant}, spark=spark)
    finally:
        scenario.release()
    (expected,) = answers(alone, {"serial"})
    assert find_complaint(scenario.check, expected, found) is None
