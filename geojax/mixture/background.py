"""A uniform background behind a mixture.

    p(x) = (1 - w) mixture(x) + w / (4 pi)

A mixture of narrow components has a density of nearly 0 far from all of its
centers, so a place there costs hundreds of nats. With a background of weight w
no place costs more than -log w relative to the uniform density.
"""

import jax
import jax.numpy as jnp

from geojax import arrays

# A concentration of 2e-9: the density is uniform to nine digits.
LOG_KAPPA = -20.0


def background_log_weights(logit, *, floor):
  """Weight of the background, and of the mixture, as logs.

  Args:
    logit: Any real numbers, shape `[...]`.
    floor: Least weight, in (0, 1): as `logit` falls, w approaches it.

  Returns:
    `log w` and `log (1 - w)`, each `[...]`; w = floor + (1 - floor)
    sigmoid(logit).
  """
  (logit,) = arrays.widen(logit)
  log_rest = jax.nn.log_sigmoid(-logit) + jnp.log1p(-floor)
  log_weight = jnp.logaddexp(
    jax.nn.log_sigmoid(logit) + jnp.log1p(-floor), jnp.log(floor)
  )
  return log_weight, log_rest


def add_background(logits, mu, log_kappa, log_weight, log_rest):
  """The mixture with its background as one more component, the last.

  Args:
    logits, mu, log_kappa: The mixtures, see `mixture.log_prob`.
    log_weight, log_rest: See `background_log_weights`, `[batch]`.

  Returns:
    `logits`, log weights `[batch, centers + 1]`, `mu` `[centers + 1, 3]` and
    `log_kappa` `[centers + 1]`.
  """
  logits, log_weight, log_rest = arrays.widen(logits, log_weight, log_rest)
  log_weights = jax.nn.log_softmax(logits) + log_rest[:, None]
  logits = jnp.concatenate([log_weights, log_weight[:, None]], axis=-1)
  return logits, *background_components(mu, log_kappa)


def background_components(mu, log_kappa):
  """Appends the background to centers and concentrations.

  Args:
    mu, log_kappa: See `mixture.log_prob`.

  Returns:
    `mu` `[centers + 1, 3]`, the last one arbitrary, and `log_kappa`
    `[centers + 1]`.
  """
  mu, log_kappa = arrays.widen(mu, log_kappa)
  anywhere = jnp.array([[0.0, 0.0, 1.0]], mu.dtype)
  uniform = jnp.array([LOG_KAPPA], log_kappa.dtype)
  return jnp.concatenate([mu, anywhere]), jnp.concatenate([log_kappa, uniform])


def nll_with_background(nll_nats, log_weight, log_rest):
  """Nll of a mixture with its background, from that of the mixture alone.

  Args:
    nll_nats: Relative to the uniform density, or an upper bound of it, shape
      `[batch]`.
    log_weight, log_rest: See `background_log_weights`, `[batch]`.

  Returns:
    Nll relative to the uniform density, at most `-log_weight`, `[batch]`.
  """
  return -jnp.logaddexp(log_rest - nll_nats, log_weight)
