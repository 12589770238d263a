"""Every command of README and docs runs in a test, or is marked with why not.

The mark is a paragraph right above the block, `*Needs Slurm.*`, or follows a
command in a sentence, `tensorboard --logdir runs` (needs TensorBoard). Marked
or not, the files, options and config values of a command must exist. Python
blocks run as they stand, page by page.
"""

import ast
import contextlib
import dataclasses
import importlib
import pathlib
import re
import shlex
import subprocess
from unittest import mock

import pytest
import tiny_encoder

from data_prep import sources
from experiments.benchmarks import predict as benchmark
from geojax import models, tasks
from geojax.tasks import registry as task_registry
from geojax.training import config as config_lib
from geojax.training import config_check

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
  ROOT / "README.md",
  ROOT / "CONTRIBUTING.md",
  *sorted((ROOT / "docs").rglob("*.md")),
)
# What runs a command, by how it begins: a file, and a test or a line of that.
RUN_BY = {
  "data_prep.build --config=earth": (
    "tests/data_prep/test_build.py",
    "test_the_command_tells_what_it_did_and_does_it_once",
  ),
  "data_prep.build --config=sentinel2": (
    "tests/data_prep/test_sentinel2_build.py",
    "test_one_failure_is_told_and_the_others_go_on",
  ),
  "data_prep.build --config=images": (
    "tests/data_prep/sources/test_images_command.py",
    "test_the_command_names_what_it_left_out_and_ends_with_3",
  ),
  "data_prep.build --config=path/to/drone.py": (
    "tests/data_prep/sources/test_sources.py",
    "test_a_source_of_ones_own_is_one_file",
  ),
  "experiments/main.py --config=experiments/configs/base.py": (
    "tests/experiments/test_commands.py",
    "test_training_ends_in_a_table_beside_the_baselines",
  ),
  "experiments/main.py --config=path/to/patches.py": (
    "tests/experiments/test_extending.py",
    "test_a_file_of_ones_own_trains_and_is_reported",
  ),
  "experiments/evaluate.py": (
    "tests/experiments/test_commands.py",
    "test_each_split_has_a_report_of_its_own",
  ),
  "experiments/predict.py": (
    "tests/experiments/test_predict_command.py",
    "test_the_command_ends_with_3_where_a_tile_was_bad",
  ),
  "experiments/transfer.py": (
    "tests/experiments/test_transfer_command.py",
    "test_every_encoder_and_protocol_has_its_rows",
  ),
  "experiments/export.py": (
    "tests/experiments/test_export_command.py",
    "test_the_folder_describes_itself",
  ),
  "experiments/embed.py": (
    "tests/experiments/test_export_command.py",
    "test_the_embed_command_ends_with_3_where_a_tile_was_bad",
  ),
  # What these consist of is looked at here, without doing it.
  **dict.fromkeys(
    (
      *("make train", "make transfer", "make docs", "make test"),
      *("make test-slow", "make test-torch", "make test-beam"),
    ),
    (
      "tests/experiments/test_docs_commands.py",
      "test_make_targets_consist_of_commands_that_exist",
    ),
  ),
  "pip install .": (".ci/check_wheel", "pip install"),
  "pytest": (".ci/run", "make test"),
}
# What the data sets of the docs' runs hold.
_TARGETS = tasks.describe(
  {"targets": [{"name": "land_cover", "kind": "class_map", "classes": ["a"]}]}
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_BEGINNING = re.compile(r"(?:\S*bin/)?(python3?|make|pip|pytest|tensorboard)\s")


@dataclasses.dataclass(frozen=True)
class Command:
  page: str
  words: tuple
  is_marked: bool

  @property
  def file(self):
    """The command's own file, None if it is none of this repository."""
    for word in self.words:
      if re.fullmatch(r"(experiments|data_prep)(\.\w+)+", word):
        word = word.replace(".", "/") + ".py" if "/" not in word else word
      if re.fullmatch(r"(experiments|data_prep)/[\w/]+\.py", word):
        return ROOT / word
    return None


def page_name(path):
  return str(path.relative_to(ROOT))


def blocks(path):
  """Language, text and whether it is marked, of each fenced block."""
  text = path.read_text()
  for match in _FENCE.finditer(text):
    above = text[: match.start()].rstrip().split("\n\n")[-1]
    is_marked = above.startswith("*Needs ") and above.endswith(".*")
    yield match[1], match[2], is_marked


def spans(path):
  """Text in backticks outside of blocks, and what follows it."""
  prose = _FENCE.sub("", path.read_text())
  for match in _SPAN.finditer(prose):
    yield " ".join(match[1].split()), prose[match.end() :].lstrip()


def split_commands(text):
  """Words of each command of a shell text, also of those within quotes."""
  pending = ""
  for line in text.replace("\\\n", " ").splitlines():
    pending += line + "\n"
    try:
      words = shlex.split(pending, comments=True)
    except ValueError:  # Within quotes: the next line belongs to it too.
      continue
    pending = ""
    nested = [word for word in words if "\n" in word]
    for word in nested:
      yield from split_commands(word)
    if words and not nested:
      yield tuple(words)
  assert not pending.strip(), f"quotes without an end: {pending}"


def commands(path):
  """All commands of a page, of its blocks and of its sentences."""
  found = [
    Command(page_name(path), words, is_marked)
    for language, text, is_marked in blocks(path)
    if language == "sh"
    for words in split_commands(text)
  ]
  for text, after in spans(path):
    if _BEGINNING.match(text):
      words = tuple(shlex.split(text))
      found.append(Command(page_name(path), words, after.startswith("(needs ")))
  return found


COMMANDS = [command for path in PAGES for command in commands(path)]


def beginning(words):
  """A command without variables, interpreter and `-m`."""
  words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
  if words[0].rpartition("/")[2] in ("python", "python3"):
    words = [word for word in words[1:] if word != "-m"]
  return " ".join(words)


def options_of(file):
  """Names that a command's file, or one that it imports, may define options by.

  All strings there: options are defined in more ways than one.
  """
  names, todo = set(), [file]
  for path in todo:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Constant) and isinstance(node.value, str):
        names.add(node.value.removeprefix("--"))
      if isinstance(node, ast.ImportFrom) and path == file:
        for alias in node.names:
          module = f"{node.module}.{alias.name}".replace(".", "/")
          if (imported := ROOT / f"{module}.py").exists():
            todo.append(imported)
  return names


