"""Checkpoints: the whole of a run's state, and the data iterator's position.

The only room that knows Orbax (its V1 interface).
"""

import pathlib

import jax
from orbax.checkpoint import v1 as ocp


class Checkpointer:
  """The checkpoints of a workdir; one is either whole or not there.

  Orbax writes to a temporary name and renames: a run killed in the middle of a
  save leaves its last checkpoint as it was.
  """

  def __init__(self, workdir: pathlib.Path, *, keep: int):
    """Opens `workdir/checkpoints`.

    Args:
      workdir: Folder of the run.
      keep: The newest checkpoints that stay on disk.
    """
    self._checkpointer = ocp.training.Checkpointer(
      (workdir / "checkpoints").absolute(),
      # When to save is the loop's to say.
      save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(
        1
      ),
      preservation_policy=ocp.training.preservation_policies.LatestN(keep),
      cleanup_tmp_directories=True,
    )

  def latest_step(self) -> int | None:
    """The step of the newest checkpoint, None where there is none."""
    latest = self._checkpointer.latest
    return None if latest is None else latest.step

  def save(self, step: int, state, iterator) -> None:
    """Saves, in the background, what the next step needs.

    Args:
      step: Steps taken.
      state: Tree of arrays.
      iterator: The data iterator, before the batch of the next step is drawn.
    """
    self._checkpointer.save_checkpointables_async(
      step, {"state": state, "data": iterator}
    )

  def restore(self, state, iterator):
    """Restores the newest checkpoint.

    Args:
      state: A tree like the saved one; gives shapes, types and devices.
      iterator: An iterator like the saved one; moved to its position.

    Returns:
      The saved state.
    """
    loaded = self._checkpointer.load_checkpointables(
      None, {"state": _abstract(state), "data": iterator}
    )
    return loaded["state"]

  def restore_state(self, state):
    """Restores the newest checkpoint's state alone, for evaluation."""
    loaded = self._checkpointer.load_checkpointables(
      None, {"state": _abstract(state)}
    )
    return loaded["state"]

  def close(self) -> None:
    """Waits for what is still being written."""
    self._checkpointer.close()


def _abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    state,
  )
