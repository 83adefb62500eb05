# SPDX-License-Identifier: Apache-2.0
"""How often a cell is called in each of its visits."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.errors import InvalidCellError
from suite.plan.cells import Cell, Request, plan_cells
from suite.plan.scenario import load_scenario, load_scenarios
from suite.records import Record
from suite.run import measure
from suite.run.assignment import Assignment

RECIPE = """'Counts its calls'
import time

CALLS, SLOW_AT_FIRST = [], 0

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"ci": {"pause": PAUSE}}

def make_data():
    return 0

def run_it(data, *, pause):
    'It'
    time.sleep(pause + (SLOW_AT_FIRST if len(CALLS) < 2 else 0))
    CALLS.append(pause)
    return {"data": data}

def check(reference, answer):
    assert answer == reference
"""


class Clock:
    """A clock that only sleeping moves: a busy machine changes no number of calls."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


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
    ("seconds", "steady"),
    [
        ([1.0] * 5, False),  # too few to tell
        ([1.0] * 6, True),
        ([2.0, 1.5, 1.2, 1.1, 1.0, 0.9], False),
        ([9.0, 1.0, 1.3, 1.0, 2.0, 0.96, 1.2, 1.0], True),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 0.94], False),
    ],
)
def test_calls_are_steady_where_the_best_of_three_is_hardly_better_than_that_of_the_three_before(seconds, steady):
    assert measure.is_steady(seconds) is steady


@pytest.mark.parametrize(
    ("pause", "budget", "expected"),
    [
        (0.02, 0.0, 2),  # a smoke test; the second answer confirms the first
        (0.02, 10.0, 6),  # steady
        (0.3, 1.0, 4),
        (0.001, 0.4, 2),  # two calls for 0.4 seconds at most, however short they are
    ],
)
def test_a_short_variant_is_called_untimed_until_it_is_steady_or_has_had_its_seconds(tmp_path, pause, budget, expected):
    assert called(tmp_path, pause, budget)[0] == [expected, 1, 1]


@pytest.mark.parametrize(
    ("pause", "idle", "expected"),
    [
        (0.3, 1e9, [4, 1, 1]),
        (0.3, -1.0, [4, 5, 5]),  # it has waited for long: warmed up again before it is timed
        (1.1, -1.0, [2, 1, 1]),  # what starts anew is small beside a call of a second
    ],
)
def test_a_short_variant_that_has_waited_is_warmed_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: float, idle: float, expected: list[int]
) -> None:
    monkeypatch.setattr(measure, "IDLE_SECONDS", idle)
    calls, record = called(tmp_path, pause, 1.0)
    assert calls == expected
    assert record.status == "ok"
    assert record.warm_seconds == pytest.approx([pause, pause])
    assert record.spent["calls"] == pytest.approx(sum(expected) * pause)
    assert record.spent["harness"] == pytest.approx(0)


def test_a_variant_is_short_where_it_becomes_so_in_its_untimed_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "IDLE_SECONDS", -1.0)
    monkeypatch.setattr(measure, "SHORT_CALL", 0.2)
    monkeypatch.setitem(globals(), "RECIPE", RECIPE.replace("SLOW_AT_FIRST = [], 0", "SLOW_AT_FIRST = [], 0.3"))
    untimed, *timed = called(tmp_path, 0.05, 0.9)[0]
    assert untimed > 2
    assert all(calls > 2 for calls in timed)


def test_in_a_smoke_test_a_short_variant_that_has_waited_is_called_once_untimed(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "IDLE_SECONDS", -1.0)
    assert called(tmp_path, 0.02, 0.0)[0] == [2, 2, 2]


def test_a_call_that_wants_other_processes_than_the_one_before_is_made_once_untimed(tmp_path):
    """loky has one pool of processes, and starts them anew when their number changes."""
    path = tmp_path / "processes.py"
    text = (
        RECIPE.replace("PAUSE", "0.0").replace("*, pause", "*, pause, parallelism").replace("(pause)", "(parallelism)")
    )
    path.write_text(text.replace("time.sleep(parallelism)", "time.sleep(0)"))
    request = Request(size="ci", slots=None, parallelism=(1, 2), folds=None, blocks=1, cores=2)
    cells = plan_cells([load_scenario(path)], request)
    assignment = Assignment("b0", "run", str(tmp_path), "local[1]", {}, [str(path)], cells, 0, warm_seconds=0.0)
    runner = measure.CellRunner(assignment)
    made = runner.scenarios["processes"].variants[0].function.__globals__["CALLS"]
    for visit in assignment.visits():
        runner.visit(cells[visit.position], visit, Pedantic(), lambda: None, lambda: None)
    first, second = (cell.factors["parallelism"] for cell in cells)
    # There and back: the second cell comes twice in a row, and is called untimed the first time only.
    assert made[-7:] == [first, first, second, second, second, first, first]


def test_where_joblib_starts_no_processes_nothing_without_spark_has_a_time_as_parallel(tmp_path, monkeypatch):
    path = tmp_path / "no_processes.py"
    path.write_text(RECIPE.replace("PAUSE", "0").replace("*, pause", "*, pause, parallelism=1"))
    request = Request(size="ci", slots=None, parallelism=(2, 1), folds=None, blocks=1, cores=2)
    cells = plan_cells([load_scenario(path)], request)
    assignment = Assignment("b0", "run", str(tmp_path), "local[1]", {}, [str(path)], cells, 0, warm_seconds=0.0)
    runner = measure.CellRunner(assignment)
    monkeypatch.setattr(measure, "why_no_processes", lambda: "there is no /dev/shm")
    for visit in assignment.visits():
        cell = cells[visit.position]
        if cell.factors["parallelism"] == 1:
            runner.visit(cell, visit, Pedantic(), lambda: None, lambda: None)
        else:
            with pytest.raises(InvalidCellError, match="no processes, since there is no /dev/shm"):
                runner.visit(cell, visit, Pedantic(), lambda: None, lambda: None)


