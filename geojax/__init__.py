"""geojax: image encoders that know where, in which climate and when.

Import the module you need (`from geojax import losses`); this package itself
loads nothing, so that tools which only encode labels start without JAX.
"""

__version__ = "0.1.0"


def from_pretrained(path, *, batch_size=None):
  """Loads a pretrained encoder; see `geojax.predict.from_pretrained`."""
  from geojax import predict

  return predict.from_pretrained(path, batch_size=batch_size)
