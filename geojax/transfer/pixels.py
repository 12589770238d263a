"""A linear answer for every pixel, from an encoder's cached maps.

Maps of all stages are resampled to the patch's pixels and stacked: ridge
regression of them is a 1 x 1 convolution of each map. Its normal equations are
summed up some patches at a time, so that no array of all pixels is needed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from geojax import tasks
from geojax.evaluation import probes

# Patches whose pixels are in memory at a time.
_PATCHES = 64
# Validation patches on which the penalty is chosen.
_NUM_CHOOSING = 512


def make_linear(problem, cache, encoder, size):
  """Makes the protocol of a linear answer a pixel.

  Args:
    problem: A `problems.Problem` of pixels.
    cache: A `features.Cache`.
    encoder: A `features.Encoder`.
    size: Height and width of a patch.

  Returns:
    A function of the indices of the labelled train records that returns a
    table of the test split.
  """
  task, splits = problem.task, problem.splits
  maps = {
    name: cache.maps(encoder, name, split.positions)
    for name, split in splits.items()
  }
  labels = {name: split.labels for name, split in splits.items()}
  best = next(m for m in task.metrics if m.name == task.best_metric)
  every = -(-len(splits["validation"].ids) // _NUM_CHOOSING)

  def tabulate(solution, split, index):
    """A table of records, some of them at a time."""
    parts = []
    for start in range(0, len(index), _PATCHES):
      rows = index[start : start + _PATCHES]
      numbers = solution([m[rows] for m in maps[split]])
      parts.append(
        tasks.tabulate(
          task,
          {name: value[rows] for name, value in labels[split].items()},
          task.linear.outputs(numbers),
        )
      )
    return {
      name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }

  def choose(solution):
    index = np.arange(0, len(splits["validation"].ids), every)
    values, _ = best.read(tabulate(solution, "validation", index))
    value = best.reduction(values)
    return value if best.higher_is_better else -value

  def answer(rows):
    def read(part):
      mine = {
        name: value[rows[part]] for name, value in labels["train"].items()
      }
      targets = np.asarray(task.target(mine))
      numbers = task.linear.encode(targets)
      known = np.isfinite(numbers).all(axis=-1)
      if task.linear.kind == "class":
        # A pixel without a class.
        known &= numbers.any(axis=-1)
      return [m[rows[part]] for m in maps["train"]], numbers, known

    solution = fit(read, len(rows), size, choose)
    return tabulate(solution, "test", np.arange(len(splits["test"].ids)))

  return answer


def fit(read, count, size, choose):
  """Fits ridge regression of pixels.

  Args:
    read: Function of a slice of the labelled patches that returns their maps by
      stage, `[m, rows, columns, channels]`; what is regressed, `[m, height,
      width, outputs]`; and which pixels are known, `[m, height, width]`.
    count: Number of labelled patches.
    size: Height and width of a patch.
    choose: Function of a solution to its score; higher is better. Of penalties
      that tie, the largest is chosen.

  Returns:
    The solution: a function of maps that returns numbers, `[m, height, width,
    outputs]`.
  """
  moments, shift = 0.0, None
  for start in range(0, count, _PATCHES):
    maps, numbers, known = read(slice(start, start + _PATCHES))
    if shift is None:
      # Near the mean, so that little cancels out in single precision.
      shift = [np.mean(m, axis=(0, 1, 2), dtype=np.float32) for m in maps]
      shift = np.concatenate(shift)
    found = _moments(maps, size, shift, numbers, known)
    moments = moments + np.array(
      [np.asarray(x, np.float64) for x in found], dtype=object
    )
  weight, sums, squares, answers, products = moments
  mean, mean_answer = sums / weight, answers / weight
  covariance = squares / weight - np.outer(mean, mean)
  deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0))
  # A channel that is the same everywhere is of no use.
  varies = deviation > 1e-6 * np.abs(shift)
  nothing = np.zeros_like(deviation)
  scale = np.divide(1, deviation, out=nothing, where=varies)
  gram = weight * covariance * scale[:, None] * scale
  cross = (products - np.outer(sums, mean_answer)) * scale[:, None]
  values, axes = np.linalg.eigh(gram)
  projected = axes.T @ cross

  def solve(penalty):
    shrunk = projected / (np.maximum(values, 0) + penalty)[:, None]
    kernel = (axes @ shrunk) * scale[:, None]
    bias = mean_answer - (mean + shift) @ kernel
    return functools.partial(
      _predict, kernel=np.float32(kernel), bias=np.float32(bias), size=size
    )

  solutions = [solve(penalty) for penalty in probes.PENALTIES[::-1]]
  return solutions[int(np.nanargmax([choose(found) for found in solutions]))]


def _predict(maps, *, kernel, bias, size):
  parts = [
    np.asarray(_apply([m[i : i + _PATCHES] for m in maps], size, kernel, bias))
    for i in range(0, len(maps[0]), _PATCHES)
  ]
  return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=1)
def _moments(maps, size, shift, numbers, known):
  """Sums over known pixels: 1, features, their products, and the answers'."""
  x = _stack(maps, size) - shift[None, None, None]
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
