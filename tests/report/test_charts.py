# SPDX-License-Identifier: Apache-2.0
"""Charts of made-up runs: what has to be on a chart is on it, and can be read."""

import html
import itertools
import re
from pathlib import Path

import matplotlib as mpl
import pytest
import synthetic
import synthetic_crossed
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from suite.report import captions, charts
from suite.report.against import against_sheet, find_contests
from suite.report.formatting import number, ratio_words, short
from suite.report.plotting import (
    DotPanel,
    Line,
    LinePanel,
    Mark,
    Row,
    Sheet,
    arrange,
    colour_and_marker,
    draw_dots,
    draw_lines,
    fixed_style,
    ticks,
)
from suite.report.points import read_run
from suite.report.variance import timed_calls
from suite.stats import Interval

RESULTS = Path(__file__).resolve().parents[2] / "results"


def draw(folder, **how):
    run = read_run(synthetic.write(folder, **how))
    return run, charts.draw(run, folder / "charts")


def words(folder, name):
    """All text of an SVG, each piece in a line of its own."""
    text = (folder / "charts" / f"{name}.svg").read_text()
    return "\n".join(html.unescape(piece) for piece in re.findall(r"<text[^>]*>([^<]*)</text>", text)).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def fail(record, status="failed", reason="it broke"):
    return {**record, "status": status, "reason": reason, "seconds": None, "cold_seconds": None, "answer": None}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *draw(folder)


def test_all_six_charts_are_written_twice(drawn):
    folder, _, made = drawn
    assert [chart.name for chart in made] == ["seconds", "speedup", "folds", "sizes", "rows", "waiting"]
    for chart in made:
        assert (folder / "charts" / f"{chart.name}.svg").read_text().startswith("<?xml")
        assert (folder / "charts" / f"{chart.name}.png").read_bytes().startswith(b"\x89PNG")
        assert chart.title in words(folder, chart.name)


def test_words_in_place_of_a_chart_have_its_figures(drawn):
    _, run, made = drawn
    for chart in made:
        assert re.search(r"\d\.\d+×|\d s\b|rows/s", chart.alt)
        for point in run.points if chart.name not in ("folds", "sizes") else ():
            if run.is_central(point) and run.waits(point.workload) == (chart.name == "waiting"):
                speedup = None if point.base else run.speedup(point)
                figure = {"seconds": f"{number(point.seconds.median)} s", "rows": "rows/s"}.get(chart.name)
                figure = figure or (ratio_words(speedup.median) if speedup else "")
                # Seconds of fewer rows are shown as those of all.
                shown = point.variant != "row_udf" if chart.name == "seconds" else chart.name != "rows" or point.rows
                assert not shown or figure in chart.alt, (chart.name, point.label)


@pytest.mark.parametrize("lines", [1, 5, 13])
@pytest.mark.parametrize(("places", "log"), [((1, 2, 4, 8), True), ((2,), True), ((3, 365), False)])
def test_no_mark_is_cut_at_a_side_however_many_lines_stand_aside(lines, places, log):
    marks = [Mark(x, Interval(2.0, 1.5, 2.5, 0.97, 6)) for x in places]
    panel = LinePanel(
        "", "", [Line(f"way {i}", i, marks) for i in range(lines)], "x", "speedup", speedups=True, log_x=log
    )
    with fixed_style():
        sheet = Sheet("", "", [])
        arrange(sheet, [panel])
        figure = sheet.figure()
    (axes,) = figure.axes[:1]
    left, right = axes.get_window_extent().intervalx
    aside = ((lines - 1) / 2 * 4 + 3) / 72 * figure.dpi
    ends = axes.transData.transform([(places[0], 2.0), (places[-1], 2.0)])[:, 0]
    assert left <= ends[0] - aside
    assert ends[1] + aside <= right


@pytest.mark.parametrize("name", [name for name in charts.CHARTS if name != "break_even"])  # that has its own tests
def test_every_chart_says_what_it_was_measured_on(drawn, name):
    text = words(drawn[0], name)
    for said in (
        "Example CPU @ 2.50GHz, 2 cores, 7.8 GiB",
        "2026-11-22",
        "Master local[2], size ci",
        "6 blocks",
        "One host",
    ):
        assert said in text
    assert "96.9%" in text
    assert "no time" not in text


def test_every_workload_and_variant_is_on_the_chart_of_seconds(drawn):
    text = words(drawn[0], "seconds")
    for _, workload, _, _, _, variants in synthetic.SCENARIOS.values():
        assert workload in text
        for label, _, _ in variants.values():
            assert re.search(re.escape(label).replace(r"\ ", r"\s"), text)
    assert "waiting (jobs wait instead of computing)" in text
    assert re.search(r"\d s, cold \d", text)


