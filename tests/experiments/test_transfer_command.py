"""The transfer command: its results, its draws, and going on where it was."""

import command_runs
import numpy as np
import pyarrow.parquet as pq
import pytest
from transfer_samples import make_config, read_results

from geojax import tasks
from geojax.training import dataset as dataset_lib
from geojax.training.errors import ConfigError
from geojax.transfer import problems, run

_BASELINES = {"random", "band_statistics", "random_convolutions", "constant"}


@pytest.fixture(scope="module")
def transferred(smoke, encoder, tmp_path_factory):
  """The command's workdir and what it printed."""
  workdir = tmp_path_factory.mktemp("transfer")
  path = workdir / "config.py"
  path.write_text(
    "from geojax.transfer import config as lib\n\n"
    "def get_config():\n"
    "  config = lib.default_config()\n"
    "  config.data.name = 'geo_tiles/earth_smoke'\n"
    "  config.tasks = ('land_cover', 'land_cover:pixels')\n"
    "  config.shots, config.logistic_shots = (1, 5, 0), (5,)\n"
    "  config.trained_shots = config.pixel_shots = (5,)\n"
    "  config.num_seeds, config.num_resamples = 2, 20\n"
    "  config.train.num_steps = 2\n"
    "  return config\n"
  )
  done = command_runs.run(
    *("transfer.py", f"--config={path}", f"--workdir={workdir / 'out'}"),
    *(f"--config.encoder={encoder}", f"--config.data.dir={smoke}"),
  )
  assert done.returncode == 0, done.stderr
  return workdir / "out", done.stdout


@pytest.mark.slow
def test_every_encoder_and_protocol_has_its_rows(transferred, encoder):
  workdir, printed = transferred
  rows = read_results(workdir)
  of = {
    (r["task"], r["protocol"], r["encoder"], r["shots"], r["seed"])
    for r in rows
  }
  for name in (str(encoder), *_BASELINES - {"constant"}):
    for protocol in ("knn5", "knn20", "ridge"):
      for shots, seeds in ((1, 2), (5, 2), (0, 1)):
        for seed in range(seeds):
          assert ("land_cover", protocol, name, shots, seed) in of
    assert ("land_cover", "logistic", name, 5, 0) in of
  for protocol, name in (
    *(("finetune", str(encoder)), ("scratch", "random")),
    ("constant", "constant"),
  ):
    assert ("land_cover", protocol, name, 5, 1) in of
  for protocol, name in (
    *(("linear", str(encoder)), ("linear", "random")),
    *(("finetune", str(encoder)), ("scratch", "random")),
  ):
    assert ("land_cover_pixels", protocol, name, 5, 1) in of
  assert {r["metric"] for r in rows if r["task"] == "land_cover"} == {
    "accuracy",
    "macro_f1",
  }
  assert {r["metric"] for r in rows if r["task"] == "land_cover_pixels"} == {
    "mean_iou",
    "accuracy",
  }
  for row in rows:
    assert 0 <= row["value"] <= 1
    assert row["low"] - 1e-9 <= row["high"]
    assert row["split"] == "test"
  assert "trained on none of the test places" in printed
  assert "land cover, 17 classes" in printed


@pytest.mark.slow
def test_pictures_and_page_are_there(transferred):
  workdir, _ = transferred
  assert (workdir / "shots.png").stat().st_size > 10_000
  page = (workdir / "transfer.html").read_text()
  assert "random convolutions, ridge" in page
  assert "Test metric by number of labelled patches" in page


@pytest.mark.slow
def test_draws_are_nested_and_hashed(transferred):
  workdir, _ = transferred
  drawn = pq.read_table(workdir / "draws.parquet").to_pylist()
  ids = {}
  for row in drawn:
    key = row["task"], row["shots"], row["seed"]
    ids.setdefault(key, set()).add(row["id"])
  assert ids["land_cover", 1, 0] < ids["land_cover", 5, 0]
  assert ids["land_cover", 1, 0] != ids["land_cover", 1, 1]
  hashes = {
    (r["shots"], r["seed"]): r["ids_hash"]
    for r in read_results(workdir)
    if r["task"] == "land_cover"
  }
  assert len(set(hashes.values())) == len(hashes)


def test_a_stopped_command_goes_on(smoke, encoder, tmp_path):
  config = make_config(smoke, encoder, protocols=("ridge",))

  seen = []

  def stop(line):
    seen.append(line)
    if len(seen) == 9:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run.run(config, tmp_path / "a", stop)
  before = read_results(tmp_path / "a")
  lines = []
  run.run(config, tmp_path / "a", lines.append)
  run.run(config, tmp_path / "b", lambda line: None)
  keys = ("task", "encoder", "protocol", "shots", "seed", "metric", "value")

  def plain(rows):
    return [tuple(row[key] for key in keys) for row in rows]

  assert plain(read_results(tmp_path / "a")) == plain(
    read_results(tmp_path / "b")
  )
  assert plain(read_results(tmp_path / "a"))[: len(before)] == plain(before)
  # The first line is of the overlap.
  assert len(lines) - 1 == (len(read_results(tmp_path / "a")) - len(before)) / 2


