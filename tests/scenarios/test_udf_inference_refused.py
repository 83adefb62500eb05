# SPDX-License-Identifier: Apache-2.0
"""What would be wrong without a word is refused, or goes a way that is right; what works in scikit-learn works here."""

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import udf_inference as recipe
from pyspark.sql import DataFrame, SparkSession, functions
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    StringType,
    StructField,
)
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.feature_selection import RFE
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KernelDensity
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

pytestmark = pytest.mark.spark
recipe.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the models of this file

ROWS = 12
X = np.random.default_rng(0).normal(size=(ROWS, 2))
SIGN = (X[:, 0] > 0).astype(int)
BOTH = np.c_[X[:, 0] > 0, X[:, 1] > 0].astype(int)
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "said": ["red", "blue", "red"] * 4, "whole": range(ROWS)})


@pytest.fixture(scope="module")
def frame(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    path = str(tmp_path_factory.mktemp("rows") / "rows")
    spark.createDataFrame(TABLE.assign(number=range(ROWS))).coalesce(1).write.parquet(path)
    return spark.read.parquet(path)


def answers(scored: DataFrame, output: str = "prediction") -> list[Any]:
    return [row[output] for row in sorted(scored.collect(), key=lambda row: row["number"])]


def way_of(scored: DataFrame, output: str = "prediction") -> str:
    return str(scored.schema[output].metadata["way"])


# --- a type that the caller gives ---------------------------------------


def test_a_narrower_type_is_never_filled_by_cutting_off(frame: DataFrame) -> None:
    halves = LinearRegression().fit(X, X[:, 0] * 10)
    tree = DecisionTreeRegressor().fit(X, X[:, 0] * 10)
    for model in (halves, tree):
        output = StructField("y", IntegerType())
        scored = recipe.score(frame, model, features=["a", "b"], output=output)
        assert way_of(scored, "y") != "sql"
        with pytest.raises(Exception, match="truncated"):
            scored.collect()
        with pytest.raises(ValueError, match=r"sql: .* answers double, and SQL cuts that off where int is too narrow"):
            recipe.score(frame, model, features=["a", "b"], output=output, way="sql")


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        (IntegerType(), SIGN + 2**40, "labels that have no place there"),
        (IntegerType(), SIGN.astype(str) + np.array("x"), "labels that have no place there"),
        (BooleanType(), SIGN + 1, "answers bigint"),
        (ArrayType(DoubleType()), SIGN, "answers bigint"),
    ],
)
def test_a_type_that_no_answer_fits_is_refused_by_name(kind: Any, labels: Any, said: str, frame: DataFrame) -> None:
    model = LogisticRegression().fit(X, labels)
    with pytest.raises(TypeError, match=f"output 'y' is .*: LogisticRegression.predict .*{said}") as caught:
        recipe.score(frame, model, features=["a", "b"], output=StructField("y", kind))
    assert "\n" not in str(caught.value)


def test_numbers_too_large_for_a_float_and_lists_of_truth(frame: DataFrame) -> None:
    model = Says(lambda X: np.where(X[:, 0] == 0, 0.0, 1e300))
    with pytest.raises(Exception, match=r"1e\+300 is larger than the largest float"):
        recipe.score(
            frame, model, features=["a", "b"], output=StructField("y", FloatType()), way="map_in_arrow"
        ).collect()
    for how in (lambda X: X, lambda X: X.tolist()):
        with pytest.raises(TypeError, match=r"output 'y' is array<boolean>: Says\.predict answers array<double>"):
            recipe.plan_scoring(frame, Says(how), ["a", "b"], output=StructField("y", ArrayType(BooleanType())))


def test_a_type_to_which_arrow_has_no_cast_is_refused_by_name(frame: DataFrame) -> None:
    day, days = StructField("y", DateType()), StructField("y", ArrayType(DateType()))
    for model, output, said in (
        (Ridge().fit(X, X[:, 0]), day, "answers double, which has no place there: Unsupported cast"),
        (Ridge().fit(X, X), days, "answers array<double>, which has no place there: Unsupported cast"),
        (LogisticRegression().fit(X, SIGN > 0), day, "answers labels that have no place there: Unsupported cast"),
    ):
        with pytest.raises(TypeError, match=rf"output 'y' is .*date>?: \w+\.predict {said}"):
            recipe.plan_scoring(frame, model, ["a", "b"], output=output)


def test_labels_that_fit_another_type_stay_an_expression(frame: DataFrame) -> None:
    model = LogisticRegression().fit(X, SIGN + 5)
    for kind, made in ((IntegerType(), int), (DoubleType(), float), (FloatType(), float), (StringType(), str)):
        scored = recipe.score(frame, model, features=["a", "b"], output=StructField("y", kind))
        assert way_of(scored, "y") == "sql"
        assert answers(scored, "y") == [made(label) for label in model.predict(X).tolist()]


# --- what a model answers -----------------------------------------------

SEVERAL = {
    "ridge": RidgeClassifier(),
    "one against rest": OneVsRestClassifier(LogisticRegression()),
    "network": MLPClassifier(2, max_iter=2),
    "each": MultiOutputClassifier(LogisticRegression()),
}


