# SPDX-License-Identifier: Apache-2.0
"""What the times of a run depend on: an analysis of variance of their logarithms.

A benchmark is there to show what the variant and the size of the work do to the time. What the place of a call in its
process does is bias, and what differs from block to block or from call to call is noise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from suite.plan.scenario import PARALLEL
from suite.records import Record
from suite.report.point import count_in
from suite.report.points import MeasuredRun

SOURCES = ("size", "variant", "place", "block")


@dataclass(frozen=True)
class TimedCall:
    """A timed call of a variant on Spark.

    Attributes
    ----------
    log_seconds : float
        Of the call, divided by its rows or fits where its answer counts them.
    size : str
        The factors that shape the work.
    variant : str
        Scenario, variant, slots and parallelism.
    place : int
        Calls of the same process before it, its own untimed ones too, in passes over all cells.
    block : int
    """

    log_seconds: float
    size: str
    variant: str
    place: int
    block: int


@dataclass(frozen=True)
class Shares:
    """How the variance of log seconds is made up, in a workload.

    Attributes
    ----------
    workload : str
    calls : int
    deviation : float
        Standard deviation of log seconds.
    of : mapping of str to float or None
        For each of `SOURCES` the share of the variance that nothing else explains; None where the run does not vary it.
    rest : float
        What none of them explains: call to call.
    """

    workload: str
    calls: int
    deviation: float
    of: Mapping[str, float | None]
    rest: float


def analyse(run: MeasuredRun) -> list[Shares]:
    """Analyse each workload that has timed calls on Spark of two cells or more."""
    found = []
    warm_up = (run.plan.get("options") or {}).get("warm_up") or 1
    calls_of = timed_calls(run.cells, warm_up)
    for workload in run.workloads:
        calls = calls_of.get(workload, [])
        if len({(call.size, call.variant) for call in calls}) > 1:
            found.append(shares_of(workload, calls))
    return found


def timed_calls(cells: Sequence[Record], warm_up: int = 1) -> dict[str, list[TimedCall]]:
    """Return each workload's timed calls of cells that ran on Spark and have a time, after so many untimed passes."""
    ran = [cell for cell in cells if cell.status == "ok" and cell.session and cell.factors.get("slots")]
    # A pass visits the cells of all workloads that share a process.
    visited: dict[str, int] = {}
    for cell in ran:
        process, position = _place(cell)
        visited[process] = max(visited.get(process, 0), position + 1)
    found: dict[str, list[TimedCall]] = {}
    for cell in ran:
        work = count_in(cell.answer, "rows") or count_in(cell.answer, "fits") or 1
        shaping = {name: value for name, value in cell.factors.items() if name not in PARALLEL}
        spread = [cell.name, cell.factors.get("slots"), cell.factors.get("parallelism")]
        process, position = _place(cell)
        for number, seconds in enumerate(cell.warm_seconds or [cell.seconds or 0.0]):
            # The second timed pass goes back; runs of one timed call a cell made it on the spot.
            passed = number + warm_up if len(cell.warm_seconds) > 1 else 0
            within = visited[process] - 1 - position if number % 2 else position
            call = TimedCall(
                log_seconds=float(np.log(seconds / work)),
                size=json.dumps(shaping, sort_keys=True),
                variant=json.dumps(spread),
                place=passed * visited[process] + within,
                block=cell.block,
            )
            found.setdefault(cell.workload, []).append(call)
    return found


def _place(cell: Record) -> tuple[str, int]:
    """The process of a cell, and its place among the cells of a pass."""
    session = cell.session or {}
    return str(session.get("id")), int(session.get("position") or 0)


def shares_of(workload: str, calls: Sequence[TimedCall]) -> Shares:
    """Split the variance of the calls' log seconds.

    A linear model has a level for each size, variant and block, and falls with the logarithm of the place. The share of
    a source is how much more is left over without it, as a part of the whole ("type II" sums of squares).
    """
    values = np.array([call.log_seconds for call in calls])
    values = values - values.mean()
    columns = {
        "size": _levels([call.size for call in calls]),
        "variant": _levels([call.variant for call in calls]),
        "place": np.log1p([[float(call.place)] for call in calls]),
        "block": _levels([call.block for call in calls]),
    }
    total = float(values @ values) or 1.0
    rest = _left_over(columns, values)
    shares = {
        name: None
        if np.ptp(columns[name], axis=0).max(initial=0.0) == 0
        else (_left_over({other: part for other, part in columns.items() if other != name}, values) - rest) / total
        for name in SOURCES
    }
    return Shares(workload, len(calls), float(np.sqrt(total / len(calls))), shares, rest / total)


def _levels(names: Sequence[object]) -> np.ndarray:
    known = sorted(set(names), key=str)
    return np.array([[float(name == level) for level in known[1:]] for name in names]).reshape(len(names), -1)


def _left_over(columns: Mapping[str, np.ndarray], values: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(values)), *columns.values()])
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(residual @ residual)


def variance_table(run: MeasuredRun) -> str:
    """Write the analysis of a run as a table in Markdown."""
    shares = analyse(run)
    if not shares:
        return "no workload has timed calls of two variants or sizes on Spark: there is nothing to compare"
    lines = [
        "Shares of the variance of log seconds of timed calls on Spark that nothing else in the table explains.",
        "",
        "| workload | calls | deviation | size | variant | place in the process | block | call to call |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in shares:
        figures = ["–" if each.of[name] is None else f"{each.of[name]:.0%}" for name in SOURCES]
        cells = [each.workload, str(each.calls), f"{each.deviation:.2f}", *figures, f"{each.rest:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
