"""A data set's splits as problems to solve: labels, places, few-shot draws."""

import dataclasses
import functools

import numpy as np

from geojax import encodings, tasks
from geojax.evaluation import intervals, metrics
from geojax.training.errors import ConfigError
from geojax.transfer import draws

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
  """Records of a split and their labels.

  Attributes:
    name: Name of the split.
    positions: Positions of the records in it.
    ids: Their `id`s, `[count]`.
    labels: Arrays by name, `[count, ...]`.
  """

  name: str
  positions: range
  ids: np.ndarray
  labels: dict[str, np.ndarray]


def read_splits(dataset, task_list, max_train: int, extra=()) -> dict:
  """Reads the labels of all splits.

  Args:
    dataset: A `dataset.Dataset`.
    task_list: Tasks whose labels are read.
    max_train: The largest number of train records, spread evenly.
    extra: Names of more labels.

  Returns:
    `Split`s by name.
  """
  names = {*tasks.label_names(task_list, dataset.label_names), *extra}
  found = {}
  for split in SPLITS:
    at_most = max_train if split == "train" else None
    positions = dataset.positions(split, at_most)
    found[split] = Split(
      split,
      positions,
      dataset.read_ids(split)[list(positions)],
      dataset.read_labels(split, at_most, sorted(names)),
    )
  return found


class Problem:
  """A task on a data set.

  Attributes:
    task: The `tasks.Task`.
    splits: `Split`s by name.
  """

  def __init__(self, task, splits, *, num_resamples, groups):
    """Prepares a problem.

    Args:
      task: The task.
      splits: See `read_splits`.
      num_resamples: Resamples of `intervals.draw`.
      groups: Groups of the train records to draw from, `[count]`; below 0 where
        unknown.
    """
    self.task, self.splits = task, splits
    self._num_resamples = num_resamples
    self._groups = np.where(self.known("train"), groups, -1)

  @functools.cache  # noqa: B019 - there are a handful of them.
  def known(self, split):
    """Which records of a split count, booleans `[count]`."""
    return np.asarray(self.task.counts(self.splits[split].labels))

  @functools.cache  # noqa: B019
  def encoded(self, split):
    """What is regressed, see `tasks.LinearForm.encode`, `[count, ...]`."""
    targets = np.asarray(self.task.target(self.splits[split].labels))
    return self.task.linear.encode(targets)

  def draw(self, shots, seed):
    """Indices of the train records of a draw, rising.

    Args:
      shots: Labelled records a group; 0 for all.
      seed: Seed of the draw.
    """
    return draws.draw(self._groups, (shots,), seed=seed)[shots]

  def ids(self, rows):
    """The `id`s of train records."""
    return self.splits["train"].ids[rows]

  @functools.cached_property
  def _resamples(self):
    labels = self.splits["test"].labels
    number = len(self.splits["test"].ids)
    places = np.full((number, 3), np.nan)
    if "coords" in labels:
      known = encodings.known_rows(labels)["coords"]
      places[known] = encodings.coordinates_to_unit(
        np.float64(labels["coords"][known])
      )
    return intervals.draw(places, num_resamples=self._num_resamples)

  def score(self, numbers) -> dict[str, tuple[float, float, float]]:
    """As `score_table`, of the numbers predicted for test, see `encoded`."""
    outputs = self.task.linear.outputs(numbers)
    labels = self.splits["test"].labels
    return self.score_table(tasks.tabulate(self.task, labels, outputs))

  def score_table(self, table) -> dict[str, tuple[float, float, float]]:
    """Metrics of a table of the test split, with their intervals.

    Args:
      table: See `tasks.tabulate`.

    Returns:
      Value and both ends of the 95 % interval by name of the metric, without
      the name of the task.
    """
    values = metrics.summarize(table, self.task.metrics)
    ranges = metrics.with_intervals(table, self.task.metrics, self._resamples)
    nothing = [float("nan")] * 2
    return {
      name.removeprefix(f"{self.task.name}_"): (
        value,
        *ranges.get(name, nothing),
      )
      for name, value in values.items()
    }


def check_shots_by(shots_by: str, targets) -> None:
  """Raises the ConfigError of a `config.shots_by` that the data do not have."""
  known = [name for name, target in targets.items() if target.classes]
  if shots_by not in ("class", "region", *known):
    raise ConfigError(
      f"config.shots_by is {shots_by!r}, which is neither 'class' nor 'region'"
      f" nor a target of classes; those are {', '.join(known) or 'none'}"
    )


def groups(dataset, split, task, shots_by, region_deg) -> np.ndarray:
  """Groups of train records that labels are drawn from, `[count]`.

  Args:
    dataset: A `dataset.Dataset`.
    split: The train `Split`.
    task: The task.
    shots_by: "class", "region", or the name of a target of classes.
    region_deg: Size of a region.

  Returns:
    Integers, below 0 where unknown.

  Raises:
    ConfigError: Regions are asked for, but no place is known.
  """
  labels, targets = split.labels, dataset.targets
  if shots_by == "region":
    if "coords" not in labels:
      raise ConfigError(
        "config.shots_by is 'region', but the records have no coords"
      )
    lat_deg, lon_deg = encodings.decode_coordinates(labels["coords"])
    return draws.regions(lat_deg, lon_deg, size_deg=region_deg)
  name = task.labels[0] if shots_by == "class" else shots_by
  if name not in targets or not targets[name].classes:
    # Numbers have no classes: labels are drawn out of all.
    return np.zeros(len(split.ids), int)
  return np.asarray(tasks.one_class(targets[name])(labels), int)
