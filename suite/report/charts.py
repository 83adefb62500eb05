# SPDX-License-Identifier: Apache-2.0
"""Which charts a run has and what they show, from its plan, records and environment alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.plan.scenario import PARALLEL
from suite.report.captions import (
    base_words,
    footnotes,
    group_by_job,
    parallelism_label,
    point_label,
    shared_setting,
    shown_of_job,
)
from suite.report.findings import break_evens, by_setting
from suite.report.formatting import number, ratio_words, short
from suite.report.plotting import DotPanel, Line, LinePanel, Mark, Row, Sheet, arrange, fixed_style, stack
from suite.report.point import Point
from suite.report.points import MeasuredRun
from suite.stats import Interval

NARROW = "\N{NO-BREAK SPACE}"  # where a label in a narrow column may not break


@dataclass(frozen=True)
class Chart:
    """A chart that was written: file name without ending, title, and words for readers who cannot see it."""

    name: str
    title: str
    alt: str


def draw(run: MeasuredRun, folder: Path) -> list[Chart]:
    """Write every chart for which the run has data, as SVG and PNG.

    Parameters
    ----------
    run : MeasuredRun
    folder : Path
        Made where it is missing. An older chart that this run does not have is removed.

    Returns
    -------
    list of Chart
        In the order in which a reader should see them.
    """
    written = []
    with fixed_style():
        for name, chart in CHARTS.items():
            if made := chart(run):
                sheet, alt = made
                sheet.save(folder, name)
                written.append(Chart(name, sheet.title, alt))
            else:
                for ending in ("svg", "png"):
                    (folder / f"{name}.{ending}").unlink(missing_ok=True)
    return written


# --- the charts


def seconds_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Warm and cold seconds of each recipe and variant, at the centre of the sweeps and for other data."""
    panels: list[DotPanel] = []
    shown: list[Point] = []
    for workload, points in run.workloads.items():
        if run.crossed(workload):  # too many jobs, and they have a chart of their own
            continue
        title = f"{workload} (jobs wait instead of computing)" if run.waits(workload) else workload
        for job, of_job in group_by_job(run, points).items():
            kept = shown_of_job(run, of_job)
            below = shared_setting(kept, job)
            most = max((p.work for p in kept if p.work), default=None)
            if smaller := next((p for p in kept if p.work and p.work != most), None):
                below += f"; seconds for {short(most or 0)} {smaller.unit_of_work}, also of calls with fewer"
            panels.append(DotPanel(title, below, [_seconds_row(p, points, most) for p in kept], " s"))
            shown += kept
    if not panels:
        return None
    sheet = Sheet(
        "How long each way of doing the same job takes",
        "Seconds of one call, on a log axis: further left is faster. Filled: warm. Hollow: cold, the first call of a "
        "fresh process, in the n blocks in which it was this variant's. Neither contains the start of a Spark session. "
        "Thin strokes: single blocks.",
        footnotes(run, shown),
    )
    stack(sheet, panels)
    return sheet, f"Warm and cold seconds of a call. {_dots_words(panels)}."


def _seconds_row(point: Point, of_workload: Sequence[Point], work: int | None) -> Row:
    """A row of the panel; work of other sizes would not compare, so seconds are those of so many rows or fits."""
    scale = work / point.work if work and point.work else 1.0
    marks, texts = [], []
    if point.cold:
        marks.append((_times(point.cold, scale), False))
    if point.seconds:
        marks.append((_times(point.seconds, scale), True))
        texts.append(f"{number(point.seconds.median * scale)} s{' !' if point.unstable else ''}")
    if point.cold:
        texts.append(f"cold {number(point.cold.median * scale)} s (n = {point.cold.n})")
    label = point_label(point, NARROW)
    if scale != 1:
        label += f" ({short(point.work or 0)}{NARROW}{point.unit_of_work})"
    samples = [seconds * scale for seconds in point.times.values()]
    return Row(label, style_of(point, of_workload), marks, samples, ", ".join(texts))


def _times(interval: Interval, scale: float) -> Interval:
    low, high = (None if end is None else end * scale for end in (interval.low, interval.high))
    return interval._replace(median=interval.median * scale, low=low, high=high)


