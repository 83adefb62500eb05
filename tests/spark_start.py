# SPDX-License-Identifier: Apache-2.0
"""Lets Spark's JVMs start sooner in tests, which need answers and start many of them.

Two things make a JVM cheap to start. It compiles with the quick compiler alone and collects garbage in one thread; and
it maps Spark's classes from an archive (AppCDS, JEP 310 and 350) instead of reading and checking them from jars.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyspark

from suite.spark.java import QUICK_COMPILER, write_executable

QUICK = f"{QUICK_COMPILER} -XX:+UseSerialGC"

# Loads what most tests load. The archive holds the classes that this has used when it ends.
TRAINING = """
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession, functions as F

spark = (
    SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.sql.shuffle.partitions", "2").getOrCreate()
)
frame = spark.range(60).withColumn("y", F.col("id") * 2.0 + F.rand(1)).withColumn("key", F.col("id") % 3)
frame.groupBy("key").agg(F.sum("y"), F.min("id")).orderBy("key").toPandas()
frame.mapInPandas(lambda batches: batches, frame.schema).cache().count()
ready = VectorAssembler(inputCols=["id", "key"], outputCol="features").transform(frame).withColumnRenamed("y", "label")
regression = LinearRegression(maxIter=2)
grid = ParamGridBuilder().addGrid(regression.regParam, [0.1, 1.0]).build()
CrossValidator(estimator=regression, estimatorParamMaps=grid, evaluator=RegressionEvaluator(), numFolds=2).fit(ready)
java = spark.sparkContext._gateway.proc
spark.stop()
java.stdin.close()
java.wait()
"""

LAUNCHER = """#!/bin/sh
exec {java} {options} "$@"
"""


def make_archive(java: Path, archive: Path) -> None:
    """Write Spark's classes, as this Java keeps them in memory, to an archive."""
    draft = archive.with_suffix(f".{os.getpid()}")
    options = f"{QUICK} -Xlog:disable -XX:ArchiveClassesAtExit={draft}"
    environment = {**os.environ, "JAVA_HOME": str(java.parent.parent), "SPARK_SUBMIT_OPTS": options}
    try:
        subprocess.run([sys.executable, "-c", TRAINING], env=environment, check=True, capture_output=True, timeout=300)
        draft.replace(archive)  # two test runs that start together each see a whole file
    finally:
        draft.unlink(missing_ok=True)


def quick_java(home: Path) -> Path:
    """Return a `JAVA_HOME` whose `java` is that of another, with options that let it start sooner.

    It lies beside the environment's own files: its archive serves these jars alone, and goes when they go. The archive
    is made where there is none, or Java or PySpark is newer.

    Raises
    ------
    OSError, subprocess.SubprocessError
        It cannot be written, or Spark does not start.
    """
    java = (home / "bin" / "java").resolve()
    quick = Path(sys.prefix) / "share" / "foldout-tests" / java.parent.parent.name
    if home == quick:  # in a test run that a test starts
        return home
    quick.mkdir(parents=True, exist_ok=True)
    archive = quick / "spark.jsa"
    newest = max(path.stat().st_ctime for path in (java, Path(pyspark.__file__).with_name("jars")))
    if not archive.exists() or archive.stat().st_mtime < newest:
        make_archive(java, archive)
    # Should it not fit all the same, Java leaves it alone without a word.
    options = f"{QUICK} -XX:SharedArchiveFile={shlex.quote(str(archive))} -Xlog:disable"
    write_executable(quick / "bin" / "java", LAUNCHER.format(java=shlex.quote(str(java)), options=options))
    return quick
