"""Probes of cached features: nearest neighbours, ridge, logistic regression.

Features are `[n, features]`. Targets are `[n, outputs]`: one-hot for classes, 0
and 1 for several labels a row, values for regression. A class that no training
row has is a column of zeros.
"""

import dataclasses
import warnings

import numpy as np
from scipy import optimize, special

# From hardly any shrinkage to nearly full, for 10 to 100,000 rows.
PENALTIES = tuple(np.logspace(-2, 6, 17).tolist())
C_VALUES = tuple(np.logspace(-5, 1, 7).tolist())

# Similarities of a block of rows take 64 MB, the indices that rank them 128 MB.
_BLOCK_SIZE = 2**24
_BLOCK_ROWS = 1024
# Typical p (1 - p) of a class: the preconditioner's guess of the curvature.
_CURVATURE = 0.1
# Keeps probabilities within 0.01 of the exact fit's up to C = 10; rounding in
# float32 hides gains below ftol.
_L_BFGS = {"gtol": 3e-5, "ftol": 1e-9, "maxiter": 1000}


@dataclasses.dataclass(frozen=True)
class Linear:
  """Linear map of raw features; the standardisation is folded in.

  Attributes:
    kernel: Weights, float64, `[features, outputs]`.
    bias: Biases, float64, `[outputs]`.
    regularization: The penalty of `ridge` or the C of `logistic`.
  """

  kernel: np.ndarray
  bias: np.ndarray
  regularization: float

  def __call__(self, x):
    """Returns the outputs of features `[n, features]`, `[n, outputs]`."""
    x = _check_columns("x", x, "kernel.T", self.kernel.T)
    return x @ self.kernel + self.bias


