# SPDX-License-Identifier: Apache-2.0
"""Points of a run: every planned cell is there, and ratios compare the same job in the same block."""

import json
import math
from types import SimpleNamespace

import pytest
import synthetic

from suite.cli import main
from suite.report import captions
from suite.report.formatting import ratio_words
from suite.report.points import NOT_RUN, _central_value, read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(synthetic.write(tmp_path_factory.mktemp("run")))


def points(run, workload, variant, **factors):
    return [
        point
        for point in run.workloads[workload]
        if point.variant == variant and all(point.factors[name] == value for name, value in factors.items())
    ]


def point(run, workload, variant, **factors):
    (found,) = points(run, workload, variant, **factors)
    return found


def test_every_planned_cell_is_in_one_point(run):
    gathered = [cell.id for of_run in run.points for cell in of_run.cells]
    assert sorted(gathered) == sorted(cell["id"] for cell in run.plan["cells"])
    assert all([cell.block for cell in of_run.cells] == list(range(6)) for of_run in run.points)
    assert run.statuses == {"ok": len(run.plan["cells"])}
    assert run.strays == 0


def test_that_jobs_wait_is_what_the_recipe_says_and_only_in_older_plans_what_the_workload_is_called(tmp_path):
    folder = synthetic.write(tmp_path, blocks=1)
    plan = json.loads((folder / "plan.json").read_text())
    assert [name for name in read_run(folder).workloads if read_run(folder).waits(name)] == ["waiting"]
    for about in plan["scenarios"].values():
        about["waits"] = about["workload"] == "svc inference"
    (folder / "plan.json").write_text(json.dumps(plan))
    assert [name for name in read_run(folder).workloads if read_run(folder).waits(name)] == ["svc inference"]


def test_cells_without_a_record_stay_and_strangers_do_not_come_in(tmp_path):
    def change(record):
        if record["block"] == 1:
            return None
        return {**record, "id": "of another plan"} if record["order"] == 0 else record

    run = read_run(synthetic.write(tmp_path, change=change, only=["svc inference"]))
    planned = len(run.plan["cells"])
    assert len(run.cells) == planned
    assert run.statuses[NOT_RUN] == planned // 6 + 1
    assert run.strays == 1
    assert all(len(of_run.times) in (4, 5) for of_run in run.points)


def test_the_last_record_of_a_cell_wins_and_a_torn_line_is_left_out(tmp_path):
    synthetic.write(tmp_path, only=["waiting"])
    written = (tmp_path / "records.jsonl").read_text().splitlines()
    again = {**json.loads(written[0]), "seconds": 99.0}
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n" + written[1][:40])
    run = read_run(tmp_path)
    assert next(cell for cell in run.cells if cell.id == again["id"]).seconds == 99.0
    assert run.statuses == {"ok": len(run.plan["cells"])}


def test_centre_is_found_again(run):
    for of_run in run.points:
        _, workload, mode, centre, _, _ = synthetic.SCENARIOS[of_run.scenario]
        middle = synthetic.PARALLELISM["waiting" if workload == "waiting" else mode][0]
        at_centre = all(of_run.factors[name] == value for name, value in centre.items())
        at_centre &= of_run.parallelism in (None, middle)
        if workload != "waiting":  # 24 threads fit into its 32 slots and nothing else tells what is central
            assert run.is_central(of_run) == at_centre, of_run.factors


def test_base_case_does_the_same_job(run):
    for of_run in run.points:
        base = run.base_of(of_run)
        if base is None:
            assert (of_run.workload, of_run.factors["folds"]) == ("logistic regression CV", 6)
            continue
        assert base.base
        assert base.shape == of_run.shape
    assert run.base_of(point(run, "svc grid search", "joblib_spark", folds=10, parallelism=2)).factors["folds"] == 10


def test_a_base_case_with_parallelism_is_taken_at_its_lowest(run):
    threads = point(run, "logistic regression CV", "cross_validator", parallelism=4)
    assert run.base_of(threads).parallelism == 1
    # With six folds it never ran at its lowest, and a base of another parallelism would be another base.
    assert run.base_of(point(run, "logistic regression CV", "cross_validator", folds=6)) is None


