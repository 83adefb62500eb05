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
- Of rows in Parquet files, workers can read the columns themselves: no row passes through the JVM on its way in. It is
  picked where the frame is such files as they stand, of numbers and text, and Spark's workers read them from a folder.
- A row-at-a-time UDF pays scikit-learn's fixed cost of a call for every single row. That makes it dozens of times
  slower, and this file has it only to show that.

The model travels once to each executor and is loaded once by each Python worker. It computes in one thread there, since
Spark has a worker for each slot. A null reaches the model as NaN, a text null as None, as `toPandas` gives them: a
model that takes no NaN says so itself, in the error of the job.

Run it alone:  python udf_inference.py
"""

from __future__ import annotations

import itertools
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from inspect import Parameter, Signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn
from joblib import parallel_config
from pyarrow import fs
from pyspark import Broadcast, cloudpickle
from pyspark.ml.functions import predict_batch_udf, vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame, functions
from pyspark.sql import types as spark_types
from pyspark.sql.functions import pandas_udf, udf
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.utils import is_remote
from sklearn.base import is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LogisticRegression, SGDRegressor
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
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
        A path is that of a file that `joblib.dump` wrote.
    features : sequence of str, optional
        Columns to give to the model. By default those that it was fitted on by name; where it has names, they also
        decide the order. An array or ML vector column stands for as many features as it has elements, in the model's
        order.
    method : str
        `predict`, `predict_proba`, `decision_function`, `transform`, or any other that takes rows.
    output : str or StructField
        Name of the new column. Its type follows from the model; a field gives it a type of yours.
    way : str, optional
        A key of `WAYS`. By default `best_way` picks one. The new column's metadata say which, and why.

    Raises
    ------
    RuntimeError
        Where the file's scikit-learn is not the driver's. A worker's that differs stops the job.
    ValueError, TypeError
        Before any job: columns that are missing, surplus, ambiguous or of a wrong type, an output name that is taken, a
        model without the method, a way that cannot apply it.
    """
    plan = plan_scoring(frame, model, features, method=method, output=output)
    way, why = (way, "named by the caller") if way else best_way(frame, plan)
    if way not in WAYS:
        raise ValueError(f"way={way!r}: choose one of {', '.join(WAYS)}")
    plan.metadata = {"way": way, "why": why}
    scored: DataFrame = WAYS[way](frame, plan)
    return scored


# --- What is sent to the workers ----------------------------------------


class Shipped:
    """A model on its way into a broadcast; the worker gets the model itself out of it.

    A broadcast is pickled plainly, which cannot carry classes of `__main__`. cloudpickle can.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (cloudpickle.dumps(self.model),)


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
    labels : tuple of str
        The names that the model knows its columns by, if any.
    answers : pyarrow.DataType
    """

    model: Any
    method: str
    inputs: tuple[pa.DataType, ...]
    shape: str
    labels: tuple[str, ...]
    answers: pa.DataType
    trained: str
    driver: str = sklearn.__version__
    libraries: Any = None

    def __call__(self, *columns: pa.Array | pd.Series) -> pa.Array:
        """Score a batch."""
        if not len(columns[0]):
            return pa.array([], self.answers)
        if self.libraries is None:  # once for each task
            same_versions(self.trained, self.driver, sklearn.__version__)
            self.model.value  # noqa: B018 - it brings the libraries with it that are to be limited
            self.libraries = ThreadpoolController()
        model = self.model.value
        with self.libraries.limit(limits=1), parallel_config("sequential"):
            return as_arrow(getattr(model, self.method)(self.rows(columns)), self.answers)

    def rows(self, columns: Sequence[pa.Array | pd.Series]) -> Any:
        """Return a batch as the model takes it."""
        if self.shape == "documents":
            return as_pandas(columns[0])
        if self.shape == "frame":
            return pd.concat([as_pandas(column) for column in columns], axis=1, keys=self.labels)
        X = np.column_stack([as_floats(column) for column in columns])
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
    return column.reset_index(drop=True) if isinstance(column, pd.Series) else column.to_pandas()


