# SPDX-License-Identifier: Apache-2.0
"""The command line: reads what the user asks for, refuses what makes no sense, and calls the rest.

It may import every package, and does so only when a command needs it: `--help` and a usage error are instant.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import platform
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from suite.cluster.description import DEFAULT_MEMORY, as_outside, wants_encryption
from suite.errors import UsageError
from suite.machine.signals import BROKEN_PIPE, INTERRUPTED, InterruptError, raise_on_signals
from suite.plan.scenario import BENCH_SIZES, SCENARIOS, SIZE_NAMES, Scenario, discover, helpers
from suite.spark.shadow import REMEDY, foreign_pyspark, refuse_foreign_pyspark

WRONG_USAGE = 2

Commands = argparse._SubParsersAction  # of `ArgumentParser`s


def positive_ints(text: str) -> tuple[int, ...]:
    """Read comma-separated whole numbers of at least 1; repeats are dropped."""
    try:
        values = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,2,4") from None
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"{min(values)} is less than 1")
    return values


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    values = positive_ints(text)
    if len(values) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is more than one number")
    return values[0]


def positive_float(text: str) -> float:
    """Read a number above zero, of seconds or minutes."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < 1e7:
        raise argparse.ArgumentTypeError(f"{text} is not above zero and below ten million")
    return value


