# SPDX-License-Identifier: Apache-2.0
"""Finds recipes and reads what each file offers: variants, factors, sizes, checks.

The package makes plans: it reads recipes, and turns them and a request into cells and bounds. It never runs a recipe.
It may import `spark`, `machine` and the ground modules.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import inspect
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures.thread import _threads_queues
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import IO, Any, cast

from suite.machine.signals import InterruptError
from suite.plan.bounds import SCHEDULES

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
MARKER = "# --- benchmark: delete from here on when copying"
# Of `from a.b import c` the name `a`, of `import a, b.c as d` all that follows.
IMPORTS = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+(\w.*))", re.MULTILINE)
NO_MARKER = f"it has no line that begins with {MARKER!r}"
PARALLEL = ("slots", "parallelism")  # the factors that say how a job is spread, not what it is
NO_SHAPE = (*PARALLEL, "calls")  # what a size may hold besides factors that shape the data
BENCH_SIZES = ("smoke", "ci", "full")
SIZE_NAMES = (*BENCH_SIZES, "gate")


class ScenarioError(Exception):
    """A file cannot serve as a scenario; the text says why in one line."""


DATA_FOLDER = "data_folder"  # the argument of `make_data` that gets what the user gives by --data


@dataclass(frozen=True)
class Variant:
    """One way to do the job.

    Attributes
    ----------
    name : str
        The function's name without `run_`.
    label : str
        First line of its docstring, the name in charts.
    function : callable
    takes : frozenset of str
        The factors that its signature asks for; `spark` and `data` among them where it has them.
    on_spark : bool
        Whether it needs a session: it takes `spark`, or `make_data` cannot do without.
    missing : str or None
        The package that it needs and that is not installed here.
    """

    name: str
    label: str
    function: Callable[..., Any]
    takes: frozenset[str]
    on_spark: bool
    missing: str | None = None


@dataclass(frozen=True)
class Scenario:
    """A loaded scenario file.

    `keeps_workers` tells whether it has a `release`: what it starts outlives a call, until then. `local_files` tells
    whether its executors have to see files that the driver writes, `needs_data` whether `make_data` cannot do without
    a folder of the user's, `on_request` whether it only runs where it is named, but for smoke tests, `waits` whether
    its jobs wait instead of computing.
    """

    name: str
    path: Path
    sha256: str
    title: str
    about: str
    workload: str
    parallelism: str
    refit: bool
    schedule: Mapping[str, str]
    sizes: Mapping[str, Mapping[str, Any]]
    variants: tuple[Variant, ...]
    make_data: Callable[..., Any]
    check: Callable[[Any, Any], None]
    prepare: Callable[..., Any] | None = None
    validate: Callable[..., None] | None = None
    release: Callable[[], object] = lambda: None
    keeps_workers: bool = False
    unequal: bool = False
    gated: tuple[str, ...] | None = None
    crossed: tuple[str, ...] = ()
    local_files: bool = False
    needs_data: bool = False
    on_request: bool = False
    waits: bool = False
    module: ModuleType | None = field(default=None, repr=False, compare=False)


def keyword_names(function: Callable[..., Any]) -> frozenset[str]:
    """Return the parameters that a function takes by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(
        name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in kinds
    )


