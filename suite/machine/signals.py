# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and other signals that end a process: raised as one exception, and deferred where they would do harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # the exit code that shells give to a process ended by Ctrl-C


class InterruptError(Exception):
    """Ctrl-C, or a signal that asks the process to end."""


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise the first SIGINT, SIGTERM or SIGHUP as an `InterruptError`; ignore later ones, so clean-up completes."""

    def first(number: int, _: FrameType | None) -> None:
        for each in old:
            signal.signal(each, signal.SIG_IGN)
        raise InterruptError(signal.Signals(number).name)

    old = {each: signal.getsignal(each) for each in SIGNALS}
    for each in old:
        signal.signal(each, first)
    try:
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals to the end of the block: what is half made or half cleared away would stay."""
    deferred: list[int] = []
    old = {each: signal.getsignal(each) for each in SIGNALS}
    for each in SIGNALS:
        signal.signal(each, lambda number, _: deferred.append(number))
    try:
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)
        for number in deferred[:1]:
            os.kill(os.getpid(), number)
