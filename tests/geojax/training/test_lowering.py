"""Steps of every encoder are lowered for accelerators that are not there.

Lowering finds operations without an implementation on a platform, and types and
shardings that don't go together. It neither compiles nor runs anything.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs

from geojax import models, tasks
from geojax.models import vit
from geojax.training import restore, sharding
from geojax.training import step as step_lib

_DEVICES = 8
_IMAGE = (32, 32, 5)
_SCALE = {"offset": np.zeros(5, "float32"), "divisor": np.ones(5, "float32")}
_PLATFORMS = ("cuda", "tpu")
# The smallest model of each encoder; a new encoder needs a line here.
_SMALL = {
  "core": {"depths": (1,), "widths": (16,)},
  "core_unet": {"depths": (1, 1), "widths": (32, 64)},
  "vit": {"size": "ti", "patch_size": 16},
}
# Other tests may have registered encoders of their own.
_ENCODERS = [
  name
  for name, encoder in models.ENCODERS.items()
  if encoder.create.__module__.startswith("geojax.")
]
# How a step is spread over devices: `config.parallel` and `config.sharding`.
_SPREADS = (("jit", "replicated"), ("jit", "fsdp"), ("pmap", "replicated"))
_DTYPES = ("float32", "bfloat16")


def _grid(spreads, quick):
  """All combinations; those that are not `quick` are slow.

  Args:
    spreads: Some of `_SPREADS`.
    quick: Pairs of a spread and a type.
  """
  return [
    pytest.param(
      *(name, spread, dtype),
      id="-".join((name, *spread, dtype)),
      marks=() if (spread, dtype) in quick else pytest.mark.slow,
    )
    for name, spread, dtype in itertools.product(_ENCODERS, spreads, _DTYPES)
  ]


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
  """A block for each of the stages of "vit", which has no smaller size."""
  monkeypatch.setitem(vit.SIZES, "ti", (48, 4, 3))


def _abstract(mesh, name, spread, dtype):
  """A config, its tasks, and a state and a batch without values."""
  # No data set is read.
  config = small_runs.small_config("")
  config.extensions = ()
  config.model.dropout = 0.0
  config.model.name = name
  config.model.update(_SMALL[name])
  config.model.dtype = dtype
  config.parallel, config.sharding = spread
  task_list = tasks.create_tasks(config, mesh=mesh)
  state = restore.abstract_state(config, task_list, _IMAGE, mesh)
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  batch = {
    field: jax.ShapeDtypeStruct((16, *shape), kind, sharding=rows)
    for field, shape, kind in (
      ("image", _IMAGE, jnp.int16),
      ("climate", (31,), jnp.float32),
      ("coords", (3,), jnp.float32),
      ("date", (2,), jnp.float32),
    )
  }
  return config, task_list, state, batch


def _check_lowers(function, *arguments):
  """Lowers a function for each platform, one after the other.

  Together, a branch of one platform could hide what another lacks.
  """
  for platform in _PLATFORMS:
    exported = jax.export.export(function, platforms=[platform])(*arguments)
    assert exported.platforms == (platform,)
    assert exported.nr_devices == _DEVICES
  return exported.mlir_module()


def _check_spread(state, spread):
  axes = {
    axis
    for leaf in jax.tree.leaves(state.params)
    for axis in leaf.sharding.spec
  }
  assert ("data" in axes) == (spread[1] == "fsdp")


def test_every_encoder_has_a_small_model():
  assert set(_ENCODERS) == set(_SMALL)


@pytest.mark.parametrize(
  ("name", "spread", "dtype"),
  _grid(
    _SPREADS,
    {
      (("jit", "replicated"), "float32"),
      (("jit", "fsdp"), "bfloat16"),
      (("pmap", "replicated"), "bfloat16"),
    },
  ),
)
def test_a_train_step_lowers(name, spread, dtype):
  mesh = sharding.create_mesh()
  config, task_list, state, batch = _abstract(mesh, name, spread, dtype)
  pmap = config.parallel == "pmap"
  train_step = step_lib.make_train_step(
    config, task_list, **_SCALE, axis_name="data" if pmap else None
  )
  step = sharding.compile_step(
    train_step,
    jax.tree.map(lambda x: x.sharding, state),
    parallel=config.parallel,
  )
  # Only a jitted function can be exported, such as one of a mapped one.
  step = jax.jit(step) if pmap else step
  text = _check_lowers(step, state, batch)
  assert ("bf16" in text) == (dtype == "bfloat16")
  _check_spread(state, spread)


@pytest.mark.parametrize(
  ("name", "spread", "dtype"),
  # Evaluation is jitted always.
  _grid(_SPREADS[:2], {(("jit", "fsdp"), "bfloat16")}),
)
def test_an_evaluation_step_lowers(name, spread, dtype):
  mesh = sharding.create_mesh()
  config, task_list, state, batch = _abstract(mesh, name, spread, dtype)
  predict = jax.jit(
    step_lib.make_columns(config, task_list, **_SCALE),
    out_shardings=sharding.replicated(mesh),
  )
  text = _check_lowers(predict, state.evaluated, batch)
  assert ("bf16" in text) == (dtype == "bfloat16")
  _check_spread(state, spread)
