"""`map` for the tasks of a build: on processes, or on Apache Beam.

The tasks are the same, so the records are. Each function here returns or yields
a function that behaves like `map` for a picklable function and lists.
"""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import pickle
import tempfile
import threading

from geojax import files


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
    initializer=_exit_with_parent,
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


def _exit_with_parent():
  """Ends a worker whose parent was killed; it would wait forever."""
  parent = multiprocessing.parent_process().sentinel

  def wait():
    multiprocessing.connection.wait([parent])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def beam_map(runner, options, folder):
  """Returns a `map` whose calls run on Beam (extra `[beam]`).

  Args:
    runner: Name of a Beam runner, such as "DirectRunner".
    options: The pipeline's options, a list of strings.
    folder: Where results are passed on. All workers must see it, and the other
      folders of the build, under the same path.

  Raises:
    ModuleNotFoundError: Beam is not installed.
  """
  import apache_beam as beam
  from apache_beam.options import pipeline_options

  def map_on_beam(function, *iterables):
    tasks = list(enumerate(zip(*iterables, strict=True)))
    with tempfile.TemporaryDirectory(prefix=".beam.", dir=folder) as results:
      with beam.Pipeline(
        runner=runner, options=pipeline_options.PipelineOptions(options)
      ) as pipeline:
        _ = (
          pipeline
          | beam.Create(tasks)
          | beam.Reshuffle()
          | beam.Map(_run, function, results)
        )
      for index, _ in tasks:
        result, error = pickle.loads(
          (pathlib.Path(results) / str(index)).read_bytes()
        )
        if error is not None:
          raise error
        yield result

  return map_on_beam


def _run(task, function, folder):
  """Runs one call and writes its result, or its error, to a file."""
  index, args = task
  result, error = None, None
  try:
    result = function(*args)
  except Exception as raised:
    # Beam would wrap the error, and repeat calls that always fail.
    error = raised
  with files.atomic(pathlib.Path(folder) / str(index)) as temporary:
    temporary.write_bytes(pickle.dumps((result, error)))