def test_speedup_names_base_seconds_reference_and_what_parallelism_counts(drawn):
    text = words(drawn[0], "speedup")
    assert re.search(r"1× is One fit at a time: \d\.\d\d s", text)
    assert re.search(r"best without Spark: All cores by loky, 2 processes, \d", text)
    assert "parallelism (slots; processes without Spark)" in text
    assert "parallelism (slots)" in text
    assert "parallelism (driver threads at 2 slots)" in text
    assert "bound of: Fold after fold" in text
    assert captions.BOUNDS in text
    assert captions.HOLLOW in text
    assert {"slower", "faster"} <= set(text.split("\n"))
    assert "waiting" not in text


def test_slots_and_threads_never_share_a_panel(drawn):
    _, run, _ = drawn
    for workload, points in run.workloads.items():
        panel, shown = charts.speedup_panel(run, workload, points, "parallelism")
        assert len({point.threads for point in shown}) == 1
        assert ("threads" in panel.xlabel) == shown[0].threads


def test_beside_driver_threads_what_runs_without_spark_has_processes(tmp_path, monkeypatch):
    known = synthetic.SCENARIOS["spark_cross_validator"]
    without = (*known[:5], {"loky": ("scikit-learn by loky", "processes", 0.3)})
    monkeypatch.setattr(synthetic, "SCENARIOS", {"spark_cross_validator": known, "cross_validator_sklearn": without})
    run, _ = draw(tmp_path)
    places = {point.label: {p.place for p in run.points if p.label == point.label} for point in run.points}
    assert places["scikit-learn by loky"] == {"1 process", "2 processes", "4 processes"}
    assert places["CrossValidator"] == {"1 thread, 2 slots", "2 threads, 2 slots", "4 threads, 2 slots"}
    threads = next(p for p in run.points if p.on_spark and p.parallelism == 2 and run.is_central(p))
    assert run.single_node_of(threads).label == "scikit-learn by loky"
    assert "parallelism (driver threads at 2 slots; processes without Spark)" in words(tmp_path, "speedup")


def test_waiting_chart_says_that_nothing_is_computed(drawn):
    text = words(drawn[0], "waiting")
    assert "jobs wait instead of computing" in text
    assert "parallelism (driver threads at 32 slots)" in text
    assert "waiting: against folds" in text
    assert "speedup" in text


def test_points_of_the_waiting_workload_carry_their_bounds(drawn):
    _, run, _ = drawn
    panel, _ = charts.speedup_panel(run, "waiting", run.workloads["waiting"], "parallelism")
    pool = next(line for line in panel.lines if "one pool" in line.label)
    assert pool.bounds == ((1, 1), (2, 2), (4, 4), (8, 8), (24, 24))
    after = next(line for line in panel.lines if line.label == "Fold after fold")
    assert [bound for _, bound in after.bounds] == [1, 2, 2, 2, 2]


def test_a_bound_that_all_share_is_named_once():
    marks = [Mark(x, Interval(1.0, None, None, None, 1), bound=x) for x in (1, 2)]
    lines = [Line(label, style, marks) for style, label in enumerate("abc")]
    alone = Line("d", 3, [Mark(1, None, bound=1), Mark(2, None, bound=1.5)])

    def words_of(lines):
        panel = LinePanel("t", "", lines, "x", "y", speedups=True, log_x=True)
        return [text for _, text in panel.legend()]

    assert words_of(lines) == ["a", "b", "c", "bound of: all"]
    assert words_of([*lines, alone])[4:] == ["bound of: a; b; c", "bound of: d"]
    assert words_of([alone])[1:] == ["bound of: d"]


def test_rows_chart_has_rates_and_the_rows_of_a_prefix(drawn):
    text = words(drawn[0], "rows")
    assert re.search(r"\dk rows/s \(2k rows\)", text)
    assert re.search(r"\dk rows/s \(20k rows\)", text)
    assert "(2k rows)" in words(drawn[0], "seconds")


def test_rows_chart_has_a_line_for_one_process_and_one_for_several_without_spark(monkeypatch):
    run = read_run(RESULTS / "file_inference_large")
    panels = []
    monkeypatch.setattr(charts, "stack", lambda sheet, found: panels.extend(found))
    assert charts.rows_chart(run)
    expected = [
        {point.rate.median for point in points if point.variant in ("one_process", "processes")}
        for points in captions.group_by_job(run, run.points).values()
    ]
    assert [set(panel.lines) for panel in panels] == expected
    assert [len(lines) for lines in expected] == [2, 2, 2]


