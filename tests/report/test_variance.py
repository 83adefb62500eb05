# SPDX-License-Identifier: Apache-2.0
"""The analysis of variance finds what was put into the times."""

import random

import numpy as np
import pytest
import synthetic

from suite import cli
from suite.records import Record
from suite.report.points import read_run
from suite.report.variance import SOURCES, TimedCall, analyse, shares_of, timed_calls


def made(effects, noise=0.0, cells=8, blocks=6, mirrored=True):
    """Calls of two sizes and four variants in a random order in each block, with effects on log seconds."""
    dice = random.Random(1)
    calls = []
    for block in range(blocks):
        order = dice.sample(range(cells), cells)
        for number, places in enumerate((order, order[::-1]) if mirrored else (order,)):
            for place, cell in enumerate(places):
                size, variant = cell % 2, cell // 2
                at = number * cells + place
                value = effects.get("size", 0) * size + effects.get("variant", 0) * variant
                value += effects.get("place", 0) * np.log1p(at) + effects.get("block", 0) * block
                calls.append(TimedCall(value + dice.gauss(0, noise), str(size), str(variant), at, block))
    return shares_of("made", calls)


@pytest.mark.parametrize("source", SOURCES)
def test_what_alone_changes_the_times_explains_all(source):
    found = made({source: 0.3})
    # Less than all where an order happens to go with it.
    assert 0.9 < found.of[source] <= 1.0 + 1e-9
    assert sum(found.of[name] for name in SOURCES if name != source) == pytest.approx(0.0, abs=1e-9)
    assert found.rest == pytest.approx(0.0, abs=1e-9)


def test_noise_is_call_to_call_and_a_level_is_told_from_it():
    assert made({}, noise=0.1).rest > 0.75
    found = made({"size": 1.0}, noise=0.05)
    assert found.of["size"] > 0.9
    assert found.deviation == pytest.approx(0.5, rel=0.1)


def test_what_a_run_does_not_vary_has_no_share():
    found = made({"variant": 1.0}, blocks=1)
    assert found.of["block"] is None
    assert found.of["variant"] > 0.9


def record(position, warm, session="b0-spark2", **more):
    values = {"scenario": "s", "variant": f"v{position}", "label": "v", "workload": "w", "base": False}
    values |= {"factors": {"slots": 2, "parallelism": 2, "rows": 10}, "block": 0, "order": position, "status": "ok"}
    values |= {"seconds": 1.0, "warm_seconds": warm, "session": {"id": session, "position": position}}
    return Record(**{**values, "id": str(position), **more})


def test_places_follow_the_passes_there_and_back():
    cells = [record(place, [1.0, 1.0]) for place in range(3)]
    assert [call.place for call in timed_calls(cells)["w"]] == [3, 8, 4, 7, 5, 6]
    assert [call.place for call in timed_calls(cells, warm_up=2)["w"]] == [6, 11, 7, 10, 8, 9]
    # Runs from before there were passes.
    assert [call.place for call in timed_calls([record(place, [1.0]) for place in range(3)])["w"]] == [0, 1, 2]
    # Without Spark, and without a time.
    none = [record(0, [1.0], factors={"slots": None}), record(1, [], status="failed", seconds=None)]
    assert timed_calls(none) == {}


def test_a_pass_visits_all_workloads_of_a_process():
    cells = [record(place, [1.0, 1.0], workload="wx"[place % 2]) for place in range(4)]
    found = timed_calls(cells)
    assert [call.place for call in found["w"]] == [4, 11, 6, 9]
    assert [call.place for call in found["x"]] == [5, 10, 7, 8]


def test_work_of_different_size_is_compared_by_row():
    (call,) = timed_calls([record(0, [2.0], answer={"rows": 100})])["w"]
    assert call.log_seconds == pytest.approx(np.log(0.02))


def test_the_command_prints_a_table_or_says_that_there_is_nothing(tmp_path, capsys):
    synthetic.write(tmp_path)
    assert cli.main(["variance", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for shares in analyse(read_run(tmp_path)):
        assert f"| {shares.workload} | {shares.calls} |" in printed
    assert cli.main(["variance", str(tmp_path / "nowhere")]) == 2
