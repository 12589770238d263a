"""Features of images without pretraining, to compare an encoder's with.

Images are scaled floats, shape `[n, height, width, bands]`; features are
float32 NumPy arrays with a row per image.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib import stride_tricks

# As in the code of MOSAIKS: added to the eigenvalues of the patches' second
# moment, and the norm below which a patch is flat.
_ZCA_RIDGE = 1e-3
_MIN_NORM = 1e-8


def band_statistics(images, *, batch_size=256):
  """Mean, deviation, minimum and maximum of each band over the pixels.

  Args:
    images: Shape `[n, height, width, bands]`.
    batch_size: Number of images on the device at a time.

  Returns:
    The means of all bands, then their (population) deviations, minima and
    maxima, in the units of the images, shape `[n, 4 * bands]`.
  """
  return _in_batches(_band_statistics, images, batch_size)


@dataclasses.dataclass(frozen=True)
class RandomConvolutions:
  """Random convolutional features; `fit_random_convolutions` makes them.

  Attributes:
    kernels: Float32, `[patch_size, patch_size, bands, num_features / 2]`.
    bias: Added to every response.
  """

  kernels: np.ndarray
  bias: float

  def __call__(self, images, *, batch_size=256):
    """Returns the features of images, `[n, num_features]`.

    With y the responses of a kernel at all positions where it fits, plus the
    bias: first the means of relu(y) of all kernels, then those of relu(-y).

    Args:
      images: Shape `[n, height, width, bands]`.
      batch_size: Number of images on the device at a time.

    Raises:
      ValueError: Images smaller than the kernels, or of other bands.
    """
    size, _, bands, _ = self.kernels.shape
    if min(images.shape[1:3]) < size or images.shape[3] != bands:
      raise ValueError(
        f"images must have at least {size} x {size} pixels and {bands} bands,"
        f" found shape {list(images.shape)}"
      )
    return _in_batches(_respond, images, batch_size, self.kernels, self.bias)


def fit_random_convolutions(
  images, seed, *, num_features=512, patch_size=5, bias=-1.0
) -> RandomConvolutions:
  """Draws patches of images, whitens them and makes them kernels.

  A patch less its mean, scaled to length 1, is multiplied by the ZCA matrix
  Z = (C + 0.001 I)^(-1/2), with C the second moment of these patches. A second
  factor Z whitens the windows of the images that the kernels are applied to.

  As torchgeo's `RCF(mode="empirical")`. The paper's code differs: it estimates
  C from 100,000 patches, and adds the bias after the change of sign.

  Args:
    images: The training split's, shape `[n, height, width, bands]`.
    seed: Seed of the draws; the same seed and images give the same kernels.
    num_features: Number of features, two a kernel.
    patch_size: Height and width of the kernels in pixels.
    bias: Added to every response.

  Returns:
    The `RandomConvolutions`. No patch is drawn twice.

  Raises:
    ValueError: An odd number of features, fewer patches than kernels, images
      smaller than a patch, or a drawn patch that is not finite.

  References:
    Rolf et al., A generalizable and accessible approach to machine learning
    with global satellite imagery (MOSAIKS), Nature Communications 2021.
  """
  window = patch_size, patch_size
  # A view, `[n, rows, cols, bands, patch_size, patch_size]`.
  windows = stride_tricks.sliding_window_view(
    np.asarray(images), window, (1, 2)
  )
  grid = windows.shape[:3]
  num_kernels, odd = divmod(num_features, 2)
  if odd or not 0 < num_kernels <= np.prod(grid):
    raise ValueError(
      "num_features must be even and at most twice the number of patches,"
      f" {np.prod(grid)}, found {num_features}"
    )
  rng = np.random.default_rng(seed)
  drawn = np.sort(rng.choice(np.prod(grid), num_kernels, replace=False))
  patches = np.moveaxis(windows[np.unravel_index(drawn, grid)], 1, -1)
  patches = patches.reshape(num_kernels, -1).astype(np.float64)
  if not np.isfinite(patches).all():
    raise ValueError("images must be finite, found NaN or inf in a patch")
  patches -= patches.mean(axis=1, keepdims=True)
  norms = np.linalg.norm(patches, axis=1, keepdims=True)
  patches /= np.where(norms < _MIN_NORM, 1.0, norms)
  moment = patches.T @ patches / num_kernels
  # Z is symmetric, so that Z Z^T is the inverse of what Z is the root of.
  regular = moment + _ZCA_RIDGE * np.eye(len(moment))
  kernels = np.linalg.solve(regular, patches.T).astype(np.float32)
  kernels = kernels.reshape(*window, -1, num_kernels)
  return RandomConvolutions(kernels, float(bias))


def _in_batches(function, images, batch_size, *args):
  """Returns the rows of a function of images, computed batch by batch."""
  starts = range(0, max(len(images), 1), batch_size)
  batches = (jnp.asarray(images[i : i + batch_size], "f4") for i in starts)
  return np.concatenate([np.asarray(function(x, *args)) for x in batches])


@jax.jit
def _band_statistics(images):
  reductions = jnp.mean, jnp.std, jnp.min, jnp.max
  return jnp.concatenate([f(images, axis=(1, 2)) for f in reductions], axis=-1)


@jax.jit
def _respond(images, kernels, bias):
  size, _, _, num_kernels = kernels.shape
  rows, cols = (n - size + 1 for n in images.shape[1:3])
  matrix = kernels.reshape(-1, num_kernels)

  def respond(image):
    corners = np.ndindex(size, size)
    shifted = [image[i : i + rows, j : j + cols] for i, j in corners]
    windows = jnp.concatenate(shifted, axis=-1).reshape(rows * cols, -1)
    # The mean of a window cancels out against large kernels that sum to 0; the
    # accelerators' shorter floats would leave little else than rounding.
    y = jnp.matmul(windows, matrix, precision="highest") + bias
    # 10 % faster on a CPU than `maximum`, and NaN stays NaN.
    parts = jnp.where(y < 0, 0, y), jnp.where(y > 0, 0, -y)
    return jnp.concatenate([part.mean(axis=0) for part in parts])

  # Image by image, so that the responses stay in the processor's cache: on two
  # cores, 2 to 3 times faster than `lax.conv_general_dilated` of a batch.
  return jax.lax.map(respond, images)
