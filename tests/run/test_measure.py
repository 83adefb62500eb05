# SPDX-License-Identifier: Apache-2.0
"""How often a cell is called in each of its visits."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.plan.cells import Request, plan_cells
from suite.plan.scenario import load_scenario
from suite.run import measure
from suite.run.assignment import Assignment

RECIPE = """'Counts its calls'
import time

CALLS = []

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"ci": {"pause": PAUSE}}

def make_data():
    return 0

def run_it(data, *, pause):
    'It'
    time.sleep(pause)
    CALLS.append(pause)
    return {"data": data}

def check(reference, answer):
    assert answer == reference
"""


class Pedantic:
    """Calls as pytest-benchmark does."""

    def pedantic(self, call, *, setup, teardown, rounds, iterations):
        assert iterations == 1
        seconds = []
        for _ in range(rounds):
            setup()
            begin = measure.time.perf_counter()
            call()
            seconds.append(measure.time.perf_counter() - begin)
            teardown()
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=seconds))


@pytest.mark.parametrize(
    ("pause", "idle", "expected"),
    [
        (0.3, 1e9, [4, 1, 1]),
        (0.3, -1.0, [4, 2, 2]),  # it has waited for long: called once before it is timed
        (1.1, -1.0, [2, 1, 1]),  # what starts anew is small beside a call of a second
    ],
)
def test_a_short_variant_that_has_waited_is_called_once_untimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float, idle: float, expected: list[int]
) -> None:
    monkeypatch.setattr(measure, "IDLE_SECONDS", idle)
    path = tmp_path / f"{tmp_path.name}.py"  # each case is a module of its own
    path.write_text(RECIPE.replace("PAUSE", str(pause)))
    request = Request(size="ci", slots=None, parallelism=None, folds=None, blocks=1, cores=1)
    cells = plan_cells([load_scenario(path)], request)
    assignment = Assignment("b0", "run", str(tmp_path), "local[1]", {}, [str(path)], cells, 0)
    runner = measure.CellRunner(assignment)
    (variant,) = runner.scenarios[path.stem].variants
    made = variant.function.__globals__["CALLS"]
    calls = []
    for visit in assignment.visits():
        before = len(made)
        record = runner.visit(cells[0], visit, Pedantic(), lambda: None, lambda: None)
        calls.append(len(made) - before)
    assert calls == expected
    assert record.status == "ok"
    assert len(record.warm_seconds) == 2
