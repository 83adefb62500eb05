# SPDX-License-Identifier: Apache-2.0
"""The run loop from outside: whatever a recipe does, each planned cell gets its record and nothing stays behind."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from suite import records
from suite.cli import main
from suite.cluster.description import Cluster
from suite.errors import UsageError
from suite.machine import environment
from suite.records import Record
from suite.run import command
from suite.run.loop import PlannedRun, lock_run_folder
from suite.run.options import BenchOptions
from suite.run.plan_file import check_same_machine, check_same_plan
from suite.run.request import (
    check_data,
    check_master,
    check_settings,
    make_request,
    note_on_data,
    note_on_links,
)
from tests.nightly import others_at_night

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "tests" / "recipes"
BROKEN = "broken.py: it does not import: ModuleNotFoundError: No module named 'no_such_package'"


SHM = Path("/dev/shm")

# Says when its cell is being worked on, and does not end. The array is large enough to be shared memory.
ENDLESS = """'Does not end'
import os, time
from pathlib import Path

# --- benchmark: delete from here on when copying ------------------------
SIZES = {{"smoke": {{"rows": 1_000_000}}}}

def make_data(*, rows):
    return list(range(rows))

def work(numbers):
    (Path(os.environ["WORKING"]) / str(os.getpid())).touch()
    time.sleep(600)

{run}

def check(reference, answer):
    pass
"""
RUNS = {
    "serial": """
def run_serial(data):
    'Serial'
    work(data)
""",
    "loky": """
def run_loky(data, *, parallelism):
    'By loky'
    import numpy
    from joblib import Parallel, delayed
    Parallel(n_jobs=2)(delayed(work)(numpy.array(data)) for _ in range(2))
""",
    "spark": """
def run_spark(data, *, spark):
    'On Spark'
    spark.sparkContext.parallelize([0, 1], 2).map(work).count()
""",
}


def shared_memory() -> dict[str, int]:
    """What joblib and loky have there now, each with the id of the process that made it."""
    names = [path.name for path in SHM.iterdir()] if SHM.is_dir() else []
    found = {name: re.search(r"(?:joblib_memmapping_folder_|loky-)(\d+)", name) for name in names}
    return {name: int(pid[1]) for name, pid in found.items() if pid}


class Bench:
    """Runs `bench` with a temporary folder of its own, so that what it leaves there can be seen."""

    def __init__(self, folder: Path):
        self.out = folder / "out"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.working = folder / "working"
        self.working.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "WORKING": str(self.working)}
        self.shared_before = shared_memory()

    def start(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "suite", "bench", *words, "--out", str(self.out)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def records(self) -> list[Record]:
        return records.read(self.out / "records.jsonl")

    def by_variant(self) -> dict[str, Record]:
        return {record.variant: record for record in self.records()}

    def planned(self) -> set[str]:
        return {cell["id"] for cell in json.loads((self.out / "plan.json").read_text())["cells"]}

    def left_behind(self) -> list[str]:
        """Processes that belong to this run, files in its temporary folder, and shared memory of the dead."""
        mine = []
        for process in psutil.process_iter():
            try:
                if str(self.temporary) in process.environ().get("TMPDIR", "") and process.status() != "zombie":
                    mine.append(" ".join(process.cmdline())[:100])
            except psutil.Error:
                continue
        mine += [path.name for path in self.temporary.iterdir() if not path.name.startswith("hsperfdata")]
        # What has a living owner may be that of another program's process.
        new = shared_memory().items() - self.shared_before.items()
        return mine + [name for name, pid in new if not psutil.pid_exists(pid)]

    def wait_until(self, there: Callable[[], Any], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not there() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert there(), self.left_behind()


def plain_without(*variants: str) -> str:
    text = (RECIPES / "plain.py").read_text()
    for bad in variants:
        text = text.replace(f"def run_{bad}", f"def unused_{bad}")
    return text


@pytest.fixture
def tame(tmp_path) -> Path:
    """The plain recipe without what misbehaves."""
    recipe = tmp_path / "recipes" / "tame.py"
    recipe.parent.mkdir()
    recipe.write_text(plain_without("raises", "wrong", "not_json", "nothing", "hangs", "dies"))
    return recipe


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    assert bench.left_behind() == []


def test_blocks_without_time_are_left_out_and_resumed(bench, tame):
    code, said = bench.run(str(tame), "--size", "smoke", "--blocks", "3", "--minutes", "0.001")
    assert code == 0
    found = bench.records()
    assert {record.id for record in found} == bench.planned()
    assert {record.status for record in found if record.block == 0} == {"ok"}
    later = [record for record in found if record.block > 0]
    assert {record.status for record in later} == {"skipped"}
    assert {record.reason for record in later} == {"left out: no time for another block within 0.001 minutes"}
    assert {tuple(record.caveats) for record in later} == {()}
    # Not shown as cells that failed, but as blocks that there are not.
    assert "2 blocks of 3 left out for lack of time" in said
    assert "have no time" not in said
    assert f"python -m suite bench --resume --out {bench.out}" in said
    code, said = bench.run("--resume")
    assert code == 0
    assert {record.status for record in bench.records()} == {"ok"}
    assert "left out" not in said
    # What all blocks tell of a cell is told anew when there are more.
    assert {record.caveats[0] for record in bench.records()} == {"only 3 blocks, no 95 % interval"}


def test_what_the_driver_had_is_recorded_before_and_after(bench, tame):
    assert bench.run(str(tame), "--size", "smoke", "--blocks", "1")[0] == 0
    drivers = json.loads((bench.out / "environment.json").read_text())["drivers"]
    for when in ("before", "after"):
        # Of the child itself, not of the parent that starts it.
        assert set(drivers[when]["threads"].values()) == {"1"}
        assert set(drivers[when]["pools"].values()) <= {1}
        assert drivers[when]["versions"]["pytest"]
        assert {"load_average", "steal_seconds", "mhz", "cpu_quota", "memory_limit_gib"} <= drivers[when].keys()
    # What only all blocks together tell is in the records too.
    assert {tuple(record.caveats) for record in bench.records()} == {("only 1 block, no 95 % interval",)}


def test_every_way_to_misbehave_without_spark_gets_its_record(bench):
    code, said = bench.run(str(RECIPES / "plain.py"), "--size", "smoke", "--blocks", "1", "--timeout", "15")
    assert code == 1
    found = bench.by_variant()
    assert {record.id for record in bench.records()} == bench.planned()
    assert {name: record.status for name, record in found.items()} == {
        "good": "ok",
        "processes": "ok",
        "raises": "failed",
        "wrong": "invalid",
        "not_json": "invalid",
        "nothing": "invalid",
        "hangs": "timeout",
        "dies": "failed",
    }
    assert found["raises"].reason == "RuntimeError: the cause"
    assert "differs from that of plain.good: AssertionError: total is" in found["wrong"].reason
    assert "not plain JSON" in found["not_json"].reason
    assert "its answer is None" in found["nothing"].reason
    said = "no news for 15 s since its first call began (--timeout gives more): see logs/b0-nospark.log"
    assert found["hangs"].reason == said
    assert found["dies"].reason == "its process ended with exit code 3: see logs/b0-nospark.log"
    assert "RuntimeError: the cause" in (bench.out / "logs" / "b0-nospark.log").read_text()
    # A time only where the answer is right.
    assert all((record.seconds is not None) == (record.status == "ok") for record in bench.records())
    assert "Traceback" not in said


LEAVES = """'Leaves by itself'
import sys

