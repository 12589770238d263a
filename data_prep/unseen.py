"""Tiles of which no record was made, read as those of a data set were.

The settings that a data set was built with, which a trained run keeps, tell
bands, scale, cloud rule and climate map. All of a tile's patches count: none is
held out, thinned out or left out for its sea.
"""

import dataclasses

from data_prep import geo_tiles, tile_patches, tiles


def whole_tile_config(name, settings, stride=None):
  """The config of a data set, for all patches of tiles.

  Args:
    name: Name of the data set, such as "geo_tiles/earth".
    settings: As of `geo_tiles.GeoTilesConfig.settings`.
    stride: Pixels from one patch to the next; by default its size.

  Returns:
    A `geo_tiles.GeoTilesConfig`.

  Raises:
    ValueError: If there is no such data set, its patches come from no tiles, or
      its settings are of another version.
  """
  known = {
    f"{geo_tiles.GeoTiles.name}/{config.name}": config
    for config in geo_tiles.CONFIGS
  }
  if name not in known:
    raise ValueError(
      f"no tiles of the data set {name} are known, but those of"
      f" {', '.join(known)}"
    )
  config = known[name]
  if config.reader is not tile_patches.open_tile:
    raise ValueError(
      f"the patches of {name} come from no tiles; geojax.predict takes arrays"
    )
  try:
    config = _restore(config, settings)
  except (AttributeError, TypeError) as error:
    raise ValueError(
      f"the settings of {name} are of another version: {error}"
    ) from error
  if config.settings() != settings:
    raise ValueError(f"the settings of {name} are of another version")
  rule = config.patches
  return dataclasses.replace(
    config,
    dem="",
    patches=dataclasses.replace(
      rule,
      stride=stride or rule.size,
      split=dataclasses.replace(rule.split, validation=0.0, test=0.0),
      train_kept=1.0,
      max_sea=1.0,
      sea_kept=1.0,
    ),
  )


def make_tiles(path, config, directory):
  """Finds what tiles an input is or makes, such as a .SAFE product.

  Args:
    path: A file or folder.
    config: A `geo_tiles.GeoTilesConfig`.
    directory: Where tiles go that have to be made; made if missing.

  Returns:
    Paths of tiles, one or more.

  Raises:
    tiles.TileError: If none can be made.
  """
  if not path.exists():
    raise tiles.TileError(path, "no such file")
  directory.mkdir(parents=True, exist_ok=True)
  paths, errors = config.source.convert(path, directory)
  if errors:
    raise errors[0]
  return paths


def _restore(template, values):
  """A tree of dataclasses with the values that JSON kept of it."""
  if dataclasses.is_dataclass(template):
    changes = {
      name: _restore(getattr(template, name), value)
      for name, value in values.items()
    }
    return dataclasses.replace(template, **changes)
  if isinstance(template, tuple):
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)
  return values
