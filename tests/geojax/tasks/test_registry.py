"""How a config's names become tasks."""

import textwrap

import pytest
from task_samples import make_config

from geojax import tasks
from geojax.tasks import registry as registry_lib

EXTENSION = """
  from __future__ import annotations
  import dataclasses
  from geojax import tasks
  from geojax.tasks import date

  @dataclasses.dataclass
  class Options:
    words: str

  @tasks.register("{name}")
  def create(config, *, mesh=None):
    return dataclasses.replace(
      date.create(config), name="season", weight={weight}
    )

  {then}
"""


@pytest.fixture(autouse=True)
def registry(monkeypatch):
  """A copy that later tests do not see."""
  monkeypatch.setattr(registry_lib, "_REGISTRY", {**registry_lib._REGISTRY})


def extension(path, *, name="season", weight=3.0, then=""):
  text = EXTENSION.format(name=name, weight=weight, then=then)
  path.write_text(textwrap.dedent(text))
  return str(path)


def test_a_config_names_its_tasks_and_their_weights(tmp_path):
  assert tasks.known() == ("climate", "coords", "date")
  config = make_config(("date", "quarter", "coords", "climate"))
  path = extension(tmp_path / "season.py", name="quarter")
  config.extensions = (path, "json.tool")
  config.loss.weights.date = 0.5

  def weights():
    return {task.name: task.weight for task in tasks.create_tasks(config)}

  expected = {"date": 0.5, "season": 3, "coords": 1, "climate": 5}
  assert list(weights().items()) == list(expected.items())
  # A file is imported once.
  extension(tmp_path / "season.py", name="quarter", weight=4.0)
  assert weights() == expected
  config.unlock()
  config.loss.weights = {"season": 7.0}
  assert weights() == {"date": 8, "season": 7, "coords": 1, "climate": 5}


def test_what_cannot_be_is_refused(tmp_path):
  config = make_config(("coords", "when"))
  with pytest.raises(
    ValueError, match="unknown task 'when'; known are climate, c"
  ):
    tasks.create_tasks(config)
  config.tasks = ("date", "coords", "date")
  with pytest.raises(
    ValueError, match="two tasks of one name among date, coords"
  ):
    tasks.create_tasks(config)
  for name, message in [
    (str(tmp_path / "no.py"), "no file .*no.py"),
    ("geojax.no_such", "no module 'geojax.no_such'"),
  ]:
    with pytest.raises(ValueError, match=message):
      tasks.load_extensions([name])
  # Its function has the name of the one that it would replace.
  taken = extension(tmp_path / "taken.py", name="date")
  with pytest.raises(ValueError, match="there is already a task 'date'"):
    tasks.load_extensions([taken])
  extension(tmp_path / "taken.py", name="mine")
  folder = tmp_path / "other"
  folder.mkdir()
  again = extension(folder / "taken.py", name="mine")
  with pytest.raises(ValueError, match="there is already a task 'mine'"):
    tasks.load_extensions([taken, again])


def test_a_file_that_failed_is_imported_again(tmp_path):
  path = tmp_path / "season.py"
  names = [extension(path, then="1 / 0")]
  for _ in range(2):
    with pytest.raises(ZeroDivisionError):
      tasks.load_extensions(names)
  extension(path, weight=5.0)
  config = make_config(("season",))
  config.extensions = tuple(names)
  (task,) = tasks.create_tasks(config)
  assert task.weight == 5
