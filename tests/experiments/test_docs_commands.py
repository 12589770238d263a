"""Every command of README and docs runs in a test, or is marked with why not.

The mark is a paragraph right above the block, `*Needs Slurm.*`, or follows a
command in a sentence, `tensorboard --logdir runs` (needs TensorBoard). Marked
or not, the files, options and config values of a command must exist. Python
docs_pages.blocks run as they stand, page by page.
"""

import ast
import contextlib
import importlib
import re
import shlex
import subprocess
from unittest import mock

import docs_pages
import pytest
import tiny_encoder

from data_prep import sources
from experiments.benchmarks import predict as benchmark
from geojax import models, tasks
from geojax.tasks import registry as task_registry
from geojax.training import config as config_lib
from geojax.training import config_check

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
    "tests/experiments/test_predict_errors.py",
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
          if (imported := docs_pages.ROOT / f"{module}.py").exists():
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
  assert len(docs_pages.COMMANDS) > 30
  assert sum(command.is_marked for command in docs_pages.COMMANDS) > 10


@pytest.mark.parametrize("path", docs_pages.PAGES, ids=docs_pages.page_name)
def test_code_is_in_blocks_of_a_known_language(path):
  assert {language for language, *_ in docs_pages.blocks(path)} <= {
    "sh",
    "python",
    "text",
  }
  prose = docs_pages.FENCE.sub("", path.read_text())
  assert "```" not in prose
  indented = re.findall(r"\n\n {4,}(?![-*\d ]).*", prose)
  assert not [line for line in indented if "http" not in line]


@pytest.mark.parametrize("path", docs_pages.PAGES, ids=docs_pages.page_name)
def test_commands_are_run_or_marked(path):
  for command in docs_pages.commands(path):
    text = docs_pages.beginning(command.words)
    is_run = any(text.startswith(start) for start in RUN_BY)
    assert is_run or command.is_marked, " ".join(command.words)


@pytest.mark.parametrize("start", RUN_BY)
def test_what_runs_a_command_exists(start):
  file, name = RUN_BY[start]
  name = f"def {name}(" if file.endswith(".py") else name
  assert name in (docs_pages.ROOT / file).read_text()
  assert any(
    docs_pages.beginning(c.words).startswith(start) for c in docs_pages.COMMANDS
  )


def check_exists(words, page=""):
  """Checks that the files, options and config values of a command exist."""
  command = docs_pages.Command(page, tuple(words), False)
  for word in words:
    if re.fullmatch(r"(tests|experiments|docs)/[\w/]+\.\w+", word):
      assert (docs_pages.ROOT / word).exists(), word
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


@pytest.mark.parametrize("path", docs_pages.PAGES, ids=docs_pages.page_name)
def test_files_options_and_values_of_commands_exist(path):
  for command in docs_pages.commands(path):
    check_exists(command.words, command.page)


@pytest.mark.parametrize("path", docs_pages.PAGES, ids=docs_pages.page_name)
def test_options_in_sentences_exist(path):
  known = set().union(
    *(
      options_of(c.file)
      for c in docs_pages.COMMANDS
      if c.file and c.file.exists()
    )
  )
  for text, _ in docs_pages.spans(path):
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
    cwd=docs_pages.ROOT,
    check=True,
    capture_output=True,
    text=True,
  )
  steps = list(docs_pages.split_commands(done.stdout))
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
    for language, text, is_marked in docs_pages.blocks(path)
    if language == "python" and not is_marked
  ]


@pytest.mark.parametrize(
  "path",
  [path for path in docs_pages.PAGES if python_blocks(path)],
  ids=docs_pages.page_name,
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
      exec(compile(text, docs_pages.page_name(path), "exec"), namespace)