def matching_kwargs(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `values` that a function takes."""
    return {name: value for name, value in values.items() if name in keyword_names(function)}


def load_scenario(path: Path) -> Scenario:
    """Import a scenario file under its own name, as a copy of it would be, and read its contract.

    Parameters
    ----------
    path : Path
        A Python file. Its folder stays on `sys.path`, so that it may import its sibling and workers can unpickle
        its classes by name.

    Raises
    ------
    ScenarioError
        Where it does not import or breaks the contract.
    """
    path = path.resolve()
    module = _import(path)
    try:
        return _read(module, path)
    except (ScenarioError, InterruptError):
        raise
    except Exception as error:  # a file may hold anything
        raise ScenarioError(f"it cannot be read: {one_line(error)}") from error


def _import(path: Path) -> ModuleType:
    name = path.stem
    if not name.isidentifier():
        raise ScenarioError(f"the file's name {path.name!r} is not a Python name: rename it")
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == path:
        return loaded
    if str(path.parent) in sys.path:
        sys.path.remove(str(path.parent))
    # First, a name that something else already answers to: workers would import that instead.
    # Of what is loaded a copy is no better: two recipes of one name would have the same cells.
    if (other := _namesake(name, path)) and (loaded is not None or not _is_copy(other, path)):
        raise ScenarioError(f"{name!r} is also the name of {other}: rename one of the two")
    for name_beside, file in _imported_beside(path).items():
        if (other := _namesake(name_beside, file)) and not _is_copy(other, file):
            raise ScenarioError(f"it imports {name_beside!r}, also the name of {other}: rename the one beside it")
    sys.path.insert(0, str(path.parent))
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScenarioError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _run_file(partial(spec.loader.exec_module, module), path.name)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, (KeyboardInterrupt, InterruptError, ScenarioError)):
            raise
        raise ScenarioError(f"it does not import: {one_line(error)}") from error
    return module


def _namesake(name: str, path: Path) -> Path | None:
    """What else already answers to the name of a file; None where nothing does."""
    loaded = sys.modules.get(name)
    found = importlib.util.find_spec(name) if loaded is None else loaded.__spec__
    # A folder of that name does not, where it is no package: a file comes first.
    if found is None or found.origin is None or Path(found.origin).resolve() == path.resolve():
        return None
    return Path(found.origin)


def _is_copy(one: Path, other: Path) -> bool:
    """Whether it is all the same which of two files is imported. Into packages nobody looks."""
    return one.name != "__init__.py" and one.is_file() and _text_of(one) == _text_of(other)


def files_of(path: Path) -> list[Path]:
    """Return a recipe's file, and the files beside it that it imports; of a package all."""
    found = [path]
    for file in _imported_beside(path).values():
        found += sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return found


def _imported_beside(path: Path) -> dict[str, Path]:
    """The files and packages beside a file that it imports, also within functions, and those that they import."""
    found: dict[str, Path] = {}
    left = [path]
    while left:
        for whole, several in IMPORTS.findall(_text_of(left.pop())):
            for name in [whole] if whole else re.findall(r"(?:^|,)\s*(\w+)", several):
                files = (path.parent / name / "__init__.py", path.with_name(f"{name}.py"))
                file = next(filter(Path.is_file, files), path)
                if file not in (path, *found.values()):
                    found[name] = file
                    left.append(file)
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # why it cannot be read is said when it is imported
        return ""


def _run_file(run: Callable[[], object], file: str) -> None:
    """Run a file, and see to it that nothing goes on when it is imported.

    Raises
    ------
    ScenarioError
        It starts a session, which nobody would time or end, or a thread that Python would wait for at its end.
    """
    # Only now: the command line has to answer at once, and recipes import it anyway.
    from suite.spark.session import JvmRefusedError, without_jvm

    before = set(threading.enumerate())
    try:
        with without_jvm(), _programs_write_to_stderr(), contextlib.redirect_stdout(cast(IO[str], _Printed(file))):
            run()
    except JvmRefusedError as error:
        raise ScenarioError(
            "it starts a Spark session when it is imported: make_data and the variants get one as `spark`"
        ) from error
    for thread in threading.enumerate():
        # Those of an executor end by themselves.
        if thread not in before and not thread.daemon and thread not in _threads_queues:
            raise ScenarioError(f"it starts a thread when it is imported ({thread.name}): start it in a variant")


@contextlib.contextmanager
def _programs_write_to_stderr() -> Iterator[None]:
    """Take away stdout also from what writes below Python, such as a program that the file starts."""
    try:
        kept = os.dup(1)
    except OSError:  # it is closed
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _Printed:
    """Takes what a file prints while it is imported: stdout may be for a program, so it goes to stderr, as a note.

    Parameters
    ----------
    file : str
        Its name.
    """

    def __init__(self, file: str):
        self._note = f"note: {file} prints when it is imported: "

    def write(self, text: str) -> int:
        """Write it, the first time with a word on where it comes from."""
        note, self._note = self._note, ""
        return sys.stderr.write(note + text)

    def __getattr__(self, name: str) -> Any:
        """Be like stderr in all else."""
        return getattr(sys.stderr, name)


def one_line(error: BaseException) -> str:
    """Write an exception as one line of at most 300 characters: its type and the first line of its text."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    name = type(error).__name__
    return f"{name}: {text}"[:300] if text else name


CALLABLES = (type(lambda: None), type(len))


def _read(module: ModuleType, path: Path) -> Scenario:
    """Read the contract of an imported file."""
    text = path.read_bytes()
    if MARKER.encode() not in text:
        raise ScenarioError(NO_MARKER)
    about = inspect.cleandoc(module.__doc__ or "")
    if not about:
        raise ScenarioError("it has no docstring that says what it is for")
    make_data = _want(module, "make_data", CALLABLES, "function make_data(*, ...)")
    sizes = _sizes(module)
    variants = _variants(module, make_data)
    _check_arguments(module, sizes)
    return Scenario(
        name=path.stem,
        path=path,
        sha256=hashlib.sha256(text).hexdigest(),
        title=about.splitlines()[0].rstrip("."),
        about=about,
        workload=str(getattr(module, "WORKLOAD", path.stem)),
        parallelism=_parallelism(module),
        refit=bool(getattr(module, "REFIT", False)),
        unequal=bool(getattr(module, "UNEQUAL_FITS", False)),
        gated=_gated(module, {variant.name for variant in variants}),
        crossed=_crossed(module, sizes),
        schedule=_schedule(module, {variant.name for variant in variants}, sizes),
        sizes=sizes,
        variants=variants,
        make_data=make_data,
        check=_want(module, "check", CALLABLES, "function check(reference, answer)"),
        prepare=_optional(module, "prepare"),
        validate=_optional(module, "validate"),
        release=_optional(module, "release") or (lambda: None),
        keeps_workers=_optional(module, "release") is not None,
        local_files=bool(getattr(module, "LOCAL_FILES", False)),
        needs_data=_is_required(make_data, DATA_FOLDER),
        on_request=bool(getattr(module, "ON_REQUEST", False)),
        waits=bool(getattr(module, "WAITS", False)),
        module=module,
    )


def _want(module: ModuleType, name: str, kind: type | tuple[type, ...], what: str) -> Any:
    value = getattr(module, name, None)
    if not isinstance(value, kind):
        raise ScenarioError(f"it has no {what}")
    return value


def _optional(module: ModuleType, name: str) -> Callable[..., Any] | None:
    """A function that a file may leave out; None in its place says that it does."""
    value: Callable[..., Any] | None = getattr(module, name, None)
    if value is not None and not isinstance(value, CALLABLES):
        raise ScenarioError(f"{name} is {value!r}: it is a function, or is left out")
    return value


# Factors that count something. Of timed calls there is one number only.
COUNTS = ("folds", "candidates", "slots", "parallelism", "calls")


def _is_count(name: str, value: Any) -> bool:
    values = value if isinstance(value, (tuple, list)) and name != "calls" else (value,)
    return all(isinstance(each, int) and not isinstance(each, bool) and each >= 1 for each in values)


def _is_value(value: object) -> bool:
    # Records are JSON, which has no infinity.
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _sizes(module: ModuleType) -> dict[str, dict[str, Any]]:
    sizes: dict[str, dict[str, Any]] = _want(
        module, "SIZES", dict, "SIZES: {'smoke': {...}, 'ci': {...}, 'full': {...}}"
    )
    if bad := [name for name in sizes if name not in SIZE_NAMES or not isinstance(sizes[name], dict)]:
        raise ScenarioError(f"SIZES has {bad[0]!r}: it takes a dictionary for each of {', '.join(SIZE_NAMES)}")
    for size, spec in sizes.items():
        for name, value in spec.items():
            values = value if isinstance(value, (tuple, list)) else (value,)
            if not values:
                raise ScenarioError(f"SIZES has nothing to sweep at {size}.{name}")
            if not str(name).isidentifier() or not all(map(_is_value, values)):
                shown = " ".join(repr(value).split())[:100]  # that of an array has many lines
                raise ScenarioError(
                    f"SIZES[{size!r}] has {name!r}: {shown}: a factor is a name, its value a text, a number "
                    "that is finite, or a tuple of them"
                )
            if name in COUNTS and not _is_count(name, value):
                number = "a whole number of at least 1"
                raise ScenarioError(
                    f"SIZES[{size!r}] has {name!r}: {value!r}: it is {number}"
                    + ("" if name == "calls" else ", or a tuple of them")
                )
    return sizes


# What functions of a recipe get besides the factors in SIZES.
GIVEN = frozenset(("data", "spark", "slots", "parallelism", DATA_FOLDER))


def _check_arguments(module: ModuleType, sizes: Mapping[str, Mapping[str, Any]]) -> None:
    """Find a function that wants what SIZES does not have, before it is called."""
    for name, function in _functions(module).items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                raise ScenarioError(
                    f"{name} takes **{parameter.name}: name each factor, since a function gets what its signature names"
                )
        for size, spec in sizes.items():
            wanted = [each for each in inspect.signature(function).parameters if _is_required(function, each)]
            first = 1 if name == "prepare" else 0  # the data
            if lacking := [each for each in wanted[first:] if each not in GIVEN | set(spec)]:
                raise ScenarioError(
                    f"{name} wants {lacking[0]!r}, which SIZES[{size!r}] does not have: "
                    "add it there, or give it a default"
                )


def factors_of(module: ModuleType) -> set[str]:
    """Return the factors that the functions of a file take."""
    functions = _functions(module)
    # A file that takes the data of another has the factors of that one too, or no base case would be asked the same.
    origin = sys.modules.get(functions["make_data"].__module__, module)
    return set[str]().union(*map(keyword_names, (*functions.values(), *_functions(origin).values()))) - GIVEN


def _functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions of a file that get factors."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, CALLABLES) and (name in ("make_data", "prepare", "validate") or _is_variant(name, value))
    }


def _parallelism(module: ModuleType) -> str:
    parallelism = getattr(module, "PARALLELISM", "threads")
    if parallelism not in ("slots", "threads"):
        raise ScenarioError(f"PARALLELISM is {parallelism!r}: it is 'slots' or 'threads'")
    return str(parallelism)


def _is_required(function: Callable[..., Any], name: str) -> bool:
    parameter = inspect.signature(function).parameters.get(name)
    if parameter is None or parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return False
    return parameter.default is inspect.Parameter.empty


def _variants(module: ModuleType, make_data: Callable[..., Any]) -> tuple[Variant, ...]:
    needs_spark = _is_required(make_data, "spark")
    requires = _requires(module)
    found = tuple(
        _variant(name, function, needs_spark, requires.get(name.removeprefix("run_")))
        for name, function in vars(module).items()
        if _is_variant(name, function)
    )
    if not found:
        raise ScenarioError("it has no function run_<variant>(data, *, ...)")
    if odd := requires.keys() - {variant.name for variant in found}:
        raise ScenarioError(f"REQUIRES has {min(odd)!r}, which is not a variant")
    return found


def _requires(module: ModuleType) -> dict[str, str]:
    requires: dict[str, str] = getattr(module, "REQUIRES", {})
    sound = isinstance(requires, dict) and all(
        isinstance(package, str) and package.replace(".", "_").isidentifier() for package in requires.values()
    )
    if not sound:
        raise ScenarioError(f"REQUIRES is {requires!r}: it maps a variant to the name of a package")
    return requires


def _is_installed(package: str) -> bool:
    """Whether a package can be imported here; of a dotted name, the packages around it are imported to find out."""
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:  # of a package around it
        return False


def _names(module: ModuleType, what: str, of: str) -> tuple[str, ...] | None:
    """A tuple of names that a file may declare."""
    value = getattr(module, what, None)
    if value is None:
        return None
    if not isinstance(value, (tuple, list, set, frozenset)) or not all(isinstance(name, str) for name in value):
        raise ScenarioError(f"{what} is {value!r}: it is a tuple of names of {of}")
    return tuple(value)


def _gated(module: ModuleType, variants: Set[str]) -> tuple[str, ...] | None:
    gated = _names(module, "GATED", "variants")
    if gated is not None and (odd := [name for name in gated if name not in variants]):
        raise ScenarioError(f"GATED has {odd[0]!r}, which is not a variant: there are {', '.join(sorted(variants))}")
    return gated


def _crossed(module: ModuleType, sizes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    crossed = _names(module, "CROSSED", "factors") or ()
    if odd := [name for name in crossed for spec in sizes.values() if name not in spec]:
        raise ScenarioError(f"CROSSED has {odd[0]!r}, which is not a factor of each of SIZES")
    if own := [name for name in crossed if name in NO_SHAPE]:
        raise ScenarioError(f"CROSSED has {own[0]!r}, which shapes no data: it is swept by itself, at the centre")
    return crossed


def _schedule(module: ModuleType, variants: Set[str], sizes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    schedule: dict[str, str] = getattr(module, "SCHEDULE", {})
    if not isinstance(schedule, dict):
        raise ScenarioError(f"SCHEDULE is {schedule!r}: it maps a variant to one of {SCHEDULES}")
    for name, kind in schedule.items():
        if name not in variants or kind not in SCHEDULES:
            raise ScenarioError(f"SCHEDULE has {name!r}: {kind!r}: it maps a variant to one of {SCHEDULES}")
    if schedule and any("candidates" not in spec for spec in sizes.values()):
        raise ScenarioError("it has SCHEDULE but no 'candidates' in each of SIZES, which the bound needs")
    return schedule


def _is_variant(name: str, value: object) -> bool:
    """Whether a name of a file is that of a variant; one that is called like it and is none would be missed."""
    if not name.startswith("run_"):
        return False
    if isinstance(value, FunctionType):
        return True
    if callable(value) and not inspect.isclass(value):
        kind = type(value)
        raise ScenarioError(
            f"{name} is a {kind.__module__}.{kind.__qualname__}: a variant is a function, made by `def`"
        )
    return False


def _variant(name: str, function: Callable[..., Any], needs_spark: bool, package: str | None) -> Variant:
    parameters = keyword_names(function)
    if "data" not in parameters:
        raise ScenarioError(f"{name} does not take `data`")
    first = inspect.cleandoc(function.__doc__ or "").split("\n")[0].rstrip(".")
    return Variant(
        name=name.removeprefix("run_"),
        label=first or name.removeprefix("run_").replace("_", " "),
        function=function,
        takes=parameters,
        on_spark=needs_spark or "spark" in parameters,
        missing=package if package is not None and not _is_installed(package) else None,
    )


def files_for_workers(scenarios: Iterable[Scenario]) -> list[Path]:
    """Return what workers have to import: the files of loaded scenarios, and what these have imported beside them.

    Of an imported package that lies beside a file, the package's folder is returned.
    """
    files = {scenario.path: None for scenario in scenarios}
    folders = {path.parent for path in files}
    siblings: set[Path] = set()
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "")
        if path.parent in folders:
            siblings.add(path)
        package = name.partition(".")[0]
        siblings |= {folder / package for folder in folders if path.is_relative_to(folder / package)}
    return list(files | dict.fromkeys(sorted(siblings)))


def discover(folder: Path) -> tuple[list[Scenario], dict[str, str]]:
    """Load every scenario file of a folder: every Python file but its `helpers`, and those that begin with `_` or `.`.

    Returns
    -------
    scenarios : list of Scenario
        By name.
    broken : dict of str to str
        File name to the reason why the file is not a scenario; a broken file does not stop the others.
    """
    return load_scenarios(path for path in _python_files(folder) if _has_marker(path))


def helpers(folder: Path) -> dict[str, str]:
    """Say why Python files of a folder are no recipes but what recipes may import: file name to reason."""
    return {path.name: NO_MARKER for path in _python_files(folder) if not _has_marker(path)}


def _python_files(folder: Path) -> list[Path]:
    # Editors and macOS keep hidden files of their own there.
    return [path for path in sorted(folder.glob("*.py")) if not path.name.startswith(("_", "."))]


def _has_marker(path: Path) -> bool:
    try:
        return MARKER.encode() in path.read_bytes()
    except OSError:
        return True  # why it cannot be read is said when it is loaded


def load_scenarios(paths: Iterable[Path]) -> tuple[list[Scenario], dict[str, str]]:
    """Load the files; see `discover`."""
    scenarios, broken = [], {}
    for path in paths:
        try:
            with contextlib.chdir("."):  # a file that goes to another folder goes there alone
                scenarios.append(load_scenario(path))
        except ScenarioError as error:
            broken[path.name] = str(error)
    return scenarios, broken
