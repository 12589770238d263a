"""A deadline for each step: a run that hangs ends, so that it can be restarted.

A host that stops answering, without its process ending, leaves all others
waiting in a collective operation. The deadline ends them with status 75
(`EX_TEMPFAIL`), on which a scheduler starts the run again from its last
checkpoint.

What counts: a step lasts from the request for its batch until its metrics are
read. The first two steps of a process have no deadline: the first is compiled,
on some hosts faster than on others, and is waited for during the second. Each
batch of an evaluation must be done in the same time, but for its first one,
which may be compiled. Saving, probes and reports are not watched.
"""

import faulthandler
import os
import socket
import sys
import threading
import time

import jax

THREAD = "step_deadline"

# Processes reach the deadline at about the same time. The first one to end
# would break the others' connections, and the end of process 0, which all are
# connected to, would end them with another status.
_GRACE_S = 2.0


class StepDeadline:
  """A context in which a thread ends the process if a step takes too long.

  All methods do nothing where the deadline is 0.
  """

  def __init__(self, seconds: float):
    """Args: seconds: Longest time of a step; 0 for any."""
    self._seconds = seconds
    self._due = {}
    self._changed = threading.Condition()
    self._closed = False

  def __enter__(self):
    if self._seconds:
      threading.Thread(target=self._watch, name=THREAD, daemon=True).start()
    return self

  def __exit__(self, *_):
    with self._changed:
      self._closed = True
      self._changed.notify()

  def begin(self, name: str) -> None:
    """Starts the time of something; several may be running.

    Args:
      name: What it is, for the message: "step 12".
    """
    if not self._seconds:
      return
    with self._changed:
      self._due[name] = time.monotonic() + self._seconds
      self._changed.notify()

  def end(self, name: str) -> None:
    """Ends the time of something that began, if it did."""
    with self._changed:
      self._due.pop(name, None)

  def each_batch(self, name: str, should_end):
    """Watches the batches of an evaluation but for the first one.

    Args:
      name: What it is, for the message. `end` ends the time of the last batch.
      should_end: The function that the evaluation is to call after each batch.

    Returns:
      A function to call instead.
    """
    calls = 0

    def after_batch():
      nonlocal calls
      calls += 1
      # One batch is computed while the next one is read: at the second call
      # the first batch is done, by all processes.
      if calls > 1:
        self.begin(name)
      return should_end()

    return after_batch

  def _watch(self):
    with self._changed:
      while not self._closed:
        name = min(self._due, key=self._due.get, default=None)
        if name is None:
          self._changed.wait()
        elif (left_s := self._due[name] - time.monotonic()) > 0:
          self._changed.wait(left_s)
        else:
          break
      else:
        return
    print(
      f"{name} took longer than config.step_deadline_s, {self._seconds:g} s, on"
      f" {socket.gethostname()} (process {jax.process_index()} of"
      f" {jax.process_count()}). Some process of the run, or its data, hangs;"
      " what each thread of this one does is below. Run the same command again"
      " to continue from the last checkpoint",
      file=sys.stderr,
      flush=True,
    )
    faulthandler.dump_traceback(all_threads=True)
    time.sleep(_GRACE_S * (1 + (jax.process_index() == 0)))
    os._exit(os.EX_TEMPFAIL)