def speedup_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Speedup against parallelism: a panel for each workload, with the variants of all its recipes."""
    panels, shown = [], []
    for workload, points in run.workloads.items():
        if not run.waits(workload) and (made := speedup_panel(run, workload, points, "parallelism")):
            panels.append(made[0])
            shown += made[1]
    if not panels:
        return None
    sheet = Sheet(
        "What going parallel gains over the base case",
        "Speedup against parallelism, both on log axes. Above 1× a variant beats the base case that its panel names; "
        "in the shaded part it loses. Ratios are formed within a block. Slots and driver threads are different "
        "factors.",
        footnotes(run, shown, bounds=True, hollow=True),
    )
    arrange(sheet, panels)
    return sheet, f"Speedup over the base case against parallelism. {_lines_words(panels)}."


def folds_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Time and speedup against the number of folds, side by side."""
    return _over_factors(
        run,
        lambda points: ["folds"],
        "What more folds cost, and what going parallel saves",
        "Left: seconds against the number of folds, on a log axis. Right: speedup over the base case with as many "
        "folds, where that was run. Parallelism stays at its central value. Calls that did a part of the job are shown "
        "with the seconds of all of it.",
        "Seconds and speedup against the number of folds.",
    )


def sizes_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Time and speedup against each other number that was swept: rows, series, candidates."""
    return _over_factors(
        run,
        lambda points: [] if run.crossed(points[0].workload) else _swept_sizes(points),
        "What larger jobs cost, and what going parallel saves",
        "Left: seconds against the size under each panel, on a log axis. Right: speedup over the base case of the same "
        "size, where that was run. All else stays at its central value. Calls that did a part of the job are shown "
        "with the seconds of all of it.",
        "Seconds and speedup against sizes of the job.",
    )


def _swept_sizes(points: Sequence[Point]) -> list[str]:
    """Factors other than folds with several numbers as values."""
    names = dict.fromkeys(name for point in points for name in point.shape if name != "folds")
    values = {name: {point.shape[name] for point in points if name in point.shape} for name in names}
    return [name for name, found in values.items() if len(found) > 1 and all(type(v) in (int, float) for v in found)]


def _over_factors(
    run: MeasuredRun, factors: Callable[[Sequence[Point]], Iterable[str]], title: str, explanation: str, alt: str
) -> tuple[Sheet, str] | None:
    """Seconds and speedups side by side, a row for each workload and factor; None where there are none."""
    panels: list[LinePanel | None] = []
    shown: list[Point] = []
    for workload, points in run.workloads.items():
        for factor in factors(points) if points and not run.waits(workload) else ():
            if times := time_panel(run, f"time: {workload}", points, factor):
                speedups = speedup_panel(run, f"speedup: {workload}", points, factor)
                panels += [times[0], speedups[0] if speedups else None]
                shown += times[1]
    if not panels:
        return None
    sheet = Sheet(title, explanation, footnotes(run, shown, bounds=True, hollow=True))
    arrange(sheet, panels)
    return sheet, f"{alt} {_lines_words(panels)}."


def rows_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Rows scored per second."""
    panels: list[DotPanel] = []
    shown: list[Point] = []
    for workload, points in run.workloads.items():
        if not any(point.rows for point in points):
            continue
        for job, of_job in group_by_job(run, points).items():
            found = {id(p): p for of in (run.base_of, run.single_node_of) for p in map(of, of_job) if p}
            lines = [point.rate.median for point in found.values() if point.rate]
            rows = [_rate_row(p, points) for p in of_job]
            panels.append(DotPanel(workload, shared_setting(of_job, job), rows, lines=lines))
            shown += of_job
    if not panels:
        return None
    sheet = Sheet(
        "How many rows a second each way of scoring gets through",
        "Rows per second of a warm call, on a log axis: further right is faster. The dashed lines are the base case, "
        "which is the first row, and the best of several processes without Spark: the limit on one machine. At the "
        "right: the rate, and the rows that one call scored.",
        footnotes(run, shown, hollow=True),
    )
    stack(sheet, panels)
    return sheet, f"Rows scored per second. {_dots_words(panels)}."


