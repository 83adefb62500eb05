# SPDX-License-Identifier: Apache-2.0
"""`records.jsonl`, the only store of a run: one JSON object a line, appended and synced, never edited."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

SCHEMA = 1
WRONG_ANSWER = "its answer differs from"  # how the reason of a cell begins whose answer is not the base case's
OUT_OF_TIME = "left out: no time for another block"  # how the reason of a cell begins that `--minutes` left out


def now() -> str:
    """Return the time in UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Record:
    """What became of a cell: a line of `records.jsonl`.

    Attributes
    ----------
    id, scenario, variant, label, workload, base, factors, block, order, needs, schedule, bound, oversubscribed
        Of the cell; see `plan.cells.Cell`. Records from before September 2026 lack `needs` and `schedule`, which the
        plan of their run has.
    status : str
        `ok`, `failed`, `timeout`, `skipped` or `invalid`.
    run : str
        Name of the run, which `plan.json` has too.
    reason : str or None
        Why there is no time; None where there is one.
    seconds : float or None
        Median of the warm calls. None unless the status is `ok`: no time without the right answer.
    warm_seconds : list of float
        Each warm call, in order.
    cpu_seconds : list of float
        Of all cores of the driver's machine, during each warm call, whatever program used them. Clocks tick in
        hundredths of a second.
    cold_seconds : float or None
        The variant's first call in its process, where it was timed.
    answer : object
        What the variant returned, as plain JSON.
    engaged : dict or None
        What ran in the last call, the fields of `spark.event_log.Engaged`, with the most slots, jobs and executors that
        any timed call had at once; None without Spark.
    overhead : dict or None
        Where the time of the last call went, as `run.watch.overhead` says; None without Spark.
    memory : dict or None
        What the last call held at most, as `machine.memory.peak_memory` says; None where that is not known.
    warnings : list of str
        What a reader has to know of this cell.
    caveats : list of str
        What only all blocks together tell of it: they are too few, spread, drift.
    spent : dict or None
        Seconds of `preparing` the data, of the `calls`, and of the `harness` itself.
    session : dict or None
        `id` of the process, `seconds` that its Spark session took to start, `position` of the cell in it, from 0.
    schema : int
        Version of this list.
    at : str
        When it was written, in UTC.
    """

    id: str
    scenario: str
    variant: str
    label: str
    workload: str
    base: bool
    factors: dict[str, Any]
    block: int
    order: int
    status: str
    run: str = ""
    reason: str | None = None
    seconds: float | None = None
    warm_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    cold_seconds: float | None = None
    answer: Any = None
    engaged: dict[str, Any] | None = None
    overhead: dict[str, Any] | None = None
    memory: dict[str, float] | None = None
    warnings: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    needs: int | None = None
    schedule: str | None = None
    bound: float | None = None
    oversubscribed: bool = False
    session: dict[str, Any] | None = None
    spent: dict[str, float] | None = None
    schema: int = SCHEMA
    at: str = field(default_factory=now)

    @classmethod
    def of_cell(cls, cell: Mapping[str, Any], *, status: str, **values: Any) -> Record:
        """Make the record of a cell as `plan.json` has it, without the cell's `session`, which is a number of slots."""
        kept = {name: cell[name] for name in FIELDS if name in cell and name != "session"}
        return cls(**{**kept, "status": status, **values})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Record:
        """Read a record that `dataclasses.asdict` has made. What an older version did not write has its default.

        Raises
        ------
        TypeError
            It is not a record.
        """
        record = cls(**{name: value for name, value in values.items() if name in FIELDS})
        if not isinstance(record.id, str):
            raise TypeError(f"the id of a record is a text, not {record.id!r}")
        return record

    @property
    def name(self) -> str:
        """`scenario.variant`."""
        return f"{self.scenario}.{self.variant}"


FIELDS = tuple(each.name for each in fields(Record))


def append(path: Path, records: Iterable[Record]) -> None:
    """Write records at the end of the file and sync them to disk, after mending what a crash left behind.

    Parameters
    ----------
    path : Path
        The file; made where it is missing.
    records : iterable of Record

    Raises
    ------
    ValueError, TypeError
        Where a record holds a value that JSON has no word for (NaN included). Nothing is written then.
    """
    lines = [json.dumps(asdict(record), allow_nan=False, ensure_ascii=False) + "\n" for record in records]
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
    """Read all records: the last of each id, in the order in which their ids were first written.

    One that is good after an earlier attempt was invalid says so in its warnings.

    A torn last line is left out; so is a complete line that is not a record, which only another program can have
    written.

    Parameters
    ----------
    path : Path
        `records.jsonl`; a missing file reads as no records.
    """
    if not path.exists():
        return []
    found: dict[str, Record] = {}
    spoiled: dict[str, str] = {}
    complete, _, _torn = path.read_bytes().rpartition(b"\n")
    for line in complete.split(b"\n"):
        try:
            record = Record.from_json(json.loads(line))
        except (ValueError, TypeError, AttributeError):
            continue
        if record.status == "invalid":
            spoiled[record.id] = f"an earlier attempt was invalid: {record.reason}"
        elif record.status == "ok" and (said := spoiled.get(record.id)) and said not in record.warnings:
            record = replace(record, warnings=[*record.warnings, said])
        found[record.id] = record
    return list(found.values())


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or nothing."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
