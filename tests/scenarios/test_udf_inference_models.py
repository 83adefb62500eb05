# SPDX-License-Identifier: Apache-2.0
"""Any model by any way: answers are scikit-learn's, types follow from the model, and what cannot work is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.base
import udf_inference as recipe
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.types import DoubleType, IntegerType, StructField, TimestampNTZType
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import NMF, PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.nightly import others_at_night

pytestmark = pytest.mark.spark
ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 3)) * [1.0, 50.0, 0.01] + [0.0, 1e4, 0.5]
NAMES = ["a b", "c.d", "é`f"]
SIGN = X[:, 0] > 0
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
UDFS = [name for name in recipe.WAYS if name not in ("sql", "files")]
PUSHED = ("pandas_udf", "map_in_arrow", "files")


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Parquet files of odd names: rows 0 to 59, a key and two columns more to carry through."""
    rows = pd.DataFrame(X, columns=NAMES).assign(key=[f"k{i}" for i in range(ROWS)], number=2**60 + np.arange(ROWS))
    path = str(tmp_path_factory.mktemp("rows") / "in this folder")
    spark.createDataFrame(rows).repartition(3).write.parquet(path)
    return path


@pytest.fixture(scope="module")
def frame(spark: SparkSession, folder: str) -> DataFrame:
    return spark.read.parquet(folder)


def answers(scored: DataFrame, output: str = "prediction") -> list[Any]:
    """The new column, in the order of the rows."""
    return [row[output] for row in sorted(scored.collect(), key=lambda row: row["number"])]


DROPPING = ColumnTransformer([("s", StandardScaler(), NAMES[:2]), ("gone", "drop", ["note"])])
TRAINED_ON = pd.DataFrame(X, columns=NAMES).assign(note="n")[["note", NAMES[2], *NAMES[:2]]]


@pytest.mark.parametrize("searched", others_at_night([False, True], [True]))
def test_columns_that_a_model_drops_are_not_read_and_need_not_be_there(frame: DataFrame, searched: bool) -> None:
    """Of those that it was fitted on, one is named to be dropped and one is the rest."""
    model: Any = make_pipeline(DROPPING, Ridge())
    model = (GridSearchCV(model, {"ridge__alpha": [1.0]}, cv=2) if searched else model).fit(TRAINED_ON, X[:, 0])
    assert recipe.plan_scoring(frame, model, None).names == tuple(NAMES[:2])
    for way in ("files", *UDFS):
        np.testing.assert_allclose(answers(recipe.score(frame, model, way=way)), model.predict(TRAINED_ON), rtol=1e-9)
    lacking = frame.drop(recipe.named(NAMES[2]))
    for features in (None, NAMES[1::-1]):
        found = answers(recipe.score(lacking, model, features=features))
        np.testing.assert_allclose(found, model.predict(TRAINED_ON), rtol=1e-9)
    with pytest.raises(ValueError, match=r"the frame has no column \['a b'\]"):
        recipe.score(frame.drop("a b"), model)
    with pytest.raises(ValueError, match=r"missing \['c.d'\], surplus \['key'\]"):
        recipe.score(frame, model, features=["a b", "key"])


