"""`map` for the tasks of a build on processes; `beam_map` has that on Beam.

The tasks are the same, so the records are. `map` is that of a picklable
function and lists.
"""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading


@contextlib.contextmanager
def open_map(num_workers):
  """Yields a `map` over processes of this machine; 0 workers: this process."""
  if not num_workers:
    yield map
    return
  with concurrent.futures.ProcessPoolExecutor(
    num_workers,
    # Threads of the record writer do not survive a fork.
    mp_context=multiprocessing.get_context("spawn"),
    initializer=exit_with_parent,
  ) as executor:

    def executor_map(function, *iterables):
      # Few, large messages, but several per process.
      chunksize = max(1, len(iterables[0]) // (16 * num_workers))
      try:
        yield from executor.map(function, *iterables, chunksize=chunksize)
      except BaseException:
        # No task may go on writing to files that the caller cleans up.
        executor.shutdown(cancel_futures=True)
        raise

    yield executor_map


def exit_with_parent():
  """Ends this process, a worker, when its parent was killed."""
  parent = multiprocessing.parent_process().sentinel

  def wait():
    multiprocessing.connection.wait([parent])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()
