"""A corner of `earth`, around the Mediterranean, for tests."""

import dataclasses

from data_prep.sources import earth

CONFIG = dataclasses.replace(
  earth.CONFIG,
  name="earth_smoke",
  description="A corner of `earth`, around the Mediterranean, for tests.",
  source=dataclasses.replace(
    earth.CONFIG.source, months_per_block=1, region=(25, -10, 50, 30)
  ),
)
