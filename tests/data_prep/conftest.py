"""What tests of more than one file take patches from."""

import shutil

import pytest
import sentinel2_samples


@pytest.fixture(scope="session")
def cell():
  """A row of Major TOM; its corner lies between pixels, as they all do."""
  row = {
    "product_id": sentinel2_samples.SOUTH,
    "grid_cell": "48U_704L",
    "timestamp": "20230826T143731",
    "centre_lat": 4.3566,
    "centre_lon": -63.3625,
    "cloud_mask": b"not read",
  }
  for band, plane in sentinel2_samples.CELL_BANDS.items():
    size = 10680 / plane.shape[0]
    row[band] = sentinel2_samples.geotiff(
      plane, 454436.35555845656, 486897.8391013466, size, 32620
    )
  return row


@pytest.fixture
def tiles_only(smoke, tmp_path):
  """An output whose tiles are cut, so that a build soon writes records."""
  shutil.copytree(smoke / "tiles", tmp_path / "tiles")
  return tmp_path
