# SPDX-License-Identifier: Apache-2.0
"""`benchmark.json`: a run in the format of pytest-benchmark, for its tools. The suite never reads it back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_benchmark.stats import Stats

from suite import records
from suite.plan.cells import factor_words
from suite.records import Record

FORMAT_VERSION = "4.0.0"  # of the file format; pytest-benchmark counts it apart from its own version


def benchmark_entries(found: Iterable[Record]) -> list[dict[str, Any]]:
    """An entry for each scenario, variant and setting; its rounds are the warm seconds of the blocks.

    Parameters
    ----------
    found : iterable of Record
        Those without a time are left out.
    """
    samples: dict[tuple[str, str, str], list[Record]] = {}
    for record in found:
        if record.seconds is not None:
            samples.setdefault((record.scenario, record.variant, factor_words(record.factors)), []).append(record)
    entries = []
    for (scenario, variant, words), same in sorted(samples.items()):
        stats = Stats()
        for record in same:
            stats.update(record.seconds)
        name = f"{variant}[{words}]"
        entries.append(
            {
                "group": same[0].workload,
                "name": name,
                "fullname": f"scenarios/{scenario}.py::{name}",
                "params": same[0].factors,
                "param": words,
                "extra_info": {"cold_seconds": [record.cold_seconds for record in same]},
                "options": {
                    "disable_gc": False,
                    "timer": "perf_counter",
                    "min_rounds": len(same),
                    "max_time": 0.0,
                    "min_time": 0.0,
                    "warmup": True,
                },
                "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
            }
        )
    return entries


def write_export(directory: Path) -> None:
    """Write `benchmark.json` into a run folder, from its records and its `environment.json`."""
    facts = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
    machine = facts["machine"]
    content = {
        "machine_info": {
            "node": "",
            "processor": machine["cpu"],
            "machine": machine["architecture"],
            "python_compiler": "",
            "python_implementation": "CPython",
            "python_implementation_version": facts["python"],
            "python_version": facts["python"],
            "python_build": ["", ""],
            "release": machine["os"],
            "system": machine["os"].split("-")[0],
            "cpu": {"brand_raw": machine["cpu"], "count": machine["cores"]},
        },
        "commit_info": {
            "id": facts["revision"]["commit"],
            "dirty": facts["revision"]["dirty"],
            "time": None,
            "author_time": None,
            "project": "foldout",
            "branch": "(unknown)",
        },
        "benchmarks": benchmark_entries(records.read(directory / "records.jsonl")),
        "datetime": facts["date"],
        "version": FORMAT_VERSION,
    }
    (directory / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
