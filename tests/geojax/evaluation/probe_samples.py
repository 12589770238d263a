"""Features and labels that probes are fitted to."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

SHAPES = pytest.mark.parametrize(
  ("rows", "features"), [(300, 20), (40, 120)], ids=["tall", "wide"]
)


def one_hot(y, num_classes=None):
  return np.eye(num_classes or y.max() + 1)[y]


def make_features(rng, rows, features):
  """Correlated features with offsets and units of their own, float32."""
  x = rng.normal(size=(rows, features)) @ rng.normal(size=(features, features))
  units = np.logspace(-2, 2, features)
  return ((x + 5 * rng.normal(size=features)) * units).astype(np.float32)


def classes(rng, rows, features, num_classes=4):
  """Twice as many rows as asked for: the rest to predict; labels are noisy."""
  x = make_features(rng, 2 * rows, features)
  slopes = rng.normal(size=(features, num_classes)) / features**0.5
  logits = 2 * StandardScaler().fit_transform(x) @ slopes
  y = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
  return x[:rows], y[:rows], x[rows:], y[rows:]


def accuracy(y):
  return lambda outputs: np.mean(outputs.argmax(axis=1) == y)
