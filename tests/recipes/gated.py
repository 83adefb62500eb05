# SPDX-License-Identifier: Apache-2.0
"""Adds numbers up. Tests of the gate make revisions in which it differs."""

from __future__ import annotations


def total(numbers: list[int]) -> int:
    return sum(numbers)


# --- benchmark: delete from here on when copying ------------------------
PARALLELISM = "slots"
SIZES = {"smoke": {"rows": 10}, "ci": {"rows": 20}}


def make_data(*, rows):
    return list(range(rows))


def run_serial(data):
    """One after the other"""
    return {"total": total(data)}


def run_many(data, *, parallelism):
    """Many at once"""
    return {"total": total(data)}


def check(reference, answer):
    assert answer == reference, f"total is {answer['total']}, not {reference['total']}"
