# SPDX-License-Identifier: Apache-2.0
"""Signals that end a process, and those that the user's shell has told it to ignore."""

import contextlib
import os
import signal

import pytest

from suite.machine.signals import SIGNALS, InterruptError, defer_signals, raise_on_signals


@pytest.fixture(params=SIGNALS, ids=lambda number: number.name)
def number(request):
    before = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, before)


@pytest.mark.parametrize("block", [raise_on_signals, defer_signals])
def test_what_was_ignored_stays_so_as_under_nohup(number, block):
    signal.signal(number, signal.SIG_IGN)
    with block():
        assert signal.getsignal(number) is signal.SIG_IGN
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_signal_is_raised_and_the_next_one_ignored(number):
    signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(InterruptError), raise_on_signals():
        try:
            os.kill(os.getpid(), number)
            pytest.fail("it was not raised")
        finally:
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_DFL
