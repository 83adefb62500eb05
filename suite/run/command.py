# SPDX-License-Identifier: Apache-2.0
"""`python -m suite bench`: from what the user asks for to a run folder with charts.

The package runs benchmarks. The parent plans and keeps deadlines (`loop`, `child_process`), the child runs and times
cells (`test_cell`, `measure`). It may import everything but `gate` and the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from suite import records
from suite.cluster import preflight
from suite.cluster.connect import connect
from suite.cluster.description import DEFAULT_MEMORY, ClusterError, as_outside, gibibytes
from suite.errors import UsageError
from suite.machine import environment
from suite.machine.signals import INTERRUPTED, InterruptError
from suite.plan.cells import Cell, plan_cells, plan_what_can_be
from suite.plan.scenario import (
    DATA_FOLDER,
    SCENARIOS,
    Scenario,
    discover,
    helpers,
    keyword_names,
    load_scenarios,
)
from suite.plan.workloads import doubtful_workloads
from suite.records import write_json
from suite.report import export
from suite.report.points import read_run, write_caveats
from suite.report.terminal import summary
from suite.run.in_container import run_in_containers
from suite.run.loop import Loop, PlannedRun, lock_run_folder
from suite.run.options import BenchOptions, is_file_name, parse_factor, parse_setting
from suite.run.plan_file import (
    check_same_machine,
    check_same_plan,
    describe_plan,
    file_hashes,
    read_plan,
    tell_unknown_revision,
)
from suite.run.request import (
    check_cluster_options,
    check_data,
    check_master,
    check_settings,
    make_request,
    note_on_data,
    note_on_links,
    workers_wanted,
)
from suite.spark.java import ready_java
from suite.spark.session import is_local

RESULTS = environment.ROOT / "results"
MINUTES_OF_SIZE = {"ci": 9.5}  # the charts and the report take some seconds more
WARM_SECONDS_OF_SIZE = {"smoke": 0.0, "ci": 1.0, "full": 10.0}
TIMEOUT_OF_SIZE = {"smoke": 120.0, "ci": 300.0, "full": 3600.0}


def bench(options: BenchOptions, command_line: str) -> int:
    """Run `bench`.

    Parameters
    ----------
    options : BenchOptions
    command_line : str
        What the user typed, for the record.

    Returns
    -------
    int
        0 all well; 1 a cell failed, timed out or is invalid, or a scenario file is broken; 130 interrupted.

    Raises
    ------
    UsageError
        Before anything was written.
    """
    for setting in options.conf:
        parse_setting(setting)  # before anything is started for a mistyped one
    for factor in options.factor:
        parse_factor(factor)
    if options.memory:
        gibibytes(options.memory)
    if options.data:
        check_data(options.data)
    options.take_run_folder()
    if not os.environ.get("FOLDOUT_RUN_FOLDER"):  # which is set in a container
        options.make_absolute()
    elif options.data and (note := note_on_data(options.data)):
        print(f"note: {note}", file=sys.stderr)
    outside = {}
    if options.resume and not os.environ.get("FOLDOUT_RUN_FOLDER"):
        options.out = options.out or _newest_run()
        earlier = read_plan(options.out)
        outside = earlier.get("outside", {})
        if options.master == "compose" and not outside:
            raise UsageError(f"--master compose: the run that goes on is on {earlier['master']}: leave it out")
    if outside and options.master is None:
        options.master = "compose"
    if options.master == "compose":
        return _bench_in_containers(options, command_line, outside)
    java = ready_java()
    directory, plan, scenarios, cells, broken = _plan_of(options, command_line)
    conf = dict(map(parse_setting, options.conf))  # where a run goes on, those that it began with
    _tell_what_is_odd(options, scenarios, broken)
    master, logs = plan["master"], directory / "logs"
    memory = options.memory or DEFAULT_MEMORY
    with lock_run_folder(directory), connect(master, workers_wanted(options), memory=memory, logs=logs) as ready:
        run = PlannedRun(
            directory=directory,
            name=plan["run"],
            java=java,
            files=[scenario.path for scenario in scenarios],
            cells=cells,
            cluster=replace(ready, conf={**ready.conf, **conf}),
            timeout=options.timeout or TIMEOUT_OF_SIZE[plan["size"]],
            warm_up=options.warm_up or 1,
            warm_seconds=WARM_SECONDS_OF_SIZE[plan["size"]],
            data=options.data,
            hashes=file_hashes(scenarios),
        )
        own = None if options.blocks or options.resume else MINUTES_OF_SIZE.get(plan["size"])
        code = _run_plan(run, plan, options.minutes or own)
    return code or int(bool(broken))


def _bench_in_containers(options: BenchOptions, command_line: str, outside: dict[str, Any]) -> int:
    """Run a bench on containers; `outside` are the options that a run which goes on began with."""
    options.fill(outside)  # the same recipes, data, image and workers
    check_settings(options, "compose")
    if options.data and (note := note_on_links(options.data)):
        print(f"note: {note}", file=sys.stderr)
    if options.image:  # it may have packages that recipes import and this machine lacks
        _check_names(options)
    else:
        _find_scenarios(options)
    with _kept_folder(options.out, new=not options.resume) as directory:
        return run_in_containers(
            options, command_line, directory, workers_wanted(options), memory=options.memory or DEFAULT_MEMORY
        )


def _tell_what_is_odd(options: BenchOptions, scenarios: Sequence[Scenario], broken: Mapping[str, str]) -> None:
    """Print what is left out, and what a reader of the results will wonder about."""
    for name, reason in broken.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if not options.scenario:
        for name, reason in helpers(options.scenarios or SCENARIOS).items():
            print(f"note: {name} is no recipe: {reason}", file=sys.stderr)
    tell_unknown_revision()
    if options.data and not any(DATA_FOLDER in keyword_names(scenario.make_data) for scenario in scenarios):
        print(f"note: --data: the make_data of no recipe takes {DATA_FOLDER}: that folder is not read", file=sys.stderr)
    for doubt in doubtful_workloads(scenarios):
        print(f"note: {doubt}", file=sys.stderr)


def _plan_of(
    options: BenchOptions, command_line: str
) -> tuple[Path, dict[str, Any], list[Scenario], list[Cell], dict[str, str]]:
    """Return run folder, plan, scenarios, cells and broken files of a new run, or of the run that is to go on."""
    directory = options.out
    earlier = read_plan(directory) if options.resume and directory else None
    typed_master = options.master
    if earlier:
        options.fill(earlier["options"])
    if options.seed is None:
        # The same order in every run would repeat what the order does, not average it.
        options.seed = earlier["seed"] if earlier else secrets.randbits(31)
    # First what is known at once: the recipes import their libraries, which takes seconds.
    # A run that goes on has the master that it began with, also where this machine would have another by default.
    master = check_master(options.master or (earlier["master"] if earlier else None))
    if earlier and typed_master and master != earlier["master"]:
        raise UsageError(f"--master {master}: the run that goes on is on {earlier['master']}: leave it out")
    check_cluster_options(options, master)
    request = make_request(options, master)
    scenarios, broken = _find_scenarios(options)
    if options.scenario:
        cells = plan_cells(scenarios, request)  # named by the user: all or none
    else:
        cells, scenarios, left_out = plan_what_can_be(scenarios, request)
        broken |= left_out
    if earlier and directory:
        check_same_plan(directory, earlier, scenarios, cells)
        return directory, earlier, scenarios, cells, broken
    # Inside a container: what was typed outside.
    typed = os.environ.get("FOLDOUT_COMMAND_LINE") or command_line
    plan = describe_plan(secrets.token_hex(4), typed, options.of_plan(), request, master, scenarios, cells)
    if outside := os.environ.get("FOLDOUT_OUTSIDE"):
        plan["outside"] = json.loads(outside)  # where paths are others than in here
    return new_run_folder(directory), plan, scenarios, cells, broken


def _executors_before(run: PlannedRun) -> dict[str, Any]:
    """Check that a cluster's executors fit the driver; return their versions and state."""
    if is_local(run.cluster.url):
        return {}
    slots = max((cell.session or 1 for cell in run.cells if not cell.skip), default=1)
    log = run.directory / "logs" / "preflight.log"
    try:
        sides = preflight.run_preflight(run.cluster, slots, run.java, log)
    except ClusterError as error:
        if str(log) not in str(error):
            log.unlink(missing_ok=True)  # nobody is told of it, and nothing else is in the folder
        raise
    return {"before": preflight.describe_nodes(sides)}


