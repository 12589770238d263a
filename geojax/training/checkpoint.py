"""Checkpoints: the state of a run, on the devices and on the host.

The only module that imports Orbax (its V1 interface).
"""

import asyncio
import contextlib
import pathlib
import time
from concurrent import futures
from unittest import mock

import jax
import numpy as np
import uvloop
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from geojax import files
from geojax.training import checksums
from geojax.training.errors import CheckpointError

_policies = ocp.training.preservation_policies

# Pauses before a failed read is tried again.
_WAITS_S = (1.0, 3.0)
# In TensorStore's error for a block whose own checksum differs.
_CHECKSUM_DIFFERS = "CRC-32C checksum verification failed"
# Keys that an error lists when a checkpoint holds another tree.
_SHOWN_KEYS = 10
# Outcomes of a read, from best to worst.
_LOADED, _DAMAGED, _OTHER_TREE, _UNREADABLE = range(4)


class _DamagedError(Exception):
  """The content of a checkpoint differs from what was saved."""


class Checkpointer:
  """The checkpoints of a workdir; each is complete or absent.

  Orbax writes to a temporary name and renames, so a run killed during a save
  keeps its earlier checkpoints. Checksums of the arrays, computed on the
  devices before saving, detect damage that happens later.

  Nothing is deleted because it could not be read. A checkpoint whose checksum
  differs is moved to `workdir/checkpoints_damaged`. One that cannot be read at
  all, for example while a file system is unavailable, stays where it is, and
  the run ends with an error.
  """

  def __init__(
    self, workdir: pathlib.Path, *, keep: int, read_only: bool = False
  ):
    """Opens `workdir/checkpoints`.

    Args:
      workdir: Folder of the run.
      keep: How many of the newest checkpoints stay on disk, in addition to the
        best one.
      read_only: Changes nothing on disk, because the run may still be training.

    Raises:
      CheckpointError: The folder cannot be read.
    """
    self._keep = keep
    self._read_only = read_only
    self._folder = files.absolute(workdir / "checkpoints")
    self._damaged_folder = files.absolute(workdir / "checkpoints_damaged")
    self._saving = None
    self._thread = futures.ThreadPoolExecutor(1, "save")
    # The training loop decides when to save.
    always = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    self._preserved = _policies.AnyPreservationPolicy([])
    try:
      self._checkpointer = ocp.training.Checkpointer(
        self._folder,
        save_decision_policy=always,
        preservation_policy=self._preserved,
        # On disk an unfinished save has a temporary name. In a bucket it lies
        # at the checkpoint's own, as a damaged one would: see `_set_aside`.
        cleanup_tmp_directories=not read_only and files.is_local(workdir),
      )
    except OSError as error:
      raise CheckpointError(
        f"{self._folder} cannot be read: {_reason(error)}. Nothing was changed."
        " Run the same command again once the folder is readable"
      ) from error

  def steps(self) -> list[int]:
    """Returns the steps of the checkpoints, newest first, as on process 0."""
    steps = [saved.step for saved in reversed(self._checkpointer.checkpoints)]
    # A shared folder may show a new checkpoint to one host before another.
    broadcast = multihost_utils.broadcast_one_to_all
    count = int(broadcast(np.int32(len(steps))))
    return broadcast(np.resize(np.array(steps, np.int32), count)).tolist()

  def save(self, step: int, state, record: dict, *, best_step: int) -> None:
    """Saves a checkpoint in the background.

    Args:
      step: Steps taken.
      state: Tree of arrays; may be donated once this returns.
      record: State of the host, a dict that JSON can hold.
      best_step: The checkpoint to keep in addition to the newest ones.

    Raises:
      CheckpointError: An earlier checkpoint, or this one, cannot be written.
    """
    described = {
      "content": record,
      "checksum": checksums.of_record(record),
      "arrays": checksums.of_arrays(state),
    }
    with self._explain_failed_writes():
      self._await_last_save()
      # Not before: the last save would apply these to its own step.
      self._preserved.policies = [
        _policies.LatestN(self._keep),
        _policies.CustomSteps([best_step]),
      ]
      if not files.is_local(self._folder):
        self._set_aside(step)
      if jax.process_count() > 1:
        # Orbax synchronizes the processes by collectives, which a thread could
        # start in another order than the other processes.
        self._saving = self._start(step, state, described)
      else:
        # Orbax runs Python code for each array before it returns, longer than a
        # step takes. Values on the host, as the next step donates the state.
        values = jax.device_get(state)
        self._saving = self._thread.submit(
          lambda: self._start(step, values, described).result()
        )

  def _start(self, step, state, record):
    return self._checkpointer.save_checkpointables_async(
      step, {"state": state, "record": record}
    )

  def _await_last_save(self):
    # Orbax would wait too, but a save whose result is never requested keeps its
    # thread, and the arrays that it refers to, until the process ends.
    if self._saving is not None:
      saving, self._saving = self._saving, None
      saving.result()

  def restore(self, state, *, step: int | None = None, report=print):
    """Restores the newest checkpoint that is not damaged.

    A failed read is tried three times. All processes make the same decision.

    Args:
      state: A tree like the saved one; gives shapes, types and devices.
      step: Restores only the checkpoint of this step.
      report: Called with one line of text for each damaged checkpoint.

    Returns:
      The saved state and record.

    Raises:
      CheckpointError: There is no checkpoint, it cannot be read, it holds
        another tree, or all are damaged.
    """
    steps = self.steps() if step is None else [step]
    if not steps:
      raise CheckpointError(f"there is no checkpoint in {self._folder}")
    damaged = []
    for candidate in steps:
      path = self._folder / str(candidate)
      try:
        restored = self._load(candidate, state)
      except _DamagedError as error:
        report(f"checkpoint {path} is damaged: {error}")
        damaged.append(candidate)
        continue
      # Move nothing before this point: with all checkpoints moved away, the
      # next run would silently start at step 0.
      for newer in [] if self._read_only else damaged:
        report(f"moved the checkpoint of step {newer} to {self._move(newer)}")
      if damaged:
        report(f"continuing from checkpoint {path}")
      return restored
    raise CheckpointError(
      f"all checkpoints in {self._folder} are damaged, down to step"
      f" {damaged[-1]}. They were left unchanged. Restore one from a backup, or"
      " train again with another --workdir"
    )

  def _set_aside(self, step):
    """Moves what a killed run has left of a checkpoint in a bucket."""
    exists = (self._folder / str(step)).exists()
    if multihost_utils.broadcast_one_to_all(np.bool_(exists)):
      self._move(step)

  def _move(self, step):
    """Moves a damaged checkpoint to a folder that Orbax does not list."""
    number = 1
    while (target := self._damaged_folder / f"{step}-{number}").exists():
      number += 1
    multihost_utils.sync_global_devices(f"move_{step}")
    if jax.process_index() == 0:
      files.move(self._folder / str(step), target)
    multihost_utils.sync_global_devices(f"moved_{step}")
    self._checkpointer.reload()
    return target

  def _load(self, step, state):
    """Loads a checkpoint on all processes, or raises on all."""
    for wait_s in (*_WAITS_S, None):
      loaded, outcome, why = None, _LOADED, ""
      try:
        loaded = self._read(step, state)
      except _DamagedError as error:
        outcome, why = _DAMAGED, str(error)
      except CheckpointError as error:
        outcome, why = _OTHER_TREE, str(error)
      except Exception as error:
        # Orbax raises many types for a missing or damaged file.
        is_damaged = _CHECKSUM_DIFFERS in str(_root_cause(error))
        outcome = _DAMAGED if is_damaged else _UNREADABLE
        why = _reason(error)
      worst = multihost_utils.process_allgather(np.int32(outcome)).max()
      if worst < _UNREADABLE or wait_s is None:
        break
      time.sleep(wait_s)
    if worst != outcome:
      why = "the read failed in another process; see its output"
    if worst == _UNREADABLE:
      path = self._folder / str(step)
      older = any(other < step for other in self.steps())
      start = "from an older checkpoint" if older else "at step 0"
      why = (
        f"checkpoint {path} cannot be read: {why}. It was left unchanged. Make"
        " it readable or put back what is missing, then run the same command"
        f" again; or move {path} elsewhere to start {start}"
      )
    if worst != _LOADED:
      raise (_DamagedError if worst == _DAMAGED else CheckpointError)(why)
    restored, record = loaded
    # The sums of sharded arrays are the same in all processes.
    for name, value in checksums.of_arrays(restored).items():
      if record["arrays"].get(name) != value:
        raise _DamagedError(f"{name} differs from what was saved")
    return restored, record["content"]

  def _read(self, step, state):
    """Reads the part of this process, without waiting for the others."""
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
    with context, mock.patch.object(uvloop, "new_event_loop", _DrainedLoop):
      saved = ocp.metadata(path, checkpointable_name="state").metadata
      # None if it cannot be read; loading then raises the reason.
      if saved is not None:
        _check_tree(path, saved, abstract)
      record = ocp.load(path, checkpointable_name="record")
      if record["checksum"] != checksums.of_record(record["content"]):
        raise _DamagedError("its record differs from what was saved")
      return ocp.load(path, abstract, checkpointable_name="state"), record

  def close(self) -> None:
    """Waits until all saves are written.

    Raises:
      CheckpointError: A checkpoint cannot be written.
    """
    with self._explain_failed_writes():
      try:
        self._await_last_save()
      finally:
        self._thread.shutdown()
        self._checkpointer.close()

  @contextlib.contextmanager
  def _explain_failed_writes(self):
    try:
      yield
    except Exception as error:
      raise CheckpointError(
        f"cannot write a checkpoint to {self._folder}: {_reason(error)}. Older"
        " checkpoints are unchanged. Mend the cause, such as a full disk or a"
        " clock that was set forward during a save, and run the same command"
        " again to continue from the newest"
      ) from error