def as_floats(column: pa.Array | pd.Series) -> np.ndarray:
    """Return a feature as an array of shape (n,), or an array column of k features as one of shape (n, k)."""
    if isinstance(column, pd.Series):
        return np.stack(column.to_list()) if column.dtype == object else column.to_numpy()
    if not pa.types.is_list(column.type):
        return column.to_numpy(zero_copy_only=False)
    if column.null_count:
        raise ValueError("an array of features is null: fill it, or drop the row")
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)


def as_arrow(found: Any, kind: pa.DataType | None = None) -> pa.Array:
    """Return what a model answered in Arrow: several values of a row become a list.

    It raises where a value has no place in the type `kind`, such as a fraction among integers.
    """
    if isinstance(found, list):  # of a model with several outputs: an array for each of them
        return pa.array([[np.asarray(part).tolist() for part in row] for row in zip(*found, strict=True)], kind)
    values = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
    if values.dtype.kind == "u":  # Spark has signed integers only
        values = values.astype(f"i{min(8, 2 * values.dtype.itemsize)}")
    if values.ndim == 2 and kind is not None and not pa.types.is_list(kind):
        values = values.reshape(len(values))
    cells = pa.array(values.ravel())
    if values.ndim == 2:
        starts = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
        cells = pa.ListArray.from_arrays(pa.array(starts), cells)
    return cells if kind is None or cells.type == kind else cells.cast(kind)


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
    metadata : dict
        Of the new column.
    """

    fitted: Any
    names: tuple[str, ...]
    casts: list[str | None]
    output: str
    type: spark_types.DataType
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
    session, trained = frame.sparkSession, sklearn.__version__
    if isinstance(model, (str, Path)):
        model, trained = load_model(model)
        if trained != sklearn.__version__:
            worker = session.sparkContext.parallelize([0], 1).map(lambda _: sklearn.__version__).first()
            same_versions(trained, sklearn.__version__, worker)
    fitted = model.value if isinstance(model, Broadcast) else model
    if not callable(getattr(fitted, method, None)):
        raise ValueError(f"{type(fitted).__name__} has no method {method!r}")
    name = output if isinstance(output, str) else output.name
    if name.lower() in (column.lower() for column in frame.columns):
        raise ValueError(f"the frame has a column {name!r} already: give another name as `output`")
    names = feature_columns(frame, fitted, features)
    kinds = [kind_wanted(fitted, column, place) for place, column in enumerate(names)]
    sent = [sent_as(frame.schema[column], kind, fitted) for column, kind in zip(names, kinds, strict=True)]
    inputs = tuple(kind for _, kind in sent)
    plain = all(pa.types.is_float64(kind) or pa.types.is_list(kind) for kind in inputs)
    shape = "matrix" if plain else "documents" if kinds == ["documents"] else "frame"
    labels = tuple(getattr(fitted, "feature_names_in_", () if plain else names))
    scorer = Scorer(SimpleNamespace(value=fitted), method, inputs, shape, labels, pa.null(), trained)
    scorer.answers = answer_type(scorer) if isinstance(output, str) else to_arrow_type(output.dataType)
    kind = from_arrow_type(scorer.answers) if isinstance(output, str) else output.dataType

    def broadcast() -> Any:
        return model if isinstance(model, Broadcast) else session.sparkContext.broadcast(Shipped(fitted))

    return Plan(fitted, names, [cast for cast, _ in sent], name, kind, method, scorer, broadcast)


def load_model(path: str | Path) -> tuple[Any, str]:
    """Return a model that `joblib.dump` wrote, and the version of scikit-learn that trained it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = joblib.load(path)
    versions = [w.message.original_sklearn_version for w in caught if isinstance(w.message, InconsistentVersionWarning)]
    return model, str(versions[0] if versions else sklearn.__version__)


def named(name: str) -> Column:
    """Return a column by its name, in which any character may be."""
    return functions.col(quoted(name))


def quoted(name: str) -> str:
    """Return a name as SQL takes it, whatever characters are in it."""
    return "`" + name.replace("`", "``") + "`"


