# SPDX-License-Identifier: Apache-2.0
"""`report.html`: gathers what its template shows of a run, from the plan, records and environment alone.

The package shows what a run found: as a page, on the terminal, as charts, for other tools. It reads run folders and
runs nothing. It may import `plan`, `spark`, `machine` and the ground modules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from suite.machine.environment import ROOT
from suite.plan.scenario import PARALLEL
from suite.report import captions, charts, tables
from suite.report.charts import Chart
from suite.report.fastest import fastest_ways, in_words
from suite.report.findings import cell_counts, changed_recipes, file_here, losses
from suite.report.point import Point
from suite.report.points import MeasuredRun, read_run
from suite.report.tables import PageTable
from suite.stats import MIN_BLOCKS

# Whatever a recipe puts into a label or a reason is escaped. A name that the template misspells is an error.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Picture(NamedTuple):
    """A chart and its SVG, to stand in a page."""

    chart: Chart
    svg: Markup


class WorkloadPart(NamedTuple):
    """What the page says of a workload."""

    name: str
    recipes: str
    centre: str
    waits: bool
    settings: PageTable
    overhead: PageTable
    memory: PageTable
    break_even: PageTable


def write_report(directory: Path) -> None:
    """Draw `charts/` and write `report.html` of a run folder.

    Parameters
    ----------
    directory : Path
        A run folder; see `points.read_run`.

    Raises
    ------
    FileNotFoundError
        There is no plan in it.
    """
    run = read_run(directory)
    drawn = charts.draw(run, directory / "charts")
    (directory / "report.html").write_text(page(run, drawn, directory / "charts"), encoding="utf-8")


def page(run: MeasuredRun, drawn: Iterable[Chart], folder: Path) -> str:
    """The whole page, which needs no other file.

    Parameters
    ----------
    run : MeasuredRun
    drawn : iterable of Chart
        What `charts.draw` returned.
    folder : Path
        Where the charts lie.
    """
    return TEMPLATES.get_template("page.html.j2").render(
        title=f"Foldout report, {run.plan['size']}, {run.master}",
        counts=cell_counts(run),
        about=captions.describe_run(run),
        blocks=captions.describe_blocks(run),
        command=run.plan.get("command") or "an unknown command",
        fastest=[in_words(found).partition(": ")[::2] for found in fastest_ways(run)],
        links=_recipe_links(run, folder.parent),
        changed=changed_recipes(run),
        one_host=run.one_host,
        **_losing(run),
        failing=tables.failures_table(run),
        pictures=[_picture(chart, folder) for chart in drawn],
        workloads=[_workload(run, name, points) for name, points in run.workloads.items()],
        environment=tables.environment_table(run),
        min_blocks=MIN_BLOCKS,
    )


def _recipe_links(run: MeasuredRun, directory: Path) -> dict[str, str]:
    """Where the files of recipes lie, as seen from a run folder of this checkout; elsewhere the page stands alone."""
    if not directory.resolve().is_relative_to(ROOT):
        return {}
    paths = {f"{name}.py": file_here(about) for name, about in run.plan["scenarios"].items()}
    return {name: os.path.relpath(path, directory.resolve()) for name, path in paths.items() if path and path.is_file()}


def _losing(run: MeasuredRun) -> dict[str, Any]:
    found = losses(run)
    central = [loss for loss in found if loss.central]
    others = [loss for loss in found if not loss.central]
    return {
        "losing_at_centre": tables.losses_table(run, "the central parallelism", central),
        "losing_elsewhere": tables.losses_table(run, "other values of parallelism", others),
    }


def _picture(chart: Chart, folder: Path) -> Picture:
    """Read a chart that we drew, without what only a file of its own needs, and with names that no other chart has."""
    text = (folder / f"{chart.name}.svg").read_text(encoding="utf-8")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return Picture(chart, Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.name}-", drawing)))


def _workload(run: MeasuredRun, name: str, points: Sequence[Point]) -> WorkloadPart:
    recipes = [recipe for recipe, about in run.plan["scenarios"].items() if about["workload"] == name]
    centre = [point for point in points if run.is_central(point, *PARALLEL)] or points
    return WorkloadPart(
        name=name,
        recipes=", ".join(f"{recipe}.py" for recipe in recipes),
        centre=captions.shared_setting(centre, ""),
        waits=run.waits(name),
        settings=tables.settings_table(run, name, points),
        overhead=tables.overhead_table(run, name, points),
        memory=tables.memory_table(run, name, points),
        break_even=tables.break_even_table(run, name),
    )
