# SPDX-License-Identifier: Apache-2.0
"""Scoring Parquet files: every way reads every row once and gives scikit-learn's answers."""

from pathlib import Path

import file_inference as recipe
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn
import udf_inference
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler


@pytest.fixture
def table(tmp_path):
    """Three files with row groups of different sizes, one of them empty, columns in another order than the model's."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(1000, 3))
    for number, (start, stop) in enumerate(((0, 10), (10, 10), (10, 1000))):
        columns = {"x2": X[start:stop, 2], "id": np.arange(start, stop), "x0": X[start:stop, 0], "x1": X[start:stop, 1]}
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet", row_group_size=300)
    return X, LinearRegression().fit(X, X @ [1, 2, 3] + 4), sorted(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("processes", [1, 2, 7, -1, None])
def test_every_row_is_scored_once_whatever_the_number_of_processes(table, processes):
    X, model, files = table
    parts = recipe.score_files(files, model, ["x0", "x1", "x2"], keep="id", processes=processes)
    ids, answers = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(ids)
    np.testing.assert_array_equal(ids[order], np.arange(1000))
    np.testing.assert_allclose(answers[order], model.predict(X), rtol=1e-12)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        recipe.score_files(files, model, ["x0", "x1", "x2"], keep="id", processes=0)


def test_files_are_named_by_a_path_a_folder_or_addresses(table):
    _, model, files = table
    folder = files[0].parent
    for given, rows in ((folder, 1000), ([str(folder)], 1000), ([f.as_uri() for f in files], 1000), (files[0], 10)):
        parts = recipe.score_files(given, model, ["x0", "x1", "x2"], keep="id", processes=1)
        assert sum(len(answers) for _, answers in parts) == rows
    with pytest.raises(ValueError, match=r"files=\[\]: there are none"):
        recipe.score_files([], model, ["x0", "x1", "x2"], keep="id", processes=1)
    (folder / "2020" / "01").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"files='.*/2020': there are none, as \*\.parquet$"):
        recipe.score_files(folder / "2020", model, ["x0", "x1", "x2"], keep="id", processes=1)
    pq.write_table(pq.read_table(files[0]), folder / "2020" / "01" / "a.parquet")
    with pytest.raises(ValueError, match=r"there are none, as \*\.parquet, but in its folders \['.*/01'\]: give those"):
        recipe.score_files(folder / "2020", model, ["x0", "x1", "x2"], keep="id", processes=1)
    # Java leaves letters beyond ASCII as they are in addresses.
    (folder / "Müller").mkdir()
    moved = files[0].rename(folder / "Müller" / "données 1.parquet").as_posix().replace(" ", "%20")
    assert len(recipe.score_files(f"file://{moved}", model, ["x0", "x1", "x2"], keep="id", processes=1)[0][0]) == 10


def test_no_rows_are_empty_arrays_that_can_be_joined(tmp_path):
    pq.write_table(pa.table({"id": pa.array([], "int32"), "x": pa.array([], "float64")}), tmp_path / "a.parquet")
    for model, kind in ((Ridge(), "f"), (LogisticRegression(), "U")):
        model.fit([[0.0], [1.0]], [0, 1] if kind == "f" else ["no", "yes"])
        ((ids, answers),) = recipe.score_files(tmp_path, model, ["x"], keep="id", processes=2)
        assert (ids.dtype, answers.dtype.kind, len(ids), len(answers)) == (np.int32, kind, 0, 0)


def test_relative_paths_truth_and_nulls(tmp_path, monkeypatch):
    columns = {"key": [2**60 + 1, None, 3], "yes": [True, False, True], "x": pa.array([1.0, None, 3.0])}
    pq.write_table(pa.table(columns), tmp_path / "a b.parquet")
    monkeypatch.chdir(tmp_path)
    model = HistGradientBoostingRegressor().fit([[0.0, 1.0], [1.0, 2.0]], [0.0, 1.0])
    ((keys, answers),) = recipe.score_files([Path("a b.parquet")], model, ["yes", "x"], keep="key", processes=1)
    assert keys.tolist() == [2**60 + 1, None, 3]
    np.testing.assert_array_equal(answers, model.predict([[1.0, 1.0], [0.0, np.nan], [1.0, 3.0]]))
    ((truth, _),) = recipe.score_files(["a b.parquet"], model, ["yes", "x"], keep="yes", processes=1)
    assert truth.tolist() == [True, False, True]


def test_names_decide_the_order_and_bring_text(tmp_path):
    rows = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [10, 20, None], "said": ["red", None, "blue"]})
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pandas(rows.assign(id=range(3)), preserve_index=False), file)
    text = make_pipeline(SimpleImputer(missing_values=None, strategy="most_frequent"), OneHotEncoder())
    mixed = make_pipeline(ColumnTransformer([("t", text, ["said"]), ("n", SimpleImputer(), ["a", "b"])]), Ridge())
    for model, order in ((make_pipeline(SimpleImputer(), Ridge()), ["b", "a"]), (mixed, ["said", "b", "a"])):
        given = rows[sorted(order)]
        model.fit(given, [1.0, 2.0, 5.0])
        ((ids, answers),) = recipe.score_files([file], model, order, keep="id", processes=1)
        assert ids.tolist() == [0, 1, 2]
        np.testing.assert_allclose(answers, model.predict(given), rtol=1e-12)
        with pytest.raises(ValueError, match=r"fitted on other columns: missing \['b'\], surplus \['id'\]"):
            recipe.score_files([file], model, [name if name != "b" else "id" for name in order], keep="id", processes=1)


def test_arrays_texts_and_an_index_of_pandas(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 3))
    sign, said = X[:, 0] > 0, np.where(X[:, 0] > 0, "good day", "bad day")
    rows = pd.DataFrame({"x": X[:, 0], "hour": range(40), "id": range(40), "said": said}).set_index("hour")
    emb = pa.array(X.tolist(), pa.list_(pa.float64(), 3))  # of one length, as those that write embeddings have them
    pq.write_table(pa.Table.from_pandas(rows).append_column("emb", emb), tmp_path / "rows.parquet")
    for model, given, names in (
        (LogisticRegression(), X, ["emb"]),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), said, ["said"]),
        (LogisticRegression(), rows.reset_index()[["hour", "x"]], ["x", "hour"]),
    ):
        model.fit(given, sign)
        ((ids, answers),) = recipe.score_files([tmp_path / "rows.parquet"], model, names, keep="id", processes=1)
        assert ids.tolist() == list(range(40))
        assert answers.tolist() == model.predict(given).tolist()


@pytest.mark.parametrize("processes", [1, 2])
def test_what_score_knows_of_models_score_files_knows_too(table, processes):
    """Columns that are dropped, names behind a passthrough, a configuration of the caller's."""
    X, _, files = table
    names = ["x0", "x1", "x2"]
    given = pd.DataFrame(X, columns=names).assign(gone=0)
    by_name = ColumnTransformer([("n", StandardScaler(), ["x1"])], remainder="passthrough")
    dropping = ColumnTransformer([("n", StandardScaler(), names), ("d", "drop", ["gone"])])
    for model, columns in (
        (Pipeline([("s", "passthrough"), ("m", Ridge())]), names),
        (make_pipeline(SimpleImputer(), by_name, Ridge()), names),
        (make_pipeline(dropping, Ridge()), [*names, "gone"]),
    ):
        with sklearn.config_context(transform_output="pandas"):
            model.fit(given[columns], X[:, 0] - 10 * X[:, 1])
            expected = model.predict(given[columns])
            parts = recipe.score_files(files, model, names[::-1], keep="id", processes=processes)
        ids, answers = (np.concatenate(column) for column in zip(*parts, strict=True))
        np.testing.assert_allclose(answers[np.argsort(ids)], expected, rtol=1e-9)


