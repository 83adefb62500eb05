# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.6", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Score a Spark DataFrame with any fitted scikit-learn model, by every way that Spark has.

`score(frame, model)` keeps the frame's columns and adds one with the model's answers. What cannot work it refuses on
the driver, before any job. It picks a way; each way is also a small function of its own:

- A linear model, a scaled one or a small tree becomes an SQL expression: no row leaves the JVM.
- `arrow_udf` and `pandas_udf` send the features alone to Python, and can stand wherever a column can.
- `mapInArrow` and `mapInPandas` send whole rows there and back.
- Of rows in Parquet files, workers can read the columns themselves, `way="files"`: no row passes through the JVM on its
  way in. It is never picked, since it has its price: see `score`.
- A row-at-a-time UDF pays scikit-learn's fixed cost of a call for every single row. That makes it dozens of times
  slower, and this file has it only to show that.

The model travels once to each executor and is loaded once by each Python worker. It computes in one thread there, since
Spark has a worker for each slot, and under the configuration of scikit-learn that `score` was called under. A null
reaches the model as NaN, a text null as None, as `toPandas` gives them: a model that takes no NaN says so itself, in
the error of the job. A model that was fitted where a missing text is NaN, as in tables that pandas read, takes None for
another value: fill such nulls in the frame before. Where a step of your own takes integers by name, a null makes
fractions of all of them in its batch, as in pandas.

Run it alone:  python udf_inference.py
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import re
import socket
import string
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial, reduce
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sklearn
from joblib import parallel_config
from pyarrow import fs
from pyspark import Broadcast, SparkContext, cloudpickle
from pyspark.ml.functions import predict_batch_udf, vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame, SparkSession, functions
from pyspark.sql import types as spark_types
from pyspark.sql.functions import pandas_udf, udf
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from sklearn.base import BaseEstimator, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, SGDRegressor
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    MultiLabelBinarizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import get_tags
from threadpoolctl import ThreadpoolController

arrow_udf: Any = getattr(functions, "arrow_udf", None)  # since Spark 4.1

# What is sent to the workers holds what it needs of this file: a copy need not be installed there.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

Features = Sequence[str] | None
Output = str | spark_types.StructField


def score(
    frame: DataFrame,
    model: Any,
    *,
    features: Features = None,
    method: str = "predict",
    output: Output = "prediction",
    way: str | None = None,
) -> DataFrame:
    """Return the frame with one more column: what the model says of each row.

    Parameters
    ----------
    frame : DataFrame
        Any columns, with any names and in any order. All of them are kept.
    model : fitted estimator, Broadcast of one, or path
        A path is that of a file that `joblib.dump` wrote. Spark keeps what it sends until it stops, in a file on the
        driver too. One of the last 32 models is not sent again; to end even that, give
        `spark.sparkContext.broadcast(Shipped(model))`, and call its `destroy()` when all is scored.
    features : sequence of str, optional
        Columns to give to the model. By default those that it was fitted on by name; where it has names, they also
        decide the order. Those that its ColumnTransformer drops need not be there, and are never read. Where only a
        later step has names, the columns have to be in its order. An array or ML vector column stands for as many
        features as it has elements, in the model's order, unless the model knows it by its name. What a model without
        any names was fitted on is noted nowhere: it gets numbers as a matrix of doubles where it takes one, and else as
        a table, in which whole numbers stay whole.
    method : str
        `predict`, `predict_proba`, `decision_function`, `transform`, or any other that takes rows.
    output : str or StructField
        Name of the new column. Its type follows from the model; a field gives it a type of yours. Answers that have no
        place in that type stop the job, but a decimal type rounds them to its digits. Its metadata are kept.
    way : str, optional
        A key of `WAYS`. By default `best_way` picks one. The new column's metadata say which, and why. What is picked
        keeps the frame's own columns: `frame["x"]` is one of the result. The maps and "files" give new ones, to be
        called by their names, and score rows that a later filter drops; "files" has rows in another order.

    Raises
    ------
    RuntimeError
        Where the file's scikit-learn is not the driver's. A worker's that differs stops the job.
    ValueError, TypeError
        Before any job: columns that are missing, surplus, ambiguous or of a wrong type, an output name that is taken, a
        model without the method, one that was not fitted or cannot be loaded, a way that cannot apply it.

    Warns
    -----
    UserWarning
        Where the model, tried on the driver, refuses rows of zeros and of ones: it may refuse yours too.
    """
    plan = plan_scoring(frame, model, features, method=method, output=output)
    way, why = (way, "named by the caller") if way else best_way(plan)
    if way not in WAYS:
        raise ValueError(f"way={way!r}: choose one of {', '.join(WAYS)}")
    plan.metadata |= {"way": way, "why": why}
    scored: DataFrame = WAYS[way](frame, plan)
    return scored


# --- What is sent to the workers ----------------------------------------


class Shipped:
    """A model on its way into a broadcast; the worker gets the model itself out of it.

    A broadcast is pickled plainly, which cannot carry classes of `__main__`. cloudpickle can. The model's arrays are
    left out of what it makes, and go into the broadcast as they lie in memory: a large model is not held twice.
    """

    def __init__(self, model: Any) -> None:
        self.arrays: list[pickle.PickleBuffer] = []
        self.rest = cloudpickle.dumps(model, protocol=5, buffer_callback=self.arrays.append)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(pickle.loads, buffers=self.arrays), (self.rest,)

    def broadcast(self, context: SparkContext) -> Broadcast[Any]:
        """Return a broadcast of the model, of an earlier call where there was one: Spark keeps each until it stops."""
        digest = hashlib.blake2b(self.rest)
        for array in self.arrays:
            digest.update(array.raw())
        key = str(context.applicationId), digest.hexdigest()
        found = BROADCASTS.pop(key, None) or context.broadcast(self)
        BROADCASTS[key] = found  # the latest used comes last
        for old in list(BROADCASTS)[:-MOST_BROADCASTS]:  # Java may forget it once no query needs it
            BROADCASTS.pop(old, None)  # another thread may have done so
        return found


BROADCASTS: dict[tuple[str, str], Broadcast[Any]] = {}
MOST_BROADCASTS = 32


@dataclass
class Scorer:
    """A function from the feature columns of a batch to the model's answers, all in Arrow or pandas.

    Attributes
    ----------
    model : Broadcast
        A worker loads it at its first batch, and keeps it for later tasks.
    inputs : tuple of pyarrow.DataType
        Types of the columns.
    shape : str
        How the model takes rows: "matrix", "frame" (columns of any types) or "documents" (one column of text).
    method : str
        Of the model.
    labels : tuple of str
        The names that the model knows its columns by, if any.
    answers : pyarrow.DataType
    trained, driver : str
        scikit-learn's version, of the training and of the driver.
    config : dict
        scikit-learn's, of the thread that asks for the answers: such as `transform_output`.
    single : bool
        Whether the model takes floats of 32 bits alone, as k-means does that was fitted on such.
    """

    model: Any
    method: str
    inputs: tuple[pa.DataType, ...]
    shape: str
    labels: tuple[str, ...]
    answers: pa.DataType
    trained: str
    driver: str = sklearn.__version__
    config: dict[str, Any] = field(default_factory=sklearn.get_config)
    libraries: Any = None
    single: bool = False

    def __call__(self, *columns: pa.Array | pd.Series) -> pa.Array:
        """Score a batch."""
        if not len(columns[0]):
            return pa.array([], self.answers)
        if self.libraries is None:  # once for each task
            same_versions(self.trained, self.driver, sklearn.__version__)
            self.model.value  # noqa: B018 - it brings the libraries with it that are to be limited
            self.libraries = ThreadpoolController()
        with self.libraries.limit(limits=1), parallel_config("sequential"), sklearn.config_context(**self.config):
            answers = getattr(self.model.value, self.method)(self.rows(columns))
        return self.checked(answers, len(columns[0]), self.answers)

    def checked(self, answers: Any, rows: int, kind: pa.DataType | None = None) -> pa.Array:
        """Return a model's answers in Arrow, or say what is wrong with them."""
        asked = f"{type(self.model.value).__name__}.{self.method}"
        try:
            found = as_arrow(answers, kind)
        except Exception as error:
            raise TypeError(f"{asked} answers what is no {kind or 'column'}: {error}") from error
        if len(found) != rows:
            raise ValueError(f"{asked} gave {len(found)} answers to {rows} rows: it has to give one to each")
        return found

    def rows(self, columns: Sequence[pa.Array | pd.Series]) -> Any:
        """Return a batch as the model takes it."""
        if self.shape == "documents":
            return as_pandas(columns[0])
        floats = np.float32 if self.single else np.float64  # files have both
        if self.shape == "frame":
            cells = [as_pandas(column) for column in columns]
            cells = [one.astype(floats) if one.dtype.kind == "f" and one.dtype != floats else one for one in cells]
            return pd.concat(cells, axis=1, keys=self.labels)
        X = np.column_stack([as_floats(column) for column in columns])
        if X.dtype.kind == "f":
            X = X.astype(floats, copy=False)
        return pd.DataFrame(X, columns=list(self.labels), copy=False) if self.labels else X


def same_versions(trained: str, driver: str, worker: str) -> None:
    """Raise RuntimeError where scikit-learn is not the same everywhere: models are not made to be exchanged."""
    if not trained == driver == worker:
        raise RuntimeError(
            f"scikit-learn differs: the model was trained with {trained}, the driver has {driver}, the worker on "
            f"{socket.gethostname()} has {worker}. Install {trained} on all, or train again."
        )


def as_pandas(column: pa.Array | pd.Series) -> pd.Series:
    """Return a column as `toPandas` gives it."""
    if isinstance(column, pd.DataFrame):  # a struct in a pandas UDF
        return pd.Series(column.to_dict("records"))
    if isinstance(column, pd.Series):
        return column.reset_index(drop=True)
    return column.to_pandas(coerce_temporal_nanoseconds=True, maps_as_pydicts="strict")


