"""Images of all formats are read as they are, or refused by name."""

import io
import struct
import zipfile
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import grids, image_files, tile_writer, tiles

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, (20, 30, 3), np.uint8)


def read(path, **kwargs):
  with image_files.opened(path, **kwargs) as tile:
    return tile, tile.read(None)


def save(path, mode="RGB", **kwargs):
  Image.fromarray(RGB).convert(mode).save(path, **kwargs)
  return path


@pytest.mark.parametrize(
  ("name", "pixels"),
  [
    ("a.png", RGB),
    ("a.tif", RGB),
    ("a.npy", RGB),
    ("deep.png", RGB.astype(np.uint16) * 257),
    ("gray.png", RGB[..., :1]),
    ("gray_deep.png", RGB[..., :1].astype(np.uint16) * 3),
    ("many.tif", RNG.integers(0, 9000, (20, 30, 13)).astype(np.uint16)),
    ("many.npy", RNG.normal(size=(20, 30, 13)).astype(np.float32)),
    ("big_endian.npy", RNG.normal(size=(20, 30, 2)).astype(">f4")),
  ],
)
@pytest.mark.parametrize("in_archive", [False, True])
def test_pixels_are_those_of_the_file(tmp_path, name, pixels, in_archive):
  path = tmp_path / name
  if name.endswith(".npy"):
    np.save(path, pixels)
  elif name.endswith(".tif"):
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig=1)
  else:
    path.write_bytes(
      imagecodecs.png_encode(np.ascontiguousarray(pixels.squeeze()))
    )
  if in_archive:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
      archive.write(path, f"below/{name}")
    path = tmp_path / "all.zip/below" / name
  with image_files.opened(path, spot=(1.0, 2.0)) as tile:
    assert tile.grid == grids.Spot(20, 30, 1.0, 2.0)
    assert tile.num_bands == pixels.shape[-1]
    assert tile.dtype == pixels.dtype.newbyteorder("=")
    assert tile.date is None
    np.testing.assert_array_equal(tile.read(None), pixels)
    np.testing.assert_array_equal(
      tile.read(None, 3, 4, 5, 6), pixels[3:8, 4:10]
    )


def test_a_jpeg_is_what_pillow_reads(tmp_path):
  path = save(tmp_path / "a.JPG", format="JPEG", quality=90)
  _, pixels = read(path)
  np.testing.assert_array_equal(pixels, np.asarray(Image.open(path)))


def test_a_georeference_is_kept_and_a_date_of_making_is_not(tmp_path):
  path = tmp_path / "a.tif"
  tile_writer.write_tile(
    path,
    RGB,
    bands=("r", "g", "b"),
    west=10.0,
    north=50.0,
    pixel_size=0.1,
    date=None,
  )
  tile, _ = read(path, spot=(1.0, 2.0))
  assert tile.grid == grids.Grid(20, 30, 10.0, 50.0, 0.1, 0.1, 4326)
  assert tile.bands == ("r", "g", "b")
  no_date = (306, "s", 0, "no date", True)
  tifffile.imwrite(path, RGB, photometric="rgb", extratags=[no_date])
  assert read(path)[0].date is None


def test_one_text_for_all_bands_names_none(tmp_path):
  path = tmp_path / "a.tif"
  tile_writer.write_tile(
    path,
    RGB,
    bands=("x", "x", "x"),
    west=10.0,
    north=50.0,
    pixel_size=0.1,
    date=None,
  )
  assert read(path)[0].bands == ()


def animated(path):
  frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
  frames[0].save(path, save_all=True, append_images=frames[1:])


def truncated(path):
  whole = io.BytesIO()
  save(whole, format="JPEG")
  path.write_bytes(whole.getvalue()[:-200])


def palette_tiff(path):
  tifffile.imwrite(
    path,
    RGB[..., 0],
    photometric="palette",
    colormap=np.zeros((3, 256), np.uint16),
  )


def bomb(path):
  """A PNG of 10^10 pixels in a hundred bytes, as far as its header goes."""

  def chunk(kind, data):
    code = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + code

  header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
  path.write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(b"\0"))
    + chunk(b"IEND", b"")
  )


