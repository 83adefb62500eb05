# SPDX-License-Identifier: Apache-2.0
"""How charts look: sheets with panels of dots or of lines. It draws intervals and words and knows nothing of runs."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from suite.report.formatting import figure_words, number, ratio_digits, short
from suite.stats import Interval

# Okabe & Ito's colours, which colour-blind readers can tell apart, without their yellow: it is too pale for thin lines.
# There are 7 colours and 9 markers; 7 and 9 have no common divisor, so 63 variants would still look different.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#5a5a5a"
LOSING = "#fbe9e1"
WARNING = "#a33000"
TOLD = "told"  # a mark whose label a reader of the SVG sees on hover
BOUND = (0, (1, 1.5))
REFERENCE = (0, (6, 2))
STYLE: Any = {
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # a $ in a label is a $
    "svg.fonttype": "none",  # text stays text: it can be searched, and tests can read it
    "svg.hashsalt": "foldout",  # the same records give the same file
}

# Inches. At 96 pixels an inch a sheet fills the column of a README at its natural size.
WIDTH = 9.2
EDGE = 0.12
DOTS_LEFT, DOTS_WIDTH, DOTS_ROW = 3.05, 4.1, 0.29
PANEL_LEFT, PANEL_WIDTH, PANEL_HEIGHT = 0.72, 3.55, 2.1
ASIDE, MARK_POINTS = 4.0, 5.0  # points from line to line at the same x, and half a mark's width


@contextmanager
def fixed_style() -> Iterator[None]:
    """Draw in the project's style, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


# --- ticks

# From sparse to dense. The last one's ticks are evenly spaced, which suits an axis of less than a decade.
LOCATORS = (
    LogLocator(),
    LogLocator(subs=(1, 2, 5)),
    LogLocator(subs=(1, 1.5, 2, 3, 5, 7)),
    MaxNLocator(nbins=5, steps=(1, 2, 2.5, 5, 10)),
)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two limits of a log axis, at most ten.

    They come from the sparsest series that gives at least four. Where the next denser series would give more than ten,
    two or three are enough.
    """
    found: list[float] = []
    for locator in LOCATORS:
        # Locators place ticks outside the limits too. A tick at a limit stays, whatever its last digits.
        inside = [float(tick) for tick in locator.tick_values(low, high) if low * 0.999 <= tick <= high * 1.001]
        if len(inside) > 10:
            break
        found = inside
        if len(found) >= 4:
            break
    return found


# --- words that fit


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text in inches, 5 % more than computed, since renderers round glyphs to whole pixels."""
    width, _, _ = TextToPath().get_text_width_height_descent(
        text, FontProperties(size=size, weight=weight), ismath=False
    )
    return 1.05 * float(width) / 72


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break text into lines that fit a width in inches; it breaks at spaces, not at no-break spaces."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [shorten(line, width, size) for line in lines]