MODELS: dict[str, tuple[Any, str, str]] = {
    "labels of text": (LogisticRegression().fit(X, np.where(SIGN, "yes", "no")), "predict", "string"),
    "labels of truth": (SVC().fit(X, SIGN), "predict", "boolean"),
    "labels of 64 bits": (HistGradientBoostingClassifier(max_iter=3).fit(X, THREE + 2**33), "predict", "bigint"),
    "labels of 8 bits": (DecisionTreeClassifier().fit(X, THREE.astype("uint8")), "predict", "smallint"),
    "labels as objects": (
        RandomForestClassifier(5, n_jobs=-1).fit(X, SIGN.astype(str).astype(object)),
        "predict",
        "string",
    ),
    "regressor": (RandomForestRegressor(5, n_jobs=-1).fit(X, X[:, 0]), "predict", "double"),
    "two outputs": (LinearRegression().fit(X, X[:, :2]), "predict", "array<double>"),
    "probabilities": (LogisticRegression().fit(X, THREE), "predict_proba", "array<double>"),
    "probabilities of two outputs": (
        RandomForestClassifier(3).fit(X, np.c_[SIGN, SIGN]),
        "predict_proba",
        "array<array<double>>",
    ),
    "decision": (SVC().fit(X, SIGN), "decision_function", "double"),
    "decisions": (LinearSVC().fit(X / [1, 1e4, 1], THREE), "decision_function", "array<double>"),
    "transform": (PCA(2).fit(X), "transform", "array<double>"),
    "clusters": (KMeans(2, n_init=1).fit(X), "predict", "int"),
    "outliers": (IsolationForest(n_estimators=3, random_state=0).fit(X), "predict", "bigint"),
    "search": (GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, cv=2).fit(X, X[:, 1]), "predict", "double"),
    "names in another order": (
        Ridge().fit(pd.DataFrame(X[:, ::-1], columns=NAMES[::-1]), X[:, 1]),
        "predict",
        "double",
    ),
}


def close(found: Any, expected: Any) -> None:
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    else:
        assert np.asarray(found).tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize("what", MODELS)
def test_every_way_answers_as_scikit_learn_and_keeps_the_columns(what: str, frame: DataFrame) -> None:
    model, method, kind = MODELS[what]
    named = hasattr(model, "feature_names_in_")
    expected = getattr(model, method)(pd.DataFrame(X, columns=NAMES)[NAMES[::-1]] if named else X)
    if isinstance(expected, list):
        expected = np.stack(expected, axis=1)
    tried = []
    for way in recipe.WAYS:
        features = None if named else NAMES
        if way == "sql" and not isinstance(model, (LogisticRegression, LinearSVC, Ridge, DecisionTreeClassifier)):
            continue
        if (way, kind) == ("predict_batch_udf", "array<array<double>>"):
            with pytest.raises(ValueError, match="predict_batch_udf takes no array<array<double>>"):
                recipe.score(frame, model, features=features, method=method, way=way)
            continue
        scored = recipe.score(frame, model, features=features, method=method, way=way)
        tried.append(way)
        assert scored.columns == [*frame.columns, "prediction"]
        assert scored.schema["prediction"].dataType.simpleString() == kind
        rows = sorted(scored.collect(), key=lambda row: row["number"])
        assert [(row["key"], row["number"]) for row in rows] == [(f"k{i}", 2**60 + i) for i in range(ROWS)]
        assert scored.schema["prediction"].metadata == {"way": way, "why": "named by the caller"}
        close([row["prediction"] for row in rows], expected)
    assert len(tried) >= len(UDFS)  # and files, unless refused above


SQL = {
    "linear": (LinearRegression(), X[:, 1], "predict"),
    "without intercept": (Ridge(fit_intercept=False), X[:, 1], "predict"),
    "standardised": (make_pipeline(StandardScaler(), Ridge()), X[:, 1], "predict"),
    "not centred": (make_pipeline(StandardScaler(with_mean=False), Ridge()), X[:, 1], "predict"),
    "not scaled": (make_pipeline(StandardScaler(with_std=False), Ridge()), X[:, 1], "predict"),
    "between 0 and 1": (make_pipeline(MinMaxScaler(), LogisticRegression()), SIGN, "predict_proba"),
    "by maxima": (make_pipeline(MaxAbsScaler(), LogisticRegression()), THREE, "predict_proba"),
    "robust": (make_pipeline(RobustScaler(), LogisticRegression()), THREE, "predict"),
    "text": (make_pipeline(StandardScaler(), LogisticRegression()), np.where(SIGN, "it's", 'a "b"'), "predict"),
    "decision": (make_pipeline(StandardScaler(), LinearSVC()), SIGN, "decision_function"),
    "decisions": (make_pipeline(StandardScaler(), RidgeClassifier()), THREE, "decision_function"),
    "tree": (DecisionTreeClassifier(max_depth=4), THREE, "predict"),
    "shares of a tree": (DecisionTreeClassifier(max_depth=2), THREE, "predict_proba"),
    "regression tree": (DecisionTreeRegressor(max_depth=3), X[:, 1], "predict"),
}