def _rate_row(point: Point, of_workload: Sequence[Point]) -> Row:
    style = style_of(point, of_workload)
    if not point.rate or not point.rows:
        return Row(point_label(point, NARROW), style, [], [], "")
    text = f"{short(point.rate.median)} rows/s{' !' if point.unstable else ''} ({short(point.rows)} rows)"
    samples = [point.rows / seconds for seconds in point.times.values()]
    return Row(point_label(point, NARROW), style, [(point.rate, not point.oversubscribed)], samples, text)


def waiting_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """What the schedules gain by themselves, shown by jobs that wait."""
    made = [
        speedup_panel(run, f"{workload}: against {factor}", points, factor)
        for workload, points in run.workloads.items()
        if run.waits(workload)
        for factor in ("parallelism", "folds")
    ]
    panels = [panel[0] if panel else None for panel in made]
    if not any(panels):
        return None
    sheet = Sheet(
        "The schedules themselves: jobs wait instead of computing",
        "No model is fitted here: each job sleeps, so that cores do not limit it. Points on their dotted bound show "
        "that a schedule delivers what theory allows, on any machine; they say nothing about real fits.",
        footnotes(run, [point for panel in made if panel for point in panel[1]], bounds=True),
    )
    arrange(sheet, panels)
    return sheet, f"Speedup of jobs that wait, against parallelism and against folds. {_lines_words(panels)}."


def break_even_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Speedup against a swept factor, such as the length of a fit; a panel for each value of what crosses it."""
    panels: list[LinePanel | None] = []
    shown: list[Point] = []
    said: list[str] = []
    for workload in run.workloads:
        for setting, points in by_setting(run, workload).items():
            title = f"{workload}: {setting}" if setting else workload
            if made := speedup_panel(run, title, points, run.crossed(workload)[0]):
                panels.append(made[0])
                shown += made[1]
                said.append(_lines_words([made[0]]))
        for row in break_evens(run, workload):
            wins = ", ".join(f"over {other} {words}" for other, words in row.wins_from.items())
            said.append(f"{workload}, {row.setting}, {row.way.label} begins to win {wins}")
    if not panels:
        return None
    sheet = Sheet(
        "Where going parallel begins to pay",
        "Speedup over the base case against the factor under each panel, both on log axes. A way pays where its line "
        "is above 1×, in the white part. Where calls made different numbers of fits, the time of a fit is compared.",
        footnotes(run, shown, hollow=True),
    )
    arrange(sheet, panels)
    return sheet, f"Speedups over the base case. {'. '.join(said)}."


def _dots_words(panels: Sequence[DotPanel]) -> str:
    """The figures of panels, for readers who cannot see them."""
    said = []
    for panel in panels:
        rows = "; ".join(f"{row.label.replace(NARROW, ' ')} {row.text or 'no time'}" for row in panel.rows)
        said.append(f"{panel.title}, {panel.below}: {rows}")
    return ". ".join(said)


def _lines_words(panels: Iterable[LinePanel | None]) -> str:
    """The figures of panels, for readers who cannot see them."""
    said = []
    for panel in panels:
        if panel:
            lines = "; ".join(_line_words(line, speedups=panel.speedups) for line in panel.lines)
            said.append(f"{panel.title}: {lines}")
    return ". ".join(said)


def _line_words(line: Line, *, speedups: bool) -> str:
    values = []
    for mark in line.marks:
        words = "no time"
        if mark.value:
            words = ratio_words(mark.value.median) if speedups else f"{number(mark.value.median)} s"
        values.append(f"{words} at {mark.x:g}")
    return f"{line.label} {', '.join(values)}"


CHARTS: dict[str, Callable[[MeasuredRun], tuple[Sheet, str] | None]] = {
    "seconds": seconds_chart,
    "speedup": speedup_chart,
    "folds": folds_chart,
    "sizes": sizes_chart,
    "rows": rows_chart,
    "waiting": waiting_chart,
    "break_even": break_even_chart,
}


# --- panels over a factor


def speedup_panel(
    run: MeasuredRun, title: str, points: Sequence[Point], factor: str
) -> tuple[LinePanel, list[Point]] | None:
    """Speedups over a factor, and the points that they come from; None where there are fewer than two values of it."""
    compared = [point for point in points if run.base_of(point)]
    if factor != "parallelism":  # the base case has as many folds as its variants, so its own speedup is 1 everywhere
        compared = [point for point in compared if run.base_of(point) is not point]
    lines, shown = lines_over(run, compared, factor, run.speedup, style_numbers(points))
    if not have_two_places(lines):
        return None
    panel = LinePanel(
        title,
        base_words(run, shown, factor),
        lines,
        parallelism_label(shown) if factor == "parallelism" else factor,
        "speedup",
        speedups=True,
        log_x=factor == "parallelism" or need_log_axis(lines),
        reference=single_node_level(run, points) if factor == "parallelism" else None,
    )
    bases = {id(base): base for point in shown if (base := run.base_of(point)) and base not in shown}
    return panel, [*shown, *bases.values()]


def time_panel(
    run: MeasuredRun, title: str, points: Sequence[Point], factor: str
) -> tuple[LinePanel, list[Point]] | None:
    """Seconds over a factor, and the points that they come from; None where there are fewer than two values of it."""

    def seconds(point: Point) -> Interval | None:
        """Of calls that did less than others, as many as all of it would take."""
        most = max((other.work for other in points if other.work and other.shape == point.shape), default=None)
        return point.seconds and _times(point.seconds, most / point.work if most and point.work else 1.0)

    lines, shown = lines_over(run, points, factor, seconds, style_numbers(points))
    if not have_two_places(lines):
        return None
    places = sorted({point.place for point in shown if point.parallelism})
    below = f"parallel variants with {' / '.join(places)}" if places else ""
    log_x = need_log_axis(lines)
    return LinePanel(title, below, lines, factor, "seconds (log axis)", speedups=False, log_x=log_x), shown


def lines_over(
    run: MeasuredRun,
    points: Sequence[Point],
    factor: str,
    value: Callable[[Point], Interval | None],
    numbers: dict[tuple[str, str], int],
) -> tuple[list[Line], list[Point]]:
    """Lines of a workload's variants over a factor, the other factors at their centre, and the points on the lines."""
    free = PARALLEL if factor == "parallelism" else (factor, *run.crossed(points[0].workload)) if points else ()

    def place(point: Point) -> float | None:
        value: float | None = point.factors.get(factor)
        # A base case that does one thing at a time is what parallelism 1 means.
        return 1 if value is None and point.base and factor == "parallelism" else value

    placed = [(x, p) for p in points if (x := place(p)) is not None and run.is_central(p, *free)]
    placed.sort(key=lambda pair: pair[0])
    lines = []
    for variant, style in numbers.items():
        own = [(x, p) for x, p in placed if (p.scenario, p.variant) == variant]
        marks = [Mark(x, value(p), run.bound(p), run.least_bound(p), p.oversubscribed, p.unstable) for x, p in own]
        if own:
            lines.append(Line(own[0][1].label, style, marks))
    return lines, [point for _, point in placed]


