"""The folder of an exported encoder: weights, config and model card."""

import json
import pathlib
import tempfile

import jax
import numpy as np

from geojax import __version__, files, predict, tasks
from geojax.models import convert
from geojax.training import calibrations, exported, weights
from geojax.training import dataset as dataset_lib
from geojax.training.errors import ConfigError, DatasetError
from geojax.transfer import overlap

CARD, NEW_CARD = "README.md", "README_new.md"
TORCH = "pytorch_model.safetensors"
# Metres a pixel of data sets by their config.
_PIXEL_M = dict.fromkeys(
  ("sentinel2", "bigearthnet", "major_tom", "phileo"), 10.0
)
# Central wavelengths of Sentinel-2's bands (those of 2A), and of red, green and
# blue as a picture shows them.
_WAVELENGTHS_NM = {
  **{"B01": 443, "B02": 492, "B03": 560, "B04": 665, "B05": 704, "B06": 740},
  **{"B07": 783, "B08": 833, "B8A": 865, "B09": 945, "B10": 1374},
  **{"B11": 1614, "B12": 2202, "blue": 470, "green": 550, "red": 650},
}
# Figures of the model card, of those that the run has.
_FIGURES = (
  *("median_km", "acc@750km", "nll_nats", "climate_accuracy"),
  *("climate_class_accuracy", "date_mae_days"),
)
# What a reloaded encoder may differ by from the run.
_TOLERANCE = 1e-5


def write(workdir, folder, *, last: bool = False) -> None:
  """Exports a run.

  Args:
    workdir: Folder of the run.
    folder: Folder to write to; made if missing.
    last: Whether to take the newest checkpoint instead of the best.

  Raises:
    ConfigError: There is no run, or the folder holds something else.
  """
  folder = files.path(folder)
  is_used = folder.exists() and any(folder.iterdir())
  if is_used and not exported.is_exported(folder):
    raise ConfigError(
      f"{folder} holds files, but no exported encoder; take another --output"
    )
  found = weights.load(str(workdir), last=last)
  config, data = found.config, found.data
  about = {
    "geojax": __version__,
    "step": found.about,
    "wavelengths_nm": [_WAVELENGTHS_NM.get(band) for band in data.bands],
    "pixel_m": _pixel_m(data),
    "splits_sha256": data.splits_sha256,
    "calibration": _calibration(workdir, found),
  }
  try:
    dataset = dataset_lib.open_dataset(config.data.dir, config.data.name)
    train_cells = overlap.train_cells(dataset)
  except DatasetError as error:
    print(f"exported without the places of the train patches: {error}")
    train_cells = None
  exported.write(
    exported.Exported(config, data, found.variables, about, train_cells),
    folder,
  )
  has_torch = _write_torch(found.variables, folder / TORCH)
  figures = _read_figures(files.path(workdir))
  card = model_card(
    folder.name, found, figures, has_torch, about["calibration"]
  )
  _write_card(folder, card)


def _calibration(workdir, found):
  """The temperature of a mixture, and the calibrated `levels` by task."""
  config, described = found.config, {}
  if config.loss.coords != "mse" and "coords" in config.tasks:
    described["temperature"] = config.mixture.temperature
  levels = calibrations.load(files.path(workdir), found.step)
  task_list = tasks.create_tasks(config, targets=found.data.targets)
  if note := calibrations.describe_lack(levels, task_list):
    print(f"{workdir}, {found.about}: {note}")
  return described | {"levels": levels or {}}


def _pixel_m(data):
  """Metres a pixel, or None where they are not known or not the same."""
  settings = data.settings
  config = settings.get("base") or data.name.split("/")[-1]
  return _PIXEL_M.get(config) or settings.get("source", {}).get("pixel_m")


def _write_card(folder, text):
  """Writes the card; one that was completed by hand stays."""
  path = folder / CARD
  if path.exists() and path.read_text() != text:
    path = folder / NEW_CARD
    print(f"{folder / CARD} stays as it is; the new model card is {path}")
  files.write_text(path, text)


def _write_torch(variables, path):
  """Writes the weights by PyTorch's names, if they have such names."""
  try:
    arrays = convert.to_pytorch(variables)
  except ValueError:
    # The other encoders and heads are not in PyTorch's families.
    path.unlink(missing_ok=True)
    return False
  # Its format goes by the name, which a temporary file lacks.
  with tempfile.TemporaryDirectory() as folder:
    local = pathlib.Path(folder, path.name)
    convert.write_state_dict(local, arrays)
    files.copy_from(local, path)
  return True


def _read_figures(workdir):
  path = workdir / "eval" / "test" / "metrics.json"
  return json.loads(path.read_text()) if path.exists() else {}


