# SPDX-License-Identifier: Apache-2.0
"""Two people on one engine, each with a checkout of their own in a folder with blanks, cloned under umask 077.

Where the tests run as root, and Python is one that all may run, the two are ordinary users who may use the engine, and
have no home and no name.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from suite import records
from tests.cluster.conftest import things

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
WHOSE = '''"""Code of {name}."""
from pathlib import Path

# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {{"smoke": {{}}}}


def make_data():
    return "/opt/foldout/scenarios/whose.py"


def run_driver(data):
    """In the container of the driver"""
    return {{"said": [Path(data).read_text().splitlines()[0]]}}


def run_executors(data, *, spark):
    """In those of the executors"""
    tasks = spark.sparkContext.parallelize(range(4), 4)
    return {{"said": sorted(set(tasks.map(lambda _: Path(data).read_text().splitlines()[0]).collect()))}}


def check(reference, answer):
    assert answer == reference, f"{{answer}} is not {{reference}}"
'''


@pytest.fixture
def folder():
    """A folder that every user reaches, unlike those that pytest makes."""
    made = Path(tempfile.mkdtemp(prefix="foldout two checkouts "))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def checkout(folder, name, user):
    """What git has of this repository, as a clone under umask 077 has it, with a recipe of its own."""
    clone = folder / f"clone of {name}"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for path in filter(None, listed.stdout.split("\0")):
        if not path.startswith("results/") and (ROOT / path).is_file():
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, clone / path)
    (clone / "results").mkdir()
    (clone / "scenarios" / "whose.py").write_text(WHOSE.format(name=name))
    for path in (clone, *clone.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
        if user is not None:
            os.chown(path, user, user)
    return clone


def run_in(clone, user):
    """`bench --master compose` in a checkout, as a user, or as oneself."""
    words = ["bench", "whose", "--master", "compose", "--size", "smoke", "--blocks", "1", "--out", "results/run-mine"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTHON"))}
    as_user = {}
    if user is not None:
        environment |= {"HOME": str(clone)}
        as_user = {"user": user, "group": user, "extra_groups": [Path("/var/run/docker.sock").stat().st_gid]}
    with (clone.parent / f"said by {clone.name}").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "suite", *words],
            cwd=clone,
            env=environment | {"PYTHONPATH": str(clone), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            umask=0o077,
            **as_user,
        )


def others_may_run_this_python():
    try:
        return subprocess.run([sys.executable, "-c", ""], user=20_001, group=20_001, extra_groups=[]).returncode == 0
    except PermissionError:
        return False


def test_each_runs_its_own_code_at_the_same_time_and_leaves_nothing(engine, image, folder):
    others = os.geteuid() == 0 and others_may_run_this_python()
    users = {"Ada": 20_001, "Bob": 20_002} if others else {"Ada": None, "Bob": None}
    before = things(engine)
    clones = {name: checkout(folder, name, user) for name, user in users.items()}
    running = {name: run_in(clone, users[name]) for name, clone in clones.items()}
    try:
        codes = {name: process.wait(900) for name, process in running.items()}
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
    for name, clone in clones.items():
        said = (folder / f"said by {clone.name}").read_text()
        assert codes[name] == 0, said
        found = records.read(clone / "results" / "run-mine" / "records.jsonl")
        assert {record.variant: record.answer for record in found} == {
            variant: {"said": [f'"""Code of {name}."""']} for variant in ("driver", "executors")
        }, said
        assert {path.stat().st_uid for path in clone.rglob("*")} <= {users[name] or os.geteuid()}
    assert things(engine) == before
