# SPDX-License-Identifier: Apache-2.0
"""The store survives whatever a crash leaves behind."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite import records


def record(number: int, **changes):
    cell = {"id": f"{number:04x}", "scenario": "s", "variant": "v", "label": "é\n", "workload": "w", "base": True}
    cell |= {"factors": {}, "block": 0, "order": number, "bound": None, "oversubscribed": False}
    return records.blank(cell, run="r", status="ok", reason=None) | changes


def test_a_record_has_every_field():
    assert set(record(1)) == set(records.FIELDS)


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
        assert [r["order"] for r in records.read(path)] == list(range(kept))
        records.append(path, [record(number) for number in range(200, 200 + more)])
        assert [r["order"] for r in records.read(path)] == [*range(kept), *range(200, 200 + more)]
        assert path.read_bytes().count(b"\n") == kept + more


def test_a_very_long_torn_line_is_dropped(tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, [record(1)])
    with path.open("ab") as file:
        file.write(b"x" * 20_000)
    records.append(path, [record(2)])
    assert [r["order"] for r in records.read(path)] == [1, 2]


def test_the_last_record_of_an_id_wins_in_the_place_of_the_first(tmp_path):
    path = tmp_path / "records.jsonl"
    records.append(path, [record(1, status="failed", reason="first try"), record(2)])
    records.append(path, [record(1, seconds=2.0)])
    assert [(r["order"], r["status"], r["seconds"]) for r in records.read(path)] == [(1, "ok", 2.0), (2, "ok", None)]


@pytest.mark.parametrize("bad", [{"seconds": float("nan")}, {"answer": {1, 2}}])
def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path, bad):
    path = tmp_path / "records.jsonl"
    with pytest.raises((ValueError, TypeError)):
        records.append(path, [record(1), record(2, **bad)])
    assert records.read(path) == []


def test_a_record_without_a_field_is_refused(tmp_path):
    short = record(1)
    del short["reason"]
    with pytest.raises(ValueError, match="lacks reason"):
        records.append(tmp_path / "records.jsonl", [short])


def test_a_missing_file_is_an_empty_run(tmp_path):
    assert records.read(tmp_path / "records.jsonl") == []
