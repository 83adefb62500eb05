# SPDX-License-Identifier: Apache-2.0
"""Which charts a run has and what is on them: from the records, the plan and the environment alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.report.plotting import DotPanel, Line, LinePanel, Mark, Row, Sheet, fixed_style, grid, number, short, stack
from suite.report.points import PARALLEL, MeasuredRun, Point, factors_in_words, plural
from suite.stats import MIN_BLOCKS, Interval

NARROW = "\N{NO-BREAK SPACE}"  # where a label in a narrow column may not break
HOLLOW = "Hollow points: more workers than cores."
BOUNDS = "Dotted lines with bars: the most that the schedule allows, for equal fits or for unequal ones as measured."


@dataclass(frozen=True)
class Chart:
    """A chart that was written: file name without its ending, its title, and words for who cannot see it."""

    name: str
    title: str
    alt: str


def draw(run: MeasuredRun, folder: Path) -> list[Chart]:
    """Write every chart for which the run has data, as SVG and PNG.

    Parameters
    ----------
    run : Run
    folder : Path
        Made where it is missing. A chart from before that this run does not have is removed.

    Returns
    -------
    list of Chart
        In the order in which a reader should see them.
    """
    made = []
    with fixed_style():
        for name, chart in CHARTS.items():
            if drawn := chart(run):
                sheet, alt = drawn
                sheet.save(folder, name)
                made.append(Chart(name, sheet.title, alt))
            else:
                for ending in ("svg", "png"):
                    (folder / f"{name}.{ending}").unlink(missing_ok=True)
    return made


# --- the charts


def waits(workload: str) -> bool:
    """Whether the jobs of a workload wait instead of computing; such workloads have the word in their name."""
    return "waiting" in workload.lower()


def seconds_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Seconds per recipe and variant, at the centre of the sweeps and for other data; warm and cold."""
    panels: list[DotPanel] = []
    shown: list[Point] = []
    fastest: list[str] = []
    for workload, points in run.workloads.items():
        title = f"{workload} (jobs wait instead of computing)" if waits(workload) else workload
        for job, of_job in jobs(run, points).items():
            kept = [p for p in of_job if run.centre(p, *p.shape) or p is run.base_of(p)]
            panels.append(DotPanel(title, common(kept, job), [_seconds_row(p, points, kept) for p in kept], " s"))
            shown += kept
            if timed := [(p.seconds.median / (p.rows or 1), named(p)) for p in kept if p.seconds]:
                fastest.append(f"{workload}, {panels[-1].below}: {min(timed)[1]}")
    if not panels:
        return None
    sheet = Sheet(
        "How long each way of doing the same job takes",
        "Seconds of one call, on a log axis: further left is faster. Filled: warm, the second call in a process. "
        "Hollow: cold, a variant's first call in its process. Starting a Spark session is in neither. Thin strokes: "
        "single blocks.",
        notes(run, shown),
    )
    stack(sheet, panels)
    return sheet, f"Warm and cold seconds of each variant. Fastest: {'; '.join(fastest) or 'none has a time'}."


def _seconds_row(point: Point, of_workload: Sequence[Point], beside: Sequence[Point]) -> Row:
    marks, words = [], []
    if point.cold:
        marks.append((point.cold, False))
    if point.seconds:
        marks.append((point.seconds, True))
        words.append(f"{number(point.seconds.median)} s{' !' if point.unstable else ''}")
    if point.cold:
        words.append(f"cold {number(point.cold.median)} s")
    label = named(point, NARROW) + scored(point, beside, NARROW)
    return Row(
        label, styles(of_workload)[point.scenario, point.variant], marks, list(point.times.values()), ", ".join(words)
    )


