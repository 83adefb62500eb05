# SPDX-License-Identifier: Apache-2.0
"""What a run found, as one page (`report.html`) and as a few lines for the terminal; rebuilt from the records alone."""

from __future__ import annotations

import base64
import html
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from suite.report import charts
from suite.report.charts import Chart, common
from suite.report.findings import (
    NONE,
    cell_counts,
    failures,
    figure_words,
    losses,
    ratio_digits,
    ratio_words,
    setting_words,
)
from suite.report.plotting import number, short
from suite.report.points import PARALLEL, MeasuredRun, Point, plural, read_run
from suite.stats import MIN_BLOCKS, karp_flatt


def write_report(directory: Path) -> None:
    """Draw `charts/` and write `report.html` of a run folder.

    Parameters
    ----------
    directory : Path
        A run folder; see `results.load`.

    Raises
    ------
    FileNotFoundError
        If there is no plan in it.
    """
    run = read_run(directory)
    drawn = charts.draw(run, directory / "charts")
    (directory / "report.html").write_text(page(run, drawn, directory / "charts"), encoding="utf-8")


# --- the page


def page(run: MeasuredRun, drawn: Iterable[Chart], folder: Path) -> str:
    """The whole page; it needs no other file.

    Parameters
    ----------
    run : Run
    drawn : iterable of Chart
        What `charts.draw` returned.
    folder : Path
        Where the charts lie.
    """
    body = [
        "<h1>Foldout report</h1>",
        f"<p class='lead'><strong>{esc(cell_counts(run))}</strong></p>",
        f"<p>{esc(charts.about(run))} {esc(charts.replicates(run))}</p>",
        f"<p>Made by <code>{esc(run.plan.get('command') or 'an unknown command')}</code></p>",
    ]
    if charts.one_host(run.master):
        body.append(
            "<p class='note'><strong>One host.</strong> Driver and workers share one machine, so there is no network "
            "between machines in these times.</p>"
        )
    body += [_losing(run), _failing(run)]
    body.append("<h2 id='charts'>Charts</h2>")
    for chart in drawn:
        body.append(_figure(chart, folder))
    body.append("<h2 id='tables'>Tables</h2>")
    body += [_workload(run, workload, points) for workload, points in run.workloads.items()]
    body += [_environment(run), READING]
    links = "".join(
        f"<a href='#{name}'>{text}</a> "
        for name, text in (
            ("losing", "Losing cases"),
            ("failing", "Cells without a time"),
            ("charts", "Charts"),
            ("tables", "Tables"),
            ("environment", "Environment"),
            ("reading", "How to read it"),
        )
    )
    title = esc(f"Foldout report, {run.plan['size']}, {run.master}")
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<nav aria-label='Parts'>{links}</nav>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def esc(text: Any) -> str:
    """Text as HTML, whatever a scenario put into it."""
    return html.escape(str(text), quote=True)


