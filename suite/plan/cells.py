# SPDX-License-Identifier: Apache-2.0
"""Turns scenarios and a request into an ordered list of cells, without clock, files or Spark."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from suite.errors import UsageError
from suite.machine.signals import InterruptError
from suite.plan.bounds import speedup_bound
from suite.plan.scenario import (
    NO_SHAPE,
    PARALLEL,
    Scenario,
    ScenarioError,
    Variant,
    factors_of,
    matching_kwargs,
    one_line,
)


def factor_words(values: Mapping[str, Any]) -> str:
    """Write factors in a few words, without those that a variant does not have."""
    return " ".join(f"{name}={value}" for name, value in values.items() if value is not None)


Factors = dict[str, Any]

# The kinds of values that a factor may have; of each value the first that fits.
KINDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text"}
# Timed calls of a recipe in a process, for `compare` and where its size does not say: an even number, so that each
# side goes first as often.
GATE_CALLS = 2
# Timed calls in a process for `bench`, each of another pass over the cells: two, there and back, give each cell the
# same mean place. A smoke run tells only whether everything works.
BENCH_CALLS = 2
SMOKE_CALLS = 1


@dataclass(frozen=True)
class Cell:
    """One measurement to make.

    Attributes
    ----------
    id : str
        Hash of scenario, variant, factors and block: the same cell has the same id in every run of the same plan.
    factors : dict
        `slots` and `parallelism` (None where the variant has none) and everything that shapes the data.
    base : bool
        Whether speedups of its workload are taken over this variant.
    block, order : int
        The pass over the cells, and the place in the whole run.
    session : int or None
        Slots of the Spark session it runs in; None where it needs no Spark.
    needs : int or None
        The fewest tasks that must have run at once for its time to count.
    schedule : str or None
        How its fits follow one another, one of `bounds.SCHEDULES`; None where that is not known.
    bound : float or None
        Speedup over the base case that its schedule allows for equal fits; None where fits are not, or no bound is
        known.
    oversubscribed : bool
        Whether it wants more processes or slots than there are cores. False for a recipe that fixes its slots itself:
        its jobs wait instead of computing.
    calls : int
        Timed calls in a process, after what warms it up; the cell's time is their median.
    skip : str or None
        Why it cannot run here, where that is known beforehand.
    """

    id: str
    scenario: str
    variant: str
    label: str
    workload: str
    base: bool
    factors: Factors
    block: int
    order: int
    session: int | None
    needs: int | None
    schedule: str | None
    bound: float | None
    oversubscribed: bool
    calls: int = 1
    skip: str | None = None

    @property
    def name(self) -> str:
        """`scenario.variant`."""
        return f"{self.scenario}.{self.variant}"

    @property
    def key(self) -> str:
        """Cells with the same key must give the same answer."""
        return answer_key(self.workload, self.factors)


def answer_key(workload: str, factors: Mapping[str, Any]) -> str:
    """Return what an answer depends on: the workload and every factor but slots and parallelism."""
    shaping = {name: value for name, value in factors.items() if name not in PARALLEL}
    return json.dumps([workload, shaping], sort_keys=True)


def cell_id(scenario: str, variant: str, factors: Factors, block: int) -> str:
    """Return sixteen hex digits that name a cell."""
    text = json.dumps([scenario, variant, factors, block], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def doublings(most: int, least: int = 1) -> tuple[int, ...]:
    """Return `least`, twice that, and so on up to `most`, and `most` itself."""
    values = []
    step = least
    while step < most:
        values.append(step)
        step *= 2
    return (*values, most)


def base_cases(scenarios: Sequence[Scenario]) -> dict[str, tuple[str, str]]:
    """Find the base case of each workload among the first variants of its files: a serial one, best without Spark.

    Returns
    -------
    dict of str to (str, str)
        Workload to (scenario, variant).
    """
    best: dict[str, tuple[tuple[bool, bool, bool], str, str]] = {}
    for scenario in scenarios:
        first = scenario.variants[0]
        rank = ("parallelism" in first.takes, first.on_spark, scenario.schedule.get(first.name) != "serial")
        if scenario.workload not in best or rank < best[scenario.workload][0]:
            best[scenario.workload] = (rank, scenario.name, first.name)
    return {workload: (name, variant) for workload, (_, name, variant) in best.items()}


@dataclass(frozen=True)
class Request:
    """What the user asks for, with the machine's defaults filled in.

    Attributes
    ----------
    size : str
        `smoke`, `ci` or `full`.
    slots : tuple of int or None
        Sessions to sweep over for recipes whose parallelism is slots; the largest serves all others.
    parallelism : tuple of int or None
        Driver threads (or processes) to sweep over, the first of them the centre if `parallelism` was given.
    folds : tuple of int or None
    factors : dict of str to tuple of str
        Values of other factors that shape the data, for the recipes that have them, as they were typed.
    blocks : int
    cores : int
        What the machine or cluster has, or is said to have.
    driver_cores : int or None
        What the driver's machine has; None where that is `cores`.
    local : bool
        Whether Spark runs inside the driver, where slots are threads and any number of them can be had.
    shares_files : bool
        Whether executors are known to be on the driver's machine, where they see its files.
    seed : int
        Of the order of cells.
    gate : bool
        Whether this is for `compare`, which runs only the variants under test, at the centre of their factors, and
        takes size `ci` where a recipe lacks the size.
    """

    size: str
    slots: tuple[int, ...] | None
    parallelism: tuple[int, ...] | None
    folds: tuple[int, ...] | None
    blocks: int
    cores: int
    local: bool = True
    shares_files: bool = True
    seed: int = 0
    gate: bool = False
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_data: bool = False
    driver_cores: int | None = None


def plan_cells(scenarios: Sequence[Scenario], request: Request) -> list[Cell]:
    """Make the whole plan, in the order in which it will run.

    Every block holds every cell once, grouped by session (a fresh process each), groups and cells in random order;
    without Spark, cells that use the same workers, which a recipe keeps from call to call, come in a row. The first
    cell of a process has the only cold call there: over the blocks, the variants take turns with it. In block 0 the
    process without Spark goes first, then the sessions with most base cases; what is held against a base case on Spark
    and runs without Spark comes last. So a reference answer is there before it is needed.

    Parameters
    ----------
    scenarios : sequence of Scenario
    request : Request

    Returns
    -------
    list of Cell

    Raises
    ------
    PlanError
        Where a scenario lacks the size, or its data cannot give what is asked.
    UsageError
        No scenario has a factor that is asked for.
    """
    base_of = base_cases(scenarios)
    templates = [
        template for scenario in scenarios for template in _templates(scenario, request, base_of[scenario.workload])
    ]
    if unknown := [name for name in request.factors if not any(name in cell.factors for cell in templates)]:
        known = sorted({name for cell in templates for name in cell.factors} - {*NO_SHAPE, "folds"})
        raise UsageError(f"no recipe asked for has a factor {unknown[0]!r}: they have {', '.join(known) or 'none'}")
    if not request.gate:
        templates = _with_base_or_skipped(templates)
    shuffle = random.Random(request.seed)
    keeping = {scenario.name for scenario in scenarios if scenario.keeps_workers}
    groups = _groups(templates)
    variants = {name: list(dict.fromkeys(cell.name for cell in group)) for name, group in groups.items()}
    for names in variants.values():
        shuffle.shuffle(names)
    cells: list[Cell] = []
    for block in range(request.blocks):
        first = {name: names[block % len(names)] for name, names in variants.items()}
        for cell in _order(groups, first, keeping, shuffle, bases_first=block == 0 and not request.gate):
            number = cell_id(cell.scenario, cell.variant, cell.factors, block)
            cells.append(replace(cell, id=number, block=block, order=len(cells)))
    return cells


def _with_base_or_skipped(templates: list[Cell]) -> list[Cell]:
    """Skip what asks a question that no base case is asked: nothing would tell whether its answer is right."""
    asked = {cell.key for cell in templates if cell.base}
    why = "its workload's base case does not run with these factors, so there is no answer to hold it against"
    return [cell if cell.key in asked or cell.skip else replace(cell, skip=why) for cell in templates]


def _groups(templates: Iterable[Cell]) -> dict[int | None, list[Cell]]:
    """Group cells by the session that they need: those that share a process."""
    groups: dict[int | None, list[Cell]] = {}
    for cell in templates:
        groups.setdefault(cell.session, []).append(cell)
    return groups


def _order(
    groups: Mapping[int | None, Sequence[Cell]],
    first: Mapping[int | None, str],
    keeping: set[str],
    shuffle: random.Random,
    *,
    bases_first: bool,
) -> list[Cell]:
    """Return the cells of a block in random order; in each group a cell of the variant that `first` names leads."""
    names = list(groups)
    shuffle.shuffle(names)
    shuffled = {name: shuffle.sample(groups[name], len(groups[name])) for name in groups}
    for name, cells in shuffled.items():
        leader = next(place for place, cell in enumerate(cells) if cell.name == first[name])
        cells.insert(0, cells.pop(leader))
    if None in shuffled:
        shuffled[None] = _in_a_row(shuffled[None], keeping)
    late: list[Cell] = []
    if bases_first:
        # Without Spark first: a serial base case may serve recipes of any session. What has its base case on Spark
        # waits for it, in another process without Spark at the end.
        names.sort(key=lambda name: (name is not None, -sum(cell.base for cell in groups[name])))
        answered = {cell.workload for cell in groups.get(None, ()) if cell.base}
        alone = shuffled.get(None, [])
        late = [cell for cell in alone if cell.workload not in answered]
        shuffled[None] = [cell for cell in alone if cell.workload in answered]
    return [cell for name in names for cell in shuffled[name]] + late


def _in_a_row(cells: Sequence[Cell], keeping: set[str]) -> list[Cell]:
    """Move cells of recipes that keep workers behind the first one that uses the same: to start them takes seconds."""
    place: dict[tuple[Any, ...], int] = {}
    places = [
        place.setdefault((cell.name, cell.factors["parallelism"]), number) if cell.scenario in keeping else number
        for number, cell in enumerate(cells)
    ]
    return [cells[number] for number in sorted(range(len(cells)), key=places.__getitem__)]


def sweep_centre(scenario: Scenario, request: Request) -> Factors:
    """Return the values around which the factors that shape the data are swept."""
    spec = _spec(scenario, request)
    return {name: _tuple(value)[0] for name, value in spec.items() if name not in NO_SHAPE}


def _spec(scenario: Scenario, request: Request) -> Factors:
    """Return the factors of the size that is asked for, with the user's folds and other values."""
    size = "ci" if request.gate and request.size not in scenario.sizes else request.size
    if size not in scenario.sizes:
        there = ", ".join(scenario.sizes)
        raise PlanError(scenario, f"SIZES has no {size!r}, only {there}: add it, or take another --size")
    spec = dict(scenario.sizes[size])
    if request.folds is not None and "folds" in spec:
        spec["folds"] = request.folds
    for name in request.factors.keys() & spec.keys() - {*NO_SHAPE}:
        kinds = {next(kind for kind in KINDS if isinstance(value, kind)) for value in _tuple(spec[name])}
        try:
            spec[name] = tuple(_read_value(text, kinds) for text in request.factors[name])
        except ValueError as error:
            raise PlanError(scenario, f"{name}={','.join(request.factors[name])}: {error}") from error
    swept = {name for name, value in spec.items() if len(_tuple(value)) > 1} - {*NO_SHAPE, "folds", "candidates"}
    taken = factors_of(scenario.module) if scenario.module else swept
    if odd := swept - taken:
        there = ", ".join(sorted(taken)) or "none"
        said = f"SIZES[{size!r}] sweeps {min(odd)!r}, which no function takes: the factors are {there}"
        raise PlanError(scenario, said)
    return spec


