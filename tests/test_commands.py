# SPDX-License-Identifier: Apache-2.0
"""Every command that a page tells the reader to type is understood, up to where its work would begin.

What the commands do is tested elsewhere. Here each goes through tox.ini, the parser, the checks of its options and the
plan, as it stands on the page; the short ones run to their end.
"""

import configparser
import contextlib
import re
import shlex
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from suite import cli
from suite.cluster import compose
from suite.cluster.description import Cluster
from suite.gate import command as gate_command
from suite.gate import prove
from suite.run import command, encryption_cost
from suite.run.new_recipe import new_recipe

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "scenarios/README.md", "results/README.md", "docker/README.md", "CONTRIBUTING.md")
PYTHON = r"(?:python|\.venv/bin/python) "


def commands_of(page):
    """Lines of code blocks, and code within sentences, that start a Python."""
    text = (ROOT / page).read_text()
    blocks = re.findall(rf"^    (?:.* && )?({PYTHON}-m .+|{PYTHON}[\w/]+\.py.*)$", text, re.MULTILINE)
    # Within a sentence a command may go over the end of a line.
    sentences = (" ".join(found.split()) for found in re.findall(rf"`({PYTHON}[^`]+)`", text))
    return [line.rstrip() for line in (*blocks, *sentences)]


COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


def environments():
    """What each environment of tox runs, with {posargs} left as it is."""
    tox = configparser.RawConfigParser()
    tox.read(ROOT / "tox.ini")
    return {
        name.removeprefix("testenv:"): tox[name].get("commands", "").replace("\\\n", "")
        for name in tox.sections()
        if name.startswith("testenv:")
    }


def suite_arguments(words):
    """What the suite gets, of a command line that calls it, itself or through tox; None where another program runs."""
    if words[:2] == ["-m", "suite"]:
        return words[2:]
    if words[:2] != ["-m", "tox"]:
        return None
    own, _, given = " ".join(map(shlex.quote, words[2:])).partition(" -- ")
    asked = shlex.split(own)
    if "-e" not in asked:
        return None
    made = environments()[asked[asked.index("-e") + 1]]
    ran = re.sub(r"\{posargs:?([^}]*)\}", lambda found: given or found[1], made)
    said = shlex.split(ran)
    return said[4:] if said[:4] == ["python", "-P", "-m", "suite"] else None


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A folder with all that the pages speak of, and a suite that stops where the work would begin."""
    reached = []

    def reach(what, result=0):
        return lambda *_, **__: reached.append(what) or result

    @contextlib.contextmanager
    def ready(master, *_, **__):
        yield Cluster(master)

    def plan_here(options, command_line, *_, **__):
        """What the driver in the container does."""
        inside = {"master": None, "workers": None, "memory": None, "image": None, "out": tmp_path / "inside"}
        return command.bench(replace(options, **inside), command_line)

    monkeypatch.setattr(command, "RESULTS", tmp_path / "runs")
    monkeypatch.setattr(command, "connect", ready)
    monkeypatch.setattr(command, "run_in_containers", plan_here)
    monkeypatch.setattr(command, "_run_plan", lambda run, *_: reached.append(f"{len(run.cells)} cells") or 0)
    monkeypatch.setattr(gate_command, "compare", reach("compare"))
    monkeypatch.setattr(prove, "prove", reach("prove"))
    monkeypatch.setattr(encryption_cost, "measure_encryption", reach("encryption"))
    for name in ("cluster_up", "cluster_status", "cluster_down"):
        monkeypatch.setattr(compose, name, reach(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return reached


def prepared(arguments, folder):
    """Put there what a command names, and name what a placeholder stands for."""
    named = {"/my data": str(folder / "data"), "RUN": "results/local", "results/NAME": "results/local"}
    arguments = [named.get(word, word) for word in arguments]
    if arguments[0] in ("report", "variance"):
        shutil.copytree(ROOT / arguments[1], folder / arguments[1])
    for word in arguments[1:] if arguments[0] != "new" else ():
        if re.fullmatch(r"[\w./]+\.py", word):
            new_recipe(Path(word), None)
    return arguments


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_a_page_is_understood(line, stage, tmp_path):
    words = shlex.split(re.sub(rf"^{PYTHON}", "", line), comments=True)
    arguments = suite_arguments(words)
    if arguments is None:
        module = words[1] if words[0] == "-m" else None
        if module == "tox":
            assert "-e" not in words or words[words.index("-e") + 1] in environments()
        elif module:
            assert find_spec(module)
        else:
            assert any((ROOT / folder / words[0]).is_file() for folder in (".", "scenarios")) or "wine" in words[0]
        return
    if not arguments:
        assert line == "python -m suite"  # the name of the program
        return
    arguments = prepared(arguments, tmp_path)
    assert cli.main(arguments) == 0
    if arguments[0] in ("bench", "compare", "prove", "cluster", "encryption"):
        assert len(stage) == 1


def test_commands_are_found_on_each_page():
    for page in PAGES:
        assert commands_of(page), page
    assert len(COMMANDS) > 50
    assert any("--factor megabytes" in line for line in COMMANDS)
    assert ".venv/bin/python -m tox -e bench" in COMMANDS


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bench -- no_such_recipe", "no scenario 'no_such_recipe'"),
        ("bench -- --size huge", "invalid choice"),
        ("bench -- one_pass_limit --factor farbe=3", "farbe"),
    ],
)
def test_a_command_that_is_wrong_would_be_found(wrong, said, stage, tmp_path, capsys):
    arguments = suite_arguments(["-m", "tox", "-e", *shlex.split(wrong)])
    with contextlib.suppress(SystemExit):  # as argparse ends
        assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err
