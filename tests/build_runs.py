"""The command that builds data sets, and what it has built."""

import pathlib
import subprocess
import sys

import tensorflow_datasets as tfds
from absl import flags
from absl.testing import flagsaver

from data_prep import build, splits

REPO = pathlib.Path(__file__).parents[1]
VERSION = "geo_tiles/earth_smoke/1.0.0"


def start(*args):
  # Of tests in the background of a shell it would inherit to ignore SIGINT. By
  # `env`, as a function to call in the child takes a fork, which JAX forbids.
  command = ("env", "--default-signal=INT", sys.executable)
  return subprocess.Popen(
    [*command, "-m", "data_prep.build", *args],
    cwd=REPO,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def smoke_to(output, num_workers=0):
  return (
    "--config=earth_smoke",
    f"--output={output}",
    f"--num_workers={num_workers}",
  )


def contents(output):
  builder = tfds.builder_from_directory(output / VERSION)
  return {
    split: [
      tuple(record[n].tobytes() for n in ("image", "climate", "coords", "date"))
      for record in builder.as_data_source(split)
    ]
    for split in splits.SPLITS
  }


def run_main(*args):
  """Runs the command in this process; returns its exit code."""
  with flagsaver.flagsaver():
    flags.FLAGS(["data_prep.build", *args])
    try:
      build.main(["data_prep.build"])
    except SystemExit as error:
      return error.code
  return 0


def smoke_fails(capsys, output, num_workers=0):
  """The one line that the command says when it fails."""
  code = run_main(*smoke_to(output, num_workers), "--strict")
  assert code == 1
  message = capsys.readouterr().err.strip()
  assert "\n" not in message
  assert message.startswith("data_prep.build: ")
  assert not (output / VERSION).exists() or "settings" in message
  return message
