"""Probes agree with scikit-learn's estimators on standardised features."""

import tracemalloc

import numpy as np
import pytest
from probe_samples import SHAPES, accuracy, classes, make_features, one_hot
from scipy import special
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from geojax.evaluation import probes


@pytest.mark.parametrize("k", [1, 4, 20])
def test_knn_predicts_what_scikit_learn_does(k, monkeypatch):
  monkeypatch.setattr(probes, "_BLOCK_ROWS", 64)
  x, y, new_x, new_y = classes(np.random.default_rng(0), 300, 20)
  expected = KNeighborsClassifier(k, metric="cosine").fit(x, y)
  votes = probes.knn(x, one_hot(y), new_x, k=k)
  np.testing.assert_array_equal(votes.argmax(axis=1), expected.predict(new_x))
  np.testing.assert_allclose(votes, expected.predict_proba(new_x), atol=1e-6)
  assert votes.dtype == np.float32
  # Four votes of four classes often tie.
  ties = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
  assert ties.any() == (k > 1)
  assert accuracy(new_y)(votes) < 1


def test_knn_averages_values_and_labels():
  rng = np.random.default_rng(1)
  x, new_x = (
    make_features(rng, 200, 8),
    make_features(rng, 50, 8),
  )
  values = np.stack([2000 + rng.normal(size=200), rng.random(200) < 0.3], 1)
  expected = KNeighborsRegressor(7, metric="cosine").fit(x, values)
  found = probes.knn(x, values, new_x, k=7)
  np.testing.assert_allclose(found, expected.predict(new_x), rtol=1e-6)


def test_knn_of_few_rows_and_of_zeros():
  rng = np.random.default_rng(2)
  x, values = make_features(rng, 3, 5), rng.normal(size=(3, 2))
  found = probes.knn(x, values, make_features(rng, 4, 5), k=5)
  np.testing.assert_allclose(found, np.tile(values.mean(0), (4, 1)), rtol=1e-6)
  # The similarity of a row of zeros is 0, above that of an opposite row.
  x = np.array([[1.0, 0.0], [0.0, 0.0]])
  found = probes.knn(x, np.eye(2), np.array([[1.0, 0.0], [-1.0, 0.0]]), k=1)
  np.testing.assert_array_equal(found, np.eye(2))


def test_knn_never_holds_all_similarities(monkeypatch):
  monkeypatch.setattr(probes, "_BLOCK_SIZE", 2**18)
  x = np.random.default_rng(3).normal(size=(3000, 4)).astype(np.float32)
  tracemalloc.start()
  probes.knn(x, np.ones((3000, 1)), x, k=3)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 4 * 3000**2 / 4


@SHAPES
@pytest.mark.parametrize("penalty", [0.01, 10.0, 1e4])
def test_ridge_is_that_of_scikit_learn(rows, features, penalty):
  x, y, new_x, _ = classes(np.random.default_rng(4), rows, features)
  x[:, 3] = new_x[:, 3] = 0.1  # a column without variance
  targets = np.concatenate([one_hot(y), x[:, :1] ** 2 + 2000], axis=1)
  scaler = StandardScaler().fit(x.astype(np.float64))
  z, new_z = (scaler.transform(a.astype(np.float64)) for a in (x, new_x))
  expected = Ridge(penalty).fit(z, targets)
  found = probes.ridge(x, targets, penalties=[penalty])
  assert found.regularization == penalty
  np.testing.assert_allclose(
    found.kernel * x.std(axis=0, dtype=np.float64)[:, None],
    expected.coef_.T,
    atol=1e-4 * np.abs(expected.coef_).max(),
  )
  np.testing.assert_allclose(found(new_x), expected.predict(new_z), atol=1e-4)
  classifier = RidgeClassifier(penalty).fit(z, y)
  np.testing.assert_array_equal(
    found(new_x)[:, :-1].argmax(axis=1), classifier.predict(new_z)
  )


@SHAPES
def test_ridge_without_validation_minimises_the_leave_one_out_error(
  rows, features
):
  rng = np.random.default_rng(5)
  rows = min(rows, 50)
  x = make_features(rng, rows, features)
  z = StandardScaler().fit_transform(x.astype(np.float64))
  targets = z @ rng.normal(size=(features, 2)) + 4 * rng.normal(size=(rows, 2))
  penalties = np.logspace(-1, 4, 6)
  errors = []
  for penalty in penalties:
    ridge, error = Ridge(penalty), 0
    for i in range(rows):
      rest = np.arange(rows) != i
      fit = ridge.fit(z[rest], targets[rest])
      error += np.square(fit.predict(z[[i]]) - targets[i]).sum()
    errors.append(error)
  best = np.argmin(errors)
  assert 0 < best < len(penalties) - 1
  found = probes.ridge(x, targets, penalties=penalties)
  assert found.regularization == penalties[best]


