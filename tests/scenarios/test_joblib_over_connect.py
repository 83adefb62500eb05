# SPDX-License-Identifier: Apache-2.0
"""What joblib users meet over Spark Connect: our backend refuses and names joblib-spark's recipe, and that one works.

Needs packages that the project does not, like the tests in test_time_series_cv_processes.py: it uses the interpreter
named by FOLDOUT_CONNECT_JOBLIB_PYTHON, or makes an environment.
"""

import importlib.util
import sys

import pytest

from tests.scenarios.test_time_series_cv_processes import RECIPE, environment, run

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SCRIPT = """
    import sys

    import joblib
    from grid_search_joblib_spark import on_spark
    from grid_search_spark_backend import register_spark_pool
    from pyspark.sql import SparkSession
    from sklearn.datasets import make_classification
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    if __name__ == "__main__":
        spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
        assert "connect" in type(spark).__module__
        X, y = make_classification(200, random_state=0)
        search = GridSearchCV(SVC(), {"C": [0.01, 1.0, 100.0]}, cv=4, error_score="raise")
        register_spark_pool()
        for n_jobs in (2, -1):
            with joblib.parallel_config("spark-pool", n_jobs=n_jobs):
                try:
                    search.fit(X, y)
                except RuntimeError as error:
                    print(f"refused: {error}")
        here = search.fit(X, y).cv_results_["mean_test_score"].tolist()
        with on_spark():
            there = search.fit(X, y).cv_results_["mean_test_score"].tolist()
        print("the same" if there == here else (there, here))
        with on_spark(n_jobs=2):
            try:
                joblib.Parallel()(joblib.delayed(int)(text) for text in ("1", "x", "2"))
            except ValueError as error:
                print(error)
        spark.stop()
"""


@pytest.mark.parametrize("server", ["local[2]", "local-cluster[2,1,1024]"])
def test_our_backend_names_the_recipe_that_works_over_connect(tmp_path, server):
    python = sys.executable
    if any(importlib.util.find_spec(package) is None for package in ("grpc", "grpc_status", "zstandard")):
        packages = ("pyspark[connect]==4.3.0", "pandas<3", "joblibspark==0.6.0", "scikit-learn==1.9.1", "packaging")
        python = environment("FOLDOUT_CONNECT_JOBLIB_PYTHON", tmp_path / "venv", *packages)
    said = run(SCRIPT, server, folder=tmp_path, python=python, path=[RECIPE.parent]).splitlines()
    refused = (
        "refused: spark-pool: with Spark Connect no executor can reach this process. Use joblib-spark's backend "
        "(grid_search_joblib_spark.py), which sends each batch as a Spark job"
    )
    assert said == [refused, refused, "the same", "invalid literal for int() with base 10: 'x'"]