@pytest.mark.parametrize("what", SEVERAL)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_several_labels_of_a_row_are_a_list(what: str, frame: DataFrame) -> None:
    model = sklearn.clone(SEVERAL[what]).fit(X, BOTH)
    scored = recipe.score(frame, model, features=["a", "b"])
    assert scored.schema["prediction"].dataType.simpleString() == "array<bigint>"
    assert answers(scored) == model.predict(X).tolist()
    with pytest.raises(ValueError, match=r"answers several labels|is no sum"):
        recipe.score(frame, model, features=["a", "b"], way="sql")


class Says(BaseEstimator):
    """Answers whatever it is told to."""

    def __init__(self, how: Any) -> None:
        self.how = how
        self.n_features_in_ = 2

    def predict(self, X: Any) -> Any:
        return self.how(X)

    transform = fit_transform = partial_fit = score_samples = predict


WRONG = {
    "too few": (lambda X: X[:0, 0], "Says.predict gave 0 answers to 2 rows"),
    "too many": (lambda X: np.r_[X, X][:, 0], "Says.predict gave 4 answers to 2 rows"),
    "one number": (lambda X: np.float64(5), "an array of 0 dimensions"),
    "one for all": (lambda X: 5.0, "an array of 0 dimensions"),
    "pictures": (lambda X: np.zeros((len(X), 2, 2)), "an array of 3 dimensions"),
    "ends": (lambda X: (X[:, 0] - 1, X[:, 0] + 1), "Says.predict answers .*: 2 arrays, not one value for each row"),
    "no type": (lambda X: [object() for _ in X], "Says.predict answers what is no column"),
    "none": (lambda X: [None for _ in X], "cannot tell what Says.predict answers: rows of zeros give None"),
    "too large": (lambda X: np.full(len(X), 2**63, dtype="uint64"), "9223372036854775808 is larger than Spark's"),
}


@pytest.mark.parametrize("what", WRONG)
def test_answers_that_are_no_column_are_refused_on_the_driver(what: str, frame: DataFrame) -> None:
    how, said = WRONG[what]
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        recipe.score(frame, Says(how), features=["a", "b"])
    assert "\n" not in str(caught.value)


def test_too_few_answers_stop_the_job_where_they_come_later(frame: DataFrame) -> None:
    model = Says(lambda X: X[: len(X) if len(X) < 3 else 2, 0])
    for way in ("map_in_pandas", "map_in_arrow", "arrow_udf"):
        with pytest.raises(Exception, match=f"Says.predict gave 2 answers to {ROWS} rows"):
            recipe.score(frame, model, features=["a", "b"], way=way).collect()


def test_labels_larger_than_sparks_integers_are_refused(frame: DataFrame) -> None:
    model = DecisionTreeClassifier().fit(X, SIGN.astype("uint64") + np.uint64(2**63))
    with pytest.raises(TypeError, match=r"labels of DecisionTreeClassifier have no type in Spark: .* is larger"):
        recipe.score(frame, model, features=["a", "b"])


def test_plain_lists_masked_arrays_and_half_precision_are_answers_too(frame: DataFrame) -> None:
    for how, expected in (
        (lambda X: X[:, 0].tolist(), X[:, 0].tolist()),
        (lambda X: X.tolist(), X.tolist()),
        (lambda X: ["no" if x < 0 else "yes" for x in X[:, 0]], ["no" if x < 0 else "yes" for x in X[:, 0]]),
        (lambda X: np.ma.masked_less(X[:, 0], 0), [None if x < 0 else x for x in X[:, 0].tolist()]),
        (lambda X: X[:, 0].astype("float16"), X[:, 0].astype("float16").tolist()),
    ):
        for way in ("arrow_udf", "map_in_pandas"):
            assert answers(recipe.score(frame, Says(how), features=["a", "b"], way=way)) == expected


@pytest.mark.parametrize("way", ["arrow_udf", "pandas_udf"])
@pytest.mark.parametrize(("kind", "present"), [("Int64", 1), ("string", "a"), ("boolean", True), ("object", "a")])
def test_answers_that_are_absent_are_null(kind: str, present: Any, way: str, frame: DataFrame) -> None:
    """Those to zeros, by which the type is found, are all there."""

    def how(X: np.ndarray) -> Any:
        cells = [present if x >= 0 else float("nan") for x in X[:, 0]]
        return np.array(cells, dtype=object) if kind == "object" else pd.Series(cells, dtype=kind)

    found = answers(recipe.score(frame, Says(how), features=["a", "b"], way=way))
    assert found == [present if x >= 0 else None for x in X[:, 0]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Pipeline.predict refuses rows of zeros")
def test_several_outputs_where_zeros_fail(frame: DataFrame) -> None:
    lists = StructField("y", ArrayType(DoubleType()))
    for low, output in ((0, "y"), (0, lists), (1, lists)):  # of 0, a row of ones tells the type
        logarithm, given = FunctionTransformer(lambda X, low=low: np.log(X - low)), np.exp(X) + low
        model = make_pipeline(logarithm, LinearRegression()).fit(given, np.c_[X[:, 0], X[:, 1] * 2])
        rows = frame.select("number", *((functions.exp(name) + low).alias(name) for name in ("a", "b")))
        found = answers(recipe.score(rows, model, features=["a", "b"], output=output), "y")
        np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)


