"""`map` for the tasks of a build on Apache Beam (extra `[beam]`).

Tasks and results pass through files of a folder that the caller and all workers
see; Beam itself carries a few numbers. The pipeline runs in a process of its
own: its memory is not the caller's, and one that hangs can be ended.
"""

import contextlib
import functools
import importlib.util
import multiprocessing
import os
import secrets
import sys
import tempfile
import time

from data_prep import beam_tasks, task_maps
from data_prep.build_folder import BuildError
from geojax import files
from geojax.files import leases

RUNNERS = (
  *("DirectRunner", "PortableRunner", "FlinkRunner", "SparkRunner"),
  "DataflowRunner",
)
# Their workers never see a folder of the caller's machine.
_SHARE_NO_DISK = {"DataflowRunner"}
# They wait forever for a worker that was killed; the others start another one,
# or fail.
_WAIT_FOREVER = {"DirectRunner", "PortableRunner"}
# A worker without a sign of life for so long is gone; one of this machine whose
# process has ended, earlier.
_SILENT_S, _ENDED_S = 120.0, 10.0
# Between two tasks.
_IDLE_S = 300.0
_POLL_S, _POLL_BUCKET_S = 0.1, 1.0
_PREFIX = ".beam."
_RESUME = "give the same command again: whole tiles and whole shards are kept"


def check_runner(runner, folders):
  """Refuses folders that the workers of a runner can never see.

  Args:
    runner: One of `RUNNERS`.
    folders: The build's folders, by the flag that names them.

  Raises:
    BuildError: Names the flag and the folder.
  """
  if runner not in _SHARE_NO_DISK:
    return
  for flag, folder in folders.items():
    if files.is_local(folder):
      raise BuildError(
        f"--beam_runner={runner} with {flag}={folder}: its workers see no disk"
        f" of this machine; give {flag}=gs://BUCKET/FOLDER, or take a runner"
        " whose workers do, such as --beam_runner=FlinkRunner"
      )


def beam_map(runner, options, folder, seen=(), config_file=None):
  """Returns a `map` whose calls run on Beam.

  Each worker first checks that it sees the folders of the build.

  Args:
    runner: One of `RUNNERS`.
    options: The pipeline's options, a list of strings.
    folder: Where tasks and results are passed on. All workers must see it under
      the same path. What a build that was killed left there is removed.
    seen: Further files and folders that workers must see.
    config_file: Python file of the user's own config, see `beam_tasks.write`.

  Raises:
    ModuleNotFoundError: Beam is not installed.
  """
  if importlib.util.find_spec("apache_beam") is None:
    raise ModuleNotFoundError(
      f"--beam_runner={runner} needs Apache Beam: install it by"
      ' python -m pip install ".[beam]"'
    )
  folder = files.path(folder)
  leftovers = folder.iterdir() if folder.exists() else ()
  for leftover in leftovers:
    if leftover.name.startswith(_PREFIX):
      files.remove_folder(leftover)
  marks = beam_tasks.describe(seen)

  def map_on_beam(function, *iterables):
    exchange = folder / f"{_PREFIX}{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:
      stack.callback(files.remove_folder, exchange)
      tasks = zip(*iterables, strict=True)
      starts, num_tasks = beam_tasks.write(
        exchange, function, tasks, config_file
      )
      shared = {"folder": os.fspath(exchange), "marks": marks}
      run = functools.partial(beam_tasks.run, **shared)
      read = functools.partial(beam_tasks.read, **shared)
      with _running(runner, options, starts, read, run) as pipeline:
        watch = _Watch(exchange, runner)
        poll_s = _POLL_S if files.is_local(exchange) else _POLL_BUCKET_S
        for index in range(num_tasks):
          end = None
          while (ended := beam_tasks.result(exchange, index)) is None:
            if end is None and pipeline.has_ended(poll_s):
              # A disk of the network shows a new file a little later.
              end = time.monotonic() + _SILENT_S
            elif end is not None and time.monotonic() > end:
              raise _PipelineError(
                f"the {runner} ended without the result of task {index}"
              )
            watch.check()
          result, error = ended
          if error is not None:
            raise error
          yield result
        while not pipeline.has_ended(_POLL_S):
          watch.check()

  return map_on_beam


class _PipelineError(BuildError):
  """The pipeline failed, and not one of its tasks."""

  def __init__(self, reason, way_out=f"; {_RESUME}"):
    super().__init__(f"{reason}{way_out}")