def test_the_rows_of_the_benchmark_are_those_of_the_recipe_that_has_them_in_memory():
    data = recipe.make_data(rows=200, model="logistic", columns=5)
    read = pq.read_table(data["folder"].name).to_pandas().sort_values("id")
    made = recipe.rows_between(0, 200, recipe.make_classification(1000, 5, random_state=0)[0], 0)
    np.testing.assert_array_equal(read[data["features"]].to_numpy(), made)


def test_one_feature_by_its_name_a_name_that_is_not_there_and_sparse_answers(tmp_path):
    x = np.linspace(-1, 1, 40)
    pq.write_table(pa.table({"id": np.arange(40), "price": x}), tmp_path / "rows.parquet")
    model = OneVsRestClassifier(LogisticRegression()).fit(x[:, None], csr_matrix(np.column_stack([x > 0, x < 0.5])))
    ((ids, answers),) = recipe.score_files(tmp_path, model, "price", keep="id", processes=1)
    np.testing.assert_array_equal(answers[np.argsort(ids)], model.predict(x[:, None]).toarray())
    with pytest.raises(ValueError, match=r"rows\.parquet has no column \['prize'\]: it has \['id', 'price'\]"):
        recipe.score_files(tmp_path, model, "prize", keep="id", processes=1)


@pytest.mark.parametrize("scheme", ["s3a", "s3n", "s3"])
def test_the_names_that_hadoop_has_for_s3_are_one_to_arrow(scheme):
    assert udf_inference.as_address(f"{scheme}://bucket/a/b.parquet") == "s3://bucket/a/b.parquet"


