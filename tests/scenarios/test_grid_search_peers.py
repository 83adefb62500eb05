# SPDX-License-Identifier: Apache-2.0
"""Dask and Ray, where they are installed: the search's answer, on loopback alone, and nothing that stays."""

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import grid_search_peers as scenario
import pytest

# Dask's workers are started by multiprocessing, which imports the main module again: a program of its own.
PROGRAM = """
import json, os, sys
import psutil
import grid_search_peers as peers, grid_search_single_node as single

def processes():
    return [psutil.Process(), *psutil.Process().children(recursive=True)]

def running():
    # The tracker belongs to Python's multiprocessing, and ends with this program.
    return {p.pid for p in processes()[1:] if "resource_tracker" not in " ".join(read(p.cmdline))}

def listening():
    return sorted({c.laddr.ip for p in processes() for c in read(p.net_connections) if c.status == "LISTEN"})

def read(what):
    try:
        return what()
    except psutil.NoSuchProcess:  # it has just ended
        return []

if __name__ == "__main__":
    run = getattr(peers, "run_" + sys.argv[1])
    data = single.make_data()
    before = dict(os.environ)
    answers = [run(data, parallelism=2, folds=2, candidates=3)]
    addresses, first = listening(), running()
    peers.stop_cluster()
    between = running()
    answers.append(run(data, parallelism=2, folds=2, candidates=3))  # it can start again in the same process
    peers.stop_cluster()
    expected = single.run_serial(data, folds=2, candidates=3)
    print(json.dumps({
        "right": [answer == expected for answer in answers],
        "listened": addresses,
        "ran": len(first),
        "left": len(between | running()),
        "changed": sorted(key for key in before.keys() | os.environ.keys() if before.get(key) != os.environ.get(key)),
    }))
"""


@pytest.fixture
def short_folder():
    """Ray's sockets lie in it, and allow no long path."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_right_on_loopback_alone_and_nothing_left(name, tmp_path, short_folder):
    package = scenario.REQUIRES[name]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: python -m tox -e peers has it")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(short_folder)}
    environment["PYTHONPATH"] = str(Path(scenario.__file__).parent)
    ran = subprocess.run(
        [sys.executable, program, name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["right"] == [True, True]
    assert {address.removeprefix("::ffff:") for address in said["listened"]} == {"127.0.0.1"}
    assert said["ran"] >= 2
    assert said["left"] == 0
    assert said["changed"] == []
    assert [path for folder in (home, short_folder) for path in folder.rglob("*")] == []