@pytest.mark.parametrize("shape", [(3000, 4), (4, 3000)])
def test_the_smaller_gram_matrix_is_decomposed(shape):
  x = np.random.default_rng(19).normal(size=shape).astype(np.float32)
  tracemalloc.start()
  probes.ridge(x, x[:, :1])
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 8 * 3000**2 / 4


def test_ridge_of_one_row_is_its_target():
  found = probes.ridge(np.ones((1, 3)), np.array([[1.0, 0.0]]))
  np.testing.assert_array_equal(found(np.eye(3)), [[1, 0]] * 3)


@SHAPES
def test_ridge_takes_the_penalty_of_the_highest_score(rows, features):
  x, y, new_x, _ = classes(np.random.default_rng(6), rows, features)
  targets = one_hot(y)
  penalties = [100.0, 0.1, 1.0, 1e4]
  outputs = {
    p: probes.ridge(x, targets, penalties=[p])(new_x) for p in penalties
  }
  for wanted in penalties:
    seen = []

    def choose(found, wanted=wanted, seen=seen):
      seen.append(found)
      return -np.abs(found - outputs[wanted]).max()

    found = probes.ridge(x, targets, new_x, choose=choose, penalties=penalties)
    assert found.regularization == wanted
    np.testing.assert_allclose(found(new_x), outputs[wanted], atol=1e-9)
    for penalty, scored in zip(sorted(penalties)[::-1], seen, strict=True):
      np.testing.assert_allclose(scored, outputs[penalty], atol=1e-9)


def test_ties_go_to_the_simplest_fit_and_nan_loses():
  x, y, new_x, new_y = classes(np.random.default_rng(7), 60, 5)
  targets, new_targets = one_hot(y), one_hot(new_y)
  same = {"choose": lambda outputs: 0.5}
  found = probes.ridge(x, targets, new_x, penalties=[1, 9, 4], **same)
  assert found.regularization == 9
  found = probes.logistic(
    x, targets, new_x, new_targets, c_values=[0.3, 0.1, 0.2], **same
  )
  assert found.regularization == 0.1
  scores = iter([np.nan, 1.0, 2.0])
  found = probes.ridge(
    x, targets, new_x, penalties=[1, 9, 4], choose=lambda _: next(scores)
  )
  assert found.regularization == 1


@SHAPES
def test_absent_classes_are_not_predicted(rows, features):
  x, y, new_x, _ = classes(np.random.default_rng(13), rows, features, 3)
  targets = one_hot(y, 3)
  more = np.insert(targets, [0, 2], 0, axis=1)  # classes 0 and 3 are absent
  present = [1, 2, 4]
  votes = probes.knn(x, more, new_x, k=5)
  np.testing.assert_array_equal(votes[:, [0, 3]], 0)
  outputs = probes.ridge(x, more, penalties=[1.0])(new_x)
  alone = probes.ridge(x, targets, penalties=[1.0])(new_x)
  np.testing.assert_allclose(outputs[:, present], alone, atol=1e-9)
  np.testing.assert_allclose(outputs[:, [0, 3]], 0, atol=1e-9)
  logits = probes.logistic(x, more, c_values=[0.1])(new_x)
  alone = probes.logistic(x, targets, c_values=[0.1])(new_x)
  assert np.isfinite(logits).all()
  p = special.softmax(logits, axis=1)
  np.testing.assert_allclose(
    p[:, present], special.softmax(alone, axis=1), atol=5e-3
  )
  assert p[:, [0, 3]].max() < 5e-3


def test_labels_of_no_row_or_of_all_rows():
  x, y, new_x, _ = classes(np.random.default_rng(14), 60, 5, 2)
  labels = np.stack([np.zeros(60), np.ones(60), y], axis=1)
  fit = probes.logistic(x, labels, c_values=[1.0], multi_label=True)
  p = special.expit(fit(new_x))
  assert p[:, 0].max() < 0.01
  assert p[:, 1].min() > 0.99
  assert np.ptp(p[:, 2]) > 0.2


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_constant_columns_do_not_count(value):
  x, y, new_x, _ = classes(np.random.default_rng(15), 100, 6)
  column = np.full((100, 1), value)
  assert (column.mean(axis=0) == value) == (value != 0.1)  # rounding
  more = np.concatenate([x, column], axis=1)
  other = np.insert(new_x, 6, 7.0, axis=1)
  for fit in (
    lambda a: probes.ridge(a, one_hot(y), penalties=[1.0]),
    lambda a: probes.logistic(a, one_hot(y), c_values=[0.01]),
  ):
    found = fit(more)
    np.testing.assert_array_equal(found.kernel[6], 0)
    np.testing.assert_allclose(found(other), fit(x)(new_x), atol=1e-4)


