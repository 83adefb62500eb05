# SPDX-License-Identifier: Apache-2.0
"""Finds recipes that say they do the same job, and may not."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise

from suite.plan.scenario import SCENARIOS, Scenario


def doubtful_workloads(scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Name each two files that have one workload and data of their own: a copy of a recipe mostly keeps the name.

    Their answers are held against each other, so that the one without the base case would be invalid. Those that come
    with the project do it on purpose.
    """
    by_workload: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        by_workload.setdefault(scenario.workload, []).append(scenario)
    for workload, files in by_workload.items():
        for one, other in pairwise(sorted(files, key=lambda scenario: scenario.path.parent != SCENARIOS)):
            if other.path.parent != SCENARIOS and _data_of(one) != _data_of(other):
                name = other.path.name
                yield (
                    f"{one.path.name} and {name} have the same WORKLOAD, {workload!r}, and a make_data each: "
                    f"their answers have to be equal; else give {name} a WORKLOAD of its own"
                )


def _data_of(scenario: Scenario) -> str:
    return inspect.getsource(scenario.make_data)
