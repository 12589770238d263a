"""An exported encoder: whole, checked, read with little installed, and used."""

import dataclasses
import json
import os
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import shapely
import tiny_encoder
from command_runs import ROOT, run

import geojax
from data_prep import grids, products, tile_writer
from experiments import embeddings, encoder_folder
from experiments.benchmarks import predict as benchmark
from geojax import predict, sphere
from geojax.training import calibrations, evaluate, exported, loop
from geojax.training import config as config_lib
from geojax.training import run as run_lib
from geojax.training.errors import ConfigError

_NAME = "S2B_MSIL2A_20220705T101411_N0400_R022_T33UXP_20220706T120000"


def small_config(smoke=None, tiny=True):
  config = config_lib.default_config()
  if smoke is not None:
    config.data.dir, config.data.name = str(smoke), "geo_tiles/earth_smoke"
    config.data.batch_size = 32
  config.mixture.num_centers = 16
  config.num_steps = config.eval_every = config.checkpoint_every = 2
  if tiny:
    tiny_encoder.use(config)
  else:
    config.model.depths, config.model.widths = (1,), (16,)
  return config


@pytest.fixture(scope="module")
def trained(smoke, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  loop.train(small_config(smoke, tiny=False), workdir, progress=False)
  run = run_lib.load(workdir)
  fitted = evaluate.fit_tasks(
    run.config, run.tasks, run.dataset, run.mesh, run.state.evaluated
  )
  calibrations.save(workdir, int(run.state.step), fitted)
  return workdir


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
  """What the command writes, and what it prints."""
  output = tmp_path_factory.mktemp("encoders") / "small"
  done = run(
    "export.py", f"--workdir={trained}", f"--output={output}", "--check"
  )
  assert done.returncode == 0, done.stderr
  assert "equal the run's within" in done.stdout
  return output


def test_heads_with_scalars_are_exported(smoke, tmp_path):
  config = small_config(smoke)
  config.mixture.background = 0.01
  workdir, output = tmp_path / "run", tmp_path / "encoder"
  loop.train(config, workdir, progress=False)
  done = run(
    "export.py", f"--workdir={workdir}", f"--output={output}", "--check"
  )
  assert done.returncode == 0, done.stderr
  ours, theirs = (
    read(folder).predict(make_patches())
    for read, folder in (
      (geojax.from_pretrained, output),
      (predict.load, workdir),
    )
  )
  assert ours.columns["background_weight"].min() > 0.01
  for name, expected in theirs.columns.items():
    np.testing.assert_allclose(
      ours.columns[name], expected, rtol=1e-4, atol=1e-5, err_msg=name
    )


def make_patches(count=5, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 200, (count, 32, 32, 5)).astype(np.int16)


def test_the_folder_describes_itself(folder, trained):
  described = json.loads((folder / "config.json").read_text())
  assert described["bands"] == ["red", "green", "blue", "altitude", "turbidity"]
  assert described["wavelengths_nm"] == [650, 550, 470, None, None]
  assert described["patch_size"] == 32
  assert described["dtype"] == "int16"
  assert described["tasks"] == ["coords", "climate", "date"]
  assert len(described["splits_sha256"]) == 64
  assert described["calibration"]["temperature"] == 1.0
  levels = described["calibration"]["levels"]
  assert levels.keys() == {"coords", "climate", "date"}
  assert len(levels["coords"]["level_knots"]) == 257
  card = (folder / "README.md").read_text()
  assert "| turbidity |  | 60 | 20 |" in card
  assert "geojax.from_pretrained" in card
  assert "are calibrated by 2 blocks of the validation split" in card
  assert exported.read(folder).train_cells.size > 10
  assert (folder / "pytorch_model.safetensors").exists()


def test_features_and_predictions_are_the_runs(folder, trained):
  encoder, run = geojax.from_pretrained(folder), predict.load(trained)
  patches = make_patches()
  np.testing.assert_allclose(
    encoder.features(patches), run.features(patches), atol=1e-5
  )
  assert encoder.features(patches).shape == (5, 16)
  _, (large,) = encoder.features(patches, stages=True)
  assert large.shape == (5, 32, 32, 16)
  found, expected = encoder.predict(patches), run.predict(patches)
  np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
  np.testing.assert_allclose(found.mu, expected.mu)
  place = np.float32(sphere.fibonacci_lattice(5))
  level = found.credible_level(place)
  np.testing.assert_allclose(level, expected.credible_level(place), atol=0.01)
  raw = dataclasses.replace(expected, level_knots={})
  assert np.abs(level - raw.credible_level(place)).max() > 0.02
  assert encoder.bands == run.bands
  np.testing.assert_allclose(encoder.scale[3], [400, 1000])


@pytest.mark.torch
@pytest.mark.parametrize("side", [1, 4])
def test_features_in_pytorch_are_the_runs(smoke, tmp_path, side):
  import torch
  from safetensors.torch import load_file

  from experiments.benchmarks import torch_models

  config = small_config(smoke, tiny=False)
  config.model.patch_size = side
  config.model.depths, config.model.widths = (1, 1), (16, 32)
  loop.train(config, tmp_path / "run", progress=False)
  encoder_folder.write(tmp_path / "run", tmp_path / "encoder")
  encoder = geojax.from_pretrained(tmp_path / "encoder")
  state = load_file(tmp_path / "encoder" / "pytorch_model.safetensors")
  model = torch_models.CoreEncoder(
    bands=5 * side**2,
    num_outputs=len(state["head.2.bias"]),
    depths=(1, 1),
    widths=(16, 32),
    excitation="gate",
  )
  model.load_state_dict(state, strict=True)
  model.eval().head[2] = torch.nn.Identity()
  patches = make_patches()
  offset, divisor = np.float32(encoder.scale).T
  scaled = (patches - offset) / divisor
  # As the model card words it: rows, columns and bands of each square.
  cells = scaled.reshape(5, 32 // side, side, 32 // side, side, 5)
  folded = cells.transpose(0, 2, 4, 5, 1, 3).reshape(5, -1, *cells.shape[1:4:2])
  with torch.no_grad():
    found = model(torch.from_numpy(folded)).numpy()
  expected = encoder.features(patches)
  assert np.std(expected) > 0.01
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  card = (tmp_path / "encoder" / "README.md").read_text()
  assert ("rows, columns and bands" in card) == (side > 1)


def test_it_loads_with_little_installed(folder, tmp_path):
  """In a process in which the packages of training cannot be imported."""
  patches = make_patches()
  np.save(tmp_path / "patches.npy", patches)
  code = f"""
import sys
for name in ("orbax", "orbax.checkpoint", "tensorflow_datasets", "grain",
             "array_record", "tensorflow", "pyarrow", "tifffile", "tqdm"):
  sys.modules[name] = None
import numpy as np
import geojax
encoder = geojax.from_pretrained({str(folder)!r})
patches = np.load({str(tmp_path / "patches.npy")!r})
np.save({str(tmp_path / "features.npy")!r}, encoder.features(patches))
print(encoder.predict(patches).climate_probs.shape)
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "(5, 31)" in done.stdout
  np.testing.assert_allclose(
    np.load(tmp_path / "features.npy"),
    geojax.from_pretrained(folder).features(patches),
    atol=1e-5,
  )


@pytest.mark.parametrize(
  ("change", "match"),
  [
    (lambda x: x[..., :4], r"bands red green blue altitude turbidity; found"),
    (lambda x: x[:, :16], r"shape \[n, 32, 32, 5\]"),
    (lambda x: x.astype(np.float32), r"raw int16, .*; found float32"),
    (lambda x: x[:0], r"no patch"),
    (
      lambda x: np.where(np.arange(5) == 4, 9000, x).astype(np.int16),
      r"band turbidity has the median 9000, but was trained on .* 60 to 80",
    ),
  ],
)
def test_what_it_was_not_trained_on_is_refused(folder, change, match):
  encoder = geojax.from_pretrained(folder)
  with pytest.raises(ValueError, match=match):
    encoder.features(change(make_patches()))
  with pytest.raises(ValueError, match=match):
    encoder.predict(change(make_patches()))


def test_a_card_that_was_completed_stays(trained, tmp_path, capsys):
  encoder_folder.write(trained, tmp_path)
  card = tmp_path / "README.md"
  encoder_folder.write(trained, tmp_path)
  assert not (tmp_path / "README_new.md").exists()
  card.write_text("licence: mine")
  encoder_folder.write(trained, tmp_path)
  assert card.read_text() == "licence: mine"
  assert "geojax.from_pretrained" in (tmp_path / "README_new.md").read_text()
  assert "README_new.md" in capsys.readouterr().out


def test_a_folder_of_something_else_is_left_alone(trained, tmp_path):
  (tmp_path / "mine.txt").write_text("kept")
  with pytest.raises(ConfigError, match=r"holds files, but no exported enc"):
    encoder_folder.write(trained, tmp_path)
  assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_folder_that_differs_is_noticed(folder, trained, tmp_path):
  found = exported.read(folder)
  found.variables["params"]["encoder"]["stem"]["conv1"]["kernel"] *= 1.01
  exported.write(found, tmp_path)
  with pytest.raises(ConfigError, match=r"differs from .* export it again"):
    encoder_folder.check(trained, tmp_path)


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory):
  """An encoder of random weights for Sentinel-2, and a tile."""
  workdir = tmp_path_factory.mktemp("sentinel")
  benchmark.write_untrained_run(
    workdir, small_config(), benchmark.describe_tiles("sentinel2")
  )
  pixels = np.random.default_rng(0).integers(1, 9000, (11, 300, 400))
  pixels[0] = 4
  pixels[0, :128, 128:256] = 9  # One of six patches is clouded.
  path = tmp_path_factory.mktemp("tiles") / f"{_NAME}_s2.tif"
  grid = grids.Grid(300, 400, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  tile_writer.write_planes(
    path,
    pixels.astype(np.uint16),
    bands=products.BANDS_11,
    grid=grid,
    dtype="uint16",
    date=None,
  )
  return workdir, path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tiles_become_geoparquet(sentinel, tmp_path, dtype):
  workdir, tile = sentinel
  encoder = geojax.from_pretrained(workdir)
  path = tmp_path / "out.parquet"
  number, errors = embeddings.embed_tiles(
    encoder, [tile, tmp_path / "missing_s2.tif"], path, dtype=dtype
  )
  assert number == 5
  assert "missing_s2.tif" in str(errors[0])
  found = geopandas.read_parquet(path)
  assert found.crs.to_epsg() in (4326, None)
  assert list(found.tile.unique()) == [f"{_NAME}_s2"]
  assert str(found.date[0]) == "2022-07-05"
  assert found.embedding[0].dtype == dtype
  corners = list(zip(found.row, found.col, strict=True))
  assert (0, 128) not in corners
  import pyproj

  to_metres = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
  for (row, col), outline in zip(corners, found.geometry, strict=True):
    x, y = to_metres.transform(*np.array(outline.exterior.coords).T)
    west, north = 600000 + 10 * col, 5500020 - 10 * row
    expected = shapely.box(west, north - 1280, west + 1280, north)
    made = shapely.Polygon(zip(x, y, strict=True))
    assert made.symmetric_difference(expected).area < 1e-6 * expected.area
    assert outline.exterior.is_ccw
  # The features of the patches that the tile's pixels make.
  from data_prep import tile_patches, unseen

  config = unseen.whole_tile_config(encoder.data.name, encoder.data.settings)
  opened = tile_patches.open_tile(tile, config)
  features, _ = opened.cut(np.arange(len(opened.chosen.rows)))
  expected = encoder.features(features["image"])
  np.testing.assert_allclose(
    np.stack(found.embedding), expected, rtol=2e-3, atol=1e-3
  )


def test_the_embed_command_ends_with_3_where_a_tile_was_bad(sentinel, tmp_path):
  workdir, tile = sentinel
  path = tmp_path / "out.parquet"
  done = run(
    *("embed.py", f"--encoder={workdir}", f"--output={path}"),
    *(tile, tmp_path / "missing.tif"),
  )
  assert done.returncode == 3, done.stderr
  assert f"5 patches: {path}" in done.stdout
  assert "missing.tif" in done.stderr
  assert len(geopandas.read_parquet(path)) == 5


def test_no_patch_writes_no_file(sentinel, tmp_path):
  encoder = geojax.from_pretrained(sentinel[0])
  path = tmp_path / "out.parquet"
  with pytest.raises(ConfigError, match=r"no patch of any tile .*missing"):
    embeddings.embed_tiles(encoder, [tmp_path / "missing.tif"], path)
  assert not list(tmp_path.iterdir())
