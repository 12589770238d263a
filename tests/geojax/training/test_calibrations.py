"""The file of calibrated levels."""

import numpy as np
import pytest

from geojax import tasks
from geojax.training import calibrations
from geojax.training import config as config_lib
from geojax.training.errors import ConfigError

KNOTS = {"level_knots": np.linspace(0, 1, 257) ** 2, "num_blocks": np.int32(7)}
NO_BLOCK = {"level_knots": np.linspace(0, 1, 257), "num_blocks": np.int32(0)}


def test_levels_are_kept_by_step(tmp_path):
  assert calibrations.load(tmp_path, 3) is None
  calibrations.save(tmp_path, 3, {"coords": KNOTS, "climate": NO_BLOCK})
  calibrations.save(tmp_path, 6, {"date": KNOTS})
  found = calibrations.load(tmp_path, 3)
  assert found.keys() == {"coords"}
  assert found["coords"]["num_blocks"] == 7
  knots = calibrations.level_knots(found)["coords"]
  np.testing.assert_allclose(knots, KNOTS["level_knots"], atol=1e-6)
  assert calibrations.load(tmp_path, 6).keys() == {"date"}
  assert calibrations.load(tmp_path, 9) is None


def test_a_damaged_file_is_named_and_kept(tmp_path):
  path = tmp_path / "calibration.json"
  path.write_text('{"3": {')
  for use in (
    lambda: calibrations.load(tmp_path, 3),
    lambda: calibrations.save(tmp_path, 3, {"coords": KNOTS}),
  ):
    with pytest.raises(ConfigError, match=r"calibration\.json is damaged"):
      use()
  assert path.read_text() == '{"3": {'


@pytest.mark.parametrize(
  ("found", "words"),
  [
    (None, "coords, climate, date are the model's own: the step was not eval"),
    ({"coords": {}, "date": {}}, "climate are the model's own: validation has"),
    ({"coords": {}, "climate": {}, "date": {}}, ""),
  ],
)
def test_what_is_not_calibrated_is_named(found, words):
  config = config_lib.default_config()
  note = calibrations.describe_lack(found, tasks.create_tasks(config))
  assert words in note if words else not note
  config.tasks, config.loss.coords = ("coords",), "mse"
  assert not calibrations.describe_lack(None, tasks.create_tasks(config))
