# SPDX-License-Identifier: Apache-2.0
"""The store survives whatever a crash leaves behind."""

import inspect
import json
import re
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import records
from suite.records import FIELDS, Record


def record(number: int, **changes):
    cell = {"id": f"{number:04x}", "scenario": "s", "variant": "v", "label": "é\n", "workload": "w", "base": True}
    cell |= {"factors": {}, "block": 0, "order": number, "bound": None, "oversubscribed": False}
    return Record.of_cell(cell, run="r", **{"status": "ok", **changes})


@given(
    kept=st.integers(0, 3),
    lost=st.integers(0, 400),
    more=st.integers(0, 3),
)
def test_any_torn_write_costs_only_the_torn_record(kept, lost, more):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        records.append(path, [record(number) for number in range(kept)])
        size = path.stat().st_size
        records.append(path, [record(99)])
        whole = path.stat().st_size
        torn = max(size, whole - 1 - lost)
        with path.open("ab") as file:
            file.truncate(torn)
        assert [r.order for r in records.read(path)] == list(range(kept))
        records.append(path, [record(number) for number in range(200, 200 + more)])
        assert [r.order for r in records.read(path)] == [*range(kept), *range(200, 200 + more)]
        assert path.read_bytes().count(b"\n") == kept + more


def test_a_very_long_torn_line_is_dropped(tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, [record(1)])
    with path.open("ab") as file:
        file.write(b"x" * 20_000)
    records.append(path, [record(2)])
    assert [r.order for r in records.read(path)] == [1, 2]


def test_the_last_record_of_an_id_wins_in_the_place_of_the_first(tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, [record(1, status="failed", reason="first try"), record(2)])
    records.append(path, [record(1, seconds=2.0)])
    assert [(r.order, r.status, r.seconds) for r in records.read(path)] == [(1, "ok", 2.0), (2, "ok", None)]


@pytest.mark.parametrize("bad", [{"seconds": float("nan")}, {"answer": {1, 2}}])
def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path, bad):
    path = tmp_path / "records.jsonl"
    with pytest.raises((ValueError, TypeError)):
        records.append(path, [record(1), record(2, **bad)])
    assert records.read(path) == []


OLD = {"id": "0001", "scenario": "s", "variant": "v", "label": "v", "workload": "w", "base": True, "factors": {}}


def test_a_line_of_an_older_version_has_defaults_and_a_foreign_field_is_passed_over(tmp_path):
    path = tmp_path / "records.jsonl"
    line = {**OLD, "block": 0, "order": 0, "status": "ok", "seconds": 1.5, "mood": "good"}
    path.write_text(json.dumps(line) + "\n")
    (found,) = records.read(path)
    assert (found.seconds, found.warm_seconds, found.caveats, found.needs) == (1.5, [], [], None)
    assert Record.from_json(asdict(found)) == found


LISTED = {**OLD, "id": ["0001"], "block": 0, "order": 0, "status": "ok"}


@pytest.mark.parametrize("line", ["[]", "3", '"id"', "null", "{}", json.dumps(OLD), json.dumps(LISTED), "{torn"])
def test_a_line_that_is_no_record_is_passed_over(tmp_path, line):
    path = tmp_path / "records.jsonl"
    records.append(path, [record(1)])
    path.write_text(path.read_text() + line + "\n")
    records.append(path, [record(2)])
    assert [r.order for r in records.read(path)] == [1, 2]


def test_each_field_is_described():
    described = inspect.getdoc(Record).split("Attributes")[1]
    assert [name for name in FIELDS if not re.search(rf"\b{name}\b", described)] == []


def test_a_missing_file_is_an_empty_run(tmp_path):
    assert records.read(tmp_path / "records.jsonl") == []


def test_a_good_record_says_that_an_earlier_attempt_was_invalid(tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, [record(1, status="invalid", reason="its answer differs"), record(2, status="failed")])
    records.append(path, [record(1, warnings=["noise"]), record(2)])
    assert [r.warnings for r in records.read(path)] == [
        ["noise", "an earlier attempt was invalid: its answer differs"],
        [],
    ]
    # What was read may be written again, as where caveats are added.
    records.append(path, records.read(path))
    assert len(records.read(path)[0].warnings) == 2
    records.append(path, [record(1, status="failed", reason="again")])
    assert records.read(path)[0].status == "failed"
