# SPDX-License-Identifier: Apache-2.0
"""The result of a comparison as a table, in Markdown and for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from suite.gate.sides import SIDES
from suite.gate.sign_flip import RATIO_BOUND, RATIO_CONFIDENCE


def _table_rows(result: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, screened in sorted(result["screened"].items()):
        one = result["confirmed"].get(name, screened)
        # The times that the ratio is of: where it was measured again, the new ones.
        measured = result["times_again" if name in result["confirmed"] else "times"][name]
        # A file comes with all its variants, so a variant may have been called after it was decided.
        times = [f"{statistics.median(measured[which][: one['blocks']]):.3g}" for which in SIDES]
        low, high = (one[limit] for limit in ("low", "high"))
        limits = "–" if low is None or high is None else f"{low:.2f} to {high:.2f}"
        rows.append(
            [name, str(one["blocks"]), *times, f"{one['ratio']:.2f}", limits, f"{one['p']:.3f}", result["words"][name]]
        )
    for finding in result["findings"]:
        rows.append([finding["name"], *[""] * (len(HEADERS) - 2), f"{finding['kind']}: {finding['text']}"])
    return rows


HEADERS = ["recipe", "blocks", "base s", "head s", "head / base", f"{RATIO_CONFIDENCE:.0%}".replace("%", " %"), "p", ""]


def markdown_table(result: Mapping[str, Any]) -> str:
    """The result for a pull request."""
    mark = {"pass": "✅", "regression": "❌", "inconclusive": "⚠️"}[result["verdict"]]
    lines = [f"### {mark} {result['verdict'].capitalize()}: {_escape(result['line'])}", ""]
    lines += [f"- {name}: {result['sides'][name]['said']}" for name in SIDES]
    lines += [
        f"- {result['master']}; {len(result['order']['screen'])} blocks, each side in fresh processes, in random order",
        "",
    ]
    lines += ["| " + " | ".join(HEADERS) + " |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    lines += ["| " + " | ".join(map(_escape, row)) + " |" for row in _table_rows(result)]
    lines += ["", *(f"> {_escape(warning)}" for warning in result["warnings"])]
    lines += [
        "",
        f"`p` is corrected for the number of recipes; an interval below {RATIO_BOUND:.2f} is a pass. Intervals hold for"
        " all looks together: no more blocks are run of what is decided.",
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def terminal_table(result: Mapping[str, Any]) -> str:
    """The result for a terminal."""
    rows = [HEADERS, *_table_rows(result)]
    widths = [max(len(row[column]) for row in rows if row[1] or column == 0) for column in range(len(HEADERS) - 1)]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)),
        ]
        lines.append("  ".join([*(cells if row[1] else cells[:1]), row[-1]]).rstrip())
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    return "\n".join([*lines, "", f"{result['verdict'].upper()}: {result['line']}"])
