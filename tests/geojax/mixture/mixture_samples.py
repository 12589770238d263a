"""Random mixtures, and their density another way."""

import numpy as np
import scipy.special


def unit(rng, *shape):
  x = rng.normal(size=(*shape, 3))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def draw_case(seed, batch, centers, *, kappa=(0.5, 1e4), wide=False):
  """Points, logits, centers and log_kappa; the points near some center."""
  rng = np.random.default_rng(seed)
  mu = unit(rng, centers)
  log_kappa = rng.uniform(*np.log(kappa), centers)
  logits = 2 * rng.normal(size=(batch, centers))
  near = rng.integers(centers, size=batch)
  step = rng.normal(size=(batch, 3)) / np.exp(log_kappa[near] / 2)[:, None]
  x = mu[near] + step
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  case = x, logits, mu, log_kappa
  return case if wide else tuple(np.float32(v) for v in case)


def oracle(x, logits, mu, log_kappa):
  """The log density in float64, by the dot product and log-softmax."""
  x, logits, mu, log_kappa = map(np.float64, (x, logits, mu, log_kappa))
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  mu = mu / np.linalg.norm(mu, axis=1, keepdims=True)
  kappa = np.exp(log_kappa)
  peak = log_kappa - np.log(-2 * np.pi * np.expm1(-2 * kappa))
  component = peak + kappa * (x @ mu.T - 1)
  weight = scipy.special.log_softmax(logits, axis=1)
  return scipy.special.logsumexp(weight + component, axis=1)
