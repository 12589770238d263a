"""Checkpoints: intact ones are restored, damaged ones are detected."""

import collections
import errno
import itertools
import resource
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.training import checkpoint, checksums
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
  """A workdir with checkpoints of steps 1, 3, 4, of which 1 is the best."""
  checkpointer = checkpoint.Checkpointer(tmp_path, keep=2)
  for step in (1, 2, 3, 4):
    record = {"step": step, "best": 0.1, "sums": {"loss": 1 / 3}}
    checkpointer.save(step, _state(step), record, best_step=1)
  checkpointer.close()
  return tmp_path


def _restore(workdir, **options):
  reported = []
  checkpointer = checkpoint.Checkpointer(workdir, keep=2)
  restored = checkpointer.restore(_state(0), report=reported.append, **options)
  steps = checkpointer.steps()
  checkpointer.close()
  return *restored, reported, steps


def test_the_newest_and_the_best_are_kept_and_come_back(workdir):
  state, record, reported, steps = _restore(workdir)
  assert steps == [4, 3, 1]
  assert record == {"step": 4, "best": 0.1, "sums": {"loss": 1 / 3}}
  assert reported == []
  jax.tree.map(np.testing.assert_array_equal, state, _state(4))
  assert _restore(workdir, step=1)[1]["step"] == 1


def test_a_new_best_replaces_the_old_one(workdir):
  checkpointer = checkpoint.Checkpointer(workdir, keep=1)
  for step in (5, 6):
    checkpointer.save(step, _state(step), {"step": step}, best_step=4)
  checkpointer.close()
  assert _restore(workdir)[-1] == [6, 4]


def test_saves_leave_no_threads_behind(tmp_path):
  """A thread left by each save would keep its arrays in memory."""
  checkpointer = checkpoint.Checkpointer(tmp_path, keep=1)
  counts = {}
  for step in range(1, 24):
    checkpointer.save(step, _state(step), {"step": step}, best_step=0)
    counts[step] = threading.active_count()
  checkpointer.close()
  assert counts[23] < counts[3] + 10


def test_a_save_holds_its_step_and_does_not_stop_the_next(
  tmp_path, monkeypatch
):
  """Orbax starts only after the next step has overwritten the state."""
  checkpointer = checkpoint.Checkpointer(tmp_path, keep=1)
  orbax = checkpointer._checkpointer
  start, taken = orbax.save_checkpointables_async, threading.Event()

  def start_late(*arguments):
    assert taken.wait(60)
    return start(*arguments)

  monkeypatch.setattr(orbax, "save_checkpointables_async", start_late)
  step = jax.jit(
    lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0
  )
  state = step(_state(0))
  checkpointer.save(1, state, {"step": 1}, best_step=1)
  jax.block_until_ready(step(state))
  taken.set()
  checkpointer.close()
  jax.tree.map(
    np.testing.assert_array_equal, _restore(tmp_path)[0], step(_state(0))
  )


