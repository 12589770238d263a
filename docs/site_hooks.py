"""What mkdocs runs while it builds the site: API pages and formulas."""

import html
import pathlib
import re

from latex2mathml import converter
from mkdocs.structure import files as mkdocs_files

_ROOT = pathlib.Path(__file__).parents[1]
# A section "Returns" without a name for each value.
_NAMELESS = re.compile(r'(<li class="doc-section-item[^>]*>\s*)–\s*')
_FORMULA = re.compile(
  r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)


def _pages():
  """Markdown of each API page by path: one for each module of geojax."""
  pages = {}
  for path in sorted((_ROOT / "geojax").iterdir()):
    if path.stem.startswith("_") or (path.is_file() and path.suffix != ".py"):
      continue
    modules = [path.stem]
    if path.is_dir() and "__all__" not in (path / "__init__.py").read_text():
      modules += [
        f"{path.stem}.{each.stem}" for each in sorted(path.glob("[!_]*.py"))
      ]
    text = f"# geojax.{path.stem}\n"
    for module in modules:
      if "." in module:
        text += f"\n## geojax.{module}\n"
      text += f"\n::: geojax.{module}\n"
      if len(modules) > 1:
        text += "    options: {heading_level: 3}\n"
    pages[f"api/{path.stem}.md"] = text
  return pages


def on_config(config):
  """Lists the API pages in the navigation."""
  (api,) = (entry["API"] for entry in config.nav if "API" in entry)
  api += _pages()


def on_files(files, config):
  """Adds the API pages."""
  for path, text in _pages().items():
    files.append(mkdocs_files.File.generated(config, path, content=text))


def on_page_content(content, **_):
  """Writes formulas as MathML, which browsers draw without a script."""

  def to_mathml(match):
    display = "block" if match[1] == "div" else "inline"
    return converter.convert(html.unescape(match[2]), display=display)

  return _FORMULA.sub(to_mathml, _NAMELESS.sub(r"\1", content))
