# SPDX-License-Identifier: Apache-2.0
"""Adds numbers up on Spark: a recipe whose second revision runs one Spark job more."""

from __future__ import annotations

import time
from typing import Any


def slowly(number: int) -> int:
    """The same number, after some milliseconds."""
    time.sleep(0.005)
    return number


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"gate": {"rows": 200}}


def make_data(*, rows: int) -> list[int]:
    """The numbers."""
    return list(range(rows))


def run_serial(data: list[int]) -> dict[str, int]:
    """One after the other."""
    return {"total": sum(data)}


def run_on_spark(data: list[int], *, spark: Any) -> dict[str, int]:
    """On all slots."""
    return {"total": spark.sparkContext.parallelize(data).map(slowly).sum()}


def check(reference: dict[str, int], answer: dict[str, int]) -> None:
    """Raise AssertionError where the sums differ."""
    assert answer == reference, f"total is {answer['total']}, not {reference['total']}"
