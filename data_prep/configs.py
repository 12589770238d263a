"""What a data set is built from: the config that each source ends in."""

import dataclasses
import json

import tensorflow_datasets as tfds

from data_prep import places, tile_source

_FILES = ("climate_map", "legend", "water_mask", "dem")


@dataclasses.dataclass(kw_only=True, eq=False)
class GeoTilesConfig(tfds.core.BuilderConfig):
  """A source and which of its patches become records.

  Attributes:
    name: Name of the data set, `geo_tiles/<name>`; that of the source's file.
    description: One line about it.
    source: Finds tiles and describes what they show.
    bands: The bands of a record's image, by name, in order.
    scale: (offset, divisor) of each band: `(raw - offset) / divisor` lies
      about in [-2, 2]. Kept with the records, which hold raw values.
    dtype: dtype of the tiles and of a record's image.
    patches: Which patches become records.
    climate_map: GeoTIFF of climate zones, see `climate_maps.load`.
    legend: JSON file of zones by the map's codes.
    water_mask: GeoTIFF that is not 0 on water.
    dem: GeoTIFF of elevations in metres; adds `terrain` to the records.
  """

  source: tile_source.Source
  bands: tuple[str, ...]
  scale: tuple[tuple[float, float], ...]
  dtype: str
  patches: places.PatchRule
  climate_map: str = ""
  legend: str = ""
  water_mask: str = ""
  dem: str = ""

  @property
  def files(self):
    """The files that were given, by the attribute's name."""
    return {name: getattr(self, name) for name in _FILES if getattr(self, name)}

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
          **self.files,
        }
      )
    )