def test_speedup_is_formed_within_blocks(tmp_path):
    def drifting(record):
        slow = 1 + record["block"]
        return {**record, "seconds": {"serial": 6.0, "pool": 2.0, "folds": 3.0}[record["variant"]] * slow}

    run = read_run(synthetic.write(tmp_path, change=drifting, only=["flight demand CV"]))
    for variant, speedup in (("pool", 3.0), ("folds", 2.0)):
        for of_run in points(run, "flight demand CV", variant):
            got = run.speedup(of_run)
            assert (got.median, got.low, got.high, got.n) == pytest.approx((speedup, speedup, speedup, 6))


def test_a_block_that_lacks_either_time_gives_no_ratio(tmp_path):
    def change(record):
        lost = (record["variant"], record["block"]) in {("serial", 0), ("pool", 1)}
        return {**record, "status": "failed", "seconds": None, "reason": "lost"} if lost else record

    run = read_run(synthetic.write(tmp_path, change=change, only=["flight demand CV"]))
    pool = points(run, "flight demand CV", "pool", folds=4, parallelism=2)[0]
    assert pool.seconds.n == 5
    assert run.speedup(pool).n == 4
    assert run.speedup(pool).low is None


def test_a_shorter_prefix_is_compared_by_the_row(run):
    udf = point(run, "svc inference", "row_udf", parallelism=2, rows=20000)
    base = run.base_of(udf)
    assert (udf.rows, base.rows) == (2000, 20000)
    assert run.speedup(udf).median == pytest.approx(udf.rate.median / base.rate.median, rel=0.1)
    assert math.isclose(udf.rate.median, 2000 / udf.seconds.median, rel_tol=0.05)


def test_best_without_spark_is_the_fastest_single_node_run_of_the_same_job(run):
    best = run.single_node_of(point(run, "svc grid search", "joblib_spark", parallelism=1))
    assert (best.variant, best.factors["folds"]) == ("loky", 5)
    assert best.seconds.median == min(p.seconds.median for p in points(run, "svc grid search", "loky", folds=5))
    assert run.single_node_of(point(run, "svc inference", "arrow", parallelism=1)) is None


def test_places_in_words(run):
    assert point(run, "svc grid search", "serial", folds=5).place == "serial"
    assert point(run, "svc grid search", "loky", parallelism=1).place == "1 process"
    assert point(run, "svc grid search", "joblib_spark", parallelism=4).place == "4 slots"
    assert point(run, "flight demand CV", "pool", parallelism=4).place == "4 threads, 2 slots"
    assert point(run, "flight demand CV", "pool", parallelism=4).at_once == 2


def test_notes_say_what_to_know(tmp_path):
    def change(record):
        if record["variant"] == "arrow":
            record["warnings"] = ["it left 2 threads behind"]
            record["seconds"] = 1.0 + 0.4 * record["block"]
        if record["variant"] == "pandas_udf" and record["block"] == 2:
            return {**record, "status": "timeout", "seconds": None, "reason": "no end"}
        return record

    run = read_run(synthetic.write(tmp_path, change=change, only=["svc inference"]))
    arrow = point(run, "svc inference", "arrow", parallelism=4)
    assert arrow.unstable
    assert "more workers than cores" in arrow.notes
    assert "it left 2 threads behind (6 blocks)" in arrow.notes
    assert any(note.startswith("drifts over the blocks by +") for note in arrow.notes)
    pandas = point(run, "svc inference", "pandas_udf", parallelism=2, rows=20000)
    assert pandas.notes[:2] == ["1 timeout", "only 5 blocks, no 95 % interval"]


