"""Embeds tiles: an encoder's features of all patches, as GeoParquet.

  python experiments/embed.py --encoder=DIR TILE [TILE ...] --output=OUT.parquet

ENCODER is a folder of experiments/export.py or a run's workdir; a tile is what
its data set could be built from, as for experiments/predict.py. A row a patch:
`geometry`, its outline in longitude and latitude (EPSG:4326), `date`, `tile`,
`row`, `col` and `embedding`. geopandas, QGIS and DuckDB read the file.

Tiles are streamed: memory does not grow with them. Exits with 0; with 1 if no
tile could be embedded, and with 3 if some could, but not all.
"""

import pathlib
import sys

# This file is run as a script, out of a clone.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

from experiments import command, embeddings
from geojax import files, predict

_ENCODER = flags.DEFINE_string("encoder", None, "Folder of an encoder.")
_OUTPUT = flags.DEFINE_string("output", None, "The parquet file to write.")
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float16", "float32"], "Type of the embeddings."
)
_STRIDE = flags.DEFINE_integer(
  "stride",
  None,
  "Pixels from one patch to the next; by default a patch's size.",
  lower_bound=1,
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", None, "Patches at a time, where memory is short.", lower_bound=1
)


def main(argv):
  """Runs the command."""
  with command.running(argv[:1]):
    if len(argv) < 2:
      raise app.UsageError("no tile given")
    number, errors = embeddings.embed_tiles(
      predict.from_pretrained(_ENCODER.value, batch_size=_BATCH_SIZE.value),
      argv[1:],
      files.path(_OUTPUT.value),
      stride=_STRIDE.value,
      dtype=_DTYPE.value,
    )
  if number:
    print(f"{number:,} patches: {_OUTPUT.value}")
  for error in errors:
    print(f"embed.py: {error}", file=sys.stderr)
  if errors:
    sys.exit(3 if number else 1)


if __name__ == "__main__":
  flags.mark_flags_as_required(["encoder", "output"])
  app.run(main)
