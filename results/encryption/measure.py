# SPDX-License-Identifier: Apache-2.0
"""What encryption costs a cluster: python results/encryption/measure.py [--blocks N] (a minute a block and side).

Master, workers and driver have to agree on it, so each block starts two clusters of local processes, one in the clear
and one encrypted, in random order, and runs the same recipe on both. Ratios are formed within a block.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

# Below the line that lets them be found: this file is run as a script.
from suite import records, stats
from suite.cli import count
from suite.machine import environment
from suite.records import write_json
from suite.spark.java import find_java

SIDES = {"clear": "", "encrypted": "1"}
RECIPE = "tests/cluster/recipes/shuffling.py"


def seconds(side: str, folder: Path) -> dict[str, float]:
    """Times of one block on a new cluster, by recipe."""
    words = [RECIPE, "--size", "ci", "--blocks", "1", "--master", "standalone", "--workers", "2", "--slots", "2"]
    subprocess.run(
        [sys.executable, "-m", "suite", "bench", *words, "--out", str(folder)],
        cwd=ROOT,
        env={**os.environ, "FOLDOUT_ENCRYPT": SIDES[side]},
        check=True,
    )
    return {record.name: record.seconds for record in records.read(folder / "records.jsonl")}


def main() -> None:
    """Measure, and write `cost.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=count, default=6)
    blocks = []
    with tempfile.TemporaryDirectory() as made:
        for block in range(parser.parse_args().blocks):
            order = random.sample(list(SIDES), len(SIDES))
            blocks.append({side: seconds(side, Path(made, f"{block}-{side}")) for side in order})
    cost = {}
    for name in blocks[0]["clear"]:
        of = {side: {number: block[side][name] for number, block in enumerate(blocks)} for side in SIDES}
        ratio = stats.ratio_interval(of["encrypted"], of["clear"])
        cost[name] = {"seconds": {side: list(each.values()) for side, each in of.items()}, "ratio": ratio._asdict()}
        middle = {side: statistics.median(each.values()) for side, each in of.items()}
        limits = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.coverage else ""
        said = f"{middle['clear']:.2f} s in the clear, {middle['encrypted']:.2f} s encrypted"
        print(f"{name}: {said}, {ratio.median:.2f} times{limits}")
    facts = environment.describe_environment("standalone", find_java().facts)
    write_json(HERE / "cost.json", {"order": [list(block) for block in blocks], "cost": cost, "made": facts})


if __name__ == "__main__":
    main()
