# /// script
# requires-python = ">=3.11"
# dependencies = ["pyspark>=4.0", "pandas>=2.2,<3", "pyarrow>=15", "scikit-learn>=1.6", "numpy>=1.26"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Score Parquet files with a scikit-learn model: by Spark in several ways, and by plain processes without Spark.

Most tables that are scored are files. One machine without Spark reads and scores them in as many processes as it has
cores: that is the limit for every way on that machine, and `score_files` is the few lines that it takes. Spark's ways
are those of udf_inference.py. There, rows that Spark reads pass from the JVM to Python and back; with the way "files"
the workers read the files themselves, and only answers pass through the JVM.

    parts = score_files("table", model, features, keep="id", processes=2)

Copy its sibling udf_inference.py with it.

Run it alone:  python file_inference.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from udf_inference import (
    Scorer,
    answer_to_zeros,
    as_address,
    batches_of,
    deal,
    in_models_order,
    kind_wanted,
    known_features,
    may_take_a_series,
    places_of,
    takes_documents,
)


def score_files(
    files: str | Path | Sequence[str | Path],
    model: Any,
    features: str | Sequence[str],
    *,
    keep: str,
    processes: int | None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Score Parquet files without Spark, in so many processes.

    Row groups are dealt out so that each process gets about as many rows.

    Parameters
    ----------
    files : path, or sequence of them
        Also addresses, such as `frame.inputFiles()` gives. A folder stands for its files `*.parquet`.
    model : fitted classifier or regressor
    features : str or sequence of str
        Columns, as `udf_inference.score` takes them. Where the model was fitted on columns by name, it gets a table of
        them, in its order. Else they stand in the model's order, and it gets a matrix, in which an array column is as
        many features as it has elements, or texts, where it takes documents. A step of your own that notes nothing of
        what it was fitted on gets a table where there is text, or where it fails on a matrix.
    keep : str
        A column, such as a key, to return beside the answers.
    processes : int or None
        As `n_jobs` of joblib: -1 for as many as there are cores, None for one.

    Returns
    -------
    list of (ndarray, ndarray)
        For each process the kept values and the answers, row by row; without any row a pair of empty arrays.

    Raises
    ------
    ValueError
        Where the model was fitted on other columns, or the files lack some, there are no files, or `processes` is 0.
    TypeError
        Where a column is not of a type that the model takes there.
    """
    paths = [files] if isinstance(files, (str, Path)) else files
    addresses = [as_address(file) for path in paths for file in _files_at(path)]
    if not addresses:
        raise ValueError(f"files={files!r}: there are none")
    scorer, names = _scorer(model, features, addresses[0])
    groups = []
    for address in addresses:
        about = pq.read_metadata(address)
        refuse_lacking(address, about.schema.to_arrow_schema().names, [keep, *names])
        sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
        groups += [(rows, address, number) for number, rows in enumerate(sizes) if rows]
    with parallel_config("loky", n_jobs=processes, inner_max_num_threads=1):
        tasks = deal(groups, effective_n_jobs(processes))
        found: list[tuple[np.ndarray, np.ndarray]] = Parallel()(
            delayed(_score_groups)(mine, scorer, names, keep) for mine in tasks
        )
    if not found:  # not one row
        key = pa.array([], pq.read_schema(addresses[0]).field(keep).type)
        return [(_as_kept(key), np.array(getattr(model, "classes_", ())[:0]))]
    return found


def _files_at(path: str | Path) -> list[str]:
    """Return the files that a path or an address stands for."""
    folder = Path(path)
    if not folder.is_dir():
        return [str(path)]
    if found := sorted(str(file) for file in folder.glob("*.parquet") if file.is_file()):
        return found
    inside = sorted({str(file.parent) for file in folder.rglob("*.parquet") if file.is_file()})
    hint = f", but in its folders {inside[:5]}: give those" if inside else ""
    raise ValueError(f"files={str(path)!r}: there are none, as *.parquet{hint}")


def refuse_lacking(file: str, there: Sequence[str], names: Sequence[str]) -> None:
    """Raise ValueError where a file has not all of these columns."""
    if lacking := [name for name in names if name not in there]:
        raise ValueError(f"{file} has no column {lacking}: it has {there[:50]}")


def _scorer(model: Any, features: str | Sequence[str], file: str) -> tuple[Scorer, tuple[str, ...]]:
    """Return what gives rows to a model as it takes them, and the columns to read, in the model's order."""
    names = in_models_order([features] if isinstance(features, str) else features, model, "predict")
    schema = pq.read_schema(file)
    refuse_lacking(file, schema.names, names)
    fitted_on, width = known_features(model, "predict")
    placed = zip(names, places_of(names, fitted_on), strict=True)
    inputs = tuple(_type_given(schema.field(name), kind_wanted(model, place), model) for name, place in placed)
    documents = may_take_a_series(model, names) and takes_documents(model)
    numbers = all(kind in (pa.float64(), pa.list_(pa.float64())) for kind in inputs)
    # With a width and no names, it was fitted on an array, which may have held text too.
    array = not fitted_on and (width is not None or numbers)
    shape = "documents" if documents else "matrix" if array else "frame"
    labels = () if shape == "matrix" else names
    scorer = Scorer(SimpleNamespace(value=model), "predict", inputs, shape, labels, pa.null(), sklearn.__version__)
    answer_to_zeros(scorer, names)  # it notes how the model takes rows, where only a trial can tell
    if scorer.labels and scorer.shape == "matrix":
        scorer.shape = "frame"  # by columns of their own types: as one array, whole numbers would become floats
    return scorer, names


NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)  # a column of nulls may be either


