"""What the pure functions do to their arguments first: widen and check."""

import jax
import jax.numpy as jnp
import numpy as np

# How far a length may be from 1: more than bfloat16 rounding (0.002) and the
# steps of a finite difference, less than any vector someone forgot to scale.
_UNIT_TOLERANCE = 5e-3


def float_type(*values):
  """Returns the float type, float32 or wider, that holds all the values."""
  with jax.numpy_dtype_promotion("standard"):
    # Python's 0.0 is weak: it turns integers into floats, and alone it is of
    # JAX's default type, but it widens no array.
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
    wanted = ", ".join(str(want) for want in expected)
    raise ValueError(
      f"{name} must have shape [{wanted}], found {list(value.shape)}"
    )


def check_unit(name, x):
  """Raises a ValueError unless `x` is `[..., 3]` and, if known, of length 1."""
  if x.ndim == 0 or x.shape[-1] != 3:
    raise ValueError(f"{name} must have shape [..., 3], found {x.shape}")
  # A traced array has no values yet; a global one may not have them all here.
  if isinstance(x, jax.core.Tracer) or not x.is_fully_addressable:
    return
  length = np.linalg.norm(np.asarray(x, np.float64), axis=-1)
  wrong = np.abs(length - 1) > _UNIT_TOLERANCE  # False for NaN, which shows.
  if wrong.any():
    raise ValueError(
      f"{name} must hold unit vectors (length 1), found length "
      f"{length[wrong][0]:.6g}"
    )


def lead(x, rank):
  """Gives `x` that many axes, new ones in front: broadcasting said aloud."""
  return x.reshape((1,) * (rank - x.ndim) + x.shape)


def broadcast(*values):
  """Broadcasts the values against each other, ranks too."""
  shape = np.broadcast_shapes(*[v.shape for v in values])
  return [jnp.broadcast_to(v, shape) for v in values]