def test_an_address_that_arrow_does_not_know_is_named():
    with pytest.raises(ValueError, match="Arrow cannot open wasbs://of/a, choose another way: "):
        udf_inference.opened("wasbs://of/a")


def test_the_files_go_with_the_data():
    data = recipe.make_data(rows=200)
    folder = Path(data["folder"].name)
    assert list(folder.iterdir())
    del data
    assert not folder.exists()


@pytest.mark.spark
@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_every_way_gives_the_labels_of_one_process(spark, model):
    data = recipe.prepare(recipe.make_data(rows=2_000, model=model), spark=spark)
    expected = recipe.run_one_process(data)
    assert 0 < expected["positives"] < 2_000
    assert recipe.run_processes(data, parallelism=2) == expected
    for run in (recipe.run_files, recipe.run_map_in_arrow, recipe.run_best_way):
        recipe.check(expected, run(data, spark=spark))


def test_a_model_gets_the_precision_that_it_was_fitted_on(tmp_path):
    """k-means refuses other floats than those of its fit."""
    X = np.random.default_rng(0).normal(size=(50, 2))
    for of_model, of_file in ((np.float64, np.float32), (np.float32, np.float64)):
        columns = {"id": np.arange(50), **{f"x{i}": X[:, i].astype(of_file) for i in range(2)}}
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
        for given in (X.astype(of_model), pd.DataFrame(X.astype(of_model), columns=["x0", "x1"])):
            model = KMeans(3, n_init=1, random_state=0).fit(given)
            ((_, found),) = recipe.score_files(tmp_path / "rows.parquet", model, ["x0", "x1"], keep="id", processes=1)
            np.testing.assert_array_equal(found, model.predict(given.astype(np.float32).astype(of_model)))


class Reds(TransformerMixin, BaseEstimator):
    """Takes columns by name, and knows none of its own."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.c_[X["a"] * X["a"], X["said"] == "red"]


def test_a_step_of_your_own_gets_a_table_where_there_is_text_and_integers_that_do_not_overflow(tmp_path):
    rows = pd.DataFrame({"a": [50_000, 2, 3], "b": [0.5, 1.5, 2.5], "said": ["red", "blue", "red"]})
    columns = {"id": range(3), "a": pa.array(rows["a"], "int32"), "b": rows["b"], "said": rows["said"]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    key = make_pipeline(FunctionTransformer(lambda X: X[["a"]].astype(str)), OneHotEncoder(), Ridge())
    reds = make_pipeline(Reds(), LinearRegression())
    for model, names in ((reds, ["a", "said"]), (key, ["a"]), (key, ["a", "b"])):
        model.fit(rows[names], [1.0, 2.0, 4.0])
        ((_, found),) = recipe.score_files(tmp_path, model, names, keep="id", processes=1)
        np.testing.assert_allclose(found, model.predict(rows[names]), rtol=1e-9)


def test_columns_of_a_type_that_the_model_does_not_take_are_refused_by_name(tmp_path):
    parts = {"type": pa.int8(), "size": pa.int32(), "indices": pa.list_(pa.int32()), "values": pa.list_(pa.float64())}
    vector = pa.array([{"type": 1, "values": [1.0, 2.0]}], pa.struct(parts))
    columns = {"id": [0], "a": [1.5], "said": ["red"], "day": pa.array([0], "date32"), "v": vector}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    numbers = Ridge().fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0])
    texts = make_pipeline(TfidfVectorizer(), Ridge()).fit(["one", "two"], [0.0, 1.0])
    for model, names, said in (
        (numbers, ["a", "said"], "column 'said' is string: Ridge takes numbers there"),
        (numbers, ["day", "a"], r"column 'day' is date32\[day\]: Ridge takes numbers there"),
        (numbers, ["v"], "column 'v' is an ML vector: write vector_to_array of it"),
        (texts, ["a"], "column 'a' is double: Pipeline takes text there"),
    ):
        with pytest.raises(TypeError, match=said) as caught:
            recipe.score_files(tmp_path, model, names, keep="id", processes=1)
        assert "\n" not in str(caught.value)


def test_what_any_of_the_files_lacks_is_refused_by_name(table):
    _, model, files = table
    names = ["x0", "x1", "x2"]
    with pytest.raises(ValueError, match=r"0\.parquet has no column \['idd'\]: it has \['x2', 'id', 'x0', 'x1'\]"):
        recipe.score_files(files, model, names, keep="idd", processes=2)
    pq.write_table(pa.table({"id": [1], "x0": [0.5], "x1": [0.5]}), files[2])
    with pytest.raises(ValueError, match=r"2\.parquet has no column \['x2'\]"):
        recipe.score_files(files, model, names, keep="id", processes=2)