def _read_value(text: str, kinds: set[type]) -> Any:
    """Read a value as one of the kinds that a recipe's own values are of; a whole number stays one among floats."""
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            if number in kinds and math.isfinite(value := number(text)):
                return value
    if str in kinds:
        return text
    raise ValueError(f"{text!r} is not {' or '.join(said for kind, said in KINDS.items() if kind in kinds)}")


def _templates(scenario: Scenario, request: Request, base: tuple[str, str]) -> list[Cell]:
    """Make a scenario's cells of one block, without id and place."""
    spec = _spec(scenario, request)
    fixes_slots = "slots" in spec
    calls = spec.pop("calls", GATE_CALLS)
    of_bench = SMOKE_CALLS if request.size == "smoke" else BENCH_CALLS
    slots, parallel = _parallel_values(spec, scenario, request)
    combinations = _around_centre(spec, scenario.crossed)
    if request.gate:
        combinations, parallel = combinations[:1], parallel[:1]
    for factors in combinations:
        _validate(scenario, factors)
    maker = _CellMaker(scenario, request, base, slots, fixes_slots, calls if request.gate else of_bench)
    cells = []
    for variant in scenario.variants:
        if request.gate and not _is_gated(scenario, variant, base):
            continue
        for number, factors in enumerate(combinations):
            # Parallelism is swept at the centre of the other factors only.
            values = parallel if number == 0 else parallel[:1]
            for value in values if _is_parallel(scenario, variant) else (None,):
                cells.append(maker.cell(variant, factors, value))
    return cells


