"""What the tests need of PyTorch."""

import pytest


@pytest.fixture
def torch():
  import torch

  return torch


@pytest.fixture
def torch_models(torch):
  from experiments.benchmarks import torch_models

  torch.manual_seed(0)
  return torch_models
