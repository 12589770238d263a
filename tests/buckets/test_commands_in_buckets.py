"""The commands of docs/guide/buckets.md, in a bucket on this machine."""

import json
import os
import subprocess
import sys

import docs_pages
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_encoder

import geojax
from experiments.benchmarks import bucket_server
from geojax import files

_PAGE = docs_pages.ROOT / "docs/guide/buckets.md"
# What makes the commands end soon, by their file.
_SMALL_RUN = (
  *("--config.data.name=geo_tiles/earth_smoke", "--config.num_steps=4"),
  *("--config.eval_every=2", "--config.checkpoint_every=2"),
  *("--config.data.batch_size=32", "--config.mixture.num_centers=16"),
  *tiny_encoder.FLAGS,
)
_SMALL = {
  "main.py": _SMALL_RUN,
  "transfer.py": (
    *("--config.data.name=geo_tiles/earth_smoke", "--config.num_seeds=1"),
    *("--config.tasks=('land_cover',)", "--config.shots=(5,)"),
    *("--config.logistic_shots=(5,)", "--config.trained_shots=(5,)"),
    *("--config.num_resamples=20", "--config.train.num_steps=2"),
    *("--config.train.batch_size=16", "--config.data.batch_size=64"),
  ),
}


def _commands():
  for language, text, _ in docs_pages.blocks(_PAGE):
    if language == "sh":
      yield from docs_pages.split_commands(text)


def _run(words, root, smoke):
  """Runs a command of the page on the smoke data set."""
  (tile,) = sorted((smoke / "tiles/earth_smoke").glob("*.tif"))[:1]
  words = [
    word.replace("gs://BUCKET", root)
    .replace("data/tiles/earth/*_00_*.tif", str(tile))
    .replace("--config=earth", "--config=earth_smoke")
    .replace("--output=data", f"--output={smoke}")
    for word in words
  ]
  assert words[0] == ".venv/bin/python"
  name = words[1].rpartition("/")[2]
  done = subprocess.run(
    [sys.executable, *words[1:], *_SMALL.get(name, ())],
    cwd=docs_pages.ROOT,
    env={**os.environ, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, (words, done.stdout, done.stderr)
  return done.stdout


# Ten commands, each of which starts, compiles and draws.
@pytest.mark.slow
def test_the_commands_of_the_page_run(url, smoke, data):
  done = []
  for words in _commands():
    # What needs Beam is in test_beam_to_buckets.py.
    if "pip" in words or words[0] in ("gcloud", ".venv-beam/bin/python"):
      continue
    printed = _run(words, url, smoke)
    done.append(words[1].rpartition("/")[2])
    if words[1].endswith("export.py"):
      assert "equal the run's within" in printed
  assert {"main.py", "evaluate.py", "predict.py", "embed.py"} < {*done}
  assert {"export.py", "transfer.py", "-m"} < {*done}
  root = files.path(url)
  for name in (
    *("runs/base/eval/test/metrics.json", "runs/base/report.html"),
    *("runs/base/eval/validation/overview.png", "runs/tuned/data.json"),
    *("runs/land_cover/results.parquet", "runs/land_cover/shots.png"),
    *("encoders/base/model.safetensors", "encoders/base/README.md"),
  ):
    assert (root / name).exists(), name
  (folder,) = (root / "predictions").iterdir()
  assert json.loads((folder / "prediction.json").read_text())["where"]
  assert (folder / "climate_zones.tif").exists()
  with files.local(root / "embeddings.parquet") as local:
    table = pq.read_table(local)
  assert len(table) > 5
  encoder = geojax.from_pretrained(f"{url}/encoders/base")
  run = geojax.from_pretrained(f"{url}/runs/base")
  patches = np.random.default_rng(0).integers(0, 200, (3, 32, 32, 5))
  np.testing.assert_allclose(
    *(x.features(patches.astype(np.int16)) for x in (encoder, run)), atol=1e-5
  )
  # Nothing was written to a folder of the bucket's name on this machine.
  assert not (docs_pages.ROOT / "gs:").exists()


def _command(*words, **environment):
  return subprocess.run(
    [sys.executable, *words],
    cwd=docs_pages.ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  ("where", "words"),
  [
    (
      "gs://no-such-bucket/runs",
      "gs://no-such-bucket: there is no such bucket",
    ),
    (
      f"gs://{bucket_server.BUCKET}/none",
      "gs://test-bucket/none is no workdir of a run",
    ),
    ("s3://bucket/runs", "s3:// is not read"),
  ],
)
def test_a_wrong_folder_is_one_sentence(bucket, where, words):
  done = _command("experiments/evaluate.py", f"--workdir={where}")
  assert done.returncode == 1
  assert words in done.stderr
  assert "Traceback" not in done.stderr


def test_without_gcsfs_the_way_to_install_it_is_named(tmp_path):
  (tmp_path / "gcsfs.py").write_text("raise ImportError(name='gcsfs')")
  done = _command(
    *("experiments/evaluate.py", "--workdir=gs://bucket/runs"),
    PYTHONPATH=str(tmp_path),
  )
  assert done.returncode == 1
  assert "gs:// needs the package gcsfs: install what reads" in done.stderr
  assert "Traceback" not in done.stderr
