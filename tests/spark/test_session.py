# SPDX-License-Identifier: Apache-2.0
"""What a session is started with, without starting one."""

from types import SimpleNamespace

import pytest

from suite.machine import environment
from suite.spark import session

GIB = 2**30


@pytest.mark.parametrize(
    ("machine", "container", "heap"),
    [(64, None, "8g"), (16, None, "4g"), (64, 3, "1g"), (64, 2, "1g"), (64, 1, "512m"), (4, 64, "1g")],
)
def test_the_heap_goes_by_the_memory_that_a_container_has(machine, container, heap, monkeypatch):
    monkeypatch.setattr(environment.psutil, "virtual_memory", lambda: SimpleNamespace(total=machine * GIB))
    monkeypatch.setattr(environment, "_memory_limits", lambda: [container * GIB] if container else [2**63])
    assert session.driver_memory() == heap
