"""Parameters, work and memory of every encoder, as a table in Markdown.

  python -m experiments.benchmarks.model_table [--side 128] [--bands 10]

Nothing is computed: shapes are traced. GFLOPs are those of a forward pass of
one patch, 2 for each multiplication and addition of matrix products and of
convolutions in their native form. Memory is what the backward pass of a
training step keeps of the forward pass, in MiB a patch, as JAX traces it; the
compiler adds working memory of single layers, and may keep less. Encoders have
the heads of 36 outputs, the U has one output a pixel.
"""

import argparse
import functools

import jax
import jax.numpy as jnp

from geojax import models
from geojax.models import core
from geojax.training import config as config_lib

NAMES = ("core", "core_unet", "vit")
PATCH_SIZES = {"core": (1,), "core_unet": (1,), "vit": (16, 8)}
# A prime that no other dimension has: by it what grows with the batch is known.
_BATCH = 1009
HEADER = (
  "| model | parameters | GFLOPs | float32 | bfloat16 | float32, remat |"
  " bfloat16, remat |\n|---|--:|--:|--:|--:|--:|--:|"
)


def make_model(name: str, size: str, patch_size: int, **changes):
  """The model of a row; `changes` are to the config's `model` part."""
  config = config_lib.default_config().model
  config.update(name=name, size=size, patch_size=patch_size, **changes)
  if name == "core_unet":
    return models.CoreUnet(**core.attributes(config, axis_name=None))
  heads = {"coords": models.Linear(3), "climate": models.Linear(31)}
  return models.create_model(config, heads | {"date": models.Linear(2)})


def count_parameters(model, bands: int, side: int) -> int:
  """Values that are learned; running statistics are none."""
  params = _variables(model, bands, side)["params"]
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_flops(model, bands: int, side: int) -> int:
  """Of one patch's forward pass, in matrix products and convolutions."""
  variables = _variables(model, bands, side)
  traced = jax.make_jaxpr(model.apply)(variables, _images(1, bands, side))
  return _flops(traced.jaxpr)


def count_kept_bytes(model, bands: int, side: int) -> int:
  """What the backward pass keeps a patch, parameters aside."""
  kept = _kept(model, _BATCH, bands, side)
  patches = [aval for aval in kept if aval.size % _BATCH == 0]
  size = sum(aval.size * aval.dtype.itemsize for aval in patches)
  return size // _BATCH


def make_row(name, size, patch_size, bands=10, side=128) -> str:
  """A line of the table."""
  label = f"{name}_{size}" + (f"/{patch_size}" if name == "vit" else "")
  make = functools.partial(make_model, name, size, patch_size)
  kept = [
    count_kept_bytes(make(dtype=dtype, remat=remat), bands, side) / 2**20
    for remat in (False, True)
    for dtype in ("float32", "bfloat16")
  ]
  cells = [
    label,
    f"{count_parameters(make(), bands, side):,}",
    f"{count_flops(make(), bands, side) / 1e9:,.2f}",
    *(f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in kept),
  ]
  return f"| {' | '.join(cells)} |"


def _images(batch, bands, side):
  return jax.ShapeDtypeStruct((batch, side, side, bands), jnp.float32)


@functools.cache
def _variables(model, bands, side):
  init = functools.partial(model.init, jax.random.key(0))
  return jax.eval_shape(init, _images(1, bands, side))


def _kept(model, batch, bands, side):
  variables = dict(_variables(model, bands, side))
  params = variables.pop("params")

  def pull_back(params, others, images):
    def apply(params):
      return model.apply(
        {"params": params, **others},
        images,
        train=True,
        mutable=["batch_stats"],
      )[0]

    return jax.tree.leaves(jax.vjp(apply, params)[1])

  traced = jax.make_jaxpr(pull_back)(
    params, variables, _images(batch, bands, side)
  )
  # A dict, as an array may be kept by several layers.
  return {id(leaf): leaf.aval for leaf in traced.jaxpr.outvars}.values()


def _flops(jaxpr):
  """Counts through nested programs."""
  total = 0
  for equation in jaxpr.eqns:
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name == "dot_general":
      left = equation.invars[0].aval.shape
      (contracted, _), _ = equation.params["dimension_numbers"]
      depth = 1
      for axis in contracted:
        depth *= left[axis]
      total += 2 * out.size * depth
    elif name == "conv_general_dilated":
      kernel = equation.invars[1].aval
      features = equation.params["dimension_numbers"].rhs_spec[0]
      total += 2 * out.size * kernel.size // kernel.shape[features]
    elif name.endswith("conv_3x3_apply"):
      # Full or depthwise, in whatever form a platform computes it.
      kernel = equation.invars[1].aval
      total += 2 * out.size * kernel.size // kernel.shape[-1]
    else:
      times = equation.params["length"] if name == "scan" else 1
      total += times * sum(map(_flops, _inner(equation)))
  return total


def _inner(equation):
  """The programs inside an equation."""
  for value in equation.params.values():
    for item in value if isinstance(value, tuple | list) else [value]:
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        yield item


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--side", type=int, default=128)
  parser.add_argument("--bands", type=int, default=10)
  args = parser.parse_args()
  print(HEADER)
  for name in NAMES:
    for patch_size in PATCH_SIZES[name]:
      for size in models.ENCODERS[name].sizes:
        row = make_row(name, size, patch_size, args.bands, args.side)
        print(row, flush=True)


if __name__ == "__main__":
  main()
