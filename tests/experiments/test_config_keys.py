"""Every key of the config: a valid change is seen, an invalid one is refused.

Changes are typed as on the command line of `experiments/main.py`. A change is
seen in the compiled step, the log, the files of the workdir, the size of the
batches, the threads, or what was best; or the config says that it has no effect
here.
"""

import functools
import json
import pathlib
import shutil
import sys
import threading

import jax
import pytest
import tiny_encoder
from absl import flags
from ml_collections import config_flags

from geojax.training import config as config_lib
from geojax.training import (
  deadline,
  logs,
  loop,
  pipeline,
  progress,
  sharding,
)
from geojax.training.errors import TrainingError

_CONFIG = pathlib.Path(__file__).parents[2] / "experiments/configs/base.py"
_SMALL = {
  "num_steps": 4,
  "eval_every": 1,
  "checkpoint_every": 1,
  "log_every": 2,
  # No place is right within 1 km: the first evaluation stays the best.
  "best_metric": "acc@1km",
  "data.batch_size": 16,
  "data.eval_batch_size": 64,
  "data.name": "geo_tiles/earth_smoke",
  "mixture.num_centers": 16,
  **tiny_encoder.KEYS,
}
# Keys of the model are those of the library's own encoders.
_CORE = {"model.name": "core", "model.depths": (1,), "model.widths": (16,)}
_ATTO = {"model.name": "core", "model.size": "atto"}
_WIDE_CORE = {**_CORE, "model.widths": (32,)}
_RESTARTS = {
  "optimizer.schedule": "restarts",
  "optimizer.warmup_steps": 0,
  "optimizer.restart_period": 1,
}
# A run that was made before, see `folder`.
_INIT = {"init.encoder": "{encoder}"}
_ANY_BEST = {"best_metric": "auto"}
_PIXELS = {"tasks": "('land_cover:pixels',)", **_ANY_BEST}
_PLATEAU = {"optimizer.schedule": "plateau"}
_IMPATIENT = {**_PLATEAU, "optimizer.plateau_patience": 1}

# By key: a valid value and an invalid one; and, where other keys keep it from
# having an effect, what else must change first.
_VALUES = {
  "seed": ("1", "-1"),
  "num_steps": ("3", "0"),
  "log_every": ("1", "0"),
  "eval_every": ("3", "-5"),
  "checkpoint_every": ("2", "0"),
  "checkpoints_to_keep": ("1", "0"),
  "best_metric": ("mean_km", "accuracy"),
  "early_stopping_patience": ("1", "-1"),
  "skip_nonfinite_steps": ("1", "-1"),
  "step_deadline_s": ("1000.0", "-1"),
  "trace_steps": ("(2,3)", "(3,2)"),
  "wandb_project": ("places", "a/b"),
  "tasks": ("('coords','date')", "('no_such_task',)"),
  "probes": ("('land_cover',)", "('no_such_probes',)"),
  "parallel": ("pmap", "pjit"),
  "sharding": ("fsdp", "zero"),
  "model_devices": ("2", "0"),
  "data.name": ("geo_tiles/altered", "geo_tiles/none"),
  "data.dir": ("{altered}", "{missing}"),
  "data.cache_dir": ("{copies}", "gs://bucket/copies"),
  "data.read_threads": ("1", "-1"),
  "data.batch_size": ("8", "0"),
  "data.eval_batch_size": ("32", "0"),
  "augment.flip_east_west": ("False", "maybe"),
  "augment.flip_north_south": ("False", "2"),
  "augment.rotate": ("True", "no way"),
  "augment.crop_pixels": ("2", "-1"),
  "augment.band_noise": ("0.1", "-0.1"),
  "augment.cut_mix": ("0.5", "1.0"),
  "augment.north_up": ("True", "up"),
  "model.name": ("core_unet", "resnet", _WIDE_CORE),
  "model.size": ("femto", "giant", _ATTO),
  "model.depths": ("(2,)", "(0,)", _CORE),
  "model.widths": ("(32,)", "(8,)", _CORE),
  "model.patch_size": ("4", "0", _CORE),
  "model.norm": ("group", "instance", _CORE),
  "model.excitation": ("published", "none", _CORE),
  "model.dtype": ("bfloat16", "float16", _CORE),
  "model.remat": ("True", "1.5", _CORE),
  "model.dropout": ("0.5", "3"),
  "model.pixel_head": ("pyramid", "unet", _PIXELS),
  "init.encoder": ("{encoder}", "{missing}"),
  "init.freeze": ("True", "maybe", _INIT),
  "init.learning_rate_factor": ("0.5", "0", _INIT),
  "init.layer_decay": ("0.5", "2", _INIT),
  "init.bands": ("match", "some", _INIT),
  "init.any_patch_size": ("True", "maybe", _INIT),
  "loss.coords": ("mse", "l2"),
  "loss.smoothing_km": ("100.0", "0"),
  "loss.weights.coords": ("2.0", "-1"),
  "loss.weights.climate": ("2.0", "-1"),
  "loss.weights.date": ("2.0", "nan"),
  "loss.climate_fine_weight": ("0.25", "7"),
  "loss.variances_learning_rate": ("0.1", "-1"),
  "mixture.num_centers": ("8", "0"),
  "mixture.centers": ("fibonacci", "random"),
  "mixture.min_distance_km": ("900.0", "-1"),
  "mixture.log_kappa": ("4.0", "1000"),
  "mixture.spacing_mass": ("0.25", "1"),
  "mixture.chunk_size": ("8", "-1"),
  "mixture.background": ("0.001", "1"),
  "mixture.log_kappa_learning_rate": ("0.1", "-1"),
  "mixture.centers_learning_rate": ("0.1", "inf"),
  "mixture.temperature": ("2.0", "0"),
  "mixture.decoder": ("largest", "median"),
  "mixture.mode_blur_km": ("100.0", "-1"),
  "optimizer.schedule": ("constant", "linear"),
  "optimizer.learning_rate": ("0.1", "-1"),
  "optimizer.warmup_steps": ("1", "-1"),
  "optimizer.final_fraction": ("0.5", "2"),
  "optimizer.restart_period": ("2", "0", _RESTARTS),
  "optimizer.restart_multiplier": ("3.0", "0.5", _RESTARTS),
  "optimizer.plateau_patience": ("1", "0", _PLATEAU),
  "optimizer.plateau_factor": ("0.1", "1", _IMPATIENT),
  "optimizer.weight_decay": ("0.5", "-1"),
  "optimizer.clip_norm": ("0.5", "0"),
  "optimizer.accumulate": ("2", "0"),
  "optimizer.ema_decay": ("0.5", "2"),
}