def _run_plan(run: PlannedRun, plan: dict[str, Any], minutes: float | None) -> int:
    executors = _executors_before(run)
    label = run.cluster.label or run.cluster.url
    facts = {**environment.describe_environment(label, run.java.facts), "executors": executors}
    check_same_machine(run.directory, facts)
    loop = Loop(run, lambda text: print(text, end="", flush=True), minutes)

    def write_facts(**more: Any) -> None:
        seen = {"drivers": loop.drivers} if loop.drivers else {}
        write_json(run.directory / "environment.json", {**facts, **seen, **more})

    try:
        write_json(run.directory / "plan.json", plan)
        write_facts()
        folder = shown_folder(run.directory)
        print(f"{len(run.cells)} cells, {plan['blocks']} blocks, Spark on {label}; run folder: {folder}")
        loop.execute()
        executors |= {"after": loop.executors} if loop.executors else {}
        write_facts(after=environment.machine_load())
        return write_results(run.directory)
    except InterruptError as stop:
        loop.give_up(f"interrupted by {stop}")
        write_facts()
        print(f"\nstopped by {stop}; what was measured is kept in {shown_folder(run.directory)}. Go on with:")
        print(f"  {resume_command(run.directory)}")
        return INTERRUPTED
    except BrokenPipeError:
        where = shown_folder(run.directory)
        print(f"nobody reads the output any more; what was measured is kept in {where}. Go on with:", file=sys.stderr)
        print(f"  {resume_command(run.directory)}", file=sys.stderr)
        raise


