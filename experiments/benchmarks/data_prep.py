"""Speed of tiles to labelled records, beside rasterio and NumPy.

  python -m experiments.benchmarks.data_prep [--side 5490] [--rounds 3]
    [--bigearthnet FOLDER]

Makes a Sentinel-2 tile of smooth noise, uncompressed and deflated, and turns it
into records in one process (needs the extra `[bench]`):

  geojax     windows, cloud rule, offset, labels through the projection
  rasterio   the same straightforwardly: each patch read by a window, longitude
             and latitude of each of its pixels, zones counted by NumPy

Both write their records by `records.write_records`, and take turns. Labels
are timed by themselves as well, and so is reading at random. Rates are told by
the clock, and by the CPU time that the process took, which others on the same
cores hardly change. Peak memory is that of the process, over all that it did.
Noise
is hard to compress: how many bytes records of real pixels take is told of the
patches of BigEarthNet in a folder.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time

import numpy as np
import rasterio
import rasterio.transform
import rasterio.warp
import rasterio.windows
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source

from data_prep import (
  climate_maps,
  grids,
  labels,
  places,
  products,
  records,
  sources,
  tile_writer,
  tiles,
)
from experiments.benchmarks import memory
from experiments.benchmarks.noise import PRODUCT, make_planes
from geojax import encodings


def all_train(name):
  """The config of that name, with nothing held out."""
  config = sources.find(name)
  rule = config.patches.split
  rule = dataclasses.replace(rule, validation=0, test=0)
  patches = dataclasses.replace(config.patches, split=rule)
  return dataclasses.replace(config, patches=patches)


CONFIG = all_train("sentinel2")
SIZE = CONFIG.patches.size


def write_tiles(folder, side):
  """Writes the tile in both layouts; returns their paths by name."""
  grid = grids.Grid(side, side, 600000.0, 5500020.0, 10.0, 10.0, 32633)
  paths = {}
  for layout in ("deflate", "uncompressed"):
    (folder / layout).mkdir()
    paths[layout] = folder / layout / f"{PRODUCT}_s2.tif"
  tile_writer.write_planes(
    paths["deflate"],
    make_planes(side),
    bands=products.BANDS_11,
    grid=grid,
    dtype="uint16",
    date=None,
  )
  with rasterio.open(paths["deflate"]) as source:
    profile = {
      "driver": "GTiff",
      "interleave": "pixel",
      "bigtiff": "yes",
      "width": source.width,
      "height": source.height,
      "count": source.count,
      "dtype": source.dtypes[0],
      "crs": source.crs,
      "transform": source.transform,
    }
    with rasterio.open(paths["uncompressed"], "w", **profile) as target:
      for band, name in enumerate(products.BANDS_11, 1):
        target.write(source.read(band), band)
        target.set_band_description(band, name)
  return paths


def write_geojax(path, output):
  """Writes the records of a tile's train places; returns how many."""
  return records.write_shard(
    output, [records.Part(path)], "train", CONFIG
  ).num_records


def write_rasterio(path, output):
  """The same by rasterio and NumPy."""
  chosen = places.select_places(tiles.open_tile(path).grid, CONFIG.patches)
  mine = np.flatnonzero(chosen.split == 0)
  zones = climate_maps.load().zones
  height, width = zones.shape
  product = products.parse_product(path.name)

  def examples():
    with rasterio.open(path) as source:
      for row, col in zip(chosen.rows[mine], chosen.cols[mine], strict=True):
        window = rasterio.windows.Window(col, row, SIZE, SIZE)
        pixels = source.read(window=window)
        unclear = np.isin(pixels[0], (0, 1, 8, 9)).mean()
        if unclear >= 0.1:
          continue
        image = pixels[1:].astype(np.int32)
        image = np.where(image == 0, 0, np.maximum(image - 1000, 1))
        rows, cols = np.mgrid[row : row + SIZE, col : col + SIZE]
        x, y = rasterio.transform.xy(
          source.transform, rows.ravel(), cols.ravel()
        )
        lon, lat = map(
          np.array, rasterio.warp.transform(source.crs, "EPSG:4326", x, y)
        )
        zone = zones[
          ((90 - lat) * height / 180).astype(int),
          ((lon + 180) * width / 360).astype(int),
        ]
        fractions = np.bincount(zone, minlength=31)[None] / SIZE**2
        lat, lon = lat.mean(keepdims=True), lon.mean(keepdims=True)
        found = labels.geo_labels(
          fractions, lat, lon, labels.day_of_year(product.date)
        )
        yield {
          "image": np.moveaxis(image, 0, -1).astype(np.uint16),
          **{name: values[0] for name, values in found.items()},
          "lat": np.float32(lat[0]),
          "lon": np.float32(lon[0]),
          "row": np.int32(row),
          "col": np.int32(col),
          "acquired": product.date.isoformat(),
          "id": f"{path.stem}/{row}_{col}",
          "product": product.name,
          "mgrs": product.mgrs,
          "baseline": product.baseline,
          "relative_orbit": product.relative_orbit,
          "cloud_fraction": np.float32(unclear),
        }

  return records.write_records(output, examples(), CONFIG)


