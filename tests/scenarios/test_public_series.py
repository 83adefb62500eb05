# SPDX-License-Identifier: Apache-2.0
"""Real series that packages ship: the metrics of both estimators are those of pandas and scikit-learn.

Weekly carbon dioxide on Mauna Loa from 1958 on, with weeks that nobody measured (statsmodels), and monthly prices of
five shares, one of which came to the market four years after the others (vega_datasets).
"""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from one_pass_time_series_cv import OnePassTimeSeriesCrossValidator
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression
from sklearn.linear_model import LinearRegression as LeastSquares
from sklearn.linear_model import Ridge
from statsmodels.datasets import co2
from time_series_cv import TimeSeriesCrossValidator
from vega_datasets import data as vega

pytestmark = pytest.mark.spark
EXACT = 1e-8  # relative
PENALTIES = (0.0, 0.3)


def lagged(values, unit, lags):
    """Label and its values so many units before, of rows that have all of them. `values` has one index of times."""
    times = values.index
    columns = {f"lag{lag}": values.reindex(times - pd.DateOffset(**{unit: lag})).to_numpy() for lag in lags}
    frame = pd.DataFrame({"day": times, "label": values.to_numpy(), **columns})
    return frame.dropna()


@pytest.fixture(scope="module")
def weekly():
    measured = co2.load_pandas().data["co2"].dropna()
    assert len(measured) == 2225
    assert measured.index.to_series().diff().max() > pd.Timedelta(weeks=4)  # gaps
    return lagged(measured, "weeks", (4, 52))


@pytest.fixture(scope="module")
def panel():
    prices = vega.stocks()
    prices = prices.assign(date=pd.to_datetime(prices["date"]), price=np.log(prices["price"]))
    parts = {name: lagged(part.set_index("date")["price"], "months", (3, 6)) for name, part in prices.groupby("symbol")}
    starts = {name: part["day"].min() for name, part in parts.items()}
    assert starts.pop("GOOG") == pd.Timestamp("2005-02-01")
    assert set(starts.values()) == {pd.Timestamp("2000-07-01")}
    return pd.concat(parts.values())


def spark_metrics(spark, frame, kind, **folds):
    """RMSE of each fold and penalty."""
    lags = [name for name in frame if name.startswith("lag")]
    rows = spark.createDataFrame(frame.assign(day=frame["day"].dt.date).sample(frac=1, random_state=0))
    data = VectorAssembler(inputCols=lags, outputCol="features").transform(rows)
    model = LinearRegression(standardization=False, solver="normal")
    grid = [{model.regParam: penalty} for penalty in PENALTIES]
    cv = kind(estimator=model, estimatorParamMaps=grid, evaluator=RegressionEvaluator(), timeCol="day", **folds)
    found = cv.fit(data).foldResults
    return np.reshape([result.metric for result in found], (-1, len(PENALTIES)))


def plain_metrics(frame, windows):
    """The same by pandas and scikit-learn; windows are pairs (cutoff, end of validation)."""
    lags = [name for name in frame if name.startswith("lag")]
    found = []
    for cutoff, end in windows:
        train = frame[frame["day"] < cutoff]
        validation = frame[(frame["day"] >= cutoff) & (frame["day"] < end)]
        assert len(validation)
        for penalty in PENALTIES:
            # Spark divides labels by their deviation before it adds the penalty.
            strength = len(train) * penalty / train["label"].std(ddof=0)
            model = Ridge(strength, solver="cholesky") if penalty else LeastSquares()
            errors = validation["label"] - model.fit(train[lags], train["label"]).predict(validation[lags])
            found.append(np.sqrt((errors**2).mean()))
    return np.reshape(found, (-1, len(PENALTIES)))


both = pytest.mark.parametrize("kind", [TimeSeriesCrossValidator, OnePassTimeSeriesCrossValidator])


@both
def test_a_weekly_series_with_gaps(spark, weekly, kind):
    monday = weekly["day"].max().to_period("W-SUN").start_time  # of the last week
    ends = [monday + pd.Timedelta(weeks=1 - 26 * fold) for fold in (3, 2, 1, 0)]
    expected = plain_metrics(weekly, [(end - pd.Timedelta(weeks=26), end) for end in ends])
    found = spark_metrics(spark, weekly, kind, timeUnit="week", horizon=26, numFolds=4)
    np.testing.assert_allclose(found, expected, rtol=EXACT)


@both
def test_a_panel_with_a_late_starter(spark, panel, kind):
    cutoffs = [date(2004, 7, 1), date(2005, 1, 1), date(2008, 1, 1)]  # the second validates what it has never seen
    windows = [(pd.Timestamp(cutoff), pd.Timestamp(cutoff) + pd.DateOffset(months=6)) for cutoff in cutoffs]
    found = spark_metrics(spark, panel, kind, timeUnit="month", horizon=6, cutoffs=cutoffs)
    np.testing.assert_allclose(found, plain_metrics(panel, windows), rtol=EXACT)
