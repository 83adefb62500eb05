# SPDX-License-Identifier: Apache-2.0
"""Lets Spark's JVMs start in a third of their CPU time, for tests: they need answers, and start some hundred JVMs.

Two things make a JVM cheap to start. It compiles with the quick compiler alone and collects garbage in one thread; and
it maps Spark's classes from an archive (AppCDS, JEP 310 and 350) instead of reading and checking them from jars.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

QUICK = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"

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
exec "{java}" {options} "$@"
"""


def class_archive(java: Path, folder: Path) -> Path | None:
    """Return the archive of Spark's classes for a Java, made where it is missing; None where it cannot be made."""
    archive = folder / "spark.jsa"
    if archive.exists():
        return archive
    draft = folder / f"spark.{os.getpid()}.jsa"
    environment = {
        **os.environ,
        "JAVA_HOME": str(java.parent.parent),
        "SPARK_SUBMIT_OPTS": f"{QUICK} -Xlog:disable -XX:ArchiveClassesAtExit={draft}",
    }
    try:
        subprocess.run([sys.executable, "-c", TRAINING], env=environment, check=True, capture_output=True, timeout=300)
        draft.replace(archive)  # two test runs that start together each see a whole file
    except (OSError, subprocess.SubprocessError):
        draft.unlink(missing_ok=True)
        return None
    return archive


def quick_java(home: Path) -> Path:
    """Return a `JAVA_HOME` whose `java` is that of another, with options that let it start quickly.

    It lies beside the environment's own files: its archive serves these jars alone, and goes when they go.
    """
    if home.parent.name == "foldout-tests":
        return home
    java = (home / "bin" / "java").resolve()
    quick = Path(sys.prefix) / "share" / "foldout-tests" / java.parent.parent.name
    launcher = quick / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    options = QUICK
    if archive := class_archive(java, quick):
        # An archive that does not fit (other jars, another Java) is left alone without a word.
        options += f" -XX:SharedArchiveFile='{archive}' -Xlog:disable"
    text = LAUNCHER.format(java=java, options=options)
    if not launcher.exists() or launcher.read_text() != text:
        draft = launcher.with_name(f"java.{os.getpid()}")
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(launcher)
    return quick