def _type_given(column: pa.Field, wanted: str, model: Any) -> pa.DataType:
    """Return the type in which a model is tried with a column, or TypeError where it takes nothing of its type there.

    See `udf_inference.kind_wanted` for what is wanted.
    """
    kind, several = column.type, pa.types.is_nested(column.type)
    inner = getattr(kind, "value_type", kind)  # of lists, and of categories of pandas
    number, text = any(one(inner) for one in NUMBERS), any(one(inner) for one in TEXTS) and not several
    if pa.types.is_struct(kind) and [part.name for part in kind] == ["type", "size", "indices", "values"]:
        raise TypeError(f"column {column.name!r} is an ML vector: write vector_to_array of it in its place")
    fits = {"number": number, "value": number, "text": text, "documents": several or not number}
    if not fits.get(wanted, True):
        takes = "text" if wanted in ("text", "documents") else "numbers"
        raise TypeError(f"column {column.name!r} is {kind}: {type(model).__name__} takes {takes} there")
    if number:
        return pa.list_(pa.float64()) if several else pa.float64()
    return pa.string() if text else kind


def _score_groups(
    groups: Sequence[tuple[str, int]], scorer: Scorer, names: Sequence[str], keep: str
) -> tuple[np.ndarray, np.ndarray]:
    kept, answers = [], []
    with sklearn.config_context(**scorer.config):
        for batch in batches_of(groups, [keep, *names]):
            kept.append(_as_kept(batch.column(keep)))
            found = scorer.model.value.predict(scorer.rows([_widened(batch.column(name)) for name in names]))
            answers.append(found.toarray() if hasattr(found, "toarray") else found)
    return np.concatenate(kept), np.concatenate(answers)


def _widened(column: pa.Array) -> pa.Array:
    """Return decimals as doubles, and short integers, whose products would overflow, as long ones, as `score` does."""
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    short = pa.types.is_integer(column.type) and column.type.bit_width < 64
    return column.cast(pa.int64()) if short else column


