# SPDX-License-Identifier: Apache-2.0
"""Tests that need a process of their own: scripts and imports, FAIR pools, Spark Connect, the oldest PySpark.

The last two need other packages. They use the interpreters named by FOLDOUT_CONNECT_PYTHON (pyspark[connect]==4.3.0)
and FOLDOUT_OLDEST_PYTHON (pyspark==4.0.0 and what else a bench needs), or make such environments with pip,
which downloads 300 to 450 MB for each. Where pip fails, the test is skipped and says why.
"""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "scenarios" / "time_series_cv.py"
FOLDS = RECIPE.with_name("time_series_folds.py")
MARKER = "# --- benchmark: delete from here on when copying"

pytestmark = pytest.mark.spark


def run(code_or_file, *arguments, folder, python=sys.executable, path=()):
    """Run a script in a folder of its own; of this repository it can import only what is in `path`."""
    script = Path(code_or_file)
    if "\n" in str(code_or_file):
        script = folder / "script.py"
        script.write_text(textwrap.dedent(code_or_file))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK", "SPARK"))}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYSPARK_PYTHON": str(python)}
    command = [str(part) for part in (python, script, *arguments)]
    settings = {"cwd": folder, "env": environment, "text": True, "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings) as process:
        try:
            said, complained = process.communicate(timeout=300)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # its JVM too, which would keep the pipes open
            raise
    assert process.returncode == 0, said[-2000:] + complained[-4000:]
    return said


FIT = """
    import os, sys
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.evaluation import RegressionEvaluator
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression
    from pyspark.sql import SparkSession

    if __name__ == "__main__":
        spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
        data = spark.range(0, 20, 1, 1).selectExpr("id AS t", "double(id) AS x", "2.0D * id AS label")
        data = VectorAssembler(inputCols=["x"], outputCol="features").transform(data)
"""
SAVE = """
        cv = TimeSeriesCrossValidator(
            estimator=LinearRegression(), evaluator=RegressionEvaluator(), timeCol="t", horizon=3, gap=1, numFolds=2
        )
        cv.save(f"{sys.argv[1]}/cv")
        cv.fit(data).save(f"{sys.argv[1]}/model")
        Pipeline(stages=[cv]).save(f"{sys.argv[1]}/pipeline")
        Pipeline(stages=[cv]).fit(data).save(f"{sys.argv[1]}/pipeline_model")
"""
LOAD = """
        for folder in sys.argv[1:]:
            cv = TimeSeriesCrossValidator.load(f"{folder}/cv")
            model = TimeSeriesCrossValidatorModel.load(f"{folder}/model")
            stages = Pipeline.load(f"{folder}/pipeline").getStages()
            stages += PipelineModel.load(f"{folder}/pipeline_model").stages
            for loaded in (cv, stages[0]):
                assert type(loaded).__name__ == "TimeSeriesCrossValidator", type(loaded)
                assert loaded.getOrDefault("gap") == 1 and not loaded.isSet("stride")
            assert cv.fit(data).avgMetrics == model.avgMetrics
            for loaded in (model, stages[1]):
                assert type(loaded).__name__ == "TimeSeriesCrossValidatorModel", type(loaded)
                assert loaded.transform(data).count() == 20 and len(loaded.foldResults) == 2
        print("all well in", TimeSeriesCrossValidator.__module__)
        spark.stop()
"""
IMPORT = "    from time_series_cv import TimeSeriesCrossValidator, TimeSeriesCrossValidatorModel\n"


@pytest.mark.slow
def test_saved_and_loaded_by_a_script_and_by_an_import(tmp_path):
    """Classes pasted into a script are called __main__.X. Either loads what the other saved, if it has these names."""
    recipe, folds = (path.read_text().split(MARKER)[0] for path in (RECIPE, FOLDS))
    pasted = recipe + textwrap.dedent(FIT + SAVE + LOAD)
    library, script = tmp_path / "library", tmp_path / "script"
    for folder in (library, script, tmp_path / "by_script", tmp_path / "by_import"):
        folder.mkdir()
    (library / "time_series_cv.py").write_text(recipe)
    for folder in (library, script):
        (folder / FOLDS.name).write_text(folds)
    assert "all well in __main__" in run(pasted, tmp_path / "by_script", folder=script)
    # It loads what it saved itself, and then what the script saved.
    both = tmp_path / "by_import", tmp_path / "by_script"
    imported = IMPORT + FIT + SAVE + LOAD
    assert "all well in time_series_cv" in run(imported, *both, folder=script, path=[library])
    across = recipe + textwrap.dedent(FIT + LOAD)
    assert "all well in __main__" in run(across, tmp_path / "by_import", folder=script, path=[library])


def test_the_file_run_as_a_script_saves_under_its_importable_name(tmp_path):
    """The `__main__` block imports the file itself, so nothing that the file saves is named "__main__"."""
    text = RECIPE.read_text()
    main = "def main() -> None:"
    script = tmp_path / "time_series_cv.py"
    script.write_text(text.replace(main, f"{main}\n    print(TimeSeriesCrossValidator)\n    return\n"))
    assert (
        run(script, folder=tmp_path, path=[RECIPE.parent]).strip()
        == "<class 'time_series_cv.TimeSeriesCrossValidator'>"
    )


def test_fair_pools(tmp_path):
    """Fits run their jobs in the caller's FAIR pool, and Spark knows the pool while they run."""
    code = (
        IMPORT
        + """
    import sys
    from pyspark.sql import SparkSession
    from time_series_toys import Calls, ValueOf

    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        .config("spark.scheduler.mode", "FAIR").getOrCreate()
    )
    context = spark.sparkContext
    data = spark.range(0, 20, 1, 1)
    known, seen = context._jsc.sc().getPoolForName, []

    def fit(bias, train):
        train.count()
        seen.append((context.getLocalProperty("spark.scheduler.pool"), known("nightly").isDefined()))
        return 1.0

    assert not known("nightly").isDefined()
    context.setLocalProperty("spark.scheduler.pool", "nightly")
    TimeSeriesCrossValidator(
        estimator=Calls(fit), evaluator=ValueOf(), timeCol="id", numFolds=4, parallelism=3, refit="none"
    ).fit(data)
    assert seen == [("nightly", True)] * 4, seen
    assert str(known("nightly").get().schedulingMode()) == "FIFO"  # within the pool, FAIR between pools
    assert str(context._jsc.sc().getSchedulingMode()) == "FAIR"
    spark.stop()
    print("all well")
    """
    )
    assert "all well" in run(code, folder=tmp_path, path=[RECIPE.parent, HERE])


def environment(name, folder, *packages):
    """The interpreter that the variable names, or that of a new environment with the packages."""
    if name in os.environ:
        return os.environ[name]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"set {name}: pip could not install {' '.join(packages)}: {installed.stderr.strip()[-300:]}")
    return python


