"""Heads: what they return, own, and leave to the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scipy import special

from geojax import models
from geojax.models import CoreEncoder, Linear, Mixture, MultiTaskModel

ENCODER = CoreEncoder(depths=(1,), widths=(16,), patch_size=8)
IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3))


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_linear_head_is_a_layer(sigmoid):
  features = 100 * np.random.default_rng(0).normal(size=(20, 4))
  outputs, variables = jax.jit(Linear(3, sigmoid=sigmoid).init_with_output)(
    jax.random.key(0), features
  )
  layer = variables["params"]
  expected = features @ layer["kernel"] + layer["bias"][None]
  if sigmoid:
    expected = special.expit(expected)
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


def test_a_mixture_owns_its_components_and_may_be_left_to_the_loss():
  def build(**keys):
    heads = {"where": Mixture(40, log_kappa=3.0, **keys), "b": Linear(2)}
    return MultiTaskModel(ENCODER, heads)

  whole, fused = build(), build(chunk_size=7)
  boxed = jax.jit(whole.init)(jax.random.key(1), IMAGES)
  variables = models.unbox(boxed)
  jax.tree.map(
    np.testing.assert_array_equal,
    variables,
    models.unbox(jax.jit(fused.init)(jax.random.key(1), IMAGES)),
  )
  head = variables["params"]["where"]
  assert head["mu"].shape == (40, 3)
  np.testing.assert_allclose(jnp.linalg.norm(head["mu"], axis=1), 1, rtol=1e-6)
  np.testing.assert_array_equal(head["log_kappa"], np.full(40, 3))

  def apply(model, train):
    apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
    return apply(variables, IMAGES, train=train, mutable=("batch_stats",))[0]

  expected = apply(whole, True)
  found = apply(fused, True)
  np.testing.assert_array_equal(found["b"], expected["b"])
  expected, found = expected["where"], found["where"]
  assert set(found) == {"mu", "log_kappa", "features", "kernel", "bias"}
  logits = found["features"] @ found["kernel"] + found["bias"][None]
  np.testing.assert_allclose(logits, expected["logits"], rtol=1e-5, atol=1e-6)
  for name in ("mu", "log_kappa"):
    np.testing.assert_array_equal(found[name], expected[name])
  # Only training leaves them to the loss.
  assert set(apply(fused, False)["where"]) == {"mu", "log_kappa", "logits"}

  specs = models.partition_specs(boxed)["params"]
  assert specs["where"] == {
    "kernel": P(None, "model"),
    "bias": P("model"),
    "mu": P("model", None),
    "log_kappa": P("model"),
  }
  del specs["where"]
  assert set(jax.tree.leaves(specs)) == {P()}