@pytest.mark.parametrize("method", ["fit_transform", "partial_fit"])
def test_a_method_that_fits_is_refused(method: str, frame: DataFrame) -> None:
    with pytest.raises(ValueError, match=f"method='{method}' would fit Says anew to each batch"):
        recipe.score(frame, Says(lambda X: X), features=["a", "b"], method=method)


def test_scores_of_samples_and_very_wide_answers(frame: DataFrame) -> None:
    model = KernelDensity().fit(X)
    found = answers(recipe.score(frame, model, features=["a", "b"], method="score_samples"))
    np.testing.assert_allclose(found, model.score_samples(X), rtol=1e-12)
    wide = HashingVectorizer()
    with pytest.raises(
        ValueError, match=r"answers 1,048,576 columns, sparse: .* 8,388,608 bytes a row. At most 10,000"
    ):
        recipe.score(frame, wide, features=["said"], method="transform")


def test_a_classifier_of_one_class_is_no_expression(frame: DataFrame) -> None:
    model = RidgeClassifier().fit(X, np.zeros(ROWS))
    with pytest.raises(ValueError, match=r"RidgeClassifier.predict is no sum"):
        recipe.score(frame, model, features=["a", "b"], way="sql")


class NotNegative(Pipeline):
    """A pipeline with a `predict` of its own."""

    def predict(self, X: Any) -> Any:
        return np.maximum(super().predict(X), 0.0)


def test_a_pipeline_of_your_own_is_asked_itself(frame: DataFrame) -> None:
    model = NotNegative([("scaler", StandardScaler()), ("model", Ridge())]).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"sql: NotNegative.predict is no sum"):
        recipe.score(frame, model, features=["a", "b"], way="sql")
    found = answers(recipe.score(frame, model, features=["a", "b"]))
    assert min(found) == 0.0
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-12)


# --- what a model takes --------------------------------------------------


def encoded(step: Any = None) -> Any:
    """A pipeline that takes text and a number, each behind an imputer."""
    text = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_pipeline(ColumnTransformer([("t", text, ["said"]), ("n", numbers, ["whole"])]), step or Ridge())


AROUND = {
    "alone": encoded(),
    "voting": VotingClassifier([("one", encoded(LogisticRegression()))]),
    "stacking": StackingClassifier([("one", encoded(LogisticRegression()))], cv=2),
    "one against rest": OneVsRestClassifier(encoded(LogisticRegression())),
    "calibrated": CalibratedClassifierCV(encoded(LogisticRegression()), cv=2),
    "search": GridSearchCV(encoded(LogisticRegression()), {}, cv=2),
    "target": TransformedTargetRegressor(encoded()),
    "categories": HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=2),
}


@pytest.mark.parametrize("what", AROUND)
def test_text_and_numbers_are_told_apart_inside_of_other_models(what: str, frame: DataFrame) -> None:
    table = TABLE[["said", "whole"]]
    given = table.assign(said=table["said"].astype("category")) if what == "categories" else table
    model = sklearn.clone(AROUND[what]).fit(given, SIGN)
    found = answers(recipe.score(frame, model, way="arrow_udf"))
    np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)
    with pytest.raises(TypeError, match=r"column 'said' is bigint: .* takes text there"):
        recipe.plan_scoring(frame.withColumn("said", functions.col("number")), model, None)
    with pytest.raises(TypeError, match=r"column 'whole' is string: .* takes numbers there"):
        recipe.plan_scoring(frame.withColumn("whole", functions.lit("x")), model, None)


NUMBERS_ONLY = {
    "imputer": make_pipeline(SimpleImputer(), LogisticRegression()),
    "neighbours": make_pipeline(KNNImputer(), LogisticRegression()),
    "boosting": AdaBoostClassifier(n_estimators=2),
    "bag": BaggingClassifier(LogisticRegression(), 3, max_features=1),
    "voting": VotingClassifier([("one", LogisticRegression())]),
    "stacking": StackingClassifier([("one", LogisticRegression())], cv=2),
    "one against rest": OneVsRestClassifier(LogisticRegression()),
    "elimination": RFE(LogisticRegression(), n_features_to_select=2),
    "encoder of numbers": make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
}


@pytest.mark.parametrize("what", NUMBERS_ONLY)
def test_text_for_a_model_of_numbers_is_refused_on_the_driver(what: str, frame: DataFrame) -> None:
    model = sklearn.clone(NUMBERS_ONLY[what]).set_params(**seed_of(NUMBERS_ONLY[what])).fit(X, SIGN)
    with pytest.raises(TypeError, match=r"column 'said' is string: .* takes numbers there"):
        recipe.plan_scoring(frame, model, ["said", "b"])


def seed_of(model: Any) -> dict[str, int]:
    return {"random_state": 0} if "random_state" in model.get_params() else {}


def test_a_step_that_takes_text_too_gets_it(frame: DataFrame) -> None:
    model = MissingIndicator(features="all").fit(TABLE[["said"]])
    found = answers(recipe.score(frame, model, method="transform", way="arrow_udf"))
    assert found == [[False]] * ROWS