def as_floats(column: pa.Array | pd.Series) -> np.ndarray:
    """Return a feature as an array of shape (n,), or an array column of k features as one of shape (n, k)."""
    if isinstance(column, pd.Series):
        if column.dtype != object:
            return column.to_numpy()
        column = pa.array(column.to_list(), pa.list_(pa.float64()))
    if not pa.types.is_nested(column.type):
        return column.to_numpy(zero_copy_only=False)
    column = column.cast(pa.list_(pa.float64()))  # files also have larger lists, and some of one length
    if column.null_count:
        raise ValueError("an array of features is null: fill it, or drop the row")
    ends = pc.min_max(pc.list_value_length(column))
    if ends["min"] != ends["max"]:
        raise ValueError(f"arrays of features have {ends['min']} and {ends['max']} elements: all need the same number")
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def as_arrow(found: Any, kind: pa.DataType | None = None) -> pa.Array:
    """Return what a model answered in Arrow: several values of a row become a list.

    It raises where a value has no place in the type `kind`, such as a fraction among integers. A decimal is rounded.
    """
    if isinstance(found, list) and all(getattr(part, "ndim", 0) == 2 for part in found):
        # Of a model with several outputs: an array for each of them.
        return pa.array([[np.asarray(part).tolist() for part in row] for row in zip(*found, strict=True)], kind)
    if isinstance(found, tuple) and any(getattr(part, "ndim", 0) for part in found):
        # Such as the ends of an interval. Of as many rows as there are arrays, they would be taken for rows.
        raise ValueError(f"{len(found)} arrays, not one value for each row")
    if isinstance(found, pd.Series) and getattr(found.dtype, "na_value", None) is pd.NA and found.hasnans:
        found = found.astype(object)  # numpy would make fractions of whole numbers
    values = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    if isinstance(found, pd.DataFrame) and values.dtype == object and values.size:
        kinds = found.dtypes.to_list()  # pandas makes objects of numbers beside truth, numpy makes numbers
        if all(isinstance(one, np.dtype) and one.kind in "biuf" for one in kinds):
            values = values.astype(np.result_type(*kinds))
    if values.ndim not in (1, 2):
        raise ValueError(f"an array of {values.ndim} dimensions, where a row has a value or a list of them")
    if values.dtype.kind == "u":  # Spark has signed integers only
        if values.size and values.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{values.max()} is larger than Spark's largest integer, {np.iinfo(np.int64).max}")
        values = values.astype(f"i{min(8, 2 * values.dtype.itemsize)}")
    if values.dtype == np.float16:  # nor has it floats of half the precision
        values = values.astype(np.float32)
    if values.ndim == 2 and kind is not None and not pa.types.is_list(kind):
        if values.shape[1] != 1:
            raise ValueError(f"{values.shape[1]} values for each row")
        values = values.reshape(len(values))
    single = kind is not None and pa.types.is_float32(inside_lists(kind)) and values.dtype == np.float64
    if single and (wide := values[np.isfinite(values) & (np.abs(values) > np.finfo(np.float32).max)]).size:
        raise ValueError(f"{wide[0]} is larger than the largest float")  # Arrow would make it infinite
    hidden = np.ma.getmaskarray(found).ravel() if isinstance(found, np.ma.MaskedArray) else None
    if values.dtype == object:
        absent = absent_among(values.ravel())
        hidden = absent if hidden is None else hidden | absent
    cells = pa.array(values.ravel(), mask=hidden)
    if pa.types.is_timestamp(cells.type):
        cells = cells.cast(pa.timestamp("us", cells.type.tz))  # Spark has no other
    if values.ndim == 2:
        starts = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
        cells = pa.ListArray.from_arrays(pa.array(starts), cells)
    return cells if kind is None or cells.type == kind else cells.cast(kind)


def absent_among(cells: np.ndarray) -> np.ndarray:
    """Say which objects are no value: pandas' NA and NaT, and NaN beside text. Beside numbers NaN is one of them."""
    texts = any(isinstance(cell, str) for cell in cells)
    return np.array(
        [cell is pd.NA or cell is pd.NaT or (texts and isinstance(cell, float) and cell != cell) for cell in cells],
        dtype=bool,
    )