class _Pipeline:
  """A pipeline that runs in a process of its own."""

  def __init__(self, process, errors, runner):
    self._process, self._errors, self._runner = process, errors, runner

  def has_ended(self, timeout):
    """Waits a moment; raises _PipelineError if the pipeline failed."""
    self._process.join(timeout)
    code = self._process.exitcode
    if code is None:
      return False
    if code == 0:
      return True
    try:
      text = self._errors.recv()
    except EOFError:
      raise _PipelineError(
        f"the process of the {self._runner} ended with {code}"
      ) from None
    if sentence := beam_tasks.unseen_in(text):
      raise _PipelineError(sentence, way_out="")
    raise _PipelineError(_explain(text, self._runner))


@contextlib.contextmanager
def _running(runner, options, starts, read, run):
  context = multiprocessing.get_context("spawn")
  errors, sender = context.Pipe(duplex=False)
  handle, log = tempfile.mkstemp(prefix="geojax_beam_", suffix=".log")
  os.close(handle)
  process = context.Process(
    target=_run_pipeline, args=(sender, log, runner, options, starts, read, run)
  )
  process.start()
  # Then the other end is closed when that process has ended.
  sender.close()
  try:
    yield _Pipeline(process, errors, runner)
  except _PipelineError as error:
    kept, log = log, None
    raise BuildError(f"{error}; Beam's log is {kept}") from None
  finally:
    process.kill()
    process.join()
    if log:
      os.unlink(log)


def _run_pipeline(errors, log, runner, options, starts, read, run):
  """Runs the tasks; what goes wrong is sent as a text."""
  task_maps.exit_with_parent()
  # Of this process and of workers that it starts.
  with open(log, "a") as file:
    os.dup2(file.fileno(), sys.stdout.fileno())
    os.dup2(file.fileno(), sys.stderr.fileno())
  import apache_beam as beam
  from apache_beam.options import pipeline_options

  # Workers log each of their steps otherwise.
  defaults = ["--default_sdk_harness_log_level=WARNING"]
  if runner == "DirectRunner":
    # Without it, it looks on the network for Prism, a program that runs all
    # tasks in threads of this process. The pipeline has no triggers.
    defaults.append("--allow_unsafe_triggers")
  try:
    parsed = pipeline_options.PipelineOptions([*defaults, *options])
    with beam.Pipeline(runner=runner, options=parsed) as pipeline:
      _ = (
        pipeline
        | beam.Create(starts)
        | "Spread blocks" >> beam.Reshuffle()
        | "Read tasks" >> beam.FlatMap(read)
        | "Spread tasks" >> beam.Reshuffle()
        | "Run tasks" >> beam.Map(run)
      )
  except BaseException as error:
    errors.send(f"{type(error).__name__}: {error}")
    # Threads of a pipeline that failed may never end.
    os._exit(1)
  os._exit(0)


def _explain(text, runner):
  """One sentence of what a pipeline raised, often a worker's traceback."""
  if text.startswith("FutureTimeoutError"):
    return f"no job server answers the {runner} at its --job_endpoint"
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  if any("Traceback" in line for line in lines):
    # The last line is the error itself.
    lines = lines[-1:]
  return f"the {runner} failed: {' '.join(lines)[:300].rstrip('.')}"


class _Watch:
  """Notices workers that are gone, for runners that do not."""

  def __init__(self, folder, runner):
    self._folder, self._runner = folder, runner
    self._seen, self._results = {}, beam_tasks.change_of_results(folder)
    # When a worker last did something; None before the first.
    self._active = None
    self._next = 0.0

  def check(self):
    """Raises _PipelineError if a task's worker is gone."""
    now = time.monotonic()
    if self._runner not in _WAIT_FOREVER or now < self._next:
      return
    self._next = now + beam_tasks.BEAT_S
    seen = {}
    for index, beat in beam_tasks.beats(self._folder):
      known, since = self._seen.get(index, (None, now))
      seen[index] = (beat, since if known == beat else now)
      has_ended = leases.has_ended(beat)
      if now - seen[index][1] > (_ENDED_S if has_ended else _SILENT_S):
        raise _PipelineError(
          f"process {beat['process']} on {beat['host']}, a worker of the"
          f" {self._runner}, is gone in the middle of a task, and the runner"
          f" waits for it forever"
        )
    results = beam_tasks.change_of_results(self._folder)
    if seen or results != self._results:
      self._active = now
    elif self._active is not None and now - self._active > _IDLE_S:
      raise _PipelineError(
        f"no worker of the {self._runner} has begun a task for {_IDLE_S:.0f} s;"
        f" one is gone, and the runner waits for it forever"
      )
    self._seen, self._results = seen, results
