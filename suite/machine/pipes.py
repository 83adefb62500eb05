# SPDX-License-Identifier: Apache-2.0
"""Pipes to and from processes that may take their time, fall silent, or end."""

from __future__ import annotations

import contextlib
import os
import selectors
import time


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

        Raises
        ------
        EOFError
            The pipe is closed at its other end.
        """
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                piece = os.read(self._pipe, 65536)
                if not piece:
                    raise EOFError
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def write_all(pipe: int, data: bytes) -> None:
    """Write to a pipe, as far as its reader takes it: one that has ended takes no more, which others will notice."""
    with contextlib.suppress(BrokenPipeError):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(pipe, rest) :]
