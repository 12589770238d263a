"""README and docs are short, plain, and up to date."""

import pathlib
import re
import runpy

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_PAGES = (
  _ROOT / "README.md",
  _ROOT / "CONTRIBUTING.md",
  _ROOT / "CHANGELOG.md",
  *sorted((_ROOT / "docs").rglob("*.md")),
)
# Idioms in place of plain technical English.
_AVOIDED = r"told|tells?|said|says?|as of|likewise|rooms?|beside|doubt|honest"


def _name(path):
  return str(path.relative_to(_ROOT))


def test_the_readme_is_short():
  assert len((_ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", _PAGES, ids=_name)
def test_links_and_named_files_exist(path):
  text = path.read_text()
  links = re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)", text)
  for link in links:
    assert (path.parent / link).exists(), link
  for named in re.findall(
    r"`((?:experiments|geojax|data_prep|docs|tests)/[\w/]+\.\w+)`", text
  ):
    assert (_ROOT / named).exists(), named


@pytest.mark.parametrize("path", _PAGES, ids=_name)
def test_the_english_is_plain(path):
  prose = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.DOTALL)
  found = re.findall(rf"(?<!\w)(?:{_AVOIDED})\b", prose, flags=re.IGNORECASE)
  assert not found


def test_the_picture_of_the_architecture_is_that_of_the_code():
  """If it differs, run `python docs/draw_architecture.py`."""
  script = runpy.run_path(str(_ROOT / "docs" / "draw_architecture.py"))
  drawn = (_ROOT / "docs" / "architecture.svg").read_text()
  assert drawn == script["draw"]()