# Change nothing where they are allowed: they forbid what turns north down, and
# centers that are too near to one another, or permit another encoder's data,
# which test_weights.py tries.
_GUARDS = (
  *("augment.north_up", "mixture.min_distance_km"),
  *("init.bands", "init.any_patch_size"),
)


class _ChangedError(Exception):
  """The compiled step, the argument, is another one: no need to run it."""


def _fill_in(value, folder):
  names = ("altered", "missing", "encoder", "copies")
  return value.format(**{name: folder / name for name in names})


def _parse(folder, changes):
  """The config as the command makes it of its flags."""
  typed = {**_SMALL, "data.dir": folder / "data", **changes}
  arguments = [
    "main.py",
    f"--config={_CONFIG}",
    *(
      f"--config.{key}={_fill_in(str(value), folder)}"
      for key, value in typed.items()
    ),
  ]
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  with pytest.MonkeyPatch.context() as patch:
    # Where the flag of a config looks for those of its keys.
    patch.setattr(sys, "argv", arguments)
    values(arguments)
  return values.config


def _describe_run(config, workdir, monkeypatch, program=None):
  """All that a run shows; ends early where its step is not `program`."""
  seen = {"rows": set(), "program": None, "threads": set()}
  compile_step, put_batch = sharding.compile_step, sharding.put_batch
  read_options = pipeline.grain.ReadOptions

  def compile_and_look(train_step, shardings, *, parallel):
    compiled = compile_step(train_step, shardings, parallel=parallel)

    def step(state, batch):
      if seen["program"] is None:
        specs = jax.tree.map(lambda x: str(x.sharding.spec), state)
        traced = "" if parallel == "pmap" else jax.make_jaxpr(train_step)
        seen["program"] = (
          f"{parallel} {specs} {traced and traced(state, batch)}"
        )
        if program not in (None, seen["program"]):
          raise _ChangedError(seen["program"])
      return compiled(state, batch)

    return step

  def put_and_look(batch, mesh):
    seen["rows"].add(len(batch["image"]))
    threads = {thread.name for thread in threading.enumerate()}
    seen["watched"] = deadline.THREAD in threads
    return put_batch(batch, mesh)

  def options_and_look(num_threads, **others):
    seen["threads"].add(num_threads)
    return read_options(num_threads=num_threads, **others)

  with monkeypatch.context() as patch:
    patch.setattr(pipeline.grain, "ReadOptions", options_and_look)
    patch.setattr(sharding, "compile_step", compile_and_look)
    patch.setattr(sharding, "put_batch", put_and_look)
    run = loop.train(config, workdir, progress=False)
  lines = [
    {key: value for key, value in line.items() if key not in progress.TIMINGS}
    for line in logs.read_metrics(workdir)
  ]
  files = sorted(
    "/".join(path.relative_to(workdir).parts[:3])
    for path in workdir.rglob("*")
    if path.is_dir() or path.suffix in (".pb", ".wandb")
  )
  copies = pathlib.Path(config.data.cache_dir or workdir / "none")
  return {
    **seen,
    "copies": sorted(path.name for path in copies.rglob("*.array_record*")),
    "best": run.described_step,
    "log": lines,
    "files": [name for name in files if "events.out" not in name],
  }


