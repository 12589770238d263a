"""Batch norm with the running variance of PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
  """Batch norm over all axes but the last.

  Flax's own, but for the running variance: that follows the unbiased one of the
  batch, n / (n - 1) times the variance of its n values a channel. It estimates
  without bias what evaluation meets, which tells in late stages, where a small
  batch has few pixels, and it is what PyTorch does, so that training may go on
  from its weights. Normalised is by the biased variance, as everywhere.

  Statistics are float32 or better whatever the type of the input. Over an array
  that is sharded over devices they are those of the whole batch.

  Attributes:
    use_running_average: Whether to normalise by the running statistics and
      leave them as they are.
    momentum: Share of the running statistics that a batch leaves; 0.9 is what
      PyTorch calls 0.1.
    epsilon: Added to the variance.
    axis_name: Under `pmap` the mapped axis over which the batch is spread.
  """

  use_running_average: bool
  momentum: float = 0.9
  epsilon: float = 1e-5
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x):
    """Normalises `[..., channels]`."""
    shape = x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    running_var = self.variable("batch_stats", "var", jnp.ones, shape)
    if self.use_running_average:
      mean, var = running_mean.value, running_var.value
    else:
      axes = tuple(range(x.ndim - 1))
      values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
      mean = self._mean(values, axes)
      # From the deviations: the mean of squares less the square of the mean
      # loses all digits where a mean is large beside its deviation.
      var = self._mean(
        jnp.square(values - mean.reshape((1,) * len(axes) + shape)), axes
      )
      if not self.is_initializing():
        count = x.size // shape[0] * self._num_devices()
        kept = self.momentum
        running_mean.value = kept * running_mean.value + (1 - kept) * mean
        running_var.value = kept * running_var.value + (1 - kept) * (
          var * (count / max(count - 1, 1))
        )
    # One product and one sum a value; both factors are small arrays.
    factor = scale / jnp.sqrt(var + self.epsilon)
    shift = bias - mean * factor
    wide = (1,) * (x.ndim - 1) + shape
    y = x * factor.reshape(wide) + shift.reshape(wide)
    return y.astype(x.dtype)

  def _mean(self, values, axes):
    mean = jnp.mean(values, axes)
    if self.axis_name is None or self.is_initializing():
      return mean
    return jax.lax.pmean(mean, self.axis_name)

  def _num_devices(self):
    return 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
