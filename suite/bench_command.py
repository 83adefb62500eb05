# SPDX-License-Identifier: Apache-2.0
"""`python -m suite bench`: from what the user asked for to a run folder with charts."""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from suite import bench, environment, export, plan, preflight, records, results
from suite.cluster import cluster, given
from suite.errors import UsageError
from suite.java import find_java
from suite.scenario import SCENARIOS, Scenario, discover, load_all
from suite.session import is_local
from suite.signals import INTERRUPTED, InterruptError

RESULTS = environment.ROOT / "results"
# Six are the fewest that give a median a 95 % interval without assuming a distribution. A run of size ci takes as many
# of them as its minutes allow, a smoke run tells whether everything works.
BLOCKS = {"smoke": 1, "ci": 6, "full": 6}
MINUTES = {"ci": 9.5}  # the charts and the report take some seconds more
TIMEOUTS = {"smoke": 120.0, "ci": 300.0, "full": 3600.0}
MASTER = re.compile(r"local|local\[(\*|\d+)\]|standalone|(spark|k8s)://\S+|yarn")
COMMAND = "python -m suite bench"
# What makes a plan; given beside --resume, they must ask for the plan that the folder holds.
PLANNING = ("scenario", "size", "master", "slots", "parallelism", "folds", "blocks", "seed", "scenarios", "workers")


def command(options: argparse.Namespace, words: str) -> int:
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
    directory = _newest() if options.resume and options.out is None else options.out
    held = _held(directory) if options.resume else None
    if held:
        _fill_from(options, held)
    scenarios, broken = _chosen(options)
    master = master_of(options.master)
    request = request_of(options, master)
    cells = plan.make(scenarios, request)
    if held:
        _same_plan(directory, held, scenarios, cells)
    else:
        directory = fresh(directory)
        words = os.environ.get("FOLDOUT_WORDS") or words  # inside a container: what was asked outside
        held = bench.plan_record(secrets.token_hex(4), words, _planning(options), request, master, scenarios, cells)
    for name, reason in broken.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    logs = directory / "logs"
    with bench.locked(directory), cluster(master, workers_of(options), logs=logs) as ready:
        executors: dict[str, Any] = {}
        if not is_local(master):
            slots = max((cell.session or 1 for cell in cells if not cell.skip), default=1)
            executors["before"] = preflight.described(preflight.run(ready, slots, java, logs / "preflight.log"))
        run = bench.Run(
            directory=directory,
            name=held["run"],
            java=java,
            files=[scenario.path for scenario in scenarios],
            cells=cells,
            cluster=ready,
            timeout=options.timeout or TIMEOUTS[request.size],
        )
        own = None if options.blocks or options.resume else MINUTES.get(request.size)
        code = _run(run, held, executors, options.minutes or own)
    return code or int(bool(broken))


def _in_containers(options: argparse.Namespace, words: str) -> int:
    """The same command inside the `bench` container, whose results are brought out."""
    from suite.compose import run_in_compose

    _chosen(options)
    directory = options.out or (_newest() if options.resume else _run_folder())
    arguments = shlex.split(words)[len(shlex.split(COMMAND)) :]
    return run_in_compose(arguments, directory, workers_of(options))


def workers_of(options: argparse.Namespace) -> int:
    """Of one core each."""
    # As many as the machine has, since more would take turns.
    return options.workers or max(2, environment.cores())


def _run(run: bench.Run, held: dict[str, Any], executors: dict[str, Any], minutes: float | None) -> int:
    label = run.cluster.label or run.cluster.url
    facts = {**environment.describe(label, run.java), "executors": executors}
    loop = bench.Loop(run, lambda text: print(text, end="", flush=True), minutes)

    def write_facts(**more: Any) -> None:
        seen = {"drivers": loop.drivers} if loop.drivers else {}
        bench.write_json(run.directory / "environment.json", {**facts, **seen, **more})

    try:
        bench.write_json(run.directory / "plan.json", held)
        write_facts()
        print(f"{len(run.cells)} cells, {held['blocks']} blocks, Spark on {label}; run folder: {run.directory}")
        loop.execute()
        executors |= {"after": loop.executors} if loop.executors else {}
        write_facts(after=environment.load())
        return finish(run.directory)
    except InterruptError as stop:
        loop.give_up(f"interrupted by {stop}")
        write_facts()
        print(f"\nstopped by {stop}; what was measured is kept in {run.directory}. Go on with:")
        print(f"  {COMMAND} --resume --out {run.directory}")
        return INTERRUPTED


def finish(directory: Path) -> int:
    """Export, charts, report and the summary of a run; the exit code that its records deserve."""
    from suite.report import report, summary

    results.write_caveats(directory)
    export.write(directory)
    report(directory)
    print(summary(directory))
    print(f"report: {directory / 'report.html'}")
    if results.load(directory).left_out:
        print(f"for the blocks that were left out: {COMMAND} --resume --out {directory}")
    statuses = {record["status"] for record in records.read(directory / "records.jsonl")}
    return int(bool(statuses & {"failed", "timeout", "invalid"}))


