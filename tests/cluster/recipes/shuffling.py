# SPDX-License-Identifier: Apache-2.0
"""Moves data between executors, and from the driver to them: what encryption of a cluster costs.

python -m suite bench tests/cluster/recipes/shuffling.py --master compose --out results/plain
FOLDOUT_ENCRYPT=1 python -m suite bench tests/cluster/recipes/shuffling.py --master compose --out results/encrypted
"""

import random

# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 100_000, "mebibytes": 1}, "ci": {"rows": 4_000_000, "mebibytes": 64}}


def make_data(*, mebibytes, seed=0):
    return random.Random(seed).randbytes(mebibytes * 2**20)


def run_shuffle(data, *, spark, rows):
    """Shuffle between executors"""
    noise = spark.range(0, rows, 1, 8).selectExpr("id", "xxhash64(id) one", "xxhash64(id + 1) two")
    spread = noise.repartition(8, "one").selectExpr("sum(id) total", "bit_xor(one) noise").first()
    return {"total": spread.total}


def run_broadcast(data, *, spark, rows):
    """Broadcast to executors"""
    shared = spark.sparkContext.broadcast(data)
    sizes = spark.sparkContext.parallelize(range(8), 8).map(lambda _: len(shared.value)).collect()
    shared.destroy()
    return {"total": rows * (rows - 1) // 2 if set(sizes) == {len(data)} else sizes}


def check(reference, answer):
    assert answer == reference, f"{answer} is not {reference}"
