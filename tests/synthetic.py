# SPDX-License-Identifier: Apache-2.0
"""Writes a run folder that was never run: plan, records and environment with made-up times, to draw and to test.

python tests/synthetic.py FOLDER [BLOCKS]       writes one and draws its charts and report
"""

import hashlib
import json
import random
import sys
from pathlib import Path

CORES = 2

# scenario: (title, workload, threads or slots, centre, sweeps, variants); variant: (label, kind, seconds of
# the job)
SCENARIOS = {
    "grid_search_single_node": (
        "Grid search on one machine",
        "svc grid search",
        "slots",
        {"folds": 5, "candidates": 48},
        {"folds": (3, 10)},
        {"serial": ("One fit at a time", "serial", 3.1), "loky": ("All cores by loky", "processes", 3.2)},
    ),
    "grid_search_joblib_spark": (
        "The same search through joblib-spark",
        "svc grid search",
        "slots",
        {"folds": 5, "candidates": 48},
        {"folds": (3, 10)},
        {"joblib_spark": ("joblib-spark, a job per batch", "slots", 34.0)},
    ),
    "udf_inference": (
        "A fitted model over a Spark DataFrame",
        "svc inference",
        "slots",
        {"rows": 20000},
        {"rows": (100000,)},
        {
            "driver": ("scikit-learn on the driver", "serial", 0.24),
            "row_udf": ("Row-at-a-time UDF", "slots", 9.0),
            "pandas_udf": ("pandas_udf, Arrow batches", "slots", 0.36),
            "arrow": ("mapInArrow", "slots", 0.31),
        },
    ),
    "spark_cross_validator": (
        "Spark ML CrossValidator",
        "logistic regression CV",
        "threads",
        {"folds": 3, "candidates": 6},
        {"folds": (6,)},
        {"cross_validator": ("CrossValidator", "threads", 2.4)},
    ),
    "time_series_cv": (
        "Time-series cross-validation",
        "flight demand CV",
        "threads",
        {"folds": 4, "candidates": 3, "days": 365},
        {"folds": (8, 12)},
        {
            "serial": ("One fit at a time", "serial", 2.2),
            "folds": ("Fold after fold", "threads", 2.3),
            "pool": ("All folds and candidates in one pool", "threads", 2.25),
        },
    ),
    "time_series_cv_waiting": (
        "The schedule itself, with jobs that wait",
        "waiting",
        "threads",
        {"folds": 12, "candidates": 2},
        {"folds": (3, 6)},
        {
            "serial": ("One fit at a time", "serial", 4.8),
            "folds": ("Fold after fold", "threads", 4.8),
            "pool": ("All folds and candidates in one pool", "threads", 4.8),
        },
    ),
}
PARALLELISM = {"slots": (2, 1, 4), "threads": (2, 1, 4), "waiting": (4, 1, 2, 8, 24)}