def test_folds_chart_compares_with_the_base_case_of_as_many_folds(drawn):
    text = words(drawn[0], "folds")
    assert "time: svc grid search" in text
    assert re.search(r"1× is One fit at a time: [\d.]+ to [\d.]+ s at 3 to 10 folds", text)


def test_sizes_chart_has_seconds_over_numbers_that_were_swept_and_shows_a_part_as_the_whole(drawn):
    _, run, _ = drawn
    text = words(drawn[0], "sizes")
    assert "time: svc inference" in text
    assert "svc grid search" not in text  # of which folds alone were swept
    assert "with the seconds of all of it" in text.replace("\n", " ")
    points = run.workloads["svc inference"]
    panel, shown = charts.time_panel(run, "", points, "rows")
    by_label = {line.label: {mark.x: mark.value.median for mark in line.marks} for line in panel.lines}
    assert {tuple(places) for places in by_label.values()} == {(20_000, 100_000)}
    for point in shown:
        share = 10 if point.variant == "row_udf" else 1  # which scored a tenth of the rows
        assert by_label[point.label][point.factors["rows"]] == pytest.approx(share * point.seconds.median)


@pytest.mark.parametrize("values", [(1, -1), (0, 7, 14), (0.0, 0.5)], ids=str)
def test_a_factor_that_is_swept_to_zero_or_below_has_all_its_values_on_a_linear_axis(tmp_path, monkeypatch, values):
    title, workload, mode, _, _, variants = synthetic.SCENARIOS["grid_search_single_node"]
    about = (title, workload, mode, {"gap": values[0]}, {"gap": values[1:]}, variants)
    monkeypatch.setattr(synthetic, "SCENARIOS", {"grid_search_single_node": about})
    run = read_run(synthetic.write(tmp_path, blocks=1))
    assert charts.sizes_chart(run) is not None
    panel, _ = charts.time_panel(run, "", run.workloads[workload], "gap")
    assert [[mark.x for mark in line.marks] for line in panel.lines] == [sorted(values)] * 2
    draw_lines(Figure().add_axes((0.2, 0.2, 0.6, 0.6)), panel)
    assert not panel.log_x


@pytest.mark.parametrize("name", ["rows", "fits"])
@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], {"alpha": 1.0}, "all", True, 0.5, -3])
def test_what_is_called_rows_or_fits_in_an_answer_and_is_no_number_of_them_counts_nothing(tmp_path, name, value):
    change = {"blocks": 1, "only": ["svc grid search"], "change": lambda cell: {**cell, "answer": {name: value}}}
    run = read_run(synthetic.write(tmp_path, **change))
    assert {point.work for point in run.points} == {None}
    assert timed_calls(run.cells)


def test_cells_without_a_time_are_seen(tmp_path):
    def change(record):
        if record["variant"] == "joblib_spark" and record["factors"]["parallelism"] == 4:
            return fail(record)
        if record["variant"] == "joblib_spark" and record["factors"]["folds"] == 5 and record["factors"]["slots"] == 2:
            return None if record["block"] else fail(record, "timeout")
        return record

    _, made = draw(tmp_path, change=change, only=["svc grid search"])
    assert [chart.name for chart in made] == ["seconds", "speedup", "folds"]
    # Serial, loky and joblib-spark at the centre, in six blocks.
    assert "6 of 18 cells have no time: see report." in words(tmp_path, "seconds")
    assert "× no time" in words(tmp_path, "seconds")
    assert "joblib-spark, a job per batch (× no value at 2, 4)" in words(tmp_path, "speedup")
    assert "12 of 42 cells have no time" in words(tmp_path, "speedup")


def test_one_missing_cell_is_seen_too(tmp_path):
    draw(tmp_path, only=["waiting"], change=lambda record: None if record["order"] == 0 else record)
    text = words(tmp_path, "waiting") + words(tmp_path, "seconds")
    assert re.search(r"1 of \d+ cells has no time: see report", text)
    assert "Fewer than 6 blocks: no interval." in text


def test_without_the_base_case_there_is_no_speedup_but_a_panel(tmp_path):
    draw(
        tmp_path,
        only=["flight demand CV"],
        change=lambda record: fail(record, "invalid") if record["variant"] == "serial" else record,
    )
    text = words(tmp_path, "speedup")
    assert "1× is One fit at a time: no time" in text
    assert "Fold after fold (× no value at 1, 2, 4)" in text