def named_path(text: str) -> Path:
    """Read the name of a file or folder; an empty one would be taken for the folder in which the command is typed."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty: is a variable not set?")
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m suite",
        description="Runs recipes of parallel machine learning on Spark, proves that their answers agree, and charts "
        "what each way of going parallel gains.",
        epilog="Exit codes: 0 all well, 1 a cell failed or is invalid, 2 wrong usage, 3 a regression, 4 inconclusive "
        "or not comparable, 130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"foldout {_version()}, Python {platform.python_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_list,
        _add_new,
        _add_doctor,
        _add_bench,
        _add_compare,
        _add_prove,
        _add_report,
        _add_variance,
        _add_cluster,
        _add_encryption,
    ):
        add(commands)
    return top


def _version() -> str:
    about = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return str(about["project"]["version"])


def _add_list(commands: Commands) -> None:
    listing = commands.add_parser("list", help="the recipes and their variants; with --json also their sizes")
    listing.add_argument("--json", action="store_true", help="for programs")
    _add_scenarios(listing)
    listing.set_defaults(run=_run_list)


def _add_new(commands: Commands) -> None:
    new = commands.add_parser(
        "new",
        help="write a recipe to start from, for your data and your model",
        description="Writes a recipe that runs as it is; what to change is marked. With --like, a copy of one of the "
        "project's recipes and of the files that it needs.",
        epilog="Example: `new my_search.py`, change FILE, LABEL, MODEL and GRID in it, then `bench ./my_search.py`.",
    )
    new.add_argument("file", type=named_path, metavar="FILE", help="such as my_search.py; it must not be there yet")
    new.add_argument("--like", metavar="RECIPE", help="a name from `list`")
    new.set_defaults(run=_run_new)


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="what this machine has, and what to do about what it lacks")
    doctor.add_argument("--master", metavar="M", help="also check that spark://HOST:PORT or compose can be reached")
    doctor.set_defaults(run=_run_doctor)


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="run recipes, check their answers, time them, draw charts",
        description="Runs the recipes over their factors, one factor at a time around a centre, in blocks of random "
        "order, each block in fresh processes. Everything that was planned is written down in a run folder.",
        epilog="Examples: `bench --size smoke` (minutes), `bench udf_inference --slots 1,2,4`, "
        "`bench my_recipes/mine.py`, `bench --resume` (go on with the newest run).",
    )
    bench.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO|FILE",
        help="names from `list`, or files; default: all of the folder but those that `list` marks",
    )
    _add_scenarios(bench)
    bench.add_argument("--size", choices=BENCH_SIZES, help="how much data and how many fits (default: ci)")
    bench.add_argument(
        "--master",
        metavar="M",
        help="local[N] (default: all cores), standalone (a cluster of local processes), compose (of containers), "
        "spark://HOST:PORT or another master",
    )
    bench.add_argument("--slots", type=positive_ints, metavar="N,N", help="cores that Spark may use, swept")
    bench.add_argument("--parallelism", type=positive_ints, metavar="N,N", help="fits in flight, swept")
    bench.add_argument("--folds", type=positive_ints, metavar="N,N", help="numbers of folds, swept")
    bench.add_argument(
        "--factor",
        action="append",
        metavar="NAME=V,V",
        default=[],
        help="values of another factor of recipes, swept, such as dataset=digits; may be repeated",
    )
    bench.add_argument(
        "--conf", action="append", metavar="KEY=VALUE", default=[], help="a setting of Spark; may be repeated"
    )
    bench.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="workers of one core each, for standalone and compose (default: one for each core, at least 2; with "
        "compose as many of them as fit)",
    )
    bench.add_argument(
        "--memory",
        metavar="SIZE",
        help="of each worker's executor, for standalone and compose (default: 1g)",
    )
    bench.add_argument(
        "--data",
        type=named_path,
        metavar="DIR",
        help="a folder of yours: `make_data` gets it as `data_folder`, on containers as /data, read-only",
    )
    bench.add_argument(
        "--image", metavar="NAME", help="for compose: an image of yours, FROM foldout:local, with more packages"
    )
    bench.add_argument(
        "--blocks",
        type=positive_int,
        metavar="N",
        help="repeats of everything; six give intervals (default: 6; smoke: 1)",
    )
    bench.add_argument(
        "--minutes",
        type=positive_float,
        metavar="N",
        help="leave out blocks that would end later (default for size ci without --blocks: 9.5; else none)",
    )
    bench.add_argument("--seed", type=int, metavar="N", help="of the random order (default: a new one)")
    bench.add_argument(
        "--warm-up",
        type=positive_int,
        metavar="N",
        help="untimed passes over all cells of a process, before the timed ones (default: 1)",
    )
    bench.add_argument(
        "--timeout",
        type=positive_float,
        metavar="SECONDS",
        help="for the calls of a cell in a pass; as long for its data and for the start of a session (default: "
        "smoke 120, ci 300, full 3600)",
    )
    bench.add_argument(
        "--resume",
        action="store_true",
        help="go on with the newest run, or with the folder that is named: what has no good record runs again",
    )
    bench.add_argument("--out", type=named_path, metavar="DIR", help="run folder (default: results/run-DATE)")
    bench.set_defaults(run=_run_bench)


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser(
        "compare",
        help="whether one revision, set of packages or Spark setting is slower than another",
        description="Runs base and head side by side on this machine, block by block in random order, and says whether "
        "head is slower: a verdict, a table, and an exit code for CI. The project's own recipes take some twelve "
        "minutes on two cores, longer where something is measured again.",
        epilog="Examples: `compare main .` (these files against a branch), `compare . . --base-lock old.txt "
        "--head-lock new.txt` (two sets of packages), `compare . . --head-conf spark.sql.shuffle.partitions=8`, "
        "`compare main . --scenarios ./mine`. Exit codes: 0 pass, 3 regression, 4 inconclusive.",
    )
    compare.add_argument("base", metavar="BASE", help="a git revision, or . for the files as they are")
    compare.add_argument("head", metavar="HEAD", help="the same")
    compare.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="names from `list`; default: all of the folder. Of each, the "
        "variants are timed that its GATED names, or all parallel ones",
    )
    _add_scenarios(compare)
    for name in ("base", "head"):
        compare.add_argument(
            f"--{name}-lock",
            type=named_path,
            metavar="FILE",
            help=f"packages of {name}, as pip installs them (default: the revision's requirements/run.txt, if any)",
        )
        compare.add_argument(
            f"--{name}-conf",
            action="append",
            metavar="KEY=VALUE",
            default=[],
            help=f"a setting of Spark for {name}; may be repeated",
        )
    compare.add_argument("--size", choices=SIZE_NAMES, help="(default: gate, else ci)")
    compare.add_argument("--master", metavar="M", help="as for bench, but not compose")
    compare.add_argument("--slots", type=positive_ints, metavar="N", help="cores that Spark may use")
    compare.add_argument(
        "--data",
        type=named_path,
        metavar="DIR",
        help="a folder of yours: `make_data` of both sides gets it as `data_folder`",
    )
    compare.add_argument(
        "--timeout",
        type=positive_float,
        metavar="SECONDS",
        help="without news from a process: for data and warm-up call together, and for a timed call (default: 300)",
    )
    compare.add_argument("--out", type=named_path, metavar="DIR", help="(default: results/run-DATE)")
    compare.set_defaults(run=_run_compare)


def _add_prove(commands: Commands) -> None:
    prove = commands.add_parser(
        "prove",
        help="how often the gate of `compare` errs on this machine",
        description="Measures blocks of base against itself and against slower recipes, draws decisions from them, and "
        "runs whole comparisons in which a gate is easily wrong. All of it takes some four hours on two cores, and "
        "goes on where it was stopped, at the same commit.",
        epilog="Exit codes: 0 it comes out as promised, 1 it does not.",
    )
    prove.add_argument(
        "part", nargs="?", choices=("measure", "decide", "verdicts"), help="only this (default: one after the other)"
    )
    prove.add_argument("case", nargs="*", metavar="CASE", help="of `verdicts` (default: all)")
    prove.add_argument("--anew", action="store_true", help="forget what was measured before")
    prove.add_argument("--blocks", type=positive_int, metavar="N", default=40, help="base against itself (default: 40)")
    prove.add_argument("--slowed", type=positive_int, metavar="N", default=10, help="slower recipes (default: 10)")
    prove.add_argument(
        "--times", type=positive_int, metavar="N", default=2, help="each case of `verdicts` (default: 2)"
    )
    prove.add_argument("--decisions", type=positive_int, metavar="N", default=10_000, help="drawn (default: 10,000)")
    prove.add_argument(
        "--resamples", type=positive_int, metavar="N", default=200, help="sets of blocks, for intervals (default: 200)"
    )
    prove.add_argument("--out", type=named_path, metavar="DIR", help="(default: results/gate)")
    prove.set_defaults(run=_run_prove)


def _add_report(commands: Commands) -> None:
    report = commands.add_parser("report", help="draw the charts and tables of a run folder again")
    report.add_argument("directory", type=named_path, metavar="DIR", help="a run folder")
    report.add_argument(
        "--against",
        metavar="VARIANT",
        help="instead, print how long each variant takes against this one, in Markdown, and draw charts/against.svg",
    )
    report.set_defaults(run=_run_report)


def _add_variance(commands: Commands) -> None:
    variance = commands.add_parser(
        "variance",
        help="what the times of a run depend on: size, variant, place in the process, block",
        description="Prints an analysis of variance of the timed calls on Spark of a run folder. The size of the work "
        "and the variant should explain most, the place of a call in its process nearly nothing. Then, whether fewer "
        "timed calls in more blocks, or more in fewer, would have given narrower intervals in the same time.",
    )
    variance.add_argument("directory", type=named_path, metavar="DIR", help="a run folder")
    variance.set_defaults(run=_run_variance)


def _add_cluster(commands: Commands) -> None:
    cluster = commands.add_parser("cluster", help="a Spark cluster of containers that stays until it is taken down")
    cluster.add_argument("action", choices=("up", "status", "down"))
    cluster.add_argument("--workers", type=positive_int, metavar="N", default=2, help="(default: 2)")
    cluster.add_argument("--cores", type=positive_int, metavar="N", default=1, help="of each worker (default: 1)")
    cluster.add_argument(
        "--memory", metavar="SIZE", default=DEFAULT_MEMORY, help="of each worker's executor (default: 1g)"
    )
    cluster.add_argument("--data", type=named_path, metavar="DIR", help="a folder of yours, for benches with --data")
    cluster.add_argument("--image", metavar="NAME", default="", help="an image of yours, FROM foldout:local")
    cluster.add_argument("--encrypt", action="store_true", help="encrypt what its processes say to one another")
    cluster.add_argument("--pages", action="store_true", help="web pages and history server, on 127.0.0.1")
    cluster.set_defaults(run=_run_cluster)


def _add_encryption(commands: Commands) -> None:
    encryption = commands.add_parser("encryption", help="what encryption costs a cluster of local processes")
    encryption.add_argument(
        "--blocks", type=positive_int, metavar="N", default=6, help="of two minutes each (default: 6)"
    )
    encryption.add_argument("--out", type=named_path, metavar="DIR", help="(default: results/encryption)")
    encryption.set_defaults(run=_run_encryption)


def _add_scenarios(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--scenarios",
        type=named_path,
        metavar="DIR",
        help="a folder of recipes in place of the project's own",
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; names of recipes may stand anywhere, also behind options, where argparse gives up."""
    top = parser()
    options, left = top.parse_known_args(arguments)
    wrong = [word for word in left if word.startswith("-") or not hasattr(options, "scenario")]
    if wrong:
        top.error(f"unrecognized arguments: {' '.join(wrong)}")
    if left:
        options.scenario = [*options.scenario, *left]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 has no word for ×
    try:
        with raise_on_signals():
            try:
                _refuse_other_encodings(arguments)
                options = parse(arguments)
                code: int = options.run(options, f"python -m suite {shlex.join(arguments)}")
            finally:
                sys.stdout.flush()  # also after --help, for which the parser ends the program
            return code
    except UsageError as error:
        print(f"error: {as_outside(str(error))}", file=sys.stderr)
        return WRONG_USAGE
    except InterruptError as stop:
        print(f"stopped by {stop}", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "suite":
            raise
        shadow = foreign_pyspark()
        lacks = (
            f"this Python ({sys.executable}) has no {error.name}: run it through tox, which installs what the suite "
        )
        tox = f"needs: python -m tox -e suite -- {shlex.join(arguments)}"
        print(f"error: {shadow}: {REMEDY}" if shadow else f"error: {lacks}{tox}", file=sys.stderr)
        return WRONG_USAGE
    except BrokenPipeError:
        _drop_output()  # who reads it has ended, as `head` does
        return BROKEN_PIPE
    except OSError as error:
        _drop_output()
        print(f"error: {as_outside(_plain(error))}", file=sys.stderr)
        return WRONG_USAGE


def _refuse_other_encodings(words: Sequence[str]) -> None:
    """Refuse files whose names are no UTF-8: Java cannot open them, and no plan or record can name them."""
    for path in (str(SCENARIOS), *map(os.path.realpath, words)):
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{path!r} is not UTF-8: rename it") from None


def _drop_output() -> None:
    """Forget what cannot be written: Python would try once more at its end, and complain in its own words."""
    with contextlib.suppress(io.UnsupportedOperation):  # a stream that is no file, as under pytest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(error: OSError) -> str:
    """What the system refused, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" that has {error.filename}" if error.filename else ""
        return f"the disk{where} is full: free some space, then go on with --resume"
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what


# --- commands: each imports what it needs


def _run_bench(options: argparse.Namespace, command_line: str) -> int:
    refuse_foreign_pyspark()  # before it is imported
    from suite.run.command import bench
    from suite.run.options import BenchOptions

    return bench(BenchOptions.from_parsed(vars(options)), command_line)


def _run_compare(options: argparse.Namespace, command_line: str) -> int:
    refuse_foreign_pyspark()
    from suite.gate.command import compare

    return compare(options, command_line)


def _run_prove(options: argparse.Namespace, _: str) -> int:
    from suite.gate.prove import prove

    return prove(options)


def _run_new(options: argparse.Namespace, _: str) -> int:
    from suite.run.new_recipe import new_recipe

    return new_recipe(options.file, options.like)


def _run_doctor(options: argparse.Namespace, _: str) -> int:
    from suite.doctor import doctor
    from suite.run.request import check_master

    if options.master != "compose":
        check_master(options.master)
    return doctor(options.master)


def _run_encryption(options: argparse.Namespace, _: str) -> int:
    from suite.run.encryption_cost import measure_encryption

    return measure_encryption(options.blocks, options.out)


def _run_cluster(options: argparse.Namespace, _: str) -> int:
    from suite.cluster import compose
    from suite.run.request import check_data, note_on_links

    if options.action == "up":
        if options.data:
            check_data(options.data)
            if note := note_on_links(options.data):
                print(f"note: {note}", file=sys.stderr)
        return compose.cluster_up(
            compose.ClusterSpec(
                compose.KEPT,
                options.workers,
                options.cores,
                options.memory,
                encrypt=options.encrypt or wants_encryption(),
                pages=options.pages,
                data=str(options.data.resolve()) if options.data else "",
                image_name=options.image,
            )
        )
    return compose.cluster_status() if options.action == "status" else compose.cluster_down()


def _run_list(options: argparse.Namespace, _: str) -> int:
    folder = options.scenarios or SCENARIOS
    if not folder.is_dir():
        raise UsageError(f"--scenarios {folder} is not a directory")
    if find_spec("pyspark") is None:
        raise ModuleNotFoundError(name="pyspark")  # no recipe could be read
    scenarios, broken = discover(folder)
    if options.json:
        shown = [_scenario_json(scenario) for scenario in scenarios]
        print(json.dumps({"scenarios": shown, "broken": broken}, indent=1))
        return 0
    for scenario in scenarios:
        when = " (where it is named)" if scenario.on_request else ""
        print(f"{scenario.name}{when}\n    {scenario.title}")
        for variant in scenario.variants:
            print(f"      {variant.name:<24} {variant.label}")
    for name, reason in broken.items():
        print(f"{name}\n    cannot be used: {reason}")
    for name, reason in helpers(folder).items():
        print(f"{name}\n    no recipe: {reason}")
    return 0


def _scenario_json(scenario: Scenario) -> dict[str, Any]:
    variants = [
        {"name": variant.name, "label": variant.label, "takes": sorted(variant.takes)} for variant in scenario.variants
    ]
    return {
        "name": scenario.name,
        "title": scenario.title,
        "workload": scenario.workload,
        "parallelism": scenario.parallelism,
        "path": str(scenario.path),
        "sizes": scenario.sizes,
        "variants": variants,
    }


def _run_folder(options: argparse.Namespace) -> Path:
    directory: Path = options.directory
    if not (directory / "plan.json").is_file():
        raise UsageError(f"{directory} is not a run folder: it has no plan.json")
    return directory


def _run_variance(options: argparse.Namespace, _: str) -> int:
    directory = _run_folder(options)
    from suite.report.points import read_run
    from suite.report.precision import precision_table
    from suite.report.variance import variance_table

    run = read_run(directory)
    print(variance_table(run))
    if table := precision_table(run):
        print(f"\n{table}")
    return 0


def _run_report(options: argparse.Namespace, _: str) -> int:
    directory, against = _run_folder(options), options.against
    if against is not None:
        from suite.report.against import report_against

        print(report_against(directory, against))
        return 0
    from suite.report.page import write_report
    from suite.report.terminal import summary

    write_report(directory)
    print(summary(directory))
    print(f"report: {directory / 'report.html'}")
    return 0
