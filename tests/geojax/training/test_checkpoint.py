"""Checkpoints: whole ones come back, damaged ones are noticed."""

import resource
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.training import checkpoint
from geojax.training.errors import CheckpointError


def _state(value):
  rng = np.random.default_rng(0)
  return {
    "kernel": jnp.asarray(rng.normal(size=(300, 7)) + value, jnp.float32),
    "half": jnp.full((5,), value, jnp.bfloat16),
    "step": jnp.asarray(value, jnp.int32),
    "none": None,
  }


@pytest.fixture
def workdir(tmp_path):
  """A workdir with checkpoints of steps 1, 3, 4; 1 is the best, 2 was."""
  checkpointer = checkpoint.Checkpointer(tmp_path, keep=2)
  for step, best_step in ((1, 1), (2, 1), (3, 1), (4, 1)):
    record = {"step": step, "best": 0.1, "sums": {"loss": 1 / 3}}
    checkpointer.save(step, _state(step), record, best_step=best_step)
  checkpointer.close()
  return tmp_path


def _restore(workdir, **options):
  told = []
  checkpointer = checkpoint.Checkpointer(workdir, keep=2)
  restored = checkpointer.restore(_state(0), report=told.append, **options)
  steps = checkpointer.steps()
  checkpointer.close()
  return *restored, told, steps


def test_the_newest_and_the_best_are_kept_and_come_back(workdir):
  state, record, told, steps = _restore(workdir)
  assert steps == [4, 3, 1]
  assert record == {"step": 4, "best": 0.1, "sums": {"loss": 1 / 3}}
  assert told == []
  jax.tree.map(np.testing.assert_array_equal, state, _state(4))
  assert _restore(workdir, step=1)[1]["step"] == 1


def test_saves_leave_no_threads_behind(tmp_path):
  """A thread left by each save would keep what it saved, and memory grow."""
  checkpointer = checkpoint.Checkpointer(tmp_path, keep=1)
  counts = {}
  for step in range(1, 24):
    checkpointer.save(step, _state(step), {"step": step}, best_step=0)
    counts[step] = threading.active_count()
  checkpointer.close()
  assert counts[23] < counts[3] + 10


def _data_file(folder):
  """The largest file, which holds the arrays."""
  files = [path for path in folder.rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(workdir, damage):
  path = _data_file(workdir / "checkpoints/4")
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  if damage == "flip":
    path.write_bytes(content)
  elif damage == "cut":
    path.write_bytes(content[: len(content) // 2])
  else:
    path.unlink()
  state, record, told, steps = _restore(workdir)
  assert record["step"] == 3
  jax.tree.map(np.testing.assert_array_equal, state, _state(3))
  assert "checkpoints/4 is damaged" in told[0]
  assert told[-1].endswith("checkpoints/3")
  # Gone, so that the step can be saved anew.
  assert steps == [3, 1]


def test_a_record_that_was_altered_is_noticed(workdir, monkeypatch):
  checkpointer = checkpoint.Checkpointer(workdir, keep=2)
  with monkeypatch.context() as patch:
    # That of another record than the one that is written.
    patch.setattr(checkpoint, "_checksum_of_record", lambda _: 0)
    checkpointer.save(5, _state(5), {"step": 5}, best_step=1)
  checkpointer.close()
  _, record, told, _ = _restore(workdir)
  assert record["step"] == 4
  assert "record differs" in told[0]


def test_a_changed_byte_or_place_changes_the_checksum():
  x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)

  def checksum(values):
    return checkpoint._checksums({"x": jnp.asarray(values)})["['x']"]

  for byte in range(x.nbytes):
    flipped = bytearray(x.tobytes())
    flipped[byte] ^= 0x80
    altered = np.frombuffer(flipped, np.float32).reshape(x.shape)
    assert checksum(altered) != checksum(x)
  assert checksum(x[:, ::-1]) != checksum(x)
  assert checksum(x.T) != checksum(x)


def test_with_no_whole_checkpoint_nothing_is_removed(workdir):
  for folder in (workdir / "checkpoints").iterdir():
    _data_file(folder).write_bytes(b"")
  with pytest.raises(CheckpointError, match="can be read, not even step 1"):
    _restore(workdir)
  assert len(list((workdir / "checkpoints").iterdir())) == 3


def test_a_full_disk_is_one_sentence_and_leaves_older_ones(workdir):
  # A limit on a file's size fails a write as a full disk does.
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  checkpointer = checkpoint.Checkpointer(workdir, keep=2)
  large = {
    **_state(5),
    "kernel": jax.random.normal(jax.random.key(0), (10**6,)),
  }
  resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))
  try:
    checkpointer.save(5, large, {"step": 5}, best_step=1)
    with pytest.raises(CheckpointError, match=r"cannot be written.*make room"):
      checkpointer.close()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  state, record, _, steps = _restore(workdir)
  assert steps == [4, 3, 1]
  assert record["step"] == 4
  jax.tree.map(np.testing.assert_array_equal, state, _state(4))