@pytest.mark.parametrize("what", SQL)
def test_sql_gives_the_same_labels_and_scores_without_python(what: str, frame: DataFrame) -> None:
    model, y, method = SQL[what]
    model = sklearn.base.clone(model).fit(X, y)
    scored = recipe.score(frame, model, features=NAMES, method=method)
    assert scored.schema["prediction"].metadata["way"] == "sql"
    assert "no row leaves the JVM" in scored.schema["prediction"].metadata["why"]
    assert not re.search("Python|Arrow", scored._jdf.queryExecution().executedPlan().toString())
    close(answers(scored), getattr(model, method)(X))
    assert scored.columns == [*frame.columns, "prediction"]


MULTINOMIAL = LogisticRegression().fit(X, SIGN)
MULTINOMIAL.multi_class = "multinomial"  # until scikit-learn 1.8: with two classes, another formula


@pytest.mark.parametrize(
    ("model", "method", "reason"),
    [
        (SVC().fit(X, SIGN), "predict", "SVC.predict is no sum"),
        (make_pipeline(PCA(2), Ridge()).fit(X, X[:, 0]), "predict", "Pipeline has steps before"),
        (make_pipeline(MinMaxScaler(clip=True), Ridge()).fit(X, X[:, 0]), "predict", "Pipeline has steps before"),
        (LinearRegression().fit(X, X[:, :2]), "predict", "LinearRegression.predict is no sum"),
        (LogisticRegression().fit(X, SIGN), "predict_log_proba", "predict_log_proba is no sum"),
        (MULTINOMIAL, "predict_proba", "predict_proba is no sum"),
    ],
)
def test_sql_refuses_what_it_cannot_say(model: Any, method: str, reason: str, frame: DataFrame) -> None:
    with pytest.raises(ValueError, match=f"sql: .*{reason}.*choose another way"):
        recipe.score(frame, model, features=NAMES, method=method, way="sql")
    metadata = recipe.score(frame, model, features=NAMES, method=method).schema["prediction"].metadata
    assert metadata["way"] == "arrow_udf"
    assert "only the features go to Python" in metadata["why"]


def test_what_is_picked_keeps_the_columns_and_the_order_of_the_frame(frame: DataFrame) -> None:
    numbers = [row["number"] for row in frame.collect()]
    for model in (SVC().fit(X, SIGN), LogisticRegression().fit(X, SIGN)):
        scored = recipe.score(frame, model, features=NAMES)
        assert [row["number"] for row in scored.select(frame["number"], "prediction").collect()] == numbers
        assert scored.where(frame["number"] < 2**60 + 10).count() == 10
        assert scored.drop(frame["number"]).columns == [*NAMES, "key", "prediction"]


def test_a_large_sum_goes_to_python_because_java_would_interpret_it(spark: SparkSession) -> None:
    wide = np.random.default_rng(0).normal(size=(20, 200))
    model = Ridge().fit(wide, wide[:, 0])
    names = [f"x{i}" for i in range(200)]
    frame = spark.createDataFrame(pd.DataFrame(wide, columns=names).assign(number=range(20)))
    assert recipe.score(frame, model, features=names).schema["prediction"].metadata["way"] == "arrow_udf"
    close(answers(recipe.score(frame, model, features=names, way="sql")), model.predict(wide))