def shown_folder(directory: Path) -> Path:
    """A run folder as the user knows it: from inside a container it is brought out to another place."""
    return Path(as_outside(str(directory)))


def resume_command(directory: Path) -> str:
    """What the user types to go on with a run."""
    master = " --master compose" if os.environ.get("FOLDOUT_RUN_FOLDER") else ""
    return f"{environment.suite_command('bench')} --resume{master} --out {shlex.quote(str(shown_folder(directory)))}"


def write_results(directory: Path) -> int:
    """Write export, charts and report of a run, print its summary, and return its exit code."""
    from suite.report.page import write_report  # takes a second, and a usage error or a dead cluster needs no charts

    write_caveats(directory)
    export.write_export(directory)
    write_report(directory)
    print(summary(directory))
    print(f"report: {shown_folder(directory) / 'report.html'}")
    if read_run(directory).left_out:
        print(f"for the blocks that were left out: {resume_command(directory)}")
    statuses = {record.status for record in records.read(directory / "records.jsonl")}
    return int(bool(statuses & {"failed", "timeout", "invalid"}))


def _check_names(options: BenchOptions) -> Path:
    """Refuse recipes that are not there; the folder of those that are named without a path."""
    folder = options.scenarios or SCENARIOS
    if not folder.is_dir():
        raise UsageError(f"--scenarios {folder} is not a directory")
    for name in options.scenario:
        _scenario_file(name, folder)
    return folder


def _find_scenarios(options: BenchOptions) -> tuple[list[Scenario], dict[str, str]]:
    folder = _check_names(options)
    if not options.scenario:
        scenarios, broken = discover(folder)
        if not scenarios:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in (broken | helpers(folder)).items())
            raise UsageError(f"no usable scenario in {folder}{': ' if reasons else ''}{reasons}")
        return _not_on_request(scenarios, options.size), broken
    # A recipe that is named twice, once by its file, runs once.
    paths = list(dict.fromkeys(_scenario_file(name, folder).resolve() for name in options.scenario))
    scenarios, broken = load_scenarios(paths)
    if broken:
        # Asked for by name, so the rest is not what the user wants.
        raise UsageError("; ".join(f"{name} cannot be used: {reason}" for name, reason in broken.items()))
    return scenarios, {}


def _not_on_request(scenarios: list[Scenario], size: str | None) -> list[Scenario]:
    """Leave out what measures the machine and what nobody copies, so that ten minutes give more blocks of the rest."""
    kept = [scenario for scenario in scenarios if size == "smoke" or not scenario.on_request]
    return kept or scenarios


def _scenario_file(name: str, folder: Path) -> Path:
    if is_file_name(name):
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
    """Make a folder for a new run, by default one that no other run has, and make sure that it can be written to."""
    if directory and (directory / "screen").exists():
        raise UsageError(f"{directory} holds a comparison already: name another --out")
    if directory and (directory / "plan.json").exists():
        raise UsageError(f"{directory} holds a run already: go on with it by --resume, or name another --out")
    try:
        directory = directory or _free_run_folder()
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".lock"
        probe.touch()
    except OSError as error:
        raise UsageError(f"cannot write to {directory or RESULTS}: {error.strerror}") from error
    return directory


def _free_run_folder() -> Path:
    """Make the default run folder; another run may begin in the same second."""
    first = _default_run_folder()
    first.parent.mkdir(parents=True, exist_ok=True)
    for name in chain([first.name], (f"{first.name}-{number}" for number in count(2))):
        with contextlib.suppress(FileExistsError):
            first.with_name(name).mkdir()
            break
    return first.with_name(name)


@contextlib.contextmanager
def _kept_folder(folder: Path | None, *, new: bool) -> Iterator[Path]:
    """Hold the run folder of a run elsewhere from its begin; a new one that gets nothing is gone afterwards."""
    made = folder is None or not folder.exists()
    directory = new_run_folder(folder) if new or folder is None else folder
    try:
        with lock_run_folder(directory):
            yield directory
    finally:
        if made and [path.name for path in directory.iterdir()] == [".lock"]:
            shutil.rmtree(directory)


def _newest_run() -> Path:
    """The run that was begun last. Its name need not tell: users give names too."""
    found = sorted(RESULTS.glob("run-*/plan.json"))
    if not found:
        raise UsageError(f"there is no run to resume in {RESULTS}: name one by --out")
    return max(found, key=_begun).parent


def _begun(plan: Path) -> str:
    """When a run was begun; what is no plan says nothing."""
    try:
        return str(json.loads(plan.read_text(encoding="utf-8"))["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
