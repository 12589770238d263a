"""Records reach the batches: each once an epoch, and the position resumes."""

import hashlib

import grain
import numpy as np
import pytest

from geojax.training import dataset as dataset_lib
from geojax.training import pipeline
from geojax.training.errors import DatasetError


class _Bytes(list):
  """Encoded records as shards have them."""

  def read(self, indices):
    return [self[i] for i in indices]


def _numbered(count):
  """Records whose climate is their number."""
  return dataset_lib.Records(
    _Bytes(range(count)),
    lambda number: {"climate": np.full(31, number, np.float32)},
  )


def _numbers(batch):
  return batch["climate"][:, 0].astype(int).tolist()


def test_an_epoch_holds_each_record_once_in_a_new_order():
  batches = pipeline.train_batches(_numbered(40), batch_size=8, seed=0)
  first, second = (
    [number for _ in range(5) for number in _numbers(next(batches))]
    for _ in range(2)
  )
  assert sorted(first) == sorted(second) == list(range(40))
  assert first != second != list(range(40))


def test_the_seed_decides_the_order():
  orders = [
    _numbers(next(pipeline.train_batches(_numbered(64), batch_size=8, seed=s)))
    for s in (0, 0, 1)
  ]
  assert orders[0] == orders[1] != orders[2]


def test_a_first_batch_gives_the_batches_that_would_have_come():
  batches = pipeline.train_batches(_numbered(40), batch_size=16, seed=3)
  every = [_numbers(next(batches)) for _ in range(9)]
  later = pipeline.train_batches(_numbered(40), batch_size=16, seed=3, first=4)
  assert [_numbers(next(later)) for _ in range(5)] == every[4:]
  told = [
    pipeline.batch_records(40, batch_size=16, seed=3, number=n)
    for n in range(9)
  ]
  assert told == every


def test_an_epoch_is_shuffled_as_grain_does_of_its_own_seed():
  found = [
    record
    for number in range(5)
    for record in pipeline.batch_records(
      40, batch_size=16, seed=3, number=number
    )
  ]
  for epoch in range(2):
    # Of blake2b over "3/0" and "3/1", the first four bytes.
    digest = hashlib.blake2b(f"3/{epoch}".encode(), digest_size=4).digest()
    order = grain.MapDataset.range(40).shuffle(
      seed=int.from_bytes(digest, "little")
    )
    assert found[40 * epoch : 40 * epoch + 40] == [int(i) for i in order]


@pytest.mark.parametrize(("num_bytes", "batches"), [(1, 1), (5000, 2)])
def test_batches_are_read_together_as_far_as_bytes_allow(
  monkeypatch, num_bytes, batches
):
  whole = pipeline.train_batches(_numbered(40), batch_size=16, seed=3)
  expected = [_numbers(next(whole)) for _ in range(9)]
  source, sizes = _numbered(40), []

  def read(indices, read=source.read):
    sizes.append(len(indices))
    return read(indices)

  monkeypatch.setattr(source, "read", read)
  # A record is 124 bytes, a batch 1984.
  monkeypatch.setattr(pipeline, "_READ_BYTES", num_bytes)
  some = pipeline.train_batches(source, batch_size=16, seed=3)
  assert [_numbers(next(some)) for _ in range(9)] == expected
  assert set(sizes) == {1, 16 * batches}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_a_batch_and_lose_no_record(processes):
  size = 12 // processes
  parts = [
    pipeline.train_batches(
      _numbered(60), batch_size=12, seed=1, rows=slice(i * size, (i + 1) * size)
    )
    for i in range(processes)
  ]
  whole = pipeline.train_batches(_numbered(60), batch_size=12, seed=1)
  epoch = []
  for _ in range(5):
    numbers = [number for part in parts for number in _numbers(next(part))]
    assert numbers == _numbers(next(whole))
    epoch += numbers
  assert sorted(epoch) == list(range(60))


def test_an_evaluation_reads_the_records_that_are_asked_for():
  records = [9, 2, 2, 5, 0]
  batches = list(
    pipeline.eval_batches(_numbered(10), batch_size=3, records=records)
  )
  assert [_numbers(batch) for batch in batches] == [[9, 2, 2], [5, 0, 9]]
  assert [batch["mask"].tolist() for batch in batches] == [
    [True] * 3,
    [True, True, False],
  ]
  second = pipeline.eval_batches(
    _numbered(10), batch_size=4, rows=slice(2, 4), records=records
  )
  assert [_numbers(batch) for batch in second] == [[2, 5], [9, 9]]


def test_processes_share_an_evaluation():
  parts = [
    list(pipeline.eval_batches(_numbered(10), batch_size=8, rows=rows))
    for rows in (slice(0, 4), slice(4, 8))
  ]
  seen = [
    number
    for batches in zip(*parts, strict=True)
    for batch in batches
    for number in np.asarray(_numbers(batch))[batch["mask"]]
  ]
  assert seen == list(range(10))


def test_evaluation_sees_each_record_once_and_masks_the_rest():
  batches = list(pipeline.eval_batches(_numbered(10), batch_size=4))
  assert [batch["mask"].sum() for batch in batches] == [4, 4, 2]
  seen = [
    number
    for batch in batches
    for number in np.asarray(_numbers(batch))[batch["mask"]]
  ]
  assert seen == list(range(10))
  assert {len(batch["climate"]) for batch in batches} == {4}


def test_too_few_records_for_a_batch():
  with pytest.raises(DatasetError, match="5 records, fewer than one batch"):
    pipeline.train_batches(_numbered(5), batch_size=8, seed=0)


def test_no_two_runs_share_an_epoch():
  """A sum of seed and epoch would shuffle (0, 1) and (1, 0) alike."""
  epochs = {
    (seed, epoch): tuple(
      pipeline.batch_records(50, batch_size=50, seed=seed, number=epoch)
    )
    for seed in range(4)
    for epoch in range(4)
  }
  assert len(set(epochs.values())) == len(epochs)
  assert all(sorted(order) == list(range(50)) for order in epochs.values())
