"""Heads: what they return, and the one that is left to the loss."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.models import CoreEncoder, GeographicModel

ENCODER = CoreEncoder(depths=(1,), widths=(16,), patch_size=8)


def test_a_head_left_to_the_loss_has_the_same_parameters():
  images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
  whole = GeographicModel(ENCODER, coords_dim=40)
  rest = GeographicModel(ENCODER, coords_dim=40, apply_coords=False)
  variables = whole.init(jax.random.key(1), images)
  jax.tree.map(
    np.testing.assert_array_equal,
    variables,
    rest.init(jax.random.key(1), images),
  )
  expected = whole.apply(variables, images)
  found = rest.apply(variables, images)
  head = variables["params"]["coords"]
  logits = found["coords"] @ head["kernel"] + head["bias"][None, :]
  np.testing.assert_allclose(logits, expected["coords"], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(found["climate"], expected["climate"])


def test_a_regression_and_the_date_lie_within_the_codes_bounds():
  images = 100 * jnp.ones((2, 16, 16, 3))
  model = GeographicModel(ENCODER, coords_dim=3)
  outputs, _ = model.init_with_output(jax.random.key(0), images)
  for task, dim in (("coords", 3), ("date", 2)):
    assert outputs[task].shape == (2, dim)
    assert np.all((outputs[task] > 0) & (outputs[task] < 1))
