# SPDX-License-Identifier: Apache-2.0
"""The Spark backend held against the tests of joblib and scikit-learn themselves, and against the oldest joblib."""

import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import grid_search_spark_backend as scenario
import pytest
from packaging.requirements import Requirement

pytestmark = [pytest.mark.spark, pytest.mark.slow]
HERE = Path(__file__).resolve().parent


def run_pytest(*arguments: str, folder: Path, path: tuple = (), **variables: str) -> str:
    """Run tests in a process of their own, and give what pytest says."""
    found = [*map(str, path), str(HERE), str(Path(scenario.__file__).parent), str(HERE.parents[1])]
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(found), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    return result.stdout


def count_passed(said: str) -> int:
    (passed,) = re.findall(r"(\d+) passed", said)
    return int(passed)


def test_joblibs_own_tests(tmp_path: Path) -> None:
    plugin = ("-p", "spark_backend_plugin", "-k", "spark-pool", "--pyargs", "joblib.test.test_parallel")
    assert count_passed(run_pytest(*plugin, folder=tmp_path, SPARK_POOL_TESTS="joblib")) > 50


def test_scikit_learns_own_tests_of_searches(tmp_path: Path) -> None:
    plugin = ("-p", "spark_backend_plugin", "--pyargs", "sklearn.model_selection.tests.test_search")
    assert count_passed(run_pytest(*plugin, folder=tmp_path, SPARK_POOL_TESTS="sklearn")) > 100


def test_the_oldest_joblib(tmp_path: Path) -> None:
    """The oldest that scikit-learn takes, in a folder before that of the newest."""
    (oldest,) = {
        str(needed.specifier).removeprefix(">=")
        for needed in map(Requirement, requires("scikit-learn") or [])
        if needed.name == "joblib" and needed.marker is None
    }
    install = ["uv", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "old", f"joblib=={oldest}"]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"uv could not install joblib {oldest}: {installed.stderr.strip()[-300:]}")
    names = ("", "_failures", "_contract")
    files = [str(HERE / f"test_grid_search_spark_backend{name}.py") for name in names]
    check = f"import joblib; assert joblib.__version__ == {oldest!r}"
    subprocess.run([sys.executable, "-c", check], env={"PYTHONPATH": str(tmp_path / "old")}, check=True)
    said = run_pytest(*files, "-m", "not slow", folder=HERE.parents[1], path=(tmp_path / "old",))
    assert count_passed(said) > 100
