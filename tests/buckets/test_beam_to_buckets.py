"""Builds on Beam whose source and output are in a bucket."""

import json
import pickle
import signal
import time

import build_runs
import pytest
from beam_runs import DIRECT, finish, job_server

from data_prep import beam_map, build, records
from data_prep.build_folder import BuildError
from data_prep.publish import PublishError
from experiments.benchmarks import bucket_server
from geojax import files
from geojax.training import dataset as dataset_lib
from geojax.training.errors import DatasetError

in_beam = pytest.mark.beam
# The tiles of `earth_smoke`, as somebody's own.
CONFIG = """
import dataclasses
from data_prep import tile_source
from data_prep.sources import earth, earth_smoke

@dataclasses.dataclass(frozen=True)
class Own(tile_source.TileSource):
  bands = earth.Earth.bands

CONFIG = dataclasses.replace(earth_smoke.CONFIG, name="own", source=Own())
"""
RECORDS = "geo_tiles/own/1.0.0"
SHARD = "geo_tiles-test.array_record-00000-of-00001"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  path = tmp_path_factory.mktemp("config") / "own.py"
  path.write_text(CONFIG)
  return str(path)


@pytest.fixture(scope="module")
def local(config, smoke, tmp_path_factory):
  output = tmp_path_factory.mktemp("local")
  build.build(config, output, str(smoke / "tiles/earth_smoke"))
  return output / RECORDS


@pytest.fixture(scope="module")
def source(_server, smoke):
  folder = files.path(f"gs://{bucket_server.BUCKET}/tiles")
  for number, path in enumerate(sorted(smoke.glob("tiles/earth_smoke/*.tif"))):
    # Also in folders below.
    files.copy_from(path, folder / f"{number % 2}" / path.name)
  return str(folder)


@pytest.fixture
def tasks_here(monkeypatch):
  """The tasks of Beam's workers run in this process."""
  monkeypatch.setattr(beam_map, "beam_map", lambda *args, **kwargs: map)


def build_here(config, source, output):
  return build.build(config, output, source, beam=("DirectRunner", []))


def contents(output, records=RECORDS):
  return files.sizes_and_checksums(files.path(output) / records)


def is_seen(output):
  try:
    dataset_lib.open_dataset(output, "geo_tiles/own")
  except DatasetError:
    return False
  return True


def test_files_are_those_of_a_local_build(
  tasks_here, bucket, config, source, url, local
):
  builder = build_here(config, source, url)
  assert builder.counts["train"]
  assert str(builder.data_path) == f"{url}/{RECORDS}"
  assert contents(url) == files.sizes_and_checksums(local)
  assert is_seen(url)
  left = [path.name for path in (files.path(url) / "tiles/own").iterdir()]
  assert left == ["settings.json"]
  bucket.requests.clear()
  assert not build_here(config, source, url).counts
  assert "POST" not in bucket.count()


def test_tiles_are_made_in_the_bucket(tasks_here, smoke, url):
  build_here("earth_smoke", None, url)
  folder = "tiles/earth_smoke"
  made = contents(url, folder)
  del made["settings.json"]
  assert made.items() <= files.sizes_and_checksums(smoke / folder).items()
  assert contents(url, build_runs.VERSION) == files.sizes_and_checksums(
    smoke / build_runs.VERSION
  )


def test_shards_that_are_there_are_not_written_again(
  monkeypatch, tasks_here, config, source, url, local
):
  """After a build that failed at its last shard; one is there unreported."""
  real, written = records.write_shard, []

  def write_until_full(path, parts, split, *args):
    written.append(split)
    if written.count("test") == 1 and split == "test":
      raise OSError("no space left on device")
    return real(path, parts, split, *args)

  monkeypatch.setattr(records, "write_shard", write_until_full)
  with pytest.raises(OSError, match="no space left"):
    build_here(config, source, url)
  assert contents(url)
  assert not is_seen(url)
  files.copy_new(local / SHARD, files.path(url) / RECORDS / SHARD)
  build_here(config, source, url)
  assert written == ["train", "validation", "test", "test"]
  assert contents(url) == files.sizes_and_checksums(local)