def model_card(name, found, figures, has_torch, calibration) -> str:
  """Writes the text of a model card.

  Args:
    name: Name of the encoder.
    found: Its `weights.Weights`.
    figures: `metrics.json` of its test split, or {}.
    has_torch: Whether there are PyTorch's weights.
    calibration: That of `config.json`.

  Returns:
    Markdown.
  """
  config, data = found.config, found.data
  model = config.model
  size = f"{data.image_shape[0]} x {data.image_shape[1]}"
  shape = f"[n, {', '.join(map(str, data.image_shape))}]"
  rows = "\n".join(
    f"| {band} | {_WAVELENGTHS_NM.get(band, '')} | {offset:g} | {divisor:g} |"
    for band, (offset, divisor) in zip(data.bands, data.scale, strict=True)
  )
  intervals = figures.get("intervals", {})
  table = "\n".join(
    f"| {key} | {figures[key]:.4g} |"
    f" {' to '.join(f'{x:.4g}' for x in intervals.get(key, ()))} |"
    for key in _FIGURES
    if key in figures
  )
  torch = _about_torch(model) if has_torch else ""
  levels = _about_levels(calibration["levels"])
  return f"""# {name}

An image encoder that was trained to predict {", ".join(config.tasks)} from
patches of `{data.name}` ({found.about}) with
[geojax](https://pypi.org/project/geojax).

```python
import geojax

encoder = geojax.from_pretrained("{name}")
features = encoder.features(patches)  # {shape}
```

{torch}## Input

Patches of {size} pixels, {data.dtype}, as the records of `{data.name}`. The
encoder sees `(value - offset) / divisor`.

| band | wavelength, nm | offset | divisor |
|---|---|---|---|
{rows}

Model: {model.name}, {_kind(model)}.

## Figures

On the data set's test split, at places that training never saw, with 95 %
intervals by bootstrap over places.

| metric | value | interval |
|---|---|---|
{table or "| not evaluated | | |"}

## Limits

- Patches of other bands, units or ground size than those above give
  meaningless features.
- It was tested in the regions of its data set only. Nothing holds for others.
- Predicted places are densities, not locations. {levels}

## Data and licence

Trained on `{data.name}`; hash of its splits:
`{data.splits_sha256 or "not known"}`. State here the licences of the imagery
and of these weights before you publish them.
"""


def _about_levels(levels):
  """Which levels of regions, of sets of zones and arcs of days are meant."""
  if not levels:
    return "Levels are the model's own, which may promise too much."
  blocks = min(found["num_blocks"] for found in levels.values())
  return (
    f"Levels\n  are calibrated by {blocks} blocks of the validation split, and"
    " hold for blocks\n  like those."
  )


def _about_torch(model):
  side = model.patch_size
  folded = (
    f", of which squares of {side} x {side} pixels are folded into channels, in"
    " the order of rows, columns and bands"
    if side > 1
    else ""
  )
  return (
    f"`{TORCH}` holds the same weights by PyTorch's names: of the Core encoder,"
    f" with `excitation={model.excitation!r}`, and of its heads. It takes"
    f" scaled patches{folded}.\n\n"
  )


def _kind(model):
  if model.depths:
    return f"depths {tuple(model.depths)}, widths {tuple(model.widths)}"
  return f"size {model.size}"


def check(workdir, folder, *, last: bool = False) -> str:
  """Compares an exported encoder with its run, on random patches.

  Args:
    workdir: Folder of the run.
    folder: What `write` wrote.
    last: As of `write`.

  Returns:
    A line of text.

  Raises:
    ConfigError: They differ by more than rounding.
  """
  run = predict.load(workdir, last=last)
  encoder = predict.from_pretrained(folder)
  rng = np.random.default_rng(0)
  data = run.data
  shape = (16, *data.image_shape)
  patches = data.offset + data.divisor * rng.normal(size=shape)
  if np.issubdtype(np.dtype(data.dtype), np.integer):
    limits = np.iinfo(data.dtype)
    patches = np.clip(np.round(patches), limits.min, limits.max)
  patches = patches.astype(data.dtype)
  both = [
    {"features": m.features(patches), **m.predict(patches).columns}
    for m in (run, encoder)
  ]
  differences = jax.tree.map(
    lambda a, b: float(np.max(np.abs(a - b) / (1 + np.abs(a)))), *both
  )
  name, largest = max(differences.items(), key=lambda item: item[1])
  if not largest <= _TOLERANCE:
    raise ConfigError(
      f"{folder} differs from {workdir}: {name} by {largest:.2g}; export it"
      " again"
    )
  return (
    "features and predictions of 16 patches equal the run's within"
    f" {largest:.1g}"
  )
