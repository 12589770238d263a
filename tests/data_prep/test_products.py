"""What names tell, offsets, and bands of 20 m at 10 m."""

import dataclasses
import datetime

import numpy as np
import pytest
import sentinel2_samples as samples

from data_prep import products


def test_names_of_products():
  product = products.parse_product(samples.PRODUCT)
  assert product == products.Product(
    name=samples.PRODUCT,
    date=datetime.datetime(2022, 1, 5, 10, 14, 11),
    baseline="03.01",
    mgrs="33UXP",
    relative_orbit=22,
  )
  for suffix in (
    *(".SAFE", ".SAFE.zip", ".zip"),
    *("_s2.tif", "_s2.npy", "_train_s2.npy"),
  ):
    assert products.parse_product(samples.PRODUCT + suffix) == product
  # What the name tells goes before the default.
  assert products.parse_product(samples.PRODUCT, "05.00") == product
  short = samples.PRODUCT.rpartition("_")[0].replace("S2A", "S2C")
  assert products.parse_product(short).mgrs == "33UXP"
  assert products.parse_product(short).name == short
  cell = products.parse_product(f"{samples.SOUTH}_48U_704L_s2.tif")
  assert (cell.name, cell.mgrs) == (f"{samples.SOUTH}_48U_704L", "20HMK")


@pytest.mark.parametrize(
  ("digits", "time"),
  [
    ("101031", (10, 10, 31)),
    ("93020", (9, 30, 20)),
    ("94161", (9, 41, 59)),  # a real one; the seconds are lost
    ("9302", (9, 30, 20)),
    ("1010", (10, 10, 0)),
    ("930", (9, 30, 0)),
    ("9", (9, 0, 0)),
  ],
)
def test_names_of_bigearthnet(digits, time):
  name = f"S2B_MSIL2A_20170924T{digits}_69_24"
  product = products.parse_product(name, "02.05")
  date = datetime.datetime(2017, 9, 24, *time)
  assert product == products.Product(name, date, "02.05", "", -1)


@pytest.mark.parametrize(
  "name",
  [
    samples.PATCH,
    samples.PRODUCT.replace("N0301", "N9999"),  # made by a user of Sen2Cor
    samples.PRODUCT.replace("_N0301", ""),  # of Planetary Computer
    samples.PRODUCT.replace("N0301", "N9999") + "_12_3",  # of BigEarthNet 2
  ],
)
def test_a_baseline_that_is_not_told_is_asked_for(name):
  with pytest.raises(ValueError, match="--default_baseline gives one"):
    products.parse_product(name)
  assert products.parse_product(name, "04.00").baseline == "04.00"
  with pytest.raises(ValueError, match=r"expected one such as '04\.00'"):
    products.parse_product(name, "4")


@pytest.mark.parametrize(
  "name",
  [
    "",
    "tile_s2.tif",
    samples.PRODUCT.replace("L2A", "L1B"),
    samples.PRODUCT.replace("20220105T", "20221305T"),
    samples.PRODUCT.replace("T101411", "T991411"),
    samples.PRODUCT + "_more",
    "S2A_MSIL2A_20170230T101031_87_48",
    f"../{samples.PRODUCT}",
  ],
)
def test_names_of_nothing(name):
  with pytest.raises(ValueError, match="expected S2A_MSIL2A_<yyyymmdd>"):
    products.parse_product(name, "02.00")


def test_level_1c_has_names_of_the_same_form():
  name = samples.PRODUCT.replace("L2A", "L1C")
  found, expected = map(products.parse_product, (name, samples.PRODUCT))
  assert found == dataclasses.replace(expected, name=name)


def test_the_offset_goes_and_no_data_stays():
  dn = np.array([0, 1, 999, 1000, 1001, 1002, 11000, 65535], np.uint16)
  for baseline in ("02.14", "03.01"):
    np.testing.assert_array_equal(products.remove_offset(dn, baseline), dn)
  for baseline in ("04.00", "05.09", "10.00"):
    found = products.remove_offset(dn, baseline)
    assert found.dtype == np.uint16
    assert found.tolist() == [0, 1, 1, 1, 1, 2, 10000, 64535]
  assert dn[3] == 1000, "in place"
  with pytest.raises(ValueError, match="int16, expected uint16"):
    products.remove_offset(dn.astype(np.int16), "04.00")
  with pytest.raises(ValueError, match=r"'4\.0', expected"):
    products.remove_offset(dn, "4.0")


@pytest.mark.parametrize("strip", [1, 4, 256])
def test_upsampling_is_bilinear(strip, monkeypatch):
  monkeypatch.setattr(products, "_STRIP", strip)
  plane = np.random.default_rng(0).integers(1, 2**16, (13, 9), np.uint16)
  found = products.upsample(plane)
  assert (found.shape, found.dtype) == ((26, 18), np.uint16)
  np.testing.assert_array_equal(found, samples.bilinear(plane))
  # A slope stays where it is: areas, not centres, are aligned.
  slope = np.arange(100, 1700, 16, dtype=np.uint16)[None].repeat(3, axis=0)
  np.testing.assert_array_equal(
    products.upsample(slope)[2, 1:-1], np.arange(104, 1688, 8)
  )


@pytest.mark.parametrize("strip", [1, 256])
def test_no_data_is_not_mixed(strip, monkeypatch):
  monkeypatch.setattr(products, "_STRIP", strip)
  plane = np.full((6, 6), 5000, np.uint16)
  plane[2, 3] = plane[5, 0] = 0
  plane[0, 0] = 1000
  found = products.upsample(plane)
  # The corner of 1000 reaches three rows.
  assert set(np.unique(found[3:])) == {0, 5000}
  assert set(np.unique(found[:3, :3])) == {1000, 2000, 2750, 4000, 4250, 4750}
  np.testing.assert_array_equal(
    found == 0, (plane == 0).repeat(2, axis=0).repeat(2, axis=1)
  )
  np.testing.assert_array_equal(found, samples.expected_plane("B05", plane))