def test_a_folder_without_a_plan_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"plan\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("plan.json", "", "plan.json is not what a run writes: Expecting value"),
        ("plan.json", '{"cells": []}', "it has no 'scenarios'"),
        ("plan.json", "[]", "plan.json is not what a run writes: it holds []"),
        ("environment.json", "{", "environment.json is not what a run writes"),
    ],
)
def test_a_file_that_no_run_has_written_is_named(name, text, said, tmp_path, capsys):
    synthetic.write(tmp_path, only=["waiting"])
    (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_the_bound_of_unequal_fits_comes_from_those_of_the_base_case(tmp_path):
    # Two folds of two candidates: 1 s a fit, then 3 s; the refit takes 4 s. Block 1 is slower by half.
    def change(record):
        record = {**record, "bound": None, "schedule": {"serial": "serial"}.get(record["variant"], record["variant"])}
        if record["variant"] == "serial":
            slow = 1.5 if record["block"] == 1 else 1.0
            fits = [(fold, candidate, slow * (1 + 2 * fold)) for fold in range(2) for candidate in range(2)]
            record["engaged"] = {**record["engaged"], "fits": fits, "refit_seconds": slow * 4}
        return record

    run = read_run(synthetic.write(tmp_path, change=change, only=["flight demand CV"]))
    of = {
        p.variant: run.bound(p)
        for p in run.points
        if p.factors["folds"] == 4 and p.factors["parallelism"] in (None, 2) and p.at_once in (1, 2)
    }
    # Serial 8 + 4; two at a time: a fold's two fits in 1 and 3 s, or the sum over two: both 4, and the refit.
    assert of == {"serial": 1.0, "folds": pytest.approx(12 / 8), "pool": pytest.approx(12 / 8)}


def test_a_bound_is_a_band_down_to_where_nothing_but_the_fits_goes_parallel(tmp_path):
    # The driver works alone for a quarter of the base case's time, and two cores spend 1.6 times the clock's seconds.
    def change(record):
        record = {**record, "schedule": {"serial": "serial"}.get(record["variant"], record["variant"])}
        if record["variant"] == "serial":
            seconds = record["seconds"]
            more = {"warm_seconds": [seconds], "overhead": {"driver": seconds / 4}, "cpu_seconds": [1.6 * seconds]}
            return {**record, "bound": 1.0, **more}
        return {**record, "bound": 2.0}

    run = read_run(synthetic.write(tmp_path, change=change, only=["flight demand CV"]))
    of = {p.variant: p for p in run.points if run.is_central(p, "parallelism")}
    assert run.least_bound(of["pool"]) == pytest.approx(1 / (0.25 + 0.75 / 2))
    assert run.least_bound(of["serial"]) == pytest.approx(1)
    assert captions.bound_words(run, of["pool"]) == "1.60–2.00×"
    cores = run.environment["machine"]["cores"]
    assert run.machine_limit(of["pool"]) == pytest.approx(cores / 1.6)
    # Of a cluster of several machines, one machine's clocks say nothing.
    run.environment["master"] = "spark://elsewhere:7077"
    assert run.machine_limit(of["pool"]) is None


def test_a_run_of_an_older_version_has_neither_band_nor_limit(run):
    pool = point(run, "flight demand CV", "pool", parallelism=2, folds=4)
    assert captions.bound_words(run, pool) == ratio_words(run.bound(pool))
    assert run.machine_limit(pool) is None


def test_files_of_a_workload_with_other_centres_have_that_of_the_base_case(tmp_path):
    """Else the folds of one file would stand beside other folds of another as if they were the same job."""
    folder = synthetic.write(tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    plan["scenarios"]["grid_search_single_node"]["centre"] = {"folds": 5}
    plan["scenarios"]["grid_search_joblib_spark"]["centre"] = {"folds": 3}
    (folder / "plan.json").write_text(json.dumps(plan))
    run = read_run(folder)
    joblib_spark = [p for p in run.points if p.scenario == "grid_search_joblib_spark"]
    assert {p.factors["folds"] for p in joblib_spark if run.is_central(p, "parallelism", "slots")} == {5}


@pytest.mark.parametrize(("with_spark", "central"), [(True, 4), (False, 2)])
def test_a_cluster_and_not_the_drivers_machine_decides_what_is_central(with_spark, central):
    """Four workers, driven from a machine of two cores, where four processes are more than it has."""
    points = [
        SimpleNamespace(factors={"parallelism": p}, at_once=p, on_spark=False, oversubscribed=p > 2) for p in (1, 2, 4)
    ]
    if with_spark:
        points += [SimpleNamespace(**{**vars(p), "on_spark": True, "oversubscribed": False}) for p in points]
    assert _central_value("parallelism", points) == central


def test_the_plan_says_what_the_centre_is(tmp_path):
    folder = synthetic.write(tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    plan["scenarios"]["time_series_cv"]["centre"] = {"folds": 12}
    (folder / "plan.json").write_text(json.dumps(plan))
    run = read_run(folder)
    of_recipe = [p for p in run.points if p.scenario == "time_series_cv"]
    assert {p.factors["folds"] for p in of_recipe if run.is_central(p, "parallelism")} == {12}
