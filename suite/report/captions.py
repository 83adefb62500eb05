# SPDX-License-Identifier: Apache-2.0
"""Words under, beside and around the figures of a run: labels of points, titles of groups, footnotes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from suite.plan.scenario import PARALLEL
from suite.report.formatting import factors_in_words, number, plural, ratio_words, short
from suite.report.point import Point
from suite.report.points import MeasuredRun
from suite.stats import MIN_BLOCKS

HOLLOW = "Hollow points: more workers than cores."
BOUNDS = (
    "Dotted lines with bars: the largest speedup that the schedule allows, for equal fits or, where fits differ, for "
    "the fits as they were measured."
)
BAND = "Shade below them: down to where nothing but the fits goes parallel."


# --- points


def point_label(point: Point, space: str = " ") -> str:
    """Label and place of a point, without the slots that its threads share: the title of the panel has them."""
    if point.parallelism is None:
        return point.label
    place = plural(point.parallelism, "thread") if point.threads else point.place
    return f"{point.label}, {place.replace(' ', space)}"


def work_note(point: Point, beside: Iterable[Point]) -> str:
    """How many rows or fits a point's call had, where those beside it had other numbers: seconds do not compare."""
    if point.work and len({other.work for other in beside if other.work}) > 1:
        return f" ({short(point.work)} {point.unit_of_work})"
    return ""


def setting_words(run: MeasuredRun, point: Point) -> str:
    """How a point is spread, and in which factors of its job it differs from the centre."""
    off = {name: value for name, value in run.off_centre(point).items() if name not in PARALLEL}
    return ", ".join([point.place, *([factors_in_words(off)] if off else [])])


# --- groups of points


def group_by_job(run: MeasuredRun, points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points by the words for their job, which are empty at the centre; that comes first.

    Other data sets and sizes are jobs of their own. Other numbers of folds are left out: they have their own chart.
    """
    found: dict[str, list[Point]] = {}
    for point in points:
        differs = {name: value for name, value in run.off_centre(point).items() if name not in PARALLEL}
        if "folds" not in differs:
            found.setdefault(factors_in_words(differs), []).append(point)
    return dict(sorted(found.items(), key=lambda job: job[0] != ""))


def shown_of_job(run: MeasuredRun, of_job: Iterable[Point]) -> list[Point]:
    """The points of a job at the central parallelism, and its base case."""
    return [point for point in of_job if run.is_central(point, *point.shape) or point is run.base_of(point)]


def shared_setting(points: Sequence[Point], job: str) -> str:
    """What the points of a panel share: the job, and the slots of driver threads."""
    said = [job or factors_in_words(points[0].shape)]
    if any(point.threads for point in points):
        said += sorted({plural(p.factors["slots"], "slot") for p in points if p.factors.get("slots")})
    return ", ".join(text for text in said if text)


def parallelism_label(points: Iterable[Point]) -> str:
    """What parallelism counts here, for the x axis; slots and threads never share one."""
    parallel = [point for point in points if point.parallelism is not None]
    said = []
    if shared := sorted({point.factors["slots"] for point in parallel if point.threads}):
        said.append(f"driver threads at {', '.join(map(str, shared))} slots")
    elif any(point.on_spark for point in parallel):
        said.append("slots")
    if any(point.single_node for point in parallel):
        said.append("processes without Spark")
    return f"parallelism ({'; '.join(said)})"


def base_words(run: MeasuredRun, points: Iterable[Point], factor: str) -> str:
    """The base case of these points with its seconds, at each value of the factor where they differ."""
    found = {id(base): base for point in points if (base := run.base_of(point))}
    bases = sorted(found.values(), key=lambda base: base.factors.get(factor) or 0)
    if not bases:
        return "no base case in this run"
    if not any(base.seconds for base in bases):
        return f"1× is {point_label(bases[0])}: no time"
    of_fits = len({point.fits for point in (*points, *bases) if point.fits}) > 1
    took = [
        number(base.seconds.median / ((of_fits and base.fits) or 1)) if base.seconds else "no time" for base in bases
    ]
    text = f"1× is {point_label(bases[0])}: {_series(took)} s{' a fit' if of_fits else ''}"
    if not bases[1:]:
        return text
    # Without the factor's name, which is under the axis, where the line would be too long with it.
    return f"{text} at {_series([str(base.factors.get(factor)) for base in bases])}{'' if of_fits else ' ' + factor}"


def _series(values: Sequence[str]) -> str:
    return " / ".join(values) if len(values) < 3 else f"{values[0]} to {values[-1]}"


# --- the run


def bound_words(run: MeasuredRun, point: Point) -> str:
    """The band of a point's bound, such as 1.6–1.9×; nothing where there is none."""
    most, least = run.bound(point), run.least_bound(point)
    if not most:
        return ""
    return ratio_words(most) if least is None or most <= 1 else f"{ratio_words(least)[:-1]}–{ratio_words(most)}"


def describe_run(run: MeasuredRun) -> str:
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


def describe_blocks(run: MeasuredRun) -> str:
    """How many blocks there are, and what dots and lines mean."""
    ran = run.blocks_with_times
    blocks = plural(ran, "block") + (f" of {run.blocks}" if 0 < ran < run.blocks else "")
    if ran < MIN_BLOCKS:
        return f"{blocks}, no interval (95 % needs {MIN_BLOCKS} blocks). Dots are medians over the blocks."
    shares = [point.seconds.coverage for point in run.points if point.seconds and point.seconds.coverage]
    exact = f" (exact coverage {min(shares):.1%})" if shares else ""
    said = f"{blocks} in fresh processes. Dots are medians, the lines through them 95 % intervals{exact}."
    if any(point.seconds and point.seconds.coverage is None for point in run.points):
        said += f" Fewer than {MIN_BLOCKS} blocks: no interval."
    return said


def missing_times(run: MeasuredRun, points: Iterable[Point] | None = None) -> str:
    """'2 of 40 cells have no time', or nothing; of the whole run where no points are given."""
    cells = run.cells if points is None else [cell for point in points for cell in point.cells]
    missing = sum(cell.status != "ok" for cell in cells)
    if not missing:
        return ""
    return f"{missing} of {plural(len(cells), 'cell')} {'has' if missing == 1 else 'have'} no time"


def footnotes(run: MeasuredRun, shown: Sequence[Point], *, bounds: bool = False, hollow: bool = False) -> list[str]:
    """The small print of a chart; `bounds` and `hollow` say whether it can show such lines and points."""
    said = [describe_run(run)]
    if run.one_host:
        said.append(
            "One host: driver and workers share this machine, so there is no network between machines in these times."
        )
    said.append(describe_blocks(run))
    if hollow and any(point.oversubscribed for point in shown):
        said.append(HOLLOW)
    if bounds and any((run.bound(point) or 0) > 1 for point in shown):
        said.append(BOUNDS)
        if any(run.least_bound(point) for point in shown):
            said.append(BAND)
    if missing := missing_times(run, shown):
        said.append(f"{missing}: see report.")
    if any(point.unstable for point in shown):
        said.append("! marks times that spread or drift by more than 10 % over the blocks: see report.")
    return said