def test_a_run_in_which_nothing_worked_still_draws(tmp_path):
    _, made = draw(tmp_path, change=fail, blocks=1)
    assert [chart.name for chart in made] == ["seconds", "speedup", "folds", "sizes", "waiting"]
    assert words(tmp_path, "seconds").count("× no time") == 19


def test_fewer_than_six_blocks_have_no_interval(tmp_path):
    run, _ = draw(tmp_path, blocks=5, only=["svc grid search", "svc inference"])
    for name in ("seconds", "speedup", "folds", "rows"):
        text = words(tmp_path, name)
        assert "5 blocks, no interval" in text
        assert "95 % intervals" not in text
    assert all(point.seconds.low is None for point in run.points)
    assert all(run.speedup(point).low is None for point in run.points)


@pytest.mark.parametrize("interval", [Interval(2.0, 1.5, 3.0, 0.97, 6), Interval(2.0, None, None, None, 3)])
def test_an_interval_is_drawn_only_where_there_is_one(interval):
    def strokes(drawing_of, panel):
        axes = Figure().add_axes((0.2, 0.2, 0.6, 0.6))
        drawing_of(axes, panel)
        ends = [
            sorted({*map(float, line.get_xdata())}) + sorted({*map(float, line.get_ydata())}) for line in axes.lines
        ]
        return sum([end for end in each if end in (1.5, 3.0)] == [1.5, 3.0] for each in ends)

    wanted = 1 if interval.low else 0
    row = Row("a", 0, [(interval, True)], [2.0], "")
    assert strokes(draw_dots, DotPanel("t", "", [row], " s")) == wanted
    lines = [Line("a", 0, [Mark(1, interval), Mark(2, interval)])]
    panel = LinePanel("t", "", lines, "x", "y", speedups=True, log_x=True)
    assert strokes(draw_lines, panel) == 2 * wanted


@pytest.mark.parametrize("wide", [Interval(2.0, 0.1, 2.5, 0.97, 6), Interval(2.0, 1.9, 99.0, 0.97, 6)])
def test_no_interval_is_cut_off_at_the_edge(wide):
    axes = Figure().add_axes((0.2, 0.2, 0.6, 0.6))
    draw_dots(axes, DotPanel("t", "", [Row("a", 0, [(wide, True)], [2.0, 2.1], "")]))
    left, right = axes.get_xlim()
    assert left < wide.low < wide.high < right


def test_oversubscribed_points_are_hollow(drawn):
    _, run, _ = drawn
    panel, _ = charts.speedup_panel(run, "t", run.workloads["svc grid search"], "parallelism")
    base, *others = panel.lines
    # The base case is drawn where parallelism is 1.
    assert [(mark.x, mark.value.median) for mark in base.marks] == [(1, 1.0)]
    assert {mark.x: mark.hollow for mark in others[0].marks} == {1: False, 2: False, 4: True}


def test_unsteady_times_are_marked(tmp_path):
    def change(record):
        if record["variant"] == "arrow":
            record["seconds"] *= 1 + record["block"]
        return record

    draw(tmp_path, change=change, only=["svc inference"])
    assert re.search(r"\d s !, cold", words(tmp_path, "seconds"))
    assert "mapInArrow (! unsteady at 1, 2, 4)" in words(tmp_path, "speedup")
    assert "! marks times that spread or drift" in words(tmp_path, "speedup")


def test_the_same_records_give_the_same_bytes(tmp_path):
    draw(tmp_path / "one", only=["svc inference", "waiting"])
    other = synthetic.write(tmp_path / "two", only=["svc inference", "waiting"])
    lines = (other / "records.jsonl").read_text().splitlines()
    (other / "records.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red"}):  # somebody's own style
        charts.draw(read_run(other), other / "charts")
    files = sorted(path.name for path in (tmp_path / "one" / "charts").iterdir())
    assert len(files) == 10  # seconds, speedup, sizes, rows, waiting
    for name in files:
        assert (tmp_path / "one/charts" / name).read_bytes() == (other / "charts" / name).read_bytes()


def test_a_chart_that_the_run_no_longer_has_is_removed(tmp_path):
    (tmp_path / "charts").mkdir(parents=True)
    (tmp_path / "charts" / "rows.svg").write_text("of before")
    draw(tmp_path, only=["waiting"])
    assert not (tmp_path / "charts" / "rows.svg").exists()


