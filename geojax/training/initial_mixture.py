"""Centers and concentrations of a run's mixture, before its first step."""

import numpy as np

from geojax import centers, encodings
from geojax.training import state
from geojax.training.errors import ConfigError

# Enough to lay out centers by; reading every record would take longer than
# the first steps.
_PLACES_PER_CENTER = 40


def lay_out(config, dataset) -> dict[str, np.ndarray]:
  """Lays out the centers of a new run.

  Args:
    config: The run's config.
    dataset: A `pipeline.Dataset`.

  Returns:
    `mu`, unit vectors `[centers, 3]`, and `log_kappa`, `[centers]`; nothing for
    a regression.

  Raises:
    ConfigError: The places of the train split are too few for the config.
  """
  mixture = config.mixture
  if config.loss.coords == "mse":
    return {}
  try:
    mu, by_spacing = centers.initialize(
      mixture.centers,
      _train_places(dataset, at_most=_PLACES_PER_CENTER * mixture.num_centers),
      mixture.num_centers,
      seed=config.seed,
      min_distance_km=mixture.min_distance_km,
      mass=mixture.spacing_mass or 0.5,
    )
  except ValueError as error:
    keys = ["config.mixture.num_centers"]
    if mixture.centers == "train_subset":
      keys.append("config.mixture.min_distance_km")
    raise ConfigError(
      f"{' or '.join(keys)} does not fit {config.data.name}: {error}"
    ) from error
  if mixture.spacing_mass:
    return {"mu": mu, "log_kappa": by_spacing}
  return {**state.placeholder_mixture(config), "mu": mu}


def _train_places(dataset, at_most):
  """Unit vectors of land patches, evenly out of the train split."""
  labels = dataset.labels("train", at_most)
  land = ~encodings.is_sea_patch(labels[:, encodings.CLIMATE])
  return encodings.coordinates_to_unit(labels[land][:, encodings.COORDS])