def speedup_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Speedup against parallelism, a panel per workload, its variants side by side across files."""
    panels, shown = [], []
    for workload, points in run.workloads.items():
        if not waits(workload) and (made := speedup_panel(run, workload, points, "parallelism")):
            panels.append(made[0])
            shown += made[1]
    if not panels:
        return None
    sheet = Sheet(
        "What going parallel gains over the base case",
        "Speedup against parallelism, both on log axes. Above 1× a variant beats the base case that its panel names; "
        "in the shaded part it loses. Ratios are formed within a block. Slots and driver threads are different things.",
        notes(run, shown, bounds=True, hollow=True),
    )
    grid(sheet, panels)
    return sheet, "Speedup over the base case against parallelism, a panel per workload; the tables have the figures."


def folds_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Time and speedup against the number of folds, side by side."""
    panels: list[LinePanel | None] = []
    shown: list[Point] = []
    for workload, points in run.workloads.items():
        if waits(workload):
            continue
        if times := time_panel(run, f"time: {workload}", points, "folds"):
            speedups = speedup_panel(run, f"speedup: {workload}", points, "folds")
            panels += [times[0], speedups[0] if speedups else None]
            shown += times[1]
    if not panels:
        return None
    sheet = Sheet(
        "What more folds cost, and what going parallel saves",
        "Left: seconds against the number of folds, on a log axis. Right: speedup over the base case with as many "
        "folds, where that was run. Parallelism stays at its central value.",
        notes(run, shown, bounds=True, hollow=True),
    )
    grid(sheet, panels)
    return sheet, "Seconds and speedup against the number of folds, a row per workload; the tables have the figures."


def rows_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """Rows scored per second."""
    panels: list[DotPanel] = []
    shown: list[Point] = []
    for workload, points in run.workloads.items():
        if not any(point.rows for point in points):
            continue
        for job, of_job in jobs(run, points).items():
            base = next((base for p in of_job if (base := run.base_of(p)) and base.rate), None)
            line = base.rate.median if base and base.rate else None
            panels.append(DotPanel(workload, common(of_job, job), [_rate_row(p, points) for p in of_job], "", line))
            shown += of_job
    if not panels:
        return None
    sheet = Sheet(
        "How many rows a second each way of scoring gets through",
        "Rows per second of a warm call, on a log axis: further right is faster. The dashed line is the base case, "
        "the first row. At the right: the rate, and the rows that one call scored.",
        notes(run, shown, hollow=True),
    )
    stack(sheet, panels)
    return sheet, "Rows scored per second by each variant; the tables have the figures."


def _rate_row(point: Point, of_workload: Sequence[Point]) -> Row:
    style = styles(of_workload)[point.scenario, point.variant]
    if not point.rate or not point.rows:
        return Row(named(point, NARROW), style, [], [], "")
    text = f"{short(point.rate.median)} rows/s{' !' if point.unstable else ''} ({short(point.rows)} rows)"
    samples = [point.rows / seconds for seconds in point.times.values()]
    return Row(named(point, NARROW), style, [(point.rate, not point.oversubscribed)], samples, text)


def waiting_chart(run: MeasuredRun) -> tuple[Sheet, str] | None:
    """The schedules themselves, with jobs that wait."""
    made = [
        speedup_panel(run, f"{workload}: against {factor}", points, factor)
        for workload, points in run.workloads.items()
        if waits(workload)
        for factor in ("parallelism", "folds")
    ]
    panels = [panel[0] if panel else None for panel in made]
    if not any(panels):
        return None
    sheet = Sheet(
        "The schedules themselves: jobs wait instead of computing",
        "No model is fitted here: each job sleeps, so that cores are not what limits it. Points on their dotted bound "
        "show that a schedule delivers what theory allows, on any machine; they say nothing about real fits.",
        notes(run, [point for panel in made if panel for point in panel[1]], bounds=True),
    )
    grid(sheet, panels)
    return sheet, "Speedup of jobs that wait, against parallelism and against folds, with the bound of each schedule."


# --- panels over a factor


def lines_over(
    run: MeasuredRun,
    points: Sequence[Point],
    factor: str,
    value: Callable[[Point], Interval | None],
    style: dict[tuple[str, str], int],
) -> tuple[list[Line], list[Point]]:
    """Lines of a workload's variants over a factor, other factors at their centre, and the points on them."""
    free = PARALLEL if factor == "parallelism" else (factor,)

    def place(point: Point) -> int:
        # A base case that does one thing at a time is what parallelism 1 means.
        return point.factors.get(factor) or int(point.base and factor == "parallelism")

    chosen = sorted((point for point in points if place(point) and run.centre(point, *free)), key=place)
    lines = []
    for variant, number_of in style.items():
        own = [point for point in chosen if (point.scenario, point.variant) == variant]
        marks = [Mark(place(p), value(p), run.bound(p), p.oversubscribed, p.unstable) for p in own]
        if own:
            lines.append(Line(own[0].label, number_of, marks))
    return lines, chosen