def _table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]], words: Iterable[int] = (0,)) -> str:
    """A table that scrolls sideways where the screen is narrow; `words` are the columns that hold no figures."""
    kinds = ["" if i in set(words) else " class='n'" for i in range(len(headers))]
    top = "".join(f"<th scope='col'{kind}>{esc(text)}</th>" for kind, text in zip(kinds, headers, strict=True))
    body = "\n".join(
        f"<tr><th scope='row'>{esc(first)}</th>"
        + "".join(f"<td{kind}>{esc(text)}</td>" for kind, text in zip(kinds[1:], rest, strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<div class='wide' role='region' tabindex='0' aria-label='{esc(caption)}'>\n<table>\n"
        f"<caption>{esc(caption)}</caption>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _losing(run: MeasuredRun) -> str:
    found = losses(run)
    text = ["<h2 id='losing'>Losing cases</h2>"]
    if not found:
        return text[0] + "<p>No setting was slower than its base case or than the best without Spark.</p>"
    text.append(
        "<p>Settings that took longer than the base case of their workload, or than the best parallel run on one "
        "machine without Spark. Going parallel this way did not pay here.</p>"
    )
    headers = ["Workload", "Variant", "Setting", "Warm s", "Slower than", "which takes s", "Speed against it", "Sure?"]
    rows = [
        [
            loss.point.workload,
            loss.point.label,
            setting_words(run, loss.point),
            _seconds_of(loss.point),
            f"{'base case' if loss.against.base else 'best without Spark'}: {loss.against.label}, {loss.against.place}",
            _seconds_of(loss.against),
            figure_words(loss.ratio, ratio_digits, "×"),
            loss.sure,
        ]
        for loss in found
    ]
    shown = sum(loss.central for loss in found)
    if shown:
        text.append(
            _table("Losing at the central parallelism, the slowest first", headers, rows[:shown], (0, 1, 2, 4, 7))
        )
    if rest := rows[shown:]:
        more = _table("Losing at other values of parallelism, the slowest first", headers, rest, (0, 1, 2, 4, 7))
        title = f"{plural(len(rest), 'losing case')} at other values of parallelism"
        text.append(f"<details><summary>{title}</summary>{more}</details>")
    return "\n".join(text)


def _seconds_of(point: Point) -> str:
    if point.seconds is None:
        return NONE
    return number(point.seconds.median) + (f" for {short(point.rows)} rows" if point.rows else "")


def _failing(run: MeasuredRun) -> str:
    text = "<h2 id='failing'>Cells without a time</h2>\n"
    found = failures(run)
    if not found:
        return text + "<p>None: every planned cell has a time.</p>"
    rows = [
        [point.workload, point.label, setting_words(run, point), ", ".join(map(str, blocks)), status, reason]
        for point, status, reason, blocks in found
    ]
    headers = ["Workload", "Variant", "Setting", "Blocks", "Status", "Reason"]
    return text + _table(f"{charts.without_time(run)}, and why", headers, rows, range(6))


def _figure(chart: Chart, folder: Path) -> str:
    picture = base64.b64encode((folder / f"{chart.name}.svg").read_bytes()).decode()
    return (
        f"<figure>\n<div class='wide' role='region' tabindex='0' aria-label='{esc(chart.title)}'>"
        f"<img src='data:image/svg+xml;base64,{picture}' alt='{esc(chart.alt)}'></div>\n"
        f"<figcaption>{esc(chart.title)}: <code>charts/{chart.name}.svg</code>, <code>charts/{chart.name}.png</code>"
        "</figcaption>\n</figure>"
    )


def _workload(run: MeasuredRun, workload: str, points: Sequence[Point]) -> str:
    scoring = any(point.rows for point in points)
    headers = ["Variant", "Setting", "Warm s", "Cold s", "Session start s", "Speedup", "Bound", "Efficiency"]
    headers += ["Karp-Flatt e", "Core-seconds", "Slots engaged", *(["Rows/s"] if scoring else []), "Notes"]
    rows = []
    for point in points:
        speedup = run.speedup(point)
        serial = None if speedup is None else karp_flatt(speedup.median, point.at_once)
        busy, used = point.engaged("task_seconds"), point.engaged("slots")
        alone = point is run.base_of(point)
        row = [
            point.label + (" (base case)" if point.base else ""),
            setting_words(run, point),
            figure_words(point.seconds),
            number(point.cold.median) if point.cold else NONE,
            number(point.session.median) if point.session else NONE,
            NONE if speedup is None else "1× (base)" if alone else figure_words(speedup, ratio_digits, "×"),
            ratio_words(bound) if (bound := run.bound(point)) else NONE,
            f"{speedup.median / point.at_once:.0%}" if speedup and point.at_once > 1 else NONE,
            f"{serial:.2f}" if serial is not None else NONE,
            number(statistics.median(busy)) if busy else NONE,
            "–".join(dict.fromkeys(f"{value:.0f}" for value in (min(used), max(used)))) if used else NONE,
        ]
        if scoring:
            row.append(f"{short(point.rate.median)} (of {short(point.rows)})" if point.rate and point.rows else NONE)
        rows.append([*row, "; ".join(point.notes)])
    files = ", ".join(f"{name}.py" for name, about in run.plan["scenarios"].items() if about["workload"] == workload)
    centre = [point for point in points if run.centre(point, *PARALLEL)] or points
    waits = "<p class='note'>Jobs wait instead of computing: this shows schedules, no real fits.</p>"
    return (
        f"<h3>{esc(workload)}</h3>\n<p>Recipes: {esc(files)}. At the centre: {esc(common(centre, ''))}.</p>\n"
        + (waits if charts.waits(workload) else "")
        + _table(f"{workload}: every variant and setting", headers, rows, (0, 1, len(headers) - 1))
        + _overhead(run, workload, points)
    )


def _overhead(run: MeasuredRun, workload: str, points: Sequence[Point]) -> str:
    """Where the time of each Spark variant went."""
    rows = []
    for point in points:
        parts = [point.overhead(name) for name in OVERHEAD]
        if point.seconds and any(parts):
            cells = [number(part.median) if part else NONE for part in parts]
            rows.append([point.label, setting_words(run, point), number(point.seconds.median), *cells])
    if not rows:
        return ""
    headers = ["Variant", "Setting", "Warm s", *OVERHEAD.values()]
    return _table(f"{workload}: where the time went, medians", headers, rows, (0, 1))


# Parts of `worker.overhead`, and what they are called in tables.
OVERHEAD = {
    "session": "Session start s",
    "driver": "Driver alone s",
    "tasks": "Tasks, slot-s",
    "shipping": "of it shipping",
    "idle": "Idle, slot-s",
    "refit": "Refit s",
}


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, NONE if value is None else str(value)


def _environment(run: MeasuredRun) -> str:
    text = "<h2 id='environment'>Environment</h2>\n"
    if not run.environment:
        return text + "<p>Not recorded: there is no environment.json.</p>"
    rows = [[name, value] for name, value in _flat(run.environment)]
    return text + _table("What the run ran on", ["What", "Value"], rows, (0, 1))


READING = f"""<h2 id='reading'>How to read it</h2>
<dl>
<dt>Block</dt><dd>One pass over all cells in a random order, in fresh processes. Blocks are the repeats: everything
here is a median over blocks. In brackets stands its non-parametric 95 % interval, which needs at least {MIN_BLOCKS}
blocks; with fewer, none is given.</dd>
<dt>Warm, cold, session start</dt><dd>Cold is a variant's first call in its process, warm the call after it. The start
of the Spark session is in neither and has a column of its own.</dd>
<dt>Base case, speedup</dt><dd>Seconds of the base case over seconds of the variant, formed inside each block on the
same job; the median of these ratios. Where the two scored different numbers of rows, seconds per row are compared.
Below 1× the variant loses.</dd>
<dt>Best without Spark</dt><dd>The fastest parallel run on one machine with plain processes. Spark has to beat this too
to be worth it.</dd>
<dt>Parallelism</dt><dd>Slots are the cores that Spark may use; threads are driver threads that keep that many fits in
flight at a fixed number of slots. They are different factors.</dd>
<dt>Bound</dt><dd>The largest speedup that the schedule allows if all fits take the same time: folds, candidates and
parallelism decide it, not the machine. Fits on expanding windows differ: there it comes from the times of the base
case's fits, as Spark's event log has them, max(sum / p, longest) against the sum.</dd>
<dt>Efficiency, Karp-Flatt e</dt><dd>Speedup divided by the fits that can run at once; and the serial share of the work
that would explain the speedup, e = (1/S - 1/p) / (1 - 1/p). An e that grows with p means
growing overhead, one above 1 that the variant loses.</dd>
<dt>Core-seconds</dt><dd>Time summed over Spark's tasks: what the speedup cost.</dd>
<dt>Where the time went</dt><dd>Driver alone is the part of a call in which no task ran. Of all slots together: tasks,
of it what unpacking code and data and packing results took (shipping), and the rest of slots × seconds, idle. What a
call computes in the driver's own Python counts as driver alone.</dd>
<dt>Slots engaged</dt><dd>The most tasks that ran at once, from Spark's own event log. A cell that engages fewer than it
needs is invalid, not slow.</dd>
<dt>Answers</dt><dd>A variant whose answer differs from the base case's has no time.</dd>
</dl>"""

CSS = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 72rem; padding: 0 1rem 4rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a;
  background: #fff; }
nav { padding: .75rem 0; border-bottom: 1px solid #ccc; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
a { color: #00558c; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin-top: 2rem; }
.lead { font-size: 1.1rem; }
.note { border-left: .3rem solid #b35900; padding-left: .75rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
.wide:focus-visible { outline: 2px solid #00558c; }
table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #ddd;
  font-weight: 400; }
thead th { font-weight: 600; border-bottom: 2px solid #888; white-space: nowrap; }
tbody tr:hover { background: #f4f7f9; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
tbody th, td:not(.n) { min-width: 7.5rem; } td:last-child:not(.n) { min-width: 12rem; }
figure { margin: 2rem 0; }
figure img { width: 100%; min-width: 40rem; max-width: 60rem; height: auto; }
figcaption { font-size: .875rem; color: #444; }
code { font-size: .9em; background: #f2f2f2; padding: 0 .2em; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: .75rem; } dd { margin-left: 1rem; }
@media print { .wide { overflow: visible; } nav { display: none; } }
"""
