"""The walk-through runs as a reader would run it, and shows what it should."""

import pathlib

import nbclient
import nbformat
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_NOTEBOOK = _ROOT / "experiments/preliminaries.ipynb"


def pictures(cells):
  """Cells that show a picture."""
  return [
    i
    for i, cell in enumerate(cells)
    for output in cell.get("outputs", ())
    if "image/png" in output.get("data", {})
  ]


@pytest.fixture
def executed(tmp_path):
  notebook = nbformat.read(_NOTEBOOK, as_version=4)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("GEOJAX_WALK", str(tmp_path))
    # One device, as a reader has.
    patch.setenv("XLA_FLAGS", "")
    nbclient.NotebookClient(
      notebook, timeout=900, resources={"metadata": {"path": _ROOT}}
    ).execute()
  return notebook


@pytest.mark.slow
def test_it_shows_the_pictures_that_are_kept_and_learns(executed):
  kept = nbformat.read(_NOTEBOOK, as_version=4)
  assert len(pictures(kept.cells)) == 11
  assert pictures(executed.cells) == pictures(kept.cells)
  # Its minute of training is worth something: uniform is 0 nats.
  (said,) = [
    output.text
    for cell in executed.cells
    for output in cell.get("outputs", ())
    if output.output_type == "stream" and "held-out places" in output.text
  ]
  nats = float(said.partition(" nats")[0].rpartition(" ")[2])
  assert nats < -1


def test_what_is_kept_is_small():
  assert _NOTEBOOK.stat().st_size < 1_000_000