def varied(lines: Iterable[Line]) -> bool:
    """Whether there are two places to draw a line between."""
    return len({mark.x for line in lines for mark in line.marks}) > 1


def wide(lines: Iterable[Line]) -> bool:
    """Whether values lie too far apart for a linear axis."""
    values = [mark.x for line in lines for mark in line.marks]
    return max(values) > 6 * min(values)


def speedup_panel(
    run: MeasuredRun, title: str, points: Sequence[Point], factor: str
) -> tuple[LinePanel, list[Point]] | None:
    """Speedups over a factor and the points they come from; None where nothing was varied or to be compared with."""
    compared = [point for point in points if run.base_of(point)]
    if factor != "parallelism":  # the base case would meet itself everywhere
        compared = [point for point in compared if run.base_of(point) is not point]
    lines, shown = lines_over(run, compared, factor, run.speedup, styles(points))
    if not varied(lines):
        return None
    panel = LinePanel(
        title,
        base_text(run, shown, factor),
        lines,
        parallel_label(shown) if factor == "parallelism" else factor,
        "speedup",
        speedups=True,
        log_x=factor == "parallelism" or wide(lines),
        reference=single_node(run, points) if factor == "parallelism" else None,
    )
    bases = {id(base): base for point in shown if (base := run.base_of(point)) and base not in shown}
    return panel, [*shown, *bases.values()]


def time_panel(
    run: MeasuredRun, title: str, points: Sequence[Point], factor: str
) -> tuple[LinePanel, list[Point]] | None:
    """Seconds over a factor and the points they come from; None where it was not varied."""
    lines, shown = lines_over(run, points, factor, lambda point: point.seconds, styles(points))
    if not varied(lines):
        return None
    places = sorted({point.place for point in shown if point.parallelism})
    below = f"parallel variants with {' / '.join(places)}" if places else ""
    return LinePanel(title, below, lines, factor, "seconds (log axis)", speedups=False, log_x=wide(lines)), shown


def single_node(run: MeasuredRun, points: Sequence[Point]) -> tuple[float, str] | None:
    """Speedup of the best parallel run without Spark at the centre, and what to call it."""
    for point in points:
        best = run.single_node_of(point) if run.centre(point, *PARALLEL) else None
        if best and best.seconds and (speedup := run.speedup(best)):
            return speedup.median, f"best without Spark: {named(best)}, {number(best.seconds.median)} s"
    return None


# --- words


def styles(points: Iterable[Point]) -> dict[tuple[str, str], int]:
    """A number for each variant of a workload, which fixes its colour and marker in every chart."""
    variants = dict.fromkeys((point.scenario, point.variant) for point in points)
    return {variant: place for place, variant in enumerate(variants)}


def named(point: Point, space: str = " ") -> str:
    """Label and place of a point; the slots that a workload's threads share are left to its panel's title."""
    if point.parallelism is None:
        return point.label
    place = plural(point.parallelism, "thread") if point.threads else point.place
    return f"{point.label}, {place.replace(' ', space)}"


def scored(point: Point, beside: Iterable[Point], space: str = " ") -> str:
    """How many rows a point scored, where those beside it scored others: their seconds do not compare."""
    if point.rows and len({other.rows for other in beside if other.rows}) > 1:
        return f" ({short(point.rows)}{space}rows)"
    return ""


def common(points: Sequence[Point], job: str) -> str:
    """What the points of a panel have in common."""
    said = [job or factors_in_words(points[0].shape)]
    if points[0].threads:
        said += sorted({plural(p.factors["slots"], "slot") for p in points if p.factors.get("slots")})
    return ", ".join(text for text in said if text)


