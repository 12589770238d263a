"""Exports a run's encoder, with its heads, as a folder to hand over.

  python experiments/export.py --workdir=runs/base --output=encoders/base

writes `model.safetensors`, `config.json` and `README.md`, a model card to be
completed; for the Core family also `pytorch_model.safetensors`, the weights by
PyTorch's names. `--check` loads the folder back and compares its features and
predictions with the run's.

  encoder = geojax.from_pretrained("encoders/base")
"""

import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

from experiments import command, encoder_folder
from geojax import files

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_LAST = flags.DEFINE_boolean(
  "last", False, "Take the newest checkpoint, not the best on validation."
)
_CHECK = flags.DEFINE_boolean(
  "check", False, "Load the folder back and compare it with the run."
)


def main(argv):
  """Runs the command."""
  with command.running(argv):
    workdir, output = map(files.path, (_WORKDIR.value, _OUTPUT.value))
    encoder_folder.write(workdir, output, last=_LAST.value)
    if _CHECK.value:
      print(encoder_folder.check(workdir, output, last=_LAST.value))
  print(f"encoder: {output}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "output"])
  app.run(main)