def _as_kept(column: pa.Array) -> np.ndarray:
    """Return a key in numpy, where it is: integers with a null stay integers, beside None."""
    if column.null_count and pa.types.is_integer(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy(zero_copy_only=False)


# --- benchmark: delete from here on when copying ------------------------
import os
import sys
from tempfile import TemporaryDirectory

from pyspark.sql import SparkSession
from sklearn.base import clone
from sklearn.datasets import make_classification
from udf_inference import (
    BLOCKS,
    MODELS,
    answer_of,
    check,
    on_cluster,
    rows_between,
    score_by_best_way,
    score_by_files,
    score_by_map_in_arrow,
    validate,
)

__all__ = ["check", "validate"]
WORKLOAD = "inference from files"
PARALLELISM = "slots"
LOCAL_FILES = True
SIZES = {
    "smoke": {"rows": 2_000, "model": "logistic", "columns": 20},
    "ci": {"rows": 200_000, "model": "boosting", "columns": 20},
    "full": {"rows": 2_000_000, "model": ("boosting", "svc", "forest", "logistic"), "columns": 20},
}
GATED = ()  # inference is gated with rows in memory
FILES = 8  # at least, so that there is something to deal out
MOST_ROWS_OF_FILE = 100_000


def make_data(*, seed: int = 0, rows: int = 2_000, model: str = "boosting", columns: int = 20) -> dict[str, Any]:
    """Fit the model on 1,000 rows, and write the rows to score into Parquet files.

    They are in a temporary folder, which goes with the process, or with what this returns.
    """
    X, y = make_classification(n_samples=1000, n_features=columns, random_state=seed)
    names = [f"x{i}" for i in range(columns)]
    folder = TemporaryDirectory(prefix="foldout-files-")
    step = min(MOST_ROWS_OF_FILE, -(-rows // FILES))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        made = dict(zip(names, rows_between(start, stop, X, seed).T.copy(), strict=True))
        table = pa.table({"id": np.arange(start, stop), **made})
        # Noise cannot be compressed, and dictionaries of it only take time.
        pq.write_table(table, Path(folder.name, f"part-{start:012}.parquet"), compression="none", use_dictionary=False)
    fitted = clone(MODELS[model]).fit(X, y)
    return {"folder": folder, "model": fitted, "features": names, "rows": rows}


def prepare(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Find the files with Spark, which reads their schema."""
    return {**data, "frame": spark.read.parquet(data["folder"].name)}


def files_of(data: dict[str, Any]) -> list[Path]:
    """Return the Parquet files."""
    return sorted(Path(data["folder"].name).glob("*.parquet"))


def without_spark(data: dict[str, Any], processes: int) -> dict[str, Any]:
    """Score the files and count the labels of each block of rows, as `udf_inference.on_cluster` does."""
    rows = data["rows"]
    parts = score_files(files_of(data), data["model"], data["features"], keep="id", processes=processes)
    counts = np.zeros((BLOCKS, 2), dtype=np.int64)
    for ids, labels in parts:
        block = ids // (rows // BLOCKS)
        for column, values in enumerate((labels, labels * ids)):
            # Whole numbers below 2**53 are exact also as floats.
            counts[:, column] += np.bincount(block, weights=values, minlength=BLOCKS).astype(np.int64)
    return answer_of(rows, [(count, total) for count, total in counts.tolist()])


def run_one_process(data: dict[str, Any]) -> dict[str, Any]:
    """pyarrow, one process."""
    return without_spark(data, 1)


def run_processes(data: dict[str, Any], *, parallelism: int) -> dict[str, Any]:
    """pyarrow, as many processes as slots."""
    return without_spark(data, parallelism)


def run_files(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Files read inside the workers."""
    return on_cluster(data, spark, score_by_files, data["frame"], data["rows"], keep="id")


def run_map_in_arrow(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """Read by Spark, scored by mapInArrow."""
    return on_cluster(data, spark, score_by_map_in_arrow, data["frame"], data["rows"], keep="id")


def run_best_way(data: dict[str, Any], *, spark: SparkSession) -> dict[str, Any]:
    """As score() picks."""
    return on_cluster(data, spark, score_by_best_way, data["frame"], data["rows"])


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.master("local[2]").getOrCreate()
    made = prepare(make_data(rows=200_000), spark=session)
    for name, found in {"processes": without_spark(made, 2), "Spark": run_files(made, spark=session)}.items():
        print(f"{name}: {found['positives']} of {found['rows']} rows have label 1")
    session.stop()
