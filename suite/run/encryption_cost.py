# SPDX-License-Identifier: Apache-2.0
"""`python -m suite encryption`: what encryption costs a cluster of local processes.

Master, workers and driver have to agree on it, so each block starts two clusters, one in the clear and one encrypted,
in random order, and runs the same recipe on both. Ratios are formed within a block.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite import records, stats
from suite.machine import environment
from suite.records import write_json
from suite.spark.java import find_java

CLUSTERS = {"clear": "", "encrypted": "1"}
RECIPE = Path(__file__).resolve().parent / "recipes" / "shuffling.py"


def measure_encryption(blocks: int, folder: Path | None) -> int:
    """Measure blocks, a minute a block and cluster, and write `cost.json` into a folder (or `results/encryption`).

    Returns
    -------
    int
        0, or the exit code of a bench that did not end well.
    """
    folder = folder or environment.ROOT / "results" / "encryption"
    measured = []
    with tempfile.TemporaryDirectory(prefix="foldout-encryption-") as made:
        for block in range(blocks):
            seconds = {}
            for cluster in random.sample(list(CLUSTERS), len(CLUSTERS)):
                out = Path(made) / f"{block}-{cluster}"
                if code := _bench(cluster, out):
                    return code
                seconds[cluster] = {record.name: record.seconds for record in records.read(out / "records.jsonl")}
            measured.append(seconds)
    cost = {name: _cost(name, measured) for name in measured[0]["clear"]}
    facts = environment.describe_environment("standalone", find_java().facts)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "cost.json", {"order": [list(block) for block in measured], "cost": cost, "made": facts})
    print(f"written: {folder / 'cost.json'}")
    return 0


def _bench(cluster: str, out: Path) -> int:
    options = ["--size", "ci", "--blocks", "1", "--master", "standalone", "--workers", "2", "--slots", "2"]
    return subprocess.run(
        [sys.executable, "-m", "suite", "bench", str(RECIPE), *options, "--out", str(out)],
        cwd=environment.ROOT,
        env={**os.environ, "FOLDOUT_ENCRYPT": CLUSTERS[cluster]},
        check=False,
    ).returncode


def _cost(name: str, measured: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What a recipe took on both clusters, and the ratio; says so as well."""
    seconds = {cluster: {number: block[cluster][name] for number, block in enumerate(measured)} for cluster in CLUSTERS}
    ratio = stats.ratio_interval(seconds["encrypted"], seconds["clear"])
    if ratio is None:
        raise ValueError(f"no block has {name} on both clusters")
    middle = {cluster: statistics.median(each.values()) for cluster, each in seconds.items()}
    limits = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.coverage else ""
    said = f"{middle['clear']:.2f} s in the clear, {middle['encrypted']:.2f} s encrypted"
    print(f"{name}: {said}, {ratio.median:.2f} times{limits}")
    return {"seconds": {cluster: list(each.values()) for cluster, each in seconds.items()}, "ratio": ratio._asdict()}