def jobs(run: MeasuredRun, points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points grouped by job: the centre first, then other data sets and sizes. Other folds have their own chart."""
    found: dict[str, list[Point]] = {}
    for point in points:
        differs = {name: value for name, value in run.off_centre(point).items() if name not in PARALLEL}
        if "folds" not in differs:
            found.setdefault(factors_in_words(differs), []).append(point)
    return dict(sorted(found.items(), key=lambda job: job[0] != ""))


def parallel_label(points: Iterable[Point]) -> str:
    """What parallelism counts here, for the x axis: slots and threads never share one."""
    parallel = [point for point in points if point.parallelism is not None]
    if any(point.threads for point in parallel):
        slots = sorted({point.factors["slots"] for point in parallel if point.factors.get("slots")})
        return f"parallelism (driver threads{' at ' + ', '.join(map(str, slots)) + ' slots' if slots else ''})"
    if any(point.single_node for point in parallel):
        return "parallelism (slots; processes without Spark)"
    return "parallelism (slots)"


def base_text(run: MeasuredRun, points: Iterable[Point], factor: str) -> str:
    """The base case of these points with its seconds, at each value of the factor where they differ."""
    found = {id(base): base for point in points if (base := run.base_of(point))}
    bases = sorted(found.values(), key=lambda base: base.factors.get(factor) or 0)
    if not bases:
        return "no base case in this run"
    if not any(base.seconds for base in bases):
        return f"1× is {named(bases[0])}: no time"
    took = [number(base.seconds.median) if base.seconds else "no time" for base in bases]
    text = f"1× is {named(bases[0])}: {_row(took)} s"
    return text + (f" at {_row([str(base.factors.get(factor)) for base in bases])} {factor}" if len(bases) > 1 else "")


def _row(words: Sequence[str]) -> str:
    return " / ".join(words) if len(words) < 3 else f"{words[0]} to {words[-1]}"


def one_host(master: str) -> bool:
    """Whether a master runs everything on the driver's own machine."""
    plain = master.lower()
    return plain.startswith(("local", "standalone", "compose")) or "//127." in plain or "one host" in plain


def about(run: MeasuredRun) -> str:
    """Machine, date, master and size in a line."""
    machine = run.environment.get("machine") or {}
    parts = [str(machine.get("cpu") or "unknown processor")]
    if machine.get("cores"):
        parts.append(plural(int(machine["cores"]), "core"))
    if machine.get("memory_gib"):
        parts.append(f"{machine['memory_gib']} GiB")
    if machine.get("os"):
        parts.append(str(machine["os"]))
    date = str(run.environment.get("date") or run.plan.get("created") or "unknown date")[:10]
    return f"{', '.join(parts)}. {date}. Master {run.master}, size {run.plan['size']}."


def replicates(run: MeasuredRun) -> str:
    """How many blocks there are, and what the lines through the dots are."""
    blocks = plural(run.blocks, "block")
    if run.blocks < MIN_BLOCKS:
        return f"{blocks}, no interval (95 % needs {MIN_BLOCKS} blocks). Dots are medians over the blocks."
    shares = [p.seconds.coverage for p in run.points if p.seconds and p.seconds.coverage]
    exact = f" (exact coverage {min(shares):.1%})" if shares else ""
    said = f"{blocks} in fresh processes: dots are medians, the lines through them 95 % intervals{exact}."
    if any(p.seconds and p.seconds.coverage is None for p in run.points):
        said += f" Fewer than {MIN_BLOCKS} blocks: no interval."
    return said


def without_time(run: MeasuredRun, points: Iterable[Point] | None = None) -> str:
    """'2 of 40 cells have no time', or nothing."""
    cells = run.cells if points is None else [cell for point in points for cell in point.cells]
    missing = sum(cell.status != "ok" for cell in cells)
    if not missing:
        return ""
    return f"{missing} of {plural(len(cells), 'cell')} {'has' if missing == 1 else 'have'} no time"


def notes(run: MeasuredRun, shown: Sequence[Point], *, bounds: bool = False, hollow: bool = False) -> list[str]:
    """The small print of a chart."""
    said = [about(run)]
    if one_host(run.master):
        said.append(
            "One host: driver and workers share this machine, so there is no network between machines in these times."
        )
    said.append(replicates(run))
    if hollow and any(point.oversubscribed for point in shown):
        said.append(HOLLOW)
    if bounds and any((run.bound(point) or 0) > 1 for point in shown):
        said.append(BOUNDS)
    if missing := without_time(run, shown):
        said.append(f"{missing}: see report.")
    if any(point.unstable for point in shown):
        said.append("! marks times that spread or drift by more than 10 % over the blocks: see report.")
    return said


CHARTS: dict[str, Callable[[MeasuredRun], tuple[Sheet, str] | None]] = {
    "seconds": seconds_chart,
    "speedup": speedup_chart,
    "folds": folds_chart,
    "rows": rows_chart,
    "waiting": waiting_chart,
}
