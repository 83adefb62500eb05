# SPDX-License-Identifier: Apache-2.0
"""A Python worker that is killed in the middle of scoring: Spark starts the task again, and no prediction changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import udf_inference

pytestmark = pytest.mark.spark

# A script, because a process has one Spark context, and that of the other tests gives up with the first failure.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression
from udf_inference import score

class Dies(LogisticRegression):
    def predict(self, X):
        if os.getpid() != self.driver:
            try:
                Path(self.died).touch(exist_ok=False)
            except FileExistsError:
                return super().predict(X)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(X)

generator = np.random.default_rng(0)
X = generator.normal(size=(1000, 3))
model = Dies().fit(X, X.sum(axis=1) > 0)
model.driver = os.getpid()
expected = LogisticRegression.predict(model, X).tolist()
spark = (SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false")
         .config("spark.log.level", "OFF").getOrCreate())
rows = [(number, *row) for number, row in enumerate(X.tolist())]
spark.createDataFrame(rows, "id long, a double, b double, c double").repartition(4).write.parquet("table")
frame = spark.read.parquet("table")
found = {}
for way in sys.argv[1:]:
    model.died = str(Path(f"died-{way}").absolute())
    scored = score(frame, model, features=["a", "b", "c"], way=way).select("id", "prediction").toPandas()
    answers = scored.sort_values("id")["prediction"].tolist()
    found[way] = {"died": Path(model.died).exists(), "same": answers == expected}
print(json.dumps(found))
"""
WAYS = ("arrow_udf", "pandas_udf", "predict_batch_udf", "map_in_pandas", "map_in_arrow", "files")


def test_a_killed_worker_changes_no_prediction(tmp_path: Path) -> None:
    assert set(WAYS) <= set(udf_inference.WAYS)
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(udf_inference.__file__).parent)}
    command = [sys.executable, "script.py", *WAYS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {way: {"died": True, "same": True} for way in WAYS}
