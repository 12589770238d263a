"""The von Mises distribution, against SciPy's."""

import jax
import numpy as np
import pytest
from scipy import special, stats

from geojax import circular


@pytest.mark.parametrize("kappa", [1e-3, 0.1, 1.0, 5.0, 50.0, 1e3, 1e4])
def test_equals_scipy(kappa):
  length = np.float32(special.i1e(kappa) / special.i0e(kappa))
  assert jax.jit(circular.concentration)(length) == pytest.approx(
    kappa, rel=5e-3
  )
  angle = np.array([1e-3, 0.01, 0.1, 1.0, 2.0, 3.1], np.float32)
  mass = 2 * stats.vonmises.cdf(angle, kappa) - 1
  found = jax.jit(circular.mass_within)(angle, np.full(6, length))
  np.testing.assert_allclose(found, mass, atol=2e-3)
  inside = mass < 0.999
  np.testing.assert_allclose(
    circular.angle_of_mass(mass[inside], np.full(inside.sum(), length)),
    angle[inside],
    rtol=5e-3,
  )


def test_the_ends():
  assert circular.concentration(0.0) == 0
  assert circular.mass_within(np.pi, 0.3) == pytest.approx(1, abs=1e-6)
  assert circular.mass_within(np.pi / 2, 0.0) == pytest.approx(0.5, abs=1e-6)
  assert circular.angle_of_mass(0.5, 0.0) == pytest.approx(np.pi / 2, rel=1e-5)
  assert circular.angle_of_mass(1.0, 0.9) == np.float32(np.pi)
  # A mean is never longer than 1; outputs of a model may be.
  assert circular.angle_of_mass(0.95, 1.2) < 0.01
