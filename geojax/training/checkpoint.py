"""Checkpoints: the whole of a run's state, on the devices and on the host.

The only module that imports Orbax (its V1 interface).
"""

import contextlib
import logging
import pathlib
import time

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from geojax.training import checksums
from geojax.training.errors import CheckpointError

# Pauses before a failed read is tried again.
_WAITS_S = (1.0, 3.0)
# What TensorStore reports of a block whose own checksum differs.
_CHECKSUM_DIFFERS = "CRC-32C checksum verification failed"
# Keys of another tree that an error lists.
_SHOWN_KEYS = 10
# What became of a read, from good to bad.
_LOADED, _DAMAGED, _OTHER_TREE, _UNREADABLE = range(4)


class _DamagedError(Exception):
  """What was read is not what was saved."""


class Checkpointer:
  """The checkpoints of a workdir; one is either whole or not there.

  Orbax writes to a temporary name and renames: a run killed in the middle of a
  save leaves its last checkpoint as it was. What happens to a checkpoint
  afterwards is noticed by a checksum of the arrays as they were on the devices.

  Nothing is deleted because it could not be read. A checkpoint whose checksum
  differs is moved to `workdir/checkpoints_damaged`; one that cannot be read at
  all, as on a file system that is away for a while, stays where it is and ends
  the run.
  """

  def __init__(
    self, workdir: pathlib.Path, *, keep: int, read_only: bool = False
  ):
    """Opens `workdir/checkpoints`.

    Args:
      workdir: Folder of the run.
      keep: The newest checkpoints that stay on disk, beside the best.
      read_only: Leaves everything as it is: the run may still be training.

    Raises:
      CheckpointError: The folder cannot be read.
    """
    self._read_only = read_only
    self._folder = (workdir / "checkpoints").absolute()
    self._damaged_folder = (workdir / "checkpoints_damaged").absolute()
    self._kept = _NewestAndBest(keep)
    self._saving = None
    training = ocp.training
    try:
      self._checkpointer = training.Checkpointer(
        self._folder,
        # The loop decides when to save.
        save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(
          1
        ),
        preservation_policy=self._kept,
        cleanup_tmp_directories=not read_only,
      )
    except OSError as error:
      raise CheckpointError(
        f"{self._folder} cannot be read: {_reason(error)}. Nothing was changed;"
        " the same command goes on when it can be"
      ) from error

  def steps(self) -> list[int]:
    """Steps of the checkpoints, the newest first, as process 0 sees them."""
    steps = [found.step for found in reversed(self._checkpointer.checkpoints)]
    if jax.process_count() > 1:
      # A shared folder may show a new checkpoint to one host before another.
      broadcast = multihost_utils.broadcast_one_to_all
      count = int(broadcast(np.int32(len(steps))))
      padded = (steps + [0] * count)[:count]
      steps = broadcast(np.array(padded, np.int64)).tolist()
    return steps

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
        "checksum": checksums.of_record(record),
        "arrays": checksums.of_arrays(state),
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
    """Restores the newest checkpoint.

    A failed read is tried again, twice. All processes take the same decision.

    Args:
      state: A tree like the saved one; gives shapes, types and devices.
      step: Restores this one alone.
      report: Called with one line for each checkpoint that is damaged.

    Returns:
      The saved state and record.

    Raises:
      CheckpointError: There is none, it cannot be read, it holds another tree,
        or all are damaged. Names what differs and the way out.
    """
    steps = self.steps() if step is None else [step]
    if not steps:
      raise CheckpointError(f"there is no checkpoint in {self._folder}")
    damaged = []
    for candidate in steps:
      try:
        restored = self._load(candidate, state)
      except _DamagedError as error:
        report(
          f"checkpoint {self._folder / str(candidate)} is damaged: {error}"
        )
        damaged.append(candidate)
        continue
      # Not before: a run whose checkpoints are all damaged must not look like
      # one that has none.
      for newer in [] if self._read_only else damaged:
        report(f"step {newer} was moved to {self._set_aside(newer)}")
      if damaged:
        report(f"going on from checkpoint {self._folder / str(candidate)}")
      return restored
    raise CheckpointError(
      f"no checkpoint of {self._folder} is whole, not even step"
      f" {damaged[-1]}; they were left as they are. Restore one from a backup,"
      " or take another --workdir and train anew"
    )

  def _set_aside(self, step):
    """Moves a damaged checkpoint, whole, out of Orbax's sight."""
    number = 1
    while (target := self._damaged_folder / f"{step}-{number}").exists():
      number += 1
    _sync_processes(f"set_aside_{step}")
    if jax.process_index() == 0:
      target.parent.mkdir(exist_ok=True)
      (self._folder / str(step)).rename(target)
    _sync_processes(f"set_aside_done_{step}")
    self._checkpointer.reload()
    return target

  def _load(self, step, state):
    """Loads a checkpoint on all processes, or raises on all."""
    path = self._folder / str(step)
    for wait_s in (*_WAITS_S, None):
      loaded, outcome, why = None, _LOADED, ""
      try:
        loaded = self._read(step, state)
      except _DamagedError as error:
        outcome, why = _DAMAGED, str(error)
      except CheckpointError as error:
        outcome, why = _OTHER_TREE, str(error)
      except Exception as error:
        # Whatever Orbax makes of a missing or garbled file, a stale handle.
        outcome, why = _UNREADABLE, _reason(error)
      worst = _worst_of_processes(outcome)
      if worst == _UNREADABLE and wait_s is not None:
        time.sleep(wait_s)
        continue
      break
    if worst != outcome:
      why = "another process found it so; see its output"
    if worst == _DAMAGED:
      raise _DamagedError(why)
    if worst == _OTHER_TREE:
      raise CheckpointError(why)
    if worst == _UNREADABLE:
      older = any(other < step for other in self.steps())
      otherwise = "it goes on from an older one" if older else "it begins anew"
      raise CheckpointError(
        f"checkpoint {path} cannot be read: {why}. It was left as it is. Make"
        " it readable or put back what is missing, and the same command goes"
        f" on; or move {path} elsewhere, and {otherwise}"
      )
    restored, record = loaded["state"], loaded["record"]
    # Sums over arrays that may be spread over all processes: the same result
    # in each of them.
    for name, value in checksums.of_arrays(restored).items():
      if record["arrays"].get(name) != value:
        raise _DamagedError(f"{name} differs from what was saved")
    return restored, record["content"]

  def _read(self, step, state):
    """Reads what this process holds, without waiting for any other."""
    # One failed read of many arrays is one error here; asyncio would log each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    path = self._folder / str(step)
    process = jax.process_index()
    context = ocp.Context()
    context.multiprocessing.primary_host = process
    context.multiprocessing.active_processes = {process}
    context.multiprocessing.barrier_sync_key_prefix = f"restore_{process}"
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state,
    )
    try:
      with context:
        saved = ocp.checkpointables_metadata(path).metadata.get("state")
        # None where it cannot be read; loading then reports why.
        if saved is not None:
          _check_tree(path, saved, abstract)
        loaded = ocp.load_checkpointables(
          path, {"state": abstract, "record": None}
        )
    except CheckpointError:
      raise
    except Exception as error:
      if _CHECKSUM_DIFFERS in str(_root_cause(error)):
        raise _DamagedError(_reason(error)) from error
      raise
    record = loaded["record"]
    if record["checksum"] != checksums.of_record(record["content"]):
      raise _DamagedError("its record differs from what was saved")
    return loaded

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


