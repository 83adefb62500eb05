# SPDX-License-Identifier: Apache-2.0
"""What processes held at most."""

import subprocess
import sys

import numpy as np
import psutil
import pytest
from joblib import Parallel, delayed

from suite.machine.memory import peak_memory, reset_peaks

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
MIB = 2**20


def held_for_a_moment(mebibytes: int) -> int:
    return int(np.ones(mebibytes * MIB, dtype=np.uint8).sum())


@linux
def test_a_peak_is_seen_after_the_memory_is_free_again_and_forgotten_when_peaks_begin_anew():
    reset_peaks()
    before = peak_memory()
    held_for_a_moment(300)
    peak = peak_memory()
    reset_peaks()
    after = peak_memory()
    assert 290 < peak["driver"] - before["driver"] < 330
    assert after["driver"] < peak["driver"] - 250


@linux
def test_workers_count_together_and_the_largest_alone():
    with Parallel(2) as pool:
        pool(delayed(held_for_a_moment)(1) for _ in range(2))
        reset_peaks()
        pool(delayed(held_for_a_moment)(mebibytes) for mebibytes in (200, 1))
        peak = peak_memory()
    assert peak["worker"] > 200
    assert peak["workers"] > peak["worker"] + 20


@linux
def test_a_jvm_counts_apart(tmp_path, monkeypatch):
    # It is known by its name.
    java = tmp_path / "java"
    java.symlink_to("/bin/sleep")
    child = subprocess.Popen([java, "60"])
    # Another test in this process may have left Spark's JVM running.
    monkeypatch.setattr("suite.machine.memory.family", lambda: [psutil.Process(), psutil.Process(child.pid)])
    try:
        reset_peaks()
        peak = peak_memory()
    finally:
        child.kill()
        child.wait()
    assert 0 < peak["jvm"] < 10


def test_where_the_kernel_does_not_tell_nothing_is_said(monkeypatch):
    monkeypatch.setattr("suite.machine.memory.Path", lambda address: (_ for _ in ()).throw(OSError(address)))
    reset_peaks()
    assert peak_memory() is None