def test_documents_inside_of_a_union(frame: DataFrame) -> None:
    model = make_pipeline(FeatureUnion([("one", CountVectorizer()), ("two", CountVectorizer())]), LogisticRegression())
    model.fit(TABLE["said"], SIGN)
    assert answers(recipe.score(frame, model, features=["said"])) == model.predict(TABLE["said"]).tolist()


def test_an_encoder_that_refuses_what_it_does_not_know_tells_its_type(frame: DataFrame) -> None:
    model = make_pipeline(OneHotEncoder(), IsolationForest(n_estimators=3, random_state=0)).fit(TABLE[["said"]])
    found = answers(recipe.score(frame, model, way="arrow_udf"))
    assert found == model.predict(TABLE[["said"]]).tolist()


class Clean(TransformerMixin, BaseEstimator):
    """Takes texts and gives texts."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return self

    def transform(self, X: Any) -> Any:
        return [text.lower().strip() for text in X]


class Said(Clean):
    """Takes texts out of a table."""

    def transform(self, X: Any) -> Any:
        return X["said"]


TEXTS = TABLE["said"].str.upper()
BEFORE_DOCUMENTS = {
    "texts": (Clean(), TEXTS.to_list()),
    "a series": (FunctionTransformer(lambda texts: texts.str.lower()), TEXTS),
    "a table": (Said(), TEXTS.to_frame()),
}


@pytest.mark.parametrize("what", BEFORE_DOCUMENTS)
def test_texts_reach_a_step_of_your_own_as_it_was_fitted_on_them(what: str, frame: DataFrame) -> None:
    step, given = BEFORE_DOCUMENTS[what]
    red = (TABLE["said"] == "red").to_numpy()
    model = make_pipeline(step, CountVectorizer(), LogisticRegression()).fit(given, red)
    upper = frame.select("number", functions.upper("said").alias("said"))
    for way in ("arrow_udf", "row_udf"):  # a table of one row has as many names as rows
        assert answers(recipe.score(upper, model, features=["said"], way=way)) == red.tolist()
    search = GridSearchCV(model, {}, cv=2).fit(given, red)
    assert answers(recipe.score(upper, search, features=["said"], way="row_udf")) == red.tolist()


@pytest.mark.parametrize("step", [DictVectorizer(), FeatureHasher(8)], ids=["known", "hashed"])
def test_structs_and_maps_reach_a_step_that_takes_mappings(step: Any, frame: DataFrame) -> None:
    structs, maps = TABLE[["said", "whole"]].to_dict("records"), [{said: 2.0} for said in TABLE["said"]]
    for given, column in (
        (structs, functions.struct("said", "whole")),
        (maps, functions.create_map("said", functions.lit(2.0))),
    ):
        model = make_pipeline(sklearn.clone(step), LogisticRegression()).fit(given, TABLE["said"] == "red")
        rows = frame.select("number", column.alias("row"))
        for way in ("arrow_udf", "pandas_udf", "map_in_arrow"):
            assert answers(recipe.score(rows, model, features=["row"], way=way)) == model.predict(given).tolist()


class ByName(TransformerMixin, BaseEstimator):
    """Takes columns by name, and knows none of its own."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return self

    def transform(self, X: Any) -> Any:
        return np.c_[X["a"] - X["b"]]


class Key(ByName):
    """Makes text of a column of whole numbers, and leaves the others."""

    def transform(self, X: Any) -> Any:
        return X.assign(whole=X["whole"].astype(str))


BESIDE = ColumnTransformer(
    [
        ("k", make_pipeline(FunctionTransformer(lambda X: X.astype(str)), OneHotEncoder(handle_unknown="ignore")), [0]),
        ("n", StandardScaler(), ["whole"]),
    ]
)
OF_WHOLE = {
    "alone": (make_pipeline(Key(), OneHotEncoder(handle_unknown="ignore"), Ridge()), ["whole"]),
    "strict": (make_pipeline(Key(), OneHotEncoder(), Ridge()), ["whole"]),
    "beside text": (make_pipeline(Key(), OneHotEncoder(handle_unknown="ignore"), Ridge()), ["whole", "said"]),
    "beside a scaler": (make_pipeline(BESIDE, Ridge()), ["whole"]),
}


@pytest.mark.parametrize("what", OF_WHOLE)
@pytest.mark.filterwarnings("ignore:Pipeline.predict refuses rows of zeros")  # by the strict encoder
def test_whole_numbers_reach_a_step_of_your_own_whole(what: str, frame: DataFrame) -> None:
    """As text, 5.0 is not 5, and an encoder that ignores what it does not know would answer the same to all rows."""
    model, names = OF_WHOLE[what]
    given = TABLE[names].assign(whole=TABLE["whole"] + 1)  # not the zeros that are tried
    model = sklearn.clone(model).fit(given, X[:, 0])
    for kind in ("bigint", "int"):
        rows = frame.withColumn("whole", (functions.col("whole") + 1).cast(kind))
        for way in ("arrow_udf", "pandas_udf", "map_in_arrow"):
            found = answers(recipe.score(rows, model, features=names, way=way))
            np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)


