"""An encoder for tests of what is around encoders: it compiles in a second.

`core_atto` takes five times as long, and most tests of training spend their
time in the compiler.
"""

import flax.linen as nn

from geojax import models
from geojax.models import norms

PATH = __file__
# Keys of a config, as on the command line.
KEYS = {
  "extensions": (PATH,),
  "model.name": "tiny",
  # Unlike the base config's: other encoders' keys.
  "model.depths": (),
  "model.widths": (),
  "model.patch_size": 1,
}
# The same as arguments of a command.
FLAGS = tuple(f"--config.{key}={value}" for key, value in KEYS.items())


class Tiny(nn.Module):
  """One convolution of 16 channels with batch norm, and the mean over pixels.

  It has what training must handle of an encoder: dropout, and statistics that
  are taken over `axis_name`.
  """

  dropout: float
  axis_name: str | None

  @nn.compact
  def __call__(self, images, *, train=False, stages=False):
    """See `models.Encoder`."""
    x = nn.Conv(16, (8, 8), strides=(8, 8), name="conv")(images)
    x = norms.BatchNorm(not train, axis_name=self.axis_name, name="norm")(x)
    maps = nn.relu(x)
    features = maps.mean((1, 2))
    features = nn.Dropout(self.dropout, deterministic=not train)(features)
    return (features, (maps,)) if stages else features


@models.register("tiny", uses=("dropout",), layers=("conv", "norm"))
def create_tiny(config, *, axis_name=None):
  """Builds a `Tiny` from the `model` part of a config."""
  return Tiny(config.dropout, axis_name)


def use(config):
  """Makes it the encoder of a config."""
  config.update_from_flattened_dict(KEYS)
