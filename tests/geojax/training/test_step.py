"""One step, however it is spread over parts and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import scaling
from geojax import encodings, sphere, tasks
from geojax.training import sharding
from geojax.training import state as state_lib
from geojax.training import step as step_lib

_SCALE = {"offset": np.zeros(5, "float32"), "divisor": np.ones(5, "float32")}


@pytest.fixture
def config(small_config):
  """No dropout: its draws alone depend on how a batch is spread."""
  small_config.model.dropout = 0.0
  small_config.optimizer.learning_rate = 1e-3
  small_config.mixture.centers_learning_rate = 1e-3
  small_config.mixture.log_kappa_learning_rate = 1e-3
  small_config.augment.rotate = True
  small_config.augment.band_noise = 0.1
  return small_config


def _mesh(data, model=1):
  return jax.make_mesh(
    (data, model),
    ("data", "model"),
    devices=jax.devices()[: data * model],
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
  )


def _read_labels(count, task):
  assert task.name == "coords"
  rng = np.random.default_rng(0)
  unit = rng.normal(size=(count, 3))
  unit /= np.linalg.norm(unit, axis=1, keepdims=True)
  coords = encodings.encode_coordinates(*sphere.unit_to_latlon(unit))
  return {"coords": coords.astype(np.float32)}


def _state(config, centers=16):
  config.mixture.num_centers = centers
  config.mixture.log_kappa = 3.0
  return state_lib.create_state(
    config,
    tasks.create_tasks(config),
    image_shape=(32, 32, 5),
    read_labels=_read_labels,
  )


def _shardings(config, mesh):
  shapes = state_lib.state_shapes(
    config, tasks.create_tasks(config), image_shape=(32, 32, 5)
  )
  return sharding.state_shardings(shapes, mesh, fsdp=config.sharding == "fsdp")


def _make_step(config, mesh=None, axis_name=None):
  return step_lib.make_train_step(
    config, tasks.create_tasks(config, mesh=mesh), **_SCALE, axis_name=axis_name
  )


def _batch(seed, rows=32, sea_from=5):
  """Land on the first rows alone: most devices have nothing to average."""
  rng = np.random.default_rng(seed)
  label = rng.uniform(0.1, 0.9, (rows, 36)).astype(np.float32)
  label[:, :31] /= label[:, :31].sum(axis=1, keepdims=True)
  label[sea_from:, :31] = np.eye(31)[0]
  image = rng.normal(size=(rows, 32, 32, 5)).astype(np.float32)
  return {"image": image, **encodings.split_label(label)}


def _train(config, mesh, num_steps=20):
  """Metrics of each step, batch statistics after one, state after the last."""
  state = _state(config)
  shardings = _shardings(config, mesh)
  state = jax.device_put(state, shardings)
  axis_name = "data" if config.parallel == "pmap" else None
  step = sharding.compile_step(
    _make_step(config, mesh, axis_name), shardings, parallel=config.parallel
  )
  found = []
  for number in range(num_steps):
    batch = sharding.put_batch(_batch(number), mesh)
    state, metrics = step(state, batch)
    found.append([float(metrics[name]) for name in sorted(metrics)])
    if not number:
      batch_stats = jax.tree.map(np.array, state.batch_stats)
  return np.array(found), batch_stats, state


@pytest.fixture
def one_device(config):
  return _train(config, _mesh(1))


def _assert_same(found, expected):
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
  # After one step: biases before a norm have no gradient but rounding, which
  # Adam makes whole steps of.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    found[1],
    expected[1],
  )


def test_eight_devices_take_the_steps_of_one(config, one_device):
  _assert_same(_train(config, _mesh(8)), one_device)
  config.parallel = "pmap"
  _assert_same(_train(config, _mesh(8)), one_device)
  config.parallel, config.sharding = "jit", "fsdp"
  found = _train(config, _mesh(4, 2))
  _assert_same(found, one_device)
  state = found[-1]
  # Each device holds but its part.
  kernel = state.params["model"]["encoder"]["conv"]["kernel"]
  head = state.params["model"]["coords"]["kernel"]
  moments = state.opt_state.inner_states["coords/mu"].inner_state[0].mu
  mu = moments["model"]["coords"]["mu"]
  for array, parts in ((kernel, 4), (head, 2), (mu, 2)):
    assert array.addressable_shards[0].data.size * parts == array.size


@pytest.mark.slow
def test_eight_devices_take_the_steps_of_one_with_core(config):
  core = {"name": "core", "depths": (1,), "widths": (16,), "patch_size": 8}
  config.model.update(core)
  expected = _train(config, _mesh(1))
  _assert_same(_train(config, _mesh(8)), expected)
  config.parallel = "pmap"
  _assert_same(_train(config, _mesh(8)), expected)


def test_chunks_of_centers_are_spread_over_the_axis_model(config):
  config.mixture.chunk_size = 4
  expected = _train(config, _mesh(1), num_steps=4)
  _assert_same(_train(config, _mesh(2, 4), num_steps=4), expected)


def test_parts_of_a_batch_add_up_to_it(config):
  # The same images in both parts, so that batch norm sees the same; but land is
  # unevenly spread.
  config.augment.update(flip_east_west=False, rotate=False, band_noise=0.0)
  config.loss.variances_learning_rate = 0.1
  batch = _batch(0, rows=16)
  batch["image"] = np.repeat(batch["image"][::2], 2, axis=0)
  batch["climate"][:] = np.eye(31)[0]
  batch["climate"][:6:2] = np.eye(31)[3]
  batch["climate"][1] = np.eye(31)[4]
  found = []
  for parts in (1, 2):
    config.optimizer.accumulate = parts
    step = jax.jit(_make_step(config))
    state = _state(config)
    for _ in range(3):
      state, metrics = step(state, batch)
      found.append({name: float(metrics[name]) for name in metrics})
  for whole, in_parts in zip(found[:3], found[3:], strict=True):
    for name in whole:
      np.testing.assert_allclose(
        in_parts[name], whole[name], rtol=1e-4, atol=1e-5, err_msg=name
      )


def test_the_moving_average_has_a_short_memory_in_the_first_steps(config):
  """With the whole decay from the start it would stay near where it began."""
  config.optimizer.ema_decay = 0.999
  step = jax.jit(_make_step(config))
  state = _state(config)
  expected = np.float64(state.params["model"]["climate"]["kernel"])
  for number in range(3):
    state, _ = step(state, _batch(number))
    decay = min(0.999, (1 + number) / (10 + number))
    newest = np.float64(state.params["model"]["climate"]["kernel"])
    expected = decay * expected + (1 - decay) * newest
  found = state.ema["params"]["model"]["climate"]["kernel"]
  np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
  ("shape", "spec"),
  [
    # The largest axis that the devices divide, wherever it is.
    ((64, 1024), (None, "data")),
    ((3, 3, 320, 160), (None, None, "data", None)),
    ((1000, 1001), ("data", None)),
    ((48, 48), ("data", None)),
    # None that divides, and what is not worth a message.
    ((1001, 33), (None, None)),
    ((8, 16), (None, None)),
  ],
)
def test_fsdp_spreads_the_largest_axis_that_divides(shape, spec):
  array = jax.ShapeDtypeStruct(shape, jnp.float32)
  (sharded,) = sharding.state_shardings([array], _mesh(8), fsdp=True)
  assert tuple(sharded.spec) == spec


def test_cut_mix_weighs_both_places(config):
  config.augment.update(flip_east_west=False, rotate=False, band_noise=0.0)
  batch = _batch(0, rows=8, sea_from=8)
  plain = jax.jit(_make_step(config))
  # All the same image: a pasted piece changes nothing but the labels' weights.
  batch["image"] = np.repeat(batch["image"][:1], 8, axis=0)
  _, expected = plain(_state(config), batch)
  config.augment.cut_mix = 0.5
  mixed = jax.jit(_make_step(config))
  _, metrics = mixed(_state(config), batch)
  np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
  batch = {name: value[::-1] for name, value in batch.items()}
  batch["image"] = _batch(1, rows=8)["image"]
  assert (
    mixed(_state(config), batch)[1]["loss"]
    != (plain(_state(config), batch)[1]["loss"])
  )


def test_the_rate_scale_scales_every_update(config):
  step = jax.jit(_make_step(config))
  before = _state(config)
  before, _ = step(before, _batch(0))  # Out of the warm-up's zero.
  whole, _ = step(before, _batch(1))
  half, _ = step(before.replace(rate_scale=jnp.float32(0.5)), _batch(1))
  jax.tree.map(
    lambda a, b, c: np.testing.assert_allclose(c - a, (b - a) / 2, atol=1e-6),
    before.params["model"],
    whole.params["model"],
    half.params["model"],
  )


def _spread_over(config, mesh):
  """A step over a mesh, and a state and a batch that are spread over it."""
  state = _state(config, centers=2048)
  shardings = _shardings(config, mesh)
  step = sharding.compile_step(
    _make_step(config, mesh), shardings, parallel="jit"
  )
  batch = sharding.put_batch(_batch(0, rows=64), mesh)
  return step, jax.device_put(state, shardings), batch


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("spread", ["replicated", "fsdp"])
def test_the_step_over_a_mesh_lowers_for_accelerators(config, platform, spread):
  """With the centers in chunks, and spread over the axis "model"."""
  config.sharding = spread
  config.mixture.chunk_size = 256
  step, *arguments = _spread_over(config, _mesh(4, 2))
  exported = jax.export.export(step, platforms=[platform])(*arguments)
  assert exported.nr_devices == 8


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_mapped_step_lowers_for_accelerators(config, platform):
  step = sharding.compile_step(
    _make_step(config, axis_name="data"),
    jax.sharding.NamedSharding(_mesh(8), jax.sharding.PartitionSpec()),
    parallel="pmap",
  )
  # A mapped function within a jitted one, which is what can be exported.
  exported = jax.export.export(jax.jit(step), platforms=[platform])(
    _state(config), _batch(0, rows=64)
  )
  assert exported.nr_devices == 8
  assert "all_reduce" in exported.mlir_module()


@pytest.fixture
def collectives(config):
  """Those of a step on eight devices, the bytes of its gradients, and more."""
  step, state, batch = _spread_over(config, _mesh(8))
  text = step.lower(state, batch).compile().as_text()
  gradients = sum(4 * x.size for x in jax.tree.leaves(state.params))
  # On CPUs gradients of 3x3 kernels are summed while they are spread over 6x6.
  spread = sum(
    3 * 4 * x.size
    for path, x in jax.tree.leaves_with_path(state.params)
    if "conv3" in jax.tree_util.keystr(path) and x.ndim == 4
  )
  return scaling.collectives(text), gradients, spread


def test_devices_exchange_gradients_and_nothing_like_logits(collectives):
  found, gradients, spread = collectives
  reduced = [size for kind, size in found if kind == "all-reduce"]
  # The gradients once, and beside them but batch norm's means and the loss's
  # sums.
  assert gradients <= sum(reduced) <= 1.05 * gradients + spread + 20_000
  assert max(size for _, size in found) < 64 * 2048 * 4


def test_activations_stay_where_they_are(collectives):
  found, *_ = collectives
  assert {kind for kind, _ in found} == {"all-reduce"}
