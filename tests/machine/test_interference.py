# SPDX-License-Identifier: Apache-2.0
"""What other programs and other guests took of the machine."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from suite.machine.interference import OTHERS, STOLEN, Clocks, interference_warnings, read_clocks, settle

BUSY = "while True: pass"


def warned(*, busy=0.0, own=0.0, stolen=0.0, seconds=10.0):
    # In two stretches; what happened between them is nobody's.
    half = (Clocks(5, 100, 50, 3), Clocks(5 + seconds / 2, 100 + busy / 2, 50 + own / 2, 3 + stolen / 2))
    other = tuple(replace(used, at=used.at + 60, busy=used.busy + 90) for used in half)
    return interference_warnings([half, other], 2)


def test_a_machine_of_ours_alone_is_not_warned_of():
    assert warned(busy=20, own=19.5, stolen=0.5) == []


def test_other_programs_and_other_guests_are_told_apart():
    assert warned(busy=20, own=17) == [OTHERS]
    assert warned(busy=18, own=18, stolen=2) == [STOLEN]
    assert warned(busy=16, own=10, stolen=3) == [OTHERS, STOLEN]


def test_in_a_short_call_a_few_ticks_tell_nothing():
    assert warned(busy=0.25, own=0.1, stolen=0.1, seconds=0.2) == []


@pytest.mark.parametrize(("shares", "looks"), [([3.0], 1), ([90.0, 40.0, 10.0], 3), ([100.0] * 99, 10)])
def test_settling_ends_when_the_machine_is_quiet_and_does_not_wait_for_ever(shares, looks, monkeypatch):
    left = list(shares)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: left.pop(0))
    settle()
    assert len(shares) - len(left) == looks


@pytest.fixture
def stranger():
    """A busy program that does not descend from this process."""
    started = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -c '{BUSY}' > /dev/null 2>&1 & echo $!"],
        capture_output=True,
        text=True,
        check=True,
    )
    number = int(started.stdout)
    yield number
    os.kill(number, signal.SIGKILL)


def others_until(seconds):
    """Read the clocks until others, or we, have used so much."""
    before = read_clocks()
    while True:
        time.sleep(0.1)
        after = read_clocks()
        others = (after.busy - before.busy) - (after.own - before.own)
        if max(others, after.own - before.own) >= seconds:
            return others, after.own - before.own


@pytest.mark.usefixtures("stranger")
def test_a_stranger_counts_as_another():
    others, own = others_until(1.0)
    assert others > own


def test_our_children_count_as_ours():
    before = read_clocks()
    with subprocess.Popen([sys.executable, "-c", BUSY]) as child:
        try:
            while psutil.Process(child.pid).cpu_times().user < 0.5:  # however many others want the cores
                time.sleep(0.05)
            after = read_clocks()
        finally:
            child.kill()
    assert after.own - before.own >= 0.5
