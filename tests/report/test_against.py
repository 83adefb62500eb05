# SPDX-License-Identifier: Apache-2.0
"""Every variant against one of them: the right times are compared, and what cannot be compared is said in one line."""

import html
import re
from dataclasses import replace

import pytest
import synthetic

from suite.cli import main
from suite.report.against import find_contests, report_against, tables_against
from suite.report.points import read_run

# Seconds in block 0; block b takes b + 1 times as long, so that only ratios formed within blocks are exact.
SECONDS = {"serial": 6.0, "pool": 2.0, "folds": 3.0}


def change(record):
    return {**record, "seconds": SECONDS[record["variant"]] * (1 + record["block"])}


def tables(text):
    """Markdown tables as lists of dicts; two columns of one heading are numbered."""
    found = []
    for part in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, rule, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines())
        assert set(rule) == {"---"}
        assert {len(row) for row in rows} == {len(head)} == {len(rule)}
        found.append([list(zip(head, row, strict=True)) for row in rows])
    return found


def svg_words(folder):
    text = (folder / "charts" / "against.svg").read_text()
    return html.unescape("\n".join(re.findall(r"<text[^>]*>([^<]*)</text>", text)))


def test_ratios_are_formed_within_blocks_at_every_point_of_the_sweep(tmp_path):
    synthetic.write(tmp_path, change=change, only=["flight demand CV"])
    text = report_against(tmp_path, "pool")
    (table,) = tables(text)
    assert text.startswith("flight demand CV. At the centre: folds 4, candidates 3, days 365, 2 slots.\n")
    assert [dict(row)["setting"] for row in table] == [
        "parallelism 1, folds 4",
        "parallelism 2, folds 4",
        "parallelism 2, folds 8",
        "parallelism 2, folds 12",
        "parallelism 4, folds 4",
    ]
    for row in table:
        assert row[1:] == [
            ("All folds and candidates in one pool, s", "7.00"),
            ("One fit at a time, s", "21.0"),
            ("ratio", "3.00× [3.00, 3.00]"),
            ("Fold after fold, s", "10.5"),
            ("ratio", "1.50× [1.50, 1.50]"),
        ]


def test_of_one_setting_the_table_has_a_row_for_each_variant(tmp_path):
    synthetic.write(tmp_path, change=change, only=["flight demand CV"])
    (contest,) = find_contests(read_run(tmp_path), "pool", tmp_path)
    at_four = [pair for pair in contest.pairs if pair.setting == "parallelism 4, folds 4"]
    (table,) = tables(tables_against([replace(contest, pairs=at_four)]))
    name = "ratio to: All folds and candidates in one pool"
    assert [dict(row) for row in table] == [
        {"": "All folds and candidates in one pool", "s": "7.00", name: "–"},
        {"": "One fit at a time", "s": "21.0", name: "3.00× [3.00, 3.00]"},
        {"": "Fold after fold", "s": "10.5", name: "1.50× [1.50, 1.50]"},
    ]


def test_a_table_that_would_be_far_wider_than_long_has_a_row_for_each_variant(tmp_path, monkeypatch):
    synthetic.write(tmp_path, change=change, only=["flight demand CV"])
    (contest,) = find_contests(read_run(tmp_path), "pool", tmp_path)
    monkeypatch.setattr("suite.report.against.WIDE", 0.1)
    pairs = [pair for pair in contest.pairs if pair.setting in ("parallelism 4, folds 4", "parallelism 2, folds 8")]
    (table,) = tables(tables_against([replace(contest, pairs=pairs)]))
    heading = ["", "parallelism 2, folds 8, s", "ratio", "parallelism 4, folds 4, s", "ratio"]
    assert [[cell[0] for cell in row] for row in table] == [heading] * 3
    assert [[cell[1] for cell in row] for row in table] == [
        ["All folds and candidates in one pool", "7.00", "–", "7.00", "–"],
        ["One fit at a time", "21.0", "3.00× [3.00, 3.00]", "21.0", "3.00× [3.00, 3.00]"],
        ["Fold after fold", "10.5", "1.50× [1.50, 1.50]", "10.5", "1.50× [1.50, 1.50]"],
    ]


def test_the_chart_has_a_panel_for_each_other_variant(tmp_path):
    synthetic.write(tmp_path, change=change, only=["flight demand CV"])
    report_against(tmp_path, "pool")
    words = svg_words(tmp_path)
    assert "Time of each variant over that of: All folds and candidates in one pool" in words
    assert words.count("One fit at a time") == words.count("Fold after fold") == 1
    assert words.count("3.00× of 7.00 s !") == words.count("1.50× of 7.00 s !") == 5
    assert (tmp_path / "charts" / "against.png").read_bytes().startswith(b"\x89PNG")


def test_the_samples_of_a_pair_have_its_ratio_as_their_median(tmp_path):
    run = read_run(synthetic.write(tmp_path, only=["svc inference"]))
    (contest,) = find_contests(run, "driver", tmp_path)
    scored_fewer = [pair for pair in contest.pairs if pair.point.rows != pair.reference.rows]
    assert scored_fewer
    for pair in contest.pairs:
        low, high = sorted(pair.samples)[2:4]
        assert low <= pair.ratio.median <= high
        assert pair.ratio.median == pytest.approx(1 / run.ratio(pair.reference, pair.point).median)


def test_each_workload_with_the_variant_has_a_table(tmp_path):
    synthetic.write(tmp_path, only=["flight demand CV", "waiting"])
    assert len(tables(report_against(tmp_path, "pool"))) == 2
    assert len(tables(report_against(tmp_path, "time_series_cv.pool"))) == 1


def test_a_point_without_a_time_stays_visible(tmp_path):
    def lost(record):
        if record["variant"] == "folds" and record["factors"]["folds"] == 8:
            return {**record, "status": "failed", "reason": "it broke", "seconds": None}
        return record

    synthetic.write(tmp_path, change=lost, only=["flight demand CV"])
    (table,) = tables(report_against(tmp_path, "pool"))
    (row,) = [row for row in table if ("setting", "parallelism 2, folds 8") in row]
    assert row[-2:] == [("Fold after fold, s", "no time"), ("ratio", "–")]
    assert svg_words(tmp_path).count("× no time") == 1


def test_without_six_blocks_there_is_no_interval(tmp_path):
    synthetic.write(tmp_path, change=change, only=["flight demand CV"], blocks=2)
    (table,) = tables(report_against(tmp_path, "pool"))
    assert {dict(row)["ratio"] for row in table} == {"1.50× (2 blocks)"}


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("nothing", "has no variant nothing; it has grid_search_single_node.serial, twin.serial, "),
        ("serial", "has several variants serial: say which, grid_search_single_node.serial or twin.serial"),
        ("cross_validator", "does the same job as cross_validator"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, monkeypatch, variant, said):
    known = synthetic.SCENARIOS
    kept = {name: known[name] for name in ("grid_search_single_node", "spark_cross_validator")}
    monkeypatch.setattr(synthetic, "SCENARIOS", {**kept, "twin": known["grid_search_single_node"]})
    synthetic.write(tmp_path)
    assert main(["report", str(tmp_path), "--against", variant]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert said in err
    assert not (tmp_path / "charts").exists()


def test_the_command_prints_the_table_alone(tmp_path, capsys):
    synthetic.write(tmp_path, change=change, only=["flight demand CV"], blocks=1)
    assert main(["report", str(tmp_path), "--against", "folds"]) == 0
    out = capsys.readouterr().out
    assert len(tables(out)) == 1
    assert not (tmp_path / "report.html").exists()