@pytest.mark.parametrize("way", others_at_night(recipe.WAYS, PUSHED))
def test_nulls_reach_the_model_as_nan(way: str, spark: SparkSession, tmp_path: Path) -> None:
    holed = np.where(np.arange(ROWS) % 7 == 0, np.nan, X[:, 0])
    both = np.c_[holed, np.where(np.arange(ROWS) % 5 == 0, np.nan, X[:, 1])]
    model = DecisionTreeClassifier(max_depth=5).fit(both, THREE)
    rows = [(None if np.isnan(a) else float(a), float(b), i) for i, (a, b) in enumerate(both)]  # a null and a NaN
    spark.createDataFrame(rows, "a double, b double, number long").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    assert answers(recipe.score(frame, model, features=["a", "b"], way=way)) == model.predict(both).tolist()
    scored = recipe.score(frame, Ridge().fit(X[:, :2], X[:, 0]), features=["a", "b"], way=way)
    with pytest.raises(Exception, match=r"Input (X )?contains"):
        scored.collect()


@pytest.mark.parametrize("way", others_at_night(recipe.WAYS, PUSHED))
def test_empty_and_one_row_partitions(way: str, spark: SparkSession, tmp_path: Path) -> None:
    model = LogisticRegression().fit(X[:, :1], SIGN)
    for count in (0, 1, 3):
        path = str(tmp_path / str(count))
        frame = spark.createDataFrame([(float(X[i, 0]), i) for i in range(count)], "x double, number long")
        frame.repartition(4).write.parquet(path)
        frame = spark.read.parquet(path) if way == "files" else frame.repartition(4)
        scored = recipe.score(frame, model, features=["x"], way=way)
        assert answers(scored) == model.predict(X[:3, :1]).tolist()[:count]


