# SPDX-License-Identifier: Apache-2.0
"""What the harness adds to the time of the cells, outside process and JVM start: a benchmark of the suite itself.

python tests/overhead.py              runs every recipe once at size `ci` and prints the share
python tests/overhead.py results/NAME        the same of a run that is there already
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from suite import records  # noqa: E402 - found on the path that was just set


def share(directory: Path) -> tuple[float, float]:
    """Seconds of the harness and of the timed calls, over all cells of a run that have a time."""
    spent = [record.spent for record in records.read(directory / "records.jsonl") if record.spent]
    return sum(each["harness"] for each in spent), sum(each["calls"] for each in spent)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:]:
            directory = Path(sys.argv[1])
        else:
            directory = Path(folder) / "run"
            command = [sys.executable, "-m", "suite", "bench", "--blocks", "1", "--out", str(directory)]
            subprocess.run(command, cwd=ROOT, check=False)
        harness, calls = share(directory)
    print(f"the harness took {harness:.2f} s beside {calls:.2f} s of timed calls: {harness / calls:.1%}")


if __name__ == "__main__":
    main()