def test_products_of_short_integers_do_not_overflow(spark: SparkSession, tmp_path: Path) -> None:
    area = FunctionTransformer(lambda X: (X["w"] * X["h"]).to_frame("area"))
    spark.sql("select 50000 as w, 50000 as h").write.parquet(str(tmp_path / "rows"))
    frame = spark.read.parquet(str(tmp_path / "rows"))
    for model in (area, sklearn.clone(area).fit(pd.DataFrame({"w": [1], "h": [1]}))):
        for way in ("arrow_udf", "pandas_udf", "files"):
            scored = recipe.score(frame, model, features=["w", "h"], method="transform", way=way)
            assert scored.collect()[0]["prediction"] == [2_500_000_000]


class Clips(ByName):
    """Gives a table on, and knows no names of its own."""

    def transform(self, X: Any) -> Any:
        return X.clip(-1, 1)


def test_whole_numbers_of_which_some_are_null_have_fractional_answers(spark: SparkSession) -> None:
    frame = spark.sql("select * from values (5L), (null), (-7L) as t(a)")

    class Columns(Clips):
        def transform(self, X: Any) -> Any:
            return X[["a"]].clip(-1, 1)

    for way in ("arrow_udf", "pandas_udf", "map_in_arrow"):
        scored = recipe.score(frame, Columns(), features=["a"], method="transform", way=way)
        found = [row.prediction for row in scored.collect()]
        np.testing.assert_array_equal(np.ravel(np.array(found, dtype=float)), [1, np.nan, -1])


BEHIND = {
    "passthrough": GridSearchCV(Pipeline([("scale", "passthrough"), ("model", Ridge())]), {"model__alpha": [1]}, cv=2),
    "a step of your own": make_pipeline(Clips(), Ridge()),
}


@pytest.mark.parametrize("what", BEHIND)
def test_names_that_only_a_later_step_knows_are_held_to(what: str, frame: DataFrame) -> None:
    given = TABLE[["a", "b"]]
    model = sklearn.clone(BEHIND[what]).fit(given, X[:, 0] - 10 * X[:, 1])
    for features in (["a", "b"], *([None, ["b", "a"]] if what == "passthrough" else [])):
        found = answers(recipe.score(frame, model, features=features))
        np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)
    if what != "passthrough":
        with pytest.raises(
            ValueError, match=r"Pipeline refuses \[.b., .a.\]: The feature names should match"
        ) as caught:
            recipe.plan_scoring(frame, model, ["b", "a"])
        assert "\n" not in str(caught.value)


class Boosted(BaseEstimator):
    """Makes up names for the columns of an array, and warns of arrays itself, as LightGBM 4.5 and 4.6 do."""

    def fit(self, X: Any, y: Any = None) -> Any:
        self.n_features_in_ = X.shape[1]
        return self

    @property
    def feature_names_in_(self) -> np.ndarray:
        return np.array([f"Column_{place}" for place in range(self.n_features_in_)])

    def predict(self, X: Any) -> Any:
        if isinstance(X, np.ndarray):
            warnings.warn(
                "X does not have valid feature names, but Boosted was fitted with feature names", stacklevel=2
            )
        return np.asarray(X) @ [1.0, -10.0]


BEHIND_AN_ARRAY = make_pipeline(FunctionTransformer(lambda X: X[:, :2]), Boosted())


@pytest.mark.parametrize("model", [Boosted(), BEHIND_AN_ARRAY], ids=["alone", "behind an array"])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_names_that_a_model_made_up_for_an_array_are_none(model: Any, frame: DataFrame) -> None:
    model = sklearn.clone(model).fit(X)
    found = answers(recipe.score(frame, model, features=["a", "b"]))
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match=r"\w\.predict knows no column names: say features"):
        recipe.score(frame, model)


MONTH = FunctionTransformer(lambda X: X.assign(day=X["day"].dt.month))


def test_a_model_that_fails_on_every_trial_is_told_of_on_the_driver(frame: DataFrame) -> None:
    """The job fails too: a date of Spark is an object to pandas, and a column was forgotten."""
    days = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=ROWS)})
    rows = frame.select("a", functions.lit("2020-01-01").cast("date").alias("day"))
    for step, given, names, said in (
        (MONTH, days, ["day"], "AttributeError: Can only use .dt accessor"),
        (ByName(), TABLE, ["a"], "KeyError: 'b'"),
    ):
        model = make_pipeline(step, Ridge()).fit(given, X[:, 0])
        refuses = "Pipeline.predict refuses rows of zeros and of ones, and the workers may fail in the same way: "
        with pytest.warns(UserWarning, match=refuses + said) as caught:
            scored = recipe.score(rows, model, features=names)
        assert [one.filename for one in caught] == [__file__]
        with pytest.raises(Exception, match=said):
            scored.collect()


def test_a_matrix_is_preferred_by_a_step_that_takes_tables_too(frame: DataFrame) -> None:
    found = answers(recipe.score(frame, Says(lambda X: [type(X).__name__] * len(X)), features=["a", "b"]))
    assert {*found} == {"ndarray"}


@pytest.mark.parametrize("names", [None, [0, 1]], ids=["none", "numbers"])
def test_names_that_are_no_text_are_none(names: Any, frame: DataFrame) -> None:
    model = Says(lambda X: np.asarray(X)[:, 1])
    model.feature_names_in_ = names
    scored = recipe.score(frame, model, features=["a", "b"], way="arrow_udf")
    assert [row.prediction for row in scored.collect()] == [row.b for row in frame.collect()]


