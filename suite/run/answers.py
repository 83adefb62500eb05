# SPDX-License-Identifier: Apache-2.0
"""Whether an answer is right: it is held against the base case's, by the recipe's own `check`."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from suite.errors import InvalidCellError
from suite.machine.signals import InterruptError
from suite.plan.cells import Cell, answer_key
from suite.plan.scenario import one_line
from suite.records import WRONG_ANSWER, Record

if not __debug__:
    raise RuntimeError("a recipe's `check` may use assert, which -O and PYTHONOPTIMIZE remove: run without them")


# What a check raises that cannot do its work. Whatever else it raises says that the answer is not as it should be.
OWN_FAILURES = (NameError, TypeError, AttributeError, LookupError, ImportError, ArithmeticError, RecursionError)


def find_complaint(check: Callable[[Any, Any], Any], reference: Any, answer: Any) -> str | None:
    """Return the complaint of a recipe's `check` about an answer, in one line; None where it has none.

    Whatever it raises is a complaint, also what is not an `Exception` (`pytest.fail` and `sys.exit` raise such things).
    So is anything false that it returns, but None: a check is meant to raise. What is neither true nor false, such as
    an array, is a failure of the check.

    Raises
    ------
    InvalidCellError
        The check itself failed.
    """
    try:
        # It may sort or empty what it gets, and later answers are held against the same reference.
        verdict = check(copy.deepcopy(reference), copy.deepcopy(answer))
    except (KeyboardInterrupt, InterruptError):
        raise
    except OWN_FAILURES as error:
        why = one_line(error)
        if isinstance(error, KeyError) and error.args and not isinstance(error.args[0], str):
            why += ": answers are kept as JSON, in which all keys are texts"
        raise InvalidCellError(f"its check failed: {_home_of(check)} check: {why}") from error
    except BaseException as error:  # noqa: BLE001 - see above
        return one_line(error)
    try:
        content = verdict is None or bool(verdict == True)  # noqa: E712 - numpy's True too
    except (TypeError, ValueError) as error:
        shown = " ".join(repr(verdict).split())[:100]
        why = f"it returned {shown}, which is neither true nor false: let it raise where answers differ"
        raise InvalidCellError(f"its check failed: {_home_of(check)} check: {why}") from error
    return None if content else f"its check returned {verdict!r}"[:300]


def _home_of(function: Callable[..., Any]) -> str:
    """The file that a function is from, or its module where it is in no file of Python."""
    try:
        return Path(inspect.getfile(function)).name
    except TypeError:
        return str(getattr(function, "__module__", "a builtin"))


def plain_answer(answer: Any) -> Any:
    """Return an answer as JSON has it.

    Raises
    ------
    InvalidCellError
        It is None, JSON has no word for it, or two of its keys are the same as texts.
    """
    if answer is None:
        raise InvalidCellError("its answer is None: a variant returns what it found")
    try:
        plain = json.loads(json.dumps(answer, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidCellError(f"its answer is not plain JSON: {error}") from error
    if len([*_keys(answer)]) != len([*_keys(plain)]):
        raise InvalidCellError("its answer is not plain JSON: two of its keys are the same as texts")
    return plain


def _keys(answer: Any) -> Iterator[Any]:
    """Every key in an answer, however deep."""
    if isinstance(answer, dict):
        yield from answer
        answer = answer.values()
    elif not isinstance(answer, (list, tuple)):
        return
    for part in answer:
        yield from _keys(part)


class References:
    """The answers of base cases, which all others are held against.

    Parameters
    ----------
    records : iterable of Record
        Of earlier processes.
    own : bool
        Whether a variant is held against its own first call: in a comparison, where no base case runs and the two
        sides' answers are compared in the end.
    """

    def __init__(self, records: Iterable[Record], *, own: bool):
        self.own = own
        self._found: dict[str, tuple[str, Any]] = {}  # whose, and the answer
        for record in records:
            self.remember(record)

    def remember(self, record: Record) -> None:
        """Keep a base case's answer, where it is good and the first to its question."""
        if record.base and record.status == "ok":
            self._found.setdefault(answer_key(record.workload, record.factors), (record.name, record.answer))

    def lacks(self, cell: Cell) -> bool:
        """Whether a cell is a base case that has to find the answer to its question first, by two calls that agree."""
        return cell.base and not self.own and cell.key not in self._found

    def find(self, cell: Cell, check: Callable[[Any, Any], Any], answers: Iterable[Any]) -> None:
        """Keep what the calls of a base case agree on.

        Raises
        ------
        InvalidCellError
            They do not, or it is no answer.
        """
        self._found[cell.key] = cell.name, self.check(cell, check, answers)

    def check_if_known(self, cell: Cell, check: Callable[[Any, Any], Any], answers: Iterable[Any]) -> Any:
        """Return the last answer, checked where there is something to hold it against by now."""
        known = cell.key in self._found or cell.base or self.own
        return self.check(cell, check, answers) if known else [plain_answer(answer) for answer in answers][-1]

    def check(self, cell: Cell, check: Callable[[Any, Any], Any], answers: Iterable[Any]) -> Any:
        """Check all answers of a cell, and return the last.

        Raises
        ------
        InvalidCellError
            An answer is not plain JSON or differs from the reference, or there is no reference.
        """
        plain = [plain_answer(answer) for answer in answers]
        reference = self._found.get(cell.key)
        if reference is not None:
            whose, truth = reference
        elif cell.base or self.own:
            whose, truth = "its own first call", plain[0]
        else:
            raise InvalidCellError("the base case gave no right answer to hold this one against")
        for answer in plain:
            if complaint := find_complaint(check, truth, answer):
                raise InvalidCellError(f"{WRONG_ANSWER} that of {whose}: {complaint}")
        return plain[-1]
