import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep.byte_planes import BytePlanes


def make(shape, dtype):
  return BytePlanes(
    shape=shape, dtype=np.dtype(dtype), encoding=tfds.features.Encoding.BYTES
  )


def numbers(shape, dtype, seed=0):
  size = np.dtype(dtype).itemsize * int(np.prod(shape))
  draws = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
  return draws.view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "f4"])
@pytest.mark.parametrize("shape", [(5, 4, 3), (1,)])
def test_a_tensor_comes_back(shape, dtype):
  feature, value = make(shape, dtype), numbers(shape, dtype)
  encoded = feature.encode_example(value)
  assert isinstance(encoded, bytes)
  decoded = feature.decode_example_np(encoded)
  assert (decoded.shape, decoded.dtype) == (shape, np.dtype(dtype))
  assert decoded.tobytes() == value.tobytes()


def test_low_bytes_come_before_high_ones():
  value = np.array([[0x0102], [0x0304], [0x0506]], np.uint16)
  assert make((3, 1), "uint16").encode_example(value) == bytes(
    [2, 4, 6, 1, 3, 5]
  )


@pytest.mark.parametrize(
  "value", [np.zeros((2, 2), np.uint16), np.zeros((3, 1), np.int16)]
)
def test_another_shape_or_dtype_is_refused(value):
  with pytest.raises(ValueError, match="do"):
    make((3, 1), "uint16").encode_example(value)


def test_tensorflow_cannot_take_planes_for_pixels():
  with pytest.raises(NotImplementedError, match="as_data_source"):
    make((3, 1), "uint16").decode_example(b"")


def test_a_data_set_tells_its_class(smoke):
  """Whoever opens one needs no import of data_prep, and loads little of it."""
  (folder,) = smoke.glob("geo_tiles/earth_smoke/*.*.*")
  text = json.dumps(json.loads((folder / "features.json").read_text()))
  assert "data_prep.byte_planes.BytePlanes" in text
  code = f"""
import sys
import tensorflow_datasets as tfds
records = tfds.builder_from_directory({str(folder)!r}).as_data_source("train")
print(records[0]["image"].shape, records[0]["image"].dtype)
print(sorted(name for name in sys.modules if name.startswith("data_prep")))
"""
  out = subprocess.run(
    [sys.executable, "-c", code], check=True, capture_output=True, text=True
  ).stdout
  assert out.splitlines() == [
    "(32, 32, 5) int16",
    "['data_prep', 'data_prep.byte_planes']",
  ]
