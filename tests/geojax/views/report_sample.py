"""A small report: three patches on a world with one square continent."""

import numpy as np

from geojax import cell_regions, sphere
from geojax.views import report


def climate_map():
  zones = np.zeros((180, 360), int)
  zones[40:80, 150:220] = 5
  return zones


def described(lat, lon, record, *, kappa=100.0):
  rng = np.random.default_rng(record)
  prediction = {
    "lat_true": lat,
    "lon_true": lon,
    "lat_predicted": lat + 5,
    "lon_predicted": lon,
    "distance_km": 556.0 + record,
    "zone_true": 15,
    "zone_predicted": 1,
    "zone_probability": 0.7,
    "day_true": 200.0,
    "day_predicted": 20.0,
  }
  cells = sphere.equal_area_grid(report.NUM_CELLS)
  place = sphere.latlon_to_unit(lat + 5, lon)
  probability = np.exp(kappa * (cells @ place - 1))
  probs = np.zeros(31)
  probs[[1, 15, 0]] = 0.7, 0.2, 0.1
  return report.describe_patch(
    record=record,
    image=rng.integers(0, 255, (32, 32, 3)).astype(np.uint8),
    prediction=prediction,
    climate_probs=probs,
    cell_levels=cell_regions.cell_levels(probability / probability.sum()),
    areas_km2=np.array([1.8e6, 4e6, 7.6e6]),
    true_level=0.83,
  )


def page():
  """The HTML, of patches in front of the globe and behind."""
  table = report.Table(
    title="Over land </script> patches",
    corner="metric",
    columns=("this run", "nearest patch"),
    rows=(("median distance, km", ("556", "1,816")),),
  )
  return report.render(
    title="geojax: sample, test split",
    summary="Three patches.",
    headline=table,
    tables=[table],
    pictures=[("A picture of nothing", b"\x89PNG\r\n")],
    config={"seed": 0, "model": {"name": "<core>"}},
    patches=[described(*p) for p in ((20.0, 10.0, 2), (0.0, -175.0, 1))],
    climate_map=climate_map(),
  )
