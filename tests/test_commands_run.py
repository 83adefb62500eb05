# SPDX-License-Identifier: Apache-2.0
"""The commands in the code blocks of the pages run to their end, one after the other, as a reader types them.

Each is small here: a bench runs two recipes, one block, size smoke, and a comparison has a recipe that sleeps. What tox
would call is called without it. The commands of the tests are those that CI calls. Those behind the tables of results/
have run: a test holds each against the plan of its run.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from suite.cluster.standalone import standalone
from tests.test_commands import PYTHON, suite_arguments

ROOT = Path(__file__).resolve().parent.parent
LINE = rf"^    (?:.* && )?({PYTHON}-m .+)$"
BLOCKS = {
    page: re.findall(LINE, (ROOT / page).read_text(), re.MULTILINE)
    for page in ("README.md", "docker/README.md", "results/README.md", "CONTRIBUTING.md")
}
MINE = "my_recipes/mine.py"
SMALL = ["grid_search_single_node", "grid_search_spark_backend", "--size", "smoke", "--blocks", "1"]
SLEEPING = """
import time


def doze(naps):
    time.sleep(sum(naps))


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"naps": 1}, "ci": {"naps": 4}}


def make_data(*, naps):
    return [0.05] * naps


def run_alone(data):
    doze(data)
    return {"naps": len(data)}


def run_many(data, *, parallelism):
    doze(data)
    return {"naps": len(data)}


def check(reference, answer):
    assert answer == reference
"""


def with_docker(words):
    return "compose" in words or words[0] == "cluster"


def found():
    """What the suite gets of each line, in the order of the pages, each once."""
    lines = {}
    for page, of_page in BLOCKS.items():
        for line in of_page:
            words = suite_arguments(shlex.split(re.sub(rf"^{PYTHON}", "", line), comments=True))
            # Proving the gate takes hours, and the peers are of another environment: both have tests of their own.
            if words and words[0] != "prove" and "grid_search_peers" not in words:
                lines.setdefault(shlex.join(words), (page, words))
    return list(lines.values())


def marked(page, words):
    marks = [pytest.mark.slow, *([pytest.mark.docker] if with_docker(words) else [])]
    return pytest.param(words, id=f"{page}: {shlex.join(words)}", marks=marks)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A reader's folder: a repository with recipes, two locks and a release."""
    folder = tmp_path_factory.mktemp("of a reader")
    (folder / "my_recipes").mkdir()
    (folder / "my_recipes" / "sleeping.py").write_text(SLEEPING)
    for lock in ("old.txt", "new.txt"):
        (folder / lock).write_bytes((ROOT / "requirements" / "run.txt").read_bytes())
    (folder / "my data").mkdir(mode=0o755)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], [*who, "commit", "-qm", "first"], ["tag", "v1.0"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    yield folder
    if (folder / "up").exists():  # a test between `up` and `down` may have ended before
        subprocess.run([sys.executable, "-P", "-m", "suite", "cluster", "down"], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster that is there already."""
    with standalone(2, 4, logs=tmp_path_factory.mktemp("logs")) as ready:
        yield ready


def small(words, project):
    words = [str(project / "my data") if word == "/my data" else word for word in words]
    if words[0] == "compare":  # of a recipe that sleeps, in place of the reader's search
        others = [word for word in words if word != "mine"]
        return [*others, "sleeping", *(() if "--scenarios" in words else ("--scenarios", "my_recipes/"))]
    if words[0] != "bench":
        return words
    named = any(word.endswith(".py") for word in words)
    return [*words, *(SMALL[2:] if named else SMALL)]


@pytest.mark.parametrize("words", [marked(page, words) for page, words in found()])
def test_a_command_of_a_page_runs_to_its_end(words, project, request):
    words = small(words, project)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if "spark://host:7077" in words:
        ready = request.getfixturevalue("cluster")
        words = [ready.url if word == "spark://host:7077" else word for word in words]
        environment |= ready.environment
    if "mine" in words:
        subprocess.run(["docker", "tag", "foldout:local", "mine"], check=True)
        request.addfinalizer(lambda: subprocess.run(["docker", "rmi", "mine"], check=True, capture_output=True))
    if MINE in words and words[0] == "bench" and not (project / MINE).exists():  # where a single line is tested
        subprocess.run([sys.executable, "-m", "suite", "new", MINE], cwd=project, env=environment, check=True)
    if words[:1] in (["bench"], ["compare"]):
        words += ["--out", str(project / f"run-{request.node.callspec.indices['words']}")]
    if words[:2] == ["cluster", "up"]:
        (project / "up").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "suite", *words],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if words[0] == "bench":
        assert re.search(r"(\d+) cells planned, \1 written: \1 ok\.", done.stdout), done.stdout[-3000:]


def test_lines_of_every_kind_are_among_them():
    lines = [words for _, words in found()]
    assert {words[0] for words in lines} == {"bench", "new", "compare", "cluster"}
    assert len([words for words in lines if with_docker(words)]) >= 6
    assert any("spark://host:7077" in words for words in lines)
    assert any("--head-lock" in words for words in lines)