def feature_columns(frame: DataFrame, model: Any, features: Features) -> tuple[str, ...]:
    """Return the names of the frame's columns that the model takes, in its order."""
    fitted_on = list(getattr(model, "feature_names_in_", ()))
    if features is None and not fitted_on:
        raise ValueError(f"{type(model).__name__} was fitted without column names: say features=[...] in its order")
    asked = [features] if isinstance(features, str) else fitted_on if features is None else features
    names = [unquoted(name) if name not in frame.columns else name for name in asked]
    if missing := [name for name in names if name not in frame.columns]:
        raise ValueError(f"the frame has no column {missing}: it has {frame.columns[:50]}")
    if twice := sorted({name for name in names if names.count(name) > 1 or frame.columns.count(name) > 1}):
        raise ValueError(f"the columns {twice} are there or asked for more than once")
    if any(isinstance(frame.schema[name].dataType, (spark_types.ArrayType, VectorUDT)) for name in names):
        return tuple(names)
    missing, surplus = [n for n in fitted_on if n not in names], [n for n in names if n not in fitted_on]
    if fitted_on and (missing or surplus):
        raise ValueError(f"the model was fitted on other columns: missing {missing}, surplus {surplus}")
    if len(names) != (width := getattr(model, "n_features_in_", len(names))):
        raise ValueError(f"{type(model).__name__} takes {width} features, got {len(names)}: {names[:50]}")
    return tuple(fitted_on or names)


def unquoted(name: str) -> str:
    """Return a name without the backticks that SQL wants around it."""
    return name[1:-1].replace("``", "`") if len(name) > 2 and name[0] == name[-1] == "`" else name


WRAPPERS = {"estimator", "estimators", "regressor", "transformer_list"}  # parameters of models around other models


def kind_wanted(step: Any, name: str, place: int) -> str:
    """Return what a fitted step takes in one of its columns: "number", "text", "documents", or "any" if unknown."""
    if isinstance(step, Pipeline):
        first = next((part for _, part in step.steps if part not in (None, "passthrough")), None)
        return kind_wanted(first, name, place)
    if hasattr(step, "best_estimator_"):
        return kind_wanted(step.best_estimator_, name, place)
    if isinstance(step, ColumnTransformer):
        return kind_wanted_by_part(step, name, place)
    if hasattr(step, "categories_"):
        known = step.categories_[place]
        return "text" if any(isinstance(value, str) for value in known) else "any"
    if not type(step).__module__.startswith("sklearn.") or WRAPPERS & set(step.get_params(deep=False)):
        return "any"
    tags = get_tags(step)
    if tags.input_tags.string and not tags.input_tags.two_d_array:
        return "documents"
    return "any" if tags.no_validation or hasattr(step, "statistics_") else "number"


def kind_wanted_by_part(step: ColumnTransformer, name: str, place: int) -> str:
    """Return what the parts of a ColumnTransformer take in a column: the first that is known decides."""
    for part_name, part, _ in step.transformers_:
        own = list(step._transformer_to_input_indices.get(part_name, ()))
        if place in own and not isinstance(part, str):
            kind = kind_wanted(part, name, own.index(place))
            if kind != "any":
                return "text" if kind == "documents" else kind
    return "any"


def sent_as(column: spark_types.StructField, kind: str, model: Any) -> tuple[str | None, pa.DataType]:
    """Return what a column is cast to before it is sent to Python (see `Plan`), and its Arrow type there.

    Numbers go as doubles. A column goes as it is where the model takes text, and where a step that this file does not
    know may take anything.
    """
    found = column.dataType
    number = isinstance(found, (spark_types.NumericType, spark_types.BooleanType))
    if isinstance(found, VectorUDT):
        return "array", pa.list_(pa.float64())
    if isinstance(found, spark_types.ArrayType) and isinstance(found.elementType, spark_types.NumericType):
        return "array<double>", pa.list_(pa.float64())
    if isinstance(found, spark_types.DoubleType) and kind in ("number", "any"):
        return None, pa.float64()
    by_name = hasattr(model, "feature_names_in_")
    whole = isinstance(found, (spark_types.IntegralType, spark_types.BooleanType))
    if kind == "any" and (not number or (whole and by_name)):
        return None, to_arrow_type(found)
    if kind in ("text", "documents") and isinstance(found, spark_types.StringType):
        return None, pa.string()
    if kind in ("text", "documents") or not number:
        takes = "numbers" if kind == "number" else "text"
        raise TypeError(f"column {column.name!r} is {found.simpleString()}: {type(model).__name__} takes {takes} there")
    return "double", pa.float64()