def test_labels_that_mean_nothing_give_chance(
  smoke, encoder, tmp_path, monkeypatch
):
  """Permuted test labels: no protocol may know them."""
  original = problems.read_splits
  config = make_config(
    smoke,
    encoder,
    shots=(0,),
    protocols=("knn", "ridge", "logistic", "finetune"),
  )
  config.logistic_shots = config.trained_shots = (0,)
  config.num_seeds = 1

  def permuted(*args, **keys):
    splits = original(*args, **keys)
    rng = np.random.default_rng(0)
    test = splits["test"].labels
    order = rng.permutation(len(test["land_cover"]))
    test["land_cover"] = test["land_cover"][order]
    return splits

  monkeypatch.setattr(problems, "read_splits", permuted)
  workdir = tmp_path / "permuted"
  run.run(config, workdir, lambda line: None)
  dataset = dataset_lib.open_dataset(str(smoke), "geo_tiles/earth_smoke")
  labels = dataset.read_labels("test", names=("land_cover",))
  truth = tasks.one_class(dataset.targets["land_cover"])(labels)
  shares = np.bincount(truth[truth >= 0]) / len(truth)
  # Whatever is answered, at most the commonest class's share is right but for
  # chance; a protocol that saw the labels would get nearly all.
  spread = 4 * np.sqrt(0.25 / len(truth))
  for row in read_results(workdir):
    if row["metric"] == "accuracy" and row["protocol"] != "finetune":
      assert row["value"] <= shares.max() + spread, row


@pytest.mark.parametrize(
  ("keys", "match"),
  [
    ({"encoder": ""}, r"config.encoder is ''"),
    ({"tasks": ()}, r"config.tasks is empty"),
    ({"tasks": ("cover",)}, r"unknown task 'cover'; .*land_cover"),
    ({"tasks": ("coords",)}, r"'coords' has no linear form"),
    ({"protocols": ("kn",)}, r"config.protocols has kn; known are knn"),
    ({"pooling": "max"}, r"config.pooling must be one of encoder, stages"),
    ({"shots_by": "soil"}, r"'soil', which is neither .* are land_cover"),
    ({"num_seeds": 0}, r"config.num_seeds must be at least 1"),
  ],
)
def test_what_cannot_be_run_is_refused(smoke, encoder, tmp_path, keys, match):
  config = make_config(smoke, encoder)
  config.update(keys)
  with pytest.raises(ConfigError, match=match):
    run.run(config, tmp_path, lambda line: None)


def test_shots_of_regions(smoke, encoder, tmp_path):
  config = make_config(
    smoke, encoder, shots_by="region", protocols=("ridge",), shots=(2,)
  )
  run.run(config, tmp_path, lambda line: None)
  drawn = pq.read_table(tmp_path / "draws.parquet").to_pylist()
  dataset = dataset_lib.open_dataset(config.data.dir, config.data.name)
  found = problems.read_splits(dataset, (), 10**6, extra=("land_cover",))
  groups = problems.groups(
    dataset, found["train"], None, "region", config.region_deg
  )
  at = dict(zip(found["train"].ids, groups, strict=True))
  for seed in range(2):
    mine = [at[row["id"]] for row in drawn if row["seed"] == seed]
    assert np.bincount(mine).max() == 2


def test_statistics_of_each_stage_are_features(smoke, encoder, tmp_path):
  values = {}
  for pooling in ("encoder", "stages"):
    config = make_config(
      smoke, encoder, protocols=("ridge",), pooling=pooling, num_seeds=1
    )
    run.run(config, tmp_path / pooling, lambda line: None)
    rows = read_results(tmp_path / pooling)
    values[pooling] = {r["encoder"]: r["value"] for r in rows}
    names = (str(encoder), *_BASELINES)
    assert values[pooling].keys() == set(names)
  changed = {
    name
    for name, value in values["stages"].items()
    if value != values["encoder"][name]
  }
  # Those that have stages.
  assert changed == {str(encoder), "random"}
  with pytest.raises(ConfigError, match=r"results of another .*pooling"):
    run.run(config.copy_and_resolve_references(), tmp_path / "encoder", print)


def test_fine_tuning_starts_from_ridge_regression(smoke, encoder, tmp_path):
  config = make_config(
    smoke,
    encoder,
    protocols=("ridge", "finetune", "scratch"),
    encoders=("pretrained",),
    shots=(25,),
    trained_shots=(25,),
  )
  # Nothing is learned, but for the running statistics of one step.
  config.train.num_steps, config.train.learning_rate = 1, 1e-12
  run.run(config, tmp_path, lambda line: None)
  found = {
    (r["protocol"], r["seed"]): r["value"]
    for r in read_results(tmp_path)
    if r["metric"] == "accuracy"
  }
  for seed in range(2):
    ridge = found["ridge", seed]
    assert found["finetune", seed] == pytest.approx(ridge, abs=0.05)
    assert found["scratch", seed] < ridge - 0.1
