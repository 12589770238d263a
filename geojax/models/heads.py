"""Heads: from an encoder's features to what a task needs."""

from collections.abc import Mapping
from typing import Any

import flax.core
import flax.linen as nn
import jax

# Axis of the mesh over which entries per center are spread.
CENTERS_AXIS = "model"


class Linear(nn.Module):
  """A linear layer.

  Attributes:
    num_outputs: Number of outputs.
    sigmoid: Whether they are mapped to (0, 1).
  """

  num_outputs: int
  sigmoid: bool = False

  @nn.compact
  def __call__(self, features, *, train: bool = False):
    """Maps features `[batch, features]` to outputs `[batch, num_outputs]`."""
    del train
    shape = (features.shape[-1], self.num_outputs)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("bias", nn.initializers.zeros, shape[-1:])
    outputs = features @ kernel + bias[None]
    return nn.sigmoid(outputs) if self.sigmoid else outputs


class Mixture(nn.Module):
  """Weights of a mixture of von Mises-Fisher distributions, and its components.

  Attributes:
    num_centers: Number of components.
    log_kappa: Initial log concentration of all of them.
    chunk_size: Where above 0, training leaves the linear layer to a fused loss
      that goes over so many centers at a time.
  """

  num_centers: int
  log_kappa: float = 5.0
  chunk_size: int = 0

  @nn.compact
  def __call__(self, features, *, train: bool = False):
    """Maps features to a mixture.

    Args:
      features: Shape `[batch, features]`.
      train: Whether the outputs are for the loss alone.

    Returns:
      A dict of `mu`, unit vectors `[centers, 3]`, `log_kappa` `[centers]` and
      `logits` `[batch, centers]`; with `chunk_size` and `train`, instead of the
      logits, `features`, `kernel` `[features, centers]` and `bias` `[centers]`.
    """
    size = self.num_centers

    def spread(init, *axes):
      return nn.with_partitioning(init, axes)

    initializers = nn.initializers
    kernel = self.param(
      "kernel",
      spread(initializers.lecun_normal(), None, CENTERS_AXIS),
      (features.shape[-1], size),
    )
    bias = self.param("bias", spread(initializers.zeros, CENTERS_AXIS), (size,))
    mu = self.param("mu", spread(_unit_vectors, CENTERS_AXIS, None), (size, 3))
    log_kappa = self.param(
      "log_kappa",
      spread(initializers.constant(self.log_kappa), CENTERS_AXIS),
      (size,),
    )
    components = {"mu": mu, "log_kappa": log_kappa}
    if train and self.chunk_size:
      return {
        **components,
        "features": features,
        "kernel": kernel,
        "bias": bias,
      }
    return {**components, "logits": features @ kernel + bias[None]}


def _unit_vectors(key, shape):
  x = jax.random.normal(key, shape)
  return x / jax.numpy.linalg.norm(x, axis=-1, keepdims=True)


class MultiTaskModel(nn.Module):
  """An encoder with one head per task; parameters are named after the tasks.

  Attributes:
    encoder: Module from images to features `[batch, features]`.
    heads: Modules from features to outputs, by task.
  """

  encoder: nn.Module
  heads: Mapping[str, nn.Module]

  def __post_init__(self):
    # Flax would name modules in an attribute after the attribute: keep their
    # `clone` methods, which the call below binds under the task's name.
    clones = {
      name: getattr(head, "clone", head) for name, head in self.heads.items()
    }
    # Frozen, so that a model can be hashed.
    object.__setattr__(self, "heads", flax.core.FrozenDict(clones))
    super().__post_init__()

  @nn.compact
  def __call__(self, images, *, train: bool = False) -> dict[str, Any]:
    """Returns the outputs of each head by task.

    Args:
      images: Scaled images, shape `[batch, height, width, bands]`.
      train: Whether to train: batch statistics, dropout.
    """
    features = self.encoder(images, train=train)
    return {
      name: clone(parent=self, name=name)(features, train=train)
      for name, clone in self.heads.items()
    }

  def features(self, images, *, train: bool = False, stages: bool = False):
    """Encodes images, for other tasks than these.

        model.apply(variables, images, method="features")

    Args:
      images: Scaled images, shape `[batch, height, width, bands]`.
      train: Passed to the encoder.
      stages: Whether to return the feature maps of every stage too.

    Returns:
      Features `[batch, features]`; with `stages` these and a tuple of maps
      `[batch, rows, columns, channels]`.
    """
    return self.encoder(images, train=train, stages=stages)


def unbox(tree):
  """Strips the axis names that `nn.with_partitioning` adds."""
  return nn.meta.unbox(tree)


def partition_specs(tree):
  """Returns the `PartitionSpec` of each array of a tree with axis names."""
  return nn.get_partition_spec(tree)