def test_the_configuration_of_scikit_learn_goes_with_the_model(frame: DataFrame) -> None:
    columns = ColumnTransformer([("a", StandardScaler(), ["a"])], remainder="passthrough")
    with sklearn.config_context(transform_output="pandas"):
        model = make_pipeline(SimpleImputer(), columns, Ridge()).fit(TABLE[["a", "b"]], X[:, 1])
        expected, scored = model.predict(TABLE[["a", "b"]]), recipe.score(frame, model)
    np.testing.assert_allclose(answers(scored), expected, rtol=1e-9)


class Duck:
    """A model that is none of scikit-learn's."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def predict(self, X: Any) -> Any:
        if self.fails and (X < 2).all():
            raise ZeroDivisionError("zero")
        return X[:, 0]


def test_models_that_want_a_frame_or_are_not_scikit_learns(frame: DataFrame) -> None:
    model = make_pipeline(ByName(), Ridge()).fit(TABLE, X[:, 0])
    for way in ("arrow_udf", "map_in_arrow", "pandas_udf", "files", "row_udf"):
        found = answers(recipe.score(frame, model, features=["b", "a"], way=way))
        np.testing.assert_allclose(found, model.predict(TABLE), rtol=1e-9)
    assert answers(recipe.score(frame, Duck(), features=["a", "b"])) == X[:, 0].tolist()
    with pytest.raises(
        TypeError, match=r"cannot tell what Duck.predict answers: .*ZeroDivisionError\('zero'\)"
    ) as caught:
        recipe.score(frame, Duck(fails=True), features=["a", "b"])
    assert "\n" not in str(caught.value)


ARRAYS = TABLE.assign(
    emb=[list(pair) for pair in zip(TABLE["a"], TABLE["whole"].astype(float), strict=True)],
    words=TABLE["said"].str.split("e"),
)


@pytest.fixture(scope="module")
def arrays(frame: DataFrame) -> DataFrame:
    """The table with arrays of numbers and of text."""
    pair = functions.array("a", functions.col("whole").cast("double"))
    return frame.select("*", pair.alias("emb"), functions.split("said", "e").alias("words"))


def test_an_array_does_not_switch_off_the_order_by_name(arrays: DataFrame) -> None:
    given = ARRAYS[["a", "b", "said", "emb"]]
    parts = [("n", "passthrough", ["a", "b"]), ("t", OneHotEncoder(), ["said"])]
    model = make_pipeline(ColumnTransformer(parts), LinearRegression()).fit(given, X[:, 0] - 10 * X[:, 1])
    for features in (None, ["b", "a", "said", "emb"]):
        found = answers(recipe.score(arrays, model, features=features))
        np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)
    with pytest.raises(ValueError, match=r"fitted on other columns: missing \['a'\], surplus \['whole'\]"):
        recipe.score(arrays, model, features=["b", "whole", "said", "emb"])


def test_an_array_stands_for_features_of_a_model_with_names_in_their_place(arrays: DataFrame) -> None:
    given = pd.DataFrame({"b": X[:, 1], "c": X[:, 0], "d": TABLE["whole"].astype(float), "whole": TABLE["whole"]})
    model = Ridge().fit(given, X[:, 0] - 10 * X[:, 1])
    found = answers(recipe.score(arrays, model, features=["b", "emb", "whole"]))
    np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)
    for features in (["whole", "emb", "b"], ["emb", "b", "whole"], ["b", "emb", "a"], ["b", "emb", "c", "d", "whole"]):
        with pytest.raises(ValueError, match=r"the arrays \['emb'\] have to stand side by side in place") as caught:
            recipe.score(arrays.withColumns({"c": functions.lit(1), "d": functions.lit(1)}), model, features=features)
        assert "\n" not in str(caught.value)
    texts = encoded().fit(TABLE[["said", "whole", "a"]], SIGN)
    with pytest.raises(TypeError, match=r"the arrays \['emb'\] stand for several .* give each of those columns"):
        recipe.score(arrays, texts, features=["said", "emb"])


class Counts(BaseEstimator):
    """Counts the words of each row, in a column that it takes by name."""

    def fit(self, X: pd.DataFrame) -> Any:
        self.feature_names_in_ = np.array(list(X.columns), dtype=object)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: pd.DataFrame) -> Any:
        return np.array([len(words) for words in X["words"]])


def itself(words: Any) -> Any:
    return words


STACKED = ColumnTransformer(
    [("e", FunctionTransformer(lambda column: np.stack(column.to_list())), "emb"), ("n", StandardScaler(), ["a"])]
)
WHOLE_ARRAYS = {
    "numbers by name": (make_pipeline(STACKED, Ridge()), ["emb", "a"]),
    "dropped": (make_pipeline(ColumnTransformer([("n", StandardScaler(), ["a"])]), Ridge()), ["a", "emb"]),
    "words by name": (Counts(), ["words", "a"]),
    "documents": (make_pipeline(CountVectorizer(analyzer=itself), LogisticRegression()), "words"),
}


@pytest.mark.parametrize("what", WHOLE_ARRAYS)
def test_arrays_that_a_model_takes_as_they_are(what: str, arrays: DataFrame) -> None:
    model, names = WHOLE_ARRAYS[what]
    given = ARRAYS[names]
    model = model.fit(given) if what == "words by name" else sklearn.clone(model).fit(given, TABLE["said"] == "red")
    for way in ("arrow_udf", "row_udf", "pandas_udf", "map_in_pandas"):
        found = answers(recipe.score(arrays, model, features=names, way=way))
        np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)
    if what == "dropped":  # and so is not sent
        found = answers(recipe.score(arrays, model, features=names, way="predict_batch_udf"))
        np.testing.assert_allclose(found, model.predict(given), rtol=1e-9)
        return
    with pytest.raises(ValueError, match="predict_batch_udf has to know how long each array"):
        recipe.score(arrays, model, features=names, way="predict_batch_udf")


def test_lists_of_words_for_a_vectorizer_of_texts_are_refused(arrays: DataFrame) -> None:
    model = CountVectorizer().fit(TABLE["said"])
    with pytest.raises(TypeError, match=r"column 'words' is array<string>: CountVectorizer takes text there"):
        recipe.score(arrays, model, features=["words"], method="transform")


def test_lists_of_labels_become_columns_of_them(arrays: DataFrame) -> None:
    model = MultiLabelBinarizer().fit(ARRAYS["words"])
    for way in ("arrow_udf", "pandas_udf"):
        found = answers(recipe.score(arrays, model, features=["words"], method="transform", way=way))
        assert found == model.transform(ARRAYS["words"]).tolist()
    with pytest.raises(TypeError, match="column 'said' is string: MultiLabelBinarizer takes arrays there"):
        recipe.score(arrays, model, features=["said"], method="transform")


def test_what_a_model_answered_is_turned_back(frame: DataFrame) -> None:
    scaler = StandardScaler().fit(TABLE[["a", "b", "whole"]])
    given = TABLE[["a", "b", "whole"]].to_numpy(dtype=float)
    for model, method, columns in (
        (PCA(2).fit(given), "inverse_transform", ["a", "b"]),
        (scaler, "inverse_transform", ["whole", "b", "a"]),
    ):
        found = answers(recipe.score(frame, model, features=columns, method=method))
        np.testing.assert_allclose(found, model.inverse_transform(TABLE[columns].to_numpy(dtype=float)), rtol=1e-9)
    with pytest.raises(ValueError, match=r"StandardScaler.inverse_transform knows no column names: say features"):
        recipe.score(frame, scaler, method="inverse_transform")


# --- names, files, sessions ----------------------------------------------


def test_names_that_differ_in_their_letters(spark: SparkSession, frame: DataFrame) -> None:
    twice = frame.select("a", "b", "number").toDF("a", "A", "number")
    with pytest.raises(ValueError, match=r"the columns \['A', 'a'\] are there or asked for more than once"):
        recipe.score(twice, Ridge().fit(X, SIGN), features=["a", "A"])
    with pytest.raises(ValueError, match=r"no column \['Said'\].*and \['said'\] in other letters"):
        recipe.score(frame, Ridge().fit(X, SIGN), features=["a", "Said"])
    blank = frame.toDF(*(f"{name} (cm)" for name in frame.columns))
    with pytest.raises(ValueError, match=r"no column \['a_\(cm\)'\].*and \['a \(cm\)'\] in other letters"):
        recipe.score(blank, Ridge().fit(X, SIGN), features=["a_(cm)", "b (cm)"])
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        model = Ridge().fit(X, X[:, 1])
        found = answers(recipe.score(twice, model, features=["a", "A"]))
        np.testing.assert_allclose(found, model.predict(X), rtol=1e-9)
        for way in ("sql", "arrow_udf", "map_in_arrow", "map_in_pandas"):
            scored = recipe.score(twice, model, features=["a", "A"], output="Number", way=way)
            np.testing.assert_allclose(answers(scored, "Number"), model.predict(X), rtol=1e-9)
        with pytest.raises(ValueError, match="the frame has a column 'A' already"):
            recipe.score(twice, model, features=["a", "A"], output="A")
    finally:
        spark.conf.unset("spark.sql.caseSensitive")


def test_names_that_the_recipe_could_take_itself(frame: DataFrame) -> None:
    model = LogisticRegression().fit(X, SIGN)
    odd = frame.select("a", "b", "number").toDF("_prediction_0", "`b`", "number").withColumn("_0", functions.lit("x"))
    for way in ("sql", "arrow_udf", "map_in_arrow", "map_in_pandas"):
        scored = recipe.score(odd, model, features=["_prediction_0", "`b`"], way=way)
        assert scored.columns == [*odd.columns, "prediction"]
        assert answers(scored) == model.predict(X).tolist()
    empty = frame.select("a", "b", "number").toDF("", "b", "number")
    assert answers(recipe.score(empty, model, features=["", "b"], way="map_in_arrow")) == model.predict(X).tolist()


def test_files_that_differ_from_the_frame_are_left_to_spark(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("select id as number, double(id) as x from range(3)").write.parquet(str(tmp_path / "rows"))
    spark.sql("select id + 3 as number, double(id) as X, 1 as more from range(3)").write.mode("append").parquet(
        str(tmp_path / "rows")
    )
    model = SVC().fit([[0.0], [2.0]], [0, 1])
    for frame in (
        spark.read.option("mergeSchema", "true").parquet(str(tmp_path / "rows")),
        spark.read.schema("number long, X double").parquet(str(tmp_path / "rows")),
        spark.read.schema("number long, x double, later string").parquet(str(tmp_path / "rows")),
    ):
        feature = next(name for name in frame.columns if name.lower() == "x")
        scored = recipe.score(frame, model, features=[feature])
        assert answers(scored) == model.predict([[0.0], [1.0], [2.0]] * 2).tolist()
        with pytest.raises(ValueError, match=r"files: file:.* has no column"):
            recipe.score(frame, model, features=[feature], way="files")


def test_files_that_are_named_twice_are_scored_twice(spark: SparkSession, frame: DataFrame) -> None:
    model, (file,) = SVC().fit(X, SIGN), frame.inputFiles()
    folder = file.rpartition("/")[0]
    for paths in ((folder, folder, folder), (f"{folder}/*.parquet", f"{folder}/part-*")):
        several = spark.read.parquet(*paths)
        scored = recipe.score(several, model, features=["a", "b"], way="files")
        assert answers(scored) == np.repeat(model.predict(X), several.count() // ROWS).tolist()
    assert spark.read.parquet(folder, folder).count() == 2 * ROWS


@pytest.mark.parametrize("size", ["0", "-1", "5"])
def test_batches_without_a_limit_are_not_rows(size: str, spark: SparkSession) -> None:
    # Not from files: with 0, Spark 4.3 reads columns of Parquet for Python for ever.
    frame = spark.range(0, ROWS, 1, 1).selectExpr("id as number", "double(id) as a", "double(id) as b")
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, size)
    try:
        model = Says(lambda X: np.full(len(X), float(len(X))))
        found = answers(recipe.score(frame, model, features=["a", "b"], way="predict_batch_udf"))
    finally:
        spark.conf.set(name, before)
    assert max(found) == (5 if size == "5" else ROWS)


@pytest.mark.parametrize("model", [DecisionTreeClassifier(max_depth=2), Ridge()], ids=["tree", "sum"])
def test_an_expression_fails_on_infinity_as_scikit_learn_does(model: Any, spark: SparkSession) -> None:
    fitted = sklearn.clone(model).fit(X[:, :1], SIGN)
    for value in ("infinity", "-infinity"):
        rows = spark.sql(f"select double('{value}') as x")
        with pytest.raises(ValueError, match="infinity"):
            fitted.predict([[float(value)]])
        with pytest.raises(Exception, match="Input contains"):
            recipe.score(rows, fitted, features=["x"], way="sql").collect()


class Gone(BaseEstimator):
    """Cannot be loaded again."""

    def __setstate__(self, state: Any) -> None:
        raise AttributeError("what was here is gone")


def test_an_old_model_that_cannot_be_loaded_says_its_version(
    frame: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "__module__", "sklearn.gone", raising=False)
    monkeypatch.setattr(Gone, "__module__", "sklearn.gone")
    monkeypatch.setitem(sys.modules, "sklearn.gone", sys.modules[__name__])
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.2.3")
        joblib.dump(Gone(), tmp_path / "old.joblib")
    here = sklearn.__version__
    with pytest.raises(
        RuntimeError, match=f"is gone.*trained with scikit-learn 1.2.3, the driver has {here}"
    ) as caught:
        recipe.score(frame, tmp_path / "old.joblib", features=["a", "b"])
    assert "\n" not in str(caught.value)
    joblib.dump(Gone(), tmp_path / "new.joblib")
    (tmp_path / "pointer.joblib").write_text("version https://git-lfs.github.com/spec/v1\n")
    for name, why in {"new": "is gone", "pointer": ""}.items():  # for which no version is to blame
        with pytest.raises(ValueError, match=f"cannot load .*{name}.joblib: .*{why}.* has to be importable") as caught:
            recipe.score(frame, tmp_path / f"{name}.joblib", features=["a", "b"])
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        recipe.score(frame, tmp_path / "none.joblib", features=["a", "b"])


@pytest.mark.parametrize(("frame", "kind"), [(object(), "builtins.object"), (TABLE, "pandas.*.DataFrame")])
def test_what_is_no_frame_of_a_classic_session_is_refused_in_a_line(frame: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"frame is {kind}: .* Spark Connect has no broadcast for the model") as caught:
        recipe.score(frame, Ridge())
    assert "\n" not in str(caught.value)


def test_the_arrays_of_a_model_are_not_copied_on_their_way() -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, SIGN)
    model.ballast = np.arange(1_000_000, dtype=np.int64)
    load, (rest,) = recipe.Shipped(model).__reduce__()
    assert len(rest) < 100_000
    loaded = pickle.loads(pickle.dumps(recipe.Shipped(model), protocol=pickle.HIGHEST_PROTOCOL))
    assert (loaded.predict(X) == model.predict(X)).all()
    assert (loaded.ballast == model.ballast).all()
    assert any(
        np.shares_memory(np.frombuffer(part.raw(), dtype="u1"), model.ballast) for part in load.keywords["buffers"]
    )
