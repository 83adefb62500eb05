# SPDX-License-Identifier: Apache-2.0
"""The Spark backend on executors of their own: spread evenly, data once for each; some are killed, others come."""

import json
import os
import subprocess
import sys
from pathlib import Path

import grid_search_spark_backend as scenario
import pytest

pytestmark = pytest.mark.spark

# A script, because a process has one Spark context, and that of the other tests is local.
SCRIPT = '''
import json, os, signal, time
import grid_search_spark_backend as backend, joblib, numpy as np
from pyspark.sql import SparkSession
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

DIED = os.path.abspath("died")
builder = SparkSession.builder.master("local-cluster[2,2,1024]").config("spark.ui.enabled", "false")
spark = builder.config("spark.executor.instances", "2").getOrCreate()
backend.register_spark_pool()
with joblib.parallel_config("spark-pool"):
    found = {"slots of a session that has just begun": joblib.effective_n_jobs(-1)}
shipped = []
chunks = backend.chunks
backend.chunks = lambda data: [shipped.append(len(data)), chunks(data)][1]


def where(array=None):
    """The executor that ran it, and the process of its Python daemon."""
    time.sleep(0.3)
    return os.environ["SPARK_LOCAL_DIRS"], os.getppid()


def parent(process):
    return int(open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[1])


def call(count, *args, n_jobs=-1, **options):
    with joblib.parallel_config("spark-pool", n_jobs=n_jobs):
        return joblib.Parallel(batch_size=1, **options)(joblib.delayed(where)(*args) for _ in range(count))


found["executors of two jobs"] = len(set(call(8, n_jobs=2)))
X = np.zeros(500_000)
found["executors of all jobs"] = len(set(call(16, X)))
found["bytes shipped"] = list(shipped)
results = call(24, X, return_as="generator")
first = next(results)
os.kill(parent(first[1]), signal.SIGKILL)
found["results with an executor killed"] = len([first, *results])
backend.stop_spark_pool()
found["pools left"] = len(backend.Pool.known)
folders = {folder for folder, _ in [first, *call(8, X)] for folder in folder.split(",")}
backend.stop_spark_pool()
found["files left"] = [str(path) for folder in folders for path in backend.Path(folder).glob("spark-pool-*")
                       if folder not in first[0]]


def span(_):
    from threadpoolctl import threadpool_info

    begin = time.time()
    time.sleep(0.3)
    return os.environ["SPARK_LOCAL_DIRS"], begin, time.time(), {one["num_threads"] for one in threadpool_info()}


def wait_for_the_next_executor():  # it comes for the one that was killed
    time.sleep(1)
    while backend.count_slots(spark.sparkContext) < 4:
        time.sleep(0.1)


class Mortal(DecisionTreeClassifier):
    """Kills its executor in the middle of a search, once."""

    def fit(self, X, y):
        if self.max_depth == 3 and not os.path.exists(DIED):
            open(DIED, "w").close()
            os.kill(os.getppid(), signal.SIGKILL)
        return super().fit(X, y)


def search():
    X, y = make_classification(200, random_state=0)
    found = GridSearchCV(Mortal(random_state=0), {"max_depth": [1, 2, 3, 4, 5]}, cv=3, error_score="raise").fit(X, y)
    return {name: np.asarray(values).tolist() for name, values in found.cv_results_.items() if "time" not in name}


wait_for_the_next_executor()
open(DIED, "w").close()
expected = search()
os.remove(DIED)
with joblib.parallel_config("spark-pool", n_jobs=4):
    found["a search with an executor killed is the same"] = search() == expected and os.path.exists(DIED)
backend.stop_spark_pool()
wait_for_the_next_executor()
with joblib.parallel_config("spark-pool", num_cpus_per_task=2):
    spans = sorted(joblib.Parallel(batch_size=1)(joblib.delayed(span)(i) for i in range(8)))
found["executors of tasks of two cores"] = len({folder for folder, *_ in spans})
found["at once on one executor"] = sum(one[0] == two[0] and two[1] < one[2] for one, two in zip(spans, spans[1:]))
found["threads of tasks of two cores"] = sorted(set().union(*(threads for *_, threads in spans)))
try:
    with joblib.parallel_config("spark-pool", num_cpus_per_task=3):
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
except RuntimeError as error:
    found["a task of three cores"] = str(error)

# A cluster that grows and shrinks in the middle of a call.
scala = spark.sparkContext._jsc.sc()
executor = scala.getExecutorIds().head()
scala.killExecutor(executor)
while backend.count_slots(spark.sparkContext) != 2:
    time.sleep(0.1)


def where_together(number, signs=os.path.abspath("signs"), most=time.time() + 120):
    """After the first four calls, wait until another executor runs one too."""
    if number >= 4:
        open(os.path.join(signs, os.environ["SPARK_LOCAL_DIRS"].replace("/", "_")), "w").close()
    while number >= 4 and len(os.listdir(signs)) < 2 and time.time() < most:
        time.sleep(0.1)
    return where()


os.mkdir("signs")
with joblib.parallel_config("spark-pool", n_jobs=4):
    parallel = joblib.Parallel(batch_size=1, return_as="generator")
    results = parallel(joblib.delayed(where_together)(number) for number in range(60))
small = [next(results) for _ in range(4)]
found["executors before it grows"] = len({folder for folder, _ in small})
scala.requestExecutors(2)
grown = [next(results) for _ in range(36)]
found["executors when it has grown"] = len({folder for folder, _ in grown})
scala.killExecutor(scala.getExecutorIds().head())
found["results when it has shrunk"] = len([*small, *grown, *results])
backend.stop_spark_pool()
print(json.dumps(found))
spark.stop()
'''


