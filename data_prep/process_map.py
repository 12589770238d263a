"""`map` on processes of this machine: the tasks of a build side by side."""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading


@contextlib.contextmanager
def open_map(num_workers):
  """Opens a `map` over processes, and closes them in the end.

  Args:
    num_workers: How many; 0: none but this one.

  Yields:
    A function as of `map`, of a function that can be pickled and lists.
  """
  if not num_workers:
    yield map
    return
  with concurrent.futures.ProcessPoolExecutor(
    num_workers,
    # Threads of the record writer do not survive a fork.
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_exit_with_parent,
  ) as executor:

    def executor_map(function, *iterables):
      # Few, large messages; yet some for each process.
      chunksize = max(1, len(iterables[0]) // (16 * num_workers))
      try:
        yield from executor.map(function, *iterables, chunksize=chunksize)
      except BaseException:
        # No task may write on while what it writes to is cleared away.
        executor.shutdown(cancel_futures=True)
        raise

    yield executor_map


def _exit_with_parent():
  """Ends a worker whose parent was killed: it would wait forever."""
  parent = multiprocessing.parent_process().sentinel

  def wait():
    multiprocessing.connection.wait([parent])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()
