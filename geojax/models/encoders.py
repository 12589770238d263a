"""What an encoder is, and the registry that a config's `model` chooses from.

An encoder registers itself in its own file:

    @encoders.register("pixels", sizes=("s", "l"), uses=("dropout",))
    def create_pixels(config, *, axis_name=None):
      width = {"s": 64, "l": 256}[config.size]
      return PixelEncoder(width, dropout=config.dropout)
"""

import inspect
import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import flax.linen as nn
import jax


class Encoder(Protocol):
  """What models ask of an encoder, which is a `flax.linen.Module`."""

  def __call__(
    self, images: jax.Array, *, train: bool = False, stages: bool = False
  ) -> jax.Array | tuple[jax.Array, tuple[jax.Array, ...]]:
    """Encodes images.

    Args:
      images: Scaled values, shape `[batch, height, width, bands]`, floats.
      train: Whether to use batch statistics and dropout. Running statistics
        are variables of the collection `batch_stats`; random draws take the
        key `dropout`.
      stages: Whether to return feature maps too.

    Returns:
      Features, shape `[batch, features]`, float32 whatever the encoder computes
      in; with `stages`, these and a tuple of feature maps `[batch, rows,
      columns, channels]`, which may differ in size and channels.

    Raises:
      ValueError: The encoder does not take images of this size.
    """


class Registration(NamedTuple):
  """An encoder's entry in `ENCODERS`.

  Attributes:
    create: `(config, *, axis_name) -> Encoder`, see `register`.
    sizes: What `config.size` may be; empty where there is but one.
    uses: The other keys of `config` that `create` reads.
    layers: Patterns of the names of its modules, see `register`.
  """

  create: Callable[..., nn.Module]
  sizes: tuple[str, ...]
  uses: tuple[str, ...]
  layers: tuple[str, ...]


# By the name in the config.
ENCODERS: dict[str, Registration] = {}


def register(
  name: str,
  *,
  sizes: Iterable[str] = (),
  uses: Iterable[str] = (),
  layers: Iterable[str] = (),
) -> Callable:
  """Returns a decorator that registers a function as a config's encoder.

  The function maps the config's `model` part, and under `pmap` the name of the
  mapped axis, to a module that follows `Encoder`. It raises `ValueError` for
  values that do not go together.

  Args:
    name: What `config.name` has to be.
    sizes: What `config.size` may be; empty where the encoder has one size.
    uses: The other keys of `config` that the function reads. A config that
      changes any other is refused.
    layers: Regular expressions of the names of its modules, from the images
      to the features; the numbers in their groups order those of one pattern.
      Needed for learning rates that fall from layer to layer.

  Raises:
    ValueError: On decoration, if another encoder has the name.
  """

  def add(create):
    if name in ENCODERS and not same_function(create, ENCODERS[name].create):
      raise ValueError(f"there is an encoder {name!r} already")
    ENCODERS[name] = Registration(
      create, tuple(sizes), tuple(uses), tuple(layers)
    )
    return create

  return add


def same_function(a, b) -> bool:
  """Whether two functions are one in its file, which was imported twice.

  A file that ends in a config is imported as the config and as its extension.
  """
  files = [os.path.realpath(inspect.getfile(f)) for f in (a, b)]
  return files[0] == files[1] and a.__qualname__ == b.__qualname__


def create_encoder(config, *, axis_name: str | None = None) -> nn.Module:
  """Builds the encoder of a config's `model` part.

  Args:
    config: `name`, one of `ENCODERS`; `size`, one of the encoder's; and the
      keys that the encoder uses.
    axis_name: Under `pmap` the mapped axis, over which batch norm takes its
      statistics.

  Returns:
    A module that follows `Encoder`.

  Raises:
    ValueError: A name, size or type is unknown, or a key does not go with the
      name.
  """
  if config.name not in ENCODERS:
    raise ValueError(
      f"unknown model {config.name!r}; known are {', '.join(ENCODERS)}"
    )
  encoder = ENCODERS[config.name]
  if encoder.sizes and config.size not in encoder.sizes:
    raise ValueError(
      f"unknown size {config.size!r}; those of {config.name!r} are"
      f" {', '.join(encoder.sizes)}"
    )
  return encoder.create(config, axis_name=axis_name)


def layers_above(name: str, modules: Iterable[str]) -> dict[str, int]:
  """Counts the layers between each of an encoder's modules and the heads.

  Args:
    name: Name of the encoder in `ENCODERS`.
    modules: Names of its modules.

  Returns:
    A number for each module, 0 for the last one.

  Raises:
    ValueError: The encoder's registration does not order a module.
  """
  places = {}
  for module in modules:
    for index, pattern in enumerate(ENCODERS[name].layers):
      if match := re.fullmatch(pattern, module):
        numbers = [int(number or -1) for number in match.groups()]
        places[module] = (index, *numbers)
  if unordered := sorted(set(modules) - places.keys()):
    raise ValueError(
      f"encoder {name!r} is registered without an order of its layers"
      f" {', '.join(unordered)}"
    )
  order = sorted(set(places.values()), reverse=True)
  return {module: order.index(place) for module, place in places.items()}
