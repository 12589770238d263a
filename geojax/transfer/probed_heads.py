"""Heads that fine-tuning starts from: ridge regression of the features.

The first steps from a head that is drawn change an encoder to suit that head,
and undo some of what it has learned; few labels do not bring that back. Where
the head starts as a linear probe, the encoder moves little.

Reference:
  Kumar, Raghunathan, Jones, Ma & Liang, Fine-tuning can distort pretrained
  features and underperform out-of-distribution, ICLR 2022.
"""

import numpy as np

from geojax.evaluation import probes

# Difference in logits between what ridge regression takes for 1 and for 0.
_LOGIT_SCALE = 10.0
# What a regression's head has besides: outputs are (value - offset) / scale.
_NUMBER = ("offset", "scale")


def is_linear(head) -> bool:
  """Whether the parameters of a head are those of a linear map."""
  return head.keys() in ({"kernel", "bias"}, {"kernel", "bias", *_NUMBER})


def fit(head, features, encoded):
  """Fits a linear head to labelled features.

  Args:
    head: Parameters of the head as drawn, `kernel` `[features, outputs]` and
      `bias` `[outputs]`; of a regression `offset` and `scale` too.
    features: Features that the head reads, `[count, features]`.
    encoded: What they are to give, `tasks.LinearForm.encode`, `[count,
      outputs]`.

  Returns:
    The parameters with another kernel and bias, float32.

  Raises:
    ValueError: Shapes do not match, or values are not finite.
  """
  found = probes.ridge(features, encoded)
  if "scale" in head:
    offset, factor = head["offset"], 1 / np.asarray(head["scale"])
  else:
    offset, factor = 0.5, _LOGIT_SCALE
  return {
    **head,
    "kernel": np.float32(found.kernel * factor),
    "bias": np.float32((found.bias - offset) * factor),
  }