@pytest.mark.slow
def test_spark_connect(tmp_path):
    python = sys.executable
    if any(importlib.util.find_spec(package) is None for package in ("grpc", "grpc_status", "zstandard")):
        python = environment("FOLDOUT_CONNECT_PYTHON", tmp_path / "venv", "pyspark[connect]==4.3.0", "pandas<3")
    said = run(HERE / "time_series_smoke.py", "connect", tmp_path, folder=tmp_path, python=python, path=[RECIPE.parent])
    assert "PySpark 4.3.0 connect: all well" in said


@pytest.fixture(scope="module")
def oldest(tmp_path_factory):
    """A Python with the oldest PySpark, and with what `bench` needs."""
    if sys.version_info >= (3, 14):
        pytest.skip("PySpark 4.0 is for Python up to 3.13")
    lines = (HERE.parents[1] / "requirements" / "run.in").read_text().splitlines()
    others = [line for line in lines if line and not line.startswith(("#", "pyspark"))]
    folder = tmp_path_factory.mktemp("oldest")
    return environment("FOLDOUT_OLDEST_PYTHON", folder / "venv", "pyspark==4.0.0", "setuptools", *others)


@pytest.mark.slow
def test_the_oldest_pyspark(tmp_path, oldest):
    assert '"pyspark>=4.0"' in RECIPE.read_text().split("# ///")[1]
    said = run(HERE / "time_series_smoke.py", "classic", tmp_path, folder=tmp_path, python=oldest, path=[RECIPE.parent])
    assert "PySpark 4.0.0 classic: all well" in said


@pytest.mark.slow
def test_bench_with_the_oldest_pyspark(tmp_path, oldest):
    recipes = ["grid_search_single_node", "grid_search_spark_backend", "spark_cross_validator", "time_series_cv"]
    bench = f"""
        import sys
        from suite.cli import main
        words = ["bench", *{recipes}, "--size", "smoke", "--blocks", "1", "--out", {str(tmp_path / "run")!r}]
        sys.exit(main(words))
    """
    said = run(bench, folder=tmp_path, python=oldest, path=[HERE.parents[1]])
    assert re.search(r"(\d+) cells planned, \1 written: \1 ok\.", said), said[-3000:]