def _worst_of_processes(outcome: int) -> int:
  if jax.process_count() == 1:
    return outcome
  return int(np.max(multihost_utils.process_allgather(np.int32(outcome))))


def _sync_processes(name):
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _check_tree(path, saved, expected) -> None:
  """Checks that a checkpoint holds the arrays of the config's model.

  Args:
    path: The checkpoint.
    saved: Tree of Orbax's metadata of arrays.
    expected: Tree of shapes and types.

  Raises:
    CheckpointError: It doesn't; lists the keys that differ.
  """
  saved, expected = _describe_arrays(saved), _describe_arrays(expected)
  differing = [
    f"{name} is {saved.get(name, 'missing')} there and"
    f" {expected.get(name, 'missing')} now"
    for name in sorted(saved.keys() | expected.keys())
    if saved.get(name) != expected.get(name)
  ]
  if differing:
    shown = "; ".join(differing[:_SHOWN_KEYS])
    if len(differing) > _SHOWN_KEYS:
      shown += f"; and {len(differing) - _SHOWN_KEYS} more"
    raise CheckpointError(
      f"checkpoint {path} holds another model or optimizer than this version"
      f" of geojax makes of the config: {shown}. It was left as it is. Take the"
      " version that wrote it, or another --workdir"
    )


def _describe_arrays(tree) -> dict[str, str]:
  return {
    jax.tree_util.keystr(key, simple=True, separator="/"): (
      f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
    )
    for key, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _root_cause(error):
  """The first error; Orbax wraps a failed read in errors about handlers."""
  while error.__cause__ or error.__context__:
    error = error.__cause__ or error.__context__
  return error


def _reason(error):
  """The first words of an error of Orbax, which can run over pages."""
  error = _root_cause(error)
  words = str(error).strip().split("\n")[0].split(" [tensorstore")[0][:300]
  # A bare StopIteration or KeyError is no sentence.
  return words if " " in words else f"{type(error).__name__}: {words}"