def test_a_recipe_that_goes_to_another_folder_at_its_import_is_called_there_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    text = RECIPE.replace("PAUSE", "0").replace('return {"data": data}', "return os.getcwd()")
    paths = [tmp_path / "goes_away.py", tmp_path / "stays_here.py"]
    for path, line in zip(paths, ("os.chdir('there')", ""), strict=True):
        path.write_text(text.replace("import time\n", f"import os, time\n{line}\n"))
    request = Request(size="ci", slots=None, parallelism=None, folds=None, blocks=1, cores=1)
    cells = plan_cells(load_scenarios(paths)[0], request)
    for path in paths:
        del sys.modules[path.stem]  # of the parent; the child imports them anew
    assignment = Assignment("b0", "run", ".", "local[1]", {}, [str(path) for path in paths], cells, 0, warm_seconds=0.0)
    runner = measure.CellRunner(assignment)
    places = [(cells[v.position], v) for v in assignment.visits()]
    made = [runner.visit(cell, visit, Pedantic(), lambda: None, lambda: None) for cell, visit in places]
    answers = {record.scenario: record.answer for record in made if record}
    assert answers == {"goes_away": str(tmp_path / "there"), "stays_here": str(tmp_path)}


def called(tmp_path: Path, pause: float, warm_seconds: float) -> tuple[list[int], Record]:
    """How often each visit called a recipe that sleeps, and the record that was made in the end."""
    path = tmp_path / f"{tmp_path.name}.py"  # each case is a module of its own
    path.write_text(RECIPE.replace("PAUSE", str(pause)))
    request = Request(size="ci", slots=None, parallelism=None, folds=None, blocks=1, cores=1)
    cells = plan_cells([load_scenario(path)], request)
    assignment = Assignment(
        "b0", "run", str(tmp_path), "local[1]", {}, [str(path)], cells, 0, warm_seconds=warm_seconds
    )
    runner = measure.CellRunner(assignment)
    (variant,) = runner.scenarios[path.stem].variants
    made = variant.function.__globals__["CALLS"]
    calls, clock = [], Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "time", clock)
        patch.setitem(variant.function.__globals__, "time", clock)
        for visit in assignment.visits():
            before = len(made)
            record = runner.visit(cells[0], visit, Pedantic(), lambda: None, lambda: None)
            calls.append(len(made) - before)
    assert record is not None
    return calls, record


def test_a_jvm_that_does_not_start_is_explained_by_what_it_wrote_this_time(tmp_path, monkeypatch):
    log = tmp_path / "logs" / "b0.log"
    log.parent.mkdir()
    log.write_text("Invalid thing of an earlier attempt\n")

    def start(runner, slots):
        log.write_text(f"{log.read_text()}Invalid maximum heap size: -Xmxjunk\nError: Could not create\n")
        raise OSError("[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.")

    monkeypatch.setattr(measure.CellRunner, "_start", start)
    runner = measure.CellRunner(Assignment("b0", "run", str(tmp_path), "local[1]", {}, [], [], 0))
    cell = SimpleNamespace(session=1)
    for _ in range(2):  # the second finds that the first has failed
        with pytest.raises(RuntimeError) as error:
            runner.start_session(cell)
        why = "Java did not start: Invalid maximum heap size: -Xmxjunk"
        assert str(error.value) == f"no Spark session: {why}: see logs/b0.log"
    assert log.read_text().count("-Xmxjunk") == 1


PREPARES = """'Prepares its data by a factor of its own'

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"ci": {"partitions": (2, 8)}}

def make_data(*, seed=0):
    return "data"

def prepare(data, *, spark, partitions):
    return data, partitions

def run_it(data, *, spark):
    return data

def check(reference, answer):
    assert answer == reference
"""


def runner_of(tmp_path: Path, name: str, text: str) -> tuple[measure.CellRunner, list[Cell]]:
    """A runner of a recipe, and its cells."""
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    request = Request(size="ci", slots=None, parallelism=None, folds=None, blocks=1, cores=2)
    cells = plan_cells([load_scenario(path)], request)
    assignment = Assignment("b0", "run", str(tmp_path), "local[1]", {}, [str(path)], cells, 0, warm_seconds=0.0)
    return measure.CellRunner(assignment), cells


def test_data_are_prepared_for_each_value_of_a_factor_that_only_prepare_takes(tmp_path):
    runner, cells = runner_of(tmp_path, "prepares", PREPARES)
    runner.spark = "a session"
    found = {cell.factors["partitions"]: runner._data_for(runner.scenarios["prepares"], cell) for cell in cells}
    assert found == {2: ("data", 2), 8: ("data", 8)}


BAD_RELEASE = """
def run_raises(data):
    raise KeyError("of the variant")

def release():
    raise SystemExit("no such pool")
"""


def test_a_release_that_raises_is_named_and_spoils_no_more_than_one_call(tmp_path):
    text = RECIPE.replace("PAUSE", "0").replace("def check", "run_next = lambda data: {'data': data}\n\ndef check")
    runner, cells = runner_of(tmp_path, "bad_release", text + BAD_RELEASE)
    of = {cell.variant: cell for cell in cells}
    first = runner.assignment.visits()[0]

    def visit(variant: str) -> None:
        runner.visit(of[variant], first, Pedantic(), lambda: None, lambda: None)

    visit("it")
    with pytest.raises(RuntimeError, match=r"release in bad_release\.py, after it: SystemExit: no such pool"):
        visit("next")
    with pytest.raises(KeyError, match="of the variant"):
        visit("raises")
    visit("next")