@pytest.fixture(scope="module")
def folder(smoke, tmp_path_factory):
  """Data sets: `data` with that of the tests and one whose scale differs."""
  folder = tmp_path_factory.mktemp("keys")
  for target in ("data/geo_tiles/earth_smoke", "data/geo_tiles/altered"):
    shutil.copytree(smoke / "geo_tiles/earth_smoke", folder / target)
  (metadata,) = (folder / "data/geo_tiles/altered").rglob("metadata.json")
  content = json.loads(metadata.read_text())
  content["scale"][0] = [50, 100]
  metadata.write_text(json.dumps(content))
  shutil.copytree(
    folder / "data/geo_tiles/altered", folder / "altered/geo_tiles/earth_smoke"
  )
  config = _parse(folder, {"num_steps": 1, "tasks": "('climate',)"} | _ANY_BEST)
  loop.train(config, folder / "encoder", progress=False)
  return folder


@pytest.fixture(scope="module")
def unchanged(folder, tmp_path_factory):
  """A function of other keys: a description of their run, once for all.

  Where `program` is given, the run ends at its first step and the step's
  program is all that is described: most changes are seen in it.
  """

  @functools.cache
  def describe(others, program=None):
    config = _parse(folder, dict(others))
    with pytest.MonkeyPatch.context() as patch:
      try:
        return _describe_run(
          config, tmp_path_factory.mktemp("unchanged"), patch, program
        )
      except _ChangedError as error:
        return {"program": error.args[0]}

  return describe


def test_the_table_holds_every_key():
  known = config_lib.flatten(config_lib.default_config().to_dict())
  # Extensions register names: test_extending.py.
  assert {*_VALUES, "extensions"} == set(known)


# Initial values of two whole models take a minute to compile.
_SLOW = {"model.size"}


@pytest.mark.parametrize(
  "key",
  [
    pytest.param(key, marks=pytest.mark.slow if key in _SLOW else ())
    for key in _VALUES
  ],
)
def test_a_valid_value_changes_the_run_or_is_refused_by_name(
  key, folder, unchanged, tmp_path, monkeypatch
):
  monkeypatch.setenv("WANDB_MODE", "offline")
  value, _, *others = _VALUES[key]
  changes = {key: value}
  if (others and key not in others[0]) or key in _GUARDS:
    with pytest.raises(TrainingError, match=key.split(".")[-1]):
      loop.train(_parse(folder, changes), tmp_path / "run", progress=False)
  if key in _GUARDS:
    return
  others = others[0] if others else {}
  program = unchanged(tuple(others.items()), program="")["program"]
  config = _parse(folder, {**others, **changes})
  try:
    after = _describe_run(config, tmp_path / "run", monkeypatch, program)
  except _ChangedError:
    return
  assert after != unchanged(tuple(others.items()))


@pytest.mark.parametrize("key", _VALUES)
def test_an_invalid_value_is_refused_by_name(key, folder, tmp_path):
  _, value, *others = _VALUES[key]
  changes = {**(others[0] if others else {}), key: value}
  with pytest.raises(
    (TrainingError, flags.IllegalFlagValueError, TypeError, ValueError),
    match=key.split(".")[-1],
  ):
    loop.train(_parse(folder, changes), tmp_path / "run", progress=False)
  assert not (tmp_path / "run/config.json").exists()