class _DrainedLoop(uvloop.Loop):
  """An event loop that completes its tasks before it closes.

  Orbax reads arrays concurrently and closes its loop at the first error. Reads
  still in flight would then fail in TensorStore's threads, with a traceback
  each.
  """

  def close(self):
    if tasks := asyncio.all_tasks(self):
      self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    super().close()


def _check_tree(path, saved, expected):
  """Raises unless a checkpoint holds the arrays of the config's model."""
  saved, expected = (
    {
      jax.tree_util.keystr(key, simple=True, separator="/"): (
        f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
      )
      for key, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for tree in (saved, expected)
  )
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
      f"checkpoint {path} does not match the model and optimizer that this"
      f" version of geojax creates from the config: {shown}. It was left"
      " unchanged. Use the version that wrote it, or another --workdir"
    )


def _root_cause(error):
  """The first error; Orbax wraps a failed read in errors about handlers."""
  while error.__cause__ or error.__context__:
    error = error.__cause__ or error.__context__
  return error


def _reason(error):
  """The first line of an error, without TensorStore's specification."""
  error = _root_cause(error)
  text = str(error).strip().split("\n")[0].split(" [tensorstore")[0][:300]
  # A bare StopIteration or KeyError is not a sentence.
  return text if " " in text else f"{type(error).__name__}: {text}"
