"""The fused head and mixture against the dense one, and what it must not do."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from geojax import mixture

NAMES = "x", "features", "kernel", "bias", "mu", "log_kappa"
COLLECTIVE = re.compile(
  r"= (.*) (all-reduce|all-gather|reduce-scatter|collective-permute|"
  r"all-to-all)(-start)?\("
)


def draw_case(seed, batch, features, centers, *, kappa=(0.5, 1e4)):
  rng = np.random.default_rng(seed)
  x, mu = rng.normal(size=(batch, 3)), rng.normal(size=(centers, 3))
  mu /= np.linalg.norm(mu, axis=1, keepdims=True)
  log_kappa = rng.uniform(*np.log(kappa), centers)
  near = rng.integers(centers, size=batch)
  x = mu[near] + x / np.exp(log_kappa[near] / 2)[:, None]
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  inputs = rng.normal(size=(batch, features))
  kernel = rng.normal(size=(features, centers))
  bias = rng.normal(size=centers)
  case = x, inputs, kernel, bias, mu, log_kappa
  return tuple(np.float32(v) for v in case)


def dense(x, features, kernel, bias, mu, log_kappa):
  logits = jnp.dot(features, kernel, preferred_element_type=bias.dtype)
  return mixture.log_prob(x, logits + bias[None, :], mu, log_kappa)


@functools.cache
def fused(chunk_size, axis_name=None):
  return functools.partial(
    mixture.fused_log_prob, chunk_size=chunk_size, axis_name=axis_name
  )


@functools.partial(jax.jit, static_argnums=0)
def with_grads(function, case):
  """Values and all six gradients of a weighted sum of them."""
  values, pullback = jax.vjp(function, *case)
  return values, pullback(jnp.linspace(-1, 2, len(values)))


def assert_equal_to(expected, actual, rtol=1e-5):
  np.testing.assert_allclose(actual[0], expected[0], rtol=rtol, atol=rtol)
  for name, a, b in zip(NAMES, actual[1], expected[1], strict=True):
    assert a.dtype == b.dtype, name
    b = np.float64(b)
    np.testing.assert_allclose(
      np.float64(a), b, rtol=rtol, atol=rtol * np.abs(b).max(), err_msg=name
    )


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 1000])
def test_equals_dense_whatever_the_chunk(chunk_size):
  case = draw_case(0, 12, 5, 48)
  assert_equal_to(with_grads(dense, case), with_grads(fused(chunk_size), case))


@pytest.mark.parametrize("kappa", [(0.1, 0.5), (0.5, 2), (1e6, 1e8)])
def test_equals_dense_whatever_the_concentration(kappa):
  case = draw_case(1, 16, 8, 300, kappa=kappa)
  assert_equal_to(with_grads(dense, case), with_grads(fused(64), case))


def test_nearly_uniform_components():
  # Shares and weights are equal to 1e-4 here: what is left of the gradients by
  # the logits is compared on the scale of the terms.
  case = draw_case(1, 16, 8, 300, kappa=(1e-6, 1e-3))
  expected, actual = with_grads(dense, case), with_grads(fused(64), case)
  np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6)
  for name, a, b in zip(NAMES, actual[1], expected[1], strict=True):
    atol = 3e-6 if name in ("features", "kernel", "bias") else 1e-8
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol, err_msg=name)


def test_one_center_and_one_example():
  case = draw_case(2, 1, 3, 1)
  assert_equal_to(with_grads(dense, case), with_grads(fused(8), case))


def test_huge_and_barred_logits():
  x, features, kernel, bias, mu, log_kappa = draw_case(3, 8, 4, 40)
  # A rising bias moves the running maximum in every chunk.
  bias = np.float32(1e3 * np.linspace(0, 1, 40))
  bias[5:30] = -np.inf
  case = x, features, kernel, bias, mu, log_kappa
  expected = with_grads(dense, case)
  actual = with_grads(fused(9), case)
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(actual))
  assert_equal_to(expected, actual)


def test_the_gradient_has_a_gradient():
  with jax.enable_x64(True):
    case = map(np.float64, draw_case(4, 4, 3, 6, kappa=(0.5, 20)))
    case = [v / np.linalg.norm(v, axis=-1, keepdims=True) if i in (0, 4) else v
            for i, v in enumerate(case)]  # fmt: skip

    def slope_squared(function, *args):
      grads = jax.grad(lambda *a: function(*a).sum(), range(6))(*args)
      return sum(jnp.sum(g**2) for g in grads)

    second = jax.jit(jax.grad(slope_squared, range(1, 7)), static_argnums=0)
    for a, b in zip(second(fused(4), *case), second(dense, *case), strict=True):
      assert a.dtype == jnp.float64
      np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel_dtype", [jnp.bfloat16, jnp.float32])
def test_bfloat16_features_are_summed_in_float32(kernel_dtype):
  x, features, kernel, *rest = draw_case(5, 8, 512, 64)
  features = jnp.asarray(features, jnp.bfloat16)
  kernel = jnp.asarray(kernel / 16, kernel_dtype)
  with jax.numpy_dtype_promotion("strict"):
    values, grads = with_grads(fused(24), (x, features, kernel, *rest))
  assert values.dtype == jnp.float32
  assert grads[1].dtype == jnp.bfloat16
  assert grads[2].dtype == kernel_dtype
  wide = x, features.astype(np.float32), kernel.astype(np.float32), *rest
  expected = with_grads(dense, wide)
  np.testing.assert_allclose(values, expected[0], rtol=1e-5, atol=1e-5)
  for name, a, b in zip(NAMES, grads, expected[1], strict=True):
    rtol = 1e-2 if a.dtype == jnp.bfloat16 else 1e-5
    scale = np.abs(b).max()
    np.testing.assert_allclose(
      np.float32(a), b, rtol=rtol, atol=rtol * scale, err_msg=name
    )


def test_vmap_and_pmap():
  case = draw_case(6, 16, 4, 30)
  x, features, *shared = case
  expected = dense(*case)
  axes = 0, 0, None, None, None, None
  split = x.reshape(8, 2, 3), features.reshape(8, 2, 4)
  for transform in (jax.vmap, jax.pmap):
    actual = transform(fused(8), in_axes=axes)(*split, *shared)
    np.testing.assert_allclose(actual.ravel(), expected, rtol=1e-5, atol=1e-5)


def array_sizes(text):
  """Number of elements of every array in the text of a program."""
  shapes = set(re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text))
  return {int(np.prod([int(n) for n in s.split(",")])) for s in shapes}


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(
  ("shape", "axes"),
  [((8,), ("centers",)), ((2, 4), ("data", "centers"))],
  ids=["centers", "data and centers"],
)
def test_sharded_over_a_mesh(shape, axes, check_vma):
  case = draw_case(7, 16, 5, 320)
  mesh = jax.make_mesh(shape, axes, (AxisType.Auto,) * len(shape))
  row = "data" if "data" in axes else None
  column = "centers" if "centers" in axes else None
  by_row, by_column = PartitionSpec(row), PartitionSpec(column)
  head = PartitionSpec(None, column)
  specs = by_row, by_row, head, by_column, by_column, by_column
  sharded = jax.shard_map(
    fused(24, column),
    mesh=mesh,
    in_specs=specs,
    out_specs=by_row,
    check_vma=check_vma,
  )
  placed = [
    jax.device_put(v, NamedSharding(mesh, spec))
    for v, spec in zip(case, specs, strict=True)
  ]
  assert_equal_to(with_grads(dense, case), with_grads(sharded, placed))
  if row:
    return
  # Between the devices go numbers of [batch] and of [batch, features].
  text = with_grads.lower(sharded, placed).compile().as_text()
  found = [m for line in text.splitlines() if (m := COLLECTIVE.search(line))]
  assert found
  for match in found:
    assert match[2] == "all-reduce"
    assert max(array_sizes(match[1])) <= 16 * 5


def test_gradients_taken_within_a_shard_map():
  case = draw_case(8, 16, 5, 64)
  mesh = jax.make_mesh((8,), ("centers",), (AxisType.Auto,))
  whole, split = PartitionSpec(), PartitionSpec("centers")
  specs = whole, whole, PartitionSpec(None, "centers"), split, split, split
  sharded = jax.shard_map(
    lambda *args: with_grads(fused(3, "centers"), args),
    mesh=mesh,
    in_specs=specs,
    out_specs=(whole, specs),
  )
  assert_equal_to(with_grads(dense, case), jax.jit(sharded)(*case))


def test_pmap_over_centers():
  case = draw_case(9, 6, 4, 40)
  x, features, kernel, bias, mu, log_kappa = case
  mapped = jax.pmap(
    fused(2, "centers"),
    axis_name="centers",
    in_axes=(None, None, 1, 0, 0, 0),
  )
  actual = mapped(
    x,
    features,
    kernel.reshape(4, 8, 5),
    bias.reshape(8, 5),
    mu.reshape(8, 5, 3),
    log_kappa.reshape(8, 5),
  )
  for row in actual:
    np.testing.assert_allclose(row, dense(*case), rtol=1e-5, atol=1e-5)


def compile_loss(function, batch, features, centers):
  shapes = (
    (batch, 3),
    (batch, features),
    (features, centers),
    (centers,),
    (centers, 3),
    (centers,),
  )
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  loss = jax.value_and_grad(
    lambda *args: -function(*args).mean(), (1, 2, 3, 4, 5)
  )
  return jax.jit(loss).lower(*arrays).compile()


@pytest.mark.parametrize("centers", [2**20, 2**20 - 77])
def test_a_million_centers_take_little_memory(centers):
  compiled = compile_loss(mixture.fused_log_prob, 256, 64, centers)
  memory = compiled.memory_analysis().temp_size_in_bytes
  assert memory < 32 * 2**20
  # Neither logits nor densities, nor anything else of [batch, centers].
  assert max(array_sizes(compiled.as_text())) == 64 * centers


def test_a_tenth_of_the_memory_of_dense():
  little, much = (
    compile_loss(function, 4096, 256, 2**15)
    .memory_analysis()
    .temp_size_in_bytes
    for function in (mixture.fused_log_prob, dense)
  )
  assert little < much / 10


def test_errors_name_argument_expected_and_found():
  x, features, kernel, bias, mu, log_kappa = draw_case(10, 4, 3, 6)
  rest = mu, log_kappa
  with pytest.raises(ValueError, match=r"kernel .*\[3, centers\].*\[2, 6\]"):
    mixture.fused_log_prob(x, features, kernel[:2], bias, *rest)
  with pytest.raises(ValueError, match=r"bias .*\[6\].*\[5\]"):
    mixture.fused_log_prob(x, features, kernel, bias[:5], *rest)
  with pytest.raises(ValueError, match=r"x .*length 1.*found length 2"):
    mixture.fused_log_prob(2 * x, features, kernel, bias, *rest)
  with pytest.raises(ValueError, match=r"chunk_size .* found 0"):
    mixture.fused_log_prob(x, features, kernel, bias, *rest, chunk_size=0)