def rounds(kind, variant, folds, candidates, p):
    if kind == "serial":
        return folds * candidates
    if variant == "folds" or variant == "cross_validator":
        return folds * -(-candidates // p)
    return -(-folds * candidates // p)


def settings(mode, centre, sweeps, kind, waiting):
    values = PARALLELISM["waiting" if waiting else mode] if kind != "serial" else (None,)
    yield from ((p, centre) for p in values)
    for name, others in sweeps.items():
        for other in others:
            yield values[0], {**centre, name: other}


def plan(blocks, seed=0, only=None):
    templates = []
    about = {}
    for scenario, (title, workload, mode, centre, sweeps, variants) in SCENARIOS.items():
        if only and workload not in only:
            continue
        about[scenario] = {
            "title": title,
            "workload": workload,
            "parallelism": mode,
            "path": f"scenarios/{scenario}.py",
            "sha256": "0" * 64,
        }
        waiting = workload == "waiting"
        for variant, (label, kind, _) in variants.items():
            on_spark = kind in ("slots", "threads") or (kind == "serial" and mode == "threads")
            for p, shape in settings(mode, centre, sweeps, kind, waiting):
                slots = None if not on_spark else 32 if waiting else CORES if mode == "threads" else p
                bound = None
                if "candidates" in shape and mode == "threads":
                    fits = shape["folds"] * shape["candidates"]
                    bound = fits / rounds(kind, variant, shape["folds"], shape["candidates"], min(p or 1, slots or 1))
                templates.append(
                    {
                        "scenario": scenario,
                        "variant": variant,
                        "label": label,
                        "workload": workload,
                        "base": variant in ("serial", "driver") or variant == "cross_validator",
                        "factors": {"slots": slots, "parallelism": p, **shape},
                        "session": slots,
                        "bound": bound,
                        "oversubscribed": mode == "slots" and (p or 1) > CORES,
                    }
                )
    shuffle = random.Random(seed)
    cells = []
    for block in range(blocks):
        shuffle.shuffle(templates)
        for template in templates:
            name = json.dumps([template["scenario"], template["variant"], template["factors"], block])
            number = hashlib.sha256(name.encode()).hexdigest()[:16]
            cells.append({"id": number, **template, "block": block, "order": len(cells)})
    return {
        "schema": 1,
        "run": "synthetic",
        "created": "2026-11-22T17:00:00+00:00",
        "command": "python -m suite bench --size ci",
        "size": "ci",
        "master": "local[2]",
        "blocks": blocks,
        "cores": CORES,
        "scenarios": about,
        "bases": {c["workload"]: [c["scenario"], c["variant"]] for c in cells if c["base"]},
        "cells": cells,
    }


def seconds(cell, noise):
    _, workload, mode, centre, _, variants = SCENARIOS[cell["scenario"]]
    _, _, job = variants[cell["variant"]]
    factors = cell["factors"]
    for name in ("folds", "rows"):
        if name in centre:
            job *= factors[name] / centre[name]
    p = factors["parallelism"] or 1
    if workload == "waiting":
        took = job / cell["bound"] * (1 + 0.01 * p) if cell["bound"] else job
    elif cell["bound"]:
        took = job / (1 + 0.7 * (min(cell["bound"], p) - 1))
    else:
        useful = min(p, CORES)
        took = job / (1 + 0.8 * (useful - 1)) * (1.1 if p > CORES else 1.0) + (0.15 if mode == "slots" else 0)
    return took * noise.lognormvariate(0, 0.01 if workload == "waiting" else 0.05)


def records(plan, seed=1):
    noise = random.Random(seed)
    for cell in plan["cells"]:
        warm = seconds(cell, noise)
        slots = cell["factors"]["slots"]
        answer = {"score": 0.93}
        if "rows" in cell["factors"]:
            answer["rows"] = cell["factors"]["rows"] // (10 if cell["variant"] == "row_udf" else 1)
            warm = warm / 10 if cell["variant"] == "row_udf" else warm
        engaged = {
            "slots": min(slots or 1, cell["factors"]["parallelism"] or 1),
            "executors": 1,
            "tasks": 36,
            "jobs": 36,
        }
        yield {
            **{k: v for k, v in cell.items() if k != "session"},
            "schema": 1,
            "run": plan["run"],
            "status": "ok",
            "reason": None,
            "seconds": warm,
            "cold_seconds": warm * 1.4 + (1.2 if slots else 0.02) if cell["order"] % 3 else None,
            "answer": answer,
            "engaged": {**engaged, "task_seconds": warm * engaged["slots"] * 0.9, "to_python": 2_000_000}
            if slots
            else None,
            "overhead": {
                "session": 3.5,
                "driver": warm * 0.1,
                "tasks": warm * engaged["slots"] * 0.9,
                "shipping": warm * 0.05,
                "idle": warm * ((slots or 1) - engaged["slots"] * 0.9),
                "refit": None,
            }
            if slots
            else None,
            "memory": {"driver": 200.0, "jvm": 900.0}
            if slots
            else {"driver": 200.0, "workers": 300.0, "worker": 150.0},
            "warnings": [],
            "session": {
                "id": f"b{cell['block']}-local{slots}",
                "seconds": 3.5 if slots else None,
                "position": 0,
            },
            "at": "2026-11-22T17:00:00+00:00",
        }


ENVIRONMENT = {
    "schema": 1,
    "date": "2026-11-22T17:00:00+00:00",
    "machine": {
        "cpu": "Example CPU @ 2.50GHz",
        "cores": CORES,
        "memory_gib": 7.8,
        "os": "Linux-6.1-glibc2.36",
        "architecture": "x86_64",
    },
    "python": "3.11.2",
    "java": {"version": 17, "source": "system"},
    "versions": {"pyspark": "4.3.0", "scikit-learn": "1.9.1", "joblib": "1.6.0"},
    "threads": {"OMP_NUM_THREADS": "1"},
    "master": "local[2]",
    "revision": {"commit": "0123456789abcdef", "dirty": False},
    "before": {"load_average": [0.1, 0.2, 0.3]},
    "after": None,
}


def write(directory, blocks=6, seed=0, only=None, change=lambda record: record, **about):
    """Write a run folder.

    `change` gets each record and returns it, changed or not, or None to leave it out; `about` overrides the
    plan. `label` in it is what the environment calls the master, as `bench` does of clusters that it has started.
    """
    label = about.pop("label", None)
    directory.mkdir(parents=True, exist_ok=True)
    made = {**plan(blocks, seed, only), **about}
    kept = [changed for record in records(made, seed + 1) if (changed := change(record)) is not None]
    (directory / "plan.json").write_text(json.dumps(made))
    (directory / "environment.json").write_text(json.dumps({**ENVIRONMENT, "master": label or made["master"]}))
    (directory / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept))
    return directory


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from suite.report.page import write_report
    from suite.report.terminal import summary

    folder = write(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
    write_report(folder)
    print(summary(folder))
