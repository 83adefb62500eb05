# SPDX-License-Identifier: Apache-2.0
"""The Spark backend with large data: its memory beside loky's, and 4 GB on two executors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import grid_search_spark_backend as scenario
import pytest

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SCRIPT = '''
import json, os, sys, threading, time
import grid_search_spark_backend as backend, joblib, numpy as np, psutil
from pyspark.sql import SparkSession

master, backends, rows = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
spark = SparkSession.builder.master(master).config("spark.ui.enabled", "false").getOrCreate()
while backend.count_slots(spark.sparkContext) < 2:
    time.sleep(0.1)
backend.register_spark_pool()
X = np.ones((rows, 1000))


def total(X, part):
    """Read every number, and keep none."""
    time.sleep(0.2)  # so that each worker gets some of the calls
    return float(sum(X[first : first + 1000].sum() for first in range(0, len(X), 1000))), part, os.getpid()


class Memory(threading.Thread):
    """Looks at the memory of all Python processes that this one has started, directly or not: shared parts once."""

    def __init__(self):
        super().__init__()
        self.most, self.own, self.ended = 0, 0, threading.Event()
        self.before = psutil.Process().memory_info().rss
        self.start()

    def run(self):
        while not self.ended.wait(0.1):
            found = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    found += process.memory_full_info().pss if "python" in process.name() else 0
                except psutil.Error:
                    pass
            self.most = max(self.most, found)
            self.own = max(self.own, psutil.Process().memory_info().rss - self.before)


found = {}
for name in backends:
    memory = Memory()
    with joblib.parallel_config(name, n_jobs=2):
        results = joblib.Parallel(batch_size=1)(joblib.delayed(total)(X, part) for part in range(8))
    memory.ended.set()
    memory.join()
    assert [(value, part) for value, part, _ in results] == [(float(X.size), part) for part in range(8)]
    found[name] = {"workers": len({one[2] for one in results}), "memory": memory.most, "own": memory.own}
    backend.stop_spark_pool()
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
print(json.dumps({"bytes": X.nbytes, **found}))
spark.stop()
'''


def measure(folder: Path, *arguments: str) -> dict:
    (folder / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent)}
    command = [sys.executable, "script.py", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    return dict(json.loads(result.stdout))


def test_half_a_gigabyte_takes_the_memory_of_loky_and_at_most_one_copy(tmp_path: Path) -> None:
    found = measure(tmp_path, "local[2]", "loky,spark-pool", "62500")
    assert found["bytes"] == 500_000_000
    loky, ours = found["loky"], found["spark-pool"]
    assert loky["workers"] == ours["workers"] == 2
    assert ours["memory"] < loky["memory"] + found["bytes"]
    assert ours["own"] < found["bytes"] / 2  # no copy in this process


def test_four_gigabytes_on_two_executors_of_six(tmp_path: Path) -> None:
    found = measure(tmp_path, "local-cluster[2,1,1024]", "spark-pool", "500000")
    assert found["bytes"] == 4_000_000_000
    ours = found["spark-pool"]
    assert ours["workers"] == 2
    # Each executor has one copy, mapped from a file, and little else: far from 6 GB with the JVM's 1 GB.
    assert ours["memory"] < 2 * found["bytes"] + 1_000_000_000
    assert ours["own"] < 1_000_000_000