import pytest

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"smoke": {"rows": (1, 0)}}

def make_data(*, rows):
    return rows or sys.exit("no such file")

def run_good(data):
    return data

def run_exits(data):
    sys.exit(3)

def run_skips(data):
    pytest.skip("not here")

def check(reference, answer):
    assert answer == reference
"""


def test_who_leaves_by_exit_or_skip_has_failed_with_that_as_reason_in_the_one_process(bench, tmp_path):
    recipe = tmp_path / "leaves.py"
    recipe.write_text(LEAVES)
    assert bench.run(str(recipe), "--size", "smoke", "--blocks", "1")[0] == 1
    found = {(record.variant, record.factors["rows"]): (record.status, record.reason) for record in bench.records()}
    assert found.pop(("good", 1)) == ("ok", None)
    assert found.pop(("exits", 1)) == ("failed", "SystemExit: 3")
    assert found.pop(("skips", 1)) == ("failed", "Skipped: not here")
    assert set(found.values()) == {("failed", "SystemExit: no such file")}
    assert (bench.out / "logs" / "b0-nospark.log").read_text().count(" passed") == 1


OTHER_SESSIONS = """'Starts or stops a session'
from pyspark.sql import SparkSession

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"smoke": {}}

def make_data():
    return 6

def run_good(data):
    return data

def run_own_session(data):
    spark = SparkSession.builder.master("local[1]").getOrCreate()
    return spark.range(data).count()

def run_own_session_too(data):
    return run_own_session(data)

def run_stops(data, *, spark):
    found = spark.range(data).count()
    spark.stop()
    return found

def check(reference, answer):
    assert answer == reference
"""


@pytest.mark.spark
def test_a_session_is_the_suites_to_start_and_to_stop(bench, tmp_path):
    recipe = tmp_path / "other_sessions.py"
    recipe.write_text(OTHER_SESSIONS)
    bench.run(str(recipe), "--size", "smoke", "--blocks", "1", "--slots", "2")
    found = {variant: (record.status, record.reason) for variant, record in bench.by_variant().items()}
    own = "it started a Spark session of its own: let it take the suite's, as argument `spark`"
    assert found == {
        "good": ("ok", None),
        "own_session": ("invalid", own),
        "own_session_too": ("invalid", own),
        "stops": ("invalid", "it stopped the Spark session, which the suite ends itself: leave out spark.stop()"),
    }


BAD_BASES = {
    "fails": ("time.sleep(pause)", "raise RuntimeError('no base')", "failed", "RuntimeError: no base"),
    "answers nothing": ('return {"total": total(data)}', "return None", "invalid", "its answer is None"),
    "varies": (
        'return {"total": total(data)}',
        'return {"total": time.monotonic()}',
        "invalid",
        "its answer differs from that of its own first call",
    ),
}


@pytest.mark.parametrize(("old", "new", "status", "reason"), BAD_BASES.values(), ids=BAD_BASES.keys())
def test_nothing_that_is_held_against_a_bad_base_case_gets_a_time(bench, tame, old, new, status, reason):
    tame.write_text(tame.read_text().replace(old, new, 1))
    assert bench.run(str(tame), "--size", "smoke", "--blocks", "2")[0] == 1
    found = {(record.variant, record.status, str(record.seconds)) for record in bench.records()}
    assert found == {("good", status, "None"), ("processes", "invalid", "None")}
    said = {record.variant: record.reason for record in bench.records()}
    assert reason in said["good"]
    assert said["processes"] == "the base case gave no right answer to hold this one against"


@pytest.mark.parametrize("optimize", others_at_night(["1", "2"], ["2"]))
def test_asserts_count_however_python_was_started(bench, optimize, tmp_path):
    """A wrong answer gets no time where PYTHONOPTIMIZE would remove the `assert` of a recipe's own check."""
    bench.environment["PYTHONOPTIMIZE"] = optimize
    recipe = tmp_path / "wrong.py"
    recipe.write_text(plain_without("raises", "not_json", "nothing", "hangs", "dies"))
    bench.run(str(recipe), "--size", "smoke", "--blocks", "1")
    found = bench.by_variant()
    assert (found["good"].status, found["wrong"].status) == ("ok", "invalid")


