# SPDX-License-Identifier: Apache-2.0
"""Fits from moments, without Spark: against fractions, fifty digits and scikit-learn, and what holds for all inputs."""

import warnings
from fractions import Fraction

import mpmath
import numpy as np
import one_pass_time_series_cv as recipe
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_pass_time_series_cv import (
    MAX_CONDITION,
    Keys,
    Moments,
    Search,
    Setting,
    cross_validate,
    elastic_net,
    errors_of,
    fit_settings,
    merge,
    merge_by_key,
    moments_by_key,
    sum_up,
    window_moments,
)
from sklearn.linear_model import ElasticNet

PLAIN = Setting(0.0, 0.0, True, True)


def moments_of(rows, weights=None):
    return moments_by_key(np.zeros(len(rows), int), np.asarray(rows, float), weights)[1]


def random_rows(seed, rows=60, columns=4, offset=0.0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-2, 3, columns) + offset
    return np.column_stack([x, x @ generator.normal(size=columns) + generator.normal(size=rows)])


# Against exact arithmetic -----------------------------------------------------------------------------------


def solve_exactly(matrix, right):
    """Gaussian elimination in fractions."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = next(k for k in range(i, len(rows)) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def least_squares_exactly(rows):
    """Coefficients of least squares with an intercept, and the mean squared error, in fractions."""
    z = [[Fraction(float(value)) for value in row] for row in rows]
    means = [sum(column) / len(z) for column in zip(*z, strict=True)]
    z = [[value - mean for value, mean in zip(row, means, strict=True)] for row in z]
    gram = [[sum(row[i] * row[j] for row in z) for j in range(len(means))] for i in range(len(means))]
    coefficients = solve_exactly([row[:-1] for row in gram[:-1]], [row[-1] for row in gram[:-1]])
    residuals = [row[-1] - sum(c * value for c, value in zip(coefficients, row[:-1], strict=True)) for row in z]
    return np.array([float(c) for c in coefficients]), float(sum(r * r for r in residuals) / len(z))


def hilbert_rows(size=3, rows=30):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(rows, size)) @ (1 / (np.arange(size)[:, None] + np.arange(size) + 1))
    return np.column_stack([x, x.sum(axis=1) + generator.normal(size=rows)])


def nearly_collinear_rows(count=30):
    rows = random_rows(4, count)
    rows[:, 1] = rows[:, 0] + 1e-3 * rows[:, 1] / np.abs(rows[:, 1]).max() * np.abs(rows[:, 0]).max()
    return rows


@pytest.mark.parametrize(
    "rows",
    [random_rows(0, 30, offset=1e8), random_rows(1, 30, offset=-3e5), hilbert_rows(), nearly_collinear_rows()],
    ids=["offset of 1e8", "offset of -3e5", "Hilbert-like", "nearly collinear"],
)
@pytest.mark.parametrize("blocks", [1, 5])
def test_least_squares_are_exact_where_the_condition_allows_it(rows, blocks):
    expected, error = least_squares_exactly(rows)
    keys = np.arange(len(rows)) % blocks
    whole = merge(moments_by_key(keys, rows, None)[1])
    coefficients, condition = fit_settings(whole, [PLAIN])
    assert condition[0, 0] <= MAX_CONDITION
    np.testing.assert_allclose(coefficients[0, 0], expected, rtol=1e-8)
    found, _ = errors_of(whole, whole, [PLAIN], coefficients)
    assert found.squared[0, 0] / len(rows) == pytest.approx(error, rel=1e-8)


@pytest.mark.parametrize("size", [8, 10])
def test_a_condition_that_is_too_bad_is_seen(size):
    _, condition = fit_settings(moments_of(hilbert_rows(size)), [PLAIN, Setting(1.0, 0.0, True, True)])
    assert condition[0, 0] > MAX_CONDITION > condition[0, 1]


def test_columns_that_are_dependent_or_constant():
    rows = random_rows(5)
    double = np.column_stack([2 * rows[:, 0], rows])
    assert fit_settings(moments_of(double), [PLAIN])[1][0, 0] > MAX_CONDITION
    constant = np.column_stack([np.full(60, 1e8 + 0.1), rows])
    keys = np.arange(60) % 7
    coefficients, condition = fit_settings(merge(moments_by_key(keys, constant, None)[1]), [PLAIN])
    assert coefficients[0, 0, 0] == 0
    np.testing.assert_allclose(coefficients[0, 0, 1:], fit_settings(moments_of(rows), [PLAIN])[0][0, 0], rtol=1e-9)
    assert condition[0, 0] <= MAX_CONDITION


def test_an_error_that_drowns_in_rounding_is_not_sure():
    rows = random_rows(6)
    rows[:, -1] = rows[:, :-1].sum(axis=1)
    whole = moments_of(rows)
    outcome = cross_validate([(whole, whole)], Search([PLAIN], [None], 0, 0, "rmse", False))
    assert not outcome.sure[0, 0]


# Against fifty digits ---------------------------------------------------------------------------------------


def exact_sum(*factors):
    """The sum of products, in as many digits as mpmath has."""
    return mpmath.fsum(mpmath.fprod(each) for each in zip(*factors, strict=True))


def fit_precisely(rows, weights, setting, found):
    """Coefficients and intercept, as Spark defines them, in fifty digits.

    Which coefficients are 0, and the signs of the others, are those that were found. That these are the optimum's is
    checked.
    """
    columns = [[mpmath.mpf(value) for value in column] for column in rows.T.tolist()]
    w = [mpmath.mpf(value) / mpmath.fsum(weights.tolist()) for value in weights.tolist()]
    means = [exact_sum(w, column) for column in columns]
    centred = [[value - mean for value in column] for column, mean in zip(columns, means, strict=True)]
    deviations = [mpmath.sqrt(exact_sum(w, column, column)) for column in centred]
    used = centred if setting.fitIntercept else columns
    scaled = [[value / size for value in column] for column, size in zip(used, deviations, strict=True)]
    size = len(scaled) - 1
    units = [mpmath.mpf(1) if setting.standardization else deviation for deviation in deviations[:-1]]
    each = [mpmath.mpf(setting.regParam) / deviations[-1] / unit for unit in units]
    matrix = mpmath.matrix(size, size)
    for i in range(size):
        for j in range(size):
            matrix[i, j] = exact_sum(w, scaled[i], scaled[j])
        matrix[i, i] += (1 - mpmath.mpf(setting.elasticNetParam)) * each[i] / units[i]
    cross = [exact_sum(w, scaled[i], scaled[-1]) for i in range(size)]
    bounds = [mpmath.mpf(setting.elasticNetParam) * value for value in each]
    active = [i for i in range(size) if found[i]]
    solution = [mpmath.mpf(0)] * size
    if active:
        part = mpmath.matrix([[matrix[i, j] for j in active] for i in active])
        right = mpmath.matrix([cross[i] - bounds[i] * int(np.sign(found[i])) for i in active])
        for i, value in zip(active, mpmath.lu_solve(part, right), strict=True):
            solution[i] = value
    for i in range(size):
        gradient = cross[i] - mpmath.fsum(matrix[i, j] * solution[j] for j in range(size))
        assert abs(gradient) <= bounds[i] + mpmath.mpf(10) ** -30
        assert np.sign(float(solution[i])) == np.sign(found[i])
    coefficients = [value * deviations[-1] / deviation for value, deviation in zip(solution, deviations, strict=False)]
    return coefficients, (means[-1] - exact_sum(coefficients, means[:-1])) * setting.fitIntercept


def metrics_precisely(rows, coefficients, intercept):
    """The metrics on rows of equal weight."""
    rows = [[mpmath.mpf(value) for value in row] for row in rows.tolist()]
    predictions = [exact_sum(coefficients, row[:-1]) + intercept for row in rows]
    labels = [row[-1] for row in rows]
    mean = mpmath.fsum(labels) / len(rows)
    squared = mpmath.fsum((a - b) ** 2 for a, b in zip(labels, predictions, strict=True))
    explained = mpmath.fsum((value - mean) ** 2 for value in predictions) / len(rows)
    r2 = 1 - squared / mpmath.fsum((value - mean) ** 2 for value in labels)
    return {"rmse": mpmath.sqrt(squared / len(rows)), "r2": r2, "var": explained}


def float32_rows():
    return random_rows(8).astype(np.float32).astype(float)


def wide_rows():
    """More features than the twenty rows of the train side."""
    return random_rows(9, 45, 30)


RIDGE = [Setting(strength, 0.0, True, unit) for strength in (0.0, 0.1) for unit in (True, False)]
NETS = [Setting(strength, mixing, True, mixing == 1) for strength in (0.01, 0.3) for mixing in (0.5, 1.0)]


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (random_rows(0), [*RIDGE, *NETS, *(s._replace(fitIntercept=False) for s in [*RIDGE, *NETS])]),
        (random_rows(2, offset=1e8), [*RIDGE, *NETS]),
        (random_rows(2, offset=-3e5), [*RIDGE, *NETS]),
        (hilbert_rows(3, 60), [*RIDGE, *NETS]),
        (nearly_collinear_rows(60), [*RIDGE, *NETS]),
        (float32_rows(), [*RIDGE, *NETS]),
        (wide_rows(), [*RIDGE[2:], *NETS]),
    ],
    ids=["plain", "offset of 1e8", "offset of -3e5", "Hilbert-like", "nearly collinear", "float32", "wide"],
)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_fits_and_metrics_have_eight_digits(rows, settings, weighted):
    split = 20 if rows.shape[1] > 20 else 40
    train, validation = rows[:split], rows[split:]
    weights = np.random.default_rng(0).random(split) + 0.1 if weighted else np.ones(split)
    keys = np.arange(split) % 5
    sides = merge(moments_by_key(keys, train, weights if weighted else None)[1]), moments_of(validation)
    outcomes = {
        metric: cross_validate([sides], Search(settings, [None], 0, 0, metric, False))
        for metric in ("rmse", "r2", "var")
    }
    fits = outcomes["rmse"]
    assert (fits.condition <= MAX_CONDITION).all()
    units = train[:, :-1].std(axis=0)
    with mpmath.workdps(50):
        for i, setting in enumerate(settings):
            found = fits.coefficients[0, i]
            coefficients, intercept = fit_precisely(train, weights, setting, found)
            expected = np.array([float(value) for value in coefficients]) * units
            np.testing.assert_allclose(found * units, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
            for name, metric in metrics_precisely(validation, coefficients, intercept).items():
                # What is not sure another pass finds out: of nearly collinear columns without a penalty.
                assert outcomes[name].sure[0, i] or (setting.regParam == 0 and train.shape[1] == 5)
                if outcomes[name].sure[0, i]:
                    assert outcomes[name].metrics[0, i] == pytest.approx(float(metric), rel=1e-8)


def test_values_whose_squares_are_infinite_have_no_condition():
    rows = random_rows(1)
    plain = moments_of(rows)
    rows[3, 1] = 1e200
    infinite = moments_of(rows)
    search = Search([PLAIN, Setting(0.1, 0.5, False, False)], [None], 0, 0, "rmse", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = cross_validate([(infinite, plain), (plain, infinite), (plain, plain)], search)
    assert np.isinf(outcome.condition[:2]).all()
    assert (outcome.condition[2] <= MAX_CONDITION).all()
    np.testing.assert_array_equal(outcome.metrics[2], cross_validate([(plain, plain)], search).metrics[0])


# Lasso and elastic net --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", [0.3, 1.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_elastic_net_is_scikit_learns_in_the_same_units(mixing, intercept):
    rows = random_rows(7, 200)
    x, y = rows[:, :-1], rows[:, -1]
    strengths = [0.001, 0.1, 1.0, 100.0]
    settings = [Setting(strength, mixing, intercept, True) for strength in strengths]
    found, condition = fit_settings(moments_of(rows), settings)
    assert (condition <= MAX_CONDITION).all()
    scaled = (x - x.mean(axis=0) * intercept) / x.std(axis=0)
    for strength, coefficients in zip(strengths, found[0], strict=True):
        model = ElasticNet(strength / y.std(), l1_ratio=mixing, fit_intercept=intercept, tol=1e-13, max_iter=100_000)
        expected = model.fit(scaled, y / y.std()).coef_ * y.std() / x.std(axis=0)
        np.testing.assert_allclose(coefficients, expected, rtol=1e-7, atol=1e-9)
    assert not found[0, -1].any()


def test_elastic_net_says_where_its_system_is_too_ill_conditioned():
    matrix = np.array([[1.0, 1 - 1e-12], [1 - 1e-12, 1.0]])
    _, condition = elastic_net(matrix[None], np.array([[1.0, -1.0]]) * 1e-3, np.full((1, 2), 1e-6), np.zeros((1, 2)), 8)
    assert condition[0] > MAX_CONDITION


# What holds for all inputs ----------------------------------------------------------------------------------


def assert_close(found: Moments, expected: Moments):
    scale = np.sqrt(np.einsum("kii->ki", expected.scatter)) + np.abs(expected.point + expected.shift) * 1e-7 + 1e-300
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-12)
    np.testing.assert_allclose(found.squares, expected.squares, rtol=1e-12)
    np.testing.assert_allclose(found.point + found.shift, expected.point + expected.shift, rtol=1e-9, atol=1e-9)
    error = np.abs(found.scatter - expected.scatter) / (scale[:, :, None] * scale[:, None, :])
    assert error.max() < 1e-9


@given(
    seed=st.integers(0, 10_000),
    offset=st.sampled_from([0.0, 1.0, 1e8]),
    parts=st.integers(1, 6),
    weighted=st.booleans(),
)
def test_order_and_partitions_of_rows_do_not_matter(seed, offset, parts, weighted):
    generator = np.random.default_rng(seed)
    rows = random_rows(seed, 50, 3, offset)
    keys = generator.integers(0, 4, 50)
    weights = generator.integers(0, 3, 50).astype(float) if weighted else None
    _, expected = moments_by_key(keys, rows, weights)
    order = generator.permutation(50)
    found = [
        moments_by_key(keys[part], rows[part], None if weights is None else weights[part])
        for part in np.array_split(order, parts)
    ]
    whole = Moments(*(np.concatenate(arrays) for arrays in zip(*(m for _, m in found), strict=True)))
    assert_close(merge_by_key(np.concatenate([k for k, _ in found]), whole)[1], expected)


@given(seed=st.integers(0, 10_000), bounds=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1))
def test_windows_are_the_rows_in_them_and_sliding_is_the_difference_of_expanding(seed, bounds):
    rows = random_rows(seed, 120, 3)
    times = np.arange(120) // 4
    keys, moments = moments_by_key(times, rows, None)
    windows = np.array([(low, low + length) for low, length in bounds])
    for window, found in zip(windows, window_moments(keys, moments, windows), strict=True):
        inside = (times >= window[0]) & (times < window[1])
        assert_close(found, moments_of(rows[inside]))
        if window[0]:
            whole, before = window_moments(keys, moments, np.array([(0, window[1]), (0, window[0])]))
            assert_close(merge(Moments(*(np.concatenate(p) for p in zip(before, found, strict=True)))), whole)


@given(seed=st.integers(0, 10_000), intercept=st.booleans(), regularised=st.sampled_from([0.0, 0.1, 10.0]))
def test_errors_are_those_of_predictions(seed, intercept, regularised):
    train, validation = random_rows(seed), random_rows(seed + 1, 40)
    setting = Setting(regularised, 0.0, intercept, False)
    sides = moments_of(train), moments_of(validation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coefficients, _ = fit_settings(sides[0], [setting])
        found, _ = errors_of(*sides, [setting], coefficients)
    slope = coefficients[0, 0]
    start = train[:, -1].mean() - train[:, :-1].mean(axis=0) @ slope if intercept else 0.0
    predicted = validation[:, :-1] @ slope + start
    assert found.squared[0, 0] == pytest.approx(((validation[:, -1] - predicted) ** 2).sum(), rel=1e-7)
    assert found.explained[0, 0] == pytest.approx(((predicted - validation[:, -1].mean()) ** 2).sum(), rel=1e-7)


@given(
    seed=st.integers(0, 10_000),
    offset=st.sampled_from([0.0, 1e8]),
    many=st.sampled_from([2, 40]),
    ordered=st.booleans(),
    size=st.integers(1, 120),
    chunk=st.sampled_from([1, 2**26]),
)
def test_batches_of_a_task_do_not_matter(seed, offset, many, ordered, size, chunk):
    """Whatever their size, the order of their keys, and how many wait for one another."""
    generator = np.random.default_rng(seed)
    rows, keys = random_rows(seed, 300, 3, offset), generator.integers(0, many, 300)
    if ordered:
        keys.sort()
    table = pa.table(
        {"t": keys, "y": rows[:, -1], "x": pa.FixedSizeListArray.from_arrays(rows[:, :-1].ravel(), 3)}
    ).cast(pa.schema({"t": pa.int64(), "y": pa.float64(), "x": pa.list_(pa.float64())}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "CHUNK_BYTES", chunk)
        blocks, found = sum_up(table.to_batches(max_chunksize=size), Keys("number", 1), [None], 2.0**30)
    distinct, expected = moments_by_key(keys, rows, None)
    assert blocks.keys.tolist() == distinct.tolist()
    assert blocks.rows.tolist() == np.bincount(keys)[distinct].tolist()
    assert found.ends == [keys.min(), keys.max()]
    assert found.features == {3}
    assert_close(blocks.moments[0], expected)


@given(seed=st.integers(0, 10_000))
def test_windows_that_slide_over_many_stretches_are_the_sums_of_their_rows(seed):
    generator = np.random.default_rng(seed)
    keys, moments = moments_by_key(np.arange(400) // 2, random_rows(seed, 400, 2), None)
    low = np.sort(generator.integers(0, 100, 60))
    windows = np.stack([low, np.maximum.accumulate(low + generator.integers(1, 90, 60))], axis=1)
    for window, found in zip(windows, window_moments(keys, moments, windows), strict=True):
        assert_close(found, merge(moments.take(slice(*window))))
