"""Predicts one tile: its patches, streamed, and all of them together."""

import collections
import concurrent.futures
import dataclasses

import numpy as np

from data_prep import tile_patches, tiles, unseen
from geojax import cell_regions, predict, sphere
from geojax.training.errors import ConfigError

# Cells of a tile's map: 7,800 km^2 each, 88 km wide.
NUM_CELLS = 2**16
_RGB = (("red", "green", "blue"), ("B04", "B03", "B02"))
# The picture's longer side has about so many pixels, or more.
_PICTURE_SIDE = 500


@dataclasses.dataclass(frozen=True)
class TilePrediction:
  """The predictions of a tile, and what is known of it.

  Attributes:
    patches: The `tile_patches.TilePatches`.
    rows: First rows of the patches that were clear, shape `[n]`.
    cols: Their first columns, shape `[n]`.
    of_patches: Their `predict.Prediction`, without logits.
    areas_km2: Areas of their credible regions of `predict.LEVELS`, shape `[n,
      3]`, or None of a run without a mixture.
    left_out: How many patches were left out, by reason.
    tile: The `predict.Prediction` of all together, one row.
    cell_probs: Probabilities of the tile's place by cell of the equal-area
      grid, shape `[NUM_CELLS]`, or None of a run without a mixture.
    picture: Red, green and blue of the patches, NaN elsewhere, `[h, w, 3]`.
  """

  patches: tile_patches.TilePatches
  rows: np.ndarray
  cols: np.ndarray
  of_patches: predict.Prediction
  areas_km2: np.ndarray | None
  left_out: collections.Counter
  tile: predict.Prediction
  cell_probs: np.ndarray | None
  picture: np.ndarray

  @property
  def place_true(self):
    """Unit vector of the tile's middle."""
    grid = self.patches.tile.grid
    lat, lon = grid.pixel_to_latlon((grid.height - 1) / 2, (grid.width - 1) / 2)
    return sphere.latlon_to_unit(lat, lon)

  @property
  def day_true(self):
    """Day of the year on which the tile was seen, or None."""
    date = self.patches.scene.date
    return None if date is None else date.timetuple().tm_yday

  @property
  def cell_levels(self):
    """Credible levels of the cells, or None of a run without a mixture."""
    if self.cell_probs is None:
      return None
    levels = cell_regions.cell_levels(self.cell_probs)
    return self.tile.calibrated_level("coords", levels)

  @property
  def climate_mapped(self):
    """Fraction of all patches in each zone of the climate map, `[31]`."""
    return self.patches.chosen.climate.mean(axis=0)

  def zone_grid(self, stride):
    """Predicted zones, a pixel a patch, and where they lie.

    Args:
      stride: Pixels from one patch to the next.

    Returns:
      Zones, int, -1 where no patch was clear, shape `[r, c]`, or None of a run
      without climate, and their `grids.Grid`. With patches that overlap, a
      pixel is a patch's middle.
    """
    of_tile, chosen = self.patches.tile.grid, self.patches.chosen
    margin = (self.patches.size - stride) / 2
    grid = dataclasses.replace(
      of_tile,
      height=int(chosen.rows.max()) // stride + 1,
      width=int(chosen.cols.max()) // stride + 1,
      west=of_tile.west + margin * of_tile.pixel_width,
      north=of_tile.north - margin * of_tile.pixel_height,
      pixel_width=stride * of_tile.pixel_width,
      pixel_height=stride * of_tile.pixel_height,
    )
    if "climate_probs" not in self.of_patches.columns:
      return None, grid
    zones = np.full((grid.height, grid.width), -1)
    zones[self.rows // stride, self.cols // stride] = np.argmax(
      self.of_patches.climate_probs, axis=-1
    )
    return zones, grid


def predict_tile(
  predictor, patches, *, how="mean", num_independent=1.0, progress=None
):
  """Predicts a tile, some rows of it at a time.

  The next rows are read while the model computes.

  Args:
    predictor: See `predict.load`.
    patches: `tile_patches.TilePatches`, by `unseen.whole_tile_config`.
    how: How patches are combined, see `Predictor.combine`.
    num_independent: For "product", see `Predictor.combine`.
    progress: Called with the number of patches done since the last call.

  Returns:
    A `TilePrediction`.

  Raises:
    tiles.TileError: If the tile cannot be read, or no patch of it is clear.
  """
  rows, parts, sums, areas = [], [], [], []
  painter, left_out = _Painter(patches), collections.Counter()
  for images, corners in read_batches(
    patches,
    predictor.batch_size,
    on_group=painter.add,
    left_out=left_out,
    progress=progress,
  ):
    prediction = predictor.predict(images)
    sums.append(predict.sum_up(prediction))
    if prediction.logits is not None:
      areas.append(prediction.credible_area_km2())
    # Logits of all patches may be many: their sums are enough.
    parts.append({k: v for k, v in prediction.columns.items() if k != "logits"})
    rows.append(corners)
  if not parts:
    reasons = ", ".join(f"{n} {reason}" for reason, n in (+left_out).items())
    raise tiles.TileError(
      patches.tile.path, f"no clear patch ({reasons or 'smaller than one'})"
    )
  tile = predictor.combine(
    sum(sums[1:], sums[0]), how=how, num_independent=num_independent
  )
  first_rows, first_cols = np.concatenate(rows).T
  return TilePrediction(
    patches=patches,
    rows=first_rows,
    cols=first_cols,
    of_patches=predict.Prediction(
      {name: np.concatenate([p[name] for p in parts]) for name in parts[0]},
      level_knots=predictor.level_knots,
    ),
    areas_km2=np.concatenate(areas) if areas else None,
    left_out=left_out,
    tile=tile,
    cell_probs=(
      None if tile.logits is None else tile.probability_map(NUM_CELLS)[0]
    ),
    picture=painter.picture,
  )


