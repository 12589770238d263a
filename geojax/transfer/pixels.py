"""A linear answer for every pixel, from an encoder's cached maps.

Maps of all stages are resampled to the patch's pixels and stacked: ridge
regression of them is a 1 x 1 convolution of each map. Its normal equations are
summed up some patches at a time, so that no array of all pixels is needed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from geojax.evaluation import probes

_PATCHES = 64


def fit(maps, targets, size, validation, choose):
  """Fits ridge regression of pixels.

  Args:
    maps: Maps of the labelled patches by stage, `[n, rows, columns, channels]`.
    targets: Function of a slice of the patches that returns what is regressed,
      `[m, height, width, outputs]`, and which pixels are known, `[m, height,
      width]`.
    size: Height and width of a patch.
    validation: As `maps`, of patches that the penalty is chosen on.
    choose: Function of the answers there, `[m, height, width, outputs]`, to a
      score; higher is better.

  Returns:
    A function of maps that returns answers, `[m, height, width, outputs]`.
  """
  moments = None
  for start in range(0, len(maps[0]), _PATCHES):
    rows = slice(start, start + _PATCHES)
    numbers, known = targets(rows)
    found = _moments([m[rows] for m in maps], size, numbers, known)
    found = [np.asarray(x, np.float64) for x in found]
    moments = (
      found
      if moments is None
      else [a + b for a, b in zip(moments, found, strict=True)]
    )
  weight, sums, squares, answers, products = moments
  mean, mean_answer = sums / weight, answers / weight
  covariance = squares / weight - np.outer(mean, mean)
  deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0))
  scale = np.divide(
    1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6
  )
  gram = weight * covariance * scale[:, None] * scale
  cross = (products - np.outer(sums, mean_answer)) * scale[:, None]
  values, axes = np.linalg.eigh(gram)
  projected = axes.T @ cross

  def solve(penalty):
    shrunk = projected / (np.maximum(values, 0) + penalty)[:, None]
    kernel = (axes @ shrunk) * scale[:, None]
    bias = mean_answer - mean @ kernel
    return functools.partial(
      predict, kernel=np.float32(kernel), bias=np.float32(bias), size=size
    )

  solutions = [solve(penalty) for penalty in probes.PENALTIES]
  scores = [choose(solution(validation)) for solution in solutions]
  return solutions[int(np.nanargmax(scores))]


def predict(maps, *, kernel, bias, size):
  """Answers of a linear layer for the pixels of patches.

  Args:
    maps: Maps by stage, `[n, rows, columns, channels]`.
    kernel: Shape `[channels of all stages, outputs]`.
    bias: Shape `[outputs]`.
    size: Height and width of a patch.

  Returns:
    Shape `[n, height, width, outputs]`, float32.
  """
  parts = [
    np.asarray(_apply([m[i : i + _PATCHES] for m in maps], size, kernel, bias))
    for i in range(0, len(maps[0]), _PATCHES)
  ]
  return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=1)
def _moments(maps, size, numbers, known):
  """Sums over known pixels: 1, features, their products, and the answers'."""
  x = _stack(maps, size)
  x = jnp.where(known[..., None], x, 0.0).reshape(-1, x.shape[-1])
  y = jnp.where(known[..., None], numbers, 0.0).reshape(-1, numbers.shape[-1])
  return known.sum(), x.sum(axis=0), x.T @ x, y.sum(axis=0), x.T @ y


@functools.partial(jax.jit, static_argnums=1)
def _apply(maps, size, kernel, bias):
  # Fewer channels are resampled after the layer than before it.
  widths = np.cumsum([m.shape[-1] for m in maps])[:-1]
  parts = [
    _resize(m.astype(jnp.float32) @ part, size)
    for m, part in zip(maps, jnp.split(kernel, widths), strict=True)
  ]
  return sum(parts) + bias[None, None, None]


def _stack(maps, size):
  resized = [_resize(m.astype(jnp.float32), size) for m in maps]
  return jnp.concatenate(resized, axis=-1)


def _resize(x, size):
  return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "bilinear")
