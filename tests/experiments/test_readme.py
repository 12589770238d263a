"""What the README tells a user to type is there and runs."""

import pathlib
import re

import pytest

from experiments.configs import base, blue_marble
from geojax.training import config_check

_ROOT = pathlib.Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["README.md", "docs/models.md"])
def test_the_python_example_runs(name):
  text = (_ROOT / name).read_text()
  (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
  exec(compile(code, name, "exec"), {})


def test_the_make_targets_exist():
  targets = re.findall(r"^    make (\w+)", _README, flags=re.MULTILINE)
  assert {"train", "test"} <= set(targets)
  makefile = (_ROOT / "Makefile").read_text()
  for target in targets:
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_the_files_that_are_named_exist():
  named = re.findall(
    r"(?:experiments|geojax|data_prep|docs)/[\w/]+\.(?:py|png)", _README
  )
  assert named
  for name in named:
    assert (_ROOT / name).exists(), name


@pytest.mark.parametrize("module", [base, blue_marble])
def test_the_configs_can_be_run(module):
  config_check.check_config(module.get_config())
