# SPDX-License-Identifier: Apache-2.0
"""Adds squares up: a recipe to try the regression gate on. `trials` makes a second revision for each case."""

from __future__ import annotations


def work(units: int) -> int:
    """About a millisecond of one core for each unit."""
    return sum(sum(i * i for i in range(15_000)) for _ in range(units))


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"gate": {"units": 400}}


def make_data(*, units: int) -> int:
    """How many units."""
    return units


def run_serial(data: int) -> dict[str, int]:
    """One after the other."""
    return {"total": work(data)}


def run_pool(data: int, *, parallelism: int) -> dict[str, int]:
    """In a pool."""
    return {"total": work(data)}


def check(reference: dict[str, int], answer: dict[str, int]) -> None:
    """Raise AssertionError where the sums differ."""
    assert answer == reference, f"total is {answer['total']}, not {reference['total']}"
