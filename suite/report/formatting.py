# SPDX-License-Identifier: Apache-2.0
"""How figures and settings are written, the same in charts, tables and on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from suite.stats import Interval

NONE = "–"  # where there is no figure


def number(value: float) -> str:
    """Three significant digits, thousands separated, no exponent."""
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:.2e}".partition("e")[2])
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def short(value: float) -> str:
    """At most three significant digits, with k, M or G for thousands, millions or billions."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:  # what rounds to 1,000 of the smaller unit
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """'1 slot', '2 slots'."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def block_words(blocks: Sequence[int]) -> str:
    """'block 3' or 'blocks 0, 3'."""
    return f"{'block' if len(blocks) == 1 else 'blocks'} {', '.join(map(str, blocks))}"


def factors_in_words(factors: Mapping[str, Any]) -> str:
    """'folds 5, rows 20,000'."""
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{name} {value}"
        for name, value in factors.items()
    )


def ratio_digits(value: float) -> str:
    """Two decimals; two significant digits below 0.1, whole numbers from a hundred on."""
    if value < 0.1:
        return f"{value:#.2g}"
    return f"{value:.2f}" if value < 99.995 else f"{value:.0f}"


def ratio_words(value: float) -> str:
    """'1.62×'."""
    return f"{ratio_digits(value)}×"


def interval_words(interval: Interval | None, write: Callable[[float], str] = number) -> str:
    """'[1.58, 1.70]', or nothing where there is no interval."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{write(interval.low)}, {write(interval.high)}]"


def figure_words(interval: Interval | None, write: Callable[[float], str] = number, unit: str = "") -> str:
    """A median with its interval, or with its number of blocks where there is no interval."""
    if interval is None:
        return NONE
    spread = interval_words(interval, write) or f"({plural(interval.n, 'block')})"
    return f"{write(interval.median)}{unit} {spread}"