def answer_type(scorer: Scorer) -> pa.DataType:
    """Return the type of the model's answers: that of its classes, or of what it answers to a row of zeros."""
    model, method = scorer.model.value, scorer.method
    classes = getattr(model, "classes_", None)
    if method == "predict" and isinstance(classes, np.ndarray):
        return as_arrow(classes).type
    try:
        found = getattr(model, method)(scorer.rows([zero(kind, scorer) for kind in scorer.inputs]))
    except Exception as error:  # noqa: BLE001 - a row of zeros may mean anything to a model
        return expected_type(model, method, error)
    one_each = method == "predict" and getattr(found, "ndim", 1) == 2 and found.shape[1] == 1
    return as_arrow(np.ravel(found) if one_each else found).type


def zero(kind: pa.DataType, scorer: Scorer) -> pa.Array:
    """Return a column of one row: zero, an empty text, or as many zeros as the model has features."""
    if pa.types.is_list(kind):
        width = getattr(scorer.model.value, "n_features_in_", 1) - len(scorer.inputs) + 1
        return pa.array([[0.0] * width], kind)
    if pa.types.is_string(kind):
        return pa.array([""])
    return pa.array([0]).cast(kind) if pa.types.is_primitive(kind) else pa.nulls(1, kind)


def expected_type(model: Any, method: str, error: Exception) -> pa.DataType:
    """Return the type that models of this kind answer, where a row of zeros raised `error`."""
    if method == "predict" and is_regressor(model):
        return pa.float64()
    if method == "decision_function" and hasattr(model, "classes_"):
        return pa.float64() if len(model.classes_) == 2 else pa.list_(pa.float64())
    if method in ("predict_proba", "predict_log_proba", "transform"):
        return pa.list_(pa.float64())
    raise TypeError(
        f"cannot tell what {type(model).__name__}.{method} answers: a row of zeros raises {error!r}. Say the type: "
        "output=StructField(name, DoubleType())"
    ) from error


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


