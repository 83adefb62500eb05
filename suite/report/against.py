# SPDX-License-Identifier: Apache-2.0
"""How long every variant takes against one of them, at each point of the sweep: a chart and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import UsageError
from suite.plan.scenario import PARALLEL
from suite.report.captions import footnotes, shared_setting
from suite.report.charts import style_of
from suite.report.formatting import NONE, factors_in_words, figure_words, number, ratio_digits, ratio_words
from suite.report.plotting import DotPanel, Row, Sheet, dot_limits, fixed_style, stack
from suite.report.point import Point
from suite.report.points import MeasuredRun, read_run
from suite.stats import Interval

WIDE = 2  # so many variants for each setting make a table that is too wide to read


@dataclass(frozen=True)
class Pair:
    """A point and the point that it is held against, which does the same job at the same parallelism.

    Attributes
    ----------
    setting : str
        Parallelism, and the values of the factors that are swept.
    ratio : Interval or None
        Time of `point` over that of `reference`, formed within blocks; None where no block has both times.
    """

    point: Point
    reference: Point
    setting: str
    ratio: Interval | None

    @property
    def samples(self) -> list[float]:
        """The ratio in each block that has both times."""
        work = self.reference.work / self.point.work if self.reference.work and self.point.work else 1.0
        there = self.reference.times
        return [work * seconds / there[block] for block, seconds in self.point.times.items() if block in there]


@dataclass(frozen=True)
class Contest:
    """A workload and its pairs, at least one.

    Attributes
    ----------
    title : str
        The workload, and what its job is at the centre.
    """

    workload: str
    title: str
    pairs: Sequence[Pair]

    @property
    def reference(self) -> str:
        """Label of the variant that the others are held against."""
        return self.pairs[0].reference.label

    def by_variant(self) -> dict[str, list[Pair]]:
        """The pairs of each variant."""
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault(pair.point.name, []).append(pair)
        return found

    def by_setting(self) -> dict[str, dict[str, Pair]]:
        """The pairs of each setting, by variant."""
        found: dict[str, dict[str, Pair]] = {}
        for pair in self.pairs:
            found.setdefault(pair.setting, {})[pair.point.name] = pair
        return found


def report_against(directory: Path, variant: str) -> str:
    """Draw `charts/against.svg` and `.png` of a run folder; tables in Markdown, one for each workload.

    Parameters
    ----------
    directory : Path
        A run folder; see `points.read_run`.
    variant : str
        What the other variants are held against: a name such as `pool`, or `time_series_cv.pool`.

    Raises
    ------
    UsageError
        The run has no such variant, or several in one workload, or nothing to hold against it.
    """
    run = read_run(directory)
    contests = find_contests(run, variant, directory)
    with fixed_style():
        against_sheet(run, contests).save(directory / "charts", "against")
    return tables_against(contests)


def tables_against(contests: Iterable[Contest]) -> str:
    """Tables in Markdown, one for each workload."""
    return "\n\n".join("\n".join(_table_lines(contest)) for contest in contests)


def find_contests(run: MeasuredRun, variant: str, directory: Path) -> list[Contest]:
    """Each workload that has the variant, with the variants that do the same job."""
    references = [point for point in run.points if variant in (point.variant, point.name)]
    if not references:
        names = ", ".join(dict.fromkeys(point.name for point in run.points))
        raise UsageError(f"{directory} has no variant {variant}; it has {names}")
    contests = []
    for workload, points in run.workloads.items():
        own = [point for point in references if point.workload == workload]
        recipes = list(dict.fromkeys(point.name for point in own))
        if len(recipes) > 1:
            raise UsageError(f"{directory} has several variants {variant}: say which, {' or '.join(recipes)}")
        swept = {name for point in points for name in run.off_centre(point)}
        pairs = [_pair(run, point, other, swept) for other in own for point in points if _comparable(point, other)]
        if pairs:
            contests.append(Contest(workload, _title(run, workload, own), pairs))
    if not contests:
        raise UsageError(f"no other variant in {directory} does the same job as {variant}")
    return contests


def _comparable(point: Point, reference: Point) -> bool:
    if point.name == reference.name:
        return False
    there = _own_factors(reference)
    return all(there.get(name, value) == value for name, value in _own_factors(point).items())


def _pair(run: MeasuredRun, point: Point, reference: Point, swept: Set[str]) -> Pair:
    off = {**run.off_centre(reference), **run.off_centre(point)}
    # At the centre too, a factor that is swept has its value beside it.
    setting = {name: value for name, value in {**reference.shape, **point.shape}.items() if name in swept}
    parallelism = point.parallelism or reference.parallelism
    if "slots" in off and (point.threads or not parallelism):  # elsewhere the slots are the parallelism
        setting = {"slots": off["slots"], **setting}
    if parallelism:
        setting = {"parallelism": parallelism, **setting}
    return Pair(point, reference, factors_in_words(setting) or "the centre", run.ratio(point, reference))


def _title(run: MeasuredRun, workload: str, references: Sequence[Point]) -> str:
    central = [point for point in references if run.is_central(point, *PARALLEL)] or references
    return f"{workload}. At the centre: {shared_setting(central, '')}"


def _own_factors(point: Point) -> dict[str, Any]:
    return {name: value for name, value in point.factors.items() if value is not None}


def against_sheet(run: MeasuredRun, contests: Iterable[Contest]) -> Sheet:
    """A panel for each variant, all on one axis."""
    contests = list(contests)
    points = [point for contest in contests for pair in contest.pairs for point in (pair.point, pair.reference)]
    names = " / ".join(dict.fromkeys(contest.reference for contest in contests))
    sheet = Sheet(
        f"Time of each variant over that of: {names}",
        "Seconds of a warm call divided by those of the variant in the title, within a block, on a log axis: left of "
        "the dashed line a variant is faster. Thin strokes: single blocks. At the right: the ratio, and the seconds "
        "of the variant in the title. Where the two scored different numbers of rows, seconds per row are compared.",
        footnotes(run, points, hollow=True),
    )
    drawn = [
        (pairs[0].point.label, contest, [_ratio_row(run, contest, pair) for pair in pairs])
        for contest in contests
        for pairs in contest.by_variant().values()
    ]
    limits = dot_limits([row for _, _, rows in drawn for row in rows])
    panels = [DotPanel(label, contest.title, rows, "×", lines=[1.0], limits=limits) for label, contest, rows in drawn]
    stack(sheet, panels)
    return sheet


def _ratio_row(run: MeasuredRun, contest: Contest, pair: Pair) -> Row:
    style = style_of(pair.point, run.workloads[contest.workload])
    if pair.ratio is None:
        return Row(pair.setting, style, [], [], "")
    text = ratio_words(pair.ratio.median)
    if pair.reference.seconds and pair.point.work == pair.reference.work:
        text += f" of {number(pair.reference.seconds.median)} s"
    if pair.point.unstable or pair.reference.unstable:
        text += " !"
    return Row(pair.setting, style, [(pair.ratio, not pair.point.oversubscribed)], pair.samples, text)


def _table_lines(contest: Contest) -> Iterator[str]:
    """A Markdown table under a line that says what it is of: a row for each setting, two columns for each variant.

    Where there is one setting, or the table would be far wider than long, a row for each variant.
    """
    variants, settings = contest.by_variant(), contest.by_setting()
    yield f"{contest.title}.\n"
    if len(settings) == 1 or len(variants) > WIDE * len(settings):
        headings = [text for setting in settings for text in (f"{setting}, s", "ratio")]
        if len(settings) == 1:
            headings = ["s", f"ratio to: {contest.reference}"]
        references = [next(iter(pairs.values())).reference for pairs in settings.values()]
        yield _markdown_row(["", *headings])
        yield _markdown_row(["---"] * (1 + len(headings)))
        yield _markdown_row([contest.reference, *(text for one in references for text in (_seconds_cell(one), NONE))])
        for variant, pairs in variants.items():
            cells = [text for there in settings.values() for text in _pair_cells(there.get(variant))]
            yield _markdown_row([pairs[0].point.label, *cells])
        return
    headings = [text for pairs in variants.values() for text in (f"{pairs[0].point.label}, s", "ratio")]
    yield _markdown_row(["setting", f"{contest.reference}, s", *headings])
    yield _markdown_row(["---"] * (2 + len(headings)))
    for setting, there in settings.items():
        reference = next(iter(there.values())).reference
        cells = [text for variant in variants for text in _pair_cells(there.get(variant))]
        yield _markdown_row([setting, _seconds_cell(reference), *cells])


def _pair_cells(pair: Pair | None) -> tuple[str, str]:
    if pair is None:
        return NONE, NONE
    return _seconds_cell(pair.point), figure_words(pair.ratio, ratio_digits, "×")


def _seconds_cell(point: Point) -> str:
    return number(point.seconds.median) if point.seconds else "no time"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
