# SPDX-License-Identifier: Apache-2.0
"""How a process ends: by a signal such as Ctrl-C, raised as an exception or deferred where it harms, or by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BROKEN_PIPE = 141  # as shells say of a program that SIGPIPE has ended
INTERRUPTED = 130  # the exit code that shells give to a process ended by Ctrl-C


class InterruptError(Exception):
    """Ctrl-C, or a signal that asks the process to end."""


def _heeded() -> dict[signal.Signals, Any]:
    """Those of the signals that are not ignored, with their handlers."""
    return {each: handler for each in SIGNALS if (handler := signal.getsignal(each)) is not signal.SIG_IGN}


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise the first SIGINT, SIGTERM or SIGHUP as an `InterruptError`; ignore later ones, so clean-up completes.

    One that is ignored stays so: `nohup` and scripts with jobs in the background ask for that.
    """

    def first(number: int, _: FrameType | None) -> None:
        for each in old:
            signal.signal(each, signal.SIG_IGN)
        raise InterruptError(signal.Signals(number).name)

    old = _heeded()
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
    old = _heeded()
    for each in old:
        signal.signal(each, lambda number, _: deferred.append(number))
    try:
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)
        for number in deferred[:1]:
            os.kill(os.getpid(), number)


def end_process(code: int) -> NoReturn:
    """End this process. Python would wait for a thread that a recipe has started at its import; we do not."""
    if all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