def knn(train_x, targets, x, *, k):
  """Mean target of the k training rows of largest cosine similarity.

  Features are compared raw, neither centred nor scaled by column. The means of
  one-hot targets are shares of votes; argmax then breaks ties towards the
  lowest class.

  Args:
    train_x: Features, `[n, features]`.
    targets: Targets, `[n, outputs]`.
    x: Features to predict for, `[m, features]`.
    k: Number of neighbours, >= 1; of fewer training rows, all count.

  Returns:
    Means, float32, `[m, outputs]`.

  Raises:
    ValueError: If shapes do not match, features are not finite, or k < 1.
  """
  train_x, targets = _check_rows("train_x", train_x, "targets", targets)
  x = _check_columns("x", x, "train_x", train_x)
  if k < 1:
    raise ValueError(f"k must be at least 1, found {k}")
  k = min(k, len(train_x))
  train_x = np.asarray(train_x, np.float32)
  length = np.linalg.norm(train_x, axis=1, keepdims=True)
  nothing = np.zeros_like(train_x)
  directions = np.divide(train_x, length, out=nothing, where=length > 0).T
  # In blocks, so that memory does not grow with n m.
  block_rows = max(1, min(_BLOCK_ROWS, _BLOCK_SIZE // len(train_x)))
  means = np.empty((len(x), targets.shape[1]), np.float32)
  for start in range(0, len(x), block_rows):
    block = slice(start, start + block_rows)
    # Cosines times the length of the row, which does not change their order.
    similarity = np.asarray(x[block], np.float32) @ directions
    nearest = np.argpartition(similarity, -k, axis=1)[:, -k:]
    means[block] = targets[nearest].mean(axis=1)
  return means


def ridge(
  train_x, targets, validation=None, *, choose=None, penalties=PENALTIES
):
  """Ridge regression; one eigendecomposition serves all penalties.

  Minimises |targets - x kernel - bias|^2 + penalty |kernel|^2, where x is
  standardised by its training rows. The penalty chosen is that of the highest
  validation score or, without validation, of the smallest squared leave-one-out
  error; of penalties that tie, the largest.

  Args:
    train_x: Features, `[n, features]`.
    targets: Targets, `[n, outputs]`.
    validation: Features of the validation rows, `[m, features]`, or None.
    choose: Function of the validation outputs `[m, outputs]` that returns their
      score, higher is better; given if and only if `validation` is.
    penalties: Penalties to choose from, each > 0.

  Returns:
    The `Linear` fitted to the training rows.

  Raises:
    ValueError: If shapes or arguments do not match, or values are not valid.
  """
  train_x, targets = _check_rows("train_x", train_x, "targets", targets)
  penalties = _check_choice(penalties, choose, validation, train_x)[::-1]
  x, mean, scale = _standardise(train_x)
  squares, axes = _principal_axes(x)
  intercept = targets.mean(axis=0)
  centred = targets - intercept
  projected = axes.T @ (x.T @ centred)
  along = (x if choose is None else (validation - mean) * scale) @ axes

  def score(penalty):
    outputs = along @ (projected / (squares + penalty)[:, None])
    if choose is not None:
      return choose(outputs + intercept)
    # Fitted without it, a row has its residual / (1 - leverage) for an error.
    # The intercept's leverage is 1 / n; a single row has residual and rest 0.
    leverage = 1 / len(x) + np.square(along) @ (1 / (squares + penalty))
    rest = np.maximum(1 - leverage, np.finfo(np.float64).eps)
    return -np.mean(np.square((centred - outputs) / rest[:, None]))

  best = penalties[np.nanargmax([score(penalty) for penalty in penalties])]
  kernel = axes @ (projected / (squares + best)[:, None])
  return _fold(kernel, intercept, mean, scale, best)


def logistic(
  train_x,
  targets,
  validation=None,
  validation_targets=None,
  *,
  choose=None,
  c_values=C_VALUES,
  multi_label=False,
  refit=True,
):
  """Logistic regression: a softmax over classes, or a sigmoid for each label.

  Minimises C sum(losses) + |kernel|^2 / 2, where x is standardised. The C
  chosen is that of the highest validation score; of those that tie, the
  smallest. Training and validation rows together are then standardised and
  fitted anew. Scikit-learn minimises the same, but fits two classes with one
  output: its C is twice this one.

  Args:
    train_x: Features, `[n, features]`.
    targets: Probabilities of the classes, as one-hot rows, or of the labels,
      `[n, outputs]`.
    validation: Features of the validation rows, `[m, features]`; None if
      there is one C.
    validation_targets: Their targets, `[m, outputs]`.
    choose: Function of the validation logits `[m, outputs]` that returns their
      score, higher is better; given if and only if `validation` is.
    c_values: Values of C to choose from, each > 0.
    multi_label: Whether outputs are independent labels, not classes.
    refit: Whether validation rows are learned from too, once C is chosen.

  Returns:
    The `Linear` of the logits; those of an absent class are low, but finite.

  Raises:
    ValueError: If shapes or arguments do not match, or values are not valid.
  """
  train_x, targets = _check_rows("train_x", train_x, "targets", targets)
  _check_probabilities("targets", targets, multi_label)
  c_values = _check_choice(c_values, choose, validation, train_x)
  if choose is None:
    if len(c_values) > 1:
      raise ValueError(f"pass validation to choose a C of {c_values}")
    return next(_logistic_path(train_x, targets, c_values, multi_label))
  name = "validation_targets"
  validation, more = _check_rows(
    "validation", validation, name, validation_targets
  )
  _check_columns(name, more, "targets", targets)
  _check_probabilities(name, more, multi_label)
  path = list(_logistic_path(train_x, targets, c_values, multi_label))
  best = np.nanargmax([choose(fit(validation)) for fit in path])
  if not refit:
    return path[best]
  x = np.concatenate([train_x, validation])
  targets = np.concatenate([targets, more])
  return next(_logistic_path(x, targets, [c_values[best]], multi_label))


def _logistic_path(x, targets, c_values, multi_label):
  """Yields the fit of each C, started from the fit of the C before."""
  num_rows, num_outputs = targets.shape
  x, mean, scale = _standardise(x)
  squares, axes = _principal_axes(x)
  # The last column is the intercept's. Single precision halves the time.
  along = np.concatenate([x @ axes, np.ones((num_rows, 1))], axis=1)
  along = along.astype(np.float32)
  # A row per output: sums over the outputs are then fast.
  targets = np.ascontiguousarray(targets.T)
  weights = np.zeros((num_outputs, along.shape[1]))
  # Log-odds of the shares, smoothed so that an absent class's are finite.
  share = (targets.sum(axis=1) + 0.5) / (num_rows + 1)
  weights[:, -1] = special.logit(share) if multi_label else np.log(share)
  for c in c_values:
    penalty = np.append(np.full(len(squares), 1 / c), 0)
    # Makes the curvature about 1 along every axis. Without it, L-BFGS takes
    # several times the iterations, or stops early, where C is large.
    curvature = _CURVATURE * np.append(squares, num_rows) + penalty
    step = np.sqrt(num_rows / curvature)
    fit = optimize.minimize(
      _objective,
      (weights / step).ravel(),
      (along, targets, penalty, step, multi_label),
      jac=True,
      method="L-BFGS-B",
      options=_L_BFGS,
    )
    if fit.status == 1:
      warnings.warn(f"no convergence at C = {c}: {fit.message}", stacklevel=3)
    weights = fit.x.reshape(weights.shape) * step
    yield _fold(axes @ weights[:, :-1].T, weights[:, -1], mean, scale, c)


def _objective(flat, x, targets, penalty, step, multi_label):
  """Returns the mean loss and its gradient by weights / step, flattened."""
  weights = flat.reshape(-1, len(step)) * step
  logits = (weights.astype(x.dtype) @ x.T).astype(np.float64)
  if multi_label:
    log_total = np.logaddexp(0, logits)
    p = special.expit(logits)
  else:
    logits -= logits.max(axis=0)
    p = np.exp(logits)
    total = p.sum(axis=0)
    p /= total
    log_total = np.log(total)
  loss = log_total.sum() - np.vdot(targets, logits)
  loss += np.sum(penalty * np.square(weights)) / 2
  slope = (p - targets).astype(x.dtype) @ x + penalty * weights
  return loss / len(x), (slope * step).ravel() / len(x)


def _standardise(x):
  """Returns standardised features, float64, their means and 1 / deviations.

  The factor of a column that is constant up to float32 rounding is 0.
  """
  x = np.array(x, np.float64)
  mean = x.mean(axis=0)
  x -= mean
  deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
  varies = deviation > np.finfo(np.float32).eps * np.abs(mean)
  nothing = np.zeros_like(deviation)
  scale = np.divide(1, deviation, out=nothing, where=varies)
  x *= scale
  return x, mean, scale


def _principal_axes(x):
  """Returns the sums of squares along the principal axes, and the axes.

  Axes are orthonormal columns, `[features, rank]`: those along which centred
  rows vary.
  """
  wide = x.shape[0] < x.shape[1]
  squares, axes = np.linalg.eigh(x @ x.T if wide else x.T @ x)
  rounding = max(x.shape) * np.finfo(np.float64).eps
  kept = squares > rounding * squares.max(initial=0)
  squares, axes = squares[kept], axes[:, kept]
  return squares, x.T @ (axes / np.sqrt(squares)) if wide else axes


def _fold(kernel, intercept, mean, scale, regularization):
  """Returns the `Linear` of raw features from one of standardised features."""
  kernel = kernel * scale[:, None]
  return Linear(kernel, intercept - mean @ kernel, regularization)


def _check_rows(name, x, targets_name, targets):
  """Returns features and float64 targets, once they match."""
  x, targets = np.asarray(x), np.asarray(targets, np.float64)
  if not x.ndim == targets.ndim == 2 or not len(x) == len(targets) > 0:
    raise ValueError(
      f"{name} must have shape [n, features] and {targets_name} [n, outputs], "
      f"n > 0, found {x.shape} and {targets.shape}"
    )
  return _finite(name, x), _finite(targets_name, targets)


def _check_columns(name, x, other_name, other):
  """Returns a finite matrix with as many columns as another."""
  x = np.asarray(x)
  if x.ndim != 2 or x.shape[1] != other.shape[1]:
    raise ValueError(
      f"{name} must have as many columns as {other_name}, of shape "
      f"{other.shape}, found {x.shape}"
    )
  return _finite(name, x)


def _finite(name, x):
  if not np.isfinite(x).all():
    raise ValueError(f"{name} must be finite")
  return x


def _check_choice(values, choose, validation, train_x):
  """Returns penalties or values of C in ascending order."""
  if (validation is None) != (choose is None):
    raise ValueError("pass both validation and choose, or neither")
  if validation is not None:
    _check_columns("validation", validation, "train_x", train_x)
  values = sorted(values)
  if not values or not values[0] > 0:
    raise ValueError(f"penalties and values of C must be > 0, found {values}")
  return values


def _check_probabilities(name, targets, multi_label):
  if targets.min() < 0 or targets.max() > 1:
    raise ValueError(f"{name} must be in [0, 1]")
  if not multi_label and not np.allclose(targets.sum(axis=1), 1):
    raise ValueError(f"rows of {name} must sum to 1 unless multi_label")
