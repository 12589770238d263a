"""The pictures of a run on a split: which arrays each of them shows."""

import functools
import pathlib

import jax
import numpy as np

from data_prep import climate_maps
from experiments import picture_files
from geojax import cell_regions, encodings, mixture, sphere
from geojax.evaluation import conformal, distance
from geojax.tasks import coords_serving
from geojax.training import evaluate, sharding
from geojax.training import run as run_lib
from geojax.views import charts, maps, patches, plots

_NUM_EXAMPLES = 12
_NUM_CELLS = 65_536
_TILE_KM = 55
# Bands of red, green and blue, by the names that data sets give them.
_COLOURS = (("red", "green", "blue"), ("B04", "B03", "B02"))


def draw(
  run: run_lib.Run,
  table: dict,
  train_km: np.ndarray,
  figures: dict,
  baselines: dict,
  reader: "PatchReader",
  folder: pathlib.Path,
) -> None:
  """Draws every picture that the tasks of a run allow.

  Args:
    run: A trained run.
    table: A table of the split.
    train_km: Distance of each record to the nearest train place.
    figures: See `figures.compute`.
    baselines: Metrics of the baselines by name.
    reader: Of the split.
    folder: Where the pictures go.
  """
  zones = climate_maps.load().zones
  # Where every task counts that a picture shows.
  shown = [f"{name}_counts" for name in encodings.LABELS]
  counts = functools.reduce(
    np.logical_and,
    [table[name] for name in shown if name in table],
    table["is_land"],
  )
  land = {name: value[counts] for name, value in table.items()}
  land["record"] = np.flatnonzero(counts)
  if not counts.any():
    return
  drawn = {}
  if "confusion" in figures:
    drawn["confusion"] = charts.confusion_matrices(**figures["confusion"])
  curves = {
    "curves": _coverage_curves(figures),
    "climate_curve": figures.get("climate_reliability"),
  }
  if any(curves.values()):
    drawn["reliability"] = charts.reliability(**curves)
  if recall := _recall_curves({"this run": figures, **baselines}):
    drawn["recall"] = charts.recall_by_area(curves=recall)
  if "place" in land:
    lat_deg, _ = encodings.decode_coordinates(land["coords"])
    places = {
      "place_true": land["place_true"],
      "place_predicted": land["place"],
      "climate_map": zones,
    }
    drawn["errors"] = maps.error_map(**places)
    drawn["error_against"] = charts.error_against(
      lat_deg=lat_deg,
      train_km=train_km[counts],
      distance_km=land["distance_km"],
    )
  if {"place", "day"} <= set(land):
    days = {"day_true": land["day_true"], "day_predicted": land["day"]}
    drawn["days"] = charts.day_circle(**days, lat_deg=lat_deg)
  if shows_patches(table):
    drawn["overview"] = plots.prediction_overview(
      **places, **days, **figures["confusion"]
    )
    order = np.argsort(land["distance_km"])
    spread = np.linspace(0, len(order) - 1, min(_NUM_EXAMPLES, len(order)))
    chosen = order[np.round(spread).astype(int)]
    drawn["examples"] = patches.example_patches(
      images=reader.images(land["record"][chosen]),
      predictions=[describe(land, i) for i in chosen],
    )
  if reader.centers:
    drawn["centers"] = _centers(reader.centers, zones)
    drawn["map_patch"], drawn["map_tile"] = _globes(reader, land, zones)
  for name, figure in drawn.items():
    picture_files.write(figure, folder / f"{name}.png", bbox_inches="tight")


def shows_patches(table: dict) -> bool:
  """Whether a table has all that a picture of a patch is captioned with."""
  return {"place", "zone", "day"} <= set(table)


def describe(table: dict, index: int) -> dict:
  """Describes one patch for `patches.example_patches`.

  Args:
    table: A table of the split.
    index: Row of the patch.

  Returns:
    A dict of Python numbers.
  """
  lat_true, lon_true = encodings.decode_coordinates(table["coords"][index])
  lat_predicted, lon_predicted = sphere.unit_to_latlon(table["place"][index])
  return {
    "lat_true": float(lat_true),
    "lon_true": float(lon_true),
    "lat_predicted": float(lat_predicted),
    "lon_predicted": float(lon_predicted),
    "distance_km": float(table["distance_km"][index]),
    "zone_true": int(table["zone_true"][index]),
    "zone_predicted": int(table["zone"][index]),
    "zone_probability": float(table["confidence"][index]),
    "day_true": float(table["day_true"][index]),
    "day_predicted": float(table["day"][index]),
  }


