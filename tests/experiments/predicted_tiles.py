"""Runs without training, tiles, and predictions of them."""

import pathlib

import numpy as np
import tiny_encoder

from data_prep import grids, products, tile_writer
from experiments import tile_files
from experiments.benchmarks import predict as benchmark
from geojax import predict
from geojax.training import config as config_lib

ROOT = pathlib.Path(__file__).parents[2]
AFTER = "S2B_MSIL2A_20220705T101411_N0400_R022_T33UXP_20220706T120000"
BEFORE = "S2A_MSIL2A_20200110T101411_N0213_R022_T36SWD_20200110T120000"
GRID = grids.Grid(300, 400, 600000.0, 5500020.0, 10.0, 10.0, 32633)


def small_config(coords="mvmf"):
  config = config_lib.default_config()
  tiny_encoder.use(config)
  config.mixture.num_centers = 64
  config.loss.coords = coords
  return config


def make_run(folder, name, coords="mvmf"):
  data = benchmark.describe_tiles(name)
  benchmark.write_untrained_run(folder, small_config(coords), data)
  return predict.load(folder)


def make_pixels(seed=0):
  pixels = np.random.default_rng(seed).integers(1, 9000, (11, 300, 400))
  pixels[0] = 4
  # One of six patches is clouded.
  pixels[0, :128, 128:256] = 9
  return pixels.astype(np.uint16)


def write_tile(folder, name=AFTER, pixels=None, grid=GRID):
  folder.mkdir(exist_ok=True)
  path = folder / f"{name}_s2.tif"
  tile_writer.write_planes(
    path,
    make_pixels() if pixels is None else pixels,
    bands=products.BANDS_11,
    grid=grid,
    dtype="uint16",
    date=None,
  )
  return path


def run_command(predictor, inputs, output, stride=None, **combine):
  combine = {"how": "mean", "num_independent": 1.0, **combine}
  return tile_files.predict_tiles(
    predictor, inputs, output, stride=stride, **combine
  )
