"""Shares, medians, days and calibration curves of the charts."""

import numpy as np
import pytest

from geojax import climate
from geojax.evaluation import calibration
from geojax.views import charts


def test_confusions_are_shares_of_the_true_row_in_the_maps_colours():
  rng = np.random.default_rng(0)
  zones = rng.integers(0, 9, (31, 31))
  zones[3] = 0
  classes = rng.integers(1, 9, (6, 6))
  figure = charts.confusion_matrices(zones=zones, classes=classes)
  left, right, bar = figure.axes
  for axes, counts, names, colours in (
    (left, zones, climate.ZONES, climate.ZONE_COLORS),
    (right, classes, climate.CLASSES, climate.CLASS_COLORS),
  ):
    shares = np.asarray(axes.images[0].get_array())
    totals = counts.sum(axis=1)
    np.testing.assert_allclose(shares * totals[:, None], counts, atol=1e-9)
    assert [t.get_text() for t in axes.get_xticklabels()] == list(names)
    drawn = [tuple(np.round(p.get_facecolor()[:3], 3)) for p in axes.patches]
    for i, colour in enumerate(colours):
      expected = tuple(np.round(colour / 255, 3))
      assert drawn[2 * i] == drawn[2 * i + 1] == expected
    assert axes.get_xlabel() == "predicted"
  assert left.get_ylabel() == "true"
  assert "share" in bar.get_xlabel()
  percent = round(100 * np.trace(zones) / zones.sum())
  assert f"{percent} % of {zones.sum():,}" in left.get_title()
  assert right.texts[0].get_text() == f"{100 * shares[0, 0]:.0f}"


def test_errors_stand_against_latitude_and_training():
  rng = np.random.default_rng(0)
  x = {
    "lat_deg": rng.uniform(-60, 80, 160),
    "train_km": rng.uniform(0, 900, 160),
  }
  distance = rng.exponential(800, 160) + 1
  figure = charts.error_against(**x, distance_km=distance)
  for axes, values in zip(figure.axes, x.values(), strict=True):
    dots = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(dots, np.stack([values, distance], -1))
    (line,) = axes.lines
    first = np.argsort(values)[:20]
    assert line.get_ydata()[0] == pytest.approx(np.median(distance[first]))
    assert len(line.get_xdata()) == 8
    assert axes.get_yscale() == "log"
  assert "degrees" in figure.axes[0].get_xlabel()
  assert "km" in figure.axes[1].get_xlabel()
  assert "km" in figure.axes[0].get_ylabel()


def test_days_go_round_the_circle_in_three_belts():
  day = np.array([360.0, 100.0, 200.0, 10.0])
  predicted = np.array([5.0, 130.0, 190.0, 360.0])
  lat = np.array([50.0, 10.0, -40.0, 60.0])
  figure = charts.day_circle(day_true=day, day_predicted=predicted, lat_deg=lat)
  north, tropics, south = figure.axes
  dots = np.asarray(north.collections[0].get_offsets())
  # Across New Year, forwards and backwards.
  np.testing.assert_allclose(dots[:, 1], [10, -15])
  np.testing.assert_allclose(dots[:, 0], 2 * np.pi * day[[0, 3]] / 365)
  assert np.asarray(tropics.collections[0].get_offsets())[0, 1] == 30
  assert np.asarray(south.collections[0].get_offsets())[0, 1] == -10
  assert "2 patches, mean 12 days" in north.get_title()
  assert "days" in figure.get_supxlabel()
  assert north.get_theta_direction() == -1


def test_reliability_has_a_diagonal_and_the_curves():
  mass = np.linspace(0, 1, 5)
  curve = calibration.reliability_curve([0.2, 0.2, 0.9], [0, 1, 1], num_bins=10)
  figure = charts.reliability(
    curves={"one": (mass, mass**2), "two": (mass, mass)}, climate_curve=curve
  )
  left, right = figure.axes
  np.testing.assert_allclose(left.lines[0].get_ydata(), 100 * mass**2)
  words = [text.get_text() for text in figure.legends[0].get_texts()]
  assert words == ["one", "two"]
  np.testing.assert_allclose(
    right.collections[0].get_offsets(), [[20, 50], [90, 100]]
  )
  for axes in (left, right):
    np.testing.assert_array_equal(
      axes.lines[-1].get_xydata(), [[0, 0], [100, 100]]
    )
    assert "%" in axes.get_xlabel()
    assert "%" in axes.get_ylabel()
  # A regression has no curve of the place, and other runs no climate.
  figure = charts.reliability(curves={}, climate_curve=curve)
  (climate,) = figure.axes
  assert "confidence" in climate.get_xlabel()
  assert not figure.legends
  figure = charts.reliability(curves={"one": (mass, mass)})
  (place,) = figure.axes
  assert "coverage" in place.get_ylabel()


def test_recall_is_drawn_against_area_by_predictor():
  areas = np.array([1e4, 1e6, 1e8])
  curves = {
    "this run": (areas, np.array([0.1, 0.4, 1.0])),
    "uniform": (areas, areas / 5.1e8),
  }
  (panel,) = charts.recall_by_area(curves=curves).axes
  assert panel.get_xscale() == "log"
  for (name, (area_km2, share)), line in zip(
    curves.items(), panel.lines, strict=True
  ):
    assert line.get_label() == name
    np.testing.assert_allclose(line.get_xdata(), area_km2)
    np.testing.assert_allclose(line.get_ydata(), 100 * share)
