"""Protocols on an encoder's fixed features: what answers the test patches.

A protocol is a function of `Features`, the indices of the labelled train
records and the number of shots, 0 for all. It returns the numbers predicted for
all test records, `[count, outputs]`, see `tasks.LinearForm`.
"""

import numpy as np

from geojax.evaluation import probes, reductions


class Features:
  """An encoder's features of the records that count for a problem."""

  def __init__(self, cache, encoder, problem):
    """Args: cache: A `features.Cache`; problem: A `problems.Problem`."""
    self.encoder, self._problem = encoder, problem
    self._all = {
      name: cache.features(encoder, name, split.positions)
      for name, split in problem.splits.items()
    }
    self.kind = problem.task.linear.kind

  def labelled(self, rows):
    """Features and numbers of train rows."""
    return self._all["train"][rows], self._problem.encoded("train")[rows]

  def validation(self):
    """Features and numbers of the validation records that count."""
    known = self._problem.known("validation")
    encoded = self._problem.encoded("validation")[known]
    return self._all["validation"][known], encoded

  def test(self):
    """Features of all test records."""
    return self._all["test"]

  def choose(self):
    """Function from validation outputs to a score; higher is better."""
    truths = self.validation()[1]
    if self.kind == "class":
      classes = truths.argmax(axis=-1)
      return lambda outputs: np.mean(outputs.argmax(axis=-1) == classes)
    if self.kind == "classes":
      precision = reductions.AveragePrecision(micro=False)
      return lambda outputs: precision(np.concatenate([outputs, truths], -1))
    return lambda outputs: -np.mean(np.square(outputs - truths))


def make_knn(k):
  """Makes the protocol of the k nearest train records."""

  def fit(arrays, rows, *, shots):
    # Of more neighbours than a class has rows, most are of other classes.
    nearest = min(k, shots) if shots else k
    return probes.knn(*arrays.labelled(rows), arrays.test(), k=nearest)

  return fit


def ridge(arrays, rows, *, shots):
  """Ridge regression."""
  del shots
  # By leave-one-out error: few labels come without a validation split.
  return probes.ridge(*arrays.labelled(rows))(arrays.test())


def logistic(arrays, rows, *, shots):
  """Logistic regression."""
  # With few labels, those of validation choose C, but are not learned from.
  solution = probes.logistic(
    *arrays.labelled(rows),
    *arrays.validation(),
    choose=arrays.choose(),
    multi_label=arrays.kind == "classes",
    refit=not shots,
  )
  return solution(arrays.test())
