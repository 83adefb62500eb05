# SPDX-License-Identifier: Apache-2.0
"""Adds numbers up, without Spark, and misbehaves on request."""

from __future__ import annotations

import os
import signal
import time


def total(numbers: list[int]) -> int:
    return sum(numbers)


# --- benchmark: delete from here on when copying ------------------------
SIZES = {
    "smoke": {"rows": (10, 20), "pause": 0.02},
    "ci": {"rows": 10, "pause": 0.5},
    "full": {"rows": 5000, "pause": 0},
}


def make_data(*, rows, seed=0):
    return list(range(rows))


def validate(*, rows):
    if rows > 1000:
        raise ValueError(f"there are 1000 rows, not {rows}")


def run_good(data, *, pause):
    """One after the other"""
    time.sleep(pause)
    return {"total": total(data)}


def run_processes(data, *, parallelism):
    """Many at once"""
    return {"total": total(data)}


def run_raises(data):
    """Raises"""
    raise RuntimeError("the cause\nand a second line")


def run_wrong(data):
    """Answers wrongly"""
    return {"total": total(data) + 1}


def run_not_json(data):
    """Answers NaN"""
    return {"total": float("nan")}


def run_nothing(data):
    """Answers None"""


def run_hangs(data):
    """Hangs, with a child that hangs too"""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setpgid(0, 0)
        time.sleep(600)
    time.sleep(600)


def run_dies(data):
    """Ends its process"""
    os._exit(3)


def check(reference, answer):
    assert answer == reference, f"total is {answer['total']}, not {reference['total']}"