class PatchReader:
  """Reads patches of a split, and predicts their mixtures in this process.

  Attributes:
    centers: `mu` and `log_kappa` of the run's mixture, or empty.
    mixture: These with the background's, if there is one.
  """

  def __init__(
    self, run: run_lib.Run, variables: dict, split: str, fitted: dict
  ):
    """See the class.

    Args:
      run: A trained run.
      variables: Its `state.evaluated`, on the host.
      split: Name of the split.
      fitted: What the tasks' `fit` returned, by task.
    """
    self._level_knots = fitted.get("coords", {}).get("level_knots")
    self._source = run.dataset.source(split)
    bands = list(run.dataset.bands)
    names = next(
      (names for names in _COLOURS if set(names) <= set(bands)), bands[:1] * 3
    )
    self._shown = [bands.index(name) for name in names]
    self.centers = coords_serving.mixture_params(variables["params"])
    self.mixture = coords_serving.served_components(
      variables["params"], run.config.mixture
    )
    table = evaluate.make_table(
      run.config,
      run.tasks,
      run.dataset,
      sharding.local_mesh(),
      columns=("logits",),
    )
    self._table = functools.partial(table, variables, split)
    self._map = jax.jit(mixture.probability_map)

  def images(self, records):
    """Returns records in true colour, uint8, `[count, height, width, 3]`."""
    images = self._source.read(records)["image"]
    return patches.true_colour(images[..., self._shown])

  def logits(self, records):
    """Returns logits of records at the config's temperature."""
    return self._table(records=records)["logits"]

  def cell_levels(self, logits, num_cells):
    """Returns calibrated levels of cells of the sphere, `[count, num_cells]`.

    Args:
      logits: Shape `[count, centers]`.
      num_cells: Number of cells of `sphere.equal_area_grid`.
    """
    cells = sphere.equal_area_grid(num_cells).astype(np.float32)
    probability = self._map(logits, **self.mixture, cells=cells)
    levels = cell_regions.cell_levels(np.asarray(probability, np.float64))
    return conformal.calibrate(levels, self._level_knots)


def _recall_curves(found):
  """Areas in km^2 and shares found within, by name of the predictor."""
  exponents = distance.RECALL_EXPONENTS
  names = [distance.recall_name(exponent) for exponent in exponents]
  if not {*names} <= found["this run"].keys():
    return {}
  return {
    title: (10.0 ** np.array(exponents), np.array([each[n] for n in names]))
    for title, each in found.items()
  }


def _coverage_curves(figures):
  """Coverage by level, by title."""
  found = figures.get("calibration")
  if found is None:
    return {}
  return {
    title: (found[key]["curve"]["mass"], found[key]["curve"]["coverage"])
    for key, title in calibration_titles(found).items()
  }


def calibration_titles(found: dict) -> dict[str, str]:
  """Returns what the kinds of levels in metrics.json are called.

  Args:
    found: `calibration` of metrics.json.
  """
  return {
    "calibrated": f"calibrated, by {found['num_blocks']} validation blocks",
    "as_configured": f"the mixture's, temperature {found['temperature']:.2f}",
    "fitted": (
      f"the mixture's, fitted temperature {found['fitted_temperature']:.2f}"
    ),
  }


def _centers(components, zones):
  """The picture of the centers, with the radii that hold half the mass."""
  kappa = np.exp(np.asarray(components["log_kappa"], np.float64))
  # 1 - cos of the cap that holds half: -log((1 + exp(-2 kappa))/2)/kappa.
  depth = (np.log(2) - np.log1p(np.exp(-2 * kappa))) / kappa
  angle = 2 * np.arcsin(np.sqrt(np.minimum(depth, 2) / 2))
  return maps.centers_map(
    centers=np.asarray(components["mu"], np.float64),
    radius_km=sphere.EARTH_RADIUS_KM * angle,
    climate_map=zones,
  )


def _globes(reader, land, zones):
  """Probability maps: of the patch of median error, and of its tile."""
  order = np.argsort(land["distance_km"])
  patch = order[len(order) // 2]
  place_true = land["place_true"]
  near = sphere.great_circle_km(place_true, place_true[patch]) <= _TILE_KM
  tile = np.flatnonzero(near)[:1000]
  centers = np.asarray(reader.centers["mu"], np.float64)
  figures = []
  for rows, title in (
    ([patch], f"One patch, error {land['distance_km'][patch]:,.0f} km"),
    (tile, f"{len(tile)} patches within {_TILE_KM} km, mean of their maps"),
  ):
    mean = mixture.mean_logits(reader.logits(land["record"][rows]))
    figures.append(
      maps.probability_map(
        cell_levels=reader.cell_levels(mean, _NUM_CELLS)[0],
        climate_map=zones,
        place_true=place_true[patch],
        place_predicted=land["place"][patch] if len(rows) == 1 else None,
        centers=centers,
        weights=np.exp(np.asarray(mean[0], np.float64))[: len(centers)],
        title=title,
      )
    )
  return figures
