"""`map` on Apache Beam: the tasks of a build on a cluster.

Extra `[beam]`. The tasks are those that processes of one machine share, so the
records are the same. All workers must see the build's folders under one name.
"""

import pathlib
import pickle
import tempfile


def make_map(runner, options, folder):
  """Makes a `map` whose calls run on Beam.

  Args:
    runner: Name of a Beam runner, such as "DirectRunner".
    options: The pipeline's options, a list of strings.
    folder: Where answers are left for the caller, seen by all workers.

  Returns:
    A function as of `map`: of a function that can be pickled, and iterables. It
    yields the answers in order, and raises what a call raised.

  Raises:
    ModuleNotFoundError: If Beam is not installed.
  """
  import apache_beam as beam
  from apache_beam.options import pipeline_options

  def beam_map(function, *iterables):
    tasks = list(enumerate(zip(*iterables, strict=True)))
    with tempfile.TemporaryDirectory(prefix=".beam.", dir=folder) as answers:
      with beam.Pipeline(
        runner=runner, options=pipeline_options.PipelineOptions(options)
      ) as pipeline:
        _ = (
          pipeline
          | beam.Create(tasks)
          | beam.Reshuffle()
          | beam.Map(_run, function, answers)
        )
      for index, _ in tasks:
        answer, error = pickle.loads(
          (pathlib.Path(answers) / str(index)).read_bytes()
        )
        if error is not None:
          raise error
        yield answer

  return beam_map


def _run(task, function, answers):
  """Runs one call and leaves its answer, or its error, in a file."""
  index, args = task
  answer, error = None, None
  try:
    answer = function(*args)
  except Exception as raised:
    # Beam would wrap it, and try again what fails for good.
    error = raised
  path = pathlib.Path(answers) / str(index)
  partial = path.with_suffix(".partial")
  partial.write_bytes(pickle.dumps((answer, error)))
  partial.replace(path)
