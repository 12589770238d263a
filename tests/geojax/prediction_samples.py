"""Predictions without a model."""

import numpy as np

from geojax import predict, sphere


def make_prediction(num_patches=5, sea=0.0, seed=0):
  rng = np.random.default_rng(seed)
  climate = rng.dirichlet(np.ones(30), num_patches) * (1 - sea)
  return predict.Prediction(
    {
      "place": sphere.latlon_to_unit(*rng.uniform(-60, 60, (2, num_patches))),
      "climate_probs": np.insert(climate, 0, sea, axis=1),
      "date_mean": rng.uniform(-0.5, 0.5, (num_patches, 2)),
      "logits": rng.normal(size=(num_patches, 16)).astype(np.float32),
    },
    mu=np.float32(sphere.fibonacci_lattice(16)),
    log_kappa=np.full(16, 2.0, np.float32),
  )
