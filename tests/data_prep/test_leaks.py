"""Distances from held-out patches to train, against all pairs."""

import numpy as np
import pytest

from data_prep import leaks
from geojax import sphere

RNG = np.random.default_rng(0)


def columns(lat, lon, sides=(np.nan, np.nan)):
  lat, lon = (np.asarray(x, np.float32) for x in (lat, lon))
  return {
    "lat": lat,
    "lon": lon,
    "sides_deg": np.broadcast_to(sides, (len(lat), 2)),
  }


def test_distances_are_those_of_all_pairs():
  places = {
    split: (RNG.uniform(-80, 80, n), RNG.uniform(-180, 180, n))
    for split, n in (("train", 300), ("test", 40))
  }
  found = leaks.measure({k: columns(*v) for k, v in places.items()})["test"]
  units = {k: sphere.latlon_to_unit(*v) for k, v in places.items()}
  km = sphere.great_circle_km(units["test"][:, None], units["train"]).min(
    axis=1
  )
  assert found["count"] == 40
  assert found["nearest_km"] == pytest.approx(km.min(), rel=1e-3)
  assert found["median_km"] == pytest.approx(np.median(km), rel=1e-3)
  # Whether patches of unknown extent touch is unknown.
  assert "touching" not in found
  assert "--pixel_m" in "".join(leaks.warn({"test": found}))


@pytest.mark.parametrize("lat", [0.0, 60.0])
def test_patches_that_touch_or_overlap_are_counted(lat):
  """Next to train patches: apart, touching on a side and a corner, within."""
  height, width = 0.01, 0.01 / np.cos(np.deg2rad(lat))
  offsets = [(0, 2.0), (0, 1.0), (1.0, 1.0), (0.5, 0.5), (0, 0), (-1.1, 0)]
  lon = np.arange(len(offsets)) * 10.0 - 180.0
  found = leaks.measure(
    {
      "train": columns(np.full(len(lon), lat), lon, (height, width)),
      "test": columns(
        [lat + i * height for i, _ in offsets],
        [x + j * width for x, (_, j) in zip(lon, offsets, strict=True)],
        (height, width),
      ),
    }
  )["test"]
  assert (found["touching"], found["overlapping"]) == (2, 2)


def test_across_the_antimeridian():
  found = leaks.measure(
    {
      "train": columns([0.0], [179.995], (0.01, 0.01)),
      "test": columns([0.0], [-179.995], (0.01, 0.01)),
    }
  )["test"]
  assert found["touching"] == 1


def test_places_that_are_unknown_do_not_count():
  train = columns([0.0, np.nan], [0.0, np.nan])
  assert (
    leaks.measure({"train": train, "test": columns([np.nan], [np.nan])}) == {}
  )
  found = leaks.measure({"train": train, "test": columns([1, np.nan], [0, 0])})
  assert found["test"]["count"] == 1
  assert leaks.measure({"test": train}) == {}