def score_by_series_udf(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model for each Arrow batch, as pandas series."""
    plan = plan_scoring(frame, model, features, **options)
    scorer = plan.scorer

    @pandas_udf(plan.type)  # type: ignore[call-overload]  # pyspark declares no overload for UDFs by type hints
    def predict(*columns: pd.Series) -> pd.Series:
        return scorer(*columns).to_pandas()

    return added(frame, plan, predict(*plan.columns))


def score_by_pandas_udf(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Call the model for each Arrow batch of an iterator of pandas series.

    A batch has at most `spark.sql.execution.arrow.maxRecordsPerBatch` rows, 10,000 by default.
    """
    plan = plan_scoring(frame, model, features, **options)
    scorer = plan.scorer

    @pandas_udf(plan.type)  # type: ignore[call-overload]
    def predict(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        for batch in batches:  # of one column, Spark gives the series itself
            yield scorer(*(batch if isinstance(batch, tuple) else (batch,))).to_pandas()

    return added(frame, plan, predict(*plan.columns))


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
    """Map whole rows in pandas; `keep` names the columns to return, by default all."""
    plan = plan_scoring(frame, model, features, **options)
    kept, schema = kept_columns(frame, plan, keep)
    scorer, count, names = plan.scorer, len(kept), schema.names
    # pandas has no null in a column of integers. Those that a double cannot hold travel as decimals.
    whole = [isinstance(one.dataType, spark_types.LongType) for one in schema][:count]
    sent = [
        functions.col(column).cast("decimal(20,0)") if long else column
        for column, long in zip(kept, whole, strict=True)
    ]
    back = spark_types.StructType(
        [
            spark_types.StructField(f.name, spark_types.DecimalType(20, 0)) if w else f
            for f, w in zip(schema, whole, strict=False)
        ]
    ).add(schema[-1])

    def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            columns = [batch.iloc[:, place] for place in range(batch.shape[1])]
            answers = scorer(*columns[count:]).to_pandas()
            yield pd.concat([*columns[:count], answers], axis=1, keys=names)

    mapped = numbered(frame.select(*sent, *plan.columns)).mapInPandas(predict, back)
    return mapped.select(*(named(one.name).cast(one.dataType).alias(one.name, metadata=one.metadata) for one in schema))


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
    if bad := [name for name in names if frame.columns.count(name) != 1]:
        raise ValueError(f"cannot keep {bad}: the frame has {frame.columns[:50]}")
    fields = [frame.schema[name] for name in names]
    for one in fields:
        try:
            to_arrow_type(one.dataType)
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
    scorer = plan.scorer
    lists, truth = isinstance(plan.type, spark_types.ArrayType), isinstance(plan.type, spark_types.BooleanType)
    if not isinstance(getattr(plan.type, "elementType", plan.type), (*PREDICT_BATCH_TYPES, spark_types.BooleanType)):
        raise ValueError(f"predict_batch_udf takes no {plan.type.simpleString()}: choose another way")
    kind = spark_types.ByteType() if truth else plan.type
    # It counts the parameters of the function that it gets, and wants to know how long arrays are.
    parameters = [Parameter(f"x{i}", Parameter.POSITIONAL_ONLY) for i in range(len(plan.columns))]
    arrays = [pa.types.is_list(kind) for kind in scorer.inputs]
    width = getattr(plan.fitted, "n_features_in_", 1) - len(arrays) + 1
    shapes = [[width] if array else None for array in arrays] if any(arrays) else None

    def load() -> Any:
        def predict(*columns: np.ndarray) -> np.ndarray:
            found = scorer(*(pd.Series(list(column)) if column.ndim > 1 else pd.Series(column) for column in columns))
            if lists:
                return np.stack(found.to_pandas().to_list())
            return (found.cast(pa.int8()) if truth else found).to_numpy(zero_copy_only=False)

        predict.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return predict

    size = int(frame.sparkSession.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 10_000)
    predict = predict_batch_udf(load, return_type=kind, batch_size=max(size, 1), input_tensor_shapes=shapes)
    return added(frame, plan, predict(*plan.columns).cast(plan.type))


def score_by_files(
    frame: DataFrame, model: Any, features: Features = None, *, keep: str | Sequence[str] | None = None, **options: Any
) -> DataFrame:
    """Let the workers read the Parquet files of a frame that is `spark.read.parquet(...)` as it stands.

    Row groups are dealt out by their rows, in as many tasks as there are slots. Only the features and the columns to
    keep are read; those to keep, by default all, and the answers go to the JVM.
    """
    plan = plan_scoring(frame, model, features, **options)
    kept, schema = kept_columns(frame, plan, keep)
    scorer, names, inputs = plan.scorer, schema.names, plan.names
    groups = row_groups(frame, {*names[: len(kept)], *inputs})
    tasks = deal(groups, frame.sparkSession.sparkContext.defaultParallelism)
    kinds = [to_arrow_type(one.dataType) for one in schema][: len(kept)]
    columns = list(dict.fromkeys([*names[: len(kept)], *inputs]))

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = [group for batch in batches for task in batch.column(0).to_pylist() for group in tasks[task]]
        for batch in batches_of(mine, columns):
            sent = zip(inputs, scorer.inputs, strict=True)
            answers = scorer(*(batch.column(name).cast(kind, safe=False) for name, kind in sent))
            back = [batch.column(name).cast(kind) for name, kind in zip(names, kinds, strict=False)]
            yield pa.RecordBatch.from_arrays([*back, answers], names)

    return frame.sparkSession.range(0, len(tasks), 1, max(1, len(tasks))).mapInArrow(read, schema)


def row_groups(frame: DataFrame, columns: set[str]) -> list[tuple[int, str, int]]:
    """Return (rows, address of the file, number of the row group) of all row groups of a frame.

    Raises
    ------
    ValueError
        Where the frame is anything but Parquet files as they stand, or the files lack a column.
    """
    if parquet_relation(frame) is None:
        raise ValueError("files: the frame has to be spark.read.parquet(...), without a filter or a select")
    found = []
    for address in sorted(frame.inputFiles()):
        filesystem, path = fs.FileSystem.from_uri(address)
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


MOST_FILES = 1000  # whose row groups the driver looks up without being asked to
PLAIN = (
    spark_types.IntegralType,
    spark_types.FloatType,
    spark_types.DoubleType,
    spark_types.BooleanType,
    spark_types.StringType,
)


def are_plain_files(frame: DataFrame) -> bool:
    """Say whether workers surely read from a frame's files what Spark reads from them.

    They are Parquet and not many, in a folder that Spark's own workers read too, without columns in the names of
    folders, and of types that Spark and Arrow mean the same by.
    """
    if is_remote() or (relation := parquet_relation(frame)) is None:
        return False
    kept = frame.storageLevel  # what is cached need not be what the files have by now
    moving = frame.sparkSession.conf.get("spark.dynamicAllocation.enabled", "false") == "true"  # slots are not known
    if moving or kept.useMemory or kept.useDisk or relation.partitionSchema().length():
        return False
    addresses = frame.inputFiles()
    return (
        all(isinstance(one.dataType, PLAIN) for one in frame.schema)
        and 0 < len(addresses) <= MOST_FILES
        and all(address.startswith("file:") for address in addresses)
    )


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
        filesystem, path = fs.FileSystem.from_uri(address)
        with pq.ParquetFile(path, filesystem=filesystem, memory_map=True) as file:
            numbers = [number for _, number in mine]
            yield from file.iter_batches(10_000, row_groups=numbers, columns=columns, use_threads=False)


def score_by_sql(frame: DataFrame, model: Any, features: Features = None, **options: Any) -> DataFrame:
    """Write the model as an SQL expression: no row goes to Python, and Python need not be on the workers.

    It takes linear models, also after one scaler in a pipeline, and single decision trees. Scores equal
    scikit-learn's to 1e-12. Where a linear model meets a null, NaN or infinity, the job fails as scikit-learn does.
    """
    plan = plan_scoring(frame, model, features, **options)
    if reason := why_no_sql(plan):
        raise ValueError(f"sql: {reason}: choose another way")
    step, inputs = scaled(plan)
    if isinstance(step, TREES):
        return added(frame, plan, tree_column(step, plan, inputs))
    # The scores are columns of their own for a moment, so that Spark computes each of them once.
    names = [f"_{plan.output}_{number}" for number in range(len(np.atleast_2d(step.coef_)))]
    weights = zip(names, np.atleast_2d(step.coef_), np.broadcast_to(step.intercept_, len(names)), strict=True)
    sums = [linear_column(inputs, row, intercept).alias(name) for name, row, intercept in weights]
    scores = [finite(named(name)) for name in names]
    return added(frame.select("*", *sums), plan, linear_answer(step, plan, scores)).drop(*names)


TREES = (DecisionTreeClassifier, DecisionTreeRegressor)
SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


def why_no_sql(plan: Plan) -> str | None:
    """Return why a model is not written in SQL, or None."""
    steps = [part for _, part in plan.fitted.steps] if isinstance(plan.fitted, Pipeline) else [plan.fitted]
    last, name = steps[-1], type(plan.fitted).__name__
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
    one_against_rest = getattr(model, "multi_class", "auto") == "ovr" or getattr(model, "solver", "") == "liblinear"
    logistic = isinstance(model, LogisticRegression) and (len(model.classes_) == 2 or not one_against_rest)
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
    wrong = functions.raise_error(functions.lit("Input contains null, NaN or infinity"))
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
        labels = [functions.lit(value) for value in model.classes_.tolist()]
        if len(scores) == 1:
            answer = functions.when(scores[0] > 0, labels[1]).otherwise(labels[0])
        else:
            place = functions.array_position(functions.array(*scores), functions.greatest(*scores))
            answer = functions.element_at(functions.array(*labels), place.cast("int"))
    return answer.cast(plan.type)


def tree_column(model: Any, plan: Plan, inputs: Sequence[Column]) -> Column:
    """Return a decision tree as nested conditions. It compares single-precision numbers, as scikit-learn does."""
    tree, values, classes = model.tree_, model.tree_.value[:, 0, :], getattr(model, "classes_", np.array([])).tolist()

    def answer(node: int) -> Column:
        if tree.children_left[node] < 0:
            if plan.method == "predict_proba":
                return functions.array(*(functions.lit(float(share)) for share in values[node]))
            label = classes[values[node].argmax()] if classes else float(values[node][0])
            return functions.lit(label).cast(plan.type)
        x = functions.coalesce(inputs[tree.feature[node]], functions.lit(float("nan"))).cast("float")
        left = x <= float(tree.threshold[node])  # to Spark, NaN is larger than any number
        if not takes_nan:
            x = functions.when(
                functions.isnan(x), functions.raise_error(functions.lit("Input contains NaN"))
            ).otherwise(x)
            left = x <= float(tree.threshold[node])
        elif tree.missing_go_to_left[node]:
            left = left | functions.isnan(x)
        return functions.when(left, answer(tree.children_left[node])).otherwise(answer(tree.children_right[node]))

    takes_nan = get_tags(model).input_tags.allow_nan
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


def best_way(frame: DataFrame, plan: Plan) -> tuple[str, str]:
    """Pick a way, and say why in a sentence."""
    if why_no_sql(plan) is None:
        last = plan.fitted.steps[-1][1] if isinstance(plan.fitted, Pipeline) else plan.fitted
        terms = last.get_n_leaves() if isinstance(last, TREES) else last.coef_.size
        if terms <= MOST_TERMS:
            return "sql", f"{type(last).__name__} is an expression of {terms} terms: no row leaves the JVM"
    if are_plain_files(frame):
        return "files", "the frame is Parquet files as they stand: workers read them, and no row comes from the JVM"
    if arrow_udf is not None:
        return "arrow_udf", "only the features go to Python, in Arrow batches; the other columns stay in the JVM"
    return "pandas_udf", "only the features go to Python; this Spark has no arrow_udf"


# --- benchmark: delete from here on when copying ------------------------
import os

from pyspark.sql import SparkSession
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import SVC

WORKLOAD = "SVC inference"
PARALLELISM = "slots"
SIZES = {
    "smoke": {"rows": 2_000},
    "ci": {"rows": 50_000},
    "full": {"rows": (2_000_000, 200_000), "model": ("svc", "logistic", "boosting", "forest"), "columns": (20, 5, 50)},
    "gate": {"rows": 30_000, "calls": 4},
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
PREFIX = 50  # the row UDF scores a fiftieth of the rows: the first two blocks


def make_data(
    *, spark: SparkSession | None = None, seed: int = 0, rows: int = 2_000, model: str = "svc", columns: int = 20
) -> dict[str, Any]:
    """Fit the model on 1,000 rows, and without Spark make the rows to score too.

    With Spark `prepare` makes them on the cluster: at size full they take 320 MB.
    """
    X, y = make_classification(n_samples=1000, n_features=columns, random_state=seed)
    names = [f"x{i}" for i in range(columns)]
    data = {"model": clone(MODELS[model]).fit(X, y), "train": X, "seed": seed, "rows": rows, "features": names}
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
    """Make the rows on the cluster and cache them, in one partition for each slot, all of equal size.

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
        ids = spark.range(0, count, 1, spark.sparkContext.defaultParallelism)
        frames[name] = ids.mapInArrow(make, schema).cache()
        frames[name].count()
    return {**data, **frames}


def validate(*, rows: int, model: str = "svc", columns: int = 20) -> None:
    """Raise ValueError where the rows cannot be cut into equal blocks, or the model is not known."""
    if model not in MODELS or columns < 5:
        raise ValueError(f"model={model!r}, columns={columns}: choose of {', '.join(MODELS)}, and 5 columns or more")
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
    # Scoring is what counts: a hundred sums need not go into 200 files, as many as Spark writes in each task.
    shuffled = spark.conf.get(SHUFFLED)
    spark.conf.set(SHUFFLED, spark.sparkContext.defaultParallelism)
    try:
        block = functions.floor(functions.col("id") / (data["rows"] // BLOCKS)).alias("block")
        counts = functions.sum("label"), functions.sum(functions.expr("label * id"))
        found = way(frame, model, data["features"], **options).groupBy(block).agg(*counts).collect()
    finally:
        spark.conf.set(SHUFFLED, str(shuffled))
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
