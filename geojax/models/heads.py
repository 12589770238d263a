"""Heads: from an encoder's features to where, which climate and when."""

import flax.linen as nn

NUM_ZONES = 31


class GeographicModel(nn.Module):
  """An encoder with one linear head a task.

  Attributes:
    encoder: Module from images to features `[batch, features]`.
    coords_dim: Outputs of the location head: 3 for a regression of the encoded
      coordinates, or one logit a center for a mixture.
    apply_coords: False leaves the location head to the loss: `coords` are then
      the features, and the head has parameters (`coords/kernel` and
      `coords/bias`) but is not applied.
  """

  encoder: nn.Module
  coords_dim: int
  apply_coords: bool = True

  @nn.compact
  def __call__(self, images, *, train: bool = False):
    """Predicts the three tasks.

    Args:
      images: Scaled images, shape `[batch, height, width, bands]`.
      train: Handed to the encoder.

    Returns:
      `coords`, shape `[batch, coords_dim]`: mixture logits, or for
      `coords_dim` 3 encoded coordinates in (0, 1), or the features; `climate`,
      shape `[batch, 31]`: logits of the zones; `date`, shape `[batch, 2]`:
      encoded day of year in (0, 1).
    """
    features = self.encoder(images, train=train)
    coords = features
    if self.apply_coords or self.is_initializing():
      coords = nn.Dense(self.coords_dim, name="coords")(features)
    return {
      "coords": nn.sigmoid(coords) if self.coords_dim == 3 else coords,
      "climate": nn.Dense(NUM_ZONES, name="climate")(features),
      "date": nn.sigmoid(nn.Dense(2, name="date")(features)),
    }

  def features(self, images, *, train: bool = False, stages: bool = False):
    """Encodes images, for other tasks than these three.

        model.apply(variables, images, method="features")

    Args:
      images: Scaled images, shape `[batch, height, width, bands]`.
      train: Handed to the encoder.
      stages: Whether to return the feature maps of every stage too.

    Returns:
      What the encoder returns: features `[batch, features]`; with `stages`
      these and a tuple of maps `[batch, rows, columns, channels]`.
    """
    return self.encoder(images, train=train, stages=stages)