@pytest.mark.parametrize(
    ("master", "label", "one"),
    [
        ("local[4]", None, 1),
        ("local", None, 1),
        ("standalone", "standalone cluster: 2 workers of 1 core, all on one host", 1),
        ("spark://master:7077", "containers: 2 workers of 1 core, all on one host", 1),
        ("spark://127.0.0.1:7077", None, 1),
        ("spark://localhost:7077", None, 1),
        ("spark://[::1]:7077", None, 1),
        ("spark://a:7077", None, 0),
        ("spark://localhosts:7077", None, 0),
    ],
)
def test_one_host_is_said_where_it_is_true(tmp_path, master, label, one):
    draw(tmp_path, master=master, label=label, only=["waiting"], blocks=1)
    assert words(tmp_path, "waiting").count("One host: driver and workers") == one
    assert (label or master) in words(tmp_path, "waiting").replace("\n", " ")


def test_a_dollar_in_a_label_is_a_dollar(tmp_path):
    """matplotlib takes two of them for mathematics, and may fail to read it."""

    def change(record):
        return {**record, "label": "100 $ or 5 % $, cost $x_y_z$"}

    draw(tmp_path, only=["svc inference"], blocks=1, change=change)
    assert "cost $x_y_z$" in words(tmp_path, "seconds").replace("\n", " ").replace("\xa0", " ")


def test_missing_environment_is_no_error(tmp_path):
    folder = synthetic.write(tmp_path, only=["waiting"], blocks=1)
    (folder / "environment.json").unlink()
    charts.draw(read_run(folder), folder / "charts")
    assert "unknown processor. 2026-11-22. Master local[2]" in words(folder, "waiting")


@pytest.mark.parametrize("name", [*charts.CHARTS, "against"])
@pytest.mark.parametrize("longest", [False, True])
def test_no_text_overlaps_another_or_leaves_the_sheet(tmp_path, monkeypatch, name, longest):
    if longest:  # labels as long as the contract allows
        long = {
            file: (*head, {name: (f"{label} ".ljust(39, "m"), *rest) for name, (label, *rest) in variants.items()})
            for file, (*head, variants) in synthetic.SCENARIOS.items()
        }
        monkeypatch.setattr(synthetic, "SCENARIOS", long)
        ways = {name: (f"{label} ".ljust(39, "m"), *rest) for name, (label, *rest) in synthetic_crossed.WAYS.items()}
        monkeypatch.setattr(synthetic_crossed, "WAYS", ways)
    run = synthetic_crossed.written(tmp_path, 6) if name == "break_even" else read_run(synthetic.write(tmp_path))
    with fixed_style():
        if name == "against":
            sheet = against_sheet(run, find_contests(run, "pool", tmp_path))
        else:
            sheet, _ = charts.CHARTS[name](run)
        figure = sheet.figure()
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        written = [*figure.texts]
        for axes in figure.axes:
            written += [
                *axes.texts,
                *axes.get_xticklabels(),
                *axes.get_yticklabels(),
                axes.xaxis.label,
                axes.yaxis.label,
            ]
            written += axes.get_legend().get_texts() if axes.get_legend() else []
        boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in written if t.get_text() and t.get_visible()]
    assert len(boxes) > 20
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        down = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert across <= 1 or down <= 2.5, (one, other)  # boxes have some air of their own


@given(st.floats(1e-4, 1e7), st.floats(1.7, 1e6))
def test_ticks_are_round_inside_and_enough(low, span):
    found = ticks(low, low * span)
    assert found == sorted(set(found))
    assert all(low * 0.998 <= tick <= low * span * 1.002 for tick in found)
    assert 2 <= len(found) <= 10


def test_ticks_are_not_too_many_where_the_next_denser_series_has_eleven():
    assert ticks(2.0, 2.0 * 2498.0) == [10.0, 100.0, 1000.0]


@given(st.floats(1e-4, 1.0), st.floats(1.0, 1e4))
def test_ticks_around_one_have_it(low, high):
    assume(high > 1.7 * low)
    assert any(tick == pytest.approx(1.0) for tick in ticks(low, high))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123, "0.00123"),
        (0.0999999, "0.100"),
        (1.0, "1.00"),
        (19.66, "19.7"),
        (123.4, "123"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.5, "0.5"), (-20000, "-20k"), (999, "999"), (999.7, "1k"), (20000, "20k")),
        *((999_400, "999k"), (999_700, "1M"), (1.5e6, "1.5M"), (2e9, "2G")),
    ],
)
def test_ticks_are_written_short(value, text):
    assert short(value) == text


def test_no_two_variants_of_a_workload_look_alike():
    assert len({colour_and_marker(style) for style in range(63)}) == 63