def have_two_places(lines: Iterable[Line]) -> bool:
    """Whether there are two places to draw a line between."""
    return len({mark.x for line in lines for mark in line.marks}) > 1


def need_log_axis(lines: Iterable[Line]) -> bool:
    """Whether the places lie too far apart for a linear axis, and a logarithmic one has all of them."""
    places = [mark.x for line in lines for mark in line.marks]
    return 0 < 6 * min(places) < max(places)


def single_node_level(run: MeasuredRun, points: Sequence[Point]) -> tuple[float, str] | None:
    """Speedup of the best parallel run without Spark at the centre, and its words for the legend."""
    for point in points:
        best = run.single_node_of(point) if run.is_central(point, *PARALLEL) else None
        if best and best.seconds and (speedup := run.speedup(best)):
            return speedup.median, f"best without Spark: {point_label(best)}, {number(best.seconds.median)} s"
    return None


def style_numbers(points: Iterable[Point]) -> dict[tuple[str, str], int]:
    """A number for each variant of a workload, which fixes its colour and marker in every chart."""
    variants = dict.fromkeys((point.scenario, point.variant) for point in points)
    return {variant: place for place, variant in enumerate(variants)}


def style_of(point: Point, of_workload: Iterable[Point]) -> int:
    """The number of a point's variant."""
    return style_numbers(of_workload)[point.scenario, point.variant]
