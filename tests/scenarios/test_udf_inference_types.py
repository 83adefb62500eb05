# SPDX-License-Identifier: Apache-2.0
"""Columns of every type by every way: what is kept comes back as it was, what is scored reaches the model."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import udf_inference as recipe
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.types import StructField, StructType
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.nightly import others_at_night

pytestmark = pytest.mark.spark
recipe.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the models of this file
UDFS = [name for name in recipe.WAYS if name not in ("sql", "files")]
PUSHED = ("predict_batch_udf", "map_in_arrow", "files")
ZONE = "spark.sql.session.timeZone"


@pytest.fixture(autouse=True)
def berlin(spark: SparkSession) -> Any:
    """A zone whose clocks are set back, and which is not that of the machine."""
    before = spark.conf.get(ZONE)
    spark.conf.set(ZONE, "Europe/Berlin")
    yield
    spark.conf.set(ZONE, before)


@pytest.fixture
def kept(spark: SparkSession, tmp_path: Path) -> DataFrame:
    """Two rows of values that are easily lost, and one of nulls; the names want quoting."""
    first = {
        "an int": "2147483647",
        "short": "cast(-7 as smallint)",
        "day.time": "date'1999-12-31'",
        "price": "cast(12345678901234567890.25 as decimal(25,2))",
        "raw": "unhex('00FF')",
        "stamp": "timestamp'2020-10-25 00:30:00Z'",  # half past two, for the first time on that day
        "wall": "timestamp_ntz'2020-10-25 02:30:00'",
        "nested`s": "struct(1152921504606846977L as a, timestamp'2020-01-02 03:04:05.678901Z' as t)",
        "list": "array(1152921504606846977L, null)",
        "truth": "true",
        "text": "''",
        "big": "1152921504606846977L",
    }
    values = ", ".join(f"{value} as `{name.replace('`', '``')}`" for name, value in first.items())
    nulls = ", ".join(f"if(id < 2, `{name.replace('`', '``')}`, null) as `{name.replace('`', '``')}`" for name in first)
    frame = spark.sql(f"select {nulls}, id, x from (select {values}, id, double(id) as x from range(3))")
    frame.write.parquet(str(tmp_path / "kept"))
    return spark.read.parquet(str(tmp_path / "kept"))


@pytest.mark.parametrize("way", recipe.WAYS)
def test_what_is_kept_comes_back_as_it_was(way: str, kept: DataFrame) -> None:
    model = DecisionTreeRegressor().fit([[0.0], [1.0], [2.0]], [0.5, 1.5, 2.5])
    scored = recipe.score(kept, model, features=["x"], way=way)
    assert [field.dataType for field in scored.schema] == [
        *(field.dataType for field in kept.schema),
        scored.schema[-1].dataType,
    ]
    rows = {row["id"]: row for row in scored.collect()}
    for row in kept.collect():
        assert rows[row["id"]][:-1] == row
    assert [rows[i]["prediction"] for i in range(3)] == [0.5, 1.5, 2.5]
    micros = scored.orderBy("id").select(functions.unix_micros("stamp")).first()
    assert micros is not None
    assert micros[0] == 1603585800000000  # the hour that pandas cannot tell from the next


NOT_IN_PANDAS = {
    "nan": "double('NaN')",
    "float": "float('NaN')",
    "third": "1D / 3",
    "list": "array(double('NaN'), null, -1e-300D)",
    "floats": "array(float(0.1), float('-infinity'))",
    "struct": "struct(double('NaN') as a, 5 as b, timestamp_ntz'9999-12-31 00:00:00.000001' as c)",
    "map": "map('x', array(double('NaN')), 'y', null)",
    "until": "timestamp_ntz'9999-12-31 23:59:59.999999'",
    "night": "timestamp_ntz'2020-03-29 02:30:00'",  # skipped by the clocks
    "ever": "timestamp'9999-12-31 00:00:00Z'",
}


@pytest.mark.parametrize("way", recipe.WAYS)
def test_what_pandas_has_no_place_for_is_kept(way: str, spark: SparkSession, tmp_path: Path) -> None:
    values = ", ".join(f"if(id = 0, {value}, null) as {name}" for name, value in NOT_IN_PANDAS.items())
    spark.sql(f"select id, double(id) as x, {values} from range(2)").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    model = DecisionTreeRegressor().fit([[0.0], [1.0]], [0.5, 1.5])
    scored = recipe.score(frame, model, features=["x"], way=way)
    assert scored.schema[:-1] == frame.schema
    assert str(scored.drop("prediction").orderBy("id").collect()) == str(frame.orderBy("id").collect())


NUMBERS = ["tinyint", "smallint", "int", "bigint", "float", "double", "decimal(9,2)", "boolean"]


@pytest.mark.parametrize("way", recipe.WAYS)
def test_numbers_of_every_type_reach_the_model_and_nulls_as_nan(way: str, spark: SparkSession, tmp_path: Path) -> None:
    typed = ", ".join(f"cast(if(id = 1, null, id % 2) as {kind}) as x{place}" for place, kind in enumerate(NUMBERS))
    spark.sql(f"select id, {typed} from range(4)").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    X = np.repeat([[0.0], [np.nan], [0.0], [1.0]], len(NUMBERS), axis=1)
    model = DecisionTreeRegressor().fit(X, [1.0, 2.0, 1.0, 3.0])
    scored = recipe.score(frame, model, features=[f"x{place}" for place in range(len(NUMBERS))], way=way)
    assert [row["prediction"] for row in scored.orderBy("id").collect()] == [1.0, 2.0, 1.0, 3.0]


@pytest.mark.parametrize("way", UDFS)
def test_arrays_and_vectors_dense_and_sparse(way: str, spark: SparkSession) -> None:
    model = IsolationForest(n_estimators=5, random_state=0).fit([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [9.0, 9.0]])
    dense, sparse = Vectors.dense([0.0, 1.0]), Vectors.sparse(2, [0], [9.0])
    schema = StructType([StructField("id", recipe.spark_types.LongType()), StructField("v", VectorUDT())])
    vectors = spark.createDataFrame([(0, dense), (1, sparse)], schema)
    floats = spark.sql("select id, array(float(0), float(1 - id)) as v from range(2)")
    inputs = [(vectors, [[0.0, 1.0], [9.0, 0.0]]), (floats, [[0.0, 1.0], [0.0, 0.0]])]
    # Rows that pass through Python in Arrow cannot have vectors among what they keep.
    options = {"keep": "id"} if way in ("map_in_arrow", "map_in_pandas") else {}
    for frame, rows in inputs:
        found = recipe.WAYS[way](frame, model, ["v"], **options).orderBy("id").collect()
        assert [row["label"] for row in found] == model.predict(rows).tolist()
    if options:
        with pytest.raises(TypeError, match="column 'v' is vector, and only UDFs can keep it"):
            recipe.score(vectors, model, features=["v"], way=way)


@pytest.mark.parametrize("way", others_at_night([*UDFS, "files"], PUSHED))
def test_arrays_of_unequal_lengths_and_null_arrays_are_named(way: str, spark: SparkSession, tmp_path: Path) -> None:
    model = LinearRegression().fit([[0.0, 0.0, 1.0], [1.0, 1.0, 2.0], [1.0, 2.0, 5.0]], [0.0, 1.0, 2.0])
    # Six numbers in two rows: as a matrix of three columns they would be taken without a word.
    for name, rows in {
        "ragged": "(array(1D, 2D)), (array(1D, 2D, 3D, 4D))",
        "null": "(array(1D, 2D, 3D)), (null)",
    }.items():
        spark.sql(f"select * from values {rows} as t(a)").coalesce(1).write.parquet(str(tmp_path / name))
        scored = recipe.score(spark.read.parquet(str(tmp_path / name)), model, features=["a"], way=way)
        said = (
            "arrays of features have 2 and 4 elements|expecting 3 features" if name == "ragged" else "is null: fill it"
        )
        if way == "predict_batch_udf":  # it is Spark that says so there
            said = "shape|null|None"
        with pytest.raises(Exception, match=said):
            scored.collect()


@pytest.mark.parametrize("way", others_at_night([*UDFS, "files"], PUSHED))
def test_two_arrays_and_a_number(way: str, spark: SparkSession, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(6, 5))
    model = LinearRegression().fit(X, X[:, 0])
    rows = [(i, row[:2], row[2], row[3:]) for i, row in enumerate(X.tolist())]
    spark.createDataFrame(rows, "id int, a array<double>, x double, b array<double>").write.parquet(
        str(tmp_path / "rows")
    )
    frame = spark.read.parquet(str(tmp_path / "rows"))
    if way == "predict_batch_udf":
        with pytest.raises(ValueError, match="predict_batch_udf has to know how long each array"):
            recipe.score(frame, model, features=["a", "x", "b"], way=way)
        return
    scored = recipe.score(frame, model, features=["a", "x", "b"], way=way).orderBy("id")
    np.testing.assert_allclose([row["prediction"] for row in scored.collect()], model.predict(X), rtol=1e-12)


class Halves(BaseEstimator):
    """Answers NaN to negative numbers; in lists too."""

    def predict(self, X: Any) -> Any:
        return np.where(X[:, 0] < 0, np.nan, X[:, 0] / 2)

    def transform(self, X: Any) -> Any:
        return np.c_[self.predict(X), X[:, 0]]


@pytest.mark.parametrize("way", others_at_night([*UDFS, "files"], PUSHED))
def test_nan_among_the_answers_is_nan_by_every_way(way: str, spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("select id, double(id - 1) as x from range(3)").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    scored = recipe.score(frame, Halves(), features=["x"], way=way).orderBy("id")
    assert str([row["prediction"] for row in scored.collect()]) == "[nan, 0.0, 0.5]"
    scored = recipe.score(frame, Halves(), features=["x"], method="transform", way=way).orderBy("id")
    assert str([row["prediction"] for row in scored.collect()]) == "[[nan, -1.0], [0.0, 0.0], [0.5, 1.0]]"


class Tells(BaseEstimator):
    """Tells what it got of a column of dates and one of times."""

    def fit(self, X: pd.DataFrame) -> Any:
        self.feature_names_in_ = np.array(list(X.columns), dtype=object)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: pd.DataFrame) -> Any:
        return np.array([f"{day!s} {pd.Timestamp(time)!s}" for day, time in zip(X["day"], X["time"], strict=True)])


@pytest.mark.parametrize("way", [*UDFS, "files"])
def test_dates_and_times_reach_the_model_as_in_pandas(way: str, spark: SparkSession, tmp_path: Path) -> None:
    rows = "select date'2020-02-03' as day, timestamp'2020-07-01 10:00:00Z' as time"
    spark.sql(rows).write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    assert frame.toPandas()["time"][0] == pd.Timestamp(datetime(2020, 7, 1, 12))
    model = Tells().fit(frame.toPandas())
    assert [row["prediction"] for row in recipe.score(frame, model, way=way).collect()] == model.predict(
        frame.toPandas()
    ).tolist()


LABELS = np.array(["2020-10-25T02:30:00.000001", "2020-03-29T02:30:00"], dtype="datetime64[ns]")


@pytest.mark.parametrize("way", [name for name in recipe.WAYS if name != "predict_batch_udf"])
def test_labels_that_are_times_are_those_of_the_model(way: str, spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("select id, double(id % 2) as x from range(4)").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    model = DecisionTreeClassifier().fit([[0.0], [1.0]], LABELS)
    scored = recipe.score(frame, model, features=["x"], way=way).orderBy("id")
    assert scored.schema["prediction"].dataType.simpleString() == "timestamp_ntz"
    assert [str(row["prediction"]) for row in scored.collect()] == [str(pd.Timestamp(label)) for label in LABELS] * 2


def test_nanoseconds_are_never_cut_off() -> None:
    with pytest.raises(pa.ArrowInvalid, match="would lose data"):
        recipe.as_arrow(np.array([1], dtype="datetime64[ns]"))


def test_numbers_beside_truth_in_a_table_are_numbers() -> None:
    table = pd.DataFrame({"a": [0.5, np.nan], "yes": [True, False], "whole": [2**33, 1]})
    assert str(recipe.as_arrow(table).to_pylist()) == "[[0.5, 1.0, 8589934592.0], [nan, 0.0, 1.0]]"
    assert recipe.as_arrow(table[["yes", "whole"]]).to_pylist() == [[1, 2**33], [0, 1]]
    assert recipe.as_arrow(table[["yes"]]).to_pylist() == [[True], [False]]


def test_a_vector_in_a_file_is_refused_by_the_way_of_files(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.range(3).select("id", array_to_vector(functions.array(functions.col("id").cast("double"))).alias("v"))
    frame.write.parquet(str(tmp_path / "rows"))
    model = DecisionTreeRegressor().fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="files: an ML vector has no array in its file"):
        recipe.score_by_files(spark.read.parquet(str(tmp_path / "rows")), model, ["v"], keep="id")


class Heavy(BaseEstimator):
    """Has an array of 500 MB, and tells how much memory the process had at most."""

    def __init__(self, size: int = 500 * 2**20) -> None:
        self.n_features_in_ = 1
        self.ballast = np.ones(size // 8)

    def predict(self, X: Any) -> Any:
        # Of this process alone: what `getrusage` tells, a process has from the one that started it.
        status = Path("/proc/self/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        return np.full(len(X), peak / 1024 if self.ballast[-1] == 1 else 0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_model_of_500_mb_is_held_once_by_each_worker(spark: SparkSession) -> None:
    frame = spark.range(0, 1000, 1, 2).selectExpr("id", "double(id) as x")
    scored = recipe.score(frame, Heavy(), features=["x"], way="map_in_arrow")
    peaks = {row["prediction"] for row in scored.collect()}
    print(f"\nMB of memory of each worker at most: {sorted(peaks)}")
    assert min(peaks) > 500  # the model is there
    assert max(peaks) < 2 * 500  # and no copy of it
