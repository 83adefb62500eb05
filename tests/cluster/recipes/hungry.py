# SPDX-License-Identifier: Apache-2.0
"""One job that needs little, and jobs that need more memory or more disk than a worker has."""

# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 20}}


def make_data(*, rows):
    return list(range(rows))


def run_modest(data, *, spark):
    """Needs little"""
    return {"total": spark.sparkContext.parallelize(data, 2).sum()}


def run_heap(data, *, spark):
    """Needs too much heap"""
    # An array of 2 GiB for each row, in an executor with less than that.
    spark.range(2, numPartitions=2).selectExpr("size(array_repeat(cast(id as double), 268435456))").collect()
    return {"total": 0}


def run_python(data, *, spark):
    """Needs too much memory in Python"""
    spark.sparkContext.parallelize(data, 2).map(lambda row: len(bytearray(b"x" * 8 * 2**30))).sum()
    return {"total": 0}


def run_disk(data, *, spark):
    """Shuffles more than a small disk holds"""
    noise = spark.range(0, 40_000_000, 1, 4).selectExpr("id", "xxhash64(id) noise", "xxhash64(id + 1) more")
    count = noise.repartition(4, "noise").count()
    return {"total": sum(data) if count else 0}


def check(reference, answer):
    assert answer == reference
