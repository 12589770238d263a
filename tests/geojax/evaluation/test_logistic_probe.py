"""Logistic regression agrees with scikit-learn's, on standardised features."""

import numpy as np
import pytest
from probe_samples import SHAPES, accuracy, classes, make_features, one_hot
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from geojax.evaluation import probes


@SHAPES
@pytest.mark.parametrize("c", [1e-3, 0.1, 10.0])
def test_logistic_is_that_of_scikit_learn(rows, features, c):
  x, y, new_x, new_y = classes(np.random.default_rng(8), rows, features)
  x[:, 3] = new_x[:, 3] = 0.1
  scaler = StandardScaler().fit(x.astype(np.float64))
  new_z = scaler.transform(new_x.astype(np.float64))
  expected = LogisticRegression(C=c, tol=1e-6, max_iter=10_000)
  expected.fit(scaler.transform(x.astype(np.float64)), y)
  found = probes.logistic(x, one_hot(y), c_values=[c])
  p = special.softmax(found(new_x), axis=1)
  np.testing.assert_allclose(p, expected.predict_proba(new_z), atol=1e-2)
  found_accuracy = accuracy(new_y)(p)
  assert abs(found_accuracy - expected.score(new_z, new_y)) <= 0.005
  assert found.regularization == c


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_labels_are_one_logistic_regression_each(c):
  rng = np.random.default_rng(9)
  x, new_x = np.split(make_features(rng, 600, 20), 2)
  scaler = StandardScaler().fit(x)
  z = scaler.transform(x)
  labels = z @ rng.normal(size=(20, 5)) / 4 + rng.logistic(size=(300, 5)) > 1
  expected = OneVsRestClassifier(
    LogisticRegression(C=c, tol=1e-6, max_iter=10_000)
  ).fit(z, labels)
  found = probes.logistic(x, labels, c_values=[c], multi_label=True)
  np.testing.assert_allclose(
    special.expit(found(new_x)),
    expected.predict_proba(scaler.transform(new_x)),
    atol=3e-3,
  )


def test_two_classes_are_two_outputs_of_half_the_c():
  rng = np.random.default_rng(10)
  x, y, new_x, _ = classes(rng, 200, 6, num_classes=2)
  scaler = StandardScaler().fit(x)
  expected = LogisticRegression(C=0.02).fit(scaler.transform(x), y)
  found = probes.logistic(x, one_hot(y), c_values=[0.01])
  np.testing.assert_allclose(
    special.softmax(found(new_x), axis=1),
    expected.predict_proba(scaler.transform(new_x)),
    atol=3e-3,
  )


def test_a_path_ends_where_a_single_fit_does():
  x, y, new_x, new_y = classes(np.random.default_rng(11), 200, 20)
  seen = []
  probes.logistic(
    x,
    one_hot(y),
    new_x,
    one_hot(new_y),
    choose=lambda outputs: seen.append(outputs) or len(seen),
    c_values=[1.0, 0.01, 0.1],
  )
  for c, logits in zip([0.01, 0.1, 1.0], seen, strict=True):
    alone = probes.logistic(x, one_hot(y), c_values=[c])(new_x)
    np.testing.assert_allclose(
      special.softmax(logits, axis=1), special.softmax(alone, axis=1), atol=3e-3
    )


@pytest.mark.parametrize("wanted", [0.001, 0.01, 1.0])
def test_the_c_of_the_highest_score_is_fitted_anew_on_all_rows(wanted):
  x, y, new_x, new_y = classes(np.random.default_rng(12), 100, 10)
  new_x *= 3  # rows that are standardised together have other deviations
  c_values = [0.001, 0.01, 0.1, 1.0]
  seen = []

  def choose(outputs):
    seen.append(outputs)
    return float(c_values[len(seen) - 1] == wanted)

  rows = x, one_hot(y), new_x, one_hot(new_y)
  found = probes.logistic(*rows, choose=choose, c_values=c_values)
  assert found.regularization == wanted
  both = (
    np.concatenate([x, new_x]),
    one_hot(np.concatenate([y, new_y])),
  )
  expected = probes.logistic(*both, c_values=[wanted])
  np.testing.assert_allclose(found(x), expected(x), atol=1e-5)
  alone = probes.logistic(x, one_hot(y), c_values=[wanted])
  assert np.abs(found(x) - alone(x)).max() > 0.1
  # Without the refit, the fit that was scored is returned.
  seen.clear()
  found = probes.logistic(*rows, choose=choose, c_values=c_values, refit=False)
  assert found.regularization == wanted
  np.testing.assert_array_equal(found(new_x), seen[c_values.index(wanted)])


def test_a_fit_that_does_not_converge_warns(monkeypatch):
  monkeypatch.setitem(probes._L_BFGS, "maxiter", 1)
  x, y, _, _ = classes(np.random.default_rng(18), 100, 6)
  with pytest.warns(UserWarning, match=r"no convergence at C = 10"):
    probes.logistic(x, one_hot(y), c_values=[10.0])
