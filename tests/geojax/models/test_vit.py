"""The Vision Transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.models import Linear, MultiTaskModel, ViT, vit


def _normal(seed, shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def _small(**attributes):
  return ViT(width=32, depth=4, num_heads=2, patch_size=8, **attributes)


@pytest.mark.parametrize(
  ("size", "count"),
  # Parameters of the published sizes' blocks and last norm.
  [
    ("ti", 5_338_752),
    ("s", 21_294_336),
    ("b", 85_056_000),
    ("l", 302_311_424),
  ],
)
def test_sizes_have_the_published_blocks(size, count):
  width, depth, num_heads = vit.SIZES[size]
  images = jax.ShapeDtypeStruct((1, 32, 32, 10), jnp.float32)
  variables = jax.eval_shape(
    ViT(width, depth, num_heads).init, jax.random.key(0), images
  )
  sizes = jax.tree.map(lambda leaf: leaf.size, variables["params"])
  patches = sum(jax.tree.leaves(sizes.pop("patches")))
  assert patches == 16 * 16 * 10 * width + width
  assert sum(jax.tree.leaves(sizes)) == count


@pytest.mark.parametrize("shape", [(8, 8), (16, 40)])
def test_any_size_of_whole_patches_is_encoded_and_mapped(shape):
  model = MultiTaskModel(_small(), {"a": Linear(5)})
  images = _normal(0, (2, *shape, 3))
  variables = model.init(jax.random.key(0), images)
  features, maps = model.apply(
    variables, images, stages=True, method="features"
  )
  assert features.shape == (2, 32)
  grid = (2, shape[0] // 8, shape[1] // 8, 32)
  assert [m.shape for m in maps] == [grid] * 4


def test_parts_of_patches_are_refused():
  with pytest.raises(ValueError, match=r"20 x 16 .* 8 x 8"):
    _small().init(jax.random.key(0), jnp.zeros((1, 20, 16, 3)))


def test_positions_tell_places_apart_and_have_their_norm():
  positions = vit.sincos_positions(5, 7, 64)[0]
  products = positions @ positions.T
  np.testing.assert_allclose(np.diag(products), 32, rtol=1e-5)
  others = products - 32 * np.eye(35)
  assert others.max() < 32 - 0.1


def test_where_a_patch_lies_counts():
  encoder = _small()
  images = _normal(0, (1, 16, 16, 3))
  variables = encoder.init(jax.random.key(0), images)
  swapped = jnp.concatenate([images[:, 8:], images[:, :8]], axis=1)
  difference = encoder.apply(variables, images) - encoder.apply(
    variables, swapped
  )
  assert float(jnp.max(jnp.abs(difference))) > 1e-4


def test_bfloat16_and_gradient_checkpointing():
  images = _normal(0, (2, 16, 16, 3))
  variables = _small().init(jax.random.key(0), images)
  wide = _small().apply(variables, images)
  narrow = _small(dtype=jnp.bfloat16).apply(variables, images)
  assert narrow.dtype == jnp.float32
  np.testing.assert_allclose(narrow, wide, atol=0.1)

  def gradient(encoder):
    def loss(variables):
      return jnp.sum(encoder.apply(variables, images) ** 3)

    return jax.jit(jax.grad(loss))(variables)

  kept, computed = gradient(_small()), gradient(_small(remat=True))
  for a, b in zip(
    jax.tree.leaves(kept), jax.tree.leaves(computed), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_it_lowers_for_accelerators(platform):
  encoder = _small(dtype=jnp.bfloat16)
  images = _normal(0, (2, 16, 16, 3))
  variables = encoder.init(jax.random.key(0), images)
  apply = jax.jit(encoder.apply)
  jax.export.export(apply, platforms=[platform])(variables, images)
