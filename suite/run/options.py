# SPDX-License-Identifier: Apache-2.0
"""What a user asks `bench` for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from suite.errors import UsageError
from suite.plan.scenario import PARALLEL

# What a resume takes from the plan: what made it, and how it is run. Given beside --resume, they must ask for the plan
# that the folder holds.
PLAN_OPTIONS = (
    "scenario",
    "size",
    "master",
    "slots",
    "parallelism",
    "folds",
    "blocks",
    "seed",
    "warm_up",
    "timeout",
    "scenarios",
    "workers",
    "memory",
    "data",
    "image",
    "conf",
    "factor",
)
REPEATED = ("conf", "factor")  # those that may be given more than once
PATHS = ("scenarios", "data")
# They change no cell of the plan, but how it is measured.
OF_MEASURING = ("conf", "data", "image", "memory", "warm_up")
# Settings of the suite itself, by how they begin, and what to use instead. What ran is read from the event log; the
# local folders are those that go with a child, and Spark takes these before the setting.
OWN_SETTINGS = {
    "spark.master": "--master",
    "spark.cores.max": "--slots",
    "spark.eventLog.": "logs/events of the run folder",
    "spark.local.dir": "the variable TMPDIR, below which they lie",
}


def is_file_name(name: str) -> bool:
    """Whether what names a recipe is a file, and no name from `list`."""
    return name.endswith(".py") or "/" in name


def parse_setting(text: str) -> tuple[str, str]:
    """Split KEY=VALUE, a setting of Spark.

    Raises
    ------
    UsageError
        It is none, or the suite itself has to set it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.startswith("spark."):
        raise UsageError(f"{text!r} is not a setting such as spark.sql.shuffle.partitions=8")
    for own, instead in OWN_SETTINGS.items():
        if key.startswith(own):
            raise UsageError(f"{key} is set by the suite itself: see {instead}")
    if key == "spark.executor.cores" and not (value.isdecimal() and int(value)):
        raise UsageError(f"{text!r}: {key} is a whole number of at least 1")
    return key, value


def parse_factor(text: str) -> tuple[str, tuple[str, ...]]:
    """Split NAME=VALUE,VALUE, a factor of recipes.

    Raises
    ------
    UsageError
        It is none, or has an option of its own.
    """
    name, equals, values = text.partition("=")
    if not equals or not name.isidentifier() or not all(values.split(",")):
        raise UsageError(f"{text!r} is not a factor such as dataset=digits or rows=1000,10000")
    if name in (*PARALLEL, "folds"):
        raise UsageError(f"{name} is an option of its own: --{name} {values}")
    return name, tuple(values.split(","))


@dataclass
class BenchOptions:
    """The options of `bench`, each as on its command line; None, an empty list and False stand for "not given".

    Attributes
    ----------
    scenario : list of str
        Names of recipes, or files.
    scenarios : Path or None
        A folder of recipes in place of the project's own.
    size, master, memory : str or None
    slots, parallelism, folds : tuple of int or None
    workers, blocks, seed, warm_up : int or None
    minutes, timeout : float or None
        The latter in seconds.
    resume : bool
    out : Path or None
        The run folder.
    data : Path or None
        A folder of the user's own data.
    image : str or None
        An image of the user's own, built on the suite's.
    conf : list of str
        Settings of Spark as KEY=VALUE.
    factor : list of str
        Values of factors as NAME=VALUE,VALUE.
    """

    scenario: list[str] = field(default_factory=list)
    scenarios: Path | None = None
    size: str | None = None
    master: str | None = None
    slots: tuple[int, ...] | None = None
    parallelism: tuple[int, ...] | None = None
    folds: tuple[int, ...] | None = None
    workers: int | None = None
    memory: str | None = None
    blocks: int | None = None
    minutes: float | None = None
    seed: int | None = None
    warm_up: int | None = None
    timeout: float | None = None
    resume: bool = False
    out: Path | None = None
    data: Path | None = None
    image: str | None = None
    conf: list[str] = field(default_factory=list)
    factor: list[str] = field(default_factory=list)

    @classmethod
    def from_parsed(cls, parsed: Mapping[str, Any]) -> BenchOptions:
        """The options among what argparse has made of a command line."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in parsed.items() if name in names})

    def arguments(self) -> list[str]:
        """The command line, without the program: what a parser would read as these options."""
        said = list(self.scenario)
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "scenario" or value is None or value is False:
                continue
            option = "--" + each.name.replace("_", "-")
            if each.name in REPEATED:
                said += [word for text in value for word in (option, text)]
                continue
            said.append(option)
            if value is not True:
                said.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
        return said

    def make_absolute(self) -> None:
        """Name files and folders so that they are found from another one: by a resume, or a recipe that goes there."""
        self.scenario = [str(Path(name).resolve()) if is_file_name(name) else name for name in self.scenario]
        self.scenarios = self.scenarios and self.scenarios.resolve()
        self.out = self.out and self.out.resolve()
        self.data = self.data and self.data.resolve()

    def take_run_folder(self) -> None:
        """Read `--resume results/NAME` as it is meant: that is no recipe."""
        if self.resume and self.out is None and len(self.scenario) == 1:
            folder = Path(self.scenario[0])
            if (folder / "plan.json").is_file():
                self.scenario, self.out = [], folder

    def of_plan(self) -> dict[str, Any]:
        """What a resume needs to know, as JSON."""
        values = {name: getattr(self, name) for name in PLAN_OPTIONS}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    def fill(self, earlier: Mapping[str, Any]) -> None:
        """Take from an earlier run's `of_plan` what a resume leaves out.

        Raises
        ------
        UsageError
            What would change how the rest is measured is given, and differs.
        """
        for name in PLAN_OPTIONS:
            old = earlier.get(name)  # None also where an older version did not know the option
            own = getattr(self, name)
            if own and name in OF_MEASURING and name in earlier and (str(own) if name in PATHS else own) != old:
                option = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{option}: the run that goes on has {old or 'none'}: leave it out, or begin a new run"
                )
            if not own and old is not None:
                listed = isinstance(old, list) and name not in REPEATED
                setattr(self, name, Path(old) if name in PATHS else tuple(old) if listed else old)