@pytest.mark.spark
def test_every_way_to_misbehave_on_spark_gets_its_record(bench):
    recipe = str(RECIPES / "sparkling.py")
    code, _ = bench.run(recipe, "--size", "smoke", "--blocks", "1", "--slots", "2", "--timeout", "120")
    assert code == 1
    found = bench.by_variant()
    assert {name: record.status for name, record in found.items()} == {
        "base": "ok",
        "one_task": "invalid",
        "leaks": "ok",
        "kills_jvm": "failed",
    }
    assert found["one_task"].reason == "only 1 of the 2 slots that it needs were busy at once"
    # Whether other programs kept the machine busy meanwhile is not ours to say.
    (left,) = (warning for warning in found["leaks"].warnings if warning.startswith("it left"))
    assert left in ("it left 1 cached data sets behind", "it left 2 cached data sets behind")
    base = found["base"].engaged
    assert (base["slots"], base["executors"], base["tasks"], base["jobs"], base["stages"]) == (2, 1, 4, 1, 1)
    assert found["base"].session["seconds"] > 0
    # Chance says which cell comes first; that one alone has a cold call.
    assert (found["base"].cold_seconds is not None) == (found["base"].session["position"] == 0)


EVERY_OTHER = '''"""Adds numbers up."""
import itertools, time
# --- benchmark: delete from here on when copying
PARALLELISM = "slots"
SIZES = {"ci": {"rows": 20}}
CALLS = itertools.count()
def make_data(*, rows):
    return list(range(rows))
def run_base(data, *, spark):
    "On two slots, and on one"
    return {"total": spark.sparkContext.parallelize(data, 2 - next(CALLS) % 2).map(twice).sum()}
def twice(number):
    time.sleep(0.02)
    return 2 * number
def check(reference, answer):
    assert answer == reference
'''