def request_of(options: argparse.Namespace, master: str) -> plan.Request:
    """What is asked for, with the defaults of the machine."""
    cores = environment.cores()
    if numbered := re.fullmatch(r"local\[(\d+)\]", master):
        cores = int(numbered.group(1))
    elif not is_local(master):
        known = workers_of(options) if master == "standalone" else given(master).slots
        if not known and not options.slots:
            raise UsageError(f"--slots is needed with --master {master}: how many cores may Spark use there?")
        cores = known or max(options.slots)
    size = options.size or "ci"
    return plan.Request(
        size=size,
        slots=options.slots,
        parallelism=options.parallelism,
        folds=options.folds,
        blocks=options.blocks or BLOCKS.get(size, 1),
        cores=cores,
        local=is_local(master),
        seed=options.seed or 0,
    )


def master_of(master: str | None) -> str:
    """A master that Spark may know, by default all cores of this machine.

    Raises
    ------
    UsageError
        It cannot be one.
    """
    master = master or f"local[{environment.cores()}]"
    if not MASTER.fullmatch(master):
        known = "local[N], standalone, compose, spark://HOST:PORT, yarn, k8s://..."
        raise UsageError(f"--master {master!r} is none that Spark knows: {known}")
    if master in ("local", "local[0]"):
        raise UsageError(f"--master {master}: say how many slots, such as local[{environment.cores()}]")
    return f"local[{environment.cores()}]" if master == "local[*]" else master


def _chosen(options: argparse.Namespace) -> tuple[list[Scenario], dict[str, str]]:
    folder = options.scenarios or SCENARIOS
    if not folder.is_dir():
        raise UsageError(f"--scenarios {folder} is no folder")
    if not options.scenario:
        scenarios, broken = discover(folder)
        if not scenarios:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in broken.items())
            raise UsageError(f"no usable scenario in {folder}{': ' if reasons else ''}{reasons}")
        return scenarios, broken
    paths = [_path(name, folder) for name in dict.fromkeys(options.scenario)]
    scenarios, broken = load_all(paths)
    if broken:
        # Asked for by name, so the rest is not what the user wants.
        raise UsageError("; ".join(f"{name} cannot be used: {reason}" for name, reason in broken.items()))
    return scenarios, {}


def _path(name: str, folder: Path) -> Path:
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file():
            raise UsageError(f"there is no file {name}")
        return Path(name)
    path = folder / f"{name}.py"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in folder.glob("*.py"))) or "none"
        raise UsageError(f"no scenario {name!r} in {folder}: there are {there}")
    return path


def _run_folder() -> Path:
    return RESULTS / f"run-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def fresh(directory: Path | None) -> Path:
    """An empty folder for a new run, made and tried."""
    directory = directory or _run_folder()
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


def _newest() -> Path:
    found = sorted(RESULTS.glob("run-*/plan.json"))
    if not found:
        raise UsageError(f"there is no run to resume in {RESULTS}: name one by --out")
    return found[-1].parent


def _held(directory: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads((directory / "plan.json").read_text())
    except OSError as error:
        raise UsageError(f"{directory} holds no run to resume: it has no plan.json") from error
    except ValueError as error:
        raise UsageError(f"{directory / 'plan.json'} is no plan: {error}") from error
    if held.get("schema") != bench.PLAN_SCHEMA or "options" not in held:
        raise UsageError(f"{directory / 'plan.json'} was written by another version of the suite: start a new run")
    return held


def _planning(options: argparse.Namespace) -> dict[str, Any]:
    """The options that make the plan, as JSON."""
    values = {name: getattr(options, name) for name in PLANNING}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _fill_from(options: argparse.Namespace, held: dict[str, Any]) -> None:
    """What the user leaves out of a resume is as it was."""
    for name in PLANNING:
        old = held["options"][name]
        if not getattr(options, name) and old is not None:
            setattr(
                options,
                name,
                Path(old) if name == "scenarios" else tuple(old) if isinstance(old, list) else old,
            )


def _same_plan(
    directory: Path, held: dict[str, Any], scenarios: Sequence[Scenario], cells: Sequence[plan.Cell]
) -> None:
    if {cell.id for cell in cells} != {cell["id"] for cell in held["cells"]}:
        raise UsageError(f"{directory} holds a run of another plan ({held['command']}): name another --out")
    for scenario in scenarios:
        if scenario.sha256 != held["scenarios"][scenario.name]["sha256"]:
            raise UsageError(f"{scenario.path.name} has changed since the run in {directory} began: start a new run")
