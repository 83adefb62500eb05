# SPDX-License-Identifier: Apache-2.0
"""Lines come out of a pipe in time or not at all; time in which the reader was stopped does not count."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from suite.machine import pipes
from suite.machine.pipes import LineReader

ROOT = Path(__file__).resolve().parents[2]
READER = """
import sys
from suite.machine import pipes
pipes.STEP_SECONDS = 0.1
print("ready", flush=True)
print(pipes.LineReader(0).read_line(1.5), flush=True)
"""


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


def test_lines_come_one_by_one_and_none_is_lost(pipe):
    reader, writer = pipe
    lines = LineReader(reader)
    os.write(writer, b"one\ntwo\nthr")
    assert [lines.read_line(5), lines.read_line(5), lines.read_line(0)] == [b"one", b"two", None]
    os.write(writer, b"ee\n")
    assert lines.read_line(0) == b"three"


def test_silence_ends_in_time(pipe, monkeypatch):
    monkeypatch.setattr(pipes, "STEP_SECONDS", 0.02)
    begin = time.monotonic()
    assert LineReader(pipe[0]).read_line(0.1) is None
    assert time.monotonic() - begin >= 0.09
    assert LineReader(pipe[0]).read_line(-1) is None


@pytest.mark.parametrize("when", ["while it is stopped", "after it goes on"])
def test_time_in_which_the_reader_was_stopped_does_not_count(when):
    command = [sys.executable, "-c", READER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout.readline() == b"ready\n"
            time.sleep(0.2)  # it has begun to wait
            os.kill(reader.pid, signal.SIGSTOP)
            time.sleep(2)
            if when == "after it goes on":
                os.kill(reader.pid, signal.SIGCONT)
                time.sleep(0.2)
            os.write(reader.stdin.fileno(), b"news\n")
            os.kill(reader.pid, signal.SIGCONT)
            assert reader.stdout.readline() == b"b'news'\n"
        finally:
            reader.kill()
