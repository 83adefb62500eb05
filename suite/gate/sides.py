# SPDX-License-Identifier: Apache-2.0
"""The two sides of a comparison: recipes of a revision, packages of a lock, settings of Spark."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from suite.errors import UsageError
from suite.machine.environment import ROOT, GitError, ask_git, repository_of
from suite.machine.home import cache_folder

WORKING_TREE = "."
LOCK = Path("requirements/run.txt")
RUNNER = ("pytest", "pytest-benchmark", "psutil")  # what the harness needs in every environment
SIDES = ("base", "head")


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes
    ----------
    revision : str
        A commit, or `.` for the files as they are.
    scenarios : Path
        Its recipes.
    lock : Path or None
        Its locked packages; None for those of the harness itself.
    python : str
        The interpreter that has them.
    conf : dict
        Settings of Spark on top of the cluster's.
    moved : tuple of Path and Path, or None
        Of a revision, the top of the working tree and the folder that has the revision's files in place of it.
    """

    revision: str
    scenarios: Path
    lock: Path | None
    python: str
    conf: Mapping[str, str] = field(default_factory=dict)
    moved: tuple[Path, Path] | None = None

    @property
    def packages(self) -> str | None:
        """A hash of its lock, which differs where the packages do; None where the lock does not say all of them."""
        if self.lock is None or not _pins_all(self.lock.read_text(encoding="utf-8")):
            return None
        return hashlib.sha256(self.lock.read_bytes()).hexdigest()[:12]

    @property
    def variables(self) -> dict[str, str]:
        """Variables with which its processes import the suite first, then what PYTHONPATH and the current folder have.

        Of what lies in the working tree, a revision has its own. Python would put the current folder there by itself.
        """
        handed = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        folders = (ROOT, *(self._own(Path(folder)) for folder in handed))
        return {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONSAFEPATH": "1"}

    def _own(self, folder: Path) -> Path:
        if self.moved is None or not folder.resolve().is_relative_to(self.moved[0]):
            return folder
        own = self.moved[1] / folder.resolve().relative_to(self.moved[0])
        # Packages that git ignores may lie in the working tree alone.
        return own if own.is_dir() else folder

    def strangers(self, imported: Iterable[str]) -> list[str]:
        """Return what it has imported of the working tree though it is a revision: another one's code."""
        if self.moved is None:
            return []
        top = self.moved[0]
        tracked = {top / name for name in ask_git(top, "ls-files", "-z").split("\0")}
        # The suite itself runs both sides, also where it is compared.
        strange = (Path(file) for file in imported if not Path(file).is_relative_to(ROOT / "suite"))
        return sorted(str(file.relative_to(top)) for file in strange if file in tracked)


@contextlib.contextmanager
def check_out(revision: str, scenarios: Path) -> Iterator[Side]:
    """Check out the files of a revision, for as long as the block lasts.

    Parameters
    ----------
    revision : str
        Anything that git knows in the repository of `scenarios`, or `.` for the files as they are.
    scenarios : Path
        The folder of recipes, in the working tree.

    Yields
    ------
    Side
        Its lock is the revision's `requirements/run.txt`, where it has one; its interpreter is the harness's own.

    Raises
    ------
    UsageError
        No repository, one of which git says nothing, or no such revision.
    """
    scenarios = scenarios.resolve()
    if not scenarios.is_dir():
        raise UsageError(f"--scenarios {scenarios} is not a directory")
    top = repository_of(scenarios)
    if revision == WORKING_TREE:
        yield Side(WORKING_TREE, scenarios, _lock_of(top), sys.executable)
        return
    if top is None:
        raise UsageError(f"{scenarios} is in no git repository, so it has no revision {revision!r}")
    try:
        commit = ask_git(scenarios, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except GitError as error:
        if str(error):
            raise
        raise UsageError(f"{revision!r} is not a revision of {top} ({_how_to_get(revision, scenarios)})") from None
    top = top.resolve()
    inside = scenarios.relative_to(top)
    with tempfile.TemporaryDirectory(prefix="foldout-revision-") as made:
        tree = Path(made).resolve() / "tree"
        # Not `git archive`: that leaves out what .gitattributes says, and a checkout has it.
        index = Path(made) / "index"
        ask_git(top, "read-tree", commit, index=index, seconds=None)
        ask_git(top, "checkout-index", "--all", f"--prefix={tree}/", index=index, seconds=None)
        (tree / inside).mkdir(parents=True, exist_ok=True)  # all recipes of the other side are new, then
        yield Side(commit, tree / inside, _lock_of(tree), sys.executable, moved=(top, tree))


def _how_to_get(revision: str, folder: Path) -> str:
    """What may bring a revision; a job of CI has no branches of its own, and often no history."""
    with contextlib.suppress(GitError):
        ask_git(folder, "rev-parse", "--verify", "--quiet", f"origin/{revision}^{{commit}}")
        return f"there is origin/{revision}: give that"
    return "`git fetch --unshallow origin` may bring it; in CI check out with fetch-depth: 0"


def _lock_of(top: Path | None) -> Path | None:
    return top / LOCK if top and (top / LOCK).is_file() else None


# Options of a lock that name files, which may hold something else the next time.
NAMES_FILES = re.compile(r"-[rcef]|--(requirement|constraint|editable|find-links)")


def _pins_all(lock: str) -> bool:
    """Whether the text of a lock says by itself what is installed: versions, and no file, folder or address."""
    lines = (re.split("[#;]", line)[0].strip() for line in lock.splitlines())
    return all(not NAMES_FILES.match(line) if line.startswith("-") else "==" in line or not line for line in lines)


def make_interpreter(lock: Path | None, scratch: Path) -> str:
    """Find or make a Python with exactly the packages of a lock: this one where the lock is the harness's own.

    It takes a minute or two. Where the lock says exactly what is installed, it is kept in the user's cache.

    Parameters
    ----------
    lock : Path or None
    scratch : Path
        A folder of this comparison alone, for what is not kept.

    Raises
    ------
    UsageError
        The packages cannot be installed.
    """
    if lock is None or lock.read_bytes() == (ROOT / LOCK).read_bytes():
        return sys.executable
    text = lock.read_text(encoding="utf-8")
    kept = _pins_all(text)
    named = f"{text}\n{sys.version}\n{_runner()}\n{'' if kept else lock.resolve()}"
    base = cache_folder() / "foldout" / "environments" if kept else scratch
    base.mkdir(parents=True, exist_ok=True)
    folder = base / hashlib.sha256(named.encode()).hexdigest()[:16]
    with (base / f"{folder.name}.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            often = "once" if kept else "each time, since it does not pin all of them"
            print(f"installing the packages of {lock.name} ({often}; some minutes)", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _install(lock, folder)
            (folder / "complete").touch()
    return str(folder / "bin" / "python")


def _runner() -> list[str]:
    return [f"{name}=={metadata.version(name)}" for name in RUNNER]


def _install(lock: Path, folder: Path) -> None:
    python = str(folder / "bin" / "python")
    # uv where there is one: seconds in place of minutes.
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv:
        make: list[str] = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", str(folder)]
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _must(make)
    _must([*install, "-r", str(lock)])
    # A user's lock may lack what runs the cells: add that, and nothing else.
    has = "import sys, importlib.metadata as m; print({d.metadata['Name'].lower() for d in m.distributions()})"
    there = subprocess.run([python, "-c", has], capture_output=True, text=True, check=True).stdout
    if missing := [pin for pin in _runner() if f"'{pin.split('==')[0]}'" not in there]:
        _must([*install, *missing])
    _must([python, "-m", "compileall", "-q", str(folder / "lib")], may_fail=True)


def _must(command: Sequence[str], *, may_fail: bool = False) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise UsageError(f"{Path(command[0]).name} {command[1]} failed: {lines[-1]}")
