"""Heads: from an encoder's features to what a task needs."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp

# Axis of the mesh over which entries per center are spread.
CENTERS_AXIS = "model"
# Logit of a background's weight in a new model, 0.0025.
_FIRST_BACKGROUND = -6.0


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
    background: Whether the head also gives the logit of a uniform background.
  """

  num_centers: int
  log_kappa: float = 5.0
  chunk_size: int = 0
  background: bool = False

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
      With `background`, `background` `[batch]` too.
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
    if self.background:
      weights = self.param(
        "background_kernel", initializers.zeros, (features.shape[-1],)
      )
      # The mixture starts with nearly all of the mass.
      first = self.param(
        "background_bias", initializers.constant(_FIRST_BACKGROUND), ()
      )
      components["background"] = _wide(features) @ weights + first
    if train and self.chunk_size:
      return {
        **components,
        "features": features,
        "kernel": kernel,
        "bias": bias,
      }
    return {**components, "logits": features @ kernel + bias[None]}


class PixelLinear(nn.Module):
  """A linear layer on each of an encoder's maps, for every pixel.

  Outputs are summed over the maps. A 1 x 1 convolution and bilinear resampling
  commute, so each map is resampled once it has few channels.

  Attributes:
    num_outputs: Numbers a pixel.
  """

  num_outputs: int
  reads_maps = True

  @nn.compact
  def __call__(self, maps, *, size, train: bool = False):
    """Maps an encoder's maps to outputs of its images' pixels.

    Args:
      maps: Shapes `[batch, rows, columns, channels]`.
      size: Height and width of the images.
      train: Not used.

    Returns:
      Shape `[batch, height, width, num_outputs]`, float32.
    """
    del train
    outputs = 0.0
    for i, x in enumerate(maps):
      x = nn.Dense(self.num_outputs, use_bias=i == 0, name=f"map{i}")(_wide(x))
      outputs = outputs + _resize(x, size)
    return outputs


class Pyramid(nn.Module):
  """A feature pyramid on an encoder's maps, for every pixel.

  From the smallest map to the largest: resampled, and added to the next one
  after a linear layer; then a 3 x 3 convolution.

  Attributes:
    num_outputs: Numbers a pixel.
    width: Channels of the pyramid.

  References:
    Lin et al., Feature pyramid networks for object detection, CVPR 2017.
  """

  num_outputs: int
  width: int = 64
  reads_maps = True

  @nn.compact
  def __call__(self, maps, *, size, train: bool = False):
    """As `PixelLinear`."""
    del train
    top = None
    for i in sorted(range(len(maps)), key=lambda i: maps[i].shape[1]):
      x = nn.Dense(self.width, name=f"map{i}")(_wide(maps[i]))
      top = x if top is None else x + _resize(top, x.shape[1:3])
    x = nn.relu(nn.Conv(self.width, (3, 3), name="smooth")(nn.relu(top)))
    return _resize(nn.Dense(self.num_outputs, name="outputs")(x), size)


# By the name in the config.
PIXEL_HEADS = {"linear": PixelLinear, "pyramid": Pyramid}


class Standardized(nn.Module):
  """Outputs of another head, and what standardises the target.

  Attributes:
    head: The other head.
  """

  head: nn.Module

  @property
  def reads_maps(self):
    """Whether the other head reads an encoder's maps."""
    return reads_maps(self.head)

  @nn.compact
  def __call__(self, *args, **kwargs):
    """Returns `standardized`, what the head returns, `offset` and `scale`."""
    return {
      "standardized": self.head(*args, **kwargs),
      "offset": self.param("offset", nn.initializers.zeros, ()),
      "scale": self.param("scale", nn.initializers.ones, ()),
    }


def reads_maps(head) -> bool:
  """Whether a head takes an encoder's maps and its images' size.

  A head with an attribute `reads_maps` that is true is called as `PixelLinear`
  is, every other one as `Linear`.
  """
  return getattr(getattr(head, "__self__", head), "reads_maps", False)


def _wide(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _resize(x, size):
  return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "bilinear")


def _unit_vectors(key, shape):
  x = jax.random.normal(key, shape)
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


class MultiTaskModel(nn.Module):
  """An encoder with one head per task; parameters are named after the tasks.

  Attributes:
    encoder: Module from images to features `[batch, features]`.
    heads: Modules from features to outputs, by task, or from maps, see
      `reads_maps`.
    frozen: Whether the encoder is not trained: running statistics, no dropout,
      no gradient.
  """

  encoder: nn.Module
  heads: Mapping[str, nn.Module]
  frozen: bool = False

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
    # A frozen encoder computes as in evaluation, and has no gradient.
    encode = functools.partial(
      self.encoder, images, train=train and not self.frozen
    )
    maps = None
    if any(map(reads_maps, self.heads.values())):
      features, maps = encode(stages=True)
    else:
      features = encode()
    if self.frozen:
      features, maps = jax.lax.stop_gradient((features, maps))
    outputs = {}
    for name, clone in self.heads.items():
      head = clone(parent=self, name=name)
      outputs[name] = (
        head(maps, size=images.shape[1:3], train=train)
        if reads_maps(head)
        else head(features, train=train)
      )
    return outputs

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