@pytest.mark.parametrize(
  ("name", "make", "reason"),
  [
    ("a.png", animated, "animated, 2 frames; save the one that is meant"),
    ("a.png", lambda p: save(p, "P"), "indices of a palette; convert it"),
    ("a.png", lambda p: save(p, "1"), "colours of mode 1; convert it to RGB"),
    ("a.jpg", lambda p: save(p, "CMYK"), "colours of mode CMYK; convert it"),
    ("a.jpg", truncated, "image file is truncated"),
    ("a.tif", palette_tiff, "indices of a palette"),
    ("a.png", bomb, "more than 89,478,485 pixels"),
    ("a.jpg", lambda p: save(p, format="PNG"), "a PNG by its content"),
    ("a.gif", lambda p: save(p), r"\.gif, expected one of \.tif"),
    ("a", lambda p: p.write_bytes(b""), "no suffix, expected one of"),
    ("a.png", lambda p: p.write_bytes(b"text"), "cannot identify image file"),
    ("a.tif", lambda p: p.write_bytes(b"text"), "cannot be read"),
    ("a.png", lambda p: None, "no such file"),
    ("a.zip/a.png", lambda p: None, "no such file"),
    ("a.npy", lambda p: np.save(p, RGB[0, 0]), r"an array of shape \(3,\)"),
    ("a.npy", lambda p: np.save(p, RGB > 9), "an array of bool, expected num"),
    (
      "a.npy",
      lambda p: np.save(p, np.array([{}])),
      "Python objects in dtype",
    ),
    (
      "a.npy",
      lambda p: np.save(p, np.full((2, 2), np.nan)),
      "NaN among the pixels",
    ),
  ],
)
def test_what_is_no_image_of_numbers_is_named(tmp_path, name, make, reason):
  path = tmp_path / name
  make(path)
  with pytest.raises(tiles.TileError, match=reason) as caught:
    read(path)
  assert caught.value.path == path


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
  """An image in each format, and its pixels."""
  folder = tmp_path_factory.mktemp("whole")
  Image.fromarray(RGB).save(folder / "a.png")
  Image.fromarray(RGB).save(folder / "a.jpg", quality=80)
  np.save(folder / "a.npy", RGB)
  tifffile.imwrite(folder / "a.tif", RGB, photometric="rgb")
  tifffile.imwrite(
    folder / "packed.tif", RGB, photometric="rgb", compression="zlib"
  )
  return {path: read(path)[1] for path in sorted(folder.iterdir())}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_of_a_file_cut_short_no_pixel_is_believed(
  whole_files, tmp_path_factory, data
):
  """It is an error, or what is missing is no pixel: a marker of the end."""
  path = data.draw(st.sampled_from(sorted(whole_files)))
  content = path.read_bytes()
  end = data.draw(st.integers(0, len(content) - 1))
  cut = tmp_path_factory.mktemp("cut") / path.name
  cut.write_bytes(content[:end])
  errors = []
  with tiles.collect_errors(errors, cut):
    np.testing.assert_array_equal(read(cut)[1], whole_files[path])
  assert all(error.path == cut for error in errors)
  # A failed comparison would be among them.
  assert not any("AssertionError" in error.reason for error in errors)


def test_a_member_that_would_fill_the_memory_is_not_read(tmp_path, monkeypatch):
  with zipfile.ZipFile(
    tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED
  ) as archive:
    archive.writestr("a.npy", bytes(10**6))
  monkeypatch.setattr(image_files, "_MAX_MEMBER_BYTES", 10**5)
  with pytest.raises(tiles.TileError, match="1,000,000 bytes when decompres"):
    read(tmp_path / "a.zip/a.npy")


def test_a_broken_archive_is_named(tmp_path):
  (tmp_path / "a.zip").write_bytes(b"PK")
  with pytest.raises(tiles.TileError, match=r"a\.zip: no zip archive"):
    read(tmp_path / "a.zip/a.png")
  with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
    archive.writestr("a.npy", bytes(100))
  with pytest.raises(tiles.TileError, match="no such member"):
    read(tmp_path / "b.zip/b.npy")
