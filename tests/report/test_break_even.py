# SPDX-License-Identifier: Apache-2.0
"""Where a way begins to win: the words for it, and the chart and table of a made-up run whose answer is known."""

import html
import json
import re

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic_crossed import seconds_of_fit, written

from suite.report import charts
from suite.report.findings import break_evens, win_words
from suite.report.formatting import NONE
from suite.report.page import page
from suite.report.points import read_run
from suite.report.tables import break_even_table, settings_table
from suite.report.terminal import summary
from suite.stats import Interval


def wins(run):
    return {(row.setting, row.way.variant): row.wins_from for row in break_evens(run, "fits")}


def test_a_way_wins_where_half_a_fit_is_more_than_what_it_costs(tmp_path):
    assert wins(written(tmp_path)) == {
        ("megabytes 1", "loky"): {"One process": "0.001 to 0.01"},
        ("megabytes 1", "pool"): {"One process": "0.01 to 0.1", "loky": "not up to 0.1"},
        ("megabytes 20", "loky"): {"One process": "0.01 to 0.1"},
        ("megabytes 20", "pool"): {"One process": "not up to 0.1", "loky": "not up to 0.1"},
    }


def test_what_broke_at_the_longest_fit_is_not_said_to_win(tmp_path):
    run = written(tmp_path, lacks={("loky", 0.1, 1)})
    assert wins(run)["megabytes 1", "loky"] == {"One process": "not up to 0.1"}


def test_a_file_that_lacks_a_crossed_factor_and_one_of_the_same_labels_change_nothing(tmp_path):
    expected = wins(written(tmp_path))
    plan = json.loads((tmp_path / "plan.json").read_text())
    of_pool = next(cell for cell in plan["cells"] if cell["variant"] == "pool")
    for name, lacks in (("other", "megabytes"), ("another", "fit_seconds"), ("copy", None)):
        plan["scenarios"][name] = plan["scenarios"][of_pool["scenario"]]
        factors = {factor: value for factor, value in of_pool["factors"].items() if factor != lacks}
        plan["cells"].append({**of_pool, "id": name, "scenario": name, "factors": factors})
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run = read_run(tmp_path)
    own = [row for row in break_evens(run, "fits") if row.way.scenario == of_pool["scenario"]]
    assert {(row.setting, row.way.variant): row.wins_from for row in own} == expected


def test_calls_of_different_numbers_of_fits_are_compared_by_the_fit(tmp_path):
    run = written(tmp_path)
    for point in run.points:
        way = (point.variant, point.factors["fit_seconds"], point.factors["megabytes"])
        expected = seconds_of_fit("serial", *way[1:]) / seconds_of_fit(*way)
        assert run.speedup(point).median == pytest.approx(expected)
        assert point.seconds_of_fit.median == pytest.approx(seconds_of_fit(*way))
    table = settings_table(run, "fits", run.points)
    place = [column.heading for column in table.columns].index("s/fit")
    assert table.rows[0][place] == "0.00100 (of 10)"


def test_the_chart_has_a_panel_for_each_size_a_line_for_each_way_and_its_figures_in_words(tmp_path):
    run = written(tmp_path, blocks=6, lacks={("pool", 0.001, 20)})
    made = {chart.name: chart for chart in charts.draw(run, tmp_path / "charts")}
    # No chart of seconds: calls of different numbers of fits would share its axis.
    assert list(made) == ["speedup", "break_even"]
    svg = (tmp_path / "charts" / "break_even.svg").read_text()
    words = [html.unescape(piece) for piece in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    assert [word for word in words if word.startswith("fits: ")] == ["fits: megabytes 1", "fits: megabytes 20"]
    assert words.count("loky") == 2
    assert any("Example CPU @ 2.50GHz, 2 cores" in word for word in words)
    assert "Spark pool (× no value at 0.001)" in words
    assert "1× is One process: 0.00100 to 0.100 s a fit at 0.001 to 0.1" in words
    alt = made["break_even"].alt
    assert "loky 0.40× at 0.001, 1.43× at 0.01, 1.92× at 0.1" in alt
    assert "Spark pool no time at 0.001" in alt
    assert "megabytes 1, loky begins to win over One process 0.001 to 0.01" in alt


def test_no_interval_is_cut_at_the_frame(tmp_path):
    run = written(tmp_path, blocks=6)
    for setting in ("megabytes 1", "megabytes 20"):
        points = [point for point in run.points if f"megabytes {point.factors['megabytes']}" == setting]
        panel, _ = charts.speedup_panel(run, setting, points, "fit_seconds")
        with charts.fixed_style():
            axes = charts.Sheet("", "", [])
            charts.arrange(axes, [panel])
            (drawn,) = axes.figure().axes
        low, high = drawn.get_ylim()
        ends = [end for line in panel.lines for mark in line.marks for end in (mark.value.low, mark.value.high)]
        assert None not in ends
        assert low < min(ends) <= max(ends) < high


def test_the_page_has_the_table_and_other_workloads_have_none(tmp_path):
    run = written(tmp_path / "even")
    text = page(run, charts.draw(run, tmp_path / "even" / "charts"), tmp_path / "even" / "charts")
    assert "fits: the fit_seconds from which each way wins" in text
    other = read_run(synthetic.write(tmp_path / "other", only=["svc grid search"]))
    assert break_even_table(other, "svc grid search").rows == []
    assert "break_even" not in [chart.name for chart in charts.draw(other, tmp_path / "other" / "charts")]


def test_the_terminal_says_from_where_each_way_wins_and_of_other_workloads_nothing(tmp_path):
    written(tmp_path / "even")
    text = summary(tmp_path / "even")
    assert "fits: the fit_seconds from which each way wins over One process:" in text
    assert "  megabytes 1: Spark pool 0.01 to 0.1; loky 0.001 to 0.01\n" in text
    assert "  megabytes 20: Spark pool not up to 0.1; loky 0.01 to 0.1\n" in text
    assert "each way wins" not in summary(synthetic.write(tmp_path / "other", only=["svc grid search"]))


def interval(median, low=None, high=None):
    return Interval(median=median, low=low, high=high, coverage=None, n=1)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ({1: interval(2.0)}, "1 or less"),
        ({1: interval(0.5)}, "not up to 1"),
        ({1: None, 2: None}, NONE),
        ({0.001: interval(0.5), 0.01: interval(1.2), 0.1: interval(0.9), 1: interval(1.5)}, "0.1 to 1"),
        ({0.001: None, 0.01: interval(1.2)}, "0.001 to 0.01"),
        # The interval has to lie above 1, where there is one.
        ({1: interval(1.1, 0.9, 1.3), 2: interval(1.1, 1.05, 1.2)}, "1 to 2"),
        # One that lost a block, and so its interval, does not win the more easily for that.
        ({1: interval(1.1), 2: interval(1.1, 1.05, 1.2)}, "1 to 2"),
    ],
)
def test_words_of_where_a_way_begins_to_win(ratios, words):
    assert win_words(ratios) == words


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_it_wins_at_every_value_from_there_on_and_not_at_the_one_before(won):
    words = win_words({10.0**i: interval(2.0 if win else 0.5) for i, win in enumerate(won)})
    if words.startswith("not up to"):
        assert not won[-1]
    else:
        first = 0 if words.endswith("or less") else [f"{10.0**i:g}" for i in range(len(won))].index(words.split()[-1])
        assert all(won[first:])
        assert first == 0 or not won[first - 1]
