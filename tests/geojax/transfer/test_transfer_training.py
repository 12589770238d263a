"""Training on few labelled records."""

import dataclasses

import numpy as np
import pytest
import tiny_encoder

from geojax.tasks import regression, targets
from geojax.training import config as config_lib
from geojax.training import dataset as dataset_lib
from geojax.transfer import config as transfer_config
from geojax.transfer import training


def test_a_number_is_standardised_by_its_labelled_records(smoke):
  options = transfer_config.default_config()
  options.data.dir, options.data.name = str(smoke), "geo_tiles/earth_smoke"
  options.train.num_steps, options.train.batch_size = 2, 8
  encoder = config_lib.default_config()
  tiny_encoder.use(encoder)
  task = regression.create(
    targets.Target("north", targets.NUMBER),
    lambda batch: 100 * batch["coords"][:, 2] + 5,
  )
  task = dataclasses.replace(task, labels=("coords",))
  dataset = dataset_lib.open_dataset(options.data.dir, options.data.name)
  positions = [3, 40, 200, 500]
  labels = {"coords": dataset.read_labels("train")["coords"][positions]}
  config = training.training_config(options, encoder, "coords", "scratch")
  trainer = training.Trainer(config, task, dataset, None)
  head = trainer.train(positions, labels, seed=0)["params"]["model"]["north"]
  expected = 100 * labels["coords"][:, 2] + 5
  assert head["offset"] == pytest.approx(expected.mean(), rel=1e-5)
  assert head["scale"] == pytest.approx(np.std(expected), rel=1e-4)
