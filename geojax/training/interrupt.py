"""SIGTERM: asks the run to save and stop."""

import os
import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils

# A compilation or a slow disk can delay the next check of the flag for longer
# than the sender of the signal waits.
_DEADLINE_S = 25.0


class StopRequest:
  """A context in which SIGTERM sets a flag instead of ending the process.

  If the context is still active 25 seconds after the signal, the process exits
  without saving, with status 75 (`EX_TEMPFAIL`). Its last checkpoint is intact,
  and the next run repeats the steps since. With several processes, all stop
  after the same step, whichever received the signal; `jax.distributed` handles
  it there.
  """

  def __init__(self):
    self._requested = False
    self._checks = 0
    self._ended = threading.Event()

  def __enter__(self):
    # Only the main thread can handle signals. With several processes, JAX's own
    # service handles them.
    self._handles = (
      jax.process_count() == 1
      and threading.current_thread() is threading.main_thread()
    )
    if self._handles:
      self._old = signal.signal(signal.SIGTERM, self._request)
      # Python calls a handler only between two bytecode instructions. The byte
      # in the pipe arrives at once, even during a compilation.
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
    """Returns whether to stop; all processes must call it equally often."""
    if jax.process_count() > 1 and not self._requested:
      self._checks += 1
      self._requested = multihost_utils.reached_preemption_sync_point(
        self._checks
      )
    return self._requested

  def _request(self, *_):
    self._requested = True

  def _watch(self):
    while data := os.read(self._pipe[0], 1):
      if data[0] == signal.SIGTERM and not self._ended.wait(_DEADLINE_S):
        print(
          f"stopped {_DEADLINE_S:.0f} s after SIGTERM without saving. Run the"
          " same command again to continue from the last checkpoint",
          file=sys.stderr,
          flush=True,
        )
        os._exit(os.EX_TEMPFAIL)
    os.close(self._pipe[0])
