"""Compilation: the cache of programs and the compiler options of a platform.

Options are passed with `jax.jit(compiler_options=...)`. In the environment they
would apply to all platforms, and an XLA flag that a jaxlib does not know aborts
the process.
"""

import functools
import logging
import os

import jax

from geojax import files

# Measured with `experiments.benchmarks.train_step`: Eigen's matrix products are
# faster than those of XLA's own library on some processors, and not slower with
# AVX-512, where full-width vectors reduce the time of core_nano's step by 4 %.
_CPU_OPTIONS = {
  "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
  "xla_cpu_prefer_vector_width": "512",
}


def enable_cache() -> None:
  """Keeps compiled programs in `~/.cache/geojax/xla` between runs.

  `$JAX_COMPILATION_CACHE_DIR` takes precedence.
  """
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    folder = files.user_cache() / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))


@functools.cache
def options() -> dict[str, str]:
  """Returns the options for `jax.jit(compiler_options=...)`.

  Empty on other platforms than the CPU. Leaves out, with a warning, options
  that the compiler does not know.
  """
  if jax.default_backend() != "cpu":
    return {}
  known = {}
  for name, value in _CPU_OPTIONS.items():
    try:
      jax.jit(lambda: 0.0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
      logging.getLogger(__name__).warning(
        "training without the XLA option %s=%s: %s", name, value, error
      )
    else:
      known[name] = value
  return known