@pytest.mark.spark
def test_a_cell_is_parallel_where_one_of_its_timed_calls_was(bench, tmp_path):
    """Short tasks that could run at once may miss each other in one of the two."""
    (tmp_path / "every.py").write_text(EVERY_OTHER)
    code, said = bench.run(str(tmp_path / "every.py"), "--size", "ci", "--blocks", "1", "--slots", "2")
    assert code == 0, said
    (record,) = bench.records()
    assert len(record.warm_seconds) == 2
    assert record.engaged["slots"] == 2


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        pytest.param("start", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("cell", signal.SIGINT, marks=pytest.mark.slow),
        ("later", signal.SIGINT),
        ("cell", signal.SIGTERM),
        pytest.param("start", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("later", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_at_any_point_leaves_records_and_a_run_that_resumes(bench, tame, moment, number):
    words = (str(tame), "--size", "ci", "--blocks", "2")
    process = bench.start(*words)
    seen = ""
    wanted = {"start": "cells, ", "cell": "good  ", "later": "[4/"}[moment]
    while wanted not in seen:
        piece = process.stdout.readline(20) if moment == "start" else process.stdout.read(1)
        assert piece, seen
        seen += piece
    if moment == "cell":
        time.sleep(0.3)
    os.kill(process.pid, number)
    said = seen + process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert f"stopped by {number.name}" in said
    assert "--resume --out" in said
    assert "Traceback" not in said
    assert bench.left_behind() == []
    assert {record.id for record in bench.records()} == bench.planned()
    good = {record.id: record.at for record in bench.records() if record.status == "ok"}
    code, said = bench.run("--resume")
    assert code == 0, said
    assert {record.id for record in bench.records()} == bench.planned()
    assert {record.status for record in bench.records()} == {"ok"}
    # What was measured before the signal was not measured again.
    assert all(record.at == good[record.id] for record in bench.records() if record.id in good)


@pytest.mark.spark
def test_ctrl_c_while_spark_runs_leaves_no_jvm(bench):
    process = bench.start(str(RECIPES / "sparkling.py"), "--size", "smoke", "--blocks", "1", "--slots", "2")
    seen = ""
    while "pass 1 ." not in seen:
        seen += process.stdout.read(1)
    deadline = time.monotonic() + 60
    while not any("java" in line for line in bench.left_behind()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert any("java" in line for line in bench.left_behind())
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert bench.left_behind() == []
    assert {record.status for record in bench.records()} == {"failed", "skipped"}


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("serial", ()),
        ("loky", ("--parallelism", "2")),
        pytest.param("spark", ("--slots", "2"), marks=pytest.mark.spark),
        pytest.param(
            "spark",
            ("--master", "standalone", "--workers", "2", "--slots", "2"),
            marks=[pytest.mark.spark, pytest.mark.slow],
        ),
    ],
    ids=["serial", "loky", "Spark local", "standalone"],
)
def test_when_the_parent_is_killed_nothing_stays(bench, tmp_path, run, words):
    recipe = tmp_path / "endless.py"
    recipe.write_text(ENDLESS.format(run=RUNS[run]))
    process = bench.start(str(recipe), "--size", "smoke", "--blocks", "1", *words)
    try:
        wanted = 1 if run == "serial" else 2  # as many processes as there are slots
        bench.wait_until(lambda: process.poll() or len(list(bench.working.iterdir())) == wanted, seconds=180)
        assert process.poll() is None, process.stdout.read()
        if run == "loky" and SHM.is_dir():
            assert {
                name.split("_")[0].split("-")[0] for name in shared_memory().keys() - bench.shared_before.keys()
            } == {
                "joblib",
                "sem.loky",
            }
    finally:
        process.kill()
        process.communicate()
    bench.wait_until(lambda: bench.left_behind() == [])


def test_when_the_parent_is_killed_the_run_can_be_resumed(bench, tame):
    process = bench.start(str(tame), "--size", "ci", "--blocks", "1")
    seen = ""
    while "tame." not in seen:
        seen += process.stdout.read(1)
    process.kill()
    process.communicate()
    bench.wait_until(lambda: bench.left_behind() == [])
    assert bench.run("--resume")[0] == 0
    assert {record.id for record in bench.records()} == bench.planned()


@pytest.mark.spark
def test_tasks_kept_for_the_next_call_are_released_and_counted_and_settings_reach_the_session(bench):
    recipe = str(RECIPES / "lingering.py")
    code, said = bench.run(recipe, "--size", "smoke", "--slots", "2", "--conf", "spark.foldout.word=a=b")
    assert code == 0, said
    (record,) = bench.records()
    assert (record.engaged["slots"], record.engaged["jobs"], record.warnings) == (2, 1, [])
    assert record.answer["word"] == "a=b"
    assert json.loads((bench.out / "plan.json").read_text())["options"]["conf"] == ["spark.foldout.word=a=b"]


def sound(folder: Path) -> Path:
    """The recipe on Spark without what misbehaves."""
    recipe = folder / "sound.py"
    whole = (RECIPES / "sparkling.py").read_text()
    recipe.write_text(whole[: whole.index("def run_one_task")] + whole[whole.index("def check") :])
    return recipe


@pytest.mark.spark
@pytest.mark.slow
def test_on_a_cluster_of_processes_the_executors_are_recorded_before_and_after(bench, tmp_path):
    code, said = bench.run(str(sound(tmp_path)), "--master", "standalone", "--workers", "2", "--size", "smoke")
    assert code == 0, said
    assert bench.left_behind() == []
    facts = json.loads((bench.out / "environment.json").read_text())
    assert facts["master"].startswith("standalone cluster: 2 workers of 1 core, all on one host")
    for when in ("before", "after"):
        assert len(facts["executors"][when]) == 2
        for executor in facts["executors"][when].values():
            assert executor["spark"] == facts["versions"]["pyspark"]
            assert executor["threads"]["OMP_NUM_THREADS"] == "1"
            assert len(executor["load_average"]) == 3


def test_variables_of_other_projects_do_not_reach_the_cells(bench, tmp_path):
    recipe = tmp_path / "plain.py"
    recipe.write_text(plain_without("raises", "not_json", "nothing", "hangs", "dies"))
    # With any of these in a cell, it fails, hangs, or believes a wrong answer.
    bench.environment |= {
        "PYTEST_ADDOPTS": "--no-such-option",
        "PYTEST_PLUGINS": "no_such_plugin",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONOPTIMIZE": "1",
        "PYTHONINSPECT": "1",
        "SPARK_HOME": "/nonexistent",
        "JOBLIB_MULTIPROCESSING": "0",
    }
    code, said = bench.run(str(recipe), "--size", "smoke", "--blocks", "1")
    assert code == 1, said
    statuses = {name: record.status for name, record in bench.by_variant().items()}
    assert statuses == {"good": "ok", "processes": "ok", "wrong": "invalid"}


def test_a_broken_file_is_named_and_the_rest_runs(bench, tame):
    (tame.parent / "broken.py").write_text((RECIPES / "broken.py").read_text())
    code, said = bench.run("--scenarios", str(tame.parent), "--size", "smoke", "--blocks", "1")
    assert code == 1
    assert BROKEN in said
    assert {record.status for record in bench.records()} == {"ok"}


def test_what_a_recipe_imports_from_its_folder_is_a_note_and_the_rest_runs(bench, tame):
    tame.write_text(tame.read_text().replace("import signal", "import helper_of_tame\nimport signal", 1))
    (tame.parent / "helper_of_tame.py").write_text("VALUE = 1\n")
    code, said = bench.run("--scenarios", str(tame.parent), "--size", "smoke", "--blocks", "1")
    assert code == 0, said
    (note,) = [line for line in said.splitlines() if "helper_of_tame" in line]
    assert note.startswith("note: helper_of_tame.py is no recipe: it has no line that begins with")
    assert {record.status for record in bench.records()} == {"ok"}


def test_a_folder_with_helpers_alone_has_no_recipe(tmp_path, capsys):
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    assert main(["bench", "--scenarios", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: no usable scenario in {tmp_path}: helper.py: it has no line that begins with")


REFUSED = {
    "unknown scenario": (["no_such"], "no scenario 'no_such' in"),
    "no such file": (["./nowhere.py"], f"there is no file {ROOT}/nowhere.py"),
    "broken by name": ([str(RECIPES / "broken.py")], "does not import"),
    "size": (["--size", "huge"], "invalid choice: 'huge'"),
    "size it lacks": (
        [str(RECIPES / "sparkling.py"), "--size", "full"],
        "sparkling.py: SIZES has no 'full', only smoke",
    ),
    "master": (["--master", "lokal[2]"], "--master 'lokal[2]' is none that Spark knows"),
    "connect": (["--master", "sc://host:15002"], "Spark Connect shows neither executors nor what they did: give the"),
    "no slots": (["--master", "local[0]"], "say how many slots"),
    "no failures": (["--master", "local[2,0]"], "is none that Spark knows"),
    "parallelism": (["--parallelism", "0"], "0 is less than 1"),
    "folds": (["--folds", "two"], "'two' is not a list of whole numbers"),
    "folds of the data": (
        [str(RECIPES / "plain.py"), "--size", "full"],
        "plain.py: validate refuses: there are 1000 rows, not 5000",
    ),
    "timeout": (["--timeout", "-1"], "-1 is not above zero"),
    "blocks": (["--blocks", "1,2"], "more than one number"),
    "folder": (["--scenarios", "/nonexistent"], "is not a directory"),
    "remote slots": (["--master", "spark://127.0.0.1:1"], "--slots is needed"),
    "workers of no cluster": (["--master", "local[2]", "--workers", "2"], "--workers is for clusters that the suite"),
    "memory of no cluster": (["--memory", "2g"], "--memory is for clusters that the suite starts"),
    "no memory": (["--master", "standalone", "--memory", "much"], "memory 'much' is not an amount such as 512m or 2g"),
    "no setting": (["--conf", "shuffle=8"], "'shuffle=8' is not a setting such as spark.sql.shuffle.partitions=8"),
    "cores in words": (["--conf", "spark.executor.cores=two"], "spark.executor.cores is a whole number of at least 1"),
    "no cores": (["--conf", "spark.executor.cores=0"], "spark.executor.cores is a whole number of at least 1"),
    "no port": (["--master", "spark://host:port", "--slots", "2"], "'host:port' is not HOST:PORT"),
    "setting of the suite": (["--conf", "spark.eventLog.dir=x"], "spark.eventLog.dir is set by the suite itself"),
    "local folders": (["--conf", "spark.local.dir=/x"], "is set by the suite itself: see the variable TMPDIR"),
    "no factor": (["--factor", "dataset"], "'dataset' is not a factor such as dataset=digits"),
    "folds as a factor": (["--factor", "folds=3"], "folds is an option of its own: --folds 3"),
    "no data": (["--data", "/nonexistent"], "--data /nonexistent: there is no such folder"),
    "image of no container": (["--image", "mine"], "--image is for --master compose, not for local"),
    "nothing to resume": (["--resume"], "holds no run to resume"),
}


@pytest.fixture
def begun(monkeypatch) -> list[PlannedRun]:
    """What a bench in this process would run: it stops where the run begins."""
    runs = []

    @contextlib.contextmanager
    def ready(master, *_, **__):
        yield Cluster(master, {"spark.driver.host": "127.0.0.1", "spark.network.timeout": "60s"}, 2, 1)

    monkeypatch.setattr(command, "connect", ready)
    monkeypatch.setattr(command, "_run_plan", lambda run, *_: runs.append(run) or 0)
    return runs


def test_a_commit_that_git_does_not_tell_is_no_surprise_later(begun, tame, tmp_path, monkeypatch, capsys):
    why = "fatal: detected dubious ownership in repository"
    monkeypatch.setattr(command.environment, "why_no_revision", lambda: why)
    assert main(["bench", str(tame), "--size", "smoke", "--out", str(tmp_path / "out")]) == 0
    assert f"note: no commit is recorded with this run: {why}\n" in capsys.readouterr().err


def test_a_setting_that_was_typed_is_the_one_that_runs(begun, tame, tmp_path):
    words = ["--master", "standalone", "--size", "smoke", "--out", str(tmp_path / "out")]
    assert main(["bench", str(tame), *words, "--conf", "spark.network.timeout=90s"]) == 0
    (run,) = begun
    assert run.cluster.conf == {"spark.driver.host": "127.0.0.1", "spark.network.timeout": "90s"}


@pytest.mark.parametrize("master", ["standalone", "compose"])
@pytest.mark.parametrize(
    ("setting", "option"), [("spark.executor.memory=2g", "--memory"), ("spark.executor.cores=2", "--workers")]
)
def test_what_the_workers_of_our_clusters_have_is_no_setting(setting, option, master, tame, capsys):
    assert main(["bench", str(tame), "--master", master, "--conf", setting]) == 2
    key = setting.partition("=")[0]
    assert capsys.readouterr().err.startswith(f"error: {key} is what the workers of the cluster have: see {option}")


def test_what_workers_have_is_no_setting_in_a_container_either_but_is_one_elsewhere(monkeypatch):
    cluster = Cluster("spark://master:7077", workers=2, cores=1)
    monkeypatch.setenv("FOLDOUT_CLUSTER", json.dumps(asdict(cluster)))
    options = BenchOptions(conf=["spark.executor.memory=2g"])
    with pytest.raises(UsageError, match="see --memory"):
        check_settings(options, "spark://master:7077")
    check_settings(options, "spark://elsewhere:7077")
    check_settings(options, "local[2]")


def test_a_recipe_that_is_named_twice_is_planned_once(begun, tame, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tame.parent)
    names = ["tame", str(tame), str(link / tame.name)]
    words = ["--scenarios", str(tame.parent), "--size", "smoke", "--out", str(tmp_path / "out")]
    assert main(["bench", *names, *words]) == 0
    (run,) = begun
    assert len({cell.id for cell in run.cells}) == len(run.cells)


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_one_clear_line_and_nothing_is_written(bench, words, message):
    code, said = bench.run(*words)
    assert code == 2
    assert message in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not bench.out.exists()


def test_a_folder_that_cannot_be_written_is_refused(bench, tmp_path):
    bench.out = tmp_path / "file" / "out"
    (tmp_path / "file").write_text("in the way")
    code, said = bench.run(str(RECIPES / "plain.py"), "--size", "smoke")
    assert code == 2
    assert "cannot write to" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EWOULDBLOCK, "another bench is writing to"), (errno.ENOLCK, r"cannot be kept .* \(No locks available\)")],
)
def test_a_disk_without_locks_is_not_taken_for_another_bench(number, said, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match=said), lock_run_folder(tmp_path):
        pass


def test_a_folder_with_a_run_is_not_overwritten_and_another_plan_is_refused(bench, tame):
    words = (str(tame), "--size", "smoke", "--blocks", "1")
    assert bench.run(*words)[0] == 0
    before = {path.name: path.read_bytes() for path in bench.out.glob("*.json*")}
    code, said = bench.run(*words)
    assert (code, "holds a run already" in said) == (2, True)
    code, said = bench.run(*words[:-1], "3", "--resume")
    assert (code, "holds a run of another plan" in said) == (2, True)
    for other in (("--conf", "spark.x=1"), ("--warm-up", "3"), ("--data", str(tame.parent)), ("--memory", "2g")):
        code, said = bench.run("--resume", *other)
        assert (code, f"{other[0]}: the run that goes on has none: leave it out" in said) == (2, True), said
    code, said = bench.run("--resume", "--master", "local[7]")
    assert (code, "--master local[7]: the run that goes on is on local[" in said) == (2, True), said
    tame.write_text(tame.read_text() + "\n")
    code, said = bench.run("--resume")
    assert (code, "tame.py has changed since the run" in said) == (2, True)
    assert {path.name: path.read_bytes() for path in bench.out.glob("*.json*")} == before


def test_what_is_left_is_not_run_with_files_that_were_changed_meanwhile(bench, tame):
    tame.write_text(tame.read_text().replace("import signal", "import helper_of_tame\nimport signal", 1))
    helper = tame.parent / "helper_of_tame.py"
    helper.write_text("VALUE = 1\n")
    process = bench.start(str(tame), "--size", "ci", "--blocks", "2")
    seen = ""
    while "pass 1 ." not in seen:
        piece = process.stdout.read(1)
        assert piece, seen
        seen += piece
    helper.write_text("VALUE = 2\n")
    said = seen + process.communicate(timeout=60)[0]
    assert process.returncode == 1, said
    why = "not started: helper_of_tame.py has changed since the run began: restore it and --resume, or start anew"
    found = {(record.block, record.status, record.reason) for record in bench.records()}
    assert found == {(0, "ok", None), (1, "failed", why)}
    assert why in " ".join(said.split())
    code, said = bench.run("--resume")
    assert (code, "error: helper_of_tame.py has changed since the run in" in said) == (2, True), said


def test_a_run_does_not_go_on_with_another_number_of_cores_and_that_is_said(bench, tame, monkeypatch, capsys):
    assert bench.run(str(tame), "--size", "smoke", "--blocks", "1")[0] == 0
    cores = environment.cores()
    monkeypatch.setattr(environment, "cores", lambda: cores + 5)
    assert main(["bench", "--resume", "--out", str(bench.out)]) == 2
    assert f"the number of cores is {cores + 5}, was {cores}: start a new run" in capsys.readouterr().err


def test_the_export_is_accepted_by_pytest_benchmark(bench, tame, tmp_path):
    assert bench.run(str(tame), "--size", "smoke", "--blocks", "2")[0] == 0
    shown = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(bench.out / "benchmark.json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert shown.returncode == 0, shown.stderr
    assert "good[" in shown.stdout
    assert "rows=20" in shown.stdout


RELEASES = """
from pathlib import Path
import os

REQUIRES = {"processes": "no_such_package"}

def release():
    with (Path(os.environ["WORKING"]) / "released").open("a") as file:
        file.write("x")
"""


def test_what_lacks_its_package_is_skipped_and_each_variant_is_released_even_if_it_fails(bench, tame):
    tame.write_text(plain_without("wrong", "not_json", "nothing", "hangs", "dies") + RELEASES)
    code, said = bench.run(str(tame), "--size", "ci", "--blocks", "1")
    assert code == 1, said
    reason = "it needs the package no_such_package, which is not installed here"
    found = {variant: (record.status, record.reason) for variant, record in bench.by_variant().items()}
    assert found["good"] == ("ok", None)
    assert found["raises"][0] == "failed"
    assert found["processes"] == ("skipped", reason)
    assert reason[:40] in said
    # After the one that failed, after the last, and before the one that failed where another was called; between
    # passes of one variant nothing is ended.
    order = {variant: record.order for variant, record in bench.by_variant().items()}
    assert (bench.working / "released").read_text() == ("xxx" if order["good"] < order["raises"] else "xx")


def test_each_run_has_an_order_of_its_own_which_is_recorded_and_kept(bench, tame, tmp_path):
    seeds = []
    for name in ("one", "two"):
        bench.out = tmp_path / name
        assert bench.run(str(tame), "--size", "smoke", "--blocks", "3", "--minutes", "0.001", "--warm-up", "2")[0] == 0
        plan = json.loads((bench.out / "plan.json").read_text())
        assert plan["options"]["seed"] == plan["seed"]
        assert plan["options"]["warm_up"] == 2
        seeds.append(plan["seed"])
    assert seeds[0] != seeds[1]
    code, said = bench.run("--resume")
    assert code == 0, said
    assert "pass 2" in said  # the second untimed one
    planned = {cell["id"]: cell["order"] for cell in plan["cells"]}
    assert {record.id: record.order for record in bench.records()} == planned


def test_every_timed_call_is_kept_and_one_cold_call_a_process(bench, tame):
    assert bench.run(str(tame), "--size", "ci", "--blocks", "2")[0] == 0
    found = bench.records()
    assert {len(record.warm_seconds) for record in found} == {2}
    assert all(min(r.warm_seconds) <= r.seconds <= max(r.warm_seconds) for r in found)
    cold = [record for record in found if record.cold_seconds is not None]
    assert sorted(record.block for record in cold) == [0, 1]
    assert {record.session["position"] for record in cold} == {0}
    assert len({record.variant for record in cold}) == 2


WANTS_DATA = """'Reads a file of the user'

# --- benchmark: delete from here on when copying ------------------------
SIZES = {"smoke": {}}

def make_data(*, data_folder):
    return data_folder

def run_reads(data):
    'Reads it'
    return (data / "x.txt").read_text()

def check(reference, answer):
    assert answer == reference == "mine"
"""


def test_a_recipe_gets_the_folder_of_data_and_is_skipped_without_one(bench, tmp_path):
    (tmp_path / "wants.py").write_text(WANTS_DATA)
    (tmp_path / "my data").mkdir()
    (tmp_path / "my data" / "x.txt").write_text("mine")
    bench.run(str(tmp_path / "wants.py"), "--size", "smoke")
    (record,) = bench.records()
    assert (record.status, record.reason) == ("skipped", "it needs a folder of data: give it by --data DIR")
    bench.out = tmp_path / "with"
    bench.run(str(tmp_path / "wants.py"), "--size", "smoke", "--data", str(tmp_path / "my data"))
    (record,) = bench.records()
    assert (record.status, record.answer) == ("ok", "mine")


def test_a_recipe_whose_validate_fails_is_named_and_the_rest_runs(bench, tame, tmp_path):
    (tmp_path / "recipes" / "odd.py").write_text(f"{tame.read_text()}\ndef validate(*, rows):\n    return rows.size\n")
    code, said = bench.run("--scenarios", str(tame.parent), "--size", "smoke")
    assert code == 1
    assert "left out: odd.py: validate raised AttributeError: 'int' object has no attribute 'size'" in said
    assert {record.scenario for record in bench.records()} == {"tame"}
    bench.out = tmp_path / "alone"
    code, said = bench.run(str(tmp_path / "recipes" / "odd.py"), "--size", "smoke")
    assert code == 2
    assert said.startswith("error: odd.py: validate raised AttributeError")


@pytest.mark.spark
@pytest.mark.slow
def test_a_local_cluster_has_the_slots_that_its_name_says(bench, tmp_path):
    code, said = bench.run(str(sound(tmp_path)), "--master", "local-cluster[2,1,1024]", "--size", "smoke")
    assert code == 0, said
    on_spark = [record for record in bench.records() if record.session["id"].endswith("spark2")]
    assert [record.status for record in on_spark] == ["ok"] * len(on_spark)
    assert {record.engaged["executors"] for record in on_spark} == {2}


def test_what_nobody_copies_runs_where_it_is_named_or_in_a_smoke_test(bench, tame, tmp_path):
    (tmp_path / "recipes" / "asked.py").write_text(f"{tame.read_text()}\nON_REQUEST = True\n")
    seen = {}
    for words in (("--size", "ci"), ("--size", "smoke"), ("asked", "--size", "ci")):
        bench.out = tmp_path / "-".join(words)
        bench.run("--scenarios", str(tame.parent), *words, "--blocks", "1", "--factor", "pause=0")
        seen[words] = {record.scenario for record in bench.records()}
    assert list(seen.values()) == [{"tame"}, {"tame", "asked"}, {"asked"}]


def test_of_data_only_the_folder_has_to_be_readable_and_a_container_notes_the_rest(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "secret.csv").touch()
    assert note_on_data(tmp_path) is None
    readable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in str(path) and readable(path, mode))
    check_data(tmp_path)
    note = note_on_data(tmp_path)
    assert note.startswith("--data: 'deep/secret.csv' in that folder cannot be read by user ")
    assert str(tmp_path) not in note  # which is another one inside of a container
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="--data: that folder cannot be read by user"):
        check_data(tmp_path)


