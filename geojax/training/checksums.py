"""Checksums of a run's state, by which damage to a checkpoint is noticed."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def of_record(record: dict) -> int:
  """A number that changes with what the host remembers."""
  return zlib.crc32(repr(sorted(record.items())).encode())


def of_arrays(state) -> dict[str, int]:
  """A number for each array that changes with each of its bytes.

  Computed where the arrays are, however they are spread over devices and
  processes: the same number on any of them.
  """
  leaves = jax.tree_util.tree_leaves_with_path(state)
  sums = _sums_of_words([leaf for _, leaf in leaves])
  return {
    jax.tree_util.keystr(path): int(value)
    for (path, _), value in zip(leaves, np.asarray(sums), strict=True)
  }


@jax.jit
def _sums_of_words(leaves):
  return jnp.stack([_sum_of_words(leaf) for leaf in leaves])


def _sum_of_words(x):
  unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
  words = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
  # Odd weights, all different: a byte that changes always changes the sum
  # modulo 2^32, and words that change places do too. No reshape, which would
  # gather a sharded array.
  index = jnp.zeros(x.shape, jnp.uint32)
  for axis, size in enumerate(x.shape):
    index = index * np.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, x.shape, axis
    )
  return jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)