def test_a_shard_of_other_records_is_not_replaced(
  tasks_here, config, source, url
):
  target = files.path(url) / RECORDS / SHARD
  target.write_bytes(b"other")
  with pytest.raises(BuildError, match="is there already, with other records"):
    build_here(config, source, url)
  assert target.read_bytes() == b"other"
  assert not is_seen(url)


def test_shards_of_another_data_set_are_refused_before_any_is_written(
  tasks_here, config, source, url
):
  target = files.path(url) / RECORDS
  name = SHARD.replace("00001", "00002")
  (target / name).write_bytes(b"other")
  with pytest.raises(PublishError, match=f"{name} is no file of this one"):
    build_here(config, source, url)
  assert list(contents(url)) == [name]


def test_a_network_that_fails_is_no_bad_tile(
  monkeypatch, no_waiting, tasks_here, bucket, config, source, url
):
  """It would be left out of the data set."""
  bucket.faults = lambda number, method, path: (
    403 if method == "GET" and "alt=media" in path and ".tif" in path else None
  )
  with pytest.raises(files.StorageError, match=r"tiles/.*\.tif: no permission"):
    build_here(config, source, url)


def test_errors_of_workers_reach_the_command(bucket, url):
  bucket.faults = lambda *_: 403
  with pytest.raises(files.StorageError) as raised:
    files.path(f"{url}/file").read_bytes()
  copy = pickle.loads(pickle.dumps(raised.value))
  assert str(copy) == str(raised.value)


@pytest.mark.parametrize(
  ("args", "reason"),
  [
    (["--config=earth_smoke", "--output={}"], "--publish=gs://BUCKET/FOLDER"),
    (
      ["--config=sentinel2", "--output=out", "--source={}"],
      "--source={} is in a bucket, which needs workers on Beam",
    ),
    (
      ["--config=images", "--output={}", "--beam_runner=DirectRunner"],
      "--output={}: config images reads and makes files on a disk alone",
    ),
    (
      ["--config=earth_smoke", "--output={}", "--publish={}"],
      "leave out --publish",
    ),
    (
      [
        *("--config=sentinel2", "--output={}", "--source=tiles"),
        "--beam_runner=DataflowRunner",
      ],
      "--beam_runner=DataflowRunner with --source=tiles: its workers see no",
    ),
  ],
)
def test_what_cannot_be_built_is_refused(
  monkeypatch, capsys, bucket, url, tmp_path, args, reason
):
  monkeypatch.chdir(tmp_path)
  assert build_runs.run_main(*(arg.format(url) for arg in args)) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert reason.format(url) in line
  assert not list(tmp_path.iterdir())
  assert "POST" not in bucket.count()


def start(config, source, output, flags):
  return build_runs.start(
    f"--config={config}", f"--source={source}", f"--output={output}", *flags
  )


@in_beam
def test_a_killed_build_goes_on(
  monkeypatch, config, source, url, local, tmp_path
):
  """Of workers that are processes, on another runner."""
  # The killed one leaves a log.
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  process = start(config, source, url, DIRECT)
  while not contents(url):
    assert process.poll() is None
    time.sleep(0.5)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert not is_seen(url)
  with job_server(tmp_path) as flags:
    code, stdout, stderr = finish(start(config, source, url, flags))
  assert code == 0, stderr
  assert f"in {url}/{RECORDS}" in stdout
  assert contents(url) == files.sizes_and_checksums(local)
  assert is_seen(url)
  report = json.loads((files.path(url) / "report.json").read_text())
  assert report["figures"]["kept: train"]
  left = [path.name for path in (files.path(url) / "tiles/own").iterdir()]
  assert left == ["settings.json"]
