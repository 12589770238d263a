"""Tasks of a Beam pipeline: how they and their results pass through a folder.

Workers call `read` and `run`. The folder has `tasks/`, blocks of arguments that
the caller wrote; `results/`, one a task; and `running/`, a sign of life of each
task that runs. It has a name of its own for each call, so that a worker which
sees it sees the caller's disk and no other one.
"""

import contextlib
import functools
import itertools
import json
import os
import pickle
import re
import socket
import threading

from data_prep import sources
from geojax import files
from geojax.files import leases

# Tasks whose arguments are in one file.
_BLOCK = 64
# Name of the file of what they call.
_CALL = "call"
BEAT_S = 2.0
# Entries of a folder that a worker looks for.
_ENTRIES = 8


class UnseenError(Exception):
  """A worker does not see what the caller sees; names host and path."""


def write(folder, function, tasks, config_file=None):
  """Writes tasks to a folder, some at a time.

  Args:
    folder: A folder that does not exist.
    function: What they call.
    tasks: An iterable of tuples of arguments.
    config_file: Python file of the user that function and arguments may refer
      to, or None; workers get its text.

  Returns:
    The first number of each block, and the number of tasks.
  """
  if files.is_local(folder):
    for name in ("tasks", "results", "running"):
      (folder / name).mkdir(parents=True)
  module = config_file and (config_file.stem, config_file.read_text())
  with files.atomic(folder / "tasks" / _CALL) as temporary:
    temporary.write_bytes(pickle.dumps((module, pickle.dumps(function))))
  starts, num_tasks = [], 0
  # In bytes, as Beam would unpickle them without the user's module.
  tasks = map(pickle.dumps, tasks)
  while block := list(itertools.islice(tasks, _BLOCK)):
    starts.append(num_tasks)
    with files.atomic(folder / "tasks" / str(num_tasks)) as temporary:
      temporary.write_bytes(pickle.dumps(block))
    num_tasks += len(block)
  return starts, num_tasks


def read(start, folder, marks):
  """Yields the numbered tasks of a block; called by workers."""
  folder = _check(folder, marks)
  block = pickle.loads((folder / "tasks" / str(start)).read_bytes())
  yield from enumerate(block, start)


def run(task, folder, marks):
  """Runs a task, and writes its result or its error; called by workers.

  Args:
    task: Its number and its arguments, pickled.
    folder: Name of the folder.
    marks: Result of `describe`.

  Raises:
    UnseenError: This process does not see what the caller does.
  """
  index, args = task
  folder = _check(folder, marks)
  result, error = None, None
  with _sign_of_life(folder / "running" / str(index)):
    try:
      result = _function(folder)(*pickle.loads(args))
    except Exception as raised:
      # Beam would wrap the error, and repeat calls that always fail.
      error = raised
    with files.atomic(folder / "results" / str(index)) as temporary:
      temporary.write_bytes(pickle.dumps((result, error)))


def change_of_results(folder):
  """Differs after each task that has ended; None of a bucket."""
  if not files.is_local(folder):
    return None
  return (folder / "results").stat().st_mtime_ns


def result(folder, index):
  """Result and error of a task, or None if it has not ended."""
  try:
    return pickle.loads((folder / "results" / str(index)).read_bytes())
  except FileNotFoundError:
    return None


@functools.lru_cache(maxsize=1)
def _function(folder):
  """What the tasks of a folder call, once the user's module is defined."""
  module, function = pickle.loads((folder / "tasks" / _CALL).read_bytes())
  if module:
    sources.define(*module)
  return pickle.loads(function)


@contextlib.contextmanager
def _sign_of_life(path):
  """Writes a file anew every few seconds, and removes it in the end."""
  done = threading.Event()
  sign = {**leases.this_process(), "beat": 0}

  def beat():
    while True:
      # Without its folder the build has ended, and nobody looks.
      with contextlib.suppress(OSError):
        files.write_text(path, json.dumps(sign))
      sign["beat"] += 1
      if done.wait(BEAT_S):
        return

  thread = threading.Thread(target=beat, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
    path.unlink(missing_ok=True)


def beats(folder):
  """Yields number and last sign of life of each task that runs."""
  # A task may end meanwhile; a bucket has no empty folders.
  with contextlib.suppress(FileNotFoundError):
    for path in (folder / "running").iterdir():
      with contextlib.suppress(FileNotFoundError):
        if path.name.isdigit():
          yield path.name, json.loads(path.read_text())


def describe(paths):
  """Describes files and folders of the caller, for `read` and `run`.

  Args:
    paths: Files and folders; of a folder some entries count, of a bucket none.

  Returns:
    A tuple of pairs: a path, and the size of a file or None.
  """
  found = []
  for path in filter(files.is_local, paths):
    found.append(path)
    if path.is_dir():
      with os.scandir(path) as entries:
        shown = (x.name for x in entries if not x.name.startswith("."))
        found += [path / name for name in itertools.islice(shown, _ENTRIES)]
  return tuple(
    (os.path.abspath(path), path.stat().st_size if path.is_file() else None)
    for path in found
  )


def _check(name, marks):
  """The folder of a name; UnseenError unless this process sees all of it."""
  folder = files.path(name)
  if not (folder / "tasks").is_dir():
    raise _unseen(folder)
  _check_marks(marks)
  return folder


# What was seen once is not looked for again.
@functools.cache
def _check_marks(marks):
  for path, size in marks:
    try:
      found = os.stat(path).st_size
    except OSError:
      raise _unseen(path) from None
    if size not in (None, found):
      raise _unseen(path)


def _unseen(path):
  return UnseenError(
    f"the worker on host {socket.gethostname()} does not see {path} as the"
    " command does: all workers must see the folders and files of the build"
    " under the same path; put --output and --source on a disk that all of them"
    " mount there, or in a bucket"
  )


def unseen_in(text):
  """The sentence of an `UnseenError` in a worker's traceback, or None."""
  found = re.search(r"UnseenError: ([^\n\\]*)", text)
  return found and found[1].partition(" [while running")[0]
