# SPDX-License-Identifier: Apache-2.0
"""`python -m suite bench`: from what the user asked for to a run folder with charts."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from suite import records
from suite.cluster import preflight
from suite.cluster.connect import connect, existing_cluster
from suite.errors import UsageError
from suite.machine import environment
from suite.machine.signals import INTERRUPTED, InterruptError
from suite.plan.cells import Request, plan_cells
from suite.plan.scenario import SCENARIOS, Scenario, discover, load_scenarios
from suite.records import write_json
from suite.report import export
from suite.report.page import write_report
from suite.report.points import read_run, write_caveats
from suite.report.terminal import summary
from suite.run.in_container import run_in_containers
from suite.run.loop import Loop, PlannedRun, lock_run_folder
from suite.run.plan_file import check_same_plan, fill_options, plan_options, plan_record, read_plan
from suite.spark.java import find_java
from suite.spark.session import is_local

RESULTS = environment.ROOT / "results"
# Six are the fewest that give a median a 95 % interval without assuming a distribution. A run of size ci takes as many
# of them as its minutes allow, a smoke run tells whether everything works.
BLOCKS_OF_SIZE = {"smoke": 1, "ci": 6, "full": 6}
MINUTES_OF_SIZE = {"ci": 9.5}  # the charts and the report take some seconds more
TIMEOUT_OF_SIZE = {"smoke": 120.0, "ci": 300.0, "full": 3600.0}
MASTER_PATTERN = re.compile(r"local|local\[(\*|\d+)\]|standalone|(spark|k8s)://\S+|yarn")
BENCH_COMMAND = "python -m suite bench"


def bench(options: argparse.Namespace, words: str) -> int:
    """Run `bench`.

    Parameters
    ----------
    options : argparse.Namespace
        As `cli.parser` makes it.
    words : str
        The command line, for the record.

    Returns
    -------
    int
        0 all well; 1 a cell failed, timed out or is invalid, or a scenario file is broken; 130 interrupted.

    Raises
    ------
    UsageError
        Before anything was written.
    """
    if options.master == "compose":
        return _in_containers(options, words)
    java = find_java()
    directory = _newest_run() if options.resume and options.out is None else options.out
    held = read_plan(directory) if options.resume else None
    if held:
        fill_options(options, held)
    scenarios, broken = _find_scenarios(options)
    master = check_master(options.master)
    request = make_request(options, master)
    cells = plan_cells(scenarios, request)
    if held:
        check_same_plan(directory, held, scenarios, cells)
    else:
        directory = new_run_folder(directory)
        words = os.environ.get("FOLDOUT_WORDS") or words  # inside a container: what was asked outside
        held = plan_record(secrets.token_hex(4), words, plan_options(options), request, master, scenarios, cells)
    for name, reason in broken.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    logs = directory / "logs"
    with lock_run_folder(directory), connect(master, workers_wanted(options), logs=logs) as ready:
        executors: dict[str, Any] = {}
        if not is_local(master):
            slots = max((cell.session or 1 for cell in cells if not cell.skip), default=1)
            executors["before"] = preflight.describe_nodes(
                preflight.run_preflight(ready, slots, java, logs / "preflight.log")
            )
        run = PlannedRun(
            directory=directory,
            name=held["run"],
            java=java,
            files=[scenario.path for scenario in scenarios],
            cells=cells,
            cluster=ready,
            timeout=options.timeout or TIMEOUT_OF_SIZE[request.size],
        )
        own = None if options.blocks or options.resume else MINUTES_OF_SIZE.get(request.size)
        code = _run_plan(run, held, executors, options.minutes or own)
    return code or int(bool(broken))


def _in_containers(options: argparse.Namespace, words: str) -> int:
    """The same command inside the `bench` container, whose results are brought out."""
    _find_scenarios(options)
    directory = options.out or (_newest_run() if options.resume else _default_run_folder())
    arguments = shlex.split(words)[len(shlex.split(BENCH_COMMAND)) :]
    return run_in_containers(arguments, directory, workers_wanted(options))


def workers_wanted(options: argparse.Namespace) -> int:
    """Of one core each."""
    # As many as the machine has, since more would take turns.
    return options.workers or max(2, environment.cores())


def _run_plan(run: PlannedRun, held: dict[str, Any], executors: dict[str, Any], minutes: float | None) -> int:
    label = run.cluster.label or run.cluster.url
    facts = {**environment.describe_environment(label, run.java.facts), "executors": executors}
    loop = Loop(run, lambda text: print(text, end="", flush=True), minutes)

    def write_facts(**more: Any) -> None:
        seen = {"drivers": loop.drivers} if loop.drivers else {}
        write_json(run.directory / "environment.json", {**facts, **seen, **more})

    try:
        write_json(run.directory / "plan.json", held)
        write_facts()
        print(f"{len(run.cells)} cells, {held['blocks']} blocks, Spark on {label}; run folder: {run.directory}")
        loop.execute()
        executors |= {"after": loop.executors} if loop.executors else {}
        write_facts(after=environment.machine_load())
        return write_results(run.directory)
    except InterruptError as stop:
        loop.give_up(f"interrupted by {stop}")
        write_facts()
        print(f"\nstopped by {stop}; what was measured is kept in {run.directory}. Go on with:")
        print(f"  {BENCH_COMMAND} --resume --out {run.directory}")
        return INTERRUPTED


def write_results(directory: Path) -> int:
    """Export, charts, report and the summary of a run; the exit code that its records deserve."""
    write_caveats(directory)
    export.write_export(directory)
    write_report(directory)
    print(summary(directory))
    print(f"report: {directory / 'report.html'}")
    if read_run(directory).left_out:
        print(f"for the blocks that were left out: {BENCH_COMMAND} --resume --out {directory}")
    statuses = {record.status for record in records.read(directory / "records.jsonl")}
    return int(bool(statuses & {"failed", "timeout", "invalid"}))


def make_request(options: argparse.Namespace, master: str) -> Request:
    """What is asked for, with the defaults of the machine."""
    cores = environment.cores()
    if numbered := re.fullmatch(r"local\[(\d+)\]", master):
        cores = int(numbered.group(1))
    elif not is_local(master):
        known = workers_wanted(options) if master == "standalone" else existing_cluster(master).slots
        if not known and not options.slots:
            raise UsageError(f"--slots is needed with --master {master}: how many cores may Spark use there?")
        cores = known or max(options.slots)
    size = options.size or "ci"
    return Request(
        size=size,
        slots=options.slots,
        parallelism=options.parallelism,
        folds=options.folds,
        blocks=options.blocks or BLOCKS_OF_SIZE.get(size, 1),
        cores=cores,
        local=is_local(master),
        seed=options.seed or 0,
    )


def check_master(master: str | None) -> str:
    """A master that Spark may know, by default all cores of this machine.

    Raises
    ------
    UsageError
        It cannot be one.
    """
    master = master or f"local[{environment.cores()}]"
    if not MASTER_PATTERN.fullmatch(master):
        known = "local[N], standalone, compose, spark://HOST:PORT, yarn, k8s://..."
        raise UsageError(f"--master {master!r} is none that Spark knows: {known}")
    if master in ("local", "local[0]"):
        raise UsageError(f"--master {master}: say how many slots, such as local[{environment.cores()}]")
    return f"local[{environment.cores()}]" if master == "local[*]" else master


def _find_scenarios(options: argparse.Namespace) -> tuple[list[Scenario], dict[str, str]]:
    folder = options.scenarios or SCENARIOS
    if not folder.is_dir():
        raise UsageError(f"--scenarios {folder} is no folder")
    if not options.scenario:
        scenarios, broken = discover(folder)
        if not scenarios:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
            raise UsageError(f"no usable scenario in {folder}{': ' if reasons else ''}{reasons}")
        return scenarios, broken
    paths = [_scenario_file(name, folder) for name in dict.fromkeys(options.scenario)]
    scenarios, broken = load_scenarios(paths)
    if broken:
        # Asked for by name, so the rest is not what the user wants.
        raise UsageError("; ".join(f"{name} cannot be used: {reason}" for name, reason in broken.items()))
    return scenarios, {}


def _scenario_file(name: str, folder: Path) -> Path:
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file():
            raise UsageError(f"there is no file {name}")
        return Path(name)
    path = folder / f"{name}.py"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.py"))) or "none"
        raise UsageError(f"no scenario {name!r} in {folder}: there are {there}")
    return path


def _default_run_folder() -> Path:
    return RESULTS / f"run-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def new_run_folder(directory: Path | None) -> Path:
    """An empty folder for a new run, made and tried."""
    directory = directory or _default_run_folder()
    if (directory / "screen").exists():
        raise UsageError(f"{directory} holds a comparison already: name another --out")
    if (directory / "plan.json").exists():
        raise UsageError(f"{directory} holds a run already: go on with it by --resume, or name another --out")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".lock"
        probe.touch()
    except OSError as error:
        raise UsageError(f"cannot write to {directory}: {error.strerror}") from error
    return directory


def _newest_run() -> Path:
    found = sorted(RESULTS.glob("run-*/plan.json"))
    if not found:
        raise UsageError(f"there is no run to resume in {RESULTS}: name one by --out")
    return found[-1].parent
