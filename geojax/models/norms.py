"""Norms: batch norm with the running variance of PyTorch, and others."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

NORMS = ("batch", "group", "layer")


def normalize(
  kind: str,
  x: jax.Array,
  *,
  train: bool,
  axis_name: str | None = None,
  name: str,
) -> jax.Array:
  """Applies a norm with a scale and a bias a channel, inside a module.

  Args:
    kind: "batch", over images and pixels; "group", over pixels and the
      channels of a group, the largest number of groups up to 32 that divides
      the channels; "layer", over the channels of a pixel.
    x: Images, shape `[batch, height, width, channels]`.
    train: Whether a batch norm takes the batch's own statistics.
    axis_name: Under `pmap` the mapped axis over which the batch is spread.
    name: Of the module.

  Returns:
    The same shape and type.

  Raises:
    ValueError: The kind is unknown.
  """
  if kind == "batch":
    norm = BatchNorm(
      use_running_average=not train, axis_name=axis_name, name=name
    )
  elif kind == "group":
    channels = x.shape[-1]
    groups = max(n for n in range(1, 33) if channels % n == 0)
    norm = nn.GroupNorm(groups, epsilon=1e-5, dtype=x.dtype, name=name)
  elif kind == "layer":
    norm = nn.LayerNorm(epsilon=1e-5, dtype=x.dtype, name=name)
  else:
    raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {kind!r}")
  return norm(x)


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
      factor = scale / jnp.sqrt(running_var.value + self.epsilon)
      shift = bias - running_mean.value * factor
      y = x * _wide(factor, x) + _wide(shift, x)
      return y.astype(x.dtype)
    axis_name = None if self.is_initializing() else self.axis_name
    y, mean, var = _standardize(x, scale, bias, self.epsilon, axis_name)
    if not self.is_initializing():
      count = x.size // shape[0] * _num_parts(axis_name)
      kept = self.momentum
      running_mean.value = kept * running_mean.value + (1 - kept) * mean
      running_var.value = kept * running_var.value + (1 - kept) * (
        var * (count / max(count - 1, 1))
      )
    return y


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _standardize(x, scale, bias, epsilon, axis_name):
  """The normalised batch, and its mean and biased variance a channel.

  Mean and variance are for running statistics and have no gradient.
  """
  return _standardize_with_inverse(x, scale, bias, epsilon, axis_name)[0]


def _standardize_with_inverse(x, scale, bias, epsilon, axis_name):
  values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  mean = _channel_mean(values, axis_name)
  # From the deviations: the mean of squares less the square of the mean loses
  # all digits where a mean is large beside its deviation.
  var = _channel_mean(jnp.square(values - _wide(mean, x)), axis_name)
  inverse = 1 / jnp.sqrt(var + epsilon)
  # One product and one sum a value; both factors are small arrays.
  factor = scale * inverse
  y = values * _wide(factor, x) + _wide(bias - mean * factor, x)
  return (y.astype(x.dtype), mean, var), inverse


@_standardize.defjvp
def _standardize_jvp(epsilon, axis_name, primals, tangents):
  """The closed form: its transpose is two sums and one sweep over images."""
  x, scale, bias = primals
  outputs, inverse = _standardize_with_inverse(
    x, scale, bias, epsilon, axis_name
  )
  y, mean, var = outputs
  y_dot = _standardize_dot(axis_name, x, scale, mean, inverse, *tangents)
  none = jnp.zeros_like(mean), jnp.zeros_like(var)
  return outputs, (y_dot.astype(y.dtype), *none)


# Reverse mode keeps the images as they are, which may be narrow, and not the
# standardised ones.
@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=0)
def _standardize_dot(
  axis_name, x, scale, mean, inverse, x_dot, scale_dot, bias_dot
):
  standard = (x - _wide(mean, x)) * _wide(inverse, x)
  x_dot = x_dot.astype(standard.dtype)
  mean_dot = _channel_mean(x_dot, axis_name)
  shared_dot = _channel_mean(x_dot * standard, axis_name)
  # What is constant over a channel is added up first: the transpose then takes
  # each of its two sums over the images once.
  factor = scale * inverse
  return (
    x_dot * _wide(factor, x)
    + standard * _wide(scale_dot - factor * shared_dot, x)
    + _wide(bias_dot - factor * mean_dot, x)
  )


def _channel_mean(x, axis_name=None):
  mean = jnp.mean(x, axis=tuple(range(x.ndim - 1)))
  return mean if axis_name is None else jax.lax.pmean(mean, axis_name)


def _num_parts(axis_name):
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def _wide(values, x):
  """Values a channel, in the rank of the images."""
  return values.reshape((1,) * (x.ndim - 1) + values.shape)