@pytest.mark.parametrize(
    ("target", "seen"), [("/nonexistent", False), ("../blobs/a", False), ("{data}/b", False), ("deep/b", True)]
)
def test_a_link_that_leads_nowhere_in_a_container_is_told_outside_with_its_cause(tmp_path, target, seen):
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    for file in (data / "b", data / "deep" / "b", tmp_path / "blobs" / "a"):
        file.touch()
    target = target.format(data=data)
    (data / "link").symlink_to(target)
    check_data(data)  # a recipe may do without it
    note = note_on_links(data)
    assert note is None if seen else f"'link' in that folder is a link to '{target}', which containers do not" in note
    # Inside, the remedy for files that are closed would be a wrong one.
    shutil.rmtree(tmp_path / "blobs")
    assert note_on_data(data) is None


@pytest.mark.parametrize(
    ("given", "master", "cores"),
    [
        ("local-cluster[2, 1, 1024]", "local-cluster[2,1,1024]", 2),
        ("local[2,4]", "local[2,4]", 2),
        ("local[*, 3]", "local[7,3]", 7),
        ("local[*]", "local[7]", 7),
    ],
)
def test_a_master_is_taken_as_spark_takes_it(given, master, cores, monkeypatch):
    monkeypatch.setattr(command.environment, "cores", lambda: 7)
    assert check_master(given) == master
    assert make_request(BenchOptions(), master).cores == cores