def inside_lists(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values in a list, in lists of lists, or the type itself."""
    while pa.types.is_list(kind):
        kind = kind.value_type
    return kind


def arrow_type(kind: spark_types.DataType, zone: str = "UTC") -> pa.DataType:
    """Return the Arrow type of a type of Spark. Since 4.3, PySpark asks for the time zone of timestamps."""
    if "timezone" in signature(to_arrow_type).parameters:
        return to_arrow_type(kind, timezone=zone)
    return to_arrow_type(kind)


# --- What is checked on the driver --------------------------------------


@dataclass
class Plan:
    """A request that was checked: the columns to send, and what becomes of them.

    Attributes
    ----------
    fitted : estimator
    names : tuple of str
        Feature columns of the frame, in the model's order.
    casts : list of str or None
        What each of them is cast to on its way: a type in SQL, "array" for an ML vector, None where it goes as it is.
    output : str
    type : DataType
        Of the new column.
    own : pyarrow.DataType or None
        What the model answers by itself, where that can be told.
    method : str
        Of the model.
    unshipped : Scorer
        With the model itself in place of its broadcast.
    broadcast : callable
        Makes that broadcast, when it is first needed.
    metadata : dict
        Of the new column.
    """

    fitted: Any
    names: tuple[str, ...]
    casts: list[str | None]
    output: str
    type: spark_types.DataType
    own: pa.DataType | None
    method: str
    unshipped: Scorer
    broadcast: Callable[[], Any]
    metadata: dict[str, str] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[Column | str]:
        """What is sent for each feature column.

        Names stay names where they can: PySpark takes milliseconds to make a column of one, to note where it was made.
        """
        found: list[Column | str] = []
        for name, cast in zip(self.names, self.casts, strict=True):
            if cast is None:
                found.append(quoted(name))
            else:
                found.append(vector_to_array(named(name)) if cast == "array" else named(name).cast(cast))
        return found

    @property
    def packed(self) -> list[Column | str]:
        """What `mapInArrow` sends: numbers as one array, and else `columns`.

        Spark asks each column of a batch for its size, after each row that it adds to it.
        """
        if len(self.names) > 1 and all(pa.types.is_float64(kind) for kind in self.unshipped.inputs):
            return [functions.array(*self.columns)]
        return self.columns

    @cached_property
    def scorer(self) -> Scorer:
        """The function for the workers; the first use of it broadcasts the model."""
        self.unshipped.model = self.broadcast()
        return self.unshipped


def plan_scoring(
    frame: DataFrame, model: Any, features: Features, *, method: str = "predict", output: Output = "label"
) -> Plan:
    """Check a request, and work out what to send to the workers; see `score`."""
    if isinstance(model, Plan):
        return model
    if not hasattr(frame, "_jdf"):
        raise TypeError(
            f"frame is {type(frame).__module__}.{type(frame).__qualname__}: give a DataFrame of a classic session, as "
            "spark.createDataFrame(frame) and frame.to_spark() make. Spark Connect has no broadcast for the model"
        )
    session, trained = frame.sparkSession, sklearn.__version__
    if isinstance(model, (str, Path)):
        model, trained = load_model(model, session)
    fitted = model.value if isinstance(model, Broadcast) else model
    if not callable(getattr(fitted, method, None)):
        raise ValueError(f"{type(fitted).__name__} has no method {method!r}")
    if method.startswith(("fit", "partial_fit")):
        raise ValueError(
            f"method={method!r} would fit {type(fitted).__name__} anew to each batch: name one that asks it"
        )
    name = output if isinstance(output, str) else output.name
    if times_there(frame)(name):
        raise ValueError(f"the frame has a column {name!r} already: give another name as `output`")
    names = feature_columns(frame, fitted, features, method)
    scorer, casts, own, failed = tried_scorer([frame.schema[name] for name in names], fitted, method, trained)
    if not isinstance(output, str):
        kind, scorer.answers = output.dataType, arrow_type(output.dataType)
        check_given_type(output, own, scorer)
    else:
        own = expected_type(fitted, method) if own is None else own
        if own is None:
            raise TypeError(
                f"cannot tell what {type(fitted).__name__}.{method} answers: rows of zeros give {failed!r}. Say the "
                "type: output=StructField(name, DoubleType())"
            ) from failed
        kind, scorer.answers = from_arrow_type(own), own
    if failed is not None and not any(pa.types.is_list(kind) for kind in scorer.inputs):  # whose length is a guess
        said = f"{type(failed).__name__}: {str(failed).partition(chr(10))[0]}"
        asked = f"{type(fitted).__name__}.{method}"
        warnings.warn(
            f"{asked} refuses rows of zeros and of ones, and the workers may fail in the same way: {said}", stacklevel=3
        )

    def broadcast() -> Any:
        return model if isinstance(model, Broadcast) else Shipped(fitted).broadcast(session.sparkContext)

    metadata = {} if isinstance(output, str) else dict(output.metadata)
    return Plan(
        fitted=fitted,
        names=names,
        casts=casts,
        output=name,
        type=kind,
        own=own,
        method=method,
        unshipped=scorer,
        broadcast=broadcast,
        metadata=metadata,
    )


def tried_scorer(
    columns: Sequence[spark_types.StructField], model: Any, method: str, trained: str
) -> tuple[Scorer, list[str | None], pa.DataType | None, Exception | None]:
    """Return what gives columns to a model as it takes them, `Plan.casts`, and what `answer_type` returns."""
    names = tuple(column.name for column in columns)
    fitted_on, _ = known_features(model, method)
    codes = method == "inverse_transform" and isinstance(model, LabelEncoder)
    if method == "inverse_transform":  # of numbers
        kinds = ["value" if codes else "number"] * len(names)
    else:
        kinds = [kind_wanted(model, place) for place in places_of(names, fitted_on)]

    def sent_where(whole: bool) -> list[tuple[str | None, pa.DataType]]:
        pairs = zip(columns, kinds, strict=True)
        return [sent_as(column, kind, model, fitted_on, whole=whole) for column, kind in pairs]

    sent = sent_where(bool(fitted_on) or codes)
    inputs = tuple(kind for _, kind in sent)
    arrays = [column.name for column in columns if is_several(column, fitted_on)]
    single = all(pa.types.is_float64(kind) for name, kind in zip(names, inputs, strict=True) if name not in arrays)
    plain = single and "documents" not in kinds
    documents = may_take_a_series(model, names) and takes_documents(model)
    shape = "matrix" if plain else "documents" if documents else "frame"
    labels = tuple(fitted_on if arrays else names) if fitted_on else () if plain else names
    if arrays and fitted_on and shape == "frame":
        raise TypeError(
            f"the arrays {arrays} stand for several of the columns that {type(model).__name__} was fitted on, and not "
            "all of the others are numbers: give each of those columns"
        )
    scorer = Scorer(SimpleNamespace(value=model), method, inputs, shape, labels, pa.null(), trained)
    own, failed = answer_type(scorer, names)
    if failed is not None and kinds == ["documents"] and pa.types.is_list(inputs[0]):
        raise TypeError(
            f"column {names[0]!r} is {columns[0].dataType.simpleString()}: {type(model).__name__} takes text there"
        ) from failed
    if scorer.labels and not fitted_on and (again := sent_where(True)) != sent:
        # It takes a table, in which whole numbers stay whole: as text, 5.0 is not 5.
        table = replace(scorer, inputs=tuple(kind for _, kind in again), shape="frame", labels=names)
        found = answer_type(table, names)
        if failed is not None:
            scorer, sent, (own, failed) = table, again, found
        elif found[1] is None:  # the type stays: where whole numbers lack some, the answers may be fractions
            scorer, sent = table, again
    return scorer, [cast for cast, _ in sent], own, failed


def load_model(path: str | Path, session: SparkSession) -> tuple[Any, str]:
    """Return a model that `joblib.dump` wrote, and the version of scikit-learn that trained it.

    Raises
    ------
    RuntimeError
        Where that version is not the one that is here, with the versions of all.
    ValueError
        Where the file cannot be loaded for any other reason.
    """
    here, failed, model = sklearn.__version__, None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = joblib.load(path)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - what an old model lacks here may show as any error
            failed = error
    versions = [w.message.original_sklearn_version for w in caught if isinstance(w.message, InconsistentVersionWarning)]
    if failed is None and not versions:
        return model, here
    # Of a model that cannot be loaded, the file itself may tell: its parts end with their version.
    written = re.search(rb"_sklearn_version\W{1,8}?(\d+\.\d[\w.]*)", Path(path).read_bytes()) if failed else None
    trained = str(versions[0]) if versions else written[1].decode() if written else here
    if failed is not None and trained == here:
        raise ValueError(
            f"cannot load {path}: {failed!r}. It has to be a file that joblib.dump wrote, and all that is in it "
            "has to be importable here, in the version that it had"
        ) from failed
    worker = session.sparkContext.parallelize([0], 1).map(lambda _: sklearn.__version__).first()
    if failed is not None:
        raise RuntimeError(
            f"cannot load {path}: {failed!r}. It was trained with scikit-learn {trained}, the driver has {here}, the "
            f"worker has {worker}: install the same on all, or train again."
        ) from failed
    same_versions(trained, here, worker)
    return model, trained


def named(name: str) -> Column:
    """Return a column by its name, in which any character may be."""
    return functions.col(quoted(name))


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever characters are in it."""
    return "`" + name.replace("`", "``") + "`"


MADE_UP = ("Column_{}", "feature_{:04}")  # by LightGBM and by InterpretML, for columns of an array


def known_features(model: Any, method: str) -> tuple[list[str], int | None]:
    """Return the names and the number of the columns that a method takes, where the model or its first step does know.

    `inverse_transform` takes what the model answers, of which it keeps neither. Names that were made up are none.
    """
    if method == "inverse_transform":
        return [], None
    step = model if hasattr(model, "n_features_in_") else front(model)
    names = getattr(step, "feature_names_in_", None)
    names = [] if names is None else list(names)
    if not all(isinstance(name, str) for name in names):  # scikit-learn takes such names for none
        names = []
    made_up = any(names == [form.format(place) for place in range(len(names))] for form in MADE_UP)
    return [] if made_up else names, getattr(step, "n_features_in_", None)


def feature_columns(frame: DataFrame, model: Any, features: Features, method: str) -> tuple[str, ...]:
    """Return the names of the frame's columns that the method takes, in the model's order."""
    fitted_on, width = known_features(model, method)
    if features is None and not fitted_on:
        raise ValueError(f"{type(model).__name__}.{method} knows no column names: say features=[...] in its order")
    one = isinstance(features, (str, Column))
    asked: list[Any] = [features] if one else list(needed_features(model, method) if features is None else features)
    if wrong := [name for name in asked if not isinstance(name, str)]:
        raise TypeError(f"features={wrong[:5]}: give the names of columns, and compute others in the frame before")
    names = [unquoted(name) if name not in frame.columns else name for name in asked]
    if missing := [name for name in names if name not in frame.columns]:
        lower = [name.lower() for name in missing]
        # LightGBM makes underscores of blanks.
        alike = [name for name in frame.columns if {name.lower(), name.lower().replace(" ", "_")} & {*lower}]
        hint = f", and {alike} in other letters" if alike else ""
        raise ValueError(f"the frame has no column {missing}: it has {frame.columns[:50]}{hint}")
    times = times_there(frame)
    if twice := sorted({name for name in names if names.count(name) > 1 or times(name) > 1}):
        raise ValueError(f"the columns {twice} are there or asked for more than once, in these or other letters")
    if arrays := [name for name in names if is_several(frame.schema[name], fitted_on)]:
        start, stop = names.index(arrays[0]), names.index(arrays[-1]) + 1
        end = len(fitted_on) - len(names[stop:])  # of the features that the arrays stand for
        others = names[:start] == fitted_on[:start] and names[stop:] == fitted_on[end:]
        if fitted_on and not (others and names[start:stop] == arrays and start + len(arrays) <= end):
            raise ValueError(
                f"{type(model).__name__} was fitted on the columns {fitted_on[:50]}: the arrays {arrays} have to stand "
                f"side by side in place of some, and the others have to be the same in that order, got {names[:50]}"
            )
        return tuple(names)
    if width is not None and not fitted_on and len(names) != width:
        raise ValueError(f"{type(model).__name__} takes {width} features, got {len(names)}: {names[:50]}")
    return in_models_order(names, model, method)


def needed_features(model: Any, method: str) -> list[str]:
    """Return the names of the columns that a method reads, where the model knows its columns by name."""
    fitted_on, _ = known_features(model, method)
    unread = dropped(model) if fitted_on else set()
    return [name for place, name in enumerate(fitted_on) if place not in unread]


def in_models_order(names: Sequence[str], model: Any, method: str) -> tuple[str, ...]:
    """Return columns in the order of those that the model was fitted on by name, or as they are where it has none."""
    fitted_on, needed = known_features(model, method)[0], needed_features(model, method)
    missing, surplus = [n for n in needed if n not in names], [n for n in names if n not in fitted_on]
    if fitted_on and (missing or surplus):
        raise ValueError(f"the model was fitted on other columns: missing {missing}, surplus {surplus}")
    return tuple(needed or names)


def places_of(names: Sequence[str], fitted_on: Sequence[str]) -> list[int]:
    """Return the places of the columns that are sent among those that the model was fitted on."""
    known = {name: place for place, name in enumerate(fitted_on)}
    return [known.get(name, place) for place, name in enumerate(names)]


def dropped(model: Any) -> set[int]:
    """Return the places of columns, known by name, that the ColumnTransformer at the front of a model leaves out."""
    step = front(model)
    if not isinstance(step, ColumnTransformer) or not hasattr(step, "feature_names_in_"):
        return set()
    read = {name for name, part, _ in step.transformers_ if not isinstance(part, str) or part != "drop"}
    kept = {place for name in read for place in step._transformer_to_input_indices.get(name, ())}
    return set(range(len(step.feature_names_in_))) - kept if kept else set()


def is_several(column: spark_types.StructField, fitted_on: Sequence[str]) -> bool:
    """Say whether a column stands for several features: numbers in an array that the model has no name for."""
    kind = column.dataType
    numbers = isinstance(kind, spark_types.ArrayType) and isinstance(kind.elementType, spark_types.NumericType)
    return (numbers or isinstance(kind, VectorUDT)) and column.name not in fitted_on


def times_there(frame: DataFrame) -> Callable[[str], int]:
    """Return how many columns Spark takes a name for: `a` is also `A`, unless it is told otherwise."""
    exact = str(frame.sparkSession.conf.get("spark.sql.caseSensitive")).lower() == "true"
    counts = Counter(frame.columns if exact else [name.lower() for name in frame.columns])
    return lambda name: counts[name if exact else name.lower()]


def unquoted(name: str) -> str:
    """Return a name without the backticks that SQL wants around it."""
    return name[1:-1].replace("``", "`") if len(name) > 2 and name[0] == name[-1] == "`" else name


# Where they keep the fitted ones. `estimator_` of an ensemble is not fitted.
INSIDE = ("estimators_", "calibrated_classifiers_", "estimator_", "regressor_", "estimator")
AROUND = {"estimator", "estimators", "regressor"}  # parameters of models around other models


def front(model: Any) -> Any:
    """Return what takes a model's columns: of a search the best, of a pipeline the first step that does anything."""
    if hasattr(model, "best_estimator_"):  # a search, also one of your own
        return front(model.best_estimator_)
    if isinstance(model, Pipeline):
        return front(next((part for _, part in model.steps if part not in (None, "passthrough")), None))
    return model


def takers(step: Any, place: int) -> Iterator[tuple[Any, int]]:
    """Yield the fitted steps inside a model that are the first to take a column of its input, and its place there."""
    step = front(step)
    if isinstance(step, FeatureUnion):
        for _, part in step.transformer_list:
            yield from takers(part, place)
    elif isinstance(step, ColumnTransformer):
        for name, part, _ in getattr(step, "transformers_", ()):
            own = list(step._transformer_to_input_indices.get(name, ()))
            if place in own:
                yield from takers(part, own.index(place))
    elif parts := fitted_inside(step):
        every = np.arange(getattr(step, "n_features_in_", place + 1))
        left = np.flatnonzero(step.support_) if hasattr(step, "support_") else every  # by RFE
        for part, own in zip(parts, getattr(step, "estimators_features_", [left] * len(parts)), strict=True):
            if place in own:
                yield from takers(part, list(own).index(place))
    else:
        if isinstance(inner := getattr(step, "_preprocessor", None), ColumnTransformer):
            yield from takers(inner, place)  # the encoder of categories inside of boosting by histograms
        yield step, place


def fitted_inside(step: Any) -> list[Any]:
    """Return the fitted models inside of one of scikit-learn's that goes around others, such as a vote or a bag."""
    if not is_sklearn(step) or not AROUND & set(step.get_params(deep=False)):
        return []
    found: Any = next((value for name in INSIDE if (value := getattr(step, name, None)) is not None), [])
    parts = list(found) if isinstance(found, (list, np.ndarray)) else [found]
    return [part if isinstance(part, BaseEstimator) else getattr(part, "estimator", part) for part in parts]


def is_sklearn(step: Any) -> bool:
    """Say whether a step is scikit-learn's own, and so is what its attributes say."""
    return isinstance(step, BaseEstimator) and type(step).__module__.startswith("sklearn.")


def known_values(step: Any, place: int) -> list[Any]:
    """Return what an encoder or an imputer knows of a column: its categories, or what it fills holes with."""
    if isinstance(step, (LabelEncoder, LabelBinarizer)):
        return list(getattr(step, "classes_", ()))
    if hasattr(step, "categories_"):
        return [value for value in step.categories_[place] if not pd.isna(value)]
    filled = getattr(step, "statistics_", ())
    return [value for value in filled[place : place + 1] if not pd.isna(value)]


def kind_wanted(model: Any, place: int) -> str:
    """Return what a model takes in one of its columns.

    It is "number", "text", "documents", "value" (numbers, whole ones not as doubles), or "any" where that is not known.
    The first step inside of it that is known decides; a step of your own beside it gets whole numbers as such.
    """
    kinds = [kind_of(*taker) for taker in takers(model, place)]
    return "value" if {*kinds} == {"any", "number"} else next((kind for kind in kinds if kind != "any"), "any")


def kind_of(step: Any, place: int) -> str:
    """Return what a fitted step takes in one of its columns; see `kind_wanted`."""
    if not is_sklearn(step) or type(step).__name__ == "_ConstantPredictor":
        return "any"
    if known := known_values(step, place):
        if any(isinstance(value, str) for value in known):
            return "text"
        numbers = all(isinstance(value, (int, float, np.number, np.bool_)) for value in known)
        return "any" if not numbers else "value" if hasattr(step, "categories_") else "number"
    tags = get_tags(step)
    if isinstance(step, MultiLabelBinarizer) or (tags.input_tags.string and not tags.input_tags.two_d_array):
        return "documents"
    takes_more = tags.input_tags.string or tags.input_tags.dict or hasattr(step, "statistics_")
    return "any" if tags.no_validation or takes_more or hasattr(step, "categories_") else "number"


def may_take_a_series(model: Any, names: Sequence[str]) -> bool:
    """Say whether a model may take a column by itself, such as texts, and not in a table; that has features."""
    return len(names) == 1 and known_features(model, "predict") == ([], None)


def takes_documents(model: Any) -> bool:
    """Say whether a model takes documents, be it behind steps that this file does not know."""
    steps = [part for _, part in model.steps] if isinstance(model, Pipeline) else [model]
    return any(kind_wanted(step, 0) == "documents" for step in steps)


def sent_as(
    column: spark_types.StructField, kind: str, model: Any, fitted_on: Sequence[str], *, whole: bool
) -> tuple[str | None, pa.DataType]:
    """Return what a column is cast to before it is sent to Python (see `Plan`), and its Arrow type there.

    Numbers go as doubles; with `whole`, truth and whole numbers go as such to "value" and "any". Else a column goes as
    it is where the model takes text, and where a step that this file does not know may take anything. Documents may be
    lists, of words for a vectorizer that takes them apart by itself.
    """
    found = column.dataType
    number = isinstance(found, (spark_types.NumericType, spark_types.BooleanType))
    several = is_several(column, fitted_on)
    if isinstance(found, VectorUDT) and (several or kind == "any"):
        return "array", pa.list_(pa.float64())
    if several and kind != "documents":
        return "array<double>", pa.list_(pa.float64())
    if isinstance(found, spark_types.DoubleType) and kind in ("number", "value", "any"):
        return None, pa.float64()
    if whole and kind in ("any", "value") and isinstance(found, spark_types.IntegralType):
        # A product of shorter integers would overflow without a word.
        return None if isinstance(found, spark_types.LongType) else "bigint", pa.int64()
    if kind == "any" and isinstance(found, spark_types.TimestampType):
        # The time on the wall, as in pandas: Python's ways of Spark do not agree on the zone of any other.
        return "timestamp_ntz", pa.timestamp("us")
    truth = whole and isinstance(found, spark_types.BooleanType)
    if (kind == "any" and not number) or (kind in ("any", "value") and truth):
        return None, arrow_type(found)
    if kind == "documents" and isinstance(model, MultiLabelBinarizer) and not isinstance(found, spark_types.ArrayType):
        raise TypeError(f"column {column.name!r} is {found.simpleString()}: {type(model).__name__} takes arrays there")
    if kind in ("text", "documents") and isinstance(found, spark_types.StringType):
        return None, pa.string()
    if kind == "documents" and isinstance(found, spark_types.ArrayType):
        return None, arrow_type(found)
    if kind in ("text", "documents") or not number:
        takes = "text" if kind in ("text", "documents") else "numbers"
        raise TypeError(f"column {column.name!r} is {found.simpleString()}: {type(model).__name__} takes {takes} there")
    return "double", pa.float64()


MOST_WIDE = 10_000  # columns of a sparse answer, which become a list for each row: 80 kB of it
TRIED = 2  # rows: a step that iterates over a table of one column gets one name, as many as there are in one row


def answer_type(scorer: Scorer, names: Sequence[str]) -> tuple[pa.DataType | None, Exception | None]:
    """Return the type of the model's answers, by its classes and by what it answers to rows of zeros.

    Returns
    -------
    type : pyarrow.DataType or None
        None where it cannot be told.
    failed : Exception or None
        What rows of zeros raised, where those of ones failed too.

    Raises
    ------
    ValueError
        Where the model was not fitted.
    """
    model, method = scorer.model.value, scorer.method
    classes = as_classes(model) if method == "predict" else None
    answer, failed = answer_to_zeros(scorer, names)
    if isinstance(failed, NotFittedError):
        raise ValueError(f"{type(model).__name__} was not fitted: {failed}") from failed
    if failed is not None:
        several = str(getattr(getattr(model, "_label_binarizer", None), "y_type_", "")).startswith("multilabel")
        several = several or getattr(model, "multilabel_", False)
        return (None if classes is None or several else classes.type), failed
    width = (getattr(answer, "shape", ()) or (1,))[-1]
    if hasattr(answer, "toarray") and width > MOST_WIDE:
        raise ValueError(
            f"{type(model).__name__}.{method} answers {width:,} columns, sparse: as lists they take {width * 8:,} "
            f"bytes a row. At most {MOST_WIDE:,} are taken: put a step behind it that reduces them"
        )
    one_each = method == "predict" and getattr(answer, "ndim", 1) == 2 and width == 1
    found = scorer.checked(np.ravel(answer) if one_each else answer, TRIED)
    if classes is not None:
        try:
            as_arrow(answer, classes.type)
        except Exception:  # noqa: BLE001 - whatever it is, it is no label: several of them for each row, for example
            return found.type, None
        return classes.type, None
    if pa.types.is_null(inside_lists(found.type)):
        return None, None
    return found.type, None


def as_classes(model: Any) -> pa.Array | None:
    """Return the labels of a classifier of one output, or None."""
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return None
    try:
        return as_arrow(classes)
    except Exception as error:
        raise TypeError(f"the labels of {type(model).__name__} have no type in Spark: {error}") from error


def answer_to_zeros(scorer: Scorer, names: Sequence[str]) -> tuple[Any, Exception | None]:
    """Return what the model answers to rows of zeros, or else of ones, or what the zeros raise.

    How it takes rows is tried too, and noted in the scorer: see `try_shapes`, and as floats of 32 bits where it refuses
    those of 64.
    """
    found = try_shapes(scorer, names)
    if "dtype" in str(found[1] or ""):
        scorer.single = True
        again = try_shapes(scorer, names)
        if again[1] is None:
            return again
        scorer.single = False
    return found


def try_shapes(scorer: Scorer, names: Sequence[str]) -> tuple[Any, Exception | None]:
    """Do the work of `answer_to_zeros` with floats of one precision.

    A model that was fitted without names may want those of the caller: it fails on a matrix, or warns that a later step
    was fitted on names, whose order that step can check in a table alone. One column that is no number may be wanted as
    a series.
    """
    given = scorer.shape, scorer.labels
    shapes = [given]
    places = places_of(names, known_features(scorer.model.value, scorer.method)[0])
    if not scorer.labels and all(pa.types.is_float64(kind) for kind in scorer.inputs):
        shapes.append((scorer.shape, tuple(names)))
    elif scorer.shape != "matrix" and may_take_a_series(scorer.model.value, names):
        shapes.append(("frame" if scorer.shape == "documents" else "documents", scorer.labels))
    tried: list[tuple[Any, Exception | None]] = []
    for value in (0, 1):
        for shape, labels in shapes:
            scorer.shape, scorer.labels = shape, labels
            with warnings.catch_warnings(record=True, action="always") as caught:
                try:
                    sent = zip(places, scorer.inputs, strict=True)
                    columns = [trial_column(kind, scorer, place, value) for place, kind in sent]
                    tried.append((getattr(scorer.model.value, scorer.method)(scorer.rows(columns)), None))
                except Exception as error:  # noqa: BLE001 - a row of zeros may mean anything to a model
                    tried.append((None, error))
            answer, failed = tried[-1]
            if "feature names should match" in str(failed):
                said = " ".join(str(failed).split())
                raise ValueError(
                    f"a step of {type(scorer.model.value).__name__} refuses {list(labels)}: {said}"
                ) from failed
            nameless = not labels and any("valid feature names" in str(one.message) for one in caught)
            if failed is None and has_one_for_each(answer) and not (nameless and len(shapes) > 1):
                return tried[-1]
        if tried[0][1] is None:  # it does answer zeros, if not as it should: ones would hide that
            break
    kept = 1 if not given[1] and len(shapes) > 1 and wants_a_table(tried[0][1]) else 0
    scorer.shape, scorer.labels = shapes[kept]
    return tried[kept]


def wants_a_table(failed: Exception | None) -> bool:
    """Say whether a model failed because it asked a matrix for a column by its name, or for what a table can do."""
    return any(mark in str(failed) for mark in ("only integers, slices", "'numpy.ndarray' object", "for dataframes"))


def has_one_for_each(answers: Any) -> bool:
    """Say whether a model gave one answer to each of the rows that are tried."""
    try:
        return len(as_arrow(answers)) == TRIED
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return False


def trial_column(kind: pa.DataType, scorer: Scorer, place: int, value: int) -> pa.Array:
    """Return a column of the rows that are tried: what the model knows of it, or a number, or text in place of one.

    An encoder may refuse a category that it does not know. An array has as many numbers as the model has features.
    """
    model, method, count = scorer.model.value, scorer.method, len(scorer.inputs)
    if pa.types.is_list(kind) and scorer.shape == "matrix":
        first = not any(pa.types.is_list(before) for before in scorer.inputs[:place])
        width = (known_features(model, method)[1] or count) - count + 1
        return pa.array([[float(value)] * (width if first else 1)] * TRIED, kind)
    known = [one for taker in takers(model, place) for one in known_values(*taker) if method != "inverse_transform"]
    if known:
        return pa.array(known[:1] * TRIED).cast(kind)
    if pa.types.is_list(kind):
        return pa.array([trial_column(kind.value_type, scorer, place, value).to_pylist()[:1]] * TRIED, kind)
    if pa.types.is_struct(kind):
        parts = [trial_column(one.type, scorer, place, value) for one in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    if pa.types.is_map(kind):
        return pa.array([[]] * TRIED, kind)
    if pa.types.is_string(kind):
        return pa.array([str(value or "")] * TRIED)
    if pa.types.is_date32(kind):
        return pa.array([value] * TRIED, pa.int32()).cast(kind)
    return pa.array([value] * TRIED).cast(kind) if pa.types.is_primitive(kind) else pa.nulls(TRIED, kind)


def expected_type(model: Any, method: str) -> pa.DataType | None:
    """Return the type that models of this kind answer, where a row of zeros does not tell."""
    if method == "predict" and isinstance(model, BaseEstimator) and is_regressor(model):
        return pa.float64()
    if method == "decision_function" and hasattr(model, "classes_"):
        return pa.float64() if len(model.classes_) == 2 else pa.list_(pa.float64())
    if method in ("predict_proba", "predict_log_proba", "transform"):
        return pa.list_(pa.float64())
    return None


def check_given_type(output: spark_types.StructField, own: pa.DataType | None, scorer: Scorer) -> None:
    """Raise TypeError where no answer of the model can be of the type that the caller gave.

    Where some may, and others not, the job tells: Arrow casts nothing that does not fit.
    """
    given, asked = scorer.answers, f"{type(scorer.model.value).__name__}.{scorer.method}"
    wrong = f"output {output.name!r} is {output.dataType.simpleString()}: {asked} answers"
    if own is None or own == given:
        return
    truth = pa.types.is_boolean(inside_lists(given)) and not pa.types.is_boolean(
        inside_lists(own)
    )  # Arrow calls 2 true
    if pa.types.is_list(own) != pa.types.is_list(given) or truth:
        raise TypeError(f"{wrong} {from_arrow_type(own).simpleString()}")
    classes = as_classes(scorer.model.value) if scorer.method == "predict" else None
    # Between two types there may be no cast at all.
    values, wanted = pa.array([], inside_lists(own)), inside_lists(given)
    if classes is not None and classes.type == own:
        values, wanted = classes, given
    try:
        values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        what = "labels that have" if len(values) else f"{from_arrow_type(own).simpleString()}, which has"
        raise TypeError(f"{wrong} {what} no place there: {error}") from error


# --- The ways ------------------------------------------------------------
#
# Each takes frame, model and features, and `method` and `output` as `score` does, whose default name here is `label`.


def added(frame: DataFrame, plan: Plan, column: Column) -> DataFrame:
    """Return the frame with a column more."""
    return frame.select("*", column.alias(plan.output, metadata=plan.metadata))


def score_by_row_udf(
    frame: DataFrame, model: Any, features: Features = None, *, arrow: bool = True, **options: Any
) -> DataFrame:
    """Call the model for each row.

    `arrow` says how rows go to Python: in Arrow batches, the default since Spark 4.2, or pickled. That hardly matters:
    scikit-learn spends nearly all of the time on checking an input of one row.
    """
    plan = plan_scoring(frame, model, features, **options)
    scorer = plan.scorer

    @udf(plan.type, useArrow=arrow)
    def predict(*row: Any) -> Any:
        columns = [pa.array([cell], kind) for cell, kind in zip(row, scorer.inputs, strict=True)]
        return scorer(*columns)[0].as_py()

    return added(frame, plan, predict(*plan.columns))


def score_by_row_udf_pickled(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model for each row, with rows pickled on their way."""
    return score_by_row_udf(frame, model, features, arrow=False, **options)


def as_series(answers: pa.Array) -> pd.Series:
    """Return answers in pandas, kept in Arrow: of any other series Spark takes NaN for null."""
    return answers.to_pandas(types_mapper=pd.ArrowDtype)


def with_nan(column: Column, kind: spark_types.DataType, *, scalars: bool = False) -> Column:
    """Return answers that came by pandas with NaN where it was, as in the other ways: in lists it comes as null."""
    inner = kind
    while isinstance(inner, spark_types.ArrayType):
        inner = inner.elementType
    if not isinstance(inner, (spark_types.FloatType, spark_types.DoubleType)):
        return column
    if isinstance(kind, spark_types.ArrayType):
        return functions.transform(column, lambda one: with_nan(one, kind.elementType, scalars=True))
    return functions.coalesce(column, functions.lit(float("nan")).cast(kind)) if scalars else column


def score_by_series_udf(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model for each Arrow batch, as pandas series."""
    plan = plan_scoring(frame, model, features, **options)
    scorer = plan.scorer

    @pandas_udf(plan.type)  # type: ignore[call-overload]  # pyspark declares no overload for UDFs by type hints
    def predict(*columns: pd.Series) -> pd.Series:
        return as_series(scorer(*columns))

    return added(frame, plan, with_nan(predict(*plan.columns), plan.type))


def score_by_pandas_udf(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model for each Arrow batch of an iterator of pandas series.

    A batch has at most `spark.sql.execution.arrow.maxRecordsPerBatch` rows, 10,000 by default.
    """
    plan = plan_scoring(frame, model, features, **options)
    scorer = plan.scorer

    @pandas_udf(plan.type)  # type: ignore[call-overload]
    def predict(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        for batch in batches:  # of one column, Spark gives the series itself
            yield as_series(scorer(*(batch if isinstance(batch, tuple) else (batch,))))

    return added(frame, plan, with_nan(predict(*plan.columns), plan.type))


def score_by_arrow_udf(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model for each Arrow batch, without pandas in between; the other columns stay in the JVM."""
    if arrow_udf is None:
        raise ValueError("arrow_udf: it came with Spark 4.1, choose another way")
    plan = plan_scoring(frame, model, features, **options)
    scorer = plan.scorer

    @arrow_udf(plan.type)
    def predict(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        for batch in batches:
            yield scorer(*(batch if isinstance(batch, tuple) else (batch,)))

    return added(frame, plan, predict(*plan.columns))


def score_by_map_in_pandas(
    frame: DataFrame, model: Any, features: Features = None, *, keep: str | Sequence[str] | None = None, **options: Any
) -> DataFrame:
    """Map whole rows in pandas; `keep` names the columns to return, by default all.

    Long integers, fractions and times that are kept pass as text, because pandas would change them: keep few.
    """
    plan = plan_scoring(frame, model, features, **options)
    kept, schema = kept_columns(frame, plan, keep)
    scorer, count, names = plan.scorer, len(kept), schema.names
    fields = list(schema)[:count]
    sent = [to_text(functions.col(column), one.dataType) for column, one in zip(kept, fields, strict=True)]
    passed = [spark_types.StructField(one.name, with_text(one.dataType), one.nullable) for one in fields]

    def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            columns = [batch.iloc[:, place] for place in range(batch.shape[1])]
            answers = as_series(scorer(*columns[count:]))
            yield pd.concat([*columns[:count], answers], axis=1, keys=names)

    mapped = numbered(frame.select(*sent, *plan.columns)).mapInPandas(
        predict, spark_types.StructType([*passed, schema[count]])
    )
    back = [from_text(named(one.name), one.dataType) for one in fields]
    back.append(with_nan(named(plan.output), plan.type))
    return mapped.select(
        *(column.alias(one.name, metadata=one.metadata) for column, one in zip(back, schema, strict=True))
    )


AS_TEXT = (
    spark_types.LongType,
    spark_types.FloatType,
    spark_types.DoubleType,
    spark_types.TimestampType,
    spark_types.TimestampNTZType,
)


def with_text(kind: spark_types.DataType, *, inside: bool = False, text: bool = True) -> spark_types.DataType:
    """Return a type with text in place of what pandas would change, or, without `text`, as it comes back.

    To pandas a null among floats is NaN, integers beside a null are floats, the hour before clocks are set back is the
    hour after, and time ends in 2262. Inside of lists and structs a timestamp with a zone stays what it is.
    """
    if isinstance(kind, AS_TEXT) and not (inside and isinstance(kind, spark_types.TimestampType)):
        return spark_types.StringType() if text else kind
    if isinstance(kind, spark_types.ArrayType):
        return spark_types.ArrayType(with_text(kind.elementType, inside=True, text=text))
    if isinstance(kind, spark_types.MapType):  # a key is never null
        return spark_types.MapType(kind.keyType, with_text(kind.valueType, inside=True, text=text))
    if isinstance(kind, spark_types.StructType):
        return spark_types.StructType(
            [spark_types.StructField(one.name, with_text(one.dataType, inside=True, text=text)) for one in kind]
        )
    return kind


def to_text(column: Column, kind: spark_types.DataType) -> Column:
    """Return a column of the type that `with_text` tells; a timestamp as its microseconds, whatever the zone."""
    if isinstance(kind, spark_types.TimestampType):
        return functions.unix_micros(column).cast("string")
    return column if with_text(kind) == kind else column.cast(with_text(kind))


def from_text(column: Column, kind: spark_types.DataType) -> Column:
    """Return what `to_text` was given."""
    if isinstance(kind, spark_types.TimestampType):
        return functions.timestamp_micros(column.cast("bigint"))
    back = with_text(kind, text=False)
    return column if with_text(kind) == back else column.cast(back)


def score_by_map_in_arrow(
    frame: DataFrame, model: Any, features: Features = None, *, keep: str | Sequence[str] | None = None, **options: Any
) -> DataFrame:
    """Map whole rows in Arrow batches; `keep` names the columns to return, by default all.

    Every column that is kept passes through Python and back: keep few, and join the rest by a key.
    """
    plan = plan_scoring(frame, model, features, **options)
    kept, schema = kept_columns(frame, plan, keep)
    scorer, count, names = plan.scorer, len(kept), schema.names

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            answers = scorer(*batch.columns[count:])
            yield pa.RecordBatch.from_arrays([*batch.columns[:count], answers], names)

    return numbered(frame.select(*kept, *plan.packed)).mapInArrow(predict, schema)


def kept_columns(
    frame: DataFrame, plan: Plan, keep: str | Sequence[str] | None
) -> tuple[list[str], spark_types.StructType]:
    """Return the columns that pass through Python and come back, and the schema of the result."""
    asked = frame.columns if keep is None else [keep] if isinstance(keep, str) else keep
    names = [unquoted(name) if name not in frame.columns else name for name in asked]
    times = times_there(frame)
    if bad := [name for name in names if name not in frame.columns or times(name) != 1]:
        raise ValueError(f"cannot keep {bad}: the frame has {frame.columns[:50]}")
    fields = [frame.schema[name] for name in names]
    for one in fields:
        try:
            arrow_type(one.dataType)
        except Exception as error:
            raise TypeError(
                f"column {one.name!r} is {one.dataType.simpleString()}, which cannot pass through Arrow"
            ) from error
        if isinstance(one.dataType, spark_types.UserDefinedType):
            raise TypeError(f"column {one.name!r} is {one.dataType.simpleString()}, and only UDFs can keep it")
    return [quoted(name) for name in names], spark_types.StructType(
        [*fields, spark_types.StructField(plan.output, plan.type, True, plan.metadata)]
    )


def numbered(frame: DataFrame) -> DataFrame:
    """Give columns names that differ: one may be sent twice, to the model and to be kept."""
    return frame.toDF(*(f"_{number}" for number in range(len(frame.columns))))


PREDICT_BATCH_TYPES = (spark_types.IntegralType, spark_types.FractionalType, spark_types.StringType)


def score_by_predict_batch_udf(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model through Spark's own frame for inference, `pyspark.ml.functions.predict_batch_udf`."""
    plan = plan_scoring(frame, model, features, **options)
    lists, truth = isinstance(plan.type, spark_types.ArrayType), isinstance(plan.type, spark_types.BooleanType)
    if not isinstance(getattr(plan.type, "elementType", plan.type), (*PREDICT_BATCH_TYPES, spark_types.BooleanType)):
        raise ValueError(f"predict_batch_udf takes no {plan.type.simpleString()}: choose another way")
    kind = spark_types.ByteType() if truth else plan.type
    # It counts the parameters of the function that it gets, and wants to know how long arrays are.
    parameters = [Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(len(plan.columns))]
    arrays = [pa.types.is_list(kind) for kind in plan.unshipped.inputs]
    _, width = known_features(plan.fitted, plan.method)
    if any(arrays) and (sum(arrays) > 1 or width is None or plan.unshipped.shape != "matrix"):
        raise ValueError("predict_batch_udf has to know how long each array of features is: choose another way")
    shapes = [[(width or 1) - len(arrays) + 1] if array else None for array in arrays] if any(arrays) else None
    scorer = plan.scorer

    def load() -> Any:
        def predict(*columns: np.ndarray) -> np.ndarray:
            found = scorer(*(pd.Series(list(column)) if column.ndim > 1 else pd.Series(column) for column in columns))
            if lists:
                return np.stack(found.to_pandas().to_list())
            return (found.cast(pa.int8()) if truth else found).to_numpy(zero_copy_only=False)

        predict.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return predict

    size = int(frame.sparkSession.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 10_000)
    size = size if size > 0 else np.iinfo(np.int32).max  # to Spark that means no limit
    predict = predict_batch_udf(load, return_type=kind, batch_size=size, input_tensor_shapes=shapes)
    return added(frame, plan, with_nan(predict(*plan.columns), kind, scalars=True).cast(plan.type))


def score_by_files(
    frame: DataFrame, model: Any, features: Features = None, *, keep: str | Sequence[str] | None = None, **options: Any
) -> DataFrame:
    """Let the workers read the Parquet files of a frame that is `spark.read.parquet(...)` as it stands.

    Row groups are dealt out by their rows, in as many tasks as there are slots. Only the features and the columns to
    keep are read; those to keep, by default all, and the answers go to the JVM.
    """
    plan = plan_scoring(frame, model, features, **options)
    kept, schema = kept_columns(frame, plan, keep)
    if "array" in plan.casts:
        raise ValueError("files: an ML vector has no array in its file: choose another way")
    names, inputs = schema.names, plan.names
    groups = row_groups(frame, {*names[: len(kept)], *inputs})
    scorer = plan.scorer
    tasks = deal(groups, frame.sparkSession.sparkContext.defaultParallelism)
    zone = str(frame.sparkSession.conf.get("spark.sql.session.timeZone"))
    kinds = [arrow_type(one.dataType, zone) for one in schema][: len(kept)]
    clock = {name: zone for name, cast in zip(inputs, plan.casts, strict=True) if cast == "timestamp_ntz"}
    columns = list(dict.fromkeys([*names[: len(kept)], *inputs]))

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = [group for batch in batches for task in batch.column(0).to_pylist() for group in tasks[task]]
        for batch in batches_of(mine, columns):
            sent = zip(inputs, scorer.inputs, strict=True)
            answers = scorer(*(as_sent(batch.column(name), kind, clock.get(name)) for name, kind in sent))
            back = [batch.column(name).cast(kind) for name, kind in zip(names, kinds, strict=False)]
            yield pa.RecordBatch.from_arrays([*back, answers], names)

    return frame.sparkSession.range(0, len(tasks), 1, max(1, len(tasks))).mapInArrow(read, schema)


def as_sent(column: pa.Array, kind: pa.DataType, zone: str | None) -> pa.Array:
    """Return a feature of a file as Spark would send it; a timestamp goes as the time on the wall in a zone."""
    if zone:
        column = pc.local_timestamp(column.cast(pa.timestamp("us", zone)))
    return column.cast(kind, safe=False)


def row_groups(frame: DataFrame, columns: set[str]) -> list[tuple[int, str, int]]:
    """Return (rows, address of the file, number of the row group) of all row groups of a frame.

    Raises
    ------
    ValueError
        Where the frame is anything but Parquet files as they stand, or the files lack a column.
    """
    if (relation := parquet_relation(frame)) is None:
        raise ValueError("files: the frame has to be spark.read.parquet(...), without a filter or a select")
    found = []
    # A file whose path is given twice is here twice, as Spark reads it; `frame.inputFiles` has it once.
    for address in map(as_address, sorted(relation.inputFiles())):
        filesystem, path = opened(address)
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            if lacking := sorted(columns - set(file.schema_arrow.names)):
                raise ValueError(f"files: {address} has no column {lacking}, such as those in the names of folders")
            found += [(file.metadata.row_group(i).num_rows, address, i) for i in range(file.num_row_groups)]
    return found


PARQUET = "org.apache.spark.sql.execution.datasources.parquet.ParquetFileFormat"


def parquet_relation(frame: DataFrame) -> Any:
    """Return what Spark knows of a frame that is Parquet files as they stand, or None.

    Tables of Delta and the like have a class of their own, and leave out some rows of their files.
    """
    relation = frame._jdf.queryExecution().analyzed()
    if relation.getClass().getSimpleName() != "LogicalRelation" or not hasattr(relation.relation(), "fileFormat"):
        return None
    return relation.relation() if relation.relation().fileFormat().getClass().getName() == PARQUET else None


def as_address(file: str) -> str:
    """Return what Arrow opens a file by: an absolute path, or an address of ASCII alone; Java leaves other letters."""
    file = re.sub(r"^s3[an]:", "s3:", file)  # Hadoop's names for its ways to S3
    is_address = re.match(r"\w\w+:/", file)
    return quote(file, safe=string.printable) if is_address else str(Path(file).absolute())


def opened(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it."""
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(address)
    except pa.ArrowInvalid as error:
        raise ValueError(f"Arrow cannot open {address}, choose another way: {error}") from error
    return found


def deal(groups: Sequence[tuple[int, str, int]], slots: int) -> list[list[tuple[str, int]]]:
    """Deal row groups to tasks so that each gets about as many rows: the largest first, to whom has the least."""
    tasks: list[list[tuple[str, int]]] = [[] for _ in range(min(slots, len(groups)))]
    rows = [0] * len(tasks)
    for count, address, number in sorted(groups, key=lambda group: -group[0]):
        least = rows.index(min(rows))
        tasks[least].append((address, number))
        rows[least] += count
    return [sorted(task) for task in tasks]


def batches_of(groups: Sequence[tuple[str, int]], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read row groups in batches of as many rows as Spark's own have: they fit in a core's cache."""
    for address, mine in itertools.groupby(groups, key=lambda group: group[0]):
        filesystem, path = opened(address)
        with pq.ParquetFile(path, filesystem=filesystem, memory_map=True, coerce_int96_timestamp_unit="us") as file:
            numbers = [number for _, number in mine]
            yield from file.iter_batches(10_000, row_groups=numbers, columns=columns, use_threads=False)


def score_by_sql(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Write the model as an SQL expression: no row goes to Python, and Python need not be on the workers.

    It takes linear models, also after one scaler in a pipeline, and single decision trees. Scores equal
    scikit-learn's to 1e-12. Where a linear model meets a null, NaN or infinity, the job fails as scikit-learn does; it
    also fails where the sum is too large for a double, which scikit-learn calls infinite. A tree asks only for the
    features on the way to its answer: scikit-learn also fails on what is wrong in others.
    """
    plan = plan_scoring(frame, model, features, **options)
    if reason := why_no_sql(plan):
        raise ValueError(f"sql: {reason}: choose another way")
    step, inputs = scaled(plan)
    if isinstance(step, TREES):
        return added(frame, plan, tree_column(step, plan, inputs))
    # The scores are columns of their own for a moment, so that Spark computes each of them once.
    prefix = "_" * (1 + max(map(len, frame.columns))) + plan.output  # longer than any name that is there
    names = [f"{prefix}_{number}" for number in range(len(np.atleast_2d(step.coef_)))]
    weights = zip(names, np.atleast_2d(step.coef_), np.broadcast_to(step.intercept_, len(names)), strict=True)
    sums = [linear_column(inputs, row, intercept).alias(name) for name, row, intercept in weights]
    scores = [finite(named(name)) for name in names]
    return added(frame.select("*", *sums), plan, linear_answer(step, plan, scores)).drop(*names)


TREES = (DecisionTreeClassifier, DecisionTreeRegressor)
SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


def why_no_sql(plan: Plan) -> str | None:
    """Return why a model is not written in SQL, or None."""
    # A subclass may have a `predict` of its own.
    steps = [part for _, part in plan.fitted.steps] if type(plan.fitted) is Pipeline else [plan.fitted]
    last, name = steps[-1], type(plan.fitted).__name__
    labels = plan.method == "predict" and hasattr(last, "classes_")
    if labels and (plan.own is None or pa.types.is_list(plan.own)):
        return f"{name} answers several labels"
    if not labels and plan.own != plan.unshipped.answers:  # of labels it is known that they fit
        return f"{name} answers {plan.own}, and SQL cuts that off where {plan.type.simpleString()} is too narrow"
    if plan.unshipped.shape != "matrix" or any(pa.types.is_list(kind) for kind in plan.unshipped.inputs):
        return "it takes numbers, each in a column"
    if len(steps) > 2 or not all(type(part) in SCALERS and not getattr(part, "clip", False) for part in steps[:-1]):
        return f"{name} has steps before its model that are more than one scaler"
    if type(last) in TREES:
        answers = plan.method == "predict" or (plan.method == "predict_proba" and hasattr(last, "classes_"))
        return None if answers and last.n_outputs_ == 1 else f"{name} has several outputs or no {plan.method} in SQL"
    return None if is_linear(last, plan.method) else f"{name}.{plan.method} is no sum and no tree that is known here"


def is_linear(model: Any, method: str) -> bool:
    """Say whether a model computes its answers from weighted sums, by scikit-learn's own methods."""
    if not type(model).__module__.startswith("sklearn.") or not isinstance(getattr(model, "coef_", None), np.ndarray):
        return False
    if is_regressor(model):
        return isinstance(model, (LinearModel, SGDRegressor)) and method == "predict" and model.coef_.ndim == 1
    if not isinstance(model, LinearClassifierMixin) or len(model.coef_) not in (1, len(model.classes_)):
        return False
    if len(model.classes_) < 2:  # a sum is no answer there
        return False
    several, kind = len(model.classes_) > 2, getattr(model, "multi_class", "auto")  # a parameter until scikit-learn 1.8
    another = kind == "ovr" or getattr(model, "solver", "") == "liblinear" if several else kind == "multinomial"
    logistic = isinstance(model, LogisticRegression) and not another
    return method in ("predict", "decision_function") or (method == "predict_proba" and logistic)


def scaled(plan: Plan) -> tuple[Any, list[Column]]:
    """Return the model at the end, and its inputs; each is scaled as scikit-learn does it, to lose no digit."""
    model, inputs = plan.fitted, [functions.col(x) if isinstance(x, str) else x for x in plan.columns]
    if not isinstance(model, Pipeline):
        return model, inputs
    scaler = model.steps[0][1] if len(model.steps) == 2 else None
    if isinstance(scaler, MinMaxScaler):
        inputs = [x * float(s) + float(m) for x, s, m in zip(inputs, scaler.scale_, scaler.min_, strict=True)]
    elif scaler is not None:
        centre = getattr(scaler, "mean_" if isinstance(scaler, StandardScaler) else "center_", None)
        centre = None if getattr(scaler, "with_mean", True) is False else centre
        if centre is not None:
            inputs = [x - float(c) for x, c in zip(inputs, centre, strict=True)]
        if scaler.scale_ is not None:
            inputs = [x / float(s) for x, s in zip(inputs, scaler.scale_, strict=True)]
    return model.steps[-1][1], inputs


def linear_column(inputs: Sequence[Column], weights: np.ndarray, intercept: float) -> Column:
    """Return the weighted sum, added up in pairs: hundreds of terms in a row would be as many levels of the query."""
    terms = [x * float(weight) for x, weight in zip(inputs, weights, strict=True)]
    while len(terms) > 1:
        terms = [reduce(Column.__add__, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0] + float(intercept)


def finite(number: Column) -> Column:
    """Return a number, or fail the job where it is null, NaN or infinite."""
    largest = float(np.finfo(float).max)
    wrong = functions.raise_error(functions.lit("Input contains null, NaN or infinity, or its sum is too large"))
    return functions.when(number.between(-largest, largest), number).otherwise(wrong)


def linear_answer(model: Any, plan: Plan, scores: list[Column]) -> Column:
    """Return what a linear model answers from its scores."""
    if not hasattr(model, "classes_"):
        answer = scores[0]
    elif plan.method == "decision_function":
        answer = scores[0] if len(scores) == 1 else functions.array(*scores)
    elif plan.method == "predict_proba":
        top = functions.greatest(*scores) if len(scores) > 1 else functions.lit(0.0)
        powers = [functions.exp(one - top) for one in scores]
        one = 1 / (1 + functions.exp(-scores[0]))
        total = reduce(Column.__add__, powers)
        answer = functions.array(*([1 - one, one] if len(scores) == 1 else [power / total for power in powers]))
    else:
        labels = label_columns(model, plan)
        if len(scores) == 1:
            answer = functions.when(scores[0] > 0, labels[1]).otherwise(labels[0])
        else:
            place = functions.array_position(functions.array(*scores), functions.greatest(*scores))
            answer = functions.element_at(functions.array(*labels), place.cast("int"))
    return answer.cast(plan.type)


def label_columns(model: Any, plan: Plan) -> list[Column]:
    """Return the labels of a classifier, of the type that the answer has."""
    labels = as_arrow(model.classes_, plan.unshipped.answers).to_pylist()
    # A time on the wall would be one in the driver's zone.
    labels = [str(one) if isinstance(one, datetime) and one.tzinfo is None else one for one in labels]
    return [functions.lit(label).cast(plan.type) for label in labels]


def tree_column(model: Any, plan: Plan, inputs: Sequence[Column]) -> Column:
    """Return a decision tree as nested conditions. It compares single-precision numbers, as scikit-learn does."""
    tree, values = model.tree_, model.tree_.value[:, 0, :]
    labels = label_columns(model, plan) if plan.method == "predict" and hasattr(model, "classes_") else None

    def answer(node: int) -> Column:
        if tree.children_left[node] < 0:
            if plan.method == "predict_proba":
                return functions.array(*(functions.lit(float(share)) for share in values[node]))
            return labels[values[node].argmax()] if labels else functions.lit(float(values[node][0])).cast(plan.type)
        x = functions.coalesce(inputs[tree.feature[node]], functions.lit(float("nan"))).cast("float")
        right = x.between(-largest, largest) | (functions.isnan(x) if takes_nan else functions.lit(False))
        wrong = functions.raise_error(
            functions.lit("Input contains null, NaN or infinity, which this tree does not take")
        )
        x = functions.when(right, x).otherwise(wrong)
        left = x <= float(tree.threshold[node])  # to Spark, NaN is larger than any number
        if takes_nan and tree.missing_go_to_left[node]:
            left = left | functions.isnan(x)
        return functions.when(left, answer(tree.children_left[node])).otherwise(answer(tree.children_right[node]))

    takes_nan, largest = get_tags(model).input_tags.allow_nan, float(np.finfo(np.float32).max)
    return answer(0)


WAYS: dict[str, Callable[..., DataFrame]] = {
    "sql": score_by_sql,
    "files": score_by_files,
    "arrow_udf": score_by_arrow_udf,
    "map_in_arrow": score_by_map_in_arrow,
    "pandas_udf": score_by_pandas_udf,
    "map_in_pandas": score_by_map_in_pandas,
    "series_udf": score_by_series_udf,
    "predict_batch_udf": score_by_predict_batch_udf,
    "arrow_row_udf": score_by_row_udf,
    "row_udf": score_by_row_udf_pickled,
}
MOST_TERMS = 100  # of a sum, or leaves of a tree: Java compiles no method of more than 8,000 bytes, and interprets it


def best_way(plan: Plan) -> tuple[str, str]:
    """Pick a way, and say why in a sentence."""
    if why_no_sql(plan) is None:
        last = plan.fitted.steps[-1][1] if isinstance(plan.fitted, Pipeline) else plan.fitted
        terms = last.get_n_leaves() if isinstance(last, TREES) else last.coef_.size
        if terms <= MOST_TERMS:
            return "sql", f"{type(last).__name__} is an expression of {terms} terms: no row leaves the JVM"
    if arrow_udf is not None:
        return "arrow_udf", "only the features go to Python, in Arrow batches; the other columns stay in the JVM"
    return "pandas_udf", "only the features go to Python; this Spark has no arrow_udf"


# --- benchmark: delete from here on when copying ------------------------
import os

from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import SVC

WORKLOAD = "inference from memory"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"rows": 2_000},
    "ci": {"rows": 50_000},
    "full": {
        "rows": (2_000_000, 200_000),
        "model": ("svc", "logistic", "boosting", "forest"),
        "columns": (20, 5, 50),
        "tasks_per_slot": (1, 8, 64),
        "batch": (10_000, 1_000, 100_000),
    },
    "gate": {"rows": 30_000, "calls": 8},
}
GATED = ("map_in_arrow",)
# The best of the 48 candidates, as grid_search_single_node.py finds it.
BEST = {"C": 2, "kernel": "rbf", "shrinking": True}
MODELS = {
    "svc": SVC(gamma="auto", **BEST),
    "logistic": LogisticRegression(),
    "boosting": HistGradientBoostingClassifier(random_state=0),
    "forest": RandomForestClassifier(50, random_state=0, n_jobs=1),
}
FEATURES = [f"x{i}" for i in range(20)]
BATCH = 10_000  # rows that the base case scores at once, as many as an Arrow batch has
BLOCKS = 100  # the rows are cut into so many equal blocks, and an answer counts the labels of each
SHUFFLED = "spark.sql.shuffle.partitions"
ADAPTIVE = "spark.sql.adaptive.enabled"
ARROW_BATCH = "spark.sql.execution.arrow.maxRecordsPerBatch"
PREFIX = 50  # the row UDF scores a fiftieth of the rows: the first two blocks


def make_data(
    *,
    spark: SparkSession | None = None,
    seed: int = 0,
    rows: int = 2_000,
    model: str = "svc",
    columns: int = 20,
    tasks_per_slot: int = 1,
    batch: int = 10_000,
) -> dict[str, Any]:
    """Fit the model on 1,000 rows, and without Spark make the rows to score too.

    With Spark `prepare` makes them on the cluster: at size full they take 320 MB. They lie in `tasks_per_slot`
    partitions for each slot, and go to Python in Arrow batches of at most `batch` rows; other ways do without.
    """
    X, y = make_classification(n_samples=1000, n_features=columns, random_state=seed)
    names = [f"x{i}" for i in range(columns)]
    data = {"model": clone(MODELS[model]).fit(X, y), "train": X, "seed": seed, "rows": rows, "features": names}
    data |= {"tasks_per_slot": tasks_per_slot, "batch": batch}
    if spark is None:
        data["X"] = rows_between(0, rows, X, seed)
    return data


def rows_between(start: int, stop: int, train: np.ndarray, seed: int) -> np.ndarray:
    """Make the rows with the numbers `start` to `stop - 1`: training rows with some noise added.

    A row depends only on `train`, the seed and its number, not on where and in which pieces the rows are made.

    Returns
    -------
    array of shape (stop - start, columns of `train`)
    """
    chunk = 1_000
    first, last = start // chunk, -(-stop // chunk)
    made = []
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        made.append(train[rng.integers(len(train), size=chunk)] + rng.normal(0, 0.1, (chunk, train.shape[1])))
    return np.concatenate(made)[start - first * chunk : stop - first * chunk]


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Make the rows on the cluster and cache them, in as many partitions for each slot as asked, all of equal size.

    Whoever calls this unpersists `frame` and `prefix` (or calls `spark.catalog.clearCache()`) at the end.
    """
    train, seed, rows, names = data["train"], data["seed"], data["rows"], data["features"]

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column("id")
            X = rows_between(ids[0].as_py(), ids[-1].as_py() + 1, train, seed)
            yield pa.RecordBatch.from_arrays([ids, *(pa.array(x) for x in X.T)], ["id", *names])

    schema = "id long, " + ", ".join(f"{name} double" for name in names)
    frames = {}
    for name, count in {"frame": rows, "prefix": rows // PREFIX}.items():
        ids = spark.range(0, count, 1, data["tasks_per_slot"] * spark.sparkContext.defaultParallelism)
        frames[name] = ids.mapInArrow(make, schema).cache()
        frames[name].count()
    return {**data, **frames}


def validate(*, rows: int, model: str = "svc", columns: int = 20, tasks_per_slot: int = 1, batch: int = 10_000) -> None:
    """Raise ValueError where the rows cannot be cut into equal blocks, or another factor has no such value."""
    if model not in MODELS or columns < 5:
        raise ValueError(f"model={model!r}, columns={columns}: choose of {', '.join(MODELS)}, and 5 columns or more")
    if tasks_per_slot < 1 or batch < 1:
        raise ValueError(f"tasks_per_slot={tasks_per_slot}, batch={batch}: choose 1 or more")
    if rows < BLOCKS or rows % BLOCKS:
        raise ValueError(f"rows={rows}: choose a multiple of {BLOCKS}, because the answer has that many equal blocks")


def answer_of(rows: int, blocks: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return, for each block, the number of rows with label 1 and the sum of their ids, which tells rows apart."""
    positives = [int(count) for count, _ in blocks]
    ids = [int(total) for _, total in blocks]
    return {"rows": rows, "positives": sum(positives), "positives_by_block": positives, "positive_ids_by_block": ids}


def blocks_of(data: dict[str, Any], first: int, last: int, size: int) -> list[tuple[int, int]]:
    """Score the blocks `first` to `last - 1` of `size` rows each with numpy, and count their labels."""
    X, predict = data["X"], data["model"].predict
    ends = [(start, min(start + BATCH, last * size)) for start in range(first * size, last * size, BATCH)]
    labels = np.concatenate([predict(X[start:stop]) for start, stop in ends]).reshape(last - first, size)
    ids = np.arange(first * size, last * size).reshape(last - first, size)
    return list(zip(labels.sum(axis=1), (labels * ids).sum(axis=1), strict=True))


def run_scikit_learn(data: dict[str, Any], *, rows: int) -> dict[str, Any]:
    """scikit-learn, one thread."""
    return answer_of(rows, blocks_of(data, 0, BLOCKS, rows // BLOCKS))


def run_processes(data: dict[str, Any], *, rows: int, parallelism: int) -> dict[str, Any]:
    """scikit-learn, a process for each slot."""
    cuts = np.linspace(0, BLOCKS, parallelism + 1).astype(int).tolist()
    shared = {"X": data["X"], "model": data["model"]}
    with parallel_config("loky", n_jobs=parallelism, inner_max_num_threads=1):
        found = joblib.Parallel()(
            joblib.delayed(blocks_of)(shared, first, last, rows // BLOCKS) for first, last in itertools.pairwise(cuts)
        )
    return answer_of(rows, [block for part in found for block in part])


def on_cluster(
    data: dict[str, Any],
    spark: SparkSession,
    way: Callable[..., DataFrame],
    frame: DataFrame,
    rows: int,
    **options: Any,
) -> dict[str, Any]:
    """Score a frame and count its labels on the cluster; only the counts come back to the driver."""
    model = spark.sparkContext.broadcast(Shipped(data["model"]))
    # Scoring is what counts: a hundred sums need not go into 200 files, as many as Spark writes in each task, and the
    # rest of the plan need not be made anew once these are there.
    settings: dict[str, Any] = {SHUFFLED: spark.sparkContext.defaultParallelism, ADAPTIVE: False}
    if batch := data.get("batch"):
        settings[ARROW_BATCH] = batch
    before = {name: str(spark.conf.get(name)) for name in settings}
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        block = functions.expr(f"id div {data['rows'] // BLOCKS}").alias("block")
        counts = functions.sum("label"), functions.sum(functions.expr("label * id"))
        found = way(frame, model, data["features"], **options).groupBy(block).agg(*counts).collect()
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)
        model.destroy()
    return answer_of(rows, [(count, total) for _, count, total in sorted(found)])


def score_by_best_way(frame: DataFrame, model: Any, features: Sequence[str]) -> DataFrame:
    """Score by the way that score() picks."""
    return score(frame, model, features=features, output="label")


def run_best_way(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """The way that score() picks."""
    return on_cluster(data, spark, score_by_best_way, data["frame"], rows)


def run_row_udf(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """Row by row: udf, Arrow mode."""
    return on_cluster(data, spark, score_by_row_udf, data["prefix"], rows // PREFIX)


def run_pandas_udf(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """Pandas batches: pandas_udf."""
    return on_cluster(data, spark, score_by_pandas_udf, data["frame"], rows)


def run_map_in_arrow(data: dict[str, Any], *, spark: SparkSession, rows: int) -> dict[str, Any]:
    """Arrow batches: mapInArrow."""
    return on_cluster(data, spark, score_by_map_in_arrow, data["frame"], rows, keep="id")


def check(reference: dict[str, Any], answer: dict[str, Any]) -> None:
    """Raise AssertionError where the labels differ in any block that both answers cover.

    There is no tolerance: a support vector machine scores each row by itself, whatever other rows are in the batch.
    """
    counts = "positives_by_block", "positive_ids_by_block"
    covered = len(answer[counts[0]])
    per_block = reference["rows"] / len(reference[counts[0]])
    assert answer["rows"] == covered * per_block > 0, f"{answer['rows']} rows in {covered} blocks of {per_block:g}"
    for name in counts:
        assert len(answer[name]) == covered, f"{name} has {len(answer[name])} blocks, expected {covered}"
        for block, (expected, got) in enumerate(zip(reference[name], answer[name], strict=False)):
            assert got == expected, f"{name}[{block}] is {got}, expected {expected}"
    total = sum(answer["positives_by_block"])
    assert answer["positives"] == total, f"positives is {answer['positives']}, its blocks have {total}"


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(spark=session, rows=20_000), spark=session)
    for run in (run_row_udf, run_pandas_udf, run_map_in_arrow):
        found = run(made, spark=session, rows=20_000)
        print(f"{run.__name__}: {found['positives']} of {found['rows']} rows have label 1")
    session.stop()
