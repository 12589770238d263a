"""How programs are compiled: the cache, and the options of each platform.

Options go with each program, by `jax.jit(compiler_options=...)`. In the
environment they would hold for every platform, and an XLA flag that a jaxlib
does not know aborts the process there.
"""

import functools
import logging
import os
import pathlib

import jax

# Of XLA on CPUs (`experiments.benchmarks.train_step`): matrix products by Eigen
# are faster than by XLA's own library on some processors and not slower on
# those with AVX-512, where vectors of the whole width take 4 % off core_nano's
# step.
_CPU_OPTIONS = {
  "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
  "xla_cpu_prefer_vector_width": "512",
}


def enable_cache() -> None:
  """Keeps compiled programs between runs.

  In `$JAX_COMPILATION_CACHE_DIR`, or `~/.cache/geojax/xla`.
  """
  if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    return
  folder = pathlib.Path.home() / ".cache" / "geojax" / "xla"
  jax.config.update("jax_compilation_cache_dir", str(folder))


@functools.cache
def options() -> dict[str, str]:
  """Returns the options for `jax.jit(compiler_options=...)`.

  Those that this platform's compiler does not know are left out, with a
  warning; `{}` on another platform than the CPU.
  """
  if jax.default_backend() != "cpu":
    return {}
  known = {}
  for name, value in _CPU_OPTIONS.items():
    try:
      jax.jit(lambda: 0.0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
      logging.getLogger(__name__).warning(
        "training goes on without the XLA option %s=%s: %s", name, value, error
      )
    else:
      known[name] = value
  return known
