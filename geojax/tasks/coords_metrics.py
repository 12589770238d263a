"""Metrics of places, and of densities of places."""

import functools

import numpy as np

from geojax.evaluation import distance
from geojax.evaluation.metrics import Metric
from geojax.evaluation.reductions import Count, Median

# Masses of the credible regions whose coverage and area are reported, in %.
REGIONS_PERCENT = (50, 80, 95)
REGIONS = tuple(percent / 100 for percent in REGIONS_PERCENT)
_COUNTS = ("coords_counts",)
# Radii of the table printed after a run; metrics.json has more.
_HEADLINE_KM = (1, 25, 200, 750, 2500)


def _within(limit):
  return lambda values: values <= limit


_DISTANCE = {"columns": ("distance_km",), "where": _COUNTS}
METRICS = (
  Metric(
    name="median_km",
    words="median distance",
    unit="km",
    reduction=Median(),
    headline=True,
    **_DISTANCE,
  ),
  Metric(
    name="mean_km",
    words="mean distance",
    unit="km",
    headline=True,
    **_DISTANCE,
  ),
  *(
    Metric(
      name=f"acc@{km}km",
      words=f"share within {km} km",
      higher_is_better=True,
      value=_within(km),
      headline=km in _HEADLINE_KM,
      **_DISTANCE,
    )
    for km in distance.RADII_KM
  ),
  Metric(
    name="geoscore",
    words="GeoScore, 0 to 5000",
    higher_is_better=True,
    value=distance.geoscore,
    headline=True,
    **_DISTANCE,
  ),
  Metric(
    name="count",
    words="land patches",
    higher_is_better=None,
    reduction=Count(),
    **_DISTANCE,
  ),
)
# Of a mixture besides.
DENSITY_METRICS = (
  Metric(
    name="nll_nats",
    words="nll, nats; 0 is uniform",
    columns=("nll_nats",),
    where=_COUNTS,
    headline=True,
  ),
  *(
    Metric(
      name=f"coverage@{percent}%",
      words=f"truths in the {percent} % region",
      columns=("credible_level",),
      value=_within(mass),
      where=_COUNTS,
      higher_is_better=None,
      final=True,
    )
    for percent, mass in zip(REGIONS_PERCENT, REGIONS, strict=True)
  ),
  *(
    Metric(
      name=f"area@{percent}%_km2",
      words=f"median area of the {percent} % region",
      unit="km²",
      columns=("area_km2",),
      value=functools.partial(np.take, indices=i, axis=1),
      where=_COUNTS,
      reduction=Median(),
      final=True,
    )
    for i, percent in enumerate(REGIONS_PERCENT)
  ),
  *(
    Metric(
      name=distance.recall_name(exponent),
      words=f"share within the densest 10^{exponent:g} km²",
      columns=("denser_km2",),
      value=_within(10**exponent),
      where=_COUNTS,
      higher_is_better=True,
      headline=exponent == 6,
      in_report=exponent == int(exponent),
      final=True,
    )
    for exponent in distance.RECALL_EXPONENTS
  ),
)