def shorten(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Cut text to a width in inches; an ellipsis stands for what is cut off."""
    if text_width(text, size, weight) <= width:
        return text
    kept = text
    while kept and text_width(kept + "…", size, weight) > width:
        kept = kept[:-1]
    return kept + "…"


# --- a sheet


@dataclass
class Sheet:
    """A figure under construction, measured in inches from its top left corner."""

    title: str
    lead: str
    notes: Sequence[str]
    panels: list[tuple[tuple[float, float, float, float], Callable[[Axes], None]]] = field(default_factory=list)
    bottom: float = 0.0

    def __post_init__(self) -> None:
        self.lead = "\n".join(wrap(self.lead, WIDTH - 2 * EDGE, 9))
        self.bottom = 0.42 + 0.17 * (self.lead.count("\n") + 1) + 0.12

    def add(self, left: float, top: float, width: float, height: float, draw: Callable[[Axes], None]) -> None:
        """Reserve a place for a panel, which is drawn when the sheet is saved."""
        self.panels.append(((left, top, width, height), draw))

    def figure(self) -> Figure:
        """Draw the sheet."""
        lines = [line for note in self.notes for line in wrap(note, WIDTH - 2 * EDGE, 7.8)]
        height = self.bottom + 0.15 + 0.15 * len(lines) + 0.1
        figure = Figure(figsize=(WIDTH, height), facecolor="white")

        def write(y: float, text: str, **how: Any) -> None:
            figure.text(EDGE / WIDTH, 1 - y / height, text, va="top", ha="left", **how)

        write(0.12, self.title, fontsize=12.5, fontweight="bold")
        write(0.42, self.lead, fontsize=9, linespacing=1.3)
        write(self.bottom + 0.15, "\n".join(lines), fontsize=7.8, color=GREY, linespacing=1.35)
        for (left, top, width, tall), draw in self.panels:
            draw(figure.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height)))
        return figure

    def save(self, folder: Path, name: str) -> None:
        """Write `NAME.svg` and `NAME.png`; the same content gives the same bytes."""
        figure = self.figure()
        folder.mkdir(parents=True, exist_ok=True)
        marks = figure.findobj(lambda artist: artist.get_gid() == TOLD)
        labels = {f"{TOLD}-{number}": str(mark.get_label()) for number, mark in enumerate(marks)}
        for gid, mark in zip(labels, marks, strict=True):
            mark.set_gid(gid)
        drawing = folder / f"{name}.svg"
        figure.savefig(drawing, metadata={"Date": None})
        told = re.compile(rf'<g id="({TOLD}-\d+)">')
        text = drawing.read_text(encoding="utf-8")
        drawing.write_text(
            told.sub(lambda found: f"{found[0]}<title>{html.escape(labels[found[1]])}</title>", text), encoding="utf-8"
        )
        figure.savefig(folder / f"{name}.png", dpi=144, metadata={"Software": None})


def colour_and_marker(style: int) -> tuple[str, str]:
    """Colour and marker for the number of a variant."""
    return COLOURS[style % len(COLOURS)], MARKERS[style % len(MARKERS)]


def write_title(axes: Axes, left: float, width: float, title: str, below: str) -> None:
    """Write a bold title and a plain line under it, `width` inches wide, beginning `left` inches left of the axes."""
    corner = axes.transAxes + ScaledTranslation(-left, 0, axes.figure.dpi_scale_trans)
    for up, text, colour, weight, size in ((20, title, "black", "bold", 9.5), (7, below, GREY, "normal", 8.3)):
        raised = corner + ScaledTranslation(0, up / 72, axes.figure.dpi_scale_trans)
        fitting = shorten(text, width, size, weight)
        axes.text(0, 1, fitting, transform=raised, color=colour, fontweight=weight, fontsize=size)


def log_axis(axes: Axes, which: str, low: float, high: float, unit: str = "") -> None:
    """Make an axis ("x" or "y") logarithmic between two limits, with round ticks."""
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    values = ticks(low, high)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FixedFormatter([short(value) + unit for value in values]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def limits_around(values: Sequence[float], margin: float, least: float) -> tuple[float, float]:
    """Limits of a log axis: values with a margin, and at least `least` from end to end; both are ratios."""
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    middle, span = math.sqrt(low * high), max(high / low * margin, least)
    return middle / math.sqrt(span), middle * math.sqrt(span)


# --- panels of horizontal dots


@dataclass(frozen=True)
class Row:
    """A row of a dot panel.

    Attributes
    ----------
    style : int
        Number of its variant.
    marks : sequence of (Interval, bool)
        Medians to mark, and whether their points are filled.
    samples : sequence of float
        The figure of each block, drawn as faint strokes. Without any, the row says "no time".
    text : str
        Stands at the right.
    """

    label: str
    style: int
    marks: Sequence[tuple[Interval, bool]]
    samples: Sequence[float]
    text: str


@dataclass(frozen=True)
class DotPanel:
    """Rows of dots on one log axis.

    Attributes
    ----------
    below : str
        A line under the title.
    unit : str
        Follows the number at each tick.
    lines : sequence of float
        Where dashed lines cross all rows.
    limits : (float, float) or None
        Ends of the axis, where panels share one; by default it fits the values.
    """

    title: str
    below: str
    rows: Sequence[Row]
    unit: str = ""
    lines: Sequence[float] = ()
    limits: tuple[float, float] | None = None


def dot_limits(rows: Iterable[Row]) -> tuple[float, float]:
    """Limits of an axis that shows all medians, intervals and samples of these rows."""
    values: list[float] = []
    for row in rows:
        values += row.samples
        values += [end for mark, _ in row.marks for end in (mark.median, mark.low, mark.high) if end is not None]
    return limits_around(values, margin=1.35, least=4)


def draw_dots(axes: Axes, panel: DotPanel) -> None:
    """Draw medians with intervals on a log axis, and the figures at the right."""
    log_axis(axes, "x", *(panel.limits or dot_limits(panel.rows)), panel.unit)
    axes.set_ylim(len(panel.rows) - 0.4, -0.6)
    labels = ["\n".join(wrap(row.label, DOTS_LEFT - 0.2, 8.5)[:2]) for row in panel.rows]
    axes.set_yticks(range(len(labels)), labels, linespacing=0.95)
    axes.tick_params(length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    write_title(axes, DOTS_LEFT - EDGE, WIDTH - 2 * EDGE, panel.title, panel.below)
    for line in panel.lines:
        axes.axvline(line, color=GREY, linewidth=0.9, linestyle=REFERENCE, zorder=1)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for y, row in enumerate(panel.rows):
        colour, marker = colour_and_marker(row.style)
        axes.axhline(y, color="#ededed", linewidth=0.6, zorder=0)
        axes.plot(row.samples, [y] * len(row.samples), "|", color=colour, alpha=0.35, markersize=9, zorder=2)
        for mark, filled in row.marks:
            said = f"{row.label}: {figure_words(mark, number, panel.unit)}"
            if mark.low is not None and mark.high is not None:
                axes.plot([mark.low, mark.high], [y, y], color=colour, linewidth=1.6, zorder=3)
            face = colour if filled else "white"
            how: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markersize": 6}
            axes.plot(mark.median, y, marker, **how, zorder=4, gid=TOLD, label=said)
        if not row.samples:
            axes.text(0.01, y, "× no time", transform=beside, va="center", color=WARNING, fontsize=8.5)
        axes.text(1.015, y, row.text, transform=beside, va="center", fontsize=8.5)


def stack(sheet: Sheet, panels: Sequence[DotPanel]) -> None:
    """Put dot panels under each other."""
    for panel in panels:
        top, tall = sheet.bottom + 0.5, DOTS_ROW * len(panel.rows) + 0.05
        sheet.add(DOTS_LEFT, top, DOTS_WIDTH, tall, partial(draw_dots, panel=panel))
        sheet.bottom = top + tall + 0.28


# --- panels of lines


@dataclass(frozen=True)
class Mark:
    """What a line shows at one x; without a value there is no time there."""

    x: float
    value: Interval | None
    bound: float | None = None
    least_bound: float | None = None
    hollow: bool = False
    unsteady: bool = False


@dataclass(frozen=True)
class Line:
    """A variant over one factor, its marks in ascending x."""

    label: str
    style: int
    marks: Sequence[Mark]

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Its bound at each x; nothing where none is above 1."""
        bounds = tuple((mark.x, mark.bound) for mark in self.marks if mark.bound)
        return bounds if any(bound > 1 for _, bound in bounds) else ()

    @property
    def band(self) -> tuple[tuple[float, float, float], ...]:
        """Least and largest bound at each x that has both; nothing where there are no bounds to draw."""
        both = tuple((mark.x, mark.least_bound, mark.bound) for mark in self.marks if mark.least_bound and mark.bound)
        return both if self.bounds else ()


@dataclass(frozen=True)
class LinePanel:
    """Lines over a factor.

    Attributes
    ----------
    below : str
        A line under the title.
    speedups : bool
        Whether the values are speedups; then the part below 1 is shaded, and bounds are drawn.
    reference : (float, str) or None
        A level drawn across the panel, and its words for the legend.
    """

    title: str
    below: str
    lines: Sequence[Line]
    xlabel: str
    ylabel: str
    speedups: bool
    log_x: bool
    reference: tuple[float, str] | None = None

    def bound_lines(self) -> list[tuple[str, tuple[tuple[float, float], ...], list[str]]]:
        """Each bound: its colour, where it lies, and whose it is. One that several lines share is grey."""
        found: dict[tuple[tuple[float, float], ...], list[Line]] = {}
        for line in self.lines:
            if self.speedups and line.bounds:
                found.setdefault(line.bounds, []).append(line)
        return [
            (GREY if len(lines) > 1 else colour_and_marker(lines[0].style)[0], bounds, [line.label for line in lines])
            for bounds, lines in found.items()
        ]

    def legend(self) -> list[tuple[Line2D, str]]:
        """Mark and words of each entry; bounds that coincide share one."""
        entries = []
        for line in self.lines:
            colour, marker = colour_and_marker(line.style)
            text = line.label
            if missing := [short(mark.x) for mark in line.marks if mark.value is None]:
                text += f" (× no value at {', '.join(missing)})"
            if unsteady := [short(mark.x) for mark in line.marks if mark.value and mark.unsteady]:
                text += f" (! unsteady at {', '.join(unsteady)})"
            entries.append((Line2D([], [], color=colour, marker=marker, markersize=6, linewidth=1.2), text))
        for colour, _, labels in self.bound_lines():
            mark = Line2D([], [], color=colour, marker="_", markersize=12, linewidth=0.9, linestyle=BOUND)
            whose = "all" if len(labels) == len(self.lines) > 1 else "; ".join(labels)
            entries.append((mark, f"bound of: {whose}"))
        if self.reference:
            entries.append((Line2D([], [], color=GREY, linewidth=1.3, linestyle=REFERENCE), self.reference[1]))
        return [(mark, "\n".join(wrap(text, PANEL_WIDTH + 0.25, 8.3))) for mark, text in entries]


def draw_lines(axes: Axes, panel: LinePanel) -> None:
    """Draw medians joined by lines, with intervals; a cross at the foot means that there is no time."""
    values = [v for line in panel.lines for mark in line.marks for v in (mark.value or ())[:3] if v is not None]
    if panel.speedups:
        values += [bound for line in panel.lines for _, bound in line.bounds]
        values += [panel.reference[0]] if panel.reference else []
        _speedup_axis(axes, values)
    else:
        log_axis(axes, "y", *limits_around(values, margin=1.6, least=4))
    swept = sorted({mark.x for line in panel.lines for mark in line.marks})
    _swept_axis(axes, swept, log=panel.log_x, aside=(len(panel.lines) - 1) / 2 * ASIDE)
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(panel.ylabel)
    write_title(axes, 0.43, PANEL_WIDTH + 0.65, panel.title, panel.below)
    if panel.reference:
        axes.axhline(panel.reference[0], color=GREY, linewidth=1.3, linestyle=REFERENCE, zorder=2)
    for band in dict.fromkeys(line.band for line in panel.lines if panel.speedups and len(line.band) > 1):
        places, least, most = zip(*band, strict=True)
        axes.fill_between(places, least, most, color=GREY, alpha=0.12, linewidth=0, zorder=1)
    for colour, bounds, _ in panel.bound_lines():
        axes.plot(*zip(*bounds, strict=True), color=colour, linewidth=0.9, linestyle=BOUND, zorder=2)
        axes.plot(*zip(*bounds, strict=True), "_", color=colour, markersize=16, markeredgewidth=1.1, zorder=2)
    for place, line in enumerate(panel.lines):
        # Some points to the side, so that intervals at the same x stay apart.
        _draw_line(axes, line, (place - (len(panel.lines) - 1) / 2) * ASIDE, speedups=panel.speedups)
    _draw_legend(axes, panel.legend())


def _draw_legend(axes: Axes, legend: Sequence[tuple[Line2D, str]]) -> None:
    axes.legend(
        [mark for mark, _ in legend],
        [text for _, text in legend],
        loc="upper left",
        bbox_to_anchor=(-0.43 / PANEL_WIDTH, -0.46 / PANEL_HEIGHT),  # under the x axis, where no data can be
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        fontsize=8.3,
        labelspacing=0.32,
        handlelength=2.4,
    )


def _draw_line(axes: Axes, line: Line, aside: float, *, speedups: bool) -> None:
    colour, marker = colour_and_marker(line.style)
    side = ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
    here = axes.transData + side
    foot = blended_transform_factory(axes.transData, axes.transAxes) + side
    timed = [(mark.x, mark.value.median) for mark in line.marks if mark.value]
    axes.plot([x for x, _ in timed], [y for _, y in timed], color=colour, linewidth=1.2, transform=here, zorder=3)
    for mark in line.marks:
        if mark.value is None:
            axes.plot(mark.x, 0.05, "x", color=colour, transform=foot, markersize=7, markeredgewidth=1.8, zorder=5)
            continue
        middle, low, high = mark.value[:3]
        if low is not None and high is not None:
            axes.plot([mark.x, mark.x], [low, high], color=colour, linewidth=2, transform=here, zorder=3)
        face = "white" if mark.hollow else colour
        figure = figure_words(mark.value, ratio_digits, "×") if speedups else figure_words(mark.value, number, " s")
        how: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markersize": 6, "transform": here}
        axes.plot(mark.x, middle, marker, **how, zorder=4, gid=TOLD, label=f"{line.label} at {mark.x:g}: {figure}")


def _speedup_axis(axes: Axes, values: Sequence[float]) -> None:
    low, high = min([0.55, *(value / 1.25 for value in values)]), max([2.0, *(value * 1.25 for value in values)])
    log_axis(axes, "y", low, high, "×")
    axes.axhspan(low, 1, color=LOSING, zorder=0)
    axes.axhline(1, color=GREY, linewidth=0.9, zorder=1)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for end, text, colour in ((low, "slower", WARNING), (high, "faster", GREY)):
        y = math.sqrt(end)  # half way between 1 and the end
        axes.text(1.01, y, text, transform=beside, rotation=90, va="center", color=colour, fontsize=7.5)


def _swept_axis(axes: Axes, values: Sequence[float], *, log: bool, aside: float) -> None:
    # Ticks stand at the values that were run and nowhere else. Beside the outer ones there is room for marks that
    # stand so many points aside.
    taken = (aside + MARK_POINTS) / 72 / PANEL_WIDTH
    share = taken / (1 - 2 * taken)  # of the distance between the outer values
    if log:
        axes.set_xscale("log", base=2)
        distance = math.log(values[-1] / values[0]) or math.log(2)
        margin = max(1.25, math.exp(max(0.06, share) * distance))
        axes.set_xlim(values[0] / margin, values[-1] * margin)
    else:
        margin = max(0.1, share) * ((values[-1] - values[0]) or 1)
        axes.set_xlim(values[0] - margin, values[-1] + margin)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FixedFormatter([short(value) for value in values]))
    axes.xaxis.set_minor_locator(NullLocator())


def arrange(sheet: Sheet, panels: Sequence[LinePanel | None]) -> None:
    """Put panels in two aligned columns, legends under them; None leaves a place empty."""
    for start in range(0, len(panels), 2):
        top, deepest = sheet.bottom + 0.52, 0
        for column, panel in enumerate(panels[start : start + 2]):
            if panel is not None:
                left = PANEL_LEFT + column * WIDTH / 2
                sheet.add(left, top, PANEL_WIDTH, PANEL_HEIGHT, partial(draw_lines, panel=panel))
                deepest = max(deepest, sum(text.count("\n") + 1 for _, text in panel.legend()))
        sheet.bottom = top + PANEL_HEIGHT + 0.53 + 0.165 * deepest
