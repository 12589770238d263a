"""Checksums of a run's state, which detect damage to a checkpoint."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def of_record(record: dict) -> int:
  """Returns the checksum of the state of the host."""
  return zlib.crc32(repr(sorted(record.items())).encode())


def of_arrays(state) -> dict[str, int]:
  """Returns the checksum of each array, keyed by its path in the tree.

  Computed on the devices. The result does not depend on how an array is
  sharded over devices and processes.
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
  # With distinct odd weights, a changed byte always changes the sum modulo
  # 2^32, and so do swapped words. No reshape: it would gather a sharded array.
  index = jnp.zeros(x.shape, jnp.uint32)
  for axis, size in enumerate(x.shape):
    index = index * np.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, x.shape, axis
    )
  return jnp.sum(words * (2 * index + 1), dtype=jnp.uint32)
