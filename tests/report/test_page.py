# SPDX-License-Identifier: Apache-2.0
"""The report of made-up runs: nothing planned is left out, nothing is fetched, nothing slips in as HTML."""

import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest
import synthetic

from suite.machine.environment import ROOT
from suite.records import WRONG_ANSWER
from suite.report import charts, findings
from suite.report import page as page_module
from suite.report.captions import setting_words
from suite.report.fastest import fastest_ways
from suite.report.findings import changed_recipes, losses
from suite.report.formatting import figure_words, number, ratio_digits
from suite.report.page import write_report
from suite.report.points import read_run
from suite.report.terminal import summary

VOID = {"meta", "img", "br"}
ATTACK = "<script>alert('x')</script> & \"quoted\""


class Page(HTMLParser):
    """What a reader gets of a page: tables by caption, headings, links and sources; fails on unbalanced tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.headings, self.links, self.sources = [], {}, [], [], []
        self.ids, self.alts, self.text, self.row = set(), [], "", []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert not any(name.startswith("on") for name in attrs)
        if "id" in attrs:
            assert attrs["id"] not in self.ids
            self.ids.add(attrs["id"])
        self.links += [attrs["href"]] if "href" in attrs else []
        self.sources += [attrs["src"]] if "src" in attrs else []
        if attrs.get("role") == "img":
            self.alts.append(attrs["aria-label"])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.row = []
        if tag in ("th", "td"):
            self.row.append("")
        if tag == "caption":
            self.tables[""] = []
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            list(self.tables.values())[-1].append(self.row)

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside != "style":
            self.text += data
        if inside == "caption":
            self.tables[data] = self.tables.pop("")
        if {"th", "td"} & set(self.open):
            self.row[-1] += data
        if inside in ("h1", "h2", "h3"):
            self.headings[-1] += data


def made(folder, **how):
    synthetic.write(folder, **how)
    write_report(folder)
    return Page((folder / "report.html").read_text())


def test_a_run_of_recipes_that_are_other_files_by_now_says_so(tmp_path):
    page = made(tmp_path)
    named = list(read_run(tmp_path).plan["scenarios"])
    for text in (page.text, summary(tmp_path)):
        assert "Recipes that have changed since this run: " in text
    there = {name: (ROOT / "scenarios" / f"{name}.py") for name in named}
    assert any(path.is_file() for path in there.values())
    plan = json.loads((tmp_path / "plan.json").read_text())
    for name, path in there.items():
        plan["scenarios"][name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        if not path.is_file():
            plan["scenarios"][name]["path"] = f"{name}.py"  # from elsewhere
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert changed_recipes(read_run(tmp_path)) is None
    # One that has changed, and lies in a folder of that name elsewhere.
    assert f"{named[0]}.py" in page_module._recipe_links(read_run(tmp_path), ROOT / "results" / "some")
    plan["scenarios"][named[0]] |= {"sha256": "0" * 64, "elsewhere": True}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert changed_recipes(read_run(tmp_path)) is None
    assert f"{named[0]}.py" not in page_module._recipe_links(read_run(tmp_path), ROOT / "results" / "some")


def fail(record, status="failed", reason="it broke"):
    return {**record, "status": status, "reason": reason, "seconds": None, "cold_seconds": None, "answer": None}


def rows(page, caption):
    """A table as a list of dicts, headers as keys."""
    head, *body = page.tables[caption]
    assert all(len(row) == len(head) for row in body)
    return [dict(zip(head, row, strict=True)) for row in body]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(folder):
    write_report(folder)
    return Page((folder / "report.html").read_text())


def test_the_page_needs_no_other_file(page):
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert page.sources == []
    assert len(page.alts) == 6
    assert all(page.alts)


def test_the_summary_comes_first_and_losing_cases_before_all_charts(page):
    assert page.headings[:4] == ["Foldout report", "Which way is fastest", "Losing cases", "Cells without a time"]
    assert "366 cells planned, 366 written: 366 ok." in page.text
    assert page.text.index("366 cells") < page.text.index("These settings took longer")
    assert "One host." in page.text
    assert "None: every planned cell has a time." in page.text
    assert "python -m suite bench --size ci" in page.text
    for said in ("machine.cpu", "Example CPU @ 2.50GHz", "versions.pyspark", "4.3.0", "How to read it"):
        assert said in page.text


def test_every_planned_variant_and_setting_is_in_a_table(page, folder):
    run = read_run(folder)
    for workload, points in run.workloads.items():
        table = rows(page, f"{workload}: every variant and setting")
        assert len(table) == len(points)
        settings = {(row["Variant"].removesuffix(" (base case)"), row["Setting"]) for row in table}
        assert settings == {(point.label, setting_words(run, point)) for point in points}
        assert len(settings) == len(points)


def test_a_row_has_all_figures(page):
    table = rows(page, "flight demand CV: every variant and setting")
    (row,) = [row for row in table if (row["Variant"], row["Setting"]) == ("Fold after fold", "4 threads, 2 slots")]
    figure = r"\d+\.\d+ \[\d+\.\d+, \d+\.\d+\]"
    assert re.fullmatch(figure, row["Warm s"])
    assert re.fullmatch(figure, row["Speedup"].replace("×", ""))
    assert row["Bound"] == "1.50×"
    assert row["Efficiency"].endswith("%")
    assert float(row["Cold s"]) > float(row["Warm s"].split()[0])
    assert float(row["Session start s"]) == 3.5
    assert float(row["Core-seconds"]) > 0
    assert row["Slots engaged"] == "2"
    # Two fits can run at once, whatever the number of threads: e = (1/S - 1/2) / (1 - 1/2).
    speedup = float(row["Speedup"].split("×")[0])
    assert float(row["Karp-Flatt e"]) == pytest.approx(2 / speedup - 1, abs=0.03)


def test_where_the_time_went_is_told_of_spark_recipes_alone(page):
    table = rows(page, "flight demand CV: where the time went, medians")
    (row,) = [row for row in table if (row["Variant"], row["Setting"]) == ("Fold after fold", "4 threads, 2 slots")]
    assert float(row["Session start s"]) == 3.5
    assert float(row["Driver alone s"]) == pytest.approx(0.1 * float(row["Warm s"]), rel=0.05)
    assert float(row["Tasks, slot-s"]) + float(row["Idle, slot-s"]) == pytest.approx(2 * float(row["Warm s"]), rel=0.02)
    assert row["Refit s"] == "–"
    without = rows(page, "svc grid search: where the time went, medians")
    assert {row["Variant"] for row in without} == {"joblib-spark, a job per batch"}


def test_memory_and_what_moved_are_told_where_they_are_known(page):
    table = rows(page, "flight demand CV: memory at most, and what moved, medians")
    row = next(row for row in table if (row["Variant"], row["Setting"]) == ("Fold after fold", "4 threads, 2 slots"))
    assert (float(row["Driver MiB"]), float(row["JVM MiB"]), row["Workers MiB"]) == (200, 900, "–")
    assert (float(row["To Python MB"]), row["From Python MB"], row["Shuffled MB"]) == (2, "–", "–")


def test_figures_that_do_not_exist_are_left_out_not_made_up(page):
    table = rows(page, "svc grid search: every variant and setting")
    serial = next(row for row in table if row["Setting"] == "serial")
    assert serial["Speedup"] == "1× (base)"
    names = ("Session start s", "Bound", "Efficiency", "Karp-Flatt e", "Core-seconds", "Slots engaged")
    assert {serial[name] for name in names} == {"–"}


def test_losing_cases_name_both_times(page):
    table = rows(page, "Losing at the central parallelism, the slowest first")
    found = {(row["Variant"], row["Setting"], row["Slower than"].split(":")[0]) for row in table}
    assert ("Row-at-a-time UDF", "2 slots", "base case") in found
    assert ("joblib-spark, a job per batch", "2 slots", "best without Spark") in found
    assert ("joblib-spark, a job per batch", "2 slots", "base case") in found
    for row in table:
        assert re.match(r"\d", row["Warm s"])
        assert re.match(r"\d", row["Seconds of that"])
        assert float(row["Speed against it"].split("×")[0]) < 1
    others = rows(page, "Losing at other values of parallelism, the slowest first")
    assert all("2 slots" not in row["Setting"] or "thread" in row["Setting"] for row in others)


def test_losses_are_sure_only_where_the_interval_says_so(tmp_path):
    def change(record):
        if record["variant"] == "arrow":
            record["seconds"] = 0.8 if record["block"] % 2 else 0.2  # half the blocks lose
        if record["variant"] == "driver":
            record["seconds"] = 0.38
        return record

    run = read_run(synthetic.write(tmp_path, change=change, only=["svc inference"]))
    sure = {(loss.point.variant, loss.point.place): loss.sure for loss in losses(run)}
    assert sure["row_udf", "2 slots"] == "yes"
    assert sure.get("arrow", "2 slots") != "yes"


def test_cells_without_a_time_are_listed_with_their_reasons(tmp_path):
    def change(record):
        if record["variant"] == "loky":
            return None
        if record["variant"] == "joblib_spark" and record["block"] < 2:
            return fail(record, ["timeout", "invalid"][record["block"]], f"reason {record['block']}")
        return record

    page = made(tmp_path, change=change, only=["svc grid search"])
    assert "78 cells planned, 48 written: 38 ok, 5 timeout, 5 invalid. 30 never ran." in page.text
    table = rows(page, "40 of 78 cells have no time, and why")
    assert len(table) == 5 + 2 * 5
    run = read_run(tmp_path)
    listed = sum(len(row["Blocks"].split(",")) for row in table)
    assert listed == sum(cell.status != "ok" for cell in run.cells) == 40
    reasons = {(row["Status"], row["Reason"]) for row in table}
    assert reasons == {("timeout", "reason 0"), ("invalid", "reason 1"), ("not run", "the run ended before it")}
    (row,) = [row for row in rows(page, "svc grid search: every variant and setting") if row["Setting"] == "4 slots"]
    assert row["Notes"].startswith("1 invalid, 1 timeout; more workers than cores; only 4 blocks")


def test_nothing_that_a_scenario_says_becomes_html(tmp_path, monkeypatch):
    name = "time_series_cv"
    title, _, *rest, variants = synthetic.SCENARIOS[name]
    hostile = {key: (f"{ATTACK} {key}", *others) for key, (_, *others) in variants.items()}
    monkeypatch.setattr(synthetic, "SCENARIOS", {name: (title, ATTACK, *rest, hostile)})

    def change(record):
        record["warnings"] = [ATTACK]
        return fail(record, reason=ATTACK) if record["block"] == 0 else record

    page = made(tmp_path, change=change, command=ATTACK, blocks=2)
    text = (tmp_path / "report.html").read_text()
    assert text.count("<script") == 1  # its own
    assert page.headings.count(ATTACK) == 1
    (caption,) = [caption for caption in page.tables if caption.endswith("and why")]
    assert {row["Reason"] for row in rows(page, caption)} == {ATTACK}
    assert "<script" not in (tmp_path / "charts" / "seconds.svg").read_text()


def test_fewer_than_six_blocks_have_no_interval(tmp_path):
    page = made(tmp_path, blocks=3, only=["svc grid search"])
    assert "3 blocks, no interval" in page.text
    for row in rows(page, "svc grid search: every variant and setting"):
        assert "[" not in row["Warm s"] + row["Speedup"]
        assert row["Warm s"].endswith("(3 blocks)")
        assert "only 3 blocks, no 95 % interval" in row["Notes"]
    losing = rows(page, "Losing at the central parallelism, the slowest first")
    assert {row["Sure?"] for row in losing} == {"no interval (3 blocks)"}
    assert not re.search(r"\[\d+\.\d", summary(tmp_path))


def test_the_same_records_give_the_same_page(tmp_path):
    made(tmp_path / "one", only=["svc inference"])
    made(tmp_path / "two", only=["svc inference"])
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()


def test_a_run_without_records_and_environment_has_a_page(tmp_path):
    synthetic.write(tmp_path, change=lambda record: None, only=["svc grid search"], blocks=1)
    (tmp_path / "records.jsonl").unlink()
    (tmp_path / "environment.json").unlink()
    write_report(tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "13 cells planned, 0 written: none. 13 never ran." in page.text
    assert "Not recorded" in page.text
    assert "No setting was slower" in page.text
    assert "13 of 13 cells have no time:" in summary(tmp_path)


def test_of_a_part_of_a_search_the_fits_are_said_and_their_times_compared(tmp_path):
    def change(record):
        if record["workload"] != "svc grid search":
            return record
        part = record["variant"] == "joblib_spark"
        seconds = 2.0 if part else 4.0 if record["variant"] == "serial" else 3.0
        return {**record, "seconds": seconds, "answer": {"fits": 30 if part else 240}}

    synthetic.write(tmp_path, change=change)
    assert "joblib-spark, a job per batch, 2 slots (30 fits)" in summary(tmp_path)
    assert "0.25×" in summary(tmp_path)  # 30 fits in 2 s, where the base case makes as many in half a second
    charts.draw(read_run(tmp_path), tmp_path / "charts")
    text = html.unescape((tmp_path / "charts" / "seconds.svg").read_text()).replace("\N{NO-BREAK SPACE}", " ")
    assert "seconds for 240 fits, also of calls with fewer" in text
    assert "(30 fits)" in text
    assert "16.0 s" in text
    assert "0.0167 s a fit" in html.unescape((tmp_path / "charts" / "speedup.svg").read_text())


def test_summary_fits_a_terminal_and_names_what_matters(folder, tmp_path):
    text = summary(folder)
    assert text.startswith("\nFastest:\n")
    assert text.index("slower than the base case") < text.index("warm s") < text.index("366 cells planned, 366 written")
    assert max(map(len, text.splitlines())) <= 100
    for _, workload, _, _, _, variants in synthetic.SCENARIOS.values():
        assert f"\n{workload}: " in text
        for label, _, _ in variants.values():
            assert f"\n  {label}" in text
    assert "slower than the base case or than the best without Spark" in text
    assert "Row-at-a-time UDF, 2 slots (2k rows)" in text

    def change(record):
        return fail(record, reason="long " * 50) if record["variant"] in ("folds", "pool") else record

    synthetic.write(tmp_path, change=change)
    text = summary(tmp_path)
    assert max(map(len, text.splitlines())) <= 100
    said = " ".join(text.split())
    where = "All folds and candidates in one pool, 1 thread, 2 slots, blocks 0, 1, 2, 3, 4, 5"
    assert f"failed: {where}: {' '.join(['long'] * 50)}" in said
    assert "more, in the report" in text
    assert re.search(r"Fold after fold, 2 threads\s+no time", text)


def test_a_folder_without_a_plan_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path)


def test_what_was_not_seen_to_be_parallel_has_no_time_and_says_so(tmp_path):
    def change(record):
        if record["variant"] == "pool" and record["factors"]["parallelism"] == 2:
            record["needs"] = 2
            record["engaged"] = {**record["engaged"], "slots": 1, "jobs_at_once": 2, "task_seconds": 0.0}
        return record

    page = made(tmp_path, change=change, only=["flight demand CV"])
    (caption,) = [caption for caption in page.tables if caption.endswith("and why")]
    failing = rows(page, caption)
    assert {(row["Variant"], row["Status"]) for row in failing} == {("All folds and candidates in one pool", "invalid")}
    assert all(row["Reason"].startswith("not shown to be parallel: only 1 of the 2 slots") for row in failing)
    for row in rows(page, "flight demand CV: every variant and setting"):
        unseen = row["Variant"].startswith("All folds") and row["Setting"].startswith("2 threads")
        assert ((row["Warm s"], row["Speedup"]) == ("–", "–")) == unseen
    assert "A cell has no time if it engages fewer slots than it needs" in " ".join(page.text.split())


def test_each_row_of_a_run_of_this_checkout_leads_to_its_recipe(tmp_path, monkeypatch):
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "grid_search_single_node.py").touch()
    for module in (page_module, findings):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    page = made(tmp_path / "results" / "mine", only=["svc grid search"])
    there = [link for link in page.links if not link.startswith("#")]
    assert set(there) == {"../../scenarios/grid_search_single_node.py"}
    table = rows(page, "svc grid search: every variant and setting")
    assert len(there) == sum(row["Recipe"] == "grid_search_single_node.py" for row in table) > 3


def test_the_answer_says_what_is_fastest_how_sure_that_is_and_what_to_copy(tmp_path):
    page = made(tmp_path / "six", only=["svc grid search"])
    run = read_run(tmp_path / "six")
    loky = next(point for point in run.points if point.variant == "loky" and run.is_central(point))
    gain = figure_words(run.speedup(loky), ratio_digits, "×")
    said = (
        f"svc grid search: All cores by loky, 2 processes, {gain} as fast as {run.base_of(loky).label} (sure). "
        f"Copy {run.plan['scenarios'][loky.scenario]['path']}. Best on Spark: joblib-spark, a job per batch, 2 slots: "
    )
    for text in (page.text, summary(tmp_path / "six")):
        assert said in " ".join(text.split())
    page = made(tmp_path / "one", only=["svc grid search"], blocks=1)
    assert "(not sure: 1 block gives no interval)" in page.text


def test_a_base_case_that_nothing_beats_is_the_answer_beside_the_next_best(tmp_path):
    def change(record):
        if record["variant"] == "loky":
            return fail(record)
        return record | ({"seconds": 0.01} if record["variant"] == "serial" else {})

    page = made(tmp_path, only=["svc grid search"], change=change)
    (found,) = fastest_ways(read_run(tmp_path))
    assert (found.sure, found.file) == ("sure", "")
    assert found.over.variant == "joblib_spark"
    assert "svc grid search: One fit at a time, and nothing beats it: " in " ".join(page.text.split())


def test_where_nothing_has_a_time_at_the_centre_the_answer_says_of_which_job_it_is(tmp_path):
    def change(record):
        return fail(record) if record["factors"]["rows"] == 20000 else record

    page = made(tmp_path, only=["svc inference"], change=change)
    (found,) = fastest_ways(read_run(tmp_path))
    assert found.job == "rows 100,000"
    assert "(rows 100,000, since nothing has a time at the centre)" in " ".join(page.text.split())


def test_marks_of_charts_tell_their_figures(page, folder):
    run = read_run(folder)
    point = next(p for p in run.points if p.variant == "loky" and run.is_central(p))
    assert f"{figure_words(point.seconds, number, ' s')}" in page.text
    assert f"{point.label} at 2: {figure_words(run.speedup(point), ratio_digits, '×')}" in page.text


def test_a_variant_that_was_wrong_in_a_block_is_not_the_answer(tmp_path):
    def change(record):
        wrong = record["variant"] == "loky" and record["block"] == 1
        return fail(record, "invalid", f"{WRONG_ANSWER} that of base") if wrong else record

    made(tmp_path / "wrong", only=["svc grid search"], change=change)
    (found,) = fastest_ways(read_run(tmp_path / "wrong"))
    assert found.point.variant == "serial"

    def lose(record):
        return fail(record) if record["variant"] == "loky" and record["block"] == 1 else record

    page = made(tmp_path / "lost", only=["svc grid search"], change=lose)
    assert "2 processes (1 of 6 blocks without a time), " in " ".join(page.text.split())


def test_calls_are_ranked_by_their_fits_only_where_all_count_them(tmp_path):
    seconds = {"serial": 1.0, "loky": 5.0}

    def change(record):
        answer = {"fits": 100} if record["variant"] == "loky" else {}
        return record | {"seconds": seconds.get(record["variant"], 9.0), "answer": answer}

    run = read_run(synthetic.write(tmp_path, only=["svc grid search"], change=change))
    (found,) = fastest_ways(run)
    assert (found.point.variant, found.over.variant) == ("serial", "loky")


def test_the_base_case_is_the_answer_where_ratios_within_blocks_say_so(tmp_path):
    """Medians of seconds may say the opposite: blocks differ in speed, and each has both."""
    base = (1.0, 1.0, 1.0, 10.0, 10.0, 10.0)
    loky = (1.1, 1.1, 1.1, 0.9, 11.0, 11.0)

    def change(record):
        times = {"serial": base, "loky": loky}.get(record["variant"])
        return record | ({"seconds": times[record["block"]]} if times else {"seconds": 99.0})

    page = made(tmp_path, only=["svc grid search"], change=change)
    (found,) = fastest_ways(read_run(tmp_path))
    assert (found.point.variant, found.over.variant, found.file) == ("serial", "loky", "")
    assert "One fit at a time, and nothing beats it: 1.10× " in " ".join(page.text.split())
