"""Checkpoints: the whole of a run's state, on the devices and on the host.

The only room that knows Orbax (its V1 interface).
"""

import contextlib
import logging
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from geojax.training.errors import CheckpointError


class Checkpointer:
  """The checkpoints of a workdir; one is either whole or not there.

  Orbax writes to a temporary name and renames: a run killed in the middle of a
  save leaves its last checkpoint as it was. What happens to a checkpoint
  afterwards is noticed by a checksum of the arrays as they were on the devices.
  """

  def __init__(
    self, workdir: pathlib.Path, *, keep: int, read_only: bool = False
  ):
    """Opens `workdir/checkpoints`.

    Args:
      workdir: Folder of the run.
      keep: The newest checkpoints that stay on disk, beside the best.
      read_only: Leaves everything as it is: the run may still be training.
    """
    self._read_only = read_only
    self._folder = (workdir / "checkpoints").absolute()
    self._kept = _NewestAndBest(keep)
    self._saving = None
    self._checkpointer = ocp.training.Checkpointer(
      self._folder,
      # When to save is the loop's to say.
      save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(
        1
      ),
      preservation_policy=self._kept,
      cleanup_tmp_directories=not read_only,
    )

  def steps(self) -> list[int]:
    """The steps of the checkpoints, the newest first."""
    return [found.step for found in reversed(self._checkpointer.checkpoints)]

  def save(self, step: int, state, record: dict, *, best_step: int) -> None:
    """Saves, in the background, what the next step needs.

    Args:
      step: Steps taken.
      state: Tree of arrays.
      record: What the host remembers; a dict that JSON can hold.
      best_step: The checkpoint to keep beside the newest ones.

    Raises:
      CheckpointError: This or the last one cannot be written.
    """
    self._kept.best_step = best_step
    saved = {
      "state": state,
      "record": {
        "content": record,
        "checksum": _checksum_of_record(record),
        "arrays": _checksums(state),
      },
    }
    with self._telling_why():
      self._await_last_save()
      self._saving = self._checkpointer.save_checkpointables_async(step, saved)

  def _await_last_save(self):
    # Orbax would wait by itself; but a save that nobody asks for its result
    # keeps its thread, and what that refers to, as long as the process lives.
    if self._saving is not None:
      saving, self._saving = self._saving, None
      saving.result()

  def restore(self, state, *, step: int | None = None, report=print):
    """Restores the newest checkpoint that is whole.

    Those that are newer and damaged are removed: the steps after the restored
    one are taken again.

    Args:
      state: A tree like the saved one; gives shapes, types and devices.
      step: Restores this one alone.
      report: Told of each checkpoint that is damaged.

    Returns:
      The saved state and record.

    Raises:
      CheckpointError: There is none that is whole.
    """
    steps = self.steps() if step is None else [step]
    damaged = []
    for candidate in steps:
      try:
        restored = self._load(candidate, state)
      except Exception as error:
        # Whatever Orbax makes of a missing or garbled file.
        damaged.append((candidate, _reason(error)))
        report(
          f"checkpoint {self._folder / str(candidate)} is damaged:"
          f" {_reason(error)}"
        )
        # The reads of its other arrays fail alike; asyncio would tell each.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        continue
      for newer, _ in [] if self._read_only else damaged:
        self._checkpointer.delete(newer)
      if damaged:
        report(f"going on from checkpoint {self._folder / str(candidate)}")
      return restored
    raise CheckpointError(
      f"no checkpoint in {self._folder} can be read, not even step"
      f" {damaged[-1][0]}: {damaged[-1][1]}. Restore one from a backup, or"
      " remove the workdir and train anew"
    )

  def _load(self, step, state):
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state,
    )
    loaded = self._checkpointer.load_checkpointables(
      step, {"state": abstract, "record": None}
    )
    restored, record = loaded["state"], loaded["record"]
    if record["checksum"] != _checksum_of_record(record["content"]):
      raise ValueError("its record differs from what was saved")
    for name, value in _checksums(restored).items():
      if record["arrays"][name] != value:
        raise ValueError(f"{name} differs from what was saved")
    return restored, record["content"]

  def close(self) -> None:
    """Waits for what is still being written.

    Raises:
      CheckpointError: It cannot be written.
    """
    with self._telling_why():
      try:
        self._await_last_save()
      finally:
        self._checkpointer.close()

  @contextlib.contextmanager
  def _telling_why(self):
    try:
      yield
    except Exception as error:
      raise CheckpointError(
        f"a checkpoint cannot be written to {self._folder}: {_reason(error)}."
        " Older ones are as they were; make room, and the same command goes on"
        " from the newest"
      ) from error


class _NewestAndBest:
  """Which checkpoints stay: the newest, and the best so far."""

  def __init__(self, keep):
    self._keep = keep
    self.best_step = 0

  def should_preserve(self, checkpoints, *, context):
    """Tells for each checkpoint, the oldest first, whether it stays."""
    del context
    newest = len(checkpoints) - self._keep
    return [
      i >= newest or found.step == self.best_step
      for i, found in enumerate(checkpoints)
    ]


def _reason(error):
  """The first words of an error of Orbax, which can run over pages."""
  return str(error).strip().split("\n")[0].split(" [tensorstore")[0][:300]


def _checksum_of_record(record):
  return zlib.crc32(repr(sorted(record.items())).encode())


def _checksums(state) -> dict[str, int]:
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