def test_files_of_recipes_are_named_for_a_resume_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = BenchOptions(scenario=["./mine.py", "udf_inference"], scenarios=Path("my"), out=Path("x"), data=Path("d"))
    options.make_absolute()
    assert (options.scenario, options.scenarios) == ([str(tmp_path / "mine.py"), "udf_inference"], tmp_path / "my")
    assert (options.out, options.data) == (tmp_path / "x", tmp_path / "d")
    kept = BenchOptions()
    kept.make_absolute()
    assert kept == BenchOptions()


def test_the_newest_run_is_the_one_that_was_begun_last(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    plans = {
        "run-20260101-000000": '{"created": "2026-01-01T00:00:00+00:00"}',
        "run-20260301-000000": '{"created": "2026-03-01T00:00:00+00:00"}',
        "run-smoke": '{"created": "2026-02-01T00:00:00+00:00"}',
        "run-torn": '{"created": "2026',
        "run-odd": "[]",
    }
    for name, text in plans.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text(text)
    assert command._newest_run().name == "run-20260301-000000"


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_default_run_folder", lambda: tmp_path / "results" / "run-1")
    made = [command.new_run_folder(None) for _ in range(3)]
    assert [folder.name for folder in made] == ["run-1", "run-1-2", "run-1-3"]
    assert all(folder.is_dir() for folder in made)


def test_a_run_of_containers_goes_on_in_containers_without_being_told(tmp_path, monkeypatch):
    plan = {"schema": 1, "options": {}, "outside": {"scenario": ["/my/mine.py"], "master": "compose", "workers": 3}}
    plan |= dict.fromkeys(("run", "command", "size", "master", "blocks", "seed", "scenarios", "cells"))
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    reached = []
    monkeypatch.setattr(command, "run_in_containers", lambda options, *_, **__: reached.append(options) or 0)
    monkeypatch.setattr(command, "_find_scenarios", lambda options: None)
    assert command.bench(BenchOptions(resume=True, out=tmp_path), "bench --resume") == 0
    (options,) = reached
    assert (options.master, options.workers, [*options.scenario]) == ("compose", 3, ["/my/mine.py"])


def test_a_run_folder_behind_resume_is_no_recipe(tmp_path):
    (tmp_path / "plan.json").touch()
    options = BenchOptions(scenario=[str(tmp_path)], resume=True)
    options.take_run_folder()
    assert (options.scenario, options.out) == ([], tmp_path)
    for other in (BenchOptions(scenario=[str(tmp_path)]), BenchOptions(scenario=["udf_inference"], resume=True)):
        options = replace(other)
        options.take_run_folder()
        assert options == other


def test_a_plan_with_odd_cells_is_no_plan(tmp_path):
    for plan in ({"cells": [{}], "scenarios": {}}, {"cells": [], "scenarios": {"one": {}}}, {"cells": 3}):
        with pytest.raises(UsageError, match="is not a plan"):
            check_same_plan(tmp_path, plan, [], [])


def bench_from(folder: Path, clone: Path, *words: str) -> str:
    """Run a bench of a clone from a folder, as tox does; what it says."""
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    command = [sys.executable, "-P", "-m", "suite", "bench", *words, "--size", "smoke", "--blocks", "1"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_clone_may_lie_in_a_folder_of_nearly_any_name(tmp_path, tame):
    clone = tmp_path / "[2025] my {work} #1 100% of $HOME"
    shutil.copytree(ROOT / "suite", clone / "suite", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    (clone / "scenarios").mkdir()
    bench_from(tmp_path, clone, str(tame), "--out", str(tmp_path / "out"))
    assert {record.status for record in records.read(tmp_path / "out" / "records.jsonl")} == {"ok"}


def test_a_bench_from_another_projects_folder_keeps_to_its_own_modules_and_writes_where_it_was_asked(tmp_path, tame):
    project = tmp_path / "project"
    for name in ("suite/__init__.py", "suite/run/__init__.py", "suite/run/test_cell.py", "conftest.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("raise RuntimeError('of another project')\n")
    (project / "elsewhere").mkdir()
    text = tame.read_text()
    at_import, in_a_call = f"os.chdir({str(project / 'elsewhere')!r})\n", "    os.chdir('/')\n"
    for line, goes in {"import time\n": at_import, "-> int:\n": in_a_call}.items():
        assert text.count(line) == 1
        text = text.replace(line, line + goes)
    tame.write_text(text)
    bench_from(project, ROOT, str(tame), "--out", "wine")
    assert {record.status for record in records.read(project / "wine" / "records.jsonl")} == {"ok"}
    assert json.loads((project / "wine" / "plan.json").read_text())["scenarios"]["tame"]["elsewhere"] is True
    assert list((project / "elsewhere").iterdir()) == []


def test_a_run_goes_on_from_another_folder(tmp_path, tame):
    command = [sys.executable, "-m", "suite", "bench"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = [*command, f"./{tame.name}", "--size", "smoke", "--out", str(tmp_path / "there")]
    for words, folder in ((first, tame.parent), ([*command, "--resume", "--out", "there"], tmp_path)):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    # Nothing stays in the folders from which it was called.
    assert {path.name for path in tmp_path.iterdir()} == {"recipes", "there"}
    assert {path.name for path in tame.parent.iterdir()} - {"__pycache__"} == {tame.name}


def test_a_run_does_not_go_on_with_other_packages_or_elsewhere(tmp_path):
    facts = environment.describe_environment("local[2]", {"version": 17})
    check_same_machine(tmp_path, facts)  # nothing is known
    (tmp_path / "environment.json").write_text("{")
    check_same_machine(tmp_path, facts)
    records.write_json(tmp_path / "environment.json", facts)
    check_same_machine(tmp_path, facts)
    other = {**facts, "java": {"version": 21}, "versions": {**facts["versions"], "pyspark": "3.0"}}
    was = facts["versions"]["pyspark"]
    with pytest.raises(
        UsageError, match=rf"cannot go on here: Java is 21, was 17, pyspark is 3\.0, was {was}: start a"
    ):
        check_same_machine(tmp_path, other)
