"""Figures of a distance between a predicted and a true place."""

from geojax import sphere

# Street, city, region, country and continent (1, 25, 200, 750, 2500): Vo,
# Jacobs & Hays, Revisiting IM2GPS in the Deep Learning Era, ICCV 2017; and what
# lies between.
RADII_KM = (1, 25, 50, 100, 200, 500, 750, 2500)
# Areas within which truths are looked for, 10**exponent km^2.
RECALL_EXPONENTS = (4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8)

# Haas et al., PIGEON: Predicting Image Geolocations, CVPR 2024.
GEOSCORE_MAX = 5000
GEOSCORE_SCALE_KM = 1492.7


def geoscore(distance_km):
  """Score of a guess in the game of GeoGuessr: 5000 exp(-d / 1492.7 km)."""
  xp, distance_km = sphere.as_floats(distance_km)
  return GEOSCORE_MAX * xp.exp(-distance_km / GEOSCORE_SCALE_KM)


def recall_name(exponent) -> str:
  """Name of the metric of the densest `10**exponent` km^2."""
  return f"recall@10^{exponent:g}_km2"
