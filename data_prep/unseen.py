"""Tiles outside of a data set, cut in the same way as its own.

A trained run keeps the settings of its data set: bands, scale, cloud rule and
climate map. All patches of a tile count: none is held out, thinned out or left
out for its sea.
"""

import dataclasses

from data_prep import configs, geo_tiles, sources, tile_source, tiles


def whole_tile_config(name, settings, stride=None):
  """Restores the config of a data set, for all patches of tiles.

  Args:
    name: Name of the data set, such as "geo_tiles/earth".
    settings: Result of `configs.GeoTilesConfig.settings`.
    stride: Pixels from one patch to the next; by default its size.

  Raises:
    ValueError: There is no such data set, its patches are not cut from tiles,
      or its settings are of another version.
  """
  builder, _, config_name = name.partition("/")
  try:
    if builder != geo_tiles.GeoTiles.name:
      raise sources.UnknownConfigError(
        f"expected {geo_tiles.GeoTiles.name}/<config>"
      )
    config = sources.find(settings.get("base") or config_name)
  except sources.UnknownConfigError as error:
    raise ValueError(
      f"no source of the data set {name} is known: {error}"
    ) from error
  if not isinstance(config.source, tile_source.TileSource):
    raise ValueError(
      f"the patches of {name} are not cut from tiles; geojax.predict takes"
      " arrays"
    )
  try:
    config = configs.restore(config, settings)
  except ValueError as error:
    raise ValueError(f"the settings of {name} are {error}") from error
  rule = config.patches
  return dataclasses.replace(
    config,
    dem="",
    maps=(),
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
  """Paths of the tiles that an input, such as a .SAFE product, is or makes.

  Args:
    path: A file or folder.
    config: A `configs.GeoTilesConfig`.
    directory: Folder for tiles that have to be made; made if missing.

  Raises:
    tiles.TileError: The input is missing or makes no tile.
  """
  if not path.exists():
    raise tiles.TileError(path, "no such file")
  directory.mkdir(parents=True, exist_ok=True)
  paths, errors = config.source.convert(path, directory)
  if errors:
    raise errors[0]
  return paths