def tile_config(predictor, stride=None):
  """Restores how the run's patches are cut, for all patches of tiles.

  Args:
    predictor: A `geojax.predict.Predictor`.
    stride: Pixels from one patch to the next, None for a patch's size.

  Returns:
    A `configs.GeoTilesConfig`.

  Raises:
    ConfigError: The run's patches are not cut from a known kind of tiles.
  """
  data = predictor.data
  try:
    return unseen.whole_tile_config(data.name, data.settings, stride)
  except ValueError as error:
    raise ConfigError(str(error)) from error


def read_batches(
  patches, batch_size, *, on_group=None, left_out=None, progress=None
):
  """Yields a tile's clear patches in whole batches, but for the last.

  Rows of a tile hold no whole number of batches, and what fills one up takes as
  long as patches do. The next rows are read in the background.

  Args:
    patches: `tile_patches.TilePatches`.
    batch_size: Patches a batch.
    on_group: Called with the indices and pixels of all patches, clear or not.
    left_out: A Counter to which the patches left out are added, by reason.
    progress: Called with the number of patches done since the last call.

  Yields:
    Images, `[n, size, size, bands]`, and their first rows and columns, `[n,
    2]`.
  """
  every = np.arange(len(patches.chosen.rows))
  images, corners = [], []
  for index, pixels, features, missing in _read_ahead(
    patches, list(patches.read_together(every))
  ):
    if on_group is not None:
      on_group(index, pixels)
    if left_out is not None:
      left_out.update(missing)
    images.append(features["image"])
    corners.append(np.stack([features["row"], features["col"]], axis=1))
    done = len(index)
    # A row of a large tile is 200 MB: none may lie about while the model works.
    del pixels, features
    whole = sum(map(len, images)) // batch_size * batch_size
    if whole:
      ready = [np.concatenate(parts) for parts in (images, corners)]
      images, corners = ([part[whole:].copy()] for part in ready)
      yield tuple(part[:whole] for part in ready)
    if progress is not None:
      progress(done)
  if sum(map(len, images)):
    yield np.concatenate(images), np.concatenate(corners)


def _read_ahead(patches, groups):
  """Yields groups of patches, read and cut, the next one in the background."""

  def read(index):
    pixels = patches.read(index)
    return index, pixels, *patches.cut(index, pixels)

  waiting = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(1) as reader:
    for group in groups:
      waiting.append(reader.submit(read, group))
      if len(waiting) > 1:
        # Taken out, so that nothing here keeps what was read.
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()


class _Painter:
  """A small picture of a tile, put together of its patches."""

  def __init__(self, patches):
    grid, size = patches.tile.grid, patches.size
    self._patches = patches
    # Squares of pixels that are averaged, of which a patch has a whole number.
    self._square = max(
      side
      for side in range(1, size + 1)
      if size % side == 0
      and (side == 1 or max(grid.height, grid.width) // side >= _PICTURE_SIDE)
    )
    bands = patches.scene.bands
    rgb = next((rgb for rgb in _RGB if set(rgb) <= set(bands)), bands[:1] * 3)
    self._bands = [bands.index(band) for band in rgb]
    # Up to where the last patches end.
    chosen = patches.chosen
    shape = [
      int(first.max(initial=0) + size) // self._square
      for first in (chosen.rows, chosen.cols)
    ]
    self.picture = np.full((*shape, 3), np.nan, np.float32)

  def add(self, index, pixels):
    """Adds patches, pixels of shape `[m, size, size, bands]`."""
    side = self._square
    count = self._patches.size // side
    rgb = pixels[..., self._bands]
    small = rgb.reshape(-1, count, side, count, side, 3).mean((2, 4))
    chosen = self._patches.chosen
    for patch, row, col in zip(
      small, chosen.rows[index] // side, chosen.cols[index] // side, strict=True
    ):
      self.picture[row : row + count, col : col + count] = patch
