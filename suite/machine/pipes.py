# SPDX-License-Identifier: Apache-2.0
"""Pipes to and from processes that may take their time, fall silent, or end."""

from __future__ import annotations

import contextlib
import os
import selectors
import time

STEP_SECONDS = 1.0  # of waiting: no more of it counts than this while we are stopped


class LineReader:
    """Reads lines from a pipe, and waits no longer than it should.

    Parameters
    ----------
    pipe : int
        The descriptor of its reading end.
    """

    def __init__(self, pipe: int):
        self._pipe = pipe
        self._rest = b""

    def read_line(self, seconds: float) -> bytes | None:
        """The next line without its end, or None where none comes within that many seconds.

        Time in which we were stopped (Ctrl-Z, then `fg`) does not count: who writes went on meanwhile.

        Raises
        ------
        EOFError
            The pipe is closed at its other end.
        """
        left = max(0.0, seconds)
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                step, begin = min(left, STEP_SECONDS), time.monotonic()
                # Where we were stopped in the first look, it ends without having looked again.
                ready = selector.select(step) or selector.select(0)
                left -= min(step, time.monotonic() - begin)
                if ready:
                    piece = os.read(self._pipe, 65536)
                    if not piece:
                        raise EOFError
                    self._rest += piece
                elif left <= 0:
                    return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def write_all(pipe: int, data: bytes) -> None:
    """Write to a pipe, as far as its reader takes it: one that has ended takes no more, which others will notice."""
    with contextlib.suppress(BrokenPipeError):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(pipe, rest) :]
