# SPDX-License-Identifier: Apache-2.0
"""Moves data between executors, and from the driver to them: what encryption of a cluster costs.

Run by `python -m suite encryption`.
"""

import random
from typing import Any

# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 100_000, "mebibytes": 1}, "ci": {"rows": 4_000_000, "mebibytes": 64}}


def make_data(*, mebibytes: int, seed: int = 0) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(mebibytes * 2**20)


def run_shuffle(data: bytes, *, spark: Any, rows: int) -> dict[str, Any]:
    """Shuffle between executors."""
    noise = spark.range(0, rows, 1, 8).selectExpr("id", "xxhash64(id) one", "xxhash64(id + 1) two")
    spread = noise.repartition(8, "one").selectExpr("sum(id) total", "bit_xor(one) noise").first()
    return {"total": spread.total}


def run_broadcast(data: bytes, *, spark: Any, rows: int) -> dict[str, Any]:
    """Broadcast to executors."""
    shared = spark.sparkContext.broadcast(data)
    sizes = spark.sparkContext.parallelize(range(8), 8).map(lambda _: len(shared.value)).collect()
    shared.destroy()
    return {"total": rows * (rows - 1) // 2 if set(sizes) == {len(data)} else sizes}


def check(reference: Any, answer: Any) -> None:
    """The sum of the rows' numbers."""
    assert answer == reference, f"{answer} is not {reference}"