@pytest.mark.parametrize("way", [*UDFS, "files"])
def test_text_and_numbers_by_the_name_of_the_column(way: str, spark: SparkSession, tmp_path: Path) -> None:
    rows = pd.DataFrame({"colour": ["red", "blue", "red", "green"] * 5, "size": range(20), "new": [True, False] * 10})
    parts = [("colours", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("sizes", StandardScaler(), ["size"])]
    model = Pipeline([("columns", ColumnTransformer(parts, remainder="passthrough")), ("model", Ridge())])
    model.fit(rows, np.arange(20) % 7)
    spark.createDataFrame(rows.assign(number=range(20))[["new", "number", "size", "colour"]]).write.parquet(
        str(tmp_path / "rows")
    )
    frame = spark.read.parquet(str(tmp_path / "rows"))
    close(answers(recipe.score(frame, model, way=way)), model.predict(rows))
    with pytest.raises(TypeError, match="column 'size' is string: Pipeline takes numbers there"):
        recipe.score(frame.withColumn("size", functions.col("size").cast("string")), model, way=way)
    with pytest.raises(TypeError, match="column 'colour' is bigint: Pipeline takes text there"):
        recipe.score(frame.withColumn("colour", functions.col("number")), model, way=way)


def test_documents(spark: SparkSession) -> None:
    words = ["good", "bad", "good day", "bad day"] * 3
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(words, [1, 0, 1, 0] * 3)
    frame = spark.createDataFrame([(word, i) for i, word in enumerate(words)], "said string, number long")
    for way in UDFS:
        assert answers(recipe.score(frame, model, features=["said"], way=way)) == [1, 0, 1, 0] * 3


@pytest.mark.parametrize("way", [*UDFS, "files"])
def test_array_columns(way: str, spark: SparkSession, frame: DataFrame, tmp_path: Path) -> None:
    quoted = [recipe.named(name) for name in NAMES]
    frame.select("number", functions.array(*quoted).alias("all")).write.parquet(str(tmp_path / "rows"))
    arrays, model = spark.read.parquet(str(tmp_path / "rows")), SVC().fit(X, SIGN)
    assert answers(recipe.score(arrays, model, features=["all"], way=way)) == signs_of(model)
    if way.endswith("udf"):
        vectors = arrays.select("number", array_to_vector("all").alias("vector"))
        assert answers(recipe.score(vectors, model, features=["vector"], way=way)) == signs_of(model)


def signs_of(model: Any) -> list[Any]:
    return model.predict(X).tolist()


REFUSED: dict[str, tuple[Callable[[DataFrame], Any], str]] = {
    "missing": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=["a b", "zz", "number"]), r"no column \['zz'\]"),
    "number of features": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=["a b"]), "takes 3 features, got 1"),
    "no names": (lambda f: recipe.score(f, SVC().fit(X, SIGN)), "SVC.predict knows no column names: say features"),
    "surplus": (
        lambda f: recipe.score(f, MODELS["names in another order"][0], features=[*NAMES, "number"]),
        r"missing \[\], surplus \['number'\]",
    ),
    "text": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=[*NAMES[:2], "key"]), "column 'key' is string"),
    "name taken": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=NAMES, output="KEY"), "'KEY' already"),
    "twice": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=["key", "key", "key"]), r"\['key'\] are there"),
    "method": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=NAMES, method="fly"), "no method 'fly'"),
    "columns": (
        lambda f: recipe.score(f, SVC().fit(X, SIGN), features=[f["key"], f["number"]]),
        r"features=\[Column<'key'>, Column<'number'>\]: give the names",
    ),
    "a column": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=f["key"]), "Column<'key'>.*give the names"),
    "places": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=[0, 1, 2]), r"features=\[0, 1, 2\]: give the"),
    "not fitted": (lambda f: recipe.score(f, Ridge(), features=NAMES), "Ridge was not fitted: This Ridge instance"),
    "transformer not fitted": (
        lambda f: recipe.score(f, PCA(2), features=NAMES, method="transform"),
        "PCA was not fitted: This PCA",
    ),
    "pipeline not fitted": (
        lambda f: recipe.score(f, make_pipeline(ColumnTransformer([("n", PCA(), NAMES)]), Ridge()), features=NAMES),
        "Pipeline was not fitted: This",
    ),
    "way": (lambda f: recipe.score(f, SVC().fit(X, SIGN), features=NAMES, way="fax"), "way='fax': choose one of sql"),
    "files": (
        lambda f: recipe.score(f.where("number > 0"), SVC().fit(X, SIGN), features=NAMES, way="files"),
        "files: the frame has to be spark.read.parquet",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_before_a_job(what: str, frame: DataFrame, spark: SparkSession) -> None:
    call, message = REFUSED[what]
    spark.sparkContext.setJobGroup("refused", what)
    try:
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            call(frame)
        assert "\n" not in str(caught.value)
        assert spark.sparkContext.statusTracker().getJobIdsForGroup("refused") == []
    finally:
        for name in ("jobGroup.id", "job.description", "job.interruptOnCancel"):
            spark.sparkContext.setLocalProperty(f"spark.{name}", None)


def test_a_type_of_yours_is_kept_to_or_the_job_fails(frame: DataFrame) -> None:
    model = Ridge().fit(X, X[:, 0])
    scored = recipe.score(frame, model, features=NAMES, output=StructField("whole", IntegerType()), way="arrow_udf")
    assert scored.schema["whole"].dataType == IntegerType()
    with pytest.raises(Exception, match="truncated"):
        scored.collect()
    labels = SVC().fit(X, THREE)
    scored = recipe.score(frame, labels, features=NAMES, output=StructField("wide", DoubleType(), True, {"unit": "m"}))
    assert {"unit", "way", "why"} == set(scored.schema["wide"].metadata)
    assert answers(scored, "wide") == labels.predict(X).astype(float).tolist()


IN_A_NOTEBOOK = """
import os
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from threadpoolctl import threadpool_info


class Counted(ClassifierMixin, BaseEstimator):
    # Writes a line to a file for each time it is loaded, and refuses rows that are too large.

    def __init__(self, path, limit=np.inf):
        self.path = path
        self.limit = limit

    def __setstate__(self, state):
        self.__dict__.update(state)
        with Path(self.path).open("a") as file:
            file.write(f"{os.getpid()}\\n")

    def predict(self, X):
        # Tells how many threads and joblib workers it could use here.
        if X.max() > self.limit:
            raise ArithmeticError("this row is too large for me")
        threads = max(library["num_threads"] for library in threadpool_info())
        return np.full(len(X), 10 * threads + joblib.effective_n_jobs(-1))
"""


def counted(path: Path, **options: float) -> Any:
    """Return a model whose class is of `__main__`, as in a notebook: workers cannot import it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(IN_A_NOTEBOOK, names)
    return names["Counted"](str(path), **options)


def test_a_model_is_shipped_once_loaded_once_by_each_worker_and_has_one_thread(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = []
    broadcast = spark.sparkContext.broadcast
    monkeypatch.setattr(spark.sparkContext, "broadcast", lambda value: shipped.append(value) or broadcast(value))
    frame = spark.range(0, 4000, 1, 8).selectExpr("id as number", "double(id) as x")
    model = counted(tmp_path / "loads")
    scored = recipe.score(frame, model, features=["x"], way="arrow_udf")
    assert set(answers(scored)) == {11}
    assert set(answers(scored)) == {11}  # one thread, and one job of joblib
    assert len(shipped) == 1
    loads = (tmp_path / "loads").read_text().split()
    assert len(loads) == len(set(loads))  # sixteen tasks, and each worker loaded it once
    recipe.score(frame, LinearRegression().fit(X[:, :1], SIGN), features=["x"]).count()
    assert len(shipped) == 1  # an SQL expression ships nothing
    recipe.score(frame, model, features=["x"], way="pandas_udf")
    assert len(shipped) == 1  # Spark would keep each of them
    model.limit = 1.0
    for way, output in (("files", "y"), ("predict_batch_udf", StructField("y", TimestampNTZType()))):
        with pytest.raises(ValueError, match=r"files: the frame has to be|predict_batch_udf takes no time"):
            recipe.score(frame, model, features=["x"], way=way, output=output)
    assert len(shipped) == 1  # nor do refusals
    recipe.score(frame, model, features=["x"], way="pandas_udf")
    assert len(shipped) == 2  # it is another model by now


def test_models_that_take_turns_are_not_sent_again_and_the_oldest_is_forgotten(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped: list[Any] = []
    broadcast = spark.sparkContext.broadcast
    monkeypatch.setattr(spark.sparkContext, "broadcast", lambda value: shipped.append(value) or broadcast(value))
    monkeypatch.setattr(recipe, "BROADCASTS", {})
    monkeypatch.setattr(recipe, "MOST_BROADCASTS", 3)
    models = [recipe.Shipped([number]) for number in range(4)]
    for number in (0, 1, 2, 0, 1, 2, 0):
        assert models[number].broadcast(spark.sparkContext).value == [number]
    assert len(shipped) == 3
    models[3].broadcast(spark.sparkContext)  # in place of 1, which is the longest without use
    for number in (2, 0, 3):
        models[number].broadcast(spark.sparkContext)
    assert len(shipped) == 4
    models[1].broadcast(spark.sparkContext)
    assert len(shipped) == 5


@pytest.mark.parametrize("way", others_at_night([*UDFS, "files"], PUSHED))
def test_a_model_that_raises_in_the_middle_says_so_itself(way: str, spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.range(0, 4000, 1, 2).selectExpr("id as number", "double(id) as x")
    if way == "files":
        frame.write.parquet(str(tmp_path / "rows"))
        frame = spark.read.parquet(str(tmp_path / "rows"))
    if "row_udf" in way:
        frame = frame.where("number > 3900")
    model = counted(tmp_path / "loads", limit=3950)
    scored = recipe.score(frame, model, features=["x"], way=way)
    with pytest.raises(Exception, match="ArithmeticError: this row is too large for me"):
        scored.collect()


@pytest.fixture
def other_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of a model that was trained with scikit-learn 1.2.3."""
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.2.3")
        joblib.dump(SVC().fit(X, SIGN), tmp_path / "old.joblib")
    return str(tmp_path / "old.joblib")


def test_a_model_from_disk_must_be_of_this_version(
    other_version: str, frame: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, here = SVC().fit(X, SIGN), sklearn.__version__
    joblib.dump(model, tmp_path / "new.joblib")
    assert answers(recipe.score(frame, tmp_path / "new.joblib", features=NAMES)) == signs_of(model)
    with pytest.raises(RuntimeError, match=f"trained with 1.2.3, the driver has {here}, the worker on .* has {here}"):
        recipe.score(frame, other_version, features=NAMES)


def test_numbers_travel_as_one_array(frame: DataFrame) -> None:
    """Spark asks each column of a batch for its size, after each row."""
    plan = recipe.plan_scoring(frame, SVC().fit(X, SIGN), NAMES)
    assert [kind for _, kind in frame.select(*plan.packed).dtypes] == ["array<double>"]
    assert len(frame.select(*plan.columns).columns) == len(NAMES)
    assert recipe.plan_scoring(frame, SVC().fit(X[:, :1], SIGN), NAMES[:1]).packed == [f"`{NAMES[0]}`"]


def test_a_worker_of_another_version_stops_the_job(frame: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    here = sklearn.__version__
    plan = recipe.plan_scoring(frame, SVC().fit(X, SIGN), NAMES)
    plan.scorer.trained = plan.scorer.driver = "9.8.7"
    with pytest.raises(Exception, match=f"trained with 9.8.7, the driver has 9.8.7, the worker on .* has {here}"):
        recipe.score_by_arrow_udf(frame, plan).collect()


def test_files_are_read_by_tasks_of_equal_rows_and_no_column_too_many(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recipe.deal([(5, "a", 0), (5, "a", 1), (9, "b", 0), (1, "c", 0)], 2) == [
        [("b", 0), ("c", 0)],
        [("a", 0), ("a", 1)],
    ]
    spark.range(0, 1000, 1, 5).selectExpr("id", "double(id) x", "double(id) y").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    model = Ridge().fit(X[:, :1], SIGN)
    scored = recipe.score_by_files(frame, model, ["x"], keep="id")
    assert scored.rdd.getNumPartitions() == 2
    assert scored.columns == ["id", "label"]
    groups = [(address, number) for _, address, number in recipe.row_groups(frame, {"x"})]
    assert len(groups) == 5
    batches = list(recipe.batches_of(groups, ["x"]))
    assert {tuple(batch.schema.names) for batch in batches} == {("x",)}
    assert sum(batch.num_rows for batch in batches) == 1000


@pytest.mark.parametrize("columns", ["array", "table"])
def test_a_model_that_takes_floats_of_32_bits_alone_gets_such(spark: SparkSession, columns: str) -> None:
    """k-means refuses other floats than those of its fit, and so do the factors of NMF."""
    single = np.abs(X).astype(np.float32)
    table = pd.DataFrame(single, columns=list("abc"))
    if columns == "array":
        frame, features = spark.createDataFrame([(row.tolist(),) for row in single], "v array<float>"), "v"
    else:
        frame, features = spark.createDataFrame(table), None
    given: Any = table if columns == "table" else single
    clusters = KMeans(3, n_init=1, random_state=0).fit(given)
    parts = NMF(2, init="nndsvda", max_iter=500, random_state=0).fit(given)
    for model, method in ((clusters, "predict"), (parts, "transform")):
        found = recipe.score(frame, model, features=features, method=method).toPandas()["prediction"]
        np.testing.assert_allclose(np.array(found.tolist()), getattr(model, method)(given), rtol=1e-3, atol=1e-5)


def test_an_encoder_of_labels_takes_what_it_was_fitted_on(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("red",), ("blue",), ("red",)], "said string")
    encoder = LabelEncoder().fit(["red", "blue"])
    found = recipe.score(frame, encoder, features="said", method="transform")
    assert dict(found.dtypes)["prediction"] in ("bigint", "int")
    assert [row.prediction for row in found.collect()] == [1, 0, 1]
    for kind in ("bigint", "int"):
        codes = spark.sql(f"select cast(code as {kind}) as code from values (1), (0), (1) as t(code)")
        back = recipe.score(codes, encoder, features="code", method="inverse_transform")
        assert [row.prediction for row in back.collect()] == ["red", "blue", "red"]
