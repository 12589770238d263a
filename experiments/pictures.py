"""The pictures of a run on a split: which arrays each of them shows."""

import pathlib

import jax
import numpy as np

from data_prep import climate_maps
from geojax import cell_regions, encodings, mixture, sphere
from geojax.training import loop
from geojax.training import step as step_lib
from geojax.views import charts, maps, patches, plots

_NUM_EXAMPLES = 12
_NUM_CELLS = 65_536
_TILE_KM = 55
_BATCH = 64
# Bands of red, green and blue, by the names that data sets give them.
_COLOURS = (("red", "green", "blue"), ("B04", "B03", "B02"))


def draw(
  run: loop.Run,
  variables: dict,
  examined: dict,
  train_km: np.ndarray,
  found: dict,
  split: str,
  folder: pathlib.Path,
) -> None:
  """Draws every picture of a split.

  Args:
    run: A trained run.
    variables: Its `state.evaluated`, on the host.
    examined: As of `examine.make_examine`.
    train_km: Distance of each record to the nearest train place.
    found: As of `figures.compute`.
    split: Name of the split.
    folder: Where the pictures go.
  """
  zones = climate_maps.load().zones
  land = {
    name: value[examined["is_land"]]
    for name, value in examined.items()
    if isinstance(value, np.ndarray)
  }
  land["record"] = np.flatnonzero(examined["is_land"])
  true = encodings.split_label(land["label"])
  place_true = encodings.coordinates_to_unit(true["coords"])
  day_true = encodings.decode_day_of_year(true["date"])
  lat_deg, _ = encodings.decode_coordinates(true["coords"])
  curves = {
    f"temperature {temperature:.2f}, {name}": (
      found["doubt"][key]["curve"]["mass"],
      found["doubt"][key]["curve"]["coverage"],
    )
    for key, name, temperature in _temperatures(found)
  }
  figures = {
    "overview": plots.prediction_overview(
      place_true=place_true,
      place_predicted=land["place"],
      **found["confusion"],
      day_true=day_true,
      day_predicted=land["day"],
      climate_map=zones,
    ),
    "errors": maps.error_map(
      place_true=place_true, place_predicted=land["place"], climate_map=zones
    ),
    "confusion": charts.confusion_matrices(**found["confusion"]),
    "error_against": charts.error_against(
      lat_deg=lat_deg,
      train_km=train_km[examined["is_land"]],
      distance_km=land["distance_km"],
    ),
    "days": charts.day_circle(
      day_true=day_true, day_predicted=land["day"], lat_deg=lat_deg
    ),
    "reliability": charts.reliability(
      curves=curves, climate_curve=found["climate_reliability"]
    ),
  }
  order = np.argsort(land["distance_km"])
  spread = np.linspace(0, len(order) - 1, min(_NUM_EXAMPLES, len(order)))
  chosen = order[np.round(spread).astype(int)]
  read_closer = make_read_closer(run, variables, split)
  closer = read_closer(land["record"][chosen])
  figures["examples"] = patches.example_patches(
    images=closer["image"],
    predictions=[what_was_said(land, i) for i in chosen],
  )
  components = variables["params"]["mixture"]
  if components:
    figures["centers"] = _centers(components, zones)
    figures["map_patch"], figures["map_tile"] = _globes(
      components, read_closer, land, place_true, zones
    )
  for name, figure in figures.items():
    figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")


def what_was_said(examined: dict, index: int) -> dict:
  """What was said of one patch, as `patches.example_patches` takes it.

  Args:
    examined: As of `examine.make_examine`, arrays alone.
    index: Row of the patch.

  Returns:
    A dict of Python numbers.
  """
  true = encodings.split_label(examined["label"][index])
  lat_true, lon_true = encodings.decode_coordinates(true["coords"])
  lat_predicted, lon_predicted = sphere.unit_to_latlon(examined["place"][index])
  return {
    "lat_true": float(lat_true),
    "lon_true": float(lon_true),
    "lat_predicted": float(lat_predicted),
    "lon_predicted": float(lon_predicted),
    "distance_km": float(examined["distance_km"][index]),
    "zone_true": int(examined["zone_true"][index]),
    "zone_predicted": int(examined["zone"][index]),
    "zone_probability": float(examined["confidence"][index]),
    "day_true": float(encodings.decode_day_of_year(true["date"])),
    "day_predicted": float(examined["day"][index]),
  }


def make_read_closer(run: loop.Run, variables: dict, split: str):
  """Makes the function that reads some records and predicts them in full.

  Args:
    run: A trained run.
    variables: Its `state.evaluated`, on the host.
    split: Name of the split.

  Returns:
    A function of indices in the split. It returns a dict of `image`, uint8 red,
    green and blue (or the first band thrice) `[count, height, width, 3]`; and,
    of a mixture, `logits` at the config's temperature, `[count, centers]`.
  """
  dataset = run.dataset
  source = dataset.source(split)
  bands = list(dataset.bands)
  names = next(
    (names for names in _COLOURS if set(names) <= set(bands)), bands[:1] * 3
  )
  shown = [bands.index(name) for name in names]
  forward = jax.jit(
    step_lib.make_forward(
      run.config, offset=dataset.offset, divisor=dataset.divisor
    )
  )

  def predict(images):
    # Batches of one size, so that it is compiled once.
    filled = np.resize(images, (_BATCH, *images.shape[1:]))
    logits = forward(variables, filled)["coords"][: len(images)]
    return np.float32(logits / run.config.mixture.temperature)

  def read_closer(records):
    images = source.read(records)["image"]
    closer = {"image": patches.true_colour(images[..., shown])}
    if variables["params"]["mixture"]:
      parts = range(0, len(images), _BATCH)
      closer["logits"] = np.concatenate(
        [predict(images[start : start + _BATCH]) for start in parts]
      )
    return closer

  return read_closer


def _temperatures(found):
  doubt = found.get("doubt")
  if doubt is None:
    return []
  return [
    ("as_configured", "as configured", doubt["temperature"]),
    ("fitted", "fitted on validation", doubt["fitted_temperature"]),
  ]


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


def _globes(components, read_closer, land, place_true, zones):
  """Probability maps: of the patch of median error, and of its tile."""
  order = np.argsort(land["distance_km"])
  patch = order[len(order) // 2]
  near = sphere.great_circle_km(place_true, place_true[patch]) <= _TILE_KM
  tile = np.flatnonzero(near)[:1000]
  cells = sphere.equal_area_grid(_NUM_CELLS).astype(np.float32)
  draw_map = jax.jit(mixture.probability_map)
  figures = []
  for rows, title in (
    ([patch], f"One patch, error {land['distance_km'][patch]:,.0f} km"),
    (tile, f"{len(tile)} patches within {_TILE_KM} km, mean of their maps"),
  ):
    logits = read_closer(land["record"][rows])["logits"]
    mean = mixture.mean_logits(logits)
    probability = np.asarray(
      draw_map(mean, **components, cells=cells)[0], np.float64
    )
    figures.append(
      maps.probability_map(
        cell_levels=cell_regions.cell_levels(probability),
        climate_map=zones,
        place_true=place_true[patch],
        place_predicted=land["place"][patch] if len(rows) == 1 else None,
        centers=np.asarray(components["mu"], np.float64),
        weights=np.exp(np.asarray(mean[0], np.float64)),
        title=title,
      )
    )
  return figures