def _data_file(folder):
  """The largest file, which holds the arrays."""
  files = [path for path in folder.rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def _contents(workdir):
  """Bytes of the files of all checkpoints, by step and path below it."""
  return {
    (folder.name.split("-")[0], str(path.relative_to(folder))): (
      path.read_bytes()
    )
    for folder in workdir.glob("checkpoints*/*")
    for path in folder.rglob("*")
    if path.is_file()
  }


def _damage(path, how):
  content = bytearray(path.read_bytes())
  if how == "remove":
    path.unlink()
  elif how == "cut":
    path.write_bytes(content[: len(content) // 2])
  else:
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_whose_bytes_changed_is_moved_away(workdir):
  _damage(_data_file(workdir / "checkpoints/4"), "flip")
  before = _contents(workdir)
  state, record, reported, steps = _restore(workdir)
  assert record["step"] == 3
  jax.tree.map(np.testing.assert_array_equal, state, _state(3))
  assert "checkpoints/4 is damaged: ['kernel'] differs" in reported[0]
  assert reported[1].endswith("checkpoints_damaged/4-1")
  assert reported[-1].endswith("checkpoints/3")
  # Moved completely, so that the step can be saved again.
  assert steps == [3, 1]
  assert _contents(workdir) == before


def test_a_read_only_checkpointer_moves_nothing(workdir):
  _damage(_data_file(workdir / "checkpoints/4"), "flip")
  checkpointer = checkpoint.Checkpointer(workdir, keep=2, read_only=True)
  _, record = checkpointer.restore(_state(0), report=lambda _: None)
  checkpointer.close()
  assert record["step"] == 3
  assert (workdir / "checkpoints/4").is_dir()


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_a_checkpoint_that_cannot_be_read_stays_and_comes_back(
  workdir, damage, monkeypatch
):
  monkeypatch.setattr(checkpoint, "_WAITS_S", (0.0,))
  path = _data_file(workdir / "checkpoints/4")
  whole = path.read_bytes()
  _damage(path, damage)
  before = _contents(workdir)
  with pytest.raises(
    CheckpointError, match=r"checkpoints/4 cannot be read: .* put back"
  ):
    _restore(workdir)
  assert _contents(workdir) == before
  path.write_bytes(whole)
  assert _restore(workdir)[1]["step"] == 4
  # The remedy that the error names.
  path.unlink()
  (workdir / "checkpoints/4").rename(workdir / "elsewhere")
  assert _restore(workdir)[1]["step"] == 3


def test_nothing_is_lost_by_restores_that_fail_at_random(workdir, monkeypatch):
  """Each file and each kind of error; every byte stays below the workdir."""
  monkeypatch.setattr(checkpoint, "_WAITS_S", (0.0, 0.0))
  rng = np.random.default_rng(0)
  files = sorted(
    path for path in workdir.glob("checkpoints/4/**/*") if path.is_file()
  )
  whole = _contents(workdir)
  errors = (
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.EIO, "Input/output error"),
    PermissionError(errno.EACCES, "Permission denied"),
    TimeoutError("timed out"),
    ValueError("UNAVAILABLE: connection reset"),
    KeyError("state"),
    MemoryError(),
  )
  load = checkpoint.ocp.load
  outcomes = collections.Counter()
  kinds = ("cut", "remove", "flip", "raise")
  for path, kind, _ in itertools.product(files, kinds, range(2)):
    original = path.read_bytes()
    with monkeypatch.context() as patch:
      if kind == "raise":
        left = [int(rng.integers(1, 5))]
        error = errors[rng.integers(len(errors))]

        def failing(*args, left=left, error=error, **kwargs):
          left[0] -= 1
          if left[0] >= 0:
            raise error
          return load(*args, **kwargs)

        patch.setattr(checkpoint.ocp, "load", failing)
      else:
        _damage(path, kind)
      expected = _contents(workdir)
      try:
        step = _restore(workdir)[1]["step"]
      except CheckpointError:
        step = None
      assert _contents(workdir) == expected, (kind, path)
      outcomes[kind, step] += 1
    for aside in workdir.glob("checkpoints_damaged/4-*"):
      aside.rename(workdir / "checkpoints/4")
    path.write_bytes(original)
    assert _contents(workdir) == whole
  assert _restore(workdir)[1]["step"] == 4
  # One or two failed reads are retried.
  assert outcomes["raise", 4] > 5
  assert outcomes["raise", None] > 5
  assert outcomes["raise", 3] == 0
  # Only what was read and differs is moved.
  assert outcomes["remove", 3] == outcomes["cut", 3] == 0
  assert outcomes["flip", 3] > 5


def test_another_tree_is_an_error_that_lists_the_keys(workdir):
  before = _contents(workdir)
  other = {**_state(0), "bias": jnp.zeros(3), "half": jnp.zeros((6,))}
  del other["step"]
  checkpointer = checkpoint.Checkpointer(workdir, keep=2)
  with pytest.raises(CheckpointError) as raised:
    checkpointer.restore(other)
  checkpointer.close()
  for words in (
    "bias is missing there and float32[3] now",
    "half is bfloat16[5] there and float32[6] now",
    "step is int32[] there and missing now",
  ):
    assert words in str(raised.value)
  assert "kernel" not in str(raised.value)
  assert _contents(workdir) == before


def test_a_changed_record_is_detected(workdir, monkeypatch):
  checkpointer = checkpoint.Checkpointer(workdir, keep=2)
  with monkeypatch.context() as patch:
    # The checksum of another record.
    patch.setattr(checkpoint.checksums, "of_record", lambda _: 0)
    checkpointer.save(5, _state(5), {"step": 5}, best_step=1)
  checkpointer.close()
  _, record, reported, _ = _restore(workdir)
  assert record["step"] == 4
  assert "record differs" in reported[0]


def test_a_changed_byte_or_place_changes_the_checksum():
  x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)

  def checksum(values):
    return checksums.of_arrays({"x": jnp.asarray(values)})["['x']"]

  for byte in range(x.nbytes):
    flipped = bytearray(x.tobytes())
    flipped[byte] ^= 0x80
    altered = np.frombuffer(flipped, np.float32).reshape(x.shape)
    assert checksum(altered) != checksum(x)
  assert checksum(x[:, ::-1]) != checksum(x)
  assert checksum(x.T) != checksum(x)


def test_with_all_checkpoints_damaged_nothing_is_moved(workdir):
  for folder in (workdir / "checkpoints").iterdir():
    _damage(_data_file(folder), "flip")
  before = _contents(workdir)
  # Nor moved: the next run would start at step 0.
  for _ in range(2):
    with pytest.raises(CheckpointError, match="are damaged, down to step 1"):
      _restore(workdir)
  assert _contents(workdir) == before
  assert not (workdir / "checkpoints_damaged").exists()


@pytest.mark.parametrize("calls", [("close",), ("save", "close")])
def test_a_full_disk_is_one_sentence_and_leaves_older_ones(workdir, calls):
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
    raising = {
      "close": checkpointer.close,
      "save": lambda: checkpointer.save(6, large, {"step": 6}, best_step=1),
    }
    expected = r"cannot write.*such as a full"
    for call in calls:
      with pytest.raises(CheckpointError, match=expected):
        raising[call]()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  state, record, _, steps = _restore(workdir)
  assert steps == [4, 3, 1]
  assert record["step"] == 4
  jax.tree.map(np.testing.assert_array_equal, state, _state(4))
