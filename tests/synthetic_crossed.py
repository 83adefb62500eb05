# SPDX-License-Identifier: Apache-2.0
"""Writes a run folder that was never run, of a recipe that crosses two factors: length of fits and size of X."""

import itertools
import json

import synthetic

from suite.plan.cells import cell_id
from suite.report.points import read_run

LENGTHS, SIZES = (0.01, 0.001, 0.1), (1, 20)
# Label, parallelism, slots, fits, and seconds that each fit costs beyond itself.
WAYS = {
    "serial": ("One process", None, None, 10, 0.0),
    "loky": ("loky", 2, None, 20, 0.002),
    "pool": ("Spark pool", 2, 2, 20, 0.02),
}


def seconds_of_fit(way, length, megabytes):
    """Two slots halve the time of a fit; what it costs beyond that grows with X."""
    parallelism, cost = WAYS[way][1], WAYS[way][4]
    return length / (parallelism or 1) + cost * (1 if megabytes == 1 else 10)


def written(folder, blocks=1, lacks=()):
    cells, lines = [], []
    for block in range(blocks):
        for way, length, megabytes in itertools.product(WAYS, LENGTHS, SIZES):
            label, parallelism, slots, fits, _ = WAYS[way]
            factors = {"slots": slots, "parallelism": parallelism, "fit_seconds": length, "megabytes": megabytes}
            cell = {
                "id": cell_id("even", way, factors, block),
                "scenario": "even",
                "variant": way,
                "label": label,
                "workload": "fits",
                "base": way == "serial",
                "factors": factors,
                "block": block,
                "order": len(cells),
                "bound": None,
                "oversubscribed": False,
            }
            cells.append({**cell, "session": slots})
            took = seconds_of_fit(way, length, megabytes) * fits * (1 + 0.001 * block)
            bad = (way, length, megabytes) in lacks
            lines.append(
                {
                    **cell,
                    "schema": 1,
                    "run": "even",
                    "status": "failed" if bad else "ok",
                    "reason": "it broke" if bad else None,
                    "seconds": None if bad else took,
                    "answer": {"fits": fits},
                    "at": "2026-11-22T17:00:00+00:00",
                }
            )
    about = {
        "title": "Break-even",
        "workload": "fits",
        "parallelism": "slots",
        "centre": {"fit_seconds": 0.01, "megabytes": 1},
        "crossed": ["fit_seconds", "megabytes"],
    }
    plan = synthetic.plan(0) | {"blocks": blocks, "cells": cells, "scenarios": {"even": about}}
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "environment.json").write_text(json.dumps(synthetic.ENVIRONMENT))
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(folder)
