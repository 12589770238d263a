"""A step that does not fit into a device's memory: what would."""

import jax
import pytest

from geojax.training import loop, memory, sharding
from geojax.training.errors import OutOfMemoryError


@pytest.mark.parametrize(
  ("limit", "rows", "multiple", "expected"),
  [
    (100, 64, 1, 10),
    (100, 64, 8, 8),
    (639, 64, 1, 63),
    (9, 64, 1, 0),
    (10_000, 64, 1, 63),
    (100, 60, 8, 8),
  ],
)
def test_the_largest_batch_is_found_in_few_attempts(
  limit, rows, multiple, expected
):
  asked = []

  def planned(count):
    asked.append(count)
    # What is far too large, the compiler refuses.
    return 10 * count if count < 40 or limit > 400 else None

  found = memory.largest_batch(
    planned, limit=limit, rows=rows, multiple=multiple
  )
  assert found == expected
  assert len(asked) <= 6
  assert all(count % multiple == 0 for count in asked)


def _exhaust(monkeypatch, message):
  """Steps compile, and fail when they run."""
  compile_step = sharding.compile_step

  def compile_and_fail(*arguments, **options):
    step = compile_step(*arguments, **options)

    def run(state, batch):
      raise jax.errors.JaxRuntimeError(message)

    run.lower = getattr(step, "lower", None)
    return run

  monkeypatch.setattr(sharding, "compile_step", compile_and_fail)


def test_the_error_names_a_batch_that_fits(small_config, tmp_path, monkeypatch):
  planned = {}
  real = memory.planned_bytes

  def note(step, state, row, rows, mesh):
    planned[rows] = real(step, state, row, rows, mesh)
    return planned[rows]

  _exhaust(monkeypatch, "RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")
  monkeypatch.setattr(memory, "planned_bytes", note)
  # Less than 32 rows take, more than 16 do: images are the most of it.
  monkeypatch.setattr(memory, "device_bytes", lambda: 500_000)
  with pytest.raises(OutOfMemoryError) as raised:
    loop.train(small_config, tmp_path, progress=False)
  fitting = max(n for n, size in planned.items() if size <= 0.95 * 500_000)
  failing = min(n for n, size in planned.items() if size > 0.95 * 500_000)
  assert failing - fitting == 2
  message = str(raised.value)
  assert "config.data.batch_size=32 does not fit" in message
  assert f"--config.data.batch_size={fitting} fits into" in message
  assert "--config.optimizer.accumulate=2" in message


def test_without_a_known_limit_it_names_other_ways(
  small_config, tmp_path, monkeypatch
):
  _exhaust(monkeypatch, "RESOURCE_EXHAUSTED: Out of memory.")
  with pytest.raises(OutOfMemoryError, match=r"model\.remat=True or "):
    loop.train(small_config, tmp_path, progress=False)


def test_other_errors_stay_as_they_are(small_config, tmp_path, monkeypatch):
  _exhaust(monkeypatch, "INTERNAL: a kernel failed")
  with pytest.raises(jax.errors.JaxRuntimeError, match="a kernel failed"):
    loop.train(small_config, tmp_path, progress=False)
