"""The von Mises-Fisher distribution on the unit sphere, at any concentration.

    p(x) = kappa / (4 pi sinh kappa) * exp(kappa mu.x)        per steradian
         = kappa / (2 pi (1 - exp(-2 kappa))) * exp(-kappa h),   h = |x-mu|^2/2

`h` (the chord form of 1 - mu.x) is summed from differences: the dot product of
float32 unit vectors is off by 6e-8, which times kappa = 1e7 is more than a nat.
All functions compute in float32 or wider; narrower inputs are widened first.
Inner functions are jitted so that eager calls do not compile op by op.
"""

from geojax.vmf.caps import cap_mass, kappa_for_cap
from geojax.vmf.density import (
  log_prob,
  pairwise_depth,
  pairwise_offsets,
  point_at,
  sample,
)
from geojax.vmf.moments import (
  entropy,
  log_normalizer,
  log_peak,
  mean_depth,
  mean_resultant_length,
)

__all__ = [
  "cap_mass",
  "entropy",
  "kappa_for_cap",
  "log_normalizer",
  "log_peak",
  "log_prob",
  "mean_depth",
  "mean_resultant_length",
  "pairwise_depth",
  "pairwise_offsets",
  "point_at",
  "sample",
]
