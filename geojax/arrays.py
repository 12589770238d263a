"""Widening and checks of the arguments of the pure functions, in JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax import sphere

# Allowed error of a unit vector's length: above bfloat16 rounding (0.002) and
# the steps of a finite difference, below any vector that was never scaled.
_UNIT_TOLERANCE = 5e-3


def float_type(*values):
  """Returns the float type, float32 or wider, that holds all the values."""
  with jax.numpy_dtype_promotion("standard"):
    # Python's 0.0 is weak: it turns integers into JAX's default float, and
    # widens no array.
    return jnp.promote_types(jnp.result_type(*values, 0.0), jnp.float32)


def widen(*values):
  """Returns the values as JAX arrays of one float type, float32 or wider."""
  dtype = float_type(*values)
  return [jnp.asarray(v, dtype) for v in values]


def check_shape(name, value, expected):
  """Raises a ValueError unless the shape is as expected; names match any."""
  fits = len(value.shape) == len(expected) and all(
    isinstance(want, str) or have == want
    for have, want in zip(value.shape, expected, strict=True)
  )
  if not fits:
    wanted = ", ".join(map(str, expected))
    raise ValueError(
      f"{name} must have shape [{wanted}], found {list(value.shape)}"
    )


def check_unit(name, x):
  """Raises a ValueError unless `x` is `[..., 3]` and, if known, of length 1."""
  sphere.check_last_dim(name, x, 3)
  # A traced array has no values yet; a global one may hold some elsewhere.
  if isinstance(x, jax.core.Tracer) or not x.is_fully_addressable:
    return
  length = np.linalg.norm(np.asarray(x, np.float64), axis=-1)
  wrong = np.abs(length - 1) > _UNIT_TOLERANCE  # False for NaN: it propagates.
  if wrong.any():
    raise ValueError(
      f"{name} must hold unit vectors (length 1), found length "
      f"{length[wrong][0]:.6g}"
    )
