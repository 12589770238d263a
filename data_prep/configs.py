"""What a data set is built from: the config that each source ends in."""

import dataclasses
import json

import tensorflow_datasets as tfds

from data_prep import places, tile_source
from data_prep.array_targets import ArrayTarget
from data_prep.map_targets import MapTarget
from data_prep.pixel_targets import PixelTarget
from data_prep.splits import LongitudeRule, SplitRule
from data_prep.targets import Target
from geojax import encodings

_FILES = ("climate_map", "legend", "water_mask", "dem", "splits")
_LABELS = tuple(encodings.LABELS)
# Settings that earlier versions did not have, where they are not empty.
_ABSENT = {"labels": list(_LABELS)}


@dataclasses.dataclass(kw_only=True, eq=False)
class GeoTilesConfig(tfds.core.BuilderConfig):
  """A source and which of its patches become records.

  Attributes:
    name: Name of the data set, `geo_tiles/<name>`; that of the source's file.
    description: One line about it.
    source: Finds tiles and describes what they show.
    bands: The bands of a record's image, by name, in order.
    scale: (offset, divisor) of each band, or one pair for all: `(raw - offset)
      / divisor` lies about in [-2, 2]. Kept with the records, which hold raw
      values. Empty: mean and deviation of the train split.
    dtype: dtype of the tiles and of a record's image.
    patches: Which patches become records.
    labels: Those of `encodings.LABELS` that any record has.
    targets: The `Target`s of a record.
    maps: The `PixelTarget`s of a record, from maps or arrays.
    has_split_column: Whether a table has the splits, instead of the rule.
    base: Name of the config that this one, which has another name, is made of.
    climate_map: GeoTIFF of climate zones, see `climate_maps.load`.
    legend: JSON file of zones by the map's codes.
    water_mask: GeoTIFF that is not 0 on water.
    dem: GeoTIFF of elevations in metres; adds `terrain` to the records.
    splits: CSV of splits by the records' ids, see `splits.read_listed`; all
      others are left out.
  """

  source: tile_source.Source
  bands: tuple[str, ...]
  scale: tuple[tuple[float, float], ...]
  dtype: str
  patches: places.PatchRule
  labels: tuple[str, ...] = _LABELS
  targets: tuple[Target, ...] = ()
  maps: tuple[PixelTarget, ...] = ()
  has_split_column: bool = False
  base: str = ""
  climate_map: str = ""
  legend: str = ""
  water_mask: str = ""
  dem: str = ""
  splits: str = ""

  @property
  def has_rule(self):
    """Whether splits follow a rule that keeps them apart."""
    return not (
      self.splits
      or self.has_split_column
      or isinstance(self.patches.split, LongitudeRule)
    )

  @property
  def climate_files(self):
    """Arguments of `climate_maps.load`."""
    return self.climate_map, self.legend, self.water_mask

  @property
  def files(self):
    """The files that were given, by name."""
    found = {name: getattr(self, name) for name in _FILES}
    for target in self.maps:
      found |= {
        f"{target.name} {i}": file for i, file in enumerate(target.files)
      }
    return {name: file for name, file in found.items() if file}

  def settings(self):
    """Everything that determines the records, in JSON types."""
    return json.loads(
      json.dumps(
        {
          "source": dataclasses.asdict(self.source),
          "bands": self.bands,
          "scale": self.scale,
          "dtype": self.dtype,
          "patches": dataclasses.asdict(self.patches),
          "base": self.base,
          "has_split_column": self.has_split_column,
          "labels": self.labels,
          "targets": list(map(dataclasses.asdict, self.targets)),
          "maps": list(map(dataclasses.asdict, self.maps)),
          **{name: getattr(self, name) for name in _FILES},
        }
      )
    )


def differences(old, new, key=""):
  """Yields a text for each setting that differs.

  One that is absent, as in data sets of earlier versions, is what it is where
  it is not given.
  """
  if isinstance(old, dict) and isinstance(new, dict):
    for name in sorted(old | new):
      yield from differences(
        old.get(name, _ABSENT.get(name)),
        new.get(name, _ABSENT.get(name)),
        f"{key}.{name}".strip("."),
      )
  elif old != new and (old or new):
    yield f"{key} was {old}, is now {new}"


def restore(config, settings):
  """Restores a config from the settings that a data set keeps.

  Args:
    config: The config that the data set was built from, before any changes.
    settings: Result of `GeoTilesConfig.settings`.

  Raises:
    ValueError: The settings are of another version.
  """
  try:
    restored = _restore(
      config,
      {k: v for k, v in settings.items() if k not in ("targets", "maps")},
    )
    restored.maps = tuple(map(_pixel_target, settings.get("maps", ())))
    restored.targets = tuple(
      Target(**{**target, "classes": tuple(target["classes"])})
      for target in settings.get("targets", ())
    )
  except (AttributeError, TypeError, KeyError) as error:
    raise ValueError(f"of another version: {error}") from error
  if differing := list(differences(settings, restored.settings())):
    raise ValueError(f"of another version: {'; '.join(differing)}")
  return restored


def _pixel_target(values):
  """Restores a target of `GeoTilesConfig.maps`; a map has a path."""
  if "path" in values:
    return MapTarget(**values)
  return ArrayTarget(**{**values, "without": tuple(values["without"])})


def _restore(template, values):
  """A tree of dataclasses with the values that JSON kept of it."""
  if isinstance(template, SplitRule) and "boundaries" in values:
    template = LongitudeRule(**dataclasses.asdict(template))
  if dataclasses.is_dataclass(template):
    changes = {
      name: _restore(getattr(template, name), value)
      for name, value in values.items()
    }
    return dataclasses.replace(template, **changes)
  if isinstance(template, tuple):
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)
  return values