def check_config_options(words):
  """Checks the config that these options make, as a run does."""
  config = importlib.import_module("experiments.configs.base").get_config()
  known = config_lib.flatten(config.to_dict())
  changes = {}
  for word in words:
    if match := re.fullmatch(r"--config=experiments/configs/(\w+)\.py", word):
      module = importlib.import_module(f"experiments.configs.{match[1]}")
      config = module.get_config()
    if match := re.match(r"--config\.([\w.]+)", word):
      assert match[1] in known, word
      if match.end() < len(word):
        value = word[match.end() + 1 :].strip('"')
        try:
          changes[match[1]] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
          changes[match[1]] = value
  config.update_from_flattened_dict(changes)
  config_check.check_config(config, _TARGETS)


def test_there_are_commands():
  assert len(COMMANDS) > 30
  assert sum(command.is_marked for command in COMMANDS) > 10


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_code_is_in_blocks_of_a_known_language(path):
  assert {language for language, *_ in blocks(path)} <= {"sh", "python", "text"}
  prose = _FENCE.sub("", path.read_text())
  assert "```" not in prose
  indented = re.findall(r"\n\n {4,}(?![-*\d ]).*", prose)
  assert not [line for line in indented if "http" not in line]


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_commands_are_run_or_marked(path):
  for command in commands(path):
    text = beginning(command.words)
    is_run = any(text.startswith(start) for start in RUN_BY)
    assert is_run or command.is_marked, " ".join(command.words)


@pytest.mark.parametrize("start", RUN_BY)
def test_what_runs_a_command_exists(start):
  file, name = RUN_BY[start]
  name = f"def {name}(" if file.endswith(".py") else name
  assert name in (ROOT / file).read_text()
  assert any(beginning(c.words).startswith(start) for c in COMMANDS)


def check_exists(words, page=""):
  """Checks that the files, options and config values of a command exist."""
  command = Command(page, tuple(words), False)
  for word in words:
    if re.fullmatch(r"(tests|experiments|docs)/[\w/]+\.\w+", word):
      assert (ROOT / word).exists(), word
  if command.file is None:
    return
  assert command.file.exists(), words
  names = options_of(command.file)
  for word in words:
    if match := re.match(r"--(\w+)", word):
      assert match[1] in names, f"{page}: {command.file.name} has no {word}"
  if command.file.name == "main.py":
    check_config_options(words)
  if command.file.name == "build.py":
    chosen = {
      word.removeprefix("--config=")
      for word in words
      if word.startswith("--config=")
    }
    own = {name for name in chosen if name.startswith("path/to/")}
    assert chosen - own <= set(sources.names())


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_files_options_and_values_of_commands_exist(path):
  for command in commands(path):
    check_exists(command.words, command.page)


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_options_in_sentences_exist(path):
  known = set().union(
    *(options_of(c.file) for c in COMMANDS if c.file and c.file.exists())
  )
  for text, _ in spans(path):
    if not text.startswith("--"):
      continue
    words = shlex.split(text)
    check_config_options(word for word in words if "--config." in word)
    for word in words:
      assert re.match(r"--(\w+)", word)[1] in known, word


@pytest.mark.parametrize(
  "target",
  ["train", "docs", "test", "test-slow", "test-torch", "test-beam"],
)
def test_make_targets_consist_of_commands_that_exist(target):
  done = subprocess.run(
    ["make", "--dry-run", "--always-make", target],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  )
  steps = list(split_commands(done.stdout))
  assert any(
    re.match(r"\.venv(-\w+)?/bin/python", step[0]) or "mkdocs" in " ".join(step)
    for step in steps
  )
  for step in steps:
    check_exists(step, "Makefile")


@pytest.fixture(scope="module")
def workspace(smoke, tmp_path_factory):
  """A folder with the records and the run that the pages' examples name."""
  folder = tmp_path_factory.mktemp("workspace")
  records = folder / "data" / "geo_tiles"
  records.mkdir(parents=True)
  for name in ("earth", "earth_smoke"):
    (records / name).symlink_to(smoke / "geo_tiles" / "earth_smoke")
  config = config_lib.default_config()
  tiny_encoder.use(config)
  config.mixture.num_centers = 16
  data = benchmark.describe_tiles("earth")
  benchmark.write_untrained_run(folder / "runs" / "base", config, data)
  return folder


def python_blocks(path):
  return [
    text
    for language, text, is_marked in blocks(path)
    if language == "python" and not is_marked
  ]


@pytest.mark.parametrize(
  "path", [path for path in PAGES if python_blocks(path)], ids=page_name
)
def test_python_blocks_run(path, workspace, monkeypatch):
  monkeypatch.chdir(workspace)
  # What a page registers is not there for other tests.
  registries = (
    mock.patch.dict(d) for d in (task_registry._REGISTRY, models.ENCODERS)
  )
  with contextlib.ExitStack() as stack:
    for registry in registries:
      stack.enter_context(registry)
    namespace = {}
    for text in python_blocks(path):
      exec(compile(text, page_name(path), "exec"), namespace)