def _is_gated(scenario: Scenario, variant: Variant, base: tuple[str, str]) -> bool:
    """Whether `compare` times a variant: if the file says so, or else if it goes parallel."""
    if scenario.gated is not None:
        return variant.name in scenario.gated
    return _is_parallel(scenario, variant) and (scenario.name, variant.name) != base


def _is_parallel(scenario: Scenario, variant: Variant) -> bool:
    return "parallelism" in variant.takes or (scenario.parallelism == "slots" and variant.on_spark)


def _tuple(value: Any) -> tuple[Any, ...]:
    """The values of a factor, each once: a repeat would be a cell of the same id. 1 and 1.0 may mean two things."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    return tuple({(type(each), each): each for each in values}.values())


def _parallel_values(spec: Factors, scenario: Scenario, request: Request) -> tuple[int, tuple[int, ...]]:
    """Take out of `spec` the fixed slots of sessions, and the values of parallelism with the centre first."""
    own_slots, own_parallel = spec.pop("slots", None), spec.pop("parallelism", None)
    slots = max(_tuple(request.slots or own_slots or request.cores))
    if scenario.parallelism == "slots":
        own_parallel = own_parallel or own_slots
    if own_slots and not request.slots and not request.local and slots > request.cores:
        # A cluster cannot give more slots than it has.
        slots = request.cores
        own_parallel = own_parallel and tuple(dict.fromkeys(min(value, slots) for value in _tuple(own_parallel)))
    # A quick run leaves the value of one to the base case, and driver threads beyond the slots to who asks for them.
    full = request.size == "full"
    if scenario.parallelism == "slots":
        asked = request.slots or request.parallelism or (own_parallel and _tuple(own_parallel))
        values = asked or doublings(request.cores, 1 if full else 2)
        # The most that the machine can do is where other factors are swept.
        centre = max((value for value in values if value <= request.cores), default=min(values))
    else:
        asked = request.parallelism or (own_parallel and _tuple(own_parallel))
        values = asked or (doublings(2 * slots) if full else doublings(slots, 2))
        centre = values[0] if asked else slots
    return slots, (centre, *(value for value in dict.fromkeys(values) if value != centre))


def _around_centre(spec: Factors, crossed: Sequence[str]) -> list[Factors]:
    """Return the centre (the first value of each factor), then every point that differs from it in one factor.

    Of crossed factors there is every combination instead, the other factors at their centre.
    """
    values = {name: _tuple(value) for name, value in spec.items()}
    centre = {name: value[0] for name, value in values.items()}
    combined = itertools.product(*(values[name] for name in crossed))
    others = [(name, value) for name, value in values.items() if name not in crossed]
    return [
        *({**centre, **dict(zip(crossed, combination, strict=True))} for combination in combined),
        *({**centre, name: other} for name, value in others for other in value[1:]),
    ]


class PlanError(ScenarioError, UsageError):
    """A recipe cannot be planned as it is asked for, or its own `validate` fails; others may be.

    Attributes
    ----------
    scenario : Scenario
    reason : str
        Without the name of its file, with which the text begins.
    """

    def __init__(self, scenario: Scenario, reason: str) -> None:
        super().__init__(f"{scenario.path.name}: {reason}")
        self.scenario = scenario
        self.reason = reason


def _validate(scenario: Scenario, factors: Factors) -> None:
    for name in ("folds", "candidates"):
        if factors.get(name, 1) < 1:
            raise PlanError(scenario, f"{name} is {factors[name]}: it has to be at least 1")
    if scenario.validate is None:
        return
    try:
        scenario.validate(**matching_kwargs(scenario.validate, factors))
    except (KeyboardInterrupt, InterruptError):
        raise
    except ValueError as error:
        raise PlanError(scenario, f"validate refuses: {error}") from error
    except BaseException as error:  # `sys.exit` and `pytest.fail` are no `Exception`
        raise PlanError(scenario, f"validate raised {one_line(error)}: it may raise ValueError, to refuse") from error


def plan_what_can_be(
    scenarios: Sequence[Scenario], request: Request
) -> tuple[list[Cell], list[Scenario], dict[str, str]]:
    """Plan all scenarios but those that cannot be.

    Returns
    -------
    cells : list of Cell
    scenarios : list of Scenario
        Those that are planned.
    left_out : dict of str to str
        The file's name of each of the others, and why.

    Raises
    ------
    UsageError
        None is left, or one cannot be planned with the values that the user has typed for its factors.
    """
    planned, left_out = list(scenarios), dict[str, str]()
    while True:
        try:
            return plan_cells(planned, request), planned, left_out
        except PlanError as error:
            planned.remove(error.scenario)
            typed = request.factors.keys() & {name for size in error.scenario.sizes.values() for name in size}
            if typed or not planned:
                raise
            left_out[error.scenario.path.name] = error.reason


@dataclass(frozen=True)
class _CellMaker:
    """What the cells of a scenario have in common."""

    scenario: Scenario
    request: Request
    base: tuple[str, str]
    slots: int  # of sessions, where parallelism is not what a session has
    fixes_slots: bool  # whether the recipe says so itself
    calls: int

    def cell(self, variant: Variant, shaping: Factors, value: int | None) -> Cell:
        """A variant at one setting; `value` is its parallelism."""
        scenario = self.scenario
        session = self._session(variant, value)
        at_once = min(value or 1, session or value or 1)
        schedule = scenario.schedule.get(variant.name)
        wants = session or value or 1
        return Cell(
            id="",
            scenario=scenario.name,
            variant=variant.name,
            label=variant.label,
            workload=scenario.workload,
            base=(scenario.name, variant.name) == self.base,
            factors={"slots": session, "parallelism": value, **shaping},
            block=0,
            order=0,
            session=session,
            needs=None if session is None else _needs(scenario, variant, shaping, at_once, session),
            schedule=schedule,
            bound=self._bound(schedule, shaping, at_once),
            oversubscribed=wants > self._cores(session) and not self.fixes_slots,
            calls=self.calls,
            skip=self._skip(variant, session),
        )

    def _session(self, variant: Variant, value: int | None) -> int | None:
        if not variant.on_spark:
            return None
        return value if self.scenario.parallelism == "slots" and value else self.slots

    def _cores(self, session: int | None) -> int:
        """What the processes or slots of a cell share: the driver's machine, or a cluster that is somewhere else."""
        elsewhere = session is not None and not self.request.shares_files
        return self.request.cores if elsewhere else self.request.driver_cores or self.request.cores

    def _bound(self, schedule: str | None, shaping: Factors, at_once: int) -> float | None:
        """For equal fits; of unequal ones the measured times tell, later."""
        if schedule is None or self.scenario.unequal:
            return None
        folds, candidates = shaping.get("folds", 1), shaping["candidates"]
        return speedup_bound(schedule, folds, candidates, at_once, refit=self.scenario.refit)

    def _skip(self, variant: Variant, session: int | None) -> str | None:
        if self.scenario.needs_data and not self.request.has_data:
            return "it needs a folder of data: give it by --data DIR"
        if variant.missing:
            return f"it needs the package {variant.missing}, which is not installed here"
        if session is not None and self.scenario.local_files and not self.request.shares_files:
            return "its executors would have to see files that the driver writes, and they may be on other machines"
        if session is None or self.request.local or session <= self.request.cores:
            return None
        return f"it needs {session} slots and the cluster has {self.request.cores}"


def _needs(scenario: Scenario, variant: Variant, shaping: Factors, at_once: int, session: int) -> int:
    """Return the fewest tasks that have to run at once for a cell to have done what it says."""
    schedule = scenario.schedule.get(variant.name)
    if (
        schedule in (None, "serial")
        and not variant.takes & {"spark", "parallelism"}
        and scenario.parallelism != "slots"
    ):
        return 0  # a base case may do without Spark where its data come by Spark
    if schedule == "serial":
        return 1
    if scenario.parallelism == "slots" and schedule is None:
        return session
    fits = shaping.get("candidates", at_once)
    if schedule == "pool":
        fits *= shaping.get("folds", 1)
    if scenario.parallelism == "slots":
        return int(min(session, fits))
    most = min(at_once, fits)
    # Driver threads start their jobs one after another, so the first may end before the last begins. What has to be
    # caught are jobs that never ran beside another.
    return max(min(2, most), -(-most // 2))


def group_cells(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group the cells that share a process: neighbours of one block and one session."""
    found: list[list[Cell]] = []
    for cell in cells:
        if found and (found[-1][0].block, found[-1][0].session) == (cell.block, cell.session):
            found[-1].append(cell)
        else:
            found.append([cell])
    return found
