"""The compilation cache: a second start compiles nothing anew."""

import os
import pathlib

import jax


def enable() -> None:
  """Keeps compiled programs between runs.

  In `$JAX_COMPILATION_CACHE_DIR`, or `~/.cache/geojax/xla`.
  """
  if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    return
  folder = pathlib.Path.home() / ".cache" / "geojax" / "xla"
  jax.config.update("jax_compilation_cache_dir", str(folder))