def label_seconds(path):
  """CPU seconds that splits, places and climate of a tile take."""
  grid = tiles.open_tile(path).grid
  places.select_places.cache_clear()
  start = time.process_time()
  places.select_places(grid, CONFIG.patches)
  return time.process_time() - start


def real_share(folder, directory):
  """Share of the raw bytes that records of BigEarthNet's patches take."""
  config = all_train("bigearthnet")
  (directory / "patches").mkdir()
  paths, _ = config.source.cut_tiles(directory / "patches", folder)
  output = directory / "bigearthnet.array_record"
  # Again and again, as a file is filled up to a whole block of 64 KiB.
  parts = 20 * [records.Part(path) for path in paths]
  count = records.write_shard(output, parts, "train", config).num_records
  raw = count * config.patches.size**2 * len(config.bands) * 2
  return output.stat().st_size / raw


def read_rate(path, count=500):
  """Records a second that one thread reads at random, image and labels."""
  features = records.features(CONFIG)
  features = tfds.features.FeaturesDict(
    {name: features[name] for name in ("image", *encodings.LABELS)}
  )
  source = array_record_data_source.ArrayRecordDataSource([str(path)])
  order = np.random.default_rng(0).permutation(len(source))[:count]
  start = time.perf_counter()
  for index in order.tolist():
    features.deserialize_example_np(source[index])
  return len(order) / (time.perf_counter() - start)


def main():
  """Prints a line for each layout and way."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--side", type=int, default=5490, help="pixels")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--bigearthnet", help="folder of its patches")
  args = parser.parse_args()
  ways = {"geojax": write_geojax, "rasterio": write_rasterio}
  climate_maps.load()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    paths = write_tiles(folder, args.side)
    print(
      f"a tile of {args.side} x {args.side}, patches a second and process, in"
      " brackets a second of CPU time"
    )
    for layout, path in paths.items():
      clocks = (time.perf_counter, time.process_time)
      rates = {(way, clock): [] for way in ways for clock in clocks}
      for _ in range(args.rounds):
        for way, write in ways.items():
          start = [clock() for clock in clocks]
          count = write(path, folder / f"{way}.array_record")
          for clock, before in zip(clocks, start, strict=True):
            rates[way, clock].append(count / (clock() - before))
      rates = {key: statistics.median(rate) for key, rate in rates.items()}
      labels_share = label_seconds(path) * rates["geojax", clocks[1]] / count
      print(
        f"{layout:<14}",
        *(
          f"{way} {rates[way, clocks[0]]:>4.0f} ({rates[way, clocks[1]]:.0f})  "
          for way in ways
        ),
        "ratio {:.2f} ({:.2f})  ".format(
          *(rates["geojax", c] / rates["rasterio", c] for c in clocks)
        ),
        f"labels {100 * labels_share:.1f} % of geojax's time",
      )
    raw = count * SIZE**2 * len(CONFIG.bands) * 2
    output = folder / "geojax.array_record"
    print(
      f"{count} records, {output.stat().st_size / raw:.2f} of the raw bytes;"
      f" {read_rate(output):.0f} read at random a second"
    )
    if args.bigearthnet:
      share = real_share(args.bigearthnet, folder)
      print(f"{share:.2f} of the raw bytes of BigEarthNet's patches")
  print(f"peak memory {memory.peak_mib() / 1024:.2f} GiB")


if __name__ == "__main__":
  main()