def test_two_executors_share_the_work_and_may_be_killed_or_come_later(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout) == {
        "slots of a session that has just begun": 4,
        "executors of two jobs": 2,
        "executors of all jobs": 2,
        "bytes shipped": [4_000_000, 4_000_000],
        "results with an executor killed": 24,
        "pools left": 0,
        "files left": [],
        "a search with an executor killed is the same": True,
        "executors of tasks of two cores": 2,
        "at once on one executor": 0,
        "threads of tasks of two cores": [2],
        "a task of three cores": "spark-pool: no executor has what a task needs: {'cpus': 3}",
        "executors before it grows": 1,
        "executors when it has grown": 2,
        "results when it has shrunk": 60,
    }


GPU_SCRIPT = """
import json, time
import grid_search_spark_backend as backend, joblib
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local-cluster[1,3,1024]").config("spark.ui.enabled", "false")
# A worker says that it has two GPUs. Nothing here computes on one: each task is to get its own, that is all.
builder = builder.config("spark.worker.resource.gpu.amount", "2").config("spark.executor.resource.gpu.amount", "2")
spark = builder.config("spark.worker.resource.gpu.discoveryScript", "gpus.sh").getOrCreate()
while backend.count_slots(spark.sparkContext) < 3:
    time.sleep(0.1)
backend.register_spark_pool()


def gpus_of(number):
    from pyspark import TaskContext

    time.sleep(0.3)
    return [(kind, *held.addresses) for kind, held in TaskContext.get().resources().items()]


found = {}
with joblib.parallel_config("spark-pool", num_gpus_per_task=1):
    found["tasks"] = joblib.effective_n_jobs(-1)
    each = joblib.Parallel(batch_size=1)(joblib.delayed(gpus_of)(i) for i in range(6))
    found["one each"] = sorted(set(map(str, each)))
with joblib.parallel_config("spark-pool", num_gpus_per_task=2):
    # There is one place for such a task. In a block joblib asks for their number anew; this process has no GPU.
    with joblib.Parallel(batch_size=1) as parallel:
        both = [held for _ in range(2) for held in parallel(joblib.delayed(gpus_of)(i) for i in range(2))]
found["two each"] = [len(held[0]) - 1 for held in both]
try:
    with joblib.parallel_config("spark-pool", num_gpus_per_task=3):
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
except RuntimeError as error:
    found["three"] = str(error)
print(json.dumps(found))
spark.stop()
"""


@pytest.mark.slow
def test_each_task_has_the_gpus_that_it_asks_for(tmp_path: Path) -> None:
    script = tmp_path / "gpus.sh"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["0", "1"]}'\n""")
    script.chmod(0o700)
    (tmp_path / "script.py").write_text(GPU_SCRIPT.replace("gpus.sh", str(script)))
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "script.py"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout)
    assert found["tasks"] == 2
    assert found["one each"] == ["[('gpu', '0')]", "[('gpu', '1')]"]
    assert found["two each"] == [2] * 4
    assert "no executor has what a task needs" in found["three"] or "Spark refuses tasks that need" in found["three"]


GROWING_SCRIPT = """
import json, os, warnings
import grid_search_spark_backend as backend, joblib
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local-cluster[1,2,1024]").config("spark.ui.enabled", "false")
builder = builder.config("spark.dynamicAllocation.enabled", "true").config("spark.executor.cores", "2")
spark = builder.config("spark.dynamicAllocation.executorIdleTimeout", "2s").getOrCreate()
backend.register_spark_pool()


def place(_):
    return os.environ["SPARK_LOCAL_DIRS"]


found = {}
with joblib.parallel_config("spark-pool"), warnings.catch_warnings(record=True) as told:
    found["tasks of a cluster without executors"] = joblib.effective_n_jobs(-1)
    found["told"] = [str(one.message) for one in told]
    found["executors"] = len(set(joblib.Parallel(batch_size=1)(joblib.delayed(place)(i) for i in range(4))))
backend.stop_spark_pool()
with joblib.parallel_config("spark-pool", num_cpus_per_task=2), warnings.catch_warnings(record=True) as told:
    # The second call finds the executor that Spark has started for the first.
    places = [set(joblib.Parallel()(joblib.delayed(place)(i) for i in range(4))) for _ in range(2)]
    found["executors for tasks of two cores"] = len(set.union(*places))
    found["told"] += [str(one.message) for one in told if one.category is UserWarning]
    try:
        with joblib.parallel_config("spark-pool", num_cpus_per_task=3):
            joblib.Parallel()(joblib.delayed(abs)(i) for i in range(2))
    except RuntimeError as error:
        found["a task of three cores"] = str(error)
backend.stop_spark_pool()
print(json.dumps(found))
spark.stop()
"""


@pytest.mark.slow
def test_with_dynamic_allocation_tasks_with_needs_get_executors_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(GROWING_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(scenario.__file__).parent), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "script.py"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout)
    assert found["tasks of a cluster without executors"] == 2
    grow, wait = found["told"]
    assert "dynamic allocation adds executors for tasks that wait" in grow
    assert "tasks that need {'cpus': 2} get executors of their own; where others hold the cores" in wait
    assert found["executors"] == found["executors for tasks of two cores"] == 1
    assert "Spark refuses tasks that need {'cpus': 3}" in found["a task of three cores"]
