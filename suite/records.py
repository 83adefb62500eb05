# SPDX-License-Identifier: Apache-2.0
"""`records.jsonl`, the only store of a run: one JSON object a line, appended and synced, never edited."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1
STATUSES = ("ok", "failed", "timeout", "skipped", "invalid")
OUT_OF_TIME = "left out: no time for another block"  # how the reason of a cell begins that `--minutes` left out
FIELDS = [
    "schema",
    "id",
    "run",
    "scenario",
    "variant",
    "label",
    "workload",
    "base",
    "factors",
    "block",
    "order",
    "status",
    "reason",
    "seconds",
    "cold_seconds",
    "answer",
    "engaged",
    "warnings",
    "bound",
    "oversubscribed",
    "session",
    "at",
]

Record = dict[str, Any]


def append(path: Path, records: Iterable[Record]) -> None:
    """Write records at the end of the file and sync them to disk, after mending what a crash left behind.

    Parameters
    ----------
    path : Path
        The file; made where it is missing.
    records : iterable of dict
        Objects with at least `FIELDS`.

    Raises
    ------
    ValueError
        Where a record lacks a field or holds a value that JSON has no word for (NaN included).
    """
    lines = []
    for record in records:
        if missing := [field for field in FIELDS if field not in record]:
            raise ValueError(f"a record lacks {', '.join(missing)}")
        lines.append(json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n")
    with path.open("ab+") as file:
        _drop_torn_line(file.fileno())
        file.write("".join(lines).encode())
        file.flush()
        os.fsync(file.fileno())


def _drop_torn_line(handle: int) -> None:
    # A line without its newline was cut off by a crash or a full disk. The next append would run into it and spoil
    # two records, so it goes first.
    end = os.lseek(handle, 0, os.SEEK_END)
    keep = end
    while keep:
        start = max(0, keep - 4096)
        os.lseek(handle, start, os.SEEK_SET)
        newline = os.read(handle, keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep != end:
        os.ftruncate(handle, keep)


def read(path: Path) -> list[Record]:
    """All records, the last of each id, in the order in which their ids were first written.

    A torn last line is left out; so is a complete line that is not a record, which only another program can have
    written.

    Parameters
    ----------
    path : Path
        `records.jsonl`; a missing file reads as no records.

    Returns
    -------
    list of dict
    """
    if not path.exists():
        return []
    found: dict[str, Record] = {}
    complete, _, _torn = path.read_bytes().rpartition(b"\n")
    for line in complete.split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("id"), str):
            found[record["id"]] = record
    return list(found.values())


def blank(
    cell: dict[str, Any], *, run: str, status: str, reason: str | None, session: dict[str, Any] | None = None
) -> Record:
    """A record with every field, without time and answer.

    Parameters
    ----------
    cell : dict
        As in `plan.json`.
    run : str
    status : str
        One of `STATUSES`.
    reason : str or None
    session : dict, optional
        Its id, the seconds that its start took, and the cell's position in it.
    """
    kept = {name: cell[name] for name in FIELDS if name in cell}
    return {
        "schema": SCHEMA,
        "run": run,
        **kept,
        "status": status,
        "reason": reason,
        "seconds": None,
        "cold_seconds": None,
        "answer": None,
        "engaged": None,
        "warnings": [],
        "session": session,
        "at": now(),
    }


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or nothing."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    draft.replace(path)


def cell_name(cell: Mapping[str, Any]) -> str:
    """`scenario.variant` of a cell or a record."""
    return f"{cell['scenario']}.{cell['variant']}"


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
