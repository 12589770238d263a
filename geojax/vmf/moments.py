"""Functions of the concentration alone: normalizer, entropy and moments."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.arrays import widen

# Below this coth(kappa) - 1/kappa loses digits by cancellation, and a short
# continued fraction does not.
SMALL_KAPPA = 1.0
LOG_2PI = float(np.log(2 * np.pi))


def log_normalizer(kappa):
  """Log of the integral of exp(kappa mu.x): log(4 pi sinh(kappa)/kappa).

  `log_prob` is kappa mu.x minus this. Its derivatives are the cumulants of
  mu.x, the first `mean_resultant_length`.

  Args:
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.

  Returns:
    Nats, at least log 4 pi = 2.53 (at kappa = 0), shape `[...]`.
  """
  (kappa,) = widen(kappa)
  return _log_normalizer(kappa)


def log_peak(kappa):
  """Log density at mu, the highest: log(kappa/(2 pi (1 - exp(-2 kappa)))).

  -log 4 pi at kappa = 0, about log(kappa/(2 pi)) above kappa = 10. Equals
  `kappa - log_normalizer(kappa)` without the cancellation.

  Args:
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.

  Returns:
    Nats per steradian, shape `[...]`.
  """
  (kappa,) = widen(kappa)
  return _log_peak(kappa)


@jax.jit
def mean_resultant_length(kappa):
  """Length of the mean of vMF samples: coth(kappa) - 1/kappa.

  0 at kappa = 0 (samples cancel out), 1 as kappa -> inf (all at mu). Below
  kappa = 1 the continued fraction of coth keeps value and gradient accurate.

  Args:
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.

  Returns:
    Values in [0, 1), shape `[...]`.

  References:
    Mardia & Jupp, Directional Statistics, Wiley 2000, section 9.3.2.
  """
  (kappa,) = widen(kappa)
  small, low, high = branches(kappa)
  # 1 + 2e/(1 - e), e = exp(-2 kappa), differentiates without overflow, which
  # 2/expm1(2 kappa) does not.
  decayed = jnp.exp(-2 * high)
  coth = 1 + 2 * decayed / -jnp.expm1(-2 * high)
  return jnp.where(small, low * mean_over_kappa(low), coth - 1 / high)


def entropy(kappa):
  """Differential entropy: log_normalizer - kappa mean_resultant_length.

  log 4 pi at kappa = 0 (uniform), about 1 - log(kappa/(2 pi)) as kappa -> inf.

  Args:
    kappa: Concentrations, >= 0, dimensionless, shape `[...]`.

  Returns:
    Entropies, shape `[...]`.
  """
  (kappa,) = widen(kappa)
  return _entropy(kappa)


@jax.jit
def mean_depth(kappa):
  """Mean of h = 1 - mu.x, that is 1 - mean_resultant_length(kappa).

  From kappa = 1 on 1/kappa - 2/(exp(2 kappa) - 1), which does not cancel.
  """
  small, low, high = branches(kappa)
  decayed = jnp.exp(-2 * high)
  closed = 1 / high - 2 * decayed / -jnp.expm1(-2 * high)
  return jnp.where(small, 1 - low * mean_over_kappa(low), closed)


@jax.jit
def mean_slope(kappa):
  """Derivative of the mean resultant length: 1/kappa^2 - 1/sinh^2 kappa.

  The variance of mu.x; below kappa = 1 from A' = 1 - A^2 - 2 A/kappa.
  """
  small, low, high = branches(kappa)
  ratio = mean_over_kappa(low)
  series = 1 - (low * ratio) ** 2 - 2 * ratio
  decayed = jnp.exp(-2 * high)
  closed = (1 / high) ** 2 - 4 * decayed / jnp.expm1(-2 * high) ** 2
  return jnp.where(small, series, closed)


def mean_over_kappa(kappa):
  """A(kappa)/kappa = 1/(3 + kappa^2/(5 + kappa^2/(7 + ...))), kappa <= 1."""
  square = kappa * kappa
  tail = jnp.full_like(square, 19.0)
  for odd in (17, 15, 13, 11, 9, 7, 5, 3):
    tail = odd + square / tail
  return 1 / tail


def peak_ratio(kappa):
  """Ratio kappa / (1 - exp(-2 kappa)), 1/2 at 0; not to be differentiated."""
  positive = kappa > 1e-30
  safe = jnp.where(positive, kappa, 1.0)
  return jnp.where(positive, safe / -jnp.expm1(-2 * safe), 0.5)


def branches(kappa):
  """Whether kappa is small, and a safe kappa for each of the two branches.

  The branch not taken is differentiated too, and 0 * NaN is NaN.
  """
  small = kappa < SMALL_KAPPA
  low = jnp.where(small, kappa, 0)
  high = jnp.where(small, SMALL_KAPPA, kappa)
  return small, low, high


@jax.custom_jvp
@jax.jit
def _log_peak(kappa):
  return jnp.log(peak_ratio(kappa)) - LOG_2PI


_log_peak.defjvps(lambda kappa_dot, _, kappa: mean_depth(kappa) * kappa_dot)


@jax.custom_jvp
@jax.jit
def _log_normalizer(kappa):
  return kappa - _log_peak(kappa)


_log_normalizer.defjvps(
  lambda kappa_dot, _, kappa: mean_resultant_length(kappa) * kappa_dot
)


@jax.custom_jvp
@jax.jit
def _entropy(kappa):
  return kappa * mean_depth(kappa) - _log_peak(kappa)


_entropy.defjvps(
  lambda kappa_dot, _, kappa: -kappa * mean_slope(kappa) * kappa_dot
)
