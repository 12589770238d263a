"""SIGTERM: the run is asked to stop, and saves."""

import os
import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils

# What is between two looks at the flag (a compilation, a slow disk) may take
# longer than whoever sent the signal waits.
_DEADLINE_S = 25.0


class StopRequest:
  """A context in which SIGTERM is noted instead of ending the process.

  Should the run not have ended 25 seconds after the signal, the process exits
  as it is, with status 75 (`EX_TEMPFAIL`): its last checkpoint is whole, and
  the steps since are taken again. Of several processes all stop at the same
  step, whichever got the signal; there the notice is `jax.distributed`'s.
  """

  def __init__(self):
    self._noted = False
    self._looks = 0
    self._ended = threading.Event()

  def __enter__(self):
    # Signals are the main thread's alone, and JAX's own service has them where
    # there are several processes.
    self._handles = (
      jax.process_count() == 1
      and threading.current_thread() is threading.main_thread()
    )
    if self._handles:
      self._old = signal.signal(signal.SIGTERM, self._note)
      # Python calls a handler only between two of its instructions; the byte in
      # the pipe arrives at once, also in the midst of a compilation.
      self._pipe = os.pipe()
      os.set_blocking(self._pipe[1], False)
      self._old_fd = signal.set_wakeup_fd(
        self._pipe[1], warn_on_full_buffer=False
      )
      threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(self, *_):
    self._ended.set()
    if self._handles:
      signal.set_wakeup_fd(self._old_fd)
      signal.signal(signal.SIGTERM, self._old)
      os.close(self._pipe[1])

  def noted(self) -> bool:
    """Tells whether to stop; to be asked equally often by every process."""
    if jax.process_count() > 1 and not self._noted:
      self._looks += 1
      self._noted = multihost_utils.reached_preemption_sync_point(self._looks)
    return self._noted

  def _note(self, *_):
    self._noted = True

  def _watch(self):
    while data := os.read(self._pipe[0], 1):
      if data[0] == signal.SIGTERM and not self._ended.wait(_DEADLINE_S):
        print(
          f"stopped {_DEADLINE_S:.0f} s after SIGTERM without another"
          " checkpoint; the same command goes on from the last one",
          file=sys.stderr,
          flush=True,
        )
        os._exit(os.EX_TEMPFAIL)
    os.close(self._pipe[0])
