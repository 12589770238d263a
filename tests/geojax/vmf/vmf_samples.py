"""Points and exact values for the tests of von Mises-Fisher."""

import mpmath
import numpy as np

mpmath.mp.dps = 50
LOG_4PI = np.log(4 * np.pi)
# Both sides of every branch and of every overflow, and what lies between.
KAPPAS = np.float32(
  [0, 1e-30, 1e-6, 1e-3, 0.1, 0.3, 0.9999999, 1, 1.0000001, 3, 10, 44, 89]
  + [100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]
)
ANGLES_RAD = [0, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 2, 3, 3.14, np.pi]


def unit(rng, *shape):
  x = rng.normal(size=(*shape, 3))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def at_angle(rng, mu, angle_rad):
  """Float32 points at given angles from mu, in any direction."""
  across = rng.normal(size=mu.shape)
  across -= np.sum(across * mu, axis=-1, keepdims=True) * mu
  across /= np.linalg.norm(across, axis=-1, keepdims=True)
  angle_rad = np.asarray(angle_rad)[..., None]
  return np.float32(np.cos(angle_rad) * mu + np.sin(angle_rad) * across)


def exact_unit(x):
  x = mpmath.matrix([mpmath.mpf(float(v)) for v in x])
  return x / mpmath.norm(x)


def exact_depth(x, mu):
  """1 - cos of the angle between float32 vectors, taken as directions."""
  x, mu = exact_unit(x), exact_unit(mu)
  return 1 - sum(a * b for a, b in zip(x, mu, strict=True))


def exact_log_normalizer(kappa):
  kappa = mpmath.mpf(float(kappa))
  ratio = mpmath.sinh(kappa) / kappa if kappa else mpmath.mpf(1)
  return mpmath.log(4 * mpmath.pi * ratio)


def exact_mean(kappa):
  kappa = mpmath.mpf(float(kappa))
  with mpmath.workdps(120):
    return mpmath.coth(kappa) - 1 / kappa if kappa else mpmath.mpf(0)


def exact_slope(kappa):
  kappa = mpmath.mpf(float(kappa))
  with mpmath.workdps(120):
    if not kappa:
      return mpmath.mpf(1) / 3
    return 1 / kappa**2 - mpmath.csch(kappa) ** 2


def floats(values):
  return np.array([float(v) for v in values])
