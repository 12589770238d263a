"""Bilinear operations of images and kernels as JAX primitives.

A convolution is linear in its images and in its kernel. So are its two
adjoints, which reverse mode needs, in their operands; and the three are each
other's derivatives and transposes:

    operation                   transposed in its first, its second operand
    apply(x, k)           -> y  image_adjoint(y, k)     kernel_adjoint(x, y)
    image_adjoint(g, k)   -> x  apply(x, k)             kernel_adjoint(x, g)
    kernel_adjoint(x, g)  -> k  image_adjoint(g, k)     apply(x, k)

A primitive for each makes forward and reverse mode exact to any order, and lets
each platform compute each of the three in the form that it runs fast.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir


class Forms(NamedTuple):
  """How a platform computes an operation and its adjoints.

  Attributes:
    apply: Images `[batch, height, width, in]` and a kernel to images.
    image_adjoint: Cotangent of those images and the kernel to images.
    kernel_adjoint: Images and that cotangent to a kernel.
  """

  apply: Callable
  image_adjoint: Callable
  kernel_adjoint: Callable


def make_operation(name: str, *, cpu: Forms, default: Forms) -> Callable:
  """Makes a bilinear operation that differentiates, batches and lowers.

  Args:
    name: Of its primitives.
    cpu: Its forms on a CPU.
    default: Those on any other platform.

  Returns:
    A function of images and a kernel, as of `Forms.apply`.
  """
  apply, image_adjoint, kernel_adjoint = (
    _make_primitive(f"{name}_{field}", getattr(cpu, field), of_default)
    for field, of_default in default._asdict().items()
  )
  ad.defbilinear(
    apply,
    lambda ct, x, k: image_adjoint.bind(ct, k),
    lambda ct, x, k: kernel_adjoint.bind(x, ct),
  )
  ad.defbilinear(
    image_adjoint,
    lambda ct, g, k: apply.bind(ct, k),
    lambda ct, g, k: kernel_adjoint.bind(ct, g),
  )
  ad.defbilinear(
    kernel_adjoint,
    lambda ct, x, g: image_adjoint.bind(g, ct),
    lambda ct, x, g: apply.bind(x, ct),
  )
  return apply.bind


def _make_primitive(name, cpu, default):
  primitive = core.Primitive(name)

  @jax.jit
  def either(first, second):
    return jax.lax.platform_dependent(first, second, cpu=cpu, default=default)

  def abstract_eval(first, second):
    out = jax.eval_shape(default, first, second)
    return jax.core.ShapedArray(out.shape, out.dtype)

  def batch(args, dims):
    if name.endswith("kernel_adjoint") or dims[1] is not None:
      return jax.vmap(either, in_axes=tuple(dims))(*args), 0
    # More images of one kernel are a larger batch of the same operation.
    images = jnp.moveaxis(args[0], dims[0], 0)
    out = primitive.bind(images.reshape(-1, *images.shape[2:]), args[1])
    return out.reshape(*images.shape[:2], *out.shape[1:]), 0

  primitive.def_impl(either)
  primitive.def_abstract_eval(abstract_eval)
  batching.primitive_batchers[primitive] = batch
  lower = functools.partial(mlir.lower_fun, multiple_results=False)
  mlir.register_lowering(primitive, lower(cpu), platform="cpu")
  mlir.register_lowering(primitive, lower(default))
  return primitive