def test_units_of_features_do_not_matter():
  rng = np.random.default_rng(16)
  x, y, new_x, _ = classes(rng, 100, 6)
  units, offset = np.logspace(-6, 6, 6), rng.normal(size=6)
  for fit in (
    lambda a: probes.ridge(a, one_hot(y), penalties=[1.0]),
    lambda a: probes.logistic(a, one_hot(y), c_values=[0.1]),
  ):
    scaled = fit((x + offset) * units)((new_x + offset) * units)
    np.testing.assert_allclose(scaled, fit(x)(new_x), atol=1e-4)


def test_permuted_labels_give_chance():
  rng = np.random.default_rng(17)
  x = rng.normal(size=(1000, 16)).astype(np.float32)
  x[:, :4] *= 4
  y = np.argmax(x[:, :4] @ rng.normal(size=(4, 5)), axis=1)
  accuracies = []
  for labels in (y, rng.permutation(y)):
    train, held, test = np.split(np.arange(1000), [400, 600])
    targets, choose = (
      one_hot(labels),
      accuracy(labels[held]),
    )
    answers = [
      probes.knn(x[train], targets[train], x[test], k=5),
      probes.ridge(x[train], targets[train], x[held], choose=choose)(x[test]),
      probes.logistic(
        x[train], targets[train], x[held], targets[held], choose=choose
      )(x[test]),
    ]
    accuracies.append([accuracy(labels[test])(a) for a in answers])
  real, permuted = np.array(accuracies)
  # Four standard errors of a share of 400 rows; the largest class has 0.24.
  assert (real > 0.6).all()
  assert (permuted < 0.24 + 4 * (0.24 * 0.76 / 400) ** 0.5).all()


def _score(outputs):
  return 0.0


X, TARGETS = np.zeros((6, 3)), np.eye(2)[[0, 1] * 3]
NARROW = np.zeros((4, 2))
ROWS, COLUMNS = (r"\(6, 3\).*\(5, 2\)", r"\(6, 3\).*\(4, 2\)")


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: probes.knn(X, TARGETS[:5], X, k=1), ROWS),
    (lambda: probes.ridge(X, TARGETS[:5]), ROWS),
    (lambda: probes.logistic(X, TARGETS[:5], c_values=[1.0]), ROWS),
    (lambda: probes.ridge(X, TARGETS[:, 0]), r"\(6, 3\).*\(6,\)"),
    (lambda: probes.ridge(X[:0], TARGETS[:0]), r"\(0, 3\).*\(0, 2\)"),
    (lambda: probes.knn(X, TARGETS, NARROW, k=1), COLUMNS),
    (lambda: probes.ridge(X, TARGETS, NARROW, choose=_score), COLUMNS),
    (lambda: probes.ridge(X, TARGETS)(NARROW), r"\(2, 3\).*\(4, 2\)"),
    (
      lambda: probes.logistic(X, TARGETS, NARROW, TARGETS[:4], choose=_score),
      COLUMNS,
    ),
    (
      lambda: probes.logistic(X, TARGETS, X, TARGETS[:5], choose=_score),
      ROWS,
    ),
    (
      lambda: probes.logistic(X, TARGETS, X, np.eye(6), choose=_score),
      r"\(6, 2\).*\(6, 6\)",
    ),
    (lambda: probes.logistic(X, TARGETS, X, choose=_score), r"\(6, 3\).*\(\)"),
    (lambda: probes.knn(X, TARGETS, X, k=0), "k must be at least 1"),
    (lambda: probes.knn(X, TARGETS, X + np.nan, k=1), "x must be finite"),
    (lambda: probes.ridge(X + np.nan, TARGETS), "train_x must be finite"),
    (lambda: probes.ridge(X, TARGETS * np.inf), "targets must be finite"),
    (lambda: probes.ridge(X, TARGETS, penalties=[0, 1]), r"found \[0, 1\]"),
    (lambda: probes.ridge(X, TARGETS, penalties=[]), r"found \[\]"),
    (lambda: probes.ridge(X, TARGETS, X), "both validation and choose"),
    (lambda: probes.ridge(X, TARGETS, choose=_score), "both validation"),
    (lambda: probes.logistic(X, TARGETS), "pass validation to choose a C"),
    (lambda: probes.logistic(X, TARGETS * 2), r"targets must be in \[0, 1\]"),
    (lambda: probes.logistic(X, TARGETS - 1), r"targets must be in \[0, 1\]"),
    (lambda: probes.logistic(X, TARGETS / 2), "targets must sum to 1"),
    (
      lambda: probes.logistic(X, TARGETS, X, TARGETS / 2, choose=_score),
      "validation_targets must sum to 1",
    ),
  ],
)
def test_what_does_not_match_is_an_error(call, message):
  with (
    np.errstate(invalid="ignore"),
    pytest.raises(ValueError, match=message),
  ):
    call()
